"""
One dial: from an endpoint to a finished socket, in the calling thread, within one deadline.

Name look-up, TCP, proxy and TLS are ours, because one deadline has to hold over all of them; websocket-client does the
upgrade and python-socks the SOCKS greeting, both on a loan of the socket that can neither outlast the deadline nor
close it. Whoever calls ``dial`` owns the socket it returns; before that, nobody else ever holds it.

Keys: a request exists only in arguments and in frames of the two libraries. What they raise is dropped with its cause,
context and frames, and the loan says what happened instead.
"""

from __future__ import annotations

import base64
import functools
import os
import re
import socket
import ssl
import threading
import time
import traceback
from collections.abc import Mapping
from typing import Any, cast

import attrs

from ..errors import ConfigurationError, ConnectError
from ..secret import Secret, redact
from .backoff import retry_after, retryable_status
from .deadline import Deadline, Loan, TimedSocket
from .endpoint import Endpoint, Proxy, proxy_for
from .upgrade import read_reply, upgrade


__all__ = ["Dialled", "credential_of", "dial"]

# X.509 verify codes of OpenSSL, and what to do about each.
_UNTRUSTED = (
    "its certificate is not signed by an authority that this machine trusts. For a private or a company's authority, "
    "set SSL_CERT_FILE to its certificate, or pass ssl_context=ssl.create_default_context(cafile=…)"
)
_CERTIFICATE_PROBLEMS = {
    9: "its certificate is not valid yet: check this machine's clock",
    10: "its certificate has expired: check this machine's clock, or tell who runs the server",
    18: _UNTRUSTED,
    19: _UNTRUSTED,
    20: _UNTRUSTED,
    21: _UNTRUSTED,
    62: "its certificate is for another host: check the host in the URL",
    64: "its certificate is for another address: give the host by name in the URL",
}
_NO_TLS = ("WRONG_VERSION_NUMBER", "HTTP_REQUEST", "UNKNOWN_PROTOCOL", "RECORD_LAYER_FAILURE")
_OTHER_TLS = ("UNSUPPORTED_PROTOCOL", "ALERT_PROTOCOL_VERSION", "NO_PROTOCOLS_AVAILABLE")


@attrs.frozen
class Dialled:
    """
    A socket ready for frames; whoever receives it owns it.

    Attributes:
        sock: Connected, upgraded and non-blocking; an ``ssl.SSLSocket`` if the endpoint is secure.
        early: Bytes that came after the answer to the upgrade: the first frames.
        headers: The answer's headers, names in lower case, redacted, without cookies.
        seconds: How long the dial took.
        peer: Address and port of the other end of the TCP connection, the proxy's if there is one.
    """

    sock: socket.socket
    early: bytes = attrs.field(repr=False)
    headers: dict[str, str] = attrs.field(repr=False)
    seconds: float
    peer: str


def dial(
    endpoint: Endpoint,
    *,
    timeout: float | None,
    environ: Mapping[str, str] | None = None,
    abandoned: threading.Event | None = None,
) -> Dialled:
    """
    Open one socket to an endpoint, and upgrade it to a WebSocket.

    Blocks; any number of threads may dial at once. The system's name look-up cannot be interrupted, so it may overrun
    the deadline: a caller that cannot wait dials in a thread of its own, sets ``abandoned`` and goes on. What the
    endpoint's functions for headers and credentials raise passes through.

    Args:
        endpoint: Where to, and with what.
        timeout: Seconds for the whole dial; None means no limit.
        environ: Decides on a proxy; None means the process environment.
        abandoned: Once set, the dial ends at its next step: it closes its socket and raises.

    Returns:
        The socket, with what the server said about it.

    Raises:
        ConfigurationError: A proxy variable, the headers or the credentials are not usable; nothing was dialled.
        ConnectTimeout: The time was up; the message names the phase that took it.
        AuthenticationError: HTTP 401 or 403.
        UpgradeRefusedError: HTTP 426.
        HandshakeError: Any other answer that is no WebSocket.
        ConnectError: No connection, no way through the proxy, or no trust.
    """
    try:
        proxy = proxy_for(endpoint, os.environ if environ is None else environ)
    finally:
        environ = None  # It may hold keys, and this frame is in every traceback.
    endpoint = endpoint.asked()
    credential = credential_of(endpoint)
    deadline = Deadline(timeout, abandoned)
    wire = TimedSocket(_tcp(proxy or endpoint, deadline), deadline, str(endpoint))
    try:
        peer = wire.peer()
        if proxy:
            _tunnel(wire, proxy, endpoint)
        if endpoint.secure:
            _tls(wire, endpoint)
        headers = upgrade(wire, endpoint, credential)
        deadline.check_abandoned()
        return Dialled(wire.hand_over(), bytes(wire.inbound), headers, deadline.elapsed(), peer)
    except BaseException:
        wire.inbound.clear()  # A server may have echoed the request, and this frame is in the traceback.
        wire.sock.close()
        raise


