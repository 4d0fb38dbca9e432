"""Sessions that nobody closes: collected, their threads gone, whoever holds them last and whoever collects them."""

from __future__ import annotations

import contextlib
import gc
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import llmws
from llmws.testing import Server
from tests.life.census import baseline, expect
from tests.life.closes import until
from tests.life.mute import BEFORE_UPGRADE, mute_server
from tests.life.speech import said, speak
from tests.life.tally import Tally


__all__ = ["WAYS", "anywhere", "on_an_io_thread"]

LIMIT = 1.0
_PATIENCE = 10.0
_BATCH = 10


def _session(base_url: str) -> llmws.Session:
    return llmws.Session("m", base_url=base_url)


def _idle(base_url: str) -> list[Any]:
    """Drop the last name of a session that has served a turn."""
    session = _session(base_url)
    assert session.create("Hello").text == said("Hello")
    return [weakref.ref(session), session._core.connection]


def _in_a_cycle(base_url: str) -> list[Any]:
    """Leave a session in a cycle with something of the user's."""
    session = _session(base_url)
    session.create("Hello")
    session.mine = {"session": session}  # type: ignore[attr-defined]
    return [weakref.ref(session), session._core.connection]


def _in_mid_turn(base_url: str) -> list[Any]:
    """Drop a session and the stream of a turn that runs."""
    session = _session(base_url)
    stream = session.stream("hold")
    assert next(stream.texts())
    return [weakref.ref(session), session._core.connection]


def _in_mid_dial(base_url: str) -> list[Any]:
    """Drop a session that is still being connected."""
    with mute_server(BEFORE_UPGRADE) as mute:
        session = _session(mute)
        stream = session.stream("Hello")
        left = [weakref.ref(session), session._core.connection]
        until(lambda: left[1].counters.dials == 1)
        del session, stream
        gc.collect()
        begun = time.monotonic()
        own = {left[1].name, f"{left[1].name}-dial"}
        until(lambda: not own & _threads_of_sessions())
        assert time.monotonic() - begun < LIMIT, "the dial's thread lives on"
        return left


def _with_an_error(base_url: str) -> list[Any]:
    """Drop a session whose turn's error was caught, which holds frames and is held by them."""
    session = _session(base_url)
    stream = session.stream("hold")
    assert next(stream.texts())
    stream.cancel()
    try:
        stream.response()
    except llmws.StreamCancelledError as exc:
        kept = exc  # In a cycle with this frame.
    assert kept.partial is not None
    return [weakref.ref(session), session._core.connection]


def _in_its_own_callback(base_url: str) -> list[Any]:
    """Drop the last reference, and collect, in a callback of the session's own turn."""
    box, left, called = [_session(base_url)], [], threading.Event()

    def forget(response: llmws.Response) -> None:
        session = box.pop()
        left.extend([weakref.ref(session), session._core.connection])
        del session
        gc.collect()
        called.set()

    box[0].stream("Hello").on("done", forget)
    assert called.wait(_PATIENCE)
    return left


def _with_callbacks_done(base_url: str) -> list[Any]:
    """Drop a session whose callbacks, which refer to it, have been called."""
    session = _session(base_url)
    told: list[Any] = []
    session.stream("Hello").on("text", lambda text: told.append((session, text))).wait()
    assert told
    return [weakref.ref(session), session._core.connection]


WAYS: dict[str, Callable[[str], list[Any]]] = {
    "idle": _idle,
    "in a cycle": _in_a_cycle,
    "in mid-turn": _in_mid_turn,
    "in mid-dial": _in_mid_dial,
    "with an error": _with_an_error,
    "in its own callback": _in_its_own_callback,
    "with callbacks done": _with_callbacks_done,
}


def anywhere(tally: Tally, count: int) -> None:
    """Forget ``count`` sessions in each way."""
    with Server(rule=speak) as server:
        before = baseline().threads
        for _ in tally.rounds(count):
            for name, forget in WAYS.items():
                what = f"forgotten {name}"
                with tally.trying(what):
                    gone, connection = forget(server.base_url)
                    begun = time.monotonic()
                    gc.collect()
                    until(lambda gone=gone: gone() is None)
                    assert connection.join(LIMIT), "the I/O thread lives on"
                    tally.took(what, time.monotonic() - begun, LIMIT)
        with tally.trying("no thread is left"):
            # A callback thread ends when it has had nothing to do for half a second.
            until(lambda: _threads_of_sessions() <= set(before))


def _threads_of_sessions() -> set[str]:
    return {t.name for t in threading.enumerate() if t.name.startswith("llmws-responses-")}


# The collector runs on whatever thread allocates; on an I/O thread it must neither wait nor break that thread.


@contextlib.contextmanager
def _collecting_by_hand() -> Iterator[None]:
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def on_an_io_thread(tally: Tally, count: int) -> None:
    """Collect ``count`` sessions on the I/O thread of another one, and the last of each batch on its own."""
    with Server(rule=speak) as server:
        before = baseline()
        for _ in tally.rounds(-(-count // _BATCH)):
            _collect_batch(tally, server.base_url)
        with tally.trying("flat afterwards"):
            expect(before)


def _collect_batch(tally: Tally, base_url: str) -> None:
    with _collecting_by_hand():
        left = [_garbage(base_url, index) for index in range(_BATCH - 1)]
        with _session(base_url) as collector:
            begun = time.monotonic()
            stream = collector.stream("Hello")
            connection = collector._core.connection
            stream._turn.inbox.listen(lambda: connection.on_own_thread and gc.collect())
            with tally.trying("the collector's turn"):
                assert stream.response().text == said("Hello")
                assert collector.create("again").text == said("again")
        left.append(_collected_by_itself(base_url))
        for gone, connection in left:
            with tally.trying("collected on an I/O thread"):
                until(lambda gone=gone: gone() is None)
                assert connection.join(LIMIT), "the I/O thread lives on"
        tally.took("a batch on an I/O thread", time.monotonic() - begun)


def _garbage(base_url: str, index: int) -> list[Any]:
    """Make an unreachable session: connected and idle, or in mid-turn with callbacks that refer to it."""
    session = _session(base_url)
    session.mine = session  # type: ignore[attr-defined]
    if index % 3 == 0:
        stream = session.stream("hold")
        assert next(stream.texts())
        session.stream_of_mine = stream  # type: ignore[attr-defined]
    elif index % 3 == 1:
        session.stream("Hello").on("text", lambda _: session).wait()
    else:
        session.create("Hello")
    return [weakref.ref(session), session._core.connection]


def _collected_by_itself(base_url: str) -> list[Any]:
    """Have a session's own I/O thread find it unreachable, in the middle of its turn."""
    session = _session(base_url)
    connection = session._core.connection
    stream = session.stream("flood")
    reachable = threading.Event()

    def listener() -> None:
        if reachable.is_set() and connection.on_own_thread:
            gc.collect()

    stream._turn.inbox.listen(listener)
    assert next(stream.texts())
    session.mine = (session, stream)  # type: ignore[attr-defined]
    left = [weakref.ref(session), connection]
    reachable.set()
    return left
