"""Up to the first frame a key goes to the server it is for, and to no other place."""

import os
from urllib.parse import quote

import pytest

import llmws
from llmws.testing import Server
from llmws.testing.record import record
from llmws.wire.endpoint import proxy_for
from tests.secrecy.leaks import Evidence, found_in
from tests.secrecy.scenes import (
    CANARIES,
    WAYS,
    attempt,
    echoing,
    errors_in,
    session_with,
    show,
    turn,
)
from tests.wire import peers
from tests.wire.peers import Peer


def test_a_turn_that_succeeds_shows_no_key(evidence, way, canary, tmp_path):
    path = tmp_path / "recording.jsonl"
    with (
        Server() as server,
        session_with(evidence, way, canary, server.base_url) as session,
        record(session, path) as recorder,
    ):
        turn(evidence, session)
        evidence.add(session.warm_up("Hello"), recorder)
        entries = server.ledger.requests
        evidence.add(server, server.ledger, *entries)
    assert '"dir":"in"' in path.read_text()
    evidence.add_text("recording", path.read_text())
    assert errors_in(evidence) == set()


def test_the_key_does_reach_the_server(canary):
    heads = []
    with Peer(peers.answering(b"HTTP/1.1 401 No\r\n\r\n", heads=heads)) as peer:
        for way in WAYS:
            base_url = f"http://127.0.0.1:{peer.port}/v1"
            with session_with(Evidence(), way, canary, base_url) as session:
                attempt(Evidence(), lambda session=session: session.create("Hello"))
    assert len(heads) == len(WAYS)
    assert all("plain" in found_in(head.decode(), CANARIES[canary]) for head in heads)


@pytest.mark.parametrize("status", [401, 426, 500])
def test_a_refusal_that_echoes_the_request_shows_no_key(evidence, way, canary, status):
    with (
        Peer(echoing(status)) as peer,
        session_with(evidence, way, canary, f"http://127.0.0.1:{peer.port}/v1") as session,
    ):
        turn(evidence, session)
    assert errors_in(evidence) & {"AuthenticationError", "HandshakeError", "UpgradeRefusedError"}


def test_a_connection_that_is_refused_shows_no_key(evidence, some_way, canary):
    with Peer(peers.until_closed) as peer:
        base_url = f"http://127.0.0.1:{peer.port}/v1"
    with session_with(evidence, some_way, canary, base_url) as session:
        turn(evidence, session)
    assert {"ReconnectError", "ConnectionRefusedError"} <= errors_in(evidence)


def test_an_answer_that_is_no_http_shows_no_key(evidence, some_way, canary):
    def script(conn):
        conn.sendall(peers.read_head(conn).split(b"\r\n", 1)[1])

    with (
        Peer(script) as peer,
        session_with(evidence, some_way, canary, f"http://127.0.0.1:{peer.port}/v1") as session,
    ):
        turn(evidence, session)
    assert "HandshakeError" in errors_in(evidence)


def test_a_server_that_is_not_trusted_gets_and_shows_no_key(evidence, way, canary, tls):
    with (
        Server(ssl_context=tls[0]) as server,
        session_with(evidence, way, canary, server.base_url) as session,
    ):
        turn(evidence, session)
        assert server.ledger.connections == 0
    assert {"ConnectError", "SSLCertVerificationError"} <= errors_in(evidence)


