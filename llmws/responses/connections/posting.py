"""How requests is made to post as the socket is dialled: with the same trust, and with no key in a log."""

from __future__ import annotations

import io
import logging
import re
import ssl
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ...secret import REDACTED, Secret, mask, redact
from ...wire.endpoint import Endpoint


if TYPE_CHECKING:
    import requests

__all__ = ["Payload", "adapter_for", "headers_of", "mask_logs", "masked", "url_of"]

# Who in urllib3 logs a request's address, and so maybe a key in its query.
_LOGGERS = ("urllib3.connectionpool", "urllib3.connection", "urllib3.util.retry")


class Payload(io.BytesIO):
    """A request's body, which tells of each piece that is taken, and whether there is more."""

    def __init__(self, payload: bytes, give_out: Callable[[bool], None]) -> None:
        super().__init__(payload)
        self._size_bytes = len(payload)
        self._give_out = give_out

    def read(self, size: int | None = -1, /) -> bytes:
        """Return the next piece, and tell of it."""
        piece = super().read(size)
        self._give_out(self.tell() < self._size_bytes)
        return piece


class _Lent:
    """The session's SSL context, as urllib3 may use it: what it sets, and the CAs that it adds, stay here."""

    def __init__(self, context: ssl.SSLContext, host: str) -> None:
        self._context = context
        self._host = host

    def __getattr__(self, name: str) -> Any:
        return getattr(self._context, name)

    def set_alpn_protocols(self, protocols: list[str]) -> None:
        """Leave them as they are."""

    def wrap_socket(self, sock: Any, **options: Any) -> Any:
        """Name the host, which urllib3 1 keeps to itself if it is an address."""
        return self._context.wrap_socket(sock, **{**options, "server_hostname": self._host})


def adapter_for(endpoint: Endpoint, made: Callable[[Any], None]) -> requests.adapters.HTTPAdapter:
    """
    Return what dials an endpoint for requests, and trusts whom the socket trusts.

    Args:
        endpoint: The socket's.
        made: Told of each of urllib3's connections before it dials.
    """
    from requests.adapters import HTTPAdapter

    class Adapter(HTTPAdapter):
        def cert_verify(self, conn: Any, url: Any, verify: Any, cert: Any) -> None:
            """Have the pool trust whom the socket trusts, and show the connection that it makes."""
            if url.startswith("https"):
                # The context verifies the certificate and the name, if it is to.
                context = endpoint.ssl_context or ssl.create_default_context()
                conn.conn_kw["ssl_context"] = _Lent(context, endpoint.host.rstrip("."))
                conn.cert_reqs, conn.assert_hostname = "CERT_REQUIRED", False
            kind = conn.ConnectionCls

            def connection(*args: Any, **options: Any) -> Any:
                connection = kind(*args, **options)
                made(connection)
                return connection

            conn.ConnectionCls = connection

    return Adapter()


class _Masking(logging.Filter):
    """Masks keys in what urllib3 logs of our own requests, on their threads; what others log stays as it is."""

    def filter(self, record: logging.LogRecord) -> bool:
        secrets = getattr(_posting, "secrets", None)
        if secrets is not None:
            record.msg, record.args = masked(record.getMessage(), secrets), ()
            record.exc_info = None  # It may quote what the server quotes.
        return True


_masking = _Masking()
_posting = threading.local()


def mask_logs(secrets: list[Secret]) -> None:
    """Mask secrets, also those that are added yet, in what urllib3 logs on this thread."""
    _posting.secrets = secrets
    for name in _LOGGERS:
        logging.getLogger(name).addFilter(_masking)  # Once: it is the same each time.


def masked(text: str, secrets: list[Secret]) -> str:
    """Return a text of a library without keys, in whatever way the query of an address spells them."""
    text = re.sub(r"\?[^\s\"')]+", f"?{REDACTED}", text)
    return redact(mask(text, secrets), *secrets)


def url_of(endpoint: Endpoint, path: str) -> str:
    """Return the address of a path beside the socket's."""
    place, mark, query = endpoint.resource.partition("?")
    scheme = "https" if endpoint.secure else "http"
    return f"{scheme}://{endpoint.host_header}{place.removesuffix('/responses')}{path}{mark}{query}"


def headers_of(endpoint: Endpoint, credential: Secret | None) -> dict[str, str]:
    """Return the headers of a request with a JSON body."""
    return {
        "accept": "application/json",
        **{name.lower(): value.reveal() for name, value in endpoint.headers},
        **({"authorization": f"Bearer {credential.reveal()}"} if credential else {}),
        "connection": "close",
        "content-type": "application/json",
    }
