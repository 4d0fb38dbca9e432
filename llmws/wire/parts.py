"""The server's events of a recording, dealt out to the creates that they answer."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import Any


__all__ = ["TERMINAL_TYPES", "split"]

# What ends a response: in the Responses API, and ``response.done`` in Realtime.
TERMINAL_TYPES = frozenset(
    {"response.completed", "response.failed", "response.incomplete", "response.done"}
)

Event = dict[str, Any]


def split(frames: Iterable[tuple[str, Event]]) -> list[list[Event]]:
    """
    Split recorded events into parts, one for each create.

    A part ends with a terminal event or with an ``error``, together with the ``response.failed`` of the same
    response if that follows. Lanes are kept apart, and on a lane the oldest create comes first. Where creates are
    recorded, parts are in their order, and what a lane brings while none of its creates waits (the successor of a
    steered response, a notice) belongs to the part before it. Without creates a part begins with its first event.

    Args:
        frames: Pairs of ``in`` or ``out`` and the event, in order.
    """
    frames = list(frames)
    splitter = _Splitter(
        any(direction == "out" and _is_create(event) for direction, event in frames)
    )
    for direction, event in frames:
        if direction == "in":
            splitter.answer(event)
        elif _is_create(event):
            splitter.create(event)
    return splitter.parts


def _is_create(event: Event) -> bool:
    return event.get("type") == "response.create"


def _lane(event: Event) -> str | None:
    name = event.get("stream_id")
    return name if isinstance(name, str) else None


def _response_id(event: Event) -> Any:
    response = event.get("response")
    return response.get("id") if isinstance(response, dict) else None


class _Splitter:
    def __init__(self, creates_are_recorded: bool) -> None:
        self.parts: list[list[Event]] = []
        self._creates_are_recorded = creates_are_recorded
        # By lane (None is the default one): the parts that still want events, and the part that had the last one.
        self._waiting: dict[str | None, deque[list[Event]]] = {}
        self._last: dict[str | None, list[Event]] = {}
        self._early: list[Event] = []

    def create(self, event: Event) -> None:
        part, self._early = self._early, []
        self.parts.append(part)
        self._waiting.setdefault(_lane(event), deque()).append(part)

    def answer(self, event: Event) -> None:
        lane, kind = _lane(event), event.get("type")
        last = self._last.get(lane)
        if last is not None and _completes_error(last, event):
            last.append(event)
            return
        waiting = self._waiting.setdefault(lane, deque())
        if not waiting and not self._creates_are_recorded:
            self.parts.append([])
            waiting.append(self.parts[-1])
        if waiting:
            part = self._last[lane] = waiting[0]
            if kind in TERMINAL_TYPES or kind == "error":
                waiting.popleft()
        else:
            part = last or (self.parts[-1] if self.parts else self._early)
        part.append(event)


def _completes_error(part: list[Event], event: Event) -> bool:
    """Tell whether the part ended with an ``error`` and this is the ``response.failed`` that goes with it."""
    if part[-1].get("type") != "error" or event.get("type") != "response.failed":
        return False
    started = [_response_id(each) for each in part if each.get("type") == "response.created"]
    return bool(started) and started[-1] == _response_id(event)
