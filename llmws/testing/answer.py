"""
The events of one response, built in the API's order and shape.

``Answer`` remembers what it said, so that its last event holds the whole output, as the API's does::

    def rule(request):
        answer = Answer(request)
        yield from answer.start()
        yield from answer.message("Hello!")
        yield from answer.complete()
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ..errors import ConfigurationError
from .compaction import compact_threshold, compaction_item
from .request import Event, Request


__all__ = ["CREATED_AT", "Answer", "error_event", "numbered", "tokens_of", "usage_of"]

# A fixed time: what a rule answers is the same on every run.
CREATED_AT = 1_790_000_000

# What a response repeats of its request, and what it says where the request is silent.
_SETTINGS: dict[str, Any] = {
    "background": False,
    "instructions": None,
    "max_output_tokens": None,
    "max_tool_calls": None,
    "model": "gpt-6-astra",
    "parallel_tool_calls": True,
    "previous_response_id": None,
    "prompt_cache_key": None,
    "prompt_cache_retention": None,
    "safety_identifier": None,
    "service_tier": "default",
    "store": True,
    "temperature": 1.0,
    "tool_choice": "auto",
    "tools": [],
    "top_logprobs": 0,
    "top_p": 1.0,
    "truncation": "disabled",
    "user": None,
    "metadata": {},
}


def tokens_of(text: str) -> list[str]:
    """Cut a text as a model would stream it: words with the space before them; they join to the text."""
    return re.findall(r"\s*\S{1,8}|\s+", text)


def numbered(events: Iterator[Event]) -> Iterator[Event]:
    """Add ``sequence_number`` where it is missing, from 0 for each response."""
    number = 0
    for event in events:
        if event.get("type") == "response.created":
            number = 0
        yield (
            event
            if "sequence_number" in event
            else {
                "type": event.get("type"),
                "sequence_number": number,
                **event,
            }
        )
        number += 1


def error_event(
    code: str | None,
    message: str,
    *,
    status: int = 400,
    type: str | None = None,
    param: str | None = None,
    headers: Mapping[str, str] | None = None,
) -> Event:
    """Build an ``error`` event as it comes on a WebSocket; the type follows from the status if not given."""
    kind = type or ("server_error" if status >= 500 else "invalid_request_error")
    error: Event = {"type": kind, "code": code, "message": message, "param": param}
    if headers:
        error["headers"] = dict(headers)
    return {"type": "error", "status": status, "error": error}


def usage_of(request: Request, output_tokens: int, reasoning_tokens: int = 0) -> Event:
    """Estimate the usage: four characters of input a token; what a parent stands for is cached."""
    given = json.dumps([request.body.get("instructions"), request.body.get("input")])
    cached_tokens = request.parent.tokens if request.parent is not None else 0
    input_tokens = cached_tokens + len(given) // 4 + 1
    return {
        "input_tokens": input_tokens,
        "input_tokens_details": {"cached_tokens": cached_tokens, "cache_write_tokens": 0},
        "output_tokens": output_tokens,
        "output_tokens_details": {"reasoning_tokens": reasoning_tokens},
        "total_tokens": input_tokens + output_tokens,
    }


class Answer:
    """
    Builds one response's events; not thread-safe, as a rule runs on one thread.

    It compacts the context by itself where the request asks for it with ``context_management``.

    Args:
        request: What is answered; the response repeats its settings.
        key: Tells several answers to one request apart, such as a steered one's successors.
    """

    def __init__(self, request: Request, *, key: object = "") -> None:
        self.id = request.new_id("resp", key)
        self.output: list[Event] = []
        self.output_tokens = 0
        self.reasoning_tokens = 0
        self._request = request
        self._key = key
        body = request.body
        options = body.get("stream_options") or {}
        self._pads = options.get("include_obfuscation", True)
        self._settings = {key: body.get(key, default) for key, default in _SETTINGS.items()}
        self._settings["text"] = {"format": {"type": "text"}, "verbosity": "medium"} | (
            body.get("text") or {}
        )
        self._settings["reasoning"] = {"effort": None, "summary": None} | (
            body.get("reasoning") or {}
        )

    def __repr__(self) -> str:
        return f"Answer(id={self.id!r}, items={len(self.output)})"

    def response(self, status: str, **fields: Any) -> Event:
        """Return the response object as it stands now."""
        return {
            "id": self.id,
            "object": "response",
            "created_at": CREATED_AT,
            "status": status,
            "error": None,
            "incomplete_details": None,
            **self._settings,
            "output": list(self.output),
            "usage": None,
            **fields,
        }

    def start(self) -> Iterator[Event]:
        """Yield ``response.created`` and ``response.in_progress``, and compact if the request says that it is time."""
        for name in ("created", "in_progress"):
            yield {"type": f"response.{name}", "response": self.response("in_progress")}
        threshold = compact_threshold(self._request.body)
        if threshold is not None and self._request.context_tokens > threshold:
            yield from self.compaction()

    def compaction(self) -> Iterator[Event]:
        """Yield an item that stands for the whole context: what came before it is no longer part of the chain."""
        item = compaction_item(self._new_id("cmp"), self._request.context)
        yield self._added({**item, "encrypted_content": ""})
        place = {"item_id": item["id"], "output_index": len(self.output)}
        yield {"type": "response.compaction.compacting", **place}
        yield self._done(item)

    def message(
        self, text: str, tokens: Sequence[str] | None = None, *, cut: bool = False
    ) -> Iterator[Event]:
        """
        Yield a message.

        Args:
            text: What it says.
            tokens: The text's deltas; None cuts it at words.
            cut: Whether the message is left incomplete.
        """
        part = {"type": "output_text", "annotations": [], "logprobs": [], "text": ""}
        yield from self._speak("output_text", "text", part, text, tokens, cut)

    def refusal(self, text: str, tokens: Sequence[str] | None = None) -> Iterator[Event]:
        """Yield a message whose only part is a refusal."""
        yield from self._speak(
            "refusal", "refusal", {"type": "refusal", "refusal": ""}, text, tokens
        )

    def _speak(
        self,
        kind: str,
        field: str,
        part: Event,
        text: str,
        tokens: Sequence[str] | None,
        cut: bool = False,
    ) -> Iterator[Event]:
        item = {"id": self._new_id("msg"), "type": "message", "role": "assistant"}
        yield self._added({**item, "status": "in_progress", "content": []})
        place = {"item_id": item["id"], "output_index": len(self.output), "content_index": 0}
        extra: Event = {"logprobs": []} if kind == "output_text" else {}
        yield {"type": "response.content_part.added", **place, "part": part}
        yield from self._deltas(f"response.{kind}.delta", place, text, tokens, **extra)
        part = {**part, field: text}
        yield {"type": f"response.{kind}.done", **place, field: text, **extra}
        yield {"type": "response.content_part.done", **place, "part": part}
        status = "incomplete" if cut else "completed"
        yield self._done({**item, "status": status, "content": [part]})

    def reasoning(self, *summaries: str) -> Iterator[Event]:
        """Yield a reasoning item with these summaries, encrypted content too if the request includes it."""
        item: Event = {"id": self._new_id("rs"), "type": "reasoning", "summary": []}
        yield self._added(item)
        before = self.output_tokens
        for index, text in enumerate(summaries):
            place = {
                "item_id": item["id"],
                "output_index": len(self.output),
                "summary_index": index,
            }
            name = "response.reasoning_summary"
            part = {"type": "summary_text", "text": ""}
            yield {"type": f"{name}_part.added", **place, "part": part}
            yield from self._deltas(f"{name}_text.delta", place, text, None)
            part = {**part, "text": text}
            yield {"type": f"{name}_text.done", **place, "text": text}
            yield {"type": f"{name}_part.done", **place, "part": part}
            item = {**item, "summary": [*item["summary"], part]}
        self.reasoning_tokens += self.output_tokens - before
        if "reasoning.encrypted_content" in (self._request.body.get("include") or ()):
            item["encrypted_content"] = f"gAAAA{self._new_id('enc').removeprefix('enc_')}"
        yield self._done(item)

    def function_call(self, name: str, arguments: Any) -> Iterator[Event]:
        """Yield a call of a function; arguments that are no string become JSON."""
        text = arguments if isinstance(arguments, str) else json.dumps(arguments)
        item = {"id": self._new_id("fc"), "type": "function_call", "name": name}
        yield from self._call("function_call_arguments", "arguments", item, text)

    def custom_tool_call(self, name: str, input: str) -> Iterator[Event]:
        """Yield a call of a custom tool, whose input is free text."""
        item = {"id": self._new_id("ctc"), "type": "custom_tool_call", "name": name}
        yield from self._call("custom_tool_call_input", "input", item, input)

    def _call(self, kind: str, field: str, item: Event, text: str) -> Iterator[Event]:
        # Call ids are as short as the API's, and what a client sends back.
        item = {**item, "call_id": self._new_id("call")[:29]}
        yield self._added({**item, "status": "in_progress", field: ""})
        place = {"item_id": item["id"], "output_index": len(self.output)}
        yield from self._deltas(f"response.{kind}.delta", place, text, None)
        yield {"type": f"response.{kind}.done", **place, field: text}
        yield self._done({**item, "status": "completed", field: text})

    def complete(self, usage: Mapping[str, Any] | None = None) -> Iterator[Event]:
        """Yield ``response.completed`` with the whole output; None estimates the usage."""
        response = self.response(
            "completed", completed_at=CREATED_AT + 1, usage=usage or self.usage()
        )
        yield {"type": "response.completed", "response": response}

    def incomplete(
        self, reason: str = "max_output_tokens", usage: Mapping[str, Any] | None = None
    ) -> Iterator[Event]:
        """Yield ``response.incomplete`` with what there is."""
        response = self.response(
            "incomplete", incomplete_details={"reason": reason}, usage=usage or self.usage()
        )
        yield {"type": "response.incomplete", "response": response}

    def fail(self, code: str, message: str) -> Iterator[Event]:
        """Yield ``response.failed``."""
        error = {"code": code, "message": message}
        yield {"type": "response.failed", "response": self.response("failed", error=error)}

    def usage(self) -> Event:
        """Estimate the usage: four characters of input a token, and a token a delta."""
        return usage_of(self._request, self.output_tokens, self.reasoning_tokens)

    def _new_id(self, prefix: str) -> str:
        return self._request.new_id(prefix, (self._key, len(self.output)))

    def _added(self, item: Event) -> Event:
        return {
            "type": "response.output_item.added",
            "output_index": len(self.output),
            "item": item,
        }

    def _done(self, item: Event) -> Event:
        self.output.append(item)
        return {
            "type": "response.output_item.done",
            "output_index": len(self.output) - 1,
            "item": item,
        }

    def _deltas(
        self, kind: str, place: Event, text: str, tokens: Sequence[str] | None, **extra: Any
    ) -> Iterator[Event]:
        pieces = tokens_of(text) if tokens is None else tokens
        if "".join(pieces) != text:
            raise ConfigurationError(f"The tokens do not join to the text {text[:40]!r}.")
        for piece in pieces:
            self.output_tokens += 1
            event = {"type": kind, **place, "delta": piece, **extra}
            if self._pads:
                # The API pads deltas to hide their length; here the same text has the same padding.
                event["obfuscation"] = "x" * (16 - len(piece) % 16)
            yield event
