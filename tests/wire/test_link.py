"""The life of a connection, driven by ``step(now, given)`` alone."""

from __future__ import annotations

import pytest

from llmws.errors import ConnectError, ConnectTimeout, ReconnectError
from llmws.wire.backoff import Backoff
from llmws.wire.framing import (
    BINARY,
    CLOSE,
    CONTINUATION,
    PING,
    TEXT,
    Close,
    Ping,
    Pong,
    encode,
    encode_close,
)
from llmws.wire.link import LinkState
from llmws.wire.steps import (
    AskRetry,
    CloseSocket,
    Deliver,
    Dial,
    DialFailed,
    Dialled,
    Drop,
    Ended,
    Filled,
    Finished,
    GaveUp,
    Granted,
    Lost,
    Opened,
    Received,
    Repay,
    Retrying,
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
from tests.wire.lives import Life, delay_of, only, pong, text


@pytest.fixture
def life() -> Life:
    return Life()


@pytest.fixture
def open_life() -> Life:
    return Life().opened()


# Dialling and backoff.


def test_a_wish_is_dialled_at_once_and_once(life):
    assert life.link.deadline is None
    assert life.step(Want(7.0)) == [Dial(7.0)]
    assert life.step(Want(3.0)) == []
    assert life.link.state is LinkState.DIALLING
    assert life.step(Dialled()) == [Opened()]
    assert life.step(Want()) == []
    assert life.link.state is LinkState.OPEN


def test_a_failed_dial_is_repeated_after_a_jittered_and_growing_wait(life):
    life.step(Want(5.0))
    error = ConnectError("refused")
    delays = []
    for attempt, fraction in enumerate((1.0, 0.5, 0.0, 1.0), 1):
        assert life.step(DialFailed(error)) == [AskRetry()]
        assert life.link.deadline is None
        (retrying,) = life.step(Granted(fraction))
        assert (retrying.attempt, retrying.error) == (attempt, error)
        assert life.link.deadline == life.now + retrying.delay
        delays.append(retrying.delay)
        assert life.wait() == [Dial(5.0)]
    assert delays == [0.5, 0.5, 0.0, 4.0]


def test_a_tick_before_the_deadline_does_nothing(life):
    life.step(Want())
    life.fail()
    assert life.step(Tick(), after=0.49) == []
    assert life.step(Tick(), after=0.01) == [Dial(None)]


def test_the_fifth_failure_in_a_row_gives_up(life):
    life.step(Want())
    last = ConnectError("the last one")
    for _ in range(4):
        life.fail()
        life.wait()
    (gave_up,) = life.step(DialFailed(last))
    error = gave_up.error
    assert isinstance(error, ReconnectError)
    assert (error.attempts, error.__cause__, error.retryable) == (5, last, False)
    assert error.elapsed == pytest.approx(0.5 + 1 + 2 + 4)
    assert "5 failed dials" in str(error)
    assert "the last one" in str(error)
    assert life.link.state is LinkState.IDLE
    assert life.link.deadline is None
    # Somebody who asks anew begins anew.
    assert life.step(Want()) == [Dial(None)]
    assert type(life.fail()[0]) is Retrying


def test_an_empty_budget_gives_up(life):
    life.step(Want())
    (gave_up,) = life.fail(fraction=None)
    assert isinstance(gave_up.error, ReconnectError)
    assert gave_up.error.attempts == 1
    assert "budget" in str(gave_up.error)
    assert life.link.state is LinkState.IDLE


def test_an_error_that_no_repeat_helps_gives_up_as_itself(life):
    life.step(Want())
    error = ConnectError("who are you", retryable=False)
    assert life.step(DialFailed(error)) == [GaveUp(error)]
    assert life.step(Want()) == [Dial(None)]


def test_a_dial_that_used_up_its_time_is_not_repeated(life):
    life.step(Want(5.0))
    life.step(Want(9.0))  # This one came while the dial was under way.
    error = ConnectTimeout("too long")
    assert life.step(DialFailed(error)) == [GaveUp(error, 5.0)]


@pytest.mark.parametrize(("asked", "delay"), [(0.0, 0.25), (7.0, 7.0), (60.0, 60.0)])
def test_the_server_may_ask_for_a_longer_wait(life, asked, delay):
    life.step(Want())
    assert delay_of(life.fail(ConnectError(retry_after=asked), fraction=0.5)) == delay


def test_a_server_that_asks_for_too_long_is_not_waited_for(life):
    life.step(Want())
    (gave_up,) = life.fail(ConnectError(retry_after=60.1))
    assert "60 s" in str(gave_up.error)


def test_nobodys_wish_is_not_dialled_again(life):
    life.step(Want())
    life.step(Unwant())
    assert life.step(DialFailed(ConnectError())) == []
    assert life.link.state is LinkState.IDLE
    assert life.link.deadline is None
    # The failure still counts: who wants a socket at once waits.
    assert life.step(Want()) == [AskRetry()]


def test_a_wish_taken_back_during_the_wait_ends_the_wait(life):
    life.step(Want())
    life.fail()
    assert life.step(Unwant()) == []
    assert (life.link.state, life.link.deadline) == (LinkState.IDLE, None)


def test_a_socket_that_nobody_wants_any_more_is_kept(life):
    life.step(Want())
    life.step(Unwant())
    assert life.step(Dialled()) == [Opened()]


def test_a_server_that_accepts_and_drops_is_not_dialled_without_end(life):
    # Each dial works, and yet nothing useful comes: the failures are counted, and the waits grow.
    life.step(Want())
    delays = []
    for _ in range(4):
        life.step(Dialled())
        actions = life.step(Ended())
        assert only(Lost, actions).code == 1006
        assert life.step(Want()) == [AskRetry()]
        delays.append(delay_of(life.step(Granted(1.0))))
        assert life.wait() == [Dial(None)]
    assert delays == [0.5, 1, 2, 4]
    life.step(Dialled())
    life.step(Ended())
    (gave_up,) = life.step(Want())
    assert gave_up.error.attempts == 5
    assert "before any response" in str(gave_up.error)


def test_a_useful_event_forgives_and_a_mere_connect_does_not(life):
    life.step(Want())
    life.fail()
    life.wait()
    life.step(Dialled())
    life.step(Ended())
    life.step(Want())
    assert delay_of(life.step(Granted(1.0))) == 1.0
    life.wait()
    life.step(Dialled())
    life.step(Useful())
    life.step(Ended())
    assert life.step(Want()) == [Dial(None)]
    assert delay_of(life.fail()) == 0.5


@pytest.mark.parametrize("code", [1008, 1002, 1003, 1007, 1009, 4000])
def test_a_server_that_refuses_by_close_code_is_not_dialled_again(life, code):
    life.opened()
    life.receive(encode_close(code, "no"))
    life.write()
    (gave_up,) = life.step(Want())
    assert not gave_up.error.retryable
    assert str(code) in str(gave_up.error)
    assert "no" in str(gave_up.error)


def test_a_fresh_wish_is_worth_a_dial_after_a_refusal(life):
    life.opened()
    life.receive(encode_close(1008, "no"))
    life.write()
    assert life.step(Want(fresh=True)) == [Dial(None)]


@pytest.mark.parametrize("code", [1000, 1001, 1011, 1012, 1013])
def test_a_server_that_goes_away_is_dialled_again(life, code):
    life.opened()
    life.receive(encode_close(code))
    life.write()
    assert life.step(Want()) == [AskRetry()]


def test_a_dial_that_answers_after_the_stop_opens_nothing(life):
    life.step(Want())
    assert life.step(Stop()) == [Stopped()]
    assert life.step(Dialled()) == [CloseSocket()]
    assert life.step(DialFailed(ConnectError())) == []
    assert life.link.state is LinkState.STOPPED


# Reading.


def test_messages_are_delivered_in_order_and_binary_ones_too(open_life):
    actions = open_life.receive(
        text(b"1"), encode(BINARY, b"2"), encode(PING, b"x"), text(b"3"), text(b"4")[:1]
    )
    assert actions == [Deliver([b"1", b"2", b"3"])]
    assert open_life.receive(text(b"4")[1:]) == [Deliver([b"4"])]
    assert open_life.receive(encode(PING, b"x")) == []


def test_a_large_message_may_be_read_straight_into_its_place(open_life):
    payload = b"x" * 300_000
    data = text(payload)
    assert open_life.receive(data[:1000]) == []
    taken, actions = 1000, []
    while (room := open_life.link.room()) is not None:
        with room:
            count = len(room[: len(data) - taken])
            room[:count] = data[taken : taken + count]
        taken += count
        actions += open_life.step(Filled(count))
    assert actions == [Deliver([payload])]


def test_a_ping_is_answered_with_its_payload(open_life):
    open_life.receive(encode(PING, b"abc"))
    assert open_life.write() == ([Pong(b"abc")], [])


def test_of_many_pings_at_once_the_newest_are_answered(open_life):
    open_life.receive(*(encode(PING, b"%d" % number) for number in range(1_000)))
    assert open_life.write() == ([Pong(b"%d" % number) for number in range(936, 1_000)], [])


# Writing.


def test_a_message_tells_its_first_and_its_last_byte(open_life):
    open_life.send("turn", b"hello")
    assert open_life.write(1) == ([], [Started("turn")])
    assert open_life.write(3) == ([], [])
    assert open_life.write() == ([b"hello"], [Finished("turn")])
    assert open_life.link.pending() is None
    open_life.send("next", b"x")
    assert open_life.write() == ([b"x"], [Started("next"), Finished("next")])


def test_a_message_that_tls_has_taken_has_begun_though_the_kernel_has_nothing_of_it(open_life):
    open_life.send("a")
    assert open_life.link.pending() is not None
    assert open_life.step(Wrote(0)) == [Started("a")]
    open_life.step(Withdraw("a"))
    assert open_life.link.pending() is not None


def test_a_message_is_withdrawn_only_before_it_has_begun(open_life):
    open_life.send("a", b"a")
    open_life.step(Withdraw("a"))
    assert open_life.link.pending() is None
    open_life.send("b", b"bb")
    open_life.write(1)
    open_life.step(Withdraw("b"))
    assert open_life.write()[0] == [b"bb"]


def test_a_long_request_is_written_in_pieces_and_arrives_whole(open_life):
    request = b"x" * (3 * 2**19 + 5)
    open_life.send("a", request)
    assert len(open_life.link.pending()) < len(request)
    read, actions = open_life.write()
    assert read == [request]
    assert actions == [Started("a"), Finished("a")]


def test_frames_are_masked_each_with_a_key_of_its_own():
    keys = iter([b"\x01\x01\x01\x01", b"\x02\x02\x02\x02"])
    life = Life().opened()
    life.link._mask_key = lambda: next(keys)
    life.send("a", b"\0\0")
    life.send("b", b"\0\0")
    assert bytes(life.link.pending()) == bytes.fromhex("8182010101010101")
    life.write(8)
    assert bytes(life.link.pending()) == bytes.fromhex("8182020202020202")


def test_a_message_sent_behind_the_loss_is_never_written(open_life):
    # The router may answer a delivery that came in the same bytes as the close.
    actions = open_life.receive(text(b"last"), encode_close(1000))
    assert [type(action) for action in actions] == [Deliver, Lost]
    open_life.send("next turn")
    read, actions = open_life.write()
    assert [type(item) for item in read] == [Close]
    assert actions == [CloseSocket()]


BREACH = encode(TEXT, b"\xff")


def test_what_came_before_a_breach_is_answered_before_the_link_is_closed_for_it(open_life):
    actions = open_life.receive(text(b"last"), BREACH)
    assert [type(action) for action in actions] == [Deliver]
    open_life.send("key", b"answer")
    assert open_life.link.deadline == open_life.now
    assert open_life.write()[0] == [b"answer"]
    (lost,) = open_life.step(Tick())
    assert (lost.code, lost.violation) == (1007, True)
    read, actions = open_life.write()
    assert [item.code for item in read] == [1007]
    assert actions == [CloseSocket()]


@pytest.mark.parametrize("ending", [Ended(None), Ended(ConnectionResetError()), Stop(), Tick()])
def test_a_breach_is_the_reason_however_the_link_ends_behind_it(open_life, ending):
    open_life.receive(text(b"last"), BREACH)
    lost = open_life.step(ending)[0]
    assert (lost.code, lost.violation) == (1007, True)


def test_a_breach_that_is_told_while_a_message_is_half_written_leads_to_one_dial(open_life):
    open_life.receive(text(b"last"), BREACH)
    open_life.send("next turn", b"{}")
    assert open_life.link.pending()
    open_life.step(Wrote(1))
    open_life.step(Useful())
    open_life.step(Want(5.0))
    done = open_life.step(Ended(None))
    assert [type(action) for action in done] == [Lost, CloseSocket, Dial]


def test_nothing_is_read_behind_a_breach_and_the_next_link_is_free_of_it(open_life):
    open_life.receive(text(b"last"), BREACH)
    assert open_life.receive(text(b"more")) == []
    assert open_life.step(Drop()) == [CloseSocket()]
    open_life.opened()
    assert open_life.link.deadline > open_life.now


def test_a_message_without_a_socket_is_forgotten(life):
    life.send("early")
    life.opened()
    assert life.link.pending() is None


# Liveness.


def test_a_ping_is_sent_every_interval_and_its_pong_satisfies(open_life):
    for number in range(1, 4):
        assert open_life.ping() == [Ping(b"llmws")]
        assert open_life.now == 100.0 + 20.0 * number
        open_life.receive(pong(), after=0.1)
        assert open_life.link.deadline == 100.0 + 20.0 * (number + 1)


def test_silence_after_a_ping_breaks_the_link(open_life):
    open_life.ping()
    assert open_life.step(Tick(), after=19.9) == []
    lost, closed = open_life.step(Tick(), after=0.1)
    assert (lost.code, lost.violation, closed) == (1006, False, CloseSocket())
    assert "20.0 s" in lost.reason


@pytest.mark.parametrize("data", [text(), text()[:1], pong(b"other"), bytes(encode(PING, b""))])
def test_any_byte_shows_that_the_link_lives(open_life, data):
    open_life.ping()
    open_life.receive(data, after=19.9)
    assert open_life.step(Tick(), after=0.2) == []
    assert open_life.link.state is LinkState.OPEN


def test_a_pings_clock_starts_when_its_bytes_are_written(open_life):
    open_life.wait()
    open_life.write(3)
    open_life.now += 5.0
    open_life.write()
    written_at = open_life.now
    assert open_life.link.deadline == written_at + 20.0
    # Nor is a pong overdue before its ping was written.
    open_life.now += 0.9
    open_life.send("turn")
    assert open_life.write()[1] == [Started("turn"), Finished("turn")]


def test_the_clock_pauses_while_the_outbox_makes_progress(open_life):
    open_life.ping()
    open_life.send("big", b"x" * 1000)
    for _ in range(10):
        open_life.now += 15.0
        assert open_life.step(Tick()) == []
        open_life.write(10)
    assert open_life.link.state is LinkState.OPEN
    assert open_life.step(Tick(), after=19.9) == []
    assert only(Lost, open_life.step(Tick(), after=0.1)).code == 1006


def test_a_ping_that_cannot_be_written_breaks_the_link_in_the_end(open_life):
    open_life.wait()
    assert open_life.link.deadline == open_life.now + 20.0
    assert only(Lost, open_life.wait()).code == 1006


def test_a_request_is_not_held_while_the_pong_may_still_come(open_life):
    open_life.ping()
    open_life.now += 0.9
    open_life.send("turn")
    assert open_life.write()[1] == [Started("turn"), Finished("turn")]


def test_a_request_waits_for_an_overdue_pong(open_life):
    open_life.ping()
    open_life.now += 1.0
    open_life.send("turn")
    assert open_life.link.pending() is None
    assert open_life.link.deadline == open_life.now + 1.0
    open_life.receive(pong(), after=0.9)
    assert open_life.write()[1] == [Started("turn"), Finished("turn")]


def test_a_link_whose_pong_stays_overdue_is_replaced(open_life):
    open_life.ping()
    open_life.now += 5.0
    open_life.send("turn")
    actions = open_life.wait()
    assert open_life.now == 126.0
    assert [type(action) for action in actions] == [Lost, CloseSocket]
    assert open_life.link.pending() is None


def test_a_second_request_does_not_prolong_the_wait_for_a_pong(open_life):
    open_life.ping()
    open_life.now += 5.0
    open_life.send("one")
    open_life.step(Withdraw("one"), after=0.7)
    open_life.send("two")
    assert open_life.link.deadline == 126.0


def test_control_frames_pass_a_held_request(open_life):
    open_life.ping()
    open_life.now += 5.0
    open_life.send("turn")
    open_life.step(Unwant())
    assert open_life.link.pending() is None
    open_life.link._outbox.add_control(encode(PING, b"x", mask=b"1234"))
    assert open_life.write() == ([Ping(b"x")], [])


def test_after_a_suspension_a_request_first_asks_whether_the_link_lives(open_life):
    # The machine slept through several pings, and the first thing that happens is a request.
    open_life.now += 3600.0
    open_life.send("turn")
    assert open_life.write() == ([Ping(b"llmws")], [])
    assert open_life.link.deadline == open_life.now + 1.0
    open_life.receive(pong(), after=0.2)
    assert open_life.write()[1] == [Started("turn"), Finished("turn")]


def test_after_a_suspension_a_late_timer_first_asks(open_life):
    assert open_life.step(Tick(), after=3600.0) == []
    assert open_life.write() == ([Ping(b"llmws")], [])
    assert open_life.link.deadline == open_life.now + 20.0


def test_a_new_socket_has_a_clock_of_its_own(open_life):
    open_life.ping()
    open_life.now += 10.0
    open_life.step(Useful())
    open_life.step(Ended())
    open_life.opened()
    assert open_life.link.deadline == open_life.now + 20.0
    open_life.send("turn")
    assert open_life.link.pending() is not None


# Ending.


def test_a_close_of_the_peer_is_told_at_once_and_answered(open_life):
    assert open_life.receive(encode_close(1001, "bye")) == [Lost(1001, "bye")]
    assert open_life.link.state is LinkState.ENDING
    assert open_life.receive(text(b"late")) == []
    assert open_life.write() == ([Close(1001, "")], [CloseSocket()])
    assert open_life.link.state is LinkState.IDLE


def test_a_close_without_a_code_is_answered_without_one(open_life):
    assert open_life.receive(encode(CLOSE, b"")) == [Lost(1005, "")]
    assert open_life.write()[0] == [Close(1005, "")]


def test_the_messages_before_a_close_come_before_its_loss(open_life):
    actions = open_life.receive(text(b"1"), encode_close(1000), text(b"2"))
    assert actions == [Deliver([b"1"]), Lost(1000, "")]


@pytest.mark.parametrize("ender", [Tick(), Ended(), Ended(OSError("reset"))])
def test_a_farewell_that_cannot_be_written_is_not_waited_for_long(open_life, ender):
    open_life.receive(encode_close(1000))
    if ender == Tick():
        assert open_life.link.deadline == open_life.now + 1.0
        assert open_life.wait() == [CloseSocket()]
    else:
        assert open_life.step(ender) == [CloseSocket()]


def test_a_wish_during_the_farewell_is_dialled_after_it(open_life):
    open_life.step(Useful())
    open_life.receive(encode_close(1000))
    assert open_life.step(Want()) == []
    assert open_life.write()[1] == [CloseSocket(), Dial(None)]


def test_no_farewell_is_written_into_a_frame_that_has_begun(open_life):
    open_life.send("turn", b"x" * 100)
    open_life.write(10)
    actions = open_life.receive(encode_close(1009, "too big"))
    assert actions == [Lost(1009, "too big"), CloseSocket()]
    assert open_life.link.pending() is None


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (encode(TEXT, b"x", mask=b"1234"), 1002),
        (encode(TEXT, b"\xff"), 1007),
        (encode(CONTINUATION, b""), 1002),
        (b"\x81\x7f" + (2**40).to_bytes(8, "big"), 1009),
        (encode(CLOSE, b"\x03"), 1002),
    ],
)
def test_a_breach_of_the_protocol_closes_with_its_code(open_life, data, code):
    (lost,) = open_life.receive(data)
    assert (lost.code, lost.violation) == (code, True)
    (close,), actions = open_life.write()
    assert close.code == code
    assert close.reason
    assert actions == [CloseSocket()]


