"""Many lanes on one connection: who gets which, whose an event is, and what one's trouble does to the others."""

from __future__ import annotations

import json

import attrs
import pytest

from llmws.errors import (
    APIError,
    IdleTimeout,
    PreviousResponseNotFoundError,
    RemoteProtocolError,
    StreamCancelledError,
    StreamInterruptedError,
)
from llmws.responses import shares
from llmws.responses.capabilities import Capabilities
from llmws.responses.continuation import Anchor, Continuation, Keeper
from llmws.responses.reports import (
    Aged,
    Astray,
    GiveBack,
    Idle,
    Learn,
    Learned,
    Released,
    Retire,
    Retired,
    Returned,
    TryAgain,
)
from llmws.responses.settings import Settings
from llmws.responses.transcript import Transcript
from llmws.responses.turn import Cancel, Submit, Turn, TurnState
from llmws.wire import jsoncodec
from llmws.wire.ports import Crashed
from llmws.wire.steps import (
    Drop,
    Finished,
    Lost,
    Opened,
    Send,
    Started,
    Stop,
    Tick,
    Useful,
    Want,
    Withdraw,
)
from tests.responses.lanework import (
    FOREVER,
    LIMIT,
    Lanework,
    completed,
    created,
    delta,
    error,
    event,
    failure,
    types,
)


class Work(Lanework):
    """A router whose requests are never empty, so that a name can be put into them."""

    def turn(self, payload=b'{"n":0}', timeouts=FOREVER, **fields):
        return super().turn(payload, timeouts, **fields)

    def submit(self, payload=b'{"n":0}', **fields):
        return super().submit(payload, **fields)


OPENAI = Capabilities(lanes=True, max_active=16, max_lanes=32)
SETTINGS = Settings.of({"store": False})


@pytest.fixture
def work() -> Lanework:
    return lanes()


def lanes(known: bool | None = True, **options) -> Lanework:
    capabilities = attrs.evolve(OPENAI, lanes=known)
    return Work(capabilities=capabilities, **options).opened()


def on(lane, *raws):
    """Say of events whose they are."""
    return [raw if lane is None else {**raw, "stream_id": lane} for raw in raws]


def requests(wanted):
    """Return the lanes and the rest of what is to be sent."""
    sent = [json.loads(action.message) for action in wanted if isinstance(action, Send)]
    return [(request.pop("stream_id", None), request) for request in sent]


def begin(work, turn):
    """Submit a turn that may begin; return the lane that it goes out on, and what is sent."""
    ((lane, request),) = requests(work.step(Submit(turn)))
    work.written(turn)
    return lane, request


def running(work, count):
    """Begin so many turns; return them by their lanes."""
    turns = [work.turn() for _ in range(count)]
    return {begin(work, turn)[0]: turn for turn in turns}


def accept(work, turns):
    for lane in turns:
        work.say(*on(lane, created(f"r-{lane}")))


def cancel(turn, hard=False):
    return Cancel(turn, "The turn was cancelled.", hard)


class Chat:
    """A conversation: what is kept of it, and the turns that go on from there."""

    def __init__(self, work, items=(), anchors=(), keeper=None):
        self.work = work
        self.transcript = Transcript(items)
        self.anchors = anchors
        self.keeper = keeper or Keeper()

    def turn(self, text="hello", forked=False, **fields):
        continuation = Continuation(
            anchors=self.anchors,
            forked=forked,
            keeper=self.keeper,
            settings=SETTINGS,
            history=self.transcript.window(),
            given=(jsoncodec.encode({"text": text}),),
        )
        return self.work.turn(b"", continuation=continuation, **fields)

    def settle(self, turn, stored=False):
        """Note that a turn was answered."""
        assert turn.inbox.error is None
        self.transcript.extend(turn.continuation.given)
        self.anchors = (Anchor(turn.response_id, len(self.transcript), stored, turn.home),)

    def fork(self):
        return Chat(self.work, self.transcript.items, self.anchors)

    def answered(self, text="hello"):
        """Have one whole turn, and return its lane and request."""
        turn = self.turn(text)
        lane, request = begin(self.work, turn)
        self.work.say(*on(lane, created(f"r-{text}"), completed(f"r-{text}")))
        self.settle(turn)
        return lane, request


