"""RFC 6455 framing: any cut of the bytes gives the same deliveries, and every breach has its code."""

from __future__ import annotations

import os
import tracemalloc

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from llmws.wire.framing import (
    BINARY,
    CLOSE,
    CONTINUATION,
    PING,
    PONG,
    TEXT,
    Binary,
    Close,
    Framing,
    Ping,
    Pong,
    Violation,
    encode,
    encode_close,
    encode_in_pieces,
)


MASK = b"\x0f\xa5\x00\xff"
ROLES = ["client", "server"]
LARGE = 128 * 1024


def frame(role, opcode, payload=b"", fin=True):
    """Build a frame as the peer of this role would."""
    return bytes(encode(opcode, payload, mask=MASK if role == "server" else None, fin=fin))


def header(first, second, rest=b""):
    return bytes((first, second)) + rest


def deliveries(role, data, **limits):
    return Framing(role, **limits).feed(data)


def violation(role, data, **limits):
    """Return the violation at the end of what these bytes give; they must give nothing else."""
    framing = Framing(role, **limits)
    (found,) = framing.feed(data)
    assert isinstance(found, Violation)
    assert framing.over
    assert not framing.only_text
    assert framing.room() is None
    assert framing.feed(frame(role, TEXT, b"more")) == []
    return found


