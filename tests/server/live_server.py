"""`liquid serve` on a small random model, and a client that sees whether it stays well."""

from __future__ import annotations

import contextlib
import dataclasses
import http.client
import json
import pathlib
import re
import socket
import subprocess
import sys
import time
import urllib.parse

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "cli"))

from conftest import SANITIZED, TIMEOUT, Liquid  # noqa: E402

COMPLETIONS, CHAT = "/v1/completions", "/v1/chat/completions"
TOKENIZE, DETOKENIZE = "/tokenize", "/detokenize"
CAPACITY = 256  # tokens of the longest sequence
VOCABULARY = 272
BODY_BYTES = 2 << 20
MAX_GROWTH_MIB = 32
GOOD = {
    COMPLETIONS: {"prompt": "the end of the land", "max_tokens": 2, "temperature": 0},
    CHAT: {
        "messages": [{"role": "user", "content": "the land"}],
        "max_tokens": 2,
        "temperature": 0,
    },
    TOKENIZE: {"prompt": "the land"},
    DETOKENIZE: {"tokens": [5, 6]},
}
GOLDENS = [
    (COMPLETIONS, GOOD[COMPLETIONS] | {"max_tokens": 24, "logprobs": 3}),
    (CHAT, GOOD[CHAT] | {"max_tokens": 12, "repetition_penalty": 1.3, "n": 2}),
]


@dataclasses.dataclass
class Answer:
    status: int
    headers: http.client.HTTPMessage
    body: bytes

    def json(self):
        return json.loads(self.body)

    def error_problem(self) -> str | None:
        """What keeps this from being an error in OpenAI's shape."""
        try:
            error = self.json()["error"]
            if set(error) != {"message", "type", "param", "code"}:
                return f"the error's fields are {sorted(error)}"
            if not (isinstance(error["message"], str) and error["message"]):
                return "no message"
            if not (isinstance(error["type"], str) and error["type"]):
                return "no type"
            for name in ("param", "code"):
                if not isinstance(error[name], (str, type(None))):
                    return f"{name} is {error[name]!r}"
        except (ValueError, KeyError, TypeError) as problem:
            return f"no error object: {problem!r}"
        return None

    def events(self) -> list[dict]:
        """The chunks of a stream, which must have ended well."""
        lines = self.body.decode().split("\n\n")
        assert lines[-1] == "" and lines[-2] == "data: [DONE]", lines[-3:]
        return [json.loads(line.removeprefix("data: ")) for line in lines[:-2]]


