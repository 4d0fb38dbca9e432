"""
The loops of the measured programs: every event's type is looked at, and every delta's text.

Each takes an iterator and returns how much text came, and the last event. There is a loop for each shape, so that
none pays for the generality of one for all. An endless iterator, that of a connection, is left at the terminal event;
one that ends with its answer is read to its end.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any


__all__ = ["READERS", "deltas"]

_DELTA = "response.output_text.delta"
_ENDS = frozenset({"response.completed", "response.incomplete", "response.failed", "error"})


def _objects(events: Iterator[Any], endless: bool) -> tuple[int, Any]:
    characters, last = 0, None
    for event in events:
        kind = event.type
        if kind == _DELTA:
            characters += len(event.delta)
        elif kind in _ENDS:
            last = event
            if endless:
                break
    return characters, last


def _dicts(events: Iterator[Any], endless: bool) -> tuple[int, Any]:
    characters, last = 0, None
    for event in events:
        kind = event["type"]
        if kind == _DELTA:
            characters += len(event["delta"])
        elif kind in _ENDS:
            last = event
            if endless:
                break
    return characters, last


def _chunks(chunks: Iterator[Any], endless: bool) -> tuple[int, Any]:
    characters, chunk = 0, None
    for chunk in chunks:
        characters += len(chunk.text)
    return characters, chunk


READERS: dict[str, Callable[[Iterator[Any], bool], tuple[int, Any]]] = {
    "objects": _objects,
    "dicts": _dicts,
    "chunks": _chunks,
}


def deltas(events: Iterator[Any], reads: str, endless: bool) -> Iterator[str]:
    """Iterate over the texts of an answer, where it is not the reading that is measured."""
    for event in events:
        kind = event["type"] if reads == "dicts" else event.type
        if kind == _DELTA:
            yield event["delta"] if reads == "dicts" else event.delta
        elif kind in _ENDS and endless:
            return
