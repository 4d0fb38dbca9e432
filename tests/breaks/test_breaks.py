"""The table of deliberate breaks: it fits the source, and the command notices what it makes."""

from __future__ import annotations

import ast

import pytest

from tests.breaks import __main__ as command
from tests.breaks.copies import ROOT, BreakError, broken, whole
from tests.breaks.table import BREAKS, Break


NAMES = [each.name for each in BREAKS]
QUICK = Break(
    "let the session's limits win over a turn's",
    "timeouts.py",
    "            return changes\n",
    "            return self\n",
    ("test_timeouts.py",),
)


def test_there_are_enough_and_each_has_its_own_name() -> None:
    assert len(BREAKS) >= 24
    assert len({*NAMES}) == len(NAMES)


@pytest.mark.parametrize("each", BREAKS, ids=NAMES)
def test_each_break_can_be_made_and_is_python(each: Break) -> None:
    text = broken(whole(each.path), each)
    assert text != whole(each.path)
    ast.parse(text)
    for name in each.tests:
        path, _, test = name.partition("::")
        assert f"def {test}" in (ROOT / "tests" / path).read_text("utf-8")


def test_a_break_that_no_longer_fits_says_so() -> None:
    gone = Break("gone", "version.py", "no such text", "", ())
    with pytest.raises(BreakError, match="gone: its old text is found 0 times"):
        broken(whole("version.py"), gone)


@pytest.mark.parametrize(
    ("codes", "exit_code", "words"),
    [
        ([0, 0], 1, "SURVIVED: let the session's limits"),
        ([0, -1], 0, "noticed: hung"),
        ([1], 2, "the tests fail without a break"),
        ([0, 2], 2, "the tests could not be run (exit code 2)"),
    ],
)
def test_the_command_tells_what_came_of_a_break(
    monkeypatch, capsys, tmp_path, codes, exit_code, words
) -> None:
    def pretend(tree: object, tests: tuple[str, ...]) -> tuple[int, str]:
        return codes.pop(0), "its output"

    (tmp_path / "llmws").mkdir()
    (tmp_path / "llmws" / "timeouts.py").write_text(QUICK.old)
    monkeypatch.setattr(command, "BREAKS", (QUICK,))
    monkeypatch.setattr(command, "run_tests", pretend)
    monkeypatch.setattr(command, "snapshot", lambda folder: tmp_path)
    assert command.main([]) == exit_code
    assert words in capsys.readouterr().out


def test_a_name_that_no_break_has_is_refused(capsys) -> None:
    with pytest.raises(SystemExit):
        command.main(["no such break"])
    assert "no break has no such break in its name" in capsys.readouterr().err
