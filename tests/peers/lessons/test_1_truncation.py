"""
Lesson 1: silent truncation and eternal waits are the worst failures.

The numbers in the docstrings are the issues in which users of other clients met the bug.
"""

from __future__ import annotations

import pytest

import llmws
from llmws.testing import faults, rules
from tests.endings.script import Script
from tests.peers.lessons.scene import PATIENCE, TEXT, only, opened, session_at


STATES = {"created": "accepted", "delta": "output", "terminal": "output"}


def every_way_to_the_end(stream):
    """Follow a turn in every way; return the errors that these end with."""
    told = []
    stream.on("error", told.append).on("done", told.append)
    errors = []
    for way in (
        list,
        lambda s: list(s.texts()),
        lambda s: list(s.events()),
        lambda s: list(s.sse()),
    ):
        with pytest.raises(llmws.LLMWSError) as caught:
            way(stream)
        errors.append(caught.value)
    with pytest.raises(llmws.LLMWSError) as caught:
        stream.response(PATIENCE)
    stream.wait(PATIENCE)
    return [*errors, caught.value, *told]


@pytest.mark.parametrize("code", [1000, 1001, 1011, None])
@pytest.mark.parametrize("at", ["created", "delta", "terminal"])
def test_a_close_in_the_middle_of_an_answer_raises_in_every_view_whatever_its_code(at, code):
    """openai-python 3.54.0 ends the iteration as if all were well; litellm#39851 books it as a success for $0."""
    fault = faults.CloseAfter(at=at, code=code)
    with opened(only(1, fault=fault)) as (server, session):
        errors = every_way_to_the_end(session.stream("x"))
        assert {type(error) for error in errors} == {llmws.StreamInterruptedError}
        assert {error.close_code for error in errors} == {1005 if code is None else code}
        assert {(error.state, error.may_have_been_billed) for error in errors} == {
            (STATES[at], True)
        }
        assert {error.partial.status for error in errors} & {"completed"} == set()
        assert session.usage.total_tokens == 0
        assert server.ledger.wait(
            lambda ledger: [each.ended for each in ledger.requests] == ["lost"]
        )
        assert session.create("y").text == TEXT


def test_a_close_before_any_event_is_an_error_and_no_empty_answer():
    """openai-agents-python#2558."""
    with opened(only(1, fault=faults.CloseAfter(code=1000))) as (server, session):
        errors = every_way_to_the_end(session.stream("x"))
        assert {type(error) for error in errors} == {llmws.StreamInterruptedError}
        assert {error.state for error in errors} == {"sent"}
        assert len(server.ledger.requests) == 1


def test_a_decimal_temperature_that_closes_the_socket_is_told_with_the_code_and_not_repeated():
    """brainlid/langchain#483, #497: a server closed with 1000, without a word, when ``temperature`` was no integer."""

    def rule(request):
        if isinstance(request.body.get("temperature"), float):
            request.connection.close(1000, "bad temperature")
            return
        yield from rules.text(TEXT)(request)

    with opened(rule) as (server, session):
        with pytest.raises(
            llmws.StreamInterruptedError, match="code 1000, bad temperature"
        ) as caught:
            session.create("x", temperature=0.7, top_p=0.5)
        assert (caught.value.close_code, caught.value.close_reason) == (1000, "bad temperature")
        assert session.create("x", temperature=1).text == TEXT
        assert len(server.ledger.requests) == 2


@pytest.mark.parametrize("at", [0, "created", "delta"])
def test_an_error_ends_its_turn_though_nothing_follows(at, monkeypatch):
    """opencode#50848: ``error`` was not taken for an end, and the turn hung."""
    monkeypatch.setattr("llmws.responses.routing.answers._ERROR_GRACE", 0.05)
    fault = faults.ErrorFrame(at=at, code="invalid_prompt", status=400, failed=False)
    with opened(only(1, fault=fault)) as (_, session):
        errors = every_way_to_the_end(session.stream("x", timeouts={"idle": PATIENCE}))
        assert {type(error) for error in errors} == {llmws.APIError}
        assert {error.code for error in errors} == {"invalid_prompt"}
        assert session.create("y").text == TEXT


def test_a_server_that_takes_the_request_and_never_says_anything_is_given_up():
    """litellm#25519: a backend accepted the WebSocket and sent no event at all."""
    with opened(only(1, fault=faults.Stall())) as (server, session):
        errors = every_way_to_the_end(session.stream("x", timeouts={"first_event": 0.1}))
        assert {type(error) for error in errors} == {llmws.FirstEventTimeout}
        assert {error.may_have_been_billed for error in errors} == {True}
        assert len(server.ledger.requests) == 1


def test_a_server_that_never_answers_the_upgrade_is_given_up():
    """litellm#25519, one step earlier."""
    with Script(lambda wire: wire.end("mute")) as server, session_at(server.base_url) as session:
        errors = every_way_to_the_end(session.stream("x", timeouts={"connect": 0.1}))
        assert {type(error) for error in errors} == {llmws.ConnectTimeout}
        assert (server.connections, server.creates) == (1, [])


def test_a_link_that_dies_without_a_word_leaves_nobody_waiting():
    """openai-python 3.54.0: without a deadline, an iterator over a half-open socket waits for ever."""
    with opened(only(1, fault=faults.HalfOpen(at="delta")), ping=0.05) as (_, session):
        errors = every_way_to_the_end(session.stream("x"))
        assert {type(error) for error in errors} == {llmws.StreamInterruptedError}
        assert {error.close_code for error in errors} == {1006}
        assert {error.partial.text for error in errors} == {"one"}
        assert session.create("y").text == TEXT
