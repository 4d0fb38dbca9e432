"""Any life of a connection's router: what must hold for every turn, whatever happens and in whatever order."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

import attrs
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

from llmws.errors import APIError, ConnectError, InboxOverflowError
from llmws.responses.routing.reports import (
    Astray,
    GiveBack,
    Idle,
    Learn,
    Released,
    Retire,
    Retired,
    Returned,
)
from llmws.responses.routing.turn import Cancel, Put, Submit, Turn, TurnState
from llmws.responses.sending.continuation import Anchor, Continuation, Keeper
from llmws.responses.sending.settings import Settings
from llmws.responses.sending.steering import Steer
from llmws.responses.sending.transcript import Transcript
from llmws.responses.vocabulary.capabilities import Capabilities
from llmws.responses.vocabulary.entries import opened
from llmws.timeouts import Timeouts
from llmws.wire.inbox import Inbox
from llmws.wire.ports import Crashed
from llmws.wire.steps import (
    Drop,
    Finished,
    GaveUp,
    Lost,
    Opened,
    Retrying,
    Send,
    Started,
    Stop,
    Tick,
    Unwant,
    Want,
    Withdraw,
)
from tests.responses.laneserver import Attempt, Server
from tests.responses.lanework import FOREVER, Lanework


FOREVER_LIMITS = {name: getattr(FOREVER, name) for name in FOREVER.__slots__ if name[0] != "_"}
SETTINGS = Settings.of({"store": False})
# What a refusal or a failure may say: some of it can be mended.
CODES = st.sampled_from(["invalid_prompt", "server_error", "rate_limit_exceeded", "slow_down"])
ENOUGH = 500


@attrs.define(eq=False)
class Talk:
    """A conversation: what was said, and the response that has all of it."""

    transcript: Transcript = attrs.field(factory=Transcript)
    anchor: Anchor | None = None
    keeper: Keeper = attrs.field(factory=Keeper)
    latest: Book | None = None
    forked: bool = False  # Its next turn is the first of a fork.

    def settle(self) -> bool:
        """Take in how its last turn ended; return whether it has."""
        if self.latest is None:
            return True
        turn = self.latest.turn
        if not turn.ended:
            return False
        if turn.final is not None and turn.final.status == "completed" and not turn.inbox.error:
            self.transcript.extend([item(self.latest.name)])
            covers, response_id = len(self.transcript), turn.response_id
            assert response_id is not None
            self.anchor = Anchor(response_id, covers, stored=False, home=turn.home)
        self.latest = None
        return True


@attrs.define(eq=False)
class Book:
    """What the test knows of one turn."""

    turn: Turn
    name: str
    size: int
    before: list[str]  # The turns that its conversation had before.
    attempts: list[Attempt] = attrs.field(factory=list)
    here: bool = True  # Whether this connection has it, or another.


def item(name: str) -> bytes:
    return b'{"turn":"%b"}' % name.encode()


class LanesMachine(RuleBasedStateMachine):
    """
    A lawful server, a network, users and a pool around one router.

    Everything that the server says of a turn carries the attempt's name, so that an event in the wrong log is seen. It
    goes on with a turn that nobody waits for any more.
    """

    def __init__(self) -> None:
        super().__init__()
        self.books: list[Book] = []
        self.talks: list[Talk] = []
        self.staying: set[Turn] = set()  # As the pool has it in its books.
        self.outbox: list[tuple[Book, bytes]] = []
        self.steers: list[tuple[Book, Steer]] = []
        self.steerbox: list[tuple[Book, bytes]] = []
        self.writing: Attempt | None = None  # The first of the outbox, if some of it was written.
        self.open = self.wanted = self.stopped = self.closing = self.retired = False
        self.asked = 0  # Turns that the pool asked for and has not got.
        self.let_go = False  # The pool was told that nothing is left, after it asked.
        self.names: set[str] = set()  # Of lanes, on this socket.
        self.evicted: set[str | None] = set()

    @initialize(
        known=st.sampled_from([True, True, False, None]),
        lanes=st.booleans(),
        most=st.sampled_from([(16, 32), (3, 4), (2, 2)]),
    )
    def begins(self, known: bool | None, lanes: bool, most: tuple[int, int]) -> None:
        self.server = Server(lanes and known is not False)
        self.most_active, self.most_names = most
        # A server without lanes that is said to have them: its cache is not what the router takes it for at first.
        self.misled = known is True and not lanes
        self.known = known
        self.work = Lanework(
            capabilities=Capabilities(lanes=known, max_active=most[0], max_lanes=most[1])
        )

    def step(self, given: Any) -> None:
        self.do(self.work.step(given))

    def do(self, actions: Iterable[Any]) -> None:
        for report in self.work.reports:
            self.hear(report)
        self.work.reports.clear()
        for action in actions:
            if isinstance(action, Send):
                self.send(action)
            elif isinstance(action, Withdraw):
                kept = [each for each in self.outbox if each[0].turn is not action.key]
                assert len(kept) == len(self.outbox) - 1
                assert self.writing is None or kept[0] is self.outbox[0], "it had begun"
                self.outbox = kept
            elif isinstance(action, Drop):
                assert self.open
                self.forget_socket()
            elif isinstance(action, Want):
                assert not self.open, "a wish for a socket beside an open one"
                assert not self.stopped
                self.wanted = True
            elif isinstance(action, Unwant):
                self.wanted = False

    def send(self, action: Send) -> None:
        assert self.open, "a request without a socket"
        if isinstance(action.key, Steer):
            book = next(book for book, steer in self.steers if steer is action.key)
            self.steerbox.append((book, action.message))
            return
        book = self.book(action.key)
        raw = json.loads(action.message)
        lane = raw.get("stream_id")
        unfinished = [each for each in self.server.unfinished if not each.failing]
        assert lane not in {each.lane for each in unfinished}, "a second one beside the first"
        assert all(json.loads(m).get("stream_id") != lane for _, m in self.outbox)
        assert len(unfinished) + len(self.outbox) < self.most_active
        if not self.server.lanes and not self.misled:
            assert not unfinished, "more at once than the server can tell apart"
            assert not self.outbox
        self.names |= {lane} - {None}
        assert len(self.names) <= self.most_names
        self.outbox.append((book, action.message))

    def hear(self, report: Any) -> None:
        if isinstance(report, Released | Returned):
            assert report.turn in self.staying, "given up twice"
            self.staying.remove(report.turn)
            overflown = isinstance(report.turn.inbox.error, InboxOverflowError)
            assert report.turn.ended is isinstance(report, Released) or overflown
            if isinstance(report, Returned):
                assert report.turn.state is TurnState.QUEUED
                if not self.retired and not self.closing:
                    self.asked -= 1
                    assert self.asked >= 0, "to and fro for ever"
                self.book(report.turn).here = False
        elif isinstance(report, Retired):
            self.retired = report.retired
        elif isinstance(report, Astray):
            assert not self.book(report.given.turn).here
        elif isinstance(report, Idle):
            assert self.closing
            # The pool knows better: a turn may be on its way, or be asked about.
            self.let_go = not self.staying

    def book(self, turn: Turn) -> Book:
        return next(book for book in self.books if book.turn is turn)

    def forget_socket(self) -> None:
        for attempt in [*self.server.unfinished, *([self.writing] if self.writing else [])]:
            attempt.lost = True
        self.open, self.writing, self.outbox, self.names = False, None, [], set()
        self.steerbox = []
        self.server.renew()

    # Users, the pool and time.

    limits = st.fixed_dictionaries(
        {},
        optional={
            "lane_wait": st.just(10.0),
            "first_event": st.just(3.0),
            "idle": st.just(4.0),
            "total": st.just(20.0),
        },
    )

    @property
    def waiting(self) -> int:
        return sum(not book.turn.ended for book in self.books)

    def submit_turn(self, limits: dict[str, float], before: list[str], **fields: Any) -> Book:
        turn = Turn(
            timeouts=Timeouts(**{**FOREVER_LIMITS, **limits}),
            started_at=self.work.now,
            **fields,
        )
        name = f"t{len(self.books)}"
        book = Book(turn, name, turn.size_bytes, before)
        self.books.append(book)
        self.staying.add(turn)
        self.step(Submit(turn))
        return book

    @precondition(lambda self: self.waiting < 12)
    @rule(
        pad=st.integers(0, 50),
        retry=st.booleans(),
        most=st.sampled_from([10**6, 10**6, 2]),
        limits=limits,
    )
    def submit(self, pad: int, retry: bool, most: int, limits: dict[str, float]) -> None:
        named = item(f"t{len(self.books)}")
        payload = b'{"pad":"%b","input":[%b]}' % (b"x" * pad, named)
        inbox = Inbox(max_items=most)
        self.submit_turn(limits, [], payload=payload, retry_uncertain=retry, inbox=inbox)

    @precondition(lambda self: self.waiting < 12)
    @rule(fork=st.sampled_from([None, None, False, True]), data=st.data(), limits=limits)
    def say_something(
        self, fork: bool | None, data: st.DataObject, limits: dict[str, float]
    ) -> None:
        talks = [talk for talk in self.talks if talk.settle()]
        if not talks or fork is False:
            talk = Talk()
            self.talks.append(talk)
        else:
            talk = data.draw(st.sampled_from(talks))
        if fork and talk.anchor is not None:
            window = talk.transcript.window()
            talk = Talk(Transcript(window.items_from(0)), talk.anchor, forked=True)
            self.talks.append(talk)
        continuation = Continuation(
            anchors=(talk.anchor,) if talk.anchor else (),
            forked=talk.forked,
            keeper=talk.keeper,
            settings=SETTINGS,
            history=talk.transcript.window(),
            given=(item(f"t{len(self.books)}"),),
        )
        talk.forked = False
        before = [json.loads(each)["turn"] for each in talk.transcript.items]
        talk.latest = self.submit_turn(limits, before, payload=b"", continuation=continuation)

    @precondition(lambda self: self.books)
    @rule(data=st.data(), hard=st.sampled_from([False, False, True]))
    def cancel(self, data: st.DataObject, hard: bool) -> None:
        book = data.draw(st.sampled_from(self.books[-6:]))
        given = Cancel(book.turn, "Cancelled.", hard)
        book.turn.cancelled = given
        self.step(given)
        assert book.turn.ended or not book.here

    @rule(seconds=st.sampled_from([0.0, 0.5, 1.0, 3.0, 5.0, 10.0]))
    def time_passes(self, seconds: float) -> None:
        self.work.now += seconds
        self.step(Tick())
        deadline = self.work.lanes.deadline
        assert deadline is None or deadline > self.work.now, "a deadline that no tick satisfies"

    @property
    def away(self) -> list[Book]:
        """The turns that the pool has, and may send here again."""
        if self.closing:
            return []
        return [book for book in self.books if not book.here]

    @precondition(lambda self: self.away and not self.retired)
    @rule()
    def comes_back(self) -> None:
        book = self.away[0]
        book.here = True
        self.staying.add(book.turn)
        self.step(Submit(book.turn, moved=True))

    @rule()
    def give_back(self) -> None:
        self.asked += 1
        self.step(GiveBack())

    @precondition(lambda self: self.known is None)
    @rule()
    def learn(self) -> None:
        self.step(Learn(self.server.lanes))

    @rule(budget=st.sampled_from([0.0, 0.0, 1.0, None]))
    def budget_changes(self, budget: float | None) -> None:
        self.work.fraction = budget

    @precondition(lambda self: any(not book.turn.ended for book in self.books))
    @rule(data=st.data(), at_once=st.booleans())
    def steer(self, data: st.DataObject, at_once: bool) -> None:
        waiting = [book for book in self.books if not book.turn.ended]
        running = [book for book in waiting if book.turn.state in ("accepted", "output")]
        book = data.draw(st.sampled_from(running or waiting))
        steer = Steer("also this")
        self.steers.append((book, steer))
        self.step(Put(book.turn, steer))
        if not book.here:
            steer.come_too_late()  # The router says that it went astray; the pool would send it on.
        if at_once and self.steerbox:
            self.write_steer()

    # The link.

    @precondition(lambda self: self.wanted and not self.open)
    @rule()
    def opens(self) -> None:
        self.open, self.wanted = True, False
        self.step(Opened())

    @precondition(lambda self: self.wanted and not self.open)
    @rule(final=st.sampled_from([False, False, False, True]))
    def dial_fails(self, final: bool) -> None:
        if final:
            self.wanted = False
            self.step(GaveUp(ConnectError("no")))
            assert all(book.turn.ended for book in self.books if book.here)
        else:
            self.step(Retrying(1, 0.5, ConnectError("no")))

    @precondition(lambda self: self.outbox)
    @rule(count=st.integers(1, 4), whole=st.sampled_from([True, True, False]))
    def write(self, count: int, whole: bool) -> None:
        for _ in range(min(count, len(self.outbox))):
            book, message = self.outbox[0]
            if self.writing is None:
                assert not book.turn.ended
                self.writing = self.server.read(message)
                self.check_leave(book)
                book.attempts.append(self.writing)
                self.step(Started(book.turn))
            if not whole:
                return
            self.server.take(self.writing)
            self.writing = None
            self.outbox.pop(0)
            self.step(Finished(book.turn))

    def check_leave(self, book: Book) -> None:
        """A request goes out again only if the one before was refused in words, or its user said so."""
        assert not any(attempt.has_output or attempt.succeeds for attempt in book.attempts)
        unexcused = [attempt for attempt in book.attempts if not attempt.excused]
        assert len(unexcused) <= book.turn.retry_uncertain, "sent again without leave"
        assert all(attempt.lost for attempt in unexcused)
        assert all(attempt.said == [] for attempt in unexcused)

    @precondition(lambda self: self.open)
    @rule(code=st.sampled_from([1000, 1006, 1008]))
    def lose(self, code: int) -> None:
        self.forget_socket()
        self.step(Lost(code, "lost"))

    @precondition(lambda self: self.steerbox)
    @rule()
    def write_steer(self) -> None:
        book, message = self.steerbox.pop(0)
        self.say(*self.server.steer(message, book.attempts))

    # The server.

    def say(self, *events: dict[str, Any] | bytes) -> None:
        self.do(self.work.say(*events))

    def ready(self, **wanted: bool) -> list[Attempt]:
        """Return what the server may say something of."""
        if not self.open:
            return []
        return [
            attempt
            for attempt in self.server.serving
            if all(getattr(attempt, name) is value for name, value in wanted.items())
        ]

    @precondition(lambda self: self.ready())
    @rule(data=st.data(), shuffle=st.randoms(use_true_random=False), most=st.integers(1, 3))
    def answer_on(self, data: st.DataObject, shuffle: Any, most: int) -> None:
        """Say something of some responses, all in one read, their events between each other's."""
        several = [
            [*self.answer(attempt, data.draw(st.integers(0, 3)), data.draw(st.booleans()))]
            for attempt in self.ready()[:most]
        ]
        said = []
        while any(several):
            events = shuffle.choice([events for events in several if events])
            said.append(events.pop(0))
        self.say(*said)

    def answer(self, attempt: Attempt, count: int, close: bool) -> Iterable[dict[str, Any]]:
        server = self.server
        if attempt.failing:
            yield from server.end(attempt, "failed") if close else ()
            return
        book = next(book for book in self.books if book.name == attempt.turn)
        if not attempt.begun:
            if not server.knows(attempt):
                # A fork that nobody waits for any more does not keep the conversation that it left.
                gone = book.turn.ended or self.misled or attempt.parent in self.evicted
                assert gone, "a parent that is not there"
                yield from server.error(attempt, "previous_response_not_found")
                return
            yield from server.begin(attempt)
            self.check_context(book, attempt)
        yield from server.output(attempt, count)
        if close:
            yield from server.end(attempt, "completed")
            successor = server.succeed(attempt)
            book.attempts += [] if successor is None else [successor]

    def check_context(self, book: Book, attempt: Attempt) -> None:
        assert self.server.contexts[attempt.response_id] == [*book.before, book.name]

    @property
    def unclear(self) -> bool:
        """Whether nobody could tell whose an error is: of several requests, by a server not known to have no lanes."""
        return (
            self.misled
            and self.work.lanes._lanes.known is True
            and len(self.server.unfinished) + len(self.outbox) > 1
        )

    @precondition(lambda self: self.ready(begun=False, succeeds=None) and not self.unclear)
    @rule(
        data=st.data(),
        code=CODES,
        wait=st.sampled_from([None, None, "2", "100"]),
        late=st.booleans(),
    )
    def refuse(self, data: st.DataObject, code: str, wait: str | None, late: bool) -> None:
        attempt = data.draw(st.sampled_from(self.ready(begun=False, succeeds=None)))
        headers = {} if wait is None else {"retry-after": wait}
        said = [*self.server.end_late(attempt), *self.server.error(attempt, code, headers=headers)]
        if late:
            self.server.owe_end(attempt)
        self.say(*said)

    @precondition(lambda self: self.open and self.server.late)
    @rule()
    def comes_late(self) -> None:
        self.say(self.server.late.pop(next(iter(self.server.late))))

    @precondition(lambda self: self.ready(begun=True, failing=False))
    @rule(
        data=st.data(),
        code=CODES,
        how=st.sampled_from(["in an error", "at once", "in the terminal"]),
    )
    def fail(self, data: st.DataObject, code: str, how: str) -> None:
        attempt = data.draw(st.sampled_from(self.ready(begun=True, failing=False)))
        said = [] if how == "in the terminal" else [*self.server.error(attempt, code)]
        if how != "in an error":
            said += self.server.end(attempt, "failed", error={"code": code, "message": "no"})
        self.say(*said)

    @precondition(lambda self: self.open and not self.server.ending)
    @rule(often=st.sampled_from([True, False, False]), data=st.data())
    def retire(self, often: bool, data: st.DataObject) -> None:
        if often:
            named = data.draw(st.sampled_from([None, None, *self.server.unfinished]))
            self.say(*self.server.limit(named))

    @precondition(lambda self: self.open and self.server.cache and not self.misled)
    @rule(data=st.data())
    def evict(self, data: st.DataObject) -> None:
        lane = data.draw(st.sampled_from(sorted(self.server.cache, key=str)))
        self.evicted.add(self.server.cache.pop(lane))

    @precondition(lambda self: self.open)
    @rule(message=st.sampled_from([None] * 5 + [b"no JSON", b"[]"]))
    def talk_nonsense(self, message: bytes | None) -> None:
        if message is None:
            return
        hearing = [book for book in self.books if book.turn.state not in ("queued", "ended")]
        self.say(message)
        assert all(book.turn.ended for book in hearing), "it may have been any turn's"

    # The end.

    @rule(how=st.sampled_from([None] * 40 + [Stop(), Retire(), Crashed(ZeroDivisionError())]))
    def stop(self, how: Any) -> None:
        if how is None:
            return  # Else most lives would be short.
        self.stopped = self.stopped or isinstance(how, Stop)
        self.closing = self.closing or isinstance(how, Retire)
        if not isinstance(how, Retire):
            self.wanted = False
            self.outbox = self.outbox[:1] if self.writing else []  # The link forgets the rest.
        self.step(how)
        if isinstance(how, Retire):
            assert not self.work.lanes._queue
            return
        assert all(book.turn.ended for book in self.books if book.here), "somebody waits for ever"
        if isinstance(how, Crashed):
            self.forget_socket()  # The thread is gone; what follows is another life.
            self.do(self.work.step(Lost(1006, "")))

    @rule(steps=st.integers(1, 12))
    def goes_well(self, steps: int) -> None:
        for _ in range(steps):
            if self.writing or self.outbox or self.ready() or (self.wanted and not self.open):
                self.go_on()

    # What always holds.

    @invariant()
    def each_log_is_finished_once_and_for_good(self) -> None:
        logs = {id(book.turn.inbox) for book in self.books}
        finished = [each.inbox for each in self.work.finishes if id(each.inbox) in logs]
        assert len({id(inbox) for inbox in finished}) == len(finished), "finished twice"
        ended = [book for book in self.books if book.turn.ended and book.here]
        assert len(finished) == len(ended)

    @invariant()
    def a_log_holds_its_own_turns_events_alone_in_order_none_lost_none_twice(self) -> None:
        for book in self.books:
            log = [event.raw for event in opened(book.turn.inbox.read(0, 0.0))]
            log = [raw for raw in log if not raw["type"].startswith("llmws.")]
            parts = [[raw for raw in log if of(raw) == a.response_id] for a in book.attempts]
            assert [raw for part in parts for raw in part] == log
            for attempt, part in zip(book.attempts, parts, strict=True):
                assert part == [*attempt.said, *attempt.owed][: len(part)]
            if parts and self.has_heard_all(book):
                assert len(parts[-1]) >= len(book.attempts[-1].said)

    def has_heard_all(self, book: Book) -> bool:
        turn, attempt = book.turn, book.attempts[-1]
        if turn.held:
            return False  # It may have been about another turn, or may be mended.
        if turn.ended and turn.response_id != attempt.response_id and attempt.succeeds:
            return False  # It was not waited for.
        if turn.ended:
            return turn.inbox.error is None or (
                type(turn.inbox.error) is APIError and not attempt.over and not attempt.failing
            )
        return turn.state is not TurnState.QUEUED

    @invariant()
    def every_turn_is_known_to_the_router_and_to_the_pool(self) -> None:
        lanes = self.work.lanes
        known = {*lanes._running, *lanes._queue}
        assert {book.turn for book in self.books if book.here and not book.turn.ended} == known
        drained = {lane.drained for lane in lanes._lanes if lane.draining_until is not None}
        assert self.staying == known | drained
        assert {lane.turn for lane in lanes._lanes} - {None} == {*lanes._running}
        assert {*lanes._lanes.busy} == {lane for lane in lanes._lanes if not lane.free}
        assert len({*lanes._lanes.busy}) == len(lanes._lanes.busy)

    @invariant()
    def a_turn_that_waits_is_waited_for(self) -> None:
        lanes = self.work.lanes
        if lanes._queue and not self.open:
            assert self.wanted or self.stopped, "nobody is dialling for the turns that wait"

    @invariant()
    def the_bytes_that_are_released_are_those_that_were_submitted(self) -> None:
        released = self.work.lanes.counters.released_bytes
        kept = sum(book.turn.size_bytes for book in self.books)
        assert released + kept == sum(book.size for book in self.books)
        ended = [book.turn for book in self.books if book.turn.ended and book.here]
        assert not any(turn.payload or turn.size_bytes for turn in ended)

    @invariant()
    def a_steer_comes_to_something_before_its_turn_has_ended(self) -> None:
        assert all(steer.done for book, steer in self.steers if book.turn.ended and book.here)

    @invariant()
    def turns_are_counted_once(self) -> None:
        if self.books and not self.stopped:
            assert self.work.lanes.counters.turns == len(self.books)

    def teardown(self) -> None:
        if not hasattr(self, "work"):
            return
        self.let_all_end()
        assert self.let_go or self.staying or self.stopped or not self.closing
        self.stop(Stop())
        self.time_passes(10_000.0)
        lanes = self.work.lanes
        assert lanes.deadline is None
        assert not lanes._running
        assert not lanes._queue
        assert not self.staying

    def let_all_end(self) -> None:
        """Let network, server and pool do what they owe: every turn comes to its end, with no limit of its own."""
        for _ in range(ENOUGH):
            if all(book.turn.ended for book in self.books if book.here) and not self.away:
                return
            self.go_on()
        raise AssertionError(f"somebody waits for ever: {self.work.lanes!r}")

    def go_on(self) -> None:
        if self.away and (not self.retired or self.stopped):
            self.comes_back()
        elif self.wanted and not self.open:
            self.opens()
        elif self.outbox:
            self.write(1, True)
        elif self.steerbox:
            self.write_steer()
        elif self.open and self.server.serving:
            self.say(*self.answer(self.server.serving[0], 1, True))
        elif self.open and self.server.unfinished:
            self.lose(1000)  # They came after the server's last word.
        elif self.work.lanes.deadline <= self.work.now:
            self.time_passes(0.0)
        else:
            self.do(self.work.wait())


def of(raw: dict[str, Any]) -> Any:
    """Return which attempt an event is of."""
    if "response" in raw:
        return raw["response"]["id"]
    if "steer" in raw:
        return raw["steer"]["previous_response_id"]
    return raw["error"]["param"] if "error" in raw else raw["delta"]


LanesMachine.TestCase.settings = settings(
    max_examples=2 * settings.default.max_examples, stateful_step_count=40
)
TestAnyLife = LanesMachine.TestCase
