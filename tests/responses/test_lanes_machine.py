"""Any life of a lane: what must hold for every turn, whatever happens and in whatever order."""

from __future__ import annotations

from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from llmws.errors import ConnectError
from llmws.responses.entries import opened
from llmws.responses.turn import Cancel, Submit, Turn
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
from tests.responses.lanework import FOREVER, LIMIT, Lanework, created, delta, error, event


class Book:
    """What the test knows of one turn."""

    def __init__(self, turn: Turn, name: str, size: int) -> None:
        self.turn = turn
        self.name = name
        self.size = size
        self.begun = 0  # How often its request was begun to be written.


class LanesMachine(RuleBasedStateMachine):
    """
    A lawful server, a network and users around one router.

    Everything that the server says of a turn carries the turn's name, so that an event in the wrong log is seen. The
    server answers requests in order, one at a time, and goes on with a turn that nobody waits for any more.
    """

    def __init__(self) -> None:
        super().__init__()
        self.work = Lanework()
        self.books: list[Book] = []
        self.open = self.wanted = self.stopped = False
        self.writing: Book | None = None  # Its request was handed to the link and is not finished.
        self.unanswered: list[Book] = []  # Requests that the server of this socket has.
        self.accepted = False
        self.said_error = False

    def step(self, given: Any) -> None:
        for action in self.work.step(given):
            self.do(action)

    def do(self, action: Any) -> None:
        if isinstance(action, Send):
            assert self.open, "a request without a socket"
            assert self.writing is None, "a second request beside the first"
            book = self.book(action.key)
            assert action.message == self.payload(book)
            assert not book.turn.ended
            self.writing = book
        elif isinstance(action, Withdraw):
            assert self.writing is not None
            assert action.key is self.writing.turn
            self.writing = None
        elif isinstance(action, Drop):
            self.forget_socket()
        elif isinstance(action, Want):
            assert not self.open, "a wish for a socket beside an open one"
            assert not self.stopped
            self.wanted = True
        elif isinstance(action, Unwant):
            self.wanted = False

    def book(self, turn: Turn) -> Book:
        return next(book for book in self.books if book.turn is turn)

    def payload(self, book: Book) -> bytes:
        return book.name.encode().ljust(book.size)

    def forget_socket(self) -> None:
        self.open, self.writing, self.unanswered = False, None, []
        self.accepted = self.said_error = False

    # Users and time.

    @rule(
        size=st.integers(4, 50),
        retry=st.booleans(),
        most=st.sampled_from([10**6, 10**6, 2]),
        limits=st.fixed_dictionaries(
            {},
            optional={
                "lane_wait": st.just(10.0),
                "first_event": st.just(3.0),
                "idle": st.just(4.0),
                "total": st.just(20.0),
            },
        ),
    )
    def submit(self, size: int, retry: bool, most: int, limits: dict[str, float]) -> None:
        name = f"t{len(self.books)}"
        turn = Turn(
            payload=name.encode().ljust(size),
            timeouts=Timeouts(**{**FOREVER_LIMITS, **limits}),
            started_at=self.work.now,
            retry_uncertain=retry,
            inbox=Inbox(max_items=most),
        )
        self.books.append(Book(turn, name, size))
        self.step(Submit(turn))

    @precondition(lambda self: self.books)
    @rule(data=st.data(), hard=st.booleans())
    def cancel(self, data: st.DataObject, hard: bool) -> None:
        book = data.draw(st.sampled_from(self.books[-4:]))
        self.step(Cancel(book.turn, "Cancelled.", hard))
        assert book.turn.ended

    @rule(seconds=st.sampled_from([0.0, 0.5, 1.0, 3.0, 5.0, 10.0]))
    def time_passes(self, seconds: float) -> None:
        self.work.now += seconds
        self.step(Tick())
        deadline = self.work.lanes.deadline
        assert deadline is None or deadline > self.work.now, "a deadline that no tick satisfies"

    # The link.

    @precondition(lambda self: self.wanted and not self.open)
    @rule()
    def opens(self) -> None:
        self.open, self.wanted = True, False
        self.step(Opened())

    @precondition(lambda self: self.wanted and not self.open)
    @rule(final=st.booleans())
    def dial_fails(self, final: bool) -> None:
        if final:
            self.wanted = False
            self.step(GaveUp(ConnectError("no")))
            assert all(book.turn.ended for book in self.books)
        else:
            self.step(Retrying(1, 0.5, ConnectError("no")))

    @precondition(lambda self: self.writing is not None)
    @rule(whole=st.booleans())
    def write(self, whole: bool) -> None:
        book = self.writing
        assert book is not None
        if book not in self.unanswered:
            book.begun += 1
            assert book.begun <= 1 + book.turn.retry_uncertain, "sent again without leave"
            self.unanswered.append(book)
            self.step(Started(book.turn))
        if whole and self.writing is book:
            self.writing = None
            self.step(Finished(book.turn))

    @precondition(lambda self: self.open)
    @rule(code=st.sampled_from([1000, 1006, 1008]))
    def lose(self, code: int) -> None:
        self.forget_socket()
        self.step(Lost(code, "lost"))

    # The server.

    def say(self, *events: dict[str, Any]) -> None:
        for action in self.work.say(*events):
            self.do(action)

    @property
    def serving(self) -> Book | None:
        """Whose request the server works on: it has the whole of it."""
        ready = [book for book in self.unanswered if book is not self.writing]
        return ready[0] if ready else None

    @precondition(lambda self: self.serving is not None)
    @rule(count=st.integers(0, 3), close=st.booleans())
    def answer_on(self, count: int, close: bool) -> None:
        book = self.serving
        assert book is not None
        said: list[dict[str, Any]] = [] if self.accepted else [created(book.name)]
        self.accepted = True
        said += [delta(book.name)] * count
        if close:
            self.unanswered.remove(book)
            self.accepted = self.said_error = False
            said.append(event("response.completed", book.name))
        self.say(*said, *([{**delta("foreign"), "stream_id": "lane"}] * count))

    @precondition(lambda self: self.serving is not None and not self.accepted)
    @rule()
    def refuse(self) -> None:
        book = self.serving
        assert book is not None
        self.unanswered.remove(book)
        self.say(error(param=book.name))

    @precondition(lambda self: self.serving is not None and self.accepted and not self.said_error)
    @rule(promptly=st.booleans())
    def fail(self, promptly: bool) -> None:
        book = self.serving
        assert book is not None
        ending = event("response.failed", book.name)
        if promptly:
            self.unanswered.remove(book)
            self.accepted = False
            self.say(error(param=book.name), ending)
        else:
            self.said_error = True
            self.say(error(param=book.name))

    @precondition(lambda self: self.open)
    @rule()
    def retire(self) -> None:
        self.say(LIMIT)

    # The end.

    @rule(how=st.sampled_from([None] * 18 + [Stop(), Crashed(ZeroDivisionError())]))
    def stop(self, how: Any) -> None:
        if how is None:
            return  # Else most lives would be short.
        self.stopped = self.stopped or isinstance(how, Stop)
        self.wanted = False
        self.step(how)
        assert all(book.turn.ended for book in self.books), "somebody waits for ever"
        if isinstance(how, Crashed):
            self.forget_socket()  # The thread is gone; what follows is another life.
            self.work.step(Lost(1006, ""))

    # What always holds.

    @invariant()
    def each_log_is_finished_once_and_for_good(self) -> None:
        finished = [finish.inbox for finish in self.work.finishes]
        assert len({id(inbox) for inbox in finished}) == len(finished), "finished twice"

    @invariant()
    def a_log_holds_its_own_turns_events_alone_and_in_order(self) -> None:
        for book in self.books:
            items = opened(book.turn.inbox.read(0, 0.0))
            names = {named for item in items if (named := name_of(item.raw)) is not None}
            assert names <= {book.name}, f"{names} in the log of {book.name}"
            types = [item.type for item in items if not item.type.startswith("llmws.")]
            if "response.created" in types:
                assert types.index("response.created") == 0
                assert types.count("response.created") == 1

    @invariant()
    def every_turn_that_runs_is_known_to_the_router(self) -> None:
        running = {id(book.turn) for book in self.books if not book.turn.ended}
        lanes = self.work.lanes
        known = {id(turn) for turn in [lanes._active, *lanes._queue] if turn is not None}
        assert running == known

    @invariant()
    def a_turn_that_waits_is_waited_for(self) -> None:
        lanes = self.work.lanes
        if lanes._queue and lanes._active is None and lanes._draining_until is None:
            assert self.wanted or self.stopped, "nobody is dialling for the turns that wait"

    @invariant()
    def the_bytes_that_are_released_are_those_that_were_submitted(self) -> None:
        released = self.work.lanes.counters.released_bytes
        kept = sum(len(book.turn.payload) for book in self.books)
        assert released + kept == sum(book.size for book in self.books)
        if all(book.turn.ended for book in self.books):
            assert kept == 0

    def teardown(self) -> None:
        self.stop(Stop())
        self.time_passes(10_000.0)
        assert self.work.lanes.deadline is None
        assert self.work.lanes._active is None
        assert not self.work.lanes._queue


FOREVER_LIMITS = {name: getattr(FOREVER, name) for name in FOREVER.__slots__ if name[0] != "_"}


def name_of(raw: dict[str, Any]) -> Any:
    if "response" in raw:
        return raw["response"]["id"]
    if "error" in raw:
        return raw["error"].get("param")
    return raw.get("delta")


LanesMachine.TestCase.settings = settings(
    max_examples=2 * settings.default.max_examples, stateful_step_count=40
)
TestAnyLife = LanesMachine.TestCase
