"""A router driven by hand: its inboxes are real, everything else is numbers and values."""

from __future__ import annotations

import json
from typing import Any

from llmws.responses.entries import opened
from llmws.responses.lanes import Lanes
from llmws.responses.turn import Submit, Turn
from llmws.timeouts import Timeouts
from llmws.wire.ports import Append, Finish, Overflowed
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


def error(code: str | None = "server_error", **fields: Any) -> dict[str, Any]:
    return event("error", error={"code": code, "message": "so the server says", **fields})


LIMIT = error("websocket_connection_limit_reached")


class Lanework:
    """A router, its time, and its books."""

    def __init__(self, **options: Any) -> None:
        self.lanes = Lanes(**options)
        self.now = 100.0
        self.finishes: list[Finish] = []

    def step(self, given: Any, after: float = 0.0) -> list[Any]:
        """Let something happen; do what concerns inboxes, and return what is wanted of the link."""
        self.now += after
        wanted = []
        for action in self.lanes.step(self.now, given):
            if isinstance(action, Append):
                if not action.inbox.extend(action.items, action.size_bytes):
                    wanted += self.step(Overflowed(action.inbox))
            elif isinstance(action, Finish):
                self.finishes.append(action)
                action.inbox.end(action.error)
            else:
                wanted.append(action)
        return wanted

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