def credential_of(endpoint: Endpoint) -> Secret | None:
    """
    Ask for the key of one dial; what the function raises passes through.

    Raises:
        ConfigurationError: It gave something that cannot be sent.
    """
    secret = endpoint.credentials() if endpoint.credentials else None
    if isinstance(secret, Secret) and not re.fullmatch(r"[\x21-\x7e]+", secret.reveal()):
        raise ConfigurationError(
            "The key is empty, or holds a space, a line end or another character that no key has: check its source."
        )
    usable = secret is None or isinstance(secret, Secret)
    secret = secret if usable else None  # A key that is no Secret would show in this frame.
    if not usable:
        raise ConfigurationError(
            "The credentials function returned no Secret: wrap the key in Secret."
        )
    return secret


def _tcp(target: Endpoint | Proxy, deadline: Deadline) -> socket.socket:
    failure = OSError("the name has no address")
    addresses = _look_up(target, deadline)
    deadline.phase = "TCP"
    for index, (family, kind, protocol, _, address) in enumerate(addresses):
        left = deadline.left()
        # Each address gets its share of the time left, so that a dead first one does not use it all up.
        share = None if left is None else left / (len(addresses) - index)
        try:
            return _connected(socket.socket(family, kind, protocol), address, share)
        except OSError as exc:
            failure = exc
    if isinstance(failure, TimeoutError) and failure.errno is None:  # Ours, not ETIMEDOUT.
        raise deadline.overrun() from failure
    raise ConnectError(
        f"No connection to {target}: {failure} (addresses tried: {len(addresses)}). "
        "Check host and port, and whether a firewall or a proxy is in the way."
    ) from failure


def _look_up(target: Endpoint | Proxy, deadline: Deadline) -> list[Any]:
    try:
        addresses = socket.getaddrinfo(target.host, target.port, type=socket.SOCK_STREAM)
    except OSError as exc:
        raise ConnectError(
            f"The name {target.host} was not found: {exc}. Check the name and this machine's DNS."
        ) from exc
    deadline.left()
    return addresses


def _connected(sock: socket.socket, address: Any, timeout: float | None) -> socket.socket:
    try:
        sock.settimeout(timeout)
        sock.connect(address)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    except BaseException:
        sock.close()
        raise
    return sock


def _tunnel(wire: TimedSocket, proxy: Proxy, endpoint: Endpoint) -> None:
    wire.deadline.phase = "proxy"
    wire.name = f"the proxy {proxy}"
    if proxy.scheme == "http":
        _connect_tunnel(wire, proxy, endpoint)
    else:
        _socks_tunnel(wire, proxy, endpoint)
    wire.name = str(endpoint)


def _connect_tunnel(wire: TimedSocket, proxy: Proxy, endpoint: Endpoint) -> None:
    wire.write(_connect_request(proxy, endpoint))
    reply = read_reply(wire)
    if not 200 <= reply.status < 300:
        advice = "Check that it allows this host."
        if reply.status == 407:
            advice = "Check the user name and password in the proxy variable."
        raise ConnectError(
            f"The proxy {proxy} refused the way to {endpoint} with HTTP {reply.status}. {advice}",
            retryable=retryable_status(reply.status),
            retry_after=retry_after(reply.headers, wall_time=time.time()),
        )
    if wire.inbound:
        # Neither TLS nor a WebSocket server speaks first, and these bytes cannot be put back under TLS.
        raise ConnectError(
            f"The proxy {proxy} sent bytes into the tunnel of its own.", retryable=False
        )


