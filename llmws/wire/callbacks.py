"""
Threads for user code: serial within a strand, parallel across strands, few in all.

A strand is the callbacks of one stream. Whoever has news for it calls ``schedule``, which only puts it in line; one of
the threads then runs its work. No lock is held while user code runs, so that it may do anything, blocking turns
included.

Locking: one monitor for the whole group, innermost; nothing is called under it.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

from .monitor import Monitor


__all__ = ["CallbackThreads", "Strand"]

logger = logging.getLogger(__name__)

# A thread without work ends after so many seconds; the next work starts another.
_IDLE_SECONDS = 0.5


class Strand:
    """
    Work that never runs twice at once.

    Args:
        work: Does whatever is due, and returns; called again after each ``schedule``.
    """

    __slots__ = ("_again", "_queued", "owner", "work")

    def __init__(self, work: Callable[[], None]) -> None:
        self.work = work
        # The thread that runs it now. With the two flags below it is guarded by the group's monitor.
        self.owner: int | None = None
        self._queued = False
        self._again = False


class CallbackThreads:
    """
    At most ``limit`` daemon threads, started when there is work.

    Safe to call from any thread.

    Args:
        name: What the threads are called, before their number.
        limit: How many run at once.
    """

    def __init__(self, name: str, limit: int) -> None:
        self._name = name
        self._limit = limit
        self._monitor = Monitor()
        # Mostly empty, and never long: a deque would take 700 bytes of each session that has no callbacks.
        self._line: list[Strand] = []
        self._threads = 0
        self._idle = 0
        self._idle_seconds = _IDLE_SECONDS
        self._retired = False
        self._idents: set[int] = set()

    def __repr__(self) -> str:
        return f"<CallbackThreads {self._name} threads={self._threads}/{self._limit} idle={self._idle}>"

    def schedule(self, strand: Strand) -> None:
        """Have the strand's work done soon; never blocks."""
        with self._monitor.lock:
            if strand.owner is not None:
                strand._again = True
                return
            if strand._queued and self._threads:
                return
            if not strand._queued:
                strand._queued = True
                self._line.append(strand)
            # Also for one that stands in line since no thread could be had for it.
            grow = self._idle < len(self._line) and self._threads < self._limit
            if grow:
                self._threads += 1
                number = self._threads
            else:
                self._monitor.notify()
        if grow:
            self._grow(number)

    def _grow(self, number: int) -> None:
        try:
            threading.Thread(target=self._run, name=f"{self._name}-{number}", daemon=True).start()
        except RuntimeError as exc:
            # The system has no thread left, or the interpreter is ending. It must not cost the I/O thread, which may
            # be the caller: the work stays in line for the threads there are, or the next one.
            with self._monitor.lock:
                self._threads -= 1
            # The end of the interpreter, which Python 3.12 and later tell so, is no trouble to be told of.
            level = logging.DEBUG if "shutdown" in str(exc) else logging.ERROR
            logger.log(level, "%s: no thread for callbacks: %s", self._name, exc)

    def take_over(self, strand: Strand, deadline: float | None) -> bool:
        """
        Make the calling thread the only one that runs this strand, until ``give_back``.

        Args:
            strand: Which.
            deadline: Until when to wait for the thread that runs it now (``time.monotonic``), or None.

        Returns:
            False if the time was up first.
        """
        with self._monitor.lock:
            if not self._monitor.wait_for(lambda: strand.owner is None, deadline):
                return False
            strand.owner = threading.get_ident()
            return True

    def give_back(self, strand: Strand) -> None:
        """Let the group run the strand again."""
        with self._monitor.lock:
            strand.owner = None
            again, strand._again = strand._again, False
            self._monitor.notify()
        if again:
            self.schedule(strand)

    def retire(self) -> None:
        """Let threads end as soon as they have no work; work that still comes is done all the same."""
        with self._monitor.lock:
            self._retired = True
            self._monitor.notify()

    @property
    def on_own_thread(self) -> bool:
        """Whether the caller is one of these threads."""
        return threading.get_ident() in self._idents

    def _run(self) -> None:
        self._idents.add(threading.get_ident())
        while (strand := self._next()) is not None:
            try:
                strand.work()
            except BaseException:
                # The strand catches what callbacks raise; this is a defect, and must not cost the group a thread.
                logger.exception("%s: callbacks could not be run", self._name)
            self.give_back(strand)
            strand = None  # Or an idle thread would keep a stream and its session.
        self._idents.discard(threading.get_ident())

    def _next(self) -> Strand | None:
        with self._monitor.lock:
            while True:
                while self._line:
                    strand = self._line.pop(0)
                    strand._queued = False
                    if strand.owner is None:
                        strand.owner = threading.get_ident()
                        return strand
                    strand._again = True  # Somebody took it over while it stood in line.
                self._idle += 1
                until = time.monotonic() + self._idle_seconds
                self._monitor.wait_for(lambda: bool(self._line) or self._retired, until)
                self._idle -= 1
                if not self._line:
                    self._threads -= 1
                    return None
