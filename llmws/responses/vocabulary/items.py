"""
What a response is made of: output items, tool calls, images and token counts.

Values only. Each is read liberally from the wire's objects: a field that is missing, or of another JSON type, reads as
empty, and never raises.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable, Mapping
from typing import Any

import attrs

from ...errors import RemoteProtocolError
from ...wire import jsoncodec
from .views import shorten, string_or_none


__all__ = [
    "Image",
    "OutputItem",
    "ToolCall",
    "Usage",
    "finish_reason_of",
    "objects",
    "output_items",
]

# Calls that the client has to answer. A shell call or a tool search may also run on the server: see ``_is_builtin``.
_CLIENT_CALLS = frozenset(
    f"{tool}_call"
    for tool in ("function", "custom_tool", "computer", "local_shell", "shell", "apply_patch")
)
# Where an item keeps what it calls with: the first that it has counts. ``input`` is free text, never JSON.
_ARGUMENTS = ("arguments", "input", "action", "actions", "operation")
# Hosted tools whose arguments are plain fields of the item.
_NAMED_ARGUMENTS = ("queries", "code")

_INCOMPLETE = {
    "max_output_tokens": "length",
    "max_tokens": "length",
    "content_filter": "content_filter",
}
_FINISHED = {"completed": "stop", "failed": "error", "cancelled": "cancelled"}
# Counts are below this.
_COUNTS = 2**63


def objects(value: object) -> list[dict[str, Any]]:
    """Return the objects in a JSON array, and none for any other value."""
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def _object(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _count(value: object) -> int:
    # A number of thousands of digits is no count: added up, it could not even be printed.
    return value if type(value) is int and 0 < value < _COUNTS else 0


@attrs.frozen(unsafe_hash=False)
class Usage:
    """
    Tokens of one response, or of several added up.

    Attributes:
        input_tokens: Everything the model read, the whole context, cached or not.
        output_tokens: Everything the model wrote, reasoning included.
        total_tokens: Both, as the server says, or their sum if it does not.
        cached_tokens: The part of the input that came from the prompt cache.
        cache_write_tokens: The part of the input that was written to the prompt cache.
        reasoning_tokens: The part of the output that is reasoning.
        raw: The wire's object, empty for a sum.
    """

    input_tokens: int = 0
    output_tokens: int = 0
    total_tokens: int = 0
    cached_tokens: int = 0
    cache_write_tokens: int = 0
    reasoning_tokens: int = 0
    raw: Mapping[str, Any] = attrs.field(factory=dict, repr=False, eq=False)

    @classmethod
    def from_wire(cls, raw: object) -> Usage | None:
        """Read the wire's usage object; None, or anything that is no object, gives None."""
        if not isinstance(raw, dict):
            return None
        read, written = _count(raw.get("input_tokens")), _count(raw.get("output_tokens"))
        read_details = _object(raw.get("input_tokens_details"))
        written_details = _object(raw.get("output_tokens_details"))
        return cls(
            input_tokens=read,
            output_tokens=written,
            total_tokens=_count(raw.get("total_tokens")) or read + written,
            cached_tokens=_count(read_details.get("cached_tokens")),
            cache_write_tokens=_count(read_details.get("cache_write_tokens")),
            reasoning_tokens=_count(written_details.get("reasoning_tokens")),
            raw=raw,
        )

    def __add__(self, other: Usage) -> Usage:
        if not isinstance(other, Usage):
            return NotImplemented
        return Usage(
            self.input_tokens + other.input_tokens,
            self.output_tokens + other.output_tokens,
            self.total_tokens + other.total_tokens,
            self.cached_tokens + other.cached_tokens,
            self.cache_write_tokens + other.cache_write_tokens,
            self.reasoning_tokens + other.reasoning_tokens,
        )


