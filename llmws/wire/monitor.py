"""
A lock and those who wait behind it: the one way in which threads of llmws wait for each other's state.

Ctrl-C may strike anywhere in the main thread, a wait included, and must leave no lock held. So a monitor is always
entered by the lock itself: a condition's ``__enter__`` is Python, and an interrupt between it and the block would leave
the lock held for ever. The lock is reentrant because such a lock is released by its owner alone.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable


__all__ = ["Gate", "Monitor"]

# The main thread, which alone handles signals, sleeps in slices of so many seconds: a signal that strikes just as it
# falls asleep is not noticed until it wakes, and on Windows none is that strikes while it sleeps.
_SLICE_SECONDS = 0.2


class Monitor:
    """
    A lock, and waiting for what it guards to change.

    Innermost wherever it is used: nothing else is locked or called while it is held.

    Attributes:
        lock: To be held while what it guards is read or changed, and for ``notify``.
    """

    __slots__ = ("_changed", "_waiting", "lock")

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self._changed = threading.Condition(self.lock)
        self._waiting = 0

    def notify(self) -> None:
        """Have every waiter look again; the caller holds the lock."""
        if self._waiting:
            self._changed.notify_all()

    def wait_for(self, arrived: Callable[[], bool], deadline: float | None = None) -> bool:
        """
        Wait until something is so.

        Args:
            arrived: Tells whether it is; called with the lock held.
            deadline: When to stop waiting, on ``time.monotonic``; None waits until it is so.

        Returns:
            Whether it came to be so before the deadline.
        """
        try:
            with self.lock:
                self._waiting += 1
                try:
                    return self._wait_locked(arrived, deadline)
                finally:
                    self._waiting -= 1
        except RuntimeError as exc:
            # Ctrl-C struck where the condition had just let go of the lock, so that there was none to release.
            raise exc.__context__ or exc from None

    def _wait_locked(self, arrived: Callable[[], bool], deadline: float | None) -> bool:
        sliced = threading.get_ident() == threading.main_thread().ident
        while not arrived():
            left = None if deadline is None else deadline - time.monotonic()
            if left is not None and left <= 0:
                return False
            if sliced:
                left = _SLICE_SECONDS if left is None else min(left, _SLICE_SECONDS)
            self._changed.wait(left)
        return True


class Gate:
    """
    Opened once, and waited for by anybody.

    Unlike a ``threading.Event``, one that Ctrl-C or a signal handler strikes inside of ``wait`` can still be opened,
    and be waited for by that handler.
    """

    __slots__ = ("_monitor", "_open")

    def __init__(self) -> None:
        self._monitor = Monitor()
        self._open = False

    def is_set(self) -> bool:
        """Tell whether it is open; takes no lock."""
        return self._open

    def set(self) -> None:
        """Open it."""
        with self._monitor.lock:
            self._open = True
            self._monitor.notify()

    def wait(self, timeout: float | None = None) -> bool:
        """Wait at most so many seconds until it is open; return whether it is."""
        deadline = None if timeout is None else time.monotonic() + timeout
        return self._open or self._monitor.wait_for(self.is_set, deadline)
