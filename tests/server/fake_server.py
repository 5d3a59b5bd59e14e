"""A server that answers as `liquid serve` does, with answers that a test chooses: for the page."""

from __future__ import annotations

import base64
import hashlib
import http.server
import json
import pathlib
import re
import threading
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
PAGE = ROOT / "src/server/page/index.html"


def hash_of(tag: bytes) -> str:
    inside = re.search(rb"<%s>(.*?)</%s>" % (tag, tag), PAGE.read_bytes(), re.S)
    return base64.b64encode(hashlib.sha256(inside[1]).digest()).decode()


def policy() -> str:
    return (
        f"default-src 'none'; script-src 'sha256-{hash_of(b'script')}'; "
        f"style-src 'sha256-{hash_of(b'style')}'; connect-src 'self'; img-src data:; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )


class FakeServer:
    """`pieces`: of the next answers. Every request is kept in `requests`: (method, path, body)."""

    def __init__(self):
        self.pieces = ["Hello", " there", "."]
        self.delay = 0.0  # before each piece
        self.finish = "stop"
        self.error_event = None  # in the middle of a stream
        self.refusal = None  # (status, message)
        self.key = None
        self.running, self.waiting = 1, 2
        self.requests: list[tuple[str, str, dict | None]] = []
        self.disconnected = threading.Event()
        fake = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def log_message(self, *_):
                pass

            def do_GET(self):
                fake._get(self)

            def do_POST(self):
                fake._post(self)

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))
        self._thread.start()

    def close(self) -> None:
        if self._thread.is_alive():
            self._server.shutdown()
            self._thread.join()
            self._server.server_close()

    def chats(self) -> list[dict]:
        return [body for _, path, body in self.requests if path == "/v1/chat/completions"]

    @staticmethod
    def _send(handler, status: int, kind: str, body: bytes, headers: dict | None = None) -> None:
        handler.send_response(status)
        handler.send_header("Content-Type", kind)
        handler.send_header("Content-Length", str(len(body)))
        for name, value in (headers or {}).items():
            handler.send_header(name, value)
        handler.end_headers()
        handler.wfile.write(body)

    def _refuse(self, handler, status: int, message: str) -> None:
        error = {"message": message, "type": "invalid_request_error", "param": None, "code": None}
        self._send(handler, status, "application/json", json.dumps({"error": error}).encode())

    def _has_key(self, handler) -> bool:
        if self.key is None or handler.headers.get("Authorization") == f"Bearer {self.key}":
            return True
        self._refuse(handler, 401, "an API key is needed")
        return False

    def _get(self, handler) -> None:
        self.requests.append(("GET", handler.path, None))
        if handler.path == "/":
            headers = {"Content-Security-Policy": policy()}
            self._send(handler, 200, "text/html; charset=utf-8", PAGE.read_bytes(), headers)
        elif not self._has_key(handler):
            return
        elif handler.path == "/v1/models":
            models = {"object": "list", "data": [{"id": "tiny-model", "object": "model"}]}
            self._send(handler, 200, "application/json", json.dumps(models).encode())
        elif handler.path == "/metrics":
            text = (
                "# TYPE liquidgemm:num_requests_running gauge\n"
                f"liquidgemm:num_requests_running {self.running}\n"
                "liquidgemm:num_requests_running_total 99\n"
                f'liquidgemm:num_requests_waiting{{model_name="tiny model"}} {self.waiting}\n'
            )
            self._send(handler, 200, "text/plain; version=0.0.4", text.encode())
        else:
            self._refuse(handler, 404, "not here")

    def _post(self, handler) -> None:
        body = json.loads(handler.rfile.read(int(handler.headers["Content-Length"])))
        self.requests.append(("POST", handler.path, body))
        if not self._has_key(handler):
            return
        if self.refusal is not None:
            self._refuse(handler, *self.refusal)
            return
        handler.send_response(200)
        handler.send_header("Content-Type", "text/event-stream")
        handler.end_headers()
        try:
            self._stream(handler.wfile)
        except (BrokenPipeError, ConnectionResetError):
            self.disconnected.set()

    def _stream(self, out) -> None:
        def event(value) -> bytes:
            return b"data: " + json.dumps(value, ensure_ascii=False).encode() + b"\n\n"

        def choice(delta: dict, finish: str | None = None) -> dict:
            one = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
            return {"object": "chat.completion.chunk", "choices": [one]}

        out.write(event(choice({"role": "assistant", "content": ""})))
        for piece in self.pieces:
            time.sleep(self.delay)
            # Cut where it hurts: in the middle of a line and of a character.
            written = event(choice({"content": piece}))
            for half in (written[: len(written) // 2], written[len(written) // 2 :]):
                out.write(half)
                out.flush()
        if self.error_event is not None:
            out.write(event({"error": {"message": self.error_event}}))
            return
        usage = {"prompt_tokens": 5, "completion_tokens": len(self.pieces), "total_tokens": 9}
        out.write(event(choice({}, self.finish)))
        out.write(event({"choices": [], "usage": usage}))
        out.write(b"data: [DONE]\n\n")
