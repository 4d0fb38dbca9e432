"""The pool: real routers behind stand-ins for connections, which do at once, on request, what threads do."""

from __future__ import annotations

import threading
from collections import deque
from typing import Any

import pytest

from llmws.errors import ConnectError, SessionClosedError, StreamCancelledError
from llmws.responses.connections.pool import Pool
from llmws.responses.routing.reports import Aged, Learn, Retire
from llmws.responses.routing.turn import Cancel, Put, Submit, TurnState
from llmws.responses.sending.continuation import Anchor, Continuation
from llmws.responses.sending.settings import Settings
from llmws.responses.sending.steering import Steer, Steering
from llmws.responses.sending.transcript import Transcript
from llmws.responses.vocabulary.capabilities import Capabilities
from llmws.wire.steps import Drop, Finished, Lost, Opened, Send, Started, Stop, Want
from tests.responses.lanework import LIMIT, Lanework, completed, created, delta, failure


class Stand:
    """A connection whose I/O thread is the test: what was posted is done when it says so."""

    def __init__(self, number: int, capabilities: Capabilities) -> None:
        self.name = f"c{number}"
        self.work = Lanework(capabilities=capabilities, idle_seconds=300.0)
        self.posts: deque[Any] = deque()
        self.tap: Any = None
        self.hear: Any = None
        self.over = self.stopped = False
        self.threads = True  # Whether the system has one for it.
        self.lane_of: dict[Any, Any] = {}

    def post(self, given: Any) -> None:
        if not self.threads:
            raise ConnectError("No thread for the connection.")
        self.post_quietly(given)

    def post_quietly(self, given: Any) -> None:
        self.posts.append(given)
        if self.over:
            self.refuse()

    def refuse(self) -> None:
        while self.posts:
            given = self.posts.popleft()
            if hasattr(given, "refuse"):
                given.refuse()

    def stop(self) -> None:
        self.stopped = True
        self.posts.append(Stop())

    def do(self, wanted: list[Any]) -> None:
        """Do what the router wants, as a network would on which all goes well."""
        reports, self.work.reports = self.work.reports, []
        for report in reports:
            self.hear(report)
        for action in wanted:
            if isinstance(action, Want):
                self.do(self.work.step(Opened()))
            elif isinstance(action, Send):
                turn = action.key
                self.lane_of[turn] = turn.lane.name
                self.do(self.work.step(Started(turn)))
                self.do(self.work.step(Finished(turn)))
            else:
                assert not isinstance(action, Drop) or not self.work.lanes._running

    def round(self) -> bool:
        """Do one thing that was posted; return whether there was one."""
        if not self.posts:
            return False
        given = self.posts.popleft()
        self.do(self.work.step(given))
        if isinstance(given, Stop):
            self.over = True
            self.refuse()
        return True

    def say(self, turn: Any, *events: Any) -> None:
        """Let the server say something of a turn."""
        name = self.lane_of[turn]
        named = [raw if name is None else {**raw, "stream_id": name} for raw in events]
        self.do(self.work.say(*named))


class Net:
    """A pool and its connections."""

    def __init__(self, known: bool | None = True, most: int = 3, active: int = 16) -> None:
        self.stands: list[Stand] = []
        self.capabilities = Capabilities(lanes=known, max_active=active, max_lanes=32)
        self.pool = Pool(self.make, self.capabilities, most)

    def make(self, known: bool | None) -> Any:
        given = self.capabilities
        capabilities = Capabilities(lanes=known, max_active=given.max_active, max_lanes=32)
        stand = Stand(len(self.stands) + 1, capabilities)
        self.stands.append(stand)
        return stand, stand.work.lanes

    def rounds(self) -> None:
        """Let every thread do all that it has to."""
        for _ in range(1000):
            if not any([stand.round() for stand in self.stands]):
                return
        raise AssertionError("to and fro for ever")

    def turn(self, payload: bytes = b'{"n":0}', **fields: Any) -> Any:
        return self.stands[0].work.turn(payload, **fields)

    def submit(self, **fields: Any) -> Any:
        turn = self.turn(**fields)
        self.pool.submit(turn)
        self.rounds()
        return turn

    def stand(self, turn: Any) -> Stand:
        return turn.slot.connection

    def say(self, turn: Any, *events: Any) -> None:
        self.stand(turn).say(turn, *events)
        self.rounds()

    def finish(self, turn: Any) -> None:
        self.say(turn, created(f"r{id(turn)}"), completed(f"r{id(turn)}"))
        assert turn.inbox.error is None

    @property
    def counts(self) -> list[int]:
        """How many turns each connection has."""
        return [len(slot.turns) for slot in self.pool.slots]

    def continuing(self, turn: Any) -> Any:
        """Return a turn that goes on from this one."""
        anchor = Anchor(turn.response_id, 0, False, turn.home)
        continuation = Continuation(
            anchors=(anchor,),
            settings=Settings.of({}),
            history=Transcript().window(),
            given=(b'{"text":"x"}',),
        )
        return self.turn(b"", continuation=continuation)


