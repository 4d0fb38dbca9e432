"""What a rule is asked: one request, and the connection that it came on."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal, Protocol

import attrs

from .context import Context, items_of, tokens_in


__all__ = ["Connection", "Event", "Request", "Rule"]

Event = dict[str, Any]


class Connection(Protocol):
    """
    A rule's handle on the connection; its methods may be called from any thread.

    Once the connection is over, sending raises ``ConnectionError``.

    Attributes:
        number: Which connection of the server it is, from 1.
        closed: Set once nothing more can be sent on it.
    """

    number: int
    closed: threading.Event

    def send(self, event: Event) -> None:
        """Send an event just as it is, beside the answer."""

    def send_bytes(self, data: bytes) -> None:
        """Write raw bytes: frames on a WebSocket, anything on HTTP."""

    def close(self, code: int = 1000, reason: str = "") -> None:
        """Send a close frame; HTTP has none, and ends."""

    def drop(self) -> None:
        """End with a bare FIN: no close frame, and TLS is not told."""

    def reset(self) -> None:
        """End with RST."""


@attrs.frozen(kw_only=True)
class Request:
    """
    One create, on a WebSocket or by POST.

    Attributes:
        body: The whole request as it came.
        transport: ``ws``, or ``sse`` for any POST.
        lane: The ``stream_id``, or None for the default lane.
        number: Which request of the server it is, from 1. Warm-ups are not counted, and have the next one's number; nor
            is what the server refuses by itself, unless more has come meanwhile.
        turn: Which request of its connection it is, from 1; warm-ups are counted.
        connection: The connection it came on, or None for a request made by hand.
        headers: The upgrade's or the POST's, names in lower case, credentials as fingerprints.
        parent: What the response stands for that ``previous_response_id`` names; None without one, or if the server
            does not look.
    """

    body: dict[str, Any]
    transport: Literal["ws", "sse"] = "ws"
    lane: str | None = None
    number: int = 1
    turn: int = 1
    connection: Connection | None = attrs.field(default=None, repr=False)
    headers: Mapping[str, str] = attrs.field(factory=dict, repr=False)
    parent: Context | None = attrs.field(default=None, repr=False)

    @property
    def model(self) -> str:
        """The model asked for, or an empty string."""
        return str(self.body.get("model") or "")

    @property
    def is_warm_up(self) -> bool:
        """Whether nothing shall be generated."""
        return self.body.get("generate") is False

    @property
    def input_text(self) -> str:
        """The input if it is a string, else the text of its last item: a message, or what a tool gave."""
        given = self.body.get("input")
        last = given[-1] if isinstance(given, list) and given else given
        if isinstance(last, dict):
            last = last.get("content", last.get("output"))
        if isinstance(last, list):
            texts = [part.get("text") for part in last if isinstance(part, dict)]
            return "".join(text for text in texts if isinstance(text, str))
        return last if isinstance(last, str) else ""

    @property
    def context(self) -> list[Any]:
        """Every item that a model would see: the parent's context, and then this input."""
        before = self.parent.items if self.parent is not None else []
        return [*before, *items_of(self.body.get("input"))]

    @property
    def context_tokens(self) -> int:
        """The estimated cost of the context; what this input costs is counted anew on each call."""
        before = self.parent.tokens if self.parent is not None else 0
        return before + sum(map(tokens_in, items_of(self.body.get("input"))))

    def new_id(self, prefix: str, what: object = "") -> str:
        """
        Return an id in the API's style, the same for the same request on every run, and of no item in its context.

        Args:
            prefix: Such as ``msg``.
            what: Tells ids of one request and one prefix apart.
        """
        connection = self.connection.number if self.connection else 0
        seed = f"{prefix} {connection} {self.turn} {what}"
        while True:
            name = f"{prefix}_{hashlib.sha256(seed.encode()).hexdigest()[:48]}"
            if not self._knows(name):
                return name
            seed += "'"  # The context came from another server, which gave the same ids.

    def _knows(self, name: str) -> bool:
        if self.parent is not None and self.parent.twice([{"id": name}]):
            return True
        given = self.body.get("input")
        return isinstance(given, list) and any(
            isinstance(item, dict) and item.get("id") == name for item in given
        )


Rule = Callable[[Request], Iterable[Event]]