@attrs.frozen(unsafe_hash=False, repr=False)
class ToolCall:
    """
    One call of a tool, whole.

    Attributes:
        id: What an answer refers to: the wire's ``call_id``, or the item's id where it has none.
        item_id: The id of the output item.
        name: The function's name, or the item's type less ``_call``, such as ``shell``.
        arguments: The arguments as a JSON value; None if they are free text, empty or broken.
        arguments_text: The arguments as the model wrote them, or as compact JSON where the wire has an object; of a
            response so far (``stream.snapshot``), as far as they have come.
        builtin: Whether the server runs the call itself, so that nothing is to be answered.
    """

    id: str
    item_id: str
    name: str
    arguments: Any
    arguments_text: str
    builtin: bool = False

    @classmethod
    def from_item(cls, item: Mapping[str, Any], *, answered: bool = False) -> ToolCall | None:
        """
        Read a call from an output item.

        Args:
            item: The wire's item.
            answered: Whether the server itself has put the call's result into the same output.

        Returns:
            The call, or None if the item is no call.
        """
        kind = string_or_none(item.get("type")) or ""
        if not kind.endswith("_call"):
            return None
        item_id = string_or_none(item.get("id")) or ""
        arguments, text = _arguments(item)
        return cls(
            id=string_or_none(item.get("call_id")) or item_id,
            item_id=item_id,
            name=string_or_none(item.get("name")) or kind.removesuffix("_call"),
            arguments=arguments,
            arguments_text=text,
            builtin=answered or _is_builtin(kind, item),
        )

    @property
    def partial_arguments(self) -> Any:
        """The value so far of arguments that are still being written (``partial_json``), read anew each time."""
        from ...wire.partialjson import partial_json  # Few programs look at calls that early.

        return partial_json(self.arguments_text)

    def __repr__(self) -> str:
        builtin = ", builtin=True" if self.builtin else ""
        arguments = shorten(self.arguments_text)
        return f"ToolCall({self.name!r}, id={self.id!r}, arguments_text={arguments}{builtin})"


def _is_builtin(kind: str, item: Mapping[str, Any]) -> bool:
    if kind == "tool_search_call":
        return item.get("execution") != "client"
    if kind == "shell_call":
        # Given a container the shell is the server's (inferred); given none, or "local", it is the client's.
        return "container" in (string_or_none(_object(item.get("environment")).get("type")) or "")
    return kind not in _CLIENT_CALLS


def _arguments(item: Mapping[str, Any]) -> tuple[Any, str]:
    for name in _ARGUMENTS:
        value = item.get(name)
        if isinstance(value, str):
            return (None if name == "input" else _parse(value)), value
        if isinstance(value, (dict, list)):
            return value, _text(value)
    named = {name: item[name] for name in _NAMED_ARGUMENTS if item.get(name)}
    return (named, _text(named)) if named else (None, "")


def _parse(text: str) -> Any:
    try:
        return jsoncodec.decode(text.encode())
    except (
        ValueError
    ):  # Broken or cut-off JSON, or half a surrogate pair: the caller still has the text.
        return None


def _text(value: Any) -> str:
    try:
        return jsoncodec.encode(value).decode()
    except ValueError:
        return ""


@attrs.frozen(unsafe_hash=False, repr=False)
class Image:
    """
    An image that the model made, decoded when it is asked for.

    Attributes:
        base64: The image as the wire has it.
        media_type: Such as ``image/png``.
        item_id: The id of the output item.
        partial: Whether it is a preview of an image that is still being made.
        revised_prompt: The prompt as the model rewrote it, or None.
    """

    base64: str
    media_type: str = "image/png"
    item_id: str = ""
    partial: bool = False
    revised_prompt: str | None = None

    @classmethod
    def from_wire(cls, encoded: str, fields: Mapping[str, Any], *, partial: bool = False) -> Image:
        """
        Read an image.

        Args:
            encoded: The image in base64.
            fields: The wire's object around it: an output item, or a partial-image event.
            partial: Whether the image is a preview.
        """
        made = string_or_none(fields.get("output_format")) or "png"
        item_id = fields.get("item_id") if partial else fields.get("id")
        return cls(
            base64=encoded,
            media_type={"svg": "image/svg+xml", "jpg": "image/jpeg"}.get(made, f"image/{made}"),
            item_id=string_or_none(item_id) or "",
            partial=partial,
            revised_prompt=string_or_none(fields.get("revised_prompt")),
        )

    @property
    def data(self) -> bytes:
        """
        The image's bytes, decoded anew each time: keep them if they are needed again.

        Raises:
            RemoteProtocolError: The server sent broken base64.
        """
        try:
            return base64.b64decode(self.base64, validate=True)
        except (binascii.Error, ValueError) as exc:
            raise RemoteProtocolError(
                f"The image {self.item_id or '(without id)'} is broken base64: {exc}.",
                raw=self.base64[:512].encode(errors="replace"),
            ) from exc

    def __repr__(self) -> str:
        partial = ", partial=True" if self.partial else ""
        return f"Image({self.media_type!r}, {len(self.base64)} characters of base64{partial})"


