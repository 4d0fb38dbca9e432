"""
What the server says: one class a meaning, one table of wire types, and the decoder.

Types that are not in the table become a plain ``Event``. Outgoing messages are plain dicts and have no classes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any

from ...errors import RemoteProtocolError
from ...wire import jsoncodec
from .apierrors import ErrorEvent
from .views import (
    ContentEvent,
    Event,
    Field,
    ItemEvent,
    LifecycleEvent,
    string_or_none,
)


__all__ = [
    "TERMINAL_TYPES", "TYPES", "AnnotationAdded", "ArgumentsDelta", "ArgumentsDone", "AudioDelta",
    "AudioDone", "CodeDelta", "CodeDone", "ContentEvent", "ErrorEvent", "Event", "InjectEvent",
    "ItemEvent", "LifecycleEvent", "OutputItemAdded", "OutputItemDone", "PartAdded", "PartDone",
    "PartialImage", "PatchDelta", "PatchDone", "ReasoningDelta", "ReasoningDone",
    "ReasoningPartAdded", "ReasoningPartDone", "RefusalDelta", "RefusalDone", "ResponseFinished",
    "ResponseStarted", "ShellCommandAdded", "ShellCommandDelta", "ShellCommandDone",
    "ShellOutputDelta", "ShellOutputDone", "SteerEvent", "TextDelta", "TextDone", "ToolProgress",
    "TranscriptDelta", "TranscriptDone", "decode", "from_raw", "from_raws",
]  # fmt: skip


class TextDelta(ContentEvent):
    """More of the answer's text."""

    __slots__ = ()
    delta = Field(str)
    logprobs = Field(list)


class TextDone(ContentEvent):
    """One text part, whole."""

    __slots__ = ()
    text = Field(str)
    logprobs = Field(list)


class RefusalDelta(ContentEvent):
    """More of a refusal, which is not part of the answer's text."""

    __slots__ = ()
    delta = Field(str)


class RefusalDone(ContentEvent):
    """One refusal, whole."""

    __slots__ = ()
    refusal = Field(str)


class ReasoningDelta(ContentEvent):
    """More of the model's reasoning or, with a ``summary_index``, of the summary of it."""

    __slots__ = ()
    summary_index = Field(int, None)
    delta = Field(str)


class ReasoningDone(ContentEvent):
    """One part of the reasoning or of its summary, whole; the indices are as in ``ReasoningDelta``."""

    __slots__ = ()
    summary_index = Field(int, None)
    text = Field(str)


class ReasoningPartAdded(ItemEvent):
    """A part of a reasoning summary began."""

    __slots__ = ()
    summary_index = Field(int, None)
    part = Field(dict)


class ReasoningPartDone(ItemEvent):
    """A part of a reasoning summary ended; ``status`` is ``incomplete`` if it was cut off, else None."""

    __slots__ = ()
    summary_index = Field(int, None)
    part = Field(dict)
    status = Field(str, None)


class PartAdded(ContentEvent):
    """A content part began."""

    __slots__ = ()
    part = Field(dict)


class PartDone(ContentEvent):
    """A content part, whole."""

    __slots__ = ()
    part = Field(dict)


class AnnotationAdded(ContentEvent):
    """A citation or file path was added to a text part; ``annotation`` is empty if the wire sent null."""

    __slots__ = ()
    annotation_index = Field(int, None)
    annotation = Field(dict)


class ArgumentsDelta(ItemEvent):
    """More of the arguments of a function or MCP call, or of the input of a custom tool."""

    __slots__ = ()
    delta = Field(str)


class ArgumentsDone(ItemEvent):
    """The arguments (function, MCP) or the input (custom tool) of a call, whole."""

    __slots__ = ()
    arguments = Field(str)
    input = Field(str)

    @property
    def text(self) -> str:
        """The arguments or the input, whichever the wire sent."""
        return self.arguments or self.input


class CodeDelta(ItemEvent):
    """More of the code that the code interpreter will run."""

    __slots__ = ()
    delta = Field(str)


class CodeDone(ItemEvent):
    """The code that the code interpreter will run, whole."""

    __slots__ = ()
    code = Field(str)


class PatchDelta(ItemEvent):
    """More of the diff of an apply-patch call (in real traffic, in no public schema)."""

    __slots__ = ()
    delta = Field(str)


class PatchDone(ItemEvent):
    """The diff of an apply-patch call, whole (in real traffic, in no public schema)."""

    __slots__ = ()
    diff = Field(str)


class ShellCommandAdded(ItemEvent):
    """A command of a shell call began; the wire sends no ``item_id``."""

    __slots__ = ()
    command_index = Field(int, None)
    command = Field(str)


