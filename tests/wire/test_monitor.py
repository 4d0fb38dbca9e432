"""Waiting for another thread's state."""

import threading
import time

import pytest

from llmws.wire.monitor import Monitor


WAIT = 10.0


def waiter(monitor, arrived, ended):
    thread = threading.Thread(target=lambda: ended.append(monitor.wait_for(arrived)), daemon=True)
    thread.start()
    return thread


def test_what_is_so_already_is_not_waited_for():
    assert Monitor().wait_for(lambda: True, time.monotonic() - 1.0)


def test_a_deadline_that_has_passed_ends_the_wait():
    assert not Monitor().wait_for(lambda: False, time.monotonic())


def test_every_waiter_is_woken():
    monitor, so, ended = Monitor(), threading.Event(), []
    threads = [waiter(monitor, so.is_set, ended) for _ in range(4)]
    deadline = time.monotonic() + WAIT
    while monitor._waiting < 4:
        assert time.monotonic() < deadline
    with monitor.lock:
        so.set()
        monitor.notify()
    for thread in threads:
        thread.join(WAIT)
    assert ended == [True] * 4
    assert monitor._waiting == 0


def test_what_comes_between_the_look_and_the_wait_is_not_missed():
    monitor, looks = Monitor(), []

    def arrived():
        # Called with the lock held: nobody can change anything between this and the wait.
        looks.append(monitor.lock._is_owned())
        return len(looks) > 1

    monitor._changed.wait = lambda left: None
    assert monitor.wait_for(arrived)
    assert looks == [True, True]


def test_an_interrupt_in_the_wait_comes_through_and_leaves_the_lock_free():
    monitor = Monitor()

    def interrupted(left):
        monitor.lock.release()
        raise KeyboardInterrupt

    monitor._changed.wait = interrupted
    with pytest.raises(KeyboardInterrupt):
        monitor.wait_for(lambda: False)
    free = []
    thread = threading.Thread(target=lambda: free.append(monitor.lock.acquire(timeout=WAIT)))
    thread.start()
    thread.join(WAIT)
    assert free == [True]
    assert monitor._waiting == 0


def test_a_condition_is_never_entered_by_its_own_enter():
    monitor = Monitor()

    class Refuses(threading.Condition):
        def __enter__(self):
            raise AssertionError("An interrupt here would leave the lock held for ever.")

    monitor._changed = Refuses(monitor.lock)
    assert not monitor.wait_for(lambda: False, time.monotonic())
    with monitor.lock:
        monitor.notify()
