"""What a session did so far, added up over its connections."""

from __future__ import annotations

import attrs

from ..vocabulary.items import Usage
from .pool import Pool


__all__ = ["Stats", "usage_of"]


@attrs.frozen(kw_only=True)
class Stats:
    """
    What a session did so far.

    Attributes:
        connections: Connections that are there now.
        dials: Dials begun; 1 as long as the first connection holds and suffices.
        failed_dials: Dials that gave no connection.
        lost: Connections that ended before they were closed here.
        rotations: Connections that were replaced before the server would have ended them.
        turns: Turns begun, warm-ups not among them.
        reuses: Requests that went out over a connection that had carried one before.
        warm_ups: Warm-ups begun.
        deltas: Conversation turns of which only what the server lacked was sent.
        fulls: Conversation turns of which the whole transcript was sent.
        retries: Turns that were sent again.
        bytes_sent: Bytes written after the upgrade.
        bytes_received: Bytes read after the upgrade.
        saved_bytes: Bytes that the deltas would have taken more, had they been full.
        missing_events: Sequence numbers that the server left out.
        dropped_events: Messages that belonged to no running turn.
        warm_up_usage: The tokens of warm-ups, which ``Session.usage`` leaves out.
    """

    connections: int
    dials: int
    failed_dials: int
    lost: int
    rotations: int
    turns: int
    reuses: int
    warm_ups: int
    deltas: int
    fulls: int
    retries: int
    bytes_sent: int
    bytes_received: int
    saved_bytes: int
    missing_events: int
    dropped_events: int
    warm_up_usage: Usage

    @classmethod
    def of(cls, pool: Pool) -> Stats:
        """Add up what the connections of a pool did."""
        wire, lanes = pool.counters()
        sums = {
            name: sum(getattr(counters, name) for counters in group)
            for group, names in ((wire, _OF_CONNECTIONS), (lanes, _OF_LANES))
            for name in names
        }
        warm_ups = sum((counters.warm_up_usage for counters in lanes), Usage())
        now = sum(not slot.leaving and not slot.connection.over for slot in pool.all_slots)
        return cls(connections=now, rotations=pool.rotations, warm_up_usage=warm_ups, **sums)


_OF_CONNECTIONS = ("dials", "failed_dials", "lost", "bytes_sent", "bytes_received")
_OF_LANES = (
    "turns",
    "reuses",
    "warm_ups",
    "deltas",
    "fulls",
    "retries",
    "saved_bytes",
    "missing_events",
    "dropped_events",
)


def usage_of(pool: Pool) -> Usage:
    """Return the tokens of all turns of a pool, failed and incomplete ones too; warm-ups are not among them."""
    return sum((counters.usage for counters in pool.counters()[1]), Usage())
