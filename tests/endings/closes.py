"""Scenarios: the connection ends at some point of a turn."""

from __future__ import annotations

import time
from typing import Any

import attrs

import llmws
from llmws.wire.framing import encode_close
from tests.endings.script import PATIENCE, REASON, Losses, Script, Wire, answer, session_at
from tests.endings.watch import Watch, Witness, facts


@attrs.frozen
class Point:
    """
    How far the server gets.

    Attributes:
        events: How many events of the answer it sends.
        state: What the turn's error says of it.
        text: The text so far.
        reads: Whether it reads the request.
        torn: Whether it sends half of the next event too.
    """

    events: int
    state: str
    text: str = ""
    reads: bool = True
    torn: bool = False


POINTS = {
    "unread": Point(0, "sent", reads=False),
    "sent": Point(0, "sent"),
    "torn_created": Point(0, "sent", torn=True),
    "accepted": Point(1, "accepted"),
    "first_delta": Point(5, "output", "Hello"),
    "torn_delta": Point(5, "output", "Hello", torn=True),
    "deltas": Point(6, "output", "Hello world"),
    "torn_terminal": Point(9, "output", "Hello world", torn=True),
}
CLOSES = ("fin", "rst", "1000", "1008", "1011", "4000")
# What ends a turn on a connection that went mute.
MUTES = ("phase", "total", "ping")
LIMIT = 0.3


def breaking(point: Point, ending: str, times: int) -> Any:
    """Make a script that breaks the first connections at a point, and answers on all others."""

    def play(wire: Wire) -> None:
        wire.upgrade()
        if wire.number > times:
            while True:
                wire.create()
                wire.send(*answer("Good again", wire.number))
        if point.reads:
            wire.create()
        else:
            wire.arrived()
        events = answer(turn=wire.number)
        wire.send(*events[: point.events])
        if wire.number == 1:
            # The readers have seen what came, so that an RST can take nothing of it away.
            wire._server.gate.wait(PATIENCE)
        if point.torn:
            wire.tear(events[point.events], between_frames=ending.isdigit())
        wire.end(ending)

    return play


def expected(point: Point, ending: str) -> dict[str, Any]:
    """Return what every error of the first turn must tell."""
    events = answer(turn=1)
    response_id = events[0]["response"]["id"] if point.events else None
    told: dict[str, Any] = {
        "response_id": response_id,
        "state": point.state,
        "may_have_been_billed": True,
        "partial_text": point.text,
        "partial_id": response_id or "",
        "partial_status": "in_progress",
        "partial_finish_reason": "error",
    }
    if ending in CLOSES or ending == "ping":
        told["kind"] = llmws.StreamInterruptedError
        told["close_code"] = int(ending) if ending.isdigit() else 1006
        if ending.isdigit():
            told["close_reason"] = REASON
    elif ending == "total":
        told["kind"] = llmws.TotalTimeout
    else:
        told["kind"] = llmws.IdleTimeout if point.events else llmws.FirstEventTimeout
    return told


def limits(ending: str) -> dict[str, Any]:
    """Return the session's options that make a mute connection end in one way only."""
    if ending == "phase":
        return {"timeouts": {"first_event": LIMIT, "idle": LIMIT}}
    if ending == "total":
        return {"timeouts": {"total": LIMIT}}
    return {"ping": LIMIT / 2} if ending == "ping" else {}


def check_error(error: BaseException, told: dict[str, Any]) -> None:
    found = facts(error)
    differ = {name: found.get(name) for name in told if found.get(name) != told[name]}
    assert not differ, f"{differ} where { ({name: told[name] for name in differ}) } was due"


def breaks_off(name: str, ending: str, patience: float = PATIENCE) -> None:
    """A turn ends early: everybody hears the same error, and the next turn has a new connection."""
    point, told = POINTS[name], expected(POINTS[name], ending)
    play = breaking(point, ending if ending in CLOSES else "mute", times=2)
    with Script(play) as server, session_at(server.base_url, **limits(ending)) as session:
        stream = session.stream("one")
        before = Watch(stream)
        if ending in CLOSES:
            before.saw_events(point.events, patience)
            assert stream.state is not llmws.TurnState.ENDED
        server.gate.set()
        errors = before.errors(patience)
        after = Watch(stream)  # The same stream once more, now that it is over.
        errors += after.errors(patience)
        for error in errors:
            check_error(error, told)
            assert facts(error) == facts(errors[0])
        check_prefix(before, point)
        check_prefix(after, point)
        assert stream.state is llmws.TurnState.ENDED
        assert stream.finish_reason == "error"

        # create() is a waiter too; it breaks off on the second connection.
        create = Witness("create", lambda note: session.create("two"))
        error = create.end(patience)
        assert error is not None
        ids = {name: told[name] for name in told if name not in ("response_id", "partial_id")}
        check_error(error, ids)

        third = Watch(session.stream("three", timeouts=llmws.Timeouts()))
        third.check_result("Good again", patience)
        assert [event.raw for event in third.witnesses["events"].seen] == answer("Good again", 3)
        assert server.connections == 3
        read = [create["input"] for create in server.creates]
        assert read == (["one", "two", "three"] if point.reads else ["three"])


