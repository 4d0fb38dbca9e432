"""websockets: its threaded client, each message read as JSON."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from websockets.sync.client import connect

from .plain import PlainClient


__all__ = ["Sync"]


class Sync(PlainClient):
    """``for message in connection``."""

    def open(self) -> None:
        """Connect and upgrade."""
        self._connection = connect(self._address.websocket_url, ssl=self._tls, max_size=None)

    def events(self, request: Mapping[str, Any]) -> Iterator[Any]:
        """Send a request, and decode message by message."""
        self._connection.send(json.dumps({"type": "response.create", **request}))
        return (json.loads(message) for message in self._connection)
