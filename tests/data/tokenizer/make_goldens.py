#!/usr/bin/env python3
"""Makes the tokenizers, strings and ids that tests/tokenizer compares with.

The published tokenizers cannot be redistributed here, so small ones with the very same structure
(normaliser, pre-tokeniser, post-processor, decoder, flags, added tokens) are trained with Hugging
Face `tokenizers`; that library's answers are the goldens.

Needs: pip install tokenizers==0.22.2
Use: make_goldens.py [folder]            writes the files (the folder of this script by default)
     make_goldens.py --check FILE NAME   FILE is a tokenizer.json that the library wrote for the
                                         tokenizer NAME: Hugging Face must give the golden ids
"""
import argparse
import inspect
import json
import pathlib
import pydoc_data.topics
import random
import sys

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers
from tokenizers import pre_tokenizers, processors, trainers

LLAMA3 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
          r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")
QWEN2 = LLAMA3.replace("{1,3}", "")

SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|begin_of_text|>", "<|end_of_text|>",
           "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>", "<think>", "</think>",
           "<tool_call>", "</tool_call>", "<repo_name>", "<file_sep>"]
EXOTIC = [  # content, lstrip, rstrip, single_word, normalized, special
    ("<L>", 1, 0, 0, 0, 1), ("<R>", 0, 1, 0, 0, 1), ("<LR>", 1, 1, 0, 0, 0),
    ("<W>", 0, 0, 1, 0, 1), ("word", 0, 0, 1, 0, 0), ("<N>", 0, 0, 0, 1, 0),
    ("cafe\u0301", 0, 0, 0, 1, 0), ("na\u00efve", 0, 0, 1, 1, 0), ("<", 0, 0, 0, 0, 0),
    ("aa", 0, 0, 0, 0, 0), ("aaaa", 0, 0, 0, 0, 0), ("aaab", 0, 1, 0, 0, 0),
    ("\n\n", 0, 0, 0, 0, 0), ("  ", 1, 0, 0, 0, 0), ("\u00e9t\u00e9", 0, 0, 0, 0, 1),
    ("\u4e2d\u6587", 1, 1, 0, 1, 0), ("e\u0301x", 0, 0, 0, 0, 0)]

WORDS = ("the quick brown fox jumps over a lazy dog's tail; it doesn't mind, we'll see, they've "
         "said I'm sure you're right, he'd go ISN'T WE'LL They'Re I'M y'all o'clock 'tis rock'n'roll "
         "def return import self None True class for while if else elif lambda yield async await "
         "int main void std::vector<int> const auto& x = y + z; #include <stdio.h> // comment "
         "https://example.org/path?q=1&r=%20 user@example.com foo_bar fooBar FOO_BAR 0xDEADBEEF "
         "caf\u00e9 na\u00efve Stra\u00dfe \u00e9t\u00e9 ma\u00f1ana \u017fay it'\u017f '\u017f \u0130stanbul \u01c4 \ufb01n").split(" ")
SCRIPTS = [(0x4e00, 0x9fff), (0x3040, 0x30ff), (0xac00, 0xd7a3), (0x0400, 0x04ff),
           (0x0370, 0x03ff), (0x0590, 0x05ff), (0x0600, 0x06ff), (0x0900, 0x097f),
           (0x0e00, 0x0e7f), (0x1100, 0x11ff), (0x10a0, 0x10ff), (0x1e00, 0x1fff),
           (0x2c00, 0x2dff), (0x1f300, 0x1f6ff), (0x1d400, 0x1d7ff), (0x20000, 0x2a6df)]
NUMBERS = ([chr(c) for c in range(0x660, 0x66a)] + [chr(c) for c in range(0x2160, 0x2189)]
           + list("\u00b2\u00b3\u00b9\u00bc\u00bd\u2070\u2460\u2776\u3007\u3021\u96f6\u4e00\u0967\u0e51\uff11\U0001d7d8\U00010107")
           + ["\U00011de0", "\U00016ff4", "\U00016d70", "\U0001ccf0"])
