"""P1: a connection is harmed at each of forty places of a turn's life, in four ways, with TLS and without."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from typing import Any

from llmws.errors import ConnectError, StreamInterruptedError
from llmws.testing import FaultProxy
from tests.campaign.arena import SCHEMES, Arena, Trial, arena, spread
from tests.campaign.book import Book
from tests.campaign.consumers import WAYS, ask
from tests.campaign.names import served_names
from tests.campaign.oracle import GRACE, Seen, examine
from tests.campaign.points import (
    HARMS,
    POINTS,
    Point,
    Sizes,
    arm,
    host_of,
    network_plan,
    plan_of,
)
from tests.campaign.script import Line


__all__ = ["BEFORE_TURN", "LIMITS", "LOUD", "play_all", "sizes_of", "struck", "trials"]

LIMITS = {
    "connect": 0.6,
    "first_event": 0.4,
    "idle": 0.4,
    "lane_wait": 4.0,
    "total": 5.0,
    "close": 0.4,
}
# Of TLS 1.3, around what is sent at once.
_RECORD_BYTES = 22
LOUD = ("FIN", "RST")
# Here even a silent harm is heard in time: the dial has a limit of its own.
BEFORE_TURN = ("name", "accept", "handshake", "upgrade")
# What a turn needs that nothing disturbs, on a busy machine too.
_PATIENT = {
    **LIMITS,
    "connect": 3.0,
    "first_event": 4.0,
    "idle": 4.0,
    "total": 8.0,
    "lane_wait": 8.0,
}


def trials(seed: int, scale: str) -> Iterator[Trial]:
    """Yield one trial for each place, harm, scheme and round."""
    rounds = {"full": 5, "quick": 1, "suite": 1}[scale]
    number = 0
    for repeat in range(rounds):
        for index, point in enumerate(POINTS):
            for harm in HARMS:
                for scheme in SCHEMES:
                    number += 1
                    if scale == "quick" and (number + index) % 2 and point.phase != "answer":
                        continue
                    if scale == "suite" and number % 11:
                        continue
                    name = f"P1/{index}/{harm}/{scheme}/{repeat}"
                    yield Trial(name, seed, (point, harm, scheme))


def play_all(book: Book, chosen: list[Trial], threads: int = 12) -> None:
    """Play trials."""
    with served_names(), arena(book) as ground:
        sizes = {scheme: sizes_of(ground, scheme) for scheme in SCHEMES}
        spread(book, chosen, lambda trial: play(ground, trial, sizes[trial.about[2]]), threads)


def sizes_of(ground: Arena, scheme: str) -> Sizes:
    """Measure a clean connection with one turn."""
    line, at_request = Line(f"sizes-{scheme}"), []
    with ground.proxy(scheme) as proxy:
        line.hook = lambda number: number or at_request.append(proxy.counters)
        ground.script.add(line)
        with ground.session(scheme, proxy, timeouts=_PATIENT) as session:
            session.create(line.question)
            sent = session.stats.bytes_sent
            before_close = proxy.counters.to_server_bytes
        overhead = _RECORD_BYTES if scheme == "wss" else 0
        total = at_request[0].to_server_bytes
    return Sizes(
        total - sent - overhead, at_request[0].from_server_bytes, sent + overhead, before_close
    )


def play(ground: Arena, trial: Trial, sizes: Sizes) -> None:
    """Take a turn on a connection that is harmed, and one more without any harm."""
    point, harm, scheme = trial.about
    book, way = ground.book, trial.rng.choice(list(WAYS))
    line = ground.script.add(Line(trial.nonce("f"), deltas=8))
    arm(point, harm, line)
    with ground.proxy(scheme) as proxy, host_of(point, harm, proxy) as host:
        plan = plan_of(point, harm, sizes)
        proxy.plan(lambda number: plan if number == 1 else None)
        session = ground.session(scheme, proxy, host, timeouts=LIMITS)
        try:
            seen = _harmed(ground, trial, session, proxy, line, way)
            book.count("faults" if _struck(point, proxy, line, session) else "did not strike")
            examine(book, trial.id, line, seen)
            _tell(book, seen)
            _judge(book, trial, seen)
            if harm in LOUD or isinstance(seen.error, ConnectError):
                _recover(ground, trial, session, seen)
        finally:
            _close(book, trial, session)


def _harmed(
    ground: Arena, trial: Trial, session: Any, proxy: FaultProxy, line: Line, way: str
) -> Seen:
    """Take the turn that is to be harmed."""
    point, harm, _ = trial.about
    if point.phase == "idle":
        _clean(ground, trial, session, "before")
        proxy.strike(network_plan(harm))
        if point.at:
            threading.Event().wait(point.at)
    seen = ask(lambda: session.stream(line.question), LIMITS["total"], way)
    if point.phase == "close":
        if point.at == "before":
            proxy.strike(network_plan(harm))
        _close(ground.book, trial, session)
    return seen


def _clean(ground: Arena, trial: Trial, session: Any, name: str) -> Seen:
    """Take a turn that nothing disturbs."""
    line = ground.script.add(Line(trial.nonce(name), deltas=3))
    seen = ask(lambda: session.stream(line.question, timeouts=_PATIENT), _PATIENT["total"])
    examine(ground.book, trial.id, line, seen)
    ground.script.remove(line)
    return seen


def _recover(ground: Arena, trial: Trial, session: Any, harmed: Seen) -> None:
    """Take a turn on the same session, which has to complete."""
    if trial.about[0].phase == "close":
        return  # The session is closed, which was the point.
    seen = _clean(ground, trial, session, "after")
    if harmed.completed and not seen.completed:
        # The harm overtook nothing: it struck when the turn was over, and it was this one that met it.
        ground.book.count("met it a turn later")
        seen = _clean(ground, trial, session, "after that")
    ground.book.took("recovery", seen.seconds)
    if not seen.completed:
        ground.book.breach("not recovered", trial.id, repr(seen.error))


def struck(point: Point, proxy: FaultProxy, line: Line) -> bool:
    """Tell whether the harm was done, as far as server and proxy know."""
    return line.struck > 0 if point.phase == "answer" else bool(proxy.fired)


def _struck(point: Point, proxy: FaultProxy, line: Line, session: Any) -> bool:
    if point.phase == "name":
        return session.stats.failed_dials > 0
    return struck(point, proxy, line)


def _tell(book: Book, seen: Seen) -> None:
    """Count what came of a turn."""
    if seen.completed:
        book.count("completed in spite of it")
    else:
        uncertain = getattr(seen.error, "may_have_been_billed", False)
        book.count("surfaced as uncertain" if uncertain else "surfaced, not sent")


def _judge(book: Book, trial: Trial, seen: Seen) -> None:
    """Expect that a turn that was never sent is tried again, and that a lost link is told as what it is."""
    harm = trial.about[1]
    if harm in LOUD and isinstance(seen.error, ConnectError):
        book.breach("wrong outcomes", trial.id, f"not dialled again: {seen.error!r}")
    if isinstance(seen.error, StreamInterruptedError) and seen.error.close_code != 1006:
        book.breach("wrong outcomes", trial.id, f"code {seen.error.close_code}")


def _close(book: Book, trial: Trial, session: Any) -> None:
    begun = time.monotonic()
    session.close()
    seconds = time.monotonic() - begun
    book.took("close", seconds)
    if seconds > LIMITS["close"] + GRACE:
        book.breach("blocked", trial.id, f"close() took {seconds:.2f} s")
