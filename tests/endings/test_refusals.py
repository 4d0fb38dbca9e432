"""What an ``error`` event does to a turn, to the turn behind it, and to the connection."""

from __future__ import annotations

import pytest

import llmws
from llmws.testing import Server, rules
from llmws.testing.answer import Answer, error_event
from tests.endings.script import Losses, Script, answer, session_at
from tests.endings.watch import Watch, Witness, facts


REFUSALS = [
    (400, "invalid_value", llmws.APIError),
    (400, "previous_response_not_found", llmws.PreviousResponseNotFoundError),
    (429, "rate_limit_exceeded", llmws.RateLimitError),
    (503, "server_is_overloaded", llmws.OverloadedError),
    (500, "server_error", llmws.APIError),
]
LIMIT_REACHED = error_event("websocket_connection_limit_reached", "60 minutes are over.")


@pytest.mark.parametrize(("status", "code", "kind"), REFUSALS)
def test_a_refusal_ends_its_turn_and_nothing_else(status, code, kind, patience):
    rule = rules.sequence(
        rules.refuse(status, code, "No.", param="input", headers={"retry-after": "61"}),
        rules.text("Good again"),
    )
    # The pause that the server asks for is longer than any that is waited for.
    with Server(rule=rule) as server, session_at(server.base_url) as session:
        watch = Watch(session.stream("one"))
        for error in watch.errors(patience):
            told = facts(error)
            assert told["kind"] is kind
            assert (told["status"], told["code"], told["message"]) == (status, code, "No.")
            assert (told["param"], told["headers"]["retry-after"]) == ("input", "61")
            assert (told["state"], told["response_id"]) == ("sent", None)
            assert told["may_have_been_billed"] is False
            assert told["partial_text"] == ""
            assert told["retry_after"] == 61.0
        for way in ("events", "run"):
            # The event itself comes first.
            assert [event.code for event in watch.witnesses[way].seen] == [code]
        Watch(session.stream("two")).check_result("Good again", patience)
        assert (session.stats.dials, server.ledger.connections) == (1, 1)
        assert [create["input"] for create in server.ledger.creates] == ["one", "two"]


def test_a_turn_that_was_refused_in_passing_is_sent_again_and_says_so(patience):
    refusal = rules.refuse(429, "rate_limit_exceeded", "Not now.", headers={"retry-after": "0.07"})
    rule = rules.sequence(refusal, rules.text("Good again"))
    with Server(rule=rule) as server, session_at(server.base_url) as session:
        session._core.connection._jitter = lambda: 0.0
        watch = Watch(session.stream("one"))
        watch.check_result("Good again", patience)
        assert "error" not in [event.type for event in watch.witnesses["events"].seen]
        (notice,) = [chunk for chunk in watch.stream if "notice" in chunk.metadata]
        assert notice.metadata["notice"] == "retry"
        assert (notice.metadata["how"], notice.metadata["delay"]) == ("later", 0.07)
        assert "Not now." in notice.metadata["reason"]
        first, second = server.ledger.requests
        assert second.body["input"] == first.body["input"] == "one"
        assert (session.stats.retries, server.ledger.connections) == (1, 1)


@pytest.mark.parametrize(
    "rule", [rules.refuse(429, "rate_limit_exceeded", "No."), rules.fail("server_error", "No.")]
)
def test_a_second_refusal_ends_the_turn(rule, patience):
    with Server(rule=rule) as server, session_at(server.base_url) as session:
        session._core.connection._jitter = lambda: 0.0
        with pytest.raises(llmws.APIError, match=r"No\."):
            session.stream("one").response(patience).raise_for_status()
        assert [create["input"] for create in server.ledger.creates] == ["one", "one"]


def test_a_failure_before_any_output_is_tried_again_too(patience):
    rule = rules.sequence(rules.fail("server_error", "Sorry."), rules.text("Good again"))
    with Server(rule=rule) as server, session_at(server.base_url) as session:
        session._core.connection._jitter = lambda: 0.0
        Watch(session.stream("one")).check_result("Good again", patience)
        assert [create["input"] for create in server.ledger.creates] == ["one", "one"]


