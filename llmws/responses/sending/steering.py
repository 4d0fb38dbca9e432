"""
Steering: what a user puts into a response that runs, and what becomes of it.

The server answers a steer with ``accepted``; then either a successor of the response begins, which has the input, or
the steer stays ``pending`` because the response ended with calls that wait for their output, or it ``failed`` and the
input comes back. The turn goes on until each steer that was accepted has come to something.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import attrs

from ...errors import ConfigurationError, WaitTimeout
from ...timeouts import deadline
from ...wire import jsoncodec
from ...wire.inbox import Inbox
from ..vocabulary.events import Event, ResponseFinished, ResponseStarted, SteerEvent
from .request import input_of


__all__ = ["ANSWER_SECONDS", "STEER_SECONDS", "Steer", "Steering"]

# So long a turn whose response has ended waits for what an accepted steer comes to,
STEER_SECONDS = 10.0
# and so long for the server's first word about one: if that came too late, it says so at once.
ANSWER_SECONDS = 1.0

_ENDS = frozenset({"applied", "pending", "failed"})


class Steer:
    """
    What was put into a response that runs; made by ``stream.steer()``, safe to use from any thread.

    Attributes:
        input: What was put in, as it goes over the wire.
        state: ``sent`` (nothing was heard, and if the turn is over nothing will be), ``accepted`` (the server has it,
            nothing has come of it), ``applied`` (a successor has it), ``pending`` (the server puts it before the
            outputs of the calls that wait) or ``failed``.
        id: The server's name for it, from ``accepted`` on.
        successor_id: The response that has it, once it was applied.
        required_input: Stubs of the outputs that a pending one waits for.
        error: Why it failed, with ``code`` and ``message``; else empty.
    """

    def __init__(self, given: str | Mapping[str, Any] | Sequence[Mapping[str, Any]]) -> None:
        """
        Check and encode the input.

        Raises:
            ConfigurationError: It has no usable form, or is no JSON.
        """
        self.input = input_of(given)
        if not self.input:
            raise ConfigurationError(
                "The steer is empty: give a text, or one user message or more."
            )
        try:
            self._encoded = jsoncodec.encode(self.input)
        except jsoncodec.JSONError as exc:
            raise ConfigurationError(f"The steer cannot be sent as JSON: {exc}.") from None
        self.state = "sent"
        self.id: str | None = None
        self.successor_id: str | None = None
        self.required_input: list[dict[str, Any]] = []
        self.error: dict[str, Any] = {}
        self.target: str | None = None
        # Ends when it has come to something; nothing is ever put in.
        self.inbox: Inbox[Event] = Inbox(max_items=1)

    def __repr__(self) -> str:
        return f"<Steer {self.state} id={self.id!r}>"

    def message(self, response_id: str) -> bytes:
        """Build the message for the response that it is to go into."""
        self.target = response_id
        return b'{"type":"response.steer","previous_response_id":%b,"input":%b}' % (
            jsoncodec.encode(response_id),
            self._encoded,
        )

    def items(self) -> list[dict[str, Any]]:
        """Return what was put in, as items of a transcript."""
        given = self.input
        if isinstance(given, str):
            return [{"type": "message", "role": "user", "content": given}]
        return [dict(item) for item in given]

    def come_too_late(self) -> None:
        """Give it back: the turn was over before it could be sent. May be repeated."""
        words = "The turn was over before this could be put into its response."
        self.give_back("response_already_completed", words)

    def give_back(self, code: str, message: str) -> None:
        """Note that it was not sent, and why; the codes are the server's."""
        self.state = "failed"
        self.error = {"code": code, "message": message}
        self.inbox.end(None)

    def wait(self, timeout: float | None = None) -> str:
        """
        Wait until it has come to something, or never will, and return its ``state``.

        Args:
            timeout: Seconds to wait; None waits for the turn's end, which its ``Timeouts`` bound.

        Raises:
            WaitTimeout: The time was up; the turn goes on.
            ConfigurationError: These are no seconds.
        """
        if not self.inbox.wait_ended(deadline(timeout)):
            raise WaitTimeout(f"Nothing became of the steer within {timeout:g} s ({self.state}).")
        return self.state

    @property
    def done(self) -> bool:
        """Whether it has come to something, or never will."""
        return self.inbox.ended


@attrs.define(eq=False)
class Steering:
    """
    The steers of one turn; belongs to its router.

    Attributes:
        steers: All of them, in the order in which they were sent.
        waiting: Those that wait for the response to begin.
        ended: How the latest response ended, its status; None while it runs.
    """

    steers: list[Steer] = attrs.field(factory=list)
    waiting: list[Steer] = attrs.field(factory=list)
    ended: str | None = None

    @property
    def outstanding(self) -> bool:
        """Whether the server has some that it has not used: another response follows."""
        return self.ended != "failed" and any(steer.state == "accepted" for steer in self.steers)

    @property
    def wait(self) -> float:
        """Seconds for which something may follow behind the response's end: a successor, or a word about a steer."""
        if self.outstanding:
            return STEER_SECONDS
        unanswered = any(steer.state == "sent" for steer in self.steers)
        return ANSWER_SECONDS if unanswered and self.ended != "failed" else 0.0

    def give_back(self) -> None:
        """Give back those that wait to be sent: the turn is over."""
        for steer in self.waiting:
            steer.come_too_late()

    def concerns(self, event: SteerEvent) -> bool:
        """Tell whether an event is about one of these."""
        return self._meant(event) is not None

    def follow(self, event: Event) -> None:
        """Take what comes for a turn that nobody waits for any more."""
        if isinstance(event, SteerEvent):
            self.heard(event)
        elif isinstance(event, ResponseStarted):
            self.began(event)
        elif isinstance(event, ResponseFinished):
            self.ended = event.status

    def heard(self, event: SteerEvent) -> Steer | None:
        """Take the server's word about one; return it once it has come to something."""
        word = event.type.rpartition(".")[2]
        steer = self._meant(event)
        if steer is None or word not in ("accepted", "pending", "failed"):
            return None
        steer.id = event.steer_id or steer.id
        steer.required_input = event.required_input
        steer.error = event.error
        steer.state = word
        return steer if word in _ENDS else None

    def began(self, event: ResponseStarted) -> list[Steer]:
        """Note that a successor began; return the steers that it has."""
        self.ended = None
        applied = [steer for steer in self.steers if steer.state == "accepted"]
        for steer in applied:
            steer.state, steer.successor_id = "applied", event.response_id
        return applied

    def _meant(self, event: SteerEvent) -> Steer | None:
        """Return the steer that an event is about: by its id, or else the oldest that has none."""
        named = [steer for steer in self.steers if steer.id and steer.id == event.steer_id]
        parent = event.previous_response_id
        unnamed = [
            steer
            for steer in self.steers
            if steer.id is None and steer.state == "sent" and parent in (None, steer.target)
        ]
        return next(iter([*named, *unnamed]), None)
