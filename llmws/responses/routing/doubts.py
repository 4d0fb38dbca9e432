"""
Whose an error is that names no lane, where several turns run; no I/O, no thread.

What is said of a named lane has its name, but for errors that "may" have it (documented). The default lane's have none.
So an error without a lane is held back until what comes for the other lanes shows that it was not about them.
"""

from __future__ import annotations

from ..vocabulary.apierrors import ErrorEvent
from .ends import refusal
from .lane import Lane
from .mending import Mending
from .turn import Turn, TurnState


__all__ = ["Doubts"]

# So long it may stay unknown whose an error without a lane is.
_DOUBT_SECONDS = 5.0
# These have the lane's name if it has one (documented): without it they are the default lane's.
_NAMED_CODES = frozenset({"previous_response_not_found"})


class Doubts(Mending):
    """The part of a router that finds out whose an error is."""

    def _in_doubt(self, turn: Turn) -> bool:
        """
        Tell whether an error without a lane, which would end a turn, may be another turn's; note whose.

        What is said of a named lane has its name, but for errors that "may" have it (documented). Such a one is held
        back until what comes for the other lanes shows that it was not about them.
        """
        error = turn.error_event
        if turn.final is not None or error is None or self._lanes.known is False:
            return False
        if error.code in _NAMED_CODES:
            return False
        turn.rivals = self._rivals(turn)
        if turn.rivals:
            self._doubted, turn.error_at = turn, self._now + _DOUBT_SECONDS
        return bool(turn.rivals)

    def _rivals(self, turn: Turn) -> set[Lane]:
        """Return the lanes of all other turns that the server has."""
        others = {lane for lane in self._lanes.busy if lane is not turn.lane}
        return {each for each in others if not each.turn or each.turn.state != TurnState.QUEUED}

    def _keep_orphan(self, event: ErrorEvent) -> None:
        """Keep an error of no lane while the default one is free: of those that wait for an answer, one was refused."""
        number = event.raw.get("sequence_number")
        if number and number == self._lanes.default.last_number:
            return  # It counts on from the default lane's last answer.
        waiting = [turn for turn in self._running if turn.state is TurnState.SENT]
        self._orphan = (event, waiting) if waiting else None
        self._give_orphan()

    def _give_orphan(self) -> None:
        """Give such an error to the request that alone can be meant, once it is the only one that was not begun."""
        if self._orphan is None:
            return
        event, waiting = self._orphan
        left = [turn for turn in waiting if turn.state is TurnState.SENT]
        if any(turn.ended or turn.error_event is not None for turn in waiting) or not left:
            # One was refused under its own name, or it will never be known whether it had begun.
            self._orphan = None
        elif len(left) == 1:
            self._orphan, turn = None, left[0]
            turn.error_event = event
            turn.held += (event,)
            if not self._in_doubt(turn):
                self._decide(turn)

    def _heard_beside(self, lane: Lane, failed: bool) -> None:
        """
        Take what came for a lane as a sign of whose an error without one was.

        Args:
            lane: A lane that goes on, is done, or was refused under its own name.
            failed: Whether its response failed for a reason that was not told before: that was it, then.
        """
        if self._orphan is not None:
            self._orphan = None if failed else self._orphan
            self._give_orphan()
            return
        turn = self._doubted
        if turn is None or not turn.rivals:
            self._doubted = None
        elif failed:
            self._doubted = None
            turn.acquit()
            self.counters.dropped_events += 1
        else:
            turn.rivals.discard(lane)
            if not turn.rivals:
                self._doubted = None
                self._decide(turn)

    def _decide(self, turn: Turn) -> None:
        """Do about an error what there is to do, now that it is known whose it is."""
        if not self._mended(turn):
            self._conclude(turn)

    def _end_in_doubt(self, turn: Turn) -> None:
        """End a turn of which it has stayed unknown whether it was refused; what the server sends for it is dropped."""
        turn.doubtful = True
        self._end_early(turn, refusal(turn))

    def _refused(self, turn: Turn) -> bool:
        """Tell whether an error ended a turn for certain; one that may have been another's is forgotten."""
        if turn.rivals:
            turn.acquit()
        return turn.error_event is not None
