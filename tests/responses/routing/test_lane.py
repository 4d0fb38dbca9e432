"""The lanes of one socket: which of them a turn gets, and what the server keeps for each."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmws.responses.routing.lane import Lane, LaneSet
from llmws.responses.routing.turn import Turn
from llmws.responses.vocabulary.capabilities import Capabilities
from llmws.timeouts import Timeouts


def lanes(known: bool | None = True, max_active: int = 16, max_lanes: int = 32) -> LaneSet:
    made = LaneSet(Capabilities(lanes=known, max_active=max_active, max_lanes=max_lanes), "owner")
    made.echoed = known is True
    return made


def turn() -> Turn:
    return Turn(payload=b"", timeouts=Timeouts(), started_at=0.0)


def lease(made: LaneSet, parent: Lane | None = None, *, forked: bool = False) -> Lane | None:
    given_to = turn()
    lane = made.choose(given_to, parent, forked=forked)
    if lane is not None:
        made.lease(lane, given_to)
    return lane


def names(made: LaneSet, count: int) -> list[str | None]:
    leased = [lease(made) for _ in range(count)]
    return [lane.name for lane in leased if lane is not None]


def test_the_first_lane_is_the_default_one_and_then_come_names():
    made = lanes()
    assert names(made, 3) == [None, "llmws-1", "llmws-2"]
    assert [lane.name for lane in made] == [None, "llmws-1", "llmws-2"]


@pytest.mark.parametrize(("known", "capacity"), [(True, 16), (False, 1), (None, 1)])
def test_how_many_turns_run_at_once(known, capacity):
    made = lanes(known)
    assert made.capacity == capacity
    assert len(names(made, 20)) == capacity
    assert made.full


def test_limits_that_no_table_gives_are_those_that_are_documented():
    made = lanes(max_active=1, max_lanes=0)
    assert made.capacity == 16
    for _ in range(40):
        lane = lease(made)
        assert lane is not None
        made.vacate(lane)
        lane.keeper = object()
    assert len([*made]) == 33


def test_an_unknown_server_is_asked_on_a_named_lane_each_time():
    made = lanes(None)
    for _ in range(3):
        lane = lease(made)
        assert lane is not None
        assert lane.name == "llmws-1"
        made.vacate(lane)


def test_without_lanes_there_is_one():
    made = lanes(False)
    assert names(made, 2) == [None]
    assert made.addressed(None) is made.default
    assert made.addressed("llmws-1") is None


def test_a_lane_that_is_drained_is_not_free():
    made = lanes()
    made.drain(made.default, turn(), 5.0, unaccepted=False)
    assert not made.default.free
    assert not made.quiet
    assert names(made, 1) == ["llmws-1"]


def test_a_lane_is_asked_for_by_the_turn_that_goes_on_from_it():
    made = lanes()
    home = lease(made)
    assert home is not None
    assert lease(made, home) is None
    made.vacate(home)
    assert lease(made, home) is home
    made.vacate(home)
    home.forks |= {turn()}
    assert lease(made, home) is None


def test_a_fork_gets_another_lane_than_its_source():
    made = lanes()
    assert lease(made, made.default, forked=True) is not made.default


def test_kept_lanes_are_taken_last_the_one_used_longest_ago_first_and_forget():
    made = lanes(max_lanes=2)
    for response_id in "abc":
        lane = lease(made)
        assert lane is not None
        made.keep(lane, response_id, object())
        made.vacate(lane)
    assert made.holder("a") is made.default
    taken = lease(made)
    assert taken is made.default
    assert (taken.cached, taken.keeper) == (None, None)
    assert made.holder("a") is None
    assert made.holder("b") is not None
    assert made.holder(None) is None


def test_where_the_cache_is_one_a_response_replaces_all_others():
    made = lanes()
    first, second = lease(made), lease(made)
    made.keep(first, "a", "keeper")
    made.keep(second, "b", "other")
    made.known = False
    assert made.keep(second, "c", "other") is made.default
    assert [made.holder(name) for name in "abc"] == [None, None, made.default]
    assert (second.cached, second.keeper) == (None, None)


def test_a_lane_of_another_socket_is_not_among_these():
    made = lanes()
    lane = lease(made)
    assert lane in made
    made.reset()
    assert lane not in made
    assert None not in made
    assert "llmws-1" not in made
    assert not made.echoed
    assert names(made, 2) == [None, "llmws-1"]


def test_answers_without_names_go_to_the_request_that_waits_longest():
    made = lanes()
    first, second = lease(made), lease(made)
    assert made.addressed("llmws-1") is second
    made.known = False
    assert made.addressed(None) is first
    made.vacate(first)
    assert made.addressed(None) is second
    made.vacate(second)
    assert made.addressed(None) is made.default


def test_before_an_echo_the_default_lane_is_only_taken_when_nothing_else_runs():
    made = lanes()
    made.echoed = False
    assert names(made, 2) == [None, "llmws-1"]
    made.vacate(made.default)
    assert names(made, 1) == ["llmws-2"]
    assert lease(made, made.default) is None
    made.echoed = True
    assert lease(made, made.default) is made.default


@pytest.mark.parametrize(("known", "others"), [(True, False), (False, True)])
def test_a_late_event_may_be_of_any_lane_if_answers_have_no_names(known, others):
    made = lanes(known)
    lane = made._new()
    lane.suspect = True
    assert made.suspects(lane)
    assert made.suspects(made.default) is others
    made.trust(made.default)
    assert lane.suspect is not others


def test_a_repr_shows_the_state_and_no_turn():
    made = lanes()
    assert repr(made.default) == "<Lane default free cached=None>"
    lease(made)
    made.default.cached = "r"
    assert repr(made.default) == "<Lane default busy cached='r'>"
    made.vacate(made.default)
    made.drain(made.default, turn(), 5.0, unaccepted=False)
    assert repr(made.default) == "<Lane default draining cached=None>"


@given(st.lists(st.integers(0, 40), max_size=60), st.integers(2, 5), st.integers(1, 4))
def test_whatever_is_leased_kept_and_given_back_the_limits_hold(steps, max_active, max_lanes):
    made = lanes(max_active=max_active, max_lanes=max_lanes)
    used: set[str] = set()
    for step in steps:
        busy = [lane for lane in made if lane.turn is not None]
        if step % 3 and busy:
            lane = busy[step % len(busy)]
            made.vacate(lane)
            if step % 2:
                made.keep(lane, f"r{step}", object())
            continue
        leased = lease(made)
        # There is a lane for each turn that may run.
        assert (leased is None) == (len(busy) >= min(max_active, max_lanes + 1))
        assert leased not in busy
        used |= {lane.name for lane in made if lane.name}
        assert len(used) <= max_lanes
