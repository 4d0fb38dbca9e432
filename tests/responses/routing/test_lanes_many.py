"""Many lanes on one connection: who gets which, whose an event is, and what one's trouble does to the others."""

from __future__ import annotations

import weakref

import pytest

from llmws.errors import (
    APIError,
    IdleTimeout,
    RemoteProtocolError,
    StreamCancelledError,
    StreamInterruptedError,
)
from llmws.responses.routing import shares
from llmws.responses.routing.reports import Idle, Released, Retire, Retired, Returned
from llmws.responses.routing.turn import Submit, TurnState
from llmws.responses.vocabulary.capabilities import Capabilities
from llmws.responses.vocabulary.entries import opened
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
    failure,
    types,
)
from tests.responses.manylanes import (
    OPENAI,
    Chat,
    Work,
    accept,
    begin,
    cancel,
    lanes,
    on,
    requests,
    running,
)


@pytest.fixture
def work() -> Lanework:
    return lanes()


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


def test_requests_over_a_socket_that_carried_one_before_are_counted(work):
    running(work, 3)
    assert work.lanes.counters.reuses == 2
    work.step(Lost(1006, ""))
    work.step(Opened())
    running(work, 2)
    assert work.lanes.counters.reuses == 3


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
        assert [entry.raw for entry in opened(turn.inbox.read(0, 0.0))] == said[lane]
        assert turn.inbox.error is None
    assert work.lanes.counters.dropped_events == 0


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


BUSY = error("rate_limit_exceeded")


def test_an_error_without_a_lane_is_the_default_lanes_once_the_others_have_gone_on(work):
    turns = running(work, 3)
    work.say(BUSY)
    assert types(turns[None]) == []
    work.say(*on("llmws-1", created("1")))
    sent = requests(work.say(*on("llmws-2", BUSY)))
    assert sorted(sent, key=str) == [("llmws-2", {"n": 0}), (None, {"n": 0})]
    assert work.lanes.counters.retries == 2
    assert not any(turn.ended for turn in turns.values())


def test_an_error_without_a_lane_was_another_turns_if_that_one_fails(work):
    turns = running(work, 2)
    accept(work, {"llmws-1": turns["llmws-1"]})
    work.say(*on("llmws-1", delta()))
    work.say(error("server_error"), *on("llmws-1", completed("r-llmws-1", "failed")))
    assert turns["llmws-1"].final.status == "failed"
    assert work.lanes.deadline is None
    work.say(created("r"), completed("r"))
    assert types(turns[None]) == ["response.created", "response.completed"]
    assert work.lanes.counters.retries == 0


def test_an_error_without_a_lane_is_none_of_a_turns_that_begins(work):
    turns = running(work, 2)
    work.say(error("server_error"))
    work.say(created("r"), *on("llmws-1", created("1")), completed("r"))
    assert types(turns[None]) == ["response.created", "response.completed"]
    assert work.lanes.counters.retries == 0


def test_an_error_without_a_lane_ends_the_default_lanes_turn_if_it_stays_unknown_whose_it_is(work):
    turns = running(work, 3)
    work.say(error("server_error"))
    began = work.now
    work.wait()
    assert work.now - began == 5.0
    assert [turn.ended for turn in turns.values()] == [True, False, False]
    # It may have been another's: it is not sent again, may have been billed, and its answer is waited for.
    caught = failure(turns[None])
    assert (type(caught), caught.may_have_been_billed) == (APIError, True)
    assert types(turns[None]) == ["error"]
    assert [*running(work, 1)] == ["llmws-3"]
    assert work.reported(Released) == []
    work.say(created("r"), completed("r"))
    assert work.reported(Released) == [Released(turns[None])]


def test_an_error_without_a_lane_is_not_taken_for_certain_when_the_link_is_lost(work):
    turns = running(work, 2)
    work.say(error("server_error"))
    work.step(Lost(1001, ""))
    caught = failure(turns[None])
    assert (type(caught), caught.may_have_been_billed) == (StreamInterruptedError, True)
    assert work.lanes.counters.retries == 0


