"""The table as a picture: how many times better than openai-python, with the floor and the goal of each row."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs

from .figures import Bound
from .report import Report


__all__ = ["Bar", "bars", "draw"]

_COLOURS = {"llmws[fast]": "#1b6ca8", "llmws": "#7fb7de"}
_MISSED = "#c0392b"


@attrs.frozen
class Bar:
    """
    One side of a row, turned so that more is better.

    Attributes:
        title: The row.
        side: With msgspec or without.
        times: How many times better than openai.
        floor: What was promised, turned likewise.
        goal: What is wished for; None for nothing beyond the floor.
        missed: Whether the floor was not reached.
    """

    title: str
    side: str
    times: float
    floor: float
    goal: float | None
    missed: bool


def bars(report: Report) -> Iterator[Bar]:
    """Give the bars of the rows that compare with openai and hold a promise; pure."""
    for row in report.rows:
        for side, result in zip(_COLOURS, report.results(row), strict=True):
            bound = result.contest.bound if result else None
            if (
                result is None
                or bound is None
                or row.absolute
                or result.contest.against != "openai"
            ):
                continue
            yield Bar(
                row.title.replace("`", ""),
                side,
                _times(result.value.median, bound),
                _times(bound.floor, bound),
                None if bound.goal is None else _times(bound.goal, bound),
                result.verdict == "MISSED",
            )


def draw(report: Report, path: Path) -> None:
    """
    Draw the bars into an SVG file, the same bytes for the same figures.

    Raises:
        ImportError: matplotlib is not installed.
    """
    import matplotlib as mpl

    mpl.use("svg")
    mpl.rcParams.update({"svg.hashsalt": "llmws", "svg.fonttype": "none", "font.size": 9})
    from matplotlib import pyplot

    found = list(bars(report))
    titles = list(dict.fromkeys(bar.title for bar in found))
    figure, axes = pyplot.subplots(figsize=(9, 1 + 0.45 * len(titles)), layout="constrained")
    for bar in found:
        _draw_bar(axes, bar, len(titles) - titles.index(bar.title))
    axes.set_xscale("log")
    axes.set_yticks(range(len(titles), 0, -1), titles)
    axes.axvline(1, color="black", linewidth=0.8)
    axes.set_xlabel(
        "times better than openai-python's WebSocket client, in the same run (log scale)"
    )
    axes.xaxis.set_major_formatter("{x:g}×")
    axes.grid(axis="x", alpha=0.3)
    axes.set_axisbelow(True)
    axes.legend(handles=_legend(), loc="lower right", fontsize=8)
    figure.savefig(path, format="svg", metadata={"Date": None, "Creator": None})
    pyplot.close(figure)


def _draw_bar(axes: Any, bar: Bar, row: int) -> None:
    height = 0.36
    y = row + (height / 2 if bar.side == "llmws[fast]" else -height / 2)
    edge = _MISSED if bar.missed else "none"
    axes.barh(
        y, bar.times - 1, height, left=1, color=_COLOURS[bar.side], edgecolor=edge, linewidth=1.5
    )
    axes.plot(
        [bar.floor, bar.floor], [y - height / 2, y + height / 2], color="black", linewidth=1.6
    )
    if bar.goal is not None:
        axes.plot(bar.goal, y, marker="D", markersize=4, color="#e08e0b", linestyle="none")


def _legend() -> list[Any]:
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    return [
        *(Patch(color=colour, label=side) for side, colour in _COLOURS.items()),
        Line2D([], [], color="black", linewidth=1.6, label="floor"),
        Line2D([], [], color="#e08e0b", marker="D", markersize=4, linestyle="none", label="goal"),
        Patch(facecolor="white", edgecolor=_MISSED, label="below its floor"),
    ]


def _times(ratio: float, bound: Bound) -> float:
    """Turn a ratio of which less is better."""
    return ratio if bound.sense == "at least" else 1 / ratio
