"""
Each break of the library, made on purpose, is noticed by the test that it belongs to.

A test that cannot fail shows nothing. So each row of the table damages the library in one place, runs a real test of
this folder, and must see it fail, in the words that belong to the damage.
"""

from __future__ import annotations

import copy
import re
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any

import attrs
import pytest

import llmws
from llmws.responses import lanes, reading, stream, turn
from llmws.responses.apierrors import ErrorEvent
from llmws.responses.events import decode
from llmws.responses.handlers import Handlers
from llmws.responses.lanes import Lanes
from llmws.responses.readers import Reader
from llmws.responses.stream import Stream
from llmws.responses.turn import Cancel, Turn
from llmws.wire import inbox, link
from llmws.wire.dialling import Dialling
from llmws.wire.inbox import Inbox, live_inboxes
from llmws.wire.link import Link
from llmws.wire.steps import DialFailed, Lost, Stop, Want
from tests.endings import (
    closes,
    test_breaches,
    test_cancels,
    test_refusals,
    test_timeouts,
)


Patch = pytest.MonkeyPatch
# What a test of a broken library waits for things that no longer happen; the longer where the machine is busy.
PATIENCE = (0.4, 5.0)


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


def wrap(patch: Patch, owner: Any, name: str, change: Callable[..., Any]) -> None:
    """Replace a function by ``change(original, *its_arguments)``."""
    original = getattr(owner, name)
    patch.setattr(owner, name, lambda *args, **kw: change(original, *args, **kw))


def nothing(*args: Any, **kw: Any) -> None:
    pass


def ignore(kind: type) -> Callable[[Patch], None]:
    """Have the router ignore one kind of thing."""
    return lambda patch: patch.setitem(Lanes._HANDLERS, kind, nothing)


def wake_one(patch: Patch) -> None:
    class OneWaiter(threading.Condition):
        def notify_all(self) -> None:
            self.notify()

    namespace = SimpleNamespace(Condition=OneWaiter, Lock=threading.Lock)
    patch.setattr(inbox, "threading", namespace)


def forget_close_code(patch: Patch) -> None:
    def change(original: Any, a_turn: Any, lost: Any, retired: Any) -> Any:
        return original(a_turn, attrs.evolve(lost, code=1006), retired)

    wrap(patch, lanes, "_interruption", change)


def forget_violation(patch: Patch) -> None:
    def change(original: Any, a_turn: Any, lost: Any, retired: Any) -> Any:
        return original(a_turn, attrs.evolve(lost, violation=False), retired)

    wrap(patch, lanes, "_interruption", change)


def forget_error_event(patch: Patch) -> None:
    def change(original: Any, a_turn: Any, lost: Any, retired: Any) -> Any:
        a_turn.error_event = None
        return original(a_turn, lost, retired)

    wrap(patch, lanes, "_interruption", change)


def bill_nothing(patch: Patch) -> None:
    wrap(patch, Turn, "facts", lambda facts, self: {**facts(self), "may_have_been_billed": False})


def bill_everything(patch: Patch) -> None:
    wrap(
        patch,
        lanes,
        "from_event",
        lambda make, event, **facts: make(event, **{**facts, "may_have_been_billed": True}),
    )


def forget_state(patch: Patch) -> None:
    wrap(patch, Turn, "facts", lambda facts, self: {**facts(self), "state": "queued"})


def forget_response_id(patch: Patch) -> None:
    def change(started: Any, a_turn: Any, event: Any, a_reading: Any) -> bool:
        last: bool = started(a_turn, event, a_reading)
        a_turn.response_id = None
        return last

    from llmws.responses.events import ResponseStarted

    started = reading._MILESTONES[ResponseStarted]
    patch.setitem(reading._MILESTONES, ResponseStarted, lambda *args: change(started, *args))


def drop_partial(patch: Patch) -> None:
    patch.setattr(Stream, "_final_error", lambda self, error: error)


def end_every_loss_well(patch: Patch) -> None:
    patch.setattr(lanes, "_interruption", lambda *args: None)


def swallow_errors_of_readers(patch: Patch) -> None:
    patch.setattr(Stream, "_raise_for_end", nothing)


