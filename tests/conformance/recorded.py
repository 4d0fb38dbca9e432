"""
What a recording says, read from its raw JSON.

Nothing here comes from llmws: the expectations are computed by other code than the code under test.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import attrs


Event = dict[str, Any]

ROOT = Path(__file__).resolve().parents[2]
SHARED = ROOT.parent / "shared" / "recordings" / "responses"
OWN = ROOT / "recordings" / "responses"
SHARED_IS_ABSENT = "../shared/recordings/responses is absent: nothing real to compare with"

TERMINAL = {"response.completed", "response.failed", "response.incomplete"}
HOSTED_CALLS = {
    "code_interpreter_call",
    "file_search_call",
    "image_generation_call",
    "mcp_call",
    "web_search_call",
}
CLIENT_CALLS = {
    "apply_patch_call",
    "computer_call",
    "custom_tool_call",
    "function_call",
    "local_shell_call",
}


@attrs.frozen
class Part:
    """
    One create and its answer.

    Attributes:
        request: The fields of the create, without its type.
        lines: The server's events as JSON texts, just as recorded.
        events: The same, parsed.
    """

    request: Event
    lines: list[str]
    events: list[Event]

    @property
    def is_warm_up(self) -> bool:
        return self.request.get("generate") is False

    @property
    def terminal(self) -> Event | None:
        """The wire's final response object, or None if the answer is a bare error."""
        last = self.events[-1]
        return last["response"] if last["type"] in TERMINAL else None

    def deltas(self, *stems: str) -> list[str]:
        kinds = {f"response.{stem}.delta" for stem in stems}
        return [event["delta"] for event in self.events if event["type"] in kinds]

    def output(self) -> list[Event]:
        """The terminal event's items; where it has none, those that were done before."""
        given = (self.terminal or {}).get("output")
        if isinstance(given, list):
            return given
        done = [event for event in self.events if event["type"] == "response.output_item.done"]
        return [event["item"] for event in sorted(done, key=lambda each: each["output_index"])]

    def text(self) -> str:
        return "".join(text_of(item, "output_text", "text") for item in self.items("message"))

    def refusal(self) -> str:
        return "".join(text_of(item, "refusal", "refusal") for item in self.items("message"))

    def thinking(self) -> str:
        thoughts = []
        for item in self.items("reasoning"):
            summaries = [part.get("text") for part in item.get("summary") or []]
            thoughts += list(filter(None, summaries)) or [text_of(item, "reasoning_text", "text")]
        return "\n\n".join(thought for thought in thoughts if thought)

    def finished_items(self) -> list[Event]:
        return [e["item"] for e in self.events if e["type"] == "response.output_item.done"]

    def usage(self) -> dict[str, int] | None:
        usage = (self.terminal or {}).get("usage")
        if usage is None:
            return None
        read = usage.get("input_tokens_details") or {}
        written = usage.get("output_tokens_details") or {}
        return {
            "input_tokens": usage["input_tokens"],
            "output_tokens": usage["output_tokens"],
            "total_tokens": usage["total_tokens"],
            "cached_tokens": read.get("cached_tokens") or 0,
            "cache_write_tokens": read.get("cache_write_tokens") or 0,
            "reasoning_tokens": written.get("reasoning_tokens") or 0,
        }

    def finish_reason(self) -> str:
        assert self.terminal is not None
        status = self.terminal["status"]
        if status == "incomplete":
            reason = (self.terminal.get("incomplete_details") or {}).get("reason")
            known = {"max_output_tokens": "length", "content_filter": "content_filter"}
            return known.get(reason, "incomplete")
        if status == "completed":
            return "tool_calls" if any(map(is_for_the_client, self.output())) else "stop"
        return {"failed": "error", "cancelled": "cancelled"}[status]

    def error(self) -> Event:
        """The last error event, with its details nested or flat, as a flat one."""
        event = [event for event in self.events if event["type"] == "error"][-1]
        return flat(event)

    def over_http(self) -> list[Event]:
        """The events as an SSE body has them."""
        return [flat(event) if event["type"] == "error" else event for event in self.events]

    def items(self, kind: str) -> list[Event]:
        return [item for item in self.output() if item["type"] == kind]


def read(path: Path) -> list[Part]:
    """Read a recording: bare events of one response, or frames both ways behind a header."""
    lines = [line for line in path.read_text(encoding="utf-8").split("\n") if line.strip()]
    entries = [json.loads(line) for line in lines]
    if "format" not in entries[0]:
        return [Part({"model": "m", "input": "x"}, lines, entries)]
    parts: list[Part] = []
    for entry in entries[1:]:
        event = entry.get("event", {})
        if entry.get("dir") == "out" and event["type"] == "response.create":
            request = {name: value for name, value in event.items() if name != "type"}
            parts.append(Part(request, [], []))
        elif entry.get("dir") == "in":
            parts[-1].lines.append(json.dumps(event))
            parts[-1].events.append(event)
    return parts


def calls_of(items: list[Event]) -> list[Event]:
    """What is known of each call; hosted tools keep their arguments in many ways, which is not asked here."""
    found = []
    for item in items:
        kind = item["type"]
        if not kind.endswith("_call"):
            continue
        call = {
            "id": item.get("call_id") or item["id"],
            "item_id": item.get("id") or "",
            "name": item.get("name") or kind.removesuffix("_call"),
        }
        if kind == "function_call":
            call["arguments_text"] = item["arguments"]
            call["arguments"] = parsed(item["arguments"])
        elif kind == "custom_tool_call":
            call["arguments_text"], call["arguments"] = item["input"], None
        if kind in HOSTED_CALLS | CLIENT_CALLS:
            call["builtin"] = kind in HOSTED_CALLS
        found.append(call)
    return found


def text_of(item: Event, kind: str, name: str) -> str:
    return "".join(part[name] for part in item.get("content") or [] if part["type"] == kind)


def parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return None


def is_for_the_client(item: Event) -> bool:
    if item["type"] == "tool_search_call":
        return item.get("execution") == "client"
    if item["type"] == "shell_call":
        return "container" not in ((item.get("environment") or {}).get("type") or "")
    return item["type"] in CLIENT_CALLS


def flat(event: Event) -> Event:
    details = event["error"] if isinstance(event.get("error"), dict) else event
    names = ("code", "message", "param")
    return {
        "type": "error",
        **{name: details.get(name) for name in names},
        "sequence_number": event.get("sequence_number"),
    }
