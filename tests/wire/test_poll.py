"""What wakes the I/O thread, on real sockets."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator

import pytest

from llmws.wire.poll import SelectorPoll


@pytest.fixture
def poll() -> Iterator[SelectorPoll]:
    poll = SelectorPoll()
    yield poll
    poll.close()


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    theirs.setblocking(False)
    with ours, theirs:
        yield ours, theirs


def test_a_wake_before_the_wait_ends_it(poll):
    poll.wake()
    assert poll.wait(None, write=False) == (False, False)


def test_a_wake_during_the_wait_ends_it(poll):
    threads = [threading.Thread(target=poll.wake) for _ in range(5)]
    for thread in threads:
        thread.start()
    poll.wait(None, write=False)
    for thread in threads:
        thread.join(10)


def test_wakes_coalesce_into_one_byte(poll):
    for _ in range(1000):
        poll.wake()
    assert poll._ear.recv(4096) == b"\0"


def test_every_wake_after_a_wait_counts_again(poll):
    for _ in range(100):
        poll.wake()
        poll.wait(None, write=False)
    with pytest.raises(BlockingIOError):
        poll._ear.recv(1)
    poll.wait(0, write=False)


def test_no_wake_is_lost_however_many_threads_ring(poll):
    posts, done = [], threading.Event()

    def ring(number):
        for count in range(12_500):
            posts.append((number, count))
            poll.wake()

    threads = [threading.Thread(target=ring, args=(number,), daemon=True) for number in range(8)]
    taken = 0

    def listen():
        nonlocal taken
        while taken < 100_000:
            # An untimed wait: a lost wake would hang here.
            poll.wait(None, write=False)
            taken = len(posts)
        done.set()

    listener = threading.Thread(target=listen, daemon=True)
    for thread in (listener, *threads):
        thread.start()
    for thread in threads:
        thread.join(30)
        assert not thread.is_alive(), "a wake blocked"
    assert done.wait(30)


def test_a_hundred_thousand_wakes_block_nobody_though_none_listens(poll):
    def ring():
        for _ in range(12_500):
            poll._rung = False  # As if each had been heard and its byte left in the pipe.
            poll.wake()

    threads = [threading.Thread(target=ring, daemon=True) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
        assert not thread.is_alive()
    while len(poll._ear.recv(1 << 20)) == 1 << 20:
        pass
    assert poll.wait(0, write=False) == (False, False)


class Ear:
    """An ear on which somebody rings at the worst moment."""

    def __init__(self, ear, ring):
        self.ear, self.ring = ear, ring

    def recv(self, size):
        self.ring()
        return self.ear.recv(size)


def test_a_wake_while_the_bell_is_hushed_does_not_silence_the_next_one(poll):
    poll.wake()
    ear, poll._ear = poll._ear, Ear(poll._ear, poll.wake)
    poll._hush()
    poll._ear = ear
    poll.wake()
    assert ear.recv(10) == b"\0"


class Bell:
    """A bell whose ringer is interrupted."""

    def __init__(self, bell):
        self.bell = bell

    def send(self, data):
        raise KeyboardInterrupt

    def close(self):
        self.bell.close()


def test_an_interrupted_wake_does_not_silence_the_next_one(poll):
    bell, poll._bell = poll._bell, Bell(poll._bell)
    with pytest.raises(KeyboardInterrupt):
        poll.wake()
    poll._bell = bell
    poll.wake()
    assert poll._ear.recv(10) == b"\0"


def test_a_watched_socket_is_seen_until_it_is_unwatched(poll, pair):
    ours, theirs = pair
    poll.watch(ours)
    assert poll.wait(0, write=False) == (False, False)
    assert poll.wait(None, write=True) == (False, True)
    assert poll.wait(0, write=False) == (False, False)
    theirs.send(b"x")
    assert poll.wait(None, write=False) == (True, False)
    assert poll.wait(None, write=True) == (True, True)
    poll.unwatch(ours)
    assert poll.wait(0, write=True) == (False, False)


def test_a_second_socket_starts_without_interest_in_writing(poll, pair):
    ours, theirs = pair
    poll.watch(ours)
    poll.wait(0, write=True)
    poll.unwatch(ours)
    poll.watch(theirs)
    assert poll.wait(0, write=True) == (False, True)
    assert poll.wait(0, write=False) == (False, False)


def is_open(descriptor):
    try:
        os.fstat(descriptor)
    except OSError:
        return False
    return True


@pytest.mark.parametrize("end", ["close", "abandon"])
def test_its_descriptors_are_released_and_a_late_wake_is_harmless(end):
    poll = SelectorPoll()
    descriptors = [poll._ear.fileno(), poll._bell.fileno(), poll._selector.fileno()]
    assert all(map(is_open, descriptors))
    getattr(poll, end)()
    assert not any(map(is_open, descriptors))
    poll.wake()
    poll.wake()


def test_abandoning_leaves_the_watched_socket_to_its_owner(pair):
    ours, _ = pair
    poll = SelectorPoll()
    poll.watch(ours)
    poll.abandon()
    assert is_open(ours.fileno())
