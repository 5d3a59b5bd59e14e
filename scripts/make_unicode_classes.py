#!/usr/bin/env python3
"""Writes src/model/tokenizer/unicode_classes.inc: what every code point is to a tokenizer.

The classes are asked of Hugging Face `tokenizers` itself, not of a Unicode table, because its
parts follow different Unicode versions: its regex engine decides \\p{L}, \\p{N} and \\s, the Rust
standard library decides what `Digits` splits off, the regex crate decides \\w around a
`single_word` token, and its normaliser is older than all of them. A tokenizer that asked one
up-to-date table would cut a few rare scripts differently.

Needs: pip install tokenizers==0.22.2 unicodedata2 (the newest Unicode version there is).
Use: make_unicode_classes.py > src/model/tokenizer/unicode_classes.inc
"""
import tokenizers
import unicodedata2
from tokenizers import AddedToken, Regex, Tokenizer, models, normalizers, pre_tokenizers

LETTER, NUMBER, SPACE, DIGIT, WORD, INERT = 1, 2, 4, 8, 16, 32
CODE_POINTS = [c for c in range(0x110000) if not 0xD800 <= c <= 0xDFFF]
EVERYTHING = "".join(map(chr, CODE_POINTS))


def matching(pattern):
    split = pre_tokenizers.Split(Regex(pattern), "removed", invert=True)
    return {ord(c) for piece, _ in split.pre_tokenize_str(EVERYTHING) for c in piece}


def split_off_as_digits():
    digits = pre_tokenizers.Digits(individual_digits=True)
    single = {ord(p) for p, _ in digits.pre_tokenize_str(EVERYTHING) if len(p) == 1}
    return {c for c in single if len(digits.pre_tokenize_str("a" + chr(c))) == 2}


def word_characters():
    tokenizer = Tokenizer(models.WordLevel({"[UNK]": 0}, unk_token="[UNK]"))
    tokenizer.add_tokens([AddedToken("@", single_word=True, normalized=False)])
    words, step = set(), 1 << 16
    for first in range(0, len(CODE_POINTS), step):
        chunk = [c for c in CODE_POINTS[first:first + step] if c != ord("@")]
        for c, encoding in zip(chunk, tokenizer.encode_batch([chr(c) + "@" for c in chunk])):
            if 1 not in encoding.ids:
                words.add(c)
    return words


def inert_in_nfc():
    """What today's Unicode moves or composes, but the normaliser takes for unassigned."""
    nfc = normalizers.NFC().normalize_str

    def differs(text):
        return nfc(text) != unicodedata2.normalize("NFC", text)

    inert = {c for c in CODE_POINTS if unicodedata2.combining(chr(c))
             and any(differs(t) for t in ("x" + chr(c) + "\u0334", "x\u0345" + chr(c)))}
    pairs = []
    for c in CODE_POINTS:
        parts = unicodedata2.decomposition(chr(c)).split()
        if len(parts) == 2 and not parts[0].startswith("<"):
            pairs.append((c, int(parts[0], 16), int(parts[1], 16)))
    known_seconds = {second for _, first, second in pairs if not differs(chr(first) + chr(second))}
    for composite, first, second in pairs:
        if differs(chr(first) + chr(second)):
            inert |= {composite, first if second in known_seconds else second}
    return inert


def main():
    bits = [0] * 0x110000
    for bit, members in ((LETTER, matching(r"\p{L}")), (NUMBER, matching(r"\p{N}")),
                         (SPACE, matching(r"\s")), (DIGIT, split_off_as_digits()),
                         (WORD, word_characters()), (INERT, inert_in_nfc())):
        for c in members:
            bits[c] |= bit
    starts = [(c, bits[c]) for c in range(0x110000) if c == 0 or bits[c] != bits[c - 1]]
    print(f"// Written by scripts/make_unicode_classes.py from tokenizers {tokenizers.__version__};"
          " do not edit.")
    print("// {first code point of a range, its class bits}; a range ends where the next begins.")
    line = ""
    for c, b in starts:
        item = f"{{0x{c:x}, {b}}},"
        if len(line) + 1 + len(item) > 100:
            print(line)
            line = ""
        line += (" " if line else "") + item
    print(line)


if __name__ == "__main__":
    main()
