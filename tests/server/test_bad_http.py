"""HTTP as no good client speaks it, requests without a key, and clients that go away."""

from __future__ import annotations

import gzip
import json
import re
import socket
import struct
import time

import pytest

from live_server import (
    BODY_BYTES,
    CHAT,
    COMPLETIONS,
    GOOD,
    SANITIZED,
    TOKENIZE,
    Answer,
    live_server,
    watched_server,
)
from conftest import binary_exists, model, quantized  # noqa: F401

SECONDS = "4" if SANITIZED else "1"  # that a request may take to come
FLAGS = ["--header-timeout", SECONDS, "--body-timeout", SECONDS, "--idle-timeout", "10"]
KEY = "the-right-key"
BODY = json.dumps(GOOD[TOKENIZE]).encode()


@pytest.fixture(scope="module")
def server(tmp_path_factory, quantized):  # noqa: F811
    with watched_server(tmp_path_factory.mktemp("serve"), quantized, *FLAGS) as server:
        yield server


@pytest.fixture(scope="module")
def guarded(tmp_path_factory, quantized):  # noqa: F811
    folder = tmp_path_factory.mktemp("guarded")
    with live_server(folder, quantized, "--max-model-len", "256", "--api-key", KEY) as server:
        yield server


def request(*fields: str, body: bytes = BODY, line: str = "POST /tokenize HTTP/1.1") -> bytes:
    """A request with these fields beside Host; nothing is added."""
    head = [line, "Host: a", "Content-Type: application/json", *fields]
    return "\r\n".join(head).encode("latin-1") + b"\r\n\r\n" + body


def chunked(*chunks: bytes, fields=()) -> bytes:
    return request("Transfer-Encoding: chunked", *fields, body=b"".join(chunks))


