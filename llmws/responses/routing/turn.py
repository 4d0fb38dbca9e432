"""
One turn: a request, how far it has got, and what limits it. Values and arithmetic, no I/O.

States::

    QUEUED ──first byte handed to the kernel──▶ SENT ──response.created──▶ ACCEPTED ──▶ OUTPUT ──▶ ENDED

From SENT on the server may be working on it, so from there on it is not repeated by itself.
"""

from __future__ import annotations

import enum
import math
from typing import Any

import attrs

from ...errors import (
    APIError,
    FirstEventTimeout,
    IdleTimeout,
    LaneTimeout,
    SessionClosedError,
    StreamCancelledError,
    TotalTimeout,
    TurnTimeout,
)
from ...timeouts import Timeouts
from ...wire.inbox import Inbox
from ..sending.continuation import Continuation, Sent
from ..sending.steering import Steer, Steering
from ..vocabulary.apierrors import ErrorEvent
from ..vocabulary.entries import Entry, Notice
from ..vocabulary.events import Event, ResponseFinished
from .lane import Lane
from .refusals import Remedy


__all__ = ["Cancel", "Notice", "Put", "Submit", "Turn", "TurnState"]


# Sequence numbers are below this.
_NUMBERS = 2**63


class TurnState(str, enum.Enum):
    """How far a turn has got; each value is also its name in lower case."""

    QUEUED = "queued"
    SENT = "sent"
    ACCEPTED = "accepted"
    OUTPUT = "output"
    ENDED = "ended"

    def __str__(self) -> str:
        return self.value


