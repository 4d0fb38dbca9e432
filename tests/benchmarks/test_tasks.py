"""What the measured programs check and count, with clients that play what they are given."""

import sys
import threading

import attrs
import pytest

from benchmarks.clients.tasks import TASKS, burning
from benchmarks.payloads import Sizes


SIZES = attrs.asdict(Sizes.quick())


class Scripted:
    """A client of dicts; ``spoil`` may change the deltas of its second answer, after the one that warms it."""

    reads = "dicts"
    endless = False

    def __init__(self, *, spoil=lambda deltas: deltas, opens=(), hidden=0):
        self.spoil, self.opens, self.hidden = spoil, iter(opens), hidden
        self.answers = 0

    def open(self):
        error = next(self.opens, None)
        if error:
            raise error

    def another(self):
        return self

    def events(self, request):
        deltas = self.spoil(["a", "b"]) if self.answers else ["a", "b"]
        self.answers += 1
        yield {"type": "response.created"}
        for delta in deltas:
            yield {"type": "response.output_text.delta", "delta": delta}
        yield {"type": "response.completed"}

    def text_of(self, last):
        return "ab"

    def hidden_failures(self):
        return self.hidden

    def close(self):
        pass


def run(task, client, **settings):
    return TASKS[task](client, {"sizes": SIZES, **settings})


@pytest.mark.parametrize("task", ["burst", "turns", "upload"])
def test_a_client_that_leaves_text_out_is_found_out(task):
    assert run(task, Scripted())
    with pytest.raises(AssertionError, match="1 characters in deltas, 2 in the final text"):
        run(task, Scripted(spoil=lambda deltas: deltas[1:]))


def test_a_client_that_leaves_paced_events_out_is_found_out():
    with pytest.raises(AssertionError, match="2 deltas, not 20"):
        run("paced", Scripted(spoil=lambda deltas: ["0", "0"]), answer="slow")


def test_a_large_event_has_to_be_whole():
    with pytest.raises(AssertionError, match="2 characters, not 1048576"):
        run("large", Scripted())


def test_a_failed_connection_is_counted_and_another_tried():
    client = Scripted(opens=[None, TimeoutError("late"), None, OSError("gone")])
    figures = run("fresh", client, connections=3)
    assert (figures["failed"], figures["connected"]) == (2, 3)
    assert figures["kinds"] == ["OSError: gone", "TimeoutError: late"]


def test_a_connection_that_failed_unseen_is_counted_too():
    assert run("fresh", Scripted(hidden=1), connections=3)["failed"] == 3


def test_a_client_that_only_fails_is_given_up():
    figures = run("fresh", Scripted(opens=[OSError("gone")] * 99), connections=3)
    assert (figures["failed"], figures["connected"]) == (4, 0)


def test_a_thread_computes_with_the_given_switch_interval_for_as_long_as_it_is_asked_to():
    before = sys.getswitchinterval()
    with burning(0.001):
        assert sys.getswitchinterval() == pytest.approx(0.001)
        assert "busy" in [thread.name for thread in threading.enumerate()]
    assert sys.getswitchinterval() == before
    assert "busy" not in [thread.name for thread in threading.enumerate()]
    with burning(None):
        assert sys.getswitchinterval() == before
