"""Any life of a link: what must hold whatever happens, in whatever order."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from llmws.errors import ConnectError
from llmws.wire.backoff import RETRYABLE_CLOSE_CODES
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


# For what ends a socket, or a life: most of them would be too short to come to anything.
SELDOM = st.sampled_from([False] * 7 + [True])


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
        self.dials_without_use = 0
        self.hopeless = False  # The last failure was of a kind that is not repeated by itself.
        self.keys = 0
        self.waiting: list[int] = []  # Messages handed over for this socket and not withdrawn.
        self.started: list[int] = []
        self.finished: list[int] = []
        self.peer = Framing("server")
        self.read: list[object] = []
        self.read_keys: list[int] = []  # Whose messages the peer of this socket has had, whole.
        self.written: list[int] = []  # …and whose were told to be finished.
        self.wished = (
            False  # Somebody wants a socket and has not been told of one, nor that there is none.
        )

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
        self.hopeless = self.wished = False

    def on_opened(self, action: Opened) -> None:
        assert self.sock
        self.wished = False

    def on_deliver(self, action: Deliver) -> None:
        assert self.sock
        assert not self.lost, "a message after the loss was told"
        assert self.stop_at is None
        assert action.messages

    def on_lost(self, action: Lost) -> None:
        assert self.sock
        assert not self.lost, "one loss told twice"
        self.lost = True
        self.hopeless = action.code not in (*RETRYABLE_CLOSE_CODES, 1000)
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
        self.written.append(action.key)

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

    # Most of what can go wrong needs a socket, so most lives are to have one soon.
    @initialize(opened=st.sampled_from([True, True, True, False]))
    def begin(self, opened: bool) -> None:
        if opened:
            self.get_a_socket()

    @rule(fraction=st.sampled_from([None, 0.0, 0.5, 1.0]))
    def be_lucky(self, fraction: float | None) -> None:
        self.fraction = fraction

    @rule(seconds=st.sampled_from([0.0, 0.1, 0.9, 1.0, 5.0, 20.0, 3600.0]), ticks=st.booleans())
    def time_passes(self, seconds: float, ticks: bool) -> None:
        self.now += seconds
        if ticks:
            self.tick()

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
        if fresh and self.hopeless:
            self.dials_without_use = 0  # Somebody new, who is worth a dial of his own.
        self.wished = self.stop_at is None and self.link.state is not LinkState.OPEN
        self.step(Want(5.0, fresh))

    @precondition(lambda self: self.wished)
    @rule()
    def unwant(self) -> None:
        self.wished = False
        self.step(Unwant())

    @precondition(lambda self: not self.sock and self.stop_at is None)
    @rule()
    def get_a_socket(self) -> None:
        self.want(fresh=True)
        if self.dialling:
            self.dial_works()

    @precondition(lambda self: self.dialling and self.stop_at is None)
    @rule()
    def dial_works(self) -> None:
        self.dialling, self.sock, self.lost = False, True, False
        self.peer = Framing("server")
        self.read_keys, self.written = [], []
        self.step(Dialled())
        assert self.link.state is LinkState.OPEN

    @precondition(lambda self: self.dialling)
    @rule(retryable=st.booleans(), asked=st.sampled_from([None, 3.0, 61.0]))
    def dial_fails(self, retryable: bool, asked: float | None) -> None:
        self.dialling = False
        self.hopeless = not retryable
        self.step(DialFailed(ConnectError("no", retryable=retryable, retry_after=asked)))

    @precondition(lambda self: self.sock)
    @rule(
        names=st.lists(st.sampled_from(["text", "ping", *FRAMES]), min_size=1, max_size=2),
        cut=st.integers(0, 9),
    )
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
    @rule(error=st.sampled_from([None, OSError("reset")]), really=SELDOM)
    def socket_ends(self, error: OSError | None, really: bool = True) -> None:
        if really:
            self.step(Ended(error))
            assert not self.sock

    # A router sends only to a link that it believes open; the loss may be on its way to it.
    @precondition(lambda self: self.stop_at is None and (self.sock or self.dialling))
    @rule(
        sizes=st.lists(st.sampled_from([0, 3, 200]), min_size=1, max_size=3),
        most=st.sampled_from([0, 10**9, 1, 40]),
    )
    def send(self, sizes: list[int], most: int) -> None:
        for size in sizes:
            self.keys += 1
            if self.link.state is LinkState.OPEN:
                self.waiting.append(self.keys)
            self.step(Send(self.keys, b"%d " % self.keys + b"x" * size))
        if most and self.link.pending() is not None:
            self.write_some(most)

    @precondition(lambda self: self.waiting)
    @rule(data=st.data())
    def withdraw(self, data: st.DataObject) -> None:
        key = data.draw(st.sampled_from(self.waiting))
        self.waiting.remove(key)
        self.step(Withdraw(key))

    @precondition(lambda self: self.sock and self.link.pending() is not None)
    @rule(most=st.sampled_from([10**9, 1, 5]), all=st.booleans())
    def write(self, most: int, all: bool = False) -> None:
        self.write_some(most)
        while all and self.link.pending() is not None:
            self.write_some(most)

    def write_some(self, most: int) -> None:
        pending = self.link.pending()
        assert pending is not None
        piece = bytes(pending[:most])
        self.read = self.peer.feed(piece)
        assert not any(type(item).__name__ == "Violation" for item in self.read)
        self.read_keys += [int(item.split()[0]) for item in self.read if isinstance(item, bytes)]
        self.step(Wrote(len(piece)))
        if self.sock and not self.lost:
            assert self.read_keys == self.written, "what the peer has had is not what was told"
            assert self.read_keys == sorted(self.read_keys), "messages in another order"

    @precondition(lambda self: self.link.state is LinkState.OPEN)
    @rule(really=SELDOM)
    def drop(self, really: bool) -> None:
        if not really:
            return
        self.dials_without_use = 0  # Dropped by its user, who answers for how often.
        self.step(Useful())
        self.step(Drop())
        assert not self.sock

    @rule(really=SELDOM)
    def stop(self, really: bool) -> None:
        if not really:
            return
        self.wished = False
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

    def answer_the_wish(self) -> None:
        """Let every dial fail: whoever wants a socket is told so, within a bounded number of steps."""
        for _ in range(50):
            if not self.wished:
                return
            if self.sock:
                self.socket_ends(None)
            elif self.dialling:
                self.dial_fails(True, None)
            else:
                assert self.link.deadline is not None, "a wish for a socket that nothing drives on"
                self.wait()
        raise AssertionError("a wish for a socket was never answered")

    def teardown(self) -> None:
        self.answer_the_wish()
        self.stop(really=True)
        if self.sock:  # What comes now is heard by nobody, and what is asked for is not done.
            self.receive(["text"], 0)
            self.want(fresh=True)
        while self.sock and self.link.pending() is not None:
            self.write(10**9)
        if self.link.deadline is not None:
            self.wait()
        assert self.stopped, "a stopped link did not end within the close timeout"


LinkMachine.TestCase.settings = settings(
    max_examples=2 * settings.default.max_examples, stateful_step_count=40
)
TestAnyLife = LinkMachine.TestCase
