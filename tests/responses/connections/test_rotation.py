"""Connections that are replaced before the server ends them, over real sockets."""

from __future__ import annotations

import contextlib
import gc
import threading
import time
import types

import pytest

import llmws
from llmws.responses.connections import rotation
from llmws.responses.conversation import course as courses
from llmws.responses.routing import lanes as routers
from llmws.testing import FaultProxy, Semantics, Server, rules
from llmws.testing.plans import Plan
from tests.responses.acting import PATIENCE, Steps, until


NO_LIMITS = {"connect": None, "first_event": None, "idle": None, "lane_wait": None}


@contextlib.contextmanager
def talking(rule=None, lanes=True, **arguments):
    """Yield an embedded server, a session with lanes, and a conversation that the server does not store."""
    with (
        Server(rule=rule, semantics=Semantics(lanes=lanes)) as server,
        llmws.Session("m", base_url=server.base_url, **{"lanes": lanes, **arguments}) as session,
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


def warmed(server):
    """Return the first words of the conversations that were read ahead, in order."""
    return [entry.body["input"][0]["content"] for entry in server.ledger.requests if entry.warm_up]


def goes_on(conversation):
    """Run a turn, and return how it was sent."""
    stream = conversation.stream("further")
    assert stream.response(PATIENCE).text == "further"
    return stream.sent.kind


def holding(number):
    """Return a rule that keeps the server's request of this number waiting, and what lets it go."""
    held = Steps(rules.echo())
    return lambda request: (held if request.number == number else rules.echo())(request), held


def clock_of(monkeypatch, module, seconds):
    """Have a module see a time that is so many seconds off."""
    off = types.SimpleNamespace(monotonic=lambda: time.monotonic() + seconds)
    monkeypatch.setattr(module, "time", off)


def test_a_conversation_goes_on_over_the_successor_without_its_transcript():
    with talking() as (server, session, conversation):
        conversation.create("one")
        rotate(session)
        rotated(session)
        stream = conversation.stream("two")
        assert stream.response().text == "two"
        assert (stream.sent.kind, stream.sent.reason) == ("delta", "parent warmed up")
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


def test_a_session_that_is_closed_in_the_middle_does_not_wait_for_it(caplog):
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
    assert "no successor" not in caplog.text


def test_a_forgotten_conversation_is_not_moved():
    with talking() as (server, session, conversation):
        conversation.create("forgotten")
        other = session.conversation(store=False)
        other.create("kept")
        del conversation
        gc.collect()
        rotate(session)
        rotated(session)
        assert warmed(server) == ["kept"]
        assert goes_on(other) == "delta"


@pytest.mark.parametrize("looked_at", [False, True])
def test_a_turn_that_took_longer_than_the_window_counts_from_its_end(looked_at, monkeypatch):
    with talking(warm_window=60) as (server, session, conversation):
        clock_of(monkeypatch, courses, -100)
        conversation.create("long ago")
        if looked_at:
            assert len(conversation.items) == 2
        monkeypatch.undo()
        rotate(session)
        rotated(session)
        assert warmed(server) == ["long ago"]
        assert goes_on(conversation) == "delta"


def test_what_was_not_in_use_lately_is_not_moved_and_what_runs_is(monkeypatch):
    rule, held = holding(3)
    with talking(rule, warm_window=60) as (server, session, conversation):
        conversation.create("idle")
        other = session.conversation(store=False)
        other.create("running")
        stream = other.stream("further")
        until(lambda: len(server.ledger.requests) == 3)
        for module in (courses, rotation):
            clock_of(monkeypatch, module, 100)
        rotate(session)
        rotated(session)
        held.let_all()
        assert stream.response(PATIENCE).text == "further"
        assert warmed(server) == ["running"]


@pytest.mark.parametrize("known", [False, None])
def test_without_lanes_only_the_conversation_that_was_used_last_is_moved(known):
    with talking(lanes=False, max_connections=1) as (server, session, first):
        others = [session.conversation(store=False) for _ in range(4)]
        for number, each in enumerate([first, *others]):
            each.create(f"{number}")
        others[1].create("again")
        session._core.lanes._lanes.known = known
        rotate(session)
        rotated(session)
        assert warmed(server) == ["2"]
        assert goes_on(others[1]) == "delta"


def test_without_lanes_a_turn_that_waits_does_not_go_before_the_one_that_runs():
    rule, held = holding(7)
    with talking(rule, lanes=False, max_connections=1) as (server, session, conversation):
        others = [session.conversation(store=False) for _ in range(5)]
        for each in [conversation, *others]:
            each.create("other" if each in others else "mine")
        stream = conversation.stream("further")
        until(lambda: len(server.ledger.requests) == 7)
        waiting = [each.stream("further") for each in others]
        rotate(session)
        rotated(session)
        held.let_all()
        for each in [stream, *waiting]:
            assert each.response(PATIENCE).text == "further"
        assert warmed(server) == ["mine"]


def test_what_the_old_connection_caches_is_cached_by_its_successor():
    # The default lane, and two with names: two of the five conversations have none any more.
    capabilities = llmws.Capabilities(lanes=True, max_active=2, max_lanes=2)
    with talking(capabilities=capabilities, max_connections=1) as (server, session, first):
        chats = [first, *(session.conversation(store=False) for _ in range(4))]
        for number, each in enumerate(chats):
            each.create(f"{number}")
        rotate(session)
        rotated(session)
        assert warmed(server)[-3:] == ["2", "3", "4"]
        assert [goes_on(each) for each in chats[2:]] == ["delta"] * 3


def test_a_successor_that_says_nothing_is_given_up_and_another_one_sought(monkeypatch):
    """Whatever limits the session has, or has not."""
    monkeypatch.setattr(rotation, "_WARM_SECONDS", 0.5)
    monkeypatch.setattr(routers, "_AGED_AGAIN_SECONDS", 0.05)

    def rule(request):
        if request.is_warm_up and request.connection.number == 2:
            monkeypatch.setattr(rotation, "_WARM_SECONDS", PATIENCE)  # For the next one.
            request.connection.closed.wait(PATIENCE)
        else:
            yield from rules.echo()(request)

    rule.answers_warm_ups = True
    with talking(rule, timeouts=NO_LIMITS) as (server, session, conversation):
        conversation.create("one")
        rotate(session)
        rotated(session)
        assert goes_on(conversation) == "delta"
        assert [(entry.connection, entry.warm_up) for entry in server.ledger.requests] == [
            (1, False),
            (2, True),
            (3, True),
            (3, False),
        ]
        until(lambda: session.stats.connections == 1)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_successor_whose_preparation_breaks_down_is_not_left_behind(monkeypatch):
    monkeypatch.setattr(routers, "_AGED_AGAIN_SECONDS", 0.05)

    def broken():
        monkeypatch.setattr(conversation, "warm_request", whole)
        raise RuntimeError

    with talking() as (_, session, conversation):
        whole = conversation.warm_request
        conversation.create("one")
        monkeypatch.setattr(conversation, "warm_request", broken)
        rotate(session)
        rotated(session)
        assert goes_on(conversation) == "delta"
        until(lambda: session.stats.connections == 1)


def test_a_dial_that_does_not_end_is_given_up_and_tried_again(monkeypatch):
    monkeypatch.setattr(rotation, "_DIAL_SECONDS", 0.5)
    monkeypatch.setattr(routers, "_AGED_AGAIN_SECONDS", 0.05)

    def plan(number):
        return Plan("mute") if number == 2 else None

    with (
        Server(rule=rules.echo()) as server,
        FaultProxy.before(server.base_url, plan) as proxy,
        llmws.Session("m", base_url=proxy.base_url(), lanes=True, timeouts=NO_LIMITS) as session,
    ):
        conversation = session.conversation(store=False)
        conversation.create("one")
        rotate(session)
        rotated(session)
        assert goes_on(conversation) == "delta"
        assert session.stats.dials >= 3


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
