"""
Lesson 3: connections live 60 minutes: replace them before, between turns, and recover if the server is first.

The numbers in the docstrings are the issues in which users of other clients met the bug.
"""

from __future__ import annotations

import pytest

import llmws
from llmws.testing import Semantics, faults, rules
from tests.peers.lessons.scene import LANES, PATIENCE, TEXT, creates, notices, only, opened
from tests.responses.acting import Steps, until


LIMIT = faults.ErrorFrame(
    code="websocket_connection_limit_reached", status=400, lane=False, close=1001
)


def test_a_connection_is_replaced_before_the_server_ends_it_and_no_turn_notices(clock):
    """pi#5973, pi#6268: the turn that met the limit was lost, and others waited for a dial."""
    with opened(capabilities=LANES, clock=clock, warm_window=600) as (server, session):
        chat = session.conversation(store=False)
        chat.create("one")
        clock.sleep(50 * 60)
        chat.create("two")
        assert session.stats.rotations == 0
        clock.sleep(5.5 * 60)
        assert session.create("of somebody else").text == TEXT
        until(lambda: session.stats.rotations == 1)
        stream = chat.stream("three")
        assert stream.response(PATIENCE).text == TEXT
        assert stream.sent.kind == "delta"
        assert [told["notice"] for told in notices(stream)] == ["rotation"]
        assert server.ledger.requests[-1].connection == 2
        assert session.stats.retries == 0


def test_a_turn_that_runs_is_not_cut_off_by_the_replacement():
    """livekit#2341, #2358: the session was renewed in the middle of an answer."""
    rule = Steps(rules.text(TEXT))
    with opened(rule, capabilities=LANES) as (server, session):
        stream = session.stream("one")
        rule.let(5)
        next(stream.texts())
        session._core.pool.aged(session._core.pool.slots[0])
        until(lambda: session.stats.rotations == 1)
        rule.let_all()
        assert stream.response(PATIENCE).text == TEXT
        assert session.create("two").text == TEXT
        assert [entry.connection for entry in server.ledger.requests] == [1, 2]


@pytest.mark.parametrize("store", [False, None])
def test_a_turn_that_the_server_refuses_for_the_age_goes_to_another_connection(store):
    """reachy_mini#134, pipecat#3170: the limit was an error like any other, and the conversation was over."""
    fields = {} if store is None else {"store": store}
    with opened(only(2, fault=LIMIT), lanes=True) as (server, session):
        chat = session.conversation(**fields)
        chat.create("one")
        stream = chat.stream("two")
        assert stream.response(PATIENCE).text == TEXT
        assert [told["notice"] for told in notices(stream)] == ["retry"]
        # What only the connection had is sent again; what is stored is not.
        again = (2, False, 3) if store is False else (2, True, 1)
        assert creates(server) == [(1, False, 1), (1, True, 1), again]
        assert session.stats.retries == 1


def test_what_runs_when_the_server_says_that_the_time_is_over_is_read_to_its_end():
    """pipecat#3170: answers that the server still gave were thrown away."""
    rule = Steps(rules.text(TEXT))
    with opened(rule, server={"semantics": Semantics(max_age=0.2)}, lanes=True) as (
        server,
        session,
    ):
        chat = session.conversation(store=False)
        stream = chat.stream("one")
        rule.let(5)
        until(lambda: session._core.lanes._retired is not None)
        rule.let_all()
        assert stream.response(PATIENCE).text == TEXT
        assert chat.create("two").text == TEXT
        assert creates(server) == [(1, False, 1), (2, False, 3)]


def test_a_limit_on_every_connection_is_an_error_and_no_loop():
    """pi#6268: each new connection met the same answer."""
    with opened(LIMIT(rules.text(TEXT)), lanes=True) as (server, session):
        with pytest.raises(llmws.ConnectionLimitError):
            session.create("x")
        assert len(server.ledger.requests) == 2


@pytest.mark.parametrize("minutes", [6, 61, 600])
def test_a_process_that_slept_looks_at_the_time_when_it_is_used(minutes, clock):
    """pi#6931, #6955: the process was suspended, its timer came late, and the dead socket was used first."""
    with opened(only(2, fault=LIMIT), capabilities=LANES, clock=clock) as (server, session):
        chat = session.conversation(store=False)
        chat.create("one")
        clock.sleep(minutes * 60)
        assert chat.create("two").text == TEXT
        assert [item["role"] for item in chat.items] == ["user", "assistant"] * 2
        answered = [entry for entry in server.ledger.requests if entry.ended == "completed"]
        assert len([entry for entry in answered if not entry.warm_up]) == 2
