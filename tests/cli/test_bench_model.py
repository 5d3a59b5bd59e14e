"""`liquid bench latency` and `liquid bench throughput`: whole models, measured."""

import csv
import json
import shutil
import signal
import subprocess
import time

import pytest

from conftest import TIMEOUT

# A model of the fixtures is so small that everything takes milliseconds.
SHORT = ["--input-len", "24", "--output-len", "4", "--num-iters", "2"]
PRESET = ["--preset", "smollm2-135m", "--input-len", "8", "--output-len", "3"]


def positive(value):
    assert isinstance(value, (int, float)) and value > 0
    return value


def check_model(result, benchmark, name):
    assert result["benchmark"] == benchmark and result["device"] == "cpu"
    assert result["model"] == name and result["precision"] == "w4a8"
    assert result["kv_cache_dtype"] == "f16" and result["threads"] >= 1
    assert any(line.startswith("gate_up: ") for line in result["kernels"])
    positive(result["weight_bytes"])
    assert "/" not in result["command"] and f"bench {benchmark}" in result["command"]


def test_latency_is_measured_beside_the_ceilings(liquid, quantized, tmp_path):
    records = [tmp_path / name for name in ("all.json", "all.md", "all.csv")]
    outcome = liquid.ok(
        *("bench", "latency", quantized, *SHORT, "--batch-size", "1,3", "--breakdown", "--json"),
        *(part for path in records for part in ("--record", path)),
    )
    result = outcome.json()
    assert result == json.loads(records[0].read_text())
    check_model(result, "latency", "tiny-w4a8")
    assert [(row["input_len"], row["batch_size"]) for row in result["rows"]] == [(24, 1), (24, 3)]
    read = positive(result["read"]["gb_per_second"]) * 1e9
    operations = positive(result["operations"]["gops"]) * 1e9
    for row in result["rows"]:
        batch = row["batch_size"]
        assert row["output_len"] == 4 and row["iterations"] == 2
        prompt, step = positive(row["prompt_ms"]) / 1e3, positive(row["step_ms"]) / 1e3
        assert row["prompt_tokens_per_second"] == pytest.approx(24 * batch / prompt)
        assert row["generation_tokens_per_second"] == pytest.approx(batch / step)
        floor = max(row["step_bytes"] / read, row["step_operations"] / operations)
        assert row["generation_floor_share"] == pytest.approx(floor / step)
        assert row["generation_read_share"] == pytest.approx(row["step_bytes"] / step / read)
        assert row["step_bytes"] > result["weight_bytes"]
        for share in ("prompt_operations_share", "generation_read_share", "generation_floor_share"):
            assert 0 < row[share] <= 1 + 1e-9
        for phase in row["breakdown"].values():
            for sums in ("parts_ms", "operations_ms"):
                assert sum(phase[sums].values()) == pytest.approx(phase["ms"])
            assert set(phase["parts_ms"]) == {"linear layers", "attention", "everything else"}
    table = records[1].read_text()
    for said in ("| input", "Read bandwidth: ", "| - lm_head", "liquid bench latency"):
        assert said in table
    assert [row["batch_size"] for row in csv.DictReader(records[2].open())] == ["1", "3"]


def test_the_decode_protocol_sets_what_is_not_given(liquid, quantized):
    arguments = ("bench", "latency", quantized, "--protocol", "decode", "--json")
    # The fixture's model takes fewer tokens than 1,024 and 513.
    liquid.fails(*arguments, naming=["--input-len 1024", "--output-len 513"])
    (row,) = liquid.ok(*arguments, "--input-len", "20", "--output-len", "6").json()["rows"]
    assert (row["input_len"], row["output_len"], row["iterations"]) == (20, 6, 1)


