"""How much memory a model takes while it is loaded and run."""

import pathlib
import subprocess
import sys

import pytest

import checkpoints
from conftest import ROOT, SANITIZED, Liquid

sys.path.insert(0, str(ROOT / "scripts"))
from measure_start import watch

MIB = 1 << 20


@pytest.fixture(scope="module")
def wide(tmp_path_factory) -> pathlib.Path:
    """Tied embeddings of 82 MB, layers of 12 MB: a second copy of the table breaks the bound."""
    folder = tmp_path_factory.mktemp("wide")
    source = checkpoints.write_model(
        folder / "model",
        hidden_size=1024,
        intermediate_size=2816,
        num_hidden_layers=2,
        num_attention_heads=16,
        num_key_value_heads=4,
        vocab_size=80_000,
    )
    Liquid(folder).ok("quantize", source, "-o", folder / "wide-w4a8", "--quiet")
    return folder


def weight_bytes(folder: pathlib.Path) -> int:
    """Packed weights are as large as stored ones, but for rows that fill up the last panel."""
    return sum(file.stat().st_size for file in folder.glob("*.safetensors"))


def kv_bytes(tokens: int, head: int = 64, kv_heads: int = 4, layers: int = 2) -> int:
    return -(-tokens // 64) * 64 * layers * kv_heads * head * 2 * 2


@pytest.mark.skipif(SANITIZED, reason="a sanitizer's own memory is no measure")
@pytest.mark.parametrize("verb", ["run", "eval"])
@pytest.mark.parametrize("packed", ["packed now", "packed and written", "read from their file"])
def test_loading_and_running_keeps_the_weights_once(liquid, wide, tmp_path, verb, packed):
    model = wide / "wide-w4a8"
    if verb == "run":
        arguments = ["run", model, "--raw", "--prompt", "the end", "--max-tokens", 8]
        length = 512
    else:
        text = tmp_path / "text.txt"
        text.write_text("and the end of the thing and " * 20)
        arguments = ["eval", "ppl", model, "--text", text, "--tokens", 256, "--context", 256]
        arguments += ["--precision", "w4a8"]
        length = 256
    arguments += ["--max-model-len", length, "--threads", 2]
    if packed != "packed now":
        arguments.append("--cache-packed-weights")
    if packed == "read from their file":
        liquid.ok(*arguments)
    elif packed == "packed and written":
        for file in model.glob("packed-weights.*"):
            file.unlink()
    process = liquid.start(*arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    peak = watch(process).anonymous
    _, errors = process.communicate()
    assert process.returncode == 0, errors
    weights = weight_bytes(model)
    bound = weights + kv_bytes(length) + max(weights // 10, 64 * MIB)
    assert weights < peak < bound, f"{peak / MIB:.0f} MiB, weights {weights / MIB:.0f} MiB"
