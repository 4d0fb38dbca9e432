"""Threads for user code."""

from __future__ import annotations

import logging
import threading
import time

import pytest

from llmws.wire import callbacks
from llmws.wire.callbacks import CallbackThreads, Strand


WAIT = 20.0


@pytest.fixture
def group():
    return CallbackThreads("test-callbacks", 3)


def group_threads():
    return [thread for thread in threading.enumerate() if thread.name.startswith("test-callbacks")]


@pytest.fixture(autouse=True)
def nothing_left(monkeypatch):
    """Let idle threads end soon, and wait for them, so that no test sees another's."""
    monkeypatch.setattr(callbacks, "_IDLE_SECONDS", 0.05)
    yield
    for thread in group_threads():
        thread.join(WAIT)
        assert not thread.is_alive()


def test_work_is_done_on_a_daemon_thread_of_the_group(group):
    seen, done = [], threading.Event()

    def work():
        thread = threading.current_thread()
        seen.append((thread.name, thread.daemon, group.on_own_thread))
        done.set()

    group.schedule(Strand(work))
    assert done.wait(WAIT)
    assert seen == [("test-callbacks-1", True, True)]
    assert not group.on_own_thread


def test_one_strand_is_never_run_twice_at_once_and_misses_nothing(group):
    running, most, news, seen = 0, 0, [], []
    done = threading.Event()

    def work():
        nonlocal running, most
        running += 1
        most = max(most, running)
        while len(seen) < len(news):
            seen.append(news[len(seen)])
        running -= 1
        if len(seen) == 4000:
            done.set()

    strand = Strand(work)

    def tell():
        for number in range(1000):
            news.append(number)
            group.schedule(strand)

    threads = [threading.Thread(target=tell) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(WAIT)
    assert done.wait(WAIT)
    assert (most, seen) == (1, news)


def test_strands_run_in_parallel_up_to_the_limit(group):
    together, release, fourth = threading.Barrier(4), threading.Event(), threading.Event()

    def work():
        together.wait(WAIT)
        release.wait(WAIT)

    for _ in range(3):
        group.schedule(Strand(work))
    together.wait(WAIT)  # All three run now.
    group.schedule(Strand(fourth.set))
    assert len(group_threads()) == 3
    assert not fourth.is_set()
    release.set()
    assert fourth.wait(WAIT)


def test_work_may_schedule_itself_and_others(group):
    order, done = [], threading.Event()

    def first():
        order.append("first")
        group.schedule(other)
        if len(order) < 3:
            group.schedule(strand)

    def second():
        order.append("second")
        if order.count("second") == 2:
            done.set()

    strand, other = Strand(first), Strand(second)
    group.schedule(strand)
    assert done.wait(WAIT)
    assert order.count("first") == 2


def test_work_that_raises_costs_nobody_a_thread(group, caplog):
    done = threading.Event()

    def bad():
        raise SystemExit("on purpose")

    with caplog.at_level(logging.ERROR, "llmws.wire.callbacks"):
        for _ in range(10):
            group.schedule(Strand(bad))
        group.schedule(Strand(done.set))
        assert done.wait(WAIT)
    assert "callbacks could not be run" in caplog.text
    strand = Strand(bad)
    group.schedule(strand)
    assert group.take_over(strand, None)


def test_threads_end_when_there_is_nothing_to_do_and_come_back(group):
    for _ in range(2):
        done = threading.Event()
        group.schedule(Strand(done.set))
        assert done.wait(WAIT)
        for thread in group_threads():
            thread.join(WAIT)
        assert group_threads() == []
        assert repr(group) == "<CallbackThreads test-callbacks threads=0/3 idle=0>"


def test_an_idle_thread_is_used_again(group):
    group._idle_seconds = 1.0
    names = []
    for _ in range(5):
        done = threading.Event()

        def work(done=done):
            names.append(threading.get_ident())
            done.set()

        group.schedule(Strand(work))
        assert done.wait(WAIT)
        deadline = time.monotonic() + WAIT
        while group._idle == 0 and time.monotonic() < deadline:
            with group._monitor.lock:
                pass
    assert len(set(names)) == 1
    group.retire()


def test_who_takes_a_strand_over_is_alone_with_it(group):
    ran = threading.Event()
    strand = Strand(ran.set)
    assert group.take_over(strand, None)
    assert strand.owner == threading.get_ident()
    group.schedule(strand)
    other = threading.Event()
    group.schedule(Strand(other.set))
    assert other.wait(WAIT)
    assert not ran.is_set()
    group.give_back(strand)
    assert ran.wait(WAIT)


def test_a_strand_taken_over_while_it_stood_in_line_is_run_afterwards(group):
    hold, ran = threading.Event(), threading.Event()
    busy = threading.Barrier(4)

    def work():
        busy.wait(WAIT)
        hold.wait(WAIT)

    for _ in range(3):
        group.schedule(Strand(work))
    busy.wait(WAIT)
    strand = Strand(ran.set)
    group.schedule(strand)
    assert group.take_over(strand, None)
    hold.set()
    other = threading.Event()
    group.schedule(Strand(other.set))
    assert other.wait(WAIT)
    assert not ran.is_set()
    group.give_back(strand)
    assert ran.wait(WAIT)


def test_taking_over_waits_for_the_thread_that_runs_it(group):
    started, hold, taken = threading.Event(), threading.Event(), threading.Event()

    def work():
        started.set()
        hold.wait(WAIT)

    strand = Strand(work)
    group.schedule(strand)
    assert started.wait(WAIT)
    assert not group.take_over(strand, 0.0)

    def take():
        assert group.take_over(strand, None)
        taken.set()

    thread = threading.Thread(target=take, daemon=True)
    thread.start()
    assert not taken.is_set()
    hold.set()
    assert taken.wait(WAIT)


def test_work_is_not_held_up_by_one_who_waits_to_take_over(group):
    # Were the wake-up for new work given to the waiter instead of an idle thread, it would be lost.
    group._idle_seconds = 5.0
    hold, started, idle, done = (threading.Event() for _ in range(4))

    def work():
        started.set()
        hold.wait(WAIT)

    deadline, waiters = time.monotonic() + WAIT, group._monitor._changed._waiters

    def until(met):
        while not met():
            assert time.monotonic() < deadline
            with group._monitor.lock:
                pass

    strand = Strand(work)
    group.schedule(strand)
    assert started.wait(WAIT)
    group.schedule(Strand(idle.set))
    assert idle.wait(WAIT)
    until(lambda: len(waiters) == 1)  # The second thread idles.
    thread = threading.Thread(target=group.take_over, args=(strand, None), daemon=True)
    thread.start()
    until(lambda: len(waiters) == 2)
    taker = waiters[1]
    with group._monitor.lock:
        group._monitor._changed.notify()  # The idle thread looks around, and waits again behind the taker.
    until(lambda: len(waiters) == 2 and waiters[0] is taker)
    begun = time.monotonic()
    group.schedule(Strand(done.set))
    assert done.wait(WAIT)
    assert time.monotonic() - begun < 4.0
    hold.set()
    thread.join(WAIT)
    group.retire()


@pytest.mark.parametrize(
    ("words", "is_told"),
    [
        ("can't start new thread", True),
        # What Python 3.12 and later say while a process ends, on whose stderr it would be noise.
        ("can't create new thread at interpreter shutdown", False),
    ],
)
def test_a_system_without_threads_costs_the_caller_nothing_and_no_work(
    group, monkeypatch, caplog, words, is_told
):
    done = threading.Event()
    with monkeypatch.context() as context:

        def refuse(thread):
            raise RuntimeError(words)

        context.setattr(threading.Thread, "start", refuse)
        group.schedule(Strand(done.set))
    assert ("no thread for callbacks" in caplog.text) is is_told
    other = threading.Event()
    group.schedule(Strand(other.set))
    assert other.wait(WAIT)
    assert done.wait(WAIT)


def test_work_that_no_thread_could_be_had_for_is_done_when_it_is_scheduled_again(
    group, monkeypatch
):
    done = threading.Event()
    strand = Strand(done.set)
    with monkeypatch.context() as context:

        def refuse(thread):
            raise RuntimeError("can't start new thread")

        context.setattr(threading.Thread, "start", refuse)
        group.schedule(strand)
    group.schedule(strand)
    assert done.wait(WAIT)


def until_idle(group, count=1):
    deadline = time.monotonic() + WAIT
    while group._idle < count:
        assert time.monotonic() < deadline
        with group._monitor.lock:
            pass


def test_a_retired_groups_idle_threads_end_at_once(group):
    group._idle_seconds = 3600.0
    together = threading.Barrier(3)
    for _ in range(2):
        group.schedule(Strand(lambda: together.wait(WAIT)))
    together.wait(WAIT)
    until_idle(group, 2)
    threads = group_threads()
    assert len(threads) == 2
    group.retire()
    for thread in threads:
        thread.join(5.0)
        assert not thread.is_alive()
    assert repr(group) == "<CallbackThreads test-callbacks threads=0/3 idle=0>"


def test_a_thread_that_works_when_its_group_retires_ends_after_its_work_and_what_is_in_line():
    group = CallbackThreads("test-callbacks", 1)
    group._idle_seconds = 3600.0
    started, hold, second = (threading.Event() for _ in range(3))
    group.schedule(Strand(lambda: (started.set(), hold.wait(WAIT))))
    group.schedule(Strand(second.set))
    assert started.wait(WAIT)
    group.retire()
    (thread,) = group_threads()
    assert not second.is_set()
    hold.set()
    thread.join(5.0)
    assert not thread.is_alive()
    assert second.is_set()


def test_work_that_comes_after_the_retirement_is_done_and_leaves_no_thread(group):
    group._idle_seconds = 3600.0
    group.retire()
    for _ in range(3):
        done = threading.Event()
        group.schedule(Strand(done.set))
        assert done.wait(WAIT)
    for thread in group_threads():
        thread.join(5.0)
        assert not thread.is_alive()
