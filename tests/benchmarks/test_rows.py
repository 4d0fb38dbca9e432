"""The promises, and how samples become verdicts on them."""

import pytest

from benchmarks.clients import CLIENTS
from benchmarks.figures import Bound
from benchmarks.measure import Outcome
from benchmarks.rows import ROWS, Contest, Row, clients_of, judge, select
from benchmarks.scenarios import SCENARIOS, shortened


# The design's table, written down a second time: floor and goal with msgspec, then without.
PROMISED = {
    "burst-events": (">=", 30, 45, 15, 22),
    "burst-chunks": (">=", 22, 32, 12, 16),
    "burst-tls": (">=", 25, 38, 14, 20),
    "burst-cpu": ("<=", 2.5, 2, 2, 1.4),
    "paced-p50": ("<=", 0.25, 0.16, 0.25, 0.16),
    "paced-p99": ("<=", 0.7, 0.5, 0.7, 0.5),
    "turn-first": ("<=", 0.15, 0.1, 0.2, None),
    "turn-cpu": ("<=", 0.05, 0.03, 0.06, None),
    "large-time": ("<=", 0.7, None, 0.9, None),
    "large-growth": ("<=", 4.5, None, 5.5, None),
    "upload": ("<=", 0.8, None, 1, None),
    "import": ("<=", 0.25, 0.2, 0.25, 0.2),
    "cold-time": ("<=", 0.2, 0.12, 0.2, 0.12),
    "cold-memory": ("<=", 0.4, 0.33, 0.4, 0.33),
    "idle-memory": ("<=", 0.5, None, 0.5, None),
    "idle-threads": ("<=", 0.5, None, 0.5, None),
    "fresh-tls": ("<=", 0, None, 0, None),
}
SIGNS = {"at least": ">=", "at most": "<="}
ROW = Row(
    "row",
    "a row",
    "turns",
    "ms",
    "ms",
    (
        Contest("llmws-fast", "openai", Bound("at most", 0.5, 0.2)),
        Contest("llmws-stdlib", "openai", None),
    ),
)


def outcome(*samples):
    return Outcome([{"ms": sample} for sample in samples])


def test_every_row_holds_what_the_design_promises():
    found = {}
    for row in ROWS:
        if row.contests[0].bound is not None:
            fast, stdlib = (contest.bound for contest in row.contests)
            assert fast.sense == stdlib.sense
            found[row.key] = (SIGNS[fast.sense], fast.floor, fast.goal, stdlib.floor, stdlib.goal)
    assert found == PROMISED


def test_a_goal_asks_for_more_than_its_floor():
    for bound in (contest.bound for row in ROWS for contest in row.contests):
        if bound is not None and bound.goal is not None:
            assert bound.verdict(bound.floor) == "floor"


def test_both_clients_of_a_row_run_in_its_scenario():
    for name, clients in clients_of(ROWS).items():
        assert clients <= set(SCENARIOS[name].clients)


def test_each_side_of_a_row_is_the_llmws_that_it_says():
    for row in ROWS:
        fast, stdlib = (CLIENTS[contest.client] for contest in row.contests)
        assert fast.without == ()
        assert stdlib.without == ("msgspec",)
        assert "msgspec" in fast.needs
        assert "msgspec" not in stdlib.needs


def test_a_ratio_is_judged():
    found = judge(
        ROW, ROW.contests[0], {"llmws-fast": outcome(3, 1, 2), "openai": outcome(5, 5, 5)}
    )
    assert found.value.median == 0.4
    assert found.verdict == "floor"
    assert (found.own.median, found.other.median) == (2, 5)


def test_what_is_not_promised_is_shown_without_a_verdict():
    found = judge(ROW, ROW.contests[1], {"llmws-stdlib": outcome(5), "openai": outcome(10)})
    assert found.value.median == 0.5
    assert found.verdict is None


@pytest.mark.parametrize(
    "outcomes", [{}, {"openai": outcome(1)}, {"llmws-fast": outcome(1)}, {"llmws-fast": outcome()}]
)
def test_without_figures_of_both_there_is_no_result(outcomes):
    assert judge(ROW, ROW.contests[0], outcomes) is None


def test_failures_are_judged_by_their_sum_over_all_runs_and_need_no_peer():
    row = next(row for row in ROWS if row.key == "fresh-tls")
    runs = [{"failed": 0}] * 4 + [{"failed": 1}]
    found = judge(row, row.contests[0], {"llmws-fast": Outcome(runs)})
    assert found.value.median == 1
    assert found.verdict == "MISSED"


def test_rows_are_chosen_by_how_their_names_begin():
    assert [row.key for row in select(["burst"])] == [key for key in PROMISED if "burst" in key]
    assert [row.key for row in select(["cold-time", "imp"])] == ["import", "cold-time"]
    assert select([]) == list(ROWS)
    with pytest.raises(ValueError, match="'nothing' begins no row"):
        select(["burst", "nothing"])


def test_a_quick_look_shows_every_row_and_every_client():
    needed = clients_of(ROWS)
    short = shortened(SCENARIOS, needed)
    assert {client for scenario in short.values() for client in scenario.clients} == set(CLIENTS)
    for name, scenario in short.items():
        assert needed[name] <= set(scenario.clients)
    count = sum(len(scenario.clients) for scenario in short.values())
    assert count < sum(len(scenario.clients) for scenario in SCENARIOS.values())
