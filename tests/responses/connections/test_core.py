import threading
import time

import pytest

from llmws.errors import (
    ConnectError,
    OutboxFullError,
    SessionClosedError,
    StreamCancelledError,
    WouldDeadlockError,
)
from llmws.responses.connections.core import Core
from llmws.responses.routing.turn import Cancel, Submit, Turn
from llmws.testing import Server
from llmws.timeouts import Timeouts
from llmws.wire.endpoint import Endpoint
from tests.responses.acting import PATIENCE, mute_server


PAYLOAD = b'{"type":"response.create","model":"m","input":"Hi"}'
FULL = 64 * 2**20


def core_at(base_url, **timeouts):
    endpoint = Endpoint.build(f"{base_url}/responses")
    return Core(endpoint, Timeouts(**timeouts))


def turn_of(payload=PAYLOAD):
    return Turn(payload=payload, timeouts=Timeouts(), started_at=time.monotonic())


@pytest.fixture
def mute():
    """A core whose server accepts and says nothing, so that no request is ever written."""
    with mute_server() as (_, base_url):
        core = core_at(base_url)
        yield core
        core.stop()
        assert core.connection.join(PATIENCE)


def ended(turn):
    assert turn.inbox.wait_ended()
    return turn.inbox.error


def test_a_submitted_turn_runs_to_its_end():
    with Server() as server:
        core = core_at(server.base_url)
        turn = turn_of()
        core.submit(turn)
        assert ended(turn) is None
        assert core.lanes.counters.turns == 1
        core.stop()
        assert core.connection.join(PATIENCE)


def test_exactly_as_many_bytes_may_wait_as_the_outbox_holds(mute):
    whole = turn_of(bytes(FULL))
    mute.submit(whole)
    with pytest.raises(
        OutboxFullError, match=r"67,108,864 bytes of requests wait .* this one has 1"
    ):
        mute.submit(turn_of(b"x"))
    mute.post(Cancel(whole, "enough"))
    assert isinstance(ended(whole), StreamCancelledError)
    mute.submit(turn_of(bytes(FULL)))


def test_one_request_that_could_never_wait_is_refused(mute):
    with pytest.raises(OutboxFullError):
        mute.submit(turn_of(bytes(FULL + 1)))


def test_a_refused_request_takes_no_room(mute):
    for _ in range(3):
        with pytest.raises(OutboxFullError):
            mute.submit(turn_of(bytes(FULL + 1)))
    mute.submit(turn_of(bytes(FULL)))


def test_a_stopped_core_takes_no_turn(mute):
    mute.stop()
    mute.stop()
    assert mute.closed
    with pytest.raises(SessionClosedError):
        mute.submit(turn_of())


def test_stopping_ends_the_turns_that_wait(mute):
    turns = [turn_of(), turn_of()]
    for turn in turns:
        mute.submit(turn)
    mute.stop()
    assert all(isinstance(ended(turn), StreamCancelledError) for turn in turns)


def test_a_turn_that_is_overtaken_by_the_end_is_refused_and_not_left_to_wait(mute):
    turn = turn_of()
    mute.submit(turn_of())
    mute.stop()
    assert mute.connection.join(PATIENCE)
    mute.connection.post(Submit(turn))
    assert isinstance(ended(turn), SessionClosedError)


def test_whoever_waits_on_the_io_thread_is_told_and_nobody_else(mute):
    turn, told = turn_of(), []

    def listener():
        try:
            told.append(mute.check_may_wait())
        except WouldDeadlockError as exc:
            told.append(exc)

    mute.submit(turn)
    turn.inbox.listen(listener)
    assert told == [None]
    heard = threading.Event()
    turn.inbox.listen(lambda: heard.set() if turn.inbox.ended else None)
    mute.post(Cancel(turn, "enough"))
    assert heard.wait(PATIENCE)
    assert isinstance(told[1], WouldDeadlockError)


def test_turns_with_callbacks_are_kept_until_they_are_released(mute):
    first, second = object(), object()
    mute.keep(first)
    mute.keep(first)
    mute.keep(second)
    assert set(mute.busy()) == {first, second}
    mute.release(first)
    mute.release(first)
    assert mute.busy() == [second]


def test_every_core_names_its_threads_its_own_way(mute):
    with mute_server() as (_, base_url):
        other = core_at(base_url)
        assert other.connection.name != mute.connection.name
        assert other.connection.name.startswith("llmws-responses-")


@pytest.mark.parametrize("close", [0.1, None])
def test_closing_needs_no_limit(close):
    with Server() as server:
        core = core_at(server.base_url, close=close)
        turn = turn_of()
        core.submit(turn)
        ended(turn)
        core.stop()
        assert core.connection.join(PATIENCE)


def test_a_turn_that_finds_no_thread_takes_no_room(mute, monkeypatch):
    def spawn(name, target):
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as context:
        context.setattr(mute.connection, "_spawn", spawn)
        with pytest.raises(ConnectError):
            mute.submit(turn_of(b"x" * FULL))
    mute.submit(turn_of(b"x" * FULL))
