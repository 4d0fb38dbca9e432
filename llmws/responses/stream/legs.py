"""The responses of one turn, folded from its events: one, or a chain of them if the turn was steered."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import attrs

from ..routing.turn import Turn
from ..vocabulary.events import Event, ResponseStarted
from .snapshot import Accumulator, Response


__all__ = ["Leg", "Legs", "given_before"]


@attrs.frozen
class Leg:
    """
    One response of a turn; a turn that was steered has several.

    Attributes:
        given: What was put in before it, besides the turn's own input: the steering.
        response: The response.
    """

    given: Sequence[Mapping[str, Any]]
    response: Response


@attrs.define(eq=False)
class Legs:
    """
    Folds the events of a turn into its responses; not safe for use by several threads at once.

    Attributes:
        folds: One for each response that has begun, the latest last; never empty.
    """

    folds: list[Accumulator] = attrs.field(factory=lambda: [Accumulator()])

    def add(self, event: Event) -> None:
        """Take the next event; never raises."""
        if isinstance(event, ResponseStarted) and self.folds[-1].ended:
            self.folds.append(Accumulator())
        self.folds[-1].add(event)

    def add_all(self, events: Iterable[Event]) -> None:
        """Take the next events."""
        for event in events:
            self.add(event)

    def response(self, *, finish_reason: str | None = None) -> Response:
        """Return the latest response, final or so far; see ``Accumulator``."""
        return self.folds[-1].response(finish_reason=finish_reason)

    def ended(self) -> list[Response]:
        """Return the responses that have ended, in order."""
        return [fold.response() for fold in self.folds if fold.ended]


def given_before(turn: Turn, response_id: str) -> list[dict[str, Any]]:
    """Return what was put into the turn before this response of it began, in order, as items."""
    steers = turn.steering.steers if turn.steering is not None else []
    return [item for steer in steers if steer.successor_id == response_id for item in steer.items()]
