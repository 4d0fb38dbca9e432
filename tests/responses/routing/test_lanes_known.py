"""Whether a server has lanes, and what the pool asks of a router and is told."""

from __future__ import annotations

import pytest

from llmws.errors import APIError, RemoteProtocolError, StreamCancelledError
from llmws.responses.routing.reports import (
    Aged,
    Astray,
    GiveBack,
    Idle,
    Learn,
    Learned,
    Released,
    Retire,
    Retired,
    Returned,
    TryAgain,
)
from llmws.responses.routing.turn import Submit
from llmws.responses.sending.continuation import Anchor
from llmws.wire.steps import Drop, Finished, Lost, Opened, Started, Tick, Want, Withdraw
from tests.responses.lanework import (
    LIMIT,
    Lanework,
    completed,
    created,
    delta,
    error,
    event,
    failure,
    types,
)
from tests.responses.manylanes import Chat, accept, begin, cancel, lanes, on, requests, running


@pytest.fixture
def work() -> Lanework:
    return lanes()


# Does the server have lanes at all?


def test_of_an_unknown_server_the_first_turn_asks_with_a_name():
    work = lanes(None)
    first, second = work.turn(), work.turn(b'{"n":2}')
    assert begin(work, first)[0] == "llmws-1"
    assert work.step(Submit(second)) == []


def test_an_echo_lets_the_others_begin_at_once():
    work = lanes(None)
    begin(work, work.turn())
    for number in range(3):
        work.step(Submit(work.turn(b'{"n":%d}' % number)))
    wanted = work.say(*on("llmws-1", created()))
    assert work.reported(Learned) == [Learned(True)]
    assert [request["n"] for _, request in requests(wanted)] == [0, 1, 2]
    assert len({lane for lane, _ in requests(wanted)}) == 3


@pytest.mark.parametrize("first", [[created()], [event("codex.rate_limits"), created()], [delta()]])
def test_an_answer_without_a_name_shows_a_server_without_lanes(first):
    work = lanes(None)
    turn, following = work.turn(), work.turn(b'{"n":2}')
    begin(work, turn)
    work.step(Submit(following))
    work.say(*first, delta())
    assert work.reported(Learned) == [Learned(False)]
    assert types(turn)[-1] == "response.output_text.delta"
    assert requests(work.say(completed())) == [(None, {"n": 2})]
    assert turn.inbox.error is None


def test_an_error_without_a_name_ends_the_first_turn_of_an_unknown_server():
    work = lanes(None)
    turn = work.turn()
    begin(work, turn)
    work.say(error())
    assert type(failure(turn)) is APIError
    assert work.reported(Learned) == [Learned(False)]


def test_a_late_end_of_a_refused_turn_is_no_second_tries_though_the_lanes_that_were_promised_are_not_there(
    work,
):
    running(work, 1)
    turn = work.turn(b'{"n":1}')
    assert begin(work, turn)[0] == "llmws-1"
    work.say(created("0"), completed("0"))
    assert requests(work.say(error("server_error"))) == [(None, {"n": 1})]
    work.written(turn)
    work.say(completed("1", "failed"))
    assert not turn.ended
    work.say(created("2"), completed("2"))
    assert turn.response_id == "2"


def test_a_late_end_of_a_refused_turn_is_none_of_those_that_ran_beside_it(work):
    turns = running(work, 4)
    work.say(created("0"), completed("0"), created("1"), completed("1"))
    assert work.reported(Learned) == [Learned(False)]
    work.say(error())
    work.say(completed("2", "failed"))
    assert [turn.ended for turn in turns.values()] == [True, True, True, False]


def test_the_end_of_the_connection_teaches_nothing_of_lanes():
    work = lanes(None)
    begin(work, work.turn())
    work.say(LIMIT)
    assert work.reported(Learned) == []
    assert work.reported(Retired) == [Retired(True)]


def test_a_cancelled_first_turn_teaches_too():
    work = lanes(None)
    turn = work.turn()
    begin(work, turn)
    following = work.turn(b'{"n":2}')
    work.step(Submit(following))
    work.step(cancel(turn))
    assert work.say(created()) == []
    assert work.reported(Learned) == [Learned(False)]
    assert requests(work.say(completed())) == [(None, {"n": 2})]


