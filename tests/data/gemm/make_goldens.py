#!/usr/bin/env python3
"""Golden files of the GEMM tests: the numeric contract (docs/numerics.md) in NumPy.

Written from the contract alone, independently of the C++ code: integers are summed in Python's
arbitrary precision or int64, every float operation is one float32 operation of NumPy.

    python3 make_goldens.py            # writes *.bin next to this file

Each file is a little-endian stream, in this order:

    int32   kind (0 = 4-bit, 1 = INT8), m, n, k, group_size, has_bias
    uint8   packed [n, k/2], group_scale [n, groups], group_offset [n, groups]   kind 0
    int8    weight_int8 [n, k]                                                   kind 1
    float32 weight_scale [n], bias [n] (if has_bias), x [m, k]
    int8    x8 [m, k]
    float32 row scale [m]
    int32   row sum [m], INT32 sums [m, n]
    float32 outputs [m, n]
"""

import pathlib

import numpy as np

F32 = np.float32


def quantize_rows(x):
    """Activations, per token: contract section "Activations"."""
    m, k = x.shape
    x8 = np.zeros((m, k), np.int8)
    scale = np.zeros(m, F32)
    for i, row in enumerate(x):
        if not np.isfinite(row).all():
            scale[i] = F32(np.nan)
            continue
        largest = np.abs(row).max()
        if largest < F32(2.0**-100):
            scale[i] = F32(1)
            continue
        scale[i] = largest / F32(127)
        reciprocal = F32(127) / largest
        scaled = np.rint(row * reciprocal)  # rint: to nearest, ties to even
        x8[i] = np.clip(scaled, F32(-127), F32(127)).astype(np.int8)
    return x8, scale, x8.astype(np.int64).sum(axis=1)


def outputs(sums, row_scale, channel_scale, bias):
    t = (row_scale[:, None] * channel_scale[None, :]).astype(F32)
    y = (sums.astype(F32) * t).astype(F32)
    return y if bias is None else (y + bias[None, :]).astype(F32)


def liquid_weights(rng, n, k, group):
    """Random valid 4-bit weights; returns codes q, steps s and offsets a."""
    groups = -(-k // group)
    q = np.zeros((n, k), np.int64)
    s = rng.integers(1, 17, (n, groups))
    a = np.zeros((n, groups), np.int64)
    for row in range(n):
        for g in range(groups):
            top = int(rng.integers(0, 16))
            columns = slice(g * group, min(k, (g + 1) * group))
            q[row, columns] = rng.integers(0, top + 1, q[row, columns].shape)
            a[row, g] = rng.integers(0, 255 - top * s[row, g] + 1)
    # One row at each end of the range.
    q[0], s[0], a[0] = 15, 16, 15
    q[-1], s[-1], a[-1] = 0, 1, 0
    return q, s, a


def activations(rng, m, k):
    x = (rng.standard_normal((m, k)) * np.exp2(rng.uniform(-8, 8, (m, 1)))).astype(F32)
    x[0] = np.where(rng.random(k) < 0.5, F32(3), F32(-3))  # +-127 throughout
    if m > 3:
        x[1] *= F32(2.0**-110)  # below the threshold: zeros
        x[2, k // 2] = F32(np.inf)  # a row that is not finite
        x[3] = np.arange(k, dtype=F32) * F32(0.5)  # ties
    return x


def write(path, kind, rng, m, n, k, group, has_bias):
    channel_scale = np.exp2(rng.uniform(-12, 2, n)).astype(F32)
    bias = rng.standard_normal(n).astype(F32) if has_bias else None
    x = activations(rng, m, k)
    x8, row_scale, row_sum = quantize_rows(x)

    if kind == 0:
        q, s, a = liquid_weights(rng, n, k, group)
        which = np.arange(k) // group
        code = q * s[:, which] + a[:, which]
        assert code.min() >= 0 and code.max() <= 255
        sums = x8.astype(np.int64) @ code.T - 128 * row_sum[:, None]
        packed = (q[:, 0::2] | q[:, 1::2] << 4).astype(np.uint8)
        weights = [packed, s.astype(np.uint8), a.astype(np.uint8)]
    else:
        w8 = rng.integers(-128, 128, (n, k))
        sums = x8.astype(np.int64) @ w8.T
        weights = [w8.astype(np.int8)]
    assert np.abs(sums).max() < 2**31
    sums = sums.astype(np.int32)

    parts = [np.array([kind, m, n, k, group, has_bias], np.int32), *weights, channel_scale]
    parts += [bias] if has_bias else []
    parts += [x, x8, row_scale, row_sum.astype(np.int32), sums]
    parts += [outputs(sums, row_scale, channel_scale, bias)]
    path.write_bytes(b"".join(np.ascontiguousarray(part).tobytes() for part in parts))


def main():
    folder = pathlib.Path(__file__).parent
    rng = np.random.Generator(np.random.PCG64(20250901))
    shapes = [
        ("liquid4_g32", 0, 5, 19, 96, 32, 1),
        ("liquid4_g64", 0, 13, 40, 224, 64, 0),
        ("liquid4_g64_short_group", 0, 4, 33, 160, 64, 1),
        ("liquid4_g128", 0, 7, 24, 288, 128, 1),
        ("liquid4_one_token", 0, 1, 48, 192, 64, 0),
        ("int8", 1, 6, 35, 101, 0, 1),
        ("int8_one_token", 1, 1, 16, 64, 0, 0),
    ]
    for name, kind, m, n, k, group, has_bias in shapes:
        write(folder / f"{name}.bin", kind, rng, m, n, k, group, has_bias)


if __name__ == "__main__":
    with np.errstate(over="ignore", invalid="ignore"):
        main()
