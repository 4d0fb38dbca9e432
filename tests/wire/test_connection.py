"""The I/O thread's rounds, one at a time: no thread, no real socket, no clock."""

from __future__ import annotations

import logging
import ssl

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmws.errors import ConnectError, ConnectTimeout
from llmws.wire.dialling import DialResult
from llmws.wire.framing import TEXT, Close, encode, encode_close
from llmws.wire.inbox import Inbox
from llmws.wire.link import LinkState
from llmws.wire.ports import Allowed, Append, AskAgain, Crashed, Finish, Overflowed, Report
from llmws.wire.process import live_connections
from llmws.wire.steps import (
    Deliver,
    Dial,
    Finished,
    GaveUp,
    Lost,
    Opened,
    Retrying,
    Send,
    Started,
    Stop,
    Tick,
    Useful,
    Want,
)
from tests.wire.harness import Bench, FakeSocket


@pytest.fixture
def bench() -> Bench:
    return Bench()


def text(message: bytes) -> bytes:
    return bytes(encode(TEXT, message))


def messages(bench):
    return [message for deliver in bench.router.of(Deliver) for message in deliver.messages]


# Starting and dialling.


def test_the_thread_starts_with_the_first_post_and_once(bench):
    assert list(bench.spawned) == []
    for _ in range(3):
        bench.connection.post([])
    assert [name for name, _ in bench.spawned] == ["llmws-test-1"]
    assert bench.connection in live_connections
    assert bench.poll.wakes == 3


def test_a_quiet_post_starts_nothing(bench):
    bench.connection.post_quietly([])
    assert list(bench.spawned) == []
    bench.connection.post([])
    bench.turn()
    assert bench.router.told == [[], []]


def test_a_wish_is_dialled_on_a_thread_and_its_result_posted(bench):
    sock = bench.opened()
    assert bench.timeouts == [5.0]
    assert bench.poll.watched is None
    bench.turn()
    assert bench.poll.watched is sock
    assert bench.router.told[1:] == [Opened()]
    assert bench.connection.counters.dials == 1


def test_bytes_that_came_with_the_upgrade_are_read_first(bench):
    bench.opened(text(b"2"), early=text(b"0") + text(b"1"))
    bench.turn()
    assert messages(bench) == [b"0", b"1", b"2"]


def test_a_new_socket_is_read_before_the_first_wait_could_tell(bench):
    # TLS may have bytes that select() does not see.
    bench.opened(text(b"hidden"))
    bench.turn()
    assert bench.poll.waits[-1][0] == 0.0
    assert messages(bench) == [b"hidden"]


def test_a_failed_dial_is_paid_for_counted_and_repeated(bench, caplog):
    bench.dials.append(ConnectError("refused"))
    with caplog.at_level(logging.INFO, "llmws.wire.connection"):
        bench.connection.post([Want(5.0)])
        bench.turn()
        bench.dial()
        bench.turn()
    (retrying,) = bench.router.of(Retrying)
    assert retrying.delay == 0.5
    assert bench.budget.tokens == 500 - 14
    assert bench.connection.counters.failed_dials == 1
    assert "dialling again in 0.50 s: refused" in caplog.text
    bench.turn()
    assert bench.poll.waits[-1][0] == 0.5
    bench.now += 0.5
    bench.turn()
    assert bench.connection.counters.dials == 2


def test_an_empty_budget_gives_up(bench):
    while bench.budget.spend():
        pass
    bench.dials.append(ConnectError("refused"))
    bench.connection.post([Want(5.0)])
    bench.turn()
    bench.dial()
    bench.turn()
    assert "budget" in str(bench.router.of(GaveUp)[0].error)


def test_a_dial_that_overruns_is_abandoned_and_its_late_socket_closed(bench):
    late = bench.opened()  # Its result is posted, but not before the time is up.
    posted = bench.connection._posts.popleft()
    bench.now += 5.0
    bench.turn()
    assert bench.router.of(GaveUp) == []
    bench.now += 0.25
    bench.turn()
    (gave_up,) = bench.router.of(GaveUp)
    assert isinstance(gave_up.error, ConnectTimeout)
    assert bench.connection.counters.failed_dials == 1
    bench.connection.post(posted)
    bench.turn()
    assert late.closed
    assert bench.router.of(Opened) == []
    assert bench.poll.watched is None