def test_throughput_counts_every_token(liquid, quantized, tmp_path):
    records = [tmp_path / name for name in ("all.json", "all.md", "all.csv")]
    arguments = ("bench", "throughput", quantized, "--num-prompts", "9", "--input-len", "20")
    arguments += ("--output-len", "5", "--random-range-ratio", "0.4", "--max-num-seqs", "1,4")
    outcome = liquid.ok(
        *arguments, "--json", *(part for path in records for part in ("--record", path))
    )
    result = outcome.json()
    assert result == json.loads(records[0].read_text())
    check_model(result, "throughput", "tiny-w4a8")
    assert [row["max_num_seqs"] for row in result["rows"]] == [1, 4]
    alone, together = result["rows"]
    assert together["steps"] < alone["steps"] == alone["output_tokens"]
    for row in result["rows"]:
        seconds = positive(row["seconds"])
        assert row["num_prompts"] == 9
        assert 9 * 12 <= row["prompt_tokens"] <= 9 * 28
        assert 9 * 3 <= row["output_tokens"] <= 9 * 7
        assert row["requests_per_second"] == pytest.approx(9 / seconds)
        assert row["output_tokens_per_second"] == pytest.approx(row["output_tokens"] / seconds)
        total = row["prompt_tokens"] + row["output_tokens"]
        assert row["total_tokens_per_second"] == pytest.approx(total / seconds)
    again = liquid.ok(*arguments, "--json").json()["rows"][0]
    assert again["prompt_tokens"] == alone["prompt_tokens"]
    other = liquid.ok(*arguments, "--json", "--seed", "7").json()["rows"][0]
    drawn = ("prompt_tokens", "output_tokens")
    assert [other[what] for what in drawn] != [alone[what] for what in drawn]
    assert "generated tokens/s" in records[1].read_text()
    assert [row["max_num_seqs"] for row in csv.DictReader(records[2].open())] == ["1", "4"]


def test_a_common_prefix_is_computed_once(liquid, quantized):
    arguments = ("bench", "throughput", quantized, "--num-prompts", "6", "--input-len", "10")
    arguments += ("--output-len", "3", "--random-prefix-len", "130", "--max-num-seqs", "1")
    rows = {}
    for flag in ("--enable-prefix-caching", "--no-enable-prefix-caching"):
        outcome = liquid.ok(*arguments, flag, "--json").json()
        assert outcome["random_prefix_len"] == 130
        assert outcome["prefix_caching"] == (flag == "--enable-prefix-caching")
        rows[flag] = row = outcome["rows"][0]
        assert row["prompt_tokens"] == 6 * 140 and row["output_tokens"] == 6 * 3
        assert row["preemptions"] == 0
    found, missed = rows.values()
    # Two full pages for all but the first.
    assert found["prefix_hit_tokens"] == 5 * 128 and found["prefix_query_tokens"] == 6 * 140
    assert found["prefix_hit_rate"] == pytest.approx(5 * 128 / (6 * 140))
    assert missed["prefix_hit_tokens"] == missed["prefix_hit_rate"] == 0
    assert "76.2 %" in liquid.ok(*arguments).text


def test_scarce_pages_preempt_and_lose_no_token(liquid, quantized):
    arguments = ("bench", "throughput", quantized, "--num-prompts", "8", "--input-len", "10")
    arguments += ("--output-len", "150", "--max-num-seqs", "8", "--json")
    outcome = liquid.ok(*arguments, "--num-kv-pages", "12").json()
    assert outcome["kv_pages"] == 12
    assert outcome["rows"][0]["preemptions"] > 0
    assert outcome["rows"][0]["output_tokens"] == 8 * 150
    outcome = liquid.ok(*arguments).json()
    assert outcome["kv_pages"] == 8 * 3
    assert outcome["rows"][0]["preemptions"] == 0


def test_too_few_pages_or_tokens_for_one_request_are_refused(liquid, quantized):
    refused = ("bench", "throughput", quantized, "--input-len", "100", "--output-len", "100")
    liquid.fails(*refused, "--num-kv-pages", "3", naming=["--num-kv-pages 3", "4"])
    liquid.fails(
        *(*refused, "--max-num-seqs", "40", "--max-num-batched-tokens", "39"),
        naming=["--max-num-batched-tokens 39", "--max-num-seqs 40"],
    )


