"""What all faults of an answer have in common: where they strike, and the rule that is struck."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator
from typing import Any, ClassVar, Literal

import attrs

from ..errors import ConfigurationError
from ..wire.parts import TERMINAL_TYPES
from .request import Connection, Event, Request, Rule
from .rules import answering


__all__ = ["PLACES", "Fault", "FaultyRule", "Hit", "Place", "Struck", "apply"]

Place = int | Literal["created", "delta", "terminal", "end"]
PLACES: tuple[Place, ...] = ("created", "delta", "terminal", "end")
"""Behind ``response.created``, behind the first delta, in front of the terminal event, behind it."""


@attrs.define
class Hit:
    """
    An answer that a fault is to strike.

    Attributes:
        request: What is answered.
        rest: The events that are still to come.
        count: How many went out unharmed.
        latest: The type of the last of them.
        response: The response as ``response.created`` had it, or None before.
    """

    request: Request
    rest: Iterator[Event]
    count: int = 0
    latest: str = ""
    response: dict[str, Any] | None = None

    @property
    def connection(self) -> Connection:
        """The connection that the request came on."""
        if self.request.connection is None:
            raise ConfigurationError("A fault needs a connection: have a server answer.")
        return self.request.connection

    def passes(self, event: Event) -> None:
        """Note an event that has gone out."""
        self.count += 1
        self.latest = str(event.get("type"))
        if self.latest == "response.created":
            self.response = event.get("response") or {}

    def is_behind(self, place: Place) -> bool:
        """Tell whether the place is reached, as far as the past shows."""
        if place == "created":
            return self.latest == "response.created"
        if place == "delta":
            return self.latest.endswith(".delta")
        return self.count == place

    def has_more(self) -> bool:
        """Tell whether another event is still to come."""
        for event in self.rest:
            self.put_back(event)
            return True
        return False

    def put_back(self, event: Event) -> None:
        """Make this the next event."""
        self.rest = itertools.chain([event], self.rest)

    def wait_for_end(self) -> tuple[Event, ...]:
        """Say nothing more until the connection is over, which the client or the server's close brings about."""
        self.connection.closed.wait()
        return ()


@attrs.frozen(kw_only=True)
class Fault:
    """
    One thing that goes wrong with an answer; the base of all faults.

    Args:
        at: Where it strikes: behind so many events, or at one of ``PLACES``. An answer that does not get there is
            not harmed.
    """

    at: Place = attrs.field(default=0)

    _label: ClassVar[str] = ""
    # Whether it happens to an event that is yet to come, so that there has to be one.
    _needs_event: ClassVar[bool] = False
    _loses: ClassVar[bool] = True
    _repeats: ClassVar[bool] = False

    @at.validator
    def _check_at(self, _: object, at: object) -> None:
        good = at in PLACES if isinstance(at, str) else type(at) is int and at >= 0
        if not good:
            raise ConfigurationError(f"at is {at!r}: give a number from 0, or one of {PLACES}.")

    @property
    def name(self) -> str:
        """What it is called, whatever its place."""
        return self._label.format(self)

    @property
    def refused_in_words(self) -> bool:
        """Whether the server says that it did not do the request, so that a client may send it again."""
        return False

    @property
    def may_lose_output(self) -> bool:
        """Whether a client may get less than the whole answer."""
        return self._loses and self.at != "end"

    @property
    def may_repeat_output(self) -> bool:
        """Whether a client gets some of the answer twice."""
        return self._repeats

    def __call__(self, rule: Rule) -> FaultyRule:
        """Return the rule with this fault in each answer."""
        return apply(rule, self)

    def play(
        self, request: Request, events: Iterator[Event], struck: Callable[[], object]
    ) -> Iterator[Event]:
        """
        Yield an answer's events, and strike.

        Args:
            request: What is answered.
            events: The answer, with its sequence numbers.
            struck: Called right before the harm is done, and only then.
        """
        hit = Hit(request, events)
        while not hit.is_behind(self.at):
            event = next(hit.rest, None)
            if event is None:
                if self.at == "end":
                    break
                return
            if self.at == "terminal" and event.get("type") in TERMINAL_TYPES:
                hit.put_back(event)
                break
            yield event
            hit.passes(event)
        if not self._needs_event or hit.has_more():
            struck()
            yield from self._strike(hit)

    def _strike(self, hit: Hit) -> Iterable[Event]:
        raise NotImplementedError


@attrs.frozen
class Struck:
    """
    A fault that did its harm.

    Attributes:
        request: The request whose answer it struck.
        fault: The fault.
    """

    request: Request
    fault: Fault


class FaultyRule:
    """
    A rule whose answers go wrong; made by ``apply``.

    Attributes:
        struck: Every fault that did its harm, in that order; safe to read from any thread.
        answers_warm_ups: Whether it answers warm-ups itself, because they may go wrong too.
    """

    def __init__(
        self, rule: Rule, choose: Callable[[Request], Fault | None], *, warm_ups: bool
    ) -> None:
        self.struck: list[Struck] = []
        self.answers_warm_ups = warm_ups
        self._rule = answering(rule)
        self._choose = choose

    def __call__(self, request: Request) -> Iterator[Event]:
        """Answer, with the fault that is chosen for this request."""
        events = iter(self._rule(request))
        fault = None
        if self.answers_warm_ups or not request.is_warm_up:
            fault = self._choose(request)
        if fault is None:
            return events
        told = Struck(request, fault)
        return fault.play(request, events, lambda: self.struck.append(told))

    def __repr__(self) -> str:
        return f"FaultyRule({len(self.struck)} struck)"


def apply(
    rule: Rule, fault: Fault | Callable[[Request], Fault | None], *, warm_ups: bool = False
) -> FaultyRule:
    """
    Return a rule whose answers go wrong.

    Args:
        rule: What answers.
        fault: The fault of every answer, or a function that chooses one for each request, or None for an answer that
            is not harmed; it is called from several threads.
        warm_ups: Whether creates with ``generate: false`` may go wrong too.
    """
    if isinstance(fault, Fault):
        chosen = fault
        return FaultyRule(rule, lambda request: chosen, warm_ups=warm_ups)
    return FaultyRule(rule, fault, warm_ups=warm_ups)
