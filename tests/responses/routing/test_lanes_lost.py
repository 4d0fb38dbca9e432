"""Turns whose connection ends before the server began on them: refused with it, or told that it is dialled again."""

from __future__ import annotations

import pytest

from llmws.errors import ConnectionLimitError
from llmws.responses.routing import answers
from llmws.responses.routing.reports import Retired, Returned
from llmws.responses.routing.turn import Notice, Submit, TurnState
from llmws.responses.vocabulary.capabilities import Capabilities
from llmws.testing import rules
from llmws.wire.framing import encode_close
from llmws.wire.steps import Drop, Lost, Opened, Repay, Send, Useful, Want
from tests.endings.script import Script, answer, session_at
from tests.responses.acting import PATIENCE, opened
from tests.responses.lanework import (
    LIMIT,
    Lanework,
    completed,
    created,
    delta,
    error,
    failure,
    types,
)


@pytest.fixture
def work() -> Lanework:
    return Lanework().opened()


# The server ends a connection whose link stays open.


def test_a_sent_turn_on_a_retired_link_that_stays_open_is_refused_after_a_while(work):
    turn = work.sent()
    assert work.say(LIMIT) == []
    assert (turn.ended, types(turn)) == (False, [])
    assert work.lanes.deadline == work.now + 2.0
    assert work.wait() == [Drop(), Want(15.0)]
    (notice,) = turn.inbox.read(0, 0.0)
    assert notice.raw["how"] == "on another connection"
    assert work.step(Opened()) == [Send(turn, b"{}")]
    work.written(turn)
    work.say(LIMIT)
    assert work.wait() == [Drop()]
    caught = failure(turn)
    assert type(caught) is ConnectionLimitError
    assert (caught.state, caught.may_have_been_billed) == ("sent", False)
    assert work.lanes.deadline is None


def test_without_leave_of_the_budget_a_refused_turn_ends_after_the_second(work):
    work.fraction = None
    turn = work.sent()
    work.say(LIMIT)
    assert work.wait() == [Drop()]
    assert type(failure(turn)) is ConnectionLimitError
    assert types(turn) == []
    assert work.lanes.deadline is None


def test_the_turn_behind_a_refused_one_may_begin_elsewhere_at_once(work):
    refused, waiting = work.sent(), work.submit(b"2")
    assert work.say(LIMIT) == []
    assert work.reported(Returned) == [Returned(waiting)]
    assert work.reported(Retired) == [Retired(True)]
    assert work.wait() == [Drop(), Want(15.0)]
    assert work.reported(Retired) == [Retired(False)]
    work.step(Submit(waiting, moved=True))
    assert work.step(Opened()) == [Send(refused, b"{}")]
    work.written(refused)
    assert work.say(created(), completed()) == [Useful(), Repay(), Send(waiting, b"2")]
    assert work.lanes.counters.turns == 2


def test_a_turn_that_begins_after_a_refused_one_goes_over_a_new_socket(work):
    work.fraction = None
    work.sent()
    work.say(LIMIT)
    work.wait()
    turn = work.turn(b"2")
    assert work.step(Submit(turn)) == [Want(15.0, fresh=True)]
    assert work.step(Opened()) == [Send(turn, b"2")]


def test_a_turn_that_is_accepted_within_the_second_goes_on(work):
    turn = work.sent()
    work.say(LIMIT)
    assert work.say(created("r"), after=0.9) == [Useful()]
    assert (turn.state, work.lanes.deadline) == (TurnState.ACCEPTED, None)
    assert work.say(completed("r"), after=5.0) == [Useful(), Drop()]
    assert turn.inbox.error is None


def test_a_close_within_the_second_ends_a_sent_turn_as_refused(work):
    turn = work.sent()
    work.say(LIMIT)
    work.fraction = None
    assert work.step(Lost(1000, "bye"), after=0.5) == []
    caught = failure(turn)
    assert type(caught) is ConnectionLimitError
    assert (caught.state, caught.may_have_been_billed) == ("sent", False)


def test_a_refusal_is_forgotten_when_the_turn_is_sent_again(work):
    turn = work.sent(retry_uncertain=True)
    work.say(LIMIT)
    work.step(Lost(1000, "bye"), after=0.5)
    assert (turn.state, turn.error_event) == (TurnState.QUEUED, None)
    assert [type(action) for action in work.step(Opened())] == [Send]
    assert work.lanes.deadline is None  # Nothing of it is due any more.


