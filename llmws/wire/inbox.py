"""
The ordered, bounded log of one turn's events.

One I/O thread writes; any number of readers follow, each with a cursor of its own, from the first item and at their own
pace. Nothing is taken out: a reader that starts after the end sees what the first one saw.

Locking: one monitor an inbox, held for a few instructions, never while anything else is locked or called.
"""

from __future__ import annotations

import sys
import threading
import weakref
from collections.abc import Callable, Sequence
from typing import Any, Generic, TypeVar

from ..errors import InboxOverflowError
from .monitor import Monitor


__all__ = ["Inbox", "live_inboxes"]

Item = TypeVar("Item")

# Forked children end the inboxes that they inherited; see process.py.
live_inboxes: weakref.WeakSet[Inbox[Any]] = weakref.WeakSet()


class Inbox(Generic[Item]):
    """
    A log that one thread extends and many threads read.

    It ends exactly once: with an error, or with None for a normal end. Everything is safe to call from any thread,
    but ``extend`` and ``end`` belong to one writer.

    Args:
        max_bytes: Wire bytes that the log may hold.
        max_items: Items that the log may hold.
    """

    __slots__ = (
        "__weakref__",
        "_bytes",
        "_ended",
        "_error",
        "_items",
        "_listeners",
        "_max_bytes",
        "_max_items",
        "_monitor",
        "reader_lock",
    )

    def __init__(self, *, max_bytes: int = 256 * 2**20, max_items: int = 1_000_000) -> None:
        self._max_bytes = max_bytes
        self._max_items = max_items
        self._items: list[Item] = []
        self._bytes = 0
        self._ended = False
        self._error: Exception | None = None
        self._monitor = Monitor()
        self._listeners: list[Callable[[], None]] = []
        # For readers that share what they make of the log; it is here so that a forked child finds a free one.
        self.reader_lock = threading.Lock()
        live_inboxes.add(self)

    def __repr__(self) -> str:
        end = f" ended={self._error!r}" if self._ended else ""
        return f"<Inbox items={len(self._items)} bytes={self._bytes}{end}>"

    def __len__(self) -> int:
        return len(self._items)

    @property
    def ended(self) -> bool:
        """Whether nothing will be added any more."""
        return self._ended

    @property
    def error(self) -> Exception | None:
        """What ended the log, or None if it goes on or ended normally."""
        return self._error

    def extend(self, items: Sequence[Item], size_bytes: int) -> bool:
        """
        Add items at the end and wake every waiter.

        Args:
            items: What to add; nothing is added after the end.
            size_bytes: What the items took on the wire.

        Returns:
            False if they do not fit: then none was taken, and the log has ended with ``InboxOverflowError``.
        """
        if (
            self._bytes + size_bytes > self._max_bytes
            or len(self._items) + len(items) > self._max_items
        ):
            self.end(
                InboxOverflowError(
                    f"The turn's log is full ({self._max_items} events or {self._max_bytes // 2**20} MiB): "
                    "ask for less output in one turn.",
                    state="output",
                    may_have_been_billed=True,
                )
            )
            return False
        with self._monitor.lock:
            if self._ended:
                return True
            self._bytes += size_bytes
            self._items.extend(items)
            self._monitor.notify()
            listeners = self._listeners
        for listener in listeners:
            listener()
        return True

    def end(self, error: Exception | None = None) -> bool:
        """
        End the log and wake every waiter; only the first call counts.

        Args:
            error: What ended it, or None for a normal end.

        Returns:
            Whether this call ended it.
        """
        with self._monitor.lock:
            if self._ended:
                return False
            self._error = error
            self._ended = True
            self._monitor.notify()
            listeners, self._listeners = self._listeners, []
        for listener in listeners:
            listener()
        return True

    def read(
        self, cursor: int, deadline: float | None = None, *, most: int = sys.maxsize
    ) -> list[Item]:
        """
        Return what follows a cursor, waiting until there is something or the log ends.

        Args:
            cursor: How many items the reader has had.
            deadline: When to stop waiting, on ``time.monotonic``; None waits until there is something.
            most: How many items to return at most.

        Returns:
            At least one item, or an empty list if the log has ended there or the deadline has passed.
        """
        if len(self._items) <= cursor and not self._ended:
            self._monitor.wait_for(lambda: self._ended or len(self._items) > cursor, deadline)
        return self._items[cursor : cursor + most]

    def wait_ended(self, deadline: float | None = None) -> bool:
        """Wait for the end; return whether it came before the deadline (``time.monotonic``)."""
        return self._ended or self._monitor.wait_for(lambda: self._ended, deadline)

    def listen(self, listener: Callable[[], None]) -> None:
        """
        Call a function after each change, and once now.

        It is called on the writer's thread without a lock, and must neither block nor raise.
        """
        with self._monitor.lock:
            if not self._ended:
                self._listeners = [*self._listeners, listener]
        listener()

    def abandon_in_child(self, error: Exception) -> None:
        """End the log in a forked child, whose copy of the lock nobody may be left to release."""
        self._monitor = Monitor()
        self.reader_lock = threading.Lock()
        self._listeners = []
        if not self._ended:
            self._error, self._ended = error, True
