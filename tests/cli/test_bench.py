"""`liquid bench` where there is no GPU: wrong usage is told from a machine that cannot."""

import json
import pathlib
import shutil

import pytest


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
