"""
What was said in a conversation: items as JSON bytes, encoded once, and their sizes.

A full replay is a join of the items, and a turn that sends only what is new costs nothing that grows with the history.
Values and lists; no I/O, no lock: whoever shares a transcript guards it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import attrs

from ...wire import jsoncodec


__all__ = ["Transcript", "Window"]


@attrs.frozen(eq=False, repr=False)
class Window:
    """
    The first items of a transcript, as they were when it was taken.

    Safe to read on any thread, whatever becomes of the transcript meanwhile.

    Attributes:
        count: How many items it holds.
    """

    _items: list[bytes]
    _ends: list[int]
    count: int

    def first(self, count: int) -> Window:
        """Return the first items of these."""
        return Window(self._items, self._ends, min(count, self.count))

    def items_from(self, start: int) -> list[bytes]:
        """Return the items from a position on."""
        return self._items[start : self.count]

    def decoded(self) -> list[dict[str, Any]]:
        """Return the items as new objects."""
        return [jsoncodec.decode(item) for item in self.items_from(0)]

    def size_bytes_from(self, start: int) -> int:
        """Return how many bytes the items from a position on take, commas between them not counted."""
        return self._ends[self.count] - self._ends[min(start, self.count)]

    def __repr__(self) -> str:
        return f"<Window items={self.count} bytes={self.size_bytes_from(0)}>"


class Transcript:
    """
    A list of encoded items that knows its size; one thread at a time may change it.

    Args:
        items: The first items, each the bytes of one JSON object.
    """

    __slots__ = ("_ends", "_items")

    def __init__(self, items: Iterable[bytes] = ()) -> None:
        # Both only ever grow, so that windows into them stay right; what shortens makes new ones.
        self._items: list[bytes] = []
        self._ends = [0]
        self.extend(items)

    def __len__(self) -> int:
        return len(self._items)

    def __repr__(self) -> str:
        return f"<Transcript items={len(self)} bytes={self.size_bytes}>"

    @property
    def items(self) -> Sequence[bytes]:
        """The items, not to be changed."""
        return self._items

    @property
    def size_bytes(self) -> int:
        """How many bytes all items take, commas between them not counted."""
        return self._ends[-1]

    def extend(self, items: Iterable[bytes]) -> None:
        """Add items at the end, in time that does not depend on those before."""
        for item in items:
            self._items.append(item)
            self._ends.append(self._ends[-1] + len(item))

    def window(self) -> Window:
        """Return the items of now, in time that does not depend on how many they are."""
        return Window(self._items, self._ends, len(self._items))

    def holds(self, window: Window) -> bool:
        """Tell whether a window shows the beginning of this transcript, which since then has only grown."""
        return window._items is self._items

    def cut(self, start: int = 0, stop: int | None = None) -> Transcript:
        """Return a transcript of its own with some of the items; their bytes are shared."""
        return Transcript(self._items[start:stop])
