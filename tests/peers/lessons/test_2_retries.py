"""
Lesson 2: retry only what provably did not run, once; of what may run leave the decision to the caller.

The numbers in the docstrings are the issues in which users of other clients met the bug.
"""

from __future__ import annotations

import pytest

import llmws
from llmws.testing import FaultProxy, Server, faults, rules
from llmws.testing.plans import Plan
from tests.peers.lessons.scene import PATIENCE, TEXT, creates, notices, only, opened, session_at


REFUSALS = {
    "rate limit": faults.ErrorFrame(code="rate_limit_exceeded", status=429),
    "overloaded": faults.ErrorFrame(code="server_is_overloaded", status=503),
    "server error": faults.ErrorFrame(code="server_error", status=500),
    "timeout": faults.ErrorFrame(code="request_timeout", status=408),
    "conflict": faults.ErrorFrame(code="conflict", status=409),
    "flat": faults.ErrorFrame(code="rate_limit_exceeded", status=429, form="flat"),
    "without a code": faults.ErrorFrame(code=None, status=429),
    "without a status": faults.ErrorFrame(code="server_is_overloaded", status=None),
    "without its lane": faults.ErrorFrame(code="slow_down", status=503, lane=False),
    "failed": faults.ErrorFrame(code="rate_limit_exceeded", form="failed"),
}
each_refusal = pytest.mark.parametrize("fault", REFUSALS.values(), ids=REFUSALS)


@pytest.mark.parametrize(
    "plan",
    [Plan("refuse"), Plan("reset", after_client_bytes=40), Plan("fin", after_client_bytes=40)],
    ids=lambda plan: plan.what,
)
def test_what_was_never_sent_is_sent_over_the_next_connection(plan):
    """opencode#29646: a turn whose request had not gone out was lost with the connection."""
    with (
        Server(rule=rules.text(TEXT)) as server,
        FaultProxy.before(server.base_url, lambda number: plan if number == 1 else None) as proxy,
        session_at(proxy.base_url()) as session,
    ):
        stream = session.stream("x")
        assert stream.response(PATIENCE).text == TEXT
        assert len(server.ledger.requests) == 1
        assert proxy.counters.connections == 2
        assert [told["notice"] for told in notices(stream)] == ["redial"]
        assert session.stats.retries == 0  # Nothing was sent twice.


@each_refusal
def test_what_the_server_refused_in_words_is_asked_again_once_and_told(fault):
    """openclaw#122717, #122727: the structured error was flattened, so that a safe retry was refused."""
    with opened(only(1, fault=fault)) as (server, session):
        stream = session.stream("x")
        assert stream.response(PATIENCE).text == TEXT
        assert "".join(stream.texts()) == TEXT
        assert len(server.ledger.requests) == 2
        assert (session.stats.retries, server.ledger.connections) == (1, 1)
        assert [(told["notice"], told["how"]) for told in notices(stream)] == [("retry", "later")]
        # Whoever reads is told of the second try, and not of an end that was none.
        assert [event.type for event in stream.events()].count("response.created") <= 2
        assert "error" not in [event.type for event in stream.events()]


@each_refusal
def test_what_is_refused_a_second_time_is_an_error_with_all_that_the_server_said(fault):
    """opencode#29673: endless retries hid the reason."""
    with opened(fault(rules.text(TEXT))) as (server, session):
        with pytest.raises(llmws.APIError) as caught:
            session.create("x").raise_for_status()
        assert caught.value.code == fault.code
        assert len(server.ledger.requests) == 2


def test_money_that_is_spent_is_not_asked_for_again():
    """opencode#48140: every 429 was taken for one that passes."""
    fault = faults.ErrorFrame(code="insufficient_quota", status=429)
    with opened(fault(rules.text(TEXT))) as (server, session):
        with pytest.raises(llmws.APIError):
            session.create("x")
        assert len(server.ledger.requests) == 1