def texts(request):
    return [item["text"] for item in request["input"]]


# Which lane a turn gets.


def test_lone_turns_use_the_default_lane_and_name_none(work):
    for _ in range(3):
        assert begin(work, work.turn(b'{"a":1}')) == (None, {"a": 1})
        work.say(created(), completed())


def test_turns_that_overlap_lease_names_and_go_out_at_once(work):
    turns = running(work, 4)
    assert [*turns] == [None, "llmws-1", "llmws-2", "llmws-3"]
    assert all(turn.state is TurnState.SENT for turn in turns.values())


def test_a_name_is_spliced_into_the_request_as_it_is(work):
    running(work, 1)
    turn = work.turn(b'{"type":"response.create","input":"\xc3\xa9"}')
    assert work.step(Submit(turn)) == [
        Send(turn, b'{"stream_id":"llmws-1","type":"response.create","input":"\xc3\xa9"}')
    ]


def test_names_are_used_again_before_new_ones(work):
    turns = running(work, 3)
    accept(work, turns)
    work.say(*on("llmws-1", completed()))
    assert [*running(work, 1)] == ["llmws-1"]
    assert [*running(work, 1)] == ["llmws-3"]
    work.say(*on("llmws-2", completed()), *on("llmws-3", created(), completed()))
    # The one that was used longest ago goes first.
    assert [*running(work, 2)] == ["llmws-2", "llmws-3"]


def test_sixteen_turns_run_at_once_and_the_others_wait(work):
    turns = running(work, 16)
    following = [work.submit(b'{"n":%d}' % n) for n in range(2)]
    assert [turn.state for turn in following] == [TurnState.QUEUED] * 2
    accept(work, turns)
    assert requests(work.say(*on("llmws-7", completed()))) == [("llmws-7", {"n": 0})]
    assert requests(work.say(completed())) == [(None, {"n": 1})]


def test_a_drained_lane_counts_among_the_sixteen(work):
    turns = running(work, 16)
    waiting = work.submit()
    assert work.step(cancel(turns["llmws-3"])) == []
    assert waiting.state is TurnState.QUEUED
    assert requests(work.say(*on("llmws-3", created(), completed()))) == [("llmws-3", {"n": 0})]


def test_of_thirty_two_names_no_more_are_ever_used(work):
    names = set()
    for number in range(100):
        busy = running(work, 1)  # So that conversations take names.
        names.add(Chat(work).answered(f"{number}")[0])
        (lane,) = busy
        names.add(lane)
        work.say(*on(lane, created(), completed()))
    assert len(names - {None}) == 32


def test_limits_are_those_of_the_server():
    work = Work(capabilities=Capabilities(lanes=True, max_active=3, max_lanes=2)).opened()
    assert [*running(work, 3)] == [None, "llmws-1", "llmws-2"]
    assert work.step(Submit(work.turn())) == []


def test_a_server_of_which_the_limits_are_not_known_is_given_those_that_are_documented():
    work = Work(capabilities=Capabilities(lanes=True)).opened()
    assert len(running(work, 16)) == 16
    assert work.step(Submit(work.turn())) == []


def test_a_new_socket_knows_none_of_the_names(work):
    running(work, 3)
    work.step(Lost(1006, ""))
    work.step(Opened())
    assert [*running(work, 2)] == [None, "llmws-1"]


# Whose an event is.


@pytest.fixture(params=["msgspec", "stdlib"])
def decoder(request, monkeypatch):
    if request.param == "stdlib":
        monkeypatch.setattr(shares, "delta_of", None)
    elif shares.delta_of is None:
        pytest.skip("msgspec is not installed")


