import contextlib
import gc
import itertools
import json
import signal
import threading
import weakref
from concurrent.futures import ThreadPoolExecutor

import pytest

import llmws
from llmws import TurnState
from llmws.errors import (
    APIError,
    ConfigurationError,
    LaneTimeout,
    ReconnectError,
    StreamCancelledError,
    StreamInterruptedError,
    WaitTimeout,
    WouldDeadlockError,
)
from llmws.testing import Server, rules
from tests.responses.acting import (
    CREATED,
    FIRST_WORD,
    OUTPUT,
    PATIENCE,
    WHOLE,
    Steps,
    first_events,
    in_threads,
    mute_server,
    opened,
    until,
)


WORDS = ["one", " two", " three"]


@pytest.fixture
def stepped():
    """A turn whose events come as the test lets them."""
    rule = Steps()
    with opened(rule) as (server, session):
        yield rule, server, session, session.stream("Hi")


def advance(stepped, upto):
    """Let the turn go on to an event, and wait until it is there."""
    rule, _, _, stream = stepped
    rule.let(upto - len(stream._turn.inbox))
    return first_events(stream, upto)


# Starting, and waiting in line.


def test_a_turn_starts_without_waiting_for_a_server_that_says_nothing():
    with mute_server() as (_, base_url), llmws.Session("m", base_url=base_url) as session:
        stream = session.stream("Hi")
        assert stream.state is TurnState.QUEUED
        assert stream.finish_reason is None


def test_a_turn_starts_without_waiting_for_a_server_that_is_not_there():
    with mute_server() as (_, base_url):
        pass  # Now nobody listens there.
    with llmws.Session("m", base_url=base_url) as session:
        stream = session.stream("Hi", timeouts={"total": 0.2})
        assert stream.state is TurnState.QUEUED
        with pytest.raises((llmws.TotalTimeout, ReconnectError)):
            stream.response()


def test_turns_run_one_at_a_time_in_the_order_of_their_start():
    rule = Steps(rules.echo())
    with opened(rule) as (server, session):
        streams = [session.stream(word) for word in "abcd"]
        rule.let(1)
        first_events(streams[0], 1)
        states = [stream.state for stream in streams]
        assert states == [TurnState.ACCEPTED] + [TurnState.QUEUED] * 3
        assert len(server.ledger.requests) == 1
        rule.let_all()
        assert [stream.response().text for stream in reversed(streams)] == list("dcba")
        assert [body["input"] for body in server.ledger.creates] == list("abcd")
        assert server.ledger.connections == 1


def test_a_turn_that_waits_too_long_for_the_lane_ends_alone(stepped):
    rule, server, session, stream = stepped
    advance(stepped, CREATED)
    waiting = session.stream("Hi", timeouts={"lane_wait": 0.05})
    behind = session.stream("last")
    with pytest.raises(LaneTimeout, match=r"within 0.05 s") as caught:
        waiting.response()
    assert caught.value.state == "queued"
    assert caught.value.may_have_been_billed is False
    rule.let_all()
    assert stream.response().ok
    assert behind.response().ok
    assert [body["input"] for body in server.ledger.creates] == ["Hi", "last"]


# Readers.


def test_every_reader_sees_the_whole_turn_early_twice_and_late(stepped):
    rule, _, _, stream = stepped
    early = stream.texts()
    rule.let_all()
    assert list(early) == WORDS
    assert list(early) == []
    assert list(stream.texts()) == list(stream.texts()) == WORDS
    assert [chunk.text for chunk in stream if chunk.text] == WORDS
    assert [event.sequence_number for event in stream.events()] == list(range(WHOLE))


def test_threads_that_read_one_stream_all_see_everything(stepped):
    rule, _, _, stream = stepped
    calls = [lambda: [event.raw for event in stream.events()]] * 3
    calls += [lambda: list(stream.texts()), stream.response]
    calls.append(lambda: [rule.let() for _ in range(WHOLE)])
    *events, texts, response, _ = in_threads(*calls)
    assert len(events[0]) == WHOLE
    assert events[0] == events[1] == events[2]
    assert texts == WORDS
    assert response.text == "".join(WORDS)


def test_leaving_a_loop_leaves_the_turn_alone(stepped):
    rule, _, _, stream = stepped
    rule.let(FIRST_WORD)
    for text in stream.texts():
        assert text == "one"
        break
    rule.let_all()
    assert stream.response().text == "one two three"


def test_a_closed_reader_ends_and_the_others_go_on(stepped):
    rule, _, _, stream = stepped
    closed, other = stream.events(), stream.events()
    rule.let(2)
    next(closed)
    closed.close()
    closed.close()
    assert list(closed) == []
    rule.let_all()
    assert len(list(other)) == WHOLE


