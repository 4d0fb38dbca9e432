"""``close(timeout)`` against a server that never answers: from wherever it is called, it is back in time."""

from __future__ import annotations

import contextlib
import gc
import signal
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import llmws
from llmws.errors import StreamCancelledError
from tests.life.mute import AFTER_UPGRADE, MUTES, mute_server
from tests.life.tally import Tally


__all__ = ["from_elsewhere", "from_signals"]

TIMEOUT = 0.2
# What may be added to the timeout, and how long a waiter may take to hear of it.
GRACE = 0.5
# Where nothing is to be waited for: a timeout, and a limit that is well below what waiting would take.
LONG_TIMEOUT, NO_WAIT = 0.8, 0.4
_PATIENCE = 10.0
_SIDE_BY_SIDE = 6


class Closing:
    """One session on a mute server, a waiter of its turn, and how long its end took."""

    def __init__(self, base_url: str, *, upgraded: bool, timeout: float = TIMEOUT) -> None:
        self.session: Any = llmws.Session("m", base_url=base_url, timeouts={"close": timeout})
        self.timeout = timeout
        self.connection = self.session._core.connection
        self.stream: Any = self.session.stream("Hello")
        if upgraded:
            until(lambda: self.stream.state is llmws.TurnState.SENT)
        self.seconds = float("inf")

    def close(self, *, wait: bool = True) -> None:
        """Close the session, and take the time."""
        begun = time.monotonic()
        self.session.close(wait=wait)
        self.seconds = time.monotonic() - begun

    def check(self, tally: Tally, what: str) -> None:
        """Expect that the close was in time, that the thread is gone, and that the turn has ended."""
        tally.took(what, self.seconds, NO_WAIT if self.timeout > TIMEOUT else TIMEOUT + GRACE)
        assert self.connection.join(self.timeout + GRACE), "the I/O thread lives on"
        error = self.stream._turn.inbox.error
        assert isinstance(error, StreamCancelledError), f"the turn ended with {error!r}"


def until(predicate: Callable[[], bool]) -> None:
    """Wait for something that rings no bell."""
    deadline = time.monotonic() + _PATIENCE
    while not predicate():
        assert time.monotonic() < deadline, "it never came true"
        threading.Event().wait(0.002)


# Ways to close that suit any thread.


def in_another_thread(closing: Closing) -> None:
    """Close while this thread waits for the response."""
    closer = threading.Thread(target=closing.close)
    closer.start()
    with contextlib.suppress(StreamCancelledError):
        closing.stream.response(timeout=_PATIENCE)
    closer.join(_PATIENCE)


def in_a_callback(closing: Closing) -> None:
    """Close in what is called when the turn ends."""
    closed = threading.Event()

    def close(error: Exception) -> None:
        closing.close()
        closed.set()

    closing.stream.on("error", close).cancel()
    assert closed.wait(_PATIENCE), "the callback did not return"


def in_a_finalizer(closing: Closing) -> None:
    """Close in ``__del__`` of something that lies in a cycle."""

    class Owner:
        def __init__(self) -> None:
            self.myself = self

        def __del__(self) -> None:
            closing.close()

    Owner()
    while closing.seconds == float("inf"):
        gc.collect()  # Another thread's collection may be under way, which does this one's work.


def on_the_io_thread(closing: Closing) -> None:
    """Close where a collection on the I/O thread would: while it ends the turn."""
    called = threading.Event()

    def listener() -> None:
        if closing.connection.on_own_thread and not called.is_set():
            called.set()
            closing.close()

    closing.stream._turn.inbox.listen(listener)
    closing.stream.cancel()
    assert called.wait(_PATIENCE), "the listener was not called"
    until(lambda: closing.seconds < float("inf"))


def with_a_stuck_io_thread(closing: Closing) -> None:
    """Close while a finalizer of the user's, say, keeps the I/O thread from anything else."""
    stuck, over = threading.Event(), threading.Event()

    def listener() -> None:
        if closing.connection.on_own_thread and not stuck.is_set():
            stuck.set()
            over.wait(_PATIENCE)

    closing.stream._turn.inbox.listen(listener)
    closing.stream.cancel()
    assert stuck.wait(_PATIENCE), "the listener was not called"
    closing.close()
    over.set()


ELSEWHERE = {
    "another thread": in_another_thread,
    "a callback": in_a_callback,
    "__del__": in_a_finalizer,
    "the I/O thread": on_the_io_thread,
    "another thread, the I/O thread stuck": with_a_stuck_io_thread,
}
WAITS_FOR_NOTHING = {"a callback", "the I/O thread"}


def from_elsewhere(tally: Tally, count: int) -> None:
    """Close ``count`` times in each way, on each mute server; some side by side."""
    for when in MUTES:
        with mute_server(when) as base_url, ThreadPoolExecutor(_SIDE_BY_SIDE) as pool:

            def attempt(name: str, when: str = when, base_url: str = base_url) -> None:
                what = f"close in {name}, mute {when}"
                with tally.trying(what):
                    timeout = LONG_TIMEOUT if name in WAITS_FOR_NOTHING else TIMEOUT
                    closing = Closing(base_url, upgraded=when == AFTER_UPGRADE, timeout=timeout)
                    ELSEWHERE[name](closing)
                    closing.check(tally, what)

            for _ in tally.rounds(count):
                list(pool.map(attempt, ELSEWHERE))


# Signals are handled on the main thread, between two of its instructions, wherever it is.

READERS: dict[str, Callable[[Any], Any]] = {
    "a loop": lambda stream: list(stream),
    "response()": lambda stream: stream.response(_PATIENCE),
    "wait()": lambda stream: stream.wait(_PATIENCE),
}


def from_signals(tally: Tally, count: int) -> None:
    """Close ``count`` times in a signal handler that interrupts a reader, waiting and not, on each mute server."""
    for when in MUTES:
        with mute_server(when) as base_url:
            for index in tally.rounds(count):
                for wait in (True, False):
                    what = f"close(wait={wait}) in a signal handler, mute {when}"
                    with tally.trying(what):
                        closing = Closing(base_url, upgraded=when == AFTER_UPGRADE)
                        reader = list(READERS.values())[index % len(READERS)]
                        _interrupt(closing, reader, wait, index)
                        closing.check(tally, what)


def _interrupt(closing: Closing, read: Callable[[Any], Any], wait: bool, index: int) -> None:
    """Have a handler close the session soon after a reader has begun to wait, or just before."""
    previous = signal.signal(signal.SIGALRM, lambda *_: closing.close(wait=wait))
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.0005 + index % 10 * 0.001)
        with contextlib.suppress(StreamCancelledError):
            read(closing.stream)
        until(lambda: closing.seconds < float("inf"))
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)
