"""
The few requests that go over HTTP: to the same server, by the same way and with the same key, as the socket's.

Each has a connection of its own, dialled as the socket's are: a library's pool would write the request's address, and
so maybe a key, to its log. And each runs on a thread of its own, so that neither a name look-up nor a server that lets
its answer drip can outlast the caller's limits, or the session.
"""

from __future__ import annotations

import http.client
import io
import math
import os
import threading
import time
from collections.abc import Callable
from typing import Any, cast

import attrs

from ..errors import (
    ConnectError,
    ConnectTimeout,
    FirstEventTimeout,
    IdleTimeout,
    LLMWSError,
    RemoteProtocolError,
    StreamCancelledError,
    StreamInterruptedError,
    TotalTimeout,
    TurnTimeout,
)
from ..secret import Secret, mask
from ..timeouts import Timeouts
from ..wire import jsoncodec
from ..wire.deadline import Deadline, TimedSocket
from ..wire.dial import connect, credential_of
from ..wire.dialling import spawn_thread
from ..wire.endpoint import Endpoint, proxy_for
from ..wire.monitor import Gate
from .apierrors import api_error


__all__ = ["post_json"]

# Of an answer that is no JSON, what is kept.
_FAULT_BYTES = 512
# As long as a message may be.
_MOST_BYTES = 128 * 2**20
# How often who waits looks whether the session was closed, and what an exchange may overrun before it is left alone.
_LOOK_SECONDS = 0.25


def post_json(
    endpoint: Endpoint,
    path: str,
    body: dict[str, Any],
    timeouts: Timeouts,
    *,
    started_at: float | None = None,
    closed: Callable[[], bool] = lambda: False,
) -> dict[str, Any]:
    """
    Post JSON to a path beside the socket's and return the answer's.

    Args:
        endpoint: The socket's; its path ends with ``/responses``.
        path: Such as ``/responses/compact``.
        body: What to post.
        timeouts: ``connect``; ``first_event`` for the answer's head; ``idle`` between two pieces of it; ``total`` for
            everything, where None means as long as these three together.
        started_at: Since when ``total`` counts, on the monotonic clock; None means now.
        closed: Tells whether the session was closed, which ends the wait soon.

    Raises:
        APIError: The server refused.
        ConfigurationError: What a callable gave for key or headers cannot be sent.
        ConnectError: The server could not be reached; nothing was sent.
        FirstEventTimeout: The server took the request, and did not answer in time.
        IdleTimeout: It did not go on with its answer in time.
        TotalTimeout: All together took too long.
        StreamInterruptedError: The connection broke before the answer was complete.
        StreamCancelledError: The session was closed meanwhile.
        RemoteProtocolError: The answer is no JSON object, or longer than 128 MiB.
    """
    exchange = _Exchange(endpoint, path, jsoncodec.encode(body), timeouts, started_at)
    try:
        spawn_thread("llmws-responses-post", exchange.run)
    except RuntimeError as exc:  # The system has no thread left, or the interpreter is ending.
        raise ConnectError(f"No thread for POST {path}: {exc}.") from None
    try:
        while not exchange.done.wait(_LOOK_SECONDS):
            if closed():
                raise StreamCancelledError("The session was closed.", **exchange.facts())
            overdue = exchange.overdue(time.monotonic() - _LOOK_SECONDS)
            if overdue is not None:
                raise overdue
    finally:
        exchange.abandoned.set()
    return _read(*exchange.result())


@attrs.frozen
class _Answer:
    status: int
    headers: dict[str, str] = attrs.field(repr=False)
    content: bytes = attrs.field(repr=False)


@attrs.frozen
class _Phase:
    """
    A part of an exchange.

    Attributes:
        state: How far the request has got then, in the words of a turn.
        billed: Whether the server may have worked on it.
        limit: The error of its own limit; None if that is the dial's, or if there is none.
        words: What has not happened when that passes.
    """

    state: str
    billed: bool
    limit: type[TurnTimeout] | None = None
    words: str = ""


_DIAL = _Phase("queued", billed=False)
_WRITE = _Phase("sent", billed=False)
_HEAD = _Phase("sent", True, FirstEventTimeout, "The server did not begin to answer")
_REFUSED = attrs.evolve(_HEAD, billed=False)
_BODY = _Phase("output", True, IdleTimeout, "No further piece of the answer came")


