"""Events that claim to be of other types: no field of any event raises, whatever kind of wrong value it holds."""

from __future__ import annotations

import contextlib
import functools
import itertools

import pytest

import llmws
from llmws.responses.stream import chunks, readers
from llmws.responses.stream.snapshot import Accumulator, Response
from llmws.responses.vocabulary import events
from llmws.responses.vocabulary.items import Usage
from llmws.responses.vocabulary.views import Field


HUGE = (
    10**4299
)  # What JSON readers take at most; one digit more, and it could not be printed either.
WRONG = {
    "null": None,
    "true": True,
    "zero": 0,
    "negative": -1,
    "huge": HUGE,
    "float": 1e308,
    "empty text": "",
    "text": "../../etc/passwd\r\n\x1b[2J",
    "empty list": [],
    "list": [None, 1, "x", [], {}, {"type": [], "id": {}, "text": 5, "content": "x"}],
    "empty object": {},
    "object": {"type": {}, "id": [], "status": 7, "text": None, "output": 3, "content": {"a": 1}},
}
# Fields that are read without a view of their own, at the top or within the objects that events carry.
NESTED = {
    "response": ("id", "model", "status", "output", "usage", "error", "incomplete_details"),
    "item": (
        *("type", "id", "call_id", "name", "content", "summary", "result", "action", "actions", "operation"),
        *("arguments", "input", "queries", "code", "execution", "environment", "encrypted_content", "status"),
    ),
    "part": ("type", "text", "refusal", "annotations"),
    "error": ("type", "code", "message", "param", "status", "headers"),
    "steer": ("id", "previous_response_id"),
    "delta": ("stdout", "stderr"),
}  # fmt: skip
OTHER = ("status", "status_code", "code", "message", "param", "headers", "error", "stream_id")
ITEMS = ("message", "reasoning", "function_call", "shell_call", "image_generation_call", "new_call")


def fields_of(kind):
    return {
        name
        for base in kind.__mro__
        for name, value in vars(base).items()
        if isinstance(value, Field)
    }


@functools.cache
def attributes_of(kind):
    return [name for name in dir(kind) if not name.startswith("__")]


def exercise(raw):
    """Do everything with an event that a reader may do."""
    event = events.from_raw(raw)
    for name in attributes_of(type(event)):
        getattr(event, name)
    assert len(repr(event)) < 10_000
    chunk = chunks.from_event(event)
    if chunk is not None:
        chunk.validate()
        assert len(repr(chunk)) < 1000
    readers.texts_of([event])
    (block,) = readers.sse_of([event])
    head, data, *rest = block.split(b"\n")
    assert head.startswith(b"event: ")
    assert data.startswith(b"data: ")
    assert rest == [b"", b""], "an event broke out of its lines"
    fold = Accumulator()
    for each in (begun(), event, event):
        fold.add(each)
    shown(fold.response())
    fold.add(ended())
    shown(fold.response())


def shown(response):
    repr(response)
    repr(response.output)
    repr(response.tool_calls)
    repr(response.usage)
    response.classify()
    for item in response.output:
        repr(item)
        assert isinstance(item.text + item.refusal + item.thinking + item.type + item.id, str)
    with contextlib.suppress(llmws.APIError):
        response.raise_for_status()


def begun():
    return events.from_raw({"type": "response.created", "response": {"id": "resp_1"}})


def ended():
    return events.from_raw({"type": "response.completed", "response": {"output": None}})


@pytest.mark.parametrize("name", [*events.TYPES, "response.of.the.future", ""])
def test_no_field_of_no_event_raises_whatever_it_holds(name):
    kind = events.TYPES.get(name, events.Event)
    # What no view of the class reads is read alike for all of its types.
    further = {*OTHER, *NESTED} if name == _type_of(kind) else set()
    fields = sorted(fields_of(kind) | further)
    for field, wrong in itertools.product(fields, WRONG.values()):
        exercise({"type": name, field: wrong})
    exercise(dict.fromkeys(fields, WRONG["object"]) | {"type": name})
    exercise(dict.fromkeys(fields, WRONG["list"]) | {"type": name})


def test_no_type_raises_whatever_it_is():
    exercise({})
    for wrong in WRONG.values():
        exercise({"type": wrong, "delta": "x"})


@pytest.mark.parametrize("outer", NESTED)
def test_no_field_within_an_object_raises_whatever_it_holds(outer):
    carriers = [name for name, kind in events.TYPES.items() if outer in {*fields_of(kind), *OTHER}]
    # One type a class: the code that reads them is the same.
    one_each = {events.TYPES[name]: name for name in carriers}.values()
    assert one_each
    for name, inner, wrong in itertools.product(one_each, NESTED[outer], WRONG.values()):
        exercise({"type": name, outer: {inner: wrong}})


@pytest.mark.parametrize("kind", ITEMS)
def test_no_field_of_an_item_raises_whatever_it_holds(kind):
    for field, wrong in itertools.product(NESTED["item"][1:], WRONG.values()):
        item = {"type": kind, field: wrong}
        exercise({"type": "response.output_item.done", "item": item})
        for status in ("completed", "failed", "incomplete", "new"):
            shown(Response.from_wire({"status": status, "output": [item, item]}))


def test_every_view_gives_its_own_type_whatever_the_wire_holds():
    for kind, wrong in itertools.product(set(events.TYPES.values()), WRONG.values()):
        for base in kind.__mro__:
            for name, view in vars(base).items():
                if isinstance(view, Field):
                    value = getattr(events.from_raw({"type": _type_of(kind), name: wrong}), name)
                    assert type(value) in (view.kind, type(view.make()))


def _type_of(kind):
    return next((name for name, found in events.TYPES.items() if found is kind), "")


@pytest.mark.parametrize("count", [HUGE, -HUGE, True, 1.5, "7", None, [], {}])
def test_counts_that_are_none_are_zero_and_sums_can_be_printed(count):
    fields = ("input_tokens", "output_tokens", "total_tokens")
    usage = Usage.from_wire(dict.fromkeys(fields, count))
    assert (usage.input_tokens, usage.output_tokens, usage.total_tokens) == (0, 0, 0)
    total = Usage()
    for _ in range(100):
        total += Usage.from_wire({"input_tokens": 2**63 - 1})
    assert repr(total)
