#!/usr/bin/env python3
"""Time to the first output, and peak memory, of a command that is started several times.

    scripts/measure_start.py -- liquid run qwen-w4a8 --raw -p x -n 1 --quiet
    scripts/measure_start.py --no-huge-pages -- liquid run ...
    scripts/measure_start.py --cold qwen-w4a8 -- liquid run qwen-w4a8 ...

Anonymous memory (weights, KV cache, buffers) and pages of mapped files are told apart: the latter
the system takes back whenever it wants. They are read from /proc a thousand times a second, so a
peak that is shorter than that may be missed. Linux only, no packages.
"""

from __future__ import annotations

import argparse
import ctypes
import dataclasses
import os
import pathlib
import statistics
import subprocess
import threading
import time

PR_SET_THP_DISABLE = 41


@dataclasses.dataclass
class Peaks:
    anonymous: int = 0  # bytes
    file: int = 0


def watch(process: subprocess.Popen) -> Peaks:
    """Looks at a process until it ends."""
    peaks = Peaks()
    while process.poll() is None:
        try:
            status = pathlib.Path(f"/proc/{process.pid}/status").read_text()
        except OSError:
            break
        sizes = dict(line.split(":", 1) for line in status.splitlines())
        if "RssAnon" in sizes:  # a process that has just ended has none
            peaks.anonymous = max(peaks.anonymous, int(sizes["RssAnon"].split()[0]) << 10)
            peaks.file = max(peaks.file, int(sizes["RssFile"].split()[0]) << 10)
        time.sleep(0.001)
    process.wait()
    return peaks


def drop_from_page_cache(folder: pathlib.Path) -> None:
    for file in folder.iterdir():
        if file.is_file():
            descriptor = os.open(file, os.O_RDONLY)
            os.fsync(descriptor)
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
            os.close(descriptor)


def no_huge_pages() -> None:
    ctypes.CDLL(None).prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0)


def start_once(command: list[str], huge_pages: bool) -> tuple[float, Peaks]:
    begin = time.perf_counter()
    process = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        preexec_fn=None if huge_pages else no_huge_pages,
    )
    first = []

    def read() -> None:
        process.stdout.read(1)
        first.append(time.perf_counter() - begin)
        process.stdout.read()

    reader = threading.Thread(target=read)
    reader.start()
    peaks = watch(process)
    reader.join()
    if process.returncode != 0:
        raise SystemExit(f"error: {command[0]} ended with exit code {process.returncode}")
    return first[0], peaks


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--cold", type=pathlib.Path, metavar="FOLDER",
                        help="before each run, drop this folder's files from the page cache")
    parser.add_argument("--no-huge-pages", action="store_true",
                        help="what it would be without them")
    parser.add_argument("command", nargs="+")
    options = parser.parse_args()
    seconds, anonymous, file = [], [], []
    for _ in range(options.runs):
        if options.cold:
            drop_from_page_cache(options.cold)
        first, peaks = start_once(options.command, not options.no_huge_pages)
        seconds.append(first)
        anonymous.append(peaks.anonymous)
        file.append(peaks.file)
    print(
        f"first output after {statistics.median(seconds):.2f} s (median of {options.runs}; "
        f"{min(seconds):.2f} to {max(seconds):.2f}); peak {max(anonymous) / 1e6:.0f} MB anonymous, "
        f"{max(file) / 1e6:.0f} MB of files"
    )


if __name__ == "__main__":
    main()