def test_a_reader_keeps_the_turn_alive(stepped):
    rule, _, session, _ = stepped
    reader = session.stream("second").texts()
    rule.let_all()
    gc.collect()
    assert list(reader) == WORDS


def test_the_sse_view_is_the_body_that_http_would_have_sent():
    with opened(rules.text("Grüße, Welt")) as (_, session):
        stream = session.stream("Hi")
        blocks = list(stream.sse())
        for block, event in zip(blocks, stream.events(), strict=True):
            name, data = block.decode().removesuffix("\n\n").split("\n")
            assert name == f"event: {event.type}"
            assert json.loads(data.removeprefix("data: ")) == event.raw


# The result.


def test_the_response_is_to_be_had_before_during_and_after(stepped):
    rule, _, _, stream = stepped
    waiting = threading.Thread(target=lambda: responses.append(stream.response()), daemon=True)
    responses = []
    waiting.start()
    advance(stepped, FIRST_WORD)
    rule.let_all()
    waiting.join(PATIENCE)
    responses += [stream.response(), stream.response(timeout=0), stream.snapshot]
    assert all(response is responses[0] for response in responses)
    assert responses[0].text == "one two three"
    assert len(responses) == 4


@pytest.mark.parametrize("timeout", [0, 0.01])
def test_a_wait_that_is_over_ends_nothing(stepped, timeout):
    rule, _, _, stream = stepped
    advance(stepped, FIRST_WORD)
    for wait in (stream.response, stream.wait, stream.run):
        with pytest.raises(WaitTimeout, match=f"within {timeout:g} s"):
            wait(timeout)
    assert isinstance(WaitTimeout(), TimeoutError)
    rule.let_all()
    assert stream.response(PATIENCE).text == "one two three"


@pytest.mark.parametrize(
    "timeout",
    [-1, float("nan"), float("inf"), 1e300, 10**400, "1", True],
    ids=lambda t: str(t)[:9],
)
def test_a_timeout_that_makes_no_sense_is_refused(stepped, timeout):
    stream = stepped[-1]
    for wait in (stream.response, stream.wait, stream.run):
        with pytest.raises(ConfigurationError, match="give seconds as a number from 0 up"):
            wait(timeout)


def test_a_timeout_of_a_century_waits_for_the_end_on_any_thread(stepped):
    rule, *_, stream = stepped
    with ThreadPoolExecutor() as threads:
        waits = [threads.submit(wait, 3e9) for wait in (stream.response, stream.wait)]
        until(lambda: stream._turn.inbox._monitor._waiting == 2 or any(w.done() for w in waits))
        rule.let_all()
        assert waits[0].result(PATIENCE).text == "one two three"
        assert waits[1].result(PATIENCE) is None
    assert stream.run(3e9).text == "one two three"


def test_the_snapshot_only_grows(stepped):
    stream = stepped[-1]
    texts = [stream.snapshot.text]
    for count in range(1, WHOLE + 1):
        advance(stepped, count)
        texts.append(stream.snapshot.text)
    assert all(after.startswith(before) for before, after in itertools.pairwise(texts))
    assert sorted(set(texts), key=len) == ["", "one", "one two", "one two three"]


def phase(stream):
    return (
        stream.state.value,
        stream.response_id is not None,
        stream.usage is not None,
        stream.finish_reason,
        stream.snapshot.status,
    )


def test_each_phase_of_a_turn_shows_what_is_known_of_it(stepped):
    rule, server, session, stream = stepped
    waiting = session.stream("behind")
    assert phase(waiting) == ("queued", False, False, None, "in_progress")
    until(lambda: stream.state is TurnState.SENT)
    assert phase(stream) == ("sent", False, False, None, "in_progress")
    advance(stepped, CREATED)
    assert phase(stream) == ("accepted", True, False, None, "in_progress")
    advance(stepped, OUTPUT)
    assert phase(stream) == ("output", True, False, None, "in_progress")
    rule.let_all()
    stream.wait()
    assert phase(stream) == ("ended", True, True, "stop", "completed")
    assert stream.response_id == stream.response().id == server.ledger.requests[0].response_id
    assert stream.usage == stream.response().usage
    assert waiting.response().ok


@pytest.mark.parametrize(
    ("rule", "status", "reason"),
    [
        (rules.incomplete("so far"), "incomplete", "length"),
        (rules.fail("server_error", "Sorry."), "failed", "error"),
        (rules.fail("server_error", "Sorry.", after="so far"), "failed", "error"),
        (rules.tool_calls([{"name": "f", "arguments": {}}]), "completed", "tool_calls"),
        (rules.refusal("No."), "completed", "stop"),
    ],
)
def test_whatever_the_terminal_event_says_is_a_result(rule, status, reason):
    with opened(rule) as (_, session):
        stream = session.stream("Hi")
        assert list(stream.events())[-1].type == f"response.{status}"
        assert stream.response().status == status
        assert stream.finish_reason == stream.response().finish_reason == reason