@pytest.mark.parametrize("ending", ["cancelled", "link lost", "in doubt"])
def test_nothing_is_kept_of_a_turn_that_ended_while_it_was_unknown_whose_an_error_is(work, ending):
    turns = running(work, 2)
    work.say(error("server_error"))
    if ending == "link lost":
        work.step(Lost(1001, ""))
    elif ending == "cancelled":
        cancel(work, turns[None])
    else:
        work.wait()
    work.say(completed())
    log = weakref.ref(turns.pop(None).inbox)
    work.finishes.clear()
    work.reports.clear()
    assert log() is None


def test_what_comes_for_a_turn_that_was_left_tells_whose_an_error_without_a_lane_is(work):
    turns = running(work, 2)
    work.step(cancel(turns["llmws-1"]))
    work.say(BUSY)
    assert work.lanes.counters.retries == 0
    assert requests(work.say(*on("llmws-1", created("1")))) == [(None, {"n": 0})]


def test_a_parent_that_is_not_found_without_a_lane_is_the_default_lanes_for_certain(work):
    chat = Chat(work)
    chat.answered()
    going_on, other = chat.turn(), work.turn()
    assert [begin(work, turn)[0] for turn in (going_on, other)] == [None, "llmws-1"]
    assert len(requests(work.say(error("previous_response_not_found")))) == 1
    assert (going_on.sent.kind, going_on.sent.reason) == ("full", "server did not find the parent")
    assert not other.remedies


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
    accept(work, turns)
    work.say(*on("llmws-1", completed("r-llmws-1")), *on("llmws-2", completed("r-llmws-2")))
    assert not any(turn.inbox.error for turn in turns.values())
    assert work.lanes.counters.retries == 0


def test_an_error_without_a_lane_is_that_of_the_only_request_that_has_not_begun(work):
    Chat(work).answered()
    turns = running(work, 3)
    work.say(BUSY, *on("llmws-1", created("1")), *on("llmws-3", created("3")))
    # The others may have failed of it yet.
    assert work.lanes.counters.retries == 0
    assert requests(work.say(*on("llmws-1", delta()), *on("llmws-3", delta()))) == [
        ("llmws-2", {"n": 0})
    ]
    assert types(turns["llmws-2"]) == ["llmws.retry"]


def test_an_error_without_a_lane_is_nobodys_if_one_is_refused_under_its_name_or_ends(work):
    Chat(work).answered()
    turns = running(work, 2)
    work.say(error("server_error"))
    work.step(cancel(turns["llmws-1"]))
    work.say(*on("llmws-1", created("1"), completed("1")))
    assert not turns["llmws-2"].ended
    assert work.lanes.counters.retries == 0


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
    # It may yet begin; if not, it was what the server did not take.
    work.step(Tick(), after=1.0)
    assert work.lanes.counters.retries == 0
    work.step(Tick(), after=1.0)
    assert work.lanes.counters.retries == 1
    assert not late.ended
    assert work.reported(Retired) == [Retired(False)]


def test_a_connection_that_ends_under_a_request_and_others_may_have_taken_it(work):
    turns = running(work, 2)
    accept(work, {None: turns[None]})
    work.say(LIMIT)
    work.step(Lost(1001, "age"))
    assert failure(turns["llmws-1"]).may_have_been_billed is True
    assert work.lanes.counters.retries == 0


def test_of_several_requests_it_is_not_known_which_one_came_too_late(work):
    turns = running(work, 2)
    work.say(LIMIT)
    work.step(Lost(1001, "age"))
    for turn in turns.values():
        assert type(failure(turn)) is StreamInterruptedError
    assert work.lanes.counters.retries == 0