# Reading.


@given(
    st.lists(st.binary(max_size=20).map(bytes.hex).map(str.encode), max_size=5),
    st.lists(st.integers(1, 30), max_size=40),
)
def test_messages_arrive_whole_in_any_cut(contents, cuts):
    data, pieces = b"".join(map(text, contents)), []
    for cut in cuts:
        if data:
            pieces.append(data[:cut])
            data = data[cut:]
    pieces += [data] if data else []
    bench = Bench()
    bench.opened(*pieces)
    for _ in pieces:
        bench.turn(readable=True)
    assert messages(bench) == contents
    assert bench.connection.counters.bytes_received == sum(map(len, pieces))


def test_a_short_read_is_not_followed_by_another(bench):
    sock = bench.opened(text(b"1"), text(b"2"))
    bench.turn(readable=True)
    assert (sock.reads, messages(bench)) == (1, [b"1"])
    bench.turn(readable=True)
    assert messages(bench) == [b"1", b"2"]


def test_a_large_message_is_read_straight_into_its_place(bench):
    payload = b"x" * 700_000
    sock = bench.opened(text(payload) + text(b"next"))
    bench.turn()
    bench.turn()
    assert messages(bench) == [payload, b"next"]
    assert sock.reads < 10


def test_a_round_takes_one_mebibyte_and_comes_back_for_the_rest(bench):
    message = text(b"x" * 1000)
    sock = bench.opened(message * 3000)
    bench.turn()
    taken = bench.connection.counters.bytes_received
    assert 2**20 <= taken <= 2**20 + 64 * 1024
    # Posts, writes and timers come between, and the next wait does not wait.
    bench.connection.post([Send("a", b"hello")])
    bench.turn()
    assert bench.poll.waits[-1][0] == 0.0
    assert bench.peer_reads(sock) == [b"hello"]
    bench.turn()
    assert len(messages(bench)) == 3000
    bench.turn()
    bench.turn()
    assert bench.poll.waits[-1][0] == 20.0


def test_a_round_of_slow_reads_ends_by_the_clock(bench):
    sock = bench.opened(text(b"x" * 1000) * 3000)
    receive, reads = sock.recv, []

    def slow(size):
        bench.now += 0.015
        reads.append(size)
        return receive(size)

    sock.recv = slow
    bench.turn()
    assert len(reads) == 2
    bench.turn()
    assert bench.poll.waits[-1][0] == 0.0
    assert len(reads) == 4


@pytest.mark.parametrize("error", [BlockingIOError(), InterruptedError(), ssl.SSLWantReadError()])
def test_nothing_to_read_is_no_error(bench, error):
    bench.opened(error, text(b"later"))
    bench.turn()
    assert messages(bench) == []
    bench.turn(readable=True)
    assert messages(bench) == [b"later"]


def test_tls_that_must_write_before_it_can_read_waits_for_room(bench):
    bench.opened(ssl.SSLWantWriteError(), text(b"later"))
    bench.turn()
    assert messages(bench) == []
    bench.turn(writable=True)
    assert bench.poll.waits[-1][1] is True
    assert messages(bench) == [b"later"]


def test_the_end_of_the_stream_is_a_loss(bench, caplog):
    sock = bench.opened(text(b"last"), b"")
    bench.turn()
    with caplog.at_level(logging.INFO, "llmws.wire.connection"):
        bench.turn(readable=True)
    (lost,) = bench.router.of(Lost)
    assert (lost.code, lost.error) == (1006, None)
    assert (sock.closed, sock.shut, bench.poll.watched) == (True, True, None)
    assert bench.connection.counters.lost == 1
    assert "link lost with code 1006" in caplog.text


def test_a_socket_error_is_a_loss_that_keeps_it(bench):
    error = ConnectionResetError("reset by peer")
    sock = bench.opened(error)
    bench.turn()
    (lost,) = bench.router.of(Lost)
    assert lost.error is error
    assert sock.closed


