"""scripts/tune_gemm.py: what it would time, and what it prints of the timings."""

import importlib.util
import json
import pathlib
import re
import subprocess
import sys

ROOT = pathlib.Path(__file__).parents[2]
SCRIPT = ROOT / "scripts" / "tune_gemm.py"


def load():
    specification = importlib.util.spec_from_file_location("tune_gemm", SCRIPT)
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


def test_tiles_are_those_that_are_compiled():
    kernels = set()
    for path in (ROOT / "src/gemm/cuda").glob("w4a8_tokens*.cu"):
        for entry in re.findall(r"kernel_entry<(\d+), (\d+), (\d+), (\d+),", path.read_text()):
            kernels.add(tuple(int(number) for number in entry))
    text = (ROOT / "src/gemm/cuda/heuristics.cc").read_text()
    tiles = text[text.index("kTiles[]") :]
    tiles = tiles[: tiles.index("};")]
    expected = {
        tuple(int(number) for number in entry)
        for entry in re.findall(r"\{(\d+), (\d+), (\d+), (\d+)\}", tiles)
    }
    assert len(kernels) > 20
    assert kernels == expected == set(load().TILES)


def test_every_cell_has_schedules_to_time():
    tune = load()
    for n, k in tune.SHAPES:
        for m in tune.TOKENS:
            schedules = list(tune.candidates(n, k, m, 132))
            assert schedules and len(schedules) == len(set(schedules))


def test_the_fastest_becomes_a_row_of_the_table(tmp_path):
    program = tmp_path / "liquid"
    program.write_text(
        f"#!{sys.executable}\n"
        "import json, sys\n"
        "rest = ',stages=4,split=1,multicast=1,stream=0,workers=9'\n"
        "schedules = ['tokens=16,blocks=1,groups=4,depth=1']\n"
        "if '--schedules' in sys.argv:\n"
        "    schedules = sys.argv[sys.argv.index('--schedules') + 1].split(';')\n"
        "rows = [{'schedule': ','.join(s.split(',')[:4]) + rest,\n"
        "         'ours': {'us': 50.0 - i}} for i, s in enumerate(schedules)]\n"
        "print(json.dumps({'rows': rows}))\n"
    )
    program.chmod(0o755)
    timings = tmp_path / "timings.json"
    run = subprocess.run(
        [sys.executable, SCRIPT, "--liquid", program, "--shape", "4096x4096", "--m", "16",
         "--json", timings],
        capture_output=True, text=True, check=True,
    )
    row = r" {4}\{4096, 4096, 1, 16, \{16, 1, \d, \d, 1, 1, 0\}\},  // (1\.\d{3})\n"
    match = re.fullmatch(row, run.stdout)
    assert match
    ranked = json.loads(timings.read_text())["4096x4096 16"]
    assert ranked == sorted(ranked) and len(ranked) > 3
    chosen = min(us for us, schedule in ranked if "groups=4,depth=1" in schedule)
    assert float(match[1]) == round(chosen / ranked[0][0], 3)


def test_a_failure_of_the_program_is_told(tmp_path):
    program = tmp_path / "liquid"
    program.write_text("#!/bin/sh\necho 'error: no GPU' >&2\nexit 1\n")
    program.chmod(0o755)
    run = subprocess.run(
        [sys.executable, SCRIPT, "--liquid", program, "--shape", "4096x4096", "--m", "1"],
        capture_output=True, text=True, check=False,
    )
    assert run.returncode == 1 and "no GPU" in run.stderr
