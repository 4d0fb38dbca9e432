"""
Events, their chunks, their SSE form and the fold: for any JSON object nothing raises, and the views agree.

The first byte says whether the rest is a file of JSON lines, as the wire has them, or decisions that build events.
"""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from typing import Any

from llmws.errors import APIError, ParseError, RemoteProtocolError
from llmws.responses.stream.chunks import Chunk
from llmws.responses.stream.readers import chunks_of, events_of, sse_of, texts_of
from llmws.responses.stream.snapshot import Accumulator, Response
from llmws.responses.vocabulary.apierrors import ErrorEvent, from_event
from llmws.responses.vocabulary.events import Event, ResponseFinished, decode
from tests.fuzz import shapes
from tests.fuzz.choices import Choices


__all__ = ["any_events", "messages"]

# The fold is looked at after each event, so a long file would cost the square of its length.
MOST_EVENTS = 16
REASONS = {
    None, "stop", "length", "tool_calls", "content_filter", "error", "cancelled", "incomplete", "unknown",
}  # fmt: skip


def any_events(data: bytes) -> None:
    """Decode messages, look at every view of every event, and fold them."""
    fold, decoded = Accumulator(), []
    for message in messages(data)[:MOST_EVENTS]:
        event = decoded_or_refused(message)
        if event is None:
            continue
        decoded.append(event)
        check_event(event)
        fold.add(event)
        check_response(fold.response())
    chunks = chunks_of(decoded)
    spoken = [c.text for c in chunks if c.type == "content" and not c.metadata.get("refusal")]
    assert texts_of(decoded) == spoken
    assert events_of(decoded) == decoded
    check_end(fold, decoded)


def messages(data: bytes) -> list[bytes]:
    """Return the messages that the bytes stand for."""
    if data[:1] > b"\x7f":
        choices, built = Choices(data[1:]), []
        while choices.more and len(built) < MOST_EVENTS:
            built.append(json.dumps(shapes.event(choices)).encode())
        return built
    return [line for line in data[1:].split(b"\n") if line]


def decoded_or_refused(message: bytes) -> Event | None:
    """Decode a message both as bytes and as a bytearray; nothing but a ``RemoteProtocolError`` may refuse it."""
    first, second = (
        tried(lambda form=form: decode(form)) for form in (message, bytearray(message))
    )
    if isinstance(first, RemoteProtocolError):
        assert message.startswith(first.raw or b"")
        assert str(second) == str(first)
        return None
    assert second == first
    return first


def tried(call: Callable[[], Any]) -> Any:
    """Return what a call returns, or the error by which the server's words may be refused."""
    try:
        return call()
    except (RemoteProtocolError, APIError, ParseError) as exc:
        return exc


def check_event(event: Event) -> None:
    """Look at everything that an event shows."""
    repr(event)
    for name in dir(type(event)):
        if not name.startswith("_"):
            getattr(event, name)
    assert isinstance(event.type, str)
    assert event.raw.get("type") == event.type or event.type == ""
    assert pickle.loads(pickle.dumps(event)) == event
    for chunk in chunks_of([event]):
        check_chunk(chunk)
    (block,) = sse_of([event])
    check_block(event, block)
    if isinstance(event, ErrorEvent):
        error = from_event(event, state="output")
        assert isinstance(error, APIError)
        str(error), repr(error)


def check_chunk(chunk: Chunk) -> None:
    assert chunk.validate() is chunk
    assert pickle.loads(pickle.dumps(chunk)) == chunk
    assert len(repr(chunk)) < 200
    filled = [chunk.text, chunk.thinking, chunk.part, chunk.tool_call]
    assert sum(bool(value) for value in filled) <= 1, "a chunk of two kinds"


def check_block(event: Event, block: bytes) -> None:
    """Read a block as an SSE client would: two fields, one line each."""
    name, data, *rest = block.split(b"\n")
    assert rest == [b"", b""]
    assert name.startswith(b"event: ")
    assert data.startswith(b"data: ")
    raw = json.loads(data.removeprefix(b"data: "))
    if not isinstance(event, ErrorEvent):
        assert raw == {key: item for key, item in event.raw.items() if key != "stream_id"}


def check_response(response: Response) -> None:
    """Look at everything that a response shows."""
    repr(response)
    assert response.finish_reason in REASONS
    assert response.text == "".join(item.text for item in response.output)
    assert response.refusal == "".join(item.refusal for item in response.output)
    assert len(response.tool_calls) <= len(response.output)
    for part in (*response.output, *response.tool_calls, *response.images, response.usage):
        repr(part)
    answers = response.classify()
    assert (answers.type == "tool_calls") == bool(answers.tool_calls)
    for kind in (None, dict, list):
        str(tried(lambda kind=kind: response.parse(kind)))
    status = tried(response.raise_for_status)
    assert (status.partial if isinstance(status, APIError) else status) is response


def check_end(fold: Accumulator, decoded: list[Event]) -> None:
    """After a terminal event nothing changes the response any more."""
    repr(fold)
    ends: list[Any] = [event for event in decoded if isinstance(event, ResponseFinished)]
    if ends:
        final = fold.response()
        for event in decoded:
            fold.add(event)
        assert fold.response(finish_reason="cancelled") is final
        assert final.status == ends[0].status or final.raw == ends[0].response
