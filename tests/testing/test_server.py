import contextlib
import json
import os
import re
import socket
import ssl
import subprocess
import sys
import threading

import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus

from llmws.errors import ConfigurationError
from llmws.testing import Server, rules
from llmws.testing.refusals import RefuseUpgrade
from llmws.wire.framing import TEXT, encode
from tests.testing.client import (
    ROOT,
    TERMINAL,
    address,
    ask,
    create,
    open_socket,
    raw_socket,
    receive,
    send,
    text_of,
    upgrade,
)


def threads():
    return [thread.name for thread in threading.enumerate() if "llmws-testing" in thread.name]


def descriptors():
    return len(os.listdir("/dev/fd"))


@pytest.mark.skipif(not os.path.isdir("/dev/fd"), reason="descriptors cannot be counted here")
@pytest.mark.parametrize("secure", [False, True])
def test_close_ends_everything_and_leaves_nothing(secure, tls_without_tickets):
    server_context, client_context = tls_without_tickets if secure else (None, None)
    before = descriptors()

    def rule(request):
        yield {"type": "response.created", "response": {"id": "r"}}
        request.connection.closed.wait()

    server = Server(rule=rule, ssl_context=server_context)
    idle = raw_socket(server)  # Neither speaks TLS nor HTTP.
    sockets = [open_socket(server, ssl=client_context) for _ in range(3)]
    for ws in sockets:
        send(ws, create())
        send(ws, create(stream_id="a"))
        receive(ws)
    assert threads()
    server.close()
    server.close()
    assert threads() == []
    for ws in sockets:
        with contextlib.suppress(ConnectionClosed):
            while ws.recv(timeout=10):
                pass
        assert ws.protocol.close_code == 1006
        ws.close()
    idle.close()
    assert descriptors() == before


def test_close_does_not_wait_for_a_client_that_does_not_read():
    def rule(request):
        while True:
            yield {"type": "x", "filler": "x" * 1_000_000}

    with Server(rule=rule) as server, contextlib.closing(raw_socket(server)) as raw:
        upgrade(raw)
        raw.sendall(encode(TEXT, json.dumps(create()).encode(), mask=b"abcd"))
        assert raw.recv(1)
        assert server.ledger.wait(lambda ledger: ledger.requests[0].started is not None)
        server.close()
        assert threads() == []


def test_close_ends_the_delay_between_events():
    with Server(delay=3600.0) as server, open_socket(server) as ws:
        send(ws, create())
        assert receive(ws)["type"] == "response.created"
        server.close()
        assert threads() == []
        assert server.ledger.requests[0].ended == "lost"


def test_the_port_can_be_chosen_and_is_free_again_afterwards():
    with Server() as server:
        port = address(server)[1]
        with pytest.raises(OSError, match="in use"):
            Server(port=port)
    with Server(port=port) as server:
        assert server.base_url == f"http://127.0.0.1:{port}/v1"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("rule", "echo"),
        ("rule", [{"type": "response.completed"}]),
        ("ssl_context", True),
        ("ssl_context", "cert.pem"),
        ("port", -1),
        ("port", 65_536),
        ("port", "80"),
        ("port", None),
        ("chunk_bytes", 0),
        ("chunk_bytes", -1),
        ("chunk_bytes", 1.5),
        ("delay", -0.1),
        ("delay", float("nan")),
        ("delay", float("inf")),
        ("delay", "1"),
        ("delay", None),
    ],
)
def test_an_argument_that_makes_no_sense_is_refused_and_nothing_serves(name, value):
    with pytest.raises(ConfigurationError, match=f"^{name} is {re.escape(repr(value))}: give "):
        Server(**{name: value})
    assert threads() == []


def test_a_client_of_tls_is_answered_at_once_by_a_server_without():
    with Server() as server, contextlib.closing(raw_socket(server)) as raw:
        raw.sendall(b"\x16\x03\x01\x02\x00\x01")  # A ClientHello's beginning; it then waits.
        assert raw.recv(1000).startswith(b"HTTP/1.1 400 ")
        raw.shutdown(socket.SHUT_WR)
    with Server() as server, pytest.raises(ssl.SSLError, match=r"WRONG_VERSION|RECORD_LAYER"):
        raw_socket(server, ssl.create_default_context())


def test_over_tls_several_lanes_write_while_the_client_writes(tls_without_tickets):
    server_context, client_context = tls_without_tickets
    with Server(rule=rules.text("y" * 4000), ssl_context=server_context) as server:
        assert server.base_url.startswith("https://")
        with open_socket(server, ssl=client_context) as ws:
            for number in range(8):
                send(ws, create("x" * 100_000, stream_id=f"l{number}"))
            texts, ended = {}, 0
            while ended < 8:
                event = receive(ws)
                texts.setdefault(event["stream_id"], []).append(event)
                ended += event["type"] in TERMINAL
        assert {text_of(events) for events in texts.values()} == {"y" * 4000}
        server.check()


def test_a_client_that_refuses_the_certificate_disturbs_nobody(tls_without_tickets):
    server_context, client_context = tls_without_tickets
    with Server(ssl_context=server_context) as server:
        with pytest.raises(ssl.SSLCertVerificationError):
            raw_socket(server, ssl.create_default_context())
        with open_socket(server, ssl=client_context) as ws:
            assert text_of(ask(ws, create())) == "Hello there"


def test_importing_the_server_imports_no_test_tools():
    script = (
        "import sys, llmws.testing\n"
        "tools = {'pytest', 'trustme', 'requests', 'websocket', 'tenacity', 'asyncio'}\n"
        "sys.exit(', '.join(sorted(tools & set(sys.modules))) or None)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=30
    )
    assert (done.stderr, done.returncode) == ("", 0)


def test_upgrades_can_be_refused_some_times():
    refusal = RefuseUpgrade(
        status=503, headers={"Retry-After": "1"}, body="Later.", times=2, after=1
    )
    with Server(refuse_upgrade=refusal) as server:
        codes = []
        for _ in range(4):
            try:
                with open_socket(server) as ws:
                    codes.append(len(ask(ws, create())) > 1)
            except InvalidStatus as error:
                codes.append((error.response.status_code, error.response.body))
        assert codes == [True, (503, b"Later."), (503, b"Later."), True]
        assert server.ledger.connections == 2
