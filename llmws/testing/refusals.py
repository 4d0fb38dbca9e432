"""Faults in words: error events in all their forms, and upgrades that are refused."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, ClassVar, Literal

import attrs

from ..errors import ConfigurationError
from ..wire import jsoncodec
from .answer import error_event
from .faulty import Fault, Hit
from .http import answer_head
from .request import Event


__all__ = ["ERRORS", "UPGRADES", "ErrorFrame", "RefuseUpgrade"]

ERRORS: Mapping[str, int] = {
    "previous_response_not_found": 400,
    "websocket_connection_limit_reached": 400,
    "websocket_stream_limit_reached": 400,
    "rate_limit_exceeded": 429,
    "insufficient_quota": 429,
    "server_is_overloaded": 503,
    "slow_down": 503,
    "server_error": 500,
    "invalid_prompt": 400,
    "context_length_exceeded": 400,
    "model_not_found": 404,
    "invalid_api_key": 401,
}
"""Codes that a server refuses with, and the status that goes with each (some statuses inferred)."""


@attrs.frozen(kw_only=True)
class ErrorFrame(Fault):
    """
    The server sends an ``error`` event.

    Args:
        code: The error's code; None leaves it out.
        status: The HTTP-like status; None leaves it out.
        message: The error's words.
        param: The request field at fault.
        headers: Such as ``{"retry-after": "1"}``.
        form: ``nested`` has the details under ``error``, ``flat`` in the event itself; ``failed`` sends no ``error``
            but only the ``response.failed`` that holds them, with a ``response.created`` before it if need be.
        lane: Whether the event has the answer's ``stream_id``, if there is one; without it the ledger hears nothing.
        failed: Whether ``response.failed`` follows if the answer had begun, as recorded of the API.
        goes_on: Whether the answer goes on behind it as if nothing had been.
        close: The code of a close frame behind it all, or None for no close.
    """

    code: str | None = "server_error"
    status: int | None = 500
    message: str = "This error was made on purpose."
    param: str | None = None
    headers: Mapping[str, str] = attrs.field(factory=dict, hash=False)
    form: Literal["nested", "flat", "failed"] = attrs.field(default="nested")
    lane: bool = True
    failed: bool = True
    goes_on: bool = False
    close: int | None = None

    _label: ClassVar[str] = "error {0.code} {0.form}"

    @form.validator
    def _check_form(self, _: object, form: object) -> None:
        if form not in ("nested", "flat", "failed"):
            raise ConfigurationError(f"form is {form!r}: give 'nested', 'flat' or 'failed'.")

    @property
    def refused_in_words(self) -> bool:
        """True if it comes before output, and the answer does not go on."""
        return self.at in (0, "created") and not self.goes_on

    @property
    def may_lose_output(self) -> bool:
        """False if the answer was over, or goes on."""
        return self.at != "end" and not (self.goes_on and self.close is None)

    def event(self) -> Event:
        """Return the ``error`` event."""
        words = (self.code or "", self.message)
        event = error_event(
            *words, status=self.status or 500, param=self.param, headers=self.headers
        )
        if self.code is None:
            del event["error"]["code"]
        if self.status is None:
            del event["status"]
        if self.form == "flat":
            # A flat error has no type of its own: that field is the event's.
            event = {**event.pop("error"), **event}
        return event

    def _strike(self, hit: Hit) -> Iterable[Event]:
        if self.form != "failed":
            if self.lane or hit.request.lane is None:
                yield self.event()
            else:
                hit.connection.send(self.event())
        if self.goes_on:
            yield from hit.rest
        elif self.form == "failed" or (self.failed and self.at != "end"):
            yield from self._failure(hit)
        if self.close is not None:
            hit.connection.close(self.close)

    def _failure(self, hit: Hit) -> Iterator[Event]:
        if hit.response is None:
            if self.form != "failed" or not hit.has_more():
                return  # Refused before it began: nothing can have failed.
            begun = next(hit.rest)
            yield begun
            hit.passes(begun)
        error = {"code": self.code, "message": self.message}
        response = {**(hit.response or {}), "status": "failed", "error": error}
        yield {"type": "response.failed", "response": response}


@attrs.frozen(kw_only=True)
class RefuseUpgrade:
    """
    The server answers upgrades with an HTTP status: a fault of connections, and not of a rule.

    Args:
        status: The status.
        headers: What the answer's head says beside the usual.
        body: Its body; what is no string becomes JSON.
        times: How many upgrades are refused; None for all.
        after: How many are accepted before.
    """

    status: int = attrs.field(default=503)
    headers: Mapping[str, str] = attrs.field(factory=dict, hash=False)
    body: Any = ""
    times: int | None = 1
    after: int = 0

    @status.validator
    def _check_status(self, _: object, status: object) -> None:
        if not (type(status) is int and 200 <= status <= 599):
            raise ConfigurationError(f"status is {status!r}: give one from 200 to 599.")

    def refuses(self, number: int) -> bool:
        """Tell whether the server's upgrade of this number is refused, counted from 1."""
        return self.after < number and (self.times is None or number <= self.after + self.times)

    def answer(self) -> bytes:
        """Return the whole answer; the connection ends behind it."""
        body = self.body.encode() if isinstance(self.body, str) else jsoncodec.encode(self.body)
        length = {"Content-Length": str(len(body)), "Connection": "close"}
        return answer_head(self.status, {**length, **self.headers}) + body


UPGRADES: Mapping[str, RefuseUpgrade] = {
    "400": RefuseUpgrade(status=400),
    "401": RefuseUpgrade(status=401),
    "403": RefuseUpgrade(status=403),
    "404": RefuseUpgrade(status=404),
    "408": RefuseUpgrade(status=408),
    "409": RefuseUpgrade(status=409),
    "426": RefuseUpgrade(status=426, headers={"Upgrade": "websocket"}),
    "429": RefuseUpgrade(status=429, headers={"Retry-After": "0"}),
    "500": RefuseUpgrade(status=500),
    "503": RefuseUpgrade(status=503),
    "redirect": RefuseUpgrade(status=307, headers={"Location": "http://127.0.0.1:9/v1/responses"}),
    "200": RefuseUpgrade(status=200, body="<html>A portal.</html>"),
}
"""Refused upgrades by name, each of one time."""
