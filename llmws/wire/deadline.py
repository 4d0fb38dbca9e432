"""
A socket on a deadline, and the loan of it to a library.

Used while a socket is being set up, by the one thread that does it. A socket's own timeout starts afresh with each
byte that a slow peer lets drip; here every operation is held to what is left of one limit.
"""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import time

import attrs

from ..errors import ConnectError, ConnectTimeout
from .process import half_made


__all__ = ["Deadline", "Loan", "TimedSocket"]

# How often a dial that waits for a silent peer looks whether anybody still waits for the dial, in seconds.
_LOOK_SECONDS = 0.25


@attrs.define
class Deadline:
    """
    The time left for one dial; each look at it also ends an abandoned dial.

    Attributes:
        timeout: Seconds for the whole dial; None means no limit.
        abandoned: Once set, the next look raises; None if nobody can set it.
        phase: What the dial is doing, for messages.
        started: On the monotonic clock.
    """

    timeout: float | None
    abandoned: threading.Event | None = None
    phase: str = "name look-up"
    started: float = attrs.field(factory=time.monotonic)

    def elapsed(self) -> float:
        """Return the seconds since the dial began."""
        return time.monotonic() - self.started

    def left(self) -> float | None:
        """
        Return the seconds left, more than 0; None means no limit.

        Raises:
            ConnectTimeout: None are left.
            ConnectError: The dial was abandoned.
        """
        self.check_abandoned()
        if self.timeout is None:
            return None
        left = self.timeout - self.elapsed()
        if left <= 0:
            raise self.overrun()
        return left

    def shorten(self, seconds: float) -> None:
        """Leave at most this much time from now on."""
        limit = self.elapsed() + seconds
        self.timeout = limit if self.timeout is None else min(self.timeout, limit)

    def overrun(self) -> ConnectTimeout:
        """Return the error that says which phase took too long."""
        limit = "the system allows" if self.timeout is None else f"{self.timeout:g} s"
        return ConnectTimeout(
            f"The dial took longer than {limit}: the time ran out in the phase {self.phase!r}. "
            "Raise Timeouts.connect if this network needs longer."
        )

    def check_abandoned(self) -> None:
        """Raise a ``ConnectError`` if nobody waits for this dial any more."""
        if self.abandoned is not None and self.abandoned.is_set():
            raise ConnectError("The dial was abandoned by its caller.")


class TimedSocket:
    """
    A socket whose every operation is held to a deadline.

    For one thread. Errors are ours; no frame of this class shows a byte that went either way.

    Attributes:
        sock: The socket; TLS replaces it.
        deadline: What it is held to.
        name: Who is at the other end, for messages.
        inbound: What ``fill`` read and nobody has taken yet.
    """

    def __init__(self, sock: socket.socket, deadline: Deadline, name: str) -> None:
        self.sock = sock
        self.deadline = deadline
        self.name = name
        self.inbound = bytearray()
        half_made.add(self)

    def hand_over(self) -> socket.socket:
        """Return the socket, finished and non-blocking; it is the caller's from now on."""
        self.sock.setblocking(False)
        half_made.discard(self)
        return self.sock

    def abandon_in_child(self) -> None:
        """Close a forked child's copy of the descriptor, without a word to the peer."""
        with contextlib.suppress(OSError):
            os.close(self.sock.detach())

    def peer(self) -> str:
        """Return address and port of the other end."""
        try:
            host, port = self.sock.getpeername()[:2]
        except OSError as exc:
            raise self.broken(exc) from exc
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"

    def write(self, data: bytes) -> None:
        """Write all of the data."""
        # A memoryview does not show its bytes in a traceback with locals.
        view, data = memoryview(data), b""
        while view:
            left = self.deadline.left()
            try:
                self.sock.settimeout(left)
                sent = self.sock.send(view)
            except OSError as exc:
                raise self.broken(exc) from exc
            view = view[sent:]

    def read(self, size: int) -> bytes:
        """Return at most this many bytes; none at the end."""
        while True:
            left = self.deadline.left()
            try:
                self.sock.settimeout(_LOOK_SECONDS if left is None else min(left, _LOOK_SECONDS))
                return self.sock.recv(size)
            except OSError as exc:
                if not _is_ours(exc):
                    raise self.broken(exc) from exc

    def fill(self) -> bool:
        """Read some more into ``inbound``; False at the end."""
        before = len(self.inbound)
        self.inbound += self.read(16384)
        return len(self.inbound) > before

    def broken(self, exc: OSError) -> ConnectError:
        """Return our error for one of the socket's."""
        if _is_ours(exc):
            return self.deadline.overrun()
        return ConnectError(
            f"The connection to {self.name} broke in the phase {self.deadline.phase!r}: {exc}"
        )


def _is_ours(exc: OSError) -> bool:
    """Tell a timeout that was set here from the network's ETIMEDOUT."""
    return isinstance(exc, TimeoutError) and exc.errno is None


class Loan:
    """
    A timed socket as a library sees it: it can neither outlast the deadline nor close it.

    A failure is kept here, and the library sees a plain ``OSError`` that its caller drops together with whatever the
    library makes of it: a library's frames hold the request, and so the key.

    Attributes:
        wire: The socket on loan.
        failure: What went wrong with it, or None.
    """

    def __init__(self, wire: TimedSocket) -> None:
        self.wire = wire
        self.failure: ConnectError | None = None

    def give(self, data: bytes) -> None:
        """Write what the library sends; raises our errors."""
        self.wire.write(data)

    def take(self, size: int) -> bytes:
        """Return what the library reads; raises our errors."""
        return self.wire.read(size)

    def send(self, data: bytes) -> int:
        """Write all, so that a library that forgets about short writes is right."""
        try:
            self.give(data)
        except ConnectError as exc:
            self.failure = exc.with_traceback(None)
        self._settle()
        return len(data)

    sendall = send

    def recv(self, size: int) -> bytes:
        """Read once."""
        data = b""
        try:
            data = self.take(size)
        except ConnectError as exc:
            self.failure = exc.with_traceback(None)
        self._settle()
        return data

    def _settle(self) -> None:
        if self.failure is not None:
            raise OSError("the loan says why")

    def gettimeout(self) -> None:
        """Look like a blocking socket: libraries then leave the waiting to it."""
        return

    def close(self) -> None:
        """Do nothing: who opened the socket closes it."""