def test_a_failure_in_words_is_a_response_that_failed(patience):
    rule = rules.sequence(
        rules.fail("server_error", "Sorry.", after="Hello"), rules.text("Good again")
    )
    with Server(rule=rule) as server, session_at(server.base_url) as session:
        watch = Watch(session.stream("one"))
        watch.check_result("Hello", patience)
        response = watch.witnesses["response"].result
        assert (response.status, response.finish_reason) == ("failed", "error")
        assert response.error == {"code": "server_error", "message": "Sorry."}
        types = [event.type for event in watch.witnesses["events"].seen]
        assert types[-2:] == ["error", "response.failed"]
        with pytest.raises(llmws.APIError, match="Sorry"):
            response.raise_for_status()
        Watch(session.stream("two")).check_result("Good again", patience)
        assert server.ledger.connections == 1


def _error_after(events, ending=None):
    """Make a script that sends some events, an error, and then nothing more of this answer, or ends."""

    def play(wire):
        wire.upgrade()
        while True:
            body = wire.create()
            if body["input"] != "one":
                wire.send(*answer("Good again", 2))
                continue
            wire.send(*answer()[:events], error_event("bad_luck", "Sorry."))
            if ending:
                wire.end(ending)

    return play


def test_an_error_without_a_terminal_event_is_waited_for_and_then_raised(patience, monkeypatch):
    monkeypatch.setattr("llmws.responses.routing.answers._ERROR_GRACE", grace := 0.4)
    with Script(_error_after(5)) as server, session_at(server.base_url) as session:
        watch = Watch(session.stream("one"))
        watch.witnesses["events"].has_seen(6, patience)
        errors = watch.errors(patience)
        # The end may be late on a busy machine, but never early.
        assert grace <= watch.witnesses["events"].ended_at - server.sent_at < grace + patience
        for error in errors:
            told = facts(error)
            assert (told["kind"], told.get("code")) == (llmws.APIError, "bad_luck")
            assert (told["state"], told["partial_text"]) == ("output", "Hello")
            assert told["may_have_been_billed"] is True
            assert told["response_id"] == answer()[0]["response"]["id"]
        Watch(session.stream("two")).check_result("Good again", patience)
        assert server.connections == 1


@pytest.mark.parametrize("ending", ["fin", "rst", "1000", "1011"])
@pytest.mark.parametrize("events", [1, 5])
def test_an_error_and_then_a_close_is_the_api_error(events, ending, patience):
    def play(wire):
        if wire.number == 1:
            _error_after(events, ending)(wire)
        _error_after(0)(wire)

    with Script(play) as server, session_at(server.base_url) as session:
        for error in Watch(session.stream("one")).errors(patience):
            told = facts(error)
            assert (told["kind"], told.get("code")) == (llmws.APIError, "bad_luck")
            assert told["may_have_been_billed"] is True
            assert told["partial_text"] == ("Hello" if events == 5 else "")
        Watch(session.stream("two")).check_result("Good again", patience)


def test_what_follows_an_error_never_reaches_the_next_turn(patience):
    # The terminal event of the refused turn comes late, in front of the next turn's answer.
    def play(wire):
        wire.upgrade()
        wire.create()
        wire.send(error_event("bad_luck", "Sorry."))
        wire.create()
        wire.send(answer("Bad foreigner", 1)[-1], *answer("Good again", 2))
        wire.until_closed()

    with Script(play) as server, session_at(server.base_url) as session:
        Watch(session.stream("one")).errors(patience)
        watch = Watch(session.stream("two"))
        watch.check_result("Good again", patience)
        assert [e.raw for e in watch.witnesses["events"].seen] == answer("Good again", 2)
        assert session.stats.dropped_events == 1


def test_what_follows_an_error_never_reaches_the_second_try(patience):
    def play(wire):
        wire.upgrade()
        wire.create()
        wire.send(error_event("server_error", "Sorry.", status=500))
        wire.create()
        wire.send(answer("Bad foreigner", 1)[-1], *answer("Good again", 2))
        wire.until_closed()

    with Script(play) as server, session_at(server.base_url) as session:
        session._core.connection._jitter = lambda: 0.0
        watch = Watch(session.stream("one"))
        watch.check_result("Good again", patience)
        assert [e.raw for e in watch.witnesses["events"].seen] == answer("Good again", 2)
        assert [create["input"] for create in server.creates] == ["one", "one"]
        assert session.stats.dropped_events == 1


