"""What a turn goes on from, by what the server still has."""

from __future__ import annotations

import json

import pytest

from llmws.responses.routing.lane import LaneSet
from llmws.responses.routing.parents import message_of, parent_of
from llmws.responses.routing.refusals import Remedy
from llmws.responses.routing.turn import Turn
from llmws.responses.sending.continuation import Anchor, Continuation
from llmws.responses.sending.settings import Settings
from llmws.responses.sending.transcript import Transcript
from llmws.responses.vocabulary.capabilities import Capabilities
from llmws.timeouts import Timeouts


HISTORY = Transcript([b'{"text":"old"}', b'{"text":"newer"}'])


@pytest.fixture
def lanes() -> LaneSet:
    return LaneSet(Capabilities(lanes=True, max_active=16, max_lanes=32))


def turn(*anchors: Anchor, forked: bool = False, why_full: str = "first turn", **fields) -> Turn:
    continuation = Continuation(
        anchors=anchors,
        why_full=why_full,
        forked=forked,
        settings=Settings.of({"model": "m"}),
        history=HISTORY.window(),
        given=(b'{"text":"new"}',),
    )
    return Turn(
        payload=b"", timeouts=Timeouts(), started_at=0.0, continuation=continuation, **fields
    )


def sent(made, lane, lanes):
    """Return what is sent: the parent and the texts, and why."""
    request = json.loads(message_of(made, lane, lanes))
    texts = [item["text"] for item in request["input"]]
    return request.get("previous_response_id"), texts, made.sent.reason


def test_the_best_anchor_that_is_cached_is_gone_on_from(lanes):
    home = lanes.keep(lanes.default, "r2", None)
    made = turn(Anchor("r3", 2, False, None), Anchor("r2", 1, False, home))
    assert parent_of(made, lanes) is home
    assert sent(made, home, lanes) == ("r2", ["newer", "new"], "parent cached")


def test_a_cached_response_goes_before_a_better_one_that_is_stored(lanes):
    home = lanes.keep(lanes.default, "r1", None)
    made = turn(Anchor("r2", 2, True, None), Anchor("r1", 1, False, home))
    assert sent(made, home, lanes)[0] == "r1"


def test_else_a_stored_one_is_wherever_the_turn_goes(lanes):
    made = turn(Anchor("r2", 2, True, None))
    assert parent_of(made, lanes) is None
    assert sent(made, lanes.default, lanes) == ("r2", ["new"], "parent stored")


def test_without_anchors_all_is_sent_for_the_reason_that_is_given(lanes):
    made = turn(why_full="settings changed: tools")
    assert sent(made, lanes.default, lanes) == (
        None,
        ["old", "newer", "new"],
        "settings changed: tools",
    )
    assert made.sent.kind == "full"


@pytest.mark.parametrize(
    ("forked", "reset", "reason"),
    [
        (False, False, "lane given away"),
        (True, False, "source moved on"),
        (False, True, "connection lost"),
        (True, True, "connection lost"),
    ],
)
def test_why_a_response_that_was_cached_is_not_any_more(lanes, forked, reset, reason):
    home = lanes.keep(lanes.default, "r1", None)
    made = turn(Anchor("r1", 1, False, home), forked=forked)
    lanes.keep(lanes.default, "r2", None)
    if reset:
        lanes.reset()
    assert parent_of(made, lanes) is None
    assert sent(made, lanes.default, lanes) == (None, ["old", "newer", "new"], reason)


def test_a_response_of_another_sockets_lane_of_the_same_name_is_not_here(lanes):
    home = lanes.keep(lanes.default, "r1", None)
    lanes.reset()
    lanes.keep(lanes.default, "r1", None)
    assert parent_of(turn(Anchor("r1", 1, False, home)), lanes) is None


def test_after_the_server_did_not_find_it_no_parent_is_tried(lanes):
    home = lanes.keep(lanes.default, "r1", None)
    made = turn(Anchor("r1", 1, False, home), Anchor("r0", 0, True, None), remedies={Remedy.FULL})
    assert parent_of(made, lanes) is None
    parent, texts, reason = sent(made, home, lanes)
    assert (parent, texts) == (None, ["old", "newer", "new"])
    assert reason == "server did not find the parent"


def test_a_plain_turn_is_sent_as_it_is_where_its_parent_is(lanes):
    home = lanes.keep(lanes.default, "r1", None)
    made = Turn(payload=b'{"a":1}', timeouts=Timeouts(), started_at=0.0, parent_id="r1")
    assert parent_of(made, lanes) is home
    assert message_of(made, home, lanes) == b'{"a":1}'
    assert made.sent is None


def test_a_named_lane_is_named_first(lanes):
    lanes.lease(lanes.default, turn())
    made = turn()
    lane = lanes.choose(made, None, forked=False)
    assert message_of(made, lane, lanes).startswith(b'{"stream_id":"llmws-1","type":')
