"""
What runs behind a session: its pool of connections and the callback threads.

Threads hold this and never the session, so that a forgotten session can be collected and its threads ended.
"""

from __future__ import annotations

import itertools
import random
import threading
import time
import weakref
from collections.abc import Callable, Iterable
from typing import Any, Literal

import attrs

from ...errors import ConnectError, OutboxFullError, SessionClosedError, WouldDeadlockError
from ...secret import Secret
from ...timeouts import Timeouts
from ...wire.callbacks import CallbackThreads
from ...wire.connection import Connection
from ...wire.dialling import spawn_thread
from ...wire.endpoint import Endpoint
from ...wire.greenlets import Greenlets
from ...wire.link import Link, LinkPolicy
from ...wire.process import on_fork
from ..routing.lanes import Lanes
from ..routing.turn import Cancel, Turn
from ..stream.handlers import Handlers
from ..vocabulary.capabilities import Capabilities
from ..vocabulary.items import Usage
from .pool import Pool
from .rotation import Movable, Rotation


__all__ = ["Core", "Parts"]

_MAX_OUTBOX_BYTES = 64 * 2**20
# Of ``Timeouts.close``, what the closing handshake may take; the rest is for the thread to end.
_HANDSHAKE_SHARE = 0.75

# A connection without a turn for so long is closed.
_IDLE_SECONDS = 300.0

_numbers = itertools.count(1)
_groups = itertools.count(1)


@attrs.frozen(kw_only=True)
class Parts:
    """
    How the moving parts of a session are set up.

    Attributes:
        sequence_check: See ``Lanes``.
        callback_threads: How many callback threads there may be.
        max_connections: How many connections there may be.
        warm_window: Conversations that were in use in the last so many seconds are moved when their connection is
            replaced; 0 moves none.
    """

    sequence_check: Literal["warn", "strict"] = "warn"
    callback_threads: int = 4
    max_connections: int = 1
    warm_window: float = 60.0