def test_events_that_interleave_reach_their_own_turns_in_order(work, decoder):
    turns = running(work, 3)
    said = {lane: [*on(lane, created(f"{lane}"))] for lane in turns}
    work.say(*(raw for raws in said.values() for raw in raws))
    for batch in range(3):
        mixed = []
        for number in range(4):
            for lane in turns:
                mixed += on(lane, {**delta(f"{lane}-{batch}-{number}"), "sequence_number": 1})
                said[lane].append(mixed[-1])
        work.say(*mixed)
    for lane in reversed([*turns]):
        said[lane] += on(lane, completed(f"{lane}"))
        work.say(said[lane][-1])
    for lane, turn in turns.items():
        assert [entry.raw for entry in shares_opened(turn)] == said[lane]
        assert turn.inbox.error is None
    assert work.lanes.counters.dropped_events == 0


def shares_opened(turn):
    from llmws.responses.entries import opened

    return opened(turn.inbox.read(0, 0.0))


def test_one_batch_may_hold_the_end_of_one_turn_and_the_middle_of_another(work, decoder):
    turns = running(work, 2)
    default, named = turns[None], turns["llmws-1"]
    waiting = [work.submit(b'{"n":1}') for _ in range(1)]
    wanted = work.say(
        *on("llmws-1", created("2"), delta("2")), created("1"), *on("llmws-1", completed("2"))
    )
    assert (default.state, named.ended) == (TurnState.ACCEPTED, True)
    assert types(named) == ["response.created", "response.output_text.delta", "response.completed"]
    assert waiting[0].state is TurnState.QUEUED
    assert wanted == [Useful(), Useful()]


@pytest.mark.parametrize("lane", ["llmws-9", "other", ""])
def test_an_event_of_a_lane_that_nobody_is_on_is_dropped(work, lane):
    turns = running(work, 2)
    accept(work, turns)
    work.say(*on(lane, delta(), completed()))
    assert work.lanes.counters.dropped_events == 2
    assert not any(turn.ended for turn in turns.values())


def test_an_event_without_a_lane_is_the_default_lanes_alone(work):
    turns = running(work, 2)
    accept(work, turns)
    work.say(delta(), completed())
    assert turns[None].ended
    assert types(turns["llmws-1"]) == ["response.created"]


def test_numbers_are_counted_for_each_turn(work):
    turns = running(work, 2)
    for lane in turns:
        work.say(*on(lane, {**created(), "sequence_number": 0}))
    for number in (1, 2, 3):
        work.say(
            *on(None, {**delta(), "sequence_number": number}),
            *on("llmws-1", {**delta(), "sequence_number": 2 * number}),
        )
    assert (turns[None].missing_events, turns["llmws-1"].missing_events) == (0, 3)


# Errors.


def test_an_error_with_a_lane_ends_its_turn_and_leaves_the_others(work):
    turns = running(work, 3)
    work.say(*on("llmws-1", error()))
    assert type(failure(turns["llmws-1"])) is APIError
    accept(work, {lane: turns[lane] for lane in (None, "llmws-2")})
    work.say(completed(), *on("llmws-2", completed()))
    assert turns[None].inbox.error is turns["llmws-2"].inbox.error is None


def test_an_error_without_a_lane_is_the_default_lanes(work):
    turns = running(work, 3)
    work.say(error())
    assert [turn.ended for turn in turns.values()] == [True, False, False]


def test_an_error_without_a_lane_is_that_of_the_only_request_that_runs(work):
    chat = Chat(work)
    chat.answered()  # The default lane is kept for it.
    turn = work.turn()
    assert begin(work, turn)[0] == "llmws-1"
    work.say(error())
    assert type(failure(turn)) is APIError


def test_an_error_without_a_lane_ends_nobody_if_it_may_be_anybodys(work):
    Chat(work).answered()
    turns = running(work, 2)
    assert None not in turns
    work.say(error("server_error"))
    assert not any(turn.ended for turn in turns.values())
    assert work.lanes.counters.dropped_events == 1


