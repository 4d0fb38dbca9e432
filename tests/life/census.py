"""What a process holds: threads, descriptors, memory, and objects of llmws."""

from __future__ import annotations

import gc
import os
import threading
import time
from collections import Counter

import attrs

from llmws import Session
from llmws.responses.connections.core import Core
from llmws.responses.routing.turn import Turn
from llmws.responses.stream.stream import Stream
from llmws.wire.connection import Connection


__all__ = ["Census", "baseline", "descriptors", "expect", "rss_bytes", "threads"]

_KINDS = (Session, Core, Connection, Stream, Turn)
_PATIENCE = 5.0


@attrs.frozen
class Census:
    """
    A count of what is to stay flat.

    Attributes:
        threads: The names of the threads of llmws.
        descriptors: What every descriptor is.
        objects: How many sessions, connections, streams and turns are alive.
    """

    threads: tuple[str, ...]
    descriptors: tuple[str, ...]
    objects: int

    @classmethod
    def take(cls) -> Census:
        """Count now, after a collection."""
        gc.collect()
        objects = sum(type(thing) in _KINDS for thing in gc.get_objects())
        return cls(tuple(threads()), tuple(descriptors()), objects)


def baseline() -> Census:
    """Count what is there, but for callback threads, which end when they have had nothing to do for a while."""
    deadline = time.monotonic() + _PATIENCE
    while any("-callbacks-" in name for name in threads()) and time.monotonic() < deadline:
        threading.Event().wait(0.02)
    return Census.take()


def expect(expected: Census) -> None:
    """Expect no more than was counted before, as soon as what is about to end has ended."""
    deadline = time.monotonic() + _PATIENCE
    while (more := _more(Census.take(), expected)) and time.monotonic() < deadline:
        threading.Event().wait(0.02)
    if more:
        raise AssertionError(more)


def _more(found: Census, expected: Census) -> str:
    """Say what there is more of than before. Less is no leak: what went is somebody else's."""
    for name, before in attrs.asdict(expected).items():
        now = getattr(found, name)
        new = Counter(now) - Counter(before) if isinstance(now, tuple) else max(0, now - before)
        if new:
            return f"{name}: {new} more than before"
    return ""


def threads() -> list[str]:
    """Return the names of the threads of llmws."""
    return sorted(t.name for t in threading.enumerate() if t.name.startswith("llmws-"))


def descriptors() -> list[str]:
    """Return what the open descriptors are, without the number of each; none where /proc is not to be had."""
    found = []
    for name in os.listdir("/proc/self/fd") if os.path.isdir("/proc/self/fd") else []:
        try:
            target = os.readlink(f"/proc/self/fd/{name}")
        except OSError:  # The descriptor of the listing itself.
            continue
        found.append(target.partition(":[")[0])
    return sorted(found)


def rss_bytes() -> int:
    """Return the memory that the process has now; 0 where /proc is not to be had."""
    try:
        with open("/proc/self/statm") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 0
