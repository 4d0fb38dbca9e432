"""Waiting for another thread's state."""

import random
import signal
import threading
import time

import pytest

from llmws.wire import monitor as monitors
from llmws.wire.monitor import Gate, Monitor


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


def slept(monitor, deadline):
    """Return how long a wait that is woken once would have slept, with and without a deadline of its own."""
    looks, sleeps = iter([False, True]), []
    monitor._changed.wait = sleeps.append
    assert monitor.wait_for(lambda: next(looks), deadline)
    return sleeps


def test_the_main_thread_sleeps_in_slices_and_no_other_does():
    later = time.monotonic() + 3600.0
    assert slept(Monitor(), None) == slept(Monitor(), later) == [monitors._SLICE_SECONDS]
    found = []
    thread = threading.Thread(target=lambda: found.extend(slept(Monitor(), None)))
    thread.start()
    thread.join(WAIT)
    assert found == [None]


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="this system has no timers")
def test_a_signal_that_strikes_as_the_main_thread_falls_asleep_is_noticed(monkeypatch):
    # Python looks for signals, and then sleeps: one that comes in between waits until the sleeper wakes by itself.
    monkeypatch.setattr(monitors, "_SLICE_SECONDS", 0.01)
    monitor, choose, struck = Monitor(), random.Random(1), threading.Event()
    previous = signal.signal(signal.SIGALRM, lambda *_: struck.set())
    try:
        for _ in range(60):
            struck.clear()
            begun = time.monotonic()
            signal.setitimer(signal.ITIMER_REAL, choose.uniform(5e-6, 60e-6))
            monitor.wait_for(struck.is_set, begun + 2.0)
            assert time.monotonic() - begun < 2.0, "it slept on"
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)


def test_a_gate_lets_everybody_through_once_it_is_open():
    gate, passed = Gate(), []
    assert not gate.wait(0.0)
    threads = [
        threading.Thread(target=lambda: passed.append(gate.wait()), daemon=True) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    gate.set()
    for thread in threads:
        thread.join(WAIT)
    assert passed == [True] * 4
    assert gate.is_set()
    assert gate.wait(0.0)


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="this system has no timers")
def test_a_signal_handler_may_wait_at_the_gate_where_it_strikes_another_wait():
    choose, gates = random.Random(1), [Gate()]

    def strike(*_):
        gates[-1].wait(0.0001)
        gates[-1].set()

    previous = signal.signal(signal.SIGALRM, strike)
    try:
        for _ in range(300):
            gates.append(Gate())
            signal.setitimer(signal.ITIMER_REAL, choose.uniform(5e-6, 60e-6))
            while not gates[-1].wait(0.00001):
                pass
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)
