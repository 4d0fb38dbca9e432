"""P2: turns go wrong at random, of two users side by side on one session, each with clean turns around them."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Iterator
from typing import Any

import attrs

from llmws.testing import FaultProxy, faults
from llmws.testing.faulty import PLACES, Fault
from llmws.testing.plans import Plan
from tests.campaign.arena import SCHEMES, Arena, Trial, arena, spread
from tests.campaign.book import Book
from tests.campaign.consumers import ask
from tests.campaign.oracle import Seen, Transcript, examine
from tests.campaign.script import Line


__all__ = ["play_all", "trials"]

# What two users do in a trial.
_FAULTS_EACH, _CLEAN_BEFORE, _CLEAN_AFTER = 5, 2, 2
_LIMITS = {
    "connect": 2.0,
    "first_event": 0.5,
    "idle": 0.5,
    "lane_wait": 4.0,
    "total": 6.0,
    "close": 0.4,
}
_PATIENT = {
    **_LIMITS,
    "connect": 4.0,
    "first_event": 5.0,
    "idle": 5.0,
    "lane_wait": 9.0,
    "total": 10.0,
}
# How long what strikes a connection may show in turns that begin after it.
_ECHO = 1.5
_OF_ONE_TURN = (faults.Stall, faults.SlowDrip, faults.Duplicate, faults.Omit)
_SILENT = {name: fault for name, fault in faults.ALL.items() if isinstance(fault, faults.HalfOpen)}
_LOUD = {name: fault for name, fault in faults.ALL.items() if name not in _SILENT}
_NETWORK = (
    Plan("reset"),
    Plan("fin"),
    Plan("half_close", way="server"),
    Plan("half_close", way="client"),
    Plan("split", size_bytes=200, way="server"),
    Plan("split", size_bytes=40, way="server"),
    Plan("delay", seconds=0.005),
)
_HOLES = (Plan("black_hole"), Plan("black_hole", way="server"), Plan("black_hole", way="client"))
_NOT_FOUND = "previous_response_not_found"
_HARMLESS = ("split", "delay")
_CALM = Plan("split", size_bytes=1 << 16)


def trials(seed: int, scale: str) -> Iterator[Trial]:
    """Yield trials of ten faults each."""
    for index in range({"full": 800, "quick": 16, "suite": 1}[scale]):
        yield Trial(f"P2/{index}", seed)


def play_all(book: Book, chosen: list[Trial], threads: int = 14) -> None:
    """Play trials."""
    with arena(book) as ground:
        spread(book, chosen, lambda trial: _Pair(ground, trial).play(), threads)


@attrs.frozen
class _Blow:
    """What goes wrong with one turn: in the server's words, or in the network while the nth event is sent."""

    fault: Fault | None = None
    plan: Plan | None = None
    event: int = 0

    @property
    def of_one_turn(self) -> bool:
        """Whether no other turn may notice."""
        if self.plan is not None:
            return self.plan.what in _HARMLESS
        fault = self.fault
        if isinstance(fault, faults.ErrorFrame):
            return fault.lane and fault.close is None
        return isinstance(fault, _OF_ONE_TURN)


def _draw(rng: random.Random, deltas: int, *, silent: bool) -> _Blow:
    longest = deltas + 8
    if rng.random() < 0.3:
        plan = rng.choice(_HOLES if silent else _NETWORK)
        return _Blow(plan=plan, event=rng.randrange(longest))
    if silent:
        return _Blow(fault=faults.HalfOpen(at=rng.choice([*PLACES, *range(longest)])))
    fault = faults.pick(rng, longest=longest, among=_LOUD)
    if isinstance(fault, faults.SlowDrip):
        fault = attrs.evolve(fault, delay=0.002)
    if fault.at == "end" and isinstance(fault, (faults.Stall, faults.Garble)):
        # The server would say that it is done, and yet not be: no client can know of such a lane.
        fault = attrs.evolve(fault, at="terminal")
    if fault.at == "end" and isinstance(fault, faults.ErrorFrame) and not fault.lane:
        # The server would refuse what it does: behind the end, what has no lane can only be another turn's.
        fault = attrs.evolve(fault, at="terminal")
    if isinstance(fault, faults.ErrorFrame) and fault.goes_on:
        # The same: an answer that goes on shows that the error was not about it.
        fault = attrs.evolve(fault, lane=True)
    return _Blow(fault=fault)


