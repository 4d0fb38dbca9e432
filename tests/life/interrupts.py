"""
Ctrl-C in a blocked reader: back at once, and the same session serves the next turn.

The signals are real ones, which the system gives to the main thread wherever it is; so this runs on the main thread
alone, and best in a process of its own.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import llmws
from llmws.errors import StreamCancelledError
from llmws.testing import Server
from llmws.testing.request import Event, Request
from llmws.wire import monitor
from tests.life.closes import until
from tests.life.speech import said, speak
from tests.life.tally import Tally


__all__ = ["READERS", "aimed", "answered", "unanswered"]

# How long a reader may take to be back.
LIMIT = 0.5
_PATIENCE = 20.0
# Events of ``speak`` up to and with the first piece of text.
_FIRST_TEXT = 5


def _each(view: Callable[[llmws.Stream], Any]) -> Callable[[llmws.Stream], Any]:
    def read(stream: llmws.Stream) -> None:
        for _ in view(stream):
            pass

    return read


READERS: dict[str, Callable[[llmws.Stream], Any]] = {
    "chunks": _each(iter),
    "texts()": _each(lambda stream: stream.texts()),
    "events()": _each(lambda stream: stream.events()),
    "sse()": _each(lambda stream: stream.sse()),
    "response()": lambda stream: stream.response(),
    "wait()": lambda stream: stream.wait(),
    "wait() for callbacks": lambda stream: stream.on("text", lambda _: None).wait(),
    "run()": lambda stream: stream.run(text=lambda _: None),
}


class Holding:
    """A rule that stops an answer, tells that it does, and goes on when it is let."""

    def __init__(self) -> None:
        self.after: int | None = None
        self.held = threading.Event()
        self.let_go = threading.Event()

    def hold(self, after: int) -> None:
        """Stop the next answer after so many events."""
        self.held.clear()
        self.let_go.clear()
        self.after = after

    def __call__(self, request: Request) -> Iterator[Event]:
        after, self.after = self.after, None
        for number, event in enumerate(speak(request)):
            if number == after:
                self.held.set()
                self.let_go.wait(_PATIENCE)
            yield event


def answered(tally: Tally, count: int) -> None:
    """Interrupt each kind of reader ``count`` times; the server then ends the answer that nobody reads."""
    _campaign(tally, count, lets_go=True)


def unanswered(tally: Tally, count: int) -> None:
    """Interrupt readers whose server never goes on: the next turn is served all the same, on another connection."""
    _campaign(tally, count, lets_go=False)


def _campaign(tally: Tally, count: int, *, lets_go: bool) -> None:
    choose = random.Random(tally.seed)
    rule = Holding()
    with Server(rule=rule) as server, llmws.Session("m", base_url=server.base_url) as session:
        session.create("warm")
        for index in tally.rounds(count):
            for name in ("create()", *READERS):
                with tally.trying(f"Ctrl-C in {name}"):
                    # Before the first event, among the first ones, or in the middle of the text.
                    rule.hold(choose.choice([0, 1, _FIRST_TEXT]))
                    seconds = _interrupt(session, name, rule, choose.random() / 100)
                    tally.took(f"Ctrl-C in {name}", seconds, LIMIT)
                    if lets_go:
                        rule.let_go.set()
                    begun = time.monotonic()
                    assert session.create(f"after {index}").text == said(f"after {index}")
                    tally.took("the next turn", time.monotonic() - begun)
                    rule.let_go.set()
        dials = session.stats.dials
        assert session.stats.lost == 0
        assert dials == 1 or not lets_go, f"{dials} dials, where one connection would do"
        tally.note(f"{session.stats.turns} turns on {dials} connections")


def _interrupt(session: llmws.Session, name: str, rule: Holding, pause: float) -> float:
    """Interrupt a reader; return how long it took to be back. The turn must have ended, although it is still held."""
    if name == "create()":
        return _interrupted(lambda: session.create("a question"), rule, pause)
    stream = session.stream("a question")
    seconds = _interrupted(lambda: READERS[name](stream), rule, pause)
    try:
        stream.response(_PATIENCE)
    except StreamCancelledError:
        return seconds
    raise AssertionError("the turn went on")


def aimed(tally: Tally, count: int) -> None:
    """
    Strike ``count`` times just as a reader falls asleep, when Python would not notice before it wakes.

    By a timer, because no other process could aim as well; what it raises is what Ctrl-C does.
    """
    choose = random.Random(tally.seed)
    rule, sleepy = Holding(), 0
    with (
        _alarms_like_ctrl_c(),
        Server(rule=rule) as server,
        llmws.Session("m", base_url=server.base_url) as session,
    ):
        for index in tally.rounds(count):
            with tally.trying("Ctrl-C as a reader falls asleep"):
                rule.hold(_FIRST_TEXT)
                texts = session.stream(f"question {index}").texts()
                assert f"question {index}".startswith(next(texts))
                seconds = _strike(texts, choose.uniform(10e-6, 100e-6))
                tally.took("Ctrl-C as a reader falls asleep", seconds, LIMIT)
                sleepy += seconds > LIMIT / 4
                rule.let_go.set()
                assert session.create(f"after {index}").text == said(f"after {index}")
        assert session.stats.dials == 1
    tally.note(f"{sleepy} were noticed only at the end of a slice of sleep")


@contextlib.contextmanager
def _alarms_like_ctrl_c() -> Iterator[None]:
    previous = signal.signal(signal.SIGALRM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)


def _strike(reader: Iterator[str], seconds: float) -> float:
    """Read on until the alarm goes off, so many seconds from now; return how much later the reader was back."""
    begun = time.monotonic()
    try:
        signal.setitimer(signal.ITIMER_REAL, seconds)
        next(reader)
    except KeyboardInterrupt:
        return time.monotonic() - begun - seconds
    raise AssertionError("the reader came back by itself")


def _interrupted(read: Callable[[], Any], rule: Holding, pause: float) -> float:
    """Read until a SIGINT comes, a moment after the reader fell asleep; return how long it took to be back."""
    main, sent = threading.get_ident(), []

    def strike() -> None:
        assert rule.held.wait(_PATIENCE)
        until(lambda: _is_asleep(main))
        threading.Event().wait(pause)
        sent.append(time.monotonic())
        os.kill(os.getpid(), signal.SIGINT)

    striker = threading.Thread(target=strike, daemon=True)
    striker.start()
    try:
        read()
    except KeyboardInterrupt:
        back = time.monotonic()
    else:
        raise AssertionError("the reader came back by itself")
    striker.join(_PATIENCE)
    return back - sent[0]


def _is_asleep(ident: int) -> bool:
    """Tell whether a thread waits in a monitor."""
    frame = sys._current_frames().get(ident)
    while frame is not None and frame.f_globals is not vars(monitor):
        frame = frame.f_back
    return frame is not None