@pytest.mark.parametrize("ending", ["fin", "1011"])
def test_an_accepted_turn_that_failed_in_passing_is_sent_again_over_a_new_socket(ending, patience):
    def play(wire):
        wire.upgrade()
        wire.create()
        if wire.number == 1:
            wire.send(answer()[0], error_event("server_error", "Sorry.", status=500))
            wire.end(ending)
        wire.send(*answer("Good again", 2))
        wire.until_closed()

    with Script(play) as server, session_at(server.base_url) as session:
        session._core.connection._jitter = lambda: 0.0
        Watch(session.stream("one")).check_result("Good again", patience)
        assert [create["input"] for create in server.creates] == ["one", "one"]


def test_a_connection_that_reaches_its_age_lets_the_turn_finish(patience):
    def rule(request):
        built = Answer(request)
        yield from built.start()
        if request.number == 1:
            request.connection.send(LIMIT_REACHED)
        yield from built.message(f"Good {request.body['input']}")
        yield from built.complete()

    with Server(rule=rule) as server, session_at(server.base_url) as session:
        watch = Watch(session.stream("one"))
        watch.check_result("Good one", patience)
        assert "error" not in [event.type for event in watch.witnesses["events"].seen]
        Watch(session.stream("two")).check_result("Good two", patience)
        requests = server.ledger.requests
        assert [request.connection for request in requests] == [1, 2]  # The old one takes no more.
        assert session.stats.dials == 2


@pytest.mark.parametrize("times", [1, 2])
def test_a_turn_that_came_too_late_goes_over_another_connection_once(times, patience):
    def play(wire):
        wire.upgrade()
        if wire.number <= times:
            wire.create()
            wire.send(LIMIT_REACHED)
            wire.end("1000")
        wire.create()
        wire.send(*answer("Good again"))
        wire.until_closed()

    with Script(play) as server, session_at(server.base_url) as session:
        watch = Watch(session.stream("one"))
        if times == 1:
            watch.check_result("Good again", patience)
            assert session.stats.retries == 1
            return
        for error in watch.errors(patience):
            told = facts(error)
            assert told["kind"] is llmws.ConnectionLimitError
            assert (told["state"], told["may_have_been_billed"]) == ("sent", False)
        Watch(session.stream("two")).check_result("Good again", patience)


def test_a_connection_that_grows_too_old_while_idle_takes_no_turn(patience):
    def play(wire):
        wire.upgrade()
        wire.create()
        if wire.number == 1:
            wire.send(*answer("Good one"), LIMIT_REACHED)
        else:
            wire.send(*answer("Good two"))
        wire.until_closed()

    with Script(play) as server, session_at(server.base_url) as session:
        losses = Losses(session)
        Watch(session.stream("one")).check_result("Good one", patience)
        losses.received_messages(11, patience)
        Watch(session.stream("two")).check_result("Good two", patience)
        assert server.connections == 2


def test_an_error_that_nobody_waits_for_is_dropped(patience):
    def play(wire):
        wire.upgrade()
        wire.create()
        wire.send(*answer("Good one"), error_event("server_error", "Who, me?"))
        wire.create()
        wire.send(*answer("Good two", 2))
        wire.until_closed()

    with Script(play) as server, session_at(server.base_url) as session:
        losses = Losses(session)
        Watch(session.stream("one")).check_result("Good one", patience)
        losses.received_messages(11, patience)
        Watch(session.stream("two")).check_result("Good two", patience)
        assert (server.connections, session.stats.dropped_events) == (1, 1)


def test_create_raises_what_streams_raise(patience):
    with (
        Server(rule=rules.refuse(400, "invalid_value", "No.")) as server,
        session_at(server.base_url) as session,
    ):
        error = Witness("create", lambda note: session.create("one")).end(patience)
        assert type(error) is llmws.APIError