SPACES = [" ", "  ", "   ", "\t", "\n", "\r\n", "\r", "\n\n", " \n", "\n ", "\u00a0", "\u3000",
          "\u2003", "\u2028", "\u2029", "\u0085", "\x0b", "\x0c", "\u1680", "\u202f", "\u205f",
          "\x1c", "\x1f", "\u180e", "\u200b", "\ufeff", "        "]
EMOJI = ["\U0001f600", "\U0001f44d\U0001f3fd", "\U0001f468\u200d\U0001f469\u200d\U0001f467",
         "\U0001f1e9\U0001f1ea", "\u2764\ufe0f", "1\ufe0f\u20e3", "\u263a", "\U0001fae8"]


def is_scalar(c):
    return c < 0x110000 and not 0xd800 <= c <= 0xdfff


def any_character(rng):
    while True:
        c = rng.choice((rng.randrange(0x250), rng.randrange(0x3000), rng.randrange(0x10000),
                        rng.randrange(0x20000), rng.randrange(0x110000)))
        if is_scalar(c):
            return chr(c)


def fragment(rng):
    kind = rng.randrange(17)
    if kind <= 2:
        return " ".join(rng.choice(WORDS) for _ in range(rng.randint(1, 5)))
    if kind == 3:
        low, high = rng.choice(SCRIPTS)
        return "".join(chr(rng.randint(low, high)) for _ in range(rng.randint(1, 6)))
    if kind == 4:
        return rng.choice(EMOJI) * rng.randint(1, 2)
    if kind == 5:  # combining marks, also out of order, also newer than the NFC tables
        marks = [chr(rng.choice((rng.randrange(0x300, 0x370), rng.randrange(0x300, 0x370),
                                 0x323, 0x334, 0x345, 0x5b0, 0x64b, 0x93c, 0x3099, 0x1ac1,
                                 0x1df6, 0x8ca, 0x11930))) for _ in range(rng.randint(1, 5))]
        return rng.choice("aeiouAEOUnqs\u00e9\u1ea1\u304b\u0928\u1100") + "".join(marks)
    if kind <= 7:
        return "".join(rng.choice(SPACES) for _ in range(rng.randint(1, 4)))
    if kind == 8:
        return str(rng.randrange(10 ** rng.randint(1, 9)))
    if kind == 9:
        return "".join(rng.choice(NUMBERS) for _ in range(rng.randint(1, 4)))
    if kind == 10:
        return rng.choice(("'s", "'t", "'re", "'ve", "'m", "'ll", "'d", "'S", "'T", "'RE", "'vE",
                           "'M", "'Ll", "'D", "'\u017f", "'", "''", "\u2019s", "'x", "'r", "'l"))
    if kind == 11:
        return rng.choice(SPECIAL)[:rng.choice((99, 99, 99, 5))]
    if kind == 12:
        return "".join(rng.choice("!\"#$%&()*+,-./:;<=>?@[\\]^_`{|}~") for _ in range(
            rng.randint(1, 6))) + rng.choice(("", "\n", "\r\n", " ", "\n\n"))
    if kind == 13:
        return "".join(any_character(rng) for _ in range(rng.randint(1, 4)))
    if kind == 14:
        return "".join(chr(rng.choice((0, 1, 7, 8, 27, 127, 128, 133, 159))) for _ in range(2))
    if kind == 15:
        return rng.choice(EXOTIC)[0]
    return rng.choice(("a", "aa", "aaa", "\u00c5", "A\u030a", "\u212b", "\ud55c", "\u1112\u1161\u11ab",
                       "\ufdfa", "\u2126", "\ufb01", "\u0344", "\u0958", "\u2adc", "\U0001d15e"))


def make_strings(seed, count):
    rng = random.Random(seed)
    fixed = ["", " ", "  ", "\n", "a", "'s", "Hello, world!", "\r\n\r\n", " \n \n ", "\ufffd"]
    strings = list(fixed)
    while len(strings) < count:
        glue = rng.choice(("", "", " ", "\n"))
        strings.append(glue.join(fragment(rng) for _ in range(rng.randint(1, 7))))
    return strings


