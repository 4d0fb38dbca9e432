"""A router driven by hand: its inboxes are real, everything else is numbers and values."""

from __future__ import annotations

import json
from collections import deque
from typing import Any

from llmws.responses.routing.lanes import Lanes
from llmws.responses.routing.turn import Submit, Turn
from llmws.responses.vocabulary.entries import opened
from llmws.timeouts import Timeouts
from llmws.wire.ports import Allowed, Append, AskAgain, Finish, Overflowed, Report
from llmws.wire.steps import Deliver, Finished, Opened, Send, Started, Tick


FOREVER = Timeouts(
    connect=15.0, first_event=None, idle=None, total=None, lane_wait=None, close=None
)


def event(type: str, id: str | None = None, **fields: Any) -> dict[str, Any]:
    """Build an event; with an id, one that carries a response."""
    return {"type": type, **({} if id is None else {"response": {"id": id}}), **fields}


def created(id: str = "r") -> dict[str, Any]:
    return event("response.created", id)


def delta(text: str = "x") -> dict[str, Any]:
    return event("response.output_text.delta", delta=text)


def completed(id: str = "r", status: str = "completed", **response: Any) -> dict[str, Any]:
    return {"type": f"response.{status}", "response": {"id": id, "status": status, **response}}


def error(code: str | None = "invalid_prompt", **fields: Any) -> dict[str, Any]:
    return event("error", error={"code": code, "message": "so the server says", **fields})


LIMIT = error("websocket_connection_limit_reached")


class Lanework:
    """A router, its time, and its books."""

    def __init__(self, **options: Any) -> None:
        self.lanes = Lanes(**options)
        self.now = 100.0
        self.finishes: list[Finish] = []
        self.reports: list[Any] = []
        self.fraction: float | None = 0.0  # What the retry budget says; None is no.

    def step(self, given: Any, after: float = 0.0) -> list[Any]:
        """Let something happen; do what concerns inboxes, and return what is wanted of the link."""
        self.now += after
        wanted = []
        # What an action leads to comes behind all that was decided before, as it does in a connection.
        todo = deque(self.lanes.step(self.now, given))
        while todo:
            action = todo.popleft()
            if isinstance(action, Append):
                if not action.inbox.extend(action.items, action.size_bytes):
                    todo += self.lanes.step(self.now, Overflowed(action.inbox))
            elif isinstance(action, Report):
                self.reports.append(action.what)
            elif isinstance(action, AskAgain):
                todo += self.lanes.step(self.now, Allowed(action.key, self.fraction))
            elif isinstance(action, Finish):
                self.finishes.append(action)
                action.inbox.end(action.error)
            else:
                wanted.append(action)
        return wanted

    def reported(self, kind: type) -> list[Any]:
        """Return the reports of one kind since this was last asked for that kind."""
        found = [report for report in self.reports if isinstance(report, kind)]
        self.reports = [report for report in self.reports if not isinstance(report, kind)]
        return found

    def turn(self, payload: bytes = b"{}", timeouts: Timeouts = FOREVER, **fields: Any) -> Turn:
        return Turn(payload=payload, timeouts=timeouts, started_at=self.now, **fields)

    def submit(self, payload: bytes = b"{}", **fields: Any) -> Turn:
        turn = self.turn(payload, **fields)
        self.step(Submit(turn))
        return turn

    def opened(self) -> Lanework:
        self.step(Opened())
        return self

    def sent(self, payload: bytes = b"{}", **fields: Any) -> Turn:
        """Submit a turn to an open lane, and write it."""
        turn = self.turn(payload, **fields)
        assert self.step(Submit(turn)) == [Send(turn, payload)]
        self.written(turn)
        return turn

    def written(self, turn: Turn) -> None:
        assert self.step(Started(turn)) == []
        assert self.step(Finished(turn)) == []

    def say(self, *events: Any, after: float = 0.0) -> list[Any]:
        """Let the server say something, all in one read."""
        data = [each if isinstance(each, bytes) else json.dumps(each).encode() for each in events]
        return self.step(Deliver(data), after)

    def wait(self) -> list[Any]:
        """Let time pass until the router's deadline."""
        deadline = self.lanes.deadline
        assert deadline is not None
        assert deadline >= self.now
        self.now = deadline
        return self.step(Tick())


def types(turn: Turn) -> list[str]:
    """Return the types of what the turn's log holds."""
    return [event.type for event in opened(turn.inbox.read(0, 0.0))]


def failure(turn: Turn) -> Any:
    """Return the error that the turn ended with."""
    assert turn.inbox.ended
    assert turn.inbox.error is not None
    return turn.inbox.error
