"""One turn seen in every way: by four readers from before the first byte, one from after the end, all callbacks."""

from __future__ import annotations

import threading
from typing import Any

import attrs

import llmws
from tests.conformance.servers import WAIT_SECONDS


CALLBACKS = (
    *("chunk", "text", "thinking", "tool_call", "meta"),
    *("event", "done", "error", "callback_error"),
)


@attrs.define
class Seen:
    """
    What one reader got, in each of the four views.

    Attributes:
        error: What its ``events()`` loop raised, or None.
    """

    events: list[Any] = attrs.field(factory=list)
    chunks: list[Any] = attrs.field(factory=list)
    texts: list[str] = attrs.field(factory=list)
    sse: list[bytes] = attrs.field(factory=list)
    error: Exception | None = None

    @classmethod
    def of(cls, views: dict[str, Any]) -> Seen:
        """Read each view to its end; the other views have to end just as the first."""
        seen = cls()
        errors = [drain(view, getattr(seen, name)) for name, view in views.items()]
        assert len({(type(error), str(error)) for error in errors}) == 1
        seen.error = errors[0]
        return seen


@attrs.define
class Watched:
    """
    A turn that has ended.

    Attributes:
        early: The readers that started before the first byte.
        late: The reader that started after the end.
        heard: What each callback was given, by name; those registered after the end in ``late_heard``.
        response: What ``response()`` returned, or None if it raised.
        error: What it raised, or None.
        stream: The turn's stream.
    """

    early: list[Seen]
    late: Seen
    heard: dict[str, list[Any]]
    late_heard: dict[str, list[Any]]
    response: llmws.Response | None
    error: Exception | None
    stream: llmws.Stream


def drain(view: Any, into: list[Any]) -> Exception | None:
    try:
        for item in view:
            into.append(item)
    except llmws.LLMWSError as error:
        return error
    return None


def open_views(stream: llmws.Stream) -> dict[str, Any]:
    return {
        "events": stream.events(),
        "chunks": iter(stream),
        "texts": stream.texts(),
        "sse": stream.sse(),
    }


def listen(stream: llmws.Stream) -> dict[str, list[Any]]:
    heard: dict[str, list[Any]] = {name: [] for name in CALLBACKS}
    for name in CALLBACKS:
        stream.on(name, heard[name].append)
    return heard


def watch(stream: llmws.Stream, gate: threading.Event) -> Watched:
    """Read one turn in all ways; the server says nothing before the gate opens."""
    heard = listen(stream)
    ready = threading.Barrier(5)
    early: list[Seen] = []

    def read() -> None:
        views = open_views(stream)
        ready.wait(WAIT_SECONDS)
        early.append(Seen.of(views))

    threads = [threading.Thread(target=read, daemon=True) for _ in range(4)]
    for thread in threads:
        thread.start()
    ready.wait(WAIT_SECONDS)
    gate.set()
    response, error = None, None
    try:
        response = stream.response()
    except llmws.LLMWSError as raised:
        error = raised
    for thread in threads:
        thread.join(WAIT_SECONDS)
    stream.wait(WAIT_SECONDS)
    late = Seen.of(open_views(stream))
    late_heard = listen(stream)
    stream.wait(WAIT_SECONDS)
    return Watched(early, late, heard, late_heard, response, error, stream)
