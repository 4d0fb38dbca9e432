"""What came of the conversations: a table in Markdown. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..figures import Spread
from .clients import CLIENTS
from .measure import Setting


__all__ = ["table"]

_HEAD = (
    "client",
    "end to end s",
    "beyond the round trips ms a turn",
    "CPU ms a turn",
    "sent KiB",
    "of that requests KiB",
)


def table(setting: Setting, found: Mapping[str, Sequence[Mapping[str, Any]]]) -> str:
    """
    Return a line for each client: medians, and in brackets the least and the most of the runs.

    Args:
        setting: What the conversations were like.
        found: The figures of every run by client.
    """
    rules = ["---", *("---:" for _ in _HEAD[1:])]
    lines = [_HEAD, rules, *(_line(setting, name, runs) for name, runs in found.items())]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)


def _line(setting: Setting, name: str, runs: Sequence[Mapping[str, Any]]) -> list[str]:
    def spread(figure: str, scale: float = 1.0, digits: int = 2) -> str:
        found = Spread.of([run[figure] * scale for run in runs])
        middle, least, most = (
            f"{value:,.{digits}f}" for value in (found.median, found.least, found.most)
        )
        return middle if least == most else f"{middle} ({least}–{most})"

    beyond = Spread.of([run["turn_ms"] - setting.latency * 1e3 for run in runs])
    return [
        CLIENTS[name].title,
        spread("seconds"),
        f"{beyond.median:.1f}",
        spread("cpu_ms", digits=1),
        spread("sent_bytes", 1 / 1024, 0),
        spread("payload_bytes", 1 / 1024, 0),
    ]
