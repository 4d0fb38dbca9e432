"""
Output items as they are being written: deltas gathered by item and part, joined when they are asked for.

The wire promises little about deltas. The events that announce an item or a part may be missing or empty, indices may
have gaps, an index may be missing altogether. What is whole wins: a ``done`` event over the deltas of its part, a
finished item over everything that was gathered for it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import attrs

from ..vocabulary import events
from ..vocabulary.events import Event
from ..vocabulary.views import string_or_none


__all__ = ["Drafts"]

# Which text of an item an event belongs to: the list or field that holds it, its place there, and the type of part.
# The type counts because a server that leaves out the place must not make a refusal part of the text.
Slot = tuple[str, int, str]


@attrs.define(eq=False)
class _Part:
    """
    One text of an item.

    Attributes:
        base: What the wire announced or finished, without the text.
        texts: The pieces of the text.
        annotations: What was added to it piece by piece.
    """

    base: dict[str, Any]
    texts: list[str] = attrs.field(factory=list)
    annotations: list[dict[str, Any]] = attrs.field(factory=list)

    def value(self) -> dict[str, Any]:
        value = dict(self.base)
        if self.texts:
            name = "refusal" if self.base.get("type") == "refusal" else "text"
            value[name] = "".join(self.texts)
        if self.annotations:
            before = self.base.get("annotations")
            value["annotations"] = [
                *(before if isinstance(before, list) else ()),
                *self.annotations,
            ]
        return value


@attrs.define(eq=False)
class _Draft:
    """
    One item.

    Attributes:
        type: What the item must be, judged by its deltas; the item itself knows better.
        item: The item as the wire announced it, or finished it.
        done: Whether the wire finished it.
        parts: Its texts.
    """

    type: str = ""
    id: str = ""
    item: dict[str, Any] = attrs.field(factory=dict)
    done: bool = False
    parts: dict[Slot, _Part] = attrs.field(factory=dict)

    def part(self, slot: Slot) -> _Part:
        found = self.parts.get(slot)
        if found is None:
            found = self.parts[slot] = _Part({"type": slot[2]})
        return found

    def value(self) -> dict[str, Any]:
        if self.done:
            return self.item
        value = {"type": self.type, "id": self.id, **self.item}
        # What is announced may hold a piece of the encrypted content, which nobody can use.
        value.pop("encrypted_content", None)
        for name in dict.fromkeys(slot[0] for slot in self.parts):
            slots = sorted(slot for slot in self.parts if slot[0] == name)
            _PLACES[name](value, [self.parts[slot] for slot in slots])
        return value


def _place_list(name: str) -> Callable[[dict[str, Any], list[_Part]], None]:
    def place(item: dict[str, Any], parts: list[_Part]) -> None:
        item[name] = [part.value() for part in parts]

    return place


def _place_text(name: str) -> Callable[[dict[str, Any], list[_Part]], None]:
    def place(item: dict[str, Any], parts: list[_Part]) -> None:
        item[name] = "".join(parts[0].texts)

    return place


def _place_commands(item: dict[str, Any], parts: list[_Part]) -> None:
    action = item.get("action")
    commands = ["".join(part.texts) for part in parts]
    item["action"] = {**(action if isinstance(action, dict) else {}), "commands": commands}


def _place_diff(item: dict[str, Any], parts: list[_Part]) -> None:
    operation = item.get("operation")
    diff = "".join(parts[0].texts)
    item["operation"] = {**(operation if isinstance(operation, dict) else {}), "diff": diff}


_PLACES = {
    "content": _place_list("content"),
    "summary": _place_list("summary"),
    "arguments": _place_text("arguments"),
    "input": _place_text("input"),
    "code": _place_text("code"),
    "commands": _place_commands,
    "diff": _place_diff,
}


@attrs.frozen
class _Rule:
    """
    What one class of events does to a draft.

    Attributes:
        item_type: The type of item it must be about.
        part_type: The type of part its text belongs to; a flat field has none.
        name: The list or the field of the item that holds the text.
        index: The event's field that says the place in a list; None for a flat field.
        text: The event's field that holds the text.
        whole: Whether the text replaces what came before.
    """

    item_type: str
    part_type: str
    name: str
    index: str | None
    text: str
    whole: bool = False


_MESSAGE_TEXT = ("message", "output_text", "content", "content_index")
_MESSAGE_REFUSAL = ("message", "refusal", "content", "content_index")
_REASONING_TEXT = ("reasoning", "reasoning_text", "content", "content_index")
_REASONING_SUMMARY = ("reasoning", "summary_text", "summary", "summary_index")
_FUNCTION = ("function_call", "", "arguments", None)
_MCP = ("mcp_call", "", "arguments", None)
_CUSTOM = ("custom_tool_call", "", "input", None)
_CODE = ("code_interpreter_call", "", "code", None)
_PATCH = ("apply_patch_call", "", "diff", None)
_COMMAND = ("shell_call", "", "commands", "command_index")

_RULES = {
    f"response.{name}": rule
    for name, rule in {
        "output_text.delta": _Rule(*_MESSAGE_TEXT, "delta"),
        "output_text.done": _Rule(*_MESSAGE_TEXT, "text", whole=True),
        "refusal.delta": _Rule(*_MESSAGE_REFUSAL, "delta"),
        "refusal.done": _Rule(*_MESSAGE_REFUSAL, "refusal", whole=True),
        "reasoning_text.delta": _Rule(*_REASONING_TEXT, "delta"),
        "reasoning_text.done": _Rule(*_REASONING_TEXT, "text", whole=True),
        "reasoning_summary_text.delta": _Rule(*_REASONING_SUMMARY, "delta"),
        "reasoning_summary_text.done": _Rule(*_REASONING_SUMMARY, "text", whole=True),
        "function_call_arguments.delta": _Rule(*_FUNCTION, "delta"),
        "function_call_arguments.done": _Rule(*_FUNCTION, "arguments", whole=True),
        "mcp_call_arguments.delta": _Rule(*_MCP, "delta"),
        "mcp_call_arguments.done": _Rule(*_MCP, "arguments", whole=True),
        "custom_tool_call_input.delta": _Rule(*_CUSTOM, "delta"),
        "custom_tool_call_input.done": _Rule(*_CUSTOM, "input", whole=True),
        "code_interpreter_call_code.delta": _Rule(*_CODE, "delta"),
        "code_interpreter_call_code.done": _Rule(*_CODE, "code", whole=True),
        "apply_patch_call_operation_diff.delta": _Rule(*_PATCH, "delta"),
        "apply_patch_call_operation_diff.done": _Rule(*_PATCH, "diff", whole=True),
        "shell_call_command.added": _Rule(*_COMMAND, "command"),
        "shell_call_command.delta": _Rule(*_COMMAND, "delta"),
        "shell_call_command.done": _Rule(*_COMMAND, "command", whole=True),
    }.items()
}


@attrs.define(eq=False)
class Drafts:
    """The output items of one response as far as they are known; adding is O(1)."""

    _drafts: dict[int, _Draft] = attrs.field(factory=dict, init=False)
    # Where an item without an index was put, and where the next such one goes: behind all others.
    _places: dict[str, int] = attrs.field(factory=dict, init=False)
    _end: int = attrs.field(default=0, init=False)

    def add(self, event: Event) -> None:
        """Take the next event; one that is about no item is passed over."""
        rule = _RULES.get(event.type)
        if rule is not None:
            self._add_text(event.raw, rule)
        elif isinstance(event, (events.OutputItemAdded, events.OutputItemDone)):
            self._add_item(event)
        elif isinstance(event, (events.PartAdded, events.PartDone)):
            self._add_part(event, "content", event.content_index)
        elif isinstance(event, (events.ReasoningPartAdded, events.ReasoningPartDone)):
            self._add_part(event, "summary", event.summary_index)
        elif isinstance(event, events.AnnotationAdded) and event.annotation:
            draft = self._draft(event.raw, "message")
            part = draft.part(("content", event.content_index or 0, "output_text"))
            part.annotations.append(event.annotation)

    def output(self, *, all_announced: bool = False) -> list[dict[str, Any]]:
        """
        Return the items in the order of the output, finished ones as the wire sent them.

        Args:
            all_announced: Whether to return also items of which nothing is known but that they began.
        """
        drafts = [self._drafts[index] for index in sorted(self._drafts)]
        return [draft.value() for draft in drafts if draft.done or draft.parts or all_announced]

    def _draft(self, raw: dict[str, Any], item_type: str) -> _Draft:
        index = raw.get("output_index")
        item_id = string_or_none(raw.get("item_id")) or ""
        if type(index) is not int:
            if item_id not in self._places:
                self._places[item_id] = self._end
            index = self._places[item_id]
        draft = self._drafts.get(index)
        if draft is None:
            draft = self._drafts[index] = _Draft(item_type, item_id)
            self._end = max(self._end, index + 1)
            self._places.setdefault(item_id, index)
        return draft

    def _add_text(self, raw: dict[str, Any], rule: _Rule) -> None:
        text = raw.get(rule.text)
        if not isinstance(text, str):
            return
        index = raw.get(rule.index) if rule.index else 0
        slot = (rule.name, index if type(index) is int else 0, rule.part_type)
        draft = self._draft(raw, rule.item_type)
        draft.type = draft.type or rule.item_type
        part = draft.part(slot)
        if rule.whole:
            part.texts = [text]
        else:
            part.texts.append(text)

    def _add_item(self, event: events.OutputItemAdded | events.OutputItemDone) -> None:
        if not event.item:
            return
        done = isinstance(event, events.OutputItemDone)
        where = {"output_index": event.output_index, "item_id": event.item.get("id")}
        draft = self._draft(where, "")
        if done or not draft.done:
            draft.item, draft.done = event.item, done

    def _add_part(self, event: events.ItemEvent, name: str, index: int | None) -> None:
        base = event.get("part")
        if not isinstance(base, dict):
            return
        usual = "summary_text" if name == "summary" else "output_text"
        part_type = string_or_none(base.get("type")) or usual
        item_type = "reasoning" if part_type in ("summary_text", "reasoning_text") else "message"
        part = self._draft(event.raw, item_type).part((name, index or 0, part_type))
        part.base = {"type": part_type, **base}
        text = base.get("refusal" if part_type == "refusal" else "text")
        done = isinstance(event, (events.PartDone, events.ReasoningPartDone))
        if done:
            part.annotations = []
        if isinstance(text, str) and (done or not part.texts):
            part.texts = [text]
