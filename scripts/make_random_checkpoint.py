#!/usr/bin/env python3
"""Writes a random Llama checkpoint in BF16 of a given size: for measuring start-up and memory.

    scripts/make_random_checkpoint.py 1b ~/random-1b
    scripts/make_random_checkpoint.py 7b ~/random-7b --layers 8 --seed 7

The weights are normal numbers of the size that trained weights have, so the model runs and its
logits are finite; what it says is noise. Tensors are drawn and written one at a time: memory does
not grow with the model. Needs numpy.
"""

from __future__ import annotations

import argparse
import json
import pathlib
import struct
import sys

import numpy as np

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "tests/cli"))
import checkpoints

SHAPES = {
    "tiny": dict(hidden_size=1024, intermediate_size=2816, num_hidden_layers=6,
                 num_attention_heads=16, num_key_value_heads=4),
    "1b": dict(hidden_size=2048, intermediate_size=8192, num_hidden_layers=16,
               num_attention_heads=32, num_key_value_heads=8),
    "7b": dict(hidden_size=4096, intermediate_size=11008, num_hidden_layers=32,
               num_attention_heads=32, num_key_value_heads=32),
}  # fmt: skip
SHARD_BYTES = 2 << 30


def write_shards(folder: pathlib.Path, config: dict, seed: int) -> int:
    """Shards of about SHARD_BYTES and their index; returns the bytes of all weights."""
    shapes = checkpoints.weight_shapes(config)
    shards, size = [[]], 0
    for name, shape in shapes.items():
        count = 2 * int(np.prod(shape))
        if size and size + count > SHARD_BYTES:
            shards.append([])
            size = 0
        shards[-1].append(name)
        size += count
    random = np.random.default_rng(seed)
    weight_map, total = {}, 0
    for number, names in enumerate(shards, 1):
        file = f"model-{number:05}-of-{len(shards):05}.safetensors"
        header, offset = {}, 0
        for name in names:
            end = offset + 2 * int(np.prod(shapes[name]))
            header[name] = {"dtype": "BF16", "shape": shapes[name], "data_offsets": [offset, end]}
            offset = end
        text = json.dumps(header).encode()
        text += b" " * (-len(text) % 8)
        with open(folder / file, "wb") as out:
            out.write(struct.pack("<Q", len(text)) + text)
            for name in names:
                out.write(checkpoints.bfloat16_bytes(checkpoints.random_weight(name, shapes[name],
                                                                               random)))
                print(f"\r{file}: {name}\033[K", end="", file=sys.stderr)
        weight_map |= dict.fromkeys(names, file)
        total += offset
    print(file=sys.stderr)
    index = {"metadata": {"total_size": total}, "weight_map": weight_map}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    return total


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("shape", choices=SHAPES)
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--layers", type=int, help="instead of the shape's own")
    parser.add_argument("--vocabulary", type=int, default=32000)
    parser.add_argument("--tied", action="store_true", help="lm_head is the embedding")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()

    changes = SHAPES[options.shape] | {
        "vocab_size": options.vocabulary,
        "tie_word_embeddings": options.tied,
        "max_position_embeddings": 4096,
    }
    if options.layers:
        changes["num_hidden_layers"] = options.layers
    config = checkpoints.default_config(**changes)
    options.folder.mkdir(parents=True, exist_ok=True)
    checkpoints.write_small_files(options.folder, config)
    total = write_shards(options.folder, config, options.seed)
    print(f"{options.folder}: {total / 1e9:.2f} GB, seed {options.seed}")


if __name__ == "__main__":
    main()
