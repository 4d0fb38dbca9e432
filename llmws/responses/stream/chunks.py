"""
The portable view of a stream: each event becomes one chunk of five kinds, or none.

A pure projection, without memory of the events before. The text of the ``content`` chunks that are no refusal, joined,
is exactly the wire's text deltas, joined.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import Any

import attrs

from ...errors import ConfigurationError
from ..vocabulary.entries import Notice
from ..vocabulary.events import (
    AnnotationAdded,
    ArgumentsDelta,
    ErrorEvent,
    Event,
    ItemEvent,
    OutputItemDone,
    PartialImage,
    ReasoningDelta,
    RefusalDelta,
    ResponseFinished,
    ResponseStarted,
    TextDelta,
)
from ..vocabulary.items import Image, ToolCall, Usage, finish_reason_of, output_items


__all__ = ["Chunk", "from_event", "from_events"]

_NOTHING: Mapping[str, Any] = MappingProxyType({})
_REFUSAL: Mapping[str, Any] = MappingProxyType({"refusal": True})
# What each type of chunk has to hold, and of what type it is.
_HOLDS: dict[str, tuple[str, type]] = {
    "content": ("text", str),
    "content_part": ("part", object),
    "thinking": ("thinking", str),
    "tool_call": ("tool_call", ToolCall),
    "meta": ("metadata", Mapping),
}


@attrs.frozen(unsafe_hash=False, repr=False, weakref_slot=False)
class Chunk:
    """
    One piece of an answer, the same for every provider.

    Immutable, so that any number of threads may read one.

    Attributes:
        type: ``content``, ``content_part``, ``thinking``, ``tool_call`` or ``meta``.
        text: The text of a ``content`` chunk, ``""`` in all others.
        thinking: The text of a ``thinking`` chunk, ``""`` in all others.
        part: What a ``content_part`` chunk brings, such as an ``Image``, else None.
        tool_call: The call of a ``tool_call`` chunk, whole, else None.
        metadata: Everything else, by name; not to be changed.
    """

    type: str
    text: str = ""
    thinking: str = ""
    part: Any = None
    tool_call: ToolCall | None = None
    metadata: Mapping[str, Any] = _NOTHING

    @classmethod
    def content(cls, text: str, **metadata: Any) -> Chunk:
        """Make a chunk of the answer's text."""
        return cls("content", text=text, metadata=metadata or _NOTHING)

    @classmethod
    def content_part(cls, part: Any, **metadata: Any) -> Chunk:
        """Make a chunk of an image or another part that is not text."""
        return cls("content_part", part=part, metadata=metadata or _NOTHING)

    @classmethod
    def reasoning(cls, thinking: str, **metadata: Any) -> Chunk:
        """Make a ``thinking`` chunk; the name ``thinking`` itself is the attribute."""
        return cls("thinking", thinking=thinking, metadata=metadata or _NOTHING)

    @classmethod
    def call(cls, tool_call: ToolCall, **metadata: Any) -> Chunk:
        """Make a ``tool_call`` chunk; the name ``tool_call`` itself is the attribute."""
        return cls("tool_call", tool_call=tool_call, metadata=metadata or _NOTHING)

    @classmethod
    def meta(cls, **metadata: Any) -> Chunk:
        """Make a chunk of what is neither text, part, reasoning nor call."""
        return cls("meta", metadata=metadata)

    def validate(self) -> Chunk:
        """
        Return this chunk if it holds what its type says.

        Raises:
            ConfigurationError: The type is unknown, or what the type calls for is missing or of another kind.
        """
        if self.type not in _HOLDS:
            raise ConfigurationError(
                f"A chunk has type {self.type!r}: choose from {', '.join(_HOLDS)}."
            )
        name, kind = _HOLDS[self.type]
        value = getattr(self, name)
        if value is None or not isinstance(value, kind):
            raise ConfigurationError(
                f"A {self.type} chunk has {name}={_cut(value)}: give it {kind.__name__}."
            )
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        # The shared, unchangeable mappings cannot be pickled.
        fields = (self.type, self.text, self.thinking, self.part, self.tool_call)
        return Chunk, (*fields, dict(self.metadata))

    def __repr__(self) -> str:
        values = (self.text, self.thinking, self.part, self.tool_call, self.metadata)
        shown = next((value for value in values if value), "")
        return f"Chunk({self.type!r}, {_cut(shown)})"


