"""
The measured clients: each does the same work in the way its documentation shows.

A client opens a connection, gives an iterator of what the server said to a request, and closes. The loops over those
events (``reading``) and what is timed around them (``tasks``) are the same for all.
"""

from __future__ import annotations

import importlib
import ssl
from collections.abc import Iterator, Mapping
from typing import Any, Literal, Protocol, cast

import attrs


__all__ = ["CLIENTS", "Address", "Client", "Make", "make"]


@attrs.frozen
class Address:
    """
    Where the server is.

    Attributes:
        base_url: ``http`` or ``https``, up to and with ``/v1``.
        authority_file: What verifies the server's certificate.
    """

    base_url: str
    authority_file: str

    @property
    def websocket_url(self) -> str:
        """The URL of the upgrade."""
        return f"ws{self.base_url.removeprefix('http')}/responses"

    @property
    def responses_url(self) -> str:
        """The URL of a request over HTTP."""
        return f"{self.base_url}/responses"

    def tls(self) -> ssl.SSLContext | None:
        """Return a context that verifies the server's certificate; None without TLS."""
        if not self.base_url.startswith("https"):
            return None
        return ssl.create_default_context(cafile=self.authority_file)


class Client(Protocol):
    """
    One client of the server.

    Attributes:
        reads: What its iterators give: objects with ``type`` and ``delta``, dicts, or chunks with ``text``.
        endless: Whether its iterators go on after the answer, as those of a connection do.
    """

    reads: Literal["objects", "dicts", "chunks"]
    endless: bool

    def open(self) -> None:
        """Connect."""

    def another(self) -> Client:
        """Return a client with a connection of its own that shares all that users would share."""

    def events(self, request: Mapping[str, Any]) -> Iterator[Any]:
        """Send a request, and iterate over the answer."""

    def text_of(self, last: Any) -> str:
        """Return the whole text of the answer whose last event this is."""

    def hidden_failures(self) -> int:
        """Return how many connections failed without an exception, because the client dialled again."""

    def close(self) -> None:
        """Disconnect."""


@attrs.frozen
class Make:
    """
    How a client is made.

    Attributes:
        title: What tables call it.
        module: The module, in this package.
        kind: The class.
        options: What its constructor takes besides the address.
        without: Packages that are made impossible to import first.
        needs: Distributions that have to be installed.
    """

    title: str
    module: str
    kind: str
    options: Mapping[str, Any] = attrs.field(factory=dict)
    without: tuple[str, ...] = ()
    needs: tuple[str, ...] = ()


def _llmws(title: str, kind: str, *, fast: bool) -> Make:
    """Describe llmws as installed with the extra ``fast``, or without it."""
    if fast:
        return Make(f"llmws[fast], {title}", "llmws_session", kind, needs=("llmws", "msgspec"))
    return Make(f"llmws, {title}", "llmws_session", kind, without=("msgspec",), needs=("llmws",))


def _openai(title: str, kind: str) -> Make:
    return Make(f"openai, {title}", "openai_sdk", kind, needs=("openai", "websockets"))


def _websocket_client(title: str, *, skip_utf8_validation: bool) -> Make:
    options = {"skip_utf8_validation": skip_utf8_validation}
    return Make(title, "websocket_client", "Plain", options, needs=("websocket-client",))


CLIENTS: dict[str, Make] = {
    "llmws-fast": _llmws("events", "Events", fast=True),
    "llmws-stdlib": _llmws("events", "Events", fast=False),
    "llmws-fast-chunks": _llmws("chunks", "Chunks", fast=True),
    "llmws-stdlib-chunks": _llmws("chunks", "Chunks", fast=False),
    "openai": _openai("responses.connect()", "Connection"),
    "openai-lanes": _openai("lanes session", "Lanes"),
    "openai-sse": _openai("stream=True", "ServerSentEvents"),
    "websockets": Make("websockets + json", "websockets_sync", "Sync", needs=("websockets",)),
    "websocket-client": _websocket_client(
        "websocket-client, no UTF-8 check + json", skip_utf8_validation=True
    ),
    "websocket-client-default": _websocket_client(
        "websocket-client + json", skip_utf8_validation=False
    ),
    "requests-sse": Make(
        "requests + sseclient-py + json",
        "requests_sse",
        "ServerSentEvents",
        needs=("requests", "sseclient-py"),
    ),
    "owner-thread": Make(
        "raw socket with an owner thread + msgspec",
        "owner_thread",
        "OwnerThread",
        needs=("msgspec",),
    ),
    "raw-msgspec": Make("raw socket + msgspec", "raw", "Fast", needs=("msgspec",)),
    "raw-json": Make("raw socket + json", "raw", "Stdlib"),
}


def make(name: str, address: Address) -> Client:
    """Import and make a client by its name in ``CLIENTS``."""
    chosen = CLIENTS[name]
    module = importlib.import_module(f".{chosen.module}", __package__)
    return cast(Client, getattr(module, chosen.kind)(address, **chosen.options))