def states(turns):
    return [turn.state.value for turn in turns]


# Where a turn goes.


def test_a_connection_is_filled_before_another_is_made():
    net = Net()
    turns = [net.submit() for _ in range(17)]
    assert net.counts == [16, 1]
    assert states(turns) == ["sent"] * 17
    net.finish(turns[0])
    net.submit()
    assert net.counts == [16, 1]


def test_no_more_connections_are_made_than_allowed_and_the_rest_waits():
    net = Net(most=2, active=2)
    turns = [net.submit() for _ in range(7)]
    assert sorted(net.counts) == [3, 4]
    assert states(turns).count("queued") == 3
    for _ in range(7):
        net.finish(next(turn for turn in turns if turn.state is TurnState.SENT))
    assert all(turn.ended for turn in turns)
    assert net.counts == [0, 0]


def test_without_lanes_each_turn_has_a_connection_of_its_own():
    net = Net(known=False)
    turns = [net.submit() for _ in range(5)]
    assert sorted(net.counts) == [1, 2, 2]
    assert states(turns) == ["sent"] * 3 + ["queued"] * 2
    assert [stand.lane_of[turn] for turn in turns[:3] for stand in [net.stand(turn)]] == [None] * 3


def test_a_turn_that_waits_moves_to_the_connection_that_becomes_free():
    net = Net(known=False, most=2)
    long, short, waiting = (net.submit() for _ in range(3))
    # It waits behind either; free it the other way round.
    blocked = waiting.slot
    other = next(turn for turn in (long, short) if turn.slot is not blocked)
    net.finish(other)
    assert waiting.state is TurnState.SENT
    assert waiting.slot is not blocked
    net.finish(waiting)
    counters = [stand.work.lanes.counters for stand in net.stands]
    assert sum(counter.turns for counter in counters) == 3


def test_a_conversation_goes_back_to_its_connection_though_another_has_more_room():
    net = Net(active=2, most=3)
    turns = [net.submit() for _ in range(3)]
    for turn in turns:
        net.finish(turn)
    last = turns[2]
    slot = last.slot
    assert slot is not turns[0].slot
    following = net.continuing(last)
    net.pool.submit(following)
    net.rounds()
    assert following.slot is slot
    assert (following.sent.kind, following.sent.reason) == ("delta", "parent cached")


def test_a_conversation_waits_for_its_lane_and_is_not_given_away_to_a_free_connection():
    net = Net(known=False, most=2)
    first, other = net.submit(), net.submit()
    net.finish(first)
    busy, waiting = net.continuing(first), net.continuing(first)
    for turn in (busy, waiting):
        net.pool.submit(turn)
    net.rounds()
    net.finish(other)
    assert (busy.slot, waiting.slot) == (first.slot, first.slot)
    assert waiting.state is TurnState.QUEUED


def test_a_parent_that_is_named_is_found_on_its_connection():
    net = Net(active=2, most=3)
    turns = [net.submit() for _ in range(3)]
    for turn in turns:
        net.finish(turn)
    for turn in (turns[2], turns[0]):
        following = net.submit(parent_id=turn.response_id)
        assert following.slot is turn.slot
        assert net.stand(following).lane_of[following] == turn.home.name


