"""
The few requests that go over HTTP: to the same server, with the same key, as the socket's.

requests is imported at the first one: a program that needs none should not pay for it.
"""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING, Any

from ..errors import ConnectError, ConnectTimeout, RemoteProtocolError
from ..secret import mask
from ..timeouts import Timeouts
from ..wire import jsoncodec
from ..wire.endpoint import Endpoint
from .apierrors import api_error


if TYPE_CHECKING:
    import requests

__all__ = ["post_json"]

# Of an answer that is no JSON, what is kept.
_FAULT_BYTES = 512


def post_json(
    endpoint: Endpoint, path: str, body: dict[str, Any], timeouts: Timeouts
) -> dict[str, Any]:
    """
    Post JSON to a path beside the socket's and return the answer's.

    Args:
        endpoint: The socket's; its path ends with ``/responses``.
        path: Such as ``/responses/compact``.
        body: What to post.
        timeouts: ``connect``, and ``first_event`` for the answer.

    Raises:
        APIError: The server refused.
        ConfigurationError: What a callable gave for key or headers cannot be sent.
        ConnectError: The server could not be reached, or did not answer in time.
        RemoteProtocolError: The answer is no JSON object.
    """
    import requests

    endpoint = endpoint.asked()
    secrets = list(endpoint.secrets())
    key = endpoint.credentials() if endpoint.credentials is not None else None
    headers = {name: value.reveal() for name, value in endpoint.headers}
    if key is not None:
        secrets.append(key)
        headers["Authorization"] = f"Bearer {key.reveal()}"
    problem: Exception | None = None
    answer: requests.Response | None = None
    try:
        with _session(endpoint.ssl_context) as session:
            answer = session.post(
                _url(endpoint, path),
                data=jsoncodec.encode(body),
                headers={**headers, "Content-Type": "application/json"},
                timeout=(timeouts.connect, timeouts.first_event),
                allow_redirects=False,
            )
    except requests.Timeout:
        problem = ConnectTimeout(f"No answer from {endpoint} to POST {path} in time.")
    except requests.RequestException as exc:
        # Not chained: it may quote the URL, and that a key.
        problem = ConnectError(f"POST {path} at {endpoint} failed: {type(exc).__name__}.")
    finally:
        headers = {}  # A traceback may show this frame's variables.
    if problem is not None or answer is None:
        raise problem or ConnectError(f"POST {path} at {endpoint} failed.")
    return _read(answer, secrets)


def _url(endpoint: Endpoint, path: str) -> str:
    scheme, _, rest = endpoint.url.partition("://")
    place, mark, query = rest.partition("?")
    return f"{'https' if scheme == 'wss' else 'http'}://{place.removesuffix('/responses')}{path}{mark}{query}"


def _session(context: ssl.SSLContext | None) -> requests.Session:
    import requests
    from requests.adapters import HTTPAdapter

    class Adapter(HTTPAdapter):
        """Verifies certificates as the socket does."""

        def init_poolmanager(self, *args: Any, **options: Any) -> None:
            super().init_poolmanager(*args, **options, ssl_context=context)

    session = requests.Session()
    # Neither .netrc nor cookies: the key is the session's alone. Proxies are, as the socket's.
    session.auth = _no_auth
    if context is not None:
        session.mount("https://", Adapter())
    return session


def _no_auth(request: Any) -> Any:
    return request


def _read(answer: requests.Response, secrets: list[Any]) -> dict[str, Any]:
    try:
        found = jsoncodec.decode(answer.content)
    except jsoncodec.JSONError:
        found = None
    if answer.status_code >= 400:
        error = found.get("error") if isinstance(found, dict) else None
        said = mask(error if isinstance(error, dict) else {}, secrets)
        headers = {name.lower(): value for name, value in answer.headers.items()}
        texts = {name: said.get(name) for name in ("message", "type", "code", "param")}
        known = {name: text if isinstance(text, str) else None for name, text in texts.items()}
        raise api_error(
            message=known["message"] or f"The server answered with status {answer.status_code}",
            status=answer.status_code,
            type=known["type"],
            code=known["code"],
            param=known["param"],
            headers=headers,
        )
    if not isinstance(found, dict):
        raise RemoteProtocolError(
            "The server's answer is no JSON object.",
            raw=mask(answer.content[: 2 * _FAULT_BYTES], secrets)[:_FAULT_BYTES],
            state="output",
            may_have_been_billed=True,
        )
    return found
