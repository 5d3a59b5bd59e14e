"""Runs the real program the way a user does, and measures what it took."""

from __future__ import annotations

import dataclasses
import json
import os
import pathlib
import re
import resource
import signal
import subprocess
import time

import pytest

import checkpoints

ROOT = pathlib.Path(__file__).resolve().parents[2]
BINARY = os.environ.get("LIQUID_BINARY", str(ROOT / "build/release/bin/liquid"))
SANITIZED = bool(os.environ.get("LIQUIDGEMM_SANITIZE"))
# A sanitizer makes everything about ten times slower and keeps freed memory for a while.
TIMEOUT = 600 if SANITIZED else 60
MAX_RSS_MIB = 300


@dataclasses.dataclass
class Outcome:
    code: int  # negative: killed by that signal
    stdout: bytes
    stderr: str
    max_rss_mib: float

    @property
    def text(self) -> str:
        return self.stdout.decode("utf-8")

    def json(self):
        return json.loads(self.text)

    def error_lines(self) -> list[str]:
        return [line for line in self.stderr.splitlines() if re.match(r"(liquid: )?error\b", line)]


class Liquid:
    """Calls the program with a home, a cache and a working folder of its own."""

    def __init__(self, folder: pathlib.Path):
        self.folder = folder
        self.environment = {
            # What these tests expect are the CPU's figures, on a machine with a GPU too.
            "LIQUIDGEMM_DEVICE": "cpu",
            "PATH": os.environ["PATH"],
            "HOME": str(folder / "home"),
            "XDG_CACHE_HOME": str(folder / "cache"),
            "TMPDIR": str(folder),
            "LANG": "C.UTF-8",
            **{k: v for k, v in os.environ.items() if k.endswith("SAN_OPTIONS")},
        }
        (folder / "home").mkdir(parents=True, exist_ok=True)

    def start(self, *arguments, preexec=None, **options) -> subprocess.Popen:
        def prepare() -> None:
            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
            if preexec:
                preexec()

        return subprocess.Popen(
            [BINARY, *map(str, arguments)],
            env=self.environment,
            cwd=self.folder,
            preexec_fn=prepare,
            **{"stdin": subprocess.DEVNULL, **options},
        )

    def __call__(self, *arguments, preexec=None, timeout: float = TIMEOUT) -> Outcome:
        out, err = self.folder / "stdout.bin", self.folder / "stderr.txt"
        with open(out, "wb") as stdout, open(err, "wb") as stderr:
            process = self.start(*arguments, preexec=preexec, stdout=stdout, stderr=stderr)
            deadline = time.monotonic() + timeout
            while True:
                pid, status, usage = os.wait4(process.pid, os.WNOHANG)
                if pid:
                    break
                if time.monotonic() > deadline:
                    process.send_signal(signal.SIGKILL)
                    os.wait4(process.pid, 0)
                    process.returncode = -signal.SIGKILL
                    pytest.fail(f"still running after {timeout} s: liquid {arguments}")
                time.sleep(0.005)
        process.returncode = os.waitstatus_to_exitcode(status)
        return Outcome(
            process.returncode,
            out.read_bytes(),
            err.read_text(errors="replace"),
            usage.ru_maxrss / 1024,
        )

    def ok(self, *arguments, **options) -> Outcome:
        outcome = self(*arguments, **options)
        assert outcome.code == 0, f"liquid {arguments}: exit {outcome.code}\n{outcome.stderr}"
        return outcome

    def fails(self, *arguments, naming=(), **options) -> Outcome:
        """Exit code 1, one error that names what it should, bounded memory, nothing on stdout."""
        outcome = self(*arguments, **options)
        shown = f"liquid {arguments}: exit {outcome.code}\n{outcome.stderr}"
        assert outcome.code == 1, shown
        assert len(outcome.error_lines()) == 1, shown
        for word in naming:
            assert word in outcome.error_lines()[0], f"'{word}' is not named by\n{shown}"
        assert "terminate called" not in outcome.stderr and "Sanitizer" not in outcome.stderr, shown
        if not SANITIZED:
            assert outcome.max_rss_mib < MAX_RSS_MIB, f"{outcome.max_rss_mib} MiB\n{shown}"
        return outcome


@pytest.fixture(scope="session", autouse=True)
def binary_exists():
    if not os.access(BINARY, os.X_OK):
        pytest.exit(f"{BINARY} is missing; build it or set LIQUID_BINARY", returncode=1)


@pytest.fixture
def liquid(tmp_path) -> Liquid:
    return Liquid(tmp_path)


@pytest.fixture(scope="session")
def model(tmp_path_factory) -> pathlib.Path:
    """A random Llama in BF16. Tests that change it copy it first."""
    return checkpoints.write_model(tmp_path_factory.mktemp("source") / "tiny")


@pytest.fixture(scope="session")
def gguf(tmp_path_factory) -> pathlib.Path:
    return checkpoints.write_gguf(tmp_path_factory.mktemp("gguf") / "tiny.gguf")


@pytest.fixture(scope="session")
def quantized(tmp_path_factory, model) -> pathlib.Path:
    """The model, quantized. Tests that change it copy it first."""
    folder = tmp_path_factory.mktemp("quantized")
    Liquid(folder).ok("quantize", model, "-o", folder / "tiny-w4a8")
    return folder / "tiny-w4a8"
