"""
The few requests that go over HTTP: to the same server, by the same way and with the same key, as the socket's.

By requests, which is imported at the first one: a program that needs none should not pay for it. Each runs on a thread
and a connection of its own, for requests limits single waits alone: neither a name look-up nor a server that lets its
answer drip may outlast the caller's limits, or the session. Who waits keeps the limits, and ends the thread by shutting
down its connection: to close the answer would be to wait for the very read that is to be ended.
"""

from __future__ import annotations

import contextlib
import http.client
import os
import socket
import ssl
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import quote

from ...errors import (
    ConfigurationError,
    ConnectError,
    ConnectTimeout,
    FirstEventTimeout,
    IdleTimeout,
    LLMWSError,
    RemoteProtocolError,
    StreamCancelledError,
    StreamInterruptedError,
    TotalTimeout,
)
from ...secret import Secret, mask
from ...timeouts import Timeouts
from ...wire import jsoncodec
from ...wire.dial import credential_of
from ...wire.dialling import spawn_thread
from ...wire.endpoint import Endpoint, proxy_for
from ...wire.monitor import Gate
from ..vocabulary.apierrors import api_error
from .posting import Payload, adapter_for, headers_of, mask_logs, masked, url_of


if TYPE_CHECKING:
    import requests

__all__ = ["post_json"]

_ADVICE = "Check host, port and DNS, and whether a firewall or a proxy is in the way."
# Of an answer that is no JSON, what is kept.
_FAULT_BYTES = 512
# As long as a message may be, and how much of it is read at a time.
_MOST_BYTES = 128 * 2**20
_PIECE_BYTES = 65_536
# What the parser makes of an answer that is none, and of one that ends too early.
_NO_HTTP = (http.client.HTTPException, zlib.error)
_BROKEN_OFF = (http.client.IncompleteRead, ConnectionError)
# How often who waits looks whether a limit has passed or the session was closed.
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
        ConfigurationError: What a callable gave for key or headers, or the proxy that is set, cannot be used.
        ConnectError: The server could not be reached; nothing was sent.
        FirstEventTimeout: The server took the request, and did not answer in time.
        IdleTimeout: It did not go on with its answer in time.
        TotalTimeout: All together took too long.
        StreamInterruptedError: The connection broke before the answer was complete.
        StreamCancelledError: The session was closed meanwhile.
        RemoteProtocolError: The answer is no JSON object, or longer than 128 MiB.
    """
    exchange = _Exchange(endpoint, path, jsoncodec.encode(body), timeouts, started_at)
    exchange.check(closed())
    try:
        spawn_thread("llmws-responses-post", exchange.run)
    except RuntimeError as exc:  # The system has no thread left, or the interpreter is ending.
        raise ConnectError(f"No thread for POST {path}: {exc}.") from None
    try:
        while not exchange.done.wait(_LOOK_SECONDS):
            exchange.check(closed())
    finally:
        exchange.abandon()
    return _read(*exchange.result())


# How far a request has got, in the words of a turn, and whether the server may have worked on it.
_DIAL = ("queued", False)
_WRITE = ("sent", False)
_HEAD = ("sent", True)
_BODY = ("output", True)

# Status, headers with names in lower case, and body.
_Answer = tuple[int, dict[str, str], bytes]


class _Exchange:
    """
    One request and its answer; ``run`` belongs to its own thread, everything else public to who waits for it.

    Args:
        endpoint: As for ``post_json``; so are the others.

    Attributes:
        done: Opened when ``result`` has one.
        connection: urllib3's, once there is one.
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
        self.connection: Any = None
        self._lock = (
            threading.Lock()
        )  # Held while it is given up, or a piece of the request is given out.
        self._abandoned = False
        self._socket: Any = None
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
        return f"<POST {self._path} at {self._endpoint} {self._stage[0][0]}>"

    # Limits.

    def _enter(self, phase: tuple[str, bool], seconds: float | None = None) -> None:
        # At once, for who waits looks at them.
        self._stage = phase, None if seconds is None else time.monotonic() + seconds

    def check(self, closed: bool) -> None:
        """Raise if the session was closed or a limit has passed; nothing further of the request is given out then."""
        with self._lock:
            words = "The session was closed."
            error = StreamCancelledError(words, **self._facts()) if closed else self._overdue()
            self._abandoned = error is not None
        if error is not None:
            raise error

    def _overdue(self) -> LLMWSError | None:
        """Return the error of the limit that passed first, or None if none has."""
        (phase, due), end, now = self._stage, self._end, time.monotonic()
        if end is not None and end <= now and (due is None or end < due):
            words = f"POST {self._path} was not answered within {self._total:g} s."
            return TotalTimeout(words, **self._facts())
        if due is None or due > now:
            return None
        if phase is _HEAD:
            words = f"The server did not begin to answer within {self._timeouts.first_event:g} s."
            return FirstEventTimeout(words, **self._facts())
        return ConnectTimeout(
            f"No connection to {self._endpoint} within {self._timeouts.connect:g} s. {_ADVICE}"
        )

    def _facts(self) -> dict[str, Any]:
        """Return the fields that every ``TurnError`` carries."""
        state, billed = self._stage[0]
        return {"state": state, "may_have_been_billed": billed}

    def abandon(self) -> None:
        """Have the thread end: what reads or writes just now fails, and what comes after a dial is not begun."""
        self._abandoned = True
        wire = self._socket or getattr(self.connection, "sock", None)
        if wire is not None:
            with contextlib.suppress(OSError):  # It is closed, or TLS is just taking it over.
                wire.shutdown(socket.SHUT_RDWR)

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
            except LLMWSError as exc:
                self._error = exc.with_traceback(None)
            except BaseException as exc:  # noqa: BLE001  It is told where it is waited for.
                # Neither it nor its frames: they hold the request, and so the key.
                self._error = self._explained(exc)
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
        import requests

        mask_logs(self._secrets)
        with requests.Session() as session:
            # Neither .netrc nor certificates by the environment: key, proxy and trust are as the socket's.
            session.trust_env = False
            session.proxies = self._proxies()
            adapter = adapter_for(self._endpoint, self._note_connection)
            session.mount("http://", adapter)
            session.mount("https://", adapter)
            with session.post(
                url_of(self._endpoint, self._path),
                data=Payload(self._payload, self._give_out),
                headers=headers_of(self._endpoint, credential),
                timeout=(self._timeouts.connect, self._timeouts.first_event),
                allow_redirects=False,
                stream=True,
            ) as answer:
                self._enter(_BODY)
                answer.raw.enforce_content_length = True  # In urllib3 1, it is not by itself.
                with contextlib.suppress(OSError):  # All has come, and it is closed.
                    self._socket.settimeout(self._timeouts.idle)
                headers = {name.lower(): text for name, text in answer.headers.items()}
                return answer.status_code, headers, self._content(answer)

    def _note_connection(self, connection: Any) -> None:
        self.connection = connection

    def _give_out(self, more: bool) -> None:
        """Note that the connection stands, and is given a piece of the request, behind which there may be more."""
        with self._lock:
            if self._abandoned:
                raise OSError("nobody waits for the answer any more")
            self._socket = self.connection.sock
            if more:
                self._enter(_WRITE)
            else:
                self._enter(_HEAD, self._timeouts.first_event)

    def _content(self, answer: requests.Response) -> bytes:
        content = bytearray()
        pieces: Iterator[bytes] = answer.iter_content(_PIECE_BYTES)
        while (answer.raw.length_remaining or 0) <= _MOST_BYTES and len(content) <= _MOST_BYTES:
            piece = next(pieces, b"")
            if not piece:
                return bytes(content)
            content += piece
        raise self._breach(f"has more than {_MOST_BYTES:,} bytes")

    def _proxies(self) -> dict[str, str]:
        proxy = proxy_for(self._endpoint, os.environ)
        if proxy is None:
            return {}
        scheme, _, place = str(proxy).partition("://")
        password = proxy.password or Secret("")
        self._secrets.append(password)
        user = f"{quote(proxy.username or '', safe='')}:{quote(password.reveal(), safe='')}@"
        address = f"{scheme}://{user if proxy.username else ''}{place}"
        return {"http": address, "https": address}

    # What went wrong.

    def _explained(self, problem: BaseException) -> LLMWSError:
        """Return our error for one of a library."""
        from requests.exceptions import InvalidSchema

        causes = list(_causes(problem))
        # urllib3 1 has had another try before, of which nothing needs to be told.
        root = next((each for each in reversed(causes) if isinstance(each, OSError)), problem)
        phase = self._stage[0]
        silent = isinstance(root, TimeoutError) and root.errno is None  # Ours, not ETIMEDOUT.
        overdue = self._overdue()
        if silent and overdue is not None:
            return overdue
        if silent and phase is _BODY:
            words = f"No further piece of the answer came within {self._timeouts.idle:g} s."
            return IdleTimeout(words, **self._facts())
        if isinstance(problem, InvalidSchema):
            return ConfigurationError(
                'HTTP requests through a SOCKS proxy need PySocks: pip install "llmws[socks]".'
            )
        words = masked(f"{type(root).__name__}: {root}", self._secrets)
        if phase is _DIAL:
            trusted = not isinstance(root, ssl.SSLCertVerificationError)
            words = f"No connection to {self._endpoint}: {words}. {_ADVICE}"
            return ConnectError(words, retryable=trusted)
        for cause in causes:
            if isinstance(cause, _NO_HTTP) and not isinstance(cause, _BROKEN_OFF):
                return self._breach(f"is no HTTP ({type(cause).__name__})")
        return StreamInterruptedError(
            f"The connection ended before the answer to POST {self._path} did: {words}",
            **self._facts(),
        )

    def _breach(self, words: str) -> RemoteProtocolError:
        return RemoteProtocolError(
            f"The answer of {self._endpoint} to POST {self._path} {words}.", **self._facts()
        )


