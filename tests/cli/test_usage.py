"""Help, exit codes, JSON output: what holds for every verb."""

import re

import pytest

VERBS = ["quantize", "run", "eval", "bench", "inspect", "doctor", "version"]


def test_help_lists_every_verb(liquid):
    text = liquid.ok("--help").text
    for verb in VERBS:
        assert re.search(rf"^\s+{verb}\b", text, re.MULTILINE), f"{verb} is not in\n{text}"


EVALS = ["eval ppl", "eval summary"]
BENCHES = ["bench gemm", "bench latency", "bench throughput", "bench device", "bench plot"]


@pytest.mark.parametrize("verb", [*VERBS, *EVALS, *BENCHES])
def test_help_of_a_verb_teaches_by_example(liquid, verb):
    text = liquid.ok(*verb.split(), "--help").text
    assert f"liquid {verb}" in text
    assert "xample" in text, f"no example in\n{text}"
    assert all(len(line) <= 100 for line in text.splitlines()), text


@pytest.mark.parametrize(
    "arguments",
    [
        ["no-such-verb"],
        ["--no-such-option"],
        ["version", "--no-such-option"],
        ["quantize"],
        ["quantize", "model"],
        ["quantize", "model", "-o", "out", "--group-size", "48"],
        ["quantize", "model", "-o", "out", "--step", "guess"],
        ["quantize", "model", "-o", "out", "--threads", "many"],
        ["run"],
        ["run", "model", "--isa", "mmx"],
        ["run", "model", "--precision", "w1a1"],
        ["run", "model", "--kv-cache-dtype", "f8"],
        ["run", "model", "--prompt", "x", "--temperature", "-1"],
        ["run", "model", "--prompt", "x", "--top-p", "1.5"],
        ["run", "model", "--prompt", "x", "--max-tokens", "-5"],
        ["eval", "ppl"],
        ["eval", "ppl", "model", "--precision", "fp32,w9a9"],
        ["bench"],
        ["bench", "gemm", "--device", "tpu"],
        ["inspect"],
    ],
    ids=" ".join,
)
def test_wrong_usage_exits_with_2(liquid, arguments):
    outcome = liquid(*arguments)
    assert outcome.code == 2, f"exit {outcome.code}\n{outcome.stderr}"
    assert outcome.stdout == b""
    assert outcome.stderr.strip(), "a usage error says nothing"


def test_version_names_version_and_commit(liquid):
    assert re.search(r"\d+\.\d+\.\d+", liquid.ok("version").text)
    values = liquid.ok("version", "--json").json()
    assert re.fullmatch(r"\d+\.\d+\.\d+.*", values["version"])
    assert values["commit"]


def test_doctor_reports_the_machine(liquid):
    text = liquid.ok("doctor").text
    assert "ISA" in text or "isa" in text
    assert isinstance(liquid.ok("doctor", "--json").json(), dict)


def test_quiet_leaves_standard_error_empty(liquid, model, tmp_path):
    assert liquid.ok("quantize", model, "-o", tmp_path / "out", "--quiet").stderr == ""


def test_a_failure_with_json_leaves_standard_output_empty_or_json(liquid):
    outcome = liquid.fails("inspect", "no/such/folder", "--json", naming=["no/such/folder"])
    if outcome.stdout:
        outcome.json()


def test_a_model_that_is_not_in_the_cache_is_never_downloaded(liquid):
    outcome = liquid.fails("run", "someone/some-model", "--prompt", "x")
    assert "download" in outcome.stderr and "someone/some-model" in outcome.stderr


@pytest.mark.parametrize("name", ["../../etc", "a/../../b", "a/b/c/d", "/etc/passwd", "", "~"])
def test_odd_model_names_are_refused(liquid, name):
    outcome = liquid("run", name, "--prompt", "x")
    assert outcome.code in (1, 2), outcome.stderr
    assert outcome.stderr.strip()
