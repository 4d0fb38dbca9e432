import contextvars
import logging
import threading
import time

import pytest

import llmws
from llmws import TurnState
from llmws.errors import (
    APIError,
    ConfigurationError,
    StreamCancelledError,
    StreamInterruptedError,
    WaitTimeout,
    WouldDeadlockError,
)
from llmws.responses.stream.handlers import NAMES
from llmws.testing import rules
from tests.responses.acting import (
    CREATED,
    FIRST_WORD,
    PATIENCE,
    WHOLE,
    Steps,
    first_events,
    in_threads,
    opened,
)


WORDS = ["one", " two", " three"]
VARIABLE = contextvars.ContextVar("VARIABLE", default="unset")


def told_by(stream, *names):
    """Register a callback for each name; return the list that all of them write to."""
    told = []
    for name in names or NAMES:
        stream.on(name, lambda value, name=name: told.append((name, value)))
    return told


def of(told, name):
    return [value for key, value in told if key == name]


# What is told, and in which order.


def test_each_callback_is_told_what_its_view_shows():
    rule = rules.sequence(
        rules.reasoning("Let me think.", answer="one two three"),
        rules.tool_calls([{"name": "look", "arguments": {"x": 1}}]),
    )
    with opened(rule) as (_, session):
        for _ in range(2):
            stream = session.stream("Hi")
            told = told_by(stream)
            stream.wait()
            chunks = list(stream)
            assert of(told, "chunk") == chunks
            assert of(told, "event") == list(stream.events())
            assert of(told, "text") == list(stream.texts())
            assert of(told, "thinking") == [c.thinking for c in chunks if c.type == "thinking"]
            assert of(told, "tool_call") == [c.tool_call for c in chunks if c.tool_call]
            assert of(told, "meta") == [c.metadata for c in chunks if c.type == "meta"]
            assert of(told, "done") == [stream.response()]
            assert of(told, "error") == of(told, "callback_error") == []
        assert [call.name for call in of(told, "tool_call")] == ["look"]


def test_on_returns_the_stream_so_that_calls_can_be_chained():
    with opened() as (_, session):
        stream = session.stream("Hi")
        assert stream.on("text", print).on("done", print) is stream
        stream.wait()


def test_a_refusal_is_no_text():
    with opened(rules.refusal("No.")) as (_, session):
        stream = session.stream("Hi")
        told = told_by(stream, "text", "chunk")
        stream.wait()
        assert of(told, "text") == []
        assert "No." in [chunk.text for chunk in of(told, "chunk")]


def test_callbacks_of_one_stream_run_in_order_and_one_at_a_time():
    inside, most, told = [], [], []

    def busy(name, value):
        inside.append(name)
        most.append(len(inside))
        told.append((name, value))
        inside.pop()

    tokens = [f"{number} " for number in range(500)]
    # Nothing is said before all have registered: each catches up alone with what it missed.
    steps = Steps(rules.text("".join(tokens), tokens=tokens))
    with opened(steps) as (_, session):
        stream = session.stream("Hi")
        for name in ("a", "b"):
            stream.on("text", lambda value, name=name: busy(name, value))
        stream.on("done", lambda _: busy("done", None))
        steps.let_all()
        stream.wait()
    assert max(most) == 1
    assert of(told, "a") == of(told, "b") == tokens
    assert told[-1] == ("done", None)
    assert told[:4] == [("a", "0 "), ("b", "0 "), ("a", "1 "), ("b", "1 ")]


def test_one_that_comes_late_is_told_everything_from_the_first_event():
    rule = Steps()
    with opened(rule) as (_, session):
        stream = session.stream("Hi")
        early = told_by(stream, "text")
        rule.let(FIRST_WORD)
        first_events(stream, FIRST_WORD)
        during = told_by(stream, "text", "done")
        rule.let_all()
        stream.wait()
        after = told_by(stream, "text", "done")
        stream.wait()
        assert of(early, "text") == of(during, "text") == of(after, "text") == WORDS
        assert of(during, "done") == of(after, "done") == [stream.response()]


def test_one_that_another_callback_registers_is_told_everything_too():
    with opened(rules.text("one two three")) as (_, session):
        stream, told = session.stream("Hi"), []
        stream.on("done", lambda _: stream.on("text", told.append))
        stream.wait()
        assert told == WORDS


def test_the_end_is_told_once_however_many_wait():
    with opened() as (_, session):
        stream = session.stream("Hi")
        told = told_by(stream, "done", "error")
        in_threads(*[stream.wait] * 4)
        stream.wait()
        assert [name for name, _ in told] == ["done"]


