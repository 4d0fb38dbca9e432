import contextlib
import json
import socket

import pytest
from websockets.exceptions import ConnectionClosed

from llmws.testing import Server, fingerprint, rules
from llmws.wire.framing import TEXT, encode
from tests.testing.client import (
    KEY,
    ask,
    breaking,
    create,
    open_socket,
    raw_socket,
    receive,
    send,
    upgrade,
)


def test_a_rule_that_raises_is_kept_and_the_client_is_told():
    def rule(request):
        yield {"type": "response.created", "response": {"id": "r1"}}
        raise LookupError("no idea")

    with Server(rule=rule) as server, open_socket(server) as ws:
        created, error = ask(ws, create(stream_id="a"))
        failed = receive(ws)
        assert "LookupError: no idea" in error["error"]["message"]
        assert (error["status"], error["stream_id"]) == (500, "a")
        assert failed["response"]["id"] == created["response"]["id"] == "r1"
        assert server.ledger.requests[0].ended == "failed"
        assert [str(each) for each in server.errors] == ["no idea"]
        with pytest.raises(LookupError, match="no idea"):
            server.check()


def test_a_rule_that_raises_at_once_gives_an_error_alone():
    with Server(rule=lambda request: 1 / 0) as server, open_socket(server) as ws:
        [error] = ask(ws, create())
        assert error["error"]["code"] == "rule_failed"
        assert isinstance(server.errors[0], ZeroDivisionError)


def test_a_rule_sees_its_request():
    seen = []

    def rule(request):
        seen.append(request)
        return rules.echo()(request)

    with Server(rule=rule) as server:
        for _ in range(2):
            with open_socket(server, additional_headers={"Authorization": KEY}) as ws:
                ask(ws, create("a", stream_id="x"))
                ask(ws, create("b"))
    first = seen[0]
    assert (first.body["input"], first.input_text, first.model) == ("a", "a", "gpt-6-astra")
    assert [request.lane for request in seen] == ["x", None] * 2
    assert [request.number for request in seen] == [1, 2, 3, 4]
    assert [request.turn for request in seen] == [1, 2] * 2
    assert [request.connection.number for request in seen] == [1, 1, 2, 2]
    assert first.transport == "ws"
    assert first.headers["authorization"] == fingerprint(KEY)


def test_a_rule_may_send_beside_its_answer_and_raw_frames():
    def rule(request):
        request.connection.send({"type": "keepalive"})
        request.connection.send_bytes(encode(TEXT, b'{"type":"raw"}'))
        yield {"type": "response.completed"}

    with Server(rule=rule) as server, open_socket(server) as ws:
        assert [event["type"] for event in ask(ws, create(stream_id="a"))] == [
            "keepalive",
            "raw",
            "response.completed",
        ]


def test_a_rule_may_close_with_a_code():
    with Server(rule=breaking(lambda connection: connection.close(4402, "no credit"))) as server:
        with open_socket(server) as ws:
            send(ws, create())
            receive(ws)
            with pytest.raises(ConnectionClosed):
                ws.recv(timeout=10)
            assert (ws.protocol.close_code, ws.protocol.close_reason) == (4402, "no credit")
        assert server.ledger.wait(lambda ledger: ledger.requests[0].ended == "lost")
        server.check()


@pytest.mark.parametrize("secure", [False, True])
@pytest.mark.parametrize("how", ["drop", "reset"])
def test_a_rule_may_break_the_connection(how, secure, tls):
    server_context, client_context = tls if secure else (None, None)
    rule = breaking(lambda connection: getattr(connection, how)())
    with Server(rule=rule, ssl_context=server_context) as server:
        raw = raw_socket(server, client_context)
        with contextlib.closing(raw):
            upgrade(raw)
            payload = json.dumps(create()).encode()
            raw.sendall(encode(TEXT, payload, mask=b"\0\0\0\0"))
            created = raw.recv(65536)
            assert b"response.created" in created
            assert b"never" not in created
            # Below TLS, which would make an end of file of both.
            if how == "reset":
                with pytest.raises(ConnectionResetError):
                    socket.socket.recv(raw, 1)
            else:
                assert socket.socket.recv(raw, 1) == b""
        assert server.ledger.wait(lambda ledger: ledger.requests[0].ended == "lost")
        server.check()
