"""
What a dial needs to know: address, headers, credentials, TLS, and the way through a proxy.

Pure: nothing here opens a socket or reads the process environment. URLs, header values and proxy addresses may hold
keys, and a traceback that shows locals shows the arguments of every frame. So the functions that look at such a value
never raise: they return what is wrong with it, and their callers forget the value before they raise.
"""

from __future__ import annotations

import importlib.util
import ipaddress
import re
import ssl
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

import attrs

from ..errors import ConfigurationError
from ..secret import Secret, redact


__all__ = ["Endpoint", "Proxy", "key_like", "proxy_for"]

_SCHEMES = {"http": "ws", "https": "wss", "ws": "ws", "wss": "wss"}
_PORTS = {"ws": 80, "wss": 443, "http": 80, "socks5": 1080, "socks5h": 1080}
_RESERVED = frozenset(["host", "upgrade", "connection", "content-length", "transfer-encoding"])

_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_FIELD_VALUE = re.compile(r"[\t\x20-\x7e\xa0-\xff]*")
_UNSAFE = re.compile(r"[\x00-\x20\x7f-\x9f\\]")
_BRACKETED = re.compile(r"\[[0-9A-Fa-f.]*:[0-9A-Fa-f:.]*\](?::[0-9]*)?")
_NAME = re.compile(r"(?=.{1,253}\Z)[a-z0-9_-]{1,63}(?:\.[a-z0-9_-]{1,63})*\.?")
_HOLDS_A_KEY = re.compile(r"(?i)auth|key|token|secret|cookie|passw|credential|signature")


@attrs.frozen(repr=False)
class Endpoint:
    """
    One place to dial; made by ``build``, which checks everything.

    Immutable and safe to share between threads. Its repr and str show no query, no header value and no key.

    Attributes:
        url: The normalised ``ws`` or ``wss`` URL. Its query may hold a key.
        headers: Extra request headers; values are kept as secrets, because any of them may be one.
        credentials: Called at each dial for the bearer token; None, or a result of None, sends no
            ``Authorization``.
        ssl_context: Used untouched for TLS; None means the system's CAs, TLS 1.2 or later.
        ask_headers: Called at each dial, by way of ``asked()``, for further headers; they go before ``headers`` of the
            same name, and an ``Authorization`` among them before ``credentials``. None: there are no others.
    """

    url: str
    headers: tuple[tuple[str, Secret], ...] = ()
    credentials: Callable[[], Secret | None] | None = None
    ssl_context: ssl.SSLContext | None = None
    ask_headers: Callable[[], Mapping[str, str]] | None = None

    @classmethod
    def build(
        cls,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        credentials: Callable[[], Secret | None] | None = None,
        ssl_context: ssl.SSLContext | None = None,
        ask_headers: Callable[[], Mapping[str, str]] | None = None,
        allow_insecure: bool = False,
    ) -> Endpoint:
        """
        Check and normalise what a dial needs.

        Args:
            url: ``https``, ``wss``, ``http`` or ``ws``; ``http`` means ``ws`` and ``https`` means ``wss``.
            headers: Extra request headers. Those that make the upgrade itself are refused.
            credentials: See the class.
            ssl_context: See the class.
            ask_headers: See the class; not called here.
            allow_insecure: Allow ``ws`` to a host that is not this machine: everybody on the way reads the key.

        Raises:
            ConfigurationError: Something is not usable; the message never holds a value that may be a key.
        """
        problem = _url_problem(url) or _headers_problem(headers or {}, credentials)
        endpoint = None
        if not problem:
            fields = _fields(headers or {})
            endpoint = cls(_normalise(url), fields, credentials, ssl_context, ask_headers)
        url, headers, credentials, ask_headers = "", None, None, None
        if endpoint is None:
            raise ConfigurationError(problem)
        if not (endpoint.secure or endpoint.is_loopback or allow_insecure):
            raise ConfigurationError(
                f"{endpoint} is not encrypted, so everybody on the way could read the key: use wss or https, "
                "or pass allow_insecure=True."
            )
        return endpoint

    def asked(self) -> Endpoint:
        """
        Return the endpoint as one dial takes it: with the headers that ``ask_headers`` gives now.

        Called once by each dial, on its own thread and without a lock. What the function raises passes through.

        Raises:
            ConfigurationError: It gave something else than headers that can be sent; the message holds no value.
        """
        if self.ask_headers is None:
            return self
        given: tuple[Any, ...] = (self.ask_headers(),)
        problem = _headers_problem(given[0], None)
        fields = () if problem else _fields(given[0])
        given = ()
        if problem:
            raise ConfigurationError(
                f"What the headers callable returned cannot be sent. {problem}"
            )
        names = {name.lower() for name, _ in fields}
        kept = tuple((name, text) for name, text in self.headers if name.lower() not in names)
        credentials = None if "authorization" in names else self.credentials
        return attrs.evolve(
            self, headers=(*kept, *fields), credentials=credentials, ask_headers=None
        )

    @property
    def secure(self) -> bool:
        """Whether the socket speaks TLS."""
        return self.url.startswith("wss:")

    @property
    def host(self) -> str:
        """The host as name look-up and TLS need it: lower case, IDNA-encoded, an IPv6 address without brackets."""
        return urlsplit(self.url).hostname or ""

    @property
    def port(self) -> int:
        """The port, the scheme's own if the URL names none."""
        parts = urlsplit(self.url)
        return parts.port or _PORTS[parts.scheme]

    @property
    def host_header(self) -> str:
        """The value of the ``Host`` header: the port only where it is not the scheme's own."""
        return urlsplit(self.url).netloc

    @property
    def resource(self) -> str:
        """Path and query as the request line has them. The query may hold a key."""
        parts = urlsplit(self.url)
        return f"{parts.path}?{parts.query}" if parts.query else parts.path

    @property
    def is_loopback(self) -> bool:
        """Whether the host is this machine: ``localhost``, 127.0.0.0/8 or ``::1``."""
        address = _ip_address(self.host)
        return address.is_loopback if address else self.host.rstrip(".") == "localhost"

    def secrets(self) -> tuple[Secret, ...]:
        """Return what must not appear in a text about this endpoint, besides the credentials."""
        query = parse_qsl(urlsplit(self.url).query)
        return key_like([*((name, text.reveal()) for name, text in self.headers), *query])

    def __str__(self) -> str:
        return self.url.partition("?")[0]

    def __repr__(self) -> str:
        names = ", ".join(name for name, _ in self.headers)
        more = " and more asked at each dial" if self.ask_headers else ""
        return f"<Endpoint {self} headers=[{names}]{more}>"


