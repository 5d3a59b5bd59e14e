#!/usr/bin/env python3
"""What `liquid serve` adds to the bare engine: milliseconds to the first token, and a share of the
throughput.

    scripts/measure_server.py MODEL --binary build/release/bin/liquid
    scripts/measure_server.py MODEL --threads 2 --rounds 5 --prompts 96

First token: streamed requests, one at a time over one connection. Of each the server's own time
from arrival at the engine to the first token (the step of its histogram's sum) is taken off what
the client's clock says, from sending the request to the first event. What is left is HTTP, JSON,
validation, delivery and the client.

Throughput: `liquid bench throughput` and `liquid bench serve` with the same lengths and number of
requests, 16 at once, turn by turn, each round the other one first and with a fresh server. Leave a
CPU to the clients (--threads 1 of two): otherwise they take the engine's.

Prints JSON. Standard library only.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import random
import statistics
import subprocess
import sys
import time


class Server:
    def __init__(self, options):
        self.process = subprocess.Popen(
            [options.binary, "serve", options.model, "--port", "0", "--no-access-log",
             "--threads", str(options.threads), "--max-num-seqs", "16"],
            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
        )  # fmt: skip
        line = self.process.stdout.readline()
        if not line.startswith("Ready: "):
            raise RuntimeError("the server did not start")
        self.url = line.removeprefix("Ready: ").strip()

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *_) -> None:
        self.process.terminate()
        self.process.wait()
        self.process.stdout.close()


def engine_times(connection: http.client.HTTPConnection) -> tuple[float, int]:
    """Sum of seconds to the first token, and of how many requests."""
    connection.request("GET", "/metrics")
    found = {}
    for line in connection.getresponse().read().decode().splitlines():
        name, _, value = line.rpartition(" ")
        found[name.split("{")[0]] = value
    name = "liquidgemm:time_to_first_token_seconds"
    return float(found[name + "_sum"]), int(found[name + "_count"])


def first_tokens(options, seed: str) -> tuple[list[float], list[float]]:
    """Milliseconds by the client's clock and by the engine's, of each request."""
    draw = random.Random(seed)
    client, engine = [], []
    with Server(options) as server:
        connection = http.client.HTTPConnection(server.url.removeprefix("http://"))
        for _ in range(options.requests + 3):
            prompt = [draw.randrange(3, 250) for _ in range(16)]
            body = json.dumps({"prompt": prompt, "max_tokens": 4, "temperature": 0,
                               "ignore_eos": True, "stream": True})  # fmt: skip
            before, count = engine_times(connection)
            begin = time.perf_counter()
            connection.request(
                "POST", "/v1/completions", body, {"Content-Type": "application/json"}
            )
            reply = connection.getresponse()
            first = reply.readline()
            client.append(1e3 * (time.perf_counter() - begin))
            if reply.status != 200 or not first.startswith(b"data: {"):
                raise RuntimeError(f"{reply.status}: {first!r}")
            reply.read()
            # The metrics learn of a request just after its last event.
            while (after := engine_times(connection))[1] == count:
                time.sleep(0.001)
            engine.append(1e3 * (after[0] - before))
        connection.close()
    return client[3:], engine[3:]  # the first ones warm up


def bench(options, *arguments) -> float:
    """Output tokens/s."""
    command = [options.binary, "bench", *map(str, arguments), "--json"]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    if done.returncode != 0:
        raise RuntimeError(done.stderr)
    (row,) = json.loads(done.stdout)["rows"]
    return row["output_tokens_per_second" if "steps" in row else "output_throughput"]


def engine_rate(options) -> float:
    return bench(options, "throughput", options.model, "--threads", options.threads,
                 "--num-prompts", options.prompts, "--input-len", options.input_len,
                 "--output-len", options.output_len, "--max-num-seqs", 16, "--seed", 1)  # fmt: skip


def server_rate(options) -> float:
    with Server(options) as server:
        return bench(options, "serve", "--base-url", server.url, "--max-concurrency", 16,
                     "--num-prompts", options.prompts, "--random-input-len", options.input_len,
                     "--random-output-len", options.output_len, "--seed", 1)  # fmt: skip


def measure(options) -> dict:
    client, engine, pairs, loads = [], [], [], []
    for index in range(options.rounds):
        loads.append(round(os.getloadavg()[0], 2))
        more = first_tokens(options, f"{options.seed} {index}")
        client += more[0]
        engine += more[1]
        rates = {}
        for measured in (engine_rate, server_rate)[:: 1 if index % 2 == 0 else -1]:
            rates[measured.__name__] = measured(options)
        pairs.append(rates)
        print(f"round {index + 1}: {rates}", file=sys.stderr)
    added = [one - other for one, other in zip(client, engine)]
    shares = [1 - pair["server_rate"] / pair["engine_rate"] for pair in pairs]
    best = {name: max(pair[name] for pair in pairs) for name in pairs[0]}
    return {
        "first_token_ms": {
            "requests": len(client),
            "client_median": round(statistics.median(client), 3),
            "engine_median": round(statistics.median(engine), 3),
            "added_median": round(statistics.median(added), 3),
            "added_mean": round(statistics.mean(added), 3),
            "added_p90": round(statistics.quantiles(added, n=10)[-1], 3),
        },
        "output_tokens_per_second": {
            "engine": [round(pair["engine_rate"], 1) for pair in pairs],
            "server": [round(pair["server_rate"], 1) for pair in pairs],
            "lost_percent": [round(100 * share, 2) for share in shares],
            "lost_percent_median": round(100 * statistics.median(shares), 2),
            # Of the fastest round of each: what other programs took away matters least there.
            "lost_percent_best": round(100 * (1 - best["server_rate"] / best["engine_rate"]), 2),
        },
        "threads": options.threads,
        "load_average": loads,
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model")
    parser.add_argument("--binary", default="build/release/bin/liquid")
    parser.add_argument("--threads", type=int, default=1, help="of the engine")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--requests", type=int, default=40, help="of a round, for the first token")
    parser.add_argument("--prompts", type=int, default=64, help="of a round, for the throughput")
    parser.add_argument("--input-len", type=int, default=128)
    parser.add_argument("--output-len", type=int, default=64)
    parser.add_argument("--seed", type=int, default=1)
    print(json.dumps(measure(parser.parse_args()), indent=2))


if __name__ == "__main__":
    main()
