"""A server that breaks the protocol ends the turn, in words that say how; the next turn is not harmed."""

from __future__ import annotations

import json
import logging

import pytest

import llmws
from llmws.wire.framing import BINARY, TEXT, encode
from tests.endings.script import PATIENCE, Script, answer, session_at
from tests.endings.watch import Watch, facts


# Inputs that nest to the limit.
pytestmark = pytest.mark.usefixtures("no_finalizers")


DEEP = b"[" * 100_000 + b"]" * 100_000
NOT_JSON = {
    "broken JSON": b'{"type": "response.output_text.delta", ',
    "an empty message": b"",
    "an array": b"[1, 2]",
    "a string": b'"response.created"',
    "null": b"null",
    "NaN": b'{"type": "x", "value": NaN}',
    "too deep": b'{"type": "x", "value": ' + DEEP + b"}",
}
FRAMES = {
    "binary garbage": encode(BINARY, b"\x00\xff\xfe garbage"),
    "a masked frame": encode(TEXT, b"{}", mask=b"abcd"),
    "bad UTF-8": encode(TEXT, b'{"type": "\xff\xfe"}'),
    "a reserved bit": b"\xc1" + bytes(encode(TEXT, b"{}"))[1:],
    "an unknown opcode": b"\x83\x00",
    "a stray continuation": b"\x80\x00",
    "a length above the limit": b"\x81\x7f" + (2**40).to_bytes(8, "big"),
    "bytes that are no frame": b"HTTP/1.1 500 Oh dear\r\n\r\n",
}


def _sending(data, events):
    def play(wire):
        wire.upgrade()
        wire.create()
        if wire.number == 1:
            wire.send(*answer()[:events])
            wire.raw(data)
        else:
            wire.send(*answer("Good again"))
        wire.until_closed()

    return play


@pytest.mark.parametrize("events", [0, 5])
@pytest.mark.parametrize("what", [*NOT_JSON, *FRAMES])
def test_a_breach_of_the_protocol_ends_the_turn(what, events, patience):
    data = encode(TEXT, NOT_JSON[what]) if what in NOT_JSON else FRAMES[what]
    with Script(_sending(data, events)) as server, session_at(server.base_url) as session:
        watch = Watch(session.stream("one"))
        for error in watch.errors(patience):
            told = facts(error)
            assert told["kind"] is llmws.RemoteProtocolError
            assert told["state"] == ("output" if events else "sent")
            assert told["partial_text"] == ("Hello" if events else "")
            assert told["may_have_been_billed"] is True
            if what in NOT_JSON:
                assert NOT_JSON[what].startswith(bytes(told["raw"]))
        seen = [event.raw for event in watch.witnesses["events"].seen]
        assert seen == answer()[:events]
        Watch(session.stream("two")).check_result("Good again", patience)
        assert server.connections == 2


def _with_gap():
    events = answer()
    return [*events[:5], *events[7:]]


def _with_repeat():
    events = answer()
    return [*events[:5], events[4], *events[5:]]


def _playing(events):
    def play(wire):
        wire.upgrade()
        while True:
            body = wire.create()
            wire.send(*(events if body["input"] == "one" else answer("Good again", 2)))

    return play


def test_a_gap_in_the_numbers_is_counted_and_logged_once(caplog, patience):
    caplog.set_level(logging.WARNING, "llmws")
    with Script(_playing(_with_gap())) as server, session_at(server.base_url) as session:
        watch = Watch(session.stream("one"))
        assert watch.witnesses["response"].end(patience) is None
        assert [e.raw for e in _events(watch, patience)] == _with_gap()
        assert session.stats.missing_events == 2
        warnings = [record for record in caplog.records if record.levelno == logging.WARNING]
        assert [record.name for record in warnings] == ["llmws.responses.routing.books"]
        assert "2 sequence numbers missing" in warnings[0].getMessage()
        Watch(session.stream("two")).check_result("Good again", patience)
        assert session.stats.missing_events == 2


@pytest.mark.parametrize(("events", "seen"), [(_with_gap(), 5), (_with_repeat(), 5)])
def test_a_strict_session_takes_a_gap_or_a_repeat_for_a_breach(events, seen, patience):
    with (
        Script(_playing(events)) as server,
        session_at(server.base_url, sequence_check="strict") as session,
    ):
        watch = Watch(session.stream("one"))
        for error in watch.errors(patience):
            told = facts(error)
            assert told["kind"] is llmws.RemoteProtocolError
            assert "strict" in told["words"]
            assert told["partial_text"] == "Hello"
        assert len(watch.witnesses["events"].seen) == seen
        Watch(session.stream("two")).check_result("Good again", patience)


def _events(watch, patience):
    assert watch.witnesses["events"].end(patience) is None
    return watch.witnesses["events"].seen


@pytest.mark.parametrize("limit", ["_max_items", "_max_bytes"])
def test_a_full_log_ends_its_turn_alone(limit, patience):
    events = answer()
    most = 5 if limit == "_max_items" else sum(len(json.dumps(event)) for event in events[:5])

    def play(wire):
        wire.upgrade()
        while True:
            body = wire.create()
            if body["input"] == "one":
                wire.send(*events[:5])
                wire._server.gate.wait(PATIENCE)
                wire.send(*events[5:])
            else:
                wire.send(*answer("Good again", 2))

    with Script(play) as server, session_at(server.base_url) as session:
        stream = session.stream("one")
        setattr(stream._turn.inbox, limit, most)
        watch = Watch(stream)
        watch.saw_events(5, patience)
        server.gate.set()
        for error in watch.errors(patience):
            told = facts(error)
            assert told["kind"] is llmws.InboxOverflowError
            assert (told["state"], told["may_have_been_billed"]) == ("output", True)
            assert told["partial_text"] == "Hello"
            assert told["response_id"] == events[0]["response"]["id"]
        assert len(watch.witnesses["events"].seen) == 5
        Watch(session.stream("two")).check_result("Good again", patience)
        assert server.connections == 1