def _connect_request(proxy: Proxy, endpoint: Endpoint) -> bytes:
    host = f"[{endpoint.host}]" if ":" in endpoint.host else endpoint.host
    lines = [f"CONNECT {host}:{endpoint.port} HTTP/1.1", f"Host: {host}:{endpoint.port}"]
    if proxy.username is not None:
        password = proxy.password.reveal() if proxy.password else ""
        pair = base64.b64encode(f"{proxy.username}:{password}".encode()).decode("ascii")
        lines.append(f"Proxy-Authorization: Basic {pair}")
    return "\r\n".join([*lines, "", ""]).encode("ascii")


def _socks_tunnel(wire: TimedSocket, proxy: Proxy, endpoint: Endpoint) -> None:
    loan = _SocksLoan(wire)
    problem = _greet_socks(loan, proxy, endpoint)
    if loan.failure:
        raise loan.failure
    if problem:
        raise ConnectError(
            f"The proxy {proxy} did not open the way to {endpoint}: {problem}.",
            # The same user name and password are refused again, and may be locked for it.
            retryable="authentication" not in problem.lower(),
        )


def _greet_socks(loan: _SocksLoan, proxy: Proxy, endpoint: Endpoint) -> str:
    import python_socks
    import python_socks.sync

    try:
        python_socks.sync.Proxy(
            python_socks.ProxyType.SOCKS5,
            proxy.host,
            proxy.port,
            username=proxy.username,
            password=proxy.password.reveal() if proxy.password else None,
            rdns=proxy.scheme == "socks5h",
            forward=cast(Any, loan),
        ).connect(endpoint.host, endpoint.port)
    except (python_socks.ProxyError, python_socks.ProxyTimeoutError, OSError, ValueError) as exc:
        return redact(str(exc), proxy.password) or type(exc).__name__
    except BaseException as exc:
        # An interrupt, or a defect: it passes, but its frames and context hold the password.
        exc.__context__ = exc.__traceback__ = None
        raise exc from None
    return ""


class _SocksLoan(Loan):
    """Stands in for "the proxy before this one": its connection stands already."""

    def connect(self, **_: object) -> _SocksLoan:
        return self


def _tls(wire: TimedSocket, endpoint: Endpoint) -> None:
    wire.deadline.phase = "TLS"
    context = endpoint.ssl_context or _default_context(
        ssl.SSLContext, os.environ.get("SSL_CERT_FILE"), os.environ.get("SSL_CERT_DIR")
    )
    left = wire.deadline.left()
    try:
        # Two steps: once wrapped, the descriptor belongs to the new object, and that is what the dial has to close.
        wire.sock = context.wrap_socket(
            wire.sock, server_hostname=endpoint.host.rstrip("."), do_handshake_on_connect=False
        )
        wire.sock.settimeout(left)
        wire.sock.do_handshake()
    except ssl.SSLError as exc:
        raise _distrust(endpoint, exc) from exc
    except OSError as exc:
        _close_unfinished(exc)
        raise wire.broken(exc) from exc


def _close_unfinished(exc: OSError) -> None:
    """Close what ``wrap_socket`` was making of a socket that was just then reset: only its own frame knows of it."""
    for frame, _ in traceback.walk_tb(exc.__traceback__):
        made = frame.f_locals.get("self")
        if isinstance(made, ssl.SSLSocket):
            made.close()


@functools.lru_cache(maxsize=2)
def _default_context(
    kind: type[ssl.SSLContext], cert_file: str | None, cert_dir: str | None
) -> ssl.SSLContext:
    """
    Return the context for these two variables, which OpenSSL reads itself; loading the CAs takes milliseconds.

    Also for this kind of context: gevent replaces the class, and its sockets do not work with the one before.
    """
    context = ssl.create_default_context()
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    return context


def _distrust(endpoint: Endpoint, exc: ssl.SSLError) -> ConnectError:
    reason = exc.reason or ""
    if isinstance(exc, ssl.SSLCertVerificationError):
        problem = _CERTIFICATE_PROBLEMS.get(exc.verify_code, exc.verify_message)
    elif reason.endswith(_NO_TLS):
        problem = "it does not speak TLS there: check the port, or use ws or http if it is on this machine"
    elif reason.endswith(_OTHER_TLS):
        problem = "it speaks no version of TLS that is allowed here (1.2 or later, or what ssl_context says)"
    else:
        problem = str(exc)
    # A peer that goes away in the middle is a network's failure, not a matter of trust.
    gone = isinstance(exc, (ssl.SSLEOFError, ssl.SSLZeroReturnError))
    return ConnectError(f"No TLS with {endpoint}: {problem}.", retryable=gone)
