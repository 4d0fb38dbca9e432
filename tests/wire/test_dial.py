from __future__ import annotations

import base64
import contextlib
import datetime
import ipaddress
import itertools
import logging
import signal
import socket
import ssl
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import trustme
import websocket  # Its import is no part of any deadline below.
from websocket import _handshake

import llmws.wire.dial as dial_module
import llmws.wire.upgrade as upgrade_module
from llmws.errors import (
    AuthenticationError,
    ConfigurationError,
    ConnectError,
    ConnectTimeout,
    HandshakeError,
    UpgradeRefusedError,
)
from llmws.secret import Secret
from llmws.wire.deadline import Loan, TimedSocket
from llmws.wire.dial import Dialled, dial
from llmws.wire.endpoint import Endpoint
from tests.wire.peers import (
    Peer,
    Script,
    answering,
    connect_proxy,
    read_head,
    socks5_proxy,
    switching,
    until_closed,
    upgrading,
)


# No pattern of the redaction knows these: only care keeps them out of errors.
KEY = "canary-2f9b41c7d0"
PASSWORD = "canary-pass-77aa01"
CANARIES = (KEY, PASSWORD, base64.b64encode(f"user:{PASSWORD}".encode()).decode())
OK_TIMEOUT = 10.0
# For what must end in time: several of the pauses of a peer that drips.
LIMIT = 0.15


def to(peer: Peer, *, host: str = "127.0.0.1", scheme: str = "ws", **arguments: object) -> Endpoint:
    """An endpoint with the canary in every place a key may be in."""
    arguments.setdefault("credentials", lambda: Secret(KEY))
    arguments.setdefault("headers", {"X-Api-Key": f"{KEY}-header"})
    url = f"{scheme}://{host}:{peer.port}/v1/responses?key={KEY}-query"
    return Endpoint.build(url, allow_insecure=True, **arguments)  # type: ignore[arg-type]


@contextlib.contextmanager
def opened(endpoint: Endpoint, environ: Mapping[str, str] | None = None) -> Iterator[Dialled]:
    dialled = dial(endpoint, timeout=OK_TIMEOUT, environ=environ or {})
    with dialled.sock:
        yield dialled


def family(
    error: BaseException | None, seen: tuple[BaseException, ...] = ()
) -> list[BaseException]:
    """An error with all its causes and contexts, also the suppressed ones."""
    if error is None or error in seen:
        return []
    seen = (*seen, error)
    return [error, *family(error.__cause__, seen), *family(error.__context__, seen)]


def leaks(error: BaseException) -> list[str]:
    """Where a canary shows: texts, attributes, and the locals of all frames but those of tests."""
    texts = []
    for one in family(error):
        texts += [str(one), repr(one), f"{vars(one)}"]
        walk = traceback.TracebackException.from_exception(one, capture_locals=True)
        texts += [
            f"{frame.filename} {frame.name}: {frame.locals}"
            for frame in walk.stack
            if "tests" not in frame.filename
        ]
    return [text for text in texts if any(canary in text for canary in CANARIES)]


def failure(
    endpoint: Endpoint,
    kind: type[ConnectError] = ConnectError,
    *,
    timeout: float | None = OK_TIMEOUT,
    environ: Mapping[str, str] | None = None,
) -> ConnectError:
    """Dial, and return the error, of exactly this class and clean of every canary."""
    with pytest.raises(ConnectError) as caught:
        dial(endpoint, timeout=timeout, environ={"OPENAI_API_KEY": KEY, **(environ or {})})
    assert type(caught.value) is kind, repr(caught.value)
    assert leaks(caught.value) == []
    assert not any(isinstance(one, websocket.WebSocketException) for one in family(caught.value))
    return caught.value


def refusal(
    answer: bytes, kind: type[HandshakeError] = HandshakeError, *, close: bool = True
) -> HandshakeError:
    with Peer(answering(answer, close=close)) as peer:
        error = failure(to(peer), kind)
    assert isinstance(error, HandshakeError)
    return error


# What works


def test_a_dial_hands_over_an_upgraded_socket_that_does_not_block() -> None:
    heads: list[bytes] = []
    with Peer(upgrading(heads, extra="X-Request-Id: req_1\r\n")) as peer:
        with opened(to(peer)) as dialled:
            assert dialled.sock.getblocking() is False
            assert dialled.sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
            assert dialled.sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
            assert dialled.early == b""
            assert dialled.headers["x-request-id"] == "req_1"
            assert dialled.peer == f"127.0.0.1:{peer.port}"
            assert 0 < dialled.seconds < OK_TIMEOUT
            assert KEY not in repr(dialled)
        lines = heads[0].decode().split("\r\n")
        assert lines[0] == f"GET /v1/responses?key={KEY}-query HTTP/1.1"
        assert f"Host: 127.0.0.1:{peer.port}" in lines
        assert f"Authorization: Bearer {KEY}" in lines
        assert f"X-Api-Key: {KEY}-header" in lines
        names = [line.partition(":")[0].lower() for line in lines[1:] if line]
        assert not {"origin", "cookie", "sec-websocket-extensions", "sec-websocket-protocol"} & set(
            names
        )
        assert len(names) == len(set(names))


