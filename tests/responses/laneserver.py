"""A lawful server of one socket at a time, as a router under test sees it: lanes or none, a cache, refusals."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import attrs


__all__ = ["Attempt", "Server"]


@attrs.define(eq=False)
class Attempt:
    """
    One request that the server has.

    Attributes:
        turn: The name of its turn.
        given: The names of all turns of which it has input.
        lane: The wire's ``stream_id``, or None.
        parent: The ``previous_response_id``, or None.
        response_id: The id of its response.
        said: What was said of it, in order.
        owed: The terminal event that may come after its error; a log has it if the error alone did not end the turn.
        begun: Whether its response has begun.
        failing: Whether an error was said of it, whose terminal event is still to come.
        over: Whether nothing more comes of it.
        excused: Whether it was refused in words before any output, and may be sent again.
        lost: Whether its socket was lost before it was over.
        steers: The names of the steers that it has accepted.
        succeeds: The response whose successor it is, which nobody asked for; or None.
    """

    turn: str
    lane: str | None
    parent: str | None
    given: list[str]
    response_id: str
    said: list[dict[str, Any]] = attrs.field(factory=list)
    owed: list[dict[str, Any]] = attrs.field(factory=list)
    begun: bool = False
    failing: bool = False
    over: bool = False
    excused: bool = False
    lost: bool = False
    steers: list[str] = attrs.field(factory=list)
    succeeds: str | None = None

    @property
    def has_output(self) -> bool:
        """Whether some of its output was said."""
        return any(raw["type"].endswith(".delta") for raw in self.said)


class Server:
    """
    The server behind the socket that is open now.

    It works on the oldest request of each lane, on all lanes at once; without lanes on the oldest of all. Each event
    carries the name of the attempt that it belongs to, so that one in a wrong log is seen.

    Args:
        lanes: Whether it runs lanes side by side and says whose an event is.
    """

    def __init__(self, lanes: bool) -> None:
        self.lanes = lanes
        self._count = 0
        self.contexts: dict[str, list[str]] = {}  # Whose input each response has seen.
        self.renew()

    def renew(self) -> None:
        """Be a new server behind a new socket."""
        self.waiting: dict[str | None, list[Attempt]] = {}
        self.cache: dict[str | None, str] = {}
        self.ending = False  # It begins with nothing more.
        # Terminal events of refused requests, which come before anything else on their lanes, or never.
        self.late: dict[str | None, dict[str, Any]] = {}

    def read(self, message: bytes) -> Attempt:
        """Read a request, of which the first byte has come."""
        raw = json.loads(message)
        given = [item["turn"] for item in raw["input"]]
        self._count += 1
        response_id = f"{given[-1]}-{self._count}"
        parent = raw.get("previous_response_id")
        return Attempt(given[-1], raw.get("stream_id"), parent, given, response_id)

    def take(self, attempt: Attempt) -> None:
        """Take a request that has come whole."""
        self.waiting.setdefault(self._place(attempt), []).append(attempt)

    @property
    def unfinished(self) -> list[Attempt]:
        """What it has of this socket and is not done with."""
        return [attempt for queue in self.waiting.values() for attempt in queue]

    @property
    def serving(self) -> list[Attempt]:
        """What it works on, or may begin with."""
        heads = (queue[0] for queue in self.waiting.values() if queue)
        return [head for head in heads if head.begun or not self.ending]

    def knows(self, attempt: Attempt) -> bool:
        """Whether it has what a request goes on from."""
        return (
            attempt.succeeds is not None
            or attempt.parent is None
            or attempt.parent in self.cache.values()
        )

    # What it says; each method returns the events.

    def begin(self, attempt: Attempt) -> Iterator[dict[str, Any]]:
        """Begin with a request; the lane's last response is gone from then on."""
        yield from self.end_late(attempt)
        attempt.begun = True
        before = [] if attempt.parent is None else self.contexts[attempt.parent]
        self.contexts[attempt.response_id] = [*before, *attempt.given]
        self.cache.pop(self._place(attempt), None)
        yield self._said(attempt, {"type": "response.created", "response": self._response(attempt)})

    def output(self, attempt: Attempt, count: int) -> Iterator[dict[str, Any]]:
        """Say something of a response that has begun."""
        for _ in range(count):
            delta = {"type": "response.output_text.delta", "delta": attempt.response_id}
            yield self._said(attempt, delta)

    def end(self, attempt: Attempt, status: str, **fields: Any) -> Iterator[dict[str, Any]]:
        """End a response."""
        attempt.excused = attempt.excused or (status == "failed" and not attempt.has_output)
        response = self._response(attempt, status=status, **fields)
        yield self._said(attempt, {"type": f"response.{status}", "response": response})
        self._done(attempt)
        if status == "completed":
            if not self.lanes:
                self.cache.clear()
            self.cache[self._place(attempt)] = attempt.response_id

    def steer(self, message: bytes, attempts: list[Attempt]) -> Iterator[dict[str, Any]]:
        """Take a steer for one of these, if that still runs here."""
        target = json.loads(message)["previous_response_id"]
        attempt = next(each for each in attempts if each.response_id == target)
        label = {"previous_response_id": target}
        if attempt in self.unfinished and not attempt.failing:
            self._count += 1
            attempt.steers.append(f"s{self._count}")
            label["id"] = attempt.steers[-1]
            yield self._said(attempt, {"type": "response.steer.accepted", "steer": label})
        else:
            error = {"code": "response_already_completed", "message": "no"}
            raw = {"type": "response.steer.failed", "steer": label, "error": error}
            (attempt.owed if attempt.over else attempt.said).append(self._on_lane(attempt, raw))
            yield raw

    def succeed(self, attempt: Attempt) -> Attempt | None:
        """Have a response that was steered succeeded by another; return that."""
        if not attempt.steers or attempt.lost:
            return None
        self._count += 1
        successor = Attempt(
            attempt.turn,
            attempt.lane,
            attempt.response_id,
            [],
            f"{attempt.turn}-{self._count}",
            succeeds=attempt.response_id,
        )
        self.waiting.setdefault(self._place(attempt), []).insert(0, successor)
        return successor

    def error(self, attempt: Attempt, code: str, **fields: Any) -> Iterator[dict[str, Any]]:
        """Say that something is wrong with a request, or with its response."""
        said = {"code": code, "message": "no", "param": attempt.response_id, **fields}
        yield self._said(attempt, {"type": "error", "error": said})
        attempt.excused = not attempt.has_output
        if attempt.begun:
            attempt.failing = True
            return
        place = self._place(attempt)
        if self.cache.get(place) == attempt.parent:
            self.cache.pop(place, None)
        self._done(attempt)

    def limit(self, named: Attempt | None) -> Iterator[dict[str, Any]]:
        """Say that this connection ends; what it has whole and has not begun is refused if it alone can be meant."""
        self.ending = True
        meant = [each for each in self.unfinished if not each.begun and named in (None, each)]
        if len(meant) == 1:
            meant[0].excused = True
        code = "websocket_connection_limit_reached"
        raw = {"type": "error", "error": {"code": code, "message": "over"}}
        yield raw if named is None or not self.lanes else self._on_lane(named, raw)

    def owe_end(self, attempt: Attempt) -> None:
        """Say the terminal event of a refused request too, later."""
        response = self._response(attempt, status="failed", error={"code": "late"})
        raw = {"type": "response.failed", "response": response, "sequence_number": 1}
        self.late[self._place(attempt)] = self._on_lane(attempt, raw)
        attempt.owed = [raw]

    def end_late(self, attempt: Attempt) -> Iterator[dict[str, Any]]:
        """Say what is owed on the lane of a request."""
        owed = self.late.pop(self._place(attempt), None)
        yield from () if owed is None else (owed,)

    def _done(self, attempt: Attempt) -> None:
        attempt.over = True
        self.waiting[self._place(attempt)].remove(attempt)

    def _place(self, attempt: Attempt) -> str | None:
        return attempt.lane if self.lanes else None

    def _said(self, attempt: Attempt, raw: dict[str, Any]) -> dict[str, Any]:
        raw["sequence_number"] = len(attempt.said)
        self._on_lane(attempt, raw)
        attempt.said.append(raw)
        return raw

    def _on_lane(self, attempt: Attempt, raw: dict[str, Any]) -> dict[str, Any]:
        """Say of an event whose it is, if the server does."""
        if self.lanes and attempt.lane is not None:
            raw["stream_id"] = attempt.lane
        return raw

    def _response(self, attempt: Attempt, **fields: Any) -> dict[str, Any]:
        return {"id": attempt.response_id, **fields}
