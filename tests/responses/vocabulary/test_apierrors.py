"""Errors of the server: every shape it sends, and the exception it becomes."""

import email.utils
import pickle
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmws import errors
from llmws.responses.vocabulary.apierrors import CONNECTION_CODES, ErrorEvent, api_error, from_event
from llmws.responses.vocabulary.events import from_raw


NESTED = {
    "type": "error",
    "status": 400,
    "stream_id": "main",
    "error": {
        "type": "invalid_request_error",
        "code": "previous_response_not_found",
        "message": "gone",
        "param": "previous_response_id",
        "headers": {"Retry-After": 2, "X-Beta": True},
    },
}


def fields(event):
    return (event.status, event.error_type, event.code, event.message, event.param)


def test_a_nested_error_reads_its_details():
    event = from_raw(NESTED)
    assert isinstance(event, ErrorEvent)
    expected = (
        400,
        "invalid_request_error",
        "previous_response_not_found",
        "gone",
        "previous_response_id",
    )
    assert fields(event) == expected
    assert event.headers == {"retry-after": "2", "x-beta": "true"}
    assert event.stream_id == "main"


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        ({"code": "c", "message": "m", "param": "p"}, (None, None, "c", "m", "p")),
        ({"error": "went wrong"}, (None, None, None, "went wrong", None)),
        ({"status_code": 503, "error": {"message": "m"}}, (503, None, None, "m", None)),
        ({"status": "429", "error": {"code": "c"}}, (429, None, "c", "", None)),
        ({"error": {"status": 500, "code": 17, "type": "t"}}, (500, "t", "17", "", None)),
        ({"error": None, "message": "m"}, (None, None, None, "m", None)),
        ({"status": True, "error": []}, (None, None, None, "", None)),
        ({"response": {"error": {"code": "c", "message": "m"}}}, (None, None, "c", "m", None)),
        ({}, (None, None, None, "", None)),
    ],
)
@pytest.mark.parametrize("name", ["error", "response.error"])
def test_other_shapes_are_understood(name, raw, expected):
    assert fields(from_raw({"type": name, **raw})) == expected


def test_headers_of_the_error_itself_win_over_those_of_the_event():
    raw = {
        "type": "error",
        "headers": {"A": 1.5, "B": "x", "C": None},
        "error": {"headers": {"a": "2"}},
    }
    assert from_raw(raw).headers == {"a": "2", "b": "x"}


def test_repr_shows_what_is_known():
    shown = repr(from_raw(NESTED))
    assert "previous_response_not_found" in shown
    assert "retry" not in shown.lower()


# Of a server with a code of its own.
GONE = {
    "code": "invalid_value",
    "message": "Previous response with id 'resp_1' not found.",
    "param": "previous_response_id",
}


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"code": "previous_response_not_found"}, errors.PreviousResponseNotFoundError),
        ({"message": "Invalid previous_response_id"}, errors.PreviousResponseNotFoundError),
        (
            {"message": "Previous response with id 'resp_1' not found."},
            errors.PreviousResponseNotFoundError,
        ),
        ({"code": "other", "message": "Invalid previous_response_id"}, errors.APIError),
        ({**GONE, "status": 400}, errors.PreviousResponseNotFoundError),
        ({**GONE, "status": 404}, errors.PreviousResponseNotFoundError),
        (GONE, errors.APIError),
        ({**GONE, "status": 500}, errors.APIError),
        ({**GONE, "status": 400, "param": "input"}, errors.APIError),
        ({**GONE, "status": 400, "param": None}, errors.APIError),
        (
            {**GONE, "status": 400, "message": "Must not be given with conversation."},
            errors.APIError,
        ),
        ({"status": 429}, errors.RateLimitError),
        ({"code": "rate_limit_exceeded"}, errors.RateLimitError),
        ({"type": "rate_limit_error"}, errors.RateLimitError),
        ({"status": 429, "code": "insufficient_quota"}, errors.APIError),
        ({"status": 429, "type": "insufficient_quota"}, errors.APIError),
        ({"code": "server_is_overloaded"}, errors.OverloadedError),
        ({"code": "slow_down", "status": 429}, errors.OverloadedError),
        ({"type": "overloaded_error"}, errors.OverloadedError),
        ({"status": 503}, errors.OverloadedError),
        ({"code": "websocket_connection_limit_reached"}, errors.ConnectionLimitError),
        ({"status": 400, "code": "invalid_prompt"}, errors.APIError),
        ({"status": 500, "type": "server_error"}, errors.APIError),
    ],
)
def test_each_error_becomes_its_exception(given, expected):
    error = api_error(**{"message": "", **given})
    assert type(error) is expected
    for name in ("status", "type", "code", "param"):
        assert getattr(error, name) == given.get(name)


