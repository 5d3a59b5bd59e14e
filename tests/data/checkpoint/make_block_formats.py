"""Writes q8_0.bin, q4_0.bin, q4_1.bin, f16.bin and bf16.bin beside this file.

Each holds 7 rows of 96 seeded random weights as the `gguf` package stores them, followed by the
float32 values that the package reads back. Needs: pip install gguf numpy.
"""

import pathlib

import numpy
from gguf import GGMLQuantizationType as Type
from gguf import quants

here = pathlib.Path(__file__).parent
random = numpy.random.default_rng(20250209)
weights = random.normal(0, 0.05, (7, 96)).astype(numpy.float32)
weights[2, 32:64] = 0  # a block of zeros
weights[4, 5] = 3.0  # an outlier
for kind in (Type.Q8_0, Type.Q4_0, Type.Q4_1, Type.F16, Type.BF16):
    stored = quants.quantize(weights, kind)
    values = quants.dequantize(stored, kind).astype(numpy.float32)
    assert values.shape == weights.shape
    (here / f"{kind.name.lower()}.bin").write_bytes(stored.tobytes() + values.tobytes())
