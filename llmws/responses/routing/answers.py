"""What the server says: each lane's answers, refusals that can be mended, the rest of ended turns; pure."""

from __future__ import annotations

import logging
from typing import Any, Literal

from ...errors import RemoteProtocolError
from ...wire.ports import Append, Finish
from ...wire.steps import Deliver, Repay, Send, Useful
from ..sending.steering import Steer, Steering
from ..vocabulary.apierrors import CONNECTION_CODES, ErrorEvent, from_event
from ..vocabulary.events import (
    TERMINAL_TYPES,
    Event,
    ResponseFinished,
    ResponseStarted,
    SteerEvent,
    from_raw,
)
from .doubts import Doubts
from .ends import failure
from .lane import Lane
from .reading import Reading, read
from .refusals import Remedy, remedy
from .reports import Astray, Retired
from .shares import Share, shares_of
from .turn import Put, Turn, TurnState


__all__ = ["Answers"]

logger = logging.getLogger(__name__)

# After an ``error`` event the API sends the terminal event next (recorded); so long it is waited for.
_ERROR_GRACE = 1.0
# Behind the word that a connection ends comes its end, sooner or later (documented of one provider).
_CLOSE_GRACE = 2.0

_End = Literal["open", "over", "mended"]


def _waits(lane: Lane) -> bool:
    """Tell whether the server has a request of this lane, and has not begun with it."""
    if lane.turn is not None:
        return lane.turn.state is TurnState.SENT
    return lane.draining_until is not None and lane.drains_unaccepted


