"""Steps of the wall clock disturb nothing: it is read to date a recording and to read a date, and for nothing else."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import llmws


PACKAGE = Path(llmws.__file__).parent
WALL = {
    *("time.time", "time.time_ns", "time.ctime", "time.gmtime", "time.localtime", "time.strftime"),
    *("datetime.now", "datetime.utcnow", "datetime.today", "date.today"),
}
# Where a recording says when it was made.
DATED = {"wire/recording.py": {"datetime.now"}}


def uses(tree):
    """Yield each use of the wall clock, less those that are handed on as the wall time by name."""
    by_name = {
        id(node.value.func)
        for node in ast.walk(tree)
        if isinstance(node, ast.keyword)
        and node.arg == "wall_time"
        and isinstance(node.value, ast.Call)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and id(node) not in by_name:
            name = f"{getattr(node.value, 'id', getattr(node.value, 'attr', ''))}.{node.attr}"
            if name in WALL:
                yield name
        elif isinstance(node, ast.ImportFrom):
            yield from (
                f"{node.module}.{alias.name}"
                for alias in node.names
                if f"{node.module}.{alias.name}" in WALL
            )


def test_the_wall_clock_measures_nothing():
    found = {
        path.relative_to(PACKAGE).as_posix(): set(uses(ast.parse(path.read_text(encoding="utf-8"))))
        for path in PACKAGE.rglob("*.py")
    }
    assert len(found) > 50
    assert {name: used for name, used in found.items() if used} == DATED


@pytest.mark.parametrize(
    ("code", "found"),
    [
        ("deadline = time.time() + 1", ["time.time"]),
        ("clock = time.time", ["time.time"]),
        ("from time import time", ["time.time"]),
        ("import datetime\ndatetime.datetime.now()", ["datetime.now"]),
        ("retry_after(headers, wall_time=time.time())", []),
        ("time.monotonic()", []),
    ],
)
def test_the_search_misses_no_use(code, found):
    assert list(uses(ast.parse(code))) == found