def test_a_second_try_may_take_another_lane(work):
    turns = running(work, 2)
    turn = turns["llmws-1"]
    accept(work, {None: turns[None]})
    assert requests(work.say(*on("llmws-1", error("server_error")))) == [("llmws-1", {"n": 0})]
    work.written(turn)
    # What comes late of the first try is dropped.
    work.say(*on("llmws-1", completed("1", "failed"), created("2"), completed("2")))
    assert turn.final.response["id"] == "2"


def test_a_message_that_cannot_be_read_may_be_any_turns_and_ends_all_that_run(work):
    turns = running(work, 3)
    accept(work, {None: turns[None]})
    queued = work.turn()
    work.step(Submit(queued))
    work.say(*on("llmws-1", created("1")), b"no JSON")
    for lane, turn in turns.items():
        caught = failure(turn)
        assert type(caught) is RemoteProtocolError
        assert caught.raw == b"no JSON"
        assert caught.state == ("sent" if lane == "llmws-2" else "accepted")
    # Of this one the server has nothing.
    assert not queued.ended
    assert work.lanes.counters.dropped_events == 0


def test_a_gap_under_a_strict_check_ends_its_turn_alone():
    work = lanes(sequence_check="strict")
    turns = running(work, 2)
    work.say(
        {**created(), "sequence_number": 0}, *on("llmws-1", {**created(), "sequence_number": 0})
    )
    work.say(*on("llmws-1", {**delta(), "sequence_number": 7}), {**delta(), "sequence_number": 1})
    assert type(failure(turns["llmws-1"])) is RemoteProtocolError
    assert not turns[None].ended


# Ended turns whose answers go on.


def test_an_ended_turns_lane_is_drained_while_others_go_on(work):
    turns = running(work, 2)
    accept(work, turns)
    assert work.step(cancel(turns[None])) == []
    assert work.reported(Released) == []
    # The next turn does not get that lane.
    following = work.turn()
    assert begin(work, following)[0] == "llmws-2"
    assert work.say(delta("late"), *on("llmws-1", delta())) == [Useful()]
    assert work.say(completed()) == []
    assert work.reported(Released) == [Released(turns[None])]
    assert begin(work, work.turn())[0] in (None, "llmws-3")
    assert types(turns["llmws-1"]) == ["response.created", "response.output_text.delta"]


def test_a_lane_that_does_not_run_dry_does_not_cost_the_others_their_socket(work):
    turns = running(work, 2)
    accept(work, turns)
    work.step(cancel(turns[None]))
    for _ in range(4):
        assert work.wait() == []
    assert not turns["llmws-1"].ended
    work.say(*on("llmws-1", completed()))
    chat = Chat(work)
    chat.answered("one")
    for _ in range(4):
        assert work.wait() == []
    # What the server keeps for others is not given up for it.
    assert begin(work, chat.turn("two"))[1]["previous_response_id"] == "r-one"
    work.say(*on("llmws-1", created(), completed()))
    work.step(Retire())
    assert work.wait() == [Drop()]
    assert work.reported(Released)[-1] == Released(turns[None])
    assert Idle() in work.reported(Idle)


def test_when_no_lane_runs_dry_the_socket_is_replaced(work):
    turns = running(work, 16)
    waiting = work.submit()
    for turn in turns.values():
        work.step(cancel(turn))
    assert work.wait() == [Drop(), Want(15.0)]
    assert requests(work.step(Opened())) == [(None, {"n": 0})]
    assert not waiting.ended


def test_a_hard_cancel_waits_for_the_others_and_lets_nobody_begin(work):
    turns = running(work, 2)
    accept(work, turns)
    assert work.step(cancel(turns[None], hard=True)) == []
    assert work.reported(Retired) == [Retired(True)]
    waiting = work.submit()
    assert work.reported(Returned) == [Returned(waiting)]
    assert work.say(*on("llmws-1", completed())) == [Useful(), Drop()]
    assert work.reported(Retired) == [Retired(False)]
    assert work.step(Submit(waiting, moved=True)) == [Want(15.0, fresh=True)]