@attrs.frozen
class Proxy:
    """
    A proxy on the way to an endpoint.

    Attributes:
        scheme: ``http`` (CONNECT), ``socks5`` (names are looked up here) or ``socks5h`` (by the proxy).
        host: As ``Endpoint.host``.
        port: The scheme's own if the address names none.
        username: None if the address has none.
        password: None if the address has none.
    """

    scheme: str
    host: str
    port: int
    username: str | None = attrs.field(default=None, repr=False)
    password: Secret | None = None

    def __str__(self) -> str:
        return f"{self.scheme}://{_bracketed(self.host)}:{self.port}"


def key_like(fields: Iterable[tuple[Any, Any]]) -> tuple[Secret, ...]:
    """Return the values of those fields whose names say that they are keys, as a whole and without their scheme."""
    return tuple(
        Secret(text)
        for name, value in fields
        if isinstance(name, str) and isinstance(value, str) and _HOLDS_A_KEY.search(name)
        for text in dict.fromkeys((value.strip(), value.strip().split(" ")[-1]))
        if len(text) > 5
    )


def proxy_for(endpoint: Endpoint, environ: Mapping[str, str]) -> Proxy | None:
    """
    Choose the proxy for an endpoint by the rules of ``requests``.

    Written afresh because requests looks at ``os.environ`` alone, and changes it while it looks. Besides what requests
    does, ``NO_PROXY`` may hold IPv6 networks and ports of addresses, and a port there also matches if the URL leaves
    it out.

    Args:
        endpoint: Where to go: ``HTTPS_PROXY`` is for ``wss``, ``HTTP_PROXY`` for ``ws``, ``ALL_PROXY`` for both.
        environ: The environment that decides; lower-case names win.

    Returns:
        The proxy, or None if the endpoint is dialled directly.

    Raises:
        ConfigurationError: The variable holds something else than a usable proxy address.
    """
    name, address = _proxy_variable(endpoint.secure, environ)
    bypassed = _bypassed(endpoint, environ.get("no_proxy") or environ.get("NO_PROXY") or "")
    environ = {}  # It holds whatever keys the program has.
    if not address or bypassed:
        return None
    proxy = _read_proxy(address.reveal())
    if isinstance(proxy, str):
        raise ConfigurationError(f"The proxy address in {name} {proxy}")
    if proxy.scheme != "http" and importlib.util.find_spec("python_socks") is None:
        raise ConfigurationError(
            f'{name} names a {proxy.scheme} proxy: install what that needs with pip install "llmws[socks]".'
        )
    return proxy


def _url_problem(url: str) -> str:
    if not isinstance(url, str) or not url:
        return "The URL is no text: give one such as https://api.openai.com/v1."
    if _UNSAFE.search(url):
        return "The URL holds a space, a backslash or a control character: percent-encode it."
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return "The URL has a bad host or port."
    if parts.scheme not in _SCHEMES:
        return f"The URL's scheme is {redact(parts.scheme)!r}: use https, wss, http or ws."
    return _parts_problem(parts, port, "#" in url)


def _parts_problem(parts: SplitResult, port: int | None, has_fragment: bool) -> str:
    if "@" in parts.netloc:
        return "The URL holds a user name or password: give keys as credentials or headers."
    if not _host(parts):
        return "The URL has no valid host."
    if port == 0 or parts.netloc.endswith(":"):
        return "The URL's port is none: give one from 1 to 65535, or leave it out."
    if has_fragment:
        return "The URL holds a fragment (#…): leave it out."
    if not f"{parts.path}{parts.query}".isascii():
        return "The URL's path or query is not ASCII: percent-encode it."
    return ""


