"""
The server of the benchmarks: a process of its own that writes bytes made beforehand.

It is never what is waited for: an answer goes out with one ``sendall``, a paced one event by event with only the time
patched in. It speaks WebSocket and HTTP+SSE of the same events, plain and over TLS 1.3 with session tickets as
OpenSSL gives them by default, a thread for each connection. It lives until its standard input ends.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import os
import socket
import ssl
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
import trustme

from .payloads import STAMP, Answer, Sizes, answers, frame, sse_block


__all__ = ["main"]

_CORE = 0
_ACCEPT_SALT = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
# What is longer is an upload: its bytes are counted and not looked at.
_READABLE_BYTES = 1 << 16
_CLOSE, _PING, _PONG = 8, 9, 10
_SSE_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\nTransfer-Encoding: chunked\r\n\r\n"


@attrs.frozen
class Script:
    """
    An answer, ready to be written.

    Attributes:
        pieces: What each write takes.
        interval: Seconds between two writes.
        stamps: Where in each piece the time goes, -1 for nowhere.
    """

    pieces: list[bytes]
    interval: float
    stamps: list[int]

    @classmethod
    def of(cls, answer: Answer, wrap: Callable[[bytes], bytes], end: bytes = b"") -> Script:
        """Prepare an answer whose messages are wrapped for a transport."""
        pieces = [wrap(message) for message in answer.messages] + ([end] if end else [])
        if not answer.interval:
            pieces = [b"".join(pieces)]
        stamps = [
            piece.find(STAMP) if b"output_text.delta" in piece[:200] else -1 for piece in pieces
        ]
        return cls(pieces, answer.interval, stamps)

    def play(self, sock: socket.socket) -> None:
        """Write everything, each piece at its time."""
        if not self.interval:
            sock.sendall(self.pieces[0])
            return
        due = time.monotonic()
        for piece, at in zip(self.pieces, self.stamps, strict=True):
            due += self.interval
            # A server that spun here would take a core from its clients. How late it wakes is no matter: it writes
            # the time that it is.
            time.sleep(max(0.0, due - time.monotonic()))  # noqa: TID251
            if at >= 0:
                stamp = b"%020d" % time.monotonic_ns()
                piece = b"".join((piece[:at], stamp, piece[at + len(STAMP) :]))
            sock.sendall(piece)


class Scripts:
    """The answers, for both transports; each is made when first asked for, outside of what is measured."""

    def __init__(self, sizes: Sizes) -> None:
        self._answers = answers(sizes)
        self._ready: dict[tuple[str, str], Script] = {}
        self._lock = threading.Lock()

    def websocket(self, name: str) -> Script:
        """Return an answer in frames."""
        return self._script("websocket", name, frame, b"")

    def sse(self, name: str) -> Script:
        """Return an answer in the chunks of an HTTP body."""
        return self._script("sse", name, lambda message: _chunk(sse_block(message)), b"0\r\n\r\n")

    def prepare(self, name: str) -> None:
        """Make an answer ahead."""
        self.websocket(name)
        self.sse(name)

    def _script(self, kind: str, name: str, wrap: Callable[[bytes], bytes], end: bytes) -> Script:
        with self._lock:
            if (kind, name) not in self._ready:
                self._ready[kind, name] = Script.of(self._answers[name](), wrap, end)
            return self._ready[kind, name]


class Incoming:
    """The reading half of a connection, buffered."""

    def __init__(self, sock: socket.socket) -> None:
        self._file: Any = sock.makefile("rb", buffering=1 << 16)
        self._waste = bytearray(1 << 20)

    def head(self) -> dict[str, str]:
        """Return an HTTP request's method (under ``""``) and headers; empty at the end of the connection."""
        first = self._file.readline().decode()
        found = {"": first.partition(" ")[0]} if first else {}
        while line := self._file.readline().strip().decode():
            name, _, value = line.partition(":")
            found[name.lower()] = value.strip()
        return found

    def exactly(self, count: int) -> bytes:
        """Return so many bytes, or raise ``EOFError``."""
        data: bytes = self._file.read(count)
        if len(data) < count:
            raise EOFError
        return data

    def skip(self, count: int) -> None:
        """Take so many bytes and forget them."""
        view = memoryview(self._waste)
        while count:
            got = self._file.readinto1(view[: min(count, len(view))])
            if not got:
                raise EOFError
            count -= got

    def frame(self) -> tuple[int, bytes | None]:
        """Return a frame's opcode and its payload, None if that is an upload."""
        first, second = self.exactly(2)
        size = second & 0x7F
        if size > 125:
            size = int.from_bytes(self.exactly(2 if size == 126 else 8), "big")
        mask = self.exactly(4)
        if size > _READABLE_BYTES:
            self.skip(size)
            return first & 0x0F, None
        pad = (mask * (size // 4 + 1))[:size]
        masked = int.from_bytes(self.exactly(size), "big") ^ int.from_bytes(pad, "big")
        return first & 0x0F, masked.to_bytes(size, "big")

    def body(self, size: int) -> bytes | None:
        """Return the body of a request, None if that is an upload."""
        if size > _READABLE_BYTES:
            self.skip(size)
            return None
        return self.exactly(size)


def _chunk(block: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(block), block)


def _asked(request: bytes | None) -> str:
    """Return the name of the answer that a request asks for; an upload is answered shortly."""
    return "short" if request is None else json.loads(request)["input"]


def _converse(sock: socket.socket, scripts: Scripts) -> None:
    """Answer one connection's requests until it ends."""
    incoming = Incoming(sock)
    while head := incoming.head():
        if head[""] == "GET":
            key = head["sec-websocket-key"].encode()
            accept = base64.b64encode(hashlib.sha1(key + _ACCEPT_SALT).digest())
            sock.sendall(
                b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                b"Sec-WebSocket-Accept: " + accept + b"\r\n\r\n"
            )
            _converse_in_frames(sock, incoming, scripts)
            return
        name = _asked(incoming.body(int(head["content-length"])))
        sock.sendall(_SSE_HEAD)
        scripts.sse(name).play(sock)


def _converse_in_frames(sock: socket.socket, incoming: Incoming, scripts: Scripts) -> None:
    while True:
        opcode, payload = incoming.frame()
        if opcode == _CLOSE:
            sock.sendall(bytes([0x80 | _CLOSE, len(payload or b"")]) + (payload or b""))
            return
        if opcode == _PING:
            sock.sendall(bytes([0x80 | _PONG, len(payload or b"")]) + (payload or b""))
        elif opcode != _PONG:
            scripts.websocket(_asked(payload)).play(sock)


def _serve(listener: socket.socket, context: ssl.SSLContext | None, scripts: Scripts) -> None:
    """Take connections, a thread for each."""

    def handle(sock: socket.socket) -> None:
        # Clients end as they like, and measured programs just exit.
        with contextlib.suppress(OSError, EOFError), contextlib.closing(sock):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if context is None:
                _converse(sock, scripts)
                return
            with context.wrap_socket(sock, server_side=True) as secured:
                _converse(secured, scripts)

    while True:
        sock, _ = listener.accept()
        threading.Thread(target=handle, args=(sock,), daemon=True).start()


def _tls_context(authority_file: Path) -> ssl.SSLContext:
    """Return a context with a certificate for this machine, and leave there what verifies it."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(authority_file)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    authority.issue_cert("127.0.0.1", "localhost").configure_cert(context)
    return context


def _pinned() -> int | None:
    """Keep this process on one core, if there are others for the clients; say which."""
    if not hasattr(os, "sched_setaffinity") or len(os.sched_getaffinity(0)) < 2:
        return None
    core = min(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {core})
    return core


def main(sizes: str, authority_file: str, *prepared: str) -> None:
    """
    Serve until standard input ends; print where, as one line of JSON.

    Args:
        sizes: A ``Sizes`` as JSON.
        authority_file: Where to leave the certificate that clients verify with.
        prepared: The answers to make before the first request.
    """
    core = _pinned()
    scripts = Scripts(Sizes(**json.loads(sizes)))
    for name in prepared:
        scripts.prepare(name)
    context = _tls_context(Path(authority_file))
    ports = {}
    for scheme, secured in (("http", None), ("https", context)):
        listener = socket.create_server(("127.0.0.1", 0), backlog=256)
        ports[scheme] = listener.getsockname()[1]
        threading.Thread(target=_serve, args=(listener, secured, scripts), daemon=True).start()
    said = {**{kind: f"{kind}://127.0.0.1:{port}/v1" for kind, port in ports.items()}, "core": core}
    sys.stdout.write(json.dumps(said) + "\n")
    sys.stdout.flush()
    sys.stdin.read()


if __name__ == "__main__":
    main(*sys.argv[1:])
