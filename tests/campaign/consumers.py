"""Users of turns: by a loop, by callbacks, by waiting; each tells what it saw."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from typing import Any

import llmws
from llmws.errors import LLMWSError
from tests.campaign.oracle import GRACE, Seen
from tests.campaign.script import key_of


__all__ = ["WAYS", "ask", "look_back"]

Way = Callable[[Any, Seen], None]


def _loop(stream: Any, seen: Seen) -> None:
    for chunk in stream:
        if chunk.type == "content":
            seen.pieces.append(chunk.text)
    seen.response = stream.response()


def _callbacks(stream: Any, seen: Seen) -> None:
    ends: list[Any] = []
    stream.on("text", seen.pieces.append).on("done", ends.append).on("error", ends.append)
    stream.wait(seen.deadline + 4 * GRACE)
    if len(ends) != 1:
        raise AssertionError(f"the callbacks were told {len(ends)} ends")
    if isinstance(ends[0], BaseException):
        raise ends[0]
    seen.response = ends[0]


def _response(stream: Any, seen: Seen) -> None:
    seen.response = stream.response()
    seen.pieces += stream.texts()


def _texts(stream: Any, seen: Seen) -> None:
    seen.pieces.extend(stream.texts())
    seen.response = stream.response()


WAYS: dict[str, Way] = {
    "iterator": _loop,
    "callbacks": _callbacks,
    "texts": _texts,
    "response": _response,
}


def ask(begin: Callable[[], Any], deadline: float, way: str = "iterator") -> Seen:
    """
    Take a turn to its end.

    Args:
        begin: Opens the stream.
        deadline: How many seconds it has.
        way: How it is read.
    """
    seen, begun, stream = Seen(deadline=deadline), time.monotonic(), None
    try:
        stream = begin()
        WAYS[way](stream, seen)
    except LLMWSError as exc:
        seen.error = exc
    except Exception as exc:  # noqa: BLE001  Judged by the oracle: it is none of llmws.
        seen.error = exc
    seen.seconds = time.monotonic() - begun
    if stream is not None:
        look_back(stream, seen)
    return seen


def look_back(stream: llmws.Stream, seen: Seen) -> None:
    """Read the events of a turn that is over."""
    seen.shown.append(repr(stream))
    if not stream._turn.ended:
        return
    keys = []
    with contextlib.suppress(LLMWSError):
        for event in stream.events():
            if event.type != "error":
                keys.append(key_of(event.raw))
    seen.events = keys
