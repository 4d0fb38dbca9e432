"""
Lesson 6: each phase of a turn has a limit of its own; pings show that the link lives, events that the turn does.

There is one ``first_event`` for all turns (codex#24260 wishes for a shorter one on a socket that was used before): a
socket in doubt is asked by a ping before anything is written to it, and the limit can be set for each turn.

The numbers in the docstrings are the issues in which users of other clients met the bug.
"""

from __future__ import annotations

import threading
import time

import pytest

import llmws
from llmws.testing import faults, rules
from llmws.wire.framing import PING, encode
from tests.endings.script import Script
from tests.peers.lessons.scene import PATIENCE, TEXT, only, opened, session_at
from tests.responses.acting import Steps, until


def first(count, rule=None):
    """Return a rule that sends so many events and then nothing."""
    return faults.Stall(at=count)(rule or rules.text(TEXT))


@pytest.mark.parametrize(
    ("events", "limit", "error"),
    [
        (0, "first_event", llmws.FirstEventTimeout),
        (1, "idle", llmws.IdleTimeout),
        (6, "idle", llmws.IdleTimeout),
        (0, "total", llmws.TotalTimeout),
        (6, "total", llmws.TotalTimeout),
    ],
)
def test_each_phase_has_a_limit_and_an_error_of_its_own(events, limit, error, short_drain):
    """codex#23807, #38638: every stall was exactly 300 s long, whatever its cause."""
    with opened(first(events)) as (_, session):
        others = dict.fromkeys(("first_event", "idle", "total"))
        stream = session.stream("x", timeouts={**others, limit: 0.1})
        with pytest.raises(error) as caught:
            stream.response(PATIENCE)
        assert isinstance(caught.value, TimeoutError)


def test_a_limit_of_one_phase_does_not_cut_another():
    """codex#39771: a model that thought for more than eight minutes was taken for dead."""
    rule = Steps(rules.text(TEXT))
    with opened(rule, timeouts={"connect": 0.2, "first_event": 0.2, "idle": None}) as (_, session):
        stream = session.stream("x")
        rule.let(2)
        next(stream.events())
        threading.Event().wait(0.3)  # Longer than each of the others.
        assert stream.state == "accepted"
        rule.let_all()
        assert stream.response(PATIENCE).text == TEXT


def test_the_dial_has_a_limit_that_does_not_count_what_comes_after_it():
    """req_llm#930: connecting and receiving shared one limit."""

    def play(wire):
        wire.upgrade()
        wire.create()
        server.gate.wait(PATIENCE)

    with Script(play) as server:
        limits = {"connect": 0.2, "first_event": PATIENCE}
        with session_at(server.base_url, timeouts=limits) as session:
            stream = session.stream("x")
            with pytest.raises(llmws.WaitTimeout):
                stream.response(0.4)
            assert stream.state == "sent"
            stream.cancel()
            server.gate.set()


def test_a_long_silence_with_live_pings_harms_no_turn():
    """openai-agents-python#3080, agents-js#1219: a ping's limit ended turns that were only thinking."""
    rule = Steps(rules.text(TEXT))
    with opened(rule, ping=0.02) as (server, session):
        stream = session.stream("x")
        until(lambda: server.ledger.pings >= 10)
        assert stream.state == "sent"
        rule.let_all()
        assert stream.response(PATIENCE).text == TEXT
        assert session.stats.dials == 1


@pytest.mark.parametrize(
    ("events", "limit", "error"),
    [(0, "first_event", llmws.FirstEventTimeout), (4, "idle", llmws.IdleTimeout)],
)
def test_pings_are_no_progress(events, limit, error, short_drain):
    """codex#43022: while pings were answered, the watchdog of a stalled turn behaved as if it were alive, or dead."""

    def rule(request):
        connection = request.connection
        yield from list(rules.text(TEXT)(request))[:events]
        while not connection.closed.wait(0.01):
            connection.send_bytes(encode(PING, b"still here"))

    with opened(rule, ping=0.02) as (server, session):
        began = time.monotonic()
        stream = session.stream("x", timeouts={limit: 0.3})
        with pytest.raises(error):
            stream.response(PATIENCE)
        assert time.monotonic() - began >= 0.3  # Not earlier either: it was its own limit.
        assert server.ledger.pings >= 3


def test_a_turn_on_a_socket_that_was_used_may_have_a_shorter_limit(short_drain):
    """codex#24260."""
    with opened(only(2, fault=faults.Stall())) as (server, session):
        assert session.create("x").text == TEXT
        with pytest.raises(llmws.FirstEventTimeout):
            session.create("y", timeouts={"first_event": 0.1})
        assert session.create("z").text == TEXT
        assert len(server.ledger.requests) == 3


def test_who_stops_waiting_takes_no_event_from_those_who_wait_on():
    """req_llm#930: a waiter that had timed out ate the next message."""
    rule = Steps(rules.text(TEXT))
    with opened(rule) as (_, session):
        stream = session.stream("x")
        for _ in range(3):
            with pytest.raises(llmws.WaitTimeout):
                stream.response(0.02)
            rule.let(2)
        rule.let_all()
        assert "".join(stream.texts()) == stream.response(PATIENCE).text == TEXT
