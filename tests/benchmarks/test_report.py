"""The tables, the JSON and the picture that a run ends with."""

import json

import pytest

from benchmarks.measure import Outcome
from benchmarks.plot import bars, draw
from benchmarks.report import Report
from benchmarks.rows import select


def runs(*figures):
    return Outcome([dict(figure) for figure in figures])


def report(**changes):
    turns = {
        "llmws-fast": runs(*({"first_ms": ms, "whole_ms": ms, "cpu_ms": 0.1} for ms in (1, 2, 3))),
        "llmws-stdlib": runs({"first_ms": 10, "whole_ms": 12.345, "cpu_ms": 0.1}),
        "openai": runs(*[{"first_ms": 10, "whole_ms": 1234.5, "cpu_ms": 1}] * 3),
    }
    fresh = {
        "llmws-fast": runs({"failed": 0, "connected": 9, "kinds": []}),
        "llmws-stdlib": runs({"failed": 0, "connected": 9, "kinds": []}),
        "openai": runs({"failed": 2, "connected": 9, "kinds": ["TimeoutError: late"]}),
    }
    fresh["openai"].failures += ["no", "no"]
    given = {
        "outcomes": {"turns": turns, "fresh": fresh},
        "rows": select(["turn-first", "fresh-tls"]),
        "about": {"Python": "3", "versions": {"llmws": "1", "openai": "2"}},
        "absent": ["requests-sse"],
    }
    return Report(**{**given, **changes})


def test_the_table_says_figures_ratio_promise_and_verdict():
    lines = report().markdown().splitlines()
    assert (
        "| warm turn, to its first event (ms) | 10 | 2 | 0.2× (0.1–0.3) | ≤ 0.15×, 0.1× | MISSED "
        "| 10 | 1× | ≤ 0.2× | MISSED |"
    ) in lines
    assert (
        "| fresh TLS 1.3 connections with tickets, failed (failed) | 2 | 0 |  | ≤ 0 | goal | 0 |  | ≤ 0 | goal |"
    ) in lines


def test_every_client_has_its_medians_and_spreads():
    text = report().markdown()
    assert "| client | to first event ms | to the end ms | CPU ms a turn |" in text
    assert "| llmws[fast], events | 2 (1–3) | 2 (1–3) | 0.1 |" in text
    assert "| llmws, events | 10 | 12.3 | 0.1 |" in text
    assert "| openai, responses.connect() | 10 | 1,234 | 1 |" in text


def test_what_failed_and_what_is_missing_is_said():
    text = report().markdown()
    assert "- requests + sseclient-py + json: not installed." in text
    assert "openai, responses.connect() failed and was run again, 2 times: no" in text
    assert (
        "openai, responses.connect() failed 2 times beside 9 connections: TimeoutError: late"
    ) in text


def test_figures_too_small_to_prove_anything_get_no_verdict():
    text = report(judged=False).markdown()
    assert "MISSED" not in text
    assert "0.2× (0.1–0.3)" in text


def test_a_client_without_figures_is_said_not_to_be_measured():
    text = report(outcomes={"turns": {"llmws-fast": Outcome()}, "fresh": {}}).markdown()
    assert "| not measured |  | ≤ 0.15×, 0.1× |  | not measured |  | ≤ 0.2× |  |" in text


def test_json_holds_every_sample_and_every_verdict():
    data = json.loads(json.dumps(report().data()))
    assert data["rows"]["turn-first"]["llmws[fast]"]["verdict"] == "MISSED"
    assert data["rows"]["turn-first"]["llmws[fast]"]["value"]["median"] == pytest.approx(0.2)
    turns = data["scenarios"]["turns"]["llmws-fast"]
    assert [run["first_ms"] for run in turns["samples"]] == [1, 2, 3]
    assert turns["spreads"]["first_ms"] == {"median": 2, "least": 1, "most": 3}
    assert data["scenarios"]["fresh"]["openai"]["failures"] == ["no", "no"]
    assert data["about"]["versions"] == {"llmws": "1", "openai": "2"}


def test_a_bar_is_longer_the_better_whatever_the_figure():
    fast, stdlib = bars(report())
    assert (fast.times, fast.floor, fast.goal) == pytest.approx((5, 1 / 0.15, 10))
    assert fast.missed
    assert (stdlib.times, stdlib.floor, stdlib.goal) == (1, 5, None)


def test_the_picture_is_the_same_for_the_same_figures(tmp_path):
    pytest.importorskip("matplotlib")
    for name in ("one", "two"):
        draw(report(), tmp_path / name)
    drawn = (tmp_path / "one").read_text()
    assert drawn == (tmp_path / "two").read_text()
    assert "warm turn, to its first event" in drawn
