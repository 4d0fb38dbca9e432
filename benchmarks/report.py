"""What came of a run: tables in Markdown, and everything as JSON."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import attrs

from .clients import CLIENTS
from .figures import Bound, Spread
from .measure import Outcome
from .rows import Contest, Result, Row, judge
from .scenarios import SCENARIOS


__all__ = ["Report"]

_SIDES = ("llmws[fast]", "llmws")
# What the figures of the tasks are called in tables, in their order.
_FIGURES = {
    "events_per_second": "events/s",
    "p50_us": "p50 µs",
    "p99_us": "p99 µs",
    "max_us": "max µs",
    "cpu_us": "CPU µs an event",
    "first_ms": "to first event ms",
    "whole_ms": "to the end ms",
    "cpu_ms": "CPU ms a turn",
    "seconds": "s",
    "growth": "peak growth over size",
    "ms": "ms",
    "peak_mib": "peak MiB",
    "kib": "KiB a connection",
    "threads": "threads a connection",
    "failed": "failed a run",
    "connected": "connected a run",
}


@attrs.frozen
class Report:
    """
    Everything that a run has found.

    Attributes:
        outcomes: By scenario and client.
        rows: The promises that were looked at.
        about: Machine, versions and settings, for the reader and for JSON.
        absent: Clients that are not installed.
        judged: Whether verdicts are given; sizes too small to prove anything get none.
    """

    outcomes: Mapping[str, Mapping[str, Outcome]]
    rows: Sequence[Row]
    about: Mapping[str, Any]
    absent: Sequence[str] = ()
    judged: bool = True

    def results(self, row: Row) -> list[Result | None]:
        """Judge both sides of a row."""
        return [judge(row, contest, self.outcomes[row.scenario]) for contest in row.contests]

    def markdown(self) -> str:
        """Return the tables."""
        parts = [self._promises()]
        parts += [self._scenario(name) for name in self.outcomes]
        notes = list(self._notes())
        if notes:
            parts.append("\n".join(["## Notes", "", *(f"- {note}" for note in notes)]))
        parts.append("\n".join(["## Where", "", *_about(self.about)]))
        return "\n\n".join(parts) + "\n"

    def data(self) -> dict[str, Any]:
        """Return what JSON can hold."""
        return {
            "about": dict(self.about),
            "rows": {row.key: self._row_data(row) for row in self.rows},
            "scenarios": {
                scenario: {name: _outcome_data(outcome) for name, outcome in outcomes.items()}
                for scenario, outcomes in self.outcomes.items()
            },
        }

    def _row_data(self, row: Row) -> dict[str, Any]:
        sides = {
            side: attrs.asdict(result) if result else None
            for side, result in zip(_SIDES, self.results(row), strict=True)
        }
        return {"title": row.title, "figure": row.figure, "unit": row.unit, **sides}

    def _promises(self) -> str:
        head = ["row", "beside"]
        for side in _SIDES:
            head += [side, "ratio", "floor, goal", ""]
        lines = [self._promise(row) for row in self.rows]
        return "\n".join(["## What was promised", "", *_table(head, lines)])

    def _promise(self, row: Row) -> list[str]:
        results = self.results(row)
        others = [_number(result.other.median) for result in results if result and result.other]
        beside = " / ".join(dict.fromkeys(others))
        cells = [f"{row.title} ({row.unit})", beside or "–"]
        for contest, result in zip(row.contests, results, strict=True):
            cells += self._side(row, contest, result)
        return cells

    def _side(self, row: Row, contest: Contest, result: Result | None) -> list[str]:
        promised = _bound(contest.bound, "" if row.absolute else "×")
        if result is None:
            return ["not measured", "", promised, ""]
        ratio = "" if row.absolute else _spread(result.value, "×")
        verdict = (result.verdict or "") if self.judged else ""
        return [_number(result.own.median), ratio, promised, verdict]

    def _scenario(self, name: str) -> str:
        outcomes = self.outcomes[name]
        figures = [
            figure
            for figure in _FIGURES
            if any(figure in run for outcome in outcomes.values() for run in outcome.figures)
        ]
        lines = []
        for client, outcome in outcomes.items():
            cells = [
                _spread(Spread.of(outcome.samples(figure))) if outcome.figures else "–"
                for figure in figures
            ]
            lines.append([CLIENTS[client].title, *cells])
        head = ["client", *(_FIGURES[figure] for figure in figures)]
        return "\n".join([f"## {SCENARIOS[name].title}", "", *_table(head, lines)])

    def _notes(self) -> Iterator[str]:
        """Say what is not there, and what failed, of whom and how often; it was tried again and is in no figure."""
        for name in self.absent:
            yield f"{CLIENTS[name].title}: not installed."
        for scenario, outcomes in self.outcomes.items():
            for name, outcome in outcomes.items():
                who = f"{SCENARIOS[scenario].title}: {CLIENTS[name].title}"
                for reason, count in Counter(outcome.failures).items():
                    yield f"{who} failed and was run again, {count} times: {reason}"
                if failed := sum(run.get("failed", 0) for run in outcome.figures):
                    kinds = sorted({kind for run in outcome.figures for kind in run["kinds"]})
                    connected = sum(run["connected"] for run in outcome.figures)
                    yield f"{who} failed {failed} times beside {connected} connections: {'; '.join(kinds)}"


def _outcome_data(outcome: Outcome) -> dict[str, Any]:
    """Return all samples of a client, the failures, and what the samples amount to."""
    names = [name for name in _FIGURES if outcome.figures and name in outcome.figures[0]]
    spreads = {name: attrs.asdict(Spread.of(outcome.samples(name))) for name in names}
    return {"spreads": spreads, "samples": outcome.figures, "failures": outcome.failures}


def _about(about: Mapping[str, Any]) -> Iterator[str]:
    for name, value in about.items():
        if isinstance(value, Mapping):
            value = ", ".join(f"{key} {item}" for key, item in value.items())
        yield f"- {name}: {value}"


def _table(head: Sequence[str], lines: Sequence[Sequence[str]]) -> list[str]:
    rules = ["---", *("---:" for _ in head[1:])]
    return [f"| {' | '.join(cells)} |" for cells in (head, rules, *lines)]


def _bound(bound: Bound | None, unit: str) -> str:
    if bound is None:
        return ""
    sign = "≥" if bound.sense == "at least" else "≤"
    floor = f"{sign} {bound.floor:g}{unit}"
    return floor if bound.goal is None else f"{floor}, {bound.goal:g}{unit}"


def _spread(spread: Spread, unit: str = "") -> str:
    middle = f"{_number(spread.median)}{unit}"
    if spread.least == spread.most:
        return middle
    return f"{middle} ({_number(spread.least)}–{_number(spread.most)})"


def _number(value: float) -> str:
    """Write three digits that count, with commas, and no exponent."""
    if value == 0 or abs(value) >= 100:
        return f"{value:,.0f}"
    digits = next(n for n in range(1, 8) if abs(value) >= 10 ** (2 - n) or n == 7)
    text = f"{value:.{digits}f}"
    return text.rstrip("0").rstrip(".")