@attrs.define(repr=False, eq=False, weakref_slot=False)
class _Unfrozen:
    """A chunk before it is one; laid out exactly as ``Chunk``, which Python checks when its class changes."""

    type: str
    text: str
    thinking: str
    part: Any
    tool_call: ToolCall | None
    metadata: Mapping[str, Any]


def from_event(event: Event) -> Chunk | None:
    """
    Project an event; never raises.

    Returns:
        The chunk, or None if the event has nothing portable. At a terminal event ``finish_reason``
        counts only the calls that the event itself repeats; the response has the last word.
    """
    chunks = from_events((event,))
    return chunks[0] if chunks else None


def from_events(events: Iterable[Event]) -> list[Chunk]:
    """Project events as ``from_event`` does; those that have nothing portable are left out."""
    chunks = []
    for event in events:
        if event.__class__ is TextDelta:
            text = event.raw.get("delta")
            # Storing into an unfrozen object takes a third of the time, and a long answer is made of text deltas.
            text = text if type(text) is str else ""
            chunk: Any = _Unfrozen("content", text, "", None, None, _NOTHING)
            chunk.__class__ = Chunk
            chunks.append(chunk)
        elif event.__class__ in _PROJECTIONS:
            chunk = _PROJECTIONS[event.__class__](event)
            if chunk is not None:
                chunks.append(chunk)
    return chunks


def _cut(value: object) -> str:
    shown = value if isinstance(value, str) else repr(value)
    shown = f"{shown[:19]}…" if len(shown) > 20 else shown
    return repr(shown) if isinstance(value, str) else shown


def _where(event: ItemEvent) -> dict[str, Any]:
    return {"item_id": event.item_id, "output_index": event.output_index}


def _refusal(event: RefusalDelta) -> Chunk:
    return Chunk("content", text=event.delta, metadata=_REFUSAL)


def _thinking(event: ReasoningDelta) -> Chunk:
    return Chunk.reasoning(event.delta, **_where(event), summary_index=event.summary_index)


def _arguments(event: ArgumentsDelta) -> Chunk:
    return Chunk.meta(tool_call_delta={**_where(event), "delta": event.delta})


def _partial_image(event: PartialImage) -> Chunk:
    return Chunk.content_part(
        Image.from_wire(event.partial_image_b64, event.raw, partial=True),
        **_where(event),
        partial=True,
        partial_image_index=event.partial_image_index,
    )


def _annotation(event: AnnotationAdded) -> Chunk:
    return Chunk.meta(
        **_where(event), content_index=event.content_index, annotation=event.annotation
    )


def _item(event: OutputItemDone) -> Chunk | None:
    items, calls = output_items([event.item])
    where = {"item_id": items[0].id, "output_index": event.output_index}
    image = items[0].image
    if image:  # The call that made it is in the response.
        return Chunk.content_part(image, **where)
    return Chunk.call(calls[0], **where) if calls else None


def _started(event: ResponseStarted) -> Chunk | None:
    if event.type != "response.created":
        return None
    return Chunk.meta(response_id=event.response_id)


def _finished(event: ResponseFinished) -> Chunk:
    response = event.response
    details = response.get("incomplete_details")
    reason = details.get("reason") if isinstance(details, dict) else None
    calls = output_items(response.get("output"))[1]
    return Chunk.meta(
        response_id=event.response_id,
        finish_reason=finish_reason_of(event.status, reason, calls),
        usage=Usage.from_wire(response.get("usage")),
        terminal=True,
    )


def _error(event: ErrorEvent) -> Chunk:
    return Chunk.meta(
        error={
            "status": event.status,
            "type": event.error_type,
            "code": event.code,
            "message": event.message,
            "param": event.param,
        }
    )


def _notice(event: Notice) -> Chunk:
    fields = {name: value for name, value in event.raw.items() if name != "type"}
    return Chunk.meta(notice=event.type.removeprefix("llmws."), **fields)


_PROJECTIONS: dict[type[Event], Callable[[Any], Chunk | None]] = {
    RefusalDelta: _refusal,
    ReasoningDelta: _thinking,
    ArgumentsDelta: _arguments,
    OutputItemDone: _item,
    PartialImage: _partial_image,
    AnnotationAdded: _annotation,
    ResponseStarted: _started,
    ResponseFinished: _finished,
    ErrorEvent: _error,
    Notice: _notice,
}