def tell_end_twice(patch: Patch) -> None:
    def change(tell: Any, self: Any, registrations: Any) -> bool:
        tell(self, registrations)
        return bool(tell(self, registrations))

    wrap(patch, Handlers, "_tell_end", change)


def tell_done_on_error(patch: Patch) -> None:
    def change(tell: Any, self: Any, registrations: Any) -> bool:
        for registration in registrations:
            if registration.name == "done":
                registration.call(None)
        return bool(tell(self, registrations))

    wrap(patch, Handlers, "_tell_end", change)


def log_everything_twice(patch: Patch) -> None:
    wrap(
        patch,
        Inbox,
        "extend",
        lambda extend, self, items, size: extend(self, [i for i in items for _ in (0, 1)], size),
    )


def lose_the_last_of_a_batch(patch: Patch) -> None:
    wrap(
        patch,
        Inbox,
        "extend",
        lambda extend, self, items, size: extend(self, items[:-1] or items, size),
    )


def lose_the_queue(patch: Patch) -> None:
    def change(lost: Any, self: Any, given: Any) -> None:
        self._queue.clear()
        lost(self, given)

    lose = Lanes._HANDLERS[Lost]
    patch.setitem(Lanes._HANDLERS, Lost, lambda *args: change(lose, *args))


def patch_link(name: str, change: Callable[..., Any]) -> Callable[[Patch], None]:
    """Replace one method of ``Link``, in its table of handlers too."""

    def how(patch: Patch) -> None:
        original = getattr(Link, name)
        patch.setattr(Link, name, change)
        for kind, handler in Link._HANDLERS.items():
            if handler is original:
                patch.setitem(Link._HANDLERS, kind, change)

    return how


def forget_what_was_written(self: Link, given: Any) -> None:
    """Take note of the bytes, and tell nobody that the request has begun."""
    progress = self._outbox.wrote(given.count)
    if progress and progress[0].finished and self.state is link.LinkState.ENDING:
        self._socket_over()


def turn_fresh_wishes_away(patch: Patch) -> None:
    want = Link._HANDLERS[Want]
    patch.setitem(
        Link._HANDLERS, Want, lambda self, given: want(self, attrs.evolve(given, fresh=False))
    )


def redial_after_connect_timeout(patch: Patch) -> None:
    patch.setattr(link, "ConnectTimeout", ZeroDivisionError)


def lose_causes(patch: Patch) -> None:
    patch.setattr(lanes, "fresh", copy.copy)


def no_limits(patch: Patch) -> None:
    patch.setattr(Turn, "_limits", lambda self: [])
    wrap(
        patch,
        Dialling,
        "start",
        lambda start, self, name, now, timeout: start(self, name, now, None),
    )
    patch.setattr(stream, "_deadline", lambda timeout: None)
    patch.setattr(stream, "_seconds_left", lambda timeout: lambda: None)


def other_classes(patch: Patch) -> None:
    classes = ["FirstEventTimeout", "IdleTimeout", "TotalTimeout", "LaneTimeout"]
    for name, other in zip(classes, [*classes[1:], classes[0]], strict=True):
        patch.setattr(turn, name, getattr(llmws, other))
    patch.setattr(stream, "WaitTimeout", llmws.TotalTimeout)
    failed, refused = Link._dial_failed, DialFailed(llmws.ConnectError("No.", retryable=False))
    patch_link("_dial_failed", lambda self, given: failed(self, refused))(patch)


def late(patch: Patch) -> None:
    def change(limits: Any, self: Any) -> Any:
        return [(due + 0.3, *rest) for due, *rest in limits(self)]

    wrap(patch, Turn, "_limits", change)


def early(patch: Patch) -> None:
    def change(limits: Any, self: Any) -> Any:
        return [(due - 0.2, *rest) for due, *rest in limits(self)]

    wrap(patch, Turn, "_limits", change)


def skip_drain(patch: Patch) -> None:
    def change(end_early: Any, self: Any, *args: Any, **kw: Any) -> None:
        end_early(self, *args, **kw)
        self._draining_until = None
        self._advance()

    wrap(patch, Lanes, "_end_early", change)


