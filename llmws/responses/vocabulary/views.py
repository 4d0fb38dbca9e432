"""
The bases of the events: a wire message kept whole, and typed views of its fields.

An event stores two things: the exact wire ``type`` and ``raw``, the decoded JSON object, untouched. Every other
attribute is a view that reads ``raw`` when it is asked for, so that building an event costs two stores however many
fields the wire has; a stream may carry tens of thousands of them.

A view never raises: where the wire left a field out, or sent another JSON type, a required string, list or object
reads as an empty one, and anything else as None.
"""

from __future__ import annotations

import reprlib
from typing import TYPE_CHECKING, Any, Generic, TypeVar, overload

import attrs


__all__ = [
    "ContentEvent",
    "Event",
    "Field",
    "ItemEvent",
    "LifecycleEvent",
    "shorten",
    "string_or_none",
]

T = TypeVar("T")
K = TypeVar("K")

_repr = reprlib.Repr()
_repr.maxlevel = 1
_repr.maxstring = _repr.maxother = 40


def shorten(value: object) -> str:
    """Return a repr of at most about 40 characters a string and one level of nesting."""
    return _repr.repr(value)


def string_or_none(value: object) -> str | None:
    """Return a JSON string as it is, and None for every other value."""
    return value if isinstance(value, str) else None


class Field(property, Generic[T]):
    """
    A typed view of one field of an event's ``raw``.

    ``Field(str)`` reads as ``""`` where the wire has no string, ``Field(int, None)`` as None where it has no integer.
    """

    @overload
    def __init__(self: Field[K], kind: type[K]) -> None: ...
    @overload
    def __init__(self: Field[K | None], kind: type[K], default: None) -> None: ...
    def __init__(self, kind: type[Any], default: object = ...) -> None:
        self.kind = kind
        # Called for each missing field, so that no caller can change what the next one gets.
        self.make: Any = kind if default is ... else type(None)

    def __set_name__(self, owner: type[object], name: str) -> None:
        kind, make = self.kind, self.make

        def view(event: Event) -> Any:
            value = event.raw.get(name)
            # Not isinstance: JSON's true is no integer.
            return value if type(value) is kind else make()

        super().__init__(view)

    if TYPE_CHECKING:

        @overload  # type: ignore[override]  # It is a view of events, not of any object.
        def __get__(self, event: None, owner: type[Event]) -> Field[T]: ...
        @overload
        def __get__(self, event: Event, owner: type[Event]) -> T: ...
        def __get__(self, event: Event | None, owner: type[Event]) -> Field[T] | T: ...


@attrs.frozen(repr=False, unsafe_hash=False, weakref_slot=False)
class Event:
    """
    One message from the server; unknown types are of this very class.

    Immutable, so that any number of threads may read one; not hashable, because ``raw`` is not.

    Attributes:
        type: The exact wire name, or ``""`` if the message had none.
        raw: The decoded JSON object, shared and not to be changed.
        sequence_number: The event's number within its response, or None.
        stream_id: The wire's name of the lane, or None on the default lane.
    """

    type: str
    raw: dict[str, Any]

    sequence_number = Field(int, None)
    stream_id = Field(str, None)

    def __getitem__(self, name: str) -> Any:
        return self.raw[name]

    def get(self, name: str, default: Any = None) -> Any:
        """Return a field of the wire as it is, or ``default`` if it is missing."""
        return self.raw.get(name, default)

    def __repr__(self) -> str:
        names = [
            name
            for base in type(self).__mro__
            for name, value in vars(base).items()
            if isinstance(value, Field) and name in self.raw
        ]
        fields = [f"{name}={shorten(getattr(self, name))}" for name in names]
        return f"{type(self).__name__}({', '.join([shorten(self.type), *fields])})"


class ItemEvent(Event):
    """
    An event about one output item.

    Attributes:
        item_id: The item's id, or ``""`` where the wire sends none.
        output_index: The item's place in the response's output, or None.
    """

    __slots__ = ()
    item_id = Field(str)
    output_index = Field(int, None)


class ContentEvent(ItemEvent):
    """
    An event about one part of an output item.

    Attributes:
        content_index: The part's place in the item's content, or None; a reasoning summary has none.
    """

    __slots__ = ()
    content_index = Field(int, None)


class LifecycleEvent(Event):
    """An event that carries the response as a whole, as far as it is known."""

    __slots__ = ()
    response = Field(dict)

    @property
    def response_id(self) -> str | None:
        """The response's id, or None."""
        return string_or_none(self.response.get("id"))
