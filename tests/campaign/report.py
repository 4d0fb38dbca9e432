"""What a campaign found, for people and for machines."""

from __future__ import annotations

import json
import platform
from collections.abc import Iterator, Sequence
from pathlib import Path

from llmws.version import __version__
from tests.campaign.book import INVARIANTS, Book


__all__ = ["as_lines", "as_markdown", "write"]


def as_lines(book: Book) -> Iterator[str]:
    """Yield what to print of a block."""
    found = book.report()
    broken = {name: count for name, count in found["breaches"].items() if count}
    yield f"{book.name}: {broken if broken else 'nothing broken'}, {found['seconds']} s"
    yield "  " + ", ".join(f"{number:,} {what}" for what, number in found["figures"].items())
    for what, times in found["times"].items():
        yield f"  {what}: p50 {times['p50_ms']} ms, p99 {times['p99_ms']} ms, {times['count']} times"
    yield from (f"  {line}" for line in found["told"])


def as_markdown(seed: int, scale: str, books: Sequence[Book]) -> str:
    """Return a report with one table for what has to be 0, and one a block for the rest."""
    names = [book.name for book in books]
    lines = [f"# Fault campaign: {scale}, seed {seed}, llmws {__version__}", ""]
    lines += ["What has to be 0; `openai` is openai-python, beside ours.", ""]
    lines += [f"| | {' | '.join(names)} |", "|---|" + "---:|" * len(names)]
    for invariant, meaning in INVARIANTS.items():
        counts = " | ".join(str(book.breaches[invariant]) for book in books)
        lines.append(f"| **{invariant}**: {meaning} | {counts} |")
    for book in books:
        found = book.report()
        lines += ["", f"## {book.name}", "", "| | |", "|---|---:|"]
        lines += [f"| {what} | {number:,} |" for what, number in found["figures"].items()]
        for what, times in found["times"].items():
            lines.append(f"| {what}, p50 / p99 | {times['p50_ms']} / {times['p99_ms']} ms |")
        lines.append(f"| seconds | {found['seconds']} |")
        lines += [f"\n    {line}" for line in found["told"]]
    return "\n".join(lines) + "\n"


def write(path: Path, seed: int, scale: str, books: Sequence[Book]) -> None:
    """Write both reports beside each other."""
    data = {
        "seed": seed,
        "scale": scale,
        "llmws": __version__,
        "python": platform.python_version(),
        "blocks": [book.report() for book in books],
    }
    path.with_suffix(".json").write_text(json.dumps(data, indent=1, ensure_ascii=False) + "\n")
    path.with_suffix(".md").write_text(as_markdown(seed, scale, books))