def test_the_end_of_the_byte_stream_is_a_loss_with_1006(open_life):
    lost, closed = open_life.step(Ended())
    assert (lost.code, lost.error, closed) == (1006, None, CloseSocket())
    assert "without a close frame" in lost.reason


def test_a_socket_error_is_kept_in_the_loss(open_life):
    error = ConnectionResetError("reset by peer")
    lost, _ = open_life.step(Ended(error))
    assert lost.error is error
    assert "reset by peer" in lost.reason


def test_dropping_closes_at_once_and_a_new_wish_dials(open_life):
    open_life.send("turn")
    assert open_life.step(Drop()) == [CloseSocket()]
    assert open_life.link.pending() is None
    assert open_life.step(Want()) == [Dial(None)]
    assert open_life.step(Drop()) == []


# Stopping.


def test_stopping_says_goodbye_and_waits_for_the_answer(open_life):
    open_life.send("turn")
    assert open_life.step(Stop()) == []
    assert open_life.write() == ([Close(1000, "")], [])
    assert open_life.receive(text(b"late"), encode(PING, b"x")) == []
    assert open_life.receive(encode_close(1000)) == [CloseSocket(), Stopped()]
    assert open_life.step(Stop()) == []
    assert open_life.link.deadline is None


@pytest.mark.parametrize(
    "end",
    [
        lambda life: life.wait(),
        lambda life: life.step(Ended()),
        lambda life: life.step(Ended(OSError("reset"))),
        lambda life: life.receive(b"\xff\xff"),
    ],
)
def test_stopping_ends_though_the_peer_is_mute_gone_or_mad(open_life, end):
    open_life.step(Stop())
    assert open_life.link.deadline == open_life.now + 1.0
    assert end(open_life) == [CloseSocket(), Stopped()]