def test_a_connection_that_cannot_have_a_thread_is_told_to_the_user_and_forgotten():
    net = Net()
    net.stands[0].threads = False
    turn = net.turn()
    with pytest.raises(ConnectError):
        net.pool.submit(turn)
    assert net.counts == [0]


# Is it known whether the server has lanes?


def test_of_an_unknown_server_all_wait_for_the_first_answer():
    net = Net(known=None, active=2)
    turns = [net.submit() for _ in range(5)]
    assert net.counts == [5]
    assert states(turns) == ["sent"] + ["queued"] * 4


def test_if_it_has_lanes_the_others_begin_there_and_elsewhere():
    net = Net(known=None, active=2)
    turns = [net.submit() for _ in range(5)]
    net.say(turns[0], created())
    assert states(turns) == ["accepted"] + ["sent"] * 4
    assert sorted(net.counts) == [1, 2, 2]
    # The others need not find out.
    assert all(stand.work.lanes._lanes.known for stand in net.stands)


def test_if_it_has_none_each_begins_on_a_connection_of_its_own():
    net = Net(known=None)
    turns = [net.submit() for _ in range(5)]
    net.stands[0].do(net.stands[0].work.say(created()))
    net.rounds()
    assert sorted(states(turns)) == ["accepted", "queued", "queued", "sent", "sent"]
    assert len(net.counts) == 3
    assert all(stand.work.lanes._lanes.known is False for stand in net.stands)
    net.stands[0].do(net.stands[0].work.say(completed()))
    net.rounds()
    while not all(turn.ended for turn in turns):
        net.finish(next(turn for turn in turns if turn.state is TurnState.SENT))


# Connections that end.


def test_a_connection_that_the_server_retires_gets_no_turns_and_others_may_be_made():
    net = Net(most=1)
    first = net.submit()
    net.say(first, created())
    net.stands[0].do(net.stands[0].work.say(LIMIT))
    second = net.submit()
    assert second.slot is not first.slot
    assert len(net.stands) == 2
    third = net.submit()
    assert third.slot is second.slot
    net.finish(first)
    # Its next socket is as good as any.
    assert [slot.accepts for slot in net.pool.slots] == [True, True]


def test_turns_that_wait_leave_a_connection_that_the_server_retires():
    net = Net(known=False, most=1)
    first, waiting = net.submit(), net.submit()
    net.say(first, created())
    net.stands[0].do(net.stands[0].work.say(LIMIT))
    net.rounds()
    assert waiting.slot is not first.slot
    assert waiting.state is TurnState.SENT


def test_a_turn_does_not_go_to_and_fro_while_a_socket_is_given_up():
    net = Net(most=2)
    first, second = net.submit(), net.submit()
    net.say(first, created())
    net.say(second, created())
    net.stand(first).post_quietly(Cancel(first, "enough", hard=True))
    net.rounds()
    third = net.submit()
    assert third.slot is not second.slot
    assert third.state is TurnState.SENT


def test_an_idle_connection_ends_and_is_forgotten():
    net = Net(known=False, most=2)
    turns = [net.submit() for _ in range(2)]
    for turn in turns:
        net.finish(turn)
    stand = net.stand(turns[1])
    stand.do(stand.work.wait())
    net.rounds()
    assert (stand.stopped, stand.over) == (True, True)
    assert [slot.connection for slot in net.pool.slots] == [net.stand(turns[0])]
    assert {*net.pool._homes} == {turns[0].response_id}
    assert len(net.pool.all_slots) == 2
    assert net.submit().slot.connection is net.stand(turns[0])


def test_a_connection_to_which_a_turn_is_on_its_way_is_not_idle():
    net = Net()
    first = net.submit()
    net.finish(first)
    stand = net.stand(first)
    turn = net.turn()
    net.pool.submit(turn)
    stand.do(stand.work.wait())
    assert not stand.stopped
    net.rounds()
    assert turn.state is TurnState.SENT


