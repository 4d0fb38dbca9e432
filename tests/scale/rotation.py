"""Conversations that run turn after turn while their connections grow old and are replaced."""

from __future__ import annotations

import contextlib
import itertools
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import attrs

import llmws
from llmws.testing import FaultProxy
from llmws.testing.plans import Plan
from tests.scale.served import Asked, Served, serving


__all__ = ["Rotated", "rotate"]

# A twelfth of an hour is long enough for the last turn of an old connection; a twelfth of seconds is not.
_GRACE = 1.0
_MOST_ACTIVE = 16


@attrs.frozen
class Rotated:
    """
    What came of it.

    Attributes:
        lives: How many connections had turns, all that there were.
        rotations: How many were replaced.
        turns: How many turns all conversations had.
        wrong: Answers of a model that had not seen just what was said before.
        late: The most seconds that a turn took beyond its answer's time and the round trip.
        warm_ups: Requests that had a new connection read a conversation.
        without_parent: Other requests that named no parent; the first of each conversation has to.
        cold: Connections whose first request was no warm-up; those of the first turns have to be.
        refused: The codes of what the server refused.
        retries: Turns that were sent again.
        lost: Connections that ended before they were closed here.
    """

    lives: int
    rotations: int
    turns: int
    wrong: int
    late: float
    warm_ups: int
    without_parent: int
    cold: int
    refused: list[str]
    retries: int
    lost: int

    def faults(self, conversations: int, late: float) -> list[str]:
        """
        Say what does not hold; nothing if no turn but the first ones paid a dial or a full replay.

        Args:
            conversations: How many there were.
            late: The most seconds that a turn may have been late.
        """
        first = -(-conversations // _MOST_ACTIVE)
        said = {
            "answers wrong": self.wrong,
            "turns late": self.late > late,
            "connections that had no turn": self.lives < first + self.rotations,
            "warm-ups missing": self.warm_ups < self.rotations // first * conversations,
            "warm-ups of what was elsewhere": self.warm_ups
            > -(-self.rotations // first) * conversations,
            "full replays": self.without_parent - conversations,
            "connections that a turn had to dial": self.cold - first,
            "refused": self.refused,
            "sent again": self.retries,
            "lost": self.lost,
        }
        return [f"{words}: {value}" for words, value in said.items() if value]


def rotate(
    rotations: int,
    *,
    max_age: float,
    seconds: float,
    conversations: int = 1,
    latency: float = 0.0,
    apart: bool = True,
    enforced: bool = True,
) -> Rotated:
    """
    Have conversations without storage run turns back to back, until so many connections were replaced.

    Args:
        rotations: How many; each conversation has one more turn then.
        max_age: Seconds that the session takes a connection to live.
        seconds: How long each answer takes.
        conversations: How many run at the same time, each on a thread.
        latency: Seconds of a round trip.
        apart: Whether the server is a process of its own.
        enforced: Whether the server ends connections a second after that age; the session leaves them a twelfth before.
    """
    limits = {"max_age": max_age + _GRACE} if enforced else {}
    allowed = llmws.Capabilities(
        lanes=True, max_active=_MOST_ACTIVE, max_lanes=32, steering=True, max_age=max_age
    )
    with (
        serving("counting", seconds, apart=apart, **limits) as served,
        _far(served, latency) as base_url,
        llmws.Session("m", base_url=base_url, capabilities=allowed, store=False) as session,
        ThreadPoolExecutor(conversations) as threads,
    ):
        over = threading.Event()
        # Where no connection is replaced, this ends too.
        deadline = time.monotonic() + 2 * (rotations + 1) * max_age
        talks = [
            threads.submit(_talk, session, name, over, rotations, deadline)
            for name in range(conversations)
        ]
        results = [talk.result() for talk in talks]
        _, asked = served.look()
        stats = session.stats
    longest = max(took for times, _ in results for took in times)
    return Rotated(
        lives=len({each.connection for each in asked if not each.warm_up}),
        rotations=stats.rotations,
        turns=sum(len(times) for times, _ in results),
        wrong=sum(wrong for _, wrong in results),
        late=longest - seconds - latency,
        warm_ups=sum(each.warm_up for each in asked),
        without_parent=sum(not each.warm_up and each.parent is None for each in asked),
        cold=_cold(asked),
        refused=[each.refused for each in asked if each.refused is not None],
        retries=stats.retries,
        lost=stats.lost,
    )


@contextlib.contextmanager
def _far(served: Served, latency: float) -> Iterator[str]:
    """Return where the server is to be had with a latency."""
    if not latency:
        yield served.base_url
        return
    with FaultProxy.before(served.base_url, Plan("delay", seconds=latency / 2)) as proxy:
        yield proxy.base_url()


def _talk(
    session: llmws.Session, name: int, over: threading.Event, rotations: int, deadline: float
) -> tuple[list[float], int]:
    """Run turns until the last connection has had one; return their seconds, and how many answers were wrong."""
    chat = session.conversation(instructions="Go on.")
    times: list[float] = []
    wrong = 0
    for turn in itertools.count(1):
        ending = over.is_set()
        said = f"conversation {name}, turn {turn}"
        began = time.perf_counter()
        text = chat.create(said).text
        if turn > 1:  # The first one has to dial.
            times.append(time.perf_counter() - began)
        wrong += text != f"{said}: {2 * turn - 1} items"
        if ending:
            break
        if session.stats.rotations >= rotations or time.monotonic() > deadline:
            over.set()
    return times, wrong


def _cold(asked: list[Asked]) -> int:
    first: dict[int, bool] = {}
    for each in asked:
        first.setdefault(each.connection, each.warm_up)
    return sum(not warm_up for warm_up in first.values())