@attrs.define(eq=False, repr=False, kw_only=True)
class Turn:
    """
    The state of one turn.

    Written by its connection's I/O thread alone; other threads read single attributes of it.

    Attributes:
        payload: The ``response.create`` message.
        timeouts: Its time limits.
        started_at: When ``stream()`` was called, on the connection's clock.
        warm_up: Whether it only prepares the server (``generate: false``).
        retry_uncertain: Whether it may be sent again after a loss in ``SENT``.
        inbox: Its log of events.
        state: How far it has got.
        response_id: The wire's id, from ``response.created`` on.
        final: The terminal event, once it came.
        error_event: An ``error`` after ``response.created``, whose terminal event is awaited.
        suspicious: Whether an event before ``response.created`` may still be the lane's last turn's, which ended by an
            error without a terminal event.
        before: The response of the lane's turn before, and the number that would have come next in it; None if unknown.
        rivals: The lanes whose turns an error without a lane may have been about, while that is not known; else empty.
        replayed: Whether it was sent a second time without the server's leave.
        doubtful: Whether the server may have worked on it before it was sent again.
        continuation: What it goes on from, if it is a conversation's; ``payload`` is empty then.
        parent_id: The response that its request names, if it does; the lane that caches it is sought.
        home: The lane that keeps its response, or, before the turn is sent, the one that is sought.
        sent: What was sent of a conversation; None before, and for all other turns.
        size_bytes: What its request counts for while it waits to be written.
        remedies: What was done about refusals so far; nothing is done twice.
        held: Events that end it, or may, and that its readers are shown only if it is not sent again.
        refused: The refusal while it is asked whether the turn may be sent again.
        unpaid: Second tries that were taken from the retry budget and have shown nothing for it yet.
        not_before: When it may be sent again, after the server asked for a pause.
        steering: What was put into it while it runs; None if nothing was.
        lane: Where its request went; None while it waits.
        holds: The lane from which it forks, on which nothing else may begin before the server has begun it; else None.
        cancelled: The wish to end it, if that found the turn between two connections.
        missing_events: Sequence numbers that were left out.
        repeated_events: Sequence numbers that came again.
    """

    payload: bytes
    timeouts: Timeouts
    started_at: float
    warm_up: bool = False
    retry_uncertain: bool = False
    inbox: Inbox[Entry] = attrs.field(factory=Inbox)
    state: TurnState = TurnState.QUEUED
    response_id: str | None = None
    final: ResponseFinished | None = None
    error_event: ErrorEvent | None = None
    suspicious: bool = False
    before: tuple[str | None, int | None] = (None, None)
    rivals: set[Lane] = attrs.field(factory=set)
    replayed: bool = False
    doubtful: bool = False
    continuation: Continuation | None = None
    parent_id: str | None = None
    home: Lane | None = None
    sent: Sent | None = None
    size_bytes: int = 0
    remedies: set[Remedy] = attrs.field(factory=set)
    not_before: float = 0.0
    held: tuple[Event, ...] = ()
    refused: APIError | None = None
    unpaid: int = 0
    steering: Steering | None = None
    lane: Lane | None = None
    holds: Lane | None = None
    cancelled: Cancel | None = None
    # Written by the pool, under its lock.
    slot: Any = None
    missing_events: int = 0
    repeated_events: int = 0
    # The clocks of the phases; None while a phase has not begun.
    queued_at: float = 0.0
    written_at: float | None = None
    last_event_at: float | None = None
    error_at: float | None = None
    next_number: int | None = None

    def __attrs_post_init__(self) -> None:
        self.queued_at = self.started_at
        if self.continuation is not None:
            self.size_bytes = self.continuation.size_bytes()
        elif not self.size_bytes:
            self.size_bytes = len(self.payload)

    def __repr__(self) -> str:
        return f"<Turn {self.state} response_id={self.response_id!r} events={len(self.inbox)}>"

    @property
    def ended(self) -> bool:
        """Whether the turn is over."""
        return self.inbox.ended

    @property
    def before_output(self) -> bool:
        """Whether the server may have it, and has sent nothing of an answer."""
        return self.state in (TurnState.SENT, TurnState.ACCEPTED)

    @property
    def sent_full(self) -> bool:
        """Whether the server was sent all that it may need."""
        return self.sent is not None and self.sent.kind == "full"

    def facts(self) -> dict[str, Any]:
        """Return the fields that every ``TurnError`` carries."""
        return {
            "response_id": self.response_id,
            "state": self.state.value,
            "may_have_been_billed": self.doubtful or self.state is not TurnState.QUEUED,
        }

    def give_up(self, error: Exception) -> None:
        """End it where no router has it."""
        if self.steering is not None:
            self.steering.give_back()
        self.inbox.end(error)

    def acquit(self) -> None:
        """Forget an error that was not about this turn, or may not have been."""
        self.error_event = self.error_at = None
        self.held = ()
        self.rivals = set()

    def requeue(self, now: float) -> None:
        """Set back to ``QUEUED`` to be sent again, with a new wait for the lane from then on."""
        self.doubtful |= self.state is not TurnState.SENT or self.error_event is None
        self.state = TurnState.QUEUED
        self.lane = self.response_id = self.final = None
        self.queued_at = self.not_before = now
        self.written_at = self.last_event_at = self.next_number = None
        self.acquit()  # What the lost socket said is not to end the turn on the next one.

    def number(self, number: int) -> int:
        """
        Note a sequence number.

        Returns:
            How many were left out before it; negative if it came before.
        """
        if not -_NUMBERS < number < _NUMBERS:
            # Nothing counts so far. Taken at its word it would make numbers too long to be printed.
            self.missing_events += 1
            return number
        expected = number if self.next_number is None else self.next_number
        gap = number - expected
        if gap >= 0:
            self.missing_events += gap
            self.next_number = number + 1
        else:
            self.repeated_events += 1
        return gap

    @property
    def deadline(self) -> float | None:
        """When the first of its limits passes, or None."""
        since, seconds, total = *self._phase(), self.timeouts.total
        due = None if since is None or seconds is None else since + seconds
        if total is None:
            return due
        end = self.started_at + total
        return end if due is None or end < due else due

    def out_of_time(self, at: float) -> bool:
        """Tell whether it is to have ended by then, whatever it waits for."""
        total = self.timeouts.total
        return total is not None and self.started_at + total <= at

    def overdue(self, now: float) -> TurnTimeout | None:
        """Return the error of the limit that passed first, or None if none has."""
        since, seconds = self._phase()
        phase_due = math.inf if since is None or seconds is None else since + seconds
        total = self.timeouts.total
        end = math.inf if total is None else self.started_at + total
        if min(phase_due, end) > now:
            return None
        error: type[TurnTimeout]
        if end < phase_due:
            error, words, seconds = TotalTimeout, "The turn did not end", total
        elif self.state is TurnState.QUEUED:
            error, words = LaneTimeout, "The request could not begin to be written"
        elif self.last_event_at is not None:
            error, words = IdleTimeout, "No further event came"
        else:
            error, words = FirstEventTimeout, "The server sent no event"
        return error(f"{words} within {seconds:g} s.", **self.facts())

    def _phase(self) -> tuple[float | None, float | None]:
        """Return when the phase began that the turn is in, and its limit; asked for at every read."""
        limits = self.timeouts
        if self.state is TurnState.QUEUED:
            return self.queued_at, limits.lane_wait
        if self.last_event_at is not None:
            return self.last_event_at, limits.idle
        return self.written_at, limits.first_event


@attrs.frozen
class Submit:
    """
    Posted to the router: take this turn.

    Attributes:
        turn: Which.
        moved: Whether another connection had it before.
    """

    turn: Turn
    moved: bool = False

    def refuse(self) -> None:
        """End a turn that came after the session's end."""
        self.turn.give_up(self.refusal())

    def refusal(self) -> SessionClosedError:
        """Return the error of a turn that came after the session's end."""
        return SessionClosedError("The session was closed before the turn could begin.")


@attrs.frozen
class Cancel:
    """
    Posted to the router: end this turn.

    Attributes:
        turn: Which.
        why: What the error says.
        hard: Whether to cut the connection instead of letting the server finish unread.
    """

    turn: Turn
    why: str
    hard: bool = False

    def refuse(self) -> None:
        """End the turn although its connection is gone."""
        self.turn.give_up(StreamCancelledError(self.why, **self.turn.facts()))


@attrs.frozen
class Put:
    """Posted to the router: put this into the turn's response."""

    turn: Turn
    steer: Steer

    def refuse(self) -> None:
        """End the steer although its connection is gone."""
        self.steer.come_too_late()