@pytest.mark.parametrize(
    ("before", "name", "refused"),
    [
        ("cancelled", None, False),
        ("cancelled", "llmws-1", False),
        ("begun", "llmws-1", False),
        ("begun", "llmws-2", True),
        ("begun", None, True),
        ("sent", "llmws-2", True),
    ],
)
def test_a_word_of_the_connections_end_refuses_the_request_that_alone_can_be_meant(
    work, before, name, refused
):
    turns = running(work, 3)
    accept(work, {None: turns.pop(None)})
    other, turn = turns["llmws-1"], turns["llmws-2"]
    if before == "cancelled":
        work.step(cancel(other))
    elif before == "begun":
        accept(work, {"llmws-1": other})
    work.say(*on(name, LIMIT))
    work.step(Tick(), after=2.0)
    assert work.lanes.counters.retries == refused
    assert work.reported(Returned) == [Returned(turn)] * refused


def test_a_request_that_the_server_has_not_whole_was_not_refused_with_the_connection(work):
    begin(work, work.turn())
    accept(work, {None: None})
    turn = work.submit()
    work.step(Started(turn))
    work.say(LIMIT)
    work.step(Tick(), after=2.0)
    assert work.lanes.counters.retries == 0
    work.step(Finished(turn))
    work.say(*on("llmws-1", created("2"), completed("2")))
    assert turn.inbox.error is None


def test_a_second_word_of_the_connections_end_is_not_the_next_ones(work):
    work.sent()
    work.say(created())
    assert work.say(LIMIT) == []
    assert work.say(completed(), LIMIT, LIMIT)[-1:] == [Drop()]
    assert work.reported(Retired) == [Retired(True), Retired(False)]
    turn = work.turn()
    assert work.step(Submit(turn)) == [Want(15.0, True)]
    assert work.step(Opened()) == [Send(turn, b'{"n":0}')]


def test_the_limits_of_a_turn_that_went_elsewhere_do_not_follow_its_first_request(work):
    begin(work, work.turn())
    accept(work, {None: None})
    turn = work.submit(timeouts=FOREVER.but({"first_event": 5.0}))
    work.step(Started(turn))
    work.say(*on("llmws-1", error("websocket_stream_limit_reached")))
    assert work.reported(Returned) == [Returned(turn)]
    elsewhere = lanes()
    elsewhere.step(Submit(turn, moved=True))
    elsewhere.written(turn)
    deadline = elsewhere.lanes.deadline
    work.step(Finished(turn), after=4.0)
    assert elsewhere.lanes.deadline == deadline == elsewhere.now + 5.0
    counted = [each.lanes.counters.released_bytes for each in (work, elsewhere)]
    assert counted[0] + counted[1] == 2 * len(b'{"n":0}')


def test_a_request_that_begins_behind_the_word_of_the_connections_end_was_not_refused(work):
    turn = work.sent()
    work.say(LIMIT)
    work.say(created(), delta(), completed(), after=1.9)
    assert turn.inbox.error is None
    assert work.lanes.counters.retries == 0


def test_a_socket_is_not_used_beyond_its_age_whatever_the_timers_did(work):
    old = work.sent()
    work.say(created(), completed())
    work.now += OPENAI.max_age
    turn = work.turn()
    assert work.step(Submit(turn)) == [Drop(), Want(15.0, True)]
    assert work.step(Opened()) == [Send(turn, b'{"n":0}')]
    assert old.inbox.error is None


def test_a_socket_beyond_its_age_is_left_to_the_turns_that_run(work):
    first = work.sent()
    work.say(created())
    work.now += OPENAI.max_age
    second = work.turn()
    assert requests(work.step(Submit(second))) == [("llmws-1", {"n": 0})]
    assert not first.ended


def test_requests_that_were_not_begun_leave_an_old_connection_in_their_order(work):
    first = running(work, 1)[None]
    turns = [work.turn(b'{"n":%d}' % number) for number in range(3)]
    for turn in turns:
        work.step(Submit(turn))
    assert work.say(created(), LIMIT) == [Useful(), *map(Withdraw, reversed(turns))]
    assert [report.turn for report in work.reported(Returned)] == turns
    assert not first.ended
