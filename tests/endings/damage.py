"""Damages to the library: each takes a ``MonkeyPatch`` and breaks one promise."""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import attrs
import pytest

import llmws
from llmws.responses.routing import books, ends, lanes, reading, shares, turn
from llmws.responses.routing.lanes import Lanes
from llmws.responses.routing.turn import Cancel, Turn
from llmws.responses.stream import stream
from llmws.responses.stream.handlers import Handlers
from llmws.responses.stream.readers import Reader
from llmws.responses.stream.stream import Stream
from llmws.responses.vocabulary.apierrors import ErrorEvent
from llmws.responses.vocabulary.events import decode
from llmws.wire import link, monitor
from llmws.wire.dialling import Dialling
from llmws.wire.inbox import Inbox
from llmws.wire.link import Link
from llmws.wire.steps import DialFailed, Lost, Want


Patch = pytest.MonkeyPatch


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

    namespace = SimpleNamespace(**{**vars(threading), "Condition": OneWaiter})
    patch.setattr(monitor, "threading", namespace)


def forget_close_code(patch: Patch) -> None:
    def change(original: Any, a_turn: Any, lost: Any) -> Any:
        return original(a_turn, attrs.evolve(lost, code=1006))

    wrap(patch, lanes, "interruption", change)


def forget_violation(patch: Patch) -> None:
    def change(original: Any, a_turn: Any, lost: Any) -> Any:
        return original(a_turn, attrs.evolve(lost, violation=False))

    wrap(patch, lanes, "interruption", change)


def forget_error_event(patch: Patch) -> None:
    def change(original: Any, a_turn: Any, lost: Any) -> Any:
        a_turn.error_event = None
        return original(a_turn, lost)

    wrap(patch, lanes, "interruption", change)


def bill_nothing(patch: Patch) -> None:
    wrap(patch, Turn, "facts", lambda facts, self: {**facts(self), "may_have_been_billed": False})


def bill_everything(patch: Patch) -> None:
    wrap(
        patch,
        ends,
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

    from llmws.responses.vocabulary.events import ResponseStarted

    started = reading._MILESTONES[ResponseStarted]
    patch.setitem(reading._MILESTONES, ResponseStarted, lambda *args: change(started, *args))


def drop_partial(patch: Patch) -> None:
    patch.setattr(Stream, "_final_error", lambda self, error: error)


def end_every_loss_well(patch: Patch) -> None:
    patch.setattr(lanes, "interruption", lambda *args: None)


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
        lost(self, given)
        self._queue.clear()

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
    patch.setattr(Turn, "deadline", None)
    wrap(
        patch,
        Dialling,
        "start",
        lambda start, self, name, now, timeout: start(self, name, now, None),
    )
    patch.setattr(stream, "_deadline", lambda timeout: None)


def other_classes(patch: Patch) -> None:
    classes = ["FirstEventTimeout", "IdleTimeout", "TotalTimeout", "LaneTimeout"]
    for name, other in zip(classes, [*classes[1:], classes[0]], strict=True):
        patch.setattr(turn, name, getattr(llmws, other))
    patch.setattr(stream, "WaitTimeout", llmws.TotalTimeout)
    failed, refused = Link._dial_failed, DialFailed(llmws.ConnectError("No.", retryable=False))
    patch_link("_dial_failed", lambda self, given: failed(self, refused))(patch)


def late(patch: Patch) -> None:
    shift_limits(patch, 0.3)


def early(patch: Patch) -> None:
    shift_limits(patch, -0.1)


def shift_limits(patch: Patch, seconds: float) -> None:
    deadline = Turn.deadline.fget

    def shifted(self: Turn) -> float | None:
        due = deadline(self)
        return None if due is None else due + seconds

    patch.setattr(Turn, "deadline", property(shifted))
    wrap(patch, Turn, "overdue", lambda overdue, self, now: overdue(self, now - seconds))


def skip_drain(patch: Patch) -> None:
    def change(end_early: Any, self: Any, *args: Any, **kw: Any) -> None:
        end_early(self, *args, **kw)
        for lane in self._lanes:
            lane.draining_until = None
        self._advance()

    wrap(patch, Lanes, "_end_early", change)


def drain_for_ever(patch: Patch) -> None:
    patch.setattr(books, "DRAIN_SECONDS", 3600.0)


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
        for lane in self._lanes:
            lane.suspect = False
        send(self, **kw)

    wrap(patch, Lanes, "_advance", change)


def skip_bad_json(patch: Patch) -> None:
    def lenient(message: bytes) -> Any:
        try:
            return decode(message)
        except llmws.RemoteProtocolError:
            return decode(b'{"type": "skipped"}')

    patch.setattr(shares, "decode", lenient)


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
