"""What conversations get of their session: turns, and the posts whose limits, end and tokens are the session's."""

import contextlib
import socket
import threading
import time

import pytest

import llmws
from llmws.errors import (
    ConfigurationError,
    FirstEventTimeout,
    LaneTimeout,
    SessionClosedError,
    StreamCancelledError,
    TotalTimeout,
    WouldDeadlockError,
)
from llmws.testing import Server, rules
from tests.responses.acting import until


@pytest.fixture
def mute():
    """A server that takes every connection and says nothing; gives its base URL and what came."""
    came, held = [], []
    listener = socket.create_server(("127.0.0.1", 0))

    def listen():
        with contextlib.suppress(OSError):
            while True:
                held.append(listener.accept()[0])
                came.append(held[-1].recv(65_536))

    thread = threading.Thread(target=listen, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{listener.getsockname()[1]}/v1", came
    with contextlib.suppress(OSError):
        listener.shutdown(socket.SHUT_RDWR)
    listener.close()
    for connection in held:
        connection.close()
    thread.join(5)


@contextlib.contextmanager
def session_at(base_url, **options):
    with llmws.Session("m", base_url=base_url, **options) as session:
        yield session


def test_a_closed_session_compacts_nothing():
    with Server() as server:
        with session_at(server.base_url) as session:
            conversation = session.conversation()
            conversation.create("one")
        with pytest.raises(SessionClosedError):
            conversation.compact()
        assert server.ledger.compactions == []
        assert conversation.items[-1]["type"] == "message"


def test_a_closed_session_runs_no_tool_whose_output_could_not_be_sent():
    ran = []
    tool = llmws.Tool("f", {"type": "object", "properties": {}}, lambda: ran.append(1))
    with Server(rule=rules.tool_calls([{"name": "f", "arguments": {}}])) as server:
        with session_at(server.base_url) as session:
            conversation = session.conversation(tools=[tool])
            conversation.run("one", max_turns=1).result()
            waiting = conversation.run()
        with pytest.raises(SessionClosedError):
            conversation.run()
        with pytest.raises(SessionClosedError):
            waiting.result()
        assert ran == []


def test_closing_the_session_ends_a_compaction_soon(mute):
    base_url, came = mute
    with session_at(base_url) as session:
        conversation = session.conversation()
        conversation.replace_items("one")
        errors = []

        def compact():
            try:
                conversation.compact()
            except llmws.TurnError as exc:
                errors.append(exc)

        thread = threading.Thread(target=compact, daemon=True)
        thread.start()
        until(lambda: came)
        session.close()
        thread.join(5)
        assert [type(error) for error in errors] == [StreamCancelledError]
        assert errors[0].may_have_been_billed
    assert len(conversation.items) == 1


def test_the_sessions_limits_hold_for_a_compaction(mute):
    base_url, _ = mute
    for limits, kind in ({"first_event": 0.1}, FirstEventTimeout), ({"total": 0.1}, TotalTimeout):
        with session_at(base_url, timeouts=limits) as session:
            conversation = session.conversation()
            conversation.replace_items("one")
            began = time.monotonic()
            with pytest.raises(kind):
                conversation.compact()
            assert time.monotonic() - began < 3


def test_the_total_limit_of_a_compaction_counts_from_its_call(mute):
    with session_at(mute[0], timeouts={"total": 100, "first_event": 5}) as session:
        host = session.conversation()._host
        with pytest.raises(TotalTimeout) as caught:
            host.post("/responses/compact", {}, started_at=time.monotonic() - 100)
        assert not caught.value.may_have_been_billed


@pytest.mark.parametrize(
    ("limits", "kind"), [({"lane_wait": 0.1}, LaneTimeout), ({"total": 0.1}, TotalTimeout)]
)
def test_a_compaction_waits_for_the_turn_before_within_its_own_limits(limits, kind):
    over = threading.Event()

    def rule(request):
        over.wait(10)
        yield from rules.echo()(request)

    with Server(rule=rule) as server, session_at(server.base_url, timeouts=limits) as session:
        conversation = session.conversation()
        stream = conversation.stream("one", timeouts={"total": 20, "lane_wait": 20})
        until(lambda: server.ledger.requests)
        with pytest.raises(kind) as caught:
            conversation.compact()
        assert (caught.value.state, caught.value.may_have_been_billed) == ("queued", False)
        over.set()
        stream.response()
        assert server.ledger.compactions == []


def test_an_empty_conversation_is_not_posted(mute):
    base_url, came = mute
    with (
        session_at(base_url) as session,
        pytest.raises(ConfigurationError, match="nothing to compact"),
    ):
        session.conversation().compact()
    assert came == []


def test_the_tokens_of_a_compaction_are_the_sessions_too():
    with Server() as server, session_at(server.base_url) as session:
        first, second = session.conversation(), session.conversation()
        for conversation in (first, second):
            conversation.create("one")
        before = session.usage.total_tokens
        assert before == first.usage.total_tokens + second.usage.total_tokens
        first.compact()
        second.compact()
        assert session.usage.total_tokens > before
        assert session.usage.total_tokens == first.usage.total_tokens + second.usage.total_tokens


def test_the_io_thread_posts_nothing(monkeypatch):
    def refuse():
        raise WouldDeadlockError("no")

    with Server() as server, session_at(server.base_url) as session:
        conversation = session.conversation()
        conversation.replace_items("one")
        monkeypatch.setattr(session._core, "check_may_wait", refuse)
        with pytest.raises(WouldDeadlockError):
            conversation.compact()
        assert server.ledger.compactions == []


def test_the_wait_for_the_turn_before_counts_in_the_turns_own_time():
    over, streams = threading.Event(), []

    def rule(request):
        over.wait(10)
        yield from rules.echo()(request)

    with Server(rule=rule) as server, session_at(server.base_url) as session:
        conversation = session.conversation()
        first = conversation.stream("one")
        waiting = threading.Thread(
            target=lambda: streams.append(conversation.stream("two", timeouts={"total": 30})),
            daemon=True,
        )
        waiting.start()
        until(lambda: first._turn.inbox._monitor._waiting)
        waited = time.monotonic()
        over.set()
        waiting.join(5)
        turn = streams[0]._turn
        assert turn.started_at < waited
        assert (turn.queued_at, turn.timeouts.total) == (turn.started_at, 30)
        assert streams[0].response().text == "two"