def test_a_refusal_is_in_chunks_and_not_in_texts():
    with opened(rules.refusal("Not that.")) as (_, session):
        stream = session.stream("Hi")
        assert list(stream.texts()) == []
        refused = [chunk.text for chunk in stream if chunk.metadata.get("refusal")]
        assert "".join(refused) == stream.response().refusal == "Not that."
        assert stream.response().text == ""


def test_an_error_is_raised_in_every_reader_as_an_object_of_its_own():
    with opened(rules.refuse(400, "bad_input", "That is no input.")) as (_, session):
        stream = session.stream("Hi")
        errors = []
        for read in (stream.response, *[lambda view=view: list(view()) for view in views(stream)]):
            with pytest.raises(APIError, match="That is no input") as caught:
                read()
            errors.append(caught.value)
        assert len({id(error) for error in errors}) == len(errors) == 6
        assert {(e.status, e.code, e.state) for e in errors} == {(400, "bad_input", "sent")}
        assert all(error.may_have_been_billed is False for error in errors)
        assert stream.finish_reason == "error"
        assert stream.state is TurnState.ENDED


def views(stream):
    return [stream.__iter__, stream.texts, stream.events, stream.sse, lambda: iter(stream)]


def test_what_came_before_an_error_is_read_before_it_is_raised():
    def rule(request):
        yield from list(rules.text("one two three")(request))[:FIRST_WORD]
        request.connection.drop()

    with opened(rule) as (_, session):
        stream, got = session.stream("Hi"), []
        with pytest.raises(StreamInterruptedError) as caught:
            got.extend(iter_and_keep(stream.texts(), got))
        assert got == ["one"]
        error = caught.value
        assert (error.state, error.may_have_been_billed) == ("output", True)
        assert error.partial.text == "one"
        assert error.partial.finish_reason == stream.finish_reason == "error"
        assert error.response_id == stream.response_id


def iter_and_keep(reader, got):
    for item in reader:
        got.append(item)
    return []


# Ends.


@pytest.mark.parametrize("how", ["cancel", "hard", "close", "with"])
def test_ending_a_turn_early_tells_every_reader(stepped, how):
    rule, _, session, stream = stepped
    advance(stepped, FIRST_WORD)
    reader = stream.texts()
    assert next(reader) == "one"
    end_early(stream, how)
    for read in (lambda: list(reader), stream.response, lambda: list(stream.events())):
        with pytest.raises(StreamCancelledError) as caught:
            read()
        assert caught.value.partial.finish_reason == "cancelled"
        assert caught.value.partial.text == "one"
        assert caught.value.may_have_been_billed
    assert stream.finish_reason == "cancelled"
    rule.let_all()
    assert session.create("next").text == "one two three"
    assert session.stats.dials == (2 if how == "hard" else 1)


def end_early(stream, how):
    if how == "with":
        with stream as entered:
            assert entered is stream
    elif how == "close":
        stream.close()
    else:
        stream.cancel(hard=how == "hard")


def test_a_turn_that_waits_can_be_cancelled_and_is_never_sent(stepped):
    rule, server, session, stream = stepped
    advance(stepped, CREATED)
    waiting = session.stream("never")
    waiting.cancel()
    with pytest.raises(StreamCancelledError) as caught:
        waiting.response()
    assert (caught.value.state, caught.value.may_have_been_billed) == ("queued", False)
    rule.let_all()
    assert stream.response().ok
    assert session.create("next").ok
    assert [body["input"] for body in server.ledger.creates] == ["Hi", "next"]


def test_ending_a_turn_that_has_ended_changes_nothing():
    with opened() as (_, session):
        stream = session.stream("Hi")
        response = stream.response()
        stream.cancel()
        stream.cancel(hard=True)
        stream.close()
        with stream:
            pass
        assert session.create("next").text == "next"
        assert stream.response() is response
        assert stream.finish_reason == "stop"
        assert session.stats.dials == 1


def test_a_turn_that_nothing_holds_is_cancelled(stepped):
    rule, _, session, stream = stepped
    advance(stepped, CREATED)
    forgotten = session.stream("forgotten")
    inbox, gone = forgotten._turn.inbox, weakref.ref(forgotten)
    del forgotten
    gc.collect()
    assert gone() is None
    until(lambda: inbox.ended)
    assert isinstance(inbox.error, StreamCancelledError)
    rule.let_all()
    assert stream.response().ok