class ShellCommandDelta(ItemEvent):
    """More of a command of a shell call; the wire sends no ``item_id``."""

    __slots__ = ()
    command_index = Field(int, None)
    delta = Field(str)


class ShellCommandDone(ItemEvent):
    """A command of a shell call, whole; the wire sends no ``item_id``."""

    __slots__ = ()
    command_index = Field(int, None)
    command = Field(str)


class ShellOutputDelta(ItemEvent):
    """More output of a command that the server runs; ``delta`` may have ``stdout`` and ``stderr``."""

    __slots__ = ()
    command_index = Field(int, None)
    delta = Field(dict)


class ShellOutputDone(ItemEvent):
    """The output of a command that the server ran: objects with ``stdout``, ``stderr`` and ``outcome``."""

    __slots__ = ()
    command_index = Field(int, None)
    output = Field(list)


class PartialImage(ItemEvent):
    """
    An image that is still being made.

    Attributes:
        partial_image_b64: The image so far, in base64.
        partial_image_index: Which of the previews it is, from 0, or None.
        output_format: Such as ``png``, or None if the wire does not say.
    """

    __slots__ = ()
    partial_image_b64 = Field(str)
    partial_image_index = Field(int, None)
    output_format = Field(str, None)
    size = Field(str, None)
    quality = Field(str, None)
    background = Field(str, None)


class ToolProgress(ItemEvent):
    """A hosted tool, or compaction, moved on to another phase."""

    __slots__ = ()

    @property
    def tool(self) -> str:
        """The wire's name of the work, such as ``web_search_call``."""
        return self.type.split(".")[1]

    @property
    def phase(self) -> str:
        """The wire's name of the phase, such as ``searching``."""
        return self.type.split(".")[2]


class AudioDelta(Event):
    """More audio, in base64."""

    __slots__ = ()
    delta = Field(str)


class AudioDone(Event):
    """The audio ended."""

    __slots__ = ()


class TranscriptDelta(Event):
    """More of the audio's transcript."""

    __slots__ = ()
    delta = Field(str)


class TranscriptDone(Event):
    """The audio's transcript ended."""

    __slots__ = ()


class OutputItemAdded(Event):
    """
    An output item began; what it holds so far may be incomplete.

    Attributes:
        output_index: The item's place in the response's output, or None.
        item: The item, empty if the wire sent null.
    """

    __slots__ = ()
    output_index = Field(int, None)
    item = Field(dict)


class OutputItemDone(Event):
    """An output item, whole; the attributes are those of ``OutputItemAdded``."""

    __slots__ = ()
    output_index = Field(int, None)
    item = Field(dict)


class ResponseStarted(LifecycleEvent):
    """The server accepted, queued or began a response; only ``response.created`` is the acceptance."""

    __slots__ = ()


class ResponseFinished(LifecycleEvent):
    """A response ended: completed, failed or incomplete; nothing more of it follows."""

    __slots__ = ()

    @property
    def status(self) -> str:
        """The response's status; the event's own type says it where the response does not."""
        return string_or_none(self.response.get("status")) or self.type.rpartition(".")[2]


class SteerEvent(Event):
    """
    The answer to a ``response.steer``: accepted, pending or failed, as ``type`` says.

    Attributes:
        steer: The steer's ``id`` and ``previous_response_id``; after a failure its ``input`` too.
        reason: Why it is pending, or None.
        required_input: Stubs of the input that a pending steer waits for.
        error: Why it failed, with ``code`` and ``message``; else empty.
    """

    __slots__ = ()
    steer = Field(dict)
    reason = Field(str, None)
    required_input = Field(list)
    error = Field(dict)

    @property
    def steer_id(self) -> str | None:
        """The steer's id, or None if it failed before it was accepted."""
        return string_or_none(self.steer.get("id"))

    @property
    def previous_response_id(self) -> str | None:
        """The id of the steered response, or None."""
        return string_or_none(self.steer.get("previous_response_id"))


class InjectEvent(Event):
    """
    The answer to a ``response.inject``: created or failed, as ``type`` says.

    Attributes:
        response_id: The response that was to get the input.
        input: What a failed inject gives back.
        error: Why it failed, with ``code`` and ``message``; else empty.
    """

    __slots__ = ()
    response_id = Field(str)
    input = Field(list)
    error = Field(dict)


