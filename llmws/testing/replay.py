"""A recording as a rule: the server's part of it, played to whoever asks."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence

from ..errors import ConfigurationError, RecordingMismatchError
from ..wire.parts import TERMINAL_TYPES
from ..wire.recording import Recording, check, load
from .request import Event, Request


__all__ = ["Replay", "Source"]

Source = str | os.PathLike[str] | Recording | Sequence[Event]

_NO_CLOSE_FRAME = (1006, 1015)


class Replay:
    """
    A rule that plays a recording: one part for each create of a connection, from the start on each connection.

    Events are played as they were recorded. A part that was cut short ends as the recorded socket ended. After the
    last part the first comes again.

    Args:
        source: A path, a recording, or a list of server events.

    Attributes:
        mismatches: The creates that differ from the recorded ones, as errors in order of discovery. The answer
            goes on all the same: what a broken stream does is not what such a test asks.

    Raises:
        RecordingError: The recording cannot be read.
        ConfigurationError: It has no server events.
    """

    def __init__(self, source: Source) -> None:
        if isinstance(source, Recording):
            recording = source
        elif isinstance(source, (str, os.PathLike)):
            recording = load(source)
        else:
            recording = Recording.of_events(source)
        self.mismatches: list[RecordingMismatchError] = []
        self._parts = recording.parts()
        self._creates = [
            event for event in recording.requests() if event.get("type") == "response.create"
        ]
        self._close = recording.last_close()
        if not self._parts:
            raise ConfigurationError(
                "The recording has no server events: there is nothing to play."
            )

    def __call__(self, request: Request) -> Iterator[Event]:
        """Yield the part that this create's turn comes to."""
        index = (request.turn - 1) % len(self._parts)
        if self._creates and request.transport == "ws":
            self._compare(self._creates[index], request.body)
        part = self._parts[index]
        yield from part
        ends = [event.get("type") for event in part]
        if not any(kind in TERMINAL_TYPES or kind == "error" for kind in ends):
            self._end(request)

    def _compare(self, recorded: Event, body: Event) -> None:
        try:
            check(recorded, body)
        except RecordingMismatchError as mismatch:
            self.mismatches.append(mismatch)

    def _end(self, request: Request) -> None:
        """End the connection as the recorded one ended, if it did; it may be over by now."""
        connection, end = request.connection, self._close
        if connection is None or end is None:
            return
        with contextlib.suppress(ConnectionError):
            if end.code in _NO_CLOSE_FRAME:
                connection.drop()
            else:
                connection.close(end.code, end.reason)