def test_a_close_frame_is_answered_before_the_socket_is_closed(bench):
    sock = bench.opened(text(b"last") + bytes(encode_close(1001, "bye")))
    bench.turn()
    assert bench.router.told[2:] == [Deliver([b"last"]), Lost(1001, "bye")]
    bench.turn()
    assert bench.peer_reads(sock) == [Close(1001, "")]
    assert sock.closed


def test_what_lies_unread_is_taken_before_a_socket_is_closed(bench):
    # Otherwise the close would be a reset, and the server might never see our close frame.
    sock = bench.opened(bytes(encode_close(1000)))
    bench.turn(readable=True)
    sock.incoming.extend([b"x" * 65536, b"y", ConnectionResetError(), b"never read"])
    bench.turn()
    assert sock.closed
    assert list(sock.incoming) == [b"never read"]


def test_what_is_sent_in_answer_to_a_closing_servers_last_message_waits_for_the_next_socket(bench):
    sock = bench.opened(text(b"last") + bytes(encode_close(1000)))
    bench.router.answers[Deliver] = lambda given: [Send("next", b"next turn")]
    bench.turn()
    bench.turn()
    assert bench.peer_reads(sock) == [Close(1000, "")]
    assert bench.router.of(Started) == bench.router.of(Finished) == []


# Writing.


def test_a_message_is_written_in_as_many_pieces_as_the_kernel_takes(bench):
    sock = bench.opened()
    bench.turn()
    sock.room.extend([1, 3, BlockingIOError(), 2, InterruptedError()])
    bench.connection.post([Send("turn", b"hello")])
    bench.turn()
    assert len(sock.sent) == 4
    assert bench.poll.waits[-1][1] is True
    assert bench.router.told[-1] == Started("turn")
    bench.turn()  # No room: nothing is tried.
    assert len(sock.sent) == 4
    bench.turn(writable=True)
    bench.turn()
    assert len(sock.sent) == 6
    bench.turn(writable=True)
    bench.turn()
    assert bench.peer_reads(sock) == [b"hello"]
    assert bench.router.told[-1] == Finished("turn")
    assert bench.poll.waits[-1][1] is False
    assert bench.connection.counters.bytes_sent == len(sock.sent)


def test_tls_that_wants_to_write_waits_for_room(bench):
    sock = bench.opened()
    bench.turn()
    sock.room.append(ssl.SSLWantWriteError())
    bench.connection.post([Send("turn", b"hello")])
    bench.turn(writable=True)
    assert bench.poll.waits[-1][1] is True
    # TLS holds the bytes from now on, so that the message has begun.
    assert [started.key for started in bench.router.of(Started)] == ["turn"]
    bench.turn()
    assert bench.peer_reads(sock) == [b"hello"]
    assert len(bench.router.of(Started)) == 1


def test_tls_that_must_read_before_it_can_write_waits_for_bytes(bench):
    sock = bench.opened()
    bench.turn()
    sock.room.append(ssl.SSLWantReadError())
    bench.connection.post([Send("turn", b"hello")])
    bench.turn()
    # Room to write is not what it waits for: it would be woken without end.
    assert bench.poll.waits[-1][1] is False
    bench.turn()
    assert sock.sent == b""
    bench.turn(readable=True)
    bench.turn()
    assert bench.peer_reads(sock) == [b"hello"]


def test_what_the_peer_said_before_it_stopped_reading_is_heard(bench):
    sock = bench.opened()
    bench.turn()
    sock.incoming.append(text(b"why") + bytes(encode_close(1008, "too much")))
    sock.room.append(BrokenPipeError("gone"))
    bench.connection.post([Send("turn", b"hello")])
    bench.turn()
    assert messages(bench) == [b"why"]
    assert bench.router.of(Lost) == [Lost(1008, "too much")]
    assert sock.closed


def test_a_write_error_without_a_word_of_the_peer_is_a_loss(bench):
    sock = bench.opened()
    bench.turn()
    error = BrokenPipeError("gone")
    sock.room.append(error)
    bench.connection.post([Send("turn", b"hello")])
    bench.turn()
    assert [lost.error for lost in bench.router.of(Lost)] == [error]
    assert sock.closed