@pytest.mark.parametrize("length", [1, 125, 70_000, 2**19, 2**19 + 1, 3 * 2**19 + 7])
def test_a_frame_in_pieces_is_the_frame(length):
    payload = os.urandom(length)
    pieces = [bytes(piece) for piece in encode_in_pieces(TEXT, payload, mask=MASK)]
    assert b"".join(pieces) == encode(TEXT, payload, mask=MASK)
    assert len(pieces) == -(-length // 2**19)


# Any messages, any fragments, any cut.

controls = st.one_of(
    st.binary(max_size=125).map(lambda data: (PING, data, Ping(data))),
    st.binary(max_size=125).map(lambda data: (PONG, data, Pong(data))),
)


@st.composite
def conversations(draw):
    """Frames of a lawful peer, and what they are to give."""
    role = draw(st.sampled_from(ROLES))
    data, expected = b"", []

    def control():
        nonlocal data
        for opcode, payload, delivery in draw(st.lists(controls, max_size=1)):
            data += frame(role, opcode, payload)
            expected.append(delivery)

    for _ in range(draw(st.integers(0, 4))):
        control()
        binary = draw(st.booleans())
        long = draw(st.sampled_from([0, 0, 0, 126, 65_530]))
        payload = draw(st.binary(max_size=140)) if binary else draw(st.text(max_size=60)).encode()
        payload += b"x" * long
        cuts = sorted(draw(st.lists(st.integers(0, len(payload)), max_size=3)))
        parts = [payload[a:b] for a, b in zip([0, *cuts], [*cuts, len(payload)], strict=True)]
        for index, part in enumerate(parts):
            opcode = CONTINUATION if index else BINARY if binary else TEXT
            last = index == len(parts) - 1
            data += frame(role, opcode, part, fin=last)
            if not last:
                control()
        expected.append(Binary(payload) if binary else payload)
    if draw(st.booleans()):
        code = draw(st.sampled_from([1000, 1001, 1011, 1014, 3000, 4999]))
        reason = draw(st.text(max_size=30))
        ending = bytes(encode_close(code, reason, mask=MASK if role == "server" else None))
        data += ending + draw(st.sampled_from([b"", frame(role, TEXT, b"after"), b"\xff\xff"]))
        expected.append(Close(code, reason))
    return role, data, expected


@st.composite
def cut(draw, data):
    places = sorted(draw(st.lists(st.integers(0, len(data)), max_size=12)))
    return [data[a:b] for a, b in zip([0, *places], [*places, len(data)], strict=True)]


@given(st.data())
def test_any_cut_of_the_bytes_gives_the_same_deliveries(draws):
    role, data, expected = draws.draw(conversations())
    pieces = draws.draw(st.one_of(cut(data), st.just([bytes((byte,)) for byte in data[:3000]])))
    pieces.append(data[sum(map(len, pieces)) :])
    framing, found = Framing(role), []
    for piece in pieces:
        some = framing.feed(piece)
        if some:
            text = (isinstance(item, (bytes, bytearray)) for item in some)
            assert framing.only_text == all(text)
        found += some
    assert found == expected
    assert framing.over == (bool(expected) and isinstance(expected[-1], Close))


def read_into_room(framing, data, most):
    """Feed bytes as the I/O thread does: into the room that is offered, else as they come."""
    found = []
    while data:
        room = framing.room()
        if room is None:
            found += framing.feed(data[:most])
            data = data[most:]
            continue
        with room:
            count = min(most, len(room), len(data))
            room[:count] = data[:count]
        found += framing.filled(count)
        data = data[count:]
    return found


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("most", [40_000, 65_536, 10**7])
@pytest.mark.parametrize("size", [LARGE - 1, LARGE, LARGE + 1, 700_000])
def test_large_payloads_are_the_same_by_room_and_by_feed(role, most, size):
    payload = os.urandom(size // 2).hex().encode() + b"x" * (size % 2)
    data = frame(role, TEXT, b"before") + frame(role, TEXT, payload) + frame(role, PING, b"p")
    data += frame(role, BINARY, payload, fin=False) + frame(role, CONTINUATION, payload)
    expected = [b"before", payload, Ping(b"p"), Binary(payload + payload)]
    assert read_into_room(Framing(role), data, most) == expected
    framing = Framing(role)
    assert [
        item for start in range(0, len(data), most) for item in framing.feed(data[start:][:most])
    ] == expected


def test_a_large_payload_may_come_partly_by_room_and_partly_by_feed():
    payload = bytes(range(32, 127)) * 3000
    data = frame("client", TEXT, payload)
    framing = Framing("client")
    assert framing.feed(data[:70_000]) == []
    room = framing.room()
    with room:
        room[:1000] = data[70_000:71_000]
    assert framing.filled(1000) == []
    assert framing.feed(data[71_000:] + frame("client", PING)) == [payload, Ping(b"")]
    assert framing.room() is None


def test_only_text_is_false_whenever_something_else_is_among_the_deliveries():
    framing = Framing("client")
    for opcode, payload in ((PING, b""), (PONG, b""), (BINARY, b""), (BINARY, b"x" * LARGE)):
        data = frame("client", opcode, payload)
        for pieces in ([data], [data[:-1], data[-1:]], [data[:1], data[1:]]):
            for piece in pieces:
                framing.feed(piece)
            assert not framing.only_text
            framing.feed(frame("client", TEXT, b"{}"))
            assert framing.only_text


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("wide", [126, 127])
def test_lengths_need_not_be_minimal(role, wide):
    size = (5).to_bytes(2 if wide == 126 else 8, "big")
    short = frame(role, TEXT, b"hello")
    data = bytes((short[0], short[1] & 0x80 | wide)) + size + short[2:]
    assert deliveries(role, data + short) == [b"hello", b"hello"]


@given(st.binary(max_size=200), st.binary(min_size=4, max_size=4))
@example(b"a" * (64 * 1024), b"\x01\x02\x03\x04")
@example(b"a" * (64 * 1024 + 1), b"\x01\x02\x03\x04")
@example(bytes(range(256)) * 600 + b"odd", b"\x80\x00\xff\x7f")
def test_masking_is_the_exclusive_or_of_the_definition(payload, mask):
    masked = bytes(byte ^ mask[index % 4] for index, byte in enumerate(payload))
    encoded = bytes(encode(BINARY, payload, mask=mask))
    assert encoded[len(encoded) - len(payload) :] == masked
    assert encoded[len(encoded) - len(payload) - 4 :][:4] == mask
    assert deliveries("server", encoded) == [Binary(payload)]


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        (0, "8100"),
        (125, "817d"),
        (126, "817e007e"),
        (65_535, "817effff"),
        (65_536, "817f0000000000010000"),
    ],
)
def test_lengths_are_encoded_in_the_shortest_form(size, expected):
    encoded = bytes(encode(TEXT, b"x" * size))
    assert encoded == bytes.fromhex(expected) + b"x" * size
    masked = bytes(encode(TEXT, b"x" * size, mask=MASK))
    assert masked[1] == encoded[1] | 0x80
    assert len(masked) == len(encoded) + 4


def test_a_fragment_is_encoded_without_the_final_bit():
    assert encode(TEXT, b"", fin=False)[0] == 0x01
    assert encode(CONTINUATION, b"", fin=True)[0] == 0x80


# Breaches of the protocol.


def test_a_client_refuses_masked_frames_and_a_server_unmasked_ones():
    assert violation("client", frame("server", TEXT, b"x")) == Violation(1002, "a frame is masked")
    masked = violation("server", frame("client", TEXT, b"x"))
    assert masked == Violation(1002, "a frame is not masked")


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("bit", [0x40, 0x20, 0x10])
@pytest.mark.parametrize("opcode", [CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG])
def test_reserved_bits_are_refused(role, bit, opcode):
    good = frame(role, opcode)
    assert violation(role, bytes((good[0] | bit,)) + good[1:]).code == 1002


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("opcode", [3, 4, 5, 6, 7, 11, 12, 13, 14, 15])
def test_unknown_opcodes_are_refused(role, opcode):
    found = violation(role, frame(role, opcode))
    assert (found.code, str(opcode) in found.reason) == (1002, True)


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("opcode", [CLOSE, PING, PONG])
def test_control_frames_are_neither_fragmented_nor_long(role, opcode):
    assert violation(role, frame(role, opcode, fin=False)).code == 1002
    assert violation(role, frame(role, opcode, b"x" * 126)).code == 1002
    # Refused by its first two bytes, whatever the length would be.
    assert violation(role, frame(role, opcode, b"x" * 126)[:2]).code == 1002