def test_credentials_are_asked_at_each_dial() -> None:
    heads: list[bytes] = []
    keys = (Secret(f"{KEY}-{n}") for n in itertools.count(1))
    with Peer(upgrading(heads)) as peer:
        endpoint = to(peer, credentials=lambda: next(keys))
        for _ in range(2):
            with opened(endpoint):
                pass
        with opened(to(peer, credentials=lambda: None)):
            pass
    assert [f"Bearer {KEY}-{n}\r\n".encode() in head for n, head in enumerate(heads, 1)] == [
        True,
        True,
        False,
    ]
    assert b"Authorization" not in heads[2]


def test_frames_in_the_same_segment_as_the_answer_are_early() -> None:
    early = b"\x81\x02hi" + bytes(range(256)) * 20
    with Peer(upgrading(early=early)) as peer, opened(to(peer)) as dialled:
        dialled.sock.settimeout(OK_TIMEOUT)
        data = dialled.early
        while len(data) < len(early):
            data += dialled.sock.recv(65536)
    assert data == early
    assert dialled.early.startswith(b"\x81\x02hi")


def test_a_header_value_goes_out_as_latin_1() -> None:
    heads: list[bytes] = []
    with Peer(upgrading(heads)) as peer, opened(to(peer, headers={"X-Title": "Café"})):
        pass
    assert b"X-Title: Caf\xe9\r\n" in heads[0]


def test_an_answer_in_many_pieces_with_bare_line_feeds_is_read() -> None:
    def script(conn: socket.socket) -> None:
        for byte in switching(read_head(conn)).replace(b"\r\n", b"\n"):
            conn.sendall(bytes([byte]))
        until_closed(conn)

    with Peer(script) as peer, opened(to(peer)) as dialled:
        assert dialled.headers["upgrade"] == "websocket"


def test_an_ipv6_address_is_dialled() -> None:
    if not has_ipv6():
        pytest.skip("this machine has no IPv6 loopback")
    heads: list[bytes] = []
    with Peer(upgrading(heads), host="::1") as peer, opened(to(peer, host="[::1]")) as dialled:
        assert dialled.peer == f"[::1]:{peer.port}"
    assert f"Host: [::1]:{peer.port}\r\n".encode() in heads[0]


def has_ipv6() -> bool:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        return False
    return True


def test_the_next_address_is_tried_when_the_first_refuses(monkeypatch: pytest.MonkeyPatch) -> None:
    with Peer(upgrading()) as peer:
        addresses = [("127.0.0.1", closed_port()), ("127.0.0.1", peer.port)]
        resolve_to(monkeypatch, addresses)
        with opened(to(peer, host="two.example")) as dialled:
            assert dialled.peer == f"127.0.0.1:{peer.port}"


def test_a_dead_first_address_does_not_use_up_all_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    with Peer(upgrading()) as peer, black_hole() as dead:
        resolve_to(monkeypatch, [("127.0.0.1", dead), ("127.0.0.1", peer.port)])
        dialled = dial(to(peer, host="two.example"), timeout=1.0, environ={})
        dialled.sock.close()
    assert 0.5 <= dialled.seconds < 1.0


def resolve_to(monkeypatch: pytest.MonkeyPatch, addresses: list[tuple[str, int]]) -> None:
    found = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", address) for address in addresses]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)


def closed_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
    return port


@contextlib.contextmanager
def black_hole() -> Iterator[int]:
    """A port that answers no SYN: its queue of connections is full."""
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(socket.socket())
        server.bind(("127.0.0.1", 0))
        server.listen(0)
        for _ in range(8):
            filler = stack.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(server.getsockname())
        probe = stack.enter_context(socket.socket())
        probe.settimeout(0.2)
        with contextlib.suppress(TimeoutError):
            probe.connect(server.getsockname())
            pytest.skip("this system takes more connections than its queue holds")
        yield server.getsockname()[1]


# TCP and names


def test_a_refused_connection_may_be_dialled_again() -> None:
    with Peer(upgrading()) as peer:
        endpoint = to(peer)
    error = failure(endpoint)
    assert error.retryable
    assert f"ws://127.0.0.1:{peer.port}" in str(error)


