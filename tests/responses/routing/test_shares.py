"""A batch cut by lanes: each message is in the share of its lane, in order, and decoded at most once."""

from __future__ import annotations

import json
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmws.errors import RemoteProtocolError
from llmws.responses.routing import shares as module
from llmws.responses.routing.shares import Share, shares_of
from llmws.responses.routing.turn import Turn, TurnState
from llmws.timeouts import Timeouts
from llmws.wire import jsoncodec
from tests.responses.lanework import created, delta


# Inputs that nest to the limit.
pytestmark = pytest.mark.usefixtures("no_finalizers")


needs_msgspec = pytest.mark.skipif(jsoncodec._fast is None, reason="msgspec is not installed")

BAD = [b"", b"{", b"[]", b"1", b"null", b'"text"', b"\xff", b"nul", b"{}{}", b"[" * 100_000]


@pytest.fixture(params=[pytest.param("msgspec", marks=needs_msgspec), "stdlib"])
def decoder(request, monkeypatch):
    """Cut with msgspec's look at flat deltas, and without."""
    if request.param == "stdlib":
        monkeypatch.setattr(module, "delta_of", None)
    return request.param


def encoded(raw):
    return raw if isinstance(raw, bytes) else json.dumps(raw).encode()


def on(lane, raw, **fields):
    return {**raw, "stream_id": lane, **fields}


def cut(*raws):
    """Return what each share has: its lane, and its messages decoded or, for a fault, as they came."""
    shares = shares_of([encoded(raw) for raw in raws])
    return [(s.lane, s.unreadable if s.fault else s.decoded()) for s in shares]


def test_a_batch_of_one_lane_is_one_share(decoder):
    assert cut(delta("1"), delta("2")) == [(None, [delta("1"), delta("2")])]
    assert cut(on("a", created()), on("a", delta())) == [
        ("a", [on("a", created()), on("a", delta())])
    ]


def test_an_empty_batch_has_no_share(decoder):
    assert shares_of([]) == []


def test_lanes_that_interleave_are_told_apart_each_in_order(decoder):
    said = [on("a", delta("1")), delta("2"), on("b", delta("3")), on("a", delta("4")), delta("5")]
    assert cut(*said) == [
        ("a", [said[0], said[3]]),
        (None, [said[1], said[4]]),
        ("b", [said[2]]),
    ]
    mixed = [on("a", created()), created(), *said]
    assert [lane for lane, _ in cut(*mixed)] == ["a", None, "b"]
    assert [len(messages) for _, messages in cut(*mixed)] == [3, 3, 1]


def test_a_lane_that_is_null_is_the_default_lane(decoder):
    assert cut(on(None, created()), delta()) == [(None, [on(None, created()), delta()])]


@pytest.mark.parametrize("name", [1, 1.5, True, [], {}, [None], {"a": 1}])
def test_a_lane_that_is_no_text_is_nobodys(name, decoder):
    assert [lane for lane, _ in cut(created(), on(name, created()))] == [None, ""]
    assert [lane for lane, _ in cut(on(name, created()))] == [""]


def test_an_empty_name_is_not_the_default_lane(decoder):
    assert [lane for lane, _ in cut(on("", delta()))] == [""]


@needs_msgspec
def test_flat_deltas_are_not_decoded_to_be_cut():
    numbered = [on("ab"[n % 2], delta(), sequence_number=n) for n in range(4)]
    a, b = shares_of([encoded(raw) for raw in numbered])
    assert (a.raws, b.raws) == (None, None)
    assert (a.numbers, b.numbers) == ([0, 2], [1, 3])
    assert a.messages == [encoded(numbered[0]), encoded(numbered[2])]


@needs_msgspec
def test_one_other_message_has_all_decoded_once(monkeypatch):
    shares = shares_of([encoded(created()), encoded(on("a", delta()))])
    assert [share.numbers for share in shares] == [None, None]
    monkeypatch.setattr(jsoncodec, "decode_all", None)
    assert [share.decoded() for share in shares] == [[created()], [on("a", delta())]]


