"""
What is timed in a client's process, the same for every client; each task returns its figures by name.

A first turn, unmeasured, lets each client import, connect and build what it builds once.
"""

from __future__ import annotations

import contextlib
import statistics
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import attrs

from ..memory import peak_bytes, resident_bytes
from . import Client
from .reading import READERS, deltas


__all__ = ["TASKS"]

# A fast client's burst is over in the blink of an eye, in which the machine may have been slow or fast by chance. So it
# is repeated until so much was measured.
_MEASURED_SECONDS = 0.5
# In which threads end that were there only to connect.
_SETTLE_SECONDS = 1.0

Figures = dict[str, Any]
Settings = Mapping[str, Any]


@attrs.frozen
class Turn:
    """
    One turn that was read.

    Attributes:
        first: Seconds from the request to the first event.
        whole: Seconds from the request to the end.
        characters: How much text its deltas held.
        last: Its last event, or chunk.
    """

    first: float
    whole: float
    characters: int
    last: Any


def read_turn(client: Client, text: str) -> Turn:
    """Send a request, and read the answer to its end."""
    began = time.perf_counter()
    events = iter(client.events({"model": "benchmark", "input": text}))
    next(events)
    first = time.perf_counter()
    characters, last = READERS[client.reads](events, client.endless)
    return Turn(first - began, time.perf_counter() - began, characters, last)


def check(client: Client, turn: Turn) -> None:
    """Raise if the deltas do not add up to the final text."""
    expected = len(client.text_of(turn.last))
    if turn.characters != expected:
        raise AssertionError(
            f"{turn.characters} characters in deltas, {expected} in the final text"
        )


@contextlib.contextmanager
def warm(client: Client) -> Iterator[None]:
    """Open a client, with one turn behind it."""
    client.open()
    try:
        check(client, read_turn(client, "short"))
        yield
    finally:
        client.close()


def burst(client: Client, settings: Settings) -> Figures:
    """Read answers that come as fast as they can be read, for as long as is measured."""
    events = settings["sizes"]["burst"] + 8
    whole = cpu = 0.0
    first: list[float] = []
    with warm(client):
        while not first or whole < _MEASURED_SECONDS:
            began = time.process_time()
            turn = read_turn(client, "burst")
            cpu += time.process_time() - began
            whole += turn.whole
            first.append(turn.first)
            check(client, turn)
    count = events * len(first)
    return {
        "events_per_second": count / whole,
        "cpu_us": cpu / count * 1e6,
        "first_ms": statistics.median(first) * 1e3,
    }


def paced(client: Client, settings: Settings) -> Figures:
    """Read deltas that come one by one; each holds the time at which the server wrote it."""
    asked, interval = settings["answer"], settings.get("switch_interval")
    late = []
    with warm(client), burning(interval):
        cpu = time.process_time()
        events = client.events({"model": "benchmark", "input": asked})
        for text in deltas(events, client.reads, client.endless):
            late.append(time.monotonic_ns() - int(text))
        cpu = time.process_time() - cpu
    if len(late) != settings["sizes"][asked]:
        raise AssertionError(f"{len(late)} deltas, not {settings['sizes'][asked]}")
    late.sort()
    figures = {
        "p50_us": late[len(late) // 2] / 1e3,
        "p99_us": late[len(late) * 99 // 100] / 1e3,
        "max_us": late[-1] / 1e3,
    }
    # Beside a computing thread, the process's CPU says nothing of the client's.
    return figures if interval else {**figures, "cpu_us": cpu / len(late) * 1e6}


def turns(client: Client, settings: Settings) -> Figures:
    """Run short turns one after another on a warm connection, for as long as is measured."""
    done: list[Turn] = []
    with warm(client):
        cpu, began = time.process_time(), time.perf_counter()
        while not done or time.perf_counter() - began < _MEASURED_SECONDS:
            done += [read_turn(client, "short") for _ in range(settings["sizes"]["turns"])]
        cpu = time.process_time() - cpu
        check(client, done[-1])
    return {
        "first_ms": statistics.median(turn.first for turn in done) * 1e3,
        "whole_ms": statistics.median(turn.whole for turn in done) * 1e3,
        "cpu_ms": cpu / len(done) * 1e3,
    }


def large(client: Client, settings: Settings) -> Figures:
    """Read one event of many MiB; the growth of the peak is given as a multiple of its size."""
    size = settings["sizes"]["large_mib"] * 2**20
    with warm(client):
        before = peak_bytes()
        turn = read_turn(client, "large")
        characters = len(client.text_of(turn.last))
        growth = peak_bytes() - before
    if characters != size:
        raise AssertionError(f"{characters} characters, not {size}")
    return {"seconds": turn.whole, "growth": growth / size}


def upload(client: Client, settings: Settings) -> Figures:
    """Send a request of many MiB; the first event of the answer follows its last byte."""
    text = "The quick brown fox. " * (settings["sizes"]["upload_mib"] * 2**20 // 21)
    with warm(client):
        turn = read_turn(client, text)
        check(client, turn)
    return {"seconds": turn.first}


def idle(client: Client, settings: Settings) -> Figures:
    """Hold connections that have each run a turn, and do nothing."""
    count = settings["sizes"]["idle"]
    with contextlib.ExitStack() as stack:
        stack.enter_context(warm(client))
        memory, threads = resident_bytes(), threading.active_count()
        for _ in range(count):
            stack.enter_context(warm(client.another()))
        time.sleep(_SETTLE_SECONDS)  # noqa: TID251 (being idle is what is measured)
        memory, threads = resident_bytes() - memory, threading.active_count() - threads
    return {"kib": memory / count / 1024, "threads": threads / count}


def fresh(client: Client, settings: Settings) -> Figures:
    """Connect, run a turn, disconnect; again and again. What fails is counted, and another is tried."""
    wanted = settings["connections"]
    failed, kinds, done = 0, set(), 0
    began = time.perf_counter()
    while done < wanted and failed <= wanted:
        attempt = client.another()
        try:
            attempt.open()
            with contextlib.closing(attempt):
                check(attempt, read_turn(attempt, "short"))
                failed += attempt.hidden_failures()
            done += 1
        except Exception as exc:  # noqa: BLE001 (a peer may raise anything, and is counted)
            failed += 1
            kinds.add(f"{type(exc).__name__}: {exc}"[:120])
    seconds = time.perf_counter() - began
    return {"failed": failed, "connected": done, "seconds": seconds, "kinds": sorted(kinds)}


@contextlib.contextmanager
def burning(switch_interval: float | None) -> Iterator[None]:
    """Have another thread of this process compute all the while; None has none."""
    if switch_interval is None:
        yield
        return
    over = False

    def compute() -> None:
        while not over:
            sum(range(100))

    before = sys.getswitchinterval()
    sys.setswitchinterval(switch_interval)
    thread = threading.Thread(target=compute, name="busy")
    thread.start()
    try:
        yield
    finally:
        over = True
        thread.join()
        sys.setswitchinterval(before)


TASKS: dict[str, Callable[[Client, Settings], Figures]] = {
    task.__name__: task for task in (burst, paced, turns, large, upload, idle, fresh)
}
