"""One dial at a time, and what becomes of one that nobody waits for."""

from __future__ import annotations

import threading
from types import SimpleNamespace

import pytest

from llmws.errors import ConnectError, ConnectTimeout
from llmws.wire.dialling import Dialling, DialResult, spawn_thread
from tests.wire.harness import FakeSocket


class Desk:
    """A ``Dialling`` whose threads run when the test says so."""

    def __init__(self, outcome=None):
        self.outcome = outcome
        self.dials, self.posts, self.spawned = [], [], []
        self.dialling = Dialling(
            self.dial, self.posts.append, lambda name, target: self.spawned.append((name, target))
        )

    def dial(self, timeout, abandoned):
        self.dials.append((timeout, abandoned))
        if isinstance(self.outcome, BaseException):
            raise self.outcome
        return self.outcome

    def run(self, number=0):
        self.spawned[number][1]()
        return self.posts[-1]


def found(early=b""):
    return SimpleNamespace(sock=FakeSocket(), early=early)


def test_a_dial_runs_on_a_thread_of_its_own_and_posts_its_socket():
    desk = Desk(found(b"early"))
    desk.dialling.start("name-dial", 100.0, 5.0)
    assert [name for name, _ in desk.spawned] == ["name-dial"]
    assert desk.dials == []
    result = desk.run()
    assert desk.dials[0][0] == 5.0
    assert (result.attempt, result.sock, result.early, result.error) == (
        1,
        desk.outcome.sock,
        b"early",
        None,
    )
    assert desk.dialling.accept(result)
    assert not result.sock.closed
    assert desk.dialling.deadline is None


def test_a_failed_dial_posts_its_error():
    desk = Desk(ConnectTimeout("too long"))
    desk.dialling.start("name", 100.0, 5.0)
    result = desk.run()
    assert (result.sock, result.error) == (None, desk.outcome)
    assert desk.dialling.accept(result)


def test_what_user_code_raises_becomes_a_final_error_without_its_frames():
    key = "canary-5b1f"

    def credentials():
        secret = key  # A frame that holds it must not be kept.
        raise ValueError("no key today" if secret else "")

    desk = Desk()
    desk.dial = lambda timeout, abandoned: credentials()
    desk.dialling = Dialling(
        desk.dial, desk.posts.append, lambda name, target: desk.spawned.append((name, target))
    )
    desk.dialling.start("name", 100.0, 5.0)
    error = desk.run().error
    assert type(error) is ConnectError
    assert not error.retryable
    assert "no key today" in str(error)
    assert isinstance(error.__cause__, ValueError)
    assert error.__cause__.__traceback__ is None
    assert key not in repr((error, error.__cause__))


def test_a_dial_is_overdue_a_little_after_its_time_and_once():
    desk = Desk()
    desk.dialling.start("name", 100.0, 10.0)
    deadline = desk.dialling.deadline
    assert 110.0 < deadline < 111.0
    assert desk.dialling.overdue(deadline - 0.01) is None
    error = desk.dialling.overdue(deadline)
    assert type(error) is ConnectTimeout
    assert "10.0 s" in str(error)
    assert desk.dialling.deadline is None
    assert desk.dialling.overdue(deadline + 100) is None


def test_a_dial_without_a_limit_is_never_overdue():
    desk = Desk()
    desk.dialling.start("name", 100.0, None)
    assert desk.dialling.deadline is None
    assert desk.dialling.overdue(10**9) is None


@pytest.mark.parametrize("how", ["overdue", "abandon"])
def test_an_abandoned_dial_is_told_so_and_its_late_socket_is_closed(how):
    desk = Desk(found())
    desk.dialling.start("name", 100.0, 5.0)
    result = desk.run()
    abandoned = desk.dials[0][1]
    assert not abandoned.is_set()
    if how == "overdue":
        assert desk.dialling.overdue(200.0)
    else:
        desk.dialling.abandon()
    assert abandoned.is_set()
    assert not desk.dialling.accept(result)
    assert result.sock.closed


def test_the_result_of_an_earlier_dial_is_not_taken_for_the_one_under_way():
    desk = Desk(found())
    desk.dialling.start("name", 100.0, 5.0)
    desk.dialling.overdue(200.0)
    desk.dialling.start("name", 200.0, 5.0)
    late = desk.run(0)
    desk.outcome = found()
    timely = desk.run(1)
    assert not desk.dialling.accept(late)
    assert desk.dialling.deadline is not None
    assert desk.dialling.accept(timely)
    assert (late.sock.closed, timely.sock.closed) == (True, False)


def test_a_result_is_taken_once():
    desk = Desk(found())
    desk.dialling.start("name", 100.0, 5.0)
    result = desk.run()
    assert desk.dialling.accept(result)
    assert not desk.dialling.accept(DialResult(1, FakeSocket()))


def test_refusing_a_failure_does_nothing():
    DialResult(1, error=ConnectError("no")).refuse()


def test_threads_are_daemons_with_a_name():
    seen, done = [], threading.Event()

    def target():
        seen.append((threading.current_thread().name, threading.current_thread().daemon))
        done.set()

    spawn_thread("llmws-test-dial", target)
    assert done.wait(20)
    assert seen == [("llmws-test-dial", True)]


def test_a_dial_without_a_thread_to_run_on_fails():
    def spawn(name, target):
        raise RuntimeError("can't start new thread")

    posts = []
    dialling = Dialling(Desk().dial, posts.append, spawn)
    dialling.start("name-dial", 100.0, 5.0)
    (result,) = posts
    assert dialling.accept(result)
    assert "can't start new thread" in str(result.error)