def test_the_last_connection_may_end_too():
    net = Net()
    turn = net.submit()
    net.finish(turn)
    net.stands[0].do(net.stands[0].work.wait())
    net.rounds()
    assert net.submit().slot.connection is net.stands[1]


def test_a_connection_that_is_over_gets_no_turns():
    net = Net()
    net.stands[0].over = True
    assert net.submit().slot.connection is net.stands[1]


def test_a_retired_connection_finishes_its_turns_and_ends():
    net = Net()
    first = net.submit()
    net.say(first, created())
    net.pool.retire(first.slot)
    net.rounds()
    assert net.submit().slot is not first.slot
    assert not net.stand(first).stopped
    net.say(first, delta(), completed())
    assert net.stand(first).stopped
    assert first.slot not in net.pool.slots


def test_a_turn_that_meets_the_retirement_goes_elsewhere():
    net = Net()
    turn = net.turn()
    net.pool.submit(turn)
    slot = turn.slot
    slot.connection.posts.appendleft(Retire())
    slot.leaving = True
    net.rounds()
    assert turn.slot is not slot
    assert turn.state is TurnState.SENT
    assert net.stand(turn).work.lanes.counters.turns == 0
    assert slot.connection.work.lanes.counters.turns == 1


def test_a_turn_that_is_given_back_and_finds_no_thread_ends():
    net = Net(known=False, most=1)
    first, waiting = net.submit(), net.submit()
    make = net.make

    def without_thread(known):
        made = make(known)
        made[0].threads = False
        return made

    net.pool._make = without_thread
    net.say(first, created())
    net.stands[0].do(net.stands[0].work.say(LIMIT))
    net.rounds()
    assert type(failure(waiting)) is ConnectError
    assert waiting not in waiting.slot.turns
    released = [stand.work.lanes.counters.released_bytes for stand in net.stands]
    assert sum(released) == 2 * len(b'{"n":0}')


def test_each_connections_loss_is_its_own():
    net = Net(active=2)
    turns = [net.submit() for _ in range(4)]
    for turn in turns:
        net.say(turn, created())
    stand = net.stand(turns[0])
    stand.do(stand.work.step(Lost(1006, "")))
    assert [turn.ended for turn in turns] == [True, True, False, False]
    assert net.counts == [0, 2]


# Stopping.


def test_stopping_ends_every_connection_and_every_turn():
    net = Net(active=1, known=False, most=2)
    turns = [net.submit() for _ in range(3)]
    net.pool.stop()
    net.rounds()
    assert {type(failure(turn)) for turn in turns} == {StreamCancelledError}
    assert all(stand.over for stand in net.stands)


def test_a_turn_that_comes_after_the_end_is_refused():
    net = Net()
    net.pool.stop()
    net.rounds()
    turn = net.submit()
    assert type(failure(turn)) is SessionClosedError
    assert len(net.stands) == 1


def test_a_turn_that_is_given_back_after_the_end_ends():
    net = Net(known=False, most=1)
    first, waiting = net.submit(), net.submit()
    net.say(first, created())
    net.pool.stop()
    # The thread was reading when the session was closed.
    net.stands[0].do(net.stands[0].work.say(LIMIT))
    net.rounds()
    assert waiting.ended
    assert first.ended
    assert all(stand.stopped for stand in net.stands)


def test_a_connection_made_while_the_pool_stops_is_stopped_too():
    net = Net(known=False)
    net.submit()
    make = net.make

    def while_stopping(known):
        net.pool.stop()  # On another thread, between the choice and the post.
        return make(known)

    net.pool._make = while_stopping
    turn = net.submit()
    assert turn.ended
    assert all(stand.over for stand in net.stands)


def test_nothing_is_added_after_the_end():
    net = Net()
    net.pool.stop()
    assert net.pool.add() is None


def test_what_is_added_while_the_pool_stops_is_stopped_too():
    net = Net()
    make = net.make

    def while_stopping(known):
        net.pool.stop()
        return make(known)

    net.pool._make = while_stopping
    assert net.pool.add().connection.stopped


