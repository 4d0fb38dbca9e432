"""Messages made to cost more than they weigh: nesting, digits, a million objects, numbers without end."""

from __future__ import annotations

import contextlib
import functools
import json
import logging
import time

import pytest

import llmws
from llmws.responses.stream.snapshot import Accumulator
from llmws.responses.vocabulary import events
from llmws.responses.vocabulary.apierrors import from_event
from llmws.wire.framing import TEXT, encode
from tests.endings.script import PATIENCE, Script, answer, session_at


# Inputs that nest to the limit.
pytestmark = pytest.mark.usefixtures("no_finalizers")


DEEP = 100_000
HUGE = (
    b"9" * 4300
)  # The longest number that Python reads; one more makes 4,301 digits, which it does not print.
# What ends its turn, and must not end more than that.
FATAL = {
    "lists": b'{"type":"x","v":' + b"[" * DEEP + b"]" * DEEP + b"}",
    "objects": b'{"type":"x","v":' + b'{"a":' * DEEP + b"1" + b"}" * (DEEP + 1),
    "unfinished lists": b'{"type":"x","v":' + b"[" * DEEP,
    "digits": b'{"type":"x","v":' + b"9" * 5000 + b"}",
    "NaN": b'{"type":"x","v":NaN}',
    "minus infinity": b'{"type":"x","v":-Infinity}',
    "out of range": b'{"type":"x","v":1e999}',
    "bad escape": b'{"type":"x","v":"\\ud8"}',
    "bytes that are no text": b'{"type":"x","v":"\\u0000' + b"\x00" + b'"}',
    "two values": b'{"type":"x"}{"type":"y"}',
}
# What passes, and how it reads then.
HARMLESS = {
    "duplicate keys": (b'{"type":"x","v":1,"v":2}', 2),
    "half a pair": (b'{"type":"x","v":"a\\ud800b"}', "a\ufffdb"),
    "the other half": (b'{"type":"x","v":"\\udc00"}', "\ufffd"),
    "a zero byte": (b'{"type":"x","v":"\\u0000"}', "\0"),
    "moderate nesting": (b'{"type":"x","v":[[[[[[[[1]]]]]]]]}', [[[[[[[[1]]]]]]]]),
    "minus zero": (b'{"type":"x","v":-0}', 0),
    "escaped names": (b'{"ty\\u0070e":"x","\\u0076":1}', 1),
}


def refusing(bomb):
    """Make a script: a bomb in the middle of the first answer; a good answer on every other connection."""

    def play(wire):
        wire.upgrade()
        wire.create()
        if wire.number == 1:
            wire.send(*answer()[:5])
            wire.raw(encode(TEXT, bomb))
        else:
            wire.send(*answer("Good again"))
        wire.until_closed()

    return play


@pytest.mark.parametrize("name", FATAL)
def test_a_bomb_ends_its_turn_and_nothing_else(name, monkeypatch):
    monkeypatch.setattr("llmws.responses.routing.books.DRAIN_SECONDS", 0.05)
    with Script(refusing(FATAL[name])) as server, session_at(server.base_url) as session:
        with pytest.raises(llmws.RemoteProtocolError) as caught:
            session.create("one", timeouts={"total": PATIENCE})
        assert caught.value.partial.text == "Hello"
        assert len(caught.value.raw or b"") <= 512
        assert len(str(caught.value)) < 1000
        assert session.create("two", timeouts={"total": PATIENCE}).text == "Good again"


# How deep a reader of JSON goes depends on Python's version and on the stack: all of these are near some limit.
DEPTHS = (400, 480, 900, 950, 980, 985, 990, 995, 1_000, 2_500, 5_000, 10_000, 20_000)


def seen(view, stream):
    return list(view(stream))


VIEWS = (iter, llmws.Stream.events, llmws.Stream.texts)


@pytest.mark.parametrize("kind", ["a call", "a refusal", "a failure"])
def test_nesting_near_the_limit_gives_a_result_or_an_error_of_ours(kind):
    def nested(depth):
        value = b"[" * depth + b"]" * depth
        return {
            "a call": b'{"type":"response.output_item.done","item":{"type":"function_call","arguments":%s}}',
            "a refusal": b'{"type":"error","error":{"message":%s}}',
            "a failure": b'{"type":"response.failed","response":{"status":"failed","error":%s}}',
        }[kind] % value

    def play(wire):
        wire.upgrade()
        while True:
            wire.create()
            # In one piece, so that nothing of it is taken for an answer to the next request.
            bomb = encode(TEXT, nested(DEPTHS[len(server.creates) - 1]))
            wire.raw(bomb + encode(TEXT, b'{"type":"response.completed","response":{}}'))

    with Script(play) as server, session_at(server.base_url) as session:
        for _ in DEPTHS:
            stream = session.stream("Hi", timeouts={"total": PATIENCE})
            for look in (
                stream.response,
                *(functools.partial(seen, view, stream) for view in VIEWS),
            ):
                with contextlib.suppress(llmws.RemoteProtocolError, llmws.APIError):
                    repr(look())
            assert stream.state is llmws.TurnState.ENDED
        assert len(server.creates) == len(DEPTHS)


