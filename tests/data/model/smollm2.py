"""Goldens of SmolLM2-135M-Instruct, whose weights are not part of the repository.

Its vocabulary is 49,152, so each kept position stores a digest of its logits: their RMS, the
eight largest, and 256 more at fixed random ids.
"""

import json
import pathlib

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


# Answered in FP32, greedily, with the word; the margins say how safely.
QUESTIONS = [
    ("What is the capital of France? Answer with one word.", "Paris"),
    ("What is the capital of Japan? Answer with one word.", "Tokyo"),
    ("What is the capital of Greece? Answer with one word.", "Athens"),
    ("What is the main language of France? Answer with one word.", "French"),
    ("What is the chemical symbol for gold? Answer with one word.", "Au"),
]


def make_questions(gguf, path):
    """Writes the questions with FP32's answers and its top-2 logit margins: at the token where the
    expected word begins, and the smallest on the way there."""
    model, tokenizer = load(gguf)
    end = tokenizer.convert_tokens_to_ids("<|im_end|>")
    questions = []
    for question, expected in QUESTIONS:
        tokens = chat_tokens(tokenizer, [{"role": "user", "content": question}])
        answer, margins = [], []
        while len(answer) < 16 and (not answer or answer[-1] != end):
            with torch.no_grad():
                logits = model(torch.tensor([tokens + answer])).logits[0, -1]
            best, second = logits.topk(2).values.tolist()
            answer.append(int(logits.argmax()))
            margins.append(best - second)
        words = [tokenizer.decode(token).strip() for token in answer]
        at = next(i for i, word in enumerate(words) if word and expected.startswith(word))
        text = tokenizer.decode(answer, skip_special_tokens=True)
        assert expected in text, (question, text)
        questions.append({"question": question, "expected": expected, "fp32_answer": text,
                          "fp32_margin_at_word": round(margins[at], 2),
                          "fp32_smallest_margin_before": round(min(margins[:at]), 2)})
    pathlib.Path(path).write_text(json.dumps({
        "model": "SmolLM2-135M-Instruct, Q4_1 GGUF, dequantised to float32",
        "decoding": "greedy; chat template with its default system prompt",
        "questions": questions}, indent=2) + "\n")


def perplexity(gguf, text_path, scored=4096, context=512):
    """Windows of `context` tokens, each started afresh, scored from its second token on, until at
    least `scored` tokens were scored."""
    model, tokenizer = load(gguf)
    text = pathlib.Path(text_path).read_text(encoding="utf-8")
    tokens = torch.tensor(tokenizer(text, add_special_tokens=False)["input_ids"])
    total, count = 0.0, 0
    for window in tokens.split(context):
        with torch.no_grad():
            log_p = model(window[None]).logits[0, :-1].double().log_softmax(-1)
        total -= log_p.gather(1, window[1:, None]).sum().item()
        count += len(window) - 1
        if count >= scored:
            break
    print(f"perplexity {np.exp(total / count):.6f} over {count} scored tokens of {len(tokens)}")
