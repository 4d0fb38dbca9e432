"""What the embedded server was asked, and what it answered: for checks of billing, retries and routing."""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any, Literal

import attrs

from ..secret import redact


__all__ = ["Ended", "Entry", "Ledger", "fingerprint", "public_headers"]

Ended = Literal["completed", "failed", "incomplete", "error", "lost"]

_ENDS: dict[str, Ended] = {
    "response.completed": "completed",
    "response.failed": "failed",
    "response.incomplete": "incomplete",
    "error": "error",
}
_CREDENTIALS = frozenset({"authorization", "proxy-authorization", "api-key", "x-api-key", "cookie"})


def fingerprint(value: str) -> str:
    """Return what stands in a ledger for a credential: equal for equal values, and no way back."""
    return f"sha256:{hashlib.sha256(value.encode()).hexdigest()[:16]}"


def public_headers(headers: Mapping[str, str]) -> dict[str, str]:
    """Return headers with each credential replaced by its fingerprint."""
    return {
        name: fingerprint(value) if name in _CREDENTIALS else redact(value)
        for name, value in headers.items()
    }


@attrs.define(kw_only=True)
class Entry:
    """
    One create and its answer.

    What ``Ledger`` hands out is a copy that changes no more. Times are seconds on ``time.monotonic``.

    Attributes:
        body: The request as it came.
        transport: ``ws`` or ``sse``; the latter is also said of a POST without ``stream``.
        connection: The connection's number on this server, from 1.
        lane: The ``stream_id``, or None for the default lane.
        headers: The upgrade's or the POST's, names in lower case, credentials as fingerprints.
        received: When the request was whole.
        started: When its answer began, or None while it waits for its lane.
        finished: When the answer ended, or None before.
        response_id: The id in ``response.created``, or None if there was none.
        events_sent: How many events were handed to the socket.
        ended: How the answer ended, or None before. ``lost``: without a terminal event or an error.
    """

    body: dict[str, Any] = attrs.field(repr=False)
    transport: Literal["ws", "sse"]
    connection: int
    lane: str | None = None
    headers: Mapping[str, str] = attrs.field(factory=dict, repr=False)
    received: float = attrs.field(factory=time.monotonic)
    started: float | None = None
    finished: float | None = None
    response_id: str | None = None
    events_sent: int = 0
    ended: Ended | None = None


class Ledger:
    """What a server was asked, in the order of arrival; safe to read from any thread at any time."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._entries: list[Entry] = []
        self._connections = 0
        self._pings = 0

    @property
    def requests(self) -> list[Entry]:
        """Every create that was understood, warm-ups and POSTs included."""
        with self._changed:
            return [attrs.evolve(entry) for entry in self._entries]

    @property
    def creates(self) -> list[dict[str, Any]]:
        """The bodies of the requests."""
        return [entry.body for entry in self.requests]

    @property
    def connections(self) -> int:
        """How many upgrades were accepted."""
        return self._connections

    @property
    def pings(self) -> int:
        """How many pings were answered."""
        return self._pings

    def wait(self, predicate: Callable[[Ledger], bool], timeout: float = 5.0) -> bool:
        """
        Wait until something is true of the ledger.

        Args:
            predicate: Called with this ledger after each change of it.
            timeout: The most to wait, in seconds.

        Returns:
            What the predicate said last.
        """
        with self._changed:
            return self._changed.wait_for(lambda: predicate(self), timeout)

    def connected(self) -> None:
        """Count an accepted upgrade."""
        with self._changed:
            self._connections += 1
            self._changed.notify_all()

    def pinged(self) -> None:
        """Count an answered ping."""
        with self._changed:
            self._pings += 1
            self._changed.notify_all()

    def begin(self, entry: Entry) -> None:
        """Add a request."""
        with self._changed:
            self._entries.append(entry)
            self._changed.notify_all()

    def sending(self, entry: Entry, event: Mapping[str, Any]) -> None:
        """
        Note an event of the answer.

        This comes before it is written, so that a client that has read the end finds it in the ledger.
        """
        entry.events_sent += 1
        kind = event.get("type", "")
        if kind == "response.created" and entry.response_id is None:
            entry.response_id = (event.get("response") or {}).get("id")
        if kind in _ENDS:
            self.end(entry, _ENDS[kind])

    def end(self, entry: Entry, ended: Ended) -> None:
        """Note how the answer ended; the latest word counts."""
        with self._changed:
            entry.ended = ended
            entry.finished = time.monotonic()
            self._changed.notify_all()

    def __repr__(self) -> str:
        return f"Ledger({len(self._entries)} requests, {self._connections} connections)"
