"""What one connection takes: which creates, on which lanes, and until when."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from .answer import error_event
from .request import Event
from .semantics import Semantics


__all__ = ["Limits", "connection_limit"]

_LANE_NAME = re.compile(r"[A-Za-z0-9_.\-]{1,256}\Z")


def connection_limit() -> Event:
    """Build the event that tells a client to open a new connection."""
    message = "The connection has reached its age limit. Open a new one to go on."
    return error_event("websocket_connection_limit_reached", message)


class Limits:
    """
    The lanes that a connection has, and why it takes a create no more; not thread-safe.

    Args:
        semantics: The limits.

    Attributes:
        too_old: Whether the connection's age has run out.
    """

    def __init__(self, semantics: Semantics) -> None:
        self.too_old = False
        self._names: set[str] = set()
        self._most_names = semantics.most_names
        self._keeps_names = semantics.lanes in (True, "serial")
        self._refuses_names = semantics.lanes == "refused"

    def __repr__(self) -> str:
        return f"Limits({len(self._names)} names, {'too old' if self.too_old else 'open'})"

    def lane_of(self, body: Mapping[str, Any]) -> str | None:
        """Return the lane that a create asks for, as far as the connection has lanes."""
        return body.get("stream_id") if self._keeps_names else None

    def misnamed(self, body: Mapping[str, Any]) -> Event | None:
        """Return the error for a create whose lane cannot be, or None."""
        lane = self.lane_of(body)
        if not self._keeps_names or "stream_id" not in body:
            return None
        if isinstance(lane, str) and _LANE_NAME.match(lane):
            return None
        message = "A stream_id is 1 to 256 letters, digits, '_', '.' and '-'."
        return error_event("invalid_stream_id", message, param="stream_id")

    def refusal(self, body: Mapping[str, Any]) -> Event | None:
        """Return the error for a create that is not taken, or None and remember its lane."""
        lane = self.lane_of(body)
        if self.too_old:
            return connection_limit()
        if self._refuses_names and "stream_id" in body:
            message = "Unknown parameter: 'stream_id'."
            return error_event("unknown_parameter", message, param="stream_id")
        if lane is None or lane in self._names:
            return None
        if len(self._names) < self._most_names:
            self._names.add(lane)
            return None
        message = f"This connection has used {self._most_names} stream_ids, the most there may be."
        code = "websocket_stream_limit_reached"
        return {**error_event(code, message, param="stream_id"), "stream_id": lane}
