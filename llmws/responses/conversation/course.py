"""
The course of a conversation: its state, the turn that runs, and whose it is to change either.

One at a time goes on with a conversation, whatever threads call it. What is to be seen of it is as of the last turn
that has ended, whose outcome is taken in by whoever comes first.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from typing import Protocol, TypeVar

from ...errors import WouldDeadlockError
from ...timeouts import Timeouts
from ...wire.monitor import Monitor
from ..routing.turn import Turn
from ..stream.legs import Leg
from ..tools.calls import Begun
from .chain import Chain
from .outcome import Running, outcome_of


__all__ = ["Course"]

T = TypeVar("T")


class _Host(Protocol):
    def legs(self, turn: Turn) -> Sequence[Leg]: ...

    def check_may_wait(self) -> None: ...


class Course:
    """
    What of a conversation changes; thread-safe.

    Locking: one monitor, held for a few instructions, never while anything is opened, posted or waited for.

    Args:
        host: Says what a turn that has ended came to.

    Attributes:
        chain: The state. Changed under the lock (``edit``), by whoever is alone at it; the chain itself may be replaced
            while nobody else knows of it.
        running: The latest turn, until its outcome is part of the state.
    """

    def __init__(self, host: _Host) -> None:
        self.chain = Chain()
        self.running: Running | None = None
        self._host = host
        self._used_at = float("-inf")
        self.renew()

    def renew(self) -> None:
        """Make what holds locks; in a forked child, again."""
        self._monitor = Monitor()
        # A tool that runs does so in the parent; here it is run anew.
        self._begun = Begun()
        # The thread that opens a turn, or edits; others wait for it.
        self._claimed_by: int | None = None

    # One at a time.

    def alone(
        self, work: Callable[[], T], limits: Timeouts | None = None, started_at: float = 0.0
    ) -> T:
        """
        Wait until no turn runs and nobody else is at it, and keep it so while working.

        Args:
            work: What to do then.
            limits: ``lane_wait`` and ``total`` bound the wait, as they bound any turn's before it is sent; None waits
                as long as the turn before takes, which has limits of its own.
            started_at: Since when they count, on the monotonic clock.

        Raises:
            LaneTimeout: It could not begin in time.
            TotalTimeout: The whole time was up before it could begin.
            WouldDeadlockError: It would wait for its own thread.
        """
        me = threading.get_ident()
        if self._claimed_by == me:
            raise WouldDeadlockError(
                "This thread is in the middle of a call of the same conversation, as a signal handler may find it."
            )
        try:
            while not self._claimed(me):
                self._wait(limits, started_at)
            return work()
        finally:
            if self._claimed_by == me:
                self._claimed_by = None
                with self._monitor.lock:
                    self._monitor.notify()

    def _wait(self, limits: Timeouts | None, started_at: float) -> None:
        """Wait for whoever is at it, as a turn waits that was not sent."""
        waiting = Turn(payload=b"", timeouts=limits or _NO_LIMITS, started_at=started_at)
        running = self.running
        if running is not None:
            self._host.check_may_wait()
            in_time = running.turn.inbox.wait_ended(waiting.deadline)
        else:
            in_time = self._monitor.wait_for(lambda: self._claimed_by is None, waiting.deadline)
        overdue = None if in_time else waiting.overdue(time.monotonic())
        if overdue is not None:
            raise overdue

    def _claimed(self, me: int) -> bool:
        self.settle()
        with self._monitor.lock:
            if self._claimed_by is None and self.running is None:
                self._claimed_by = me
        return self._claimed_by == me

    # The state.

    def about_to_begin(self) -> None:
        """Note that a turn is about to begin, before it does: a rotation at this moment is to move it."""
        self._used_at = time.monotonic()

    def settle(self) -> None:
        """Take in the outcome of the latest turn, once it has ended."""
        running = self.running
        if running is None or not running.turn.ended:
            return
        # What takes time is done before the lock is taken, by whoever comes; only one of them goes on.
        outcome = outcome_of(running, self._host.legs(running.turn))
        with self._monitor.lock:
            if self.running is not running:
                return
            for answer, record in outcome[running.taken :]:
                if answer is None:
                    self.chain.give_up(record, was_sent=running.turn.sent is not None)
                else:
                    self.chain.take_in(answer, record)
                    # The server has the outputs of all calls that there were.
                    self._begun.forget()
                running.taken += 1
            self._used_at = running.turn.last_event_at or self._used_at
            self.running = None

    def settled(self, look: Callable[[Chain], T]) -> T:
        """Look at the state as of the last turn that has ended, under the lock."""
        self.settle()
        return self.edit(look)

    def begun_calls(self) -> Begun:
        """Return which of the calls that wait, as of the last turn that has ended, tools have begun with."""
        self.settle()
        return self._begun

    def edit(self, change: Callable[[Chain], T]) -> T:
        """Look at the state as it is, or change it, under the lock."""
        with self._monitor.lock:
            return change(self.chain)

    # For rotation.

    @property
    def last_used(self) -> float:
        """When its latest turn ended, or began if it was not answered, on the monotonic clock; now, if it runs."""
        running = self.running
        if running is None:
            return self._used_at
        turn = running.turn
        return (turn.last_event_at or self._used_at) if turn.ended else time.monotonic()

    @property
    def home(self) -> object:
        """The lane of its latest turn, or of what its next one goes on from; None if there is none."""
        running = self.running
        if running is not None and not running.turn.ended and running.turn.home is not None:
            return running.turn.home
        return self.settled(lambda chain: chain.home)


_NO_LIMITS = Timeouts(total=None, lane_wait=None)
