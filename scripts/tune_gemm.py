#!/usr/bin/env python3
"""Times the schedules of the Hopper GEMM and prints the fastest as rows of its table
(heuristics.cc), each with the ratio of the plan's own choice to it: a row is worth having where
that is above 1.01.

    scripts/tune_gemm.py --liquid build/release/bin/liquid --json timings.json

For every shape and number of tokens the plausible schedules run in one `liquid bench gemm`, which
also checks their outputs. Needs the GPU the table is for; about two minutes for all shapes.
"""

import argparse
import json
import pathlib
import subprocess
import sys

# Tokens, 64-row blocks of a warp group, warp groups beside each other, warp groups along K: the
# compiled tiles (src/gemm/cuda/w4a8_tokens*.cu).
TILES = [
    *((tokens, 1, groups, depth) for tokens in (8, 16, 32)
      for groups, depth in ((4, 1), (3, 1), (2, 2), (1, 4))),
    (64, 2, 2, 1), (64, 1, 3, 1), (64, 1, 2, 2), (64, 1, 1, 2), (96, 1, 3, 1), (96, 1, 2, 1),
    (96, 1, 1, 2), (128, 2, 2, 1), (128, 1, 3, 1), (128, 1, 2, 1), (128, 1, 1, 2),
    (160, 1, 3, 1), (160, 1, 2, 1), (160, 1, 1, 2), (160, 1, 1, 1), (192, 1, 2, 1),
    (192, 1, 1, 2), (192, 1, 1, 1), (224, 1, 2, 1), (224, 1, 1, 1), (256, 1, 2, 1), (256, 1, 1, 1),
]
SHAPES = [
    (12288, 4096), (4096, 4096), (22016, 4096), (4096, 11008), (6144, 4096), (28672, 4096),
    (4096, 14336), (10240, 8192), (8192, 8192), (57344, 8192), (8192, 28672),
]
TOKENS = [8, 16, 32, 64, 128, 192, 256, 512, 1024, 4096]
SPLITS = (1, 2, 3, 4, 5, 6, 8)


def ceil_divide(a, b):
    return -(-a // b)


def suits(tokens, m):
    """Whether a tile of `tokens` is worth timing for m tokens."""
    if m <= 8:
        return tokens == 8
    if m > 256:
        return tokens >= 96
    return m <= tokens < 2 * m or (m >= 64 and tokens <= m <= 2 * tokens)


def candidates(n, k, m, multiprocessors):
    for tokens, blocks, groups, depth in TILES:
        if not suits(tokens, m):
            continue
        tile = f"tokens={tokens},blocks={blocks},groups={groups},depth={depth}"
        tiles = ceil_divide(n, 64 * blocks * groups) * ceil_divide(m, tokens)
        columns = ceil_divide(k, 128)
        for split in SPLITS:
            if split == 1 and depth == 1:
                continue
            waves = ceil_divide(tiles * split, multiprocessors)
            busy = tiles * split / (waves * multiprocessors)
            if busy > (0.42 if waves == 1 else 0.8) and waves <= 4 and columns >= 4 * split:
                yield f"{tile},split={split}"
        if depth > 1:
            continue
        multicasts = (1, 2) if tokens >= 64 else (1,)
        for multicast in multicasts:
            if tiles > 0.42 * multiprocessors:
                yield f"{tile},multicast={multicast}"
            if tiles % multiprocessors and tiles > 0.3 * multiprocessors:
                yield f"{tile},multicast={multicast},stream=1"


def measure(liquid, n, k, m, rounds, *options):
    """Microseconds and schedules, the fastest first."""
    command = [liquid, "-q", "bench", "gemm", "--no-rivals", "--no-pdl", "--json", "--rounds",
               str(rounds), "--shape", f"{n}x{k}", "--m", str(m), *options]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        sys.exit(f"{n} x {k}, {m} tokens: {done.stderr.strip()}")
    rows = json.loads(done.stdout)["rows"]
    return sorted((row["ours"]["us"], row["schedule"]) for row in rows)


def table_row(n, k, first, last, schedule):
    fields = dict(part.split("=") for part in schedule.split(","))
    names = ("tokens", "blocks", "groups", "depth", "split", "multicast", "stream")
    choice = ", ".join(fields[name] for name in names)
    return f"    {{{n}, {k}, {first}, {last}, {{{choice}}}}},"


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--liquid", default="liquid", help="the program (default: on the PATH)")
    parser.add_argument("--multiprocessors", type=int, default=132)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--shape", action="append", help="NxK, instead of all; may be repeated")
    parser.add_argument("--m", type=int, action="append", help="tokens, instead of all")
    parser.add_argument("--json", type=pathlib.Path, help="write every timing there")
    arguments = parser.parse_args()
    shapes = SHAPES
    if arguments.shape:
        shapes = [tuple(int(part) for part in text.split("x")) for text in arguments.shape]
    timings = {}
    for n, k in shapes:
        previous = 0
        for m in arguments.m or TOKENS:
            first, previous = previous + 1, m
            schedules = list(candidates(n, k, m, arguments.multiprocessors))
            if not schedules:
                continue
            chosen = measure(arguments.liquid, n, k, m, 1)[0][1]
            ranked = measure(arguments.liquid, n, k, m, arguments.rounds, "--schedules",
                             ";".join([*schedules, chosen]))
            timings[f"{n}x{k} {m}"] = ranked
            ratio = next(us for us, schedule in ranked if schedule == chosen) / ranked[0][0]
            print(f"{table_row(n, k, first, m, ranked[0][1])}  // {ratio:.3f}", flush=True)
            print(f"{n} x {k}, {m} tokens: {ranked[0][0]:.1f} us, the best of {len(ranked)}",
                  file=sys.stderr)
    if arguments.json:
        arguments.json.write_text(json.dumps(timings, indent=1))


if __name__ == "__main__":
    main()
