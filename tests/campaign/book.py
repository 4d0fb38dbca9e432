"""What a campaign finds: breaches of promises, by name and by trial, and figures beside them."""

from __future__ import annotations

import statistics
import sys
import threading
import time
from collections import Counter, defaultdict
from typing import Any


__all__ = ["INVARIANTS", "Book"]

INVARIANTS = {
    "lost": "an event or a piece of text that the server sent before another one that was seen",
    "doubled": "the same once more",
    "foreign": "what the server did not send for this turn",
    "mismatches": "a completed response whose text is not the oracle's",
    "transcripts": "a conversation's turn before which the server had not been told all of it, each item once",
    "second creates": "a request sent again although the server had not refused it in words",
    "no terminal": "success although the server sent no terminal event",
    "late": "a turn that ended more than a second behind its deadline",
    "blocked": "a call that did not come back in time",
    "leaked threads": "a thread of llmws that outlived its session",
    "leaked descriptors": "a socket, pipe or selector that did",
    "keys": "the canary key in a log line, an error, a repr or a report",
    "wrong outcomes": "an end that the fault does not explain, or an error that is none of llmws",
    "not recovered": "a turn without a fault, after one that the library saw, that did not complete",
}
"""What is counted and has to be 0, and what each means."""

# Of one kind, so many breaches are told in full.
_TOLD = 5


class Book:
    """
    The counts of one block; safe to use from any thread.

    Args:
        name: The block.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.breaches: Counter[str] = Counter(dict.fromkeys(INVARIANTS, 0))
        self.figures: Counter[str] = Counter()
        self.told: list[str] = []
        self.stuck = False
        self._begun = time.monotonic()
        self._seconds: float | None = None
        self._times: defaultdict[str, list[float]] = defaultdict(list)
        self._lock = threading.Lock()

    def breach(self, invariant: str, trial: str, detail: object) -> None:
        """Count a breach; ``trial`` is what replays it."""
        with self._lock:
            assert invariant in INVARIANTS
            self.breaches[invariant] += 1
            if self.breaches[invariant] <= _TOLD:
                self.told.append(f"{invariant}: {trial}: {str(detail)[:400]}")
                sys.stderr.write(f"  {self.told[-1]}\n")

    def count(self, figure: str, number: int = 1) -> None:
        """Add to a figure that is told without being judged."""
        with self._lock:
            self.figures[figure] += number

    def took(self, what: str, seconds: float) -> None:
        """Note how long something took."""
        with self._lock:
            self._times[what].append(seconds)

    def close(self) -> None:
        """Stop the clock."""
        self._seconds = time.monotonic() - self._begun

    @property
    def sound(self) -> bool:
        """Whether no promise was broken."""
        return not self.breaches.total()

    def report(self) -> dict[str, Any]:
        """Return everything as plain values."""
        with self._lock:
            return {
                "block": self.name,
                "seconds": round(self._seconds or time.monotonic() - self._begun, 1),
                "breaches": dict(self.breaches),
                "figures": dict(sorted(self.figures.items())),
                "times": {what: _summary(times) for what, times in sorted(self._times.items())},
                "told": list(self.told),
            }


def _summary(times: list[float]) -> dict[str, float]:
    ordered = sorted(times)
    return {
        "count": len(ordered),
        "p50_ms": round(statistics.median(ordered) * 1000, 1),
        "p99_ms": round(ordered[min(len(ordered) - 1, int(len(ordered) * 0.99))] * 1000, 1),
        "most_ms": round(ordered[-1] * 1000, 1),
    }
