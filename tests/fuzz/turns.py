"""
The whole stack below the session, on sockets in memory: any server, any network, any cutting, several turns.

Whatever comes, nothing raises on the I/O thread, every turn ends once, what a turn saw is an ordered part of what the
server sent, no event reaches two turns, and what is written is lawful WebSocket.
"""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

from llmws.errors import ConnectError, LLMWSError
from llmws.responses.routing.lanes import Lanes
from llmws.responses.routing.reports import Returned
from llmws.responses.routing.turn import Cancel, Submit, Turn
from llmws.responses.stream.readers import events_of
from llmws.responses.vocabulary.capabilities import Capabilities
from llmws.responses.vocabulary.events import TERMINAL_TYPES
from llmws.timeouts import Timeouts
from llmws.wire.framing import (
    BINARY,
    PING,
    PONG,
    TEXT,
    Close,
    Framing,
    Violation,
    encode,
    encode_close,
)
from llmws.wire.inbox import Inbox
from llmws.wire.steps import Stop
from tests.fuzz import shapes
from tests.fuzz.choices import Choices
from tests.wire.harness import Bench, FakeSocket


__all__ = ["any_server"]

LIMITS = Timeouts(connect=5.0, first_event=8.0, idle=6.0, total=30.0, lane_wait=12.0, close=1.0)
PIECES = (1 << 16, 1, 2, 9, 60)
MOST_STEPS = 60