def test_presets_need_no_checkpoint(liquid):
    outcome = liquid.ok("-q", "bench", "latency", *PRESET, "--num-iters", "1", "--threads", "1")
    assert outcome.stderr == ""
    for said in ("preset smollm2-135m, w4a8", "1 thread", "of floor", "Operations: "):
        assert said in outcome.text
    outcome = liquid.ok("bench", "throughput", *PRESET, "--num-prompts", "3", "--json")
    check_model(outcome.json(), "throughput", "preset smollm2-135m")
    assert "3/3 requests" in outcome.stderr
    outcome = liquid.ok(
        *("bench", "latency", *PRESET, "--lm-head", "fp16", "--num-iters", "1", "--json")
    )
    assert any(line.startswith("lm_head: fp16") for line in outcome.json()["kernels"])


@pytest.mark.parametrize("benchmark", ["latency", "throughput"])
@pytest.mark.parametrize(
    "arguments, said",
    [
        ([], "--preset"),
        (["--preset", "9b"], "llama3-8b"),
        (["model", "--preset", "1b"], "excludes"),
        (["model", "--group-size", "32"], "--group-size"),
        (["model", "--lm-head", "fp16"], "--lm-head"),
        (["--preset", "1b", "--input-len", "0"], "--input-len"),
        (["--preset", "1b", "--output-len", "0"], "--output-len"),
        (["--preset", "1b", "--isa", "sse9"], "sse9"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_wrong_arguments_exit_with_2_and_say_which(liquid, benchmark, arguments, said):
    outcome = liquid("bench", benchmark, *arguments)
    assert outcome.code == 2, outcome.stderr
    assert said in outcome.stderr, outcome.stderr
    assert outcome.stdout == b""


@pytest.mark.parametrize(
    "arguments, said",
    [
        (["latency", "--batch-size", "0"], "--batch-size"),
        (["latency", "--batch-size", "1025"], "--batch-size"),
        (["latency", "--protocol", "train"], "--protocol"),
        (["latency", "--output-len", "1"], "--output-len"),
        (["throughput", "--random-range-ratio", "1"], "--random-range-ratio"),
        (["throughput", "--num-prompts", "0"], "--num-prompts"),
        (["throughput", "--max-num-seqs", "0"], "--max-num-seqs"),
        (["throughput", "--random-prefix-len", "-1"], "--random-prefix-len"),
        (["throughput", "--num-kv-pages", "0"], "--num-kv-pages"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_options_of_one_benchmark_have_ranges(liquid, arguments, said):
    outcome = liquid("bench", *arguments, "--preset", "1b")
    assert outcome.code == 2 and said in outcome.stderr, outcome.stderr


@pytest.mark.parametrize("benchmark", ["latency", "throughput"])
def test_what_cannot_be_measured_is_refused(liquid, benchmark):
    most = {"latency": ["--batch-size", "128"], "throughput": ["--max-num-seqs", "1024"]}
    outcome = liquid.fails(
        *("bench", benchmark, "--preset", "llama-2-7b", "--input-len", "1700", *most[benchmark]),
        *("--kv-cache-dtype", "f32", "--device", "cpu"),
        naming=["preset llama2-7b", "GB", "this machine has"],
    )
    assert outcome.stdout == b""
    liquid.fails(
        *("bench", benchmark, "--preset", "1b", "--input-len", "9000"),
        naming=["--input-len 9000", "8192", "preset 1b"],
    )
    liquid.fails("bench", benchmark, "nowhere", naming=["nowhere"])
    liquid.fails(
        *("bench", benchmark, "--preset", "smollm2-135m", "--precision", "fp16", "--device", "cpu"),
        naming=["precision fp16 is for a GPU", "--device cuda"],
    )


def test_the_baseline_needs_a_gpu_and_another_precision(liquid, quantized):
    baseline = ("bench", "latency", quantized, "--baseline", "fp16")
    liquid.fails(*baseline, "--device", "cpu", naming=["--baseline fp16", "GPU"])
    outcome = liquid(*baseline, "--precision", "fp16")
    assert outcome.code == 2 and "--baseline" in outcome.stderr, outcome.stderr


def test_ctrl_c_keeps_the_cells_that_were_measured(liquid, quantized):
    process = liquid.start(
        *("bench", "latency", quantized, "--input-len", "8", "--output-len", "2", "--json"),
        *("--num-iters", "1", "--batch-size", ",".join(map(str, range(1, 65)))),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert b"Measuring" in process.stderr.readline()
    time.sleep(1)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=TIMEOUT)
    assert process.returncode == 1 and b"interrupted" in err
    assert 0 < len(json.loads(out)["rows"]) < 64


def test_ctrl_c_ends_a_row_of_requests(liquid, quantized):
    process = liquid.start(
        *("bench", "throughput", quantized, "--num-prompts", "1000000", "--output-len", "2"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert b"requests" in process.stderr.readline()
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=TIMEOUT)
    assert process.returncode == 1 and b"interrupted" in err and out == b""


def rows_of(benchmark):
    """Two lengths by three numbers of requests, as --record writes them."""
    rows = []
    for input_len in (128, 512):
        for at_once in (1, 4, 16):
            row = {"input_len": input_len, "output_len": 64}
            if benchmark == "latency":
                row |= {"batch_size": at_once, "generation_tokens_per_second": 20.0 * at_once}
                row["floor_tokens_per_second"] = 25.0 * at_once
            else:
                row |= {"max_num_seqs": at_once, "output_tokens_per_second": 10.0 * at_once}
            rows.append(row)
    return rows


@pytest.mark.skipif(shutil.which("gnuplot") is None, reason="gnuplot is not installed")
@pytest.mark.parametrize("benchmark", ["latency", "throughput"])
@pytest.mark.parametrize("count", [1, 6], ids=["one row", "all rows"])
def test_speeds_become_a_picture(liquid, tmp_path, benchmark, count):
    results, picture = tmp_path / "results.json", tmp_path / "picture.svg"
    results.write_text(json.dumps({"benchmark": benchmark, "rows": rows_of(benchmark)[:count]}))
    liquid.ok("bench", "plot", results, "-o", picture, "--kind", "speed")
    text = picture.read_text()
    assert text.startswith("<?xml") and "</svg>" in text
    for said in ("input 128, output 64", "generated tokens/s", "requests at once"):
        assert said in text
    assert ("input 512, output 64" in text) == (count > 1)
    assert ("floor" in text) == (benchmark == "latency")


@pytest.mark.parametrize(
    "text, said",
    [
        ("[]", "object"),
        ("{}", "benchmark"),
        ('{"benchmark": "gemm", "rows": []}', "latency or throughput"),
        ('{"benchmark": "latency"}', "rows"),
        ('{"benchmark": "latency", "rows": []}', "no rows"),
        ('{"benchmark": "latency", "rows": [1]}', "rows[0]"),
        ('{"benchmark": "throughput", "rows": [{"input_len": 1}]}', "output_len"),
        (
            '{"benchmark": "latency", "rows": [{"input_len": 1, "output_len": 2, "batch_size": 1,'
            ' "generation_tokens_per_second": -1}]}',
            "generation_tokens_per_second",
        ),
    ],
)
def test_what_is_no_speed_is_refused(liquid, tmp_path, text, said):
    results, picture = tmp_path / "results.json", tmp_path / "picture.svg"
    results.write_text(text)
    liquid.fails("bench", "plot", results, "-o", picture, "--kind", "speed", naming=[said])
    assert not picture.exists()
