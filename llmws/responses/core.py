"""
What runs behind a session: the connection, its router and the callback threads.

Threads hold this and never the session, so that a forgotten session can be collected and its threads ended.
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterable
from typing import Any, Literal

from ..errors import ConnectError, OutboxFullError, SessionClosedError, WouldDeadlockError
from ..secret import Secret
from ..timeouts import Timeouts
from ..wire.callbacks import CallbackThreads
from ..wire.connection import Connection
from ..wire.endpoint import Endpoint
from ..wire.greenlets import Greenlets
from ..wire.link import Link, LinkPolicy
from ..wire.process import on_fork
from .handlers import Handlers
from .lanes import Lanes
from .turn import Submit, Turn


__all__ = ["Core"]

_MAX_OUTBOX_BYTES = 64 * 2**20
# Of ``Timeouts.close``, what the closing handshake may take; the rest is for the thread to end.
_HANDSHAKE_SHARE = 0.75

_numbers = itertools.count(1)


class Core:
    """
    The moving parts of one session; thread-safe.

    Args:
        endpoint: Where to dial.
        timeouts: The session's limits.
        sequence_check: See ``Lanes``.
        callback_threads: How many callback threads there may be.
        secrets: Gives the keys that were used so far.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        timeouts: Timeouts,
        sequence_check: Literal["warn", "strict"],
        callback_threads: int,
        secrets: Callable[[], Iterable[Secret]] = tuple,
    ) -> None:
        name = f"llmws-responses-{next(_numbers)}"
        handshake = None if timeouts.close is None else timeouts.close * _HANDSHAKE_SHARE
        policy = LinkPolicy(close_timeout=handshake or LinkPolicy().close_timeout)
        self.secrets = secrets
        self.lanes = Lanes(sequence_check, secrets)
        self.connection = Connection(
            name, str(endpoint), _dialler(endpoint), self.lanes, Link(policy)
        )
        self.closed = False
        self._greenlets = Greenlets()
        self._callback_threads = (f"{name}-callbacks", callback_threads)
        self._renew()
        self._submitted_bytes = 0
        self._busy: set[Handlers] = set()
        on_fork(self, "_renew")

    def _renew(self) -> None:
        """Make what holds locks; in a forked child, again."""
        self.callbacks = CallbackThreads(*self._callback_threads)
        # Guards the count of bytes and the set of busy handlers; innermost.
        self._lock = threading.Lock()

    def submit(self, turn: Turn) -> None:
        """
        Hand a turn to the router; never blocks.

        Raises:
            SessionClosedError: The session was closed.
            OutboxFullError: The requests that wait would pass 64 MiB.
            ConnectError: The system has no thread for the connection.
            ConfigurationError: gevent patched the process too late, or in part.
        """
        self._greenlets.check()
        size_bytes = len(turn.payload)
        with self._lock:
            if self.closed:
                raise SessionClosedError("The session is closed: open a new one.")
            waiting = self._submitted_bytes - self.lanes.counters.released_bytes
            if waiting + size_bytes > _MAX_OUTBOX_BYTES:
                raise OutboxFullError(
                    f"{waiting:,} bytes of requests wait to be written and this one has {size_bytes:,}, which would "
                    f"pass {_MAX_OUTBOX_BYTES:,}: wait for earlier turns first."
                )
            self._submitted_bytes += size_bytes
        try:
            self.connection.post(Submit(turn))
        except ConnectError:
            with self._lock:
                self._submitted_bytes -= size_bytes
            raise

    def post(self, given: Any) -> None:
        """Hand something to the router; takes no lock."""
        self.connection.post_quietly(given)

    def check_may_wait(self) -> None:
        """Raise ``WouldDeadlockError`` on the I/O thread, which must never wait for itself."""
        if self.connection.on_own_thread:
            raise WouldDeadlockError(
                "A blocking call was made on the I/O thread of its own connection, as by a finalizer. "
                "Make it on a thread of your own."
            )

    def keep(self, handlers: Handlers) -> None:
        """Remember a turn with callbacks until they are done."""
        with self._lock:
            self._busy.add(handlers)

    def release(self, handlers: Handlers) -> None:
        """Forget a turn whose callbacks are done."""
        with self._lock:
            self._busy.discard(handlers)

    def busy(self) -> list[Handlers]:
        """Return the turns whose callbacks are not done."""
        with self._lock:
            return list(self._busy)

    def stop(self) -> None:
        """End everything soon; waits for no lock, never blocks, may be repeated."""
        self.closed = True
        self.connection.stop()


def _dialler(endpoint: Endpoint) -> Callable[[float | None, threading.Event], Any]:
    def dial_once(timeout: float | None, abandoned: threading.Event) -> Any:
        # Imported at the first dial: the upgrade's library is most of what importing llmws would cost.
        from ..wire.dial import dial

        return dial(endpoint, timeout=timeout, abandoned=abandoned)

    return dial_once