def test_a_limit_of_one_turn_is_not_the_others(work):
    hasty = work.turn(timeouts=FOREVER.but({"idle": 2.0}))
    lane, _ = begin(work, hasty)
    others = running(work, 2)
    accept(work, {lane: hasty, **others})
    assert work.lanes.deadline == work.now + 2.0
    assert work.wait() == []
    assert type(failure(hasty)) is IdleTimeout
    assert not any(turn.ended for turn in others.values())


# The loss of the socket.


def test_a_loss_ends_or_repeats_each_turn_by_its_own_state(work):
    states = ["queued", "sent", "uncertain", "refused", "accepted", "failing", "output", "over"]
    turns = {}
    for number in range(16):
        state = states[number % 8]
        turn = work.turn(b'{"n":%d}' % number, retry_uncertain=state == "uncertain")
        ((lane, _),) = requests(work.step(Submit(turn)))
        turns[turn] = (lane, state)
    for turn, (lane, state) in turns.items():
        if state != "queued":
            work.written(turn)
        said = {
            "accepted": [created("r")],
            "failing": [created("r"), error("server_error")],
            "output": [created("r"), delta()],
            "over": [created("r"), completed("r")],
        }
        work.say(*on(lane, *said.get(state, [])))
    for turn, (_, state) in turns.items():
        if state == "refused":
            turn.error_event = None
    waiting = work.submit(b'{"n":16}')
    work.reports.clear()
    again = work.step(Lost(1006, "gone"))
    assert again == [Want(15.0)] * len(again)
    by_state = {state: [t for t, (_, s) in turns.items() if s == state] for state in states}
    for state in ("sent", "refused", "accepted", "output"):
        for turn in by_state[state]:
            assert type(failure(turn)) is StreamInterruptedError
            assert failure(turn).state == ("sent" if state == "refused" else state)
            assert failure(turn).may_have_been_billed
    assert all(turn.inbox.error is None and turn.ended for turn in by_state["over"])
    repeated = [*by_state["queued"], *by_state["uncertain"], *by_state["failing"]]
    assert all(turn.state is TurnState.QUEUED for turn in [*repeated, waiting])
    sent = [request["n"] for _, request in requests(work.step(Opened()))]
    assert sorted(sent) == sorted(
        number for number in range(17) if states[number % 8] in ("queued", "uncertain", "failing")
    )
    assert sent.index(0) < sent.index(8) < sent.index(16)  # In the order in which they came.
    assert len(work.reported(Released)) == 8


def test_a_crash_ends_every_turn(work):
    turns = running(work, 5)
    work.step(Crashed(ZeroDivisionError("a defect")))
    assert all("a defect" in str(failure(turn)) for turn in turns.values())
    assert len({id(failure(turn)) for turn in turns.values()}) == 5


def test_stopping_ends_every_turn(work):
    turns = running(work, 16)
    turns["waiting"] = work.submit()
    work.step(Stop())
    assert {type(failure(turn)) for turn in turns.values()} == {StreamCancelledError}
    assert len(work.reported(Released)) == 17
    assert work.lanes.deadline is None


def test_an_old_connection_takes_no_further_turns_and_ends_when_its_turns_have(work):
    turns = running(work, 3)
    accept(work, {lane: turns[lane] for lane in (None, "llmws-1")})
    late = turns["llmws-2"]
    work.say(LIMIT)
    assert work.reported(Retired) == [Retired(True)]
    new = work.submit()
    assert work.reported(Returned) == [Returned(new)]
    work.say(completed())
    assert work.say(*on("llmws-1", completed())) == [Useful()]
    # Of several that were not answered it is not known whether one came too late: it may run.
    work.step(Tick(), after=1.0)
    assert work.reported(Returned) == []
    work.step(Lost(1001, "age"))
    assert failure(late).may_have_been_billed is True
    assert work.reported(Retired) == [Retired(False)]


def test_requests_that_were_not_begun_leave_an_old_connection_in_their_order(work):
    first = running(work, 1)[None]
    turns = [work.turn(b'{"n":%d}' % number) for number in range(3)]
    for turn in turns:
        work.step(Submit(turn))
    assert work.say(created(), LIMIT) == [Useful(), *map(Withdraw, reversed(turns))]
    assert [report.turn for report in work.reported(Returned)] == turns
    assert not first.ended


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