def test_an_unknown_name_may_be_looked_up_again(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*_: object, **__: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    error = failure(Endpoint.build("wss://nowhere.example", credentials=lambda: Secret(KEY)))
    assert error.retryable
    assert "nowhere.example" in str(error)
    assert isinstance(error.__cause__, socket.gaierror)


# Deadlines


def drip(conn: socket.socket) -> None:
    """Answer with a head that never ends."""
    read_head(conn)
    conn.sendall(b"HTTP/1.1 101 Switching Protocols\r\nX: ")
    drip_on(conn)


def drip_on(conn: socket.socket) -> None:
    """Keep the client's reads busy, a byte each 20 ms, until it goes away."""
    conn.settimeout(0.02)
    gone = False
    while not gone:
        conn.sendall(b"x")
        with contextlib.suppress(TimeoutError):
            gone = conn.recv(1) == b""


def in_time(endpoint: Endpoint, phase: str, environ: Mapping[str, str] | None = None) -> None:
    started = time.monotonic()
    error = failure(endpoint, ConnectTimeout, timeout=LIMIT, environ=environ)
    took = time.monotonic() - started
    assert LIMIT <= took < LIMIT * 1.1 + 1.0  # The constant is for a busy machine.
    assert isinstance(error, TimeoutError)
    assert repr(phase) in str(error)
    assert error.retryable


@pytest.mark.parametrize("script", [until_closed, drip])
def test_a_slow_upgrade_ends_at_the_deadline(script: Script) -> None:
    with Peer(script) as peer:
        in_time(to(peer), "upgrade")


def test_a_silent_peer_under_tls_ends_at_the_deadline() -> None:
    with Peer(until_closed) as peer:
        in_time(to(peer, scheme="wss"), "TLS")


@pytest.mark.parametrize("scheme", ["http", "socks5h"])
@pytest.mark.parametrize("slow", [until_closed, drip])
def test_a_slow_proxy_ends_at_the_deadline(scheme: str, slow: Script) -> None:
    def dripping_socks(conn: socket.socket) -> None:
        conn.sendall(b"\x05\x00\x05\x00\x00\x03\xff")
        drip_on(conn)

    script = dripping_socks if slow is drip and scheme == "socks5h" else slow
    with Peer(until_closed) as peer, Peer(script) as proxy:
        in_time(to(peer), "proxy", {"http_proxy": f"{scheme}://127.0.0.1:{proxy.port}"})


def test_a_host_that_does_not_answer_ends_at_the_deadline() -> None:
    with black_hole() as port:
        in_time(Endpoint.build(f"ws://127.0.0.1:{port}"), "TCP")


def test_a_name_look_up_counts_against_the_deadline() -> None:
    error = failure(Endpoint.build("ws://localhost:1"), ConnectTimeout, timeout=1e-9)
    assert "'name look-up'" in str(error)


def test_no_deadline_is_no_limit() -> None:
    with Peer(upgrading()) as peer:
        dial(to(peer), timeout=None, environ={}).sock.close()


def test_an_abandoned_dial_closes_its_socket_and_raises() -> None:
    abandoned = threading.Event()
    gone = threading.Event()

    def script(conn: socket.socket) -> None:
        head = read_head(conn)
        abandoned.set()
        try:
            conn.sendall(switching(head))
            until_closed(conn)
        finally:  # A client that closes with bytes unread resets the connection.
            gone.set()

    with Peer(script) as peer:
        with pytest.raises(ConnectError, match="abandoned"):
            dial(to(peer), timeout=OK_TIMEOUT, environ={}, abandoned=abandoned)
        assert gone.wait(5)


def test_a_dial_that_is_abandoned_at_its_very_end_closes_its_socket(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    abandoned = threading.Event()
    gone = threading.Event()

    def script(conn: socket.socket) -> None:
        try:
            upgrading()(conn)
        finally:
            gone.set()

    def upgrade(*arguments: Any) -> dict[str, str]:
        headers = upgrade_module.upgrade(*arguments)
        abandoned.set()
        return headers

    monkeypatch.setattr(dial_module, "upgrade", upgrade)
    with Peer(script) as peer:
        with pytest.raises(ConnectError, match="abandoned"):
            dial(to(peer), timeout=OK_TIMEOUT, environ={}, abandoned=abandoned)
        assert gone.wait(5)


def test_an_interrupt_passes_and_shows_no_key() -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    def script(conn: socket.socket) -> None:
        read_head(conn)
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGUSR1)
        until_closed(conn)

    before = signal.signal(signal.SIGUSR1, interrupted)
    try:
        with Peer(script) as peer, pytest.raises(KeyboardInterrupt) as caught:
            dial(to(peer), timeout=OK_TIMEOUT, environ={})
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert leaks(caught.value) == []


# Answers that are no WebSocket


@pytest.mark.parametrize(
    ("status", "kind", "retryable"),
    [
        (400, HandshakeError, False),
        (401, AuthenticationError, False),
        (403, AuthenticationError, False),
        (404, HandshakeError, False),
        (408, HandshakeError, True),
        (426, UpgradeRefusedError, False),
        (429, HandshakeError, True),
        (500, HandshakeError, True),
        (503, HandshakeError, True),
        (200, HandshakeError, False),
    ],
)
def test_a_status_decides_on_the_error_and_the_retry(
    status: int, kind: type[HandshakeError], retryable: bool
) -> None:
    echo = f'{{"error": "no {KEY} here, nor {KEY}-query, nor {KEY}-header"}}'.encode()
    error = refusal(
        b"HTTP/1.1 %d Because %s\r\nX-Request-ID: req_7\r\nX-Echo: %s\r\nSet-Cookie: a=b\r\n"
        b"Content-Length: %d\r\n\r\n%s" % (status, KEY.encode(), KEY.encode(), len(echo), echo),
        kind,
        close=False,
    )
    assert error.status == status
    assert error.retryable is retryable
    assert error.headers["x-request-id"] == "req_7"
    assert "set-cookie" not in error.headers
    assert error.body.startswith('{"error": "no [redacted]')
    assert f"HTTP {status}" in str(error)
    assert "[redacted]" in str(error)


def test_the_wait_that_the_server_asks_for_is_kept() -> None:
    assert (
        refusal(b"HTTP/1.1 429 No\r\nRetry-After: 7\r\nContent-Length: 0\r\n\r\n").retry_after == 7
    )
    assert refusal(b"HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n").retry_after is None


def test_a_chunked_body_is_read_to_its_end() -> None:
    started = time.monotonic()
    error = refusal(
        b"HTTP/1.1 401 No\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n7;x=y\r\n, world\r\n0\r\n\r\n",
        AuthenticationError,
        close=False,
    )
    assert error.body == "hello, world"
    assert time.monotonic() - started < 1.5


def test_a_body_without_a_length_ends_with_the_connection() -> None:
    assert refusal(b"HTTP/1.1 500 No\r\n\r\nwhole body").body == "whole body"


@pytest.mark.parametrize("length", [b"1000000000000", b"-5", b"9" * 5000, b"12, 13", b"x"])
def test_a_lying_length_does_not_hide_the_status(length: bytes) -> None:
    error = refusal(b"HTTP/1.1 500 No\r\nContent-Length: %s\r\n\r\nshort" % length)
    assert (error.status, error.body) == (500, "short")


def test_a_body_that_never_comes_is_not_waited_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upgrade_module, "_BODY_SECONDS", 0.2)
    started = time.monotonic()
    error = refusal(
        b"HTTP/1.1 401 No\r\nContent-Length: 100\r\n\r\npart", AuthenticationError, close=False
    )
    assert error.body == "part"
    assert time.monotonic() - started < 2


