"""An answer as far as it was sent, which may have to end sooner than its rule thought."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from .request import Event


__all__ = ["Draft"]


class Draft:
    """
    What of an answer was sent so far; not thread-safe.

    Attributes:
        output: The finished items.
        deltas: How many pieces of text there were.
    """

    def __init__(self) -> None:
        self.output: list[Any] = []
        self.deltas = 0
        self._item: Event | None = None
        self._index = 0
        self._part: Event | None = None  # The event that began the only part of the message.
        self._text: list[str] = []

    @property
    def is_safe(self) -> bool:
        """Whether the answer may stop here: between items, or within the text of a message."""
        return self._item is None or self._part is not None

    def add(self, event: Event) -> None:
        """Take an event of the answer into account."""
        match event.get("type"):
            case "response.output_text.delta":
                self.deltas += 1
                self._text.append(event.get("delta", ""))
            case "response.output_item.added":
                self._item, self._part, self._text = event.get("item") or {}, None, []
                self._index = event.get("output_index", len(self.output))
            case "response.content_part.added" if _is_first_text(event):
                self._part = event
            case "response.output_text.done" | "response.content_part.added":
                self._part = None
            case "response.output_item.done":
                self._item = self._part = None
                self.output.append(event.get("item"))

    def cut(self) -> Iterator[Event]:
        """Yield the end of the message that is being said, if there is one."""
        if self._item is None or self._part is None:
            return
        text = "".join(self._text)
        places = ("item_id", "output_index", "content_index")
        place = {field: self._part[field] for field in places if field in self._part}
        part = {**self._part["part"], "text": text}
        item = {**self._item, "status": "incomplete", "content": [part]}
        yield {"type": "response.output_text.done", **place, "text": text, "logprobs": []}
        yield {"type": "response.content_part.done", **place, "part": part}
        yield {"type": "response.output_item.done", "output_index": self._index, "item": item}
        self.output.append(item)


def _is_first_text(event: Event) -> bool:
    part = event.get("part") or {}
    return part.get("type") == "output_text" and not event.get("content_index")
