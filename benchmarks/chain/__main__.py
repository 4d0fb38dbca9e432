"""Have the conversations, and print a table; ``python -m benchmarks.chain --help`` says what can be chosen."""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
from pathlib import Path

import attrs

from ..machine import describe
from .clients import CLIENTS, missing
from .measure import Setting, measure
from .report import table


def main(arguments: list[str] | None = None) -> int:
    """Run what was asked for; return the exit status."""
    asked = _parser().parse_args(arguments)
    setting = Setting(asked.turns, asked.latency, asked.uplink)
    names = [name for name in asked.only or CLIENTS if not missing(name)]
    load = os.getloadavg()[0]
    found = measure(setting, asked.runs, _tell, names)
    served = statistics.median(run["server_ms"] for runs in found.values() for run in runs)
    sys.stdout.write(f"{_title(setting)}\n\n{table(setting, found)}\n")
    sys.stdout.write(
        f"Medians of {asked.runs} runs (least–most), load before {load:.1f}. "
        f"The server took {served:.1f} ms a turn.\n"
    )
    for name in CLIENTS:
        if absent := missing(name):
            sys.stdout.write(f"{CLIENTS[name].title}: {', '.join(absent)} is not installed.\n")
    if asked.json:
        data = {
            "about": {**describe(), "load before": load},
            "setting": attrs.asdict(setting),
            "runs": found,
        }
        asked.json.write_text(json.dumps(data, indent=1, ensure_ascii=False) + "\n")
    return 0


def _title(setting: Setting) -> str:
    uplink = f", {setting.uplink_mbit:g} Mbit/s up" if setting.uplink_mbit else ""
    return f"A tool conversation of {setting.turns} turns, {setting.latency * 1e3:g} ms a round trip{uplink}"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.chain",
        description="Measure a conversation with tools beside the same one of other clients.",
    )
    parser.add_argument(
        "--turns", type=_turns, default=40, help="requests of a conversation (default 40)"
    )
    parser.add_argument(
        "--latency",
        type=_seconds,
        default=0.03,
        metavar="SECONDS",
        help="of a round trip (default 0.03)",
    )
    parser.add_argument(
        "--uplink", type=_rate, metavar="MBIT", help="what a client can send in a second"
    )
    parser.add_argument("--runs", type=_runs, default=3, help="runs of each client (default 3)")
    parser.add_argument(
        "--only",
        nargs="+",
        choices=CLIENTS,
        metavar="CLIENT",
        help=f"clients: {', '.join(CLIENTS)}",
    )
    parser.add_argument("--json", type=Path, metavar="PATH", help="write all samples there")
    return parser


def _turns(text: str) -> int:
    """Read a number of turns: three have a time between two calls, which is what a turn takes."""
    return _at_least(3, int(text))


def _runs(text: str) -> int:
    return _at_least(1, int(text))


def _at_least(least: int, count: int) -> int:
    if count < least:
        raise argparse.ArgumentTypeError(f"give {least} or more")
    return count


def _seconds(text: str) -> float:
    value = float(text)
    if not 0 <= value <= 60:
        raise argparse.ArgumentTypeError("give seconds from 0 to 60")
    return value


def _rate(text: str) -> float:
    value = float(text)
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError("give a number above 0")
    return value


def _tell(line: str) -> None:
    """Say on a terminal what goes on, in one line that is written over."""
    if sys.stderr.isatty():
        sys.stderr.write(f"\r\033[K{line[:100]}")


if __name__ == "__main__":
    sys.exit(main())
