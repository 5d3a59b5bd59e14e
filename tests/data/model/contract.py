"""The numeric contract (docs/numerics.md) in NumPy, written from its text and independently of the
C++ code: every line below is one binary32 operation, or an exact one."""

import math

import numpy as np

F32 = np.float32
SPLIT = 256


def fma(a, b, c):
    """a * b + c of float32 arrays, rounded once.

    The product is exact in binary64. The sum is rounded to odd there (a TwoSum tells whether it
    was exact and on which side the truth lies), so that the second rounding, to binary32, sees
    what it needs."""
    product = a.astype(np.float64) * b.astype(np.float64)
    addend = np.broadcast_to(c, product.shape).astype(np.float64)
    total = product + addend
    part = total - product
    error = (product - (total - part)) + (addend - part)
    bits = total.view(np.int64)
    away = np.where((error > 0) == (total > 0), 1, -1)
    odd = np.where((error != 0) & (bits % 2 == 0), bits + away, bits)
    return odd.view(np.float64).astype(F32)


def exp(x):
    x = np.clip(x, F32(-87), F32(88))
    n = np.rint(x * F32(float.fromhex("0x1.715476p+0")))
    r = x - n * F32(float.fromhex("0x1.62e4p-1"))
    r = r - n * F32(float.fromhex("0x1.7f7d1cp-20"))
    p = np.full_like(x, F32(1 / 720))
    for coefficient in (1 / 120, 1 / 24, 1 / 6, 0.5, 1.0, 1.0):
        p = p * r + F32(coefficient)
    return p * ((n.astype(np.int32) + 127) << 23).view(F32)


def silu(x):
    return x / (F32(1) + exp(-x))


def fold(lanes):
    """Sums the last axis, a power of two long, by halving."""
    while lanes.shape[-1] > 1:
        half = lanes.shape[-1] // 2
        lanes = lanes[..., :half] + lanes[..., half:]
    return lanes[..., 0]


def rms_norm(x, weight, eps):
    width = x.shape[-1]
    lanes = np.zeros(x.shape[:-1] + (1024,), F32)
    for first in range(0, width, 1024):
        block = x[..., first:first + 1024]
        lanes[..., :block.shape[-1]] += block * block
    total = fold(lanes)
    reciprocal = F32(1) / np.sqrt(total / F32(width) + F32(eps))
    return (x * reciprocal[..., None]) * weight


def quantize_rows(x):
    """(x8, s_x) of each row."""
    largest = np.abs(x).max(-1)
    tiny = largest < F32(2.0 ** -100)
    safe = np.where(tiny, F32(1), largest)
    scale = np.where(tiny, F32(1), safe / F32(127))
    reciprocal = np.where(tiny, F32(0), F32(127) / safe)
    x8 = np.clip(np.rint(x * reciprocal[..., None]), -127, 127).astype(np.int8)
    return x8, scale


def scale_output(sums, row_scale, channel_scale):
    return sums.astype(F32) * (row_scale[:, None] * channel_scale[None, :])


def rope_tables(positions, head_dim, theta):
    """(cos, sin), [positions, head_dim / 2]: computed in binary64, rounded once."""
    angles = [[p * math.pow(theta, -(2 * i) / head_dim) for i in range(head_dim // 2)]
              for p in range(positions)]
    table = [[[f(angle) for angle in row] for row in angles] for f in (math.cos, math.sin)]
    return np.array(table[0], F32), np.array(table[1], F32)


def rotate(x, cos, sin):
    """x [T, heads, head_dim]: the two halves of a head are the two coordinates."""
    half = x.shape[-1] // 2
    a, b = x[..., :half], x[..., half:]
    cos, sin = cos[:, None, :], sin[:, None, :]
    return np.concatenate([a * cos - b * sin, b * cos + a * sin], axis=-1)


def store_kv(x, kv_format):
    """What the cache gives back for x [T, head_dim]: (values, scale of each token or None)."""
    if kv_format == "f16":
        return x.astype(np.float16).astype(F32), None
    x8, scale = quantize_rows(x)
    return x8.astype(F32), scale


def attention(q, k, v, kv_format):
    """One head, causal: q, k, v [T, head_dim] -> [T, head_dim]."""
    tokens, width = q.shape
    k, k_scale = store_kv(k, kv_format)
    v, v_scale = store_kv(v, kv_format)

    scores = np.zeros((tokens, tokens), F32)
    for d in range(width):
        scores = fma(q[:, None, d], k[None, :, d], scores)
    if k_scale is not None:
        scores = scores * k_scale[None, :]
    scores = scores * F32(1 / math.sqrt(width))
    visible = np.tri(tokens, dtype=bool)

    m_all = l_all = o_all = None
    for start in range(0, tokens, SPLIT):
        end = min(start + SPLIT, tokens)
        rows = slice(start, tokens)  # earlier rows see nothing of this split
        seen = visible[rows, start:end]
        part = np.where(seen, scores[rows, start:end], F32(-np.inf))
        m = part.max(-1)
        p = np.where(seen, exp(part - m[:, None]), F32(0))
        sums = np.zeros((tokens - start, 16), F32)
        o = np.zeros((tokens - start, width), F32)
        for t in range(end - start):
            sums[:, t % 16] += p[:, t]
            weight = p[:, t] if v_scale is None else p[:, t] * v_scale[start + t]
            added = fma(weight[:, None], v[start + t][None, :], o)
            o = np.where(seen[:, t][:, None], added, o)
        l = fold(sums)
        if start == 0:
            m_all, l_all, o_all = m, l, o
            continue
        top = np.maximum(m_all[rows], m)
        x, y = exp(m_all[rows] - top), exp(m - top)
        l_all[rows] = l_all[rows] * x + l * y
        o_all[rows] = o_all[rows] * x[:, None] + o * y[:, None]
        m_all[rows] = top
    return o_all / l_all[:, None]
