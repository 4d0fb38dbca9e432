"""
Each break of the library, made on purpose, is noticed by the test that it belongs to.

A test that cannot fail shows nothing. So each row of the table damages the library in one place, runs a real test of
this folder, and must see it fail, in the words that belong to the damage.
"""

from __future__ import annotations

import contextlib
import re
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import attrs
import pytest

import llmws
from llmws.responses.routing import reading
from llmws.responses.routing.lanes import Lanes
from llmws.responses.routing.turn import Cancel
from llmws.responses.stream.stream import Stream
from llmws.wire.inbox import live_inboxes
from llmws.wire.link import Link
from llmws.wire.steps import Lost, Stop
from tests.endings import (
    closes,
    damage,
    test_breaches,
    test_cancels,
    test_refusals,
    test_timeouts,
)


Patch = pytest.MonkeyPatch
# What a test of a broken library waits for things that no longer happen; the longer where the machine is busy.
PATIENCE = (0.15, 5.0)


@attrs.frozen
class Break:
    """
    One damage.

    Attributes:
        how: Does it.
        test: The test that must notice; gets its patience.
        words: What the failure says, as a pattern.
    """

    how: Callable[[Patch], None]
    test: Callable[[float], Any]
    words: str


def off(point: str, ending: str) -> Callable[[float], None]:
    return lambda patience: closes.breaks_off(point, ending, patience)


def all_cases_fail(patience: float) -> None:
    """Run all timeouts at once, and fail as they do if every one of them does."""
    with short_limits(), ThreadPoolExecutor(len(test_timeouts.CASES)) as pool:
        tests = [
            pool.submit(case, test_timeouts.LIMIT + patience)
            for case in test_timeouts.CASES.values()
        ]
    errors = [test.exception() for test in tests]
    if all(isinstance(error, AssertionError) for error in errors):
        raise AssertionError(" | ".join(str(error) for error in errors))


def interrupted(broken: str) -> Callable[[float], None]:
    return lambda patience: test_cancels.interrupt(patience, broken)


def hard_cancel(patience: float) -> None:
    with Patch.context() as patch:
        test_cancels.test_a_hard_cancel_replaces_the_connection_at_once(patch, patience)


def in_time(patience: float) -> None:
    with short_limits():
        test_timeouts.test_each_limit_fires_in_time_as_its_own_class()


@contextlib.contextmanager
def short_limits() -> Iterator[None]:
    """Have what is broken shown by limits of 0.2 s; whether limits are kept exactly is not asked here."""
    with Patch.context() as patch:
        patch.setattr(test_timeouts, "LIMIT", 0.2)
        yield


NO_END = "did not end"
LATE = test_cancels.test_late_events_of_a_turn_that_timed_out_never_reach_the_next
FOREIGN = test_refusals.test_what_follows_an_error_never_reaches_the_next_turn