def test_over_a_socket_that_stays_open_the_refused_turn_takes_another(monkeypatch):
    monkeypatch.setattr(answers, "_CLOSE_GRACE", 0.05)
    with opened(rules.sequence(lambda request: [LIMIT], rules.echo())) as (server, session):
        assert session.create("one").text == "one"
        assert session.create("two").text == "two"
        assert [entry.connection for entry in server.ledger.requests] == [1, 2, 2]


def test_a_turn_whose_connections_are_all_refused_ends(monkeypatch):
    monkeypatch.setattr(answers, "_CLOSE_GRACE", 0.05)
    with opened(lambda request: [LIMIT]) as (server, session):
        with pytest.raises(ConnectionLimitError) as caught:
            session.create("one")
        assert not caught.value.may_have_been_billed
        assert [entry.connection for entry in server.ledger.requests] == [1, 2]


# A link that is lost under a turn of which nothing was written.


def test_a_queued_turn_is_told_that_its_link_was_lost(work):
    handed_over, waiting = work.submit(b"1"), work.submit(b"2")
    assert work.step(Lost(1001, "restart")) == [Want(15.0)]
    (notice,) = handed_over.inbox.read(0, 0.0)
    assert type(notice) is Notice
    assert notice.raw == {"type": "llmws.redial", "attempt": 1, "delay": 0.0, "reason": "restart"}
    assert types(waiting) == []  # It had no link to lose.


def test_a_stream_shows_the_loss_of_a_link_before_its_request_was_written():
    def play(wire):
        if wire.number == 1:
            # Together with the answer to the upgrade, so that it is read before anything is written.
            wire.upgrade(early=bytes(encode_close(1001, "restart")))
        else:
            wire.upgrade()
            wire.create()
            wire.send(*answer("Good again"))
        wire.until_closed()

    with Script(play) as server, session_at(server.base_url) as session:
        stream = session.stream("one")
        assert stream.response(PATIENCE).text == "Good again"
        first, *_ = [chunk for chunk in stream if chunk.metadata.get("notice") == "redial"]
        assert first.type == "meta"
        assert (first.metadata["attempt"], first.metadata["reason"]) == (1, "restart")
        assert [create["input"] for create in server.creates] == ["one"]


def test_what_comes_late_of_an_answer_is_not_taken_for_the_next_turns_refusal():
    # An error behind the end, as one server sent: it counts on, and so it is the last turn's.
    work = Lanework().opened()
    work.sent()
    work.say({**created("r1"), "sequence_number": 0}, {**delta(), "sequence_number": 1})
    work.say({**completed("r1"), "sequence_number": 2})
    turn = work.sent()
    work.say({**error("rate_limit_exceeded"), "sequence_number": 3})
    work.say({**completed("r1", "failed"), "sequence_number": 4})
    assert not turn.ended
    assert work.lanes.counters.dropped_events == 2
    work.say({**created("r2"), "sequence_number": 0}, {**completed("r2"), "sequence_number": 1})
    assert turn.response_id == "r2"
    assert turn.inbox.error is None


def test_a_refusal_that_counts_from_its_own_beginning_is_the_turns():
    work = Lanework().opened()
    work.sent()
    work.say({**created("r1"), "sequence_number": 0}, {**completed("r1"), "sequence_number": 1})
    turn = work.sent()
    work.say({**error(), "sequence_number": 0})
    assert turn.ended


def test_an_error_that_counts_on_from_the_default_lane_is_no_other_lanes():
    work = Lanework(capabilities=Capabilities(lanes=True)).opened()
    work.sent()
    turn = work.submit()
    work.written(turn)
    work.say({**created("r1"), "sequence_number": 0}, {**completed("r1"), "sequence_number": 1})
    work.say({**error("rate_limit_exceeded"), "sequence_number": 2})
    assert turn.state is TurnState.SENT
    assert work.lanes.counters.retries == 0
    # One that does not is this turn's: nobody else waits for an answer.
    work.say({**error("rate_limit_exceeded"), "sequence_number": 0})
    assert turn.state is TurnState.QUEUED
    assert work.lanes.counters.retries == 1
