"""What a soak needs of HTTP: requests on asyncio's streams, answers whole or event by event.

Standard library only. A client that knows no more than the standard says about messages notices
what a forgiving library would repair: a wrong length, bytes after the end, an event too many.
"""

from __future__ import annotations

import asyncio
import dataclasses
import json
import socket
import struct


class Broken(Exception):
    """The connection or the message on it ended where it should not."""


@dataclasses.dataclass
class Reply:
    status: int
    fields: dict[str, str]
    body: bytes = b""

    def json(self):
        return json.loads(self.body)


class Connection:
    """One connection, kept for as long as the server keeps it."""

    def __init__(self, port: int):
        self.port = port
        self.reader: asyncio.StreamReader | None = None
        self.writer: asyncio.StreamWriter | None = None

    async def open(self) -> None:
        if self.writer is None:
            self.reader, self.writer = await asyncio.open_connection("127.0.0.1", self.port)

    def close(self, *, reset: bool = False) -> None:
        """`reset`: the peer sees an error instead of an end."""
        if self.writer is None:
            return
        if reset:
            linger = struct.pack("ii", 1, 0)
            self.writer.get_extra_info("socket").setsockopt(
                socket.SOL_SOCKET, socket.SO_LINGER, linger
            )
        self.writer.close()
        self.reader = self.writer = None

    async def send(self, data: bytes) -> None:
        await self.open()
        self.writer.write(data)
        await self.writer.drain()

    async def head(self) -> Reply:
        try:
            lines = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        except asyncio.IncompleteReadError as error:
            raise Broken(f"no reply, only {error.partial!r}") from error
        fields = {}
        for line in lines[1:-2]:
            name, _, value = line.partition(":")
            fields[name.strip().lower()] = value.strip()
        return Reply(int(lines[0].split()[1]), fields)

    async def body(self, reply: Reply) -> bytes:
        if "content-length" in reply.fields:
            data = await self.reader.readexactly(int(reply.fields["content-length"]))
        else:
            data = b"".join([chunk async for chunk in self.chunks()])
        self.after(reply)
        return data

    async def chunks(self):
        """Of a chunked body, to its end."""
        while True:
            size = int((await self.reader.readuntil(b"\r\n")).strip(), 16)
            data = await self.reader.readexactly(size + 2)
            if not data.endswith(b"\r\n"):
                raise Broken(f"a chunk of {size} bytes is longer")
            if size == 0:
                return
            yield data[:-2]

    def after(self, reply: Reply) -> None:
        if reply.fields.get("connection", "").lower() == "close":
            self.close()

    async def events(self, reply: Reply):
        """The data of each server-sent event."""
        rest = b""
        async for chunk in self.chunks():
            rest += chunk
            while b"\n\n" in rest:
                event, rest = rest.split(b"\n\n", 1)
                if not event.startswith(b"data: "):
                    raise Broken(f"an event without data: {event!r}")
                yield event[6:].decode()
        if rest:
            raise Broken(f"half an event at the end: {rest!r}")
        self.after(reply)

    async def exchange(self, data: bytes) -> Reply:
        await self.send(data)
        reply = await self.head()
        reply.body = await self.body(reply)
        return reply


def request(path: str, body=None, *, method: str | None = None, fields: str = "") -> bytes:
    """`body`: bytes, or what becomes JSON; None: a GET."""
    head = f"{method or ('GET' if body is None else 'POST')} {path} HTTP/1.1\r\nHost: soak\r\n"
    if body is None:
        return (head + fields + "\r\n").encode()
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    head += f"Content-Type: application/json\r\nContent-Length: {len(data)}\r\n"
    return (head + fields + "\r\n").encode() + data


async def get(port: int, path: str) -> Reply:
    connection = Connection(port)
    try:
        return await connection.exchange(request(path))
    finally:
        connection.close()


async def metrics(port: int) -> dict[str, float]:
    """By name and labels other than the model's: `kv_pages{state="used"}`."""
    found = {}
    for line in (await get(port, "/metrics")).body.decode().splitlines():
        if line.startswith("#"):
            continue
        name, _, value = line.rpartition(" ")
        name, _, labels = name.removeprefix("liquidgemm:").partition("{")
        labels = [label for label in labels[:-1].split(",") if not label.startswith("model_name")]
        found[name + ("{" + ",".join(labels) + "}" if labels and labels[0] else "")] = float(value)
    return found
