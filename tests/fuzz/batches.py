"""
Reading by the batch: what a turn makes of messages does not depend on how many of them came in one read.

The router is free to take whole stretches of output at once, to look at a message before it decodes it, or to keep its
bytes. Here it is told the same messages once all together, once one by one, and once one by one by the definition of
JSON alone, and has to come out the same; and what is in a log is what the server sent.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any
from unittest import mock

from llmws.responses.routing import shares
from llmws.responses.routing.refusals import Remedy
from llmws.responses.routing.turn import Submit, Turn
from llmws.responses.stream.readers import chunks_of, events_of, sse_of, texts_of
from llmws.responses.vocabulary.entries import opened
from llmws.timeouts import Timeouts
from llmws.wire import jsoncodec
from llmws.wire.steps import Deliver, Drop, Finished, Opened, Send, Started, Tick, Want
from tests.fuzz import shapes
from tests.fuzz.choices import Choices
from tests.fuzz.jsons import typed
from tests.responses.lanework import Lanework


__all__ = ["any_batches"]

LIMITS = Timeouts(connect=5.0, first_event=8.0, idle=6.0, total=30.0, lane_wait=12.0, close=1.0)
TURNS = 3


class Side:
    """One router with some turns, and a link that does at once as it is asked."""

    def __init__(self, strict: bool) -> None:
        self.work = Lanework(sequence_check="strict" if strict else "warn")
        self.do(self.work.step(Opened()))
        self.turns: list[Turn] = []
        for number in range(TURNS):
            # Nothing is sent again: when that is done depends on what came in the same read, and rightly so.
            turn = self.work.turn(b"%d" % number, LIMITS, remedies={*Remedy})
            self.turns.append(turn)
        self.asked: list[Any] = []

    def submit(self, number: int) -> None:
        self.do(self.work.step(Submit(self.turns[number])))

    def deliver(self, messages: list[bytes]) -> None:
        self.asked += self.work.step(Deliver(list(messages)))

    def settle(self) -> None:
        """Do what the router asked for while it read."""
        asked, self.asked = self.asked, []
        self.do(asked)

    def do(self, asked: list[Any]) -> None:
        for action in asked:
            if isinstance(action, Send):
                if not action.key.ended:
                    self.do(self.work.step(Started(action.key)))
                    self.do(self.work.step(Finished(action.key)))
            elif isinstance(action, Want | Drop):
                self.do(self.work.step(Opened()))

    def facts(self) -> list[Any]:
        """Return everything that users, counters and timers can tell of it."""
        return [self.turn_facts(turn) for turn in self.turns] + [
            self.work.lanes.counters,
            self.work.lanes.deadline,
            repr(self.work.lanes),
        ]

    def turn_facts(self, turn: Turn) -> tuple[Any, ...]:
        error = turn.inbox.error
        told = (
            {name: value for name, value in vars(error).items() if name != "partial"}
            if error
            else {}
        )
        events = events_of(turn.inbox.read(0, 0.0))
        return (
            turn.state,
            turn.response_id,
            turn.ended,
            (type(error), str(error), told),
            [(type(event), typed(event.raw)) for event in events],
            (turn.missing_events, turn.repeated_events),
            None if turn.ended else (turn.next_number, turn.error_at),
        )


def any_batches(data: bytes) -> None:
    """Tell three routers the same, one of them by the batch and one without any shortcut."""
    choices = Choices(data)
    strict = choices.flag()
    whole, single, plain = sides = [Side(strict) for _ in range(3)]
    sent: list[bytes] = []
    for number in range(TURNS):
        for side in sides:
            side.submit(number)
        for _ in range(1 + choices.number(3)):
            messages = batch(choices)
            sent += messages
            whole.deliver(messages)
            for message in messages:
                single.deliver([message])
            with no_shortcuts():
                for message in messages:
                    plain.deliver([message])
            after = choices.one_of((0.0, 0.5, 7.0))
            for side in sides:
                side.settle()
                if after:
                    side.do(side.work.step(Tick(), after))
        facts = whole.facts()
        assert facts == single.facts(), "what a turn gets depends on how its messages were read"
        with no_shortcuts():
            assert facts == plain.facts(), "what a turn gets depends on the decoder"
    check_origin(whole, sent)


def batch(choices: Choices) -> list[bytes]:
    """Return what comes in one read: a run of deltas, or single messages and runs of deltas."""
    if choices.number(3) == 2:
        return shapes.deltas(choices)
    messages: list[bytes] = []
    for _ in range(1 + choices.number(5)):
        messages += shapes.deltas(choices) if choices.flag() else [shapes.message(choices)]
    # Only within a lane is the order kept; the word that the connection ends has no lane, and is not given one here.
    return [each for each in messages if b"stream_id" not in each or b"limit_reached" not in each]


@contextlib.contextmanager
def no_shortcuts() -> Iterator[None]:
    """Read as where msgspec is not installed."""
    with mock.patch.object(jsoncodec, "_fast", None), mock.patch.object(shares, "delta_of", None):
        yield


def check_origin(side: Side, sent: list[bytes]) -> None:
    """All logs together hold messages that were sent, each once and in order; and all views are of the same events."""
    origin = iter([raw for message in sent if (raw := decoded(message)) is not None])
    for turn in side.turns:
        log = turn.inbox.read(0, 0.0)
        seen = events_of(log)
        assert all(any(typed(raw) == typed(event.raw) for raw in origin) for event in seen)
        assert chunks_of(log) == chunks_of(opened(log))
        assert texts_of(log) == texts_of(seen)
        assert sse_of(log) == sse_of(seen)


def decoded(message: bytes) -> dict[str, Any] | None:
    try:
        raw = jsoncodec._decode_by_definition(message)
    except jsoncodec.JSONError:
        return None
    return raw if isinstance(raw, dict) else None
