"""Frames that wait to be written."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from llmws.wire.outbox import Outbox


def drain(outbox, most=10**6, **options):
    """Write everything, at most so many bytes at a time; return the bytes and what was noted."""
    written, noted = b"", []
    while (pending := outbox.next_bytes(**options)) is not None:
        piece = bytes(pending[:most])
        written += piece
        frame, first = outbox.wrote(len(piece))
        noted.append((frame.key, first, frame.finished))
    return written, noted


def test_an_empty_outbox_has_nothing_to_write():
    outbox = Outbox()
    assert outbox.next_bytes() is None
    assert outbox.wrote(5) is None
    assert len(outbox) == 0
    assert not outbox.begun


def test_messages_are_written_in_order_and_tell_their_first_and_last_byte():
    outbox = Outbox()
    outbox.add_message(b"abc", "one")
    outbox.add_message(b"de", "two")
    assert len(outbox) == 2
    assert drain(outbox, most=2) == (
        b"abcde",
        [("one", True, False), ("one", False, True), ("two", True, True)],
    )
    assert len(outbox) == 0


def test_a_message_in_pieces_is_one_frame_and_each_piece_is_built_when_it_is_due():
    built = []

    def pieces():
        for piece in (b"abc", b"de", b"f"):
            built.append(piece)
            yield piece

    outbox = Outbox()
    outbox.add_message(pieces(), "one")
    outbox.add_message(b"gh", "two")
    assert bytes(outbox.next_bytes()) == b"abc"
    outbox.wrote(3)
    assert built == [b"abc", b"de"]
    outbox.add_control(b"<ping>")
    outbox.withdraw("one")  # Too late: it has begun.
    written, noted = drain(outbox, most=1)
    assert written == b"def<ping>gh"
    assert [key for key, first, finished in noted if finished] == ["one", None, "two"]
    assert [key for key, first, finished in noted if first] == [None, "two"]


def test_control_frames_go_before_messages_but_never_into_one():
    outbox = Outbox()
    outbox.add_message(b"first", 1)
    outbox.add_message(b"second", 2)
    outbox.next_bytes()
    outbox.wrote(2)
    outbox.add_control(b"<ping>", ping=True)
    assert outbox.begun
    assert drain(outbox)[0] == b"rst<ping>second"


def test_a_message_that_was_looked_at_and_not_begun_keeps_its_place():
    outbox = Outbox()
    outbox.add_message(b"first", 1)
    assert bytes(outbox.next_bytes()) == b"first"
    outbox.add_control(b"<ping>")
    assert not outbox.begun
    assert drain(outbox)[0] == b"first<ping>"


def test_a_message_that_tls_has_taken_has_begun_and_cannot_be_withdrawn():
    outbox = Outbox()
    outbox.add_message(b"first", 1)
    outbox.next_bytes()
    frame, first = outbox.wrote(0)
    assert (frame.key, frame.begun, frame.finished, first) == (1, True, False, True)
    outbox.withdraw(1)
    outbox.clear()
    assert bytes(outbox.next_bytes()) == b"first"
    assert outbox.wrote(5)[1] is False


def test_a_ping_says_so_when_it_is_written():
    outbox = Outbox()
    outbox.add_control(b"pong")
    outbox.add_control(b"ping", ping=True)
    outbox.next_bytes()
    assert not outbox.wrote(4)[0].ping
    outbox.next_bytes()
    frame, first = outbox.wrote(4)
    assert (frame.ping, frame.key, first, frame.finished) == (True, None, True, True)


def test_held_messages_wait_and_control_frames_do_not():
    outbox = Outbox()
    outbox.add_message(b"message", 1)
    assert outbox.next_bytes(hold_messages=True) is None
    outbox.add_control(b"<pong>")
    assert drain(outbox, hold_messages=True)[0] == b"<pong>"
    assert drain(outbox)[0] == b"message"


def test_a_message_that_has_begun_is_not_held():
    outbox = Outbox()
    outbox.add_message(b"message", 1)
    outbox.next_bytes()
    outbox.wrote(3)
    assert drain(outbox, hold_messages=True)[0] == b"sage"


def test_a_withdrawn_message_is_not_written_and_others_are():
    outbox = Outbox()
    for key in (1, 2, 3):
        outbox.add_message(b"message %d." % key, key)
    outbox.next_bytes()
    outbox.withdraw(1)
    outbox.withdraw(3)
    outbox.withdraw(4)
    assert drain(outbox)[0] == b"message 2."


def test_a_message_that_has_begun_cannot_be_withdrawn_nor_cleared():
    outbox = Outbox()
    outbox.add_message(b"message", 1)
    outbox.add_message(b"other", 2)
    outbox.add_control(b"<>")
    assert drain(outbox, hold_messages=True)[0] == b"<>"
    outbox.next_bytes()
    outbox.wrote(1)
    outbox.withdraw(1)
    outbox.clear()
    assert drain(outbox)[0] == b"essage"


def test_keys_are_told_apart_by_identity():
    outbox = Outbox()
    one, same = [1], [1]
    outbox.add_message(b"one", one)
    outbox.withdraw(same)
    assert drain(outbox)[0] == b"one"


def test_clearing_forgets_what_has_not_begun():
    outbox = Outbox()
    outbox.add_message(b"message", 1)
    outbox.add_control(b"<>")
    outbox.next_bytes()
    outbox.clear()
    assert (len(outbox), outbox.next_bytes()) == (0, None)


def test_abandoning_forgets_everything():
    outbox = Outbox()
    outbox.add_message(b"message", 1)
    outbox.next_bytes()
    outbox.wrote(1)
    outbox.add_control(b"<>")
    outbox.abandon()
    assert (len(outbox), outbox.next_bytes(), outbox.begun) == (0, None, False)


def test_a_flood_of_control_frames_stays_bounded_and_keeps_the_newest():
    outbox = Outbox()
    for number in range(10_000):
        outbox.add_control(b"%05d" % number)
    assert len(outbox) == 256
    assert drain(outbox)[0].endswith(b"0025409999")


@given(
    st.lists(st.tuples(st.booleans(), st.binary(min_size=1, max_size=8)), max_size=12),
    st.integers(1, 9),
)
def test_every_frame_is_written_whole_and_once(frames, most):
    outbox, noted = Outbox(), []

    def write():
        pending = outbox.next_bytes()
        if pending is None:
            return False
        piece = bytes(pending[:most])
        frame, first = outbox.wrote(len(piece))
        noted.append((frame, first, piece))
        return True

    for number, (control, data) in enumerate(frames):
        if control:
            outbox.add_control(data)
        else:
            outbox.add_message(data, number)
        assert write()
    while write():
        pass
    # Each frame's pieces follow each other, and only the first of them is told to be the first.
    whole = []
    for frame, first, piece in noted:
        if first:
            whole.append([frame, b""])
        assert whole[-1][0] is frame
        whole[-1][1] += piece
    assert sorted(piece for _, piece in whole) == sorted(data for _, data in frames)
    messages = [(number, data) for number, (control, data) in enumerate(frames) if not control]
    assert [(frame.key, data) for frame, data in whole if frame.key is not None] == messages
