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
import urllib.parse

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "cli"))

from conftest import SANITIZED, TIMEOUT, Liquid  # noqa: E402

COMPLETIONS, CHAT = "/v1/completions", "/v1/chat/completions"
TOKENIZE, DETOKENIZE = "/tokenize", "/detokenize"
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
