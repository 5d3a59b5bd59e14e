"""Goldens of SmolLM2-135M-Instruct, whose weights are not part of the repository.

Its vocabulary is 49,152, so each kept position stores a digest of its logits: their RMS, the
eight largest, and 256 more at fixed random ids.
"""

import numpy as np
import torch
from safetensors.numpy import save_file
from transformers import AutoModelForCausalLM, AutoTokenizer

CHAT = [{"role": "user", "content": "Why is the sky blue? Answer in two sentences."}]

# About 300 tokens of plain English, ours; an attention split (256 tokens) ends inside it.
TEXT = (
    "The mill stood where the two streams met, and for as long as anyone in the village could "
    "remember it had ground the corn of every farm between the hills and the sea. The wheel was "
    "oak, the stones were granite, and the miller, whose name was Anselm Brook, claimed that he "
    "could tell the weather of the next day by the sound of the water alone. Nobody believed "
    "him, but nobody laid out hay without asking him first.\n\n"
    "In the spring of 1847 the sound changed. It did not grow louder or softer; it lost, as he "
    "put it, its middle. He walked up the eastern stream for three hours and found that a slide "
    "of clay and young birches had dammed it, and that behind the dam lay a pond which had not "
    "been there in March. It held, by his reckoning, 40,000 barrels of water, and it was rising "
    "by the width of a hand each day.\n\n"
    "He did what a careful man does. He measured the height twice, wrote both numbers down, and "
    "went home to fetch his neighbours. They dug for nine days, first a ditch as wide as a "
    "spade, then one as wide as a cart, and they let the pond down so slowly that the ducks "
    "below the bridge did not lift their heads. On the tenth day the wheel turned as it always "
    "had. \"Tomorrow it will rain,\" said Anselm, listening. The hay stayed in the barn, and it "
    "rained.")

POSITIONS = {"chat": [0, 5, -1], "text": [1, 100, 255, 256, -1]}


def load(path):
    """The model and its tokenizer, dequantised to float32 from the GGUF file."""
    folder, name = str(path).rsplit("/", 1)
    model = AutoModelForCausalLM.from_pretrained(
        folder, gguf_file=name, torch_dtype=torch.float32, attn_implementation="eager").eval()
    return model, AutoTokenizer.from_pretrained(folder, gguf_file=name)


def chat_tokens(tokenizer, messages):
    return tokenizer.apply_chat_template(messages, add_generation_prompt=True)


def make_goldens(gguf, path):
    model, tokenizer = load(gguf)
    vocabulary = model.config.vocab_size
    sample = np.sort(np.random.default_rng(2).choice(vocabulary, 256, replace=False))
    kept = {"sample_ids": sample.astype(np.int32)}
    prompts = {"chat": chat_tokens(tokenizer, CHAT),
               "text": tokenizer(TEXT, add_special_tokens=False)["input_ids"]}
    for name, tokens in prompts.items():
        positions = [p % len(tokens) for p in POSITIONS[name]]
        with torch.no_grad():
            logits = model(torch.tensor(tokens)[None]).logits[0].numpy()[positions]
        top = np.argsort(-logits, axis=1, kind="stable")[:, :8]
        kept |= {
            f"tokens.{name}": np.array(tokens, dtype=np.int32),
            f"positions.{name}": np.array(positions, dtype=np.int32),
            f"rms.{name}": np.sqrt((logits.astype(np.float64) ** 2).mean(1)).astype(np.float32),
            f"top_ids.{name}": top.astype(np.int32),
            f"top_logits.{name}": np.take_along_axis(logits, top, axis=1),
            f"sample_logits.{name}": np.ascontiguousarray(logits[:, sample]),
        }
        print(f"made SmolLM2 {name}: {len(tokens)} tokens, rms {kept[f'rms.{name}']}")
    save_file(kept, path)
