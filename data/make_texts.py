#!/usr/bin/env python3
"""Makes the two texts of this folder from Debian's packages dict-devil and dict-jargon.

    apt-get install dict-devil dict-jargon
    data/make_texts.py

Both dictionaries come hard-wrapped with the mark-up of a dictionary server. What comes out is what
a language model is used to: UTF-8, one line a paragraph, an empty line between paragraphs, lines of
verse kept. data/README.md lists the hashes.
"""

import argparse
import gzip
import hashlib
import pathlib
import re

DICTIONARIES = pathlib.Path("/usr/share/dictd")
HERE = pathlib.Path(__file__).resolve().parent

# Of the Jargon File's 2,300 entries every third is kept: the whole alphabet in a modest file.
JARGON_STRIDE = 3


def read_dictionary(name: str) -> str:
    """The text of a dictzip file, which is a gzip file with an index in its header."""
    with gzip.open(DICTIONARIES / f"{name}.dict.dz", "rt", encoding="utf-8") as file:
        return file.read()


def blocks(lines: list[str]) -> list[list[str]]:
    """Runs of lines that are not empty."""
    result: list[list[str]] = [[]]
    for line in lines:
        if line.strip():
            result[-1].append(line.rstrip())
        elif result[-1]:
            result.append([])
    return [block for block in result if block]


def tidy(text: str) -> str:
    """Single spaces; no emphasis marks, which stand around whole words."""
    text = re.sub(r"(?<!\w)_([^_]+)_(?!\w)", r"\1", text)
    return re.sub(r"\s+", " ", text).strip()


def devil_block(block: list[str]) -> list[str]:
    """Prose joined to one line, verse line by line; a prose paragraph may begin indented."""
    indented = [line.startswith("    ") for line in block]
    out: list[str] = []
    previous_is_prose = False
    for index, line in enumerate(block):
        opens_prose = indented[index] and index + 1 < len(block) and not indented[index + 1]
        if indented[index] and not opens_prose:
            out.append(tidy(line))
            previous_is_prose = False
        elif previous_is_prose and not opens_prose:
            out[-1] = tidy(out[-1] + " " + line)
        else:
            out.append(tidy(line))
            previous_is_prose = True
    return out


def devils_dictionary() -> str:
    text = read_dictionary("devil")
    start = text.index("_The Devil's Dictionary_ was begun")  # after the distributor's header
    parts = [devil_block(block) for block in blocks(text[start:].splitlines())]
    parts = [part for part in parts if "".join(part) != "abcdefghijklmnopqrstuvwxyz"]
    return "\n\n".join("\n".join(part) for part in parts) + "\n"


def jargon_entries(text: str) -> list[list[str]]:
    """Lists of lines: the headword, then its definition."""
    entries: list[list[str]] = []
    lines = text[text.index("\n/dev/null\n") :].splitlines()
    for line, following in zip(lines, lines[1:] + [""]):
        # A headword stands at the margin; the line below it holds pronunciation and word class.
        if line[:1].strip() and (following == "" or following.startswith(" ")):
            entries.append([line])
        elif entries:
            entries[-1].append(line)
    return entries


def jargon_entry(lines: list[str]) -> list[str]:
    """The paragraphs of an entry; drawings, samples of code and addresses are left out."""
    headword = tidy(lines[0])
    paragraphs = []
    for block in blocks(lines[2:]):
        text = " ".join(block)
        if any(line.startswith("     ") or not line.startswith("    ") for line in block):
            continue
        if re.search(r"[│─┼┤├]|https?:|www\.|@\w", text):
            continue
        # "{link}" may be broken over two lines, with the space on the wrong side of the brace.
        text = re.sub(r"\{\s*([^{}]*?)\s*\}", r"\1", text)
        text = re.sub(r"“\s+", "“", re.sub(r"\s+”", "”", text)).replace("\u00ad", "")
        paragraphs.append(tidy(text))
    if not paragraphs:
        return []
    paragraphs[0] = f"{headword}: {paragraphs[0]}"
    return paragraphs


def jargon_file() -> str:
    entries = jargon_entries(read_dictionary("jargon"))
    parts = [jargon_entry(entry) for entry in entries[::JARGON_STRIDE]]
    return "\n\n".join(paragraph for part in parts for paragraph in part) + "\n"


def main() -> None:
    argparse.ArgumentParser(description=__doc__).parse_args()
    for name, text in (
        ("devils-dictionary.txt", devils_dictionary()),
        ("jargon-file.txt", jargon_file()),
    ):
        data = text.encode("utf-8")
        (HERE / name).write_bytes(data)
        print(f"{hashlib.sha256(data).hexdigest()}  {name}  ({len(data)} bytes)")


if __name__ == "__main__":
    main()
