"""Calls and what answers them: which of them stand without the other."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any


__all__ = ["Call", "answered_by", "call_in", "nameless", "owed_after", "refers", "unanswered"]

Call = tuple[str, str]
"""A call's type and its ``call_id``: an output of another type is no answer to it."""

# What the API's refusals call each kind. Approvals of MCP calls are left alone, as no refusal of one is on record, and
# so is every kind that is not known here.
_WORDS = {
    "function_call": "function call",
    "custom_tool_call": "custom tool call",
    "computer_call": "computer call",
    "shell_call": "shell call",
    "apply_patch_call": "apply patch call",
    "tool_search_call": "tool search call",
}
_ANSWERS = {f"{kind}_output": kind for kind in _WORDS if kind != "tool_search_call"}
_ANSWERS["tool_search_output"] = "tool_search_call"
# A call that the model was stopped in owes nothing (inferred), but may be answered.
_CUT_OFF = frozenset({"in_progress", "incomplete"})


def call_in(item: Any) -> Call | None:
    """Return the call that an item is, if the client has to answer it, or None."""
    kind = _type_of(item)
    if kind not in _WORDS or (kind == "tool_search_call" and item.get("execution") != "client"):
        return None
    return _named(kind, item)


def answered_by(item: Any) -> Call | None:
    """Return the call that an item answers, or None if it is no answer."""
    kind = _type_of(item)
    # A search of the server's own has its answer beside it.
    if kind not in _ANSWERS or (kind == "tool_search_output" and item.get("execution") == "server"):
        return None
    return _named(_ANSWERS[kind], item)


def refers(item: Any) -> bool:
    """Tell whether an item only names another one, which may be a call or its output."""
    return _type_of(item) == "item_reference"


def owed_after(owed: Mapping[Call, int], items: Iterable[Any]) -> dict[Call, int]:
    """
    Return the calls that wait for their output, once some items have come.

    Args:
        owed: The calls that waited before; how many of each, as some servers give one id to a call of each turn.
        items: What comes, in whatever order: the API pairs a call with its output wherever they stand.
    """
    counts = dict(owed)
    for item in items:
        call, answered = call_in(item), answered_by(item)
        if call is not None and item.get("status") not in _CUT_OFF:
            counts[call] = counts.get(call, 0) + 1
        elif answered is not None:
            counts[answered] = counts.get(answered, 0) - 1
    return {call: count for call, count in counts.items() if count > 0}


def unanswered(call: Call) -> str:
    """Say that a call has no output, in the API's words."""
    kind, name = call
    return f"No tool output found for {_WORDS[kind]} {name}."


def nameless(call: Call) -> str:
    """Say that an output has no call, in the API's words; recorded of functions and custom tools, else inferred."""
    kind, name = call
    return f"No tool call found for {_WORDS[kind]} output with call_id {name}."


def _type_of(item: Any) -> str:
    kind = item.get("type") if isinstance(item, dict) else None
    return kind if isinstance(kind, str) else ""


def _named(kind: str, item: Mapping[str, Any]) -> Call | None:
    # One without a name cannot be paired either way.
    name = item.get("call_id")
    return (kind, name) if isinstance(name, str) and name else None