def test_a_huge_body_is_cut() -> None:
    sent = []

    def script(conn: socket.socket) -> None:
        read_head(conn)
        conn.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 65536)
        conn.sendall(b"HTTP/1.1 500 No\r\nContent-Length: 200000000\r\n\r\n")
        for _ in range(3000):
            conn.sendall(b"x" * 65536)
            sent.append(65536)

    with Peer(script) as peer:
        error = failure(to(peer), HandshakeError)
    assert isinstance(error, HandshakeError)
    assert error.body == "x" * 2048
    assert len(str(error)) < 1000
    assert sum(sent) < 50_000_000


def test_a_head_without_end_is_refused() -> None:
    head = b"HTTP/1.1 101 OK\r\n" + b"".join(b"X-%d: y\r\n" % n for n in range(20_000)) + b"\r\n"
    error = refusal(head)
    assert "65536 bytes" in str(error)
    assert not error.retryable


@pytest.mark.parametrize(
    "answer",
    [
        b"SSH-2.0-OpenSSH_9.6\r\n",
        b"HTTP/1.1 abc Nope\r\n\r\n",
        b"HTTP/1.1 0 Nope\r\n\r\n",
        b"HTTP/2 101 Nope\r\n\r\n",
        b"HTTP/1.1 101 OK\r\nno colon\r\n\r\n",
        b"HTTP/1.1 101 OK\r\n folded: line\r\n\r\n",
        b"\x15\x03\x01\x00\x02\x02\x0a",
        KEY.encode() + b"\r\n\r\n",
    ],
)
def test_an_answer_that_is_no_http_is_called_so(answer: bytes) -> None:
    error = refusal(answer, close=False)
    assert error.status is None
    assert "no HTTP" in str(error)


