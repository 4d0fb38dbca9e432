"""Run the conversations: the clients one after the other, and that several times, each against a server of its own."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs

from llmws.testing import FaultProxy, Server
from llmws.testing.plans import Plan

from .clients import CLIENTS, missing
from .talk import answer


__all__ = ["Setting", "measure"]

_ROOT = Path(__file__).resolve().parents[2]
_RUN_SECONDS = 100.0

Figures = dict[str, float]


@attrs.frozen
class Setting:
    """
    What the conversations are like.

    Attributes:
        turns: How many requests each makes.
        latency: Seconds of a round trip.
        uplink_mbit: How many Mbit a second a client can send; None is as many as this machine can.
    """

    turns: int = 40
    latency: float = 0.03
    uplink_mbit: float | None = None

    def plans(self) -> list[Plan]:
        """Return what the proxy does to each connection."""
        plans = [Plan("delay", seconds=self.latency / 2)] if self.latency else []
        if self.uplink_mbit is not None:
            rate = self.uplink_mbit * 1e6 / 8
            plans.append(Plan("throttle", way="client", bytes_per_second=rate))
        return plans


def measure(
    setting: Setting, runs: int, tell: Callable[[str], None], names: list[str] | None = None
) -> dict[str, list[Figures]]:
    """
    Have every client talk, so many times; return the figures of each run by client.

    Args:
        setting: What the conversations are like.
        runs: How many each client has.
        tell: Hears of what goes on.
        names: Which clients; None means all that are installed.

    Raises:
        RuntimeError: A conversation came to nothing, or to the wrong answer.
    """
    names = [name for name in CLIENTS if not missing(name)] if names is None else names
    found: dict[str, list[Figures]] = {name: [] for name in names}
    for number in range(runs):
        # Each run starts with another client, so that none always follows the same.
        at = number % len(names)
        for name in names[at:] + names[:at]:
            tell(f"{CLIENTS[name].title}, run {number + 1} of {runs}")
            found[name].append(_run(name, setting))
    return found


def _run(name: str, setting: Setting) -> Figures:
    # The first conversation, which is not measured, has a server of its own too, so that ids and counts begin anew.
    with (
        Server(rule=answer) as first,
        Server(rule=answer) as server,
        FaultProxy.before(server.base_url, setting.plans()) as proxy,
    ):
        told = {
            "client": name,
            "turns": setting.turns,
            "base_url": proxy.base_url(),
            "first_url": first.base_url,
        }
        figures: Figures = json.loads(_output(json.dumps(told)))
        requests = server.ledger.requests
        _check(len(requests) == setting.turns, f"{name} made {len(requests)} requests")
        thought = [
            entry.finished - entry.received for entry in requests if entry.finished is not None
        ]
        return {
            **figures,
            "sent_bytes": proxy.counters.from_client_bytes,
            "payload_bytes": sum(entry.request_bytes for entry in requests),
            "server_ms": statistics.median(thought) * 1e3,
        }


def _check(holds: bool, words: str) -> None:
    if not holds:
        raise RuntimeError(words)


def _output(description: str) -> str:
    try:
        done = subprocess.run(
            [sys.executable, "-m", "benchmarks.chain.clients", description],
            capture_output=True,
            text=True,
            timeout=_RUN_SECONDS,
            env=_environment(),
            cwd=_ROOT,
            check=True,
        )
    except subprocess.CalledProcessError as failure:
        sys.stderr.write(f"\n{failure.stderr}")
        raise RuntimeError(f"A conversation failed: {failure.stderr.strip()[-200:]}") from None
    return done.stdout


def _environment() -> dict[str, str]:
    """Return an environment without what could change how Python, the SDK or a proxy behaves."""
    kept: dict[str, Any] = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("PYTHON", "OPENAI_")) and not name.lower().endswith("_proxy")
    }
    return {**kept, "PYTHONPATH": str(_ROOT)}
