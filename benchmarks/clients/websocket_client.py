"""websocket-client, as it is: each message read as JSON."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

import websocket

from . import Address


__all__ = ["Plain"]


class Plain:
    """``connection.recv()``."""

    reads = "dicts"
    endless = True

    def __init__(self, address: Address, *, skip_utf8_validation: bool = False) -> None:
        self._address = address
        self._skip = skip_utf8_validation
        self._tls = address.tls()

    def open(self) -> None:
        """Connect and upgrade."""
        sslopt = {"context": self._tls} if self._tls else None
        self._connection = websocket.create_connection(
            self._address.websocket_url, sslopt=sslopt, skip_utf8_validation=self._skip
        )

    def another(self) -> Plain:
        """Return one more connection to the same server."""
        return Plain(self._address, skip_utf8_validation=self._skip)

    def events(self, request: Mapping[str, Any]) -> Iterator[Any]:
        """Send a request, and decode message by message."""
        self._connection.send(json.dumps({"type": "response.create", **request}))
        return map(json.loads, iter(self._connection.recv, ""))

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
