"""Conversations and forks on lanes: what is sent, and where."""

from __future__ import annotations

import pytest

from llmws.errors import PreviousResponseNotFoundError
from llmws.responses.routing.turn import Submit
from llmws.wire.steps import Lost, Opened, Withdraw
from tests.responses.lanework import Lanework, completed, created, error, failure, types
from tests.responses.manylanes import (
    Chat,
    accept,
    begin,
    cancel,
    lanes,
    on,
    requests,
    running,
    texts,
)


@pytest.fixture
def work() -> Lanework:
    return lanes()


@pytest.fixture
def shown(work) -> Lanework:
    """Give a router whose server has shown that it has lanes."""
    turns = running(work, 2)
    accept(work, turns)
    work.say(completed(), *on("llmws-1", completed()))
    return work


# Conversations.


def test_a_conversation_goes_back_to_its_lane_and_sends_what_is_new(work):
    chat = Chat(work)
    lane, request = chat.answered("one")
    assert (lane, texts(request)) == (None, ["one"])
    turn = chat.turn("two")
    lane, request = begin(work, turn)
    assert (lane, texts(request), request["previous_response_id"]) == (None, ["two"], "r-one")
    assert (turn.sent.kind, turn.sent.reason) == ("delta", "parent cached")
    assert turn.sent.saved_bytes == turn.continuation.size_bytes() - turn.sent.bytes
    counters = work.lanes.counters
    assert (counters.fulls, counters.deltas) == (1, 1)
    assert counters.saved_bytes == turn.sent.saved_bytes


def test_another_turn_does_not_take_a_lane_that_a_conversation_keeps(shown):
    chat = Chat(shown)
    chat.answered("one")
    assert begin(shown, shown.turn())[0] == "llmws-1"
    lane, request = begin(shown, chat.turn("two"))
    assert (lane, texts(request)) == (None, ["two"])


def test_a_conversation_waits_for_its_lane(work):
    chat = Chat(work)
    chat.answered("one")
    first, second = chat.turn("two"), chat.turn("three")
    begin(work, first)
    running(work, 1)
    assert work.step(Submit(second)) == []
    # It does not hold up those behind it.
    assert [*running(work, 1)] == ["llmws-2"]
    ((lane, request),) = requests(work.say(created("r-two"), completed("r-two")))
    assert (lane, texts(request)) == ("llmws-3", ["one", "three"])
    assert second.sent.reason == "lane given away"


def test_conversations_that_overlap_keep_a_lane_each(work):
    chats = [Chat(work) for _ in range(4)]
    turns = [(chat, chat.turn("one")) for chat in chats]
    lanes_of = [begin(work, turn)[0] for _, turn in turns]
    assert len({*lanes_of}) == 4
    for number, ((chat, turn), lane) in enumerate(zip(turns, lanes_of, strict=True)):
        work.say(*on(lane, created(f"r{number}"), completed(f"r{number}")))
        chat.settle(turn)
    for number, (chat, lane) in enumerate(zip(chats, lanes_of, strict=True)):
        turn = chat.turn("two")
        again, request = begin(work, turn)
        assert (again, request["previous_response_id"]) == (lane, f"r{number}")


def kept(work, count):
    """Return so many conversations, each with a lane of its own, the first one's used longest ago."""
    blocker = running(work, 1)
    chats = [Chat(work) for _ in range(count)]
    for number, chat in enumerate(chats):
        chat.answered(f"{number}")
    accept(work, blocker)
    return chats


def test_if_names_run_short_the_conversation_used_longest_ago_gives_way(work):
    chats = kept(work, 32)
    work.say(completed())
    chats[0].answered("again")  # So that another's was used longest ago.
    busy = running(work, 1)  # The default lane.
    assert [*busy] == [None]
    ((lane, taken),) = running(work, 1).items()
    assert lane == "llmws-2"
    turn = chats[1].turn("two")
    ((other, request),) = requests(work.step(Submit(turn)))
    assert (other, texts(request)) == ("llmws-3", ["1", "two"])
    assert (turn.sent.kind, turn.sent.reason) == ("full", "lane given away")
    assert not taken.ended
    assert begin(work, chats[0].turn("three"))[1]["previous_response_id"] == "r-again"


def test_a_stored_response_is_gone_on_from_on_any_lane(work):
    chat = Chat(work)
    turn = chat.turn("one")
    begin(work, turn)
    work.say(created("r1"), completed("r1"))
    chat.settle(turn, stored=True)
    work.step(Lost(1006, ""))
    following = chat.turn("two")
    work.step(Submit(following))
    ((_, request),) = requests(work.step(Opened()))
    assert (request["previous_response_id"], texts(request)) == ("r1", ["two"])
    assert following.sent.reason == "parent stored"


def test_what_was_cached_is_lost_with_the_connection(work):
    chat = Chat(work)
    chat.answered("one")
    work.step(Lost(1006, ""))
    turn = chat.turn("two")
    work.step(Submit(turn))
    ((_, request),) = requests(work.step(Opened()))
    assert (texts(request), turn.sent.reason) == (["one", "two"], "connection lost")
    assert "previous_response_id" not in request


@pytest.mark.parametrize("said", [[error()], [created("x"), completed("x", "failed")]])
def test_a_continuation_that_fails_takes_its_parent_along(work, said):
    chat = Chat(work)
    chat.answered("one")
    begin(work, chat.turn("two"))
    work.say(*said)
    turn = chat.turn("three")
    assert texts(begin(work, turn)[1]) == ["one", "three"]
    assert turn.sent.kind == "full"


