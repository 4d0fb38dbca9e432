"""
Lesson 7: a socket that is closed, in doubt, or not read to the end of its last answer is not trusted with a turn.

The numbers in the docstrings are the issues in which users of other clients met the bug.
"""

from __future__ import annotations

import time

import pytest

import llmws
from llmws.testing import FaultProxy, Server, faults, rules
from llmws.testing.plans import Plan
from tests.peers.lessons.scene import PATIENCE, TEXT, creates, notices, only, opened, session_at
from tests.responses.acting import Steps, until


def held_first(rule=None):
    """Return steps that hold back the answers to inputs that begin with "held", and a rule that uses them."""
    echo = rule or rules.echo()
    steps = Steps(echo)

    def chosen(request):
        return (steps if request.input_text.startswith("held") else echo)(request)

    return steps, chosen


@pytest.mark.parametrize("what", ["reset", "fin"])
def test_a_socket_that_was_closed_between_two_turns_is_not_used_again(what):
    """livekit#6513, senpi#1648: the closed socket stayed in the pool, and turns froze for five minutes."""
    with (
        Server(rule=rules.text(TEXT)) as server,
        FaultProxy.before(server.base_url) as proxy,
        session_at(proxy.base_url()) as session,
    ):
        for turn in range(3):
            stream = session.stream(f"turn {turn}")
            assert stream.response(PATIENCE).text == TEXT
            assert notices(stream) == []
            proxy.strike(Plan(what))
            until(lambda lost=turn + 1: session.stats.lost == lost)
        assert [entry.connection for entry in server.ledger.requests] == [1, 2, 3]


def test_a_socket_that_died_without_a_word_is_found_out_by_pings_and_replaced():
    """senpi#1648: a heartbeat fixed it."""
    with (
        Server(rule=rules.text(TEXT)) as server,
        FaultProxy.before(server.base_url) as proxy,
        session_at(proxy.base_url(), ping=0.05) as session,
    ):
        assert session.create("x").text == TEXT
        proxy.strike(Plan("black_hole"))
        until(lambda: session.stats.lost == 1)
        assert session.create("y").text == TEXT
        assert [entry.connection for entry in server.ledger.requests] == [1, 2]


def test_a_connection_that_nobody_uses_is_closed_here_before_anybody_forgets_it(clock):
    """senpi#1648: what had been idle for long was as good as closed, and was used all the same."""
    with opened(clock=clock) as (server, session):
        assert session.create("x").text == TEXT
        idle = session._core.connection
        clock.sleep(4 * 60)
        idle._poll.wake()
        assert session.create("y").text == TEXT
        clock.sleep(5 * 60 + 1)
        idle._poll.wake()
        until(lambda: session.stats.connections == 0)
        assert session.create("z").text == TEXT
        assert [entry.connection for entry in server.ledger.requests] == [1, 1, 2]
        assert (session.stats.lost, session.stats.dials) == (0, 2)


@pytest.mark.parametrize("lanes", [True, False])
def test_the_tail_of_a_cancelled_turn_is_nobodys(lanes):
    """VC note 17: the next turn on the socket read the end of the last one."""
    steps, rule = held_first()
    with opened(rule, lanes=lanes) as (server, session):
        stream = session.stream("held back for long")
        steps.let(5)
        next(stream.texts())
        stream.cancel()
        following = session.stream("good")
        steps.let_all()
        assert following.response(PATIENCE).text == "good"
        assert "".join(following.texts()) == "good"
        assert {
            event.raw["response"]["id"] for event in following.events() if "response" in event.raw
        } == {following.response().id}
        assert server.ledger.connections == (1 if lanes or server.ledger.connections == 1 else 2)


def test_a_tail_that_does_not_end_costs_the_socket_and_no_turn(short_drain):
    """VC note 17: a socket whose answer was not drained to its end is poisoned."""
    rule = only(1, fault=faults.Stall(at="delta"), rule=rules.echo())
    with opened(rule, lanes=False, max_connections=1) as (server, session):
        stream = session.stream("held")
        next(stream.texts())
        stream.cancel()
        assert session.create("good").text == "good"
        assert [entry.connection for entry in server.ledger.requests] == [1, 2]


def test_a_turn_that_was_cancelled_before_it_was_sent_leaves_nothing_to_wait_for():
    """pipecat#5787, #5791: a drain was armed though nothing was sent, and five seconds of silence followed."""
    steps, rule = held_first()
    with opened(rule, lanes=False, max_connections=1) as (server, session):
        first = session.stream("held")
        until(lambda: len(server.ledger.requests) == 1)
        waiting = [session.stream(f"never {n}") for n in range(3)]
        for stream in waiting:
            stream.cancel()
            with pytest.raises(llmws.StreamCancelledError) as caught:
                stream.response(PATIENCE)
            assert caught.value.may_have_been_billed is False
        began = time.monotonic()
        steps.let_all()
        assert first.response(PATIENCE).text == "held"
        assert session.create("good").text == "good"
        assert time.monotonic() - began < 2.5  # Half of a drain.
        assert [body["input"] for body in server.ledger.creates] == ["held", "good"]
        assert session.stats.dials == 1


@pytest.mark.parametrize("lanes", [True, False])
@pytest.mark.parametrize(
    "fault",
    [
        faults.CloseAfter(at="delta"),
        faults.Rst(at="created"),
        faults.Garble(at="delta", kind="garbage"),
        faults.Garble(at="delta", kind="no JSON"),
        faults.Stall(at="delta"),
        faults.HalfOpen(at="delta"),
        faults.ErrorFrame(code="invalid_prompt", status=400),
        faults.ErrorFrame(at="delta", code="server_error"),
        faults.ErrorFrame(at="delta", code="server_error", goes_on=True),
    ],
    ids=lambda fault: f"{fault.name} at {fault.at}",
)
def test_a_turn_that_failed_leaves_a_session_and_a_conversation_that_work(
    fault, lanes, short_drain, monkeypatch
):
    """pipecat#5575: after an error every further turn failed as well."""
    monkeypatch.setattr("llmws.responses.routing.answers._ERROR_GRACE", 0.05)
    limits = {"idle": 0.15, "first_event": 0.15}
    rule = only(2, fault=fault, rule=rules.echo())
    with opened(rule, lanes=lanes, ping=0.1, timeouts=limits) as (_, session):
        chat = session.conversation(store=False)
        chat.create("one")
        try:
            chat.create("two three four").raise_for_status()
        except llmws.TurnError:
            pass
        else:
            assert getattr(fault, "goes_on", False)
        assert chat.create("five").text == "five"
        assert session.create("six").text == "six"
        users = [item["content"] for item in chat.items if item["role"] == "user"]
        assert users in (["one", "five"], ["one", "two three four", "five"])


def test_a_new_connection_has_nothing_of_the_answers_of_the_old_one():
    """livekit#5276: after a reconnect the answer of before was still waited for."""
    with opened(only(1, fault=faults.Rst(at="delta"), rule=rules.echo())) as (server, session):
        chat = session.conversation(store=False)
        stream = chat.stream("one two three")
        with pytest.raises(llmws.StreamInterruptedError):
            list(stream)
        again = chat.stream("four")
        assert again.response(PATIENCE).text == "four"
        assert stream.state == "ended"
        assert creates(server) == [(1, False, 1), (2, False, 1)]
        assert [item["role"] for item in chat.items] == ["user", "assistant"]