def test_a_waiting_call_holds_its_turn():
    rule = Steps()
    with opened(rule) as (_, session):
        threading.Thread(target=lambda: (gc.collect(), rule.let_all())).start()
        assert session.stream("Hi").response().text == "one two three"


@pytest.mark.skipif(not hasattr(signal, "pthread_kill"), reason="this system has no such signals")
@pytest.mark.parametrize("wait", ["response", "events", "wait", "run"])
def test_ctrl_c_in_a_reader_cancels_the_turn(stepped, wait):
    rule, _, session, stream = stepped
    advance(stepped, FIRST_WORD)
    main = threading.main_thread().ident

    def strike():
        until(lambda: stream._turn.inbox._monitor._waiting)
        signal.pthread_kill(main, signal.SIGINT)

    striker = threading.Thread(target=strike)
    striker.start()
    calls = {"events": lambda: list(stream.events())}
    with pytest.raises(KeyboardInterrupt):
        calls.get(wait, getattr(stream, wait))()
    striker.join(PATIENCE)
    with pytest.raises(StreamCancelledError, match="Ctrl-C"):
        stream.response(PATIENCE)
    rule.let_all()
    assert session.create("next").ok


# Between two interrupts, in seconds, as long as there is progress.
PAUSE = 0.0005


class Struck(BaseException):
    """Raised by a signal's handler, wherever it finds the reader."""


@contextlib.contextmanager
def under_fire():
    """Interrupt the main thread again and again, ``read_on`` says when; yields where it was struck."""
    struck = []

    def strike(number, frame):
        # Outside of the reader an interrupt is the loop's own affair.
        if frame.f_globals["__name__"].startswith(("llmws.", "threading")):
            struck.append(frame.f_code.co_name)
            raise Struck

    before = signal.signal(signal.SIGALRM, strike)
    fire(PAUSE)
    try:
        yield struck
    finally:
        fire(0)
        signal.signal(signal.SIGALRM, before)


def fire(pause):
    signal.setitimer(signal.ITIMER_REAL, pause, pause)


def read_on(reader):
    """Read to the end, whatever strikes."""
    got, before, pause = [], 0, PAUSE
    while True:
        try:
            for item in reader:
                got.append(item)
            return got
        except Struck:
            # What a busy machine cannot do in a pause it could not do in any number of them.
            pause = PAUSE if len(got) > before else pause * 2
            before = len(got)
            fire(pause)


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="this system has no such timers")
@pytest.mark.parametrize(("count", "delay"), [(10_000, 0.0), (1500, 0.0003)])
def test_a_reader_that_is_interrupted_again_and_again_loses_and_repeats_nothing(count, delay):
    tokens = [f"{number} " for number in range(count)]
    rule = rules.text("".join(tokens), tokens=tokens)
    with (
        Server(rule=rule, delay=delay) as server,
        llmws.Session("m", base_url=server.base_url) as session,
    ):
        stream = session.stream("Hi")
        if not delay:
            stream.response()
        with under_fire() as struck:
            readers = [stream.texts() for _ in range(1 if delay else 10)]
            assert [read_on(reader) for reader in readers] == [tokens] * len(readers)
        assert struck


def test_a_blocking_call_on_the_io_thread_is_refused(stepped):
    rule, _, _, stream = stepped
    caught, done = [], threading.Event()

    def listener():
        if not stream._owner.connection.on_own_thread or done.is_set():
            return
        for call in (stream.response, stream.wait, stream.run, lambda: next(stream.events())):
            try:
                call()
            except WouldDeadlockError as exc:
                caught.append(exc)
        done.set()

    until(lambda: stream.state is TurnState.SENT)
    stream._turn.inbox.listen(listener)
    # Appended already when the listener is called: what is there may be read by anyone.
    rule.let(1)
    assert done.wait(PATIENCE)
    assert len(caught) == 3


def test_a_repr_shows_the_state_and_none_of_the_content(stepped):
    rule, _, _, stream = stepped
    advance(stepped, FIRST_WORD)
    reader = stream.texts()
    next(reader)
    shown = repr(stream) + repr(reader) + repr(stream._turn) + repr(stream._turn.inbox)
    assert f"<Stream output response_id='{stream.response_id}' events=5>" in shown
    assert "one" not in shown
    rule.let_all()
    stream.wait()
    assert repr(stream) == f"<Stream ended response_id='{stream.response_id}' events={WHOLE}>"


def test_a_stream_outlives_its_session():
    with Server() as server, llmws.Session("m", base_url=server.base_url) as session:
        stream = session.stream("one two")
        stream.wait()
    assert stream.response().text == "one two"
    assert list(stream.texts()) == ["one", " two"]
