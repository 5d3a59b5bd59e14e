#!/usr/bin/env python3
"""record_demo.py RECORD README: puts the tables that `liquid eval summary --record` wrote into README.

The README holds them between two comment lines, so that what it shows is always what a run printed.
"""

import sys

BEGIN = "<!-- demo figures: begin (scripts/demo.sh --record) -->"
END = "<!-- demo figures: end -->"


def main(record: str, readme: str) -> None:
    with open(record, encoding="utf-8") as file:
        section = file.read().strip("\n")
    with open(readme, encoding="utf-8") as file:
        text = file.read()
    head, found, rest = text.partition(BEGIN)
    _, closed, tail = rest.partition(END)
    if not found or not closed:
        sys.exit(f"error: {readme} lacks the lines '{BEGIN}' and '{END}'")
    with open(readme, "w", encoding="utf-8") as file:
        file.write(f"{head}{BEGIN}\n{section}\n{END}{tail}")


if __name__ == "__main__":
    main(*sys.argv[1:])
