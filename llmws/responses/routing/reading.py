"""
What a batch of messages means to the turn that runs: the hot path of the library, and pure.

``read`` moves the turn's state on and returns what is for its log and for its lane. A table says which events change a
turn's state; all others are output. Output that comes as it should, in sequence and on the turn's lane, goes to the log
by whole stretches: what is asked of each message there is asked in C.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import attrs

from ...errors import RemoteProtocolError
from ..sending.steering import Steer
from ..vocabulary.apierrors import CONNECTION_CODES, ErrorEvent
from ..vocabulary.entries import Entry
from ..vocabulary.events import (
    TYPES,
    Event,
    ResponseFinished,
    ResponseStarted,
    SteerEvent,
    from_raw,
)
from .shares import Share
from .turn import Turn, TurnState


__all__ = ["Reading", "read"]

_MIXED = (
    "The server mixes the answers of several turns without saying whose they are: "
    "pass lanes=False, so that it is asked one thing at a time."
)


@attrs.define
class Reading:
    """
    The meaning of some messages.

    Attributes:
        items: What is for the turn's log, in order.
        position: The position behind the last message that was looked at.
        useful: Whether one of them shows that the server works on the turn.
        last: Whether the last of them ends the turn: it is terminal, or an error before the turn was accepted.
        dropped: Messages that belong to nobody.
        fault: The breach of protocol that ends the turn, or None.
        retired: The server's word that this connection ends, or None.
        steered: Steers that have come to something.
        strays: What was said of the steers of other turns.
        past: Terminal events of responses that have a successor.
    """

    items: list[Entry] = attrs.field(factory=list)
    position: int = 0
    useful: bool = False
    last: bool = False
    dropped: int = 0
    fault: RemoteProtocolError | None = None
    retired: ErrorEvent | None = None
    steered: list[Steer] = attrs.field(factory=list)
    strays: list[SteerEvent] = attrs.field(factory=list)
    past: list[ResponseFinished] = attrs.field(factory=list)


def read(
    turn: Turn,
    share: Share,
    position: int,
    *,
    strict: bool,
    mixed: bool = False,
    hide: Callable[[Any], Any] = lambda value: value,
) -> Reading:
    """
    Read messages until they or the turn end.

    Args:
        turn: The turn that runs.
        share: What its lane was sent.
        position: Where in the share the turn's part begins.
        strict: Whether a gap or repeat of sequence numbers ends the turn.
        mixed: Whether another turn's answer may be among them: a second beginning is a breach then.
        hide: Returns a value without the keys that it may quote; asked for what the server refuses.
    """
    if turn.state is TurnState.OUTPUT and share.numbers is not None:
        numbers = share.numbers[position:] if position else share.numbers
        if _continue(turn, numbers):
            return Reading([*share.messages[position:]], len(share))
    reading = Reading(position=position)
    for stretch, plain in _stretches(share.decoded()[position:]):
        for index, raw in enumerate(stretch):
            # The first may begin the output; if the rest is not in order then, each of it is looked at.
            if plain and index < 2 and turn.state is TurnState.OUTPUT:
                rest = stretch[index:]
                if _continue(turn, [raw.get("sequence_number") for raw in rest]):
                    reading.items += rest
                    reading.position += len(rest)
                    break
            reading.position += 1
            event = from_raw(raw)
            if mixed and _begins_another(turn, event):
                reading.fault = RemoteProtocolError(_MIXED, **turn.facts())
                return reading
            if _take(turn, event, strict, reading, hide):
                return reading
    return reading


def _begins_another(turn: Turn, event: Event) -> bool:
    accepted = turn.state in (TurnState.ACCEPTED, TurnState.OUTPUT) and turn.final is None
    return isinstance(event, ResponseStarted) and accepted and event.response_id != turn.response_id


def _stretches(raws: list[dict[str, Any]]) -> Iterator[tuple[list[dict[str, Any]], bool]]:
    """Cut messages in front of and behind each milestone; tell of each stretch whether it is free of them."""
    names = [raw.get("type") for raw in raws]
    try:
        marks = [index for index, name in enumerate(names) if name in _MILESTONE_NAMES]
    except TypeError:  # Some type is a list or an object.
        marks = [*range(len(raws))]
    start = 0
    for mark in marks:
        if start < mark:
            yield raws[start:mark], True
        yield raws[mark : mark + 1], False
        start = mark + 1
    if start < len(raws):
        yield raws[start:], True


def _continue(turn: Turn, numbers: list[Any]) -> bool:
    """Count numbers that go on where the turn's last one was; return whether they do, or there are none."""
    first, count = turn.next_number, len(numbers)
    if first is not None and numbers == [*range(first, first + count)]:
        turn.next_number = first + count
        return True
    return numbers.count(None) == count


def _take(
    turn: Turn, event: Event, strict: bool, reading: Reading, hide: Callable[[Any], Any]
) -> bool:
    """Take one message; return whether nothing more is to be read for the turn."""
    number = event.raw.get("sequence_number")
    if turn.state is TurnState.SENT and _is_older(turn, event, number):
        reading.dropped += 1
        return False
    if number is not None:
        expected = turn.next_number
        if expected is not None and number == expected:
            # Not the number's own successor: 1.0 is equal to 1, too, and no range can begin with 2.0.
            turn.next_number = expected + 1
        elif _out_of_sequence(turn, event, strict, reading):
            return True
    milestone = _MILESTONES.get(type(event))
    if milestone is not None:
        return _reached(milestone, turn, event, reading, hide)
    if turn.state is TurnState.OUTPUT or _begins_output(turn, event, reading):
        _put(turn, event, reading)
    return False


