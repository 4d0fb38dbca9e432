"""Who plays next: the creates of one connection in the order that its lanes and its limit allow."""

from __future__ import annotations

import queue
import sys
import threading
from collections.abc import Callable

from .ledger import Entry
from .request import Request


__all__ = ["Job", "Lanes"]

Job = tuple[Request, Entry]


class Lanes:
    """
    Plays creates: those of one lane in order, those of different lanes at once, and at most so many at once.

    A create that may not run yet waits; when one ends, the first that may run is next. Safe to use from any thread.

    Args:
        play: What plays a create to its end, on its lane's thread.
        most: How many may run at once.
        name: What threads are named after.
    """

    def __init__(self, play: Callable[[Request, Entry], None], *, most: int, name: str) -> None:
        self._play = play
        self._most = most
        self._name = name
        self._changed = threading.Condition()
        self._waiting: list[Job] = []
        self._running: set[str | None] = set()
        self._threads: dict[str | None, _LaneThread] = {}
        self._ended = False

    def put(self, job: Job) -> None:
        """Play a create as soon as its lane and the limit allow."""
        with self._changed:
            self._waiting.append(job)
            self._start()

    def wait_until_idle(self) -> None:
        """Return once nothing runs and nothing waits, or the connection is over."""
        with self._changed:
            self._changed.wait_for(lambda: self._ended or not (self._running or self._waiting))

    def end(self) -> None:
        """Wait for the threads; what still waits is then played to a closed connection, and so is lost."""
        with self._changed:
            self._ended = True
            self._changed.notify_all()
        for thread in self._threads.values():
            thread.end()
        for job in self._waiting:
            self._play(*job)

    def _start(self) -> None:
        """Start what may run; the caller holds the lock."""
        held = []
        for job in self._waiting:
            lane = job[0].lane
            if self._ended or lane in self._running or len(self._running) >= self._most:
                held.append(job)
            else:
                self._running.add(lane)
                self._thread_of(lane).put(job)
        self._waiting = held

    def _thread_of(self, lane: str | None) -> _LaneThread:
        if lane not in self._threads:
            name = f"{self._name}-{lane or 'default'}"
            self._threads[lane] = _LaneThread(name, self._play, lambda: self._done(lane))
        return self._threads[lane]

    def _done(self, lane: str | None) -> None:
        with self._changed:
            self._running.remove(lane)
            self._start()
            self._changed.notify_all()


class _LaneThread:
    """The thread on which one lane's creates are played."""

    def __init__(
        self, name: str, play: Callable[[Request, Entry], None], done: Callable[[], None]
    ) -> None:
        self._play = play
        self._done = done
        self._jobs: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def put(self, job: Job) -> None:
        self._jobs.put(job)

    def end(self) -> None:
        """Wait until the thread has played what it was given."""
        self._jobs.put(None)
        self._thread.join()

    def _run(self) -> None:
        while (job := self._jobs.get()) is not None:
            try:
                self._play(*job)
            except BaseException:  # noqa: BLE001  It is told as a thread's error is; the lane goes on.
                threading.excepthook(
                    threading.ExceptHookArgs((*sys.exc_info(), threading.current_thread()))
                )
            finally:
                self._done()
