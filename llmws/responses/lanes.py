"""
Whose event is it: the router of one Responses connection, without I/O.

``Lanes.step(now, given)`` is told what happened on the link and what users ask, and answers with what is to be done:
bytes to send, items for an inbox, the end of an inbox. It keeps these promises:

* one unfinished request on the lane; the next one waits its turn;
* what still comes for an ended turn is dropped, never given to the next one: the lane is drained first, or the socket
  replaced;
* a turn is repeated by itself only while nothing of it was handed to the kernel, or if its user said so.

Only the default lane exists so far: turns carry no ``stream_id``, and an event that carries one is nobody's.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import Any, ClassVar, Literal

import attrs

from ..errors import (
    InboxOverflowError,
    RemoteProtocolError,
    StreamCancelledError,
    StreamInterruptedError,
    TurnError,
    fresh,
)
from ..secret import Secret, mask
from ..wire.ports import Append, Crashed, Finish, Overflowed
from ..wire.steps import (
    Deliver,
    Drop,
    Finished,
    GaveUp,
    Lost,
    Opened,
    Retrying,
    Send,
    Started,
    Stop,
    Tick,
    Unwant,
    Useful,
    Want,
    Withdraw,
)
from .apierrors import CONNECTION_CODES, ErrorEvent, from_event
from .events import TERMINAL_TYPES, Event, ResponseStarted, decode
from .items import Usage
from .reading import read
from .turn import Cancel, Notice, Submit, Turn, TurnState


__all__ = ["LaneCounters", "Lanes"]

logger = logging.getLogger(__name__)

# An ended turn that still runs on the server is read to its terminal event for so long; then the socket is replaced.
_DRAIN_SECONDS = 5.0
# After an ``error`` event the API sends the terminal event next (recorded); so long it is waited for.
_ERROR_GRACE = 1.0


@attrs.define
class LaneCounters:
    """
    What a router did so far; written by its I/O thread alone.

    Attributes:
        turns: Turns taken, warm-ups not among them.
        warm_ups: Warm-ups taken.
        retries: Turns sent again.
        missing_events: Sequence numbers that the server left out.
        dropped_events: Messages that belonged to no running turn.
        released_bytes: Bytes of requests that no longer wait to be written.
        usage: The tokens of all turns, failed and incomplete ones too.
        warm_up_usage: The tokens of all warm-ups.
    """

    turns: int = 0
    warm_ups: int = 0
    retries: int = 0
    missing_events: int = 0
    dropped_events: int = 0
    released_bytes: int = 0
    usage: Usage = attrs.field(factory=Usage)
    warm_up_usage: Usage = attrs.field(factory=Usage)


class Lanes:
    """
    The state of one connection's turns; see the module.

    Not thread-safe: it belongs to its connection's I/O thread.

    Args:
        sequence_check: ``strict`` ends a turn whose sequence numbers have a gap or a repeat; ``warn`` counts and logs.
        secrets: Gives the keys used so far, which are masked where the server quotes them in what it refuses.
    """

    def __init__(
        self,
        sequence_check: Literal["warn", "strict"] = "warn",
        secrets: Callable[[], Iterable[Secret]] = tuple,
    ) -> None:
        self.counters = LaneCounters()
        self._strict = sequence_check == "strict"
        self._secrets = secrets
        self._queue: deque[Turn] = deque()
        # When the first limit of a waiting turn passes, or earlier: turns that left do not push it back until a Tick.
        self._queue_due: float | None = None
        self._active: Turn | None = None  # Its request was handed to the link.
        self._open = False
        # The server said that this socket ends: it takes no further request.
        self._retired: ErrorEvent | None = None
        self._draining_until: float | None = None
        self._proven = False  # This socket has brought an event of some turn.
        self._drains_unaccepted = False  # The server may yet refuse the turn that is drained.
        # The turn before ended by an ``error`` without a terminal event: until the next ``response.created`` an event
        # may still be its.
        self._suspect = False
        self._stopped = False
        self._now = 0.0
        self._actions: list[Any] = []

    def __repr__(self) -> str:
        draining = " draining" if self._draining_until is not None else ""
        return f"<Lanes active={self._active!r} queued={len(self._queue)}{draining}>"

    def step(self, now: float, given: Any) -> list[Any]:
        """
        Take one thing that happened and return what is to be done.

        Args:
            now: Monotonic seconds.
            given: One of the link's actions, ``Submit``, ``Cancel``, ``Overflowed``, ``Crashed``, ``Stop`` or ``Tick``.
        """
        self._now = now
        self._HANDLERS[type(given)](self, given)
        # Not kept: they hold messages and logs, and the next step may be long in coming.
        actions, self._actions = self._actions, []
        return actions

    @property
    def deadline(self) -> float | None:
        """When a ``Tick`` is due, or None."""
        turn, due = self._active, self._queue_due
        if self._draining_until is not None:
            due = _sooner(due, self._draining_until)
        if turn is not None:
            due = _sooner(_sooner(due, turn.deadline), turn.error_at)
        return due

    # What users ask.

    def _submit(self, given: Submit) -> None:
        if self._stopped:
            # It was posted while the socket was being closed.
            self._finish(given.turn, given.refusal())
            return
        if given.turn.warm_up:
            self.counters.warm_ups += 1
        else:
            self.counters.turns += 1
        self._queue.append(given.turn)
        self._note_due(given.turn)
        self._advance(fresh=True)

    def _cancel(self, given: Cancel) -> None:
        turn = given.turn
        if not turn.ended:
            self._end_early(turn, StreamCancelledError(given.why, **turn.facts()), given.hard)

    def _stop(self, given: Stop) -> None:
        self._stopped = True
        self._end_all(lambda turn: StreamCancelledError("The session was closed.", **turn.facts()))

    def _note_due(self, turn: Turn) -> None:
        due = turn.deadline
        if due is not None and (self._queue_due is None or due < self._queue_due):
            self._queue_due = due

    def _advance(self, *, fresh: bool = False) -> None:
        """Give the lane to the next turn, if it is free; ``fresh`` if a new turn is why."""
        if self._active is not None or self._draining_until is not None:
            return
        if self._retired is not None and self._open:
            self._actions.append(Drop())
            self._open, self._retired = False, None
        if not self._queue:
            return
        if not self._open:
            self._actions.append(Want(self._queue[0].timeouts.connect, fresh))
            return
        self._active = turn = self._queue.popleft()
        turn.suspicious = self._suspect
        self._actions.append(Send(turn, turn.payload))

    # What happens on the link.

    def _opened(self, given: Opened) -> None:
        self._open, self._suspect, self._retired = True, False, None
        self._proven = False
        self._advance()

    def _started(self, given: Started) -> None:
        turn = self._active
        if turn is not None and turn is given.key:
            turn.state = TurnState.SENT

    def _finished(self, given: Finished) -> None:
        turn = given.key
        turn.written_at = self._now
        if not turn.retry_uncertain:
            self._release(turn)

    def _hide(self, value: Any) -> Any:
        return mask(value, self._secrets())

    def _lost(self, given: Lost) -> None:
        given = attrs.evolve(given, reason=self._hide(given.reason))
        turn = self._active
        self._open, self._active = False, None
        self._retired = self._draining_until = None
        if turn is not None:
            if turn.state is TurnState.QUEUED:
                raw = {"type": "llmws.redial", "attempt": 1, "delay": 0.0, "reason": given.reason}
                self._notice(turn, raw)
                self._queue.appendleft(turn)
                self._note_due(turn)
            elif turn.state is TurnState.SENT and turn.retry_uncertain and not turn.replayed:
                self._replay(turn, given)
            else:
                self._finish(turn, _interruption(turn, given))
        self._advance()

    def _replay(self, turn: Turn, lost: Lost) -> None:
        self.counters.retries += 1
        logger.info("a turn is sent again: the link was lost with code %d", lost.code)
        turn.requeue(self._now)
        self._notice(turn, {"type": "llmws.replay", "code": lost.code, "reason": lost.reason})
        self._queue.appendleft(turn)
        self._note_due(turn)

    def _retrying(self, given: Retrying) -> None:
        raw = {
            "type": "llmws.redial",
            "attempt": given.attempt + 1,
            "delay": given.delay,
            "reason": str(given.error),
        }
        for turn in self._queue:
            self._notice(turn, raw)

    def _gave_up(self, given: GaveUp) -> None:
        queue, self._queue = self._queue, deque()
        for turn in queue:
            limit = turn.timeouts.connect
            if given.timeout is not None and (limit is None or limit > given.timeout):
                self._queue.append(turn)  # The dial had another turn's shorter limit.
            else:
                self._finish(turn, fresh(given.error))
        self._advance(fresh=True)

    def _crashed(self, given: Crashed) -> None:
        def error(turn: Turn) -> TurnError:
            words = "The I/O thread failed, which is a defect of llmws; please report it"
            interrupted = StreamInterruptedError(f"{words}: {given.error!r}", **turn.facts())
            interrupted.__cause__ = given.error
            return interrupted

        self._end_all(error)

    def _overflowed(self, given: Overflowed) -> None:
        for turn in [*self._queue, *([self._active] if self._active else [])]:
            if turn.inbox is given.inbox:
                # The inbox has ended itself; what is left is to free the lane.
                self._end_early(turn, InboxOverflowError("", **turn.facts()))

    def _tick(self, given: Tick) -> None:
        for turn in [*self._queue, *([self._active] if self._active else [])]:
            overdue = turn.overdue(self._now)
            if overdue is not None:
                self._end_early(turn, overdue)
        turn_at_work = self._active
        if (
            turn_at_work
            and turn_at_work.error_at is not None
            and turn_at_work.error_at <= self._now
        ):
            self._end_by_error(turn_at_work)
        if self._draining_until is not None and self._draining_until <= self._now:
            self._replace_socket()
        dues = (turn.deadline for turn in self._queue)
        self._queue_due = min((due for due in dues if due is not None), default=None)

    # What the server says.

    def _deliver(self, given: Deliver) -> None:
        messages = given.messages
        position = 0
        while position < len(messages):
            turn = self._active
            if turn is None or turn.state is TurnState.QUEUED:
                self._unclaimed(messages[position])
                position += 1
            else:
                position = self._read_turn(turn, messages, position)

    def _read_turn(self, turn: Turn, messages: Sequence[bytes | bytearray], position: int) -> int:
        reading = read(turn, messages, position, strict=self._strict, hide=self._hide)
        if reading.items:
            turn.last_event_at = self._now
            size_bytes = sum(map(len, messages[position : reading.position]))
            self._actions.append(Append(turn.inbox, reading.items, size_bytes))
        if reading.useful:
            self._suspect, self._proven = False, True
            self._actions.append(Useful())
        self.counters.dropped_events += reading.dropped
        if reading.fault is not None:
            self._end_early(turn, reading.fault)
        elif reading.last:
            self._conclude(turn)
        elif turn.error_event is not None and turn.error_at is None:
            turn.error_at = self._now + _ERROR_GRACE
        if reading.retired is not None:
            self._retire(reading.retired)
        return reading.position

    def _conclude(self, turn: Turn) -> None:
        """End the turn at its last event, and free the lane."""
        if turn.final is None:
            self._end_by_error(turn)
            return
        self._active = None
        self._finish(turn, None)
        self._advance()

    def _end_by_error(self, turn: Turn) -> None:
        """End the turn with the API's error; the server is done with it, though its terminal event may yet come."""
        assert turn.error_event is not None
        facts = turn.facts()
        # Refused before it was accepted: nothing ran.
        facts["may_have_been_billed"] = turn.state is not TurnState.SENT
        self._active, self._suspect = None, True
        self._finish(turn, from_event(turn.error_event, **facts))
        self._advance()

    def _retire(self, event: ErrorEvent) -> None:
        logger.info("the server ends this connection: %s", event.code)
        self._retired = event
        turn = self._active
        # Not on a socket that was retired before it was of any use: new ones might be made for ever.
        if turn is not None and turn.state is TurnState.QUEUED and self._proven:
            self._actions.append(Withdraw(turn))
            self._active = None
            self._queue.appendleft(turn)
            self._note_due(turn)
        elif turn is not None and turn.state is TurnState.SENT and turn.error_event is None:
            # Refused together with the connection, which is closed next, or is not.
            turn.error_event, turn.error_at = event, self._now + _ERROR_GRACE
        self._advance()

    def _unclaimed(self, message: bytes | bytearray) -> None:
        """Look at a message that belongs to no running turn: it may end one that is being drained."""
        self.counters.dropped_events += 1
        try:
            event = decode(message)
        except RemoteProtocolError:
            return
        if isinstance(event, ErrorEvent) and event.code in CONNECTION_CODES:
            self._retire(event)
        elif self._draining_until is not None and event.raw.get("stream_id") is None:
            self._drain(event)

    def _drain(self, event: Event) -> None:
        """Look for the end of a turn that nobody waits for any more."""
        refused = isinstance(event, ErrorEvent) and self._drains_unaccepted
        if event.type in TERMINAL_TYPES or refused:
            self._draining_until = None
            self._suspect = refused
            self._advance()
        elif isinstance(event, ResponseStarted):
            self._drains_unaccepted = False

    # Ends.

    def _end_early(self, turn: Turn, error: TurnError, hard: bool = False) -> None:
        """End a turn before its terminal event, and see to what of it is under way."""
        if turn is not self._active:
            if turn in self._queue:
                self._queue.remove(turn)
                self._finish(turn, error)
                if not self._queue and self._active is None and not self._open:
                    self._actions.append(Unwant())
            return
        self._active = None
        self._finish(turn, error)
        if error.state == TurnState.QUEUED.value:
            self._actions.append(Withdraw(turn))
            self._advance()
        elif hard:
            self._replace_socket()
        else:
            self._draining_until = self._now + _DRAIN_SECONDS
            self._drains_unaccepted = error.state == TurnState.SENT.value

    def _end_all(self, error: Callable[[Turn], TurnError]) -> None:
        turns = [*([self._active] if self._active else []), *self._queue]
        self._active, self._queue, self._draining_until = None, deque(), None
        for turn in turns:
            self._finish(turn, error(turn))

    def _replace_socket(self) -> None:
        self._draining_until, self._retired, self._open = None, None, False
        self._actions.append(Drop())
        self._advance()

    def _finish(self, turn: Turn, error: Exception | None) -> None:
        turn.state = TurnState.ENDED
        self._release(turn)
        self._add_usage(turn)
        self.counters.missing_events += turn.missing_events
        if turn.missing_events or turn.repeated_events:
            logger.warning(
                "response %r: %d sequence numbers missing, %d repeated",
                turn.response_id,
                turn.missing_events,
                turn.repeated_events,
            )
        self._actions.append(Finish(turn.inbox, error))

    def _release(self, turn: Turn) -> None:
        self.counters.released_bytes += len(turn.payload)
        turn.payload = b""

    def _add_usage(self, turn: Turn) -> None:
        usage = Usage.from_wire(turn.final.response.get("usage")) if turn.final else None
        if usage is None:
            return
        if turn.warm_up:
            self.counters.warm_up_usage += usage
        else:
            self.counters.usage += usage

    def _notice(self, turn: Turn, raw: dict[str, Any]) -> None:
        self._actions.append(Append(turn.inbox, [Notice(raw["type"], raw)], 0))

    _HANDLERS: ClassVar[dict[type, Callable[..., None]]] = {
        Submit: _submit,
        Cancel: _cancel,
        Opened: _opened,
        Deliver: _deliver,
        Started: _started,
        Finished: _finished,
        Lost: _lost,
        Retrying: _retrying,
        GaveUp: _gave_up,
        Crashed: _crashed,
        Overflowed: _overflowed,
        Stop: _stop,
        Tick: _tick,
    }


def _sooner(one: float | None, other: float | None) -> float | None:
    if one is None or other is None:
        return other if one is None else one
    return one if one < other else other


def _interruption(turn: Turn, lost: Lost) -> TurnError:
    """Return the error of a turn whose link was lost."""
    facts = turn.facts()
    if turn.error_event is not None:
        facts["may_have_been_billed"] = turn.state is not TurnState.SENT
        return from_event(turn.error_event, **facts)
    if lost.violation:
        return RemoteProtocolError(f"The turn ended early: {lost.reason}.", **facts)
    words = f"The connection ended before the response did: close code {lost.code}"
    interrupted = StreamInterruptedError(
        f"{words}, {lost.words}.",
        close_code=lost.code,
        close_reason=lost.reason,
        **facts,
    )
    interrupted.__cause__ = lost.error
    return interrupted
