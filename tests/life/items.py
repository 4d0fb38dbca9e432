"""The table of campaigns: what each is about, how often it is done, and how long it may take."""

from __future__ import annotations

from collections.abc import Callable

import attrs

from tests.life import (
    closes,
    closings,
    crowd,
    cycles,
    exits,
    forgotten,
    freshtls,
    interrupts,
    kills,
    wakeups,
)
from tests.life.tally import Tally


__all__ = ["ITEMS", "Item", "run"]


@attrs.frozen
class Item:
    """
    One campaign.

    Attributes:
        work: Does it, so many times, and counts.
        full: How often, in the whole campaign; some do that in each of several ways.
        quick: How often, in a quick run.
        suite: How often, in a run of all tests; 0 leaves it out.
        seconds: How long the whole campaign may take.
        main_thread: Whether it sends signals, which only a process's main thread handles.
    """

    work: Callable[[Tally, int], None]
    full: int
    quick: int
    suite: int
    seconds: float
    main_thread: bool = False


ITEMS = {
    "cycles": Item(cycles.plain, 500, 50, 10, 120),
    "cycles-tls": Item(cycles.secure, 500, 50, 10, 120),
    "closes": Item(closes.from_elsewhere, 100, 5, 1, 300),
    "closes-in-signals": Item(closes.from_signals, 100, 5, 1, 300, main_thread=True),
    "interrupts": Item(interrupts.answered, 100, 10, 3, 300, main_thread=True),
    "interrupts-aimed": Item(interrupts.aimed, 1000, 100, 10, 300, main_thread=True),
    # The next turn waits 5 s for an answer that goes on, before its connection is replaced.
    "interrupts-unanswered": Item(interrupts.unanswered, 1, 0, 0, 300, main_thread=True),
    "exits": Item(exits.campaign, 100, 2, 1, 1800),
    "forgotten": Item(forgotten.anywhere, 100, 5, 1, 300),
    "forgotten-on-io-threads": Item(forgotten.on_an_io_thread, 1000, 50, 20, 300),
    "crowd": Item(crowd.campaign, 2000, 300, 80, 300),
    "kills": Item(kills.processes, 20, 1, 1, 300),
    "broken-connections": Item(kills.connections, 5, 1, 0, 300),
    "closings": Item(closings.everywhere, 1000, 50, 10, 300),
    "closings-in-signals": Item(closings.while_starting, 1000, 50, 10, 300, main_thread=True),
    "wakeups": Item(wakeups.posts, 1_000_000, 100_000, 20_000, 300),
    "bell": Item(wakeups.bell, 1_000_000, 100_000, 20_000, 300),
    "fresh-tls": Item(freshtls.ours, 10_000, 200, 20, 1200),
    "fresh-tls-openai": Item(freshtls.openai_python, 2_500, 40, 0, 1200),
}


def run(name: str, scale: str, seed: int) -> Tally:
    """Run a campaign as often as its ``full``, ``quick`` or ``suite`` says."""
    item = ITEMS[name]
    tally = Tally(seed, item.seconds)
    with tally.listening():
        item.work(tally, getattr(item, scale))
    return tally
