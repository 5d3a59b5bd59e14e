#!/usr/bin/env python3
"""Keeps `liquid serve` busy with many clients at once, good, impatient and bad ones, and checks
that every answer is the one that its request gets alone, that none is lost, and that nothing is
left behind.

    tests/server/soak.py MODEL --binary build/release/bin/liquid --seconds 600

Prints a JSON report and exits with 1 if anything was wrong. Standard library only.
"""

from __future__ import annotations

import argparse
import asyncio
import collections
import contextlib
import json
import os
import pathlib
import random
import signal
import statistics
import subprocess
import sys
import time

from soak_cases import Case, Stream, ask_alone, bad_requests, goldens, make_cases, whole_answer
from soak_client import Broken, Connection, Reply, get, metrics, request

GONE_SECONDS = 2.0  # after the last client has left, nothing runs
LAST_TOKENS = 300  # of the answers that SIGTERM finds on their way


class Server:
    """The program, its log in a file."""

    def __init__(self, binary, model, log: pathlib.Path, *flags):
        with open(log, "wb") as err:
            self.process = subprocess.Popen(
                [binary, "serve", model, "--port", "0", *map(str, flags)],
                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=err, text=True,
            )  # fmt: skip
        line = self.process.stdout.readline()
        if not line.startswith("Ready: "):
            self.kill()
            raise RuntimeError(f"not ready: {line}{log.read_text()}")
        self.port = int(line.rsplit(":", 1)[1])

    def resident_mib(self) -> float:
        status = pathlib.Path(f"/proc/{self.process.pid}/status").read_text()
        return int(status.split("VmRSS:")[1].split()[0]) / 1024

    def open_files(self) -> int:
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))

    def kill(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self.process.stdout.close()


class Soak:
    def __init__(self, port: int, cases: list[Case], seed: int, patience: float):
        self.port = port
        self.cases = cases
        self.seed = seed
        self.patience = patience  # seconds that a request may take
        self.bad = bad_requests()
        self.counts = collections.Counter()
        self.failures: list[str] = []
        self.ids: set[str] = set()

    def fail(self, text: str) -> None:
        self.failures.append(text[:2000])

    def check(self, case: Case, answer, how: str) -> None:
        if answer.id in self.ids:
            self.fail(f"{answer.id} was the id of another answer")
        self.ids.add(answer.id)
        self.counts["compared"] += len(answer.choices)
        if not answer.same(case.golden):
            self.fail(f"{how}: {case.body}\n got {answer}\n not {case.golden}")

    async def refused(self, reply: Reply, what) -> bool:
        """True for a full queue; anything else but 200 is a failure."""
        if reply.status == 429:
            self.counts["refused_429"] += 1
            if "retry-after" not in reply.fields:
                self.fail("429 without Retry-After")
            await asyncio.sleep(random.random())  # sooner than it says
            return True
        if reply.status != 200:
            self.fail(f"{reply.status} to {what}: {reply.body[:500]}")
            return True
        return False

    async def whole(self, connection: Connection, case: Case) -> None:
        reply = await connection.exchange(case.bytes(stream=False))
        if not await self.refused(reply, case.body):
            self.check(case, whole_answer(case, reply), "whole")
            self.counts["whole"] += 1

    async def streamed(self, connection: Connection, case: Case, leave_after: int = -1) -> None:
        """`leave_after` so many events the client goes; with -1 it stays."""
        await connection.send(case.bytes(stream=True))
        reply = await connection.head()
        if reply.status != 200:
            reply.body = await connection.body(reply)
            await self.refused(reply, case.body)
            return
        stream, seen = Stream(case), 0
        async for data in connection.events(reply):
            stream.take(data)
            seen += 1
            if seen == leave_after:
                self.counts["left_in_stream"] += 1
                connection.close(reset=leave_after % 2 == 0)
                return
        self.check(case, stream.end(), "streamed")
        self.counts["streamed"] += 1

    async def left_before_reply(self, connection: Connection, case: Case, wait: float) -> None:
        await connection.send(case.bytes(stream=False))
        await asyncio.sleep(wait)
        connection.close(reset=wait > 0.05)
        self.counts["left_before_reply"] += 1

    async def half_sent(self, connection: Connection, case: Case, share: float) -> None:
        data = case.bytes(stream=False)
        await connection.send(data[: max(1, int(share * len(data)))])
        await asyncio.sleep(share / 10)
        connection.close(reset=share > 0.5)
        self.counts["half_sent"] += 1

    async def wrong(self, connection: Connection, data: bytes) -> None:
        reply = await connection.exchange(data)
        self.counts["bad_inputs"] += 1
        try:
            error = reply.json()["error"]
            shaped = bool(error["message"]) and {"type", "param", "code"} <= error.keys()
        except (ValueError, KeyError, TypeError):
            shaped = False
        if not 400 <= reply.status < 500 or not shaped:
            self.fail(f"{reply.status} to {data[:300]!r}: {reply.body[:300]!r}")

    async def one(self, connection: Connection, draw: random.Random) -> None:
        case, kind = draw.choice(self.cases), draw.random()
        if kind < 0.35:
            await self.whole(connection, case)
        elif kind < 0.70:
            await self.streamed(connection, case)
        elif kind < 0.80:
            await self.streamed(connection, case, draw.randint(1, 12))
        elif kind < 0.84:
            await self.left_before_reply(connection, case, 0.1 * draw.random())
        elif kind < 0.90:
            await self.half_sent(connection, case, draw.random())
        else:
            await self.wrong(connection, draw.choice(self.bad))

    async def client(self, number: int, until: float) -> None:
        draw = random.Random(f"{self.seed} {number}")
        connection = Connection(self.port)
        while time.monotonic() < until and len(self.failures) < 20:
            self.counts["requests"] += 1
            try:
                await asyncio.wait_for(self.one(connection, draw), self.patience)
                if draw.random() < 0.2:
                    connection.close()
            except asyncio.TimeoutError:
                self.fail(f"no end within {self.patience} s")
                connection.close()
            except (Broken, OSError, EOFError, ValueError, KeyError, IndexError) as error:
                self.fail(f"{type(error).__name__}: {error}")
                connection.close()
        connection.close()


async def watch_memory(server: Server, samples: list[float], seconds: float) -> None:
    while True:
        samples.append(server.resident_mib())
        await asyncio.sleep(max(0.1, seconds / 600))


async def leave_all_at_once(soak: Soak, clients: int) -> float:
    """All clients start long streams and go; seconds until nothing runs, waits or holds a page."""
    body = {"prompt": [5, 6, 7], "max_tokens": 100, "ignore_eos": True, "stream": True}
    connections = [Connection(soak.port) for _ in range(clients)]
    for connection in connections:
        await connection.send(request("/v1/completions", body))
    await asyncio.sleep(0.1)
    for connection in connections:
        connection.close(reset=True)
    soak.counts["left_at_once"] += clients
    begin = time.monotonic()
    while time.monotonic() < begin + soak.patience:
        if not left_over(await metrics(soak.port)):
            break
        await asyncio.sleep(0.02)
    return time.monotonic() - begin


def left_over(now: dict[str, float]) -> dict[str, float]:
    names = ("num_requests_running", "num_requests_waiting", "kv_cache_usage_perc")
    return {name: now[name] for name in (*names, 'kv_pages{state="used"}') if now[name]}


async def answers_begun(soak: Soak) -> float:
    """Under way or ended: who only counts what is under way misses what a busy machine hides."""
    now = await metrics(soak.port)
    ended = sum(value for name, value in now.items() if name.startswith("request_success"))
    return now["num_requests_running"] + now["num_requests_waiting"] + ended


async def drain(soak: Soak, server: Server, longest: int) -> None:
    """SIGTERM among streams: those that began end as they should, and nothing new begins."""
    case = Case("/v1/completions", {"prompt": "Once", "max_tokens": LAST_TOKENS, "n": 2,
                                    "temperature": 0, "ignore_eos": True})  # fmt: skip
    alone = Connection(server.port)
    case.golden = await ask_alone(alone, case)
    alone.close()
    begun = await answers_begun(soak)
    streams = [Connection(server.port) for _ in range(8)]
    for connection in streams:
        await connection.send(case.bytes(stream=True))
    # Thousands of steps behind those: however fast it is, the server is there to be asked.
    keepers = [Connection(server.port) for _ in range(2)]
    for connection in keepers:
        await connection.send(request("/v1/completions", {
            "prompt": [5], "max_tokens": longest - 1, "n": 8, "ignore_eos": True, "stream": True
        }))  # fmt: skip
    while await answers_begun(soak) < begun + 32:
        await asyncio.sleep(0.001)
    server.process.send_signal(signal.SIGTERM)

    async def follow(connection: Connection) -> None:
        stream, reply = Stream(case), await connection.head()
        async for data in connection.events(reply):
            stream.take(data)
        soak.check(case, stream.end(), "while draining")
        soak.counts["finished_in_drain"] += 1

    while server.process.poll() is None and not soak.counts["refused_503_in_drain"]:
        with contextlib.suppress(OSError, Broken, EOFError):
            if (await get(server.port, "/ready")).status != 503:
                continue  # the signal is still on its way
            connection = Connection(server.port)
            reply = await connection.exchange(case.bytes(stream=False))
            connection.close()
            soak.counts["refused_503_in_drain"] += 1
            if reply.status != 503 or "retry-after" not in reply.fields:
                soak.fail(f"{reply.status} while draining: {reply.body[:300]!r}")
    for connection in keepers:
        connection.close(reset=True)
    work = [follow(connection) for connection in streams]
    for outcome in await asyncio.gather(*work, return_exceptions=True):
        if outcome is not None:
            soak.fail(f"while draining: {type(outcome).__name__}: {outcome}")
    for name, least in (("finished_in_drain", 8), ("refused_503_in_drain", 1)):
        if soak.counts[name] < least:
            soak.fail(f"{name}: {soak.counts[name]}")
    if server.process.wait(soak.patience) != 0:
        soak.fail(f"exit code {server.process.returncode} after SIGTERM")


def memory_report(soak: Soak, samples: list[float], strict: bool) -> dict:
    """Medians of the second and the last quarter: the first one fills caches."""
    quarter = len(samples) // 4
    early = statistics.median(samples[quarter : 2 * quarter])
    late = statistics.median(samples[3 * quarter :])
    if strict and late > 1.05 * early + 8:
        soak.fail(f"memory grows: {early:.1f} MiB in the second quarter, {late:.1f} in the last")
    return {"second_quarter_mib": round(early, 1), "last_quarter_mib": round(late, 1),
            "max_mib": round(max(samples), 1)}  # fmt: skip


async def run(server: Server, options) -> dict:
    draw = random.Random(options.seed)
    made = make_cases(draw, options.cases, options.max_tokens, options.max_words)
    cases = await goldens(server.port, draw, made)
    soak = Soak(server.port, cases, options.seed, options.patience)
    files, samples = server.open_files(), []
    watcher = asyncio.create_task(watch_memory(server, samples, options.seconds))
    until = time.monotonic() + options.seconds
    await asyncio.gather(*(soak.client(number, until) for number in range(options.clients)))
    watcher.cancel()

    gone = await leave_all_at_once(soak, options.clients)
    if gone > GONE_SECONDS * options.slower:
        soak.fail(f"{gone:.2f} s until nothing ran")
    end = await metrics(server.port)
    if left_over(end):
        soak.fail(f"left over: {left_over(end)}")
    # Closed connections are let go as the server comes to read their end.
    for _ in range(100):
        if server.open_files() <= files:
            break
        await asyncio.sleep(0.02)
    if server.open_files() > files:
        soak.fail(f"{server.open_files()} open files, {files} before")
    if (await get(server.port, "/ready")).status != 200:
        soak.fail("not ready at the end")
    memory = memory_report(soak, samples, strict=options.slower == 1)
    await drain(soak, server, options.max_model_len)
    return {
        "seed": options.seed,
        "seconds": options.seconds,
        "clients": options.clients,
        "cases": len(cases),
        **dict(sorted(soak.counts.items())),
        "preemptions": end["num_preemptions_total"],
        "steps": end["engine_steps_total"],
        "prefix_hit_tokens": end["prefix_cache_hits_total"],
        "ended": {k.split('"')[1]: v for k, v in end.items() if k.startswith("request_success")},
        "seconds_until_gone": round(gone, 3),
        "memory": memory,
        "failures": soak.failures,
    }


def soak(arguments: list[str], log: pathlib.Path) -> dict:
    """The report of a whole run, from the server's start to its end."""
    options = parser().parse_args(arguments)
    server = Server(options.binary, options.model, log, "--max-model-len", options.max_model_len,
                    "--num-kv-pages", options.num_kv_pages, "--max-num-seqs", 16,
                    "--max-queued-requests", options.max_queued_requests,
                    "--shutdown-timeout", 2 * options.patience,
                    "--threads", options.threads)  # fmt: skip
    try:
        return asyncio.run(run(server, options))
    finally:
        server.kill()


def parser() -> argparse.ArgumentParser:
    result = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    result.add_argument("model")
    result.add_argument("--binary", default="build/release/bin/liquid")
    result.add_argument("--seconds", type=float, default=60)
    result.add_argument("--clients", type=int, default=64)
    result.add_argument("--cases", type=int, default=60, help="different good requests")
    result.add_argument("--max-tokens", type=int, default=64, help="of an answer")
    result.add_argument("--max-words", type=int, default=120, help="of a prompt")
    result.add_argument("--max-model-len", type=int, default=512)
    result.add_argument("--num-kv-pages", type=int, default=20, help="few: requests are preempted")
    result.add_argument("--max-queued-requests", type=int, default=32)
    result.add_argument("--threads", type=int, default=1, help="of the engine")
    result.add_argument("--seed", type=int, default=time.time_ns() % (1 << 32))
    result.add_argument("--patience", type=float, default=60, help="seconds a request may take")
    result.add_argument("--slower", type=float, default=1, help="of a build with a sanitizer")
    result.add_argument("--log", type=pathlib.Path, default=pathlib.Path("soak.log"))
    return result


def main() -> int:
    report = soak(sys.argv[1:], parser().parse_args().log)
    print(json.dumps(report, indent=2))
    return 1 if report["failures"] else 0


if __name__ == "__main__":
    sys.exit(main())