@pytest.mark.parametrize("role", ROLES)
def test_a_continuation_needs_a_message_and_a_message_its_continuation(role):
    assert violation(role, frame(role, CONTINUATION, b"x")).code == 1002
    begun = frame(role, TEXT, b"x", fin=False)
    for opcode in (TEXT, BINARY):
        assert violation(role, begun + frame(role, opcode, b"y")).code == 1002
        assert violation(role, begun + frame(role, opcode, b"y", fin=False)).code == 1002


@pytest.mark.parametrize(("role", "masked"), [("client", 0), ("server", 0x80)])
def test_a_length_with_its_top_bit_set_is_refused(role, masked):
    data = header(0x81, masked | 127, (1 << 63 | 5).to_bytes(8, "big"))
    assert violation(role, data).code == 1002


@pytest.mark.parametrize(("role", "masked"), [("client", 0), ("server", 0x80)])
@pytest.mark.parametrize("opcode", [TEXT, BINARY])
def test_a_message_that_is_too_long_is_refused_by_its_header_alone(role, masked, opcode):
    limit = 1000
    whole = frame(role, opcode, b"x" * limit)
    assert len(deliveries(role, whole, max_message_bytes=limit)) == 1
    data = header(0x80 | opcode, masked | 126, (limit + 1).to_bytes(2, "big"))
    assert violation(role, data, max_message_bytes=limit).code == 1009
    huge = header(0x80 | opcode, masked | 127, (1 << 62).to_bytes(8, "big"))
    assert violation(role, huge, max_message_bytes=limit).code == 1009


def test_an_announced_length_takes_no_memory():
    framing = Framing("client")
    tracemalloc.start()
    try:
        assert framing.feed(header(0x81, 127, (100 * 2**20).to_bytes(8, "big"))) == []
        with framing.room() as room:
            assert len(room) >= 64 * 1024
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 2 * 2**20


def test_the_room_for_a_large_payload_at_most_doubles():
    framing = Framing("client")
    framing.feed(header(0x81, 127, (100 * 2**20).to_bytes(8, "big")))
    filled, rooms = 0, 0
    while filled < 8 * 2**20:
        with framing.room() as room:
            count = len(room)
        assert count <= max(256 * 1024, filled)
        filled += count
        rooms += 1
        assert framing.filled(count) == []
    assert rooms < 10


@pytest.mark.parametrize("role", ROLES)
def test_fragments_together_may_not_pass_the_limit(role):
    data = frame(role, TEXT, b"x" * 600, fin=False)
    assert deliveries(role, data + frame(role, CONTINUATION, b"x" * 400), max_message_bytes=1000)
    found = violation(
        role, data + frame(role, CONTINUATION, b"x" * 401)[:8], max_message_bytes=1000
    )
    assert found.code == 1009


@pytest.mark.parametrize("payload", [b"", b"x"])
def test_endless_fragments_are_refused(payload):
    framing = Framing("client", max_fragments=100)
    framing.feed(frame("client", TEXT, payload, fin=False))
    more = frame("client", CONTINUATION, payload, fin=False)
    assert framing.feed(more * 99) == []
    (found,) = framing.feed(more)
    assert found.code == 1009
    # The next message has a count of its own.
    framing = Framing("client", max_fragments=3)
    message = frame("client", TEXT, b"a", fin=False) + frame("client", CONTINUATION, b"b")
    assert framing.feed(message * 5) == [b"ab"] * 5


def test_which_of_two_faults_is_told_does_not_hang_on_the_cut():
    begun = frame("client", TEXT, fin=False) + frame("client", CONTINUATION, fin=False)
    data = begun + header(0x80, 127, (1 << 63).to_bytes(8, "big"))
    whole, single = (Framing("client", max_fragments=2) for _ in range(2))
    (told,) = whole.feed(data)
    assert told.code == 1009
    assert [item for at in range(len(data)) for item in single.feed(data[at : at + 1])] == [told]