def test_an_unknown_server_without_lanes_keeps_one_response():
    work = lanes(None)
    one, two = Chat(work), Chat(work)
    turn = one.turn("one")
    begin(work, turn)
    work.say(created("r1"), completed("r1"))
    one.settle(turn)
    assert begin(work, one.turn("two"))[1]["previous_response_id"] == "r1"
    work.say(created("r2"), completed("r2"))
    begin(work, two.turn("other"))
    work.say(created("r3"), completed("r3"))
    one.anchors = (Anchor("r2", 1, False, one.anchors[0].home),)
    turn = one.turn("three")
    assert "previous_response_id" not in begin(work, turn)[1]


def test_what_another_connection_learned_is_taken_over():
    work = lanes(None)
    begin(work, work.turn())
    work.step(Submit(work.turn(b'{"n":2}')))
    assert len(requests(work.step(Learn(True)))) == 1
    assert work.reported(Learned) == []
    work.step(Learn(False))  # It knows already.
    assert work.step(Submit(work.turn(b'{"n":3}'))) != []


def test_a_server_said_to_have_lanes_that_has_none_but_answers_in_turn_is_understood(work):
    turns = running(work, 3)
    for number, turn in enumerate(turns.values()):
        work.say(created(f"r{number}"), delta(f"{number}"), completed(f"r{number}"))
        assert turn.inbox.error is None
        assert turn.final.response["id"] == f"r{number}"
    assert work.reported(Learned) == [Learned(False)]
    assert begin(work, work.turn())[0] is None
    assert work.step(Submit(work.turn())) == []


def test_before_the_first_echo_the_default_lane_is_not_taken_beside_a_named_one(work):
    chat = Chat(work)
    chat.answered("one")
    other = work.turn()
    assert begin(work, other)[0] == "llmws-1"
    turn = chat.turn("two")
    # If the server has no lanes, the next answer without one is the other's.
    assert work.step(Submit(turn)) == []
    assert requests(work.say(*on("llmws-1", created("x")))) != []


@pytest.mark.parametrize("batches", [1, 2])
def test_answers_that_are_mixed_without_names_are_given_to_nobody(work, batches):
    turns = running(work, 2)
    queued = work.turn(b'{"n":1}')
    work.step(Submit(queued))
    first, second = [created("a"), delta("a")], [created("b"), delta("b")]
    if batches == 1:
        wanted = work.say(*first, *second)
    else:
        work.say(*first)
        wanted = work.say(*second)
    assert wanted[-3:] == [Withdraw(queued), Drop(), Want(15.0)]
    for turn in turns.values():
        caught = failure(turn)
        assert type(caught) is RemoteProtocolError
        assert "pass lanes=False" in str(caught)
    assert [failure(turn).state for turn in turns.values()] == ["output", "sent"]
    assert failure(turns[None]).response_id == "a"
    assert failure(turns["llmws-1"]).response_id is None
    assert types(turns[None]) == ["response.created", "response.output_text.delta"]
    # Of this one the server has nothing.
    assert requests(work.step(Opened())) == [(None, {"n": 1})]
    assert work.reported(Learned) == [Learned(False)]


def test_a_server_that_has_shown_its_lanes_may_say_created_twice(work):
    turns = running(work, 2)
    accept(work, turns)
    work.say(created("again"), completed("again"))
    assert turns[None].inbox.error is None


# What the pool asks, and is told.


def test_a_connection_that_is_retired_begins_nothing_and_says_when_it_is_done(work):
    turns = running(work, 1)
    accept(work, turns)
    waiting = Chat(work).turn("one")
    work.step(Retire())
    work.step(Submit(waiting))
    assert work.reported(Returned) == [Returned(waiting)]
    assert work.reported(Idle) == []
    work.say(completed())
    assert work.reported(Idle) == [Idle()]


def test_a_retired_connection_without_turns_is_done_at_once(work):
    work.step(Retire())
    assert work.reported(Idle) == [Idle()]


def test_a_retired_connection_drains_before_it_is_done(work):
    turns = running(work, 1)
    accept(work, turns)
    work.step(Retire())
    work.step(cancel(turns[None]))
    assert work.reported(Idle) == []
    work.say(completed())
    assert work.reported(Idle) == [Idle()]