BREAKS = {
    # Losses.
    "a lost link is ignored": Break(damage.ignore(Lost), off("deltas", "fin"), NO_END),
    "an RST is ignored": Break(damage.ignore(Lost), off("sent", "rst"), NO_END),
    "a close frame is ignored": Break(
        damage.patch_link("_peer_closed", damage.nothing), off("accepted", "1000"), NO_END
    ),
    "a dead link is believed": Break(
        damage.patch_link("_break", damage.nothing), off("sent", "ping"), NO_END
    ),
    "only one waiter is woken": Break(damage.wake_one, off("sent", "fin"), NO_END),
    "a FIN is a normal end": Break(
        damage.end_every_loss_well, off("deltas", "fin"), "done was called"
    ),
    "a close 1000 is a normal end": Break(
        damage.end_every_loss_well, off("torn_terminal", "1000"), "done was called"
    ),
    "readers end as if all were well": Break(
        damage.swallow_errors_of_readers, off("accepted", "1011"), "as if all were well"
    ),
    "the close code is forgotten": Break(
        damage.forget_close_code, off("accepted", "1011"), "close_code"
    ),
    "the state is forgotten": Break(damage.forget_state, off("first_delta", "fin"), "'state'"),
    "the bill is forgotten": Break(damage.bill_nothing, off("sent", "rst"), "may_have_been_billed"),
    "the response's id is forgotten": Break(
        damage.forget_response_id, off("accepted", "fin"), "response_id"
    ),
    "the partial is dropped": Break(damage.drop_partial, off("torn_delta", "fin"), "partial_text"),
    "callbacks hear the end twice": Break(
        damage.tell_end_twice, off("sent", "4000"), "error was called 2"
    ),
    "done is called too": Break(
        damage.tell_done_on_error, off("deltas", "1008"), "done was called"
    ),
    "events come twice": Break(damage.log_everything_twice, off("first_delta", "fin"), ""),
    "an event is lost": Break(damage.lose_the_last_of_a_batch, off("deltas", "fin"), ""),
    "a request that was written is sent again": Break(
        damage.patch_link("_wrote", damage.forget_what_was_written), off("sent", "fin"), ""
    ),
    "a new turn is told of an old failure": Break(
        damage.turn_fresh_wishes_away, off("sent", "1008"), "ConnectError"
    ),
    "queued turns are lost with their link": Break(
        damage.lose_the_queue, lambda patience: closes.is_sent_once("fin", patience), NO_END
    ),
    "no dial is repeated": Break(
        lambda patch: patch.setattr(Link, "_dial_or_wait", damage.nothing),
        lambda patience: closes.is_redialled("fin", patience),
        NO_END,
    ),
    "a dial that timed out is repeated": Break(
        damage.redial_after_connect_timeout,
        closes.is_never_upgraded,
        "done was called",
    ),
    "giving up has no cause": Break(damage.lose_causes, closes.gives_up, ""),
    "an idle connection's end is overlooked": Break(
        damage.patch_link("_peer_closed", damage.nothing),
        lambda patience: closes.ends_right_after("1000", patience),
        "went unnoticed",
    ),
    # Limits.
    "no limit fires": Break(damage.no_limits, all_cases_fail, r"(did not end.*){8}"),
    "each limit fires as another class": Break(damage.other_classes, all_cases_fail, ""),
    "limits fire late": Break(damage.late, in_time, r"took (0\.[5-9]|[1-9])"),
    "limits fire early": Break(damage.early, in_time, r"took 0\.1"),
    # Refusals.
    "an error event is output": Break(
        damage.take_errors_for_output,
        lambda patience: test_refusals.test_a_refusal_ends_its_turn_and_nothing_else(
            *test_refusals.REFUSALS[0], patience
        ),
        NO_END,
    ),
    "a refusal counts as billed": Break(
        damage.bill_everything,
        lambda patience: test_refusals.test_a_refusal_ends_its_turn_and_nothing_else(
            *test_refusals.REFUSALS[0], patience
        ),
        "",
    ),
    "an error is forgotten when its link ends": Break(
        damage.forget_error_event,
        lambda patience: test_refusals.test_an_error_and_then_a_close_is_the_api_error(
            5, "fin", patience
        ),
        "StreamInterruptedError",
    ),
    "a late terminal event is the next turn's": Break(damage.do_not_suspect, FOREIGN, ""),
    "a connection that is too old is used on": Break(
        lambda patch: patch.setattr(Lanes, "_retire", damage.nothing),
        test_refusals.test_a_connection_that_grows_too_old_while_idle_takes_no_turn,
        NO_END,
    ),
    # Cancels.
    "cancel is ignored": Break(
        damage.ignore(Cancel),
        lambda patience: test_cancels.test_cancel_ends_everybody_in_every_state(
            5, "output", patience
        ),
        NO_END,
    ),
    "the lane is not drained": Break(damage.skip_drain, LATE, ""),
    "the lane is drained for ever": Break(
        damage.drain_for_ever,
        test_cancels.test_a_connection_that_does_not_drain_is_replaced,
        NO_END,
    ),
    "a hard cancel is a soft one": Break(damage.cancel_softly, hard_cancel, NO_END),
    "a forgotten turn runs on": Break(
        lambda patch: patch.setattr(Stream, "__del__", damage.nothing),
        test_cancels.test_a_turn_that_nothing_holds_is_cancelled,
        NO_END,
    ),
    "break cancels the turn": Break(
        damage.cancel_on_break,
        test_cancels.test_break_drops_one_reader_and_not_the_turn,
        "StreamCancelledError",
    ),
    "a closed session forgets its turns": Break(
        damage.ignore(Stop),
        lambda patience: test_cancels.test_closing_the_session_ends_everybody(
            5, "output", patience
        ),
        NO_END,
    ),
    "Ctrl-C leaves the turn running": Break(
        lambda patch: None,
        interrupted("import llmws; llmws.Stream._post_cancel = lambda *a, **k: None\n"),
        "",
    ),
    # Breaches.
    "broken JSON is skipped": Break(
        damage.skip_bad_json,
        lambda patience: test_breaches.test_a_breach_of_the_protocol_ends_the_turn(
            "an array", 5, patience
        ),
        NO_END,
    ),
    "a breach is a mere loss": Break(
        damage.forget_violation,
        lambda patience: test_breaches.test_a_breach_of_the_protocol_ends_the_turn(
            "a masked frame", 0, patience
        ),
        "StreamInterruptedError",
    ),
    "strict is not strict": Break(
        lambda patch: patch.setattr(reading, "_out_of_sequence", lambda *args: False),
        lambda patience: test_breaches.test_a_strict_session_takes_a_gap_or_a_repeat_for_a_breach(
            test_breaches._with_gap(), 5, patience
        ),
        "done was called",
    ),
    "a full log takes more": Break(
        damage.hold_anything,
        lambda patience: test_breaches.test_a_full_log_ends_its_turn_alone("_max_items", patience),
        "done was called",
    ),
}


@pytest.mark.parametrize("name", BREAKS)
def test_a_broken_library_is_noticed(name, monkeypatch):
    words = ""
    for patience in PATIENCE:
        words = _failure_of(BREAKS[name], monkeypatch, patience)
        if re.search(BREAKS[name].words, words, re.DOTALL):
            return
    pytest.fail(f"The test failed in other words: {words}")


def _failure_of(broken, monkeypatch, patience):
    before = set(live_inboxes)
    with monkeypatch.context() as patch:
        broken.how(patch)
        with pytest.raises((AssertionError, pytest.fail.Exception)) as failure:
            broken.test(patience)
    for left in set(live_inboxes) - before:
        left.end(llmws.StreamCancelledError("The break is over."))
        with left._monitor.lock:  # Whom a broken library did not wake.
            threading.Condition.notify_all(left._monitor._changed)
    return str(failure.value)


def test_a_gap_that_is_not_counted_is_noticed(caplog, monkeypatch, patience):
    damage.count_no_gaps(monkeypatch)
    with pytest.raises(AssertionError):
        test_breaches.test_a_gap_in_the_numbers_is_counted_and_logged_once(caplog, patience)
