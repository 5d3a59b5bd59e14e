"""`liquid serve` under many clients at once, at its end, with a step that hangs, and with
connections that do nothing."""

from __future__ import annotations

import asyncio
import os
import pathlib
import resource
import signal
import socket
import subprocess
import sys
import time

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests/cli"))
import checkpoints
import soak
from soak_client import Connection, get, request

BINARY = os.environ.get("LIQUID_BINARY", str(ROOT / "build/release/bin/liquid"))
SANITIZED = bool(os.environ.get("LIQUIDGEMM_SANITIZE"))
SLOWER = 10 if SANITIZED else 1
LONG_TOKENS = 4000


def quantized(folder: pathlib.Path, **changes) -> pathlib.Path:
    source, target = checkpoints.write_model(folder / "source", **changes), folder / "tiny-w4a8"
    subprocess.run([BINARY, "quantize", source, "-o", target], check=True, capture_output=True)
    return target


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> pathlib.Path:
    return quantized(tmp_path_factory.mktemp("soak"))


@pytest.fixture(scope="module")
def long_model(tmp_path_factory) -> pathlib.Path:
    return quantized(tmp_path_factory.mktemp("long"), max_position_embeddings=LONG_TOKENS + 96)


@pytest.fixture
def start(tmp_path):
    """Starts servers that end with the test."""
    servers = []

    def one(model, *flags) -> soak.Server:
        servers.append(soak.Server(BINARY, model, tmp_path / "serve.log", *flags))
        return servers[-1]

    yield one
    for server in servers:
        server.kill()


def test_many_clients(model, tmp_path):
    report = soak.soak(
        [
            str(model), "--binary", BINARY, "--seconds", "15", "--num-kv-pages", "8",
            "--max-words", "35", "--max-tokens", "220", "--slower", str(SLOWER),
            "--patience", str(60 * SLOWER),
        ],
        tmp_path / "soak.log",
    )  # fmt: skip
    print(report)
    assert not report["failures"], report
    assert report["compared"] > 50 and report["bad_inputs"] and report["left_in_stream"], report
    assert report["preemptions"] > 0 and report["prefix_hit_tokens"] > 0, report
    assert report["ended"]["abort"] > 0 and report["ended"]["error"] == 0, report


def long_request(**changes) -> bytes:
    body = {"prompt": [5] * 100, "max_tokens": LONG_TOKENS - 100, "ignore_eos": True}
    return request("/v1/completions", body | changes)


def test_a_second_signal_ends_it_at_once(long_model, start):
    server = start(long_model, "--threads", 1, "--shutdown-timeout", 600)

    async def twice() -> float:
        connection = Connection(server.port)
        await connection.send(long_request(stream=True, n=16))
        assert (await connection.head()).status == 200
        server.process.send_signal(signal.SIGTERM)
        while (await get(server.port, "/ready")).status != 503:
            await asyncio.sleep(0.005)
        assert server.process.poll() is None
        begin = time.monotonic()
        server.process.send_signal(signal.SIGTERM)
        server.process.wait(60 * SLOWER)
        return time.monotonic() - begin

    assert asyncio.run(asyncio.wait_for(twice(), 60 * SLOWER)) < 2 * SLOWER
    assert server.process.returncode == 128 + signal.SIGTERM


def test_the_watchdog_tells_of_a_step_that_takes_too_long(long_model, start, tmp_path):
    # All of a long prompt in one step, by plain C++: tens of times as long as the timeout.
    server = start(
        long_model, "--isa", "scalar", "--threads", 1, "--watchdog-timeout", 0.04,
        "--max-num-batched-tokens", LONG_TOKENS,
    )  # fmt: skip

    async def watch() -> list[tuple[int, str]]:
        seen = []
        connection = Connection(server.port)
        prompt = [5 + index % 200 for index in range(LONG_TOKENS - 10)]
        asking = asyncio.create_task(
            connection.exchange(long_request(prompt=prompt, max_tokens=1))
        )
        while not asking.done():
            reply = await get(server.port, "/ready")
            seen.append((reply.status, reply.body.decode()))
            assert (await get(server.port, "/health")).status == 200
            await asyncio.sleep(0.01)
        assert (await asking).status == 200
        connection.close()
        reply = await get(server.port, "/ready")
        return [*seen, (reply.status, reply.body.decode())]

    seen = asyncio.run(asyncio.wait_for(watch(), 60 * SLOWER))
    assert any(status == 503 and "a step of the engine" in body for status, body in seen), seen
    assert seen[-1][0] == 200
    server.process.send_signal(signal.SIGTERM)
    assert server.process.wait(60 * SLOWER) == 0
    log = (tmp_path / "serve.log").read_text()
    assert "watchdog: a step has been running" in log and "watchdog: the step has ended" in log


def test_a_thousand_idle_connections_are_cheap(model, start):
    idle = 1000
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < idle + 200:
        pytest.skip(f"only {hard} open files are allowed")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, idle + 200), hard))
    server = start(model)
    ask = request("/v1/completions", {"prompt": "a", "max_tokens": 2})

    async def exchange(connection: Connection) -> None:
        assert (await connection.exchange(ask)).status == 200

    async def fill() -> tuple[float, float]:
        first = Connection(server.port)
        await exchange(first)
        before = server.resident_mib()
        connections = [Connection(server.port) for _ in range(idle)]
        for connection in connections:  # each was used once, and stays
            await exchange(connection)
        after = server.resident_mib()
        await exchange(first)
        for connection in [first, *connections]:
            connection.close()
        return before, after

    before, after = asyncio.run(fill())
    print(f"{before:.1f} MiB, with {idle} connections {after:.1f} MiB")
    if not SANITIZED:
        assert after - before < 50