LENGTH = f"Content-Length: {len(BODY)}"
CHUNK = b"%x\r\n%s\r\n" % (len(BODY), BODY)
END = b"0\r\n\r\n"
REFUSED = {
    # Where one request ends and the next begins must never be a matter of opinion.
    "length and chunks": (request(LENGTH, "Transfer-Encoding: chunked", body=CHUNK + END), 400),
    "chunks and length": (request("Transfer-Encoding: chunked", LENGTH, body=CHUNK + END), 400),
    "two lengths": (request(LENGTH, "Content-Length: 5"), 400),
    "two equal lengths": (request(LENGTH, LENGTH), 400),
    "a list of lengths": (request(f"Content-Length: {len(BODY)}, {len(BODY)}"), 400),
    "negative length": (request("Content-Length: -1"), 400),
    "length with a sign": (request(f"Content-Length: +{len(BODY)}"), 400),
    "hexadecimal length": (request("Content-Length: 0x10"), 400),
    "length of 2^64": (request("Content-Length: 18446744073709551616"), 400),
    "length of 2^63": (request("Content-Length: 9223372036854775808"), 413),
    "empty length": (request("Content-Length:"), 400),
    "more than is taken": (request(f"Content-Length: {BODY_BYTES + 1}"), 413),
    "unknown coding": (request("Transfer-Encoding: gzip, chunked", body=CHUNK + END), 400),
    "twice chunked": (request("Transfer-Encoding: chunked, chunked", body=CHUNK + END), 400),
    "hidden coding": (request("Transfer-Encoding: \x0bchunked", body=CHUNK + END), 400),
    "chunks in HTTP/1.0": (
        request("Transfer-Encoding: chunked", body=CHUNK + END, line="POST /tokenize HTTP/1.0"),
        400,
    ),
    "space before the colon": (request("Content-Length : 5"), 400),
    "chunk of size -2": (chunked(b"-2\r\n", END), 400),
    "chunk of size 2^64 - 1": (chunked(b"FFFFFFFFFFFFFFFF\r\nabc\r\n", END), (400, 413)),
    "chunk of size 2^64": (chunked(b"10000000000000000\r\nabc\r\n", END), 400),
    "chunk of 17 digits": (chunked(b"00000000000000005\r\nabcde\r\n", END), (400, 413)),
    "chunk without size": (chunked(b"\r\nabc\r\n", END), 400),
    "chunk of no number": (chunked(b"xyz\r\nabc\r\n", END), 400),
    "chunk longer than its size": (chunked(b"3\r\nabcdef\r\n", END), 400),
    "endless chunk extension": (chunked(b"3;" + b"a" * 200_000), (400, 431)),
    "endless trailer": (chunked(CHUNK, b"0\r\n", b"a: b\r\n" * 20_000), (400, 431)),
    "chunks beyond the limit": (chunked(*[b"10000\r\n" + b"a" * 65536 + b"\r\n"] * 40), 413),
    # Sizes.
    "long header field": (request("A: " + "a" * 100_000), 431),
    "long name": (request("a" * 100_000 + ": a"), 431),
    "5000 fields": (request(*["A: a"] * 5000), 431),
    "101 short fields": (request(*["A: a"] * 101), 431),
    "long path": (request(line="GET /" + "a" * 100_000 + " HTTP/1.1"), 431),
    "endless method": (b"A" * 200_000, (400, 431)),
    # Syntax.
    "no host": (b"GET /health HTTP/1.1\r\n\r\n", 400),
    "two hosts": (request("Host: b"), 400),
    "HTTP/2 preface": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400),
    "HTTP/1.2": (request(line="GET /health HTTP/1.2"), 400),
    "HTTP/0.9": (b"GET /health\r\n\r\n", 400),
    "a TLS hello": (bytes.fromhex("16030100f8010000f40303") + bytes(200), 400),
    "NUL in a field": (request("A: a\0b"), 400),
    "CR in a field": (request("A: a\rb"), 400),
    "no colon": (request("abc"), 400),
    "empty name": (request(": a"), 400),
    "control characters in the path": (request(line="GET /\x01 HTTP/1.1"), 400),
    "no path": (request(line="GET health HTTP/1.1"), 400),
    "another scheme": (request(line="GET file:///etc/passwd HTTP/1.1"), 400),
    "CONNECT": (request(line="CONNECT a:443 HTTP/1.1"), (400, 404, 405)),
    # What the body is.
    "compressed": (
        request(
            "Content-Encoding: gzip",
            f"Content-Length: {len(gzip.compress(BODY))}",
            body=gzip.compress(BODY),
        ),
        415,
    ),
    "two content types": (request("Content-Type: text/plain", LENGTH), 400),
    "another expectation": (request("Expect: 200-ok", LENGTH), 417),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused(server, name):
    data, statuses = REFUSED[name]
    received = server.raw(data, half_close=True)
    status = int(re.match(rb"HTTP/1\.[01] (\d{3}) ", received)[1])
    assert status in (statuses if isinstance(statuses, tuple) else (statuses,)), received[:500]
    assert len(re.findall(rb"^HTTP/1\.", received, re.M)) == 1, received
    body = received.split(b"\r\n\r\n", 1)[1]
    assert Answer(status, None, body).error_problem() is None, body
    assert server.get("/health").status == 200


def test_the_server_is_well_after_all_that(server):
    server.assert_well()


def test_paths_methods_and_types(server):
    expected = [
        ("GET", "/v1/chat/completions", 405),
        ("DELETE", "/v1/models", 405),
        ("POST", "/health", 405),
        ("BREW", "/health", 405),
        ("TRACE", "/health", 405),
        ("GET", "/v1/models/none", 404),
        ("GET", "/../etc/passwd", 404),
        ("GET", "/%2e%2e/etc/passwd", 404),
        ("GET", "//health", 404),
        ("GET", "/health/", 404),
        ("GET", "/health%00", 404),
        ("POST", "/v1/chat/completions/../completions", 404),
    ]
    for method, path, status in expected:
        answer = server.send(method, path)
        assert answer.status == status and answer.error_problem() is None, (method, path, answer)
    for kind in ("text/plain", "application/x-www-form-urlencoded", "application/jsonx", "a", ""):
        answer = server.post(TOKENIZE, BODY, **{"Content-Type": kind})
        assert answer.status == 415 and answer.error_problem() is None, (kind, answer)
    assert (
        server.post(TOKENIZE, BODY, **{"Content-Type": "application/json; charset=utf-8"}).status
        == 200
    )
    server.assert_well()


