"""What is done about refusals: the table, and the router that goes by it, once for each remedy."""

from __future__ import annotations

import email.utils
import time

import pytest

from llmws.errors import (
    APIError,
    ConnectionLimitError,
    IdleTimeout,
    InboxOverflowError,
    LaneTimeout,
    OverloadedError,
    PreviousResponseNotFoundError,
    RateLimitError,
    StreamCancelledError,
    StreamInterruptedError,
    TotalTimeout,
)
from llmws.responses.routing.refusals import Remedy, remedy
from llmws.responses.routing.reports import Learned, Released, Retired, Returned
from llmws.responses.routing.turn import Cancel, Notice, Submit, TurnState
from llmws.responses.vocabulary.apierrors import api_error
from llmws.responses.vocabulary.capabilities import Capabilities
from llmws.wire.inbox import Inbox
from llmws.wire.steps import (
    Drop,
    Finished,
    Lost,
    Opened,
    Repay,
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


WITH_LANES = Capabilities(lanes=True, max_active=16, max_lanes=32)
BUSY = error("rate_limit_exceeded")
SORRY = completed(status="failed", error={"code": "server_error", "message": "Sorry."})


@pytest.fixture
def work() -> Lanework:
    return Lanework().opened()


def notice(turn):
    """Return what the last notice in a turn's log says."""
    last = turn.inbox.read(0, 0.0)[-1]
    assert type(last) is Notice
    return last.raw


# The table.


@pytest.mark.parametrize(
    ("said", "what"),
    [
        ({"code": "previous_response_not_found", "status": 400}, Remedy.FULL),
        ({"code": "codex_previous_response_stale"}, Remedy.FULL),
        ({"code": "websocket_connection_limit_reached", "status": 400}, Remedy.ELSEWHERE),
        ({"code": "websocket_stream_limit_reached", "status": 400}, Remedy.ELSEWHERE),
        ({"code": "invalid_stream_id", "status": 400}, Remedy.NO_LANES),
        ({"code": "unknown_parameter", "param": "stream_id", "status": 400}, Remedy.NO_LANES),
        ({"code": "rate_limit_exceeded"}, Remedy.LATER),
        ({"status": 429}, Remedy.LATER),
        ({"code": "server_is_overloaded"}, Remedy.LATER),
        ({"code": "slow_down"}, Remedy.LATER),
        ({"status": 503}, Remedy.LATER),
        ({"status": 500, "code": "server_error"}, Remedy.LATER),
        ({"type": "server_error"}, Remedy.LATER),
        ({"code": "server_error"}, Remedy.LATER),
        ({"status": 408}, Remedy.LATER),
        ({"status": 409}, Remedy.LATER),
        ({"status": 400, "type": "server_error"}, None),
        ({"status": 429, "code": "insufficient_quota"}, None),
        ({"status": 429, "type": "usage_limit_reached"}, None),
        ({"code": "usage_not_included"}, None),
        ({"status": 400, "code": "invalid_prompt"}, None),
        ({"status": 401}, None),
        ({"code": "context_length_exceeded"}, None),
        ({}, None),
        ({"code": "gone", "param": "previous_response_id", "status": 400}, None),
    ],
)
def test_the_remedy_of_what_servers_say(said, what):
    assert remedy(api_error(message="no", **said)) is what


@pytest.mark.parametrize(
    "label",
    [
        *("context_length_exceeded", "invalid_prompt", "cyber_policy", "bio_policy"),
        *("insufficient_quota", "usage_not_included", "usage_limit_reached"),
    ],
)
@pytest.mark.parametrize("status", [None, 400, 408, 409, 429, 500, 503])
@pytest.mark.parametrize("name", ["code", "type"])
def test_what_will_not_do_better_is_not_sent_later_whatever_the_status(label, status, name):
    other = {"code": "type", "type": "code"}[name]
    for said in ({name: label}, {name: label, other: "server_error"}):
        assert remedy(api_error(message="no", status=status, **said)) is None


@pytest.mark.parametrize("status", [400, 404])
def test_a_parent_that_is_not_found_under_another_code_is_sent_whole(status):
    words = "Previous response with id 'resp_1' not found."
    said = {"code": "invalid_value", "status": status, "message": words}
    assert remedy(api_error(**said, param="previous_response_id")) is Remedy.FULL
    assert remedy(api_error(**said, param="input")) is None


@pytest.mark.parametrize("name", ["x-should-retry", "X-Should-Retry", "X-SHOULD-RETRY"])
@pytest.mark.parametrize(
    ("said", "what"),
    [
        ({"code": "rate_limit_exceeded"}, None),
        ({"status": 503}, None),
        ({"status": 500}, None),
        ({"status": 409}, None),
        ({"code": "server_error"}, None),
        ({"code": "previous_response_not_found", "status": 400}, Remedy.FULL),
        ({"code": "websocket_connection_limit_reached"}, Remedy.ELSEWHERE),
        ({"code": "websocket_stream_limit_reached"}, Remedy.ELSEWHERE),
        ({"code": "invalid_stream_id"}, Remedy.NO_LANES),
    ],
)
def test_a_server_that_wants_no_retry_is_not_sent_the_same_again(name, said, what):
    usual = remedy(api_error(message="no", **said))
    assert usual is (what or Remedy.LATER)
    for word in ("false", "False", " false "):
        assert remedy(api_error(message="no", headers={name: word}, **said)) is what
    for word in ("true", "", "0", "no idea"):
        assert remedy(api_error(message="no", headers={name: word}, **said)) is usual


@pytest.mark.parametrize("status", [400, 401, None])
def test_a_server_that_wants_a_retry_gets_none_that_it_would_not_get_anyway(status):
    assert (
        remedy(api_error(message="no", status=status, headers={"x-should-retry": "true"})) is None
    )


# Later.


@pytest.mark.parametrize("value", [False, "false", "False"])
@pytest.mark.parametrize("outside", [False, True])
def test_a_refusal_that_is_not_to_be_repeated_ends_the_turn(work, value, outside):
    headers, refused = {"X-Should-Retry": value}, error("slow_down")
    (refused if outside else refused["error"])["headers"] = headers
    turn = work.sent()
    assert work.say(refused) == []
    assert type(failure(turn)) is OverloadedError
    assert (types(turn), work.lanes.counters.retries) == (["error"], 0)


def test_a_wait_that_is_given_as_a_date_is_waited_for(work):
    date = email.utils.formatdate(time.time() + 20, usegmt=True)
    turn = work.sent(b"1")
    refused = error("slow_down")
    refused["error"]["headers"] = {"Retry-After": date}
    assert work.say(refused) == []
    assert 10 < notice(turn)["delay"] <= 21
    assert work.step(Tick(), after=9.0) == []
    assert work.step(Tick(), after=12.0) == [Send(turn, b"1")]


@pytest.mark.parametrize("code", ["slow_down", "rate_limit_exceeded", "server_error"])
def test_a_date_that_is_far_away_is_not_waited_for(work, code):
    turn = work.sent()
    date = email.utils.formatdate(time.time() + 3600, usegmt=True)
    work.say(error(code, headers={"retry-after": date}))
    assert failure(turn).retry_after > 3000
    assert types(turn) == ["error"]


@pytest.mark.parametrize(
    ("said", "kind"),
    [
        (BUSY, RateLimitError),
        (error("slow_down"), OverloadedError),
        (error("server_error"), APIError),
    ],
)
def test_a_passing_refusal_is_mended_once(work, said, kind):
    turn = work.sent(b"create")
    assert work.say(said) == [Send(turn, b"create")]
    assert types(turn) == ["llmws.retry"]
    assert (turn.state, turn.ended) == (TurnState.QUEUED, False)
    work.written(turn)
    assert work.say(said) == []
    assert type(failure(turn)) is kind
    assert not failure(turn).may_have_been_billed
    assert types(turn) == ["llmws.retry", "error"]
    assert work.lanes.counters.retries == 1
    assert work.reported(Released) == [Released(turn)]


def test_the_second_answer_is_the_turns(work):
    turn = work.sent()
    work.say(BUSY)
    work.written(turn)
    work.say(created("2"), delta(), completed("2"))
    assert turn.inbox.error is None
    assert (turn.response_id, turn.final.response["id"]) == ("2", "2")
    assert types(turn) == [
        "llmws.retry",
        "response.created",
        "response.output_text.delta",
        "response.completed",
    ]


def test_the_notice_says_how_why_and_when(work, caplog):
    work.fraction = 0.5
    turn = work.sent()
    with caplog.at_level("INFO", "llmws"):
        work.say(error("slow_down"))
    said = notice(turn)
    assert (said["how"], said["delay"]) == ("later", 0.25)
    assert "so the server says" in said["reason"]
    assert "sent again in 0.2 s" in caplog.text


@pytest.mark.parametrize(("asked", "fraction", "delay"), [("7", 0.0, 7.0), ("0.1", 1.0, 0.5)])
def test_the_wait_is_what_the_server_asks_and_at_least_the_backoffs(work, asked, fraction, delay):
    work.fraction = fraction
    turn, following = work.sent(b"1"), work.submit(b"2")
    # Meanwhile the lane is another's.
    assert work.say(error("slow_down", headers={"retry-after": asked})) == [Send(following, b"2")]
    work.written(following)
    work.say(created(), completed())
    assert work.lanes.deadline == work.now + delay
    assert work.step(Tick(), after=delay - 0.01) == []
    assert work.step(Tick(), after=0.01) == [Send(turn, b"1")]


@pytest.mark.parametrize("seconds", ["61", "3600"])
def test_a_server_that_asks_for_more_than_a_minute_is_not_waited_for(work, seconds):
    turn = work.sent()
    work.say(error("rate_limit_exceeded", headers={"retry-after": seconds}))
    assert failure(turn).retry_after == float(seconds)
    assert types(turn) == ["error"]


def test_without_leave_of_the_budget_a_refusal_ends_the_turn_as_ever(work):
    work.fraction = None
    turn, following = work.sent(), work.submit(b"2")
    assert work.say(BUSY) == [Send(following, b"2")]
    assert type(failure(turn)) is RateLimitError
    assert types(turn) == ["error"]
    assert work.reported(Released) == [Released(turn)]
    assert work.lanes.counters.retries == 0


def test_a_refusal_in_the_terminal_event_is_the_same(work):
    turn = work.sent(b"create")
    assert work.say(created("1"), SORRY) == [Useful(), Send(turn, b"create")]
    assert types(turn) == ["response.created", "llmws.retry"]
    assert (turn.response_id, turn.final) == (None, None)
    work.written(turn)
    work.say(created("2"), completed("2"))
    assert turn.final.response["id"] == "2"


@pytest.mark.parametrize("fraction", [0.0, None])
def test_a_terminal_refusal_that_is_not_mended_is_a_response_that_failed(work, fraction):
    work.fraction = fraction
    turn = work.sent()
    for _ in range(1 if fraction is None else 2):
        work.say(created(), SORRY)
        if not turn.ended:
            work.written(turn)
    assert turn.inbox.error is None
    assert turn.final.status == "failed"
    assert types(turn)[-2:] == ["response.created", "response.failed"]


def test_the_tokens_of_a_try_that_failed_are_counted_once(work):
    usage = {"input_tokens": 3, "output_tokens": 0, "total_tokens": 3}
    turn = work.sent()
    work.say(created(), {**SORRY, "response": {**SORRY["response"], "usage": usage}})
    work.written(turn)
    work.say(created(), completed(usage=usage))
    assert work.lanes.counters.usage.total_tokens == 6


def test_once_there_is_output_nothing_is_mended(work):
    turn = work.sent()
    work.say(created(), delta(), SORRY)
    assert turn.final.status == "failed"
    other = work.sent()
    work.say(created(), delta(), BUSY)
    assert work.wait() == []
    assert type(failure(other)) is RateLimitError
    assert work.lanes.counters.retries == 0


def test_an_error_of_an_accepted_turn_waits_for_its_terminal_event_and_is_mended_then(work):
    turn = work.sent(b"create")
    work.say(created("1"), BUSY)
    assert not turn.inbox.ended
    assert work.say(completed("1", "failed", error={"code": "rate_limit_exceeded"})) == [
        Useful(),
        Send(turn, b"create"),
    ]


def test_an_error_of_an_accepted_turn_without_a_terminal_event_is_mended_after_the_second(work):
    turn = work.sent(b"create")
    work.say(created("1"), BUSY)
    assert work.wait() == [Send(turn, b"create")]
    work.written(turn)
    # What still comes of the first try is not the second's.
    work.say(completed("1", "failed"), created("2"), completed("2"))
    assert turn.final.response["id"] == "2"
    assert types(turn).count("response.failed") == 0


@pytest.mark.parametrize("fraction", [0.0, None])
def test_readers_see_an_error_only_if_it_is_not_mended(work, fraction):
    work.fraction = fraction
    turn = work.sent()
    work.say(created("1"), error("server_error"))
    assert types(turn) == ["response.created"]
    work.say(completed("1", "failed", error={"code": "server_error", "message": "Sorry."}))
    shown = [] if fraction is not None else ["error", "response.failed"]
    assert [name for name in types(turn) if "llmws" not in name] == ["response.created", *shown]


@pytest.mark.parametrize(
    "end",
    [
        lambda work, turn: work.say(delta()),
        lambda work, turn: work.step(Cancel(turn, "Enough.")),
        lambda work, turn: work.step(Stop()),
    ],
)
def test_an_error_that_is_not_mended_is_shown_however_the_turn_goes_on(work, end):
    turn = work.sent()
    work.say(created("1"), error("server_error"))
    end(work, turn)
    assert types(turn)[:2] == ["response.created", "error"]


def test_a_second_try_that_bears_fruit_is_paid_back_once(work):
    turn = work.sent()
    work.say(BUSY)
    work.written(turn)
    assert work.say(created("1"), delta()) == [Useful(), Repay()]
    assert Repay() not in work.say(delta(), completed("1"))
    # One that is refused again is not.
    again = work.sent()
    work.say(BUSY)
    work.written(again)
    assert Repay() not in work.say(BUSY)


def test_a_late_terminal_event_of_the_first_try_does_not_end_the_second(work):
    turn = work.sent()
    work.say(BUSY)
    work.written(turn)
    work.say(completed("1", "failed"))
    assert not turn.ended
    assert work.lanes.counters.dropped_events == 1


# What limits and ends a wait.


def waiting(work, **fields):
    """Return a turn that waits for ten seconds because the server asked for it."""
    turn = work.sent(**fields)
    assert work.say(error("slow_down", headers={"retry-after": "10"})) == []
    assert not turn.ended
    return turn


def limits(**some):
    return {"timeouts": FOREVER.but(some)}


@pytest.mark.parametrize(("total", "waits"), [(10.0, False), (10.5, True)])
def test_a_pause_that_the_total_limit_does_not_outlast_is_not_begun(work, total, waits):
    turn = work.sent(**limits(total=total))
    asked = work.say(error("slow_down", headers={"retry-after": "10"}))
    assert turn.ended is not waits
    if not waits:
        assert asked == [Repay()]
        caught = failure(turn)
        assert (caught.code, caught.retry_after) == ("slow_down", 10.0)
        assert types(turn) == ["error"]


def test_the_total_limit_holds_behind_the_wait(work):
    turn = waiting(work, **limits(total=14.0))
    work.sent(b"2")
    work.wait()
    assert work.lanes.deadline == work.now + 4.0
    assert work.wait() == []
    caught = failure(turn)
    assert type(caught) is TotalTimeout
    assert (caught.state, caught.may_have_been_billed) == ("queued", False)
    assert work.lanes.deadline is None


def test_the_wait_for_the_lane_is_counted_from_the_end_of_the_pause(work):
    turn = waiting(work, **limits(lane_wait=3.0))
    blocker = work.sent(b"2")
    work.step(Tick(), after=12.9)
    assert not turn.ended
    work.step(Tick(), after=0.1)
    assert type(failure(turn)) is LaneTimeout
    assert not blocker.ended


def test_the_second_tries_limits_begin_anew(work):
    turn = work.sent(**limits(first_event=2.0, idle=3.0))
    work.say(created())
    work.say(SORRY, after=2.5)
    work.written(turn)
    assert work.lanes.deadline == work.now + 2.0
    work.say(created())
    assert work.lanes.deadline == work.now + 3.0
    work.wait()
    assert type(failure(turn)) is IdleTimeout


def test_a_turn_is_cancelled_during_its_wait(work):
    turn = waiting(work)
    assert work.step(Cancel(turn, "enough")) == []
    assert type(failure(turn)) is StreamCancelledError
    assert not failure(turn).may_have_been_billed
    assert work.reported(Released) == [Released(turn)]
    assert work.wait() == []
    assert work.lanes.deadline is None


def test_a_turn_that_waits_ends_with_the_session(work):
    turn = waiting(work)
    work.step(Stop())
    assert type(failure(turn)) is StreamCancelledError


def test_a_turn_that_waits_survives_the_loss_of_the_socket(work):
    turn = waiting(work)
    assert work.step(Lost(1006, "")) == [Want(15.0)]
    assert work.step(Opened(), after=5.0) == []
    assert work.step(Tick(), after=5.0) == [Send(turn, b"{}")]
    assert work.step(Cancel(turn, "enough")) != [Unwant()]


def test_a_turn_whose_log_is_full_before_it_is_sent_again_ends(work):
    turn, following = work.sent(inbox=Inbox(max_items=0)), work.submit(b"2")
    assert work.say(created(), SORRY) == [
        Useful(),
        Send(turn, b"{}"),
        Withdraw(turn),
        Send(following, b"2"),
    ]
    assert type(failure(turn)) is InboxOverflowError
    assert work.reported(Released) == [Released(turn)]
    assert work.lanes.counters.released_bytes == 2


# What may have been billed.


def test_a_try_that_began_may_have_been_billed_whatever_becomes_of_the_next(work):
    turn = work.sent()
    work.say(created(), SORRY)
    work.written(turn)
    work.say(error("invalid_prompt"))
    assert (failure(turn).state, failure(turn).may_have_been_billed) == ("sent", True)


def test_a_try_that_was_lost_may_have_been_billed_whatever_becomes_of_the_next(work):
    turn = work.sent(retry_uncertain=True, **limits(lane_wait=1.0))
    work.step(Lost(1006, ""))
    work.wait()
    assert type(failure(turn)) is LaneTimeout
    assert failure(turn).may_have_been_billed


def test_a_try_that_was_refused_at_once_was_not_billed(work):
    turn = work.sent()
    work.say(BUSY)
    work.written(turn)
    work.say(BUSY)
    assert not failure(turn).may_have_been_billed


# While the request is still being written.


def test_a_turn_refused_while_it_is_written_counts_its_limits_from_the_second_message(work):
    turn = work.turn(**limits(first_event=2.0))
    work.step(Submit(turn))
    work.step(Started(turn))
    work.say(BUSY)
    work.step(Finished(turn))  # Of the first message, whose frame had begun.
    work.step(Started(turn), after=50.0)
    assert work.lanes.deadline is None
    work.step(Finished(turn))
    assert work.lanes.deadline == work.now + 2.0


# Elsewhere.


def test_the_refusal_of_a_socket_sends_the_turn_over_another_once(work):
    turn = work.sent()
    work.say(LIMIT)
    work.step(Lost(1000, ""))
    assert notice(turn)["how"] == "on another connection"
    work.step(Opened())
    work.written(turn)
    work.say(LIMIT)
    work.step(Lost(1000, ""))
    assert type(failure(turn)) is ConnectionLimitError


def test_a_response_that_failed_for_want_of_a_socket_sends_the_turn_over_another(work):
    turn = work.sent()
    failed = {"error": {"code": "websocket_connection_limit_reached", "message": "no"}}
    assert work.say(created("1"), completed("1", "failed", **failed))[-2:] == [Drop(), Want(15.0)]
    assert work.reported(Retired) == [Retired(True), Retired(False)]
    assert work.step(Opened()) == [Send(turn, b"{}")]


def test_a_turn_refused_for_want_of_lane_names_goes_elsewhere_and_leaves_the_others(work):
    work = Lanework(capabilities=WITH_LANES).opened()
    first, second, third = work.submit(b"{}"), work.submit(b"{}"), work.submit(b"{}")
    for turn in (first, second, third):
        work.written(turn)
    work.say(created("1"))
    wanted = work.say(on("llmws-1", error("websocket_stream_limit_reached")))
    assert wanted == []
    assert work.reported(Returned) == [Returned(second)]
    assert work.reported(Retired) == [Retired(True)]
    assert (third.state, third.error_event) == (TurnState.SENT, None)
    work.say(on("llmws-2", created("3")), completed("1"))
    assert work.say(on("llmws-2", completed("3"))) == [Useful(), Drop()]
    assert (first.inbox.error, third.inbox.error) == (None, None)


def on(lane, raw):
    return {**raw, "stream_id": lane}


# Without lanes.


@pytest.mark.parametrize(
    "said",
    [
        error("invalid_stream_id"),
        error("unknown_parameter", param="stream_id"),
        on("llmws-1", error("unknown_parameter", param="stream_id")),
    ],
)
def test_a_server_that_refuses_the_name_is_asked_without(said):
    work = Lanework(capabilities=Capabilities()).opened()
    turn = work.turn(b'{"a":1}')
    assert work.step(Submit(turn)) == [Send(turn, b'{"stream_id":"llmws-1","a":1}')]
    work.written(turn)
    assert work.say(said) == [Send(turn, b'{"a":1}')]
    assert work.reported(Learned)[-1] == Learned(False)
    assert notice(turn)["how"] == "without lanes"
    work.written(turn)
    work.say(created(), completed())
    assert turn.inbox.error is None


def test_a_request_without_a_name_that_is_refused_for_its_name_ends(work):
    turn = work.sent()
    work.say(error("invalid_stream_id"))
    assert failure(turn).code == "invalid_stream_id"


# With the whole transcript: only what a conversation keeps can be sent whole; see test_lanes_talks.py.


def test_a_plain_turn_whose_parent_is_gone_ends(work):
    turn = work.sent()
    work.say(error("previous_response_not_found"))
    assert type(failure(turn)) is PreviousResponseNotFoundError


def test_an_error_event_of_an_unknown_kind_ends_the_turn(work):
    turn = work.sent()
    work.say(event("error"))
    assert type(failure(turn)) is APIError


@pytest.mark.parametrize("code", [1000, 1006, 1011])
def test_a_loss_is_no_refusal(work, code):
    turn = work.sent()
    work.step(Lost(code, ""))
    assert type(failure(turn)) is StreamInterruptedError
    assert work.lanes.counters.retries == 0
