"""JSON objects that look like events: the API's names in the right and in the wrong places, with any values."""

from __future__ import annotations

import json
from typing import Any

from llmws.responses.vocabulary.events import TYPES
from llmws.responses.vocabulary.views import Event, Field
from tests.fuzz.choices import Choices


__all__ = ["FIELD_NAMES", "any_object", "any_value", "deltas", "event", "message", "usual"]

TYPE_NAMES = (*TYPES, "response.unheard_of", "", "llmws.redial")
NESTED_NAMES = (
    "id", "type", "status", "status_code", "code", "message", "param", "headers", "retry-after", "model", "output",
    "usage", "content", "text", "refusal", "annotations", "summary", "name", "arguments", "call_id", "input", "result",
    "action", "commands", "operation", "diff", "command", "stdout", "stderr", "role", "incomplete_details", "reason",
    "input_tokens", "output_tokens", "total_tokens", "input_tokens_details", "cached_tokens", "reasoning_tokens",
    "output_tokens_details", "background", "size", "quality", "outputs", "logs", "previous_response_id",
)  # fmt: skip
KINDS = (
    "message", "function_call", "custom_tool_call", "reasoning", "image_generation_call", "mcp_call", "shell_call",
    "web_search_call", "apply_patch_call", "code_interpreter_call", "compaction", "output_text", "refusal",
    "summary_text", "reasoning_text", "nonsense", "computer_call", "local_shell_call", "file_search_call",
)  # fmt: skip
STATUSES = (
    "completed",
    "failed",
    "incomplete",
    "in_progress",
    "max_output_tokens",
    "content_filter",
)


def _field_names() -> tuple[str, ...]:
    classes = {Event, *TYPES.values()}
    classes |= {base for each in classes for base in each.__mro__}
    own = {name for each in classes for name, view in vars(each).items() if isinstance(view, Field)}
    return tuple(sorted({"response", "error", "item", "part", "delta", "status"} | own))


FIELD_NAMES = _field_names()


DELTA_TYPES = (
    "output_text",
    "function_call_arguments",
    "reasoning_summary_text",
    "refusal",
    "audio",
)
DELTA_FIELDS = (
    "delta", "sequence_number", "logprobs", "obfuscation", "stream_id", "output_index", "type", "novel", "response",
)  # fmt: skip
ODD_VALUES = (
    None,
    [],
    1.0,
    "",
    "\ud83d",
    -1,
    True,
    10**30,
    [{"token": "a"}],
    {},
    "\x00",
    "response.completed",
)
ODD_ENDS = (
    ', "sequence_number": 1.0}', ', "sequence_number": 1e0}', ', "type": "response.completed"}', ', "delta": "b"}',
    ', "stream_id": null}', ', "item_id": "\\ud83d"}', ', "sequence_number": -0}', ', "content_index": 1E400}', "} ",
    ', "output_index": 18446744073709551616}', "",
)  # fmt: skip
GARBAGE = (b"[]", b"{", b"\xff", b'{"a":NaN}', b"[" * 3000, b"{}", b"", b"1,2", b'{"type":{}}')


def message(choices: Choices, **fields: Any) -> bytes:
    """Return one message of a server: mostly what moves a turn on, at times any event, or no event at all."""
    match choices.number(12):
        case 11:
            return choices.one_of(GARBAGE)
        case 9 | 10:
            raw = event(choices)
        case _:
            raw = usual(choices)
    return json.dumps({**raw, **fields}).encode()


def deltas(choices: Choices) -> list[bytes]:
    """Return a run of flat deltas as servers send them, some with a little more or less than that."""
    kind = choices.one_of(DELTA_TYPES)
    first = choices.one_of((None, None, None, 0, 1, 2, 5))
    run = []
    for index in range(1 + choices.number(6)):
        raw: dict[str, Any] = {"type": f"response.{kind}.delta", "item_id": "m", "delta": "é"}
        if first is not None:
            raw["sequence_number"] = first + index
        if choices.number(8) == 7:
            raw[choices.one_of(DELTA_FIELDS)] = choices.one_of(ODD_VALUES)
        text = json.dumps(raw)
        if choices.number(16) == 15:  # What only a text can hold: a name twice, a form of a number.
            text = text.replace("}", choices.one_of(ODD_ENDS))
        run.append(text.encode())
    return run


def usual(choices: Choices) -> dict[str, Any]:
    """Build an event of the kinds that move a turn on."""
    kind = choices.one_of(
        ("output_text.delta", "created", "completed", "in_progress", "failed", "error", "limit")
    )
    raw: dict[str, Any] = {"type": f"response.{kind}"}
    if kind in ("error", "limit"):
        code = "websocket_connection_limit_reached" if kind == "limit" else "server_error"
        raw = {"type": "error", "error": {"code": code, "message": "so it says"}}
    elif "." in kind:
        raw["delta"] = "x"
    else:
        raw["response"] = {"id": f"r{choices.number(3)}", "status": kind}
    if choices.number(4) == 3:
        raw["sequence_number"] = choices.number(4)
    if choices.number(16) == 15:
        raw["stream_id"] = "lane"
    return raw


def event(choices: Choices) -> dict[str, Any]:
    """Build one event: any type, some of the names of the wire, each with a likely or with an unlikely value."""
    built: dict[str, Any] = {"type": choices.one_of(TYPE_NAMES)}
    for _ in range(choices.number(8)):
        name = choices.one_of(FIELD_NAMES)
        built[name] = value(name, choices, 4)
    if choices.number(16) == 15:
        built["type"] = any_value(choices, 2)
    return built


def any_object(choices: Choices, depth: int = 3) -> dict[str, Any]:
    """Build an object of the wire's names."""
    names = (choices.one_of(NESTED_NAMES) for _ in range(choices.number(7)))
    return {name: value(name, choices, depth - 1) for name in names}


def value(name: str, choices: Choices, depth: int) -> Any:
    """Return what the wire has under this name, three times out of four."""
    if choices.number(4) == 3:
        return any_value(choices, depth)
    if name.endswith(("index", "number", "tokens")):
        return choices.number(4)
    if name in ("response", "item", "part", "error", "usage", "incomplete_details", "action"):
        return any_object(choices, depth) if depth > 0 else {}
    if name in ("output", "content", "summary", "annotations", "outputs", "commands"):
        return [any_object(choices, depth) for _ in range(choices.number(4))] if depth > 0 else []
    if name == "type":
        return choices.one_of(KINDS)
    if name == "status" or name == "reason":
        return choices.one_of(STATUSES)
    return choices.one_of(("a", "id_1", "id_2", "é😀", '{"a": 1}', "aGk=", ""))


def any_value(choices: Choices, depth: int) -> Any:
    kinds = 14 if depth > 0 else 11
    match choices.number(kinds):
        case 11:
            return any_object(choices, depth)
        case 12:
            return [any_value(choices, depth - 1) for _ in range(choices.number(4))]
        case 13:
            return {choices.one_of(("", "a", "\n", "delta", "é")): any_value(choices, depth - 1)}
        case plain:
            return _PLAIN[plain]


_PLAIN = (None, True, False, 0, -1, 10**400, 1.5, "", "text\n\x00\u2028", [], {})
