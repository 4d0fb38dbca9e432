"""The views of a stream: chunks, texts, events and an SSE body, each an iterator of its own over one log."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Generic, TypeVar

from ...errors import RemoteProtocolError
from ...wire import jsoncodec
from ..vocabulary.apierrors import ErrorEvent
from ..vocabulary.entries import Entry, Notice, opened
from ..vocabulary.events import Event, TextDelta
from .chunks import Chunk, from_events


__all__ = ["Reader", "chunks_of", "events_of", "sse_of", "texts_of"]

View = TypeVar("View")

# Entries converted at once. Few, so that what is made of them dies young: more, and the garbage collector would look at
# them again and again.
_SLICE = 128


class Reader(Iterator[View], Generic[View]):
    """
    One pass over a stream, from its first event.

    Not for several threads at once; open one reader each. Leaving a loop early drops the reader's place and nothing
    else. Ctrl-C while it waits cancels the turn.

    Args:
        source: Waits for the entries behind a cursor; returns none at a normal end, and raises at any other.
        convert: What this view makes of entries.
    """

    __slots__ = ("_batch", "_closed", "_convert", "_cursor", "_index", "_source")

    def __init__(
        self,
        source: Callable[[int, int], list[Entry]],
        convert: Callable[[list[Entry]], Sequence[View]],
    ) -> None:
        self._source = source
        self._convert = convert
        self._batch: Sequence[View] = ()
        self._index = 0
        self._cursor = 0
        self._closed = False

    def __next__(self) -> View:
        # One look at the batch: ``close`` may take it away at any time.
        batch, index = self._batch, self._index
        if index >= len(batch):
            batch, index = self._refill(), 0
        item = batch[index]
        # The place moves on last: an interrupt before this line loses nothing.
        self._index = index + 1
        return item

    def __iter__(self) -> Reader[View]:
        return self

    def __repr__(self) -> str:
        return f"<Reader cursor={self._cursor}{' closed' if self._closed else ''}>"

    def close(self) -> None:
        """Drop this reader's place; it then ends. The turn goes on. May be called from any thread."""
        self._closed = True
        self._batch = ()
        self._source = _nothing  # It held the turn, which ends when nobody does.

    def _refill(self) -> Sequence[View]:
        while not self._closed:
            entries = self._source(self._cursor, _SLICE)
            if not entries:
                self.close()
                break
            batch, cursor = self._convert(entries), self._cursor + len(entries)
            self._batch, self._index, self._cursor = batch, 0, cursor
            if self._closed:  # Meanwhile, by another thread.
                self._batch = ()
            elif batch:
                return batch
        raise StopIteration


def _nothing(cursor: int, most: int) -> list[Entry]:
    return []


def chunks_of(entries: Sequence[Entry]) -> list[Chunk]:
    """Return the chunks of some entries; a notice of llmws itself is a ``meta`` chunk."""
    return from_events(opened(entries))


def texts_of(entries: Sequence[Entry]) -> list[str]:
    """Return the answer's text pieces among some entries; a refusal is none."""
    return [event.delta for event in opened(entries) if type(event) is TextDelta]


def events_of(entries: Sequence[Entry]) -> list[Event]:
    """Return the server's events among some entries."""
    return [event for event in opened(entries) if type(event) is not Notice]


def sse_of(entries: Sequence[Entry]) -> list[bytes]:
    """Return the events as the blocks of an SSE body, as the HTTP API would have sent them."""
    return [_block(event) for event in events_of(entries)]


def _block(event: Event) -> bytes:
    raw: dict[str, Any] = event.raw
    if isinstance(event, ErrorEvent):
        # Over HTTP an error in mid-stream is flat.
        raw = {
            "type": "error",
            "code": event.code,
            "message": event.message,
            "param": event.param,
            "sequence_number": event.sequence_number,
        }
    elif "stream_id" in raw:
        raw = {name: value for name, value in raw.items() if name != "stream_id"}
    # A line break would end the field; none of OpenAI's types has one.
    name = " ".join(event.type.split())
    try:
        data = jsoncodec.encode(raw)
    except jsoncodec.JSONError as exc:
        # It could just be read, and readers of JSON go a little deeper than writers.
        raise RemoteProtocolError(f"An event cannot be given on as SSE: {exc}.") from exc
    return b"event: %s\ndata: %s\n\n" % (name.encode(), data)
