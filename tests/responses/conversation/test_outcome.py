"""What a turn came to: which responses become part of the conversation, and as what parent."""

import time

import pytest

from llmws.errors import StreamInterruptedError
from llmws.responses.conversation.outcome import Leg, Running, outcome_of
from llmws.responses.routing.turn import Turn
from llmws.responses.sending.continuation import Sent
from llmws.responses.sending.settings import Settings
from llmws.responses.stream.snapshot import Response
from llmws.responses.tools.replay import input_items
from llmws.timeouts import Timeouts
from tests.responses.chatting import Place, said, user


# Inputs that nest to the limit.
pytestmark = pytest.mark.usefixtures("no_finalizers")


SENT = Sent("full", "first turn", 1, 100, 0)


def running(error=None, **settings):
    turn = Turn(payload=b"{}", timeouts=Timeouts(), started_at=time.monotonic())
    turn.home, turn.sent = Place(1), SENT
    turn.inbox.end(error)
    return Running(turn, input_items("Hello"), Settings.of({"model": "m", **settings}))


def response(id="resp_1", status="completed", **fields):
    return Response.from_wire(
        {"id": id, "status": status, "output": [said("ok", "msg_1")], **fields}
    )


def raws(items):
    return [item.raw for item in items]


def test_a_response_is_an_answer_with_its_place():
    turn = running()
    ((answer, record),) = outcome_of(turn, [Leg((), response())])
    assert raws(answer.given) == [user("Hello")]
    assert raws(answer.output) == [said("ok", "msg_1")]
    assert (answer.anchor.response_id, answer.anchor.stored) == ("resp_1", True)
    assert answer.anchor.home is turn.turn.home
    assert (record.response_id, record.status, record.sent, record.error) == (
        "resp_1",
        "completed",
        SENT,
        None,
    )


@pytest.mark.parametrize(
    ("asked", "told", "stored"),
    [
        ({}, {}, True),
        ({"store": True}, {"store": True}, True),
        ({"store": False}, {}, False),
        ({"store": False}, {"store": True}, False),
        ({}, {"store": False}, False),
        ({"store": True}, {"store": False}, False),
        ({}, {"store": None}, True),
    ],
)
def test_a_response_is_stored_if_both_sides_say_so(asked, told, stored):
    ((answer, _),) = outcome_of(running(**asked), [Leg((), response(**told))])
    assert answer.anchor.stored is stored


@pytest.mark.parametrize("status", ["failed", "cancelled", "queued", "in_progress", ""])
def test_a_response_that_was_not_finished_is_only_recorded(status):
    ((answer, record),) = outcome_of(running(), [Leg((), response(status=status))])
    assert answer is None
    assert record.error == "The server does not say why."


def test_a_turn_without_a_response_is_recorded_with_its_error():
    error = StreamInterruptedError("The connection " + "x" * 300)
    ((answer, record),) = outcome_of(running(error), [])
    assert answer is None
    assert record.error.startswith("StreamInterruptedError: The connection xxx")
    assert len(record.error) < 250


def test_a_steered_turn_is_its_responses_with_the_steering_between_them():
    steered = response(status="incomplete", incomplete_details={"reason": "steered"})
    legs = [Leg((), steered), Leg([user("Shorter.")], response("resp_2"))]
    (first, _), (second, _) = outcome_of(running(), legs)
    assert raws(first.given) == [user("Hello")]
    assert raws(second.given) == [user("Shorter.")]
    assert second.anchor.response_id == "resp_2"


def test_only_the_first_response_of_a_steered_turn_was_sent_for():
    steered = response(status="incomplete", incomplete_details={"reason": "steered"})
    legs = [Leg((), steered), Leg([user("Shorter.")], response("resp_2", status="failed"))]
    assert [record.sent for _, record in outcome_of(running(), legs)] == [SENT, None]
    broken = outcome_of(running(StreamInterruptedError("x")), legs[:1])
    assert [record.sent for _, record in broken] == [SENT, None]
    assert outcome_of(running(StreamInterruptedError("x")), [])[0][1].sent == SENT


def test_a_turn_that_broke_after_a_response_keeps_that_one():
    (first, _), (second, record) = outcome_of(
        running(StreamInterruptedError("x")), [Leg((), response())]
    )
    assert first is not None
    assert (second, record.error) == (None, "StreamInterruptedError: x")


def test_an_output_that_cannot_be_sent_back_is_not_taken_in():
    deep = []
    for _ in range(100_000):
        deep = [deep]
    raw = {
        "id": "resp_1",
        "status": "completed",
        "output": [{"type": "message", "id": "m", "content": deep}],
    }
    ((answer, record),) = outcome_of(running(), [Leg((), Response.from_wire(raw))])
    assert answer is None
    assert "cannot be sent as JSON" in record.error
    while deep:  # Taken apart by hand: the interpreter would nest as deep.
        deep, inner = deep[0], deep
        inner.clear()
