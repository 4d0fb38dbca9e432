"""Servers that send too much, or hardly anything, or that read nothing: over real sockets."""

from __future__ import annotations

import itertools
import json
import time

import pytest

import llmws
from llmws.wire.framing import PING, TEXT, Close, Framing, Pong, encode, encode_close
from tests.endings.script import PATIENCE, Script, answer, session_at


LIMITS = {"total": PATIENCE}
# How much more than a limit a wait may take on a busy machine.
MARGIN = 1.0


def good(wire, text="Good again"):
    """Answer whatever is asked."""
    while True:
        wire.create()
        wire.send(*answer(text, wire.number))


def begin_or_be_good(wire):
    """Begin an answer on the first connection; on later ones be good for ever."""
    wire.upgrade()
    if wire.number > 1:
        good(wire)
    wire.create()
    wire.send(*answer()[:5])


def frames_until(wire, wanted):
    """Read what the client sends until something is among it; return all that was read."""
    framing, found = Framing("server"), []
    while not any(wanted(frame) for frame in found):
        data = wire._conn.recv(65536)
        assert data, f"the client went away behind {found[-3:]}"
        found += framing.feed(data)
    return found


def test_ten_thousand_pings_at_once_do_not_disturb_the_answer_and_the_last_is_answered():
    pings = b"".join(encode(PING, b"%d" % number) for number in range(10_000))
    answered = []

    def play(wire):
        wire.upgrade()
        wire.create()
        events = answer()
        wire.send(*events[:5])
        wire.raw(pings)
        answered.extend(frames_until(wire, lambda frame: frame == Pong(b"9999")))
        wire.send(*events[5:])
        good(wire)

    with Script(play) as server, session_at(server.base_url) as session:
        assert session.create("one", timeouts=LIMITS).text == "Hello world"
        assert session.create("two", timeouts=LIMITS).text == "Good again"
        assert server.connections == 1
    numbers = [int(frame.payload) for frame in answered if isinstance(frame, Pong)]
    # Of many that wait, the newest need an answer alone (RFC 6455 §5.5.3); none is answered twice or out of order.
    assert numbers == sorted(set(numbers))


def test_pings_of_a_server_that_never_reads_take_no_memory():
    # More pongs than the kernel holds between the two.
    pings = encode(PING, b"x" * 125) * 2_000
    deepest = 0

    def play(wire):
        nonlocal deepest
        wire.upgrade()
        wire.create()
        for _ in range(10):
            wire.raw(pings)
            deepest = max(deepest, len(session._core.connection._link._outbox))
        wire.send(*answer())
        server.over.wait(PATIENCE)

    with Script(play) as server, session_at(server.base_url) as session:
        assert session.create("one", timeouts=LIMITS).text == "Hello world"
        # The limit, the frame that is being written, and one more that the look fell between.
        assert deepest <= 258


def test_endless_fragments_are_refused_and_cost_next_to_nothing():
    fragments = (b"\x01\x01{" + b"\x00\x01 " * 100_000)[:-3]
    framing, delivered = Framing("client"), []
    started = time.thread_time()
    for start in range(0, len(fragments), 65536):
        delivered += framing.feed(fragments[start : start + 65536])
    assert time.thread_time() - started < 1.0
    assert [item.code for item in delivered] == [1009]

    def play(wire):
        begin_or_be_good(wire)
        wire.raw(fragments)
        codes.extend(
            frame.code
            for frame in frames_until(wire, lambda frame: isinstance(frame, Close))
            if isinstance(frame, Close)
        )

    codes = []
    with Script(play) as server, session_at(server.base_url) as session:
        with pytest.raises(llmws.RemoteProtocolError, match="fragments") as caught:
            session.create("one", timeouts=LIMITS)
        assert caught.value.partial.text == "Hello"
        assert session.create("two", timeouts=LIMITS).text == "Good again"


def test_of_many_closes_the_first_counts():
    closes = b"".join(
        encode_close(code, f"close {code}") for code in (4001, 1000, *range(3000, 4999))
    )

    def play(wire):
        begin_or_be_good(wire)
        wire.raw(closes + encode(TEXT, b'{"type":"response.output_text.delta","delta":"late"}'))
        frames.extend(frames_until(wire, lambda frame: isinstance(frame, Close)))
        server.over.wait(PATIENCE)

    frames = []
    with Script(play) as server, session_at(server.base_url) as session:
        with pytest.raises(llmws.StreamInterruptedError) as caught:
            session.create("one", timeouts=LIMITS)
        assert (caught.value.close_code, caught.value.close_reason) == (4001, "close 4001")
        assert caught.value.partial.text == "Hello"
        assert session.create("two", timeouts=LIMITS).text == "Good again"
        assert [frame for frame in frames if isinstance(frame, Close)] == [Close(4001, "")]


