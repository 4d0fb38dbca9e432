"""The few requests that go over HTTP, to an embedded server and to bare sockets."""

from __future__ import annotations

import email.utils
import socket
import threading
import time

import pytest

import llmws
from llmws.errors import (
    APIError,
    AuthenticationError,
    ConfigurationError,
    ConnectError,
    ConnectTimeout,
    RateLimitError,
    RemoteProtocolError,
)
from llmws.responses.http import post_json
from llmws.secret import Secret
from llmws.testing import Server
from llmws.timeouts import Timeouts
from llmws.wire.endpoint import Endpoint


KEY = "sk-canary-0123456789abcdef"
TIMEOUTS = Timeouts(connect=5.0, first_event=5.0)


def endpoint_at(base_url, **options):
    return Endpoint.build(f"{base_url}/responses", credentials=lambda: Secret(KEY), **options)


@pytest.fixture
def answering():
    """Return a function that serves one canned HTTP answer, and gives the base URL and what was asked."""
    listeners = []

    def serve(answer):
        listener = socket.create_server(("127.0.0.1", 0))
        listeners.append(listener)
        asked = []

        def once():
            connection, _ = listener.accept()
            with connection:
                data = b""
                while b"\r\n\r\n" not in data or b"}" not in data:
                    data += connection.recv(65_536)
                asked.append(data)
                connection.sendall(answer)

        threading.Thread(target=once, daemon=True).start()
        return f"http://127.0.0.1:{listener.getsockname()[1]}/v1", asked

    yield serve
    for listener in listeners:
        listener.close()


def canned(status, body, headers=""):
    return (
        f"HTTP/1.1 {status} Whatever\r\nContent-Length: {len(body)}\r\nConnection: close\r\n{headers}\r\n"
    ).encode() + body


def test_the_answer_comes_back_as_an_object(answering):
    base_url, asked = answering(canned(200, b'{"ok":true}'))
    body = {"model": "m", "input": [{"é": 1}]}
    assert post_json(endpoint_at(base_url), "/responses/compact", body, TIMEOUTS) == {"ok": True}
    head, _, sent = asked[0].partition(b"\r\n\r\n")
    assert head.startswith(b"POST /v1/responses/compact HTTP/1.1\r\n")
    assert f"authorization: bearer {KEY}".encode() in head.lower()
    assert sent == '{"model":"m","input":[{"é":1}]}'.encode()


def test_the_headers_and_the_query_of_the_socket_go_with_it(answering):
    base_url, asked = answering(canned(200, b"{}"))
    endpoint = Endpoint.build(
        f"{base_url}/responses?api-version=1", headers={"OpenAI-Project": "p"}
    )
    post_json(endpoint, "/responses/compact", {}, TIMEOUTS)
    assert asked[0].startswith(b"POST /v1/responses/compact?api-version=1 ")
    assert b"openai-project: p" in asked[0].lower()
    assert b"authorization" not in asked[0].lower()


@pytest.mark.parametrize(
    ("status", "body", "kind", "words"),
    [
        (400, b'{"error":{"message":"Too short.","code":"c","param":"p"}}', APIError, "Too short"),
        (429, b'{"error":{"message":"Slow down."}}', RateLimitError, "Slow down"),
        (500, b"<html>", APIError, "status 500"),
        (404, b'{"error":"no"}', APIError, "status 404"),
    ],
)
def test_a_refusal_is_the_apis_error(answering, status, body, kind, words):
    base_url, _ = answering(canned(status, body, "Retry-After: 3\r\n"))
    with pytest.raises(kind, match=words) as caught:
        post_json(endpoint_at(base_url), "/responses/compact", {}, TIMEOUTS)
    assert caught.value.status == status


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_refusal_says_how_long_to_wait_as_seconds_or_as_a_date(answering, status):
    date = email.utils.formatdate(time.time() + 40, usegmt=True)
    for words, least, most in (("3", 3, 3), (date, 30, 41)):
        base_url, _ = answering(canned(status, b"{}", f"Retry-After: {words}\r\n"))
        with pytest.raises(APIError) as caught:
            post_json(endpoint_at(base_url), "/responses/compact", {}, TIMEOUTS)
        assert least <= caught.value.retry_after <= most


def test_headers_are_asked_for_at_each_request(answering):
    values = iter([{"X-Turn": "1"}, {"X-Turn": "2", "Authorization": "Custom abc"}])
    for turn, authorization in (("1", f"bearer {KEY}"), ("2", "custom abc")):
        base_url, asked = answering(canned(200, b"{}"))
        endpoint = endpoint_at(base_url, headers={"x-turn": "0"}, ask_headers=lambda: next(values))
        post_json(endpoint, "/responses/compact", {}, TIMEOUTS)
        head = asked[0].partition(b"\r\n\r\n")[0].decode().lower()
        assert head.count("x-turn:") == head.count("authorization:") == 1
        assert f"x-turn: {turn}\r\n" in head
        assert f"authorization: {authorization}" in head


