"""What a turn's log holds, and the events that readers see of it."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmws.responses.vocabulary.entries import delta_of, opened
from llmws.responses.vocabulary.events import TextDelta, decode, from_raw
from llmws.wire import jsoncodec


# Inputs that nest to the limit.
pytestmark = pytest.mark.usefixtures("no_finalizers")


needs_msgspec = pytest.mark.skipif(jsoncodec._fast is None, reason="msgspec is not installed")

DELTA = {
    "type": "response.output_text.delta",
    "sequence_number": 4,
    "item_id": "msg_1",
    "output_index": 0,
    "content_index": 0,
    "delta": "Hé \u2028 there",
    "logprobs": [],
    "obfuscation": "x",
}


def numbers_of_deltas(messages):
    """Return the numbers of messages that are all flat deltas, or None."""
    try:
        return [delta.sequence_number for delta in map(delta_of, messages)]
    except (ValueError, TypeError):
        return None  # No delta, or no decoder that can tell.


def encoded(**changes):
    fields = {name: value for name, value in {**DELTA, **changes}.items() if value is not ...}
    return json.dumps(fields).encode()


@needs_msgspec
def test_the_numbers_of_flat_deltas_are_told():
    messages = [encoded(), encoded(sequence_number=...), bytearray(encoded(sequence_number=9))]
    assert numbers_of_deltas(messages) == [4, None, 9]
    assert numbers_of_deltas([]) == []


@needs_msgspec
@pytest.mark.parametrize("name", sorted(DELTA))
def test_a_delta_may_lack_any_field_but_its_type(name):
    told = numbers_of_deltas([encoded(**{name: ...})])
    assert told == (None if name == "type" else [None] if name == "sequence_number" else [4])


@pytest.mark.parametrize(
    "other",
    [
        encoded(type="response.output_text.done"),
        encoded(type="response.completed"),
        encoded(type=None),
        encoded(type=["response.output_text.delta"]),
        encoded(something_new=1),
        encoded(delta=5),
        encoded(delta={"stdout": "x"}),
        encoded(sequence_number=4.5),
        encoded(sequence_number=True),
        encoded(sequence_number="4"),
        encoded(output_index=1e400),
        encoded(logprobs=[{"token": "x"}]),
        encoded()[:-1],
        encoded() + b"}",
        b"[" + encoded() + b"]",
        encoded().replace(b"there", b"\\ud800"),
        encoded().replace(b'"x"', b"1e999"),
        encoded().replace(b'"x"', b"9" * 5000),
        encoded().replace(b'"x"', b"[" * 2000 + b"]" * 2000),
        b"",
    ],
)
def test_what_is_no_flat_delta_is_never_taken_for_one(other):
    assert numbers_of_deltas([encoded(), other]) is None


@needs_msgspec
@given(st.integers(0, 400), st.sampled_from([*b'{}[]",:\\ u0e9-.tn\xff\x00']))
def test_what_is_taken_for_a_delta_is_decoded_without_fail(place, byte):
    damaged = bytearray(encoded(delta='a"\\u00e9', sequence_number=10))
    damaged[place % len(damaged)] = byte
    if numbers_of_deltas([damaged]) is None:
        return
    raw = jsoncodec.decode(
        damaged.decode(errors="replace").encode()
    )  # Framing lets UTF-8 alone through.
    assert raw["type"].endswith(".delta")
    assert "stream_id" not in raw


@given(st.lists(st.sampled_from(["bytes", "bytearray", "dict", "event"])))
def test_entries_of_every_kind_open_to_the_same_events_in_order(kinds):
    entries, events = [], []
    for number, kind in enumerate(kinds):
        message = encoded(sequence_number=number)
        event = decode(message)
        entries.append(
            {
                "bytes": message,
                "bytearray": bytearray(message),
                "dict": event.raw,
                "event": event,
            }[kind]
        )
        events.append(event)
    assert opened(entries) == events
    assert {type(event) for event in opened(entries)} <= {TextDelta}


def test_an_event_that_lies_in_the_log_is_given_as_it_is():
    event = from_raw({"type": "response.completed", "response": {}})
    assert opened([event])[0] is event