class _Exchange:
    """
    One request and its answer; ``run`` belongs to its own thread, everything else to who waits for it.

    Args:
        endpoint: As for ``post_json``; so are the others.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        path: str,
        payload: bytes,
        timeouts: Timeouts,
        started_at: float | None,
    ) -> None:
        self.done = Gate()
        self.abandoned = threading.Event()
        self._endpoint = endpoint
        self._path = path
        self._payload = payload
        self._timeouts = timeouts
        self._answer: _Answer | None = None
        self._error: BaseException | None = None
        self._secrets: list[Secret] = []
        now = time.monotonic()
        parts = (timeouts.connect, timeouts.first_event, timeouts.idle)
        self._total = timeouts.total
        if self._total is None:
            started_at = now
            self._total = None if None in parts else sum(cast("tuple[float, ...]", parts))
        start = now if started_at is None else started_at
        self._end = None if self._total is None else start + self._total
        self._enter(_DIAL, timeouts.connect)

    def __repr__(self) -> str:
        return f"<POST {self._path} at {self._endpoint} {self._stage[0].state}>"

    # Limits.

    def _enter(self, phase: _Phase, seconds: float | None) -> None:
        """Begin a phase, which may take so many seconds."""
        # At once, for who waits looks at them.
        self._stage = phase, seconds, None if seconds is None else time.monotonic() + seconds

    def _deadline(self) -> Deadline:
        """Return what is left for the phase, for a socket."""
        now = time.monotonic()
        left = [due - now for due in (self._stage[2], self._end) if due is not None]
        return Deadline(min(left) if left else None, self.abandoned)

    def overdue(self, now: float) -> LLMWSError | None:
        """Return the error of the limit that passed first, or None if none has."""
        (phase, seconds, due), end = self._stage, self._end
        if end is not None and end <= now and (due is None or end < due):
            return TotalTimeout(
                f"POST {self._path} was not answered within {self._total:g} s.", **self.facts()
            )
        if due is None or due > now:
            return None
        if phase.limit is None:
            return ConnectTimeout(
                f"No connection within {seconds:g} s: the dial hangs, probably in the name look-up. Check DNS, "
                "or raise Timeouts.connect."
            )
        return phase.limit(f"{phase.words} within {seconds:g} s.", **self.facts())

    def facts(self) -> dict[str, Any]:
        """Return the fields that every ``TurnError`` carries."""
        phase, _, _ = self._stage
        return {"state": phase.state, "may_have_been_billed": phase.billed}

    # The exchange.

    def run(self) -> None:
        """Do it, and open ``done``."""
        try:
            # Whatever these raise is their author's, and passes through as it is.
            self._endpoint = self._endpoint.asked()
            credential = credential_of(self._endpoint)
        except BaseException as exc:  # noqa: BLE001  User code may raise anything.
            self._error = exc
        else:
            self._secrets = [*self._endpoint.secrets(), *([credential] if credential else [])]
            try:
                self._answer = self._exchanged(credential)
            except BaseException as exc:  # noqa: BLE001  It is raised where it is waited for.
                # Without its frames, whose variables may hold the key.
                exc.__cause__ = exc.__context__ = None
                self._error = exc.with_traceback(None)
        finally:
            self.done.set()

    def result(self) -> tuple[_Answer, list[Secret]]:
        """Return the answer and what must not be quoted of it, or raise what went wrong."""
        error, self._error = self._error, None
        if error is not None:
            raise error
        assert self._answer is not None
        return self._answer, self._secrets

    def _exchanged(self, credential: Secret | None) -> _Answer:
        wire: TimedSocket | None = None
        try:
            wire = connect(self._endpoint, proxy_for(self._endpoint, os.environ), self._deadline())
            self._write(wire, credential)
            return self._answered(wire)
        except ConnectError as exc:
            # One limit has passed, and it is the first of them.
            overdue = self.overdue(math.inf) if isinstance(exc, ConnectTimeout) else None
            if self._stage[0] is _DIAL:
                # The dial's own error names the phase that took the time.
                raise overdue if isinstance(overdue, TotalTimeout) else exc from None
            raise overdue or self._interrupted(str(exc)) from None
        except (http.client.IncompleteRead, http.client.RemoteDisconnected):
            raise self._interrupted("the server closed it.") from None
        except (http.client.HTTPException, ValueError) as exc:
            raise self._breach(f"is no HTTP ({type(exc).__name__})") from None
        finally:
            if wire is not None:
                wire.sock.close()

    def _write(self, wire: TimedSocket, credential: Secret | None) -> None:
        self._enter(_WRITE, None)
        wire.deadline, following = self._deadline(), _HEAD
        try:
            wire.write(_head(self._endpoint, self._path, len(self._payload), credential))
            wire.write(self._payload)
        except ConnectTimeout:
            raise
        except ConnectError:
            # A server that refuses need not read to the end: what it said says more than that it hung up.
            following = _REFUSED
        self._payload = b""
        self._enter(following, self._timeouts.first_event)
        wire.deadline = self._deadline()

    def _answered(self, wire: TimedSocket) -> _Answer:
        inbound = _Inbound(wire)
        response = http.client.HTTPResponse(cast(Any, inbound), method="POST")
        response.begin()
        headers: dict[str, str] = {}
        for name, text in response.headers.items():
            headers[name.lower()] = text
        inbound.before_read = lambda: self._next_piece(wire)
        content = bytearray()
        while len(content) <= _MOST_BYTES and (response.length or 0) <= _MOST_BYTES:
            piece = response.read(65_536)
            content += piece
            if not piece:
                if response.length:
                    raise self._interrupted(f"{response.length:,} bytes are missing.")
                return _Answer(response.status, headers, bytes(content))
        raise self._breach(f"has more than {_MOST_BYTES:,} bytes")

    def _next_piece(self, wire: TimedSocket) -> None:
        self._enter(_BODY, self._timeouts.idle)
        wire.deadline = self._deadline()

    def _interrupted(self, words: str) -> StreamInterruptedError:
        return StreamInterruptedError(
            f"The connection ended before the answer to POST {self._path} did: {words}",
            **self.facts(),
        )

    def _breach(self, words: str) -> RemoteProtocolError:
        return RemoteProtocolError(
            f"The answer of {self._endpoint} to POST {self._path} {words}.", **self.facts()
        )


class _Inbound(io.RawIOBase):
    """What comes from a socket, as the standard library's parser of HTTP reads it."""

    def __init__(self, wire: TimedSocket) -> None:
        self.before_read: Callable[[], None] = lambda: None
        self._wire = wire

    def makefile(self, mode: str) -> io.BufferedReader:
        return io.BufferedReader(self, 65_536)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        self.before_read()
        data = self._wire.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)


