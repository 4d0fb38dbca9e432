"""llmws: a session for each connection, read by events or by chunks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import llmws

from . import Address


__all__ = ["Chunks", "Events"]


class Events:
    """``for event in stream.events()``."""

    reads = "objects"
    endless = False

    def __init__(self, address: Address) -> None:
        self._address = address
        self._tls = address.tls()
        self._session = llmws.Session(base_url=address.base_url, ssl_context=self._tls)
        self._stream: llmws.Stream | None = None

    def open(self) -> None:
        """Do nothing: a session dials at its first turn."""

    def another(self) -> Events:
        """Return a session of the same settings."""
        twin = type(self).__new__(type(self))
        twin._address, twin._tls = self._address, self._tls
        twin._session = llmws.Session(base_url=self._address.base_url, ssl_context=self._tls)
        twin._stream = None
        return twin

    def events(self, request: Mapping[str, Any]) -> Iterator[Any]:
        """Send a request, and iterate over the events."""
        self._stream = self._session.stream(**request)
        return self._stream.events()

    def text_of(self, last: Any) -> str:
        """Return the text of the final response, and let go of the answer, as a caller's own variable would."""
        assert self._stream is not None
        text, self._stream = self._stream.response().text, None
        return text

    def hidden_failures(self) -> int:
        """Return the dials that failed and the connections that were lost: a session dials again by itself."""
        stats = self._session.stats
        return stats.failed_dials + stats.lost

    def close(self) -> None:
        """Close the session."""
        self._session.close()


class Chunks(Events):
    """``for chunk in stream``."""

    reads = "chunks"

    def events(self, request: Mapping[str, Any]) -> Iterator[Any]:
        """Send a request, and iterate over the chunks."""
        self._stream = self._session.stream(**request)
        return iter(self._stream)