class _Pair:
    """Two users of one session."""

    def __init__(self, ground: Arena, trial: Trial) -> None:
        self.ground, self.trial, self.book = ground, trial, ground.book
        # What may explain that a clean turn fails: until when each turn could strike a connection that others share.
        self.strikes: dict[str, float] = {}
        self.together = threading.Barrier(2)
        self.transcript: Transcript | None = None  # Of the first user, if that is a conversation.

    def play(self) -> None:
        """Play to the end, and close the session."""
        rng = self.trial.rng
        scheme, talking = rng.choice(SCHEMES), rng.random() < 0.5
        seeds = [rng.random() for _ in range(2)]
        with self.ground.proxy(scheme) as self.proxy:
            self.session = self.ground.session(scheme, self.proxy, timeouts=_LIMITS)
            try:
                users = [
                    threading.Thread(target=self._safely, args=(n, seed, talking), daemon=True)
                    for n, seed in enumerate(seeds)
                ]
                for user in users:
                    user.start()
                for user in users:
                    user.join()
            finally:
                self.session.close()

    def _safely(self, number: int, seed: float, talking: bool) -> None:
        try:
            self._use(number, random.Random(seed), talking and number == 0)
        except Exception as exc:  # noqa: BLE001  It is what is counted.
            self.book.breach("wrong outcomes", self.trial.id, repr(exc))
            self.together.abort()

    def _use(self, number: int, rng: random.Random, talking: bool) -> None:
        stored = {} if rng.random() < 0.5 else {"store": False}
        chat = self.session.conversation(**stored) if talking else self.session
        if talking:
            self.transcript = Transcript()
        way = ("iterator", "callbacks")[number]
        loud = _FAULTS_EACH - (number == 0)
        for index in range(loud):
            for clean in range(_CLEAN_BEFORE):
                self._clean(chat, rng, f"{number}-{index}-{clean}", way)
            self._faulty(chat, rng, f"{number}-{index}-f", way)
            for clean in range(_CLEAN_AFTER):
                self._clean(chat, rng, f"{number}-{index}-{clean}-after", way)
        # What makes no sound ends the trial: whoever came behind it would have to wait for its own limits.
        self.together.wait(60)
        if number == 0:
            self._faulty(chat, rng, "0-last-f", way, silent=True)

    def _line(self, rng: random.Random, name: str) -> Line:
        return self.ground.script.add(Line(self.trial.nonce(name), deltas=rng.randint(5, 50)))

    def _clean(self, chat: Any, rng: random.Random, name: str, way: str) -> None:
        line, begun = self._line(rng, name), time.monotonic()
        seen = ask(lambda: chat.stream(line.question, timeouts=_PATIENT), _PATIENT["total"], way)
        self._examine(self.trial.id, chat, line, seen)
        self.book.count("clean turns")
        if seen.completed:
            return
        self.book.count("clean turns that shared a connection that was struck")
        if not any(begun < until + _ECHO for until in [*self.strikes.values()]):
            self.book.breach("not recovered", self.trial.id, f"{name}: {seen.error!r}")

    def _examine(self, name: str, chat: Any, line: Line, seen: Seen) -> None:
        examine(self.book, name, line, seen)
        self.ground.script.remove(line)
        if self.transcript is not None and chat is not self.session:
            self.transcript.examine(self.book, name, line, seen)

    def _faulty(
        self, chat: Any, rng: random.Random, name: str, way: str, *, silent: bool = False
    ) -> None:
        line = self._line(rng, name)
        blow = _draw(rng, line.deltas, silent=silent)
        self._arm(line, blow)
        if not blow.of_one_turn:
            self.strikes[name] = float("inf")
        seen = ask(lambda: chat.stream(line.question, timeouts=_LIMITS), _LIMITS["total"], way)
        if not blow.of_one_turn:
            self.strikes[name] = time.monotonic()
        elif blow.plan is not None:
            # Else what is still to come would be late, and later with each such blow.
            self.proxy.strike(_CALM)
        self._examine(f"{self.trial.id} ({name}: {blow})", chat, line, seen)
        self._tell(line, blow, seen)

    def _arm(self, line: Line, blow: _Blow) -> None:
        """Have the blow fall, and note when."""
        line.fault = blow.fault
        if isinstance(blow.fault, faults.ErrorFrame):
            if blow.fault.code == _NOT_FOUND:
                self.ground.without_parent.add(line.nonce)
            if blow.fault.refused_in_words and not blow.fault.lane:
                self.ground.excused.add(line.nonce)

        def strike(number: int) -> None:
            if blow.plan is not None and number == blow.event and len(line.attempts) == 1:
                line.struck += 1
                _strike(self.proxy, blow.plan)

        line.hook = strike

    def _tell(self, line: Line, blow: _Blow, seen: Seen) -> None:
        if not line.struck:
            self.book.count("did not strike")
            return
        self.book.count("faults")
        if seen.completed:
            again = len(line.attempts) > 1
            self.book.count("recovered by itself" if again else "completed in spite of it")
        elif seen.response is not None:
            self.book.count("told as a failed response")
        else:
            uncertain = getattr(seen.error, "may_have_been_billed", False)
            self.book.count(
                "surfaced as uncertain" if uncertain else "surfaced, not sent or refused"
            )


def _strike(proxy: FaultProxy, plan: Plan) -> None:
    proxy.strike(plan)