def test_turns_that_wait_are_given_back_one_for_each_wish(work):
    running(work, 16)
    waiting = [work.submit() for _ in range(3)]
    work.step(GiveBack())
    work.step(GiveBack())
    assert work.reported(Returned) == [Returned(turn) for turn in waiting[:2]]


def test_a_conversation_that_waits_for_its_lane_is_not_given_back(work):
    chat = Chat(work)
    chat.answered("one")
    first, second = chat.turn("two"), chat.turn("three")
    begin(work, first)
    work.step(Submit(second))
    work.step(GiveBack())
    assert work.reported(Returned) == []


def test_a_wish_that_comes_too_late_is_forgotten(work):
    work.step(GiveBack())
    running(work, 16)
    work.submit()
    assert work.reported(Returned) == []


def test_a_turn_that_waits_out_a_pause_is_not_given_back():
    work = Lanework().opened()
    turn = work.sent()
    work.say(error("slow_down", headers={"retry-after": "5"}))
    work.step(GiveBack())
    assert work.reported(Returned) == []
    assert not turn.ended


def test_a_turn_that_comes_from_another_connection_is_not_counted_again(work):
    turn = work.turn()
    work.step(Submit(turn, moved=True))
    assert work.lanes.counters.turns == 0


def test_a_turn_that_was_cancelled_on_its_way_ends_where_it_arrives(work):
    turn = work.turn()
    turn.cancelled = cancel(turn)
    assert requests(work.step(Submit(turn, moved=True))) == []
    assert type(failure(turn)) is StreamCancelledError


def test_a_cancel_for_a_turn_that_is_not_here_is_passed_on(work):
    given = cancel(work.turn())
    assert work.step(given) == []
    assert work.reported(Astray) == [Astray(given)]


def test_a_socket_near_its_end_is_reported_once():
    work = lanes(max_age=100.0)
    turns = running(work, 1)
    accept(work, turns)
    assert work.lanes.deadline == work.now + 100.0
    work.step(Tick(), after=99.9)
    assert work.reported(Aged) == []
    work.step(Tick(), after=0.1)
    assert work.reported(Aged) == [Aged()]
    assert work.lanes.deadline is None
    work.step(TryAgain())
    work.wait()
    assert work.reported(Aged) == [Aged()]
    assert not turns[None].ended


def test_each_socket_has_an_age_of_its_own():
    work = lanes(max_age=100.0)
    work.now += 90.0
    work.step(Lost(1006, ""))
    assert work.lanes.deadline is None
    work.step(Opened())
    assert work.lanes.deadline == work.now + 100.0


def test_a_connection_without_a_turn_is_reported_as_idle():
    work = lanes(idle_seconds=50.0)
    running(work, 1)
    assert work.lanes.deadline is None
    work.say(created(), completed(), after=10.0)
    assert work.lanes.deadline == work.now + 50.0
    work.step(Tick(), after=49.9)
    assert work.reported(Idle) == []
    work.step(Tick(), after=0.1)
    assert work.reported(Idle) == [Idle()]


def test_a_turn_ends_the_idleness():
    work = lanes(idle_seconds=50.0)
    running(work, 1)
    work.say(created(), completed())
    running(work, 1)
    work.step(Tick(), after=60.0)
    assert work.reported(Idle) == []


def test_an_idle_connection_that_is_not_let_go_says_so_again():
    work = lanes(idle_seconds=50.0)
    running(work, 1)
    work.say(created(), completed())
    for _ in range(3):
        work.wait()
        assert work.reported(Idle) == [Idle()]


def test_every_turn_is_released_once(work):
    turns = running(work, 3)
    accept(work, turns)
    work.say(completed())
    work.step(cancel(turns["llmws-1"]))
    work.step(Lost(1006, ""))
    released = [report.turn for report in work.reported(Released)]
    assert sorted(released, key=id) == sorted(turns.values(), key=id)


def test_started_and_finished_of_another_thing_are_no_turns(work):
    class Other:
        """What else may be written."""

    assert work.step(Started(Other())) == []
    assert work.step(Finished(Other())) == []