def hang_up(request):
    request.connection.drop()
    return []


@pytest.mark.parametrize(
    ("rule", "kind"),
    [
        (rules.refuse(400, "bad", "No."), APIError),
        (hang_up, StreamInterruptedError),
    ],
)
def test_a_turn_without_a_response_tells_its_error_once(rule, kind):
    with opened(rule) as (_, session):
        stream = session.stream("Hi")
        told = told_by(stream, "done", "error")
        stream.wait()
        stream.on("error", lambda error: told.append(("late", error)))
        stream.wait()
        assert [name for name, _ in told] == ["error", "late"]
        assert isinstance(told[0][1], kind)
        assert told[0][1].partial is not None


def test_a_failed_response_is_done_and_no_error():
    with opened(rules.fail("server_error", "Sorry.")) as (_, session):
        stream = session.stream("Hi")
        told = told_by(stream, "done", "error")
        stream.wait()
        assert [(name, value.status) for name, value in told] == [("done", "failed")]


def test_a_cancelled_turn_tells_so():
    rule = Steps()
    with opened(rule) as (_, session):
        stream = session.stream("Hi")
        told = told_by(stream, "text", "error")
        rule.let(FIRST_WORD)
        first_events(stream, FIRST_WORD)
        stream.cancel()
        stream.wait()
        assert of(told, "text") == ["one"]
        assert isinstance(of(told, "error")[0], StreamCancelledError)


@pytest.mark.parametrize("name", ["", "texts", "Text", None, 5])
def test_an_unknown_name_is_refused_and_the_names_are_said(name):
    with opened() as (_, session):
        stream = session.stream("Hi")
        with pytest.raises(ConfigurationError, match="choose from chunk, text, thinking"):
            stream.on(name, print)
        assert stream.response().ok


def test_what_cannot_be_called_is_refused():
    with opened() as (_, session):
        stream = session.stream("Hi")
        with pytest.raises(ConfigurationError, match="'text' callback is 'print', which cannot"):
            stream.on("text", "print")
        with pytest.raises(ConfigurationError, match="choose from"):
            stream.run(words=print)


# Callbacks that raise.


def test_what_a_callback_raises_is_logged_told_and_does_no_harm(caplog):
    def raising(text):
        raise LookupError(f"lost {text}")

    with opened(rules.text("one two three")) as (_, session):
        stream = session.stream("Hi")
        told = told_by(stream, "text", "callback_error", "done")
        stream.on("text", raising)
        stream.wait()
        assert of(told, "text") == WORDS
        assert [str(error) for error in of(told, "callback_error")] == [
            repr(f"lost {word}")[1:-1] for word in WORDS
        ]
        assert len(of(told, "done")) == 1
    records = [r for r in caplog.records if r.levelno == logging.ERROR]
    assert [r.getMessage() for r in records] == ["a 'text' callback raised"] * 3
    assert all(isinstance(r.exc_info[1], LookupError) for r in records)


@pytest.mark.parametrize("error", [SystemExit(1), KeyboardInterrupt(), BaseException("base")])
def test_not_even_the_end_of_a_program_ends_a_callback_thread(error, caplog):
    def raising(_):
        raise error

    with opened() as (_, session):
        stream = session.stream("Hi")
        told = told_by(stream, "callback_error", "done")
        stream.on("text", raising)
        stream.wait()
        assert of(told, "callback_error") == [error]
        assert len(of(told, "done")) == 1
    assert "a 'text' callback raised" in caplog.text


def test_what_a_callback_for_errors_raises_is_logged_and_not_told_again(caplog):
    calls = []

    def raising(value):
        calls.append(value)
        raise LookupError

    with opened(rules.text("one")) as (_, session):
        stream = session.stream("Hi").on("callback_error", raising).on("text", raising)
        stream.wait()
    assert len(calls) == 2
    assert "a 'callback_error' callback raised" in caplog.text


# Where they run.


def test_they_run_on_threads_of_the_session_and_never_on_its_io_thread():
    names = []
    with opened() as (_, session):
        session.stream("Hi").on("event", lambda _: names.append(threading.current_thread().name))
    assert names
    assert all("-callbacks-" in name for name in names)


def test_they_see_the_context_variables_of_their_registration():
    seen = []
    with opened() as (_, session):
        stream = session.stream("Hi")
        for value in ("first", "second"):
            token = VARIABLE.set(value)
            stream.on("done", lambda _: (seen.append(VARIABLE.get()), VARIABLE.set("changed")))
            VARIABLE.reset(token)
        stream.wait()
    assert seen == ["first", "second"]
    assert VARIABLE.get() == "unset"


