"""Each time limit fires alone, in time and as its own class."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

import llmws
from tests.endings.script import PATIENCE, Script, answer, session_at
from tests.endings.watch import Witness, facts


LIMIT = 0.5
# Every other limit.
GENEROUS = {"connect": 60, "first_event": 60, "idle": 60, "total": 60, "lane_wait": 60, "close": 60}


def test_each_limit_fires_in_time_as_its_own_class():
    # All waits overlap. What a bare wait oversleeps at the same time is the machine's doing, and is allowed for; 0.2 s
    # are for the threads that then tell of it.
    with ThreadPoolExecutor(len(CASES) + 1) as pool:
        idle = pool.submit(_oversleep)
        cases = {name: pool.submit(case) for name, case in CASES.items()}
    for name, case in cases.items():
        longest, shortest = case.result()
        most = LIMIT * 1.1 + idle.result() + 0.2
        assert longest >= LIMIT * 0.99, f"{name} took {longest:.3f} s, not {LIMIT} s"
        assert shortest <= most, f"{name} took {shortest:.3f} s, not {LIMIT} s"


def _took(reader, begun, known=None):
    """Return how long a limit ran at most and at least: from before it began, and from when it surely had."""
    return reader.ended_at - begun, reader.ended_at - (known or begun)


def _oversleep():
    worst = 0.0
    for _ in range(2):
        begun = time.monotonic()
        threading.Event().wait(LIMIT / 2)
        worst = max(worst, time.monotonic() - begun - LIMIT / 2)
    return worst


def _silent_at(events):
    """Make a script that answers the first turn, and stops the second one's answer after some events."""

    def play(wire):
        wire.upgrade()
        wire.create()
        wire.send(*answer("Warm now"))
        wire.create()
        wire.send(*answer(turn=2)[:events])
        wire._server.gate.wait(PATIENCE)
        wire.send(*answer(turn=2)[events:])
        wire.until_closed()

    return play


def _check(error, kind, state, text=""):
    assert isinstance(error, TimeoutError)
    told = facts(error)
    assert told["kind"] is kind
    assert told["state"] == state
    assert told["may_have_been_billed"] is (state != "queued")
    assert told["partial_text"] == text
    assert told["partial_finish_reason"] == "error"
    assert f"within {LIMIT:g} s" in told["words"]
    assert (told["response_id"] is not None) is bool(text)


def connect(patience=PATIENCE):
    def play(wire):
        wire.head()
        wire.end("mute")

    with Script(play) as server:
        timeouts = {**GENEROUS, "connect": LIMIT, "close": 1}
        # The first dial of a process imports much; that it has done when the second one begins.
        for _ in range(2):
            with session_at(server.base_url, timeouts=timeouts) as session:
                begun = time.monotonic()
                reader = Witness("reader", lambda note, session=session: session.create("one"))
                error = reader.end(patience)
        assert type(error) is llmws.ConnectTimeout
        assert isinstance(error, TimeoutError)
        return _took(reader, begun)


def _phase(name, kind, events, state, text="", patience=PATIENCE):
    with (
        Script(_silent_at(events)) as server,
        session_at(server.base_url, timeouts={**GENEROUS, "close": 1}) as session,
    ):
        session.create("one")
        begun, known = time.monotonic(), None
        stream = session.stream("two", timeouts={name: LIMIT})
        reader = Witness("reader", lambda note: [note(event) for event in stream.events()])
        if name == "idle":
            reader.has_seen(events, patience)
            begun, known = server.sent_at, time.monotonic()
        _check(reader.end(patience), kind, state, text)
        assert len(reader.seen) == events
        return _took(reader, begun, known)


def first_event(patience=PATIENCE):
    return _phase("first_event", llmws.FirstEventTimeout, 0, "sent", patience=patience)


def idle(patience=PATIENCE):
    return _phase("idle", llmws.IdleTimeout, 5, "output", "Hello", patience)


def total(patience=PATIENCE):
    return _phase("total", llmws.TotalTimeout, 6, "output", "Hello world", patience)


def lane_wait(patience=PATIENCE):
    with (
        Script(_silent_at(5)) as server,
        session_at(server.base_url, timeouts={**GENEROUS, "close": 1}) as session,
    ):
        session.create("one")
        running = session.stream("two")
        begun = time.monotonic()
        reader = Witness(
            "reader", lambda note: session.create("three", timeouts={"lane_wait": LIMIT})
        )
        _check(reader.end(patience), llmws.LaneTimeout, "queued")
        server.gate.set()
        # It fired for the other turn alone.
        assert running.response(patience).text == "Hello world"
        assert [create["input"] for create in server.creates] == ["one", "two"]
        return _took(reader, begun)


def _wait(call, patience=PATIENCE):
    with (
        Script(_silent_at(5)) as server,
        session_at(server.base_url, timeouts={**GENEROUS, "close": 1}) as session,
    ):
        session.create("one")
        stream = session.stream("two")
        told = []
        stream.on("error", told.append)
        begun = time.monotonic()
        reader = Witness("reader", lambda note: call(stream))
        error = reader.end(patience)
        assert type(error) is llmws.WaitTimeout
        assert isinstance(error, TimeoutError)
        server.gate.set()
        assert stream.response(patience).text == "Hello world"  # Only the wait ended.
        assert told == []
        return _took(reader, begun)


def response_wait(patience=PATIENCE):
    return _wait(lambda stream: stream.response(LIMIT), patience)


def callbacks_wait(patience=PATIENCE):
    return _wait(lambda stream: stream.wait(LIMIT), patience)


def run_wait(patience=PATIENCE):
    return _wait(lambda stream: stream.run(LIMIT, text=lambda text: None), patience)


CASES = {
    "connect": connect,
    "first_event": first_event,
    "idle": idle,
    "total": total,
    "lane_wait": lane_wait,
    "response": response_wait,
    "wait": callbacks_wait,
    "run": run_wait,
}


@pytest.mark.parametrize("events", [0, 5])
def test_close_is_over_in_time_though_the_server_says_nothing(events, patience):
    with Script(_silent_at(events)) as server:
        session = llmws.Session(
            "m", base_url=server.base_url, timeouts={**GENEROUS, "close": LIMIT}
        )
        session.create("one")
        stream = session.stream("two")
        reader = Witness("reader", lambda note: [note(event) for event in stream.events()])
        reader.has_seen(events, patience)
        overslept = Witness("overslept", lambda note: _oversleep())
        begun = time.monotonic()
        closer = Witness("closer", lambda note: session.close())
        assert type(reader.end(patience)) is llmws.StreamCancelledError
        assert closer.end(patience) is None
        assert overslept.end(PATIENCE) is None
        assert closer.ended_at - begun <= LIMIT * 1.1 + overslept.result
        assert session._core.connection.join(patience), "the I/O thread still runs"