def _put(turn: Turn, event: Event, reading: Reading) -> None:
    """Have an event logged, behind what is held back."""
    if turn.held:
        turn.held += (event,)
    else:
        reading.items.append(event)


def _is_older(turn: Turn, event: Event, number: Any) -> bool:
    """Tell whether an event that comes before ``response.created`` is still the lane's last turn's."""
    last_id, last_number = turn.before
    if isinstance(event, ResponseFinished):
        return last_id is not None and event.response_id == last_id
    # A refusal counts from its own beginning; what counts on from another answer belongs to that.
    return isinstance(event, ErrorEvent) and bool(number) and number == last_number


def _reached(
    milestone: _Milestone, turn: Turn, event: Event, reading: Reading, hide: Callable[[Any], Any]
) -> bool:
    """Move the turn's state on; return whether nothing more is to be read for it."""
    try:
        event = _refusal_without_keys(event, hide)
    except RecursionError:
        words = "The server sent a refusal that nests too deep to be read."
        reading.fault = RemoteProtocolError(words, **turn.facts())
        return True
    reading.last = milestone(turn, event, reading)
    # Nor behind the word that the connection ends: what follows is read by a lane that knows of it.
    return reading.last or reading.retired is not None


def _refusal_without_keys(event: Event, hide: Callable[[Any], Any]) -> Event:
    """Return an error, or a failed response, without the keys that servers quote in them; else the event itself."""
    refuses = type(event) is ErrorEvent or event.type == "response.failed"
    return from_raw(hide(event.raw)) if refuses else event


def _out_of_sequence(turn: Turn, event: Event, strict: bool, reading: Reading) -> bool:
    if turn.suspicious and type(event) is not ResponseStarted:
        return False  # It may be the lane's last turn's, whose numbers are not this one's.
    number, expected = event.raw["sequence_number"], turn.next_number
    if type(number) is not int or not turn.number(number) or not strict:
        return False
    reading.fault = RemoteProtocolError(
        f"The server sent sequence number {number} where {expected} was due, and "
        'sequence_check is "strict".',
        **turn.facts(),
    )
    return True


def _begins_output(turn: Turn, event: Event, reading: Reading) -> bool:
    """Note the first event behind ``response.created``; return whether it is the turn's at all."""
    if turn.suspicious:
        reading.dropped += 1
        return False
    # Types that no table lists may come before ``response.created`` and say nothing of the turn (observed).
    if turn.state is TurnState.ACCEPTED or type(event) is not Event:
        turn.state = TurnState.OUTPUT
        reading.useful = True
        _show(turn, reading)
    return True


def _started(turn: Turn, event: Any, reading: Reading) -> bool:
    if turn.final is not None and turn.steering is not None:
        # The successor of a steered response: the turn goes on with it.
        reading.past.append(turn.final)
        turn.final = turn.error_at = None
        turn.response_id = event.response_id
        reading.steered += turn.steering.began(event)
    if turn.state is TurnState.SENT:
        turn.state = TurnState.ACCEPTED
        turn.acquit()  # It was not refused after all.
        turn.response_id = event.response_id
        turn.suspicious = False
        reading.useful = True
    _put(turn, event, reading)
    return False


def _finished(turn: Turn, event: Any, reading: Reading) -> bool:
    if turn.suspicious:
        reading.dropped += 1
        return False
    turn.response_id = turn.response_id or event.response_id
    turn.final = event
    turn.held += (event,)
    reading.useful = True
    steering = turn.steering
    if steering is not None:
        steering.ended = event.status
    goes_on = steering is not None and steering.wait > 0
    if goes_on:
        turn.next_number = None  # A successor counts from its own beginning.
    if goes_on or not turn.before_output:
        _show(turn, reading)
    return not goes_on


def _show(turn: Turn, reading: Reading) -> None:
    """Let the log have what was held back."""
    reading.items += turn.held
    turn.held = ()


def _steered(turn: Turn, event: Any, reading: Reading) -> bool:
    steering = turn.steering
    if steering is None or not steering.concerns(event):
        reading.strays.append(event)
        return False
    _put(turn, event, reading)
    steer = steering.heard(event)
    reading.steered += [] if steer is None else [steer]
    if turn.final is None:
        return False
    turn.error_at = None  # Something else may have to be waited for now.
    return not steering.wait


def _error(turn: Turn, event: Any, reading: Reading) -> bool:
    if event.code in CONNECTION_CODES:
        reading.retired = event
        return False
    turn.error_event = event
    turn.held += (event,)
    if not turn.before_output:
        _show(turn, reading)
    return turn.state is TurnState.SENT


_Milestone = Callable[[Turn, Any, Reading], bool]
_MILESTONES: dict[type[Event], _Milestone] = {
    ResponseStarted: _started,
    ResponseFinished: _finished,
    ErrorEvent: _error,
    SteerEvent: _steered,
}
_MILESTONE_NAMES = frozenset(name for name, kind in TYPES.items() if kind in _MILESTONES)
