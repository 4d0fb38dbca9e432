"""Steering: what a client adds to a response that already runs."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from .answer import usage_of
from .compaction import compact_threshold
from .draft import Draft
from .request import Event, Request
from .semantics import Semantics
from .steers import Steer, failed_steer, required_input


__all__ = ["Performance", "Series"]

_ENDS = frozenset({"response.completed", "response.incomplete", "response.failed", "error"})


class Series:
    """
    The numbers of one response's events; they are sent in the order of their numbers.

    Steers are answered between the answer's events and behind them, and share its numbers (inferred from samples).

    Args:
        send: Writes an event; raises ``ConnectionError`` once it cannot.

    Attributes:
        lock: To be held around ``add`` and ``reply``; what they depend on may be looked up and changed under it.
    """

    def __init__(self, send: Callable[[Event], None]) -> None:
        self.lock = threading.Lock()
        self._send = send
        self._number = -1
        self._shift = 0

    def __repr__(self) -> str:
        return f"Series({self._number})"

    def add(self, event: Event) -> None:
        """Send an event of the answer, whose number does not know of replies."""
        number = event.get("sequence_number")
        if number is not None:
            self._number = number + self._shift
            event = {**event, "sequence_number": self._number} if self._shift else event
        self._send(event)

    def reply(self, event: Event) -> None:
        """Send an event that is none of the answer's."""
        self._number += 1
        self._shift += 1
        self._send({"type": event["type"], "sequence_number": self._number, **event})


class Performance:
    """
    One response on its way out, which may be steered meanwhile.

    The lane's thread takes events from ``events`` and gives them to ``send``; ``steer`` comes from the reading thread.

    Args:
        request: What is answered.
        semantics: Whether and how much may be steered.
        send: Writes an event on the request's lane; raises ``ConnectionError`` once it cannot.
        begun: Called with the response's id before ``response.created`` is sent.
        caused_by: The steers that this response is the automatic answer to.
    """

    def __init__(
        self,
        request: Request,
        semantics: Semantics,
        send: Callable[[Event], None],
        begun: Callable[[str, Performance], None],
        caused_by: Iterable[Steer] = (),
    ) -> None:
        self.request = request
        self.ended: str | None = None  # The type of the event that ended it.
        self.series = Series(send)
        self._semantics = semantics
        self._begun = begun
        self._caused_by = list(caused_by)
        self._response: Event | None = None  # As response.created had it.
        self._draft = Draft()
        self._steers: list[Steer] = []
        self._count = 0  # Of steers accepted, for their ids.
        self._lock = self.series.lock

    def __repr__(self) -> str:
        return f"Performance({self.id!r}, {len(self._steers)} steers, {self.ended or 'running'})"

    @property
    def lane(self) -> str | None:
        """The lane it is played on."""
        return self.request.lane

    @property
    def id(self) -> str | None:
        """The response's id, or None before it has one."""
        return (self._response or {}).get("id")

    def events(self, answer: Iterable[Event]) -> Iterator[Event]:
        """Yield an answer's events, and stop it at the next safe place once it was steered."""
        number = -1
        for event in answer:
            if self._steers and self._stops_before(event):
                for ending in self._stopped():
                    number += 1
                    yield {"type": ending["type"], "sequence_number": number, **ending}
                return
            number = event.get("sequence_number", number + 1)
            self._draft.add(event)
            yield event

    def _stops_before(self, event: Event) -> bool:
        """Tell whether a steered answer may stop here; one that is at its end ends as it would."""
        begun = self._response is not None
        return begun and self._draft.is_safe and event.get("type") not in _ENDS

    def _stopped(self) -> Iterator[Event]:
        yield from self._draft.cut()
        response = {
            **(self._response or {}),
            "status": "incomplete",
            "incomplete_details": {"reason": "steered"},
            "output": list(self._draft.output),
            "usage": usage_of(self.request, self._draft.deltas),
        }
        yield {"type": "response.incomplete", "response": response}

    def send(self, event: Event) -> None:
        """Write an event of the answer."""
        kind = event.get("type")
        with self._lock:
            if kind == "error" and self._caused_by and self._response is None:
                self.ended = kind
                self._give_back(self._caused_by, "successor_creation_failed", _message_of(event))
                return
            if kind == "response.created":
                self._begin(event)
            elif kind in _ENDS:
                self.ended = kind
                output = (event.get("response") or {}).get("output")
                self._draft.output = output if isinstance(output, list) else self._draft.output
            self.series.add(event)

    def _begin(self, event: Event) -> None:
        if self._response is None:
            self._response = event.get("response") or {}
            if isinstance(self.id, str):
                self._begun(self.id, self)

    def steer(self, target: str, given: Any) -> None:
        """Accept or refuse a steer, and say so."""
        with self._lock:
            code = self._why_not()
            if code is not None:
                self.series.reply(
                    failed_steer(
                        {"previous_response_id": target}, given, code, f"Not steered: {code}."
                    )
                )
                return
            self._count += 1
            name = self.request.new_id("steer", self._count)[: len("steer_") + 32]
            steer = Steer(name, target, given)
            # Before the client hears of it: what it does then must find the answer steered.
            self._steers.append(steer)
            self.series.reply({"type": "response.steer.accepted", "steer": steer.label})

    def _why_not(self) -> str | None:
        body = self.request.body
        if self.ended is not None:
            return _closed_to_steers(self.ended)
        if not self._semantics.steering or body.get("conversation") is not None:
            return "steering_not_supported"
        if compact_threshold(body) is not None:
            return "steering_not_supported"
        if len(self._steers) >= self._semantics.most_steers:
            return "too_many_pending_steers"
        return None

    def refusal_code(self) -> str:
        """Return why a steer that comes now, after the end, is refused."""
        return _closed_to_steers(self.ended or "")

    def after(self) -> tuple[list[Steer], bool]:
        """
        Say what becomes of accepted steers, once the answer is over.

        Returns:
            The steers that are still queued, and whether they wait for the client's own create.
        """
        with self._lock:
            steers, self._steers = self._steers, []
            if not steers or self.ended is None:
                return [], False
            if self.ended in {"response.failed", "error"}:
                self._give_back(steers, "response_not_active", "The response failed.")
                return [], False
            owed = required_input(self._draft.output)
            for steer in steers if owed else ():
                fields = {"reason": "waiting_for_required_input", "required_input": owed}
                self.series.reply(
                    {"type": "response.steer.pending", "steer": steer.label, **fields}
                )
            return steers, bool(owed)

    def give_back(self, steers: Iterable[Steer], code: str, message: str) -> None:
        """Tell the client that accepted steers were never applied."""
        with self._lock:
            self._give_back(steers, code, message)

    def _give_back(self, steers: Iterable[Steer], code: str, message: str) -> None:
        for steer in steers:
            self.series.reply(failed_steer(steer.label, steer.input, code, message))


def _closed_to_steers(ended: str) -> str:
    completed = ended == "response.completed"
    return "response_already_completed" if completed else "response_not_active"


def _message_of(event: Event) -> str:
    error = event.get("error")
    return str(error.get("message")) if isinstance(error, dict) else "The successor was refused."
