"""A signal handler may close a session while the code that it interrupts holds any lock of it."""

from __future__ import annotations

import gc
import threading
from collections.abc import Iterator
from typing import Any

import llmws
from llmws.testing import Server
from tests.life.speech import speak


PATIENCE = 5.0
LOCKS = (type(threading.Lock()), type(threading.RLock()))
# Deeper than any lock lies, and not as deep as modules and their functions.
CONTAINERS = (dict, list, tuple, set)


def locks_of(session: llmws.Session) -> list[Any]:
    """Return all locks that can be reached from a session by its own objects, in an order that is always the same."""
    found: list[Any] = []
    seen: set[int] = set()
    line: list[Any] = [session]
    while line:
        thing = line.pop(0)
        if id(thing) in seen or isinstance(thing, (type, threading.Thread)):
            continue
        seen.add(id(thing))
        if isinstance(thing, LOCKS):
            found.append(thing)
        elif is_ours(thing):
            line.extend(gc.get_referents(thing))
    return found


def is_ours(thing: Any) -> bool:
    own = type(thing).__module__.partition(".")[0] in ("llmws", "threading")
    return own or isinstance(thing, CONTAINERS) or callable(getattr(thing, "__self__", None))


def sessions(base_url: str) -> Iterator[llmws.Session]:
    """Yield sessions in mid-turn, all alike."""
    while True:
        session = llmws.Session("m", base_url=base_url)
        try:
            stream = session.stream("hold").on("text", lambda _: None)
            next(stream.texts())
            session.stream_of_mine = stream  # type: ignore[attr-defined]
            yield session
        finally:
            session.close()


def test_closing_without_waiting_takes_no_lock_that_anyone_may_hold():
    with Server(rule=speak) as server:
        made = sessions(server.base_url)
        many = len(locks_of(next(made)))
        assert many >= 5, "the core's, the connection's, the inbox's and the callbacks' are known"
        for number in range(many):
            session = next(made)
            closer = threading.Thread(target=lambda s=session: s.close(wait=False), daemon=True)
            with locks_of(session)[number]:
                closer.start()
                closer.join(PATIENCE)
                assert not closer.is_alive(), f"it waits for lock {number}"
        made.close()
