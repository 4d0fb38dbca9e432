"""
The lanes of one socket: which of them a turn gets, and which response the server keeps for each; pure.

A lane is the wire's ``stream_id``. A lone turn takes the default lane, which has no name; turns that overlap lease
names from a small set that is used again and again, because a connection takes only so many names in its life. The
server keeps the latest response of each lane, so a conversation that goes on from there is given the same lane again;
if lanes run short, the one that was used longest ago gives way.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import attrs

from ..vocabulary.capabilities import Capabilities


__all__ = ["Lane", "LaneSet"]


@attrs.define(eq=False, repr=False)
class Lane:
    """
    One lane of one socket; the token by which a conversation finds it again.

    Attributes:
        name: The wire's ``stream_id``; None is the default lane.
        owner: The router whose lane it is.
        turn: The turn whose request was handed to the link, until nothing more can come of it.
        draining_until: Until when the rest of an ended turn's answer is awaited; None if it is not.
        drained: The ended turn whose answer that is.
        drains_unaccepted: Whether the server may yet refuse it.
        suspect: Whether the turn before ended by an error without a terminal event: until the next
            ``response.created`` an event may still be its.
        last_id: The response of the last turn that has ended here, or None.
        last_number: The sequence number that would have come next in it, or None.
        used: When it was last given to a turn, as a count.
        cached: The response that the server keeps for this lane, or None.
        keeper: The conversation that goes on from there, or None.
        forks: The first turns of forks from ``cached``: until the server has begun them, nothing else begins here.
    """

    name: str | None
    owner: object = None
    turn: Any = None
    draining_until: float | None = None
    drained: Any = None
    drains_unaccepted: bool = False
    suspect: bool = False
    last_id: str | None = None
    last_number: int | None = None
    used: int = 0
    cached: str | None = None
    keeper: object | None = None
    forks: frozenset[Any] = frozenset()

    @property
    def free(self) -> bool:
        """Whether a turn may begin here."""
        return self.turn is None and self.draining_until is None

    def overdue(self, now: float) -> bool:
        """Tell whether the rest of an ended turn's answer was awaited long enough."""
        return self.draining_until is not None and self.draining_until <= now

    def forget(self) -> None:
        """Note that the server has lost what it kept for this lane."""
        self.cached = self.keeper = None

    def __repr__(self) -> str:
        state = "free" if self.free else "busy" if self.turn else "draining"
        return f"<Lane {self.name or 'default'} {state} cached={self.cached!r}>"


