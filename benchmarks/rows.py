"""What was promised: the rows of the table, each a figure of llmws beside a peer's in the same scenario."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import attrs

from .figures import Bound, Spread, Verdict, ratio
from .measure import Outcome


__all__ = ["ROWS", "Contest", "Result", "Row", "clients_of", "judge", "select"]


@attrs.frozen
class Contest:
    """
    One side of a row.

    Attributes:
        client: The llmws that is judged, a name of ``clients.CLIENTS``.
        against: The client that it is measured by.
        bound: What was promised; None only shows the figure.
    """

    client: str
    against: str
    bound: Bound | None


@attrs.frozen
class Row:
    """
    One promise.

    Attributes:
        key: How it is chosen on the command line.
        title: What the table calls it.
        scenario: Where it is measured.
        figure: The figure that counts.
        unit: Of what it is, for the table.
        contests: With msgspec, and without.
        absolute: Whether the figure itself is judged, and not its ratio to the other client's.
        over_runs: Whether runs are judged by their median or by their sum.
    """

    key: str
    title: str
    scenario: str
    figure: str
    unit: str
    contests: tuple[Contest, Contest]
    absolute: bool = False
    over_runs: Literal["median", "sum"] = "median"


@attrs.frozen
class Result:
    """
    What came of one side of a row.

    Attributes:
        own: The figure of llmws.
        other: The figure of the client that it is measured by; None if that gave none.
        value: What is judged: the ratio of both, or the figure itself.
        verdict: What it has reached; None where nothing was promised.
    """

    contest: Contest
    own: Spread
    other: Spread | None
    value: Spread
    verdict: Verdict | None


def judge(row: Row, contest: Contest, outcomes: Mapping[str, Outcome]) -> Result | None:
    """Judge one side of a row; None if there are not the figures to do so."""
    own = _samples(row, contest.client, outcomes)
    other = _samples(row, contest.against, outcomes)
    if not own or not (other or row.absolute):
        return None
    value = Spread.of(own) if row.absolute else ratio(own, other)
    verdict = contest.bound.verdict(value.median) if contest.bound else None
    return Result(contest, Spread.of(own), Spread.of(other) if other else None, value, verdict)


def select(patterns: Sequence[str]) -> list[Row]:
    """
    Return the rows whose key is, or begins with, one of the patterns; all if there are none.

    Raises:
        ValueError: A pattern fits no row.
    """
    for pattern in patterns:
        if not any(row.key.startswith(pattern) for row in ROWS):
            keys = ", ".join(row.key for row in ROWS)
            raise ValueError(f"{pattern!r} begins no row: choose from {keys}.")
    return [row for row in ROWS if not patterns or row.key.startswith(tuple(patterns))]


def clients_of(rows: Sequence[Row]) -> dict[str, set[str]]:
    """Return, by scenario, the clients that rows compare."""
    found: dict[str, set[str]] = {row.scenario: set() for row in rows}
    for row in rows:
        for contest in row.contests:
            found[row.scenario] |= {contest.client, contest.against}
    return found


def _samples(row: Row, client: str, outcomes: Mapping[str, Outcome]) -> list[float]:
    samples = outcomes[client].samples(row.figure) if client in outcomes else []
    return [sum(samples)] if samples and row.over_runs == "sum" else samples


def _beside_openai(
    fast: Bound | None, stdlib: Bound | None, view: str = ""
) -> tuple[Contest, Contest]:
    return (
        Contest(f"llmws-fast{view}", "openai", fast),
        Contest(f"llmws-stdlib{view}", "openai", stdlib),
    )


def _least(floor: float, goal: float | None = None) -> Bound:
    return Bound("at least", floor, goal)


def _most(floor: float, goal: float | None = None) -> Bound:
    return Bound("at most", floor, goal)


def _both(bound: Bound | None) -> tuple[Contest, Contest]:
    return _beside_openai(bound, bound)


ROWS: tuple[Row, ...] = (
    Row(
        "burst-events",
        "burst, `events()`",
        "burst",
        "events_per_second",
        "events/s",
        _beside_openai(_least(30, 45), _least(15, 22)),
    ),
    Row(
        "burst-chunks",
        "burst, `for chunk in stream`",
        "burst",
        "events_per_second",
        "events/s",
        _beside_openai(_least(22, 32), _least(12, 16), "-chunks"),
    ),
    Row(
        "burst-tls",
        "burst over TLS 1.3, against the same",
        "burst-tls",
        "events_per_second",
        "events/s",
        _beside_openai(_least(25, 38), _least(14, 20)),
    ),
    Row(
        "burst-cpu",
        "CPU an event, over raw socket + same decoder",
        "burst",
        "cpu_us",
        "µs",
        (
            Contest("llmws-fast", "raw-msgspec", _most(2.5, 2)),
            Contest("llmws-stdlib", "raw-json", _most(2, 1.4)),
        ),
    ),
    Row(
        "paced-p50",
        "2,000 events/s, wire to reader, p50",
        "paced",
        "p50_us",
        "µs",
        _both(_most(0.25, 0.16)),
    ),
    Row(
        "paced-p99",
        "2,000 events/s, wire to reader, p99",
        "paced",
        "p99_us",
        "µs",
        _both(_most(0.7, 0.5)),
    ),
    Row(
        "turn-first",
        "warm turn, to its first event",
        "turns",
        "first_ms",
        "ms",
        _beside_openai(_most(0.15, 0.1), _most(0.2)),
    ),
    Row(
        "turn-cpu",
        "warm turn of 18 events, CPU",
        "turns",
        "cpu_ms",
        "ms",
        _beside_openai(_most(0.05, 0.03), _most(0.06)),
    ),
    Row(
        "large-time",
        "64 MiB event, time",
        "large",
        "seconds",
        "s",
        _beside_openai(_most(0.7), _most(0.9)),
    ),
    Row(
        "large-growth",
        "64 MiB event, growth of the peak over its size",
        "large",
        "growth",
        "×",
        _beside_openai(_most(4.5), _most(5.5)),
        absolute=True,
    ),
    Row(
        "upload",
        "10 MiB create, time",
        "upload",
        "seconds",
        "s",
        _beside_openai(_most(0.8), _most(1)),
    ),
    Row(
        "import",
        "import, over an empty process",
        "import",
        "ms",
        "ms",
        _both(_most(0.25, 0.2)),
    ),
    Row(
        "cold-time",
        "cold process to one turn, time",
        "cold",
        "ms",
        "ms",
        _both(_most(0.2, 0.12)),
    ),
    Row(
        "cold-memory",
        "cold process to one turn, peak memory",
        "cold",
        "peak_mib",
        "MiB",
        _both(_most(0.4, 0.33)),
    ),
    Row(
        "idle-memory",
        "memory of an idle connection",
        "idle",
        "kib",
        "KiB",
        _both(_most(0.5)),
    ),
    Row(
        "idle-threads",
        "threads of an idle connection",
        "idle",
        "threads",
        "threads",
        _both(_most(0.5)),
    ),
    Row(
        "fresh-tls",
        "fresh TLS 1.3 connections with tickets, failed",
        "fresh",
        "failed",
        "failed",
        _both(_most(0)),
        absolute=True,
        over_runs="sum",
    ),
    *(
        Row(
            f"{scenario}-{figure[:3]}",
            f"beside a computing thread, switch interval {interval} ms, {figure[:3]}",
            scenario,
            figure,
            "µs",
            _both(None),
        )
        for scenario, interval in (("busy", 5), ("busy-short", 0.5))
        for figure in ("p50_us", "p99_us")
    ),
)
