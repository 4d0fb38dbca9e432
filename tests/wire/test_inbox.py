"""The log of one turn: one writer, any readers, one end."""

from __future__ import annotations

import gc
import threading
import time
import weakref

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmws.errors import InboxOverflowError
from llmws.wire.inbox import Inbox, live_inboxes


def read_all(inbox, most=10**9):
    """Follow the log to its end, as a reader does."""
    items = []
    while some := inbox.read(len(items), most=most):
        items += some
    assert inbox.ended
    return items


def in_threads(*works):
    """Run each work in a thread; return what they returned, in order."""
    results = [None] * len(works)

    def run(index, work):
        results[index] = work()

    threads = [threading.Thread(target=run, args=each, daemon=True) for each in enumerate(works)]
    for thread in threads:
        thread.start()

    def join():
        for thread in threads:
            thread.join(20)
            assert not thread.is_alive(), "a reader was left waiting"
        return results

    return join


def until_waiting(inbox, count):
    """Return once so many threads wait; their number is guarded by the inbox's lock."""
    while inbox._monitor._waiting < count:
        with inbox._monitor.lock:
            pass


@given(st.lists(st.integers(0, 5), max_size=8), st.integers(1, 4))
def test_a_late_reader_sees_everything_in_order(sizes, most):
    inbox, expected = Inbox(), []
    for size in sizes:
        items = list(range(len(expected), len(expected) + size))
        inbox.extend(items, size)
        expected += items
    inbox.end()
    assert read_all(inbox, most) == expected == read_all(inbox)
    assert len(inbox) == len(expected)


@pytest.mark.parametrize("error", [None, ValueError("x")])
def test_four_readers_and_a_late_one_see_the_same(error):
    inbox = Inbox()
    readers = [lambda most=most: read_all(inbox, most) for most in (1, 2, 7, 10**9)]
    join = in_threads(*readers)
    for number in range(3000):
        inbox.extend([number, -number], 1)
    assert inbox.end(error)
    expected = [value for number in range(3000) for value in (number, -number)]
    assert join() == [expected] * 4
    assert read_all(inbox) == expected
    assert inbox.error is error


def test_readers_that_wait_are_woken_by_items_and_by_the_end():
    inbox = Inbox()
    join = in_threads(*[lambda: read_all(inbox)] * 3, lambda: inbox.wait_ended(None))
    until_waiting(inbox, 4)
    inbox.extend(["a"], 1)
    until_waiting(inbox, 4)
    inbox.end()
    assert join() == [["a"]] * 3 + [True]
    assert inbox._monitor._waiting == 0


def test_the_end_alone_wakes_everyone():
    inbox = Inbox()
    join = in_threads(*[lambda: read_all(inbox)] * 3, lambda: inbox.wait_ended(None))
    until_waiting(inbox, 4)
    inbox.end()
    assert join() == [[]] * 3 + [True]


def test_an_untimed_reader_is_woken_by_one_item():
    inbox = Inbox()
    join = in_threads(lambda: inbox.read(0), lambda: inbox.read(0))
    until_waiting(inbox, 2)
    inbox.extend(["a", "b"], 2)
    assert join() == [["a", "b"]] * 2


def test_it_ends_once_and_takes_nothing_more():
    inbox, first = Inbox(), ValueError("first")
    assert not inbox.ended
    assert inbox.end(first)
    assert not inbox.end(ValueError("second"))
    assert not inbox.end()
    assert inbox.extend(["late"], 1)
    assert (inbox.error, len(inbox), inbox.ended) == (first, 0, True)


def test_of_many_that_end_it_exactly_one_does():
    inbox, begin = Inbox(), threading.Barrier(8)

    def end():
        begin.wait(10)
        return inbox.end()

    assert sorted(in_threads(*[end] * 8)()) == [False] * 7 + [True]


def test_reading_returns_at_its_deadline():
    inbox = Inbox()
    assert inbox.read(0, time.monotonic()) == []
    assert inbox.read(0, time.monotonic() + 0.01) == []
    assert not inbox.wait_ended(time.monotonic() + 0.01)
    assert not inbox.ended
    inbox.extend(["a"], 1)
    assert inbox.read(0, 0.0) == ["a"]


