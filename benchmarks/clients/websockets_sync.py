"""websockets: its threaded client, each message read as JSON."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from websockets.sync.client import connect

from . import Address


__all__ = ["Sync"]


class Sync:
    """``for message in connection``."""

    reads = "dicts"
    endless = True

    def __init__(self, address: Address) -> None:
        self._address = address
        self._tls = address.tls()

    def open(self) -> None:
        """Connect and upgrade."""
        self._connection = connect(self._address.websocket_url, ssl=self._tls, max_size=None)

    def another(self) -> Sync:
        """Return one more connection to the same server."""
        return Sync(self._address)

    def events(self, request: Mapping[str, Any]) -> Iterator[Any]:
        """Send a request, and decode message by message."""
        self._connection.send(json.dumps({"type": "response.create", **request}))
        return (json.loads(message) for message in self._connection)

    def text_of(self, last: Any) -> str:
        """Return the text of the final response."""
        text: str = last["response"]["output"][0]["content"][0]["text"]
        return text

    def hidden_failures(self) -> int:
        """Return 0: it does not dial again."""
        return 0

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()
