"""How turns end by what the server said, and which are sent again instead; no I/O, no thread."""

from __future__ import annotations

import logging

from ...errors import APIError
from ...wire.backoff import Backoff
from ...wire.ports import Allowed, AskAgain
from ...wire.steps import Repay
from .books import DRAIN_SECONDS, Books
from .ends import failure, refusal
from .refusals import Remedy, remedy
from .reports import Learned, Released, Retired
from .turn import Turn


__all__ = ["Mending"]

logger = logging.getLogger(__name__)


class Mending(Books):
    """The part of a router that ends turns by their terminal event or by an error, or mends a refusal."""

    def _conclude(self, turn: Turn) -> None:
        """End the turn at its last event, and free the lane."""
        if turn.final is None:
            self._end_by_error(turn)
            return
        if failure(turn) is not None:
            self._forget_parent(turn)
        elif turn.lane is not None and turn.response_id is not None:
            keeper = turn.continuation.keeper if turn.continuation else None
            turn.home = self._lanes.keep(turn.lane, turn.response_id, keeper)
        self._leave(turn)
        self._finish(turn, None)
        if turn.lane is not None and turn.steering is not None and turn.steering.outstanding:
            # The successor may still come, and is to be nobody else's answer.
            self._lanes.drain(turn.lane, turn, self._now + DRAIN_SECONDS, unaccepted=False)
        else:
            self._report(Released(turn))
        self._advance()

    def _end_by_error(self, turn: Turn) -> None:
        """End the turn with the API's error; the server is done with it, though its terminal event may yet come."""
        error = refusal(turn)
        if turn.lane is not None:
            turn.lane.suspect = True
        self._forget_parent(turn)
        self._leave(turn)
        self._finish(turn, error)
        self._report(Released(turn))
        self._advance()

    def _mended(self, turn: Turn) -> bool:
        """Do about a refusal what can be done, its event still held back; return whether something can."""
        if not turn.before_output:
            return False
        if turn.final is None and turn.lane is not None:
            turn.lane.suspect = True
        error = refusal(turn) if turn.final is None else failure(turn)
        if error is not None and turn.error_event is not None:
            # It knows more than the response that failed for it, such as how long to wait.
            error = refusal(turn)
        return isinstance(error, APIError) and self._mend(turn, error)

    def _mend(self, turn: Turn, error: APIError) -> bool:
        what = remedy(error)
        if what is None or what in turn.remedies:
            return False
        if what is Remedy.FULL and (turn.continuation is None or turn.sent_full):
            return False
        if what is Remedy.NO_LANES and turn.lane is self._lanes.default:
            return False
        asked = error.retry_after
        if asked is not None and asked > Backoff().longest_retry_after:
            return False
        turn.remedies.add(what)
        turn.refused = error
        self._forget_parent(turn)
        self._leave(turn)
        self._actions.append(AskAgain(turn))
        return True

    def _allowed(self, given: Allowed) -> None:
        """Send a refused turn again, if the budget reaches."""
        turn = given.key
        error, turn.refused = turn.refused, None
        assert error is not None
        what, about = remedy(error), turn.error_event or turn.final
        if turn.ended or what is None or given.fraction is None:
            self._end_refused(turn, error)
            return
        delay = 0.0
        if what is Remedy.LATER:
            delay = Backoff().delay(1, given.fraction, error.retry_after)
        if turn.out_of_time(self._now + delay):
            self._actions.append(Repay())
            self._end_refused(turn, error)
            return
        turn.unpaid += 1
        if what is Remedy.NO_LANES:
            self._learned(False)
        raw = {"type": "llmws.retry", "how": what.value, "delay": delay, "reason": str(error)}
        self._add_usage(turn, turn.final)
        self._again(turn, raw, f"{error.code or error.type}, {what.value}", delay)
        if what is Remedy.ELSEWHERE and self._open and self._retired is None:
            # What runs here runs on: the server said nothing of that.
            self._retired = about
            self._report(Retired(True))
        self._advance()

    def _end_refused(self, turn: Turn, error: APIError) -> None:
        """End a turn that cannot be sent again, just as if nobody had asked."""
        self._finish(turn, error if turn.final is None else None)
        self._report(Released(turn))
        self._advance()

    def _forget_parent(self, turn: Turn) -> None:
        """Note that a continuation that failed took its parent from the lane's cache; a fork leaves it there."""
        lane = turn.lane
        if lane is not None and (self._lanes.known is False or lane.turn is turn):
            self._lanes.keep(lane, None, None)

    def _learned(self, known: bool) -> None:
        if self._lanes.known is not False and self._lanes.known is not known:
            logger.info("the server %s lanes", "has" if known else "has no")
            self._lanes.known = known
            self._report(Learned(known))
