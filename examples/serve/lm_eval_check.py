#!/usr/bin/env python3
"""lm-eval against a running `liquid serve`: a perplexity, compared with `liquid eval ppl` of the same
texts, and ten questions with four answers each. Needs the Python packages of `lm-eval[api]` and
`transformers` (for the model's tokenizer); nothing is downloaded.

    liquid serve qwen-w4a8 --port 8000
    examples/serve/lm_eval_check.py --model qwen-w4a8 --url http://127.0.0.1:8000

The exit code is 1 where the two perplexities differ by more than rounding.
"""

import argparse
import json
import math
import os
import pathlib
import subprocess
import sys
import tempfile

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("HF_DATASETS_OFFLINE", "1")

ROOT = pathlib.Path(__file__).resolve().parents[2]
# Log-probabilities are sent as floats in decimal and summed in another order.
TOLERANCE = 1e-6
QUESTIONS = [
    ("The capital of France is", ["Paris", "London", "a horse", "yellow"], 0),
    ("Water freezes at a temperature of zero degrees", ["Celsius", "banana", "music", "Monday"], 0),
    ("A dog is a kind of", ["number", "animal", "planet", "colour"], 1),
    ("The opposite of hot is", ["loud", "green", "cold", "seven"], 2),
    ("Two and two is", ["four", "blue", "Rome", "never"], 0),
    ("In the morning the sun", ["reads", "types", "rises", "sneezes"], 2),
    ("Bees make", ["honey", "iron", "paper money", "bicycles"], 0),
    ("The month after January is", ["Friday", "February", "noon", "winter sports"], 1),
    ("People read books in a", ["spoon", "cloud", "nail", "library"], 3),
    ("A triangle has three", ["legs", "wheels", "sides", "doors"], 2),
]


def passages(text: str, count: int, size: int) -> list[str]:
    """Pieces of whole paragraphs, from the beginning of the text."""
    pieces, piece = [], ""
    for paragraph in text.splitlines():
        piece += paragraph + "\n"
        if len(piece) >= size:
            pieces.append(piece.strip())
            piece = ""
        if len(pieces) == count:
            break
    return pieces


def tasks(texts: list[str]) -> list:
    import datasets
    from lm_eval.api.task import ConfigurableTask

    def task(name: str, rows: list[dict], **config):
        def load(**_):
            return {"test": datasets.Dataset.from_list(rows)}

        config = {"task": name, "custom_dataset": load, "test_split": "test", **config}
        return ConfigurableTask(config=config)

    rows = [
        {"question": question, "choices": choices, "answer": answer}
        for question, choices, answer in QUESTIONS
    ]
    return [
        task(
            "liquid_perplexity",
            [{"text": text} for text in texts],
            output_type="loglikelihood_rolling",
            doc_to_text="",
            doc_to_target="{{text}}",
            metric_list=[{"metric": "word_perplexity"}, {"metric": "byte_perplexity"}],
        ),
        task(
            "liquid_choice",
            rows,
            output_type="multiple_choice",
            doc_to_text="{{question}}",
            doc_to_choice="{{choices}}",
            doc_to_target="answer",
            metric_list=[{"metric": "acc"}],
        ),
    ]


def of_liquid(liquid: str, model: str, beginning: str, text: str) -> tuple[float, int]:
    """Negative log-likelihood and tokens of `text` behind the token that lm-eval puts before it."""
    with tempfile.NamedTemporaryFile("w", suffix=".txt", encoding="utf-8") as file:
        file.write(beginning + text)
        file.flush()
        command = [liquid, "eval", "ppl", model, "--text", file.name, "--precision", "w4a8"]
        command += ["--context", "2048", "--tokens", "1", "--json"]
        report = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
    (row,) = report["results"]
    return math.log(row["perplexity"]) * row["scored_tokens"], row["scored_tokens"]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", required=True, help="the folder that is served, quantized")
    parser.add_argument("--url", default="http://127.0.0.1:8000")
    parser.add_argument("--name", help="the model's name on the server (default: the folder's)")
    parser.add_argument("--liquid", default="liquid", help="the program")
    parser.add_argument("--text", default=str(ROOT / "data/devils-dictionary.txt"))
    parser.add_argument("--passages", type=int, default=6)
    arguments = parser.parse_args()

    import lm_eval
    import transformers

    tokenizer = transformers.AutoTokenizer.from_pretrained(arguments.model)
    beginning = tokenizer.bos_token or tokenizer.eos_token
    text = pathlib.Path(arguments.text).read_text(encoding="utf-8")
    texts = passages(text, arguments.passages, size=1500)
    results = lm_eval.simple_evaluate(
        model="local-completions",
        model_args={
            "base_url": arguments.url.rstrip("/") + "/v1/completions",
            "model": arguments.name or pathlib.Path(arguments.model).name,
            "tokenizer": arguments.model,
            "tokenizer_backend": "huggingface",
            "max_length": 2048,
            "num_concurrent": 4,
        },
        tasks=tasks(texts),
        log_samples=True,
        bootstrap_iters=0,
    )
    samples = results["samples"]["liquid_perplexity"]
    served, local, tokens = 0.0, 0.0, 0
    for sample in samples:
        served -= sample["filtered_resps"][0]
        loss, count = of_liquid(
            arguments.liquid, arguments.model, beginning, sample["doc"]["text"]
        )
        local += loss
        tokens += count
    difference = abs(served - local) / tokens
    print(f"perplexity of {len(samples)} passages, {tokens} tokens")
    print(f"  lm-eval over HTTP  {math.exp(served / tokens):.6f}")
    print(f"  liquid eval ppl    {math.exp(local / tokens):.6f}")
    print(f"  difference of the mean log-probability {difference:.2e}, at most {TOLERANCE:.0e}")
    print(f"{len(QUESTIONS)} questions: accuracy {results['results']['liquid_choice']['acc,none']}")
    return 0 if difference <= TOLERANCE else 1


if __name__ == "__main__":
    sys.exit(main())
