"""What the server says went wrong: its error event, and the exception that it becomes."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from typing import Any

from ...errors import (
    APIError,
    ConnectionLimitError,
    OverloadedError,
    PreviousResponseNotFoundError,
    RateLimitError,
)
from ...secret import redact
from ...wire import backoff
from .views import Event, shorten, string_or_none


__all__ = ["CONNECTION_CODES", "QUOTA_CODES", "ErrorEvent", "api_error", "from_event"]

CONNECTION_CODES = frozenset({"websocket_connection_limit_reached"})
"""The codes that are about the connection; such an error ends no turn by itself."""

_NOT_FOUND = re.compile(
    r"invalid previous_response_id|previous response with id .{0,200}? not found", re.I
)
# Out of money or of plan: the status is 429, and yet waiting a little does not help.
QUOTA_CODES = frozenset({"insufficient_quota", "usage_not_included", "usage_limit_reached"})
_OVERLOADED = frozenset({"server_is_overloaded", "slow_down", "overloaded", "overloaded_error"})
_RATE_LIMIT = frozenset({"rate_limit_exceeded", "rate_limit_error", "rate_limited", "rate_limit"})
# "try again in 1.2s", "in 20 ms", "in 6m0s".
_TRY_AGAIN = re.compile(r"try again in ((?:\d{1,9}(?:\.\d{1,9})?\s?[a-z]{1,12}\s?){1,4})", re.I)
_AMOUNT = re.compile(r"(\d+(?:\.\d+)?)\s?([a-z]+)", re.I)
_UNITS = {
    "ms": 0.001,
    "mil": 0.001,
    "s": 1.0,
    "sec": 1.0,
    "m": 60.0,
    "min": 60.0,
    "h": 3600.0,
    "hou": 3600.0,
}


class ErrorEvent(Event):
    """
    An error, in any of the shapes that servers send.

    The details are nested under ``error``, or flat, or ``error`` is a string; the status may be ``status_code``; the
    headers may be at either level (some inferred from clients of other servers than OpenAI's).
    """

    __slots__ = ()

    @property
    def status(self) -> int | None:
        """The HTTP-like status, or None."""
        for name in ("status", "status_code"):
            for source in self._sources:
                value = source.get(name)
                if type(value) is int:
                    return value
                if (
                    isinstance(value, str)
                    and value.isascii()
                    and value.isdigit()
                    and len(value) < 5
                ):
                    return int(value)
        return None

    @property
    def code(self) -> str | None:
        """The error's code, such as ``previous_response_not_found``, or None."""
        return self._text("code")

    @property
    def error_type(self) -> str | None:
        """The error's type, such as ``invalid_request_error``, or None; a flat error has none."""
        return string_or_none(self._sources[0].get("type")) if len(self._sources) > 1 else None

    @property
    def message(self) -> str:
        """The server's own words, or ``""``."""
        return self._text("message") or string_or_none(self.raw.get("error")) or ""

    @property
    def param(self) -> str | None:
        """The request field at fault, or None."""
        return self._text("param")

    @property
    def headers(self) -> dict[str, str]:
        """The headers inside the event, names in lower case, values as text."""
        found: dict[str, str] = {}
        for source in reversed(self._sources):
            headers = source.get("headers")
            if isinstance(headers, dict):
                found.update(
                    (
                        str(name).lower(),
                        str(value).lower() if value is True or value is False else str(value),
                    )
                    for name, value in headers.items()
                    if isinstance(value, (str, int, float))
                )
        return found

    @property
    def _sources(self) -> list[dict[str, Any]]:
        """Where a field may be, the likeliest first: the nested object if there is one, then the event."""
        response = self.raw.get("response")
        nested = self.raw.get("error") or (
            response.get("error") if type(response) is dict else None
        )
        return [nested, self.raw] if type(nested) is dict else [self.raw]

    def _text(self, name: str) -> str | None:
        for source in self._sources:
            value = source.get(name)
            if isinstance(value, str) and value:
                return value
            if type(value) is int:
                return str(value)
        return None

    def __repr__(self) -> str:
        fields = {
            "status": self.status,
            "code": self.code,
            "error_type": self.error_type,
            "message": self.message or None,
            "param": self.param,
        }
        shown = [f"{name}={shorten(value)}" for name, value in fields.items() if value is not None]
        return f"ErrorEvent({', '.join([shorten(self.type), *shown])})"


def api_error(
    *,
    message: str,
    status: int | None = None,
    type: str | None = None,
    code: str | None = None,
    param: str | None = None,
    headers: Mapping[str, str] | None = None,
    wall_time: float | None = None,
    **turn: Any,
) -> APIError:
    """
    Make the exception of an error that the server reported; its ``retry_after`` is the wait that the server asks for.

    Args:
        message: The server's own words; if empty, the exception says that there were none.
        status: The HTTP-like status, or None.
        type: The wire's error type, or None.
        code: The wire's error code, or None.
        param: The request field at fault, or None.
        headers: Headers of the error, names in lower case.
        wall_time: Seconds since the epoch now, for a ``Retry-After`` that is a date; None means by the clock.
        turn: What a ``TurnError`` takes: ``partial``, ``response_id``, ``state``, ``may_have_been_billed``.
    """
    # Servers quote the key that they refuse.
    message = redact(message) or "The server reported an error without a message"
    fields = {
        "status": status,
        "type": type,
        "code": code,
        "param": param,
        "headers": headers,
        **turn,
    }
    labels = {label for label in (code, type) if label}
    gone = _is_not_found(message, status, code, param)
    kind = PreviousResponseNotFoundError if gone else _kind(status, labels)
    # Now, for of a date nobody knows later how long it was away.
    wait = _retry_after(headers or {}, wall_time)
    if wait is None and kind is RateLimitError:
        wait = _in_words(message)
    return kind(message, retry_after=wait, **fields)


def from_event(event: ErrorEvent, *, wall_time: float | None = None, **turn: Any) -> APIError:
    """
    Make the exception of an error event.

    Args:
        event: The event, in any shape.
        wall_time: As for ``api_error``.
        turn: What a ``TurnError`` takes: ``partial``, ``response_id``, ``state``, ``may_have_been_billed``.
    """
    return api_error(
        message=event.message,
        status=event.status,
        type=event.error_type,
        code=event.code,
        param=event.param,
        headers=event.headers,
        wall_time=wall_time,
        **turn,
    )


def _is_not_found(message: str, status: int | None, code: str | None, param: str | None) -> bool:
    if code == "previous_response_not_found":
        return True
    # Another code does not change what the words say, if the field at fault is named too (inferred).
    blamed = param == "previous_response_id" and status in (400, 404)
    return (not code or blamed) and _NOT_FOUND.search(message) is not None


def _kind(status: int | None, labels: set[str]) -> type[APIError]:
    if labels & CONNECTION_CODES:
        return ConnectionLimitError
    if labels & QUOTA_CODES:
        return APIError
    if labels & _OVERLOADED:
        return OverloadedError
    if status == 429 or labels & _RATE_LIMIT:
        return RateLimitError
    return OverloadedError if status == 503 else APIError


def _retry_after(headers: Mapping[str, str], wall_time: float | None) -> float | None:
    """Return the seconds that the headers ask to wait, or None."""
    if wall_time is None:
        return _retry_after(headers, wall_time=time.time())
    return backoff.retry_after(headers, wall_time=wall_time)


def _in_words(message: str) -> float | None:
    """Return the seconds that the message asks to wait, or None."""
    found = _TRY_AGAIN.search(message)
    if not found:
        return None
    amounts = [
        (float(number), _UNITS.get(unit.lower()) or _UNITS.get(unit.lower()[:3]))
        for number, unit in _AMOUNT.findall(found[1])
    ]
    known = [number * unit for number, unit in amounts if unit]
    return sum(known) if known else None