def test_a_warm_up_counts_nothing_among_what_waits_to_be_written():
    net = Net()
    turn = net.turn(warm_up=True)
    net.pool.submit_to(net.pool.slots[0], turn)
    net.rounds()
    assert turn.state is TurnState.SENT
    assert net.stands[0].work.lanes.counters.released_bytes == 0


# What goes astray.


def test_a_cancel_that_comes_to_the_connection_before_is_passed_on():
    net = Net(known=False, most=1)
    first, waiting = net.submit(), net.submit()
    old = waiting.slot
    net.say(first, created())
    net.stands[0].do(net.stands[0].work.say(LIMIT))
    net.rounds()
    assert waiting.slot is not old
    old.connection.post_quietly(Cancel(waiting, "enough"))
    net.rounds()
    assert type(failure(waiting)) is StreamCancelledError


def test_a_steer_that_overtakes_its_turn_is_not_lost():
    net = Net()
    turn, steer = net.turn(), Steer("also this")
    net.pool.submit(turn)
    turn.slot.connection.posts.appendleft(Put(turn, steer))
    net.rounds()
    assert turn.steering.waiting == [steer]


def test_a_steer_that_waits_for_a_turn_is_given_back_when_that_has_no_connection_any_more():
    net = Net(known=False, most=1)
    turn, steer = net.submit(), Steer("also this")
    following = net.turn()
    following.steering = Steering(waiting=[steer])
    net.pool.stop()
    net.rounds()
    net.pool.submit(following)
    assert type(failure(following)) is SessionClosedError
    assert (steer.done, steer.state, turn.ended) == (True, "failed", True)


def test_a_cancel_that_overtakes_its_turn_is_not_lost():
    net = Net()
    turn = net.turn()
    net.pool.submit(turn)
    turn.cancelled = Cancel(turn, "enough")
    turn.slot.connection.posts.appendleft(turn.cancelled)
    net.rounds()
    assert type(failure(turn)) is StreamCancelledError
    assert net.counts == [0]


# The rest.


def test_a_tap_hears_all_connections_the_later_ones_too():
    net = Net(known=False)
    net.submit()
    tap = object()
    net.pool.tap = tap
    net.submit()
    assert [stand.tap for stand in net.stands] == [tap, tap]
    assert net.pool.tap is tap


def test_one_more_connection_may_be_made_above_the_limit_and_takes_turns_when_it_replaces_one():
    net = Net(most=1)
    first = net.submit()
    net.say(first, created())
    new = net.pool.add()
    assert net.submit().slot is first.slot
    net.pool.replace(first.slot, new)
    net.rounds()
    assert net.pool.rotations == 1
    assert net.submit().slot is new


def test_whoever_sees_to_rotation_hears_of_old_connections():
    net = Net()
    seen = []
    net.pool.aged = seen.append
    turn = net.submit()
    net.stands[0].hear(Aged())
    assert seen == [turn.slot]


def test_a_repr_counts_the_connections():
    net = Net(known=False)
    net.submit()
    net.submit()
    assert repr(net.pool) == "<Pool connections=2>"


def test_posts_of_many_threads_put_no_connection_above_its_capacity():
    net = Net(active=4, most=8)
    turns = [[net.turn() for _ in range(8)] for _ in range(4)]

    def submit(mine):
        for turn in mine:
            net.pool.submit(turn)

    threads = [threading.Thread(target=submit, args=(mine,)) for mine in turns]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert net.counts == [4] * 8
    net.rounds()
    assert {turn.state for mine in turns for turn in mine} == {TurnState.SENT}


def test_no_lock_is_held_while_something_is_posted():
    net = Net(known=None)
    locked = []

    class Watched(Stand):
        def post_quietly(self, given):
            locked.append((type(given), net.pool._lock.locked()))
            super().post_quietly(given)

    for stand in net.stands:
        stand.__class__ = Watched
    first = net.submit()
    net.submit()
    net.say(first, created(), completed())
    assert {kind for kind, _ in locked} >= {Submit, Learn}
    assert not any(held for _, held in locked)
