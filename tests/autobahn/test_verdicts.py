"""What is read out of Autobahn's reports, without Autobahn: nothing that it holds against us is passed over."""

from __future__ import annotations

import json

import attrs
import pytest

from tests.autobahn.suite import Unavailable, find_python
from tests.autobahn.verdicts import Finding, faults, read_reports, table


GOOD = Finding("2.5", "OK", "OK", 1002, (1002,))
LATE = Finding("6.4.3", "NON-STRICT", "OK", 1007, (1007,))


def judge(*findings, played=None):
    return faults(findings, [finding.name for finding in findings] if played is None else played)


def test_what_is_as_it_must_be_is_no_fault():
    info = Finding("2.5", "INFORMATIONAL", "INFORMATIONAL", None)
    assert judge(GOOD, LATE) == []
    assert judge(info) == []


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"behaviour": "FAILED"}, "FAILED"),
        ({"behaviour": "UNIMPLEMENTED"}, "UNIMPLEMENTED"),
        ({"behaviour": "NON-STRICT"}, "NON-STRICT"),
        ({"close": "WRONG CODE", "code": 1000}, "WRONG CODE (code 1000)"),
        ({"close": "UNCLEAN"}, "UNCLEAN"),
        ({"close": "FAILED BY CLIENT"}, "FAILED BY CLIENT"),
        # Autobahn lets it pass.
        ({"code": None}, "NO CODE (code None)"),
        ({"code": 1000}, "NO CODE (code 1000)"),
    ],
)
def test_anything_else_is_a_fault_that_names_its_case(change, word):
    (fault,) = judge(attrs.evolve(GOOD, **change), LATE)
    assert fault.startswith("case 2.5: ")
    assert word in fault


def test_a_close_frame_without_a_code_may_be_answered_by_such_a_one():
    bare = Finding("7.3.1", "OK", "OK", None, (1000,))
    assert judge(bare) == []


def test_what_may_be_non_strict_may_not_fail():
    assert len(judge(attrs.evolve(LATE, behaviour="FAILED"))) == 1


def test_cases_that_are_missing_on_either_side_are_a_fault():
    assert judge() == ["0 cases were played, and 0 reported"]
    assert judge(GOOD, played=["2.5", "3.2", "6.4.3"]) == ["3 cases were played, and 1 reported"]
    assert judge(GOOD, LATE, played=["2.5"]) == ["1 cases were played, and 2 reported"]


def test_reports_are_read_as_autobahn_writes_them(tmp_path):
    report = {
        "behavior": "OK",
        "behaviorClose": "WRONG CODE",
        "remoteCloseCode": 1000,
        "expectedClose": {"closedByMe": False, "closeCode": [1002, 1007], "requireClean": False},
        "result": "Fine.",
        "resultClose": "But for the code.",
    }
    index = {"llmws": {name: {"reportfile": f"{name}.json"} for name in ("10.1.1", "2.10", "2.9")}}
    (tmp_path / "index.json").write_text(json.dumps(index))
    for name in index["llmws"]:
        (tmp_path / f"{name}.json").write_text(json.dumps(report))
    found = read_reports(tmp_path, "llmws")
    assert [finding.name for finding in found] == ["2.9", "2.10", "10.1.1"]
    words = "Fine. But for the code."
    assert found[0] == Finding("2.9", "OK", "WRONG CODE", 1000, (1002, 1007), words)
    assert read_reports(tmp_path, "somebody else") == []


def test_the_table_counts_every_case_once():
    unknown = attrs.evolve(GOOD, name="2.6", behaviour="UNIMPLEMENTED", code=None)
    lines = [line.split() for line in table([GOOD, unknown, LATE]).splitlines()]
    assert lines[1:] == [
        ["2", "1", "0", "0", "1", "1", "1"],
        ["6", "0", "1", "0", "0", "1", "0"],
        ["all", "1", "1", "0", "1", "2", "1"],
    ]
    assert lines[0][:5] == ["section", "ok", "non-strict", "informational", "failed"]
    assert lines[0][5:] == ["close", "OK", "close", "NO", "CODE"]


def script(path, words):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{words}\n")
    path.chmod(0o755)


def test_a_python_is_found_by_running_it(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.setenv("PYENV_ROOT", str(tmp_path / "pyenv"))
    with pytest.raises(Unavailable, match=r"no Python 2\.7"):
        find_python()
    # A shim for a version that is not there, and another version under the name.
    script(tmp_path / "bin/python2.7", "echo 'command not found'; exit 127")
    script(tmp_path / "bin/python2", "echo '(3, 11)'")
    with pytest.raises(Unavailable):
        find_python()
    good = tmp_path / "pyenv/versions/2.7.18/bin/python"
    script(good, "echo '(2, 7)'")
    assert find_python() == str(good)
