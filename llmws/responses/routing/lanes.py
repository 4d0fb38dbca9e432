"""
Whose event is it, and whose turn: the router of one Responses connection, without I/O.

``Lanes.step(now, given)`` is told what happened on the link and what users and the pool ask, and answers with what is
to be done: bytes to send, items for an inbox, the end of an inbox, reports to the pool. It keeps these promises:

* one unfinished request a lane; a turn that finds none free waits its turn;
* what still comes for an ended turn is dropped, never given to the next one: the lane is drained first, or the socket
  replaced;
* a turn is repeated by itself only while nothing of it was handed to the kernel, where the server refused it in words
  before any output (``refusals.py``), or if its user said so.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable
from typing import Any, ClassVar

import attrs

from ...errors import InboxOverflowError, StreamCancelledError, fresh
from ...wire.ports import Allowed, Crashed, Overflowed
from ...wire.steps import (
    Deliver,
    Finished,
    GaveUp,
    Lost,
    Opened,
    Retrying,
    Started,
    Stop,
    Tick,
    Want,
)
from .answers import Answers
from .books import soonest
from .ends import beside_dials, broken_down, interruption
from .reports import (
    Aged,
    Astray,
    GiveBack,
    Idle,
    Learn,
    Prepare,
    Ready,
    Released,
    Retire,
    TryAgain,
)
from .turn import Cancel, Put, Submit, Turn, TurnState


__all__ = ["Lanes"]

logger = logging.getLogger(__name__)

# If there was no successor for an old connection, one is sought again after so many seconds.
_AGED_AGAIN_SECONDS = 30.0


class Lanes(Answers):
    """
    The state of one connection's turns; see the module.

    Not thread-safe: it belongs to its connection's I/O thread.

    Args:
        sequence_check: ``strict`` ends a turn whose sequence numbers have a gap or a repeat; ``warn`` counts and logs.
        secrets: Gives the keys used so far, which are masked where the server quotes them in what it refuses.
        capabilities: What the server allows; None means one turn at a time.
        max_age: Seconds after which a socket is reported as aged; None never does so.
        idle_seconds: Seconds without a turn after which that is reported; None never does so.
    """

    def step(self, now: float, given: Any) -> list[Any]:
        """
        Take one thing that happened and return what is to be done.

        Args:
            now: Monotonic seconds.
            given: One of the link's actions, what a user or the pool posted, ``Overflowed``, ``Allowed``, ``Crashed``,
                ``Stop`` or ``Tick``.
        """
        self._now = now
        self._HANDLERS[type(given)](self, given)
        # Not kept: they hold messages and logs, and the next step may be long in coming.
        actions, self._actions = self._actions, []
        return actions

    @property
    def deadline(self) -> float | None:
        """When a ``Tick`` is due, or None."""
        times = [self._queue_due, self._aged_at, self._idle_at]
        for turn in self._running:
            times += (turn.deadline, turn.error_at)
        times += [lane.draining_until for lane in self._lanes.busy]
        return soonest(times)

    # What users ask.

    def _submit(self, given: Submit) -> None:
        turn = given.turn
        if self._stopped:
            # It was posted while the socket was being closed.
            self._end_waiting(turn, given.refusal())
            return
        if turn.ended:
            # Notices had filled its log when the connection before gave it back.
            self._end_waiting(turn, InboxOverflowError("", **turn.facts()))
            self._rest()
            return
        if not given.moved:
            self._count(turn)
        self._enqueue(turn)
        if turn.cancelled is not None:
            self._cancel(turn.cancelled)
        self._advance(fresh=True)

    def _count(self, turn: Turn) -> None:
        if turn.warm_up:
            self.counters.warm_ups += 1
        else:
            self.counters.turns += 1

    def _cancel(self, given: Cancel) -> None:
        turn = given.turn
        if turn.ended:
            return
        if turn not in self._running and turn not in self._queue:
            self._report(Astray(given))
            return
        self._end_early(turn, StreamCancelledError(given.why, **turn.facts()), given.hard)

    def _stop(self, given: Stop) -> None:
        self._stopped = True
        self._aged_at = self._idle_at = None
        if self._preparing:
            self._preparing = False
            self._report(Ready(False))
        self._end_all(lambda turn: StreamCancelledError("The session was closed.", **turn.facts()))

    # What the pool asks.

    def _retire_for_good(self, given: Retire) -> None:
        self._closing = True
        self._advance()

    def _give_back(self, given: GiveBack) -> None:
        self._owed += 1
        self._advance()

    def _prepare(self, given: Prepare) -> None:
        if self._open or self._stopped:
            self._report(Ready(self._open))
            return
        self._preparing = True
        self._actions.append(Want(given.timeout, True))

    def _try_again(self, given: TryAgain) -> None:
        self._aged_at = self._now + _AGED_AGAIN_SECONDS

    def _learn(self, given: Learn) -> None:
        if self._lanes.known is None:
            self._lanes.known = given.known
            self._advance()

    # What happens on the link.

    def _opened(self, given: Opened) -> None:
        self._open, self._proven, self._failed_dial = True, False, None
        if self._preparing:
            self._preparing = False
            self._report(Ready(True))
        self._expires_at = self._now + self._life
        if self._max_age is not None:
            self._aged_at = self._now + self._max_age
        self._advance()

    def _started(self, given: Started) -> None:
        turn = given.key
        if isinstance(turn, Turn) and turn in self._running:
            turn.state, turn.written_at = TurnState.SENT, None
            self._count_sent(turn)

    def _finished(self, given: Finished) -> None:
        turn = given.key
        # The rest of a request is written even if its turn has gone on elsewhere.
        if isinstance(turn, Turn) and turn in self._running:
            turn.written_at = self._now
            self._release(turn)

    def _lost(self, given: Lost) -> None:
        given = attrs.evolve(given, reason=self._hide(given.reason))
        running, self._running = self._running, []
        self._closed_socket()
        for turn in reversed(running):
            if turn.state is TurnState.QUEUED:
                raw = {"type": "llmws.redial", "attempt": 1, "delay": 0.0, "reason": given.reason}
                self._notice(turn, raw)
                turn.lane = None
                self._enqueue(turn, first=True)
            elif turn.state is TurnState.SENT and turn.retry_uncertain and not turn.replayed:
                self._replay(turn, given)
            elif not self._refused(turn) or not self._mended(turn):
                self._finish(turn, interruption(turn, given))
                self._report(Released(turn))
        self._advance()

    def _replay(self, turn: Turn, lost: Lost) -> None:
        turn.replayed = True
        raw = {"type": "llmws.replay", "code": lost.code, "reason": lost.reason}
        self._again(turn, raw, f"the link was lost with code {lost.code}")

    def _retrying(self, given: Retrying) -> None:
        raw = {
            "type": "llmws.redial",
            "attempt": given.attempt + 1,
            "delay": given.delay,
            "reason": str(given.error),
        }
        self._failed_dial = given.error
        for turn in self._queue:
            self._notice(turn, raw)

    def _gave_up(self, given: GaveUp) -> None:
        if self._preparing:
            self._preparing = False
            self._report(Ready(False))
        queue, self._queue = self._queue, deque()
        for turn in queue:
            limit = turn.timeouts.connect
            if given.timeout is not None and (limit is None or limit > given.timeout):
                self._queue.append(turn)  # The dial had another turn's shorter limit.
            else:
                self._end_waiting(turn, fresh(given.error))
        self._advance(fresh=True)

    def _crashed(self, given: Crashed) -> None:
        self._end_all(lambda turn: broken_down(turn, given.error))

    def _overflowed(self, given: Overflowed) -> None:
        for turn in [*self._queue, *self._running]:
            if turn.inbox is given.inbox:
                # The inbox has ended itself; what is left is to free the lane.
                self._end_early(turn, InboxOverflowError("", **turn.facts()))

    def _tick(self, given: Tick) -> None:
        now = self._now
        self._tick_turns()
        self._tick_lanes()
        if self._aged_at is not None and self._aged_at <= now:
            self._aged_at = None
            self._report(Aged())
        if self._idle_at is not None and self._idle_at <= now:
            self._idle_at = None
            self._report(Idle())
        self._advance()
        waits = (due for turn in self._queue for due in (turn.deadline, turn.not_before))
        self._queue_due = soonest(due for due in waits if due is not None and due > now)

    def _tick_turns(self) -> None:
        for turn in [*self._queue, *self._running]:
            overdue = turn.overdue(self._now)
            if overdue is None:
                continue
            if self._failed_dial is not None:
                overdue = beside_dials(overdue, self._failed_dial)
            if turn.final is not None:
                self._conclude(turn)  # It has its response; nothing more came of what was put in.
            elif not self._refused(turn) or not self._mended(turn):
                self._end_early(turn, overdue)
        for turn in [*self._running]:
            if turn.error_at is None or turn.error_at > self._now:
                continue
            if turn.rivals and turn.error_event is not self._retired:
                self._end_in_doubt(turn)
            # What was refused together with its connection, or was accepted and failed, may be mended too.
            elif turn.final is not None or not self._mended(turn):
                self._conclude(turn)

    _HANDLERS: ClassVar[dict[type, Callable[..., None]]] = {
        Submit: _submit,
        Cancel: _cancel,
        Put: Answers._put,
        Prepare: _prepare,
        TryAgain: _try_again,
        Retire: _retire_for_good,
        GiveBack: _give_back,
        Learn: _learn,
        Opened: _opened,
        Deliver: Answers._deliver,
        Started: _started,
        Finished: _finished,
        Lost: _lost,
        Retrying: _retrying,
        GaveUp: _gave_up,
        Allowed: Answers._allowed,
        Crashed: _crashed,
        Overflowed: _overflowed,
        Stop: _stop,
        Tick: _tick,
    }
