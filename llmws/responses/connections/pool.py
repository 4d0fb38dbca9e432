"""
The connections of one session: which of them a turn goes to, and when one more is made or one is let go.

Turns belong to connections: each waits, runs and ends in the books of one router, on that connection's I/O thread. The
pool only says where a turn goes next. It fills a connection before it makes another, sends a conversation back to where
the server remembers it, and moves turns that wait from full connections to free ones.

Locking: one lock a pool, held for a few instructions, never while anything is posted, dialled or called. Routers report
on their I/O threads (``_hear``), users submit on theirs; both take it. No lock is taken inside it.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Any

import attrs

from ...errors import ConnectError, fresh
from ...wire.connection import Connection
from ...wire.monitor import Gate
from ...wire.ports import Counters, Tap
from ..routing.ends import LaneCounters
from ..routing.lane import Lane
from ..routing.lanes import Lanes
from ..routing.reports import (
    Aged,
    Astray,
    GiveBack,
    Idle,
    Learn,
    Learned,
    Prepare,
    Ready,
    Released,
    Retire,
    Retired,
    Returned,
    TryAgain,
)
from ..routing.turn import Submit, Turn
from ..vocabulary.capabilities import Capabilities


__all__ = ["Pool", "Slot"]

logger = logging.getLogger(__name__)

# Of so many responses outside of conversations it is known which connection caches them.
_MOST_HOMES = 1024


@attrs.define(eq=False)
class Slot:
    """
    One connection of a pool; all but the first two are guarded by the pool's lock.

    Attributes:
        connection: The I/O thread and its socket.
        lanes: Its router.
        turns: The turns that are there, waiting ones too, until nothing more can come of them.
        retired: Whether the server wants no further turns on it.
        leaving: Whether it ends as soon as nothing runs there.
        reserved: Whether it is being prepared, and takes no turns but those that are given to it.
        prepared: Opened when it is known whether it has a socket; not guarded. None if nobody asks for that.
        ready: Whether it had one then; not guarded.
    """

    connection: Connection
    lanes: Lanes
    turns: set[Turn] = attrs.field(factory=set)
    retired: bool = False
    leaving: bool = False
    reserved: bool = False
    prepared: Gate | None = None
    ready: bool = False

    @property
    def accepts(self) -> bool:
        """Whether a new turn may go there."""
        return not (self.retired or self.leaving or self.reserved or self.connection.over)


class Pool:
    """
    All connections of one session; thread-safe.

    Args:
        make: Makes one more connection and its router, given whether the server has lanes (None is not known yet);
            neither dials nor starts a thread.
        capabilities: What the server allows.
        max_connections: How many there may be at once, those that end not among them.

    Attributes:
        aged: Called on an I/O thread when a connection is near the end of its life; must not block.
        rotations: Connections that were replaced for that.
    """

    def __init__(
        self,
        make: Callable[[bool | None], tuple[Connection, Lanes]],
        capabilities: Capabilities,
        max_connections: int,
    ) -> None:
        self._make = make
        self._lanes_known = capabilities.lanes
        self._capacity = capabilities.max_active if capabilities.max_active > 1 else 16
        self._max_connections = max_connections
        self.aged: Callable[[Slot], None] = self.retire
        self._tap: Tap | None = None
        self.rotations = 0  # Written under the lock.
        self._stopped = False
        self._homes: dict[str, Slot] = {}
        self._past: list[Slot] = []  # They end soon, or have; their counters count.
        self._gone = (Counters(), LaneCounters())  # Of those that are forgotten.
        self.renew()
        self._slots = [self._new_slot()]

    def renew(self) -> None:
        """Make the lock; in a forked child, again."""
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        return f"<Pool connections={len(self._slots)}>"

    # Turns.

    def submit(self, turn: Turn) -> None:
        """
        Send a turn to a connection; never blocks.

        Raises:
            ConnectError: The system has no thread for the connection.
        """
        slot = self._place(turn)
        self._send(turn, slot, moved=False)
        if self._better_elsewhere(slot):
            # It was placed while nothing was known of lanes, and posted after that had been settled for all others.
            slot.connection.post_quietly(GiveBack())

    def _send(self, turn: Turn, slot: Slot, *, moved: bool) -> None:
        try:
            slot.connection.post(Submit(turn, moved))
        except ConnectError:
            with self._lock:
                slot.turns.discard(turn)
            raise
        if self._stopped:
            slot.connection.stop()  # It may have been made while the others were stopped.

    def _better_elsewhere(self, slot: Slot) -> bool:
        """Tell whether turns wait on one connection while another has room."""
        with self._lock:
            if self._lanes_known is None or len(slot.turns) <= self._known_capacity:
                return False
            accepting = [other for other in self._slots if other.accepts]
            free = any(len(other.turns) < self._known_capacity for other in accepting)
            return free or len(accepting) < self._max_connections

    @property
    def _known_capacity(self) -> int:
        """How many turns run at once on a connection, by what is known."""
        return self._capacity if self._lanes_known else 1

    def _place(self, turn: Turn, returned_by: Slot | None = None) -> Slot:
        with self._lock:
            slot = self._slot_for(turn, returned_by)
            slot.turns.add(turn)
            turn.slot = slot
            return slot

    def _slot_for(self, turn: Turn, returned_by: Slot | None) -> Slot:
        """Choose a connection, not by memory one that has just returned the turn; the caller holds the lock."""
        if self._stopped:
            return [*self._slots, *self._past][0]  # It refuses the turn.
        accepting = [slot for slot in self._slots if slot.accepts]
        home = self._home(turn, [slot for slot in accepting if slot is not returned_by])
        if home is not None:
            return home
        # An unknown server is asked one thing at a time until it has shown whether it has lanes.
        capacity = self._capacity if self._lanes_known is not False else 1
        free = [slot for slot in accepting if len(slot.turns) < capacity]
        if self._lanes_known is None and accepting:
            return accepting[0]
        if free:
            return max(free, key=lambda slot: len(slot.turns))
        if len(accepting) < self._max_connections:
            slot = self._new_slot()
            self._slots.append(slot)
            return slot
        return min(accepting, key=lambda slot: len(slot.turns))

    def _home(self, turn: Turn, accepting: list[Slot]) -> Slot | None:
        """Return the connection whose server remembers what a turn goes on from."""
        if turn.parent_id is not None:
            known = self._homes.get(turn.parent_id)
            if known in accepting:
                return known
        anchors = turn.continuation.anchors if turn.continuation is not None else ()
        for home in (turn.home, *(anchor.home for anchor in anchors)):
            if isinstance(home, Lane) and home.cached:
                for slot in accepting:
                    if slot.lanes is home.owner:
                        return slot
        return None

    def _new_slot(self) -> Slot:
        connection, lanes = self._make(self._lanes_known)
        slot = Slot(connection, lanes)
        connection.tap = self._tap
        connection.hear = lambda report: self._hear(slot, report)
        return slot

    # What routers report, on their I/O threads.

    def _hear(self, slot: Slot, report: Any) -> None:
        if isinstance(report, Released):
            self._released(slot, report.turn)
        elif isinstance(report, Returned):
            self._returned(slot, report.turn)
        elif isinstance(report, Retired):
            with self._lock:
                slot.retired = report.retired
        elif isinstance(report, Ready):
            slot.ready = report.ready
            if slot.prepared is not None:
                slot.prepared.set()
        elif isinstance(report, Learned):
            self._learned(report.known)
        elif isinstance(report, Idle):
            self._idle(slot)
        elif isinstance(report, Aged):
            self.aged(slot)
        elif isinstance(report, Astray):
            self._forward(slot, report.given)

    def _released(self, slot: Slot, turn: Turn) -> None:
        with self._lock:
            slot.turns.discard(turn)
            if turn.response_id is not None and turn.continuation is None:
                self._remember(turn.response_id, slot)
            crowded = self._crowded(slot)
        if crowded is not None:
            crowded.connection.post_quietly(GiveBack())

    def _remember(self, response_id: str, slot: Slot) -> None:
        """Note where a response is cached, for who names it as a parent; the caller holds the lock."""
        self._homes[response_id] = slot
        if len(self._homes) > _MOST_HOMES:
            del self._homes[next(iter(self._homes))]

    def _crowded(self, slot: Slot) -> Slot | None:
        """Return the connection with the most turns that wait, if this one has room; the caller holds the lock."""
        capacity = self._known_capacity
        if not slot.accepts or len(slot.turns) >= capacity:
            return None
        most = max(self._slots, key=lambda other: len(other.turns), default=slot)
        return most if len(most.turns) > capacity else None

    def _returned(self, slot: Slot, turn: Turn) -> None:
        with self._lock:
            slot.turns.discard(turn)
        try:
            self._send(turn, self._place(turn, slot), moved=True)
        except ConnectError as exc:
            # Nothing of it waits to be written any more; the counters are this thread's.
            slot.lanes.counters.released_bytes += turn.size_bytes
            turn.give_up(fresh(exc))

    def _learned(self, known: bool) -> None:
        with self._lock:
            self._lanes_known = known
            capacity = self._known_capacity
            most = capacity * (self._max_connections - 1)
            waiting = [(slot, min(len(slot.turns) - capacity, most)) for slot in self._slots]
        for slot, count in waiting:
            slot.connection.post_quietly(Learn(known))
            # They waited for the answer that has come; now other connections may have them.
            for _ in range(count):
                slot.connection.post_quietly(GiveBack())

    def _idle(self, slot: Slot) -> None:
        with self._lock:
            if slot.turns:
                return  # One is on its way.
            self._let_go(slot)
        logger.info("%s: nothing runs there any more, closed", slot.connection.name)
        slot.connection.stop()

    def _let_go(self, slot: Slot) -> None:
        """Forget a connection that ends; the caller holds the lock."""
        slot.leaving = True
        self._homes = {name: home for name, home in self._homes.items() if home is not slot}
        if slot in self._slots:
            # First: who looks without the lock is to find it in one of them.
            self._past.append(slot)
            self._slots.remove(slot)
        for over in [each for each in self._past if each.connection.over]:
            self._past.remove(over)
            _add(self._gone[0], over.connection.counters)
            _add(self._gone[1], over.lanes.counters)

    def _forward(self, slot: Slot, given: Any) -> None:
        current = given.turn.slot
        # To this one again if it is on its way here.
        if current is not None:
            current.connection.post_quietly(given)

    # The life of connections.

    def retire(self, slot: Slot) -> None:
        """Have a connection take no further turns, and end when those that it has are over."""
        with self._lock:
            slot.leaving = True
        slot.connection.post_quietly(Retire())

    def add(self) -> Slot | None:
        """Return one more connection, above the limit if need be, for nobody yet; None once the pool is stopped."""
        with self._lock:
            if self._stopped:
                return None
            slot = self._new_slot()
            slot.reserved = True
            self._slots.append(slot)
        if self._stopped:
            slot.connection.stop()  # It may have been made while the others were stopped.
        return slot

    def prepare(self, slot: Slot, timeout: float | None) -> bool:
        """
        Have a connection dial, and wait for it; return whether it has a socket.

        Raises:
            ConnectError: The system has no thread for it.
        """
        prepared = slot.prepared = Gate()
        slot.connection.post(Prepare(timeout, prepared))
        prepared.wait(timeout)
        return slot.ready

    def submit_to(self, slot: Slot, turn: Turn) -> None:
        """Send a turn to this connection; never blocks."""
        with self._lock:
            slot.turns.add(turn)
            turn.slot = slot
        turn.size_bytes = 0  # Nobody counted it among what waits to be written.
        slot.connection.post_quietly(Submit(turn))

    def discard(self, slot: Slot) -> None:
        """End a connection that nobody has used."""
        with self._lock:
            self._let_go(slot)
        slot.connection.stop()

    def try_again(self, slot: Slot) -> None:
        """Have an old connection say once more, in a while, that it is old."""
        slot.connection.post_quietly(TryAgain())

    def replace(self, old: Slot, new: Slot) -> None:
        """Have new turns go to the successor, and the old connection end when its turns have."""
        with self._lock:
            new.reserved = False
            self.rotations += 1
        self.retire(old)

    @property
    def stopped(self) -> bool:
        """Whether it was stopped."""
        return self._stopped

    @property
    def has_lanes(self) -> bool:
        """Whether the server is known to have lanes."""
        return self._lanes_known is True

    @property
    def slots(self) -> list[Slot]:
        """The connections that are there now; never empty."""
        with self._lock:
            if not self._slots:
                self._slots.append(self._new_slot())
            return list(self._slots)

    @property
    def all_slots(self) -> list[Slot]:
        """The connections that are there now, and those that may not have ended yet."""
        with self._lock:
            return [*self._past, *self._slots]

    def counters(self) -> tuple[list[Counters], list[LaneCounters]]:
        """Return what all connections and their routers counted, also those that are no more."""
        with self._lock:
            slots = [*self._past, *self._slots]
            wire = [slot.connection.counters for slot in slots]
            lanes = [slot.lanes.counters for slot in slots]
            return [self._gone[0], *wire], [self._gone[1], *lanes]

    @property
    def tap(self) -> Tap | None:
        """What hears the wire of all connections."""
        return self._tap

    @tap.setter
    def tap(self, tap: Tap | None) -> None:
        with self._lock:
            self._tap = tap
            slots = list(self._slots)
        for slot in slots:
            slot.connection.tap = tap

    def stop(self) -> None:
        """End every connection soon; waits for no lock, never blocks, may be repeated."""
        self._stopped = True
        # A copy made in one step: whoever adds one meanwhile finds the flag.
        for slot in [*self._slots, *self._past]:
            slot.connection.stop()

    def connections(self) -> list[Connection]:
        """Return every connection whose thread may still run; takes no lock, for finalizers ask."""
        return [slot.connection for slot in (*self._slots, *self._past)]


def _add(base: Any, more: Any) -> None:
    """Add counters to others of their kind."""
    for field in attrs.fields(type(base)):
        setattr(base, field.name, getattr(base, field.name) + getattr(more, field.name))
