"""
Frames that wait to be written, with how far each has got.

Control frames go before messages, but never into one: a frame once begun is finished, or the connection is dead.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import Any

import attrs


__all__ = ["Frame", "Outbox"]

# Answers to a flood of pings may wait in this many frames; past that only the newest is kept (RFC 6455 §5.5.3).
_MOST_CONTROL = 256


@attrs.define
class Frame:
    """
    One encoded frame.

    Attributes:
        data: Its bytes, masked; of one in pieces the piece that is being written.
        pieces: What follows ``data``.
        key: Whose message it is; None for control frames.
        ping: Whether it is a ping of ours.
        begun: Whether any of it was handed over: to the kernel, or to TLS, which must be given the same bytes again.
        written: How many of the bytes of ``data`` the kernel took.
    """

    data: memoryview
    pieces: Iterator[bytes | bytearray]
    key: Any = None
    ping: bool = False
    begun: bool = False
    written: int = 0

    @classmethod
    def of(cls, frame: bytes | bytearray | Iterator[bytes | bytearray], **fields: Any) -> Frame:
        """Make a frame of its bytes, or of pieces that are built as they are needed."""
        if isinstance(frame, (bytes, bytearray)):
            return cls(memoryview(frame), iter(()), **fields)
        return cls(memoryview(next(frame)), frame, **fields)

    @property
    def finished(self) -> bool:
        """Whether the kernel has all of it."""
        return self.written == len(self.data)

    def wrote(self, count: int) -> None:
        """Note what was written, and go on to the next piece."""
        self.begun = True
        self.written += count
        if self.finished and (piece := next(self.pieces, None)) is not None:
            self.data, self.written = memoryview(piece), 0


class Outbox:
    """
    The writing half of one connection.

    Not thread-safe: it belongs to the thread that writes the socket.
    """

    def __init__(self) -> None:
        self._control: deque[Frame] = deque()
        self._messages: deque[Frame] = deque()
        self._current: Frame | None = None

    def __len__(self) -> int:
        return len(self._control) + len(self._messages) + (self._current is not None)

    @property
    def begun(self) -> bool:
        """Whether a frame is half written."""
        return self._current is not None and self._current.begun

    def add_control(self, frame: bytes | bytearray, *, ping: bool = False) -> None:
        """Queue a control frame."""
        if len(self._control) >= _MOST_CONTROL:
            self._control.pop()
        self._control.append(Frame.of(frame, ping=ping))

    def add_message(self, frame: bytes | bytearray | Iterator[bytes | bytearray], key: Any) -> None:
        """Queue a message's frame, whole or in pieces."""
        self._messages.append(Frame.of(frame, key=key))

    def next_bytes(self, *, hold_messages: bool = False) -> memoryview | None:
        """
        Return the bytes to write next, or None.

        Args:
            hold_messages: Let no message begin.
        """
        if self._current is None:
            if self._control:
                self._current = self._control.popleft()
            elif self._messages and not hold_messages:
                self._current = self._messages.popleft()
            else:
                return None
        return self._current.data[self._current.written :]

    def wrote(self, count: int) -> tuple[Frame, bool] | None:
        """
        Note what the kernel took of ``next_bytes``; 0 if TLS alone has it so far.

        Returns:
            The frame, and whether these were its first bytes; None if nothing was being written.
        """
        frame = self._current
        if frame is None:
            return None
        first = not frame.begun
        frame.wrote(count)
        if frame.finished:
            self._current = None
        return frame, first

    def withdraw(self, key: Any) -> None:
        """Forget the message of this key, unless it has begun."""
        self._messages = deque(frame for frame in self._messages if frame.key is not key)
        if self._current and self._current.key is key and not self._current.begun:
            self._current = None

    def clear(self) -> None:
        """Forget every frame that has not begun."""
        self._control.clear()
        self._messages.clear()
        if self._current and not self._current.begun:
            self._current = None

    def abandon(self) -> None:
        """Forget everything: the socket is gone."""
        self.clear()
        self._current = None