@pytest.mark.parametrize(("limit", "fits"), [({"max_items": 3}, 3), ({"max_bytes": 30}, 3)])
def test_an_overflow_ends_it_and_takes_none_of_what_is_too_much(limit, fits):
    inbox = Inbox(**limit)
    for number in range(fits):
        assert inbox.extend([number], 10)
    join = in_threads(lambda: inbox.wait_ended(None))
    assert inbox.extend(["too", "much"], 20) is False
    assert join() == [True]
    assert read_all(inbox) == [0, 1, 2]
    assert isinstance(inbox.error, InboxOverflowError)
    assert (inbox.error.state, inbox.error.may_have_been_billed) == ("output", True)


def test_what_just_fits_is_taken():
    inbox = Inbox(max_items=2, max_bytes=10)
    assert inbox.extend(["a", "b"], 10)
    assert inbox.extend([], 0)
    assert not inbox.ended


def test_a_listener_hears_of_every_change_and_at_once():
    inbox, heard = Inbox(), []
    inbox.listen(lambda: heard.append((len(inbox), inbox.ended)))
    inbox.extend(["a"], 1)
    inbox.extend(["b", "c"], 2)
    inbox.end()
    inbox.end()
    assert heard == [(0, False), (1, False), (3, False), (3, True)]


def test_a_listener_that_comes_after_the_end_is_called_once():
    inbox, heard = Inbox(), []
    inbox.end()
    inbox.listen(lambda: heard.append(inbox.ended))
    inbox.extend(["late"], 1)
    assert heard == [True]


def test_a_listener_may_use_the_inbox_and_hears_of_an_overflow():
    inbox, heard = Inbox(max_items=1), []
    inbox.listen(lambda: heard.append(inbox.read(0, 0.0)))
    inbox.listen(lambda: inbox.listen(lambda: heard.append("inner")) if inbox.ended else None)
    inbox.extend(["a"], 1)
    inbox.extend(["b"], 1)
    assert heard == [[], ["a"], ["a"], "inner"]


def test_the_end_lets_go_of_listeners():
    class Listener:
        def __call__(self):
            pass

    inbox, listener = Inbox(), Listener()
    alive = weakref.ref(listener)
    inbox.listen(listener)
    del listener
    assert alive() is not None
    inbox.end()
    gc.collect()
    assert alive() is None


def test_a_listener_that_joins_while_items_come_misses_nothing():
    for _ in range(50):
        inbox, seen, begin = Inbox(), [], threading.Barrier(2)

        def write(inbox=inbox, begin=begin):
            begin.wait(10)
            for number in range(20):
                inbox.extend([number], 1)
            inbox.end()

        join = in_threads(write)
        begin.wait(10)
        inbox.listen(lambda inbox=inbox, seen=seen: seen.append((len(inbox), inbox.ended)))
        join()
        assert max(seen) == (20, True)


def test_a_child_ends_what_it_inherited_even_under_a_held_lock():
    inbox, heard = Inbox(), []
    inbox.listen(lambda: heard.append(1))
    inbox.extend(["a"], 1)
    inbox._monitor.lock.acquire()
    inbox.abandon_in_child(RuntimeError("forked"))
    assert read_all(inbox) == ["a"]
    assert str(inbox.error) == "forked"
    assert len(heard) == 2


def test_a_child_leaves_an_ended_log_as_it_was():
    inbox = Inbox()
    inbox.end()
    inbox.abandon_in_child(RuntimeError("forked"))
    assert inbox.error is None


def test_inboxes_are_known_while_they_live():
    inbox = Inbox()
    assert inbox in live_inboxes
    alive = weakref.ref(inbox)
    del inbox
    gc.collect()
    assert alive() is None


def test_a_repr_shows_sizes_and_no_content():
    inbox = Inbox()
    inbox.extend(["secret"], 6)
    assert repr(inbox) == "<Inbox items=1 bytes=6>"
    inbox.end(ValueError("why"))
    assert repr(inbox) == "<Inbox items=1 bytes=6 ended=ValueError('why')>"
