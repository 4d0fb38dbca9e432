"""Wake-ups of the I/O thread: a million from sixteen threads, and none is lost."""

from __future__ import annotations

import os
import threading
from typing import Any

from llmws.wire.connection import Connection
from llmws.wire.link import Link, LinkPolicy
from llmws.wire.poll import SelectorPoll
from tests.life.tally import Tally


__all__ = ["bell", "posts"]

THREADS = 16
_PATIENCE = 10.0
# Posts of one thread before all of them wait until the I/O thread, asleep again, has had every one.
_BURST = 25


class Counting:
    """A router that counts what is posted, and tells when it was enough."""

    deadline = None

    def __init__(self) -> None:
        self.seen = [0] * THREADS
        self.due = 0
        self.enough = threading.Event()

    def step(self, now: float, given: Any) -> list[Any]:
        """Count a post, given by its thread's number."""
        if isinstance(given, int):
            self.seen[given] += 1
            if sum(self.seen) == self.due:
                self.enough.set()
        return []


def posts(tally: Tally, count: int) -> None:
    """Post ``count`` times from sixteen threads to an I/O thread that sleeps in between."""
    router = Counting()
    link = Link(LinkPolicy(), mask_key=lambda: os.urandom(4))
    connection = Connection("llmws-wakeups", "ws://none/", _no_dial, router, link)
    burst = THREADS * _BURST
    start, done = threading.Barrier(THREADS + 1), threading.Barrier(THREADS + 1)
    rounds = -(-count // burst)
    going = True

    def ring(number: int) -> None:
        while True:
            start.wait(_PATIENCE)
            if not going:
                return
            for _ in range(_BURST):
                connection.post(number)
            done.wait(_PATIENCE)

    workers = [threading.Thread(target=ring, args=(n,), daemon=True) for n in range(THREADS)]
    for worker in workers:
        worker.start()
    with tally.trying("posts"):
        for _ in tally.rounds(rounds):
            router.enough.clear()
            router.due += burst
            start.wait(_PATIENCE)
            done.wait(_PATIENCE)
            assert router.enough.wait(_PATIENCE), f"{sum(router.seen)} of {router.due} were seen"
    going = False
    start.wait(_PATIENCE)
    connection.stop()
    with tally.trying("the end"):
        assert connection.join(_PATIENCE)
        for worker in workers:
            worker.join(_PATIENCE)
        assert set(router.seen) == {rounds * _BURST}
    tally.note(f"{sum(router.seen):,} posts from {THREADS} threads in {rounds:,} bursts")


def _no_dial(timeout: float | None, abandoned: threading.Event) -> Any:
    raise AssertionError("nothing here asks for a connection")


def bell(tally: Tally, count: int) -> None:
    """Ring ``count`` times from sixteen threads while nobody hears: nobody blocks, and it is heard afterwards."""
    poll = SelectorPoll()

    def ring() -> None:
        for _ in range(-(-count // THREADS)):
            poll._rung = False  # Or only the first one would ring.
            poll.wake()

    with tally.trying("the bell"):
        workers = [threading.Thread(target=ring, daemon=True) for _ in range(THREADS)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join(_PATIENCE + count / 10_000)
            assert not worker.is_alive(), "a full pipe blocks who rings"
        # However many bytes there are: each wait hears some, and in the end there is silence and a bell that works.
        waits = 0
        while poll._selector.select(0):
            poll.wait(0, write=False)
            waits += 1
        assert waits >= 1
        poll._rung = False
        poll.wake()
        assert poll._selector.select(_PATIENCE)
    poll.close()
    tally.note(f"{count:,} rings from {THREADS} threads, heard in {waits} waits")
