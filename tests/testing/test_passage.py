"""One direction of a proxied connection, piece by piece and without a clock."""

import socket
from collections import deque

import pytest

from llmws.testing.passage import Pipe
from tests.wire.harness import FakeSocket


class Sink(FakeSocket):
    """A sink that remembers the pieces it was given."""

    def __init__(self, *room):
        super().__init__()
        self.room = deque(room)
        self.pieces = []
        self.ended = False

    def send(self, data):
        count = super().send(data)
        self.pieces.append(bytes(data[:count]))
        return count

    def shutdown(self, how):
        assert how == socket.SHUT_WR
        self.ended = True


def filled(data=b"abcdefg", **shape):
    pipe = Pipe()
    for name, value in shape.items():
        setattr(pipe, name, value)
    pipe.read(FakeSocket(data), 0.0)
    return pipe


def test_a_split_pipe_writes_single_bytes():
    pipe, sink = filled(size=1), Sink()
    pipe.write(sink, 0.0, None)
    assert sink.pieces == [b"a", b"b", b"c", b"d", b"e", b"f", b"g"]


def test_a_delayed_pipe_writes_when_it_is_due():
    pipe, sink = filled(delay=2.0), Sink()
    pipe.write(sink, 1.9, None)
    assert (sink.pieces, pipe.due) == ([], 2.0)
    pipe.write(sink, 2.0, None)
    assert sink.sent == b"abcdefg"


def test_a_throttled_pipe_keeps_to_its_rate():
    pipe, sink = filled(b"x" * 1000, rate=1000.0), Sink()
    now = 0.0
    while pipe.due is not None:
        now = max(now, pipe.due)
        pipe.write(sink, now, None)
        assert len(sink.sent) <= 1000.0 * now + 10.5
    assert now == pytest.approx(0.99)


def test_a_full_sink_is_waited_for():
    pipe, sink = filled(), Sink(2, BlockingIOError())
    pipe.write(sink, 0.0, None)
    assert (sink.sent, pipe.blocked, pipe.due) == (b"ab", True, None)
    pipe.blocked = False
    pipe.write(sink, 0.0, None)
    assert sink.sent == b"abcdefg"


def test_a_pipe_that_holds_enough_makes_its_source_wait():
    pipe = Pipe()
    while pipe.wants_bytes:
        pipe.read(FakeSocket(b"x" * 65536), 0.0)
    assert pipe.taken_bytes == 2**20
    pipe.write(Sink(), 0.0, None)
    assert pipe.wants_bytes


def test_a_reset_waits_for_what_is_held_unless_that_does_not_move():
    pipe, sink = filled(), Sink(2, BlockingIOError())
    pipe.read(FakeSocket(ConnectionResetError()), 0.0)
    assert not pipe.reset_is_due
    pipe.write(sink, 0.0, None)
    assert pipe.reset_is_due
    pipe.blocked = False
    assert not pipe.reset_is_due
    pipe.write(sink, 0.0, None)
    assert (sink.sent, pipe.reset_is_due) == (b"abcdefg", True)


def test_an_end_comes_behind_what_is_held():
    pipe, sink = filled(delay=1.0), Sink()
    pipe.read(FakeSocket(b""), 0.5)
    pipe.write(sink, 1.0, None)
    assert (sink.sent, sink.ended) == (b"abcdefg", False)
    pipe.write(sink, 1.5, None)
    assert (sink.ended, pipe.done) == (True, True)