@pytest.mark.parametrize(
    ("message", "seconds"),
    [
        ("Rate limit reached. Please try again in 1.2s. Visit", 1.2),
        ("Please try again in 20 ms", 0.02),
        ("Please try again in 6m0s.", 360.0),
        ("try again in 1h2m3s", 3723.0),
        ("Try again in 2 minutes or so", 120.0),
        ("try again in 3 seconds", 3.0),
        ("try again in 5 apples", None),
        ("try again in " + "9" * 400 + "s", None),
        ("no idea", None),
    ],
)
def test_the_wait_is_read_from_the_words(message, seconds):
    found = api_error(message=message, code="rate_limit_exceeded").retry_after
    assert found == (None if seconds is None else pytest.approx(seconds))


def test_the_wait_in_the_headers_wins_over_the_words():
    error = api_error(message="try again in 9s", status=429, headers={"retry-after": "2"})
    assert error.retry_after == 2.0


NOON = 784_111_777.0  # The date below.
DATE = "Sun, 06 Nov 1994 08:49:37 GMT"


def said(status, **headers):
    return from_raw({"type": "error", "status": status, "error": {"headers": headers}})


@pytest.mark.parametrize("status", [429, 503, 500, 409, 400])
@pytest.mark.parametrize(
    ("headers", "wall_time", "seconds"),
    [
        ({"Retry-After": DATE}, NOON - 7.5, 7.5),
        ({"Retry-After": DATE}, NOON + 7.5, 0.0),
        ({"RETRY-AFTER": "3"}, NOON, 3.0),
        ({"Retry-After-Ms": "1500", "Retry-After": DATE}, NOON - 7.5, 1.5),
        ({"Retry-After": "soon"}, NOON, None),
        ({}, NOON, None),
    ],
)
def test_every_error_has_the_wait_that_its_headers_ask_for(status, headers, wall_time, seconds):
    assert from_event(said(status, **headers), wall_time=wall_time).retry_after == seconds


@pytest.mark.parametrize("status", [429, 503])
def test_a_date_is_counted_from_the_moment_when_the_exception_is_made(status):
    date = email.utils.formatdate(time.time() + 40, usegmt=True)
    error = from_event(said(status, **{"Retry-After": date}))
    assert 30 < error.retry_after <= 41
    # Whoever waits later, or elsewhere, counts the same seconds.
    assert pickle.loads(pickle.dumps(error)).retry_after == error.retry_after
    assert errors.fresh(error).retry_after == error.retry_after


def test_a_date_goes_before_the_words():
    error = api_error(
        message="try again in 9s", status=429, headers={"retry-after": DATE}, wall_time=NOON - 2
    )
    assert error.retry_after == 2.0


def test_an_event_becomes_an_exception_with_all_its_fields():
    error = from_event(
        from_raw(NESTED), response_id="resp_1", state="accepted", may_have_been_billed=True
    )
    assert isinstance(error, errors.PreviousResponseNotFoundError)
    assert (error.status, error.type, error.param) == (
        400,
        "invalid_request_error",
        "previous_response_id",
    )
    assert error.headers["retry-after"] == "2"
    assert (error.response_id, error.state, error.may_have_been_billed) == (
        "resp_1",
        "accepted",
        True,
    )
    assert str(error) == "gone (400, previous_response_not_found)"


def test_an_error_without_words_says_so():
    assert "without a message" in str(api_error(message=""))


def test_a_key_quoted_by_the_server_is_not_repeated():
    error = api_error(message="Incorrect API key provided: sk-proj-abcdefghijklmnop.", status=401)
    assert "abcdefghijklmnop" not in str(error)


def test_only_the_age_limit_is_about_the_connection():
    assert {"websocket_connection_limit_reached"} == CONNECTION_CODES


@given(st.text(max_size=200), st.none() | st.integers(), st.none() | st.text(max_size=30))
def test_no_words_however_odd_make_it_raise(message, status, code):
    error = api_error(message=f"try again in {message}", status=status, code=code)
    assert isinstance(error, errors.APIError)