@pytest.mark.parametrize("status", [301, 307])
@pytest.mark.parametrize("secure", [False, True], ids=["plain", "tls"])
def test_a_redirect_is_not_followed(evidence, some_way, canary, tls, status, secure):
    server_context, client_context = tls if secure else (None, None)
    scheme, heads = "https" if secure else "http", []
    with Peer(peers.upgrading(heads)) as second:
        target = f"http://127.0.0.1:{second.port}/v1/responses"

        def redirect(conn):
            first = peers.read_head(conn).split(b"\r\n")[0].decode("latin-1")
            query = first.split(" ")[1].partition("?")[2]
            head = f"HTTP/1.1 {status} Moved\r\nLocation: {target}?{query}\r\n\r\n"
            conn.sendall(head.encode())

        with Peer(redirect, server_context) as peer:
            base_url = f"{scheme}://127.0.0.1:{peer.port}/v1"
            with session_with(
                evidence, some_way, canary, base_url, ssl_context=client_context
            ) as session:
                turn(evidence, session)
            assert peer.connections == 1
        assert second.connections == 0
    assert heads == []
    assert "HandshakeError" in errors_in(evidence)


# Credentials that are asked for.


def raising(key):
    namespace = {}
    script = "def ask(key):\n    raise RuntimeError('the vault is closed')"
    exec(compile(script, "vault.py", "exec"), namespace)  # A file whose frames are searched.
    return lambda: namespace["ask"](key)


def returning_a_line(key):
    return lambda: f"{key}\n"


def returning_bytes(key):
    return lambda: key.encode()


def returning_a_dict(key):
    return lambda: {"key": key}


@pytest.mark.parametrize(
    "ask",
    [raising, returning_a_line, returning_bytes, returning_a_dict],
    ids=lambda ask: ask.__name__,
)
def test_a_callable_that_gives_no_key_shows_none(evidence, canary, ask):
    with (
        Server() as server,
        session_with(evidence, lambda key: {"api_key": ask(key)}, canary, server.base_url) as s,
    ):
        turn(evidence, s)
        assert server.ledger.connections == 0
    assert errors_in(evidence) & {"ConnectError", "ConfigurationError"}


# Proxies.


def proxied(monkeypatch, canary, scheme, port):
    password = quote(CANARIES[canary], safe="")
    monkeypatch.setenv("HTTP_PROXY", f"{scheme}://user:{password}@127.0.0.1:{port}")


def through(evidence, server):
    with llmws.Session("m", base_url=server.base_url) as session:
        session._core.connection._jitter = lambda: 0.0
        evidence.add(proxy_for(session._endpoint, os.environ))
        turn(evidence, session)
        show(evidence, session)


def test_a_proxys_password_is_not_shown(evidence, canary, monkeypatch):
    heads = []
    with Server() as server, Peer(peers.connect_proxy(heads)) as proxy:
        proxied(monkeypatch, canary, "http", proxy.port)
        through(evidence, server)
    assert errors_in(evidence) == set()
    assert found_in(heads[0].decode(), CANARIES[canary]) == {"base64"}


def test_a_proxy_that_refuses_and_echoes_shows_no_password(evidence, canary, monkeypatch):
    with Server() as server, Peer(echoing(407)) as proxy:
        proxied(monkeypatch, canary, "http", proxy.port)
        through(evidence, server)
    assert "ConnectError" in errors_in(evidence)


@pytest.mark.parametrize("good", [True, False], ids=["right", "wrong"])
def test_a_socks_proxys_password_is_not_shown(evidence, canary, monkeypatch, good):
    pytest.importorskip("python_socks")
    login = ("user", CANARIES[canary] if good else "other")
    with Server() as server, Peer(peers.socks5_proxy([], login=login)) as proxy:
        proxied(monkeypatch, canary, "socks5h", proxy.port)
        through(evidence, server)
    assert bool(errors_in(evidence)) is not good


@pytest.mark.parametrize(
    "address", ["ftp://u:{}@h", "http://u:{}@h:99999", "https://{}@h", "{}://h"]
)
def test_a_bad_proxy_address_is_not_shown(evidence, canary, monkeypatch, address):
    monkeypatch.setenv("ALL_PROXY", address.format(quote(CANARIES[canary], safe="")))
    attempt(evidence, lambda: llmws.Session("m", base_url="http://127.0.0.1:9/v1"))
    assert errors_in(evidence) == {"ConfigurationError"}
