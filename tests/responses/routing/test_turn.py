"""The state of one turn: values and arithmetic."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmws.errors import (
    FirstEventTimeout,
    IdleTimeout,
    LaneTimeout,
    SessionClosedError,
    StreamCancelledError,
    TotalTimeout,
)
from llmws.responses.routing.turn import Cancel, Submit, Turn, TurnState
from llmws.responses.sending.steering import Steer, Steering
from llmws.timeouts import Timeouts


LIMITS = Timeouts(first_event=3.0, idle=4.0, total=50.0, lane_wait=2.0)


def turn(state=TurnState.QUEUED, timeouts=LIMITS, **fields):
    made = Turn(payload=b"{}", timeouts=timeouts, started_at=100.0)
    made.state = state
    for name, value in fields.items():
        setattr(made, name, value)
    return made


def test_a_new_turn_waits_since_it_was_asked_for():
    fresh = turn()
    assert (fresh.state, fresh.queued_at, fresh.deadline) == (TurnState.QUEUED, 100.0, 102.0)
    assert not fresh.ended
    assert repr(fresh) == "<Turn queued response_id=None events=0>"


def test_states_are_their_names():
    assert [str(state) for state in TurnState] == ["queued", "sent", "accepted", "output", "ended"]
    assert TurnState.SENT == "sent"


@pytest.mark.parametrize(
    ("made", "due", "error"),
    [
        (turn(), 102.0, LaneTimeout),
        (turn(TurnState.SENT), 150.0, TotalTimeout),
        (turn(TurnState.SENT, written_at=105.0), 108.0, FirstEventTimeout),
        (turn(TurnState.SENT, written_at=105.0, last_event_at=106.0), 110.0, IdleTimeout),
        (turn(TurnState.OUTPUT, written_at=105.0, last_event_at=106.0), 110.0, IdleTimeout),
        (turn(TurnState.OUTPUT, written_at=105.0, last_event_at=148.0), 150.0, TotalTimeout),
        (turn(TurnState.OUTPUT, last_event_at=106.0), 110.0, IdleTimeout),
        (turn(timeouts=Timeouts(lane_wait=9.0, total=5.0)), 105.0, TotalTimeout),
    ],
)
def test_each_phase_has_its_limit_and_its_error(made, due, error):
    assert made.deadline == due
    assert made.overdue(due - 0.01) is None
    caught = made.overdue(due)
    assert type(caught) is error
    assert isinstance(caught, TimeoutError)
    assert caught.state == made.state.value
    assert caught.may_have_been_billed is (made.state is not TurnState.QUEUED)
    # However late it is seen, it is the limit that passed first.
    assert type(made.overdue(due + 1000.0)) is error


def test_an_error_says_how_long_the_limit_was():
    assert str(turn().overdue(200.0)) == "The request could not begin to be written within 2 s."


def test_a_turn_without_limits_has_no_deadline():
    none = Timeouts(connect=None, first_event=None, idle=None, total=None, lane_wait=None)
    for state in (TurnState.QUEUED, TurnState.SENT, TurnState.OUTPUT):
        free = turn(state, none, written_at=1.0, last_event_at=2.0)
        assert free.deadline is None
        assert free.overdue(10**9) is None


def test_facts_are_those_that_every_error_carries():
    assert turn().facts() == {
        "response_id": None,
        "state": "queued",
        "may_have_been_billed": False,
    }
    accepted = turn(TurnState.ACCEPTED, response_id="r")
    assert accepted.facts() == {
        "response_id": "r",
        "state": "accepted",
        "may_have_been_billed": True,
    }


def test_a_replay_begins_the_wait_anew():
    again = turn(TurnState.SENT, written_at=105.0, last_event_at=106.0)
    again.requeue(110.0)
    assert (again.state, again.queued_at, again.not_before) == (TurnState.QUEUED, 110.0, 110.0)
    assert (again.written_at, again.last_event_at, again.started_at) == (None, None, 100.0)
    assert again.deadline == 112.0


@given(st.lists(st.integers(0, 20), max_size=20))
def test_sequence_numbers_are_counted_as_missing_or_repeated(numbers):
    counted, expected, missing, repeated = turn(), None, 0, 0
    for number in numbers:
        gap = counted.number(number)
        if expected is None or number >= expected:
            missing += 0 if expected is None else number - expected
            assert gap == (0 if expected is None else number - expected)
            expected = number + 1
        else:
            repeated += 1
            assert gap == number - expected
        assert counted.next_number == expected
    assert (counted.missing_events, counted.repeated_events) == (missing, repeated)


def test_a_refused_submit_ends_its_turn():
    late = turn()
    Submit(late).refuse()
    assert type(late.inbox.error) is SessionClosedError


def test_a_refused_cancel_ends_its_turn_as_cancelled():
    late = turn(TurnState.SENT)
    Cancel(late, "why").refuse()
    assert type(late.inbox.error) is StreamCancelledError
    assert (str(late.inbox.error), late.inbox.error.state) == ("why", "sent")


def test_refusing_does_not_change_an_end():
    done = turn()
    done.inbox.end()
    Submit(done).refuse()
    Cancel(done, "why").refuse()
    assert done.inbox.error is None


@pytest.mark.parametrize("posted", [Submit, lambda turn: Cancel(turn, "Enough.")])
def test_what_is_turned_away_gives_back_the_steers_that_wait(posted):
    steer = Steer("Shorter.")
    steered = turn(steering=Steering(waiting=[steer]))
    posted(steered).refuse()
    assert steered.ended
    assert (steer.done, steer.state) == (True, "failed")