def make_bytes(seed, count):
    """Byte strings that are mostly not UTF-8."""
    rng = random.Random(seed)
    pool = [0x41, 0x20, 0x80, 0xa0, 0xbf, 0xc0, 0xc2, 0xdf, 0xe0, 0xe2, 0xed, 0xef, 0xf0, 0xf4,
            0xf5, 0xff]
    out = []
    for _ in range(count):
        data = bytes(rng.choice(pool) if rng.random() < 0.7 else rng.randrange(256)
                     for _ in range(rng.randint(1, 12)))
        out.append(data)
    return out


def corpus(strings):
    yield from strings
    yield inspect.getsource(argparse)
    yield from list(pydoc_data.topics.topics.values())[:40]


def train(tokenizer, strings, size, first_tokens=()):
    trainer = trainers.BpeTrainer(vocab_size=size, show_progress=False,
                                  special_tokens=list(first_tokens),
                                  initial_alphabet=pre_tokenizers.ByteLevel.alphabet())
    tokenizer.train_from_iterator(corpus(strings), trainer)


def special(text):
    return AddedToken(text, special=True, normalized=False)


def byte_level(**options):
    return pre_tokenizers.ByteLevel(add_prefix_space=False, **options)


def split(pattern):
    return pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(pattern), "isolated"),
                                    byte_level(use_regex=False)])


def with_extra_words(tokenizer, words):
    """Words that no merge makes, as Llama 3 has some: only ignore_merges finds them."""
    data = json.loads(tokenizer.to_str())
    vocabulary = data["model"]["vocab"]
    for word in words:
        vocabulary.setdefault(word, len(vocabulary))
    data["model"]["ignore_merges"] = True
    return Tokenizer.from_str(json.dumps(data))


def make_tokenizers(strings, size=1400):
    gpt2 = Tokenizer(models.BPE())
    gpt2.pre_tokenizer = byte_level()
    train(gpt2, strings, size)
    gpt2.add_special_tokens([special("<|endoftext|>")])
    gpt2.post_processor = processors.ByteLevel(trim_offsets=False)

    smollm = Tokenizer(models.BPE())
    smollm.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), byte_level()])
    train(smollm, strings, size, [special(t) for t in (
        "<|endoftext|>", "<|im_start|>", "<|im_end|>", "<repo_name>", "<file_sep>")])

    llama3 = Tokenizer(models.BPE())
    llama3.pre_tokenizer = split(LLAMA3)
    train(llama3, strings, size)
    llama3 = with_extra_words(llama3, ("\u0120quick", "\u0120jumps", "doesn", "\u0120rock", "!!!",
                                       "\u010a\u010a\u010a", "123", "\u00e4\u00b8\u0143", "ing\u0120"))
    llama3.add_special_tokens([special(t) for t in (
        "<|begin_of_text|>", "<|end_of_text|>", "<|start_header_id|>", "<|end_header_id|>",
        "<|eot_id|>")])
    bos = llama3.token_to_id("<|begin_of_text|>")
    llama3.post_processor = processors.Sequence([
        processors.ByteLevel(trim_offsets=False),
        processors.TemplateProcessing(single="<|begin_of_text|> $A",
                                      pair="<|begin_of_text|> $A <|begin_of_text|>:1 $B:1",
                                      special_tokens=[("<|begin_of_text|>", bos)])])

    qwen2 = Tokenizer(models.BPE(continuing_subword_prefix="", end_of_word_suffix=""))
    qwen2.normalizer = normalizers.NFC()
    qwen2.pre_tokenizer = split(QWEN2)
    train(qwen2, strings, size)
    qwen2.add_special_tokens([special(t) for t in (
        "<|endoftext|>", "<|im_start|>", "<|im_end|>")])
    qwen2.add_tokens([AddedToken(t, normalized=False) for t in (
        "<tool_call>", "</tool_call>", "<think>", "</think>")])
    qwen2.post_processor = processors.ByteLevel(trim_offsets=False)

    added = Tokenizer(models.BPE())
    added.normalizer = normalizers.Sequence([normalizers.NFC()])
    added.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    train(added, strings, size)
    for text, lstrip, rstrip, single_word, normalized, is_special in EXOTIC:
        token = AddedToken(text, lstrip=bool(lstrip), rstrip=bool(rstrip),
                           single_word=bool(single_word), normalized=bool(normalized),
                           special=bool(is_special))
        (added.add_special_tokens if is_special else added.add_tokens)([token])
    added.post_processor = processors.TemplateProcessing(
        single="<L> $A <R> <W>", special_tokens=[(t, added.token_to_id(t)) for t in
                                                ("<L>", "<R>", "<W>")])

    made = {"gpt2": gpt2, "smollm": smollm, "llama3": llama3, "qwen2": qwen2, "added": added}
    for tokenizer in made.values():
        tokenizer.decoder = decoders.ByteLevel()
    return made


