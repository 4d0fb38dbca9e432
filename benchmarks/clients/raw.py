"""
The limit: a socket, a loop over frames, and a JSON decoder; no library at all.

It knows what this server sends and checks nothing: no fragments, no control frames, no UTF-8, no errors.
"""

from __future__ import annotations

import base64
import itertools
import json
import os
import socket
from collections.abc import Callable, Iterator, Mapping
from typing import Any
from urllib.parse import urlsplit

from . import Address
from .plain import PlainClient


__all__ = ["Fast", "Stdlib", "frame_of", "split"]

_READ_BYTES = 65_536
_READ_JSON = json.JSONDecoder().decode


def frame_of(request: Mapping[str, Any]) -> bytes:
    """Return a short request's frame; a mask of zeros is a mask."""
    payload = json.dumps({"type": "response.create", **request}).encode()
    return b"\x81" + bytes([0x80 | len(payload)]) + bytes(4) + payload


def split(data: bytes) -> tuple[list[bytes], bytes]:
    """Return the messages of the whole frames, and the rest."""
    messages, at, end = [], 0, len(data)
    while at + 10 <= end:
        size = data[at + 1]
        body = at + 2
        if size == 126:
            size, body = data[at + 2] << 8 | data[at + 3], at + 4
        elif size == 127:
            size, body = int.from_bytes(data[at + 2 : at + 10], "big"), at + 10
        if body + size > end:
            break
        at = body + size
        messages.append(data[body:at])
    return messages, data[at:]


class _Raw(PlainClient):
    """``recv``, split into frames, decode."""

    _decode: Callable[[Any], Any]

    def open(self) -> None:
        """Connect and upgrade; the answer's head ends with the bytes that were read."""
        url = urlsplit(self._address.base_url)
        host, port = url.hostname or "", url.port or 0
        self._connection = socket.create_connection((host, port))
        self._connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if self._tls:
            self._connection = self._tls.wrap_socket(self._connection, server_hostname=host)
        key = base64.b64encode(os.urandom(16)).decode()
        self._connection.sendall(
            f"GET {url.path}/responses HTTP/1.1\r\nHost: {host}:{port}\r\nUpgrade: websocket\r\n"
            f"Connection: Upgrade\r\nSec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n".encode()
        )
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            head += self._connection.recv(_READ_BYTES)

    def events(self, request: Mapping[str, Any]) -> Iterator[Any]:
        """Send a request, and iterate over what each read brought, decoded."""
        self._connection.sendall(frame_of(request))
        return itertools.chain.from_iterable(self._batches())

    def _batches(self) -> Iterator[list[Any]]:
        decode, rest = self._decode, b""
        while data := self._connection.recv(_READ_BYTES):
            messages, rest = split(rest + data)
            yield [decode(message) for message in messages]


class Fast(_Raw):
    """With msgspec."""

    def __init__(self, address: Address) -> None:
        super().__init__(address)
        from msgspec.json import Decoder

        self._decode = Decoder().decode


class Stdlib(_Raw):
    """With the standard library, in its fastest form: the text is decoded before the JSON."""

    @staticmethod
    def _decode(data: bytes, read: Callable[[str], Any] = _READ_JSON) -> Any:
        return read(str(data, "utf-8"))
