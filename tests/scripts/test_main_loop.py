"""What the assembler made of the Hopper kernels' main loop: it takes a tenth longer where addresses
have to be moved between its two kinds of registers (docs/kernels.md). Needs what a build with CUDA
leaves behind, and no GPU."""

import os
import pathlib
import re
import shutil
import subprocess

import pytest

ROOT = pathlib.Path(__file__).parents[2]
BINARY = pathlib.Path(os.environ.get("LIQUID_BINARY", ROOT / "build/release/bin/liquid"))
OBJECTS = sorted(BINARY.parents[1].glob("src/gemm/**/w4a8_tokens*_group64.cu.o"))
CUOBJDUMP = shutil.which("cuobjdump") or shutil.which("cuobjdump", path="/usr/local/cuda/bin")


def main_loop(instructions):
    """The shortest loop around a wgmma."""
    index = {address: i for i, (address, _) in enumerate(instructions)}
    loops = []
    for i, (address, text) in enumerate(instructions):
        branch = re.search(r"\bBRA\b.*?0x([0-9a-f]+)", text)
        if branch is None or int(branch[1], 16) >= address:
            continue
        body = [text for _, text in instructions[index[int(branch[1], 16)] : i + 1]]
        if any("IGMMA" in text for text in body):
            loops.append(body)
    return min(loops, key=len)


def kernels(path):
    """Name and instructions (address, text) of each."""
    text = subprocess.run([CUOBJDUMP, "-sass", path], capture_output=True, text=True,
                          check=True).stdout
    for part in text.split("Function : ")[1:]:
        found = re.findall(r"^\s+/\*([0-9a-f]{4,5})\*/\s+(.*?);", part, re.MULTILINE)
        yield part.split()[0], [(int(address, 16), text) for address, text in found]


@pytest.mark.skipif(not OBJECTS or CUOBJDUMP is None, reason="this build has no CUDA kernels")
@pytest.mark.parametrize("path", OBJECTS, ids=lambda path: path.name.split(".")[0])
def test_addresses_stay_in_uniform_registers(path):
    checked = 0
    for name, instructions in kernels(path):
        loop = main_loop(instructions)
        moves = [text for text in loop if "R2UR" in text or "BSSY" in text]
        assert not moves, f"{name}: {moves}"
        checked += 1
    assert checked > 1
