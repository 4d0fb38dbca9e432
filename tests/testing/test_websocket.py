import contextlib
import json
import socket
import threading

import pytest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from llmws.testing import Server, rules
from llmws.wire.framing import TEXT, encode
from tests.testing.client import (
    HANDSHAKE,
    TERMINAL,
    answer,
    ask,
    create,
    http_client,
    open_socket,
    raw_socket,
    receive,
    request_head,
    send,
    text_of,
    upgrade,
)


def test_events_name_their_lane_only_if_the_create_did():
    with Server() as server, open_socket(server) as ws:
        assert {event.get("stream_id") for event in ask(ws, create(stream_id="a.b-c_1"))} == {
            "a.b-c_1"
        }
        assert not any("stream_id" in event for event in ask(ws, create()))


def test_one_lane_answers_in_order_and_never_two_at_once():
    running = []

    def rule(request):
        running.append(request.input_text)
        assert len(running) == 1
        yield from rules.echo()(request)
        running.pop()

    with Server(rule=rule) as server, open_socket(server) as ws:
        for number in range(20):
            send(ws, create(f"n{number}", stream_id="a"))
        answers = [answer(ws) for _ in range(20)]
        server.check()
    assert [text_of(each) for each in answers] == [f"n{number}" for number in range(20)]


@pytest.mark.parametrize("lanes", [("a", "b"), (None, "b"), ("a", None)])
def test_lanes_run_at_the_same_time(lanes):
    second_is_done = threading.Event()

    def rule(request):
        if request.lane == lanes[0]:
            yield {"type": "response.created", "response": {"id": "first"}}
            assert second_is_done.wait(10)
            yield {"type": "response.completed", "response": {"id": "first"}}
        else:
            yield {"type": "response.created", "response": {"id": "second"}}
            yield {"type": "response.completed", "response": {"id": "second"}}
            second_is_done.set()

    with Server(rule=rule) as server, open_socket(server) as ws:
        for lane in lanes:
            send(ws, create() if lane is None else create(stream_id=lane))
        ends = [event for _ in range(4) if (event := receive(ws))["type"] == "response.completed"]
        server.check()
    assert [event["response"]["id"] for event in ends] == ["second", "first"]


def test_many_lanes_write_whole_frames():
    with Server(rule=rules.text("x" * 400)) as server, open_socket(server) as ws:
        for number in range(16):
            send(ws, create(stream_id=f"lane{number}"))
        seen = {}
        while sum(events[-1]["type"] in TERMINAL for events in seen.values()) < 16:
            event = receive(ws)
            seen.setdefault(event["stream_id"], []).append(event)
    assert len(seen) == 16
    assert {text_of(events) for events in seen.values()} == {"x" * 400}


@pytest.mark.parametrize("name", ["", "a b", "x" * 257, 7, None, "ä", "a\n"])
def test_a_bad_lane_name_is_refused_and_the_connection_goes_on(name):
    with Server() as server, open_socket(server) as ws:
        [error] = ask(ws, create(stream_id=name))
        assert (error["error"]["code"], error["status"]) == ("invalid_stream_id", 400)
        assert "stream_id" not in error
        assert text_of(ask(ws, create())) == "Hello there"
        assert len(server.ledger.requests) == 1


@pytest.mark.parametrize(
    ("message", "code"),
    [
        ("{", "invalid_json"),
        ("[1]", "invalid_json"),
        ('{"type": "response.cancel"}', "unsupported_event_type"),
        ("{}", "unsupported_event_type"),
    ],
)
def test_a_message_that_means_nothing_gets_an_error_and_the_connection_goes_on(message, code):
    with Server() as server, open_socket(server) as ws:
        ws.send(message)
        assert receive(ws)["error"]["code"] == code
        assert text_of(ask(ws, create())) == "Hello there"


def test_a_warm_up_has_an_id_and_no_output():
    with Server() as server, open_socket(server) as ws:
        events = ask(ws, create(generate=False))
        assert [event["type"] for event in events] == ["response.created", "response.completed"]
        assert events[-1]["response"]["output"] == []


def test_warm_ups_do_not_count_in_a_sequence():
    rule = rules.sequence(rules.text("one"), rules.text("two"))
    with Server(rule=rule) as server, open_socket(server) as ws:
        ask(ws, create(generate=False))
        assert [text_of(ask(ws, create())) for _ in range(3)] == ["one", "two", "two"]


def test_a_steer_is_refused_on_the_lane_of_its_response():
    with Server() as server, open_socket(server) as ws:
        target = ask(ws, create(stream_id="a"))[0]["response"]["id"]
        for id, code, lane in (
            (target, "response_already_completed", "a"),
            ("resp_x", "response_not_found", None),
        ):
            send(ws, {"type": "response.steer", "previous_response_id": id, "input": "Stop."})
            failed = receive(ws)
            assert failed["type"] == "response.steer.failed"
            assert failed["error"]["code"] == code
            assert failed["steer"] == {"previous_response_id": id, "input": "Stop."}
            assert failed.get("stream_id") == lane


def test_a_message_of_many_mebibytes_is_understood():
    def rule(request):
        return [{"type": "error", "n": len(request.input_text)}]

    with Server(rule=rule) as server, open_socket(server) as ws:
        [event] = ask(ws, create("x" * 5_000_000))
        assert event["n"] == 5_000_000