def test_they_may_run_further_turns_and_wait_for_them():
    told = []
    with opened(callback_threads=1) as (_, session):

        def ask_again(response):
            told.append(response.text)
            told.append(session.create("second").text)
            told.append("".join(session.stream("third").texts()))
            told.append(session.stream("fourth").run(text=told.append).text)

        session.stream("first").on("done", ask_again).wait()
    assert told == ["first", "second", "third", "fourth", "fourth"]


def test_callbacks_of_several_streams_run_side_by_side():
    together = threading.Barrier(3)
    with opened() as (_, session):
        streams = [session.stream("Hi") for _ in range(3)]
        met = [told_by(stream, "callback_error") for stream in streams]
        for stream in streams:
            stream.on("done", lambda _: together.wait(PATIENCE))
        for stream in streams:
            stream.wait()
    assert met == [[], [], []]


def test_with_one_thread_they_take_turns():
    names, inside, most = set(), [], []

    def busy(_):
        inside.append(1)
        most.append(len(inside))
        names.add(threading.current_thread().name)
        inside.pop()

    with opened(callback_threads=1) as (_, session):
        for stream in [session.stream("Hi").on("event", busy) for _ in range(4)]:
            stream.wait()
    assert len(names) == 1
    assert max(most) == 1
    assert len(most) > 4 * WHOLE / 2


def test_there_are_never_more_threads_than_allowed():
    names, full, go_on = set(), threading.Barrier(3), threading.Event()

    def busy(_):
        names.add(threading.current_thread().name)
        if not go_on.is_set():
            full.wait(PATIENCE)
            go_on.wait(PATIENCE)

    with opened(callback_threads=2) as (_, session):
        streams = [session.stream("Hi").on("done", busy) for _ in range(5)]
        full.wait(PATIENCE)
        for stream in streams:
            stream.response()
        go_on.set()
        for stream in streams:
            stream.wait()
    assert len(names) == 2


def test_a_slow_callback_does_not_keep_readers_waiting():
    slow = threading.Event()
    with opened() as (_, session):
        stream = session.stream("Hi").on("event", lambda _: slow.wait(PATIENCE))
        assert stream.response().text == "Hi"
        assert session.create("next").text == "next"
        slow.set()


# Waiting for them.


def test_wait_is_over_when_every_callback_has_returned():
    told, go_on = [], threading.Event()
    with opened() as (_, session):
        stream = session.stream("Hi")
        stream.on("done", lambda _: (go_on.wait(PATIENCE), told.append("done")))
        stream.response()
        with pytest.raises(WaitTimeout, match=r"callbacks were not done within 0.01 s"):
            stream.wait(0.01)
        assert told == []
        go_on.set()
        stream.wait(PATIENCE)
        assert told == ["done"]


def test_wait_without_callbacks_waits_for_the_turn():
    rule = Steps()
    with opened(rule) as (_, session):
        stream = session.stream("Hi")
        with pytest.raises(WaitTimeout):
            stream.wait(0.01)
        rule.let_all()
        stream.wait()
        assert stream.state is TurnState.ENDED


@pytest.mark.parametrize("call", ["wait", "run"])
def test_a_callback_cannot_wait_for_itself(call):
    with opened() as (_, session):
        stream = session.stream("Hi")
        told = told_by(stream, "callback_error")
        stream.on("text", lambda _: getattr(stream, call)())
        stream.wait()
        assert isinstance(of(told, "callback_error")[0], WouldDeadlockError)


def test_nor_can_one_that_runs_on_the_users_thread():
    with opened() as (_, session):
        stream, told = session.stream("Hi"), []
        stream.run(done=lambda _: stream.wait(), callback_error=told.append)
        assert isinstance(told[0], WouldDeadlockError)


def test_a_callback_may_wait_for_the_response_of_its_own_stream():
    rule, told = Steps(), []
    with opened(rule) as (_, session):
        stream = session.stream("Hi")
        stream.on("text", lambda _: told.append(stream.response().text))
        rule.let_all()
        stream.wait()
    assert told == ["one two three"] * 3


def test_a_callback_may_cancel_its_own_stream():
    rule = Steps()
    with opened(rule) as (_, session):
        stream = session.stream("Hi")
        told = told_by(stream.on("text", lambda _: stream.cancel()), "error")
        rule.let(FIRST_WORD)
        stream.wait()
        assert isinstance(of(told, "error")[0], StreamCancelledError)