def test_slow_clients_are_let_go(server):
    begin = time.monotonic()
    starts = [b"G", b"GET /health HTTP/1.1\r\nHost:", request("Content-Length: 100", body=b"{")]
    starts += [chunked(b"3\nabc\n", b"0\n\n"), chunked(CHUNK, b"0\r\n")]
    for data in starts:
        received = server.raw(data)
        assert received.startswith(b"HTTP/1.1 408 "), received
        assert Answer(408, None, received.split(b"\r\n\r\n", 1)[1]).error_problem() is None
    assert time.monotonic() - begin < 10 * int(SECONDS)
    server.assert_well()


def test_pipelined_requests_are_answered_in_order(server):
    one = request(LENGTH)
    get = b"GET /v1/models HTTP/1.1\r\nHost: a\r\n\r\n"
    bad = request("Content-Length: 2", body=b"[]")
    received = server.raw(one + get + bad + one + b"bad\r\n\r\n", half_close=True)
    assert re.findall(rb"HTTP/1\.1 (\d+)", received) == [b"200", b"200", b"400", b"200", b"400"]
    server.assert_well()


def test_clients_that_go_away(server):
    """In the middle of a head, a body, an answer; some with a reset."""
    body = json.dumps(GOOD[COMPLETIONS] | {"max_tokens": 200, "stream": True, "ignore_eos": True})
    whole = request(
        f"Content-Length: {len(body)}", body=body.encode(), line=f"POST {COMPLETIONS} HTTP/1.1"
    )
    for i in range(60):
        with socket.create_connection(server.address) as connection:
            connection.sendall(whole[: len(whole) * (i % 6 + 1) // 6])
            if i % 6 == 5 and i % 4:
                connection.recv(200)
            if i % 2:
                linger = struct.pack("ii", 1, 0)
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
    deadline = time.monotonic() + 20
    while server.get("/load").json()["server_load"] and time.monotonic() < deadline:
        time.sleep(0.02)
    assert server.get("/load").json() == {"server_load": 0}
    server.assert_well()


def test_every_route_wants_the_key(guarded):
    """Whatever the table of routes says is not public, and whatever is not in it."""
    right = {"Authorization": f"Bearer {KEY}"}
    document = guarded.get("/openapi.json", **right).json()
    public = {
        path
        for path, item in document["paths"].items()
        if item.get("get", {}).get("security") == []
    }
    assert public == {"/health", "/ready"}
    name = guarded.get("/v1/models", **right).json()["data"][0]["id"]
    paths = [path.replace("{model}", name) for path in document["paths"]]
    wrong = [None, "", "Bearer", "Bearer ", "Bearer  ", f"Bearer {KEY}x", f"Bearer {KEY[:-1]}", KEY]
    wrong += [f"Basic {KEY}", f"Bearer x{KEY}", f"Bearer {KEY.upper()}", f"Bearer {KEY},{KEY}"]
    for path in [*paths, "/none", "/v1", "/admin", "/metrics/", "/health/x"]:
        for method in ("GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS"):
            for key in wrong:
                headers = {} if key is None else {"Authorization": key}
                answer = guarded.send(method, path, b"{}" if method == "POST" else None, **headers)
                if path in public and method in ("GET", "HEAD"):
                    assert answer.status == 200, (method, path, key)
                    continue
                assert answer.status == 401, (method, path, key, answer)
                assert answer.headers["WWW-Authenticate"] == "Bearer"
                assert method == "HEAD" or answer.error_problem() is None
    two = request("Authorization: Bearer x", f"Authorization: Bearer {KEY}", LENGTH)
    assert guarded.raw(two, half_close=True).startswith(b"HTTP/1.1 400 ")
    assert guarded.post(CHAT, GOOD[CHAT], **right).status == 200
    assert guarded.get("/", **{}).status == 200  # the page asks for the key