def test_the_handshake_accepts_and_agrees_to_nothing_more():
    with Server() as server, contextlib.closing(raw_socket(server)) as raw:
        offers = {"Sec-WebSocket-Extensions": "permessage-deflate", "Sec-WebSocket-Protocol": "x"}
        raw.sendall(request_head("GET", "/v1/responses?a=b", {**HANDSHAKE, **offers}))
        head = raw.recv(65536).decode().lower()
    assert "sec-websocket-accept: s3pplmbitxaq9kygzzhzrbk+xoo=" in head
    assert "extensions" not in head
    assert "protocol:" not in head


@pytest.mark.parametrize(
    ("method", "path", "changes", "status"),
    [
        ("GET", "/v1/other", {}, 404),
        ("GET", "/v1/responses/x", {}, 404),
        ("PUT", "/v1/responses", {}, 405),
        ("GET", "/v1/responses", {"Upgrade": "h2c"}, 426),
        ("GET", "/v1/responses", {"Connection": "close"}, 400),
        ("GET", "/v1/responses", {"Sec-WebSocket-Version": "8"}, 426),
        ("GET", "/v1/responses", {"Sec-WebSocket-Key": "short"}, 400),
        ("GET", "/v1/responses", {"Sec-WebSocket-Key": "c2hvcnQ="}, 400),
    ],
)
def test_a_bad_upgrade_is_refused(method, path, changes, status):
    with Server() as server, http_client(server) as client:
        client.request(method, path, headers={**HANDSHAKE, **changes})
        reply = client.getresponse()
        assert reply.status == status
        assert json.loads(reply.read())["error"]["message"]
        if "Sec-WebSocket-Version" in changes:
            assert reply.headers["Sec-WebSocket-Version"] == "13"
        assert server.ledger.connections == 0


def test_a_client_is_told_of_a_wrong_path():
    with Server() as server, pytest.raises(InvalidStatus, match="404"):
        connect(f"{server.base_url.replace('http', 'ws')}/nothing", proxy=None)


def test_bytes_travel_one_at_a_time_if_so_told():
    with Server(chunk_bytes=1) as server, contextlib.closing(raw_socket(server)) as raw:
        upgrade(raw)
        raw.sendall(encode(TEXT, b"{", mask=b"abcd"))
        with contextlib.closing(raw):
            first = raw.recv(1)
            assert first == b"\x81"
    with Server(chunk_bytes=1) as server, open_socket(server) as ws:
        assert text_of(ask(ws, create())) == "Hello there"


def test_no_call_of_send_takes_more_than_chunk_bytes(monkeypatch):
    sizes = []
    real = socket.socket.send

    def counted(self, data, *flags):
        if threading.current_thread().name.startswith("llmws-testing"):
            sizes.append(len(data))
        return real(self, data, *flags)

    monkeypatch.setattr(socket.socket, "send", counted)
    with Server(chunk_bytes=7) as server, open_socket(server) as ws:
        ask(ws, create())
    assert max(sizes) == 7


def test_frames_may_come_together_with_the_upgrade():
    with Server() as server, contextlib.closing(raw_socket(server)) as raw:
        frame = encode(TEXT, json.dumps(create()).encode(), mask=b"abcd")
        raw.sendall(request_head("GET", "/v1/responses", HANDSHAKE) + frame)
        data = b""
        while b"response.completed" not in data:
            data += raw.recv(65536)


def test_pings_are_answered_and_counted():
    with Server() as server, open_socket(server) as ws:
        assert ws.ping(b"12").wait(10)
        assert ws.ping(b"34").wait(10)
        assert server.ledger.pings == 2


@pytest.mark.parametrize("code", [1000, 1001, 3000, 4999])
def test_close_codes_are_echoed(code):
    with Server() as server:
        ws = open_socket(server)
        ws.close(code, "bye")
        assert ws.protocol.close_rcvd.code == code
        assert ws.protocol.close_rcvd_then_sent is False


@pytest.mark.parametrize(
    ("frame", "code"),
    [
        (b"\x81\x00", 1002),  # not masked
        (b"\xc1\x80abcd", 1002),  # a reserved bit
        (encode(TEXT, b"\xff", mask=b"abcd"), 1007),
        (encode(2, b"binary", mask=b"abcd"), 1003),
    ],
)
def test_a_breach_of_the_protocol_closes_with_its_code(frame, code):
    with Server() as server, contextlib.closing(raw_socket(server)) as raw:
        upgrade(raw)
        # What the client still writes must not turn the close frame into a reset.
        raw.sendall(frame + b"more" * 250_000)
        data = raw.recv(65536)
        assert data[0] == 0x88
        assert int.from_bytes(data[2:4], "big") == code
        raw.sendall(encode(8, b"", mask=b"abcd"))
        assert raw.recv(65536) == b""


def test_the_client_may_end_keep_alive():
    with Server() as server, contextlib.closing(raw_socket(server)) as raw:
        head = {"Connection": "close", "Content-Length": "2"}
        raw.sendall(request_head("POST", "/v1/responses", head) + b"{}")
        data = b""
        while chunk := raw.recv(65536):
            data += chunk
        assert data.startswith(b"HTTP/1.1 200 ")
