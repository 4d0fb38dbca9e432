"""What a turn came to, once it has ended: what of it becomes part of the conversation, and the record of it; pure."""

from __future__ import annotations

from collections.abc import Sequence

import attrs

from ...errors import ConfigurationError
from ..routing.turn import Turn
from ..sending.continuation import Anchor, Sent
from ..sending.settings import Settings
from ..stream.legs import Leg
from ..stream.snapshot import Response
from ..tools.pending import Item
from ..tools.replay import input_items, output_items_to_keep
from ..vocabulary.items import Usage
from .chain import Answer, TurnRecord


__all__ = ["Running", "outcome_of"]

_COMMITTED = frozenset({"completed", "incomplete"})
# Of the words of an error, what is kept in a record.
_MOST_CHARACTERS = 200


@attrs.define
class Running:
    """
    A turn whose outcome is not part of the conversation yet.

    Attributes:
        turn: The turn.
        given: Its input.
        settings: Its other fields.
        taken: How much of its outcome was taken in already.
    """

    turn: Turn
    given: Sequence[Item]
    settings: Settings
    taken: int = 0


def outcome_of(running: Running, legs: Sequence[Leg]) -> list[tuple[Answer | None, TurnRecord]]:
    """
    Return what a turn came to.

    Args:
        running: The turn, which has ended.
        legs: Its responses, in order.

    Returns:
        For each response, and for a bad end, what to take in, or None, and the record.
    """
    turn, outcome = running.turn, []
    for index, leg in enumerate(legs):
        given: Sequence[Item] = running.given if index == 0 else ()
        given = [*given, *input_items(list(leg.given))]
        # What came after a steer was not asked for by a request of its own.
        sent = turn.sent if index == 0 else None
        outcome.append(_leg_outcome(running, given, leg.response, sent))
    error = turn.inbox.error
    if error is not None or not legs:
        words = f"{type(error).__name__}: {_cut(str(error))}" if error else "It has no response."
        record = TurnRecord(turn.response_id, None, None if legs else turn.sent, None, words)
        outcome.append((None, record))
    return outcome


def _leg_outcome(
    running: Running, given: Sequence[Item], response: Response, sent: Sent | None
) -> tuple[Answer | None, TurnRecord]:
    usage = response.usage and Usage() + response.usage  # Without the wire's object.
    error = None
    if response.status not in _COMMITTED:
        error = _cut(str((response.error or {}).get("message") or "The server does not say why."))
    record = TurnRecord(response.id or None, response.status, sent, usage, error)
    if response.status not in _COMMITTED:
        return None, record
    # A server may be set to keep nothing, whatever it is asked to.
    stored = running.settings.stored and response.raw.get("store") is not False
    home = running.turn.home
    try:
        output = output_items_to_keep([item.raw for item in response.output], stored=stored)
    except ConfigurationError as exc:
        # It could be read, barely, but not be sent back: it nests too deep.
        return None, attrs.evolve(record, error=str(exc))
    anchor = Anchor(response.id, 0, stored, home) if response.id else None
    return Answer(given, output, anchor, running.settings, _waiting_steers(running.turn)), record


def _waiting_steers(turn: Turn) -> list[Item]:
    """Return the steers that the server puts before the outputs that the response waits for."""
    steers = turn.steering.steers if turn.steering is not None else ()
    return [
        item for steer in steers if steer.state == "pending" for item in input_items(steer.items())
    ]


def _cut(words: str) -> str:
    return words if len(words) <= _MOST_CHARACTERS else f"{words[: _MOST_CHARACTERS - 1]}…"