def _causes(problem: BaseException) -> Iterator[BaseException]:
    """Yield an exception and what led to it, the first cause last."""
    cause: BaseException | None = problem
    while cause is not None:
        yield cause
        cause = cause.__cause__ or cause.__context__


def _read(answer: _Answer, secrets: list[Secret]) -> dict[str, Any]:
    status, headers, content = answer
    try:
        found = jsoncodec.decode(content)
    except jsoncodec.JSONError:
        found = None
    if status >= 400:
        error = found.get("error") if isinstance(found, dict) else None
        said = mask(error if isinstance(error, dict) else {}, secrets)
        texts = {name: said.get(name) for name in ("message", "type", "code", "param")}
        known = {name: text if isinstance(text, str) else None for name, text in texts.items()}
        raise api_error(
            message=known["message"] or f"The server answered with status {status}",
            status=status,
            type=known["type"],
            code=known["code"],
            param=known["param"],
            headers=mask(headers, secrets),
            state="sent",
        )
    if not isinstance(found, dict) or status >= 300:
        moved = f" It has status {status}, and redirects are not followed."
        raise RemoteProtocolError(
            f"The server's answer is no JSON object.{moved if status >= 300 else ''}",
            raw=mask(content[: 2 * _FAULT_BYTES], secrets)[:_FAULT_BYTES],
            state="output",
            may_have_been_billed=True,
        )
    return found
