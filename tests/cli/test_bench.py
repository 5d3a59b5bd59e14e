"""`liquid bench` where there is no GPU: the CPU's products; what needs a GPU says so."""

import csv
import json
import pathlib
import re
import shutil
import signal
import subprocess
import time

import pytest

import conftest


@pytest.fixture
def without_gpu(liquid):
    if not liquid.ok("doctor", "--json").json()["GPU"].startswith("none"):
        pytest.skip("this machine has a GPU")
    return liquid


@pytest.mark.parametrize(
    "arguments",
    [["device"], ["gemm"], ["gemm", "--device", "cuda", "--full"], ["gemm", "--ablate", "--json"]],
)
def test_a_machine_without_a_gpu_is_told_so(without_gpu, arguments):
    outcome = without_gpu.fails("bench", *arguments, naming=["CUDA"])
    assert outcome.stdout == b""


def test_the_reason_keeps_json_empty(without_gpu):
    assert without_gpu.fails("bench", "gemm", "--json").stdout == b""


@pytest.mark.parametrize(
    "arguments, said",
    [
        (["--shape", "4096"], "4096"),
        (["--shape", "4096x"], "4096x"),
        (["--shape", "x4096"], "x4096"),
        (["--shape", "4096x4096x4096"], "4096x4096x4096"),
        (["--shape", "-8x4096"], "-8x4096"),
        (["--shape", "0x4096"], "0x4096"),
        (["--shape", "99999999999999999999x8"], "99999999999999999999x8"),
        (["--shape", "l9-7b.qkv"], "l3-8b.gate_up"),
        (["--m", "0"], "--m"),
        (["--m", "16,many"], "many"),
        (["--m", "1048577"], "1048576"),
        (["--m", "1-1048577:4096"], "1048576"),
        (["--m", "0-8"], "0-8"),
        (["--m", "64-8"], "ends before it begins"),
        (["--m", "1-"], "1-512"),
        (["--m", "1-2-3"], "1-2-3"),
        (["--m", "8:2"], "8:2"),
        (["--m", "8:2-16"], "8:2-16"),
        (["--m", "1-512:"], "1-512:"),
        (["--m", "1-512:0"], "step must be 1 or more"),
        (["--m", "1-8,1-512:-1"], "step must be 1 or more"),
        (["--m", "1-8,9-99999"], "take a larger step"),
        (["--m", "1-99999999999999999999"], "1-99999999999999999999"),
        (["--group-size", "48"], "48"),
        (["--output", "i32"], "i32"),
        (["--rounds", "0"], "--rounds"),
        (["--schedule", "a", "--schedules", "b;c"], "--schedule"),
        (["--ablate", "--group-size", "128"], "groups of 64"),
        (["--group-size", "32", "--ablate"], "groups of 64"),
        (["--ablate", "--m", "16,32"], "--m 32"),
        (["--ablate", "--m", "256"], "16, 64, 128"),
        (["--ablate", "--m", "16-128"], "not for 17"),
        (["--ablate", "--m", "16,between"], "--m between"),
        (["--ablate", "--full"], "--full"),
        (["--ablate", "--schedule", "a"], "--schedule"),
        (["--ablate", "--schedules", "a;b"], "--schedules"),
        (["--ablate", "--check-only"], "--check-only"),
        (["--ablate", "--recorded", "somewhere"], "--recorded"),
        (["--ablate", "--record", "a.csv"], "a.csv"),
        (["--device", "gpu"], "gpu"),
        (["--threads", "2"], "--threads"),
        (["--device", "cuda", "--isa", "avx2"], "--isa"),
        (["--precision", "w8a8"], "--precision"),
        (["--device", "cpu", "--output", "f16"], "--output"),
        (["--device", "cpu", "--schedule", "a"], "--schedule"),
        (["--device", "cpu", "--schedules", "a;b"], "--schedules"),
        (["--device", "cpu", "--no-pdl"], "--no-pdl"),
        (["--device", "cpu", "--pause", "5"], "--pause"),
        (["--device", "cpu", "--settle", "5"], "--settle"),
        (["--device", "cpu", "--check-only"], "--check-only"),
        (["--device", "cpu", "--cublas-lib", "x"], "--cublas-lib"),
        (["--device", "cpu", "--recorded", "x"], "--recorded"),
        (["--ablate", "--device", "cpu"], "--ablate"),
        (["--device", "cpu", "--isa", "sse9"], "sse9"),
        (["--device", "cpu", "--threads", "-1"], "--threads"),
        (["--device", "cpu", "--precision", "fp32"], "fp32"),
        (["--device", "cpu", "--precision", "w8a8", "--group-size", "32"], "--group-size"),
        (["--device", "cpu", "--m", "0"], "--m"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_wrong_arguments_exit_with_2_and_say_which(liquid, arguments, said):
    outcome = liquid("bench", "gemm", *arguments)
    assert outcome.code == 2, outcome.stderr
    assert said in outcome.stderr, outcome.stderr
    assert outcome.stdout == b""


@pytest.mark.parametrize("tokens", ["16,64,128", "16,64-128:64"])
@pytest.mark.parametrize("shape", ["4096x14336", "others"])
def test_an_ablation_takes_shapes_and_its_token_counts(without_gpu, tmp_path, shape, tokens):
    record = tmp_path / "ablation.json"
    without_gpu.fails(
        *("bench", "gemm", "--ablate", "--shape", shape, "--m", tokens),
        *("--group-size", "64", "--output", "bf16", "--rounds", "3", "--record", record),
        naming=["CUDA"],
    )
    assert not record.exists()


@pytest.mark.parametrize("shape", ["4096x14336", "l2-7b.qkv", "l2-70b"])
def test_shapes_and_names_are_taken(without_gpu, shape):
    without_gpu.fails("bench", "gemm", "--shape", shape, "--m", "1,16", naming=["CUDA"])


@pytest.mark.parametrize(
    "tokens", ["1-512", "1-8,16,32-64:8", "1-2:9223372036854775807", "between"]
)
def test_ranges_of_tokens_are_taken(without_gpu, tokens):
    without_gpu.fails("bench", "gemm", "--shape", "others", "--m", tokens, naming=["CUDA"])


def test_missing_recorded_rivals_are_named(liquid, tmp_path):
    outcome = liquid.fails("bench", "gemm", "--recorded", tmp_path / "nowhere", naming=["nowhere"])
    assert outcome.stdout == b""


def test_a_broken_table_of_recorded_rivals_is_named(liquid, tmp_path):
    (tmp_path / "h200-gemm-us.csv").write_text("shape,N,K\nx,1,2\n")
    liquid.fails("bench", "gemm", "--recorded", tmp_path, naming=["h200-gemm-us.csv", "column"])


TINY = ["gemm", "--device", "cpu", "--shape", "256x512", "--rounds", "2"]


def number(value, low=0.0):
    assert isinstance(value, (int, float)) and value > low
    return value


def check_ceiling(ceiling, rate, threads):
    """The best of its probes, or of the rows."""
    assert ceiling["source"]
    best = max(number(probe[rate]) for probe in ceiling["probes"])
    assert {probe["threads"] for probe in ceiling["probes"]} == {1, threads}
    assert ceiling["best_probe"] == best
    if ceiling["raised_to_a_row"]:
        assert ceiling[rate] > best and "256x512, M " in ceiling["source"]
    else:
        assert ceiling[rate] == best


def test_the_cpu_is_measured_beside_its_ceilings(liquid, tmp_path):
    records = [tmp_path / name for name in ("all.json", "all.md", "all.csv")]
    outcome = liquid.ok(
        *("bench", *TINY, "--m", "1,4", "--threads", "2", "--group-size", "32", "--json"),
        *(part for path in records for part in ("--record", path)),
    )
    result = outcome.json()
    assert result == json.loads(records[0].read_text())
    assert result["device"] == "cpu" and result["threads"] == 2 and result["group_size"] == 32
    assert result["precision"] == "w4a8" and result["rounds"] == 2
    check_ceiling(result["read"], "gb_per_second", 2)
    check_ceiling(result["operations"], "gops", 2)
    assert [(row["shape"], row["m"]) for row in result["rows"]] == [("256x512", 1), ("256x512", 4)]
    for row in result["rows"]:
        seconds = number(row["ours"]["us"]) * 1e-6
        weights = 256 * (512 / 2 + 2 * 512 / 32 + 4)
        assert row["weight_bytes"] == weights
        assert row["weight_copies"] * weights >= 2**28
        assert row["gb_per_second"] == pytest.approx(weights / seconds / 1e9)
        assert row["gops"] == pytest.approx(2 * row["m"] * 256 * 512 / seconds / 1e9)
        assert 0 < row["read_share"] <= 1 and 0 < row["operations_share"] <= 1
        share = max(row["read_share"], row["operations_share"])
        assert row["ours_over_floor"] == pytest.approx(1 / share)
        assert row["floor_us"] == pytest.approx(row["ours"]["us"] * share)
        # What other work leaves: any share of the best, which these repetitions count for too.
        assert number(row["read_in_turn_gb_per_second"]) <= result["read"]["gb_per_second"]
        assert number(row["read_in_turn_share"])
        assert number(row["operations_in_turn_gops"]) <= result["operations"]["gops"]
        assert number(row["operations_in_turn_share"])
        assert 0 < row["quantize_us"]
        assert row["checked_tokens"] == min(row["m"], 3)
        assert row["kernel"] == f"liquid4 g32 {result['isa']}"
    table = records[1].read_text()
    for said in ("| 256x512 |", "Read bandwidth: ", "Operations: ", "liquid bench gemm"):
        assert said in table
    rows = list(csv.DictReader(records[2].open()))
    assert [row["M"] for row in rows] == ["1", "4"]


def test_onednn_is_the_rival_at_many_tokens(liquid):
    arguments = ("bench", *TINY, "--m", "4,64", "--threads", "2")
    result = liquid.ok(*arguments, "--json").json()
    few, many = result["rows"]
    assert "onednn" not in few
    assert "onednn" not in liquid.ok(*arguments, "--no-rivals", "--json").json()["rows"][1]
    if "onednn" not in many:
        assert "libdnnl-dev" in liquid.ok(*arguments).text
        pytest.skip("built without oneDNN (apt-get install libdnnl-dev)")
    rival = many["onednn"]
    alone = many["ours"]["us"] - many["quantize_us"]
    assert rival["over_ours"] == pytest.approx(number(rival["us"]) / alone)
    assert re.fullmatch(r"\d+\.\d+\.\d+", rival["version"]) and rival["implementation"]
    text = liquid.ok(*arguments).text
    for said in ("oneDNN / ours", "oneDNN " + rival["version"]):
        assert said in text
    if result["isa"] != "avx2":  # whose sums of 16 bits must not saturate
        narrower = liquid.ok(*arguments, "--isa", "avx2", "--json").json()["rows"][1]["onednn"]
        assert narrower["implementation"] != rival["implementation"]


def test_without_its_program_onednn_is_left_out_with_a_word(liquid, tmp_path):
    alone = tmp_path / "liquid"
    shutil.copy(conftest.BINARY, alone)
    outcome = subprocess.run(
        [alone, "bench", *TINY, "--m", "64"], capture_output=True, text=True, timeout=conftest.TIMEOUT
    )
    assert outcome.returncode == 0
    assert "libdnnl-dev" in outcome.stdout and "oneDNN us" not in outcome.stdout


def test_the_cpu_runs_what_is_asked_for(liquid):
    outcome = liquid.ok(
        *("-q", "bench", *TINY, "--m", "2-3", "--precision", "w8a8"),
        *("--isa", "scalar", "--threads", "1"),
    )
    assert outcome.stderr == ""
    for said in ("256x512", "ours / floor", "1 thread; int8 scalar"):
        assert said in outcome.text
    # A sanitizer can make the probe slower than the product, which then is the ceiling itself.
    assert "in plain C++" in outcome.text or conftest.SANITIZED


def test_a_variable_for_every_command_is_no_mistake(without_gpu):
    without_gpu.environment |= {"LIQUIDGEMM_THREADS": "1", "LIQUIDGEMM_ISA": "scalar"}
    without_gpu.fails("bench", "gemm", naming=["CUDA"])
    assert without_gpu("bench", "gemm", "--threads", "2").code == 2
    result = without_gpu.ok("bench", *TINY, "--m", "1", "--json").json()
    assert result["threads"] == 1 and result["isa"] == "scalar"


@pytest.mark.parametrize(
    "shape, tokens, said",
    [("1048576x1048576", "1048576", "GB"), ("32x33", "1", "even K")],
)
def test_what_the_cpu_cannot_measure_is_refused(liquid, shape, tokens, said):
    arguments = ("bench", "gemm", "--device", "cpu", "--shape", shape, "--m", tokens)
    outcome = liquid(*arguments)
    assert outcome.code == 1 and outcome.stdout == b""
    assert shape in outcome.stderr and said in outcome.stderr


def test_ctrl_c_keeps_the_cells_that_were_measured(liquid):
    process = liquid.start(
        *("bench", *TINY, "--m", "1-512", "--json"), stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    # The first line of progress: a cell is done.
    assert b"M 1:" in process.stderr.readline()
    time.sleep(0.2)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=conftest.TIMEOUT)
    assert process.returncode == 1 and b"interrupted" in err
    assert 0 < len(json.loads(out)["rows"]) < 512


RECORDED = pathlib.Path(__file__).parents[2] / "bench" / "results" / "h200-gemm.json"


@pytest.mark.skipif(shutil.which("gnuplot") is None, reason="gnuplot is not installed")
def test_a_recorded_result_becomes_a_picture(liquid, tmp_path):
    picture = tmp_path / "picture.svg"
    liquid.ok("bench", "plot", RECORDED, "-o", picture)
    text = picture.read_text()
    assert text.startswith("<?xml") and "</svg>" in text
    for shape in ("57344 x 8192", "4096 x 4096"):
        assert shape in text


def rows_of(tokens, rivals):
    """Two shapes whose times grow with the tokens, as bench gemm --record writes them."""
    rows = []
    for n, k in ((4096, 4096), (57344, 8192)):
        for m in tokens:
            row = {"shape": f"{n}x{k}", "n": n, "k": k, "m": m, "floor_us": n * k / 1e7}
            row["ours"] = {"us": n * k * (1 + m / 100) / 5e6, "spread": 0.01}
            if rivals:
                row["best_rival_over_ours"] = 1.2
            rows.append(row)
    return rows


@pytest.mark.skipif(shutil.which("gnuplot") is None, reason="gnuplot is not installed")
@pytest.mark.parametrize("rivals", [True, False], ids=["rivals", "ours alone"])
@pytest.mark.parametrize("tokens", [range(1, 513), [1, 64, 4096]], ids=["sweep", "wide"])
def test_times_become_a_picture(liquid, tmp_path, tokens, rivals):
    results, picture = tmp_path / "results.json", tmp_path / "picture.svg"
    results.write_text(json.dumps({"rows": rows_of(tokens, rivals)}))
    liquid.ok("bench", "plot", results, "-o", picture, "--kind", "time")
    text = picture.read_text()
    assert text.startswith("<?xml") and "</svg>" in text
    for said in ("57344 x 8192", "4096 x 4096", "microseconds", "floor"):
        assert said in text
    assert ("best rival" in text) == rivals
    assert "stroke-dasharray" in text
    # Up to 512 tokens the axis has even steps; a wider one doubles.
    assert (">300<" in text.replace(" ", "")) == (max(tokens) <= 512)
    assert (">1024<" in text.replace(" ", "")) == (max(tokens) > 512)


def test_a_kind_that_is_none_is_refused(liquid, tmp_path):
    outcome = liquid("bench", "plot", tmp_path / "x.json", "-o", tmp_path / "x.svg", "--kind", "us")
    assert outcome.code == 2
    assert "--kind" in outcome.stderr


@pytest.mark.parametrize(
    "row, said",
    [
        ('{"n": 8, "k": 32, "m": 1}', "ours.us"),
        ('{"n": 8, "k": 32, "m": 1, "ours": 3}', "ours"),
        ('{"n": 8, "k": 32, "m": 1, "ours": {}}', "rows[0].ours.us"),
        ('{"n": 8, "k": 32, "m": 1, "ours": {"us": -1}}', "rows[0].ours.us"),
        ('{"n": 8, "k": 32, "m": 1, "ours": {"us": 1}, "floor_us": "2"}', "floor_us"),
    ],
)
def test_results_without_times_are_refused(liquid, tmp_path, row, said):
    results, picture = tmp_path / "results.json", tmp_path / "picture.svg"
    results.write_text('{"rows": [' + row + "]}")
    liquid.fails("bench", "plot", results, "-o", picture, "--kind", "time", naming=[said])
    assert not picture.exists()


@pytest.mark.parametrize(
    "text, said",
    [
        ("", "JSON"),
        ("[]", "object"),
        ("{}", "rows"),
        ('{"rows": [1]}', "rows[0]"),
        ('{"rows": [{"n": 0, "k": 1, "m": 1}]}', "n"),
        ('{"rows": [{"n": 8, "k": 32, "m": 1}]}', "best_rival_over_ours"),
    ],
)
def test_what_is_no_result_is_refused(liquid, tmp_path, text, said):
    results, picture = tmp_path / "results.json", tmp_path / "picture.svg"
    results.write_text(text)
    liquid.fails("bench", "plot", results, "-o", picture, naming=[said])
    assert not picture.exists()