def check_prefix(watch: Watch, point: Point) -> None:
    """What readers saw is what was sent, no more and no less, in order."""
    sent = answer(turn=1)[: point.events]
    assert [event.raw for event in watch.witnesses["events"].seen] == sent
    assert [event.raw for event in watch.witnesses["run"].seen] == sent
    assert [event.raw for event in watch.told["event"]] == sent
    assert len(watch.witnesses["sse"].seen) == len(sent)
    assert "".join(watch.witnesses["texts"].seen) == point.text
    chunks = watch.witnesses["chunks"].seen
    assert "".join(chunk.text for chunk in chunks) == point.text


def ends_right_after(ending: str, patience: float = PATIENCE) -> None:
    """The connection ends behind the terminal event: the turn has succeeded."""

    def play(wire: Wire) -> None:
        wire.upgrade()
        body = wire.create()
        events = answer("Good " + body["input"], wire.number)
        if wire.number == 1:
            wire.send(*events)
            if ending == "rst":  # It may take from the client what it has not read.
                wire._server.gate.wait(PATIENCE)
            wire.end(ending)
        else:
            wire.send(*events)
            wire.until_closed()

    ping = LIMIT / 2 if ending == "mute" else 20.0
    with Script(play) as server, session_at(server.base_url, ping=ping) as session:
        losses = Losses(session)
        Watch(session.stream("one")).check_result("Good one", patience)
        server.gate.set()
        assert losses.noticed(patience), "the loss of an idle connection went unnoticed"
        Watch(session.stream("two")).check_result("Good two", patience)
        assert [create["input"] for create in server.creates] == ["one", "two"]
        assert (server.connections, session.stats.lost) == (2, 1)


def is_redialled(ending: str, patience: float = PATIENCE) -> None:
    """The connection ends before the answer to the upgrade: the turn goes to the next one, once."""

    def play(wire: Wire) -> None:
        if wire.number < 3:
            wire.head()
            wire.end(ending)
            return
        wire.upgrade()
        wire.create()
        wire.send(*answer("Good again"))
        wire.until_closed()

    with Script(play) as server, session_at(server.base_url) as session:
        watch = Watch(session.stream("one"))
        watch.check_result("Good again", patience)
        redials = [c for c in watch.witnesses["chunks"].seen if c.metadata.get("notice")]
        assert [chunk.metadata["attempt"] for chunk in redials] == [2, 3]
        assert [create["input"] for create in server.creates] == ["one"]
        stats = session.stats
        assert (server.connections, stats.dials, stats.failed_dials) == (3, 3, 2)


def is_never_upgraded(patience: float = PATIENCE) -> None:
    """The upgrade is never answered: everybody gets the dial's own timeout, and nothing was sent."""

    def play(wire: Wire) -> None:
        if wire.number == 1:
            wire.head()
            wire.end("mute")
        wire.upgrade()
        wire.create()
        wire.send(*answer("Good again"))
        wire.until_closed()

    with (
        Script(play) as server,
        session_at(server.base_url, timeouts={"connect": LIMIT}) as session,
    ):
        for error in Watch(session.stream("one")).errors(patience):
            assert type(error) is llmws.ConnectTimeout
        Watch(session.stream("two", timeouts=llmws.Timeouts())).check_result("Good again", patience)
        assert [create["input"] for create in server.creates] == ["two"]


def is_sent_once(ending: str, patience: float = PATIENCE) -> None:
    """The connection ends under a running turn while another is queued: that one is sent once, elsewhere."""
    play = breaking(POINTS["first_delta"], ending, times=1)
    with Script(play) as server, session_at(server.base_url) as session:
        running, queued = Watch(session.stream("one")), Watch(session.stream("two"))
        running.saw_events(5, patience)
        server.gate.set()
        for error in running.errors(patience):
            check_error(error, expected(POINTS["first_delta"], ending))
        queued.check_result("Good again", patience)
        assert [create["input"] for create in server.creates] == ["one", "two"]
        assert server.connections == 2


def stops_at_an_early_close(code: str, patience: float = PATIENCE) -> None:
    """A close frame together with the upgrade's answer: nothing was sent, so a retryable one is redialled."""

    def play(wire: Wire) -> None:
        if wire.number == 1:
            wire.upgrade(early=bytes(encode_close(int(code), REASON)))
            wire.until_closed()
            return
        wire.upgrade()
        wire.create()
        wire.send(*answer("Good again"))
        wire.until_closed()

    with Script(play) as server, session_at(server.base_url) as session:
        Watch(session.stream("one")).check_result("Good again", patience)
        assert [create["input"] for create in server.creates] == ["one"]


def gives_up(patience: float = PATIENCE) -> None:
    """Nobody listens: after five dials every waiter gets the same ReconnectError, with its cause."""
    with Script(lambda wire: None) as server:
        base_url = server.base_url
    with session_at(base_url) as session:
        begun = time.monotonic()
        errors = Watch(session.stream("one")).errors(patience)
        for error in errors:
            assert type(error) is llmws.ReconnectError
            assert error.attempts == 5
            assert 0 < error.elapsed < time.monotonic() - begun
            assert isinstance(error.__cause__, llmws.ConnectError)
            assert isinstance(error.__cause__.__cause__, ConnectionRefusedError)
        assert (session.stats.dials, session.stats.failed_dials) == (5, 5)
