"""
Run scenarios: each measured run in a process of its own, the clients one after the other, and that several times.

So that what the machine does meanwhile meets all of them alike, and imports, caches and collectors start the same.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import attrs

from .clients import CLIENTS
from .payloads import Sizes
from .programs import EMPTY, IMPORTS, TURNS, without
from .scenarios import Scenario


__all__ = ["Outcome", "Server", "measure", "missing", "serving"]

_ROOT = Path(__file__).resolve().parent.parent
_ATTEMPTS = 4
# A client's own limit, and what its parent adds to that.
_RUN_SECONDS = 90.0
_GRACE_SECONDS = 10.0
# The answers of each task that are large enough to be made before anything is timed.
_PREPARED = ("short", "burst", "paced", "slow", "large")

Figures = dict[str, Any]


class RunFailedError(Exception):
    """A measured process gave no figures; its text says why."""


@attrs.frozen
class Server:
    """Where the server process listens: ``http`` and ``https`` are base URLs, ``core`` is where it is pinned."""

    http: str
    https: str
    core: int | None
    authority_file: str


@attrs.define
class Outcome:
    """
    What came of one client in one scenario.

    Attributes:
        figures: One mapping of figures a run.
        failures: Why runs had to be repeated, or gave nothing.
    """

    figures: list[Figures] = attrs.field(factory=list)
    failures: list[str] = attrs.field(factory=list)

    def samples(self, name: str) -> list[float]:
        """Return one figure of every run."""
        return [run[name] for run in self.figures]


@contextlib.contextmanager
def serving(sizes: Sizes, scenarios: Mapping[str, Scenario]) -> Iterator[Server]:
    """Run the server process for as long as the context lasts."""
    asked = {scenario.settings.get("answer", scenario.task) for scenario in scenarios.values()}
    prepared = [name for name in _PREPARED if name in asked | {"short"}]
    with tempfile.TemporaryDirectory() as folder:
        authority_file = str(Path(folder) / "authority.pem")
        process = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "benchmarks.server",
                json.dumps(attrs.asdict(sizes)),
                authority_file,
                *prepared,
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=_environment(),
        )
        with process:  # On leaving, its input is closed, and it ends.
            assert process.stdout is not None
            said = process.stdout.readline()
            if not said:
                raise RuntimeError("The server did not start; its error output says why.")
            yield Server(**json.loads(said), authority_file=authority_file)


def measure(
    scenario: Scenario,
    server: Server,
    sizes: Sizes,
    runs: int,
    tell: Callable[[str], None],
) -> dict[str, Outcome]:
    """
    Run a scenario; return what came of each client that is installed.

    Args:
        scenario: What to run.
        server: Where.
        sizes: How much.
        runs: How often.
        tell: Hears of what goes on.
    """
    names = [name for name in scenario.clients if not missing(name)]
    outcomes = {name: Outcome() for name in names}
    for number in range(runs):
        # Each run starts with another client, so that none always follows the same.
        at = number % len(names)
        for name in names[at:] + names[:at]:
            tell(f"{scenario.title}: {name}, run {number + 1} of {runs}")
            _run_with_retries(scenario, name, server, sizes, runs, outcomes[name])
    return outcomes


def missing(client: str) -> list[str]:
    """Return the distributions that a client needs and that are not installed."""
    found = []
    for distribution in CLIENTS[client].needs:
        try:
            importlib.metadata.version(distribution)
        except importlib.metadata.PackageNotFoundError:
            found.append(distribution)
    return found


def _run_with_retries(
    scenario: Scenario, name: str, server: Server, sizes: Sizes, runs: int, outcome: Outcome
) -> None:
    """Run one client once; if that fails, say so and try again, because one failure is a figure too."""
    for _ in range(_ATTEMPTS):
        try:
            outcome.figures.append(_run(scenario, name, server, sizes, runs))
            return
        except RunFailedError as failure:
            outcome.failures.append(str(failure))


def _run(scenario: Scenario, name: str, server: Server, sizes: Sizes, runs: int) -> Figures:
    base_url = server.https if scenario.scheme == "https" else server.http
    if scenario.task == "import":
        empty, _ = _timed(EMPTY)
        full, _ = _timed(without(CLIENTS[name].without, IMPORTS[name]))
        return {"ms": (full - empty) * 1e3}
    if scenario.task == "cold":
        seconds, said = _timed(without(CLIENTS[name].without, TURNS[name]), base_url)
        return {"ms": seconds * 1e3, "peak_mib": int(said) / 2**20}
    description = {
        "client": name,
        "task": scenario.task,
        "base_url": base_url,
        "authority_file": server.authority_file,
        "sizes": attrs.asdict(sizes),
        "connections": -(-sizes.fresh // runs),
        "seconds": _RUN_SECONDS,
        **scenario.settings,
    }
    return dict(json.loads(_output("-m", "benchmarks.clients", json.dumps(description))))


def _timed(program: str, *arguments: str) -> tuple[float, str]:
    """Run a program; return the seconds from its start to its end, and what it printed."""
    began = time.perf_counter()
    said = _output("-c", program, *arguments)
    return time.perf_counter() - began, said


def _output(*arguments: str) -> str:
    try:
        done = subprocess.run(
            [sys.executable, *arguments],
            capture_output=True,
            text=True,
            timeout=_RUN_SECONDS + _GRACE_SECONDS,
            env=_environment(),
            cwd=_ROOT,
            check=True,
        )
    except subprocess.TimeoutExpired:
        raise RunFailedError(f"nothing after {_RUN_SECONDS + _GRACE_SECONDS:g} s") from None
    except subprocess.CalledProcessError as failure:
        sys.stderr.write(f"\n{failure.stderr}")
        said = failure.stderr.strip().splitlines() or [f"exit {failure.returncode}"]
        hung = next((line for line in said if line.startswith("Timeout (")), None)
        raise RunFailedError((hung or said[-1])[:200]) from None
    return done.stdout


def _environment() -> dict[str, str]:
    """Return an environment without what could change how Python, the SDK or a proxy behaves."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("PYTHON", "OPENAI_")) and not name.lower().endswith("_proxy")
    }
    return {**kept, "PYTHONPATH": str(_ROOT)}
