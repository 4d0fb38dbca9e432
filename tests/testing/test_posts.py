import contextlib
import http.client
import json

import pytest

from llmws.testing import Server, rules
from llmws.wire.recording import load
from tests.testing.client import (
    RECORDINGS,
    breaking,
    create,
    http_client,
    post,
    raw_socket,
    sse_events,
    text_of,
)


def test_a_post_streams_the_same_events_over_sse():
    with Server(RECORDINGS / "text.jsonl") as server, http_client(server) as client:
        status, headers, data = post(client, {**create(), "stream": True})
        assert status == 200
        assert headers["Content-Type"].startswith("text/event-stream")
        assert headers["x-request-id"].startswith("req_")
        assert sse_events(data) == load(RECORDINGS / "text.jsonl").parts()[0]


def test_one_connection_takes_several_posts():
    with Server() as server, http_client(server) as client:
        for word in ("one", "two"):
            _, _, data = post(client, create(word, stream=True))
            assert text_of(sse_events(data)) == word
        assert [(e.transport, e.connection) for e in server.ledger.requests] == [("sse", 1)] * 2
        assert server.ledger.connections == 0


def test_a_post_without_stream_gets_one_object():
    with Server() as server, http_client(server) as client:
        status, _, data = post(client, create("one"))
        response = json.loads(data)
        assert (status, response["object"], response["status"]) == (200, "response", "completed")
        assert response["output"][0]["content"][0]["text"] == "one"


def test_an_output_that_the_last_event_leaves_out_is_gathered():
    events = [
        {"type": "response.output_item.done", "output_index": 1, "item": {"id": "b"}},
        {"type": "response.output_item.done", "output_index": 0, "item": {"id": "a"}},
        {"type": "response.completed", "response": {"id": "r", "output": None}},
    ]
    with Server(events) as server, http_client(server) as client:
        _, _, data = post(client, create())
        assert json.loads(data) == {"id": "r", "output": [{"id": "a"}, {"id": "b"}]}


@pytest.mark.parametrize("stream", [True, False])
def test_an_error_before_output_is_the_status(stream):
    rule = rules.refuse(429, "rate_limit_exceeded", "Slow down", headers={"retry-after": "2"})
    with Server(rule=rule) as server, http_client(server) as client:
        status, headers, data = post(client, create(stream=stream))
        assert (status, headers["retry-after"]) == (429, "2")
        assert json.loads(data) == {
            "error": {
                "type": "invalid_request_error",
                "code": "rate_limit_exceeded",
                "message": "Slow down",
                "param": None,
            }
        }
        assert server.ledger.requests[0].ended == "error"


def test_an_error_after_output_is_an_event():
    with Server(RECORDINGS / "failed.jsonl") as server, http_client(server) as client:
        status, _, data = post(client, create(stream=True))
        assert status == 200
        assert [event["type"] for event in sse_events(data)][-2:] == ["error", "response.failed"]


@pytest.mark.parametrize("stream", [True, False])
def test_a_rule_without_an_answer_is_a_server_error(stream):
    with Server(rule=lambda request: []) as server, http_client(server) as client:
        assert post(client, create(stream=stream))[0] == 500
        assert server.ledger.requests[0].ended == "lost"


def test_a_dropped_answer_ends_in_the_middle():
    with Server(rule=breaking(lambda connection: connection.drop())) as server:
        with http_client(server) as client, pytest.raises(http.client.IncompleteRead):
            post(client, create(stream=True))
        assert server.ledger.wait(lambda ledger: ledger.requests[0].ended == "lost")


@pytest.mark.parametrize(
    ("body", "path", "status"),
    [(b"{", "/v1/responses", 400), (b"[]", "/v1/responses", 400), (b"{}", "/v1/chat", 404)],
)
def test_a_bad_post_is_refused(body, path, status):
    with Server() as server, http_client(server) as client:
        assert post(client, body, path)[0] == status
        assert server.ledger.requests == []


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (b"nonsense\r\n\r\n", b"400"),
        (b"GET / HTTP/1.1\r\nno colon\r\n\r\n", b"400"),
        (b"POST /v1/responses HTTP/1.1\r\n\r\n", b"411"),
        (b"POST /v1/responses HTTP/1.1\r\nContent-Length: 999999999999\r\n\r\n", b"413"),
        (b"GET / HTTP/1.1\r\nx: " + b"y" * 100_000, b"431"),
    ],
)
def test_what_is_no_request_is_refused(request_bytes, status):
    with Server() as server, contextlib.closing(raw_socket(server)) as raw:
        raw.sendall(request_bytes)
        assert raw.recv(65536).startswith(b"HTTP/1.1 " + status)