def test_a_huge_message_leaves_time_for_reading(bench):
    sock = bench.opened()
    bench.turn()
    sock.room.extend([64 * 1024] * 100)
    sock.incoming.append(text(b"meanwhile"))
    bench.connection.post([Send("turn", b"x" * 3 * 2**20)])
    bench.turn(readable=True, writable=True)
    assert 2**20 <= len(sock.sent) <= 2**20 + 64 * 1024
    assert messages(bench) == [b"meanwhile"]
    for _ in range(3):
        bench.turn(writable=True)
    assert bench.peer_reads(sock) == [b"x" * 3 * 2**20]


# Timers.


def test_the_wait_ends_at_the_earliest_deadline(bench):
    bench.opened()
    bench.turn()
    bench.turn()
    assert bench.poll.waits[-1][0] == 20.0
    bench.router.deadline = bench.now + 3.0
    bench.turn()
    assert bench.poll.waits[-1][0] == 3.0
    bench.now += 4.0
    bench.turn()
    assert bench.poll.waits[-1][0] == 0.0
    assert bench.router.told[-1] == Tick()


def test_an_idle_connection_without_a_socket_waits_for_a_post_alone(bench):
    bench.connection.post([])
    bench.turn()
    assert bench.poll.waits == [(None, False)]


def test_a_late_timer_first_reads_what_came_in_time(bench):
    # The process was stopped for longer than a turn's limit, while its events lay in the kernel.
    sock = bench.opened()
    bench.turn()
    bench.router.deadline = bench.now + 60.0
    bench.now += 600.0
    sock.incoming.append(text(b"in time"))
    bench.turn()
    assert bench.router.told[-2:] == [Deliver([b"in time"]), Tick()]
    assert bench.link.state is LinkState.OPEN


def test_a_link_that_was_silent_while_the_process_slept_is_asked_first(bench):
    sock = bench.opened()
    bench.turn()
    bench.now += 3600.0
    bench.turn()
    assert bench.router.of(Lost) == []
    bench.turn()
    assert len(bench.peer_reads(sock)) == 1
    bench.now += 20.0
    bench.turn()
    assert [lost.code for lost in bench.router.of(Lost)] == [1006]


# What the router wants.


def test_items_and_ends_reach_their_inboxes(bench):
    inbox: Inbox[str] = Inbox()
    error = ValueError("x")
    bench.connection.post([Append(inbox, ["a", "b"], 2), Finish(inbox, error)])
    bench.turn()
    assert (inbox.read(0), inbox.error) == (["a", "b"], error)


def test_the_router_hears_of_an_overflow(bench):
    inbox: Inbox[str] = Inbox(max_items=1)
    bench.connection.post([Append(inbox, ["a", "b"], 2)])
    bench.turn()
    assert bench.router.of(Overflowed) == [Overflowed(inbox)]


def test_actions_are_done_in_order_and_before_what_they_lead_to(bench):
    bench.router.answers[Opened] = lambda given: [Send("1", b"1"), Send("2", b"2")]
    sock = bench.opened()
    bench.turn()
    bench.turn()
    assert bench.peer_reads(sock) == [b"1", b"2"]
    steps = bench.router.told[-4:]
    assert steps == [Started("1"), Finished("1"), Started("2"), Finished("2")]


def test_a_tap_hears_everything(bench):
    sock = bench.opened(text(b'{"in":1}') + text(b"no JSON") + text(b'{"in":2}'))
    bench.connection.post([Send("turn", b'{"out":1}')])
    bench.turn()
    bench.now += 1.0
    sock.incoming.append(bytes(encode_close(1000)))
    bench.turn(readable=True)
    assert bench.tap.heard == [
        ("opened", 1000.0, "ws://test/"),
        ("sent", 1000.0, {"out": 1}),
        ("received", 1000.0, {"in": 1}),
        ("received", 1000.0, {"in": 2}),
        ("closed", 1001.0, 1000),
    ]


