"""
The upgrade: whatever a server answers, in whatever pieces, gives headers or one of our errors, and never shows the key.

Two words in the bytes are filled in, because no fuzzer guesses what they stand for: the right accept value and the key.
"""

from __future__ import annotations

import base64
import hashlib
import re
import socket
from unittest import mock

from llmws.errors import ConnectError, HandshakeError
from llmws.secret import Secret
from llmws.wire.deadline import Deadline, TimedSocket
from llmws.wire.endpoint import Endpoint
from llmws.wire.upgrade import upgrade
from tests.fuzz.choices import Choices


__all__ = ["ACCEPT", "KEY", "any_answer"]

ACCEPT, KEY = b"@A", b"@K"
SECRET = "sk-fuzz/0123+456789_not_a_real_one"
ENDPOINT = Endpoint.build(
    "wss://api.example.com/v1/responses", headers={}, credentials=lambda: None
)
PIECES = (16384, 1, 2, 5, 40, 300)
GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


class Scripted(TimedSocket):
    """A server that reads the request and answers with given bytes, so many at a time."""

    def __init__(self, answer: bytes, cutting: Choices) -> None:
        super().__init__(_NO_SOCKET, Deadline(5.0), "the server")
        self._answer = answer
        self._cutting = cutting
        self.request = b""

    def write(self, data: bytes) -> None:
        self.request += data

    def read(self, size: int) -> bytes:
        if self.request:
            self._fill_in(self.request)
            self.request = b""
        count = min(size, self._cutting.one_of(PIECES))
        piece, self._answer = self._answer[:count], self._answer[count:]
        return piece

    @property
    def unread(self) -> bytes:
        return bytes(self.inbound) + self._answer

    def _fill_in(self, request: bytes) -> None:
        """Put the accept value of this request, and the key that it carries, where the answer wants them."""
        nonce = re.search(rb"Sec-WebSocket-Key: (\S+)", request)
        assert nonce is not None
        assert request.count(SECRET.encode()) == 1
        accept = base64.b64encode(hashlib.sha1(nonce[1] + GUID).digest())
        self._answer = self._answer.replace(ACCEPT, accept).replace(KEY, SECRET.encode())


_NO_SOCKET = socket.socket()
_NO_SOCKET.close()


def any_answer(data: bytes) -> None:
    """Answer an upgrade with the bytes behind the first four, whole and in pieces that the first four choose."""
    outcomes = [
        outcome(Scripted(data[4:], cutting)) for cutting in (Choices(b""), Choices(data[:4]))
    ]
    assert outcomes[0] == outcomes[1], "the answer reads differently in pieces"


def outcome(wire: Scripted) -> str:
    """Upgrade; return in words what that gave, after a look at whether it shows the key."""
    try:
        # The same nonce each time: the server may quote it, or what follows from it, in any form.
        with mock.patch("os.urandom", bytes):
            headers = upgrade(wire, ENDPOINT, Secret(SECRET))
    except HandshakeError as exc:
        shown = (str(exc), repr(exc), exc.body, exc.headers)
        result: tuple[object, ...] = (
            type(exc),
            str(exc),
            exc.status,
            exc.headers,
            exc.body,
            exc.retryable,
        )
    except ConnectError as exc:
        shown = (str(exc), repr(exc))
        result = (type(exc), str(exc))
    else:
        shown = (headers,)
        result = ("upgraded", headers, wire.unread)
        assert "sec-websocket-extensions" not in headers
    assert SECRET not in repr(shown), "the key is shown"
    return repr(result)