@pytest.mark.parametrize("answer", [b"", b"HTTP/1.1 101 Swit"])
def test_a_server_that_goes_away_may_be_dialled_again(answer: bytes) -> None:
    with Peer(answering(answer)) as peer:
        error = failure(to(peer))
    assert error.retryable
    assert "closed the connection" in str(error)


@pytest.mark.parametrize(
    ("extra", "word"),
    [
        ("Sec-WebSocket-Extensions: permessage-deflate\r\n", "sec-websocket-extensions"),
        ("Sec-WebSocket-Protocol: realtime\r\n", "sec-websocket-protocol"),
        ("Sec-WebSocket-Accept: again\r\n", "Sec-WebSocket-Accept"),
    ],
)
def test_an_answer_that_takes_more_than_was_offered_is_refused(extra: str, word: str) -> None:
    with Peer(upgrading(extra=extra)) as peer:
        error = failure(to(peer), HandshakeError)
    assert word in str(error)
    assert isinstance(error, HandshakeError)
    assert error.status == 101


@pytest.mark.parametrize(
    "answer",
    [
        b"Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: d3Jvbmc=\r\n",
        b"Upgrade: websocket\r\nConnection: Upgrade\r\n",
        b"Upgrade: h2c\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: d3Jvbmc=\r\n",
        b"",
    ],
)
def test_a_wrong_accept_is_refused(answer: bytes) -> None:
    error = refusal(b"HTTP/1.1 101 Switching Protocols\r\n" + answer + b"\r\n", close=False)
    assert "Sec-WebSocket-Accept" in str(error)
    assert not error.retryable


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_an_error_and_the_second_server_never_sees_the_key(status: int) -> None:
    with Peer(upgrading()) as second:
        location = f"ws://localhost:{second.port}/steal?k={KEY}"
        error = refusal(
            f"HTTP/1.1 {status} Moved\r\nLocation: {location}\r\nContent-Length: 0\r\n\r\n".encode()
        )
        assert second.connections == 0
    assert "redirects to localhost" in str(error)
    assert "steal" not in str(error)
    assert not error.retryable


def test_a_redirect_to_nonsense_is_an_error_too() -> None:
    for location in (b"http://[bad/", b"", KEY.encode() + b"://x", b"//" + KEY.encode() + b".evil"):
        error = refusal(b"HTTP/1.1 302 Found\r\nLocation: " + location + b"\r\n\r\n")
        assert error.status == 302


# Cookies


def test_a_cookie_is_never_kept_nor_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    heads: list[bytes] = []
    cookies = "Set-Cookie: a=1; Domain=localhost\r\nset-cookie: b=2; domain=localhost\r\n"
    with Peer(upgrading(heads, extra=cookies)) as peer:
        for _ in range(2):
            with opened(to(peer, host="localhost")) as dialled:
                assert "set-cookie" not in dialled.headers
        assert not _handshake.CookieJar.jar
        # Another part of the program uses the library by itself, and has filled its jar.
        monkeypatch.setattr(_handshake, "CookieJar", type(_handshake.CookieJar)())
        _handshake.CookieJar.add("c=3; Domain=localhost")
        with opened(to(peer, host="localhost")):
            pass
    assert len(heads) == 3
    assert not any(b"cookie" in head.lower() for head in heads)


# TLS


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


def serving(cert: trustme.LeafCert) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    cert.configure_cert(context)
    return context