class LaneSet:
    """
    All lanes of one router's socket.

    Not thread-safe: it belongs to the router.

    Args:
        capabilities: What the server allows.
        owner: The router.

    Attributes:
        known: Whether the server runs lanes side by side; None until it has shown it.
        busy: The lanes that are not free.
        echoed: Whether the server of this socket has said whose an answer is.
    """

    def __init__(self, capabilities: Capabilities, owner: object = None) -> None:
        self.known = capabilities.lanes
        self._owner = owner
        # What no table says of a server with lanes is taken from the one that documents it (inferred).
        self._max_active = capabilities.max_active if capabilities.max_active > 1 else 16
        self._max_names = capabilities.max_lanes or 32
        self._uses = 0
        self.busy: list[Lane] = []
        self.reset()

    def reset(self) -> None:
        """Begin anew with a fresh socket, whose server knows none of the names."""
        for lane in self.busy:
            # Conversations remember where they were: a lane that is no more is to keep no log for them.
            lane.turn = lane.drained = None
        self.default = Lane(None, self._owner)
        self._named: dict[str, Lane] = {}
        self._all = [self.default]
        self.busy = []
        self.echoed = False

    def __iter__(self) -> Iterator[Lane]:
        return iter(self._all)

    def __contains__(self, lane: object) -> bool:
        return isinstance(lane, Lane) and self.find(lane.name) is lane

    def find(self, name: str | None) -> Lane | None:
        """Return the lane of this name, or None if no turn was ever on it."""
        return self.default if name is None else self._named.get(name)

    @property
    def capacity(self) -> int:
        """How many turns may run at once, as far as is known."""
        return self._max_active if self.known else 1

    @property
    def quiet(self) -> bool:
        """Whether nothing runs and nothing is drained."""
        return not self.busy

    @property
    def full(self) -> bool:
        """Whether no further turn may begin now."""
        return len(self.busy) >= self.capacity

    @property
    def draining(self) -> list[Lane]:
        """The lanes on which the rest of an ended turn's answer is awaited."""
        return [lane for lane in self.busy if lane.draining_until is not None]

    def holder(self, response_id: str | None) -> Lane | None:
        """Return the lane for which the server keeps this response, or None."""
        if response_id is None:
            return None
        return next((lane for lane in self if lane.cached == response_id), None)

    def choose(self, turn: Any, parent: Lane | None, *, forked: bool) -> Lane | None:
        """
        Return the lane on which a turn may begin now, or None if it has to wait.

        Args:
            turn: The turn.
            parent: The lane that caches the response it goes on from, if one does.
            forked: Whether it leaves that lane to another conversation.
        """
        if self.full:
            return None
        if self.known is False:
            return self.default
        if self.known is None:
            return self._named.get("llmws-1") or self._new()
        if parent is not None and not forked:
            return parent if self._takes(parent) else None
        return self._lease(parent)

    def _takes(self, lane: Lane) -> bool:
        """
        Tell whether a turn may begin on a lane.

        While a request on a named lane waits for the socket's first answer with a name, none does on the default lane:
        if the server has no lanes after all, that answer has no name, and is not to be taken for the default lane's.
        """
        told_apart = lane.name is not None or self.echoed or self.quiet
        return lane.free and not lane.forks and told_apart

    def lease(self, lane: Lane, turn: Any) -> None:
        """Give a lane to a turn."""
        self._uses += 1
        lane.turn, lane.used = turn, self._uses
        self._note(lane)

    def vacate(self, lane: Lane) -> None:
        """Note that a lane's turn is over."""
        lane.turn = None
        self._note(lane)

    def drain(self, lane: Lane, turn: Any, until: float, *, unaccepted: bool) -> None:
        """Have the rest of an ended turn's answer awaited; what the server keeps for the lane is nobody's then."""
        lane.forget()
        lane.drained, lane.draining_until, lane.drains_unaccepted = turn, until, unaccepted
        self._note(lane)

    def drained(self, lane: Lane) -> Any:
        """Note that nothing more comes of an ended turn, and return it."""
        turn, lane.drained, lane.draining_until = lane.drained, None, None
        self._note(lane)
        return turn

    def _note(self, lane: Lane) -> None:
        """Keep the list of busy lanes, which is asked for much more often than it changes."""
        if lane.free == (lane in self.busy):
            (self.busy.remove if lane.free else self.busy.append)(lane)

    def _lease(self, avoided: Lane | None) -> Lane | None:
        free = [lane for lane in self if lane is not avoided and self._takes(lane)]
        unkept = [lane for lane in free if lane.keeper is None]
        if self.default in unkept and self.quiet:
            return self.default
        if unkept:
            return min(unkept, key=lambda lane: lane.used)
        if len(self._named) < self._max_names:
            return self._new()
        given_away = min(free, key=lambda lane: lane.used, default=None)
        if given_away is not None:
            given_away.forget()
        return given_away

    def _new(self) -> Lane:
        name = f"llmws-{len(self._named) + 1}"
        lane = self._named[name] = Lane(name, self._owner)
        self._all.append(lane)
        return lane

    def addressed(self, name: str | None) -> Lane | None:
        """Return whose an event with this ``stream_id`` is; None if nobody's."""
        if name is not None or self.known is not False:
            return self.find(name)
        # Without lanes the server answers one request after the other.
        return min(self.busy, key=lambda lane: lane.used, default=self.default)

    def suspects(self, lane: Lane) -> bool:
        """Return whether an event for this lane may still be of a turn that ended by an error."""
        return any(each.suspect for each in self._like(lane))

    def trust(self, lane: Lane) -> None:
        """Note that the server has begun with the turn of this lane."""
        for each in self._like(lane):
            each.suspect = False

    def left(self, lane: Lane, response_id: str | None, number: int | None) -> None:
        """Note the turn that has ended on a lane, so that what still comes for it is known."""
        for each in self._like(lane):
            each.last_id, each.last_number = response_id, number

    def _like(self, lane: Lane) -> Iterable[Lane]:
        """Return the lanes whose answers cannot be told from this one's."""
        return self if self.known is False else (lane,)

    def keep(self, lane: Lane, response_id: str | None, keeper: object | None) -> Lane:
        """Note that the server now keeps this response; return the lane for which it does."""
        if self.known is False:
            # Its only cache is the connection's.
            for other in self:
                other.forget()
            lane = self.default
        lane.cached, lane.keeper = response_id, keeper
        return lane
