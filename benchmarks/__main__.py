"""Measure, and print tables; ``python -m benchmarks --help`` says what can be chosen."""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from pathlib import Path

import attrs

from .machine import describe
from .measure import Outcome, Server, measure, missing, serving
from .payloads import Sizes
from .report import Report
from .rows import ROWS, clients_of, select
from .scenarios import SCENARIOS, shortened


_QUICK_RUNS = 1
_OURS = "llmws-"


def main(arguments: list[str] | None = None) -> int:
    """Run what was asked for; return the exit status."""
    asked = _parser().parse_args(arguments)
    try:
        rows = select(asked.only)
    except ValueError as fault:
        _parser().error(str(fault))
    sizes = Sizes.quick() if asked.quick else Sizes(fresh=asked.connections)
    runs = _QUICK_RUNS if asked.quick else asked.runs
    chosen = {name: SCENARIOS[name] for name in dict.fromkeys(row.scenario for row in rows)}
    if asked.quick:
        chosen = shortened(chosen, clients_of(rows))
    began, load = time.perf_counter(), os.getloadavg()[0]
    with serving(sizes, chosen) as server:
        outcomes = {
            name: measure(scenario, server, sizes, runs, _tell) for name, scenario in chosen.items()
        }
    about = {
        **describe(),
        "placement": _placement(server),
        "load before": f"{load:.2f}",
        "runs": f"{runs} of each client, in turn; {time.perf_counter() - began:.0f} s in all",
        "sizes": attrs.asdict(sizes),
    }
    clients = dict.fromkeys(name for scenario in chosen.values() for name in scenario.clients)
    absent = [name for name in clients if missing(name)]
    report = Report(outcomes, rows, about, absent, judged=not asked.quick)
    sys.stdout.write(report.markdown())
    if asked.json:
        asked.json.write_text(json.dumps(report.data(), indent=1, ensure_ascii=False) + "\n")
    if asked.plot:
        from .plot import draw

        draw(report, asked.plot)
    return 1 if any(_is_broken(found) for found in outcomes.values()) else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description="Measure llmws beside its peers, on this machine."
    )
    parser.add_argument(
        "--only",
        nargs="+",
        default=[],
        metavar="ROW",
        help=f"rows, or how their names begin: {', '.join(row.key for row in ROWS)}",
    )
    parser.add_argument("--runs", type=_count, default=5, help="runs of each client (default 5)")
    parser.add_argument(
        "--connections",
        type=_count,
        default=Sizes().fresh,
        help="fresh TLS connections of each client, all runs together (default %(default)s)",
    )
    parser.add_argument("--json", type=Path, metavar="PATH", help="write all samples there")
    parser.add_argument("--plot", type=Path, metavar="PATH", help="draw the ratios there, as SVG")
    parser.add_argument(
        "--quick", action="store_true", help="once, and small: shows that it works, proves nothing"
    )
    return parser


def _count(text: str) -> int:
    """Read a number of at least 1."""
    if (count := int(text)) < 1:
        raise ValueError
    return count


def _placement(server: Server) -> str:
    if server.core is None:
        return "server and clients on any core"
    return f"server on core {server.core}, clients on any"


def _is_broken(outcomes: dict[str, Outcome]) -> bool:
    """Whether one of llmws's own clients gave no figures: a peer that fails is a note, no more."""
    return any(not outcome.figures for name, outcome in outcomes.items() if name.startswith(_OURS))


def _tell(line: str) -> None:
    """Say on a terminal what goes on, in one line that is written over."""
    if sys.stderr.isatty():
        sys.stderr.write(f"\r\033[K{line[:100]}")


if __name__ == "__main__":
    sys.exit(main())