def test_a_plain_turn_that_names_its_parent_goes_to_the_lane_that_caches_it(work):
    turns = running(work, 3)
    accept(work, turns)
    work.say(*(raw for lane in turns for raw in on(lane, completed(f"r-{lane}"))))
    for lane in ("llmws-2", None, "llmws-1"):
        assert begin(work, work.turn(parent_id=f"r-{lane}"))[0] == lane


def test_a_plain_turn_whose_parent_is_nowhere_goes_anywhere(work):
    assert begin(work, work.turn(parent_id="r"))[0] is None


# Forks.


@pytest.fixture
def shown(work) -> Lanework:
    """Give a router whose server has shown that it has lanes."""
    turns = running(work, 2)
    accept(work, turns)
    work.say(completed(), *on("llmws-1", completed()))
    return work


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


def test_a_fork_whose_source_has_moved_on_sends_all(work):
    chat = Chat(work)
    chat.answered("one")
    fork = chat.fork()
    chat.answered("two")
    turn = fork.turn("other", forked=True)
    _, request = begin(work, turn)
    assert texts(request) == ["one", "other"]
    assert turn.sent.reason == "source moved on"


# Does the server have lanes at all?


def test_of_an_unknown_server_the_first_turn_asks_with_a_name():
    work = lanes(None)
    first, second = work.turn(), work.turn(b'{"n":2}')
    assert begin(work, first)[0] == "llmws-1"
    assert work.step(Submit(second)) == []


def test_an_echo_lets_the_others_begin_at_once():
    work = lanes(None)
    begin(work, work.turn())
    for number in range(3):
        work.step(Submit(work.turn(b'{"n":%d}' % number)))
    wanted = work.say(*on("llmws-1", created()))
    assert work.reported(Learned) == [Learned(True)]
    assert [request["n"] for _, request in requests(wanted)] == [0, 1, 2]
    assert len({lane for lane, _ in requests(wanted)}) == 3


@pytest.mark.parametrize("first", [[created()], [event("codex.rate_limits"), created()], [delta()]])
def test_an_answer_without_a_name_shows_a_server_without_lanes(first):
    work = lanes(None)
    turn, following = work.turn(), work.turn(b'{"n":2}')
    begin(work, turn)
    work.step(Submit(following))
    work.say(*first, delta())
    assert work.reported(Learned) == [Learned(False)]
    assert types(turn)[-1] == "response.output_text.delta"
    assert requests(work.say(completed())) == [(None, {"n": 2})]
    assert turn.inbox.error is None


def test_an_error_without_a_name_ends_the_first_turn_of_an_unknown_server():
    work = lanes(None)
    turn = work.turn()
    begin(work, turn)
    work.say(error())
    assert type(failure(turn)) is APIError
    assert work.reported(Learned) == [Learned(False)]


def test_the_end_of_the_connection_teaches_nothing_of_lanes():
    work = lanes(None)
    begin(work, work.turn())
    work.say(LIMIT)
    assert work.reported(Learned) == []
    assert work.reported(Retired) == [Retired(True)]


def test_a_cancelled_first_turn_teaches_too():
    work = lanes(None)
    turn = work.turn()
    begin(work, turn)
    following = work.turn(b'{"n":2}')
    work.step(Submit(following))
    work.step(cancel(turn))
    assert work.say(created()) == []
    assert work.reported(Learned) == [Learned(False)]
    assert requests(work.say(completed())) == [(None, {"n": 2})]


def test_an_unknown_server_without_lanes_keeps_one_response():
    work = lanes(None)
    one, two = Chat(work), Chat(work)
    turn = one.turn("one")
    begin(work, turn)
    work.say(created("r1"), completed("r1"))
    one.settle(turn)
    assert begin(work, one.turn("two"))[1]["previous_response_id"] == "r1"
    work.say(created("r2"), completed("r2"))
    begin(work, two.turn("other"))
    work.say(created("r3"), completed("r3"))
    one.anchors = (Anchor("r2", 1, False, one.anchors[0].home),)
    turn = one.turn("three")
    assert "previous_response_id" not in begin(work, turn)[1]