@attrs.frozen(unsafe_hash=False, repr=False)
class OutputItem:
    """
    A view of one item of a response's output.

    Attributes:
        raw: The wire's item, shared and not to be changed.
    """

    raw: dict[str, Any]

    @property
    def type(self) -> str:
        """The item's type, such as ``message``, or ``""``."""
        return string_or_none(self.raw.get("type")) or ""

    @property
    def id(self) -> str:
        """The item's id, or ``""``."""
        return string_or_none(self.raw.get("id")) or ""

    @property
    def status(self) -> str | None:
        """The item's status, or None."""
        return string_or_none(self.raw.get("status"))

    @property
    def text(self) -> str:
        """The text of a message, its parts joined; refusals are not in it."""
        return self._joined("output_text", "text") if self.type == "message" else ""

    @property
    def refusal(self) -> str:
        """The words with which a message refuses, or ``""``."""
        return self._joined("refusal", "refusal") if self.type == "message" else ""

    @property
    def thinking(self) -> str:
        """A reasoning item's summary, parts joined by a blank line, or its own text if it has none."""
        if self.type != "reasoning":
            return ""
        summary = [string_or_none(part.get("text")) for part in objects(self.raw.get("summary"))]
        return "\n\n".join(filter(None, summary)) or self._joined("reasoning_text", "text")

    @property
    def annotations(self) -> list[dict[str, Any]]:
        """A message's citations and file paths, as the wire has them."""
        parts = objects(self.raw.get("content")) if self.type == "message" else []
        return [note for part in parts for note in objects(part.get("annotations"))]

    @property
    def image(self) -> Image | None:
        """The finished image of an image-generation call, or None."""
        encoded = string_or_none(self.raw.get("result"))
        if self.type != "image_generation_call" or not encoded:
            return None
        return Image.from_wire(encoded, self.raw)

    def __getitem__(self, name: str) -> Any:
        return self.raw[name]

    def get(self, name: str, default: Any = None) -> Any:
        """Return a field of the wire as it is, or ``default`` if it is missing."""
        return self.raw.get(name, default)

    def _joined(self, kind: str, name: str) -> str:
        parts = (part for part in objects(self.raw.get("content")) if part.get("type") == kind)
        return "".join(string_or_none(part.get(name)) or "" for part in parts)

    def __repr__(self) -> str:
        text = self.text or self.refusal or self.thinking
        shown = f", text={shorten(text)}" if text else ""
        return f"OutputItem({self.type!r}, id={self.id!r}{shown})"


def output_items(output: object) -> tuple[list[OutputItem], list[ToolCall]]:
    """Read a response's output: its items, and the tool calls among them, both in order."""
    raws = objects(output)
    answers = {
        (raw.get("type"), raw["call_id"])
        for raw in raws
        if isinstance(raw.get("type"), str) and isinstance(raw.get("call_id"), str)
    }
    calls = [
        ToolCall.from_item(
            raw,
            answered=raw.get("type") == "shell_call"
            and ("shell_call_output", string_or_none(raw.get("call_id"))) in answers,
        )
        for raw in raws
    ]
    return [OutputItem(raw) for raw in raws], [call for call in calls if call is not None]


def finish_reason_of(status: object, reason: object, calls: Iterable[ToolCall]) -> str | None:
    """
    Say in portable words why a response ended.

    Args:
        status: The wire's status.
        reason: The wire's reason for being incomplete, or None.
        calls: The response's tool calls; one that the client has to answer turns ``stop`` into ``tool_calls``.

    Returns:
        ``stop``, ``length``, ``tool_calls``, ``content_filter``, ``error``, ``cancelled``, ``incomplete`` or
        ``unknown``; None while the response runs.
    """
    if status in ("in_progress", "queued"):
        return None
    if status == "incomplete":
        return _INCOMPLETE.get(string_or_none(reason) or "", "incomplete")
    if status == "completed" and not all(call.builtin for call in calls):
        return "tool_calls"
    return _FINISHED.get(string_or_none(status) or "", "unknown")
