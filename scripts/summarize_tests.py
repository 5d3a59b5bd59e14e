#!/usr/bin/env python3
"""Adds up what GoogleTest, ctest and pytest wrote, and prints "N passed, N failed, N skipped"."""

import pathlib
import sys
import xml.etree.ElementTree as ElementTree


def count_cases(path: pathlib.Path) -> tuple[int, int, int]:
    """(passed, failed, skipped) of one JUnit-like file."""
    passed = failed = skipped = 0
    for case in ElementTree.parse(path).iter("testcase"):
        if case.get("status") in ("notrun", "disabled"):
            continue
        if case.find("failure") is not None or case.find("error") is not None:
            failed += 1
        elif case.find("skipped") is not None or case.get("result") == "skipped":
            skipped += 1
        else:
            passed += 1
    return passed, failed, skipped


def main() -> int:
    folder = pathlib.Path(sys.argv[1])
    totals = [0, 0, 0]

    def add(counts: tuple[int, int, int]) -> None:
        for index, count in enumerate(counts):
            totals[index] += count

    counted = {}
    for path in sorted(folder.glob("gtest/*.xml")):
        counted[path.stem] = count_cases(path)
        add(counted[path.stem])
    # Programs that are no GoogleTest program, those that died before they could report, and those
    # that failed after their last test case (a leak found at exit).
    if (folder / "ctest.xml").exists():
        for case in ElementTree.parse(folder / "ctest.xml").iter("testcase"):
            name, succeeded = case.get("name"), case.get("status") == "run"
            if name not in counted:
                add((1, 0, 0) if succeeded else (0, 1, 0))
            elif not succeeded and counted[name][1] == 0:
                add((0, 1, 0))
    if (folder / "pytest.xml").exists():
        add(count_cases(folder / "pytest.xml"))
    else:
        add((0, 1, 0))
    print(f"{totals[0]} passed, {totals[1]} failed, {totals[2]} skipped")
    return 0 if totals[0] > 0 and totals[1] == 0 else 1


if __name__ == "__main__":
    sys.exit(main())