def trusting(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return context


def test_a_trusted_server_is_dialled_over_tls(authority: trustme.CA) -> None:
    context = trusting(authority)
    options = context.options, context.minimum_version
    early = b"\x81\x02hi"
    with (
        Peer(upgrading(early=early), serving(authority.issue_cert("localhost"))) as peer,
        opened(to(peer, host="localhost", scheme="wss", ssl_context=context)) as dialled,
    ):
        assert isinstance(dialled.sock, ssl.SSLSocket)
        assert dialled.sock.getblocking() is False
        assert dialled.sock.server_hostname == "localhost"
        assert dialled.early == early
    assert (context.options, context.minimum_version) == options


def test_the_systems_authorities_count_and_may_be_named(
    authority: trustme.CA, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Peer(upgrading(), serving(authority.issue_cert("localhost"))) as peer:
        endpoint = to(peer, host="localhost", scheme="wss")
        error = failure(endpoint)
        assert "SSL_CERT_FILE" in str(error)
        authority.cert_pem.write_to_path(tmp_path / "ca.pem")
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
        with opened(endpoint) as dialled:
            assert isinstance(dialled.sock, ssl.SSLSocket)
            assert dialled.sock.version() in ("TLSv1.2", "TLSv1.3")
            assert dialled.sock.context.minimum_version == ssl.TLSVersion.TLSv1_2
            assert dialled.sock.context.check_hostname
        dial_module._default_context.cache_clear()


def test_the_default_context_offers_http_1_alone(
    authority: trustme.CA, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = serving(authority.issue_cert("localhost"))
    server.set_alpn_protocols(["h2", "http/1.1"])
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
    with (
        Peer(upgrading(), server) as peer,
        opened(to(peer, host="localhost", scheme="wss")) as dialled,
    ):
        assert isinstance(dialled.sock, ssl.SSLSocket)
        assert dialled.sock.selected_alpn_protocol() == "http/1.1"


def expired(authority: trustme.CA) -> trustme.LeafCert:
    past = datetime.datetime(2020, 1, 1, tzinfo=datetime.timezone.utc)
    return authority.issue_cert("localhost", not_after=past, not_before=past.replace(year=2019))


def self_signed() -> trustme.LeafCert:
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.timezone.utc)
    cert = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName(
                [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
            ),
            critical=False,
        )
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    return trustme.LeafCert(
        key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()),
        cert.public_bytes(pem),
        [],
    )


@pytest.mark.parametrize(
    ("make", "word"),
    [
        (lambda _: trustme.CA().issue_cert("localhost"), "SSL_CERT_FILE"),
        (lambda _: self_signed(), "SSL_CERT_FILE"),
        (lambda ca: ca.issue_cert("other.example"), "another host"),
        (expired, "expired"),
    ],
    ids=["untrusted", "self-signed", "wrong host", "expired"],
)
def test_a_certificate_problem_is_final_and_says_what_to_do(
    make: Callable[[trustme.CA], trustme.LeafCert], word: str, authority: trustme.CA
) -> None:
    heads: list[bytes] = []
    with Peer(upgrading(heads), serving(make(authority))) as peer:
        endpoint = to(peer, host="localhost", scheme="wss", ssl_context=trusting(authority))
        error = failure(endpoint)
    assert not error.retryable
    assert word in str(error)
    assert isinstance(error.__cause__, ssl.SSLCertVerificationError)
    assert heads == []


def test_a_certificate_without_the_address_says_so(authority: trustme.CA) -> None:
    with Peer(upgrading(), serving(authority.issue_cert("localhost"))) as peer:
        error = failure(to(peer, scheme="wss", ssl_context=trusting(authority)))
    assert "another address" in str(error)


def test_a_server_without_tls_is_called_so() -> None:
    def script(conn: socket.socket) -> None:
        conn.recv(1)
        conn.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        until_closed(conn)

    with Peer(script) as peer:
        error = failure(to(peer, scheme="wss"))
    assert not error.retryable
    assert "does not speak TLS" in str(error)


def test_a_version_of_tls_that_is_too_old_is_final(authority: trustme.CA) -> None:
    client = trusting(authority)
    client.minimum_version = ssl.TLSVersion.TLSv1_3
    server = serving(authority.issue_cert("localhost"))
    server.maximum_version = ssl.TLSVersion.TLSv1_2
    with Peer(upgrading(), server) as peer:
        error = failure(to(peer, host="localhost", scheme="wss", ssl_context=client))
    assert not error.retryable
    assert "no version of TLS" in str(error)


def test_a_server_that_goes_away_during_tls_may_be_dialled_again() -> None:
    with Peer(lambda conn: conn.recv(4096) and None) as peer:
        error = failure(to(peer, scheme="wss"))
    assert error.retryable


# Proxies


def through(proxy: Peer, scheme: str = "http", login: str = "") -> dict[str, str]:
    return {"all_proxy": f"{scheme}://{login}127.0.0.1:{proxy.port}"}


@pytest.mark.parametrize("login", ["", f"user:{PASSWORD}@"])
def test_a_connect_proxy_opens_the_way(login: str, authority: trustme.CA) -> None:
    heads: list[bytes] = []
    inner: list[bytes] = []
    with (
        Peer(upgrading(inner), serving(authority.issue_cert("localhost"))) as peer,
        Peer(connect_proxy(heads)) as proxy,
    ):
        endpoint = to(peer, host="localhost", scheme="wss", ssl_context=trusting(authority))
        with opened(endpoint, through(proxy, login=login)) as dialled:
            assert dialled.peer == f"127.0.0.1:{proxy.port}"
    assert heads[0].startswith(f"CONNECT localhost:{peer.port} HTTP/1.1\r\n".encode())
    assert (f"Proxy-Authorization: Basic {CANARIES[2]}\r\n".encode() in heads[0]) == bool(login)
    assert KEY.encode() not in heads[0]
    assert KEY.encode() in inner[0]
    assert b"Proxy-Authorization" not in inner[0]


def test_an_unencrypted_target_goes_through_connect_too() -> None:
    heads: list[bytes] = []
    with (
        Peer(upgrading()) as peer,
        Peer(connect_proxy(heads)) as proxy,
        opened(to(peer), through(proxy)),
    ):
        pass
    assert heads[0].startswith(b"CONNECT 127.0.0.1:")


@pytest.mark.parametrize(
    ("status", "word", "retryable"),
    [(407, "password", False), (403, "allows", False), (502, "allows", True), (302, "", False)],
)
def test_a_refusing_proxy_is_named_and_its_status_decides_on_the_retry(
    status: int, word: str, retryable: bool
) -> None:
    refusal = b"HTTP/1.1 %d No\r\nRetry-After: 3\r\nX-Echo: %s\r\n\r\n" % (
        status,
        PASSWORD.encode(),
    )
    with Peer(upgrading()) as peer, Peer(connect_proxy([], refusal)) as proxy:
        error = failure(to(peer), environ=through(proxy, login=f"user:{PASSWORD}@"))
        assert peer.connections == 0
    assert f"http://127.0.0.1:{proxy.port}" in str(error)
    assert f"HTTP {status}" in str(error)
    assert word in str(error)
    assert error.retryable is retryable
    assert error.retry_after == 3


def test_a_proxy_that_speaks_in_the_tunnel_is_refused() -> None:
    with Peer(upgrading()) as peer, Peer(connect_proxy([], extra=b"HTTP/1.1 101 Fake")) as proxy:
        error = failure(to(peer), environ=through(proxy))
    assert not error.retryable


def test_a_proxy_that_is_not_there_is_named() -> None:
    with Peer(upgrading()) as peer:
        port = closed_port()
        error = failure(
            to(peer), environ={"http_proxy": f"http://user:{PASSWORD}@127.0.0.1:{port}"}
        )
    assert f"No connection to http://127.0.0.1:{port}" in str(error)
    assert error.retryable


def test_the_error_of_a_target_behind_a_proxy_is_the_targets() -> None:
    answer = b"HTTP/1.1 401 No\r\nContent-Length: 0\r\n\r\n"
    with Peer(answering(answer)) as peer, Peer(connect_proxy([])) as proxy:
        failure(to(peer), AuthenticationError, environ=through(proxy, login=f"user:{PASSWORD}@"))


@pytest.mark.parametrize(
    ("scheme", "seen"),
    [("socks5", ("address", "127.0.0.1")), ("socks5h", ("name", "only-the-proxy-knows.example"))],
)
@pytest.mark.parametrize("login", [None, ("user", PASSWORD)])
def test_a_socks_proxy_opens_the_way_and_the_scheme_says_who_looks_up_the_name(
    scheme: str,
    seen: tuple[str, str],
    login: tuple[str, str] | None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[str] = []
    system = socket.getaddrinfo

    def getaddrinfo(host: str, *arguments: object, **options: object) -> object:
        asked.append(host)
        if host.endswith(".example"):
            host = "127.0.0.1"
        return system(host, *arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    targets: list[tuple[str, str]] = []
    name = "only-the-proxy-knows.example"
    with Peer(upgrading()) as peer, Peer(socks5_proxy(targets, login=login)) as proxy:
        environ = through(proxy, scheme, f"user:{PASSWORD}@" if login else "")
        with opened(to(peer, host=name), environ) as dialled:
            assert dialled.peer == f"127.0.0.1:{proxy.port}"
            assert isinstance(dialled.sock, socket.socket)
    assert targets == [seen]
    assert (name in asked) == (scheme == "socks5")


def test_a_socks_proxy_carries_tls(authority: trustme.CA) -> None:
    with (
        Peer(upgrading(), serving(authority.issue_cert("localhost"))) as peer,
        Peer(socks5_proxy([])) as proxy,
        opened(
            to(peer, host="localhost", scheme="wss", ssl_context=trusting(authority)),
            through(proxy, "socks5h"),
        ) as dialled,
    ):
        assert isinstance(dialled.sock, ssl.SSLSocket)


def test_a_refused_socks_login_is_named_without_the_password() -> None:
    with Peer(upgrading()) as peer, Peer(socks5_proxy([], login=("user", "other"))) as proxy:
        error = failure(to(peer), environ=through(proxy, "socks5h", f"user:{PASSWORD}@"))
        assert peer.connections == 0
    assert f"socks5h://127.0.0.1:{proxy.port}" in str(error)
    assert "authentication" in str(error)
    assert not error.retryable  # They would be refused again, and may be locked for it.


def test_a_socks_proxy_that_wants_another_login_is_not_asked_again() -> None:
    def script(conn: socket.socket) -> None:
        conn.recv(100)
        conn.sendall(b"\x05\xff")  # None of the methods offered will do.
        until_closed(conn)

    with Peer(upgrading()) as peer, Peer(script) as proxy:
        error = failure(to(peer), environ=through(proxy, "socks5h"))
        assert peer.connections == 0
    assert not error.retryable


def test_a_socks_login_that_cannot_be_sent_is_an_error_without_the_password() -> None:
    with Peer(upgrading()) as peer, Peer(socks5_proxy([], login=("user", "x"))) as proxy:
        failure(to(peer), environ=through(proxy, "socks5h", f"user:{PASSWORD}é@"))


def test_a_socks_proxy_that_goes_away_may_be_dialled_again() -> None:
    with Peer(upgrading()) as peer, Peer(lambda conn: conn.recv(1) and None) as proxy:
        error = failure(to(peer), environ=through(proxy, "socks5h", f"user:{PASSWORD}@"))
    assert error.retryable


def test_an_unknown_proxy_scheme_dials_nothing() -> None:
    with Peer(upgrading()) as peer, Peer(upgrading()) as proxy:
        for scheme in ("socks4", "https", "quic"):
            with pytest.raises(ConfigurationError, match=scheme) as caught:
                dial(to(peer), timeout=1, environ=through(proxy, scheme, f"user:{PASSWORD}@"))
            assert leaks(caught.value) == []
        assert peer.connections == proxy.connections == 0


def test_the_process_environment_decides_if_none_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    heads: list[bytes] = []
    with Peer(upgrading()) as peer, Peer(connect_proxy(heads)) as proxy:
        monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{proxy.port}")
        dial(to(peer), timeout=OK_TIMEOUT).sock.close()
    assert len(heads) == 1


# Keys


@pytest.mark.parametrize("bad", ["", f"{KEY}\r\nX: y", f"{KEY} {KEY}", f"{KEY}é"])
def test_a_key_that_cannot_be_one_is_refused_before_dialling(bad: str) -> None:
    with Peer(upgrading()) as peer:
        with pytest.raises(ConfigurationError, match="key") as caught:
            dial(to(peer, credentials=lambda: Secret(bad)), timeout=1, environ={})
        assert leaks(caught.value) == []
        with pytest.raises(ConfigurationError, match="Secret") as caught:
            dial(to(peer, credentials=lambda: f"{KEY}"), timeout=1, environ={})
        assert leaks(caught.value) == []
        assert peer.connections == 0


def wires(error: BaseException) -> list[TimedSocket]:
    """The sockets that an error's tracebacks lead to, as a debugger or a reporter would find them."""
    found = [
        value.wire if isinstance(value, Loan) else value
        for one in family(error)
        for frame, _ in traceback.walk_tb(one.__traceback__)
        for value in frame.f_locals.values()
    ]
    return [value for value in found if isinstance(value, TimedSocket)]


@pytest.mark.parametrize("before", [b"", b"HTTP/1.1 500 No\r\n\r\n", b"HTTP/1.1 101 Yes\r\n\r\n"])
def test_what_a_server_echoes_is_not_kept_by_the_dial_that_failed(before: bytes) -> None:
    echoed: list[bytes] = []

    def script(conn: socket.socket) -> None:
        echoed.append(before + read_head(conn))
        conn.sendall(echoed[0])

    with Peer(script) as peer:
        error = failure(to(peer), HandshakeError)
    assert KEY.encode() in echoed[0]
    assert wires(error)
    assert [bytes(wire.inbound) for wire in wires(error) if wire.inbound] == []


def test_nothing_is_logged_with_a_key(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    with Peer(answering(b"HTTP/1.1 401 No\r\nContent-Length: 0\r\n\r\n")) as peer:
        failure(to(peer), AuthenticationError)
    assert not any(canary in caplog.text for canary in CANARIES)


def test_the_leak_scan_finds_a_planted_key_in_texts_locals_and_contexts() -> None:
    namespace: dict[str, Callable[[str], None]] = {}
    source = """
def in_locals(key):
    raise ValueError("clean")

def in_context(key):
    try:
        in_locals(key)
    except ValueError:
        pass_on = KeyError("clean")
    try:
        in_locals(key)
    except ValueError:
        key = ""
        raise pass_on from None

def in_text(text):
    key, text = text, ""
    error = ValueError(key)
    key = ""
    raise error
"""
    exec(compile(source, "/planted.py", "exec"), namespace)
    for plant in ("in_locals", "in_context", "in_text"):
        with pytest.raises((ValueError, KeyError)) as caught:
            namespace[plant](KEY)
        assert leaks(caught.value), plant
