"""
One dial at a time, on a short-lived thread that hands over a finished socket.

The socket changes owners once, through a post; it is never shared. A dial that overruns is abandoned with its thread:
whatever it still brings is closed unseen.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from typing import Protocol

import attrs

from ..errors import ConnectError, ConnectTimeout, LLMWSError
from ..secret import redact


__all__ = ["DialResult", "Dialling", "spawn_thread"]

# What a dial may overrun before the I/O thread stops waiting for its thread (a name look-up cannot be interrupted).
_OVERRUN = 0.05


class _Dialled(Protocol):
    """What a dial hands over: see ``dial.Dialled``."""

    @property
    def sock(self) -> socket.socket: ...

    @property
    def early(self) -> bytes: ...


@attrs.frozen(eq=False)
class DialResult:
    """
    A dial thread's post: a socket or an error.

    Attributes:
        attempt: Which dial this was, from 1.
        sock: The upgraded, non-blocking socket.
        early: Bytes that came right behind the upgrade.
        error: Why there is no socket.
    """

    attempt: int
    sock: socket.socket | None = None
    early: bytes = b""
    error: ConnectError | None = None

    def refuse(self) -> None:
        """Close a socket that came too late."""
        if self.sock is not None:
            self.sock.close()


def spawn_thread(name: str, target: Callable[[], None]) -> None:
    """Start a daemon thread."""
    threading.Thread(target=target, name=name, daemon=True).start()


class Dialling:
    """
    The dials of one connection.

    Belongs to the connection's I/O thread; a dial's own thread only calls ``dial`` and ``post``.

    Args:
        dial: Dials once, blocking; gets the seconds it may take and an event that is set when nobody waits any more.
        post: Hands the result to the I/O thread.
        spawn: Starts a daemon thread.
    """

    def __init__(
        self,
        dial: Callable[[float | None, threading.Event], _Dialled],
        post: Callable[[DialResult], None],
        spawn: Callable[[str, Callable[[], None]], None],
    ) -> None:
        self._dial = dial
        self._post = post
        self._spawn = spawn
        self._timeout: float | None = None
        self._attempt = 0
        self._abandoned = threading.Event()
        self.deadline: float | None = None

    def start(self, name: str, now: float, timeout: float | None) -> None:
        """Begin a dial of at most ``timeout`` seconds; its result is posted."""
        self._attempt += 1
        self._abandoned = threading.Event()
        self._timeout = timeout
        self.deadline = None if timeout is None else now + timeout * (1 + _OVERRUN)
        attempt, abandoned = self._attempt, self._abandoned
        try:
            self._spawn(name, lambda: self._run(attempt, timeout, abandoned))
        except RuntimeError as exc:  # The system has no thread left, or the interpreter is ending.
            self._post(DialResult(attempt, error=ConnectError(f"No thread for the dial: {exc}.")))

    def accept(self, result: DialResult) -> bool:
        """Tell whether a result is the one waited for; one that is not is disposed of."""
        if result.attempt != self._attempt or self._abandoned.is_set():
            result.refuse()
            return False
        self.abandon()
        return True

    def abandon(self) -> None:
        """Wait no longer for the dial under way."""
        self._abandoned.set()
        self.deadline = None

    def overdue(self, now: float) -> ConnectTimeout | None:
        """Abandon a dial that overran, and return the error it ends with."""
        if self.deadline is None or now < self.deadline:
            return None
        self.abandon()
        return ConnectTimeout(
            f"No connection within {self._timeout} s: the dial hangs, probably in the name look-up. Check DNS, "
            "or raise Timeouts.connect."
        )

    def _run(self, attempt: int, timeout: float | None, abandoned: threading.Event) -> None:
        try:
            dialled = self._dial(timeout, abandoned)
        except ConnectError as exc:
            self._post(DialResult(attempt, error=exc))
        except BaseException as exc:  # noqa: BLE001  A credentials callable is user code and may raise anything.
            words = str(exc) if isinstance(exc, LLMWSError) else f"{type(exc).__name__}: {exc}"
            error = ConnectError(f"The dial failed: {redact(words)}", retryable=False)
            # Without its frames, whose variables may hold the key.
            error.__cause__ = exc.with_traceback(None)
            self._post(DialResult(attempt, error=error))
        else:
            self._post(DialResult(attempt, dialled.sock, dialled.early))
