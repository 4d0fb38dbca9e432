"""
The final value of a turn, and the pure fold that makes it from events.

``Response`` is what a turn ends with, and what it is so far. ``Accumulator`` takes events and gives responses; it does
no I/O and holds no lock, so whoever shares one guards it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar, overload

import attrs

from ...errors import ConfigurationError, ParseError
from ..vocabulary.apierrors import ErrorEvent, api_error
from ..vocabulary.events import Event, ResponseFinished, ResponseStarted
from ..vocabulary.items import Image, OutputItem, ToolCall, Usage, finish_reason_of, output_items
from ..vocabulary.views import shorten, string_or_none
from .drafts import Drafts
from .parsing import parse_text


__all__ = [
    "Accumulator",
    "Classification",
    "Image",
    "OutputItem",
    "Response",
    "ToolCall",
    "Usage",
]

T = TypeVar("T")


@attrs.frozen(unsafe_hash=False)
class Classification:
    """
    What to do with a response: answer its calls, or show it.

    Attributes:
        type: ``tool_calls`` if the client has calls to answer, else ``final_answer``.
        text: The response's text.
        thinking: The response's reasoning.
        tool_calls: The calls that the client has to answer, in order.
        finish_reason: As in ``Response``.
    """

    type: str
    text: str
    thinking: str
    tool_calls: list[ToolCall]
    finish_reason: str | None


@attrs.frozen(unsafe_hash=False, repr=False, kw_only=True)
class Response:
    """
    A response, final or so far.

    Immutable, so that any number of threads may read one; its lists and dicts are not to be changed.

    Attributes:
        id: The wire's id, or ``""`` before the server has given one.
        model: The model that answered, as the server names it, or ``""``.
        status: ``completed``, ``incomplete``, ``failed``, ``cancelled``, ``queued`` or ``in_progress``.
        text: The answer: all text of all messages. A refusal is not in it.
        thinking: Summaries of the reasoning, or the reasoning itself where there is none, joined by blank lines.
        refusal: The words with which the model refused, or ``""``.
        output: The output items in order, compaction items too.
        tool_calls: All calls in order, also those that the server ran itself (``builtin``).
        images: The finished images in order.
        annotations: Citations and file paths of all messages, as the wire has them.
        usage: The tokens, or None while the response runs or if the server does not say.
        finish_reason: ``stop``, ``length``, ``tool_calls``, ``content_filter``, ``error``, ``cancelled``,
            ``incomplete`` or ``unknown``; None while the response runs.
        error: The wire's error object of a failed response, or None.
        incomplete_reason: The wire's reason for being incomplete, or None.
        raw: The wire's response object; of a response so far, one made like it.
    """

    id: str
    model: str
    status: str
    text: str
    thinking: str
    refusal: str
    output: list[OutputItem]
    tool_calls: list[ToolCall]
    images: list[Image]
    annotations: list[dict[str, Any]]
    usage: Usage | None
    finish_reason: str | None
    error: dict[str, Any] | None
    incomplete_reason: str | None
    raw: dict[str, Any]

    @classmethod
    def from_wire(cls, raw: dict[str, Any], *, finish_reason: str | None = None) -> Response:
        """
        Read a response object of the wire; never raises.

        Args:
            raw: The object, kept as it is and not copied.
            finish_reason: Replaces the reason that the object itself gives, or None.
        """
        items, calls = output_items(raw.get("output"))
        status = string_or_none(raw.get("status")) or ""
        details = raw.get("incomplete_details")
        reason = string_or_none(details.get("reason")) if isinstance(details, dict) else None
        error = raw.get("error")
        return cls(
            id=string_or_none(raw.get("id")) or "",
            model=string_or_none(raw.get("model")) or "",
            status=status,
            text="".join(item.text for item in items),
            thinking="\n\n".join(filter(None, (item.thinking for item in items))),
            refusal="".join(item.refusal for item in items),
            output=items,
            tool_calls=calls,
            images=[image for item in items if (image := item.image)],
            annotations=[note for item in items for note in item.annotations],
            usage=Usage.from_wire(raw.get("usage")),
            finish_reason=finish_reason or finish_reason_of(status, reason, calls),
            error=error if isinstance(error, dict) else None,
            incomplete_reason=reason,
            raw=raw,
        )

    @property
    def ok(self) -> bool:
        """Whether ``raise_for_status()`` lets the response pass."""
        return self.status != "failed"

    @overload
    def parse(self, cls: None = None) -> Any: ...
    @overload
    def parse(self, cls: type[T]) -> T: ...
    def parse(self, cls: type[T] | None = None) -> T | Any:
        """
        Read the text as JSON, as structured output promises it to be.

        Args:
            cls: What to make of it: any type that msgspec knows, which needs the extra ``fast``; ``dict``, ``list`` or
                None, for any JSON value, do not.

        Raises:
            ConfigurationError: msgspec is not installed, or does not know the type.
            ParseError: The text is no such JSON; the message says where it is not, or that the model refused, was cut
                off or failed.
        """
        if self.refusal and not self.text:
            raise self._unparsable("the model refused", shorten(self.refusal))
        try:
            return parse_text(self.text, cls)
        except ConfigurationError:
            raise
        except (ValueError, RecursionError) as exc:
            whole = self.finish_reason == "stop"
            problem = "the text does not fit" if whole else f"it ended with {self.finish_reason}"
            said = string_or_none((self.error or {}).get("message"))
            if not self.ok and said:
                raise self._unparsable("the server says that it failed", said) from exc
            raise self._unparsable(problem, str(exc)) from exc

    def _unparsable(self, problem: str, words: str) -> ParseError:
        return ParseError(
            f"Response {self.id} cannot be parsed, {problem}: {words}",
            response=self,
            refusal=self.refusal,
        )

    def classify(self) -> Classification:
        """Tell whether the client has calls to answer; calls that the server ran itself do not count."""
        calls = [call for call in self.tool_calls if not call.builtin]
        return Classification(
            type="tool_calls" if calls else "final_answer",
            text=self.text,
            thinking=self.thinking,
            tool_calls=calls,
            finish_reason=self.finish_reason,
        )

    def raise_for_status(self) -> Response:
        """
        Return this response unless it failed; to be incomplete is not to fail.

        Raises:
            APIError: The server says that the response failed; ``partial`` is this response.
        """
        if self.ok:
            return self
        error = self.error or {}
        raise api_error(
            message=string_or_none(error.get("message"))
            or "The response failed; the server does not say why",
            type=string_or_none(error.get("type")),
            code=string_or_none(error.get("code")),
            param=string_or_none(error.get("param")),
            partial=self,
            response_id=self.id or None,
            state="output" if self.output else "accepted",
            may_have_been_billed=True,
        )

    def __repr__(self) -> str:
        shown = {
            "status": self.status,
            "finish_reason": self.finish_reason,
            "text": self.text or None,
            "refusal": self.refusal or None,
        }
        fields = [f"{name}={shorten(value)}" for name, value in shown.items() if value is not None]
        calls = [f"tool_calls={len(self.tool_calls)}"] if self.tool_calls else []
        return f"Response({', '.join([repr(self.id), *fields, *calls])})"


@attrs.define(eq=False, repr=False)
class Accumulator:
    """
    Folds the events of one response into a ``Response``.

    Adding costs the same however much came before; ``response()`` costs as much as there is. What a ``done`` event says
    replaces what the deltas before it built, and what the terminal event says replaces everything.
    Audio has no place in a response and is passed over. Not safe for use by several threads at once.
    """

    _base: dict[str, Any] = attrs.field(factory=dict, init=False)
    _error: ErrorEvent | None = attrs.field(default=None, init=False)
    _terminal: ResponseFinished | None = attrs.field(default=None, init=False)
    _final: Response | None = attrs.field(default=None, init=False)
    _drafts: Drafts = attrs.field(factory=Drafts, init=False)

    def add(self, event: Event) -> None:
        """Take the next event; never raises, and takes nothing after the terminal event."""
        if self._terminal is not None:
            return
        if isinstance(event, ResponseFinished):
            self._terminal = event
        elif isinstance(event, ResponseStarted):
            self._base.update(event.response)  # Responses so far have copies of it.
        elif isinstance(event, ErrorEvent):
            self._error = event
        else:
            self._drafts.add(event)

    @property
    def ended(self) -> bool:
        """Whether the terminal event was added."""
        return self._terminal is not None

    def response(self, *, finish_reason: str | None = None) -> Response:
        """
        Return the response so far, or the final one once the terminal event was added.

        Args:
            finish_reason: Why a response ended that the wire did not end, such as ``cancelled`` or
                ``error``; None while it runs. A terminal event knows better.
        """
        if self._terminal is None:
            return Response.from_wire(self._so_far(), finish_reason=finish_reason)
        if self._final is None:
            self._final = Response.from_wire(self._whole(self._terminal))
        return self._final

    def _so_far(self) -> dict[str, Any]:
        raw = {
            "status": "in_progress",
            **self._base,
            "output": self._drafts.output(all_announced=True),
        }
        if self._error is not None and not raw.get("error"):
            raw["error"] = _error_object(self._error)
        return raw

    def _whole(self, terminal: ResponseFinished) -> dict[str, Any]:
        raw = terminal.response
        missing: dict[str, Any] = {
            name: self._base[name]
            for name in ("id", "model")
            if not raw.get(name) and name in self._base
        }
        if not string_or_none(raw.get("status")):
            missing["status"] = terminal.status
        # An explicit list, even an empty one, is the server's word; null or nothing says "as I sent it before".
        if not isinstance(raw.get("output"), list):
            missing["output"] = self._drafts.output()
        return {**raw, **missing} if missing else raw

    def __repr__(self) -> str:
        state = "final" if self._terminal else "so far"
        return f"Accumulator({state}, id={self._base.get('id')!r})"


def _error_object(event: ErrorEvent) -> Mapping[str, Any]:
    fields = {
        "code": event.code,
        "message": event.message,
        "type": event.error_type,
        "param": event.param,
    }
    return {name: value for name, value in fields.items() if value is not None}
