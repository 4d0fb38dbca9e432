"""
Lesson 8: what cannot work is said, and nothing that went wrong once is held against the next turn.

There is no fallback to HTTP yet; it comes later, with its own tests for being announced, temporary, and switched off by
one word. What can be asked of a client without one is here: where a peer would have to fall back, there is an error
that says so, and the WebSocket is tried again as soon as somebody asks.

The numbers in the docstrings are the issues in which users of other clients met the bug.
"""

from __future__ import annotations

import attrs
import pytest

import llmws
from llmws.testing import faults, rules
from tests.peers.lessons.scene import TEXT, only, opened


def test_a_server_without_websockets_is_told_as_such_and_was_sent_nothing():
    """pi-cliproxyapi#36, codex-lb#1886, codex#22156: it was an error like any other, or none."""
    refusal = attrs.evolve(faults.UPGRADES["426"], times=None)
    with opened(server={"refuse_upgrade": refusal}) as (server, session):
        with pytest.raises(llmws.UpgradeRefusedError, match="426") as caught:
            session.create("x")
        assert caught.value.status == 426
        assert (session.stats.dials, server.ledger.requests) == (1, [])


@pytest.mark.parametrize("name", ["426", "403", "404", "200"])
def test_an_upgrade_that_was_refused_once_is_tried_again_by_the_next_turn(name):
    """codex#23665, term-llm#517: after one failure the WebSocket was never tried again."""
    with opened(server={"refuse_upgrade": faults.UPGRADES[name]}) as (server, session):
        with pytest.raises(llmws.HandshakeError):
            session.create("x")
        assert session.create("y").text == TEXT
        assert server.ledger.connections == 1


@pytest.mark.parametrize("code", [1002, 1003, 1007, 1008, 1009])
@pytest.mark.parametrize("at", [0, "delta"])
def test_a_close_that_says_no_is_an_error_with_its_code_and_is_not_held_against_the_next_turn(
    code, at
):
    """codex#23665: only 1009 needs HTTP, and that for one message."""
    fault = faults.CloseAfter(at=at, code=code, reason="no")
    with opened(only(1, fault=fault)) as (server, session):
        with pytest.raises(llmws.StreamInterruptedError) as caught:
            session.create("x")
        assert (caught.value.close_code, caught.value.close_reason) == (code, "no")
        # The same message would be refused for the same reason.
        assert len(server.ledger.requests) == 1
        assert session.create("y").text == TEXT
        assert all(entry.transport == "ws" for entry in server.ledger.requests)


def test_links_that_break_again_and_again_do_not_change_how_turns_travel():
    """pi#8787: a passing 1006 moved a user to SSE, which was not to be had in the EU."""
    with opened(only(1, 2, 3, 4, fault=faults.Fin(at="delta"))) as (server, session):
        for _ in range(4):
            with pytest.raises(llmws.StreamInterruptedError):
                session.create("x")
        assert session.create("y").text == TEXT
        assert {entry.transport for entry in server.ledger.requests} == {"ws"}
        assert [entry.connection for entry in server.ledger.requests] == [1, 2, 3, 4, 5]


def test_a_message_that_is_too_long_is_refused_before_it_is_sent_and_says_what_to_do():
    """codex#22156: the server closed with 1009, and nobody knew why."""
    with opened() as (server, session):
        with pytest.raises(llmws.ConfigurationError, match="16,777,216"):
            session.create("x" * (16 * 2**20))
        chat = session.conversation()
        with pytest.raises(llmws.ConfigurationError, match="shorten"):
            chat.create("x" * (16 * 2**20))
        assert chat.create("y").text == TEXT
        assert len(server.ledger.requests) == 1


def test_lanes_that_a_server_refuses_are_given_up_for_this_session_alone():
    """opencode#49338, codex#24260: one switch for what a backend cannot do, and no trace of it elsewhere."""
    fault = faults.ErrorFrame(code="unknown_parameter", status=400, param="stream_id")
    rule = faults.apply(
        rules.text(TEXT), lambda request: fault if "stream_id" in request.body else None
    )
    with opened(rule) as (server, session):
        assert session.create("x").text == TEXT
        assert session.create("y").text == TEXT
        named = ["stream_id" in entry.body for entry in server.ledger.requests]
        assert named == [True, False, False]
    with opened(rule, lanes=False) as (server, session):
        assert session.create("x").text == TEXT
        assert session.stats.retries == 0