def _head(endpoint: Endpoint, path: str, size_bytes: int, credential: Secret | None) -> bytes:
    place, mark, query = endpoint.resource.partition("?")
    fields = {
        "accept": "application/json",
        "accept-encoding": "identity",
        **{name.lower(): value.reveal() for name, value in endpoint.headers},
        **({"authorization": f"Bearer {credential.reveal()}"} if credential else {}),
        "host": endpoint.host_header,
        "connection": "close",
        "content-type": "application/json",
        "content-length": str(size_bytes),
    }
    lines = [
        f"POST {place.removesuffix('/responses')}{path}{mark}{query} HTTP/1.1",
        *(f"{name}: {value}" for name, value in fields.items()),
    ]
    return "\r\n".join([*lines, "", ""]).encode("latin-1")


def _read(answer: _Answer, secrets: list[Secret]) -> dict[str, Any]:
    try:
        found = jsoncodec.decode(answer.content)
    except jsoncodec.JSONError:
        found = None
    if answer.status >= 400:
        error = found.get("error") if isinstance(found, dict) else None
        said = mask(error if isinstance(error, dict) else {}, secrets)
        texts = {name: said.get(name) for name in ("message", "type", "code", "param")}
        known = {name: text if isinstance(text, str) else None for name, text in texts.items()}
        raise api_error(
            message=known["message"] or f"The server answered with status {answer.status}",
            status=answer.status,
            type=known["type"],
            code=known["code"],
            param=known["param"],
            headers=mask(answer.headers, secrets),
            state="sent",
        )
    if not isinstance(found, dict) or answer.status >= 300:
        moved = f" It has status {answer.status}, and redirects are not followed."
        raise RemoteProtocolError(
            f"The server's answer is no JSON object.{moved if answer.status >= 300 else ''}",
            raw=mask(answer.content[: 2 * _FAULT_BYTES], secrets)[:_FAULT_BYTES],
            state="output",
            may_have_been_billed=True,
        )
    return found