def test_stopping_finishes_the_frame_that_has_begun(open_life):
    open_life.send("turn", b"hello")
    open_life.write(3)
    open_life.step(Stop())
    assert open_life.write()[0] == [b"hello", Close(1000, "")]


def states():
    def waiting(life):
        life.step(Want())
        life.fail()

    def ending(life):
        life.opened()
        life.receive(encode_close(1000))

    return {
        "idle": lambda life: None,
        "dialling": lambda life: life.step(Want()),
        "waiting": waiting,
        "open": lambda life: life.opened(),
        "ending": ending,
        "stopped": lambda life: life.step(Stop()),
    }


@pytest.mark.parametrize("state", states())
def test_stopping_reaches_its_end_from_every_state(life, state):
    states()[state](life)
    assert life.link.state.value == state
    begun, actions = life.now, life.step(Stop())
    if life.link.deadline is not None:
        actions += life.wait()
    assert life.now <= begun + 1.0
    if state != "stopped":
        assert actions[-1] == Stopped()
    assert life.link.state is LinkState.STOPPED
    assert life.link.deadline is None
    assert life.link.pending() is None


@pytest.mark.parametrize(
    "given",
    [
        Want(),
        Unwant(),
        Granted(0.5),
        Received(text()),
        Ended(),
        Send(1, b""),
        Withdraw(1),
        Wrote(1),
        Drop(),
        Stop(),
        Tick(),
    ],
)
def test_a_stopped_link_does_nothing_more(life, given):
    life.step(Stop())
    assert life.step(given) == []
    assert life.link.state is LinkState.STOPPED
    assert life.link.pending() is None


