"""What a fuzzer's bytes decide. A pure reader, so that one input always means one course of events."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import AnyStr, TypeVar


__all__ = ["Choices"]

Option = TypeVar("Option")


class Choices:
    """
    Decisions, read from the front of some bytes; when they are used up, every decision is the first option.

    Args:
        data: The fuzzer's bytes.
    """

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    @property
    def more(self) -> bool:
        """Whether there is something left to decide by."""
        return self._at < len(self._data)

    def number(self, below: int) -> int:
        """Choose from 0 up to, and without, a limit of at most 65,536."""
        wide = 1 if below <= 256 else 2
        return int.from_bytes(self.bytes(wide), "big") % below

    def flag(self) -> bool:
        """Choose yes or no; no when there is nothing left."""
        return bool(self.number(256) & 1)

    def one_of(self, options: Sequence[Option]) -> Option:
        """Choose one of several."""
        return options[self.number(len(options))]

    def bytes(self, count: int) -> bytes:
        """Take so many bytes, fewer at the end."""
        self._at += count
        return self._data[self._at - count : self._at]

    def rest(self) -> bytes:
        """Take all that is left."""
        return self.bytes(len(self._data))

    def cuts(self, data: AnyStr, sizes: Sequence[int]) -> Iterator[AnyStr]:
        """Cut bytes or a text into pieces of these sizes, by turns as the choices say."""
        while data:
            size = self.one_of(sizes)
            yield data[:size]
            data = data[size:]