def test_an_answer_that_came_before_the_question_is_nobodys():
    early = b"".join(encode(TEXT, json.dumps(event).encode()) for event in answer("Wrong answer"))

    def play(wire):
        wire.upgrade(early)
        wire.create()
        # In one piece, so that all of it is there before the next question.
        wire.send(*answer("Right answer"), *answer("Wrong again"))
        wire.create()
        wire.send(*answer("Right again"))
        wire.until_closed()

    with Script(play) as server, session_at(server.base_url) as session:
        assert session.create("one", timeouts=LIMITS).text == "Right answer"
        assert session.create("two", timeouts=LIMITS).text == "Right again"
        assert session.stats.dropped_events == 2 * len(answer())


def flooding(data):
    """Make a script: an answer begins, and then the same comes again and again, for ever."""

    def play(wire):
        wire.upgrade()
        wire.create()
        wire.send(*answer()[:5])
        while not wire._server.over.is_set():
            wire.raw(data)

    return play


FLOODS = {
    "pings": bytes(encode(PING, b"x" * 125)) * 500,
    "empty pings": b"\x89\x00" * 5_000,
    "empty objects": bytes(encode(TEXT, b"{}")) * 5_000,
    "events of a lane": bytes(encode(TEXT, b'{"type":"x","stream_id":"other"}')) * 2_000,
    "retirements": bytes(encode(TEXT, b'{"type":"error","code":"websocket_connection_limit_reached"}')) * 500,
    "beginnings": bytes(encode(TEXT, b'{"type":"response.created","response":{"id":"again"}}')) * 500,
}  # fmt: skip


@pytest.mark.parametrize("flood", FLOODS)
def test_a_flood_keeps_neither_a_limit_nor_a_cancel_nor_the_close_waiting(flood):
    with (
        Script(flooding(FLOODS[flood])) as server,
        session_at(server.base_url, timeouts={"close": 0.2}) as session,
    ):
        stream = session.stream("one", timeouts={"total": 0.2})
        started = time.monotonic()
        with pytest.raises(llmws.TotalTimeout) as caught:
            stream.response(PATIENCE)
        waiting = session.stream("two")
        waiting.cancel()
        with pytest.raises(llmws.StreamCancelledError):
            waiting.response(PATIENCE)
        session.close()
        assert time.monotonic() - started < 0.2 + 0.2 + 3 * MARGIN
        assert caught.value.partial.text == "Hello"


def test_a_server_that_reads_nothing_is_given_up_by_its_silence():
    def play(wire):
        wire.upgrade()
        server.over.wait(PATIENCE)

    # Longer than what two kernels take: the request has begun, and never ends.
    words = "x" * 12 * 2**20
    with Script(play) as server, session_at(server.base_url, ping=0.2) as session:
        with pytest.raises(llmws.StreamInterruptedError) as caught:
            session.create(words, timeouts=LIMITS)
        assert (caught.value.state, caught.value.may_have_been_billed) == ("sent", True)


@pytest.mark.parametrize(
    "trickle",
    [bytes(encode(TEXT, b'{"type":"x"}' + b" " * 9_000)), b"\x81\x7f" + bytes(6) + b"\x10\x00"],
)
def test_a_server_that_sends_a_byte_now_and_then_lives_and_its_turn_times_out(trickle):
    def play(wire):
        wire.upgrade()
        wire.create()
        for byte in itertools.chain(trickle, itertools.repeat(0x20)):
            wire.raw(bytes([byte]))
            if server.over.wait(0.02):
                return

    with Script(play) as server, session_at(server.base_url, ping=0.1) as session:
        # Bytes keep the link alive far beyond its ping; events alone keep the turn.
        stream = session.stream("one", timeouts={"first_event": 0.35})
        with pytest.raises(llmws.FirstEventTimeout):
            stream.response(PATIENCE)
        assert session.stats.lost == 0


@pytest.mark.parametrize("wait", ["9" * 20, "1e308", "Fri, 31 Dec 9999 23:59:59 GMT", "86400"])
def test_a_server_that_asks_to_wait_for_ever_is_not_waited_for(wait):
    def play(wire):
        wire.head()
        wire.raw(f"HTTP/1.1 503 No\r\nRetry-After: {wait}\r\nContent-Length: 0\r\n\r\n".encode())

    with Script(play) as server, session_at(server.base_url) as session:
        with pytest.raises(llmws.ConnectError):
            session.create("one", timeouts=LIMITS)
        assert 1 <= server.connections <= 5