def _table() -> dict[str, type[Event]]:
    families: dict[type[Event], str] = {
        ResponseStarted: "created queued in_progress",
        ResponseFinished: "completed failed incomplete",
        OutputItemAdded: "output_item.added",
        OutputItemDone: "output_item.done",
        PartAdded: "content_part.added",
        PartDone: "content_part.done",
        TextDelta: "output_text.delta",
        TextDone: "output_text.done",
        AnnotationAdded: "output_text.annotation.added",
        RefusalDelta: "refusal.delta",
        RefusalDone: "refusal.done",
        ReasoningDelta: "reasoning_text.delta reasoning_summary_text.delta",
        ReasoningDone: "reasoning_text.done reasoning_summary_text.done",
        ReasoningPartAdded: "reasoning_summary_part.added",
        ReasoningPartDone: "reasoning_summary_part.done",
        ArgumentsDelta: (
            "function_call_arguments.delta mcp_call_arguments.delta custom_tool_call_input.delta"
        ),
        ArgumentsDone: "function_call_arguments.done mcp_call_arguments.done custom_tool_call_input.done",
        CodeDelta: "code_interpreter_call_code.delta",
        CodeDone: "code_interpreter_call_code.done",
        PatchDelta: "apply_patch_call_operation_diff.delta",
        PatchDone: "apply_patch_call_operation_diff.done",
        ShellCommandAdded: "shell_call_command.added",
        ShellCommandDelta: "shell_call_command.delta",
        ShellCommandDone: "shell_call_command.done",
        ShellOutputDelta: "shell_call_output_content.delta",
        ShellOutputDone: "shell_call_output_content.done",
        PartialImage: "image_generation_call.partial_image",
        ToolProgress: (
            "file_search_call.in_progress file_search_call.searching file_search_call.completed "
            "web_search_call.in_progress web_search_call.searching web_search_call.completed "
            "code_interpreter_call.in_progress code_interpreter_call.interpreting "
            "code_interpreter_call.completed image_generation_call.in_progress "
            "image_generation_call.generating image_generation_call.completed "
            "mcp_call.in_progress mcp_call.completed mcp_call.failed "
            "mcp_list_tools.in_progress mcp_list_tools.completed mcp_list_tools.failed "
            "compaction.compacting"
        ),
        AudioDelta: "audio.delta",
        AudioDone: "audio.done",
        TranscriptDelta: "audio.transcript.delta",
        TranscriptDone: "audio.transcript.done",
        SteerEvent: "steer.accepted steer.pending steer.failed",
        InjectEvent: "inject.created inject.failed",
        ErrorEvent: "error",
    }
    table = {
        f"response.{name}": event_class
        for event_class, names in families.items()
        for name in names.split()
    }
    return {"error": ErrorEvent, **table}  # Outside the namespace; some servers put it inside.


_CLASSES = _table()
TYPES: Mapping[str, type[Event]] = MappingProxyType(_CLASSES)
"""The class of every wire type that has one."""

TERMINAL_TYPES: frozenset[str] = frozenset(
    name for name, event_class in TYPES.items() if event_class is ResponseFinished
)
"""The wire types after which nothing more of a response follows."""


# A frozen object's own way of storing its fields takes three times as long, and a long answer is thousands of events.
_new: Any = object.__new__
_set_type, _set_raw = (vars(Event)[name].__set__ for name in ("type", "raw"))


def from_raw(raw: dict[str, Any]) -> Event:
    """Make the event of one decoded message; see ``from_raws``."""
    return from_raws((raw,))[0]


def from_raws(raws: Iterable[dict[str, Any]]) -> list[Event]:
    """
    Make the events of decoded messages; never raises.

    Args:
        raws: The JSON objects, kept as they are and not copied.

    Returns:
        Events of their types' classes; a plain ``Event`` if the type is unknown, with type ``""`` if there is none.
    """
    events = []
    for raw in raws:
        try:
            name = raw["type"]
            event = _new(_CLASSES[name])
        except (KeyError, TypeError):
            # No type, one that is not in the table, or one that is no string and may not even be hashable.
            name = string_or_none(raw.get("type")) or ""
            event = _new(Event)
        _set_type(event, name)
        _set_raw(event, raw)
        events.append(event)
    return events


def decode(message: bytes | bytearray) -> Event:
    """
    Decode one message.

    Args:
        message: The whole message as it came, UTF-8.

    Raises:
        RemoteProtocolError: It is no JSON object, or nests deeper than the decoder goes; ``raw`` is its beginning.
    """
    try:
        raw = jsoncodec.decode(message)
    except jsoncodec.JSONError as exc:
        why = f"The server sent a message that {exc}."
        raise RemoteProtocolError(why, raw=bytes(message[:512])) from exc
    if type(raw) is not dict:
        why = f"The server sent a JSON {type(raw).__name__} where an event, a JSON object, is due."
        raise RemoteProtocolError(why, raw=bytes(message[:512]))
    return from_raw(raw)
