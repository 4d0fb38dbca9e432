"""What the command measures: each item yields lines, whether they held, and their figures."""

from __future__ import annotations

import os
import statistics
from collections.abc import Callable, Iterator
from typing import Any

import attrs

from tests.scale.crowd import crowd
from tests.scale.growth import SHORTENINGS, delta_turns, memory
from tests.scale.rotation import Rotated, rotate


__all__ = ["ITEMS"]

Line = tuple[str, bool, Any]
Item = Callable[[bool], Iterator[Line]]

_THREADS = 64
_SIZES = (10, 100, 1_000, 10_000)
# A turn over the longest history may take so many times what it takes over the shortest; the rest is noise.
_MOST_TIMES = 1.3
_GROWTH_BYTES = 64 * 1024
_RESIDENT_GROWTH_BYTES = 4 * 2**20
# What a turn may take beyond the answer and the round trip, of which a dial takes one more.
_LATENCY = 0.1
_LATE = _LATENCY / 2


def crowds(quick: bool) -> Iterator[Line]:
    """Ask from 64 threads at once, of servers that differ in what they know of lanes."""
    runs = [crowd(_THREADS, 1.0) for _ in range(1 if quick else 5)]
    median = statistics.median(run.seconds for run in runs)
    most = max(run.connections for run in runs)
    held = median <= 1.3 and most <= 4 and not any(run.wrong for run in runs)
    told = {"seconds": [round(run.seconds, 3) for run in runs], "median": round(median, 3)}
    yield f"{_THREADS} turns of 1 s, lanes", held, {**told, "connections": most}
    seconds = 0.1 if quick else 0.5
    for server in (True, False, "ignored", "serial", "refused"):
        # Whoever says that a server has lanes that refuses their names gets what it says.
        for session in (None,) if server == "refused" else (None, True):
            run = crowd(_THREADS, seconds, server_lanes=server, session_lanes=session)
            # What the server has not taken for want of lanes is asked again.
            held = not run.wrong and run.requests == _THREADS + len(run.refused)
            held = held and (server is not True or run.seconds <= seconds + 0.3)
            name = f"{_THREADS} turns of {seconds:g} s, server lanes={server!r}, Session(lanes={session})"
            yield name, held and run.connections <= 8, attrs.asdict(run)


def memories(quick: bool) -> Iterator[Line]:
    """Look at memory in a conversation that is kept short."""
    marks = (1_000, 1_500) if quick else (1_000, 5_000)
    for shortening in SHORTENINGS:
        early, late = memory(shortening, marks)
        traced = late.traced_bytes - early.traced_bytes
        resident = late.resident_bytes - early.resident_bytes
        held = traced <= _GROWTH_BYTES and resident <= _RESIDENT_GROWTH_BYTES
        told = {
            "KiB": [round(each.traced_bytes / 1024) for each in (early, late)],
            "resident MiB": [round(each.resident_bytes / 2**20, 1) for each in (early, late)],
            "items": [early.items, late.items],
        }
        yield f"{late.turns - early.turns:,} turns more, {shortening}", held, told


def histories(quick: bool) -> Iterator[Line]:
    """Measure turns that send only what is new, over histories of any length."""
    found = delta_turns(_SIZES, 3 if quick else 30)
    short, long = found[_SIZES[0]], found[_SIZES[-1]]
    for size, turns in found.items():
        told = {name: round(value) for name, value in attrs.asdict(turns).items()}
        yield f"delta turns over {size:,} items", not turns.fulls, told
    times = long.median_us / short.median_us
    yield "time over the longest history", times <= _MOST_TIMES, f"{times:.2f} times"
    yield "bytes over the longest history", long.most_bytes == short.most_bytes, long.most_bytes


def rotations(quick: bool) -> Iterator[Line]:
    """Replace connections under turns that run back to back."""
    lives, max_age, runs = (3, 3.0, 1) if quick else (5, 6.0, 5)
    # By conversations: how many connections are replaced. Forty take three at a time.
    counts = {1: lives - 1, 4: lives - 1, 40: 3}

    def once(conversations: int) -> Rotated:
        return rotate(
            counts[conversations],
            max_age=max_age,
            seconds=0.5,
            conversations=conversations,
            latency=_LATENCY,
        )

    for count, wanted in counts.items():
        found = [once(count) for _ in range(runs)]
        late = statistics.median(run.late for run in found)
        faults = [fault for run in found for fault in run.faults(count, late=float("inf"))]
        told = {
            "late ms": [round(run.late * 1e3) for run in found],
            "turns": [run.turns for run in found],
            "warm-ups": [run.warm_ups for run in found],
            "faults": faults,
            # Being late is the one figure that a busy machine spoils.
            "load": round(os.getloadavg()[0], 1),
        }
        replaced = all(run.rotations >= wanted for run in found)
        name = f"{count} conversations, turns of 500 ms, {wanted} connections replaced, no storage"
        yield name, replaced and not faults and late <= _LATE, told


ITEMS: dict[str, Item] = {
    "crowds": crowds,
    "memory": memories,
    "histories": histories,
    "rotation": rotations,
}
