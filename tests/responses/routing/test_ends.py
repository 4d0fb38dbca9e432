"""The errors with which turns end early."""

from __future__ import annotations

import pytest

from llmws.errors import (
    APIError,
    ConnectionLimitError,
    RateLimitError,
    RemoteProtocolError,
    StreamInterruptedError,
)
from llmws.responses.routing.ends import broken_down, failure, interruption, refusal
from llmws.responses.routing.turn import Turn, TurnState
from llmws.responses.vocabulary.events import from_raw
from llmws.timeouts import Timeouts
from llmws.wire.steps import Lost
from tests.responses.lanework import LIMIT, completed, error


def turn(state=TurnState.OUTPUT, **fields):
    made = Turn(payload=b"", timeouts=Timeouts(), started_at=0.0, response_id="r", **fields)
    made.state = state
    return made


def test_a_loss_tells_the_code_the_reason_and_the_cause():
    reset = ConnectionResetError("reset")
    caught = interruption(turn(), Lost(1011, "why", reset))
    assert type(caught) is StreamInterruptedError
    assert (caught.close_code, caught.close_reason, caught.__cause__) == (1011, "why", reset)
    assert (caught.state, caught.response_id, caught.may_have_been_billed) == ("output", "r", True)
    assert "1011, why" in str(caught)


def test_a_reason_that_moves_the_cursor_is_spelled_out_in_words():
    assert "\x1b" not in str(interruption(turn(), Lost(1011, "\x1b[2J")))


def test_a_breach_is_one():
    caught = interruption(turn(), Lost(1007, "bad", violation=True))
    assert type(caught) is RemoteProtocolError
    assert "bad" in str(caught)


def test_what_the_server_said_before_the_loss_goes_before_it():
    said = from_raw(error("rate_limit_exceeded", headers={"retry-after": "3"}))
    caught = interruption(turn(error_event=said), Lost(1006, ""))
    assert type(caught) is RateLimitError
    assert caught.retry_after == 3.0
    assert type(interruption(turn(error_event=from_raw(LIMIT)), Lost(1000, ""))) is (
        ConnectionLimitError
    )


@pytest.mark.parametrize(
    ("state", "doubtful", "billed"),
    [("sent", False, False), ("sent", True, True), ("accepted", False, True)],
)
def test_a_refusal_is_billed_if_a_try_was_accepted_or_may_have_been(state, doubtful, billed):
    refused = turn(TurnState(state), error_event=from_raw(error()), doubtful=doubtful)
    assert refusal(refused).may_have_been_billed is billed


@pytest.mark.parametrize(
    ("state", "doubtful", "billed"),
    [("queued", False, False), ("queued", True, True), ("sent", False, True)],
)
def test_every_other_end_is_billed_from_the_first_byte_on(state, doubtful, billed):
    assert turn(TurnState(state), doubtful=doubtful).facts()["may_have_been_billed"] is billed


@pytest.mark.parametrize(
    ("state", "refused", "doubtful"),
    [("sent", True, False), ("sent", False, True), ("accepted", True, True)],
)
def test_a_try_that_was_not_refused_at_once_leaves_a_doubt(state, refused, doubtful):
    again = turn(TurnState(state), error_event=from_raw(error()) if refused else None)
    again.requeue(5.0)
    assert again.doubtful is doubtful
    again.state = TurnState.SENT
    again.error_event = from_raw(error())
    again.requeue(6.0)
    assert again.doubtful is doubtful


def test_a_response_that_failed_is_an_error_in_other_words():
    said = {"code": "rate_limit_exceeded", "message": "Try again in 2s."}
    caught = failure(turn(final=from_raw(completed("r", "failed", error=said))))
    assert type(caught) is RateLimitError
    assert (caught.code, caught.retry_after) == ("rate_limit_exceeded", 2.0)


@pytest.mark.parametrize("said", [None, [], "no", {"code": 7, "message": []}])
def test_a_response_that_failed_without_saying_why_is_an_error_too(said):
    caught = failure(turn(final=from_raw(completed("r", "failed", error=said))))
    assert type(caught) is APIError
    assert caught.code is None


@pytest.mark.parametrize("status", ["completed", "incomplete"])
def test_other_responses_are_no_failures(status):
    assert failure(turn(final=from_raw(completed("r", status)))) is None
    assert failure(turn()) is None


def test_a_defect_is_told_as_one_with_its_cause():
    defect = ZeroDivisionError("oh")
    caught = broken_down(turn(), defect)
    assert type(caught) is StreamInterruptedError
    assert caught.__cause__ is defect
    assert "please report it" in str(caught)
