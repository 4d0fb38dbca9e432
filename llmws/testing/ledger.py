"""What the embedded server was asked, and what it answered: for checks of billing, retries and routing."""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any, Literal

import attrs

from ..secret import redact
from .nonces import nonce_in
from .request import Request


__all__ = ["Ended", "Entry", "Ledger", "fingerprint", "public_headers"]

Ended = Literal["completed", "failed", "incomplete", "error", "lost"]

_ENDS: dict[str, Ended] = {
    "response.completed": "completed",
    "response.failed": "failed",
    "response.incomplete": "incomplete",
    "error": "error",
}
_REFUSING = frozenset({"error", "response.failed"})
_BEFORE_OUTPUT = frozenset({"response.created", "response.queued", "response.in_progress"})
_CREDENTIALS = frozenset({"authorization", "proxy-authorization", "api-key", "x-api-key", "cookie"})


def _code_of(event: Mapping[str, Any]) -> str:
    """Return the code of an ``error``, nested or flat, or of a ``response.failed``."""
    error = event.get("error") or (event.get("response") or {}).get("error") or event
    return str(error.get("code") or error.get("type") or "error")


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
        lane: The ``stream_id``, or None for the default lane, which is the only one of a server without lanes.
        headers: The upgrade's or the POST's, names in lower case, credentials as fingerprints.
        received: When the request was whole.
        started: When its answer began, or None while it waits for its lane.
        finished: When the answer ended, or None before.
        response_id: The id in ``response.created``, or None if there was none.
        events_sent: How many events were handed to the socket.
        ended: How the answer ended, or None before. ``lost``: without a terminal event or an error.
        refused: The code of the error or the failure that came before any output, or None if there was none such; an
            error without a code gives its type. Whoever was refused may ask again without paying twice.
        request_bytes: The size of the create's message or of the POST's body.
        automatic: Whether the server began this response by itself, after a steer.
        has_output: Whether anything was sent between the response's beginning and its end.
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
    refused: str | None = None
    request_bytes: int = 0
    automatic: bool = False
    has_output: bool = attrs.field(default=False, repr=False)

    @property
    def warm_up(self) -> bool:
        """Whether nothing was to be generated: such requests are a class of their own in every count."""
        return self.body.get("generate") is False

    @property
    def previous_response_id(self) -> str | None:
        """The response to continue, as the request named it."""
        return self.body.get("previous_response_id")

    @property
    def nonce(self) -> str | None:
        """The nonce in the input's text, or None."""
        return nonce_in(Request(body=self.body).input_text)


class Ledger:
    """What a server was asked, in the order of arrival; safe to read from any thread at any time."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._entries: list[Entry] = []
        self._compactions: list[Entry] = []
        self._connections = 0
        self._pings = 0

    @property
    def requests(self) -> list[Entry]:
        """Every create that was understood, warm-ups, POSTs and automatic ones included."""
        with self._changed:
            return [attrs.evolve(entry) for entry in self._entries]

    @property
    def creates(self) -> list[dict[str, Any]]:
        """The bodies of the requests, but for those that the server made itself."""
        return [entry.body for entry in self.requests if not entry.automatic]

    def second_creates(self) -> list[tuple[Entry, Entry]]:
        """
        Return the pairs of requests for one nonce of which the earlier was not refused in words: turns paid twice.

        Warm-ups and what the server began by itself do not count.
        """
        latest: dict[str, Entry] = {}
        pairs = []
        for entry in self.requests:
            nonce = None if entry.warm_up or entry.automatic else entry.nonce
            if nonce is None:
                continue
            if nonce in latest and latest[nonce].refused is None:
                pairs.append((latest[nonce], entry))
            latest[nonce] = entry
        return pairs

    @property
    def compactions(self) -> list[Entry]:
        """Every POST that asked for compaction; these are no creates."""
        with self._changed:
            return [attrs.evolve(entry) for entry in self._compactions]

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

    def compacting(self, entry: Entry) -> None:
        """Add a request for compaction."""
        with self._changed:
            self._compactions.append(entry)
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
        if kind in _REFUSING:
            if not entry.has_output and entry.refused is None:
                entry.refused = _code_of(event)
        elif kind not in _BEFORE_OUTPUT:
            entry.has_output = True
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