@pytest.mark.parametrize("given", [None, {"Host": KEY}, {"X-Own": f"{KEY}\n"}, [("X-Own", KEY)]])
def test_asked_headers_that_cannot_be_sent_are_refused_unseen(given):
    endpoint = endpoint_at("http://127.0.0.1:9/v1", ask_headers=lambda: given)
    with pytest.raises(ConfigurationError, match="headers callable returned") as caught:
        post_json(endpoint, "/responses/compact", {}, TIMEOUTS)
    assert KEY not in str(caught.value)


def test_a_key_in_asked_headers_that_the_server_quotes_is_masked(answering):
    base_url, _ = answering(canned(401, b'{"error":{"message":"Bad key Zq9birdsong44x"}}'))
    endpoint = endpoint_at(base_url, ask_headers=lambda: {"Api-Key": "Zq9birdsong44x"})
    with pytest.raises(APIError, match="Bad key") as caught:
        post_json(endpoint, "/responses/compact", {}, TIMEOUTS)
    assert "birdsong" not in str(caught.value) + repr(caught.value)


def test_a_key_that_the_server_quotes_is_masked(answering):
    base_url, _ = answering(canned(401, b'{"error":{"message":"Bad key %s"}}' % KEY.encode()))
    with pytest.raises(APIError) as caught:
        post_json(endpoint_at(base_url), "/responses/compact", {}, TIMEOUTS)
    assert KEY not in str(caught.value) + repr(caught.value)
    assert not isinstance(caught.value, AuthenticationError)


@pytest.mark.parametrize("body", [b"[1]", b"nothing", b""])
def test_an_answer_that_is_no_object_is_a_breach(answering, body):
    base_url, _ = answering(canned(200, body))
    with pytest.raises(RemoteProtocolError, match="no JSON object"):
        post_json(endpoint_at(base_url), "/responses/compact", {}, TIMEOUTS)


def test_a_redirect_is_not_followed(answering):
    base_url, _ = answering(canned(302, b"", "Location: http://127.0.0.1:1/\r\n"))
    with pytest.raises(RemoteProtocolError):
        post_json(endpoint_at(base_url), "/responses/compact", {}, TIMEOUTS)


def test_a_server_that_is_not_there_is_no_connection():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    endpoint = endpoint_at(f"http://127.0.0.1:{port}/v1")
    with pytest.raises(ConnectError, match="failed: ConnectionError") as caught:
        post_json(endpoint, "/responses/compact", {}, TIMEOUTS)
    assert caught.value.__cause__ is None


def test_a_server_that_says_nothing_is_not_waited_for():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        endpoint = endpoint_at(f"http://127.0.0.1:{listener.getsockname()[1]}/v1")
        with pytest.raises(ConnectTimeout, match="in time"):
            post_json(endpoint, "/responses/compact", {}, TIMEOUTS.but({"first_event": 0.05}))


def test_certificates_are_verified_as_the_sockets_are(tls):
    server_context, client_context = tls
    with Server(ssl_context=server_context) as server:
        body = {"model": "m", "input": [{"type": "message", "role": "user", "content": "Hi"}]}
        trusting = endpoint_at(server.base_url, ssl_context=client_context)
        answer = post_json(trusting, "/responses/compact", body, TIMEOUTS)
        assert answer["object"] == "response.compaction"
        with pytest.raises(ConnectError):
            post_json(endpoint_at(server.base_url), "/responses/compact", body, TIMEOUTS)


def test_a_conversation_is_compacted_over_http():
    with Server() as server, llmws.Session("m", base_url=server.base_url) as session:
        conversation = session.conversation()
        conversation.create("one")
        conversation.compact()
        assert conversation.items[-1]["type"] == "compaction"
        stream = conversation.stream("two")
        assert stream.response().text == "two"
        assert (stream.sent.kind, stream.sent.reason) == ("full", "compacted")


def test_a_compaction_asks_for_headers_afresh_and_they_may_look_at_the_conversation():
    asked = []

    def ask():
        asked.append(len(conversation.items))
        return {"X-Turn": str(len(asked))}

    with Server() as server, llmws.Session("m", base_url=server.base_url, headers=ask) as session:
        conversation = session.conversation()
        conversation.create("one")
        dials = len(asked)
        conversation.compact()
        assert (dials, len(asked), asked[-1]) == (1, 2, 2)
        assert conversation.items[-1]["type"] == "compaction"