def drain_for_ever(patch: Patch) -> None:
    patch.setattr(lanes, "_DRAIN_SECONDS", 3600.0)


def cancel_softly(patch: Patch) -> None:
    cancel = Lanes._HANDLERS[Cancel]
    patch.setitem(
        Lanes._HANDLERS, Cancel, lambda self, given: cancel(self, attrs.evolve(given, hard=False))
    )


def cancel_on_break(patch: Patch) -> None:
    patch.setattr(Reader, "__del__", lambda self: self._source.__self__.cancel(), raising=False)


def take_errors_for_output(patch: Patch) -> None:
    patch.delitem(reading._MILESTONES, ErrorEvent)


def do_not_suspect(patch: Patch) -> None:
    def change(send: Any, self: Any, **kw: Any) -> None:
        self._suspect = False
        send(self, **kw)

    wrap(patch, Lanes, "_advance", change)


def skip_bad_json(patch: Patch) -> None:
    def lenient(message: bytes) -> Any:
        try:
            return decode(message)
        except llmws.RemoteProtocolError:
            return decode(b'{"type": "skipped"}')

    patch.setattr(reading, "decode", lenient)


def count_no_gaps(patch: Patch) -> None:
    def change(number: Any, self: Any, given: int) -> int:
        number(self, given)
        self.missing_events = 0
        return 0

    wrap(patch, Turn, "number", change)


def hold_anything(patch: Patch) -> None:
    def change(extend: Any, self: Any, items: Any, size: int) -> bool:
        self._max_items = self._max_bytes = 2**60
        return bool(extend(self, items, size))

    wrap(patch, Inbox, "extend", change)


def all_cases_fail(patience: float) -> None:
    """Run all timeouts at once, and fail as they do if every one of them does."""
    with ThreadPoolExecutor(len(test_timeouts.CASES)) as pool:
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
    test_timeouts.test_each_limit_fires_in_time_as_its_own_class()


NO_END = "did not end"
LATE = test_cancels.test_late_events_of_a_turn_that_timed_out_never_reach_the_next
FOREIGN = test_refusals.test_what_follows_an_error_never_reaches_the_next_turn

