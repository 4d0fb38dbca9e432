"""Any life of a link: what must hold whatever happens, in whatever order."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from llmws.errors import ConnectError
from llmws.wire.framing import PING, TEXT, Close, Framing, encode, encode_close
from llmws.wire.link import Link, LinkState
from llmws.wire.steps import (
    AskRetry,
    CloseSocket,
    Deliver,
    Dial,
    DialFailed,
    Dialled,
    Drop,
    Ended,
    Finished,
    GaveUp,
    Granted,
    Lost,
    Opened,
    Received,
    Send,
    Started,
    Stop,
    Stopped,
    Tick,
    Unwant,
    Useful,
    Want,
    Withdraw,
    Wrote,
)


FRAMES = {
    "text": encode(TEXT, b"{}"),
    "ping": encode(PING, b"x"),
    "close": encode_close(1001),
    "refusal": encode_close(1008, "no"),
    "breach": b"\xff\xff",
}


class LinkMachine(RuleBasedStateMachine):
    """
    An I/O thread, a network and a user that do what they like, when they like.

    It also keeps the books: which socket there is, which messages may be written to it, and what was told of each.
    """

    def __init__(self) -> None:
        super().__init__()
        self.link = Link(mask_key=lambda: b"1234")
        self.now = 0.0
        self.dialling = self.sock = self.lost = self.stopped = False
        self.stop_at: float | None = None
        self.dials = self.dials_without_use = 0
        self.keys = 0
        self.waiting: list[int] = []  # Messages handed over for this socket and not withdrawn.
        self.started: list[int] = []
        self.finished: list[int] = []
        self.peer = Framing("server")
        self.read: list[object] = []

    def step(self, given: object) -> None:
        for action in self.link.step(self.now, given):
            note = getattr(self, f"on_{type(action).__name__.lower()}", None)
            if note is not None:
                note(action)

    # What the link asks.

    def on_dial(self, action: Dial) -> None:
        assert not self.dialling, "a second dial beside the first"
        assert not self.sock, "a dial beside an open socket"
        assert self.stop_at is None, "a dial after the stop"
        self.dialling = True
        self.dials_without_use += 1
        assert self.dials_without_use <= 5, "dials without end"

    def on_askretry(self, action: AskRetry) -> None:
        self.step(Granted(self.fraction))

    def on_retrying(self, action: object) -> None:
        assert self.fraction is not None

    def on_gaveup(self, action: GaveUp) -> None:
        assert not self.sock
        self.dials_without_use = 0

    def on_opened(self, action: Opened) -> None:
        assert self.sock

    def on_deliver(self, action: Deliver) -> None:
        assert self.sock
        assert not self.lost, "a message after the loss was told"
        assert self.stop_at is None
        assert action.messages

    def on_lost(self, action: Lost) -> None:
        assert self.sock
        assert not self.lost, "one loss told twice"
        self.lost = True
        self.waiting.clear()

    def on_started(self, action: Started) -> None:
        assert self.sock
        assert not self.lost, "a message was begun after the loss"
        assert action.key in self.waiting
        self.waiting.remove(action.key)
        self.started.append(action.key)

    def on_finished(self, action: Finished) -> None:
        assert not self.lost
        assert action.key == self.started[-1]
        self.finished.append(action.key)

    def on_closesocket(self, action: CloseSocket) -> None:
        assert self.sock, "closed twice"
        self.sock = False
        self.waiting.clear()

    def on_stopped(self, action: Stopped) -> None:
        assert not self.stopped
        assert not self.sock
        self.stopped = True

    # What can happen.

    fraction: float | None = 0.5

    @rule(fraction=st.sampled_from([None, 0.0, 0.5, 1.0]))
    def be_lucky(self, fraction: float | None) -> None:
        self.fraction = fraction

    @rule(seconds=st.sampled_from([0.0, 0.1, 0.9, 1.0, 5.0, 20.0, 3600.0]))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds

    @rule()
    def tick(self) -> None:
        self.step(Tick())
        deadline = self.link.deadline
        assert deadline is None or deadline >= self.now, "a deadline that no tick satisfies"

    @precondition(lambda self: self.link.deadline is not None)
    @rule()
    def wait(self) -> None:
        self.now = max(self.now, self.link.deadline)
        self.tick()

    @rule(fresh=st.booleans())
    def want(self, fresh: bool) -> None:
        self.step(Want(5.0, fresh))

    @rule()
    def unwant(self) -> None:
        self.step(Unwant())

    @precondition(lambda self: self.dialling and self.stop_at is None)
    @rule()
    def dial_works(self) -> None:
        self.dialling, self.sock, self.lost = False, True, False
        self.peer = Framing("server")
        self.step(Dialled())
        assert self.link.state is LinkState.OPEN

    @precondition(lambda self: self.dialling)
    @rule(retryable=st.booleans(), asked=st.sampled_from([None, 3.0, 61.0]))
    def dial_fails(self, retryable: bool, asked: float | None) -> None:
        self.dialling = False
        self.step(DialFailed(ConnectError("no", retryable=retryable, retry_after=asked)))

    @precondition(lambda self: self.sock)
    @rule(names=st.lists(st.sampled_from([*FRAMES]), min_size=1, max_size=3), cut=st.integers(0, 9))
    def receive(self, names: list[str], cut: int) -> None:
        data = b"".join(bytes(FRAMES[name]) for name in names)
        self.step(Received(data[:cut]))
        if self.sock and data[cut:]:
            self.step(Received(data[cut:]))

    @precondition(lambda self: self.sock and not self.lost)
    @rule()
    def useful(self) -> None:
        self.dials_without_use = 0
        self.step(Useful())

    @precondition(lambda self: self.sock)
    @rule(error=st.sampled_from([None, OSError("reset")]))
    def socket_ends(self, error: OSError | None) -> None:
        self.step(Ended(error))
        assert not self.sock

    # A router sends only to a link that it believes open; the loss may be on its way to it.
    @precondition(lambda self: self.stop_at is None)
    @rule(size=st.sampled_from([0, 3, 200]))
    def send(self, size: int) -> None:
        self.keys += 1
        if self.link.state is LinkState.OPEN:
            self.waiting.append(self.keys)
        self.step(Send(self.keys, b"x" * size))

    @precondition(lambda self: self.waiting)
    @rule(data=st.data())
    def withdraw(self, data: st.DataObject) -> None:
        key = data.draw(st.sampled_from(self.waiting))
        self.waiting.remove(key)
        self.step(Withdraw(key))

    @precondition(lambda self: self.sock and self.link.pending() is not None)
    @rule(most=st.sampled_from([1, 5, 10**9]))
    def write(self, most: int) -> None:
        pending = self.link.pending()
        assert pending is not None
        piece = bytes(pending[:most])
        self.read = self.peer.feed(piece)
        assert not any(type(item).__name__ == "Violation" for item in self.read)
        self.step(Wrote(len(piece)))

    @precondition(lambda self: self.link.state is LinkState.OPEN)
    @rule()
    def drop(self) -> None:
        self.dials_without_use = 0  # Dropped by its user, who answers for how often.
        self.step(Useful())
        self.step(Drop())
        assert not self.sock

    @rule(really=st.sampled_from([False] * 9 + [True]))
    def stop(self, really: bool) -> None:
        if not really:
            return  # Else most lives would be short.
        if self.stop_at is None:
            self.stop_at = self.now
            self.waiting.clear()
        self.step(Stop())
        # From now on it wants to be ticked within the close timeout, however long the loss is known.
        deadline = self.link.deadline
        assert self.stopped or (deadline is not None and deadline <= self.now + 1.0)

    # What always holds.

    @invariant()
    def a_close_is_the_last_thing_that_the_peer_reads(self) -> None:
        assert not any(isinstance(item, Close) for item in self.read[:-1])

    @invariant()
    def the_states_agree_with_the_socket(self) -> None:
        assert self.sock == (self.link.state in (LinkState.OPEN, LinkState.ENDING))
        assert self.stopped == (self.link.state is LinkState.STOPPED)

    @invariant()
    def nothing_is_to_be_written_without_a_socket(self) -> None:
        if not self.sock:
            assert self.link.pending() is None
            assert self.link.room() is None

    def teardown(self) -> None:
        self.stop(really=True)
        if self.sock:  # What comes now is heard by nobody, and what is asked for is not done.
            self.receive(["text"], 0)
            self.want(fresh=True)
        while self.sock and self.link.pending() is not None:
            self.write(10**9)
        if self.link.deadline is not None:
            self.wait()
        assert self.stopped, "a stopped link did not end within the close timeout"


LinkMachine.TestCase.settings = settings(max_examples=200, stateful_step_count=40, deadline=None)
TestAnyLife = LinkMachine.TestCase
