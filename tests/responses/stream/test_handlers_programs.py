"""Callbacks that end the program, that fail before anybody listens, and that wait for each other."""

from __future__ import annotations

import threading

import pytest

from llmws.errors import StreamCancelledError
from llmws.testing import rules
from tests.responses.acting import (
    FIRST_WORD,
    PATIENCE,
    WHOLE,
    Steps,
    first_events,
    in_threads,
    opened,
)


WORDS = ["one", " two", " three"]


def leave(_):
    raise SystemExit(3)


def test_run_on_the_main_thread_lets_the_end_of_the_program_pass():
    rule, told = Steps(), []
    with opened(rule) as (_, session):
        stream = session.stream("Hi")
        rule.let(FIRST_WORD)
        with pytest.raises(SystemExit) as caught:
            stream.run(PATIENCE, text=leave, callback_error=told.append)
        assert caught.value.code == 3
        assert told == []
        rule.let_all()


def test_run_on_another_thread_takes_the_end_of_the_program_for_an_error():
    told = []
    with opened(rules.text("one two three")) as (_, session):
        stream = session.stream("Hi")
        (response,) = in_threads(
            lambda: stream.run(PATIENCE, text=leave, callback_error=told.append)
        )
        assert response.text == "one two three"
        assert [error.code for error in told] == [3, 3, 3]


def failing(text):
    raise LookupError(text)


def texts(errors):
    return [error.args[0] for error in errors]


def test_a_callback_for_errors_that_comes_late_is_told_the_earlier_ones_once():
    with opened(rules.text("one two three")) as (_, session):
        stream, early, late = session.stream("Hi"), [], []
        stream.on("callback_error", early.append).on("text", failing).wait(PATIENCE)
        assert texts(early) == WORDS
        stream.on("callback_error", late.append).wait(PATIENCE)
        assert texts(late) == WORDS
        stream.on("done", lambda _: None).wait(PATIENCE)
        assert (texts(early), texts(late)) == (WORDS, WORDS)


def test_one_that_comes_in_between_is_told_the_earlier_ones_and_the_later_ones():
    rule = Steps()
    with opened(rule) as (_, session):
        stream, early, late = session.stream("Hi"), [], []
        stream.on("callback_error", early.append).on("text", failing)
        rule.let(FIRST_WORD)
        first_events(stream, FIRST_WORD)
        stream.on("callback_error", late.append)
        rule.let_all()
        stream.wait(PATIENCE)
        assert texts(early) == texts(late) == WORDS


def test_with_one_thread_a_callback_may_wait_for_the_callbacks_of_another_stream():
    rule, waiting = Steps(), threading.Event()
    with opened(rule, callback_threads=1) as (_, session):
        one, two, told = session.stream("one"), session.stream("two"), []

        def wait_for_two(_):
            waiting.set()
            two.wait(PATIENCE)
            told.append("waited")

        two.on("text", told.append)
        one.on("done", wait_for_two)
        rule.let(WHOLE)  # The first one's alone.
        assert waiting.wait(PATIENCE)
        rule.let_all()
        one.wait(PATIENCE)
        assert told == [*WORDS, "waited"]


def test_callbacks_that_wait_for_a_stream_that_is_cancelled_go_on():
    rule = Steps()
    with opened(rule, callback_threads=1) as (_, session):
        one, told = session.stream("one"), []
        two = session.stream("two").on("error", told.append)
        one.on("done", lambda _: (two.cancel(), two.wait(PATIENCE), told.append("waited")))
        rule.let(WHOLE)  # The first one's alone.
        one.wait(PATIENCE)
        assert isinstance(told[0], StreamCancelledError)
        assert told[1:] == ["waited"]