class Answers(Doubts):
    """The half of a router that hears the server."""

    def _deliver(self, given: Deliver) -> None:
        for share in shares_of(given.messages):
            position = 0
            while position < len(share):
                lane = self._lane_of(share, position)
                turn = lane.turn if lane is not None else None
                if turn is None or turn.state is TurnState.QUEUED:
                    self._unclaimed(lane, share.decoded()[position])
                    position += 1
                else:
                    position = self._read_turn(turn, share, position)
            if share.fault is not None:
                self._unreadable(share)

    def _lane_of(self, share: Share, position: int) -> Lane | None:
        """Return whose a message is, and learn from it whether the server says so."""
        lanes = self._lanes
        lane = lanes.addressed(share.lane)
        if share.lane is not None:
            if lane is not None and not lanes.echoed and _waits(lane):
                lanes.echoed = True
                self._learned(True)
                self._advance()  # Others may now run beside it.
            return lane
        if lanes.known is False or not lanes.default.free:
            return lane
        event = from_raw(share.decoded()[position])
        number = event.raw.get("sequence_number")
        if number and number == lanes.default.last_number:
            return lane  # It counts on from the default lane's last answer.
        if not lanes.echoed and self._shows_no_lanes(event):
            self._learned(False)
            return lanes.addressed(None)
        if isinstance(event, ErrorEvent) and len(lanes.busy) == 1 and _waits(lanes.busy[0]):
            # Some errors come without their lane (documented), and this can be no other's. Nor may what follows it have
            # one, if the server has no lanes after all.
            lanes.default.suspect = True
            return lanes.busy[0]
        return lane

    def _shows_no_lanes(self, event: Event) -> bool:
        """Tell whether an event without a lane, while a named one waits for its first, is that (inferred)."""
        lanes = self._lanes
        if not any(_waits(lane) for lane in lanes.busy):
            return False
        if isinstance(event, ErrorEvent):
            about_names = remedy(from_event(event)) is Remedy.NO_LANES
            return about_names or (lanes.known is None and event.code not in CONNECTION_CODES)
        if lanes.known is None:
            return type(event) is not Event  # Types that no table lists say nothing.
        return isinstance(event, ResponseStarted)

    def _unreadable(self, share: Share) -> None:
        """End every turn that may have been meant by a message that cannot be read."""
        meant = [turn for turn in self._running if turn.state is not TurnState.QUEUED]
        self.counters.dropped_events += not meant
        for turn in meant:
            self._end_early(turn, share.fault_of(turn, self._hide))

    def _read_turn(self, turn: Turn, share: Share, position: int) -> int:
        mixed = not self._lanes.echoed and len(self._running) > 1
        lane = turn.lane
        assert lane is not None
        if turn.state is TurnState.SENT:
            # Asked anew each time: without lanes the turn that ended by an error may have run beside this one.
            turn.before = (lane.last_id, lane.last_number)
            turn.suspicious = self._lanes.suspects(lane)
        reading = read(turn, share, position, strict=self._strict, mixed=mixed, hide=self._hide)
        unsure = self._doubted is not None or self._orphan is not None
        failed = unsure and turn.error_event is None and failure(turn) is not None
        end = self._end_of(turn, reading, share.lane)
        self._log(turn, reading, end, share.size_bytes(position, reading.position))
        if reading.useful:
            self._lanes.trust(lane)
            self._prove(turn, end)
        self.counters.dropped_events += reading.dropped
        if reading.fault is not None:
            self._breached(turn, reading.fault, mixed)
        else:
            self._settle(turn, end)
        for final in reading.past:
            self._add_usage(turn, final)
        self._steer_on(turn, reading.steered)
        for event in reading.strays:
            self._redirect(event)
        if unsure and self._doubted is not turn:
            self._heard_beside(lane, failed)
        if reading.retired is not None:
            self._retire(reading.retired)
        return reading.position

    def _log(self, turn: Turn, reading: Reading, end: _End, size_bytes: int) -> None:
        """Have what was read put into the turn's log, and its end unless it is sent again."""
        if end == "over":
            reading.items += turn.held
            turn.held = ()
        if turn.state is TurnState.OUTPUT:
            turn.payload = b""  # It is not sent again.
        if reading.items:
            turn.last_event_at = self._now
            self._actions.append(Append(turn.inbox, reading.items, size_bytes))

    def _prove(self, turn: Turn, end: _End) -> None:
        """Note that the server works on a turn."""
        self._proven = True
        self._actions.append(Useful())
        if end != "mended":
            self._actions += [Repay()] * turn.unpaid
            turn.unpaid = 0
        if self._unhold(turn):
            self._advance()

    def _end_of(self, turn: Turn, reading: Reading, lane: str | None) -> _End:
        """Return what the last message that was read, on the lane of this name, makes of the turn."""
        if not reading.last:
            return "open"
        if lane is None and self._in_doubt(turn):
            return "open"
        return "mended" if self._mended(turn) else "over"

    def _settle(self, turn: Turn, end: _End) -> None:
        if end == "open":
            self._wait_a_little(turn)
        elif end == "over":
            self._conclude(turn)

    def _breached(self, turn: Turn, fault: RemoteProtocolError, mixed: bool) -> None:
        """End the turn whose answer broke the protocol, or all that its answer may be mixed with."""
        if not mixed:
            self._end_early(turn, fault)
            return
        self._learned(False)
        for other in [*self._running]:
            if other.state is not TurnState.QUEUED:
                self._end_early(other, RemoteProtocolError(str(fault), **other.facts()))
        for other in reversed([*self._running]):
            self._take_back(other)
        self._doom()
        self._advance()

    def _wait_a_little(self, turn: Turn) -> None:
        """Bound the wait for what has to follow: a successor, or the terminal event behind an error."""
        if turn.error_at is None and turn.final is not None and turn.steering is not None:
            turn.error_at = self._now + turn.steering.wait
        elif turn.error_at is None and turn.error_event is not None:
            turn.error_at = self._now + _ERROR_GRACE

    def _steer_on(self, turn: Turn, settled: list[Steer]) -> None:
        """Tell steers what they came to, and send those that waited for the response to begin."""
        self._actions += [Finish(steer.inbox, None) for steer in settled]
        steering = turn.steering
        over = turn.state is TurnState.ENDED  # Its log may be about to be finished.
        if steering is not None and steering.waiting and turn.response_id and not over:
            waiting, steering.waiting = steering.waiting, []
            for steer in waiting:
                self._send_steer(turn, steering, steer)

    def _send_steer(self, turn: Turn, steering: Steering, steer: Steer) -> None:
        assert turn.response_id is not None
        steering.steers.append(steer)
        self._actions.append(Send(steer, steer.message(turn.response_id)))

    def _redirect(self, event: SteerEvent) -> None:
        """Find out whose steer an event is about that came on no turn's lane, or on another's (inferred)."""
        for turn in self._running:
            if (
                turn.steering is not None
                and turn.steering.concerns(event)
                and turn.lane is not None
            ):
                share = Share(turn.lane.name, [b""], None, [event.raw])
                self._read_turn(turn, share, 0)
                return
        for lane in self._lanes.draining:
            if lane.drained.steering is not None and lane.drained.steering.concerns(event):
                self._drain(lane, event)
                return
        self.counters.dropped_events += 1

    def _put(self, given: Put) -> None:
        """Put something into a turn's response, or wait for that to begin."""
        turn, steer = given.turn, given.steer
        if turn.ended:
            steer.come_too_late()
        elif self._steering is False:
            steer.give_back("steering_not_supported", "The provider does not have it.")
        elif turn not in self._running and turn not in self._queue:
            self._report(Astray(given))
        else:
            steering = turn.steering = turn.steering or Steering()
            if turn.state in (TurnState.ACCEPTED, TurnState.OUTPUT) and turn.response_id:
                self._send_steer(turn, steering, steer)
            else:
                steering.waiting.append(steer)

    def _retire(self, event: ErrorEvent) -> None:
        logger.info("the server ends this connection: %s", event.code)
        self._retired = event
        self._report(Retired(True))
        refused = self._refused_with_connection(event)
        for turn in reversed([*self._running]):
            # Not on a socket that was retired before it was of any use: new ones might be made for ever.
            if turn.state is TurnState.QUEUED and self._proven:
                self._take_back(turn)
            elif turn is refused:
                # Refused together with the connection, unless it begins; the word may have come ahead of that.
                turn.error_event, turn.error_at = event, self._now + _CLOSE_GRACE
                # If the link is lost together with theirs, it may have been meant for none.
                turn.rivals = self._rivals(turn)
        self._advance()

    def _refused_with_connection(self, event: ErrorEvent) -> Turn | None:
        """
        Return the request that the server would not take any more, if that can be one alone.

        Of several it is not known which one: they may run, until the link is lost. One that is being drained may be
        meant as well as any other; one that the server has not whole cannot be.
        """
        name = event.raw.get("stream_id")
        meant = [lane for lane in self._lanes.busy if _waits(lane) and name in (None, lane.name)]
        turn: Turn | None = meant[0].turn if len(meant) == 1 else None
        if turn is None or turn.written_at is None or turn.error_event is not None:
            return None
        return turn

    def _unclaimed(self, lane: Lane | None, raw: dict[str, Any]) -> None:
        """Look at a message that belongs to no running turn: it may end one that is being drained."""
        event = from_raw(raw)
        if isinstance(event, SteerEvent):
            self._redirect(event)
            return
        self.counters.dropped_events += 1
        if not self._open:
            return  # It came behind what ended the use of its socket.
        if isinstance(event, ErrorEvent) and event.code in CONNECTION_CODES:
            self._retire(event)
        elif lane is not None and lane.draining_until is not None:
            self._drain(lane, event)
        elif isinstance(event, ErrorEvent) and lane is self._lanes.default:
            self._keep_orphan(event)

    def _drain(self, lane: Lane, event: Event) -> None:
        """Look for the end of a turn that nobody waits for any more."""
        refused = isinstance(event, ErrorEvent) and lane.drains_unaccepted
        if isinstance(event, ResponseStarted):
            lane.drains_unaccepted = False
        if isinstance(event, ResponseFinished):
            if lane.drains_unaccepted and self._lanes.suspects(lane):
                return  # It is rather that of the turn before, which ended by an error.
            self._add_usage(lane.drained, event)  # It was paid for all the same.
        over, wait, steering = event.type in TERMINAL_TYPES, 0.0, lane.drained.steering
        self._heard_beside(lane, event.type == "response.failed")
        if steering is not None:
            steering.follow(event)
            over, wait = steering.ended is not None, steering.wait
        if over and wait:
            lane.draining_until = self._now + wait
        elif over or refused:
            lane.suspect = refused
            self._drained(lane)
            self._advance()
