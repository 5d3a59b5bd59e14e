#!/usr/bin/env python3
"""Writes the demo's figures, as the program printed them, to bench/results/demo.md and README.md.

README.md holds them between two comment lines, so that the table shown there is always one that a
run has printed, with the commit and the machine that it came from.
"""

import argparse
import datetime
import json
import os
import subprocess

BEGIN = "<!-- demo figures: begin (scripts/demo.sh --record) -->"
END = "<!-- demo figures: end -->"
ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


def ask(*command: str) -> dict:
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def cpu_name() -> str:
    with open("/proc/cpuinfo", encoding="utf-8") as file:
        for line in file:
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return os.uname().machine


def replace_section(text: str, section: str) -> str:
    head, found, rest = text.partition(BEGIN)
    _, closed, tail = rest.partition(END)
    if not found or not closed:
        raise SystemExit(f"error: README.md lacks the lines '{BEGIN}' and '{END}'")
    return f"{head}{BEGIN}\n{section}\n{END}{tail}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--table", required=True, help="what `liquid eval ppl` printed")
    parser.add_argument("--liquid", required=True, help="the program")
    parser.add_argument("--model", required=True, help="the model it read")
    arguments = parser.parse_args()

    with open(arguments.table, encoding="utf-8") as file:
        table = file.read().strip("\n")
    version = ask(arguments.liquid, "version", "--json")
    cores = len(os.sched_getaffinity(0))
    caption = (
        f"{os.path.basename(arguments.model)}; {cpu_name()}, {cores} CPUs; "
        f"liquid {version.get('version', '')} at commit {version.get('commit', 'unknown')}; "
        f"{datetime.date.today().isoformat()}."
    )
    section = f"```text\n{table}\n```\n\n{caption}"

    results = os.path.join(ROOT, "bench", "results")
    os.makedirs(results, exist_ok=True)
    with open(os.path.join(results, "demo.md"), "w", encoding="utf-8") as file:
        file.write(
            "# The demo's figures\n\nMade with `scripts/demo.sh --record`; the model is the plain "
            "one that the demo downloads.\n\n" + section + "\n"
        )
    readme = os.path.join(ROOT, "README.md")
    with open(readme, encoding="utf-8") as file:
        text = file.read()
    with open(readme, "w", encoding="utf-8") as file:
        file.write(replace_section(text, section))


if __name__ == "__main__":
    main()
