"""
What comes of a tool's call: an output in the wire's form, or what went wrong.

What goes wrong is a value, not an exception: it goes back to the model, which can often do better, and is kept for the
caller.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, cast

import attrs

from ...secret import redact
from ...wire import jsoncodec
from ..vocabulary.items import ToolCall
from ..vocabulary.views import shorten


__all__ = ["Output", "ToolError", "answered", "output_of", "raised", "too_long", "unfit"]

# What the API takes as a tool's output: a text, or content parts.
Output = str | list[dict[str, Any]]

_PARTS = frozenset({"input_text", "input_image", "input_file"})
# What a model is told of an exception; it pays for every word.
_MOST_CHARACTERS = 500


@attrs.frozen(eq=False, repr=False)
class ToolError:
    """
    A call that gave no output; the model was told so.

    Attributes:
        call: The call.
        kind: ``arguments`` if they did not fit, ``raised`` if the function raised, ``output`` if what it returned has
            no form on the wire or is too long for a message, ``timeout`` if it took too long, ``unknown`` if there is
            no such tool, ``duplicate`` if another call of the same response has the same id, which alone was answered.
        message: What was wrong, in words that the model gets too: without traceback, and without what looks like a
            credential.
        exception: What was raised, with its traceback, or None.
    """

    call: ToolCall
    kind: str
    message: str
    exception: BaseException | None = None

    @property
    def output(self) -> str:
        """What the model is told: a JSON object."""
        return jsoncodec.encode({"error": self.kind, "message": self.message}).decode()

    def __repr__(self) -> str:
        return f"ToolError({self.kind!r}, {self.call.name!r}, id={self.call.id!r}, {shorten(self.message)})"


def answered(call: ToolCall, run: Callable[[], Any]) -> Output | ToolError:
    """Run a tool and return its output, or what went wrong; never raises an ``Exception``."""
    try:
        value = run()
    except Exception as exc:  # noqa: BLE001  A tool is user code and may raise anything; the model is told.
        return raised(call, exc)
    if inspect.iscoroutine(value):
        value.close()  # Else Python complains that nobody awaited it.
        return ToolError(call, "output", "The tool is asynchronous, and llmws awaits nothing.")
    try:
        return output_of(value)
    except Exception as exc:  # noqa: BLE001  What it returned may be of a class that raises anything.
        message = f"The tool returned {type(value).__name__}, which cannot be sent: {_words(exc)}"
        return ToolError(call, "output", message, exc)


def unfit(call: ToolCall, exc: BaseException) -> ToolError:
    """Say that a call's arguments do not fit."""
    return ToolError(call, "arguments", f"The arguments do not fit: {_words(exc)}", exc)


def too_long(call: ToolCall, size_bytes: int) -> ToolError:
    """Say that an output is longer than a message may be."""
    message = (
        f"The output takes {size_bytes:,} bytes, which is too long for a message: ask for less."
    )
    return ToolError(call, "output", message)


def raised(call: ToolCall, exc: BaseException) -> ToolError:
    """Say that a tool raised."""
    words = _words(exc)
    message = f"{type(exc).__name__}: {words}" if words else type(exc).__name__
    return ToolError(call, "raised", message, exc)


def _words(exc: BaseException) -> str:
    try:
        words = str(exc)
    except Exception:  # noqa: BLE001  An exception of a tool's own making; its type has to do.
        return ""
    # Cut twice: a search through megabytes takes long, and half a key does not look like one.
    words = redact(words[: 20 * _MOST_CHARACTERS]).encode("utf-8", "replace").decode()
    return words if len(words) <= _MOST_CHARACTERS else f"{words[:_MOST_CHARACTERS]}…"


def output_of(value: Any) -> Output:
    """
    Put what a tool returned into the wire's form.

    Raises:
        ValueError: It has none.
        TypeError: The same.
    """
    if isinstance(value, str) or _is_parts(value):
        # What cannot be sent is this call's trouble, not the next request's.
        jsoncodec.encode(value)
        return cast(Output, value)
    try:
        return jsoncodec.encode(value).decode()
    except jsoncodec.JSONError:
        return jsoncodec.encode(_plain(value)).decode()


def _is_parts(value: Any) -> bool:
    return (
        isinstance(value, list)
        and bool(value)
        and all(isinstance(part, dict) and part.get("type") in _PARTS for part in value)
    )


def _plain(value: Any) -> Any:
    """Make JSON values of classes, dates and the like."""
    try:
        import msgspec
    except ImportError:
        return attrs.asdict(value) if attrs.has(type(value)) else value
    return msgspec.to_builtins(value, str_keys=True)
