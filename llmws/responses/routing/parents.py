"""What a turn goes on from, chosen when its lane is: only then is it known what the server still has."""

from __future__ import annotations

from ..sending.continuation import Anchor, Continuation
from .lane import Lane, LaneSet
from .refusals import Remedy
from .turn import Turn


__all__ = ["WARMED_UP", "message_of", "parent_of"]

WARMED_UP = "parent warmed up"
"""The reason of a turn that goes on on the successor of its connection."""


def parent_of(turn: Turn, lanes: LaneSet) -> Lane | None:
    """Return the lane that caches the response that a turn goes on from, or None if none does."""
    if Remedy.FULL in turn.remedies:
        return None
    if turn.continuation is None:
        return lanes.holder(turn.parent_id)
    anchor = _cached(turn.continuation, lanes)
    return None if anchor is None else _home(anchor, lanes)


def message_of(turn: Turn, lane: Lane, lanes: LaneSet) -> bytes:
    """Return the turn's request for this lane, and note in the turn what was sent of a conversation."""
    message = turn.payload
    if turn.continuation is not None:
        anchor, reason = _choice(turn, lanes)
        message, turn.sent = turn.continuation.message(anchor, reason)
    if lane.name is None:
        return message
    return b'{"stream_id":"%b",%b' % (lane.name.encode(), message[1:])


def _choice(turn: Turn, lanes: LaneSet) -> tuple[Anchor | None, str]:
    """Return the response to go on from, None for the whole transcript, and why."""
    continuation = turn.continuation
    assert continuation is not None
    if Remedy.FULL in turn.remedies:
        return None, "server did not find the parent"
    anchors = continuation.anchors
    if not anchors:
        return None, continuation.why_full
    anchor = _cached(continuation, lanes)
    if anchor is not None:
        return anchor, WARMED_UP if anchor.warmed else "parent cached"
    anchor = next((anchor for anchor in anchors if anchor.stored), None)
    if anchor is not None:
        return anchor, "parent stored"
    if turn.remedies:
        return None, "parent lost by a refusal"
    if any(anchor.home in lanes for anchor in anchors):
        return None, "source moved on" if continuation.forked else "lane given away"
    return None, "connection lost"


def _cached(continuation: Continuation, lanes: LaneSet) -> Anchor | None:
    for anchor in continuation.anchors:
        home = _home(anchor, lanes)
        # What runs there takes the place of the response before a fork could go on from it.
        if home is not None and not (continuation.forked and home.turn is not None):
            return anchor
    return None


def _home(anchor: Anchor, lanes: LaneSet) -> Lane | None:
    """Return the lane that still caches an anchor's response, or None."""
    home = anchor.home
    if home in lanes and isinstance(home, Lane) and home.cached == anchor.response_id:
        return home
    return None
