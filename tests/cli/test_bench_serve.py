"""`liquid bench serve` against servers that do what these tests say, and no more."""

import collections
import contextlib
import csv
import http.server
import json
import shutil
import signal
import socket
import subprocess
import threading
import time

import pytest

SHORT = ["--num-prompts", "6", "--random-input-len", "8", "--random-output-len", "5"]
QUIET = ["--num-warmups", "0"]


class Server(http.server.ThreadingHTTPServer):
    """Streams `max_tokens` tokens: `first` seconds to the first one, `gap` between the others."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.first, self.gap = 0.03, 0.01
        self.usage = True
        self.keep_alive = True
        self.end = "\n"  # of a line
        self.pieces = False  # every few bytes a chunk of their own
        self.fault = lambda number: None  # of the n-th request, from 0
        self.lock = threading.Lock()
        self.bodies, self.headers, self.arrivals = [], [], []
        self.connections = set()
        self.running = self.most = 0

    @property
    def options(self):
        return ["--base-url", f"http://127.0.0.1:{self.server_port}"]

    def handle_error(self, request, client_address):
        pass  # a client that has gone


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def log_message(self, *_):
        pass

    def reply(self, status, text, kind="application/json"):
        body = text.encode()
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self):
        if self.path == "/v1/models":
            models = [{"id": "served", "object": "model"}, {"id": "other"}]
            return self.reply(200, json.dumps({"object": "list", "data": models}))
        return self.reply(404, "{}")

    def do_POST(self):
        server = self.server
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with server.lock:
            number = len(server.bodies)
            server.bodies.append(body)
            server.headers.append(dict(self.headers))
            server.arrivals.append(time.monotonic())
            server.connections.add(self.client_address)
            server.running += 1
            server.most = max(server.most, server.running)
        try:
            self.answer(body, server.fault(number))
        finally:
            with server.lock:
                server.running -= 1

    def answer(self, body, fault):
        if fault == "busy":
            return self.reply(503, json.dumps({"error": {"message": "too many requests"}}))
        if fault == "page":
            return self.reply(200, "<html>", "text/html")
        if fault == "reset":
            self.connection.shutdown(socket.SHUT_RDWR)
            self.close_connection = True
            return None
        if fault == "hang":
            time.sleep(1.5)
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        if self.server.keep_alive:
            self.send_header("Transfer-Encoding", "chunked")
        else:
            self.send_header("Connection", "close")
            self.close_connection = True
        self.end_headers()
        self.stream(body, fault)
        if self.server.keep_alive and not self.close_connection:
            self.wfile.write(b"0\r\n\r\n")
        if fault == "leave":
            self.close_connection = True
        return None

    def write(self, text):
        data = text.replace("\n", self.server.end).encode()
        size = 3 if self.server.pieces else len(data)
        for at in range(0, len(data), size):
            piece = data[at : at + size]
            if self.server.keep_alive:
                piece = b"%x\r\n%s\r\n" % (len(piece), piece)
            self.wfile.write(piece)

    def event(self, **fields):
        self.write(f"data: {json.dumps(fields)}\n\n")

    def choice(self, text, reason, chat):
        said = {"delta": {"content": text} if text else {}} if chat else {"text": text}
        self.event(choices=[{"index": 0, "finish_reason": reason, **said}])

    def stream(self, body, fault):
        chat = "messages" in body
        if chat:
            self.event(choices=[{"index": 0, "delta": {"role": "assistant", "content": ""}}])
        self.write(": still working\n\n")
        count = body["max_tokens"]
        for i in range(count):
            time.sleep(self.server.gap if i else self.server.first)
            if fault == "cut" and i == 2:
                self.close_connection = True
                return
            if fault == "error" and i == 2:
                return self.event(error={"message": "out of pages"})
            if fault == "junk" and i == 2:
                return self.write("data: {oops\n\n")
            self.choice("äx", None, chat)
        if fault != "endless":
            self.choice("", "length", chat)
        if self.server.usage and body.get("stream_options", {}).get("include_usage"):
            prompt = body.get("prompt", "")
            tokens = len(prompt) if isinstance(prompt, list) else 21
            usage = {"prompt_tokens": tokens, "completion_tokens": count}
            self.event(choices=[], usage=usage | {"total_tokens": tokens + count})
        if fault != "endless":
            self.write("data: [DONE]\n\n")


@pytest.fixture
def server():
    server = Server()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def bench(liquid, server, *arguments, **options):
    return liquid.ok("bench", "serve", *server.options, *arguments, **options)


def row_of(outcome):
    rows = outcome.json()["rows"]
    assert len(rows) == 1
    return rows[0]


def percentile(values, percent):
    """Linear between neighbours, written anew."""
    values = sorted(values)
    place = (len(values) - 1) * percent / 100
    below = int(place)
    above = min(below + 1, len(values) - 1)
    return values[below] * (1 - (place - below)) + values[above] * (place - below)


def test_the_numbers_are_what_the_server_did(liquid, server):
    server.first, server.gap = 0.2, 0.05
    outcome = bench(
        *(liquid, server, *SHORT, "--max-concurrency", "2", "--json", "--save-detailed"),
        *("--metric-percentiles", "50,99", "--seed", "3"),
    )
    result, row = outcome.json(), row_of(outcome)
    assert result["benchmark"] == "serve" and result["model"] == "served"
    assert result["endpoint"] == "/v1/completions" and "bench serve" in result["command"]
    assert row["completed"] == 6 and row["failed"] == 0 and row["errors"] == []
    assert row["max_concurrency"] == 2 and row["request_rate"] == "inf"
    assert row["total_input_tokens"] == 48 and row["total_output_tokens"] == 30
    assert row["counted_by_usage"] == 6
    assert row["max_concurrent_requests"] == server.most == 2
    # Sleeping takes at least as long as asked; the upper limits are those of a busy machine.
    for name, least in [("ttft", 200), ("itl", 50), ("tpot", 50)]:
        assert least * 0.98 <= row[f"median_{name}_ms"] <= 3 * least
        assert row[f"median_{name}_ms"] == pytest.approx(row[f"p50_{name}_ms"])
        assert row[f"p99_{name}_ms"] >= row[f"p50_{name}_ms"]
    assert 400 * 0.98 <= row["median_e2el_ms"] <= 3 * 400
    # Three times two requests of 0.4 s.
    assert 1.2 * 0.98 <= row["duration"] <= 3 * 1.2
    assert row["request_throughput"] == pytest.approx(6 / row["duration"])
    assert row["output_throughput"] == pytest.approx(30 / row["duration"])
    assert row["total_token_throughput"] == pytest.approx(78 / row["duration"])
    for request in row["requests"]:
        assert request["state"] == "done" and len(request["itl_ms"]) == 4
        total = request["ttft_ms"] + sum(request["itl_ms"])
        assert request["e2el_ms"] == pytest.approx(total, rel=0.3)
        assert request["input_tokens"] == 8 and request["output_tokens"] == 5
    requests = row["requests"]
    values = {
        "ttft": [request["ttft_ms"] for request in requests],
        "itl": [gap for request in requests for gap in request["itl_ms"]],
        "e2el": [request["e2el_ms"] for request in requests],
        "tpot": [(request["e2el_ms"] - request["ttft_ms"]) / 4 for request in requests],
    }
    for name, numbers in values.items():
        assert row[f"mean_{name}_ms"] == pytest.approx(sum(numbers) / len(numbers))
        for percent in (50, 99):
            assert row[f"p{percent}_{name}_ms"] == pytest.approx(percentile(numbers, percent))
    # One request warms up; two connections serve all others.
    assert len(server.bodies) == 7 and len(server.connections) <= 4
    for body in server.bodies:
        assert body["model"] == "served" and body["ignore_eos"] is True
        assert len(body["prompt"]) == 8 and all(0 <= i < 32000 for i in body["prompt"])
        assert body["stream"] is True and body["temperature"] == 0
    assert len({json.dumps(body["prompt"]) for body in server.bodies}) == 7


def test_the_block_is_vllms(liquid, server):
    arguments = [*SHORT, "--max-concurrency", "3", "--request-rate", "100"]
    outcome = bench(liquid, server, *arguments)
    lines = outcome.text.splitlines()
    assert server.most <= 3
    assert lines[0] == " Serving Benchmark Result ".center(50, "=")
    labels = [line.split(":")[0] for line in lines if ":" in line]
    assert labels[:13] == [
        *("Successful requests", "Failed requests", "Maximum request concurrency"),
        *("Request rate configured (RPS)", "Benchmark duration (s)", "Total input tokens"),
        *("Total generated tokens", "Tokens counted by", "Request throughput (req/s)"),
        *("Output token throughput (tok/s)", "Peak output token throughput (tok/s)"),
        *("Peak concurrent requests", "Total Token throughput (tok/s)"),
    ]
    assert labels[13:] == [
        f"{what} {metric} (ms)"
        for metric in ("TTFT", "TPOT", "ITL")
        for what in ("Mean", "Median", "P99")
    ]
    titles = ["Time to First Token", "Time per Output Token (excl. 1st token)"]
    for title in [*titles, "Inter-token Latency"]:
        assert title.center(50, "-") in lines
    assert "Tokens counted by:                       server's usage" in lines
    assert "--seed 0" in outcome.stderr, "a warm prefix cache is warned of"
    assert "6/6 requests" in outcome.stderr
    outcome = bench(liquid, server, *arguments, "--seed", "1", "--percentile-metrics", "e2el")
    assert "--seed" not in outcome.stderr
    assert "Mean E2EL (ms)" in outcome.text and "TTFT" not in outcome.text


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"], ids=["LF", "CRLF", "CR"])
@pytest.mark.parametrize("keep_alive", [True, False], ids=["chunked", "close"])
def test_streams_are_read_however_they_are_cut(liquid, server, end, keep_alive):
    server.end, server.keep_alive, server.pieces = end, keep_alive, True
    server.first = server.gap = 0.002
    row = row_of(bench(liquid, server, *SHORT, "--json", "--save-detailed"))
    assert row["completed"] == 6 and row["total_output_tokens"] == 30
    assert all(len(request["itl_ms"]) == 4 for request in row["requests"])


def test_without_usage_outputs_are_counted(liquid, server):
    server.usage = False
    outcome = bench(liquid, server, *SHORT)
    assert "Tokens counted by:                       streamed outputs" in outcome.text
    row = row_of(bench(liquid, server, *SHORT, "--json"))
    assert row["counted_by_usage"] == 0
    assert row["total_output_tokens"] == 30, "neither the role nor the end is an output"
    assert row["total_input_tokens"] == 48


def test_chats_take_text(liquid, server):
    server.first = 0.1
    chat = [*SHORT, "--endpoint", "/v1/chat/completions", "--json"]
    outcome = bench(liquid, server, *chat, "--model", "mine", "--no-ignore-eos", "--api-key", "k-1")
    row = row_of(outcome)
    assert row["completed"] == 6 and row["total_input_tokens"] == 6 * 21
    assert row["median_ttft_ms"] >= 98, "the role comes at once and is no output"
    for body, headers in zip(server.bodies, server.headers):
        (message,) = body["messages"]
        assert message["role"] == "user" and len(message["content"].split()) == 8
        assert body["model"] == "mine" and "ignore_eos" not in body
        assert headers["Authorization"] == "Bearer k-1"
    assert "k-1" not in outcome.text and "--api-key KEY" in outcome.json()["command"]


def test_the_key_comes_from_the_environment(liquid, server):
    liquid.environment["OPENAI_API_KEY"] = "from-there"
    bench(liquid, server, *SHORT, "--prompt-format", "text", "--extra-body", '{"top_k": 3}')
    assert all(headers["Authorization"] == "Bearer from-there" for headers in server.headers)
    assert all(isinstance(body["prompt"], str) and body["top_k"] == 3 for body in server.bodies)


def test_failures_are_counted_and_shown(liquid, server):
    faults = [None, "busy", "busy", "cut", "reset", "page", "error", "junk", "endless", None]
    server.fault = lambda number: faults[number % len(faults)]
    arguments = ["--num-prompts", "20", "--random-output-len", "5", "--max-concurrency", "1"]
    row = row_of(bench(liquid, server, *arguments, *QUIET, "--json", "--save-detailed"))
    assert row["completed"] == 4 and row["failed"] == 16 and row["unfinished"] == 0
    assert row["total_output_tokens"] == 20
    errors = {error["message"]: error["count"] for error in row["errors"]}
    assert sum(errors.values()) == 16
    expected = collections.Counter()
    for said, count in [
        ("HTTP 503 Service Unavailable: too many requests", 4),
        ("closed before the answer was complete", 2),
        ("closed without an answer", 2),
        ("text/html", 2),
        ("out of pages", 2),
        ("event of the stream", 2),
        ("without a finish reason", 2),
    ]:
        expected[said] = sum(n for message, n in errors.items() if said in message)
        assert expected[said] == count, (said, errors)
    states = [request["state"] for request in row["requests"]]
    assert states == ["done" if faults[i % 10] is None else "failed" for i in range(20)]
    server.bodies.clear()
    outcome = bench(liquid, server, *arguments, *QUIET)
    assert "Failed requests:                         16" in outcome.text
    assert "  4 x HTTP 503 Service Unavailable: too many requests" in outcome.text


def test_a_request_has_a_time_limit(liquid, server):
    server.fault = lambda number: "hang" if number == 1 else None
    row = row_of(bench(liquid, server, *SHORT, *QUIET, "--request-timeout", "0.5", "--json"))
    assert row["completed"] == 5 and row["failed"] == 1
    assert row["errors"][0]["message"] == "timed out after 0.5 s"


def test_a_server_that_refuses_everything_is_one_error(liquid, server):
    server.fault = lambda number: "busy"
    said = ["503", "too many requests"]
    liquid.fails("bench", "serve", *server.options, *SHORT, naming=["warm-up", *said])
    outcome = liquid("bench", "serve", *server.options, *SHORT, *QUIET)
    assert outcome.code == 1 and "Failed requests:                         6" in outcome.text
    assert len(outcome.error_lines()) == 1 and "no request succeeded" in outcome.stderr


def test_no_server_is_one_error(liquid):
    with contextlib.closing(socket.socket()) as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}"
        for model in ([], ["--model", "m"]):
            refused = [url.removeprefix("http://"), "refused"]
            liquid.fails("bench", "serve", "--base-url", url, *model, naming=refused)


def test_requests_come_at_their_rate(liquid, server):
    server.first = server.gap = 0.001
    arguments = ["--num-prompts", "40", "--random-output-len", "2", "--request-rate", "40"]
    row = row_of(bench(liquid, server, *arguments, *QUIET, "--burstiness", "inf", "--json"))
    assert row["request_rate"] == 40 and 0.95 <= row["duration"] <= 3
    gaps = [b - a for a, b in zip(server.arrivals, server.arrivals[1:])]
    assert 0.015 <= sorted(gaps)[20] <= 0.04
    server.arrivals.clear()
    row = row_of(bench(liquid, server, *arguments, *QUIET, "--json", "--seed", "5"))
    assert 0.95 <= row["duration"] <= 3, "the last request comes after 40 / 40 s"
    gaps = sorted(b - a for a, b in zip(server.arrivals, server.arrivals[1:]))
    assert gaps[2] < 0.012 and gaps[-3] > 0.035, "a Poisson process is not even"


def test_an_open_loop_does_not_wait_for_the_server(liquid, server):
    server.first, server.gap = 0.5, 0.001
    arguments = ["--num-prompts", "20", "--random-output-len", "2", "--request-rate", "100"]
    bench(liquid, server, *arguments, *QUIET)
    assert server.most >= 10
    server.most = 0
    row = row_of(
        bench(liquid, server, *arguments, *QUIET, "--max-concurrency", "10", "--json", "--seed", "1")
    )
    assert server.most <= 10
    assert row["median_ttft_ms"] < 1000, "waiting at the client is not the server's time"


def test_connections_that_the_server_closed_are_no_failures(liquid, server):
    # It says that it keeps them and does not; between requests there is no time to notice.
    server.first = server.gap = 0.001
    server.fault = lambda number: "leave"
    row = row_of(bench(liquid, server, "--num-prompts", "50", "--random-output-len", "2", "--json"))
    assert row["completed"] == 50 and row["failed"] == 0, row["errors"]
    assert len(server.bodies) == 51 and len(server.connections) == 51
    server.connections.clear()
    arguments = ["--num-prompts", "50", "--random-output-len", "2", "--max-concurrency", "1"]
    row = row_of(bench(liquid, server, *arguments, "--json"))
    assert row["completed"] == 50 and row["failed"] == 0, row["errors"]
    assert len(server.connections) == 51


def test_a_sweep_has_a_row_for_each_load(liquid, server, tmp_path):
    server.first = server.gap = 0.002
    records = [tmp_path / name for name in ("all.json", "all.md", "all.csv")]
    outcome = bench(
        *(liquid, server, *SHORT, "--request-rate", "50,inf", "--max-concurrency", "1,4"),
        *(part for path in records for part in ("--record", path)),
    )
    assert outcome.text.count("Serving Benchmark Result") == 4
    table = outcome.text.splitlines()[-5:]
    assert [line.split()[:2] for line in table if line.split()[0] in ("50", "inf")]
    rows = json.loads(records[0].read_text())["rows"]
    loads = [(row["request_rate"], row["max_concurrency"]) for row in rows]
    assert loads == [(50, 1), (50, 4), ("inf", 1), ("inf", 4)]
    assert all("requests" not in row for row in rows)
    assert "| rate" in records[1].read_text() and "liquid bench serve" in records[1].read_text()
    table = list(csv.DictReader(records[2].open()))
    assert [row["request_rate"] for row in table] == ["50", "50", "inf", "inf"]
    assert float(table[0]["p99_ttft_ms"]) > 0
    prompts = {json.dumps(body["prompt"]) for body in server.bodies}
    assert len(prompts) == len(server.bodies) == 25, "no row repeats another's prompts"
    if shutil.which("gnuplot"):
        liquid.ok("bench", "plot", records[0], "-o", tmp_path / "a.svg", "--kind", "load")
        assert "generated tokens/s" in (tmp_path / "a.svg").read_text()


def test_prompts_come_from_a_file(liquid, server, tmp_path):
    file = tmp_path / "prompts.jsonl"
    file.write_text('{"prompt": "Hello, äöü"}\n{"prompt": [5, 6, 7], "output_len": 3}\n')
    arguments = ["--dataset-file", file, "--output-len", "4", *QUIET]
    outcome = bench(liquid, server, *arguments, "--json")
    assert row_of(outcome)["total_output_tokens"] == 7
    assert sorted(body["max_tokens"] for body in server.bodies) == [3, 4]
    assert {json.dumps(body["prompt"]) for body in server.bodies} == {
        json.dumps("Hello, äöü"),
        "[5, 6, 7]",
    }
    assert all("ignore_eos" not in body for body in server.bodies)
    assert str(tmp_path) not in outcome.text
    server.usage = False
    outcome = bench(liquid, server, *arguments)
    assert "input tokens of 1 requests are not counted" in outcome.text
    file.write_text('{"prompt": "a"}\n{"text": "b"}\n')
    failing = ("bench", "serve", *server.options, *arguments)
    liquid.fails(*failing, naming=["prompts.jsonl", "line 2", "prompt"])


def test_ctrl_c_prints_what_was_done(liquid, server):
    server.first, server.gap = 0.05, 0.01
    process = liquid.start(
        *("bench", "serve", *server.options, "--num-prompts", "1000", "--max-concurrency", "2"),
        *("--random-output-len", "5", "--json", *QUIET),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    deadline = time.monotonic() + 30
    while len(server.bodies) < 10 and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert process.returncode == 1 and b"interrupted" in err
    (row,) = json.loads(out)["rows"]
    assert row["interrupted"] and 0 < row["completed"] < 1000 and row["failed"] == 0
    assert row["completed"] + row["unfinished"] == 1000
    assert row["output_throughput"] > 0


@pytest.mark.parametrize(
    "arguments, said",
    [
        (["--base-url", "https://localhost:8000"], "plain HTTP"),
        (["--base-url", "localhost:8000"], "http://"),
        (["--base-url", "http://u:p@localhost"], "@"),
        (["--base-url", "http://h", "--port", "1"], "excludes"),
        (["--port", "0"], "--port"),
        (["--endpoint", "/v1/embeddings"], "--endpoint"),
        (["--request-rate", "0"], "--request-rate"),
        (["--request-rate", "1,nan"], "--request-rate"),
        (["--max-concurrency", "0"], "--max-concurrency"),
        (["--burstiness", "-1"], "--burstiness"),
        (["--num-prompts", "0"], "--num-prompts"),
        (["--random-range-ratio", "1"], "--random-range-ratio"),
        (["--prompt-format", "ids", "--endpoint", "/v1/chat/completions"], "--prompt-format"),
        (["--prompt-format", "ids", "--dataset-file", "x"], "--prompt-format"),
        (["--percentile-metrics", "ttft,latency"], "--percentile-metrics"),
        (["--metric-percentiles", "101"], "--metric-percentiles"),
        (["--api-key", "a b"], "--api-key"),
        (["--extra-body", "[]"], "--extra-body"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_wrong_arguments_exit_with_2_and_say_which(liquid, arguments, said):
    outcome = liquid("bench", "serve", *arguments)
    assert outcome.code == 2, outcome.stderr
    assert said in outcome.stderr and outcome.stdout == b"", outcome.stderr


def point(rate, at_once, latency):
    row = {"request_rate": rate, "max_concurrency": at_once, "completed": 3}
    row |= {"output_throughput": 10.0 * latency, "median_ttft_ms": latency, "p99_ttft_ms": 9.0}
    return row | {"median_tpot_ms": latency / 2}


@pytest.mark.skipif(shutil.which("gnuplot") is None, reason="gnuplot is not installed")
@pytest.mark.parametrize(
    "rows, axis",
    [
        ([point(1, None, 1.0), point(2, None, 2.0), point(4, 8, 7.0)], "request rate"),
        ([point("inf", 1, 1.0), point("inf", 2, 2.0)], "generated tokens/s"),
        ([point(3, None, 1.0)], "generated tokens/s"),
    ],
    ids=["rates", "at once", "one row"],
)
def test_loads_become_a_picture(liquid, tmp_path, rows, axis):
    results, picture = tmp_path / "results.json", tmp_path / "picture.svg"
    results.write_text(json.dumps({"benchmark": "serve", "rows": rows}))
    liquid.ok("bench", "plot", results, "-o", picture, "--kind", "load")
    text = picture.read_text()
    assert text.startswith("<?xml") and "</svg>" in text
    for said in (axis, "Time to the first token", "Time per output token", "median", "99 %"):
        assert said in text
    assert ("at most 8 at once" in text) == any(row["max_concurrency"] == 8 for row in rows)


@pytest.mark.parametrize(
    "text, said",
    [
        ("[]", "object"),
        ("{}", "benchmark"),
        ('{"benchmark": "latency", "rows": []}', "serve"),
        ('{"benchmark": "serve"}', "rows"),
        ('{"benchmark": "serve", "rows": []}', "no row"),
        ('{"benchmark": "serve", "rows": [3]}', "rows[0]"),
        ('{"benchmark": "serve", "rows": [{"request_rate": "fast"}]}', "request_rate"),
        ('{"benchmark": "serve", "rows": [{"request_rate": 1}]}', "output_throughput"),
    ],
)
def test_what_is_no_load_is_refused(liquid, tmp_path, text, said):
    results, picture = tmp_path / "results.json", tmp_path / "picture.svg"
    results.write_text(text)
    liquid.fails("bench", "plot", results, "-o", picture, "--kind", "load", naming=[said])
    assert not picture.exists()
