"""Long conversations: what they hold in memory, and what a turn costs that goes on from a long history."""

from __future__ import annotations

import gc
import statistics
import time
import tracemalloc
from collections.abc import Callable

import attrs

import llmws
from benchmarks.memory import resident_bytes
from tests.scale.served import serving


__all__ = ["SHORTENINGS", "Held", "Turns", "delta_turns", "memory"]

_THRESHOLD = [{"type": "compaction", "compact_threshold": 1000}]
_EVERY = 20
_KEPT = 4
_ITEM = {"type": "message", "role": "user", "content": "something that was said before " * 3}


def _nothing(chat: llmws.Conversation) -> None:
    """Leave it to the server."""


def _cut(chat: llmws.Conversation) -> None:
    """Keep the latest items only."""
    chat.replace_items(chat.items[-_KEPT:])


def _start_over(chat: llmws.Conversation) -> None:
    """Keep the first items only."""
    chat.truncate_to(_KEPT)


# By name: the conversation's settings, and what is done to it every few turns.
SHORTENINGS: dict[str, tuple[dict[str, object], Callable[[llmws.Conversation], None]]] = {
    "server-side compaction": ({"context_management": _THRESHOLD}, _nothing),
    "replace_items()": ({}, _cut),
    "truncate_to()": ({}, _start_over),
}


@attrs.frozen
class Held:
    """
    What a conversation held after so many turns.

    Attributes:
        turns: How many.
        traced_bytes: What Python objects took, garbage not counted.
        resident_bytes: What the process took.
        items: How long the transcript was.
    """

    turns: int
    traced_bytes: int
    resident_bytes: int
    items: int


def memory(shortening: str, marks: tuple[int, ...]) -> list[Held]:
    """
    Have one conversation that is kept short, and look at memory after so many turns each.

    Args:
        shortening: One of ``SHORTENINGS``.
        marks: After how many turns to look, in order.
    """
    settings, shorten = SHORTENINGS[shortening]
    found = []
    tracemalloc.start()
    try:
        with (
            serving("echo") as served,
            llmws.Session("m", base_url=served.base_url) as session,
        ):
            chat = session.conversation(**settings)
            for number in range(1, marks[-1] + 1):
                said = f"turn {number:06d} of a conversation that is kept short"
                assert chat.create(said).text == said
                if number % _EVERY == 0:
                    shorten(chat)
                if number in marks:
                    found.append(_held(number, len(chat.items)))
    finally:
        tracemalloc.stop()
    return found


def _held(turns: int, items: int) -> Held:
    gc.collect()
    return Held(turns, tracemalloc.get_traced_memory()[0], resident_bytes(), items)


@attrs.frozen
class Turns:
    """
    What turns cost that sent only what was new.

    Attributes:
        median_us: Microseconds from ``stream()`` to the whole response.
        opening_us: Microseconds of ``stream()`` alone.
        cpu_us: Microseconds of CPU of the process, all threads.
        most_bytes: The largest ``response.create`` of them.
        fulls: How many sent the whole transcript; there should be none.
    """

    median_us: float
    opening_us: float
    cpu_us: float
    most_bytes: int
    fulls: int


def delta_turns(sizes: tuple[int, ...], rounds: int, turns: int = 10) -> dict[int, Turns]:
    """
    Measure turns that go on from histories of these sizes, all sizes in each round.

    Args:
        sizes: How many items the histories have.
        rounds: How often.
        turns: How many turns are measured each time; a turn makes the history longer by two items.
    """
    samples: dict[int, list[tuple[float, float, float]]] = {size: [] for size in sizes}
    most, fulls = dict.fromkeys(sizes, 0), dict.fromkeys(sizes, 0)
    with (
        serving("echo") as served,
        llmws.Session("m", base_url=served.base_url) as session,
    ):
        for number in range(rounds):
            at = number % len(sizes)
            for size in sizes[at:] + sizes[:at]:
                chat = session.conversation(instructions="Be brief.")
                chat.replace_items([_ITEM] * size)
                chat.create("Begin.")  # The full transcript; not measured.
                samples[size] += [_timed(chat, turn) for turn in range(turns)]
                for record in chat.turns[1:]:
                    assert record.sent is not None
                    most[size] = max(most[size], record.sent.bytes)
                    fulls[size] += record.sent.kind == "full"
    found = {}
    for size in sizes:
        whole, opening, cpu = (statistics.median(each) for each in zip(*samples[size], strict=True))
        found[size] = Turns(whole, opening, cpu, most[size], fulls[size])
    return found


def _timed(chat: llmws.Conversation, turn: int) -> tuple[float, float, float]:
    said = f"Turn {turn:02d}."
    cpu, began = time.process_time(), time.perf_counter()
    stream = chat.stream(said)
    opened = time.perf_counter()
    text = stream.response().text
    ended = time.perf_counter()
    assert text == said
    return (ended - began) * 1e6, (opened - began) * 1e6, (time.process_time() - cpu) * 1e6