@pytest.mark.parametrize("fault", [faults.CloseAfter(), faults.Rst(), faults.Fin()], ids=repr)
def test_what_was_sent_and_not_answered_is_the_callers_to_decide(fault):
    """opencode#29673, #48140: it was sent again, and ran twice."""
    with opened(only(1, fault=fault)) as (server, session):
        with pytest.raises(llmws.StreamInterruptedError) as caught:
            session.create("x: nonce 1")
        assert (caught.value.state, caught.value.may_have_been_billed) == ("sent", True)
        assert len(server.ledger.requests) == 1
        assert (session.stats.retries, server.ledger.second_creates()) == (0, [])


@pytest.mark.parametrize("fault", [faults.CloseAfter(), faults.Rst(), faults.Fin()], ids=repr)
def test_who_says_so_has_it_sent_again_once(fault):
    """opencode#29646: users wish for the choice, and for being told."""
    with opened(only(1, 2, fault=fault), retry_uncertain=True) as (server, session):
        stream = session.stream("x")
        with pytest.raises(llmws.StreamInterruptedError):
            stream.response(PATIENCE)
        assert len(server.ledger.requests) == 2
        assert session.create("y").text == TEXT
        assert session.stats.retries == 1


@pytest.mark.parametrize("at", ["created", 2])
@pytest.mark.parametrize("form", ["nested", "failed"])
def test_events_of_a_turns_life_are_no_output_so_that_a_refusal_behind_them_is_one(at, form):
    """openclaw#125477: distinguish lifecycle-only events from committed semantic output."""
    fault = faults.ErrorFrame(at=at, code="server_is_overloaded", status=503, form=form)
    with opened(only(1, fault=fault)) as (server, session):
        stream = session.stream("x")
        assert stream.response(PATIENCE).text == TEXT
        assert len(server.ledger.requests) == 2


@pytest.mark.parametrize("retry_uncertain", [False, True])
@pytest.mark.parametrize(
    "fault",
    [
        faults.CloseAfter(at="delta"),
        faults.Rst(at="delta"),
        faults.ErrorFrame(at="delta", code="rate_limit_exceeded", status=429),
        faults.ErrorFrame(at="delta", code="rate_limit_exceeded", form="failed"),
        # An item without any text in it is output as well.
        faults.ErrorFrame(at=3, code="server_is_overloaded", status=503),
    ],
    ids=["close", "reset", "error", "failed", "error behind an item"],
)
def test_after_output_nothing_is_repeated_whatever_was_said(fault, retry_uncertain):
    """openclaw#125477, and the texts that users saw twice."""
    with opened(only(1, fault=fault), retry_uncertain=retry_uncertain) as (server, session):
        with pytest.raises(llmws.TurnError):
            session.create("x").raise_for_status()
        assert len(server.ledger.requests) == 1


def test_a_tool_runs_once_though_the_turn_that_brings_its_output_is_lost():
    """livekit#3702: the results were lost with the connection, and the tool was called for a second time."""
    ran = []

    def order(item):
        ran.append(item)
        return f"ordered {item}"

    tool = llmws.Tool(
        "order",
        {
            "type": "object",
            "properties": {"item": {"type": "string"}},
            "required": ["item"],
            "additionalProperties": False,
        },
        order,
    )
    rule = rules.sequence(
        rules.tool_calls([{"name": "order", "arguments": {"item": "tea"}}]), rules.text(TEXT)
    )
    with opened(only(2, fault=faults.CloseAfter(), rule=rule)) as (server, session):
        chat = session.conversation(tools=[tool], store=False)
        run = chat.run("Order some tea.")
        with pytest.raises(llmws.StreamInterruptedError):
            list(run)
        assert ran == ["tea"]
        # The output is still there for who decides to go on; it goes out with the call that it belongs to.
        outputs = server.ledger.requests[1].body["input"]
        assert [item["type"] for item in outputs] == ["function_call_output"]
        assert chat.create(outputs).text == TEXT
        assert ran == ["tea"]
        assert creates(server) == [(1, False, 1), (1, True, 1), (2, False, 3)]