def test_a_continuation_that_is_cancelled_takes_its_parent_along(work):
    chat = Chat(work)
    chat.answered("one")
    turn = chat.turn("two")
    begin(work, turn)
    work.step(cancel(turn))
    work.say(created("x"), completed("x"))
    assert texts(begin(work, chat.turn("three"))[1]) == ["one", "three"]


def test_an_incomplete_response_can_be_gone_on_from(work):
    chat = Chat(work)
    turn = chat.turn("one")
    begin(work, turn)
    work.say(created("r"), completed("r", "incomplete"))
    chat.settle(turn)
    assert begin(work, chat.turn("two"))[1]["previous_response_id"] == "r"


def test_a_parent_that_the_server_does_not_find_has_all_sent_once(work):
    chat = Chat(work)
    chat.answered("one")
    turn = chat.turn("two")
    begin(work, turn)
    ((_, request),) = requests(work.say(error("previous_response_not_found")))
    assert texts(request) == ["one", "two"]
    assert "previous_response_id" not in request
    assert turn.sent.reason == "server did not find the parent"
    assert types(turn) == ["llmws.retry"]
    work.written(turn)
    counters = work.lanes.counters
    assert (counters.retries, counters.deltas, counters.fulls) == (1, 1, 2)
    work.say(error("previous_response_not_found"))
    assert type(failure(turn)) is PreviousResponseNotFoundError


def test_a_continuation_that_is_refused_in_passing_has_all_sent_the_second_time(work):
    # A server that refuses a continuation forgets its parent (documented).
    chat = Chat(work)
    chat.answered("one")
    begin(work, chat.turn("two"))
    ((_, request),) = requests(work.say(error("server_error")))
    assert texts(request) == ["one", "two"]


def test_a_full_request_whose_parent_is_not_found_is_not_repeated(work):
    turn = Chat(work).turn("one")
    begin(work, turn)
    work.say(error("previous_response_not_found"))
    assert type(failure(turn)) is PreviousResponseNotFoundError


def test_a_request_counts_as_sent_when_its_first_byte_is(work):
    turn = Chat(work).turn("one")
    work.step(Submit(turn))
    work.step(Lost(1006, ""))
    work.step(Opened())
    assert work.lanes.counters.fulls == 0
    work.written(turn)
    assert (work.lanes.counters.fulls, work.lanes.counters.reuses) == (1, 0)


def test_a_request_that_was_withdrawn_was_not_sent(work):
    chat = Chat(work)
    chat.answered()
    turn = chat.turn()
    work.step(Submit(turn))
    assert turn.sent is not None
    assert work.step(cancel(turn)) == [Withdraw(turn)]
    assert turn.sent is None
    assert begin(work, chat.turn())[1].get("previous_response_id") is not None


def test_a_plain_turn_that_names_its_parent_goes_to_the_lane_that_caches_it(work):
    turns = running(work, 3)
    accept(work, turns)
    work.say(*(raw for lane in turns for raw in on(lane, completed(f"r-{lane}"))))
    for lane in ("llmws-2", None, "llmws-1"):
        assert begin(work, work.turn(parent_id=f"r-{lane}"))[0] == lane


def test_a_plain_turn_whose_parent_is_nowhere_goes_anywhere(work):
    assert begin(work, work.turn(parent_id="r"))[0] is None


# Forks.


def forked(work):
    """Return a conversation of one turn, and a fork of it whose first turn was sent on another lane."""
    chat = Chat(work)
    chat.answered("one")
    fork = chat.fork()
    turn = fork.turn("other", forked=True)
    lane, request = begin(work, turn)
    assert (lane, request["previous_response_id"]) == ("llmws-1", "r-one")
    assert texts(request) == ["other"]
    return chat, turn


def test_the_source_of_a_fork_goes_on_when_the_fork_has_begun(work):
    chat, fork = forked(work)  # And the first name is heard of with that.
    turn = chat.turn("two")
    assert work.step(Submit(turn)) == []
    ((lane, request),) = requests(work.say(*on("llmws-1", created("f"))))
    assert (lane, request["previous_response_id"]) == (None, "r-one")
    assert not fork.ended


@pytest.mark.parametrize("how", ["refused", "cancelled", "withdrawn"])
def test_the_source_of_a_fork_goes_on_when_the_fork_has_ended(shown, how):
    work, chat = shown, Chat(shown)
    chat.answered("one")
    fork = chat.fork().turn("other", forked=True)
    work.step(Submit(fork))
    if how != "withdrawn":
        work.written(fork)
    turn = chat.turn("two")
    assert work.step(Submit(turn)) == []
    wanted = work.say(*on("llmws-1", error())) if how == "refused" else work.step(cancel(fork))
    ((lane, request),) = requests(wanted)
    # The source keeps what it has: an error of a fork leaves it there.
    assert (lane, request["previous_response_id"]) == (None, "r-one")


def test_the_source_waits_for_each_of_several_forks(shown):
    work, chat = shown, Chat(shown)
    chat.answered("one")
    forks = {}
    for _ in range(2):
        fork = chat.fork().turn("other", forked=True)
        forks[begin(work, fork)[0]] = fork
    turn = chat.turn("two")
    assert work.step(Submit(turn)) == []
    first, second = forks
    assert requests(work.say(*on(second, created("f2")))) == []
    assert requests(work.say(*on(first, created("f1")))) != []


@pytest.mark.parametrize("runs", [True, False])
def test_a_fork_whose_source_has_moved_on_sends_all(work, runs):
    chat = Chat(work)
    chat.answered("one")
    fork = chat.fork()
    if runs:
        begin(work, chat.turn("two"))
    else:
        chat.answered("two")
    turn = fork.turn("other", forked=True)
    _, request = begin(work, turn)
    assert texts(request) == ["one", "other"]
    assert turn.sent.reason == "source moved on"
