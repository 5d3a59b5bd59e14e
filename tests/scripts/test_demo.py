"""scripts/demo.sh with a program that only writes down how it is called: the table at its end."""

import os
import pathlib
import shutil
import subprocess

import pytest

ROOT = pathlib.Path(__file__).parents[2]

# `doctor` names the GPU that the test says is there; `eval summary` prints a table of that name.
PROGRAM = """#!/bin/bash
echo "$*" >>"$CALLS"
case "$1 $2" in
  "doctor "*) printf 'CPU          some\\nGPU          %s\\nGPU driver   any\\n' "$GPU" ;;
  "quantize "*) mkdir "$4" && echo '{"quantization_config": "liquidquant"}' >"$4/config.json" ;;
  "eval summary") echo "figures beside $GPU" ;;
esac
"""


@pytest.fixture
def demo(tmp_path):
    """The scripts in a tree of their own, where building does nothing."""
    tree = tmp_path / "tree"
    shutil.copytree(ROOT / "scripts", tree / "scripts")
    (tree / "data").mkdir()
    (tree / "data/devils-dictionary.txt").write_text("a text")
    (tmp_path / "model.gguf").write_text("a model")
    programs = {
        tree / "build/release/bin/liquid": PROGRAM,
        tmp_path / "bin/cmake": "#!/bin/sh\n",
        # pip is there, but fetches nothing.
        tree / "build/venv/bin/python": '#!/bin/sh\n[ "$4" = "" ]\n',
    }
    for path, text in programs.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        path.chmod(0o755)

    def run(*arguments, gpu="none", **environment):
        calls = tmp_path / "calls"
        calls.unlink(missing_ok=True)
        outcome = subprocess.run(
            [tree / "scripts/demo.sh", "--no-install", "--model", tmp_path / "model.gguf"]
            + list(arguments),
            env={
                "PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}",
                "HOME": str(tmp_path / "home"),
                "CALLS": str(calls),
                "GPU": gpu,
                **environment,
            },
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert outcome.returncode == 0, outcome.stderr
        said = calls.read_text().splitlines()
        return outcome, [line for line in said if line.startswith("eval summary")]

    return run


def test_figures_are_measured_once_for_a_machine(demo):
    outcome, measured = demo()
    assert "figures beside none" in outcome.stdout
    (call,) = measured
    assert "--text data/devils-dictionary.txt" in call
    # Which devices are compared is the program's own choice.
    assert "--device" not in call
    outcome, measured = demo()
    assert measured == []
    assert "figures beside none" in outcome.stdout
    assert "--measure does it again" in outcome.stderr
    outcome, measured = demo("--measure")
    assert len(measured) == 1


def test_figures_are_measured_again_where_the_gpu_is_another(demo):
    demo()
    outcome, measured = demo(gpu="NVIDIA H200 (models run on it)")
    assert len(measured) == 1
    assert "figures beside NVIDIA H200" in outcome.stdout
    outcome, measured = demo(gpu="NVIDIA H200 (models run on it)", LIQUIDGEMM_DEVICE="cpu")
    assert len(measured) == 1
