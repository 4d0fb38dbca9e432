"""The end of a process, in whatever state it finds a session: prompt, with code 0, and without a word."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

from llmws.testing import Server
from tests.life.children import Program
from tests.life.mute import AFTER_UPGRADE, BEFORE_UPGRADE, busy_server, mute_server
from tests.life.speech import speak
from tests.life.tally import Tally


__all__ = ["WAYS", "campaign"]

LIMIT = 2.0
_SIDE_BY_SIDE = 3

_WAIT_FOR_BACKOFF = """
import logging

class Ear(logging.Handler):
    def emit(self, record):
        if "dialling again" in record.getMessage():
            backing_off.set()

backing_off = threading.Event()
logging.getLogger("llmws").addHandler(Ear())
logging.getLogger("llmws").setLevel("INFO")
stream = session.stream("Hello")
assert backing_off.wait(10)
"""
_STUCK = """
import logging

def stick(record):
    stuck.set()
    threading.Event().wait()

# A handler would hold a lock that logging itself waits for at exit.
stuck = threading.Event()
logging.getLogger("llmws.wire.connection").addFilter(stick)
logging.getLogger("llmws").setLevel("INFO")
stream = session.stream("Hello")
assert stuck.wait(10)
"""
_WAIT_FOR_UPGRADE = """
stream = session.stream("Hello")
while stream.state == llmws.TurnState.QUEUED:
    threading.Event().wait(0.002)
"""
_READ_IN_A_THREAD = """
def read():
    try:
        for text in stream.texts():
            seen.set()
    except llmws.StreamCancelledError:
        pass  # What it raises is the program's to catch.

seen, stream = threading.Event(), session.stream("flood")
threading.Thread(target=read, daemon=True).start()
seen.wait()
"""

# Which server, and how a program comes to the state in which it ends.
WAYS: dict[str, tuple[str, str]] = {
    "idle": ("speaking", "assert session.create('Hello').status == 'completed'"),
    "never dialled": ("speaking", ""),
    "mid-stream, the server silent": (
        "speaking",
        "stream = session.stream('hold'); next(stream.texts())",
    ),
    "mid-stream, events flowing": (
        "speaking",
        "stream = session.stream('flood'); next(stream.texts())",
    ),
    "mid-stream, read by a thread": ("speaking", _READ_IN_A_THREAD),
    "mid-dial": (BEFORE_UPGRADE, "stream = session.stream('Hello')"),
    "before the first event": (AFTER_UPGRADE, _WAIT_FOR_UPGRADE),
    "mid-backoff": ("busy", _WAIT_FOR_BACKOFF),
    "the I/O thread stuck in a log filter": ("busy", _STUCK),
    "a callback that never returns": (
        "speaking",
        "called = threading.Event()\n"
        "session.stream('Hello').on('text', lambda _: (called.set(), threading.Event().wait()))\n"
        "called.wait()",
    ),
    "callbacks running": (
        "speaking",
        "called = threading.Event()\n"
        "for _ in range(3):\n"
        "    session.stream('flood').on('chunk', lambda _: called.set())\n"
        "called.wait()",
    ),
}


def campaign(tally: Tally, count: int) -> None:
    """End ``count`` processes in each state; some side by side, as each mostly waits for its interpreter."""
    with (
        Server(rule=speak) as speaking,
        mute_server(BEFORE_UPGRADE) as unanswering,
        mute_server(AFTER_UPGRADE) as mute,
        busy_server() as busy,
        ThreadPoolExecutor(_SIDE_BY_SIDE) as pool,
    ):
        urls = {
            "speaking": speaking.base_url,
            BEFORE_UPGRADE: unanswering,
            AFTER_UPGRADE: mute,
            "busy": busy,
        }

        def attempt(way: str) -> None:
            what = f"exit: {way}"
            with tally.trying(what):
                server, source = WAYS[way]
                tally.took(what, _end(source, urls[server]), LIMIT)

        for _ in tally.rounds(count):
            list(pool.map(attempt, WAYS))


def _end(source: str, base_url: str) -> float:
    """Bring a program into a state, let it end there, and return how long that took."""
    with Program(source + "\ntell(ready=True)\nhear()", base_url) as program:
        assert program.facts() == {"ready": True}
        begun = time.monotonic()
        program.go_on()
        assert program.end() == (0, "")
        return time.monotonic() - begun