def test_what_another_connection_learned_is_taken_over():
    work = lanes(None)
    begin(work, work.turn())
    work.step(Submit(work.turn(b'{"n":2}')))
    assert len(requests(work.step(Learn(True)))) == 1
    assert work.reported(Learned) == []
    work.step(Learn(False))  # It knows already.
    assert work.step(Submit(work.turn(b'{"n":3}'))) != []


def test_a_server_said_to_have_lanes_that_has_none_but_answers_in_turn_is_understood(work):
    turns = running(work, 3)
    for number, turn in enumerate(turns.values()):
        work.say(created(f"r{number}"), delta(f"{number}"), completed(f"r{number}"))
        assert turn.inbox.error is None
        assert turn.final.response["id"] == f"r{number}"
    assert work.reported(Learned) == [Learned(False)]
    assert begin(work, work.turn())[0] is None
    assert work.step(Submit(work.turn())) == []


def test_before_the_first_echo_the_default_lane_is_not_taken_beside_a_named_one(work):
    chat = Chat(work)
    chat.answered("one")
    other = work.turn()
    assert begin(work, other)[0] == "llmws-1"
    turn = chat.turn("two")
    # If the server has no lanes, the next answer without one is the other's.
    assert work.step(Submit(turn)) == []
    assert requests(work.say(*on("llmws-1", created("x")))) != []


@pytest.mark.parametrize("batches", [1, 2])
def test_answers_that_are_mixed_without_names_are_given_to_nobody(work, batches):
    turns = running(work, 2)
    queued = work.turn(b'{"n":1}')
    work.step(Submit(queued))
    first, second = [created("a"), delta("a")], [created("b"), delta("b")]
    if batches == 1:
        wanted = work.say(*first, *second)
    else:
        work.say(*first)
        wanted = work.say(*second)
    assert wanted[-3:] == [Withdraw(queued), Drop(), Want(15.0)]
    for turn in turns.values():
        caught = failure(turn)
        assert type(caught) is RemoteProtocolError
        assert "pass lanes=False" in str(caught)
    assert [failure(turn).state for turn in turns.values()] == ["output", "sent"]
    assert failure(turns[None]).response_id == "a"
    assert failure(turns["llmws-1"]).response_id is None
    assert types(turns[None]) == ["response.created", "response.output_text.delta"]
    # Of this one the server has nothing.
    assert requests(work.step(Opened())) == [(None, {"n": 1})]
    assert work.reported(Learned) == [Learned(False)]


def test_a_server_that_has_shown_its_lanes_may_say_created_twice(work):
    turns = running(work, 2)
    accept(work, turns)
    work.say(created("again"), completed("again"))
    assert turns[None].inbox.error is None


# What the pool asks, and is told.


def test_a_connection_that_is_retired_begins_nothing_and_says_when_it_is_done(work):
    turns = running(work, 1)
    accept(work, turns)
    waiting = Chat(work).turn("one")
    work.step(Retire())
    work.step(Submit(waiting))
    assert work.reported(Returned) == [Returned(waiting)]
    assert work.reported(Idle) == []
    work.say(completed())
    assert work.reported(Idle) == [Idle()]


def test_a_retired_connection_without_turns_is_done_at_once(work):
    work.step(Retire())
    assert work.reported(Idle) == [Idle()]


def test_a_retired_connection_drains_before_it_is_done(work):
    turns = running(work, 1)
    accept(work, turns)
    work.step(Retire())
    work.step(cancel(turns[None]))
    assert work.reported(Idle) == []
    work.say(completed())
    assert work.reported(Idle) == [Idle()]


def test_turns_that_wait_are_given_back_one_for_each_wish(work):
    running(work, 16)
    waiting = [work.submit() for _ in range(3)]
    work.step(GiveBack())
    work.step(GiveBack())
    assert work.reported(Returned) == [Returned(turn) for turn in waiting[:2]]