def _normalise(url: str) -> str:
    parts = urlsplit(url)
    scheme = _SCHEMES[parts.scheme]
    netloc = _bracketed(_host(parts))
    if parts.port and parts.port != _PORTS[scheme]:
        netloc += f":{parts.port}"
    # websocket-client cuts a path at its last ";".
    path = (parts.path or "/").replace(";", "%3B")
    return f"{scheme}://{netloc}{path}" + (f"?{parts.query}" if parts.query else "")


def _fields(headers: Mapping[str, str]) -> tuple[tuple[str, Secret], ...]:
    return tuple((name, Secret(text.strip())) for name, text in headers.items())


def _headers_problem(
    headers: Mapping[str, str], credentials: Callable[[], Secret | None] | None
) -> str:
    if not (credentials is None or callable(credentials)):
        return "The credentials are no function: give one that returns a Secret."
    if not isinstance(headers, Mapping):
        return (
            f"The headers are of type {type(headers).__name__}: give a mapping of names to values."
        )
    for name, value in headers.items():
        if not isinstance(name, str) or not _TOKEN.fullmatch(name):
            return "A header name is no RFC 9110 token: use letters, digits and hyphens."
        lower = name.lower()
        shown = redact(name)
        if lower in _RESERVED or lower.startswith("sec-websocket-"):
            return f"The header {shown} belongs to the upgrade itself: leave it out."
        if lower == "authorization" and credentials:
            return "Both credentials and an Authorization header are given: give one of them."
        if not isinstance(value, str) or not _FIELD_VALUE.fullmatch(value):
            return f"The value of header {shown} is no text, or holds a control or non-latin-1 character."
    return ""


def _host(parts: SplitResult) -> str:
    """Return a host ready for use, or "" if there is none or it is bad."""
    host = parts.hostname or ""
    if "[" in parts.netloc.rpartition("@")[2]:
        # Before Python 3.11.4, urlsplit takes anything for an address in brackets.
        whole = _BRACKETED.fullmatch(parts.netloc.rpartition("@")[2])
        return host if whole and _ip_address(host) else ""
    if not host.isascii():
        import idna  # What requests uses; needed by few.

        try:
            host = idna.encode(host, uts46=True).decode("ascii")
        except UnicodeError:
            return ""
    return host if _NAME.fullmatch(host) else ""


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _ip_address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


def _proxy_variable(secure: bool, environ: Mapping[str, str]) -> tuple[str, Secret]:
    for scheme in ("https" if secure else "http", "all"):
        # An empty lower-case variable hides the other one. Under CGI, HTTP_PROXY is what a request's Proxy header says.
        names = [f"{scheme}_proxy", f"{scheme}_proxy".upper()]
        if scheme == "http" and "REQUEST_METHOD" in environ:
            names.pop()
        name = next((name for name in names if name in environ), "")
        if environ.get(name):
            return name, Secret(environ[name].strip())
    return "", Secret("")


def _bypassed(endpoint: Endpoint, no_proxy: str) -> bool:
    host = endpoint.host.rstrip(".")
    address = _ip_address(host)
    for name in _no_proxy_names(no_proxy, endpoint.port):
        if name == "*" or name == host or (host.endswith(f".{name}") and not address):
            return True
        if address and _in_network(address, name):
            return True
    return False


def _no_proxy_names(no_proxy: str, port: int) -> Iterator[str]:
    for entry in no_proxy.replace(" ", "").lower().split(","):
        if entry.startswith("[") or entry.count(":") == 1:
            entry = entry.removesuffix(f":{port}").strip("[]")
        if name := entry.lstrip(".").rstrip("."):
            yield name


def _in_network(address: ipaddress.IPv4Address | ipaddress.IPv6Address, name: str) -> bool:
    try:
        return address in ipaddress.ip_network(name, strict=False)
    except ValueError:
        return False


def _read_proxy(text: str) -> Proxy | str:
    """Return the proxy at an address, or what is wrong with the address."""
    try:
        parts = urlsplit(text if "://" in text else f"http://{text}")
        port = parts.port
    except ValueError:
        return "has a bad host or port."
    if parts.scheme == "https":
        return "is an https one, which is not supported: use the proxy's http or socks5 address."
    if parts.scheme not in ("http", "socks5", "socks5h"):
        return f"has the scheme {redact(parts.scheme)!r}: use http, socks5 or socks5h."
    host = _host(parts)
    if not host or _UNSAFE.search(text):
        return "has no valid host, or holds a space or a control character."
    return Proxy(
        scheme=parts.scheme,
        host=host,
        port=port or _PORTS[parts.scheme],
        username=unquote(parts.username) if parts.username else None,
        password=Secret(unquote(parts.password)) if parts.password else None,
    )
