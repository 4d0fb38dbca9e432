"""Medians, spreads, ratios and verdicts."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.figures import Bound, Spread, ratio


POSITIVE = st.floats(0.001, 1e6)


def test_a_spread_is_the_median_and_the_extremes():
    assert Spread.of([5, 1, 4, 2, 9]) == Spread(4, 1, 9)


def test_there_is_no_spread_of_nothing():
    with pytest.raises(ValueError, match="No samples"):
        Spread.of([])


def test_a_ratio_is_that_of_the_medians_and_its_extremes_those_of_the_pairs():
    assert ratio([10, 40, 90], [10, 20, 30]) == Spread(2.0, 1.0, 3.0)


def test_a_run_without_a_partner_counts_in_the_median_alone():
    assert ratio([10, 40, 90], [10, 20]) == Spread(40 / 15, 1.0, 2.0)


@given(st.lists(POSITIVE, min_size=1), POSITIVE)
def test_a_ratio_to_itself_times_a_factor_is_that_factor(samples, factor):
    found = ratio([sample * factor for sample in samples], samples)
    assert found.median == pytest.approx(factor)
    assert found.least == pytest.approx(factor)
    assert found.most == pytest.approx(factor)


@pytest.mark.parametrize(
    ("sense", "value", "verdict"),
    [
        ("at least", 45, "goal"),
        ("at least", 44.9, "floor"),
        ("at least", 30, "floor"),
        ("at least", 29.9, "MISSED"),
        ("at most", 30, "goal"),
        ("at most", 30.1, "floor"),
        ("at most", 45, "floor"),
        ("at most", 45.1, "MISSED"),
    ],
)
def test_a_bound_tells_goal_floor_and_neither(sense, value, verdict):
    floor, goal = (30, 45) if sense == "at least" else (45, 30)
    assert Bound(sense, floor, goal).verdict(value) == verdict


def test_without_a_goal_the_floor_is_the_goal():
    assert Bound("at most", 0.5).verdict(0.5) == "goal"
    assert Bound("at most", 0.5).verdict(0.51) == "MISSED"
