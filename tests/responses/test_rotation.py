"""Connections that are replaced before the server ends them, over real sockets."""

from __future__ import annotations

import contextlib
import threading

import pytest

import llmws
from llmws.responses import rotation
from llmws.testing import Server, rules
from tests.responses.acting import PATIENCE, Steps, until


@contextlib.contextmanager
def talking(rule=None, **arguments):
    """Yield an embedded server, a session with lanes, and a conversation that the server does not store."""
    with (
        Server(rule=rule) as server,
        llmws.Session("m", base_url=server.base_url, lanes=True, **arguments) as session,
    ):
        yield server, session, session.conversation(store=False)


def rotate(session):
    """Have the session's first connection say that it is old."""
    pool = session._core.pool
    pool.aged(pool.slots[0])


def rotated(session, count=1):
    until(lambda: session.stats.rotations == count)


def creates(server):
    """Return of each create its connection, whether it was a warm-up and named a parent, and its items."""
    return [
        (
            entry.connection,
            entry.body.get("generate") is False,
            "previous_response_id" in entry.body,
            len(entry.body["input"]),
        )
        for entry in server.ledger.requests
    ]


def test_a_conversation_goes_on_over_the_successor_without_its_transcript():
    with talking() as (server, session, conversation):
        conversation.create("one")
        rotate(session)
        rotated(session)
        stream = conversation.stream("two")
        assert stream.response().text == "two"
        assert (stream.sent.kind, stream.sent.reason) == ("delta", "parent cached")
        assert creates(server) == [
            (1, False, False, 1),
            (2, True, False, 2),
            (2, False, True, 1),
        ]
        assert session.stats.dials == 2
        assert session.stats.warm_ups == 1
        assert session.stats.fulls == 1
        until(lambda: session.stats.connections == 1)


def test_a_turn_that_runs_ends_where_it_began_and_the_next_one_catches_up():
    rule = Steps(rules.echo())
    with talking(rule) as (server, session, conversation):
        rule.let_all()
        conversation.create("one")
        held = Steps(rules.echo())
        server._stage._rule = rules.answering(held)
        stream = conversation.stream("two")
        until(lambda: len(server.ledger.requests) == 2)
        rotate(session)
        held.let(6)  # The turn's beginning, and the warm-up, which is read beside it.
        until(lambda: len(server.ledger.requests) == 3)
        held.let_all()
        rotated(session)
        assert stream.response().text == "two"
        again = conversation.stream("three")
        assert again.response().text == "three"
        assert again.sent.kind == "delta"
        assert creates(server) == [
            (1, False, False, 1),
            (1, False, True, 1),
            (2, True, False, 2),
            (2, False, True, 3),
        ]
        items = conversation.items
        assert [item.get("role") for item in items] == ["user", "assistant"] * 3


def test_a_connection_that_nobody_uses_ends_without_a_successor():
    with talking(warm_window=0) as (server, session, conversation):
        conversation.create("one")
        rotate(session)
        until(lambda: session.stats.connections == 0)
        assert conversation.create("two").text == "two"
        assert server.ledger.connections == 2
        assert (session.stats.rotations, session.stats.warm_ups) == (0, 0)


def test_without_a_successor_the_old_connection_goes_on():
    with talking() as (server, session, conversation):
        conversation.create("one")
        server._listener.stop()
        rotate(session)
        until(lambda: session.stats.failed_dials or session.stats.dials == 2)
        stream = conversation.stream("two")
        assert stream.response().text == "two"
        assert stream.sent.kind == "delta"
        assert session.stats.rotations == 0
        session.close()


def test_what_cannot_be_read_ahead_is_sent_in_full():
    def rule(request):
        yield from (
            rules.refuse(400, "invalid_prompt", "No.") if request.is_warm_up else rules.echo()
        )(request)

    rule.answers_warm_ups = True
    with talking(rule) as (_, session, conversation):
        conversation.create("one")
        rotate(session)
        rotated(session)
        stream = conversation.stream("two")
        assert stream.response().text == "two"
        assert (stream.sent.kind, stream.sent.reason) == ("full", "connection lost")


def test_a_session_that_is_closed_in_the_middle_does_not_wait_for_it():
    rule = Steps(rules.echo())
    with talking(rule) as (server, session, conversation):
        rule.let_all()
        conversation.create("one")
        server._stage._rule = rules.answering(Steps(rules.echo()))
        rotate(session)
        session.close()
        until(
            lambda: not any(thread.name.endswith("-rotation") for thread in threading.enumerate())
        )


def test_a_forgotten_conversation_is_not_moved():
    with talking() as (server, session, conversation):
        conversation.create("one")
        other = session.conversation(store=False)
        other.create("kept")
        del conversation
        rotate(session)
        rotated(session)
        assert [
            entry.body["input"]
            for entry in server.ledger.requests
            if entry.body.get("generate") is False
        ]
        assert other.create("two").text == "two"


def test_a_connection_says_by_itself_that_it_is_old(monkeypatch):
    began = threading.Event()
    monkeypatch.setattr(rotation.Rotation, "begin", lambda self, old: began.set())
    capabilities = llmws.Capabilities(max_age=0.05, lanes=True)
    with (
        Server() as server,
        llmws.Session("m", base_url=server.base_url, capabilities=capabilities) as session,
    ):
        session.create("one")
        assert began.wait(PATIENCE)


@pytest.mark.parametrize(("minutes", "least", "most"), [(60, 52, 55), (25, 21, 23), (13, 11, 12)])
def test_a_connection_is_replaced_some_minutes_before_its_end(minutes, least, most):
    capabilities = llmws.Capabilities(max_age=minutes * 60.0)
    assert (
        least * 60 <= capabilities.rotate_after(1.0) < capabilities.rotate_after(0.0) <= most * 60
    )


def test_a_conversation_of_another_connection_is_left_where_it_is():
    with talking() as (server, session, conversation):
        conversation.create("one")
        pool = session._core.pool
        other = pool.add()
        other.reserved = False
        pool.slots[0].retired = True  # So that the next conversation begins elsewhere.
        elsewhere = session.conversation(store=False)
        elsewhere.create("two")
        pool.slots[0].retired = False
        rotate(session)
        rotated(session)
        warmed = [
            entry.body["input"][0]["content"] for entry in server.ledger.requests if entry.warm_up
        ]
        assert warmed == ["one"]
        assert elsewhere.create("three").text == "three"


def test_a_transcript_that_only_now_has_to_be_sent_may_be_too_long():
    capabilities = llmws.Capabilities(lanes=True, max_frame_bytes=1_000)
    with talking(capabilities=capabilities) as (server, session, conversation):
        for word in ("a" * 300, "b" * 300):
            conversation.create(word)
        for sock in list(server._open.values()):
            sock.cut()
        until(lambda: session.stats.lost == 1)
        with pytest.raises(llmws.ConfigurationError, match=r"1,000: shorten the conversation"):
            conversation.create("c" * 300)
        assert len(server.ledger.requests) == 2