def test_a_wish_while_stopping_is_not_granted(open_life):
    open_life.step(Stop())
    open_life.step(Want())
    assert open_life.step(Ended()) == [CloseSocket(), Stopped()]


def test_the_policy_sets_every_number():
    life = Life(
        ping_interval=3.0,
        ping_timeout=4.0,
        pong_grace=0.5,
        close_timeout=6.0,
        max_message_bytes=10,
        backoff=Backoff(base=2.0, attempts=2),
    )
    life.step(Want())
    assert delay_of(life.fail()) == 2.0
    life.wait()
    life.step(Dialled())
    assert life.link.deadline == life.now + 3.0
    life.ping()
    assert life.link.deadline == life.now + 4.0
    life.now += 0.5
    life.send("turn")
    assert life.link.deadline == life.now + 0.5
    assert only(Lost, life.receive(text(b"x" * 11))).code == 1009
    assert life.link.deadline == life.now + 6.0


def test_a_repr_shows_the_state_and_no_content(open_life):
    open_life.send("turn", b"secret")
    assert repr(open_life.link) == "<Link OPEN failures=0 frames=1>"


def test_a_socket_pays_one_retry_back_when_it_first_proves_useful(open_life):
    assert open_life.step(Useful()) == [Repay()]
    assert open_life.step(Useful()) == []