class LiveServer:
    def __init__(self, process: subprocess.Popen, url: str):
        self.process = process
        parts = urllib.parse.urlsplit(url)
        self.address = (parts.hostname, parts.port)
        self.connection: http.client.HTTPConnection | None = None
        self.goldens: list = []

    def send(self, method: str, path: str, body: bytes | None = None, **headers) -> Answer:
        """One request; the connection is kept for the next as far as the server keeps it."""
        for attempt in range(2):
            kept = self.connection is not None
            if not kept:
                self.connection = http.client.HTTPConnection(*self.address, timeout=TIMEOUT)
            try:
                self.connection.request(method, path, body, headers)
                found = self.connection.getresponse()
                answer = Answer(found.status, found.headers, found.read())
                if found.will_close:
                    self.close()
                return answer
            except (http.client.RemoteDisconnected, BrokenPipeError, ConnectionResetError):
                self.close()
                if not kept or attempt:
                    raise
        raise AssertionError("unreachable")

    def close(self) -> None:
        if self.connection is not None:
            self.connection.close()
            self.connection = None

    def get(self, path: str, **headers) -> Answer:
        return self.send("GET", path, **headers)

    def post(self, path: str, body, **headers) -> Answer:
        """`body`: an object, or JSON text that no object gives."""
        if isinstance(body, dict):
            body = json.dumps(body)
        if isinstance(body, str):
            body = body.encode()
        return self.send("POST", path, body, **{"Content-Type": "application/json"} | headers)

    def raw(self, data: bytes, half_close: bool = False, timeout: float = TIMEOUT) -> bytes:
        """What comes back until the server closes the connection."""
        with contextlib.closing(socket.create_connection(self.address, timeout)) as connection:
            received = b""
            with contextlib.suppress(ConnectionResetError, BrokenPipeError):
                connection.sendall(data)
                if half_close:
                    connection.shutdown(socket.SHUT_WR)
                while piece := connection.recv(1 << 16):
                    received += piece
            return received

    def settled_rss_mib(self) -> float:
        """Without what the server keeps for an open connection."""
        self.close()
        time.sleep(0.3)
        return self.rss_mib()

    def rss_mib(self) -> float:
        status = pathlib.Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.search(r"VmRSS:\s+(\d+) kB", status)[1]) / 1024

    def answers_of_goldens(self) -> list:
        answers = []
        for path, body in GOLDENS:
            answer = self.post(path, body)
            assert answer.status == 200, answer.body
            answers.append(answer.json()["choices"])
        return answers

    def has_grammar(self) -> bool:
        answer = self.post(CHAT, GOOD[CHAT] | {"guided_regex": "a"})
        return b"structured output is not available" not in answer.body

    def warm_up(self) -> None:
        """The largest requests: what the allocators keep of them is no leak."""
        for path in (COMPLETIONS, CHAT):
            rest = json.dumps(GOOD[path])[:-1]
            self.post(path, rest + ',"x":"' + "a" * (BODY_BYTES // 2) + '"}')
            self.post(path, rest + ',"x":[' + "1," * (BODY_BYTES // 4) + "1]}")
            self.post(path, GOOD[path] | {"n": 16, "guided_choice": ["a"]})
        for _ in range(2):
            self.post(TOKENIZE, {"prompt": "a " * (BODY_BYTES // 4)})

    def learn_goldens(self) -> None:
        self.goldens = self.answers_of_goldens()

    def assert_well(self) -> None:
        """Alive, ready, and the next good requests get what they got at the beginning."""
        assert self.process.poll() is None, f"the server ended with {self.process.returncode}"
        for path in ("/health", "/ready"):
            assert self.get(path).status == 200, path
        assert self.answers_of_goldens() == self.goldens


@contextlib.contextmanager
def live_server(folder: pathlib.Path, model: pathlib.Path, *flags):
    log = folder / "serve.log"
    with open(log, "wb") as err:
        process = Liquid(folder).start(
            "serve", model, "--port", "0", *flags, stdout=subprocess.PIPE, stderr=err, text=True
        )
        server = None
        try:
            line = process.stdout.readline()
            assert line.startswith("Ready: "), line + log.read_text(errors="replace")
            server = LiveServer(process, line.removeprefix("Ready: ").strip())
            yield server
            server.close()
            process.terminate()
            assert process.wait(TIMEOUT) == 0, log.read_text(errors="replace")[-2000:]
            assert "Sanitizer" not in log.read_text(errors="replace")
        finally:
            if process.poll() is None:
                process.kill()
            process.stdout.close()
            process.wait()


@contextlib.contextmanager
def watched_server(folder: pathlib.Path, model: pathlib.Path, *flags):
    """A server with small limits whose memory must not grow by more than a little."""
    limits = ["--max-model-len", CAPACITY, "--max-num-seqs", "4", "--max-body-bytes", BODY_BYTES]
    with live_server(folder, model, *limits, *flags) as server:
        server.learn_goldens()
        server.warm_up()
        before = server.settled_rss_mib()
        yield server
        grown = server.settled_rss_mib() - before
        assert SANITIZED or grown < MAX_GROWTH_MIB, f"{grown:.1f} MiB more than at the beginning"


def with_field(path: str, name: str, text: str) -> str:
    """A good request, but for one field."""
    rest = {key: value for key, value in GOOD[path].items() if key != name}
    if name == "top_logprobs":
        rest["logprobs"] = True
    if name == "max_completion_tokens":
        del rest["max_tokens"]
    return (
        "{"
        + "".join(f'"{key}":{json.dumps(value)},' for key, value in rest.items())
        + (f'"{name}":{text}}}')
    )


class Problems(list):
    """Everything that is wrong, told together at the end of a test."""

    def refused(self, server, path, body, field, statuses=(400,)) -> None:
        """`field`: begins the error's param or stands in its message; "": the body as a whole."""
        answer = server.post(path, body)
        shown = f"{path} {str(body)[:160]} -> {answer.status} {answer.body[:300]!r}"
        if answer.status not in statuses:
            return self.append("not refused: " + shown)
        if problem := answer.error_problem():
            return self.append(f"{problem}: {shown}")
        error = answer.json()["error"]
        names = field in error["message"] or (error["param"] or "").startswith(field)
        if not names or len(error["message"]) > 2000:
            self.append(f"'{field}' is not named: {shown}")

    def accepted(self, server, path, body) -> None:
        answer = server.post(path, body)
        if answer.status != 200:
            self.append(f"not accepted: {path} {str(body)[:160]} -> {answer.body[:300]!r}")

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        assert kind or not self, f"{len(self)} problems:\n" + "\n".join(self[:20])