@pytest.mark.parametrize("name", HARMLESS)
def test_odd_json_is_read_and_can_be_written_again(name):
    message, value = HARMLESS[name]
    event = events.decode(message)
    assert event["v"] == value
    json.dumps(event.raw, ensure_ascii=False).encode()


def test_a_million_empty_objects_are_read_in_time():
    # What they cost in memory is bounded by the length of the message alone: about 25 bytes for each on the wire.
    message = b'{"type":"x","v":[' + b"{}," * 999_999 + b"{}]}"

    def play(wire):
        wire.upgrade()
        wire.create()
        wire.send(*answer()[:5])
        wire.raw(encode(TEXT, message))
        wire.send(*answer()[5:])
        wire.until_closed()

    with Script(play) as server, session_at(server.base_url) as session:
        stream = session.stream("one", timeouts={"total": PATIENCE})
        assert [len(e["v"]) for e in stream.events() if e.type == "x"] == [1_000_000]
        assert stream.response().text == "Hello world"


@pytest.mark.parametrize("check", ["warn", "strict"])
@pytest.mark.parametrize(
    "numbers", [(HUGE, b"0"), (b"0", HUGE), (b"-" + HUGE, HUGE), (b"0", b"-3")]
)
def test_no_sequence_number_harms_the_connection(check, numbers, caplog, monkeypatch):
    monkeypatch.setattr("llmws.responses.routing.books.DRAIN_SECONDS", 0.05)
    caplog.set_level(logging.DEBUG, "llmws")
    first, second = numbers

    def play(wire):
        wire.upgrade()
        wire.create()
        if wire.number == 1 and len(server.creates) == 1:
            created = (
                b'{"type":"response.created","response":{"id":"r"},"sequence_number":%s}' % first
            )
            delta = (
                b'{"type":"response.output_text.delta","delta":"x","sequence_number":%s}' % second
            )
            ended = b'{"type":"response.completed","response":{"id":"r","status":"completed"}}'
            wire.raw(b"".join(encode(TEXT, each) for each in (created, delta, ended)))
            if check == "warn":
                wire.create()
        wire.send(*answer("Good again"))
        wire.until_closed()

    with Script(play) as server, session_at(server.base_url, sequence_check=check) as session:
        stream = session.stream("one", timeouts={"total": PATIENCE})
        if check == "strict":
            with pytest.raises(llmws.RemoteProtocolError, match="strict"):
                stream.response()
        else:
            assert stream.response().text == "x"
        assert session.create("two", timeouts={"total": PATIENCE}).text == "Good again"
        assert len(repr(session.stats)) < 1000
        assert "defect" not in caplog.text


def seconds(work, *arguments, times=1):
    """Return how much of this thread's time something takes, at best; other threads and programs do not count."""
    taken = []
    for _ in range(times):
        started = time.thread_time()
        work(*arguments)
        taken.append(time.thread_time() - started)
    return min(taken)


# Each makes one event that the fold has to find a new place for.
GROWING = {
    "items without a place": lambda i: {
        "type": "response.output_text.delta", "delta": "x", "item_id": f"i{i}",
    },
    "items": lambda i: {"type": "response.output_text.delta", "delta": "x", "output_index": i},
    "parts": lambda i: {
        "type": "response.output_text.delta", "delta": "x", "output_index": 0, "content_index": i,
    },
    "parts backwards": lambda i: {
        "type": "response.output_text.delta", "delta": "x", "output_index": 0, "content_index": -i,
    },
    "announced items": lambda i: {
        "type": "response.output_item.added", "item": {"id": f"i{i}", "type": "message"},
    },
    "annotations": lambda i: {
        "type": "response.output_text.annotation.added", "annotation": {"n": i}, "output_index": 0,
    },
    "fields of the response": lambda i: {"type": "response.in_progress", "response": {f"f{i}": i}},
    "beginnings": lambda i: {"type": "response.created", "response": {"id": f"r{i}"}},
}  # fmt: skip


@pytest.mark.parametrize("name", GROWING)
def test_ten_times_the_events_cost_about_ten_times_as_much(name):
    make = GROWING[name]

    def fold(found):
        fold = Accumulator()
        for event in found:
            fold.add(event)
        fold.response()

    few, many = ([events.from_raw(make(i)) for i in range(count)] for count in (500, 5_000))
    # If each event cost what came before it, this were a hundred times as much.
    assert seconds(fold, many, times=5) < 40 * seconds(fold, few, times=5) + 0.02


WORDS = ("bearer ", "bearer" + " " * 999, "sk-", "basic ", "?key=", "previous response with id ",
         "try again in 1", "try again in 1s2s3s ", "openai-insecure-api-key.", "bearer x")  # fmt: skip


@pytest.mark.parametrize("words", WORDS)
def test_no_words_of_a_refusal_take_long_to_be_searched(words):
    event = events.from_raw(
        {"type": "error", "status": 429, "error": {"message": words * (100_000 // len(words))}}
    )
    # An expression that backtracks would take minutes.
    assert seconds(from_event, event) < 2
