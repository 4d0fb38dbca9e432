"""requests with sseclient-py: each event's data read as JSON."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

import requests
import sseclient

from . import Address
from .plain import PlainClient


__all__ = ["ServerSentEvents"]


class ServerSentEvents(PlainClient):
    """``for event in sseclient.SSEClient(response).events()``."""

    endless = False

    def __init__(self, address: Address) -> None:
        super().__init__(address)
        self._connection = requests.Session()
        self._connection.verify = address.authority_file

    def open(self) -> None:
        """Do nothing: the session connects at the first request."""

    def events(self, request: Mapping[str, Any]) -> Iterator[Any]:
        """Send a request, and decode event by event."""
        body = {"stream": True, **request}
        response = self._connection.post(self._address.responses_url, json=body, stream=True)
        source = sseclient.SSEClient(response)  # type: ignore[arg-type] # As its documentation does.
        return (json.loads(event.data) for event in source.events())
