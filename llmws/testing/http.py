"""The little HTTP/1.1 that the embedded server speaks: heads, bodies, answers and the upgrade's checks."""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Callable, Mapping
from typing import Any

import attrs

from ..wire import jsoncodec


__all__ = ["HTTPReader", "Head", "Refusal", "accept_upgrade", "answer", "answer_head", "error_body"]

_MAX_HEAD_BYTES = 64 * 1024
_MAX_BODY_BYTES = 128 * 1024 * 1024
_GUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_REASONS = {
    101: "Switching Protocols",
    200: "OK",
    400: "Bad Request",
    401: "Unauthorized",
    403: "Forbidden",
    404: "Not Found",
    405: "Method Not Allowed",
    411: "Length Required",
    413: "Content Too Large",
    426: "Upgrade Required",
    429: "Too Many Requests",
    431: "Request Header Fields Too Large",
    500: "Internal Server Error",
    503: "Service Unavailable",
}


@attrs.frozen
class Head:
    """A request's head; header names are in lower case, the path is without its query."""

    method: str
    path: str
    version: str
    headers: Mapping[str, str] = attrs.field(repr=False)

    def has_token(self, name: str, token: str) -> bool:
        """Tell whether a comma-separated header holds a token, in any case."""
        values = self.headers.get(name, "").split(",")
        return token in (value.strip().lower() for value in values)

    @property
    def keeps_alive(self) -> bool:
        """Whether another request may follow on the same connection."""
        return self.version == "HTTP/1.1" and not self.has_token("connection", "close")


class Refusal(Exception):
    """
    An HTTP request that gets an error for an answer.

    Attributes:
        status: The HTTP status.
        code: The error's code in the body.
        headers: What the answer's head says beside the usual.
    """

    def __init__(
        self, status: int, code: str, message: str, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.headers = dict(headers or {})


class HTTPReader:
    """
    Reads requests from a connection, one after the other.

    Args:
        receive: Returns the next bytes, or none at the end.
    """

    def __init__(self, receive: Callable[[], bytes]) -> None:
        self._receive = receive
        self._buffer = bytearray()

    def head(self) -> Head | None:
        """
        Return the next request's head, or None if the client sends no more.

        Raises:
            Refusal: It is no HTTP, or too long.
        """
        while (end := self._buffer.find(b"\r\n\r\n")) < 0:
            if len(self._buffer) > _MAX_HEAD_BYTES:
                raise Refusal(431, "head_too_large", f"The head passes {_MAX_HEAD_BYTES} bytes.")
            if self._buffer and not self._buffer[:1].isalpha():
                # Such as a client that speaks TLS: it would wait for an answer to its first bytes.
                raise Refusal(400, "bad_request", "These bytes are no HTTP.")
            if not self._more():
                return None
        lines = bytes(self._buffer[:end]).decode("latin-1").split("\r\n")
        del self._buffer[: end + 4]
        words = lines[0].split(" ")
        if len(words) != 3 or not words[2].startswith("HTTP/1."):
            raise Refusal(400, "bad_request", "The request line is no HTTP/1.1.")
        headers: dict[str, str] = {}
        for line in lines[1:]:
            name, colon, value = line.partition(":")
            if not colon:
                raise Refusal(400, "bad_request", "A header line has no colon.")
            headers[name.strip().lower()] = value.strip()
        return Head(words[0], words[1].partition("?")[0], words[2], headers)

    def body(self, head: Head) -> bytes | None:
        """
        Return the body that belongs to a head, or None if the client went away within it.

        Raises:
            Refusal: Its length is missing, bad or too much.
        """
        length = head.headers.get("content-length")
        if length is None or not length.isascii() or not length.isdigit():
            raise Refusal(411, "length_required", "Send the body with a Content-Length.")
        count = int(length)
        if count > _MAX_BODY_BYTES:
            raise Refusal(413, "body_too_large", f"The body passes {_MAX_BODY_BYTES} bytes.")
        while len(self._buffer) < count:
            if not self._more():
                return None
        body = bytes(self._buffer[:count])
        del self._buffer[:count]
        return body

    def rest(self) -> bytes:
        """Return what was read beyond the last request: the first frames, after an upgrade."""
        rest = bytes(self._buffer)
        self._buffer.clear()
        return rest

    def _more(self) -> bool:
        data = self._receive()
        self._buffer += data
        return bool(data)


def accept_upgrade(head: Head) -> bytes:
    """
    Check a WebSocket upgrade as RFC 6455 §4.2.1 asks, and return the answer that accepts it.

    No extension and no subprotocol is ever agreed to.

    Raises:
        Refusal: The request is no proper upgrade.
    """
    if head.method != "GET":
        raise Refusal(405, "method_not_allowed", "An upgrade is a GET.", {"Allow": "GET"})
    if not head.has_token("upgrade", "websocket"):
        raise Refusal(
            426, "upgrade_required", "Only WebSocket here: upgrade.", {"Upgrade": "websocket"}
        )
    if not head.has_token("connection", "upgrade") or head.version != "HTTP/1.1":
        raise Refusal(400, "bad_upgrade", "An upgrade is HTTP/1.1 with Connection: Upgrade.")
    if head.headers.get("sec-websocket-version") != "13":
        raise Refusal(
            426, "bad_version", "Sec-WebSocket-Version is not 13.", {"Sec-WebSocket-Version": "13"}
        )
    key = head.headers.get("sec-websocket-key", "")
    if not _is_key(key):
        raise Refusal(400, "bad_key", "Sec-WebSocket-Key is not 16 bytes in base64.")
    digest = hashlib.sha1(f"{key}{_GUID}".encode(), usedforsecurity=False).digest()
    accept = base64.b64encode(digest).decode()
    return answer_head(
        101,
        {"Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Accept": accept},
    )


def _is_key(key: str) -> bool:
    try:
        return len(base64.b64decode(key, validate=True)) == 16
    except (binascii.Error, ValueError):
        return False


def answer_head(status: int, headers: Mapping[str, str]) -> bytes:
    """Build an answer's head."""
    lines = [f"HTTP/1.1 {status} {_REASONS.get(status, 'Status')}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode("latin-1", "replace")


def answer(status: int, body: Any, headers: Mapping[str, str] | None = None) -> bytes:
    """Build a whole answer with a JSON body."""
    data = jsoncodec.encode(body)
    fields = {"Content-Type": "application/json", "Content-Length": str(len(data))}
    return answer_head(status, {**fields, **(headers or {})}) + data


def error_body(refusal: Refusal) -> dict[str, Any]:
    """Return the body that the API gives with an HTTP error."""
    kind = "server_error" if refusal.status >= 500 else "invalid_request_error"
    error = {"type": kind, "code": refusal.code, "message": str(refusal), "param": None}
    return {"error": error}
