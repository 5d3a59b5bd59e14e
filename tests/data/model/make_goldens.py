#!/usr/bin/env python3
"""Makes the test data of this folder: small random checkpoints of every model family and the
logits that Hugging Face transformers gives for them in float32.

    python3 -m venv VENV && VENV/bin/pip install -r requirements.txt
    VENV/bin/python make_goldens.py                      # checkpoints, GGUF files, W4A8
    VENV/bin/python make_goldens.py --smollm2 MODEL.gguf # and the goldens of SmolLM2

A goldens file NAME.goldens.safetensors holds, for each of a few sequence lengths L,

    tokens.L     I32 [L]
    positions.L  I32 [P]      where logits were kept; ascending
    logits.L     F32 [P, V]   after the token at that position
"""

import argparse
import pathlib

import numpy as np
import torch
from safetensors.numpy import save_file
from transformers import AutoModelForCausalLM

import families
import gguf_files
import smollm2
import w4a8

HERE = pathlib.Path(__file__).parent

# Attention splits at multiples of 256 tokens: 600 has two cuts, and the positions around them.
KEPT_POSITIONS = {
    1: [0],
    17: [0, 1, 2, 7, 16],
    200: [63, 64, 65, 128, 199],
    600: [254, 255, 256, 257, 511, 512, 599],
}


def random_tokens(length, seed):
    return np.random.default_rng([seed, length]).integers(
        0, families.VOCABULARY, length, dtype=np.int32)


def logits_of(model, tokens):
    with torch.no_grad():
        return model(torch.tensor(tokens, dtype=torch.long)[None]).logits[0].numpy()


def make_goldens(model, path, seed, lengths=KEPT_POSITIONS):
    """Writes the goldens of a float32 transformers model."""
    kept = {}
    for length in lengths:
        tokens = random_tokens(length, seed)
        positions = KEPT_POSITIONS[length]
        kept[f"tokens.{length}"] = tokens
        kept[f"positions.{length}"] = np.array(positions, dtype=np.int32)
        kept[f"logits.{length}"] = np.ascontiguousarray(logits_of(model, tokens)[positions])
    save_file(kept, path)


def load_float32(folder):
    return AutoModelForCausalLM.from_pretrained(
        folder, torch_dtype=torch.float32, attn_implementation="eager").eval()


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--smollm2", metavar="GGUF", help="SmolLM2-135M-Instruct.Q4_1.gguf")
    parser.add_argument("--only-smollm2", action="store_true")
    parser.add_argument("--perplexity", metavar="TEXT",
                        help="also print SmolLM2's FP32 perplexity on this text")
    arguments = parser.parse_args()
    torch.use_deterministic_algorithms(True)
    torch.set_num_threads(1)

    if not arguments.only_smollm2:
        for seed, name in enumerate(families.FAMILIES):
            folder = families.make_checkpoint(HERE, name, seed)
            make_goldens(load_float32(folder), HERE / f"{name}.goldens.safetensors", seed)
            print("made", name, flush=True)
        gguf_files.make_all(HERE, make_goldens)
        w4a8.make_checkpoint(HERE / "llama3", HERE / "llama3-w4a8")
        w4a8.make_goldens(HERE / "llama3-w4a8", HERE / "llama3-w4a8.goldens.safetensors",
                          HERE / "llama3-w4a8.layer0.safetensors")
    if arguments.smollm2:
        smollm2.make_goldens(arguments.smollm2, HERE / "smollm2-135m.goldens.safetensors")
        smollm2.make_questions(arguments.smollm2, HERE / "questions.json")
        if arguments.perplexity:
            smollm2.perplexity(arguments.smollm2, arguments.perplexity)


if __name__ == "__main__":
    main()
