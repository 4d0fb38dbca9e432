"""
Life in a process: exit, fork, and what is left behind by both.

Daemon threads die with the interpreter, in the middle of whatever they do; so they are stopped at exit, for a bounded
time. A forked child has copies of every object and none of the threads; so it lets go of descriptors, ends what was
running, and starts afresh on first use. The parent does not notice.
"""

from __future__ import annotations

import atexit
import os
import time
import weakref
from typing import Protocol

from ..errors import ForkedError
from .backoff import process_budget
from .inbox import live_inboxes


__all__ = ["half_made", "live_connections", "on_fork"]

# Together, for all connections of the process.
_EXIT_SECONDS = 1.0


class _Connection(Protocol):
    def stop(self) -> None: ...

    def join(self, timeout: float | None) -> bool: ...

    def abandon_in_child(self) -> None: ...


class _HalfMade(Protocol):
    def abandon_in_child(self) -> None: ...


# Connections whose thread runs. They are removed by their own threads, so a WeakSet only guards against what was never
# started or has crashed.
live_connections: weakref.WeakSet[_Connection] = weakref.WeakSet()

# Sockets that dials are working on; a child that kept its copies would keep the server waiting for their end.
half_made: weakref.WeakSet[_HalfMade] = weakref.WeakSet()

_owners: weakref.WeakKeyDictionary[object, str] = weakref.WeakKeyDictionary()


def on_fork(owner: object, method: str) -> None:
    """Call ``owner.method()`` in every forked child, as long as the owner lives."""
    _owners[owner] = method


def _stop_at_exit() -> None:
    connections = list(live_connections)
    for connection in connections:
        connection.stop()
    deadline = time.monotonic() + _EXIT_SECONDS
    for connection in connections:
        connection.join(max(0.0, deadline - time.monotonic()))


def _after_fork_in_child() -> None:
    for holder in (*live_connections, *half_made):
        holder.abandon_in_child()
    live_connections.clear()
    half_made.clear()
    error = ForkedError(
        "This turn belongs to the parent process, which goes on with it. Start a new turn in this process."
    )
    for inbox in list(live_inboxes):
        inbox.abandon_in_child(error)
    process_budget.reset_lock()
    for owner, method in list(_owners.items()):
        getattr(owner, method)()


atexit.register(_stop_at_exit)
if hasattr(os, "register_at_fork"):  # Not on Windows, which does not fork.
    os.register_at_fork(after_in_child=_after_fork_in_child)