def test_a_connection_survives_its_sockets(bench):
    first = bench.opened(b"")
    bench.turn()
    assert first.closed
    bench.link._forgive()
    second = bench.opened(text(b"again"))
    bench.turn()
    assert messages(bench) == [b"again"]
    assert bench.poll.watched is second
    assert bench.connection.counters.dials == 2


# Ending.


def run(bench):
    """Be the I/O thread until it ends."""
    while bench.spawned:
        name, target = bench.spawned.popleft()
        if name == "llmws-test-1":
            target()


def test_stopping_says_goodbye_and_then_ends(bench):
    sock = bench.opened()
    bench.turn()
    bench.connection.stop()
    assert not bench.connection.join(0)
    assert bench.turn()
    assert bench.router.of(Stop) == [Stop()]
    assert bench.peer_reads(sock) == [Close(1000, "")]
    assert not sock.closed
    sock.incoming.append(bytes(encode_close(1000)))
    assert not bench.turn(readable=True)
    assert sock.closed


def test_a_mute_peer_is_not_waited_for_longer_than_the_close_timeout(bench):
    sock = bench.opened()
    bench.turn()
    bench.connection.stop()
    bench.turn()
    assert bench.poll.waits[-1][0] == 1.0
    bench.now += 1.0
    assert not bench.turn()
    assert sock.closed


def test_the_thread_cleans_up_after_itself(bench):
    bench.connection.post([])
    bench.connection.stop()
    bench.connection.stop()
    run(bench)
    assert bench.connection.join(0)
    assert bench.poll.closed
    assert bench.connection not in live_connections
    bench.connection.stop()


class Carrier:
    """A post that must not be left unanswered."""

    def __init__(self):
        self.refused = 0

    def refuse(self):
        self.refused += 1


@pytest.mark.parametrize("post", ["post", "post_quietly"])
def test_what_is_posted_after_the_end_is_refused(bench, post):
    bench.connection.post([])
    bench.connection.stop()
    run(bench)
    late = Carrier()
    getattr(bench.connection, post)(late)
    getattr(bench.connection, post)([])
    assert late.refused == 1
    assert late not in bench.router.told


def test_what_is_posted_while_the_thread_ends_is_refused_too(bench):
    late = Carrier()
    bench.connection.post([])
    bench.connection.stop()
    # Posted when the last round has drained its posts, and before the end is known.
    bench.poll.close = lambda: bench.connection.post(late)
    run(bench)
    assert late.refused == 1


def test_a_connection_that_was_never_used_stops_at_once(bench):
    bench.connection.stop()
    assert bench.connection.join(0)
    late = Carrier()
    bench.connection.post(late)
    assert late.refused == 1
    assert list(bench.spawned) == []


def test_a_socket_that_is_dialled_too_late_is_closed(bench):
    late = bench.opened()
    bench.connection._posts.appendleft(Stop())
    bench.poll.ready.append((False, False))
    while bench.connection.run_once(bench.poll):
        pass
    bench.connection._over(bench.poll)
    assert late.closed
    assert bench.router.of(Opened) == []


def test_a_dial_under_way_is_abandoned_at_the_end(bench):
    bench.dials.append(ConnectError("refused"))
    bench.connection.post([Want(5.0)])
    target = bench.spawned.popleft()[1]
    dialling: list = []

    def stop():
        dialling.append(bench.spawned.pop())
        bench.connection.stop()
        bench.poll.on_wait = lambda: None

    bench.poll.on_wait = stop
    target()
    assert bench.connection.join(0)
    assert bench.connection._dialling._abandoned.is_set()
    late = FakeSocket()
    bench.connection.post_quietly(DialResult(1, late))
    assert late.closed


def test_a_crash_is_told_to_the_router_and_ends_the_thread(bench, caplog):
    inbox: Inbox[str] = Inbox()
    bench.router.answers[Crashed] = lambda given: [Finish(inbox, given.error)]
    defect = ZeroDivisionError("a defect")

    def crash(given):
        raise defect

    bench.router.answers[Opened] = crash
    sock = bench.opened()
    run(bench)
    assert inbox.error is defect
    assert bench.connection.join(0)
    assert sock.closed
    assert "the I/O thread failed" in caplog.text