# On the calling thread.


def test_run_tells_everything_on_the_calling_thread_and_returns_the_response():
    told, threads = [], set()

    def tell(value):
        told.append(value)
        threads.add(threading.current_thread())

    with opened(rules.text("one two three")) as (_, session):
        stream = session.stream("Hi")
        response = stream.run(text=tell, done=tell)
        assert told == [*WORDS, response]
        assert threads == {threading.current_thread()}
        assert response is stream.response()


def test_run_without_callbacks_is_response():
    rule = Steps()
    with opened(rule) as (_, session):
        stream = session.stream("Hi")
        rule.let(FIRST_WORD)
        first_events(stream, FIRST_WORD)
        with pytest.raises(WaitTimeout):
            stream.run(0.01)
        rule.let_all()
        assert stream.run() is stream.response() is stream.run()


def test_run_after_the_end_tells_everything_again_to_new_callbacks():
    with opened(rules.text("one two three")) as (_, session):
        stream, first, second = session.stream("Hi"), [], []
        stream.run(text=first.append)
        stream.run(text=second.append)
        assert first == second == WORDS


def test_run_serves_callbacks_that_were_registered_before():
    rule = Steps()
    with opened(rule) as (_, session):
        stream = session.stream("Hi")
        told = told_by(stream, "text", "done")
        rule.let_all()
        stream.run()
        assert of(told, "text") == WORDS
        assert of(told, "done") == [stream.response()]


def test_run_raises_the_error_of_the_turn_after_telling_it():
    with opened(rules.refuse(400, "bad", "No.")) as (_, session):
        told = []
        with pytest.raises(APIError, match=r"No."):
            session.stream("Hi").run(error=told.append)
        assert isinstance(told[0], APIError)


def test_run_lets_ctrl_c_out_of_a_callback_and_cancels_the_turn():
    rule = Steps()

    def interrupted(_):
        raise KeyboardInterrupt

    with opened(rule) as (_, session):
        stream = session.stream("Hi")
        rule.let(FIRST_WORD)
        with pytest.raises(KeyboardInterrupt):
            stream.run(text=interrupted)
        with pytest.raises(StreamCancelledError, match="Ctrl-C"):
            stream.response()
        told = told_by(stream, "error")
        stream.wait()
        assert len(told) == 1


def test_run_that_is_out_of_time_leaves_its_callbacks_to_the_callback_threads():
    rule, told = Steps(), []
    with opened(rule) as (_, session):
        stream = session.stream("Hi").on("done", lambda r: told.append(r.status))
        rule.let(CREATED)
        with pytest.raises(WaitTimeout):
            stream.run(0.01)
        rule.let_all()
        stream.wait()
        assert told == ["completed"]


def test_a_stream_with_callbacks_need_not_be_held():
    told, done = [], threading.Event()
    rule = Steps()
    with opened(rule) as (_, session):
        session.stream("Hi").on("text", told.append).on("done", lambda _: done.set())
        rule.let_all()
        assert done.wait(PATIENCE)
        assert told == WORDS


def test_one_registered_after_the_session_closed_is_still_told():
    with opened() as (_, session):
        stream = session.stream("Hi")
        stream.response()
        session.close()
        told = told_by(stream, "text", "done")
        stream.wait()
        assert of(told, "text") == ["Hi"]
        assert isinstance(of(told, "done")[0], llmws.Response)


def test_callbacks_of_a_run_that_timed_out_are_not_waited_for():
    rule = Steps()
    with opened(rule) as (_, session):
        stream, told = session.stream("x"), []
        with pytest.raises(WaitTimeout):
            stream.run(timeout=0.0, text=told.append)
        rule.let_all()
        stream.wait(PATIENCE)
        assert told == []
        stream.run(PATIENCE, text=told.append)
        assert told == WORDS


def test_a_forked_child_leaves_the_parents_callbacks_to_the_parent():
    gate = threading.Event()
    with opened(rules.text("one two three")) as (_, session):
        stream, told = session.stream("x"), []
        stream.response(PATIENCE)
        stream.on("event", lambda event: gate.wait(PATIENCE))
        parents, core = stream._handlers, session._core
        try:
            core._renew()  # What a fork calls.
            stream.on("done", told.append).wait(PATIENCE)
            assert [response.text for response in told] == ["one two three"]
        finally:
            gate.set()
            assert parents.wait(time.monotonic() + PATIENCE)
