"""websocket-client, as it is: each message read as JSON."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

import websocket

from .plain import PlainClient


__all__ = ["Plain"]


class Plain(PlainClient):
    """``connection.recv()``."""

    def open(self) -> None:
        """Connect and upgrade."""
        sslopt = {"context": self._tls} if self._tls else None
        self._connection = websocket.create_connection(
            self._address.websocket_url, sslopt=sslopt, **self._options
        )

    def events(self, request: Mapping[str, Any]) -> Iterator[Any]:
        """Send a request, and decode message by message."""
        self._connection.send(json.dumps({"type": "response.create", **request}))
        return map(json.loads, iter(self._connection.recv, ""))
