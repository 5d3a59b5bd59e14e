"""`liquid run` and `liquid eval ppl`: text that can be repeated, figures that can be parsed."""

import fcntl
import math
import os
import pty
import select
import signal
import subprocess
import termios
import time

import pytest

GREEDY = ["--prompt", "the cat and the", "--max-tokens", 24, "--temperature", 0]


def test_greedy_text_is_the_same_every_time(liquid, quantized):
    first = liquid.ok("run", quantized, *GREEDY)
    assert first.stdout.strip()
    first.text  # whole UTF-8 characters only
    assert liquid.ok("run", quantized, *GREEDY).stdout == first.stdout


@pytest.mark.parametrize("option", [["--threads", 1], ["--threads", 2]], ids=str)
def test_the_thread_count_does_not_change_the_text(liquid, quantized, option):
    assert (
        liquid.ok("run", quantized, *GREEDY, *option).stdout
        == liquid.ok("run", quantized, *GREEDY).stdout
    )


def test_a_seed_repeats_a_sampled_text(liquid, quantized):
    sampled = [
        "run", quantized, "--prompt", "in the", "--max-tokens", 32, "--temperature", 20,
        "--top-k", 50, "--top-p", 0.95, "--min-p", 0.01, "--repetition-penalty", 1.1,
        "--presence-penalty", 0.1, "--frequency-penalty", 0.1,
    ]
    one = liquid.ok(*sampled, "--seed", 7).stdout
    assert liquid.ok(*sampled, "--seed", 7).stdout == one
    others = {liquid.ok(*sampled, "--seed", seed).stdout for seed in (8, 9, 10)}
    assert others != {one}


def test_an_unquantised_model_is_quantized_once_into_the_cache(liquid, model, quantized):
    first = liquid.ok("run", model, *GREEDY)
    assert first.stdout == liquid.ok("run", quantized, *GREEDY).stdout
    cached = {p: p.stat().st_mtime_ns for p in (liquid.folder / "cache").rglob("*.safetensors")}
    assert cached, "nothing was kept in the cache"
    assert liquid.ok("run", model, *GREEDY).stdout == first.stdout
    assert cached == {
        p: p.stat().st_mtime_ns for p in (liquid.folder / "cache").rglob("*.safetensors")
    }


@pytest.mark.parametrize("precision", ["auto", "fp32", "w8a8", "w4a16", "w4a8"])
def test_every_precision_runs(liquid, model, precision):
    assert liquid.ok("run", model, *GREEDY, "--precision", precision).stdout.strip()


@pytest.mark.parametrize("dtype", ["f16", "bf16", "bfloat16", "int8"])
def test_every_cache_format_runs(liquid, quantized, dtype):
    assert liquid.ok("run", quantized, *GREEDY, "--kv-cache-dtype", dtype).stdout.strip()


def test_a_static_cache_needs_scales(liquid, quantized):
    liquid.fails("run", quantized, *GREEDY, "--kv-cache-dtype", "int8-static",
                 naming=["k_scale", "liquid quantize --kv-scales"])


@pytest.mark.parametrize("isa,flags", [
    ("scalar", []), ("avx2", ["avx2"]), ("avx512-vnni", ["avx512f", "avx512_vnni"]),
    ("amx-int8", ["avx512_vnni", "amx_tile", "amx_int8"]),
])
def test_an_instruction_set_is_used_or_refused(liquid, quantized, isa, flags):
    with open("/proc/cpuinfo", encoding="utf-8") as file:
        has = set(file.read().split())
    if all(flag in has for flag in flags):
        assert liquid.ok("run", quantized, *GREEDY, "--isa", isa).stdout.strip()
    else:
        liquid.fails("run", quantized, *GREEDY, "--isa", isa, naming=[isa])


def test_json_holds_the_text_of_the_plain_run(liquid, quantized):
    plain = liquid.ok("run", quantized, *GREEDY).text.rstrip("\n")
    values = liquid.ok("run", quantized, *GREEDY, "--json").json()
    assert values["text"].rstrip("\n") == plain


