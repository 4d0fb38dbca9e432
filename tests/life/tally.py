"""What a campaign counts: tries, failures by kind, and how long things took."""

from __future__ import annotations

import contextlib
import logging
import statistics
import sys
import threading
import time
import traceback
from collections import Counter, defaultdict
from collections.abc import Iterator
from typing import Any


__all__ = ["Tally"]

# Failures of one kind are told in full so many times; the rest is only counted.
_TOLD = 2


class _Ear(logging.Handler):
    def __init__(self, tally: Tally) -> None:
        super().__init__(logging.ERROR)
        self._tally = tally

    def emit(self, record: logging.LogRecord) -> None:
        self._tally.fail("logged as an error", record.getMessage())


class Tally:
    """
    The count of one item; safe to use from any thread.

    Args:
        seed: What the item's random choices come from.
        seconds: How long the whole item may take.
    """

    def __init__(self, seed: int, seconds: float) -> None:
        self.seed = seed
        self.tries = 0
        self.failures: Counter[str] = Counter()
        self.told: list[str] = []
        self.notes: list[str] = []
        self.begun = time.monotonic()
        self._deadline = self.begun + seconds
        self._lock = threading.Lock()
        self._times: dict[str, list[float]] = {}
        self._compared: defaultdict[str, Counter[str]] = defaultdict(Counter)

    def rounds(self, count: int) -> Iterator[int]:
        """Count to ``count``; to run out of time before is a failure."""
        for index in range(count):
            if time.monotonic() > self._deadline:
                self.fail("out of time", f"{index} of {count} rounds were done")
                return
            yield index

    @contextlib.contextmanager
    def trying(self, what: str) -> Iterator[None]:
        """Count a try, and whatever it raises as its failure."""
        with self._lock:
            self.tries += 1
        try:
            yield
        except Exception as exc:  # noqa: BLE001  It is what is counted.
            place = traceback.extract_tb(exc.__traceback__)[-1]
            said = str(exc).splitlines()[0][:200] if str(exc) else ""
            kind = f"{what}: {type(exc).__name__}"
            self.fail(kind, f"{said} ({place.name}, line {place.lineno})")

    def fail(self, kind: str, detail: str) -> None:
        """Count a failure."""
        with self._lock:
            self.failures[kind] += 1
            if self.failures[kind] <= _TOLD:
                self.told.append(f"{kind}: {detail}")

    @contextlib.contextmanager
    def listening(self) -> Iterator[None]:
        """Count as failures what llmws logs as an error, and what ends a thread or a finalizer unseen."""
        ear, logger = _Ear(self), logging.getLogger("llmws")
        hooks = threading.excepthook, sys.unraisablehook
        threading.excepthook = sys.unraisablehook = self._uncaught
        logger.addHandler(ear)
        try:
            yield
        finally:
            logger.removeHandler(ear)
            threading.excepthook, sys.unraisablehook = hooks

    def _uncaught(self, unseen: Any) -> None:
        self.fail("raised unseen", f"{unseen.exc_type.__name__}: {unseen.exc_value}")

    def took(self, what: str, seconds: float, limit: float | None = None) -> None:
        """Note how long something took, and fail if that is over its limit."""
        with self._lock:
            self._times.setdefault(what, []).append(seconds)
        if limit is not None and seconds >= limit:
            self.fail(f"{what}: too slow", f"{seconds:.3f} s, and {limit:g} s are allowed")

    def comparing(self, what: str, kind: str) -> None:
        """Count what a peer's client did; none of it is our failure."""
        with self._lock:
            self._compared[what][kind] += 1

    def note(self, words: str) -> None:
        """Say something in the report."""
        self.notes.append(words)

    def report(self) -> Iterator[str]:
        """Yield the lines to be shown."""
        failed = sum(self.failures.values())
        yield f"{self.tries} tries, {failed} failures, {time.monotonic() - self.begun:.1f} s, seed {self.seed}"
        for what, times in sorted(self._times.items()):
            middle, most = statistics.median(times), max(times)
            yield f"  {what}: {len(times)} times, median {middle * 1000:.1f} ms, most {most * 1000:.1f} ms"
        for what, kinds in self._compared.items():
            told = ", ".join(f"{count} {kind}" for kind, count in kinds.most_common())
            yield f"  beside it, {what}: {told}"
        yield from (f"  {note}" for note in self.notes)
        yield from (f"  FAILED {count} times: {kind}" for kind, count in self.failures.items())
        yield from (f"    {line}" for line in self.told)