def text_of(name, tokenizer):
    data = json.loads(tokenizer.to_str())
    if name in ("gpt2", "qwen2"):  # the older spelling of merges
        data["model"]["merges"] = [" ".join(pair) for pair in data["model"]["merges"]]
    if name == "gpt2":  # as its published file does
        del data["model"]["type"]
    return json.dumps(data, ensure_ascii=False, separators=(",", ":"))


def read_strings(folder):
    for line in (folder / "strings.jsonl").read_text(encoding="utf-8").split("\n"):
        if line:
            entry = json.loads(line)
            yield entry if isinstance(entry, str) else bytes.fromhex(entry["hex"]).decode(
                "utf-8", "replace")


def write(folder):
    strings = make_strings(1, 2000)
    made = make_tokenizers(strings)
    lines = [json.dumps(s, ensure_ascii=False) for s in strings]
    lines += [json.dumps({"hex": b.hex()}) for b in make_bytes(2, 200)]
    (folder / "strings.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8", newline="\n")
    rng = random.Random(3)
    for name, tokenizer in made.items():
        text = text_of(name, tokenizer)
        (folder / f"{name}.tokenizer.json").write_text(text + "\n", encoding="utf-8")
        tokenizer = Tokenizer.from_str(text)
        with open(folder / f"{name}.ids", "w") as out:
            for string in read_strings(folder):
                ids = tokenizer.encode(string, add_special_tokens=False).ids
                out.write(" ".join(map(str, ids)) + "\n")
        with open(folder / f"{name}.decode.jsonl", "w", encoding="utf-8") as out:
            for i in range(200):
                ids = [rng.randrange(tokenizer.get_vocab_size() + 2) if rng.random() < 0.5 else
                       rng.randrange(260) for _ in range(rng.randint(0, 12))]
                skip = i % 2 == 1
                out.write(json.dumps([ids, skip, tokenizer.decode(ids, skip_special_tokens=skip)],
                                     separators=(",", ":")) + "\n")
        with open(folder / f"{name}.special.ids", "w") as out:
            for string in list(read_strings(folder))[:20]:
                out.write(" ".join(map(str, tokenizer.encode(string).ids)) + "\n")


def check(folder, file, name):
    tokenizer = Tokenizer.from_file(file)
    golden = (folder / f"{name}.ids").read_text().split("\n")
    special_golden = (folder / f"{name}.special.ids").read_text().split("\n")
    for i, string in enumerate(read_strings(folder)):
        ids = " ".join(map(str, tokenizer.encode(string, add_special_tokens=False).ids))
        if ids != golden[i]:
            sys.exit(f"string {i} ({string!r}): {ids} instead of {golden[i]}")
        if i < 20 and " ".join(map(str, tokenizer.encode(string).ids)) != special_golden[i]:
            sys.exit(f"string {i} ({string!r}) differs with special tokens")
    print(f"{file}: Hugging Face gives the golden ids of {name}")


if __name__ == "__main__":
    HERE = pathlib.Path(__file__).resolve().parent
    if len(sys.argv) == 4 and sys.argv[1] == "--check":
        check(HERE, sys.argv[2], sys.argv[3])
    else:
        write(pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else HERE)
