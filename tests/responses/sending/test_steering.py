"""Steering: what is put into a response that runs, and what becomes of it."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor

import pytest

import llmws
from llmws.errors import ConfigurationError, StreamCancelledError, WaitTimeout
from llmws.responses.routing.reports import Released
from llmws.responses.routing.turn import Cancel, Put, Submit, TurnState
from llmws.responses.sending.steering import ANSWER_SECONDS, STEER_SECONDS, Steer
from llmws.responses.vocabulary.capabilities import Capabilities
from llmws.testing import Semantics, Server, rules
from llmws.timeouts import Timeouts
from llmws.wire.steps import Send, Stop, Tick
from tests.responses.acting import FIRST_WORD, PATIENCE, Steps, until
from tests.responses.lanework import Lanework, completed, created, delta, event, types


def said(word, steer_id=None, **fields):
    steer = {"previous_response_id": "r", **({"id": steer_id} if steer_id else {})}
    return event(f"response.steer.{word}", steer=steer, **fields)


def successor(id="r2"):
    return {"type": "response.created", "response": {"id": id, "previous_response_id": "r"}}


@pytest.fixture
def work() -> Lanework:
    return Lanework().opened()


@pytest.fixture
def running(work):
    """A turn that has begun to answer."""
    turn = work.sent()
    work.say(created("r"), delta())
    return turn


def put(work, turn, given="Shorter."):
    steer = Steer(given)
    return steer, work.step(Put(turn, steer))


# The router.


def test_a_steer_names_the_response_and_no_lane(work, running):
    steer, (sending,) = put(work, running)
    assert isinstance(sending, Send)
    assert json.loads(sending.message) == {
        "type": "response.steer",
        "previous_response_id": "r",
        "input": "Shorter.",
    }
    assert steer.state == "sent"


def test_a_steer_waits_for_its_response_to_begin(work):
    turn = work.turn()
    work.step(Submit(turn))
    steer, sent = put(work, turn)
    assert sent == []
    work.written(turn)
    sending = work.say(created("r"))[-1]
    assert sending == Send(steer, steer.message("r"))


def test_a_steer_that_was_given_back_is_not_sent(work):
    turn = work.turn()
    work.step(Submit(turn))
    steer, _ = put(work, turn)
    work.written(turn)
    done = work.say(created("r"), delta(), completed("r"))
    assert [action for action in done if isinstance(action, Send)] == []
    assert (steer.state, steer.done, turn.ended) == ("failed", True, True)


def test_a_turn_goes_on_with_the_successor(work, running):
    steer, _ = put(work, running)
    work.say(said("accepted", "s1"), completed("r", "incomplete"))
    assert (steer.state, steer.id, steer.done) == ("accepted", "s1", False)
    assert not running.ended
    work.say(successor(), delta("short"))
    assert (steer.state, steer.successor_id, steer.done) == ("applied", "r2", True)
    assert running.response_id == "r2"
    work.say(completed("r2"))
    assert running.ended
    assert running.inbox.error is None
    assert running.final.response["id"] == "r2"


def test_a_pending_steer_lets_the_turn_end(work, running):
    steer, _ = put(work, running)
    work.say(said("accepted", "s1"), completed("r"))
    stubs = [{"type": "function_call_output", "call_id": "c"}]
    work.say(said("pending", "s1", reason="waiting_for_required_input", required_input=stubs))
    assert (steer.state, steer.required_input, steer.done) == ("pending", stubs, True)
    assert running.ended
    assert running.final.response["id"] == "r"


@pytest.mark.parametrize("named", [True, False])
def test_a_steer_that_failed_says_why(work, running, named):
    steer, _ = put(work, running)
    error = {"code": "steering_not_supported", "message": "No."}
    if named:
        work.say(said("accepted", "s1"))
    work.say(said("failed", "s1" if named else None, error=error))
    assert (steer.state, steer.error, steer.done) == ("failed", error, True)
    assert not running.ended
    work.say(completed("r"))
    assert running.ended


def test_a_successor_that_does_not_come_is_not_waited_for_long(work, running):
    steer, _ = put(work, running)
    work.say(said("accepted", "s1"), completed("r"))
    began = work.now
    work.wait()
    assert work.now - began == STEER_SECONDS
    assert running.ended
    assert running.final.response["id"] == "r"
    assert (steer.state, steer.done) == ("accepted", True)


def test_a_steer_that_came_too_late_is_given_back_by_the_server(work, running):
    steer, _ = put(work, running)
    work.say(completed("r"))
    assert not running.ended
    error = {"code": "response_already_completed", "message": "No."}
    work.say(said("failed", error=error))
    assert (steer.state, steer.error, steer.done) == ("failed", error, True)
    assert running.ended
    assert types(running)[-2:] == ["response.completed", "response.steer.failed"]


def test_a_word_that_does_not_come_is_waited_for_even_less(work, running):
    steer, _ = put(work, running)
    work.say(completed("r"))
    began = work.now
    later = work.submit(b"later")
    assert work.wait() == [Send(later, b"later")]
    assert work.now - began == ANSWER_SECONDS
    assert (steer.state, steer.done, running.inbox.error) == ("sent", True, None)


def test_a_steer_that_is_accepted_behind_the_end_has_its_successor(work, running):
    steer, _ = put(work, running)
    work.say(completed("r"))
    work.say(said("accepted", "s1"))
    work.step(Tick(), after=ANSWER_SECONDS)
    assert not running.ended
    work.say(successor(), completed("r2"))
    assert (steer.state, running.final.response["id"]) == ("applied", "r2")
    assert running.ended


@pytest.mark.parametrize("limit", ["idle", "total"])
def test_a_limit_that_passes_behind_a_response_does_not_lose_it(work, limit):
    turn = work.sent(timeouts=Timeouts(**{limit: 3.0}))
    work.say(created("r"), delta())
    put(work, turn)
    work.say(said("accepted", "s1"), completed("r"))
    began = work.now
    work.wait()
    assert work.now - began == 3.0
    assert turn.inbox.error is None
    assert turn.final.response["id"] == "r"


def test_nothing_follows_a_response_that_failed(work, running):
    steer, _ = put(work, running)
    work.say(said("accepted", "s1"), completed("r", "failed"))
    assert running.ended
    assert steer.done


@pytest.mark.parametrize("heard", ["nothing", "accepted", "completed"])
@pytest.mark.parametrize("known", [True, False])
def test_a_successor_of_a_turn_that_was_left_is_nobody_elses_answer(heard, known):
    work = Lanework(capabilities=Capabilities(lanes=known)).opened()
    turn = work.sent()
    work.say(created("r"), delta())
    put(work, turn)
    words = [said("accepted", "s1"), completed("r", "incomplete")]
    before = {"nothing": 0, "accepted": 1, "completed": 2}[heard]
    if before:
        work.say(*words[:before])
    work.step(Cancel(turn, "Enough."))
    later = work.turn(b'{"later":1}')
    work.step(Submit(later))
    if not known:
        assert later.state is TurnState.QUEUED
    work.say(*words[before:], successor(), delta("of the first"), completed("r2"))
    assert types(later) == []
    if not known:
        assert later.lane is not None  # The lane is its own now.
    work.written(later)
    on = {"stream_id": later.lane.name} if later.lane.name else {}
    work.say(*({**each, **on} for each in (created("r3"), completed("r3"))))
    assert later.final.response["id"] == "r3"
    assert work.lanes._lanes.known is known


@pytest.mark.parametrize("known", [True, False])
def test_a_successor_that_comes_when_it_is_no_longer_waited_for_is_nobody_elses_answer(known):
    work = Lanework(capabilities=Capabilities(lanes=known)).opened()
    turn = work.sent()
    work.say(created("r"), delta())
    put(work, turn)
    work.say(said("accepted", "s1"), completed("r"))
    work.wait()
    assert turn.ended
    later = work.turn(b'{"later":1}')
    work.step(Submit(later))
    if later.lane is not None:
        work.written(later)
    work.say(successor(), delta("of the first"), completed("r2"))
    assert types(later) == []
    assert work.reported(Released) == [Released(turn)]
    assert later.lane is not None


def test_without_a_word_about_a_steer_the_lane_of_a_turn_that_was_left_is_free_soon(work, running):
    put(work, running)
    work.step(Cancel(running, "Enough."))
    later = work.submit(b"later")
    assert work.say(completed("r")) == []
    assert work.wait() == [Send(later, b"later")]


def test_a_word_about_a_steer_finds_its_turn_without_a_lane():
    work = Lanework(capabilities=Capabilities(lanes=True)).opened()
    other = work.sent()
    work.say(created("other"))
    turn = work.turn(b'{"n":1}')
    work.step(Submit(turn))
    work.written(turn)
    lane = {"stream_id": turn.lane.name}
    work.say({**created("r"), **lane})
    steer, _ = put(work, turn)
    work.say(said("accepted", "s1"), {**completed("r"), **lane})
    work.say(said("pending", "s1"))
    assert (steer.state, turn.ended) == ("pending", True)
    assert types(other) == ["response.created"]
    assert "response.steer.pending" in types(turn)
    # Of a turn that was left, too, and of none.
    work.say(said("failed", "s9"))
    assert work.lanes.counters.dropped_events == 1


def test_a_provider_that_has_no_steering_is_not_bothered():
    work = Lanework(capabilities=Capabilities(lanes=False, steering=False)).opened()
    turn = work.sent()
    work.say(created("r"))
    steer, sent = put(work, turn)
    assert sent == []
    assert (steer.state, steer.error["code"], steer.done) == (
        "failed",
        "steering_not_supported",
        True,
    )
    assert not turn.ended


def test_each_steer_comes_to_its_own_end(work, running):
    one, _ = put(work, running, "one")
    two, _ = put(work, running, "two")
    work.say(said("accepted", "s1"), said("failed", error={"code": "too_many_pending_steers"}))
    assert (one.state, two.state) == ("accepted", "failed")
    work.say(completed("r"), successor())
    assert (one.state, one.done, two.done) == ("applied", True, True)


def test_the_tokens_of_every_response_count_once(work, running):
    put(work, running)
    usage = {"input_tokens": 10, "output_tokens": 1}
    work.say(said("accepted", "s1"), completed("r", "incomplete", usage=usage))
    work.say(successor(), completed("r2", usage=usage))
    assert work.lanes.counters.usage.input_tokens == 20


def test_the_tokens_of_a_response_and_its_successor_count_when_read_at_once(work, running):
    put(work, running)
    usage = {"input_tokens": 10, "output_tokens": 1}
    work.say(
        said("accepted", "s1"),
        completed("r", "incomplete", usage=usage),
        successor(),
        completed("r2", usage=usage),
    )
    assert work.lanes.counters.usage.input_tokens == 20


def test_the_lane_is_the_turns_until_the_successor_has_ended(work, running):
    put(work, running)
    later = work.submit(b"later")
    work.say(said("accepted", "s1"), completed("r"))
    assert later.state is TurnState.QUEUED
    assert Send(later, b"later") in work.say(successor(), completed("r2"))


def test_numbers_of_the_successor_begin_anew(work, running):
    put(work, running)
    work.say(said("accepted", "s1", sequence_number=7), {**completed("r"), "sequence_number": 8})
    work.say({**successor(), "sequence_number": 0}, {**delta(), "sequence_number": 1})
    work.say({**completed("r2"), "sequence_number": 2})
    assert (running.missing_events, running.repeated_events) == (0, 0)


def test_a_steer_ends_with_its_turn(work, running):
    sent, _ = put(work, running)
    waiting, _ = put(work, work.submit(b"waits"))
    work.step(Stop())
    assert (sent.done, waiting.done) == (True, True)
    assert (sent.state, waiting.state) == ("sent", "failed")


@pytest.mark.parametrize("given", [5, [5], None, "", [], {"role": "user", "content": {1, 2}}])
def test_what_cannot_be_put_in_is_refused(given):
    with pytest.raises(ConfigurationError):
        Steer(given)


# Over a socket.


@pytest.fixture
def steered():
    """A session whose server answers step by step."""
    rule = Steps(rules.echo())
    with Server(rule=rule) as server, llmws.Session("m", base_url=server.base_url) as session:
        yield rule, server, session
        rule.let_all()


def test_a_steered_turn_has_all_its_responses(steered):
    rule, _, session = steered
    conversation = session.conversation()
    stream = conversation.stream("one two three")
    rule.let(FIRST_WORD)
    until(lambda: stream.snapshot.text)
    steer = stream.steer("shorter")
    until(lambda: steer.state != "sent")
    rule.let_all()
    assert steer.wait(PATIENCE) == "applied"
    assert [response.text for response in stream.responses()][-1] == "shorter"
    assert stream.response().text == "shorter"
    assert steer.successor_id == stream.response_id
    words = [item["content"] for item in conversation.items if item.get("role") == "user"]
    assert words == ["one two three", "shorter"]
    again = conversation.stream("more")
    assert again.response().text == "more"
    assert again.sent.kind == "delta"


def test_a_turn_that_is_not_steered_has_one_response(steered):
    rule, _, session = steered
    rule.let_all()
    stream = session.stream("Hi")
    assert [response.text for response in stream.responses()] == ["Hi"]


def test_a_steer_that_comes_too_late_comes_back(steered):
    rule, _, session = steered
    rule.let_all()
    stream = session.stream("Hi")
    stream.response()
    steer = stream.steer("late")
    assert (steer.wait(0), steer.input) == ("failed", "late")
    assert steer.error["code"] == "response_already_completed"
    assert repr(steer) == "<Steer failed id=None>"


def test_a_steer_may_be_waited_for_only_so_long(steered):
    _, _, session = steered
    stream = session.stream("one two")
    steer = stream.steer("shorter")
    with pytest.raises(WaitTimeout):
        steer.wait(0)
    stream.cancel()
    with pytest.raises(StreamCancelledError):
        stream.response()
    assert steer.wait(PATIENCE) == "failed"


def test_a_server_that_cannot_be_steered_says_so():
    rule = Steps(rules.echo())
    with (
        Server(rule=rule, semantics=Semantics(steering=False)) as server,
        llmws.Session("m", base_url=server.base_url) as session,
    ):
        stream = session.stream("one two")
        rule.let(FIRST_WORD)
        steer = stream.steer("shorter")
        assert steer.wait(PATIENCE) == "failed"
        assert steer.error["code"] == "steering_not_supported"
        rule.let_all()
        assert stream.response().text == "one two"


def test_a_wait_for_a_steer_takes_seconds_and_nothing_else():
    steer = Steer("x")
    for timeout in ("1", -1, float("nan"), float("inf"), True, 1e11, [1]):
        with pytest.raises(ConfigurationError, match=r"timeout is .*: give seconds"):
            steer.wait(timeout)


def test_a_wait_of_a_century_for_a_steer_ends_with_it_on_any_thread():
    steer = Steer("x")
    with ThreadPoolExecutor() as threads:
        waiting = threads.submit(steer.wait, 3e9)
        until(lambda: steer.inbox._monitor._waiting or waiting.done())
        steer.come_too_late()
        assert waiting.result(PATIENCE) == "failed"