def test_a_stop_string_ends_the_text_before_it(liquid, quantized):
    text = liquid.ok("run", quantized, *GREEDY, "--json").json()["text"]
    visible = [c for c in text if c.isalnum() and c.isascii()]
    if not visible:
        pytest.skip("the random model said nothing to stop at")
    stop = visible[len(visible) // 2]
    stopped = liquid.ok("run", quantized, *GREEDY, "--stop", stop, "--json").json()["text"]
    assert stopped == text[: text.index(stop)]


def test_a_prompt_longer_than_the_model_takes_is_refused(liquid, quantized):
    liquid.fails("run", quantized, "--prompt", "cat " * 2000, naming=["512"])


def test_any_bytes_make_a_prompt(liquid, quantized):
    for prompt in ["\U0001f600 e\u0301 \u6f22\u5b57", "\t \n  ", "<|im_end|>", "a" * 300]:
        liquid.ok("run", quantized, "--prompt", prompt, "--raw", "--max-tokens", 2)


def read_terminal(terminal: int, seconds: float, until: bytes = b"\0never") -> bytes:
    seen, deadline = b"", time.monotonic() + seconds
    while time.monotonic() < deadline and until not in seen:
        ready, _, _ = select.select([terminal], [], [], 0.05)
        if ready:
            try:
                seen += os.read(terminal, 65536)
            except OSError:  # the other side has closed
                break
    return seen


@pytest.mark.skipif(bool(os.environ.get("LIQUIDGEMM_SANITIZE")), reason="timing of a person")
def test_chat_on_a_terminal(liquid, quantized):
    """Two turns, the first cut short with Ctrl-C, then Ctrl-D: the chat ends well."""
    controller, terminal = pty.openpty()
    liquid.environment["TERM"] = "xterm"
    # A session of its own, so that Ctrl-C on the terminal reaches the program.
    process = liquid.start(
        "run", quantized, "--max-tokens", 400,
        stdin=terminal, stdout=terminal, stderr=terminal, start_new_session=True,
        preexec=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
    )
    os.close(terminal)
    try:
        assert read_terminal(controller, 5), "no greeting and no prompt"
        os.write(controller, b"hello\r")
        assert read_terminal(controller, 0.3)
        os.write(controller, b"\x03")
        read_terminal(controller, 1)
        assert process.poll() is None, "Ctrl-C stops the answer, not the chat"
        os.write(controller, b"again\r")
        assert read_terminal(controller, 2)
        os.write(controller, b"\x04")
        read_terminal(controller, 5)
        assert process.wait(10) == 0
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
            process.wait()
        os.close(controller)


def test_a_reader_that_goes_away_ends_the_run(liquid, quantized):
    process = liquid.start(
        "run", quantized, "--prompt", "the", "--max-tokens", 400,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )
    process.stdout.read(1)
    process.stdout.close()
    assert process.wait(60) in (0, 1, -signal.SIGPIPE)


PRECISIONS = ["fp32", "w8a8", "w4a16", "w4a8"]


@pytest.fixture
def text(tmp_path):
    file = tmp_path / "text.txt"
    file.write_text("the cat and the hat in the sand. " * 40)
    return file


def test_eval_prints_a_table(liquid, model, text):
    arguments = ["eval", "ppl", model, "--text", text, "--tokens", 256, "--context", 64]
    table = liquid.ok(*arguments, "--precision", ",".join(PRECISIONS)).text.lower()
    for precision in PRECISIONS:
        assert precision in table, table


def numbers(value):
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        return [n for item in value for n in numbers(item)]
    return [value] if isinstance(value, (int, float)) else []


def test_eval_writes_finite_figures_as_json(liquid, model, text):
    arguments = ["eval", "ppl", model, "--text", text, "--tokens", 256, "--context", 64, "--json"]
    values = liquid.ok(*arguments, "--precision", ",".join(PRECISIONS)).json()
    found = numbers(values)
    assert len(found) >= 4 and all(math.isfinite(n) for n in found), values


def test_eval_needs_enough_text(liquid, model, tmp_path):
    empty = tmp_path / "empty.txt"
    empty.write_text("")
    liquid.fails("eval", "ppl", model, "--text", empty, naming=["empty.txt"])
    liquid.fails("eval", "ppl", model, "--text", tmp_path / "none.txt", naming=["none.txt"])


SUMMARY = ["--tokens", 64, "--context", 64, "--precision", "fp32,w4a8"]


def test_a_summary_shows_the_cpu_and_the_gpu_where_there_is_one(liquid, model, text):
    summary = ["eval", "summary", model, "--text", text, *SUMMARY, "--device"]
    values = liquid.ok(*summary, "auto", "--json").json()
    devices = {
        precision: [row["device"] for row in values["results"] if row["precision"] == precision]
        for precision in ("fp32", "w4a8")
    }
    shown = liquid.ok(*summary, "auto").text
    gpu = liquid("run", model, *GREEDY, "--device", "cuda")
    if gpu.code == 0:
        assert devices == {"fp32": ["cpu"], "w4a8": ["cpu", "cuda"]}
        assert f"on GPU: {values['gpu']}" in shown
        (header,) = [line for line in shown.splitlines() if line.startswith("precision")]
        assert header.count("on GPU") == 4
    else:
        assert devices == {"fp32": ["cpu"], "w4a8": ["cpu"]}
        assert values["without_gpu"] in gpu.stderr
        assert f"No GPU columns: {values['without_gpu']}." in shown.splitlines()
        assert "on GPU" not in shown


def test_a_summary_of_the_cpu_alone_does_not_speak_of_a_gpu(liquid, model, text):
    summary = ["eval", "summary", model, "--text", text, *SUMMARY, "--device", "cpu"]
    assert "GPU" not in liquid.ok(*summary).text
    for row in liquid.ok(*summary, "--json").json()["results"]:
        assert row["device"] == "cpu"
        assert row["prompt_tokens_per_second"] > 0 and row["generated_tokens_per_second"] > 0