INVALID = [b"\xff", b"\xc0\xaf", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xe2\x82", b"a\x80"]


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("payload", INVALID)
@pytest.mark.parametrize("padding", [0, 200, 70_000, LARGE])
def test_text_that_is_no_utf8_is_refused(role, payload, padding):
    data = frame(role, TEXT, b"x" * padding + payload)
    assert violation(role, data) == Violation(1007, "a text message is no UTF-8")
    assert deliveries(role, frame(role, BINARY, payload)) == [Binary(payload)]


@pytest.mark.parametrize("size", [5, LARGE])
def test_nothing_is_delivered_after_bad_text_in_the_same_bytes(size):
    bad, good = frame("client", TEXT, b"\xff" * size), frame("client", TEXT, b"good")
    framing = Framing("client")
    found = framing.feed(good + bad[:-2]) + framing.feed(bad[-2:] + good)
    assert found == [b"good", Violation(1007, "a text message is no UTF-8")]


@given(st.text(min_size=1, max_size=20), st.data())
def test_a_character_may_be_split_across_fragments(text, draws):
    payload = text.encode()
    parts = draws.draw(cut(payload))
    data = b"".join(
        frame("client", CONTINUATION if index else TEXT, part, fin=index == len(parts) - 1)
        for index, part in enumerate(parts)
    )
    assert deliveries("client", data) == [payload]


def test_bad_text_in_a_fragment_is_refused_before_the_message_ends():
    framing = Framing("client")
    assert framing.feed(frame("client", TEXT, b"\xce", fin=False)) == []
    assert framing.feed(frame("client", CONTINUATION, b"\xba", fin=False)) == []
    (found,) = framing.feed(frame("client", CONTINUATION, b"\xff", fin=False))
    assert found.code == 1007


def test_half_a_character_at_a_fragmented_messages_end_is_refused():
    data = frame("client", TEXT, b"a", fin=False) + frame("client", CONTINUATION, b"\xe2\x82")
    assert violation("client", data).code == 1007


def test_a_bad_fragmented_text_leaves_binary_alone():
    data = frame("client", BINARY, b"\xff", fin=False) + frame("client", CONTINUATION, b"\xfe")
    assert deliveries("client", data) == [Binary(b"\xff\xfe")]


# Closing.


@pytest.mark.parametrize("role", ROLES)
def test_a_close_without_a_code_reads_as_1005(role):
    assert deliveries(role, frame(role, CLOSE)) == [Close(1005, "")]


@pytest.mark.parametrize("code", [1000, 1001, 1002, 1003, *range(1007, 1015), 3000, 4000, 4999])
def test_codes_that_may_travel_are_taken(code):
    payload = code.to_bytes(2, "big") + "wörter".encode()
    assert deliveries("client", frame("client", CLOSE, payload)) == [Close(code, "wörter")]


@pytest.mark.parametrize("code", [0, 999, 1004, 1005, 1006, 1015, 1016, 2000, 2999, 5000, 65_535])
def test_codes_that_may_not_travel_are_refused(code):
    assert violation("client", frame("client", CLOSE, code.to_bytes(2, "big"))).code == 1002


def test_a_close_payload_of_one_byte_is_refused():
    assert violation("client", frame("client", CLOSE, b"\x03")).code == 1002


def test_a_close_reason_that_is_no_utf8_is_refused():
    assert violation("client", frame("client", CLOSE, b"\x03\xe8\xff")).code == 1007


@pytest.mark.parametrize("role", ROLES)
def test_nothing_comes_after_a_close(role):
    framing = Framing(role)
    ending, text = frame(role, CLOSE), frame(role, TEXT, b"x")
    assert framing.feed(text + ending + text) == [b"x", Close(1005, "")]
    assert framing.over
    assert framing.feed(text) == []
    assert framing.feed(frame(role, CLOSE)) == []


@given(st.sampled_from([1000, 1011, 3000]), st.text(max_size=200))
def test_a_close_reason_is_cut_between_characters(code, reason):
    (found,) = deliveries("client", bytes(encode_close(code, reason)))
    assert found.code == code
    assert reason.startswith(found.reason)
    assert len(found.reason.encode()) > 119 or found.reason == reason


def test_a_close_without_status_is_encoded_without_payload():
    assert bytes(encode_close(1005, "not sent")) == b"\x88\x00"
    assert deliveries("server", bytes(encode_close(1001, "bye", mask=MASK))) == [Close(1001, "bye")]


@given(st.sampled_from(ROLES), st.binary(max_size=300), st.data())
def test_any_bytes_give_the_same_however_they_are_cut(role, data, draws):
    whole = deliveries(role, data, max_message_bytes=100)
    framing, found = Framing(role, max_message_bytes=100), []
    for piece in draws.draw(cut(data)):
        found += framing.feed(piece)
    assert found == whole
    ends = [item for item in found if isinstance(item, (Close, Violation))]
    assert ends == (found[-1:] if framing.over else [])
