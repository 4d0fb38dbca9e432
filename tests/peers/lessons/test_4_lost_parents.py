"""
Lesson 4: ``previous_response_not_found`` is normal: the whole conversation is at hand, and is sent once.

The numbers in the docstrings are the issues in which users of other clients met the bug.
"""

from __future__ import annotations

import pytest

import llmws
from llmws.testing import FaultProxy, Semantics, Server, faults, rules
from llmws.testing.plans import Plan
from tests.peers.lessons.scene import PATIENCE, TEXT, creates, notices, only, opened, session_at


NOT_FOUND = "previous_response_not_found"
SHAPES = {
    "nested": faults.ErrorFrame(code=NOT_FOUND, status=400, param="previous_response_id"),
    "flat": faults.ErrorFrame(code=NOT_FOUND, status=400, form="flat"),
    "without a status": faults.ErrorFrame(code=NOT_FOUND, status=None),
    "404": faults.ErrorFrame(code=NOT_FOUND, status=404),
    "words alone": faults.ErrorFrame(
        code=None, status=400, message="Invalid previous_response_id."
    ),
    "words alone, flat": faults.ErrorFrame(
        code=None, status=400, message="Invalid previous_response_id.", form="flat"
    ),
    "other words": faults.ErrorFrame(
        code=None, status=400, message="Previous response with id 'resp_1' not found."
    ),
    "failed": faults.ErrorFrame(code=NOT_FOUND, form="failed"),
    "failed as stale": faults.ErrorFrame(code="codex_previous_response_stale", form="failed"),
    "stale": faults.ErrorFrame(code="codex_previous_response_stale", status=400),
    "behind the creation": faults.ErrorFrame(code=NOT_FOUND, status=400, at="created"),
}
each_shape = pytest.mark.parametrize("fault", SHAPES.values(), ids=SHAPES)


@each_shape
def test_a_parent_that_is_gone_costs_one_full_replay_and_the_chain_goes_on(fault):
    """oh-my-pi#925, #926; Effect#8355; Codex-For-Copilot#7, #79 (shapes); gajae-code#731 (stale)."""
    with opened(only(2, fault=fault)) as (server, session):
        chat = session.conversation()
        chat.create("one")
        stream = chat.stream("two")
        assert stream.response(PATIENCE).text == TEXT
        assert "".join(stream.texts()) == TEXT
        assert stream.sent.kind == "full"
        assert stream.sent.reason == "server did not find the parent"
        assert [told["notice"] for told in notices(stream)] == ["retry"]
        assert chat.create("three").text == TEXT
        assert creates(server) == [(1, False, 1), (1, True, 1), (1, False, 3), (1, True, 1)]
        assert (session.stats.retries, session.stats.dials) == (1, 1)


def test_a_server_that_forgot_everything_is_told_everything():
    """pi#6931, #6955: what a connection cached was gone after minutes without a turn."""
    with opened(rules.echo()) as (server, session):
        chat = session.conversation(store=False)
        chat.create("one")
        server.forget()
        stream = chat.stream("two")
        assert stream.response(PATIENCE).text == "two"
        assert stream.sent.reason == "server did not find the parent"
        assert creates(server) == [(1, False, 1), (1, True, 1), (1, False, 3)]


def test_a_replay_that_is_not_found_either_is_an_error():
    """Effect#8355: it was replayed again and again."""
    fault = SHAPES["nested"]
    rule = faults.apply(rules.text(TEXT), lambda request: fault if request.number > 1 else None)
    with opened(rule) as (server, session):
        chat = session.conversation()
        chat.create("one")
        with pytest.raises(llmws.PreviousResponseNotFoundError) as caught:
            chat.create("two")
        assert caught.value.may_have_been_billed is False
        assert len(server.ledger.requests) == 3
        assert len(chat.items) == 2


@each_shape
def test_outputs_of_tools_are_never_sent_without_the_conversation_they_belong_to(fault):
    """codex-lb#1042: the "fresh retry" of a payload of nothing but tool outputs is an answer to no question."""
    output = {"type": "function_call_output", "call_id": "call_1", "output": "22 °C"}
    any_parent = {"semantics": Semantics(chains=False)}
    with opened(fault(rules.text(TEXT)), server=any_parent) as (server, session):
        with pytest.raises(llmws.APIError) as caught:
            session.create(output, previous_response_id="resp_gone").raise_for_status()
        assert caught.value.code == fault.code
        assert len(server.ledger.requests) == 1


def test_the_replay_of_a_tools_turn_brings_the_call_before_its_output():
    """codex-lb#1042, as a conversation has it."""
    rule = rules.sequence(
        rules.tool_calls([{"name": "weather", "arguments": "{}"}]), rules.text(TEXT)
    )
    with opened(only(2, fault=SHAPES["nested"], rule=rule)) as (server, session):
        chat = session.conversation(store=False)
        call = chat.create("How is the weather?").tool_calls[0]
        output = {"type": "function_call_output", "call_id": call.id, "output": "22 °C"}
        assert chat.create(output).text == TEXT
        sent = server.ledger.requests[-1].body["input"]
        assert [item["type"] for item in sent] == [
            "message",
            "function_call",
            "function_call_output",
        ]
        assert sent[1]["call_id"] == sent[2]["call_id"] == call.id


def test_a_connection_that_died_while_the_process_slept_is_asked_before_it_is_trusted(clock):
    """pi#6931: suspended for more than five minutes; the first turn after it went into the void."""
    with (
        Server(rule=rules.text(TEXT)) as server,
        FaultProxy.before(server.base_url) as proxy,
        session_at(proxy.base_url(), clock=clock) as session,
    ):
        chat = session.conversation(store=False)
        chat.create("one")
        proxy.strike(Plan("black_hole"))
        clock.sleep(6 * 60)
        stream = chat.stream("two", timeouts={"first_event": 0.5})
        assert stream.response(PATIENCE).text == TEXT
        assert (stream.sent.kind, stream.sent.reason) == ("full", "connection lost")
        assert creates(server) == [(1, False, 1), (2, False, 3)]
        assert session.stats.retries == 0  # It was never written to the dead one.
