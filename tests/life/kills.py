"""The server is killed: whoever waited for it hears of it, wherever the turn was."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from typing import Any

import attrs

import llmws
from llmws.errors import LLMWSError, ReconnectError, StreamInterruptedError, TotalTimeout
from tests.endings import closes
from tests.endings.watch import WAYS, Watch
from tests.life.closes import until
from tests.life.server import ServerProcess
from tests.life.speech import said
from tests.life.tally import Tally


__all__ = ["STEPS", "connections", "processes"]

LIMIT = 2.0
_PATIENCE = 10.0
# A turn that was not sent yet is dialled again, also where nobody is any more; these end it.
_TOTAL = {"total": 0.7}
_SHORT = {"total": 0.2}
# The budget for dials after a failure is the process's, and what other sessions have spent of it is gone.
_GIVES_UP = (TotalTimeout, ReconnectError)


@attrs.frozen
class Step:
    """
    How far a turn has got when the server dies.

    Attributes:
        question: What is asked.
        ends_with: What may be the error of everybody who waits, one for all.
        has_come: Whether it has got there.
        mute: Whether the server never answered at all.
        behind: What is asked on the same session before, and still runs.
        timeouts: The turn's limits.
    """

    question: str
    ends_with: tuple[type[LLMWSError], ...]
    has_come: Callable[[llmws.Stream, llmws.Session], bool]
    mute: bool = False
    behind: str | None = None
    timeouts: dict[str, float] | None = None


def _has_text(stream: llmws.Stream, session: llmws.Session) -> bool:
    return bool(stream.snapshot.text)


STEPS = {
    "dialling": Step(
        "Hello", _GIVES_UP, lambda _, session: session.stats.dials == 1, True, None, _TOTAL
    ),
    "queued": Step("Hello", _GIVES_UP, lambda *_: True, False, "hold", _TOTAL),
    "sent": Step(
        "silent", (StreamInterruptedError,), lambda stream, _: stream.state is llmws.TurnState.SENT
    ),
    "answering": Step("hold", (StreamInterruptedError,), _has_text),
    "flooding": Step("flood", (StreamInterruptedError,), _has_text),
}


class Waiters:
    """One session at one step, and everybody who can wait for its turn."""

    def __init__(self, server: ServerProcess, step: Step) -> None:
        base_url = server.mute_url if step.mute else server.base_url
        self.step = step
        # One turn at a time, so that the second one waits.
        self.session = llmws.Session("m", base_url=base_url, lanes=False, max_connections=1)
        self.before = None if step.behind is None else self.session.stream(step.behind)
        if self.before is not None:
            next(self.before.texts())
        self.stream = self.session.stream(step.question, timeouts=step.timeouts)
        self.watch = Watch(self.stream)
        until(lambda: step.has_come(self.stream, self.session))

    def check(self, killed_at: float) -> float:
        """Expect that everybody heard the same; return how long after the kill the last one did."""
        errors = self.watch.errors(_PATIENCE)
        kinds = {type(error) for error in errors}
        assert len(kinds) == 1, f"it ended with {kinds}"
        assert kinds <= set(self.step.ends_with), f"it ended with {kinds}"
        return max(witness.ended_at for witness in self.watch.witnesses.values()) - killed_at


def processes(tally: Tally, count: int) -> None:
    """Kill ``count`` server processes (SIGKILL), each with a session at every step and one that is idle."""
    for _ in tally.rounds(count):
        with ServerProcess() as server, contextlib.ExitStack() as stack:
            idle = stack.enter_context(llmws.Session("m", base_url=server.base_url))
            assert idle.create("Hello").text == said("Hello")
            waiters = {name: Waiters(server, step) for name, step in STEPS.items()}
            for each in waiters.values():
                stack.callback(each.session.close)
            killed_at = time.monotonic()
            server.kill()
            for name, each in waiters.items():
                with tally.trying(f"killed while {name}"):
                    tally.took(f"killed while {name}", each.check(killed_at), LIMIT)
            with tally.trying("killed while idle"):
                until(lambda idle=idle: idle.stats.lost == 1)
                _expect(_GIVES_UP, lambda idle=idle: idle.create("Hello", timeouts=_SHORT))
    tally.note(f"{len(WAYS) + 3} waiters and callbacks at each step")


def _expect(kinds: tuple[type[LLMWSError], ...], call: Callable[[], Any]) -> None:
    try:
        call()
    except kinds:
        return
    raise AssertionError("it got an answer")


def connections(tally: Tally, count: int) -> None:
    """Break ``count`` connections at every point and in every manner that the tests of endings know."""
    for _ in tally.rounds(count):
        for point in closes.POINTS:
            for ending in closes.CLOSES:
                what = f"{ending} at {point}"
                with tally.trying(what):
                    begun = time.monotonic()
                    closes.breaks_off(point, ending, patience=LIMIT)
                    tally.took("a broken connection", time.monotonic() - begun)