BREAKS = {
    # Losses.
    "a lost link is ignored": Break(ignore(Lost), off("deltas", "fin"), NO_END),
    "an RST is ignored": Break(ignore(Lost), off("sent", "rst"), NO_END),
    "a close frame is ignored": Break(
        patch_link("_peer_closed", nothing), off("accepted", "1000"), NO_END
    ),
    "a dead link is believed": Break(patch_link("_break", nothing), off("sent", "ping"), NO_END),
    "only one waiter is woken": Break(wake_one, off("sent", "fin"), NO_END),
    "a FIN is a normal end": Break(end_every_loss_well, off("deltas", "fin"), "done was called"),
    "a close 1000 is a normal end": Break(
        end_every_loss_well, off("torn_terminal", "1000"), "done was called"
    ),
    "readers end as if all were well": Break(
        swallow_errors_of_readers, off("accepted", "1011"), "as if all were well"
    ),
    "the close code is forgotten": Break(forget_close_code, off("accepted", "1011"), "close_code"),
    "the state is forgotten": Break(forget_state, off("first_delta", "fin"), "'state'"),
    "the bill is forgotten": Break(bill_nothing, off("sent", "rst"), "may_have_been_billed"),
    "the response's id is forgotten": Break(
        forget_response_id, off("accepted", "fin"), "response_id"
    ),
    "the partial is dropped": Break(drop_partial, off("torn_delta", "fin"), "partial_text"),
    "callbacks hear the end twice": Break(
        tell_end_twice, off("sent", "4000"), "error was called 2"
    ),
    "done is called too": Break(tell_done_on_error, off("deltas", "1008"), "done was called"),
    "events come twice": Break(log_everything_twice, off("first_delta", "fin"), ""),
    "an event is lost": Break(lose_the_last_of_a_batch, off("deltas", "fin"), ""),
    "a request that was written is sent again": Break(
        patch_link("_wrote", forget_what_was_written), off("sent", "fin"), ""
    ),
    "a new turn is told of an old failure": Break(
        turn_fresh_wishes_away, off("sent", "1008"), "ConnectError"
    ),
    "queued turns are lost with their link": Break(
        lose_the_queue, lambda patience: closes.is_sent_once("fin", patience), NO_END
    ),
    "no dial is repeated": Break(
        lambda patch: patch.setattr(Link, "_dial_or_wait", nothing),
        lambda patience: closes.is_redialled("fin", patience),
        NO_END,
    ),
    "a dial that timed out is repeated": Break(
        redial_after_connect_timeout,
        closes.is_never_upgraded,
        "done was called",
    ),
    "giving up has no cause": Break(lose_causes, closes.gives_up, ""),
    "an idle connection's end is overlooked": Break(
        patch_link("_peer_closed", nothing),
        lambda patience: closes.ends_right_after("1000", patience),
        "went unnoticed",
    ),
    # Limits.
    "no limit fires": Break(no_limits, all_cases_fail, r"(did not end.*){8}"),
    "each limit fires as another class": Break(other_classes, all_cases_fail, ""),
    "limits fire late": Break(late, in_time, "took 0.8"),
    "limits fire early": Break(early, in_time, "took 0.3"),
    # Refusals.
    "an error event is output": Break(
        take_errors_for_output,
        lambda patience: test_refusals.test_a_refusal_ends_its_turn_and_nothing_else(
            *test_refusals.REFUSALS[0], patience
        ),
        NO_END,
    ),
    "a refusal counts as billed": Break(
        bill_everything,
        lambda patience: test_refusals.test_a_refusal_ends_its_turn_and_nothing_else(
            *test_refusals.REFUSALS[0], patience
        ),
        "",
    ),
    "an error is forgotten when its link ends": Break(
        forget_error_event,
        lambda patience: test_refusals.test_an_error_and_then_a_close_is_the_api_error(
            5, "fin", patience
        ),
        "StreamInterruptedError",
    ),
    "a late terminal event is the next turn's": Break(do_not_suspect, FOREIGN, ""),
    "a connection that is too old is used on": Break(
        lambda patch: patch.setattr(Lanes, "_retire", nothing),
        test_refusals.test_a_connection_that_grows_too_old_while_idle_takes_no_turn,
        NO_END,
    ),
    # Cancels.
    "cancel is ignored": Break(
        ignore(Cancel),
        lambda patience: test_cancels.test_cancel_ends_everybody_in_every_state(
            5, "output", patience
        ),
        NO_END,
    ),
    "the lane is not drained": Break(skip_drain, LATE, ""),
    "the lane is drained for ever": Break(
        drain_for_ever,
        test_cancels.test_a_connection_that_does_not_drain_is_replaced,
        NO_END,
    ),
    "a hard cancel is a soft one": Break(cancel_softly, hard_cancel, NO_END),
    "a forgotten turn runs on": Break(
        lambda patch: patch.setattr(Stream, "__del__", nothing),
        test_cancels.test_a_turn_that_nothing_holds_is_cancelled,
        NO_END,
    ),
    "break cancels the turn": Break(
        cancel_on_break,
        test_cancels.test_break_drops_one_reader_and_not_the_turn,
        "StreamCancelledError",
    ),
    "a closed session forgets its turns": Break(
        ignore(Stop),
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
        skip_bad_json,
        lambda patience: test_breaches.test_a_breach_of_the_protocol_ends_the_turn(
            "an array", 5, patience
        ),
        NO_END,
    ),
    "a breach is a mere loss": Break(
        forget_violation,
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
        hold_anything,
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
        with left._changed:  # Whom a broken library did not wake.
            threading.Condition.notify_all(left._changed)
    return str(failure.value)


def test_a_gap_that_is_not_counted_is_noticed(caplog, monkeypatch, patience):
    count_no_gaps(monkeypatch)
    with pytest.raises(AssertionError):
        test_breaches.test_a_gap_in_the_numbers_is_counted_and_logged_once(caplog, patience)
