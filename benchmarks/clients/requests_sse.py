"""requests with sseclient-py: each event's data read as JSON."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

import requests
import sseclient

from . import Address


__all__ = ["ServerSentEvents"]


class ServerSentEvents:
    """``for event in sseclient.SSEClient(response).events()``."""

    reads = "dicts"
    endless = False

    def __init__(self, address: Address) -> None:
        self._address = address
        self._session = requests.Session()
        self._session.verify = address.authority_file

    def open(self) -> None:
        """Do nothing: the session connects at the first request."""

    def another(self) -> ServerSentEvents:
        """Return one more session."""
        return ServerSentEvents(self._address)

    def events(self, request: Mapping[str, Any]) -> Iterator[Any]:
        """Send a request, and decode event by event."""
        body = {"stream": True, **request}
        response = self._session.post(self._address.responses_url, json=body, stream=True)
        source = sseclient.SSEClient(response)  # type: ignore[arg-type] # As its documentation does.
        return (json.loads(event.data) for event in source.events())

    def text_of(self, last: Any) -> str:
        """Return the text of the final response."""
        text: str = last["response"]["output"][0]["content"][0]["text"]
        return text

    def hidden_failures(self) -> int:
        """Return 0: it does not connect again by itself."""
        return 0

    def close(self) -> None:
        """Close the pool."""
        self._session.close()