class Core:
    """
    The moving parts of one session; thread-safe.

    Args:
        endpoint: Where to dial.
        timeouts: The session's limits.
        capabilities: What the server allows; None means one turn at a time on a connection.
        parts: How many of what there are.
        secrets: Gives the keys that were used so far.
        jitter: Random numbers from 0 to 1, so that sessions made together do not rotate together.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        timeouts: Timeouts,
        capabilities: Capabilities | None = None,
        parts: Parts | None = None,
        secrets: Callable[[], Iterable[Secret]] = tuple,
        *,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self.secrets = secrets
        self._endpoint = endpoint
        self._timeouts = timeouts
        self._capabilities = capabilities or Capabilities(lanes=False)
        self._parts = parts = parts or Parts()
        self._jitter = jitter
        self.closed = False
        # The tokens of what went over HTTP; written under the lock.
        self.posted_usage = Usage()
        self._greenlets = Greenlets()
        self._callbacks_name = f"llmws-responses-callbacks-{next(_groups)}"
        self._make_locks()
        self._conversations: weakref.WeakSet[Movable] | None = None  # Until there is one.
        self.pool = Pool(self._connect, self._capabilities, parts.max_connections)
        rotation = Rotation(self.pool, self._movable, timeouts, parts.warm_window, spawn_thread)
        self.pool.aged = rotation.begin
        self._submitted_bytes = 0
        # At the last look, which is only taken when it matters: it can only have grown.
        self._released_bytes = 0
        self._busy: set[Handlers] = set()
        on_fork(self, "_renew")

    def _connect(self, lanes_known: bool | None) -> tuple[Connection, Lanes]:
        """Make one more connection; nothing runs before its first turn."""
        close = self._timeouts.close
        handshake = None if close is None else close * _HANDSHAKE_SHARE
        policy = LinkPolicy(close_timeout=handshake or LinkPolicy().close_timeout)
        known = self._capabilities
        if lanes_known is not known.lanes:
            known = attrs.evolve(known, lanes=lanes_known)
        lanes = Lanes(
            self._parts.sequence_check,
            self.secrets,
            known,
            max_age=self._capabilities.rotate_after(self._jitter()),
            idle_seconds=_IDLE_SECONDS,
        )
        name, dial = f"llmws-responses-{next(_numbers)}", _dialler(self._endpoint)
        return Connection(name, str(self._endpoint), dial, lanes, Link(policy)), lanes

    def _renew(self) -> None:
        self._make_locks()
        self.pool.renew()

    def _make_locks(self) -> None:
        """Make what holds locks; in a forked child, again."""
        self.callbacks = CallbackThreads(self._callbacks_name, self._parts.callback_threads)
        # Guards the count of bytes and of tokens, the set of busy handlers and that of conversations; innermost.
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
        size_bytes = turn.size_bytes
        with self._lock:
            if self.closed:
                raise SessionClosedError("The session is closed: open a new one.")
            waiting = self._submitted_bytes - self._released_bytes
            if waiting + size_bytes > _MAX_OUTBOX_BYTES:
                waiting = self._submitted_bytes - self._look_what_was_released()
            if waiting + size_bytes > _MAX_OUTBOX_BYTES:
                raise OutboxFullError(
                    f"{waiting:,} bytes of requests wait to be written and this one has {size_bytes:,}, which would "
                    f"pass {_MAX_OUTBOX_BYTES:,}: wait for earlier turns first."
                )
            self._submitted_bytes += size_bytes
        try:
            self.pool.submit(turn)
        except ConnectError:
            with self._lock:
                self._submitted_bytes -= size_bytes
            raise

    def _look_what_was_released(self) -> int:
        counted = (counters.released_bytes for counters in self.pool.counters()[1])
        self._released_bytes = sum(counted)
        return self._released_bytes

    def post(self, given: Any) -> None:
        """Hand something about a turn to its router; takes no lock."""
        turn = given.turn
        if isinstance(given, Cancel):
            turn.cancelled = given  # If it is between two connections, the next one finds it.
        if turn.slot is not None:
            turn.slot.connection.post_quietly(given)

    def check_may_wait(self) -> None:
        """Raise ``WouldDeadlockError`` on the I/O thread, which must never wait for itself."""
        if self.on_own_thread:
            raise WouldDeadlockError(
                "A blocking call was made on the I/O thread of its own connection, as by a finalizer. "
                "Make it on a thread of your own."
            )

    @property
    def on_own_thread(self) -> bool:
        """Whether the caller is one of the I/O threads, which must never wait."""
        return any(connection.on_own_thread for connection in self.pool.connections())

    @property
    def connection(self) -> Connection:
        """The first of the connections."""
        return self.pool.slots[0].connection

    @property
    def lanes(self) -> Lanes:
        """The router of that connection."""
        return self.pool.slots[0].lanes

    def register(self, conversation: Movable) -> None:
        """Have a conversation moved when its connection is replaced, as long as it lives."""
        with self._lock:
            if self._conversations is None:
                self._conversations = weakref.WeakSet()
            self._conversations.add(conversation)

    def _movable(self) -> list[Movable]:
        with self._lock:
            return list(self._conversations or ())

    def count(self, usage: Usage) -> None:
        """Add the tokens of what went over HTTP."""
        with self._lock:
            self.posted_usage = self.posted_usage + usage

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
        self.pool.stop()

    def join(self, timeout: float | None) -> None:
        """Wait at most so many seconds for the I/O threads to end after ``stop``."""
        deadline = None if timeout is None else time.monotonic() + timeout
        for connection in self.pool.connections():
            connection.join(None if deadline is None else max(0.0, deadline - time.monotonic()))


def _dialler(endpoint: Endpoint) -> Callable[[float | None, threading.Event], Any]:
    def dial_once(timeout: float | None, abandoned: threading.Event) -> Any:
        # Imported at the first dial: the upgrade's library is most of what importing llmws would cost.
        from ...wire.dial import dial

        return dial(endpoint, timeout=timeout, abandoned=abandoned)

    return dial_once