def test_the_size_of_some_messages_is_what_they_took_on_the_wire():
    share = Share(None, [b"1", b"22", b"333"])
    assert (share.size_bytes(0, 3), share.size_bytes(1, 2), share.size_bytes(3, 3)) == (6, 2, 0)


# What cannot be read.


@pytest.mark.parametrize("bad", BAD)
def test_a_message_that_is_no_object_is_a_share_of_its_own_in_its_place(bad, decoder):
    said = [on("a", created()), delta("1"), bad, on("a", delta("2"))]
    assert cut(*said) == [
        ("a", [said[0]]),
        (None, [said[1]]),
        (None, bad),
        ("a", [said[3]]),
    ]
    assert cut(bad, bad) == [(None, bad)] * 2
    (share,) = shares_of([bad])
    assert type(share.fault) is RemoteProtocolError
    assert len(share) == 0


def test_texts_that_are_valid_only_together_are_each_unreadable(decoder):
    assert cut(b'{"a":[1', b"2]}") == [(None, b'{"a":[1'), (None, b"2]}")]


def test_a_flood_of_what_cannot_be_read_is_cut_in_time(decoder):
    began = time.process_time()
    shares = shares_of([b"x", b"{}"] * 2_000)
    assert len(shares) == 4_000
    assert time.process_time() - began < 2.0


def test_each_turn_has_the_fault_as_an_error_of_its_own():
    (share,) = shares_of([b"no JSON " * 100])
    turn = Turn(payload=b"", timeouts=Timeouts(), started_at=0.0, response_id="r")
    turn.state = TurnState.OUTPUT
    error = share.fault_of(turn, lambda value: value)
    assert (error.response_id, error.state, error.may_have_been_billed) == ("r", "output", True)
    assert error.raw == (b"no JSON " * 100)[:512]
    assert error is not share.fault


def test_a_key_that_is_quoted_in_an_unreadable_message_is_hidden_before_that_is_cut():
    key = b"sk-" + b"k" * 40
    (share,) = shares_of([b"x" * 480 + key + b"x" * 600])
    turn = Turn(payload=b"", timeouts=Timeouts(), started_at=0.0)
    error = share.fault_of(
        turn, lambda value: value.replace(key, b"***") if type(value) is bytes else value
    )
    assert error.raw == (b"x" * 480 + b"***" + b"x" * 600)[:512]


# Any batch.

messages = st.sampled_from(
    [
        *(encoded(on(lane, delta(text))) for lane in "ab" for text in "12"),
        encoded(delta()),
        encoded(created()),
        encoded(on("a", created())),
        encoded(on(7, created())),
        b"bad",
        b"[]",
    ]
)


@given(st.lists(messages, max_size=12), st.booleans())
def test_every_message_is_in_one_share_that_of_its_lane_and_in_order(batch, fast):
    with pytest.MonkeyPatch.context() as patch:
        if not fast:
            patch.setattr(module, "delta_of", None)
        shares = shares_of(batch)
    said = [message for share in shares for message in share.messages or [share.unreadable]]
    assert sorted(said) == sorted(batch)
    faults = [share.unreadable for share in shares if share.fault]
    assert faults == [message for message in batch if message in (b"bad", b"[]")]
    for name in (None, "a", "b", ""):
        of_lane = [m for share in shares if share.lane == name for m in share.messages]
        assert of_lane == [m for m in batch if m not in faults and lane_of(m) == name]


def lane_of(message):
    name = json.loads(message).get("stream_id")
    return name if name is None or isinstance(name, str) else ""


def test_an_error_without_a_lane_is_not_moved_before_what_came_before_it(decoder):
    wrong = {"type": "error", "error": {"code": "c"}}
    said = [delta("a"), on("x", created()), wrong, on("x", delta("b")), delta("c")]
    shares = shares_of([encoded(raw) for raw in said])
    assert [(share.lane, len(share)) for share in shares] == [
        (None, 1),
        ("x", 1),
        (None, 1),
        ("x", 1),
        (None, 1),
    ]
    assert shares[2].decoded() == [wrong]
