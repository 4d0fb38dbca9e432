"""Closing at the wrong moment: twice, while it starts, inside of a close, from many sides at once."""

from __future__ import annotations

import random
import signal
import threading
from collections.abc import Callable
from typing import Any

import llmws
from llmws.errors import SessionClosedError
from llmws.testing import Server
from tests.life.census import threads
from tests.life.closes import until
from tests.life.crowd import switching
from tests.life.speech import speak
from tests.life.tally import Tally


__all__ = ["everywhere", "while_starting"]

_PATIENCE = 10.0
_QUESTIONS = ("Hello", "hold", "flood", "silent")


class Round:
    """A session, the turns that somebody managed to begin on it, and what became of them."""

    def __init__(self, base_url: str, seed: str) -> None:
        self.choose = random.Random(seed)
        timeouts = {"close": 1.0}
        self.session = llmws.Session("m", base_url=base_url, timeouts=timeouts)
        self.streams: list[llmws.Stream] = []
        self.ends: list[Any] = []

    def begin(self) -> None:
        """Begin a turn whose callbacks close the session again."""
        try:
            stream = self.session.stream(self.choose.choice(_QUESTIONS))
        except SessionClosedError:
            return
        self.streams.append(stream)
        stream.on("done", self.end).on("error", self.end)

    def end(self, outcome: Any) -> None:
        """Close once more, in the middle of what may be a close."""
        self.session.close(wait=len(self.ends) % 2 == 0)
        self.ends.append(outcome)

    def close(self) -> None:
        """Close and wait."""
        self.session.close()

    def close_quietly(self) -> None:
        """Close without waiting."""
        self.session.close(wait=False)

    def leave(self) -> None:
        """Leave a ``with`` statement by an error, which waits for no callbacks."""
        try:
            with self.session:
                raise LookupError
        except LookupError:
            pass

    def check(self) -> None:
        """Expect that everything has ended, for everybody."""
        self.session.close()
        assert self.session._core.connection.join(_PATIENCE), "the I/O thread lives on"
        for stream in self.streams:
            stream.wait(_PATIENCE)
        assert len(self.ends) == len(self.streams)
        _expect_closed(self.begin_rawly)

    def begin_rawly(self) -> None:
        self.session.stream("Hello")


def _expect_closed(call: Callable[[], None]) -> None:
    try:
        call()
    except SessionClosedError:
        return
    raise AssertionError("a closed session took a turn")


def everywhere(tally: Tally, count: int) -> None:
    """Open ``count`` sessions, and begin and close on each from several threads at once."""
    begun = 0
    with Server(rule=speak) as server, switching():
        for index in tally.rounds(count):
            with tally.trying("a round of closes"):
                each = Round(server.base_url, f"{tally.seed} {index}")
                acts = [each.begin, each.begin, each.close, each.close_quietly, each.leave]
                chosen = each.choose.choices(acts, k=each.choose.randint(3, 6))
                if index % 2:
                    each.begin()  # So that every other one has started before.
                _at_once([*chosen, each.choose.choice(acts[2:])])
                each.check()
                begun += len(each.streams)
        tally.note(f"{begun} turns were begun")
        with tally.trying("no I/O thread is left"):
            until(
                lambda: (
                    not [
                        n
                        for n in threads()
                        if n.startswith("llmws-responses-") and "callb" not in n
                    ]
                )
            )


def _at_once(acts: list[Callable[[], None]]) -> None:
    """Do everything at the same moment, and expect that all of it returns."""
    barrier, raised = threading.Barrier(len(acts)), []

    def run(act: Callable[[], None]) -> None:
        barrier.wait(_PATIENCE)
        try:
            act()
        except Exception as exc:  # noqa: BLE001  It is reported below.
            raised.append(exc)

    workers = [threading.Thread(target=run, args=(act,), daemon=True) for act in acts]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(_PATIENCE)
        assert not worker.is_alive(), "a close or a start hangs"
    if raised:
        raise raised[0]


def while_starting(tally: Tally, count: int) -> None:
    """Close ``count`` sessions in a signal handler, at every moment of a turn's beginning and of another close."""
    with Server(rule=speak) as server:
        choose = random.Random(tally.seed)
        for index in tally.rounds(count):
            with tally.trying("a close by signal"):
                each = Round(server.base_url, f"{tally.seed} {index}")
                act = each.begin if index % 4 < 2 else each.close
                if act == each.close:
                    each.begin()
                _act_under_fire(each, act, choose.random() * 0.001, wait=bool(index % 2))
                each.check()


def _act_under_fire(each: Round, act: Callable[[], None], seconds: float, *, wait: bool) -> None:
    """Begin turns, or close, until a signal comes whose handler closes twice."""
    struck = threading.Event()

    def strike(*_: object) -> None:
        each.session.close(wait=wait)
        each.session.close(wait=not wait)
        struck.set()

    previous = signal.signal(signal.SIGALRM, strike)
    try:
        signal.setitimer(signal.ITIMER_REAL, max(seconds, 1e-6))
        while not struck.is_set():
            act()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)
