"""What a ``response.steer`` says, and the events that answer it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import attrs

from .context import items_of
from .request import Event


__all__ = [
    "Steer",
    "failed_steer",
    "required_input",
    "steer_fault",
    "successor_of",
    "with_steers",
]

_FIELDS = frozenset({"type", "previous_response_id", "input"})
_PARTS = frozenset({"input_text", "input_image", "input_file"})
# What a client owes for each kind of call, and the fields of the call that name it.
_OWED = {
    "function_call": ("function_call_output", ("call_id", "name")),
    "custom_tool_call": ("custom_tool_call_output", ("call_id",)),
    "computer_call": ("computer_call_output", ("call_id",)),
    "shell_call": ("shell_call_output", ("call_id",)),
    "apply_patch_call": ("apply_patch_call_output", ("call_id",)),
}


@attrs.frozen
class Steer:
    """A steer that was accepted."""

    id: str
    target: str
    input: Any

    @property
    def label(self) -> Event:
        """The steer as events name it."""
        return {"id": self.id, "previous_response_id": self.target}


def required_input(output: Iterable[Any]) -> list[Event]:
    """Return stubs of what a client owes for an output: results of its tools, and approvals."""
    stubs: list[Event] = []
    for item in output:
        kind = item.get("type") if isinstance(item, dict) else None
        if kind in _OWED:
            owed, fields = _OWED[kind]
            stubs.append({"type": owed, **{field: item.get(field) for field in fields}})
        elif kind == "tool_search_call" and item.get("execution") == "client":
            stub = {"type": "tool_search_output", "call_id": item.get("call_id")}
            stubs.append({**stub, "execution": "client"})
        elif kind == "mcp_approval_request":
            stub = {"type": "mcp_approval_response", "approval_request_id": item.get("id")}
            stubs.append(stub)
    return stubs


def steer_fault(message: Mapping[str, Any]) -> str | None:
    """Return what is wrong with a ``response.steer``, or None."""
    unknown = sorted(set(message) - _FIELDS)
    if unknown:
        return f"A steer has no field {unknown[0]!r}."
    given = message.get("input")
    if isinstance(given, str):
        return None if given else "The input is empty."
    if not (isinstance(given, list) and given and all(map(_is_from_the_user, given))):
        return "The input is to be a string, or messages of the user."
    return None


def _is_from_the_user(item: Any) -> bool:
    if not (isinstance(item, dict) and set(item) <= {"type", "role", "content"}):
        return False
    content = item.get("content")
    parts = [{"type": "input_text"}] if isinstance(content, str) else content
    return (
        item.get("type", "message") == "message"
        and item.get("role") == "user"
        and isinstance(parts, list)
        and all(isinstance(part, dict) and part.get("type") in _PARTS for part in parts)
    )


def failed_steer(label: Mapping[str, Any], given: Any, code: str, message: str) -> Event:
    """Build the event that gives a steer's input back."""
    error = {"type": "invalid_request_error", "code": code, "message": message}
    return {"type": "response.steer.failed", "steer": {**label, "input": given}, "error": error}


def with_steers(body: Mapping[str, Any], steers: Iterable[Steer]) -> dict[str, Any]:
    """Return a create whose input has the steers' before its own."""
    given = [item for steer in steers for item in items_of(steer.input)]
    return {**body, "input": [*given, *items_of(body.get("input"))]}


def successor_of(body: Mapping[str, Any], response_id: str, steers: Iterable[Steer]) -> Event:
    """Return the create that the server makes for itself after a steer: the same settings, and the steers as input."""
    settings = {key: value for key, value in body.items() if key != "input"}
    return with_steers({**settings, "previous_response_id": response_id}, steers)
