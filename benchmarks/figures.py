"""Medians, spreads and ratios of samples, and what they say about a bound. Pure."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Literal

import attrs


__all__ = ["Bound", "Spread", "Verdict", "ratio"]

Verdict = Literal["goal", "floor", "MISSED"]


@attrs.frozen
class Spread:
    """The middle of some samples, and their extremes."""

    median: float
    least: float
    most: float

    @classmethod
    def of(cls, samples: Sequence[float]) -> Spread:
        """
        Return the spread of at least one sample.

        Raises:
            ValueError: There is none.
        """
        if not samples:
            raise ValueError("No samples: there is no spread of nothing.")
        return cls(statistics.median(samples), min(samples), max(samples))


def ratio(samples: Sequence[float], others: Sequence[float]) -> Spread:
    """
    Return how many times as large samples are as others, the n-th of both having been taken one after the other.

    The middle is that of the medians; the extremes are those of the pairs.

    Raises:
        ValueError: One of them has no sample.
    """
    middle = Spread.of(samples).median / Spread.of(others).median
    pairs = [sample / other for sample, other in zip(samples, others, strict=False)]
    return Spread(middle, min(pairs), max(pairs))


@attrs.frozen
class Bound:
    """
    What was promised of a figure.

    Attributes:
        sense: Whether more or less is better.
        floor: What has to be reached.
        goal: What is wished for; None wishes for no more than the floor.
    """

    sense: Literal["at least", "at most"]
    floor: float
    goal: float | None = None

    def verdict(self, value: float) -> Verdict:
        """Say what a figure has reached; without a goal, the floor is one."""
        if self._holds(value, self.floor if self.goal is None else self.goal):
            return "goal"
        return "floor" if self._holds(value, self.floor) else "MISSED"

    def _holds(self, value: float, limit: float) -> bool:
        return value >= limit if self.sense == "at least" else value <= limit
