"""
openai-python: its WebSocket connection, the lanes session on top of that, and SSE.

Settings differ from the defaults only where the benchmark would not run otherwise: the 1 MiB limit of one message is
lifted for the large event, the lanes session's buffers hold a whole burst, and an upgrade that hangs is given up after
2 s instead of 10 s.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

import httpx2
import openai
from openai.lib.responses_websocket import ResponsesWebSocketLimits, ResponsesWebSocketSession

from . import Address


__all__ = ["Connection", "Lanes", "ServerSentEvents"]

_MANY = 1 << 40
_LIMITS = ResponsesWebSocketLimits(
    max_lanes=8,
    max_events_per_lane=_MANY,
    max_events=_MANY,
    max_bytes_per_lane=_MANY,
    max_bytes=_MANY,
)


class _Client:
    """What all three share: one ``OpenAI`` client."""

    reads = "objects"
    endless = True

    def __init__(self, address: Address) -> None:
        self._tls = address.tls()
        # Without TLS all is left to the default; a certificate of one's own takes an HTTP client of one's own.
        http_client = httpx2.Client(verify=self._tls) if self._tls else None
        self._client = openai.OpenAI(
            api_key="none", base_url=address.base_url, http_client=http_client, max_retries=0
        )
        self._open = contextlib.ExitStack()

    def another(self) -> Any:
        """Return one more connection of the same client."""
        twin = type(self).__new__(type(self))
        twin._tls, twin._client, twin._open = self._tls, self._client, contextlib.ExitStack()
        return twin

    def text_of(self, last: Any) -> str:
        """Return the text of the final response."""
        text: str = last.response.output_text
        return text

    def hidden_failures(self) -> int:
        """Return 0: it does not dial again unless told to."""
        return 0

    def close(self) -> None:
        """Close the connection."""
        self._open.close()

    def _connect(self) -> Any:
        options: Any = {"max_size": None, "open_timeout": 2}
        if self._tls:
            options["ssl"] = self._tls
        manager = self._client.responses.connect(websocket_connection_options=options)
        return self._open.enter_context(manager)


class Connection(_Client):
    """``for event in connection``."""

    def open(self) -> None:
        """Connect and upgrade."""
        self._connection = self._connect()

    def events(self, request: Mapping[str, Any]) -> Iterator[Any]:
        """Send a request, and iterate over the connection, which outlives the answer."""
        self._connection.send({"type": "response.create", **request})
        return iter(self._connection)


class Lanes(_Client):
    """``lane.recv()`` of a ``ResponsesWebSocketSession``."""

    def open(self) -> None:
        """Connect and upgrade, and start the session's reader thread."""
        session = ResponsesWebSocketSession(self._connect(), limits=_LIMITS)
        self._lane = self._open.enter_context(session).default

    def events(self, request: Mapping[str, Any]) -> Iterator[Any]:
        """Send a request, and receive event by event."""
        create: Any = {"type": "response.create", **request}
        self._lane.send(create)
        return iter(self._lane.recv, None)


class ServerSentEvents(_Client):
    """``client.responses.create(stream=True)``."""

    endless = False

    def open(self) -> None:
        """Do nothing: the client's pool connects at the first request."""

    def events(self, request: Mapping[str, Any]) -> Iterator[Any]:
        """Send a request, and iterate over its stream."""
        return iter(self._client.responses.create(stream=True, **request))
