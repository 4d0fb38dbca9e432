"""``docs/promises.md`` names for each promise and hazard the tests that hold it: they exist, and none is left out."""

from __future__ import annotations

import ast
import functools
import re
from pathlib import Path

import pytest


ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "promises.md"
ID = re.compile(r"`(tests/[\w/]+\.py)::(test_\w+)(?:\[([^]`]+)\])?`")
# How a row says why it has no test.
REASONS = ("No test: ", "Not built: ", "Not kept yet: ", "Not run: ")
# The hazards of the study that this library was designed by.
HAZARDS = {"A": 31, "B": 24, "C": 17, "D": 15}


def rows(text):
    """Return the rows of all tables as lists of cells, headers left out."""
    lines = text.splitlines()
    found = []
    for line, following in zip(lines, [*lines[1:], ""], strict=True):
        if line.startswith("| ") and not following.startswith("|---"):
            found.append([cell.strip() for cell in line.strip("|").split(" | ")])
    return found


def unheld(found):
    """Return the rows that neither name a test nor say why there is none."""
    return [
        row[0] if len(row) == 2 else row[:2]
        for row in found
        if not all(ID.fullmatch(held) or held.startswith(REASONS) for held in row[-1].split("<br>"))
    ]


@functools.cache
def names_in(path):
    """Return the names of the test functions of a file; what is expected to fail holds nothing."""
    tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
    functions = [node for node in tree.body if isinstance(node, ast.FunctionDef)]
    return {each.name for each in functions if not any(map(expects_failure, each.decorator_list))}


def expects_failure(decorator):
    return "mark.xfail" in ast.unparse(decorator)


def missing(text):
    """Return the tests that a text names and that do not exist."""
    return [
        found[0]
        for found in ID.finditer(text)
        if not (ROOT / found[1]).is_file()
        or found[2] not in names_in(found[1])
        or (found[3] and not has_parameter(found[1], found[3]))
    ]


def has_parameter(path, parameter):
    """Tell whether a parameter of a test is written out, in its file or in one beside it."""
    beside = (ROOT / path).parent.glob("*.py")
    return any(f'"{parameter}"' in file.read_text(encoding="utf-8") for file in beside)


TEXT = PAGE.read_text(encoding="utf-8")
# The commands with the whole counts are no promises.
ROWS = [row for row in rows(TEXT) if not row[0].startswith("`python")]


def test_every_test_that_is_named_exists():
    assert missing(TEXT) == []


def test_every_promise_has_a_test_or_a_reason():
    assert len(ROWS) > sum(HAZARDS.values()) + 40
    assert unheld(ROWS) == []


def test_every_hazard_has_its_row():
    named = [row[0] for row in ROWS if len(row) == 3]
    assert named == [f"{part}{n + 1}" for part, count in HAZARDS.items() for n in range(count)]


def test_no_promise_is_made_twice():
    promises = [row[-2] for row in ROWS]
    assert sorted(promises) == sorted(set(promises))


def test_every_command_that_is_named_exists():
    commands = re.findall(r"python -m ([\w.]+)", TEXT)
    assert commands
    for command in commands:
        assert (ROOT / command.replace(".", "/") / "__main__.py").is_file(), command


@pytest.mark.parametrize(
    "named",
    [
        "tests/test_no_such_file.py::test_x",
        "tests/test_promises.py::test_that_is_not_there",
        "tests/test_promises.py::test_every_test_that_is_named_exists[nowhere{}written]",
    ],
)
def test_a_test_that_does_not_exist_is_found(named):
    named = f"`{named.format('-')}`"
    assert missing(f"| a promise | {named} |") == [named]


def test_a_test_that_is_expected_to_fail_holds_nothing():
    source = "@pytest.mark.xfail(reason='hm')\n@pytest.mark.slow\ndef test(): ..."
    marked, other = ast.parse(source).body[0].decorator_list
    assert expects_failure(marked)
    assert not expects_failure(other)


@pytest.mark.parametrize(
    "held", ["", "later", "`tests/test_promises.py`", "`tests/a.py::test_a`<br>hm"]
)
def test_a_promise_that_nothing_holds_is_found(held):
    found = rows(f"| promise | held by |\n|---|---|\n| all is well | {held} |\n")
    assert unheld(found) == ["all is well"]
