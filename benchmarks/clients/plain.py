"""What clients have in common that give each event as the dict that JSON makes of it."""

from __future__ import annotations

from typing import Any, Literal

from . import Address


__all__ = ["PlainClient"]


class PlainClient:
    """A client of one connection, which does not dial again by itself; its class says how it reads."""

    reads: Literal["dicts"] = "dicts"
    endless = True

    _connection: Any

    def __init__(self, address: Address, **options: Any) -> None:
        self._address = address
        self._options = options
        self._tls = address.tls()

    def another(self) -> PlainClient:
        """Return one more connection to the same server."""
        return type(self)(self._address, **self._options)

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