class World:
    """
    Users, an I/O thread, a network and a server, all by the fuzzer's choices.

    Every event that the server sends has a number of its own, so that one in the wrong log, or in two, is seen.
    """

    def __init__(self, choices: Choices) -> None:
        self.choices = choices
        self.numbers = 0
        self.turns: list[Turn] = []
        self.ends = 0
        known = Capabilities(lanes=choices.one_of((False, True, None)))
        lanes = Lanes("strict" if choices.flag() else "warn", capabilities=known)
        self.bench = Bench(lanes)
        self.bench.connection.hear = self.hear
        self.away: list[Turn] = []  # What the router gave back.
        self.sockets: list[FakeSocket] = []

    # Users.

    def submit(self) -> None:
        turn = Turn(
            payload=b'{"type":"response.create","n":%d}' % len(self.turns),
            timeouts=LIMITS,
            started_at=self.bench.now,
            retry_uncertain=self.choices.flag(),
            inbox=Inbox(max_items=self.choices.one_of((1000, 1000, 3))),
        )
        turn.inbox.listen(lambda: self.count_end(turn))
        self.turns.append(turn)
        self.bench.connection.post(Submit(turn))

    def count_end(self, turn: Turn) -> None:
        self.ends += turn.inbox.ended

    def cancel(self) -> None:
        if self.turns:
            turn = self.choices.one_of(self.turns)
            self.bench.connection.post(Cancel(turn, "Cancelled.", self.choices.flag()))

    # The network.

    def dial(self) -> None:
        """Let the dial under way end: mostly with a socket."""
        if not self.dials_wait:
            return
        if self.choices.number(8) == 7:
            outcome: Any = ConnectError("refused", retryable=self.choices.flag())
        else:
            sock = FakeSocket()
            self.sockets.append(sock)
            early = self.said() if self.choices.number(8) == 7 else b""
            outcome = SimpleNamespace(sock=sock, early=early)
        self.bench.dials.append(outcome)
        self.bench.dial()

    @property
    def dials_wait(self) -> bool:
        return any(name.endswith("-dial") for name, _ in self.bench.spawned)

    def arrive(self) -> None:
        """Let bytes of the server arrive, in pieces."""
        if self.sockets:
            self.sockets[-1].incoming.extend(self.choices.cuts(self.said(), PIECES))

    def break_off(self) -> None:
        if self.sockets:
            ends = (b"", ConnectionResetError("reset"), OSError("no route"))
            self.sockets[-1].incoming.append(self.choices.one_of(ends))

    def stop_reading(self) -> None:
        if self.sockets:
            kernel = (3, 0, BlockingIOError(), 1, BrokenPipeError("broken"))
            self.sockets[-1].room.extend(self.choices.one_of(kernel) for _ in range(2))

    def time_passes(self) -> None:
        self.bench.now += self.choices.one_of((0.1, 1.0, 5.0, 20.0))

    # The server.

    def said(self) -> bytes:
        """Return some frames, most of them whole and lawful."""
        wire = b"".join(self.frame() for _ in range(1 + self.choices.number(5)))
        return wire[:-1] if self.choices.number(16) == 15 else wire

    def frame(self) -> bytes:
        match self.choices.number(20):
            case 19:
                return bytes(
                    encode_close(self.choices.one_of((1000, 1001, 1008, 1011, 4000)), "bye")
                )
            case 18:
                return bytes(encode(self.choices.one_of((PING, PONG)), b"abc"))
            case 17:
                return self.choices.bytes(4)
            case 16:
                return bytes(encode(BINARY, self.message()))
            case _:
                return bytes(encode(TEXT, self.message()))

    def message(self) -> bytes:
        self.numbers += 1
        return shapes.message(self.choices, our_number=self.numbers)

    # One course of events.

    def run(self) -> None:
        steps = (
            self.arrive, self.arrive, self.arrive, self.dial, self.submit, self.time_passes, self.cancel,
            self.break_off, self.stop_reading,
        )  # fmt: skip
        self.submit()
        self.rounds()
        self.dial()
        for _ in range(MOST_STEPS):
            if not self.choices.more:
                break
            self.choices.one_of(steps)()
            self.rounds()
        self.finish()
        self.check()

    def rounds(self) -> None:
        """Let the I/O thread do its rounds until it would wait."""
        for _ in range(20):
            waiting = bool(self.sockets and self.sockets[-1].incoming)
            self.bench.turn(readable=waiting, writable=True)
            if not waiting and not self.bench.connection._posts:
                break
        self.bench.poll.waits.clear()
        away, self.away = self.away, []
        for turn in away:
            self.bench.connection.post(Submit(turn, moved=True))

    def hear(self, report: Any) -> None:
        """Be the pool, of this connection alone."""
        if isinstance(report, Returned):
            self.away.append(report.turn)

    def finish(self) -> None:
        """Let every limit pass, and stop."""
        for _ in range(8):
            self.dial()
            self.bench.now += 31.0
            self.rounds()
        assert all(turn.ended for turn in self.turns), "a turn outlived all of its limits"
        self.bench.connection.post(Stop())
        for _ in range(4):
            self.bench.now += 2.0
            going = self.bench.turn(readable=True, writable=True)
        assert not going, "a stopped connection goes on"
        self.bench.connection._over(self.bench.poll)

    def check(self) -> None:
        assert self.ends == len(self.turns), "a turn ended more or less often than once"
        seen: list[int] = []
        for turn in self.turns:
            events = events_of(turn.inbox.read(0, 0.0))
            numbers = [event.raw["our_number"] for event in events if "our_number" in event.raw]
            assert numbers == sorted(set(numbers)), "events in another order, or twice"
            seen += numbers
            ends = [at for at, event in enumerate(events) if event.type in TERMINAL_TYPES]
            if turn.inbox.error is None:
                assert turn.final is not None
                assert ends[-1:] == [len(events) - 1], "a good end without a terminal event"
            else:
                assert isinstance(turn.inbox.error, LLMWSError)
        assert len(seen) == len(set(seen)), "an event reached two turns"
        for sock in self.sockets:
            self.check_written(sock)

    def check_written(self, sock: FakeSocket) -> None:
        assert sock.closed
        written = Framing("server").feed(sock.sent)
        assert not any(isinstance(item, Violation) for item in written)
        assert not any(isinstance(item, Close) for item in written[:-1]), "a frame after the close"
        told = [json.loads(item) for item in written if isinstance(item, (bytes, bytearray))]
        assert all(request["type"] == "response.create" for request in told)
        for number, turn in enumerate(self.turns):
            times = [request["n"] for request in told].count(number)
            assert times <= 1 + len(turn.remedies), "a request twice on one socket"


def any_server(data: bytes) -> None:
    """Play one course of events that the bytes choose."""
    World(Choices(data)).run()