def test_an_end_that_was_decided_before_a_crash_still_comes(bench, caplog):
    # The router has let go of this inbox: nobody else would end it.
    decided: Inbox[str] = Inbox()

    broken = Inbox()
    broken._listeners = [lambda: 1 / 0]
    bench.connection.post([Append(broken, ["a"], 1), Finish(decided, None)])
    run(bench)
    assert decided.ended
    assert bench.connection.join(0)


def test_what_the_router_asked_or_reported_before_a_crash_is_not_lost(bench, caplog):
    # Of what it asks about or gives back the router knows nothing more.
    asked, told = Inbox(), []

    def hear(what):
        assert bench.connection.over, "what is given back must not come back"
        told.append(what)
        if what == "first":
            raise ZeroDivisionError("another defect")

    bench.connection.hear = hear
    bench.router.answers[Allowed] = lambda given: [Finish(asked, None), Report(given.fraction)]
    bench.router.answers[Crashed] = lambda given: [Report("last")]
    broken = Inbox()
    broken._listeners = [lambda: 1 / 0]
    reports = [Report("first"), Report("second"), AskAgain(object())]
    bench.connection.post([Append(broken, ["a"], 1), *reports])
    run(bench)
    assert asked.ended
    assert told == ["first", "second", None, "last"]
    assert "another defect" in caplog.text
    assert bench.budget.tokens == 500


def test_a_report_that_is_the_crash_is_not_told_twice(bench):
    told = []

    def hear(what):
        told.append(what)
        raise ZeroDivisionError

    bench.connection.hear = hear
    bench.connection.post([Report("only")])
    run(bench)
    assert told == ["only"]


def test_the_connection_knows_its_own_thread(bench):
    seen = []
    assert not bench.connection.on_own_thread
    bench.router.answers[Stop] = lambda given: seen.append(bench.connection.on_own_thread) or []
    bench.connection.post([])
    bench.connection.stop()
    run(bench)
    assert seen == [True]


def test_a_repr_says_where_it_stands(bench):
    assert repr(bench.connection) == "<Connection llmws-test-1 IDLE dials=0>"


def test_a_stop_while_the_thread_is_being_started_reaches_it(bench):
    def spawn(name, target):
        bench.connection.stop()
        bench.spawned.append((name, target))

    bench.connection._spawn = spawn
    bench.connection.post("given")
    assert bench.router.told == []
    _, target = bench.spawned.pop()
    target()
    assert bench.router.of(Stop) == [Stop()]
    assert bench.connection.join(0.0)


def test_after_a_crash_nothing_but_ends_is_carried_out(bench):
    inbox = Inbox()
    bench.router.answers[Crashed] = lambda given: [Dial(1.0), Finish(inbox, None)]
    bench.connection.post([object()])
    bench.connection.run()
    assert inbox.ended
    assert bench.connection.counters.dials == 0


def test_a_connection_without_a_thread_to_run_on_says_so_and_may_be_tried_again(bench):
    def spawn(name, target):
        raise RuntimeError("can't start new thread")

    spawn_later, bench.connection._spawn = bench.connection._spawn, spawn
    with pytest.raises(ConnectError, match="can't start new thread"):
        bench.connection.post("first")
    bench.connection._spawn = spawn_later
    bench.connection.post("second")
    bench.turn()
    assert bench.router.told == ["second"]


def test_a_socket_that_proves_useful_pays_the_budget_back(bench):
    bench.opened()
    assert bench.budget.spend()
    spent = bench.budget.tokens
    bench.connection.post([Useful()])
    bench.turn()
    assert bench.budget.tokens > spent


def test_a_connection_that_gets_no_thread_keeps_no_descriptors():
    def spawn(name, target):
        raise RuntimeError("can't start new thread")

    bench = Bench()
    bench.connection._spawn = spawn
    for _ in range(2):
        bench.poll.closed = False
        with pytest.raises(ConnectError):
            bench.connection.post([Want(5.0)])
        assert bench.poll.closed
    bench.connection.stop()  # There is nothing left to wake.
    assert bench.connection.join(0.0)
