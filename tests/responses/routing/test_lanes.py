"""The router, driven by ``step(now, given)`` alone: what holds of every turn, on a connection without lanes."""

from __future__ import annotations

import logging
import weakref

import pytest

from llmws.errors import (
    APIError,
    ConnectError,
    ConnectionLimitError,
    ConnectTimeout,
    FirstEventTimeout,
    IdleTimeout,
    InboxOverflowError,
    LaneTimeout,
    PreviousResponseNotFoundError,
    RateLimitError,
    RemoteProtocolError,
    SessionClosedError,
    StreamCancelledError,
    StreamInterruptedError,
    TotalTimeout,
)
from llmws.responses.routing.reports import Idle, Released, Retire, Retired, Returned
from llmws.responses.routing.turn import Cancel, Notice, Submit, TurnState
from llmws.timeouts import Timeouts
from llmws.wire.inbox import Inbox
from llmws.wire.ports import Crashed
from llmws.wire.steps import (
    Drop,
    Finished,
    GaveUp,
    Lost,
    Opened,
    Repay,
    Retrying,
    Send,
    Started,
    Stop,
    Tick,
    Unwant,
    Useful,
    Want,
    Withdraw,
)
from tests.responses.lanework import (
    FOREVER,
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


# Inputs that nest to the limit.
pytestmark = pytest.mark.usefixtures("no_finalizers")


@pytest.fixture
def work() -> Lanework:
    return Lanework().opened()


def cancel(turn, hard=False):
    return Cancel(turn, "The turn was cancelled.", hard)


# One turn.


def test_a_turn_is_sent_and_ends_with_its_terminal_event(work):
    turn = work.turn(b"create")
    assert work.step(Submit(turn)) == [Send(turn, b"create")]
    assert turn.state is TurnState.QUEUED
    work.written(turn)
    assert turn.state is TurnState.SENT
    assert work.say(created("r1")) == [Useful()]
    assert (turn.state, turn.response_id) == (TurnState.ACCEPTED, "r1")
    work.say(delta())
    assert turn.state is TurnState.OUTPUT
    assert work.say(delta(), completed("r1")) == [Useful()]
    assert turn.ended
    assert turn.inbox.error is None
    assert turn.final.response["id"] == "r1"
    assert types(turn) == [
        "response.created",
        "response.output_text.delta",
        "response.output_text.delta",
        "response.completed",
    ]


@pytest.mark.parametrize("status", ["completed", "incomplete", "failed"])
def test_every_terminal_event_is_a_result(work, status):
    turn = work.sent()
    work.say(created(), completed(status=status))
    assert turn.inbox.error is None
    assert turn.final.type == f"response.{status}"


def test_without_a_socket_a_turn_asks_for_one_with_its_own_limit():
    work = Lanework()
    turn = work.turn(timeouts=Timeouts(connect=3.0))
    assert work.step(Submit(turn)) == [Want(3.0, fresh=True)]
    assert work.step(Opened()) == [Send(turn, b"{}")]


def test_turns_take_the_lane_in_order_one_at_a_time(work):
    one, two, three = work.sent(), work.submit(b"2"), work.submit(b"3")
    assert work.say(created("1")) == [Useful()]
    assert work.say(completed("1")) == [Useful(), Send(two, b"2")]
    work.written(two)
    assert work.say(created("2"), completed("2"))[-1] == Send(three, b"3")
    assert (one.ended, two.ended, three.ended) == (True, True, False)
    assert two.response_id == "2"


def test_events_behind_a_terminal_one_are_not_the_next_turns(work):
    one, two = work.sent(), work.submit()
    work.say(created("1"), completed("1"), delta("stray"), created("stray"))
    work.written(two)
    work.say(created("2"), completed("2"))
    assert types(one) == types(two) == ["response.created", "response.completed"]
    assert two.response_id == "2"
    assert work.lanes.counters.dropped_events == 2


def test_an_event_of_another_lane_is_nobodys(work):
    turn = work.sent()
    work.say(created(), {**delta(), "stream_id": "lane"}, {**completed(), "stream_id": "lane"})
    assert not turn.ended
    assert types(turn) == ["response.created"]
    assert work.lanes.counters.dropped_events == 2


def test_an_unknown_event_before_the_creation_is_delivered_and_says_nothing(work):
    turn = work.sent()
    assert work.say(event("codex.rate_limits")) == []
    assert turn.state is TurnState.SENT
    work.say(created())
    assert types(turn) == ["codex.rate_limits", "response.created"]


def test_a_message_that_no_turn_waits_for_is_dropped(work):
    assert work.say(delta(), b"no JSON", b"[]", LIMIT) == [Drop()]
    assert work.lanes.counters.dropped_events == 4


@pytest.mark.parametrize("message", [b"no JSON", b"[1]", b"\xff", b"[" * 100_000])
def test_a_message_that_is_no_event_ends_its_turn(work, message):
    turn = work.sent()
    work.say(created("r"), message)
    caught = failure(turn)
    assert isinstance(caught, RemoteProtocolError)
    assert caught.raw == message[:512]
    assert (caught.response_id, caught.state, caught.may_have_been_billed) == (
        "r",
        "accepted",
        True,
    )


def test_usage_is_summed_failed_and_incomplete_turns_too(work):
    usage = {"input_tokens": 3, "output_tokens": 4, "total_tokens": 7}
    for status in ("completed", "failed", "incomplete"):
        work.sent()
        work.say(created(), completed(status=status, usage=usage))
    work.sent(warm_up=True)
    work.say(created(), completed(usage=usage))
    counters = work.lanes.counters
    assert (counters.usage.total_tokens, counters.usage.input_tokens) == (21, 9)
    assert counters.warm_up_usage.total_tokens == 7
    assert (counters.turns, counters.warm_ups) == (3, 1)


# Errors of the API.


@pytest.mark.parametrize(
    ("code", "kind"),
    [("invalid_prompt", APIError), ("previous_response_not_found", PreviousResponseNotFoundError)],
)
def test_an_error_before_the_creation_ends_the_turn_unbilled(work, code, kind):
    turn, following = work.sent(), work.submit(b"2")
    assert work.say(error(code)) == [Send(following, b"2")]
    caught = failure(turn)
    assert type(caught) is kind
    assert (caught.code, caught.state, caught.may_have_been_billed) == (code, "sent", False)
    assert types(turn) == ["error"]
    assert work.lanes.counters.retries == 0


def test_an_error_after_the_creation_waits_for_the_terminal_event(work):
    turn = work.sent()
    work.say(created(), error())
    assert not turn.ended
    work.say(completed(status="failed"), after=0.9)
    assert turn.inbox.error is None
    assert types(turn) == ["response.created", "error", "response.failed"]


def test_an_error_whose_terminal_event_does_not_come_ends_the_turn_after_a_second(work):
    turn, following = work.sent(), work.submit(b"2")
    work.say(created("r"), delta(), error())
    assert work.step(Tick(), after=0.99) == []
    assert not turn.ended
    assert work.lanes.deadline == pytest.approx(work.now + 0.01)
    assert work.wait() == [Send(following, b"2")]
    caught = failure(turn)
    assert type(caught) is APIError
    assert (caught.response_id, caught.state, caught.may_have_been_billed) == ("r", "output", True)


def test_further_errors_do_not_prolong_the_second(work):
    turn = work.sent()
    work.say(created(), error())
    work.say(error(), after=0.9)
    work.step(Tick(), after=0.1)
    assert turn.ended


def test_a_terminal_event_that_comes_too_late_is_not_the_next_turns(work):
    turn, following = work.sent(), work.submit()
    work.say(created("1"), error())
    work.wait()
    assert turn.ended
    work.written(following)
    work.say(delta("late"), completed("1", "failed"))
    assert (following.ended, types(following)) == (False, [])
    work.say(created("2"), delta(), completed("2"))
    assert following.response_id == "2"
    assert len(types(following)) == 3
    assert work.lanes.counters.dropped_events == 2


def test_a_late_terminal_event_in_the_same_read_as_the_next_answer_is_told_apart(work):
    turn, following = work.sent(), work.submit()
    work.say(error())
    assert turn.ended
    work.written(following)
    work.say(completed("1", "failed"), created("2"), delta(), completed("2"))
    assert types(following) == [
        "response.created",
        "response.output_text.delta",
        "response.completed",
    ]


def test_a_link_that_is_lost_after_an_error_ends_the_turn_with_that_error(work):
    turn = work.sent()
    work.say(created(), delta(), error("rate_limit_exceeded"))
    work.step(Lost(1006, ""))
    assert type(failure(turn)) is RateLimitError


# The connection's own end.


def test_numbers_of_a_socket_that_was_lost_say_nothing_of_the_next_ones_answers(work):
    turn = work.sent()
    said = {**created("1"), "sequence_number": 0}, {**error("server_error"), "sequence_number": 1}
    work.say(*said)
    work.step(Lost(1006, ""))
    assert work.lanes.counters.retries == 1
    work.step(Opened())
    work.step(Tick(), after=1.0)
    work.written(turn)
    work.say({**error(), "sequence_number": 2})
    assert type(failure(turn)) is APIError


def test_an_accepted_turn_runs_on_when_the_server_retires_the_connection(work):
    turn, following = work.sent(), work.submit(b"2")
    work.say(created(), LIMIT, delta())
    assert not turn.ended
    assert work.say(completed()) == [Useful(), Drop()]
    assert turn.inbox.error is None
    assert types(turn) == [
        "response.created",
        "response.output_text.delta",
        "response.completed",
    ]
    # It waited, and may begin on another connection at once.
    assert work.reported(Returned) == [Returned(following)]
    assert (following.ended, following.state) == (False, TurnState.QUEUED)
    assert work.reported(Retired) == [Retired(True), Retired(False)]


def test_a_sent_turn_on_a_retired_connection_is_sent_again_once(work):
    turn = work.sent(b"create")
    assert work.say(LIMIT) == []
    assert work.step(Lost(1000, "")) == [Want(15.0)]
    assert work.step(Opened()) == [Send(turn, b"create")]
    work.written(turn)
    work.say(LIMIT)
    work.step(Lost(1000, ""))
    caught = failure(turn)
    assert isinstance(caught, ConnectionLimitError)
    assert not caught.may_have_been_billed
    assert types(turn) == ["llmws.retry"]
    assert work.lanes.counters.retries == 1


def test_a_retired_connection_without_a_turn_is_dropped_at_once(work):
    assert work.say(LIMIT) == [Drop()]
    turn = work.turn()
    assert work.step(Submit(turn)) == [Want(15.0, fresh=True)]


def test_a_new_socket_knows_nothing_of_the_old_ones_end(work):
    refused = work.sent()
    work.say(LIMIT)
    work.step(Lost(1000, ""))
    turn = work.submit(b"2")
    assert work.step(Opened()) == [Send(refused, b"{}")]
    work.written(refused)
    assert work.say(created(), completed()) == [Useful(), Repay(), Send(turn, b"2")]
    work.written(turn)
    assert work.say(created(), completed()) == [Useful()]
    assert (refused.inbox.error, turn.inbox.error) == (None, None)


# Lost links.


@pytest.mark.parametrize("state", ["accepted", "output"])
def test_a_turn_under_way_ends_with_the_link(work, state):
    turn = work.sent()
    work.say(created("r"), *([delta()] if state == "output" else []))
    reset = ConnectionResetError("reset")
    assert work.step(Lost(1011, "why", reset)) == []
    caught = failure(turn)
    assert type(caught) is StreamInterruptedError
    assert (caught.close_code, caught.close_reason, caught.__cause__) == (1011, "why", reset)
    assert (caught.response_id, caught.state, caught.may_have_been_billed) == ("r", state, True)
    assert "1011" in str(caught)


def test_a_normal_close_is_no_normal_end_of_a_turn(work):
    turn = work.sent()
    work.say(created(), delta())
    work.step(Lost(1000, ""))
    assert failure(turn).close_code == 1000


def test_a_breach_of_the_websocket_protocol_is_told_as_one(work):
    turn = work.sent()
    work.step(Lost(1007, "the server broke it", violation=True))
    assert type(failure(turn)) is RemoteProtocolError


def test_a_queued_turn_survives_the_loss_and_keeps_its_place(work):
    one = work.submit(b"1")
    two = work.submit(b"2")
    assert work.step(Lost(1006, "")) == [Want(15.0)]
    assert work.step(Opened()) == [Send(one, b"1")]
    work.written(one)
    assert work.say(created(), completed())[-1] == Send(two, b"2")
    assert work.lanes.counters.retries == 0


def test_a_sent_turn_is_not_sent_again(work):
    turn = work.submit()
    work.step(Started(turn))
    assert work.step(Lost(1006, "")) == []
    assert type(failure(turn)) is StreamInterruptedError
    assert failure(turn).may_have_been_billed


def test_a_sent_turn_is_sent_again_once_if_its_user_said_so(work):
    turn = work.sent(b"create", retry_uncertain=True)
    following = work.submit(b"2")
    assert work.step(Lost(1006, "gone")) == [Want(15.0)]
    assert types(turn) == ["llmws.replay"]
    assert type(turn.inbox.read(0)[0]) is Notice
    assert work.step(Opened()) == [Send(turn, b"create")]
    work.written(turn)
    work.step(Lost(1006, "gone again"))
    assert type(failure(turn)) is StreamInterruptedError
    assert work.lanes.counters.retries == 1
    assert not following.ended


@pytest.mark.parametrize("said", [[created()], [created(), delta()]])
def test_an_accepted_turn_is_never_sent_again(work, said):
    turn = work.sent(retry_uncertain=True)
    work.say(*said)
    assert work.step(Lost(1006, "")) == []
    assert turn.ended


def test_redials_are_told_to_the_turns_that_wait_for_them():
    work = Lanework()
    one, two = work.submit(), work.submit()
    work.step(Retrying(1, 0.5, ConnectError("refused")))
    for turn in (one, two):
        (notice,) = turn.inbox.read(0)
        assert notice.raw == {
            "type": "llmws.redial",
            "attempt": 2,
            "delay": 0.5,
            "reason": "refused",
        }


def test_giving_up_ends_every_turn_each_with_an_error_of_its_own():
    work = Lanework()
    turns = [work.submit() for _ in range(3)]
    cause = ConnectError("no way")
    assert work.step(GaveUp(cause)) == []
    caught = [failure(turn) for turn in turns]
    assert [str(each) for each in caught] == ["no way"] * 3
    assert len({id(each) for each in caught}) == 3
    assert work.lanes.deadline is None


# Limits.


def limits(**some):
    return {"timeouts": FOREVER.but(some)}


def test_the_wait_for_the_lane_is_limited(work):
    work.sent()
    turn = work.submit(**limits(lane_wait=5.0))
    assert work.lanes.deadline == work.now + 5.0
    assert work.wait() == []
    caught = failure(turn)
    assert type(caught) is LaneTimeout
    assert (caught.state, caught.may_have_been_billed) == ("queued", False)
    assert work.lanes.deadline is None


def test_a_request_that_cannot_be_written_is_withdrawn_and_the_next_one_sent(work):
    turn = work.submit(**limits(lane_wait=5.0))
    following = work.submit(b"2")
    assert work.wait() == [Withdraw(turn), Send(following, b"2")]
    assert type(failure(turn)) is LaneTimeout


def test_nobody_wants_a_socket_any_more_when_the_last_turn_gave_up():
    work = Lanework()
    one, two = work.submit(**limits(lane_wait=5.0)), work.submit(**limits(lane_wait=6.0))
    assert work.wait() == [Want(15.0)]  # The other's, still.
    assert work.wait() == [Unwant()]
    assert type(failure(one)) is type(failure(two)) is LaneTimeout


def test_the_first_event_is_awaited_from_the_last_byte_on(work):
    turn = work.submit(**limits(first_event=5.0))
    work.step(Started(turn), after=100.0)
    assert work.lanes.deadline is None
    work.now += 100.0
    work.written(turn)
    assert work.lanes.deadline == work.now + 5.0
    assert work.wait() == []
    caught = failure(turn)
    assert type(caught) is FirstEventTimeout
    assert (caught.state, caught.may_have_been_billed) == ("sent", True)


def test_the_time_between_events_is_limited(work):
    turn = work.sent(**limits(idle=5.0, first_event=1.0))
    work.say(created(), after=0.9)
    work.say(delta(), after=4.9)
    assert work.step(Tick(), after=4.9) == []
    assert not turn.ended
    work.wait()
    caught = failure(turn)
    assert (type(caught), caught.state) == (IdleTimeout, "output")
    assert "5 s" in str(caught)


def test_the_whole_turn_is_limited_from_its_beginning(work):
    turn = work.sent(**limits(total=10.0, idle=6.0))
    work.say(created(), after=5.0)
    work.say(delta(), after=4.9)
    work.step(Tick(), after=0.1)
    assert type(failure(turn)) is TotalTimeout


@pytest.mark.parametrize("queued", [True, False])
def test_a_queued_turns_whole_time_is_limited_too(work, queued):
    if queued:
        work.sent()
    turn = work.submit(**limits(total=3.0, lane_wait=4.0))
    work.wait()
    assert type(failure(turn)) is TotalTimeout


def test_a_replayed_turn_waits_for_its_lane_anew(work):
    turn = work.sent(retry_uncertain=True, **limits(lane_wait=5.0, first_event=3.0))
    work.now += 2.0
    work.step(Lost(1006, ""))
    work.step(Tick(), after=4.9)
    assert not turn.ended
    assert work.lanes.deadline == pytest.approx(work.now + 0.1)
    work.wait()
    assert type(failure(turn)) is LaneTimeout


def test_the_limits_of_turns_that_left_are_forgotten(work):
    # A deadline that stayed in the past would keep the I/O thread spinning.
    work.sent()
    turn = work.submit(**limits(lane_wait=5.0))
    work.step(cancel(turn))
    work.say(created(), completed())
    work.step(Tick(), after=5.0)
    assert work.lanes.deadline is None
    assert [type(finish.error) for finish in work.finishes] == [StreamCancelledError, type(None)]


def test_of_many_queued_turns_each_ends_at_its_own_limit(work):
    work.sent()
    turns = [work.submit(**limits(lane_wait=wait)) for wait in (9.0, 3.0, 6.0)]
    for ended in ([0, 1, 0], [0, 1, 1], [1, 1, 1]):
        work.wait()
        assert [turn.ended for turn in turns] == list(map(bool, ended))
    assert work.lanes.deadline is None


# Ends from this side.


def test_a_cancelled_queued_turn_is_never_sent(work):
    one, two, three = work.sent(), work.submit(), work.submit(b"3")
    assert work.step(cancel(two)) == []
    caught = failure(two)
    assert type(caught) is StreamCancelledError
    assert (caught.state, caught.may_have_been_billed) == ("queued", False)
    assert work.say(created(), completed())[-1] == Send(three, b"3")
    assert one.inbox.error is None


def test_a_cancelled_turn_that_was_not_begun_is_withdrawn(work):
    turn, following = work.submit(), work.submit(b"2")
    assert work.step(cancel(turn)) == [Withdraw(turn), Send(following, b"2")]


def test_cancelling_twice_or_after_the_end_does_nothing(work):
    turn, done = work.turn(), work.sent()
    work.say(created(), completed())
    assert work.step(cancel(done)) == []
    work.step(Submit(turn))
    work.step(cancel(turn))
    assert work.step(cancel(turn)) == []
    assert len(work.finishes) == 2


def test_a_cancelled_turns_lane_is_drained_before_the_next_one(work):
    turn, following = work.sent(), work.submit(b"2")
    work.say(created("1"), delta())
    assert work.step(cancel(turn)) == []
    assert failure(turn).may_have_been_billed
    assert work.say(delta("late"), after=1.0) == []
    assert work.say(completed("1")) == [Send(following, b"2")]
    work.written(following)
    work.say(created("2"), completed("2"))
    assert types(following) == ["response.created", "response.completed"]
    assert len(types(turn)) == 2
    assert work.lanes.counters.dropped_events == 2


def test_the_refusal_of_a_cancelled_turn_drains_its_lane_too(work):
    turn, following = work.sent(), work.submit(b"2")
    work.step(cancel(turn))
    assert work.say(error()) == [Send(following, b"2")]


@pytest.mark.parametrize("said", [error(), completed("1")])
def test_what_comes_behind_the_end_of_the_draining_is_not_the_next_turns(work, said):
    turn, following = work.sent(), work.submit(b"2")
    work.step(cancel(turn))
    work.say(said)
    work.written(following)
    work.say(completed("1", "failed"))
    # Behind an error a terminal event may follow; behind that nothing does.
    assert following.ended is (said["type"] != "error")


def test_a_late_end_of_a_refused_turn_does_not_end_the_draining_of_the_next(work):
    work.sent()
    work.say(error())
    cancelled, following = work.sent(b"2"), work.submit(b"3")
    work.step(cancel(cancelled))
    assert work.say(completed("1", "failed")) == []
    # Its own, whether it was begun or not.
    assert work.say(created("2"), completed("2")) == [Send(following, b"3")]


def test_an_error_in_mid_answer_does_not_end_the_draining(work):
    turn, following = work.sent(), work.submit(b"2")
    work.say(created())
    work.step(cancel(turn))
    assert work.say(error()) == []
    assert work.say(completed(status="failed")) == [Send(following, b"2")]


def test_a_lane_that_does_not_run_dry_is_replaced(work):
    turn, following = work.sent(), work.submit(b"2")
    work.say(created())
    work.step(cancel(turn))
    work.say(delta(), after=4.9)
    assert work.lanes.deadline == pytest.approx(work.now + 0.1)
    assert work.wait() == [Drop(), Want(15.0)]
    assert work.step(Opened()) == [Send(following, b"2")]


def test_a_lane_that_nobody_waits_for_is_replaced_only_when_it_is_wanted(work):
    turn = work.sent()
    work.step(cancel(turn))
    assert work.wait() == [Drop()]
    assert work.lanes.deadline is None


def test_a_hard_cancel_replaces_the_socket_at_once(work):
    turn, following = work.sent(), work.submit(b"2")
    work.say(created())
    assert work.step(cancel(turn, hard=True)) == [Drop(), Want(15.0)]
    assert work.step(Opened()) == [Send(following, b"2")]


def test_the_loss_of_the_socket_ends_the_draining(work):
    turn = work.sent()
    work.step(cancel(turn))
    following = work.submit(b"2")
    assert work.step(Lost(1006, "")) == [Want(15.0)]
    assert work.step(Opened()) == [Send(following, b"2")]


@pytest.mark.parametrize("limit", ["first_event", "total"])
def test_a_turn_that_timed_out_is_drained_too(work, limit):
    turn, following = work.sent(**limits(**{limit: 1.0})), work.submit(b"2")
    assert work.wait() == []
    assert turn.ended
    assert work.say(created(), completed()) == [Send(following, b"2")]


def test_an_inbox_that_overflows_ends_its_turn_and_drains(work):
    turn = work.sent(inbox=Inbox(max_items=2))
    following = work.submit(b"2")
    work.say(created())
    assert work.say(delta(), delta()) == [Useful()]
    assert type(failure(turn)) is InboxOverflowError
    assert work.say(completed()) == [Send(following, b"2")]


def test_a_turn_whose_log_was_full_when_it_was_given_back_is_not_sent(work):
    blocker, turn = work.sent(), work.submit(b"2", inbox=Inbox(max_items=1))
    work.say(created("1"))
    work.step(Retire())
    assert work.reported(Returned) == [Returned(turn)]
    for _ in range(2):
        turn.inbox.extend([created()], 0)
    other = Lanework().opened()
    assert other.step(Submit(turn, moved=True)) == []
    assert other.reported(Released) == [Released(turn)]
    assert type(failure(turn)) is InboxOverflowError
    assert (turn.payload, turn.size_bytes, blocker.ended) == (b"", 0, False)
    # Nor does a connection wait for it that is to end.
    other.step(Retire())
    other.reports.clear()
    other.step(Submit(turn, moved=True))
    assert other.reported(Idle) == [Idle()]


def test_an_overflow_at_the_very_end_leaves_the_next_turn_alone(work):
    turn = work.sent(inbox=Inbox(max_items=1))
    following = work.submit(b"2")
    assert Send(following, b"2") in work.say(created(), completed())
    assert type(failure(turn)) is InboxOverflowError
    work.written(following)
    work.say(created(), completed())
    assert following.inbox.error is None


def test_a_waiting_turn_whose_log_is_full_of_notices_is_not_sent():
    work = Lanework()
    turn, following = work.submit(inbox=Inbox(max_items=1)), work.submit(b"2")
    for _ in range(2):
        work.step(Retrying(1, 0.5, ConnectError("refused")))
    assert type(failure(turn)) is InboxOverflowError
    assert work.step(Opened()) == [Send(following, b"2")]


def test_stopping_ends_everything(work):
    turns = [work.sent(), work.submit(), work.submit()]
    work.step(Stop())
    assert [type(failure(turn)) for turn in turns] == [StreamCancelledError] * 3
    assert [failure(turn).may_have_been_billed for turn in turns] == [True, False, False]
    assert work.lanes.deadline is None
    assert work.step(Lost(1000, "")) == []


def test_a_turn_that_comes_while_the_socket_is_being_closed_is_refused(work):
    work.step(Stop())
    turn = work.turn(b"create")
    assert work.step(Submit(turn)) == []
    assert type(failure(turn)) is SessionClosedError
    assert work.lanes.counters.released_bytes == len(b"create")


def test_a_crash_ends_everything_with_its_cause(work):
    turns = [work.sent(), work.submit()]
    defect = ZeroDivisionError("a defect")
    work.step(Crashed(defect))
    for turn in turns:
        assert type(failure(turn)) is StreamInterruptedError
        assert failure(turn).__cause__ is defect
        assert "defect" in str(failure(turn))


# Bookkeeping.


def test_a_requests_bytes_are_released_when_they_are_written(work):
    turn = work.submit(b"x" * 100)
    work.step(Started(turn))
    assert (work.lanes.counters.released_bytes, turn.size_bytes) == (0, 100)
    work.step(Finished(turn))
    assert (work.lanes.counters.released_bytes, turn.size_bytes) == (100, 0)
    work.say(created(), completed())
    assert work.lanes.counters.released_bytes == 100


@pytest.mark.parametrize("retry_uncertain", [False, True])
def test_a_request_is_kept_until_its_output_begins_and_counts_once(work, retry_uncertain):
    turn = work.sent(b"x" * 100, retry_uncertain=retry_uncertain)
    work.say(created())
    assert turn.payload == b"x" * 100  # It may yet be refused.
    work.say(delta())
    assert turn.payload == b""
    work.say(completed())
    assert work.lanes.counters.released_bytes == 100


def test_a_request_that_is_sent_again_is_not_counted_again(work):
    turn = work.sent(b"x" * 100)
    assert work.say(error("server_error")) == [Send(turn, b"x" * 100)]
    work.written(turn)
    work.say(created(), completed())
    assert (turn.payload, work.lanes.counters.released_bytes) == (b"", 100)


@pytest.mark.parametrize("whole", [False, True])
def test_a_request_that_is_refused_while_it_is_written_counts_once(work, whole):
    turn = work.submit(b"x" * 100)
    work.step(Started(turn))
    assert work.say(error("server_error")) == [Send(turn, b"x" * 100)]
    if whole:
        work.step(Finished(turn))  # Of the first message, whose frame had begun.
    work.written(turn)
    assert work.lanes.counters.released_bytes == 100


def test_missing_sequence_numbers_are_counted_and_logged(work, caplog):
    turn = work.sent()
    with caplog.at_level(logging.WARNING, "llmws.responses.routing.books"):
        numbered = [
            {**each, "sequence_number": number}
            for each, number in zip(
                [created("r"), delta(), delta(), completed("r")], (0, 3, 3, 4), strict=True
            )
        ]
        work.say(*numbered)
    assert turn.inbox.error is None
    assert (turn.missing_events, turn.repeated_events) == (2, 1)
    assert work.lanes.counters.missing_events == 2
    assert "response 'r': 2 sequence numbers missing, 1 repeated" in caplog.text


@pytest.mark.parametrize("number", [0, 2])
def test_a_strict_check_ends_the_turn_at_a_gap_or_a_repeat(number):
    work = Lanework(sequence_check="strict").opened()
    turn = work.sent()
    work.say({**created(), "sequence_number": 0}, {**delta(), "sequence_number": number})
    caught = failure(turn)
    assert type(caught) is RemoteProtocolError
    assert f"{number} where 1 was due" in str(caught)
    assert types(turn) == ["response.created"]


def test_a_repr_shows_the_lane_and_no_content(work):
    turn = work.sent(b"secret")
    work.submit(b"secret")
    assert repr(work.lanes) == "<Lanes busy=[<Lane default busy cached=None>] queued=1>"
    work.step(cancel(turn))
    assert repr(work.lanes) == "<Lanes busy=[<Lane default draining cached=None>] queued=1>"


def test_a_request_not_begun_when_its_connection_is_retired_goes_to_the_next_one(work):
    first, second = work.sent(), work.submit(b"[2]")
    wanted = work.say(created(), completed(), LIMIT)
    # All in one read, so that the second request was handed to the link and not yet written.
    assert wanted == [Useful(), Send(second, b"[2]"), Withdraw(second), Drop(), Want(15.0)]
    assert first.inbox.error is None
    assert work.step(Opened()) == [Send(second, b"[2]")]


def test_a_socket_that_is_retired_before_it_was_of_any_use_is_not_replaced_for_ever():
    work = Lanework()
    turn = work.submit()
    assert work.step(Opened()) == [Send(turn, b"{}")]
    assert work.say(LIMIT) == []


def test_another_lanes_terminal_event_does_not_end_the_draining(work):
    turn = work.sent()
    work.say(created())
    work.step(Cancel(turn, "enough"))
    following = work.submit(b"[2]")
    assert work.say({**completed(), "stream_id": "a"}) == []
    assert work.say(completed()) == [Send(following, b"[2]")]


def test_a_dial_that_took_too_long_for_one_turn_is_repeated_for_the_more_patient():
    work = Lanework()
    hasty = work.submit(timeouts=Timeouts(connect=0.5))
    patient, boundless = work.submit(), work.submit(timeouts=Timeouts(connect=None))
    assert work.step(GaveUp(ConnectTimeout("slow"), 0.5)) == [Want(15.0, fresh=True)]
    assert isinstance(failure(hasty), ConnectTimeout)
    assert work.step(GaveUp(ConnectTimeout("slow"), 15.0)) == [Want(None, fresh=True)]
    assert isinstance(failure(patient), ConnectTimeout)
    assert not boundless.ended


def test_nothing_of_a_turn_is_kept_when_it_has_ended(work):
    turn = work.sent()
    work.say(created(), completed())
    work.finishes.clear()
    work.reports.clear()
    log = weakref.ref(turn.inbox)
    del turn
    assert log() is None


def test_a_replay_is_logged(work, caplog):
    work.sent(retry_uncertain=True)
    with caplog.at_level(logging.INFO, "llmws"):
        work.step(Lost(1006, "reset"))
    assert "sent again" in caplog.text


def test_a_limit_that_passes_while_dials_fail_says_what_they_failed_of():
    work = Lanework()
    turn = work.submit(timeouts=Timeouts(lane_wait=3.0))
    failed = ConnectError("The door is shut.")
    work.step(Retrying(1, 9.0, failed))
    work.wait()
    caught = failure(turn)
    assert type(caught) is LaneTimeout
    assert str(caught).endswith("within 3 s. The last dial failed: The door is shut.")
    assert caught.__cause__ is failed
    assert (caught.state, caught.may_have_been_billed) == ("queued", False)


def test_the_tokens_of_a_turn_that_was_left_count_too(work):
    turn = work.sent()
    work.say(created())
    work.step(cancel(turn))
    work.say(completed(usage={"input_tokens": 10, "output_tokens": 1}))
    assert work.lanes.counters.usage.input_tokens == 10