def test_a_conversation_that_waits_for_its_lane_is_not_given_back(work):
    chat = Chat(work)
    chat.answered("one")
    first, second = chat.turn("two"), chat.turn("three")
    begin(work, first)
    work.step(Submit(second))
    work.step(GiveBack())
    assert work.reported(Returned) == []


def test_a_wish_that_comes_too_late_is_forgotten(work):
    work.step(GiveBack())
    running(work, 16)
    work.submit()
    assert work.reported(Returned) == []


def test_a_turn_that_waits_out_a_pause_is_not_given_back():
    work = Lanework().opened()
    turn = work.sent()
    work.say(error("slow_down", headers={"retry-after": "5"}))
    work.step(GiveBack())
    assert work.reported(Returned) == []
    assert not turn.ended


def test_a_turn_that_comes_from_another_connection_is_not_counted_again(work):
    turn = work.turn()
    work.step(Submit(turn, moved=True))
    assert work.lanes.counters.turns == 0


def test_a_turn_that_was_cancelled_on_its_way_ends_where_it_arrives(work):
    turn = work.turn()
    turn.cancelled = cancel(turn)
    assert requests(work.step(Submit(turn, moved=True))) == []
    assert type(failure(turn)) is StreamCancelledError


def test_a_cancel_for_a_turn_that_is_not_here_is_passed_on(work):
    given = cancel(work.turn())
    assert work.step(given) == []
    assert work.reported(Astray) == [Astray(given)]


def test_a_socket_near_its_end_is_reported_once():
    work = lanes(max_age=100.0)
    turns = running(work, 1)
    accept(work, turns)
    assert work.lanes.deadline == work.now + 100.0
    work.step(Tick(), after=99.9)
    assert work.reported(Aged) == []
    work.step(Tick(), after=0.1)
    assert work.reported(Aged) == [Aged()]
    assert work.lanes.deadline is None
    work.step(TryAgain())
    work.wait()
    assert work.reported(Aged) == [Aged()]
    assert not turns[None].ended


def test_each_socket_has_an_age_of_its_own():
    work = lanes(max_age=100.0)
    work.now += 90.0
    work.step(Lost(1006, ""))
    assert work.lanes.deadline is None
    work.step(Opened())
    assert work.lanes.deadline == work.now + 100.0


def test_a_connection_without_a_turn_is_reported_as_idle():
    work = lanes(idle_seconds=50.0)
    running(work, 1)
    assert work.lanes.deadline is None
    work.say(created(), completed(), after=10.0)
    assert work.lanes.deadline == work.now + 50.0
    work.step(Tick(), after=49.9)
    assert work.reported(Idle) == []
    work.step(Tick(), after=0.1)
    assert work.reported(Idle) == [Idle()]


def test_a_turn_ends_the_idleness():
    work = lanes(idle_seconds=50.0)
    running(work, 1)
    work.say(created(), completed())
    running(work, 1)
    work.step(Tick(), after=60.0)
    assert work.reported(Idle) == []


def test_an_idle_connection_that_is_not_let_go_says_so_again():
    work = lanes(idle_seconds=50.0)
    running(work, 1)
    work.say(created(), completed())
    for _ in range(3):
        work.wait()
        assert work.reported(Idle) == [Idle()]


def test_every_turn_is_released_once(work):
    turns = running(work, 3)
    accept(work, turns)
    work.say(completed())
    work.step(cancel(turns["llmws-1"]))
    work.step(Lost(1006, ""))
    released = [report.turn for report in work.reported(Released)]
    assert sorted(released, key=id) == sorted(turns.values(), key=id)


def test_started_and_finished_of_another_thing_are_no_turns(work):
    class Other:
        """What else may be written."""

    assert work.step(Started(Other())) == []
    assert work.step(Finished(Other())) == []


def test_a_turn_is_a_turn_only():
    assert Turn.__eq__ is object.__eq__
