import contextlib
import threading
from collections import Counter

import pytest
from websockets.exceptions import ConnectionClosed

from llmws.testing import Semantics, Server, rules
from tests.testing.client import answer, ask, create, open_socket, receive, send, text_of


class Gate:
    """A rule that begins and then waits until it is let through, and notes in which order that happened."""

    def __init__(self):
        self.begun = []
        self.doors = {}
        self.most = 0
        self._running = 0
        self._lock = threading.Lock()

    def door(self, name):
        return self.doors.setdefault(name, threading.Event())

    def __call__(self, request):
        name = request.input_text
        with self._lock:
            self.begun.append(name)
            self._running += 1
            self.most = max(self.most, self._running)
        events = rules.echo()(request)
        yield next(events)
        assert self.door(name).wait(10)
        with self._lock:
            self._running -= 1
        yield from events


def closing(ws):
    """Read on to the close; return the events before it, and its code."""
    events = []
    with contextlib.suppress(ConnectionClosed):
        while True:
            events.append(receive(ws))
    return events, ws.protocol.close_code


def test_sixteen_responses_run_and_the_others_wait_in_order():
    gate = Gate()
    names = [f"n{number}" for number in range(20)]
    with Server(rule=gate) as server, open_socket(server) as ws:
        for name in names:
            send(ws, create(name, stream_id=name))
        created = [receive(ws) for _ in range(16)]
        assert {event["type"] for event in created} == {"response.created"}
        assert sorted(gate.begun) == sorted(names[:16])
        # Nothing else is begun before one of them ends, and then the first that waits.
        for number, name in enumerate(names[:4]):
            gate.door(name).set()
            while (event := receive(ws))["type"] != "response.created":
                assert event["stream_id"] == name
            assert event["stream_id"] == names[16 + number]
        for name in names:
            gate.door(name).set()
        ended = 0
        while ended < 16:
            ended += receive(ws)["type"] == "response.completed"
        server.check()
    assert gate.most == 16
    assert gate.begun[16:] == names[16:]


def test_a_lane_that_waits_does_not_hold_up_the_others():
    gate = Gate()
    with Server(rule=gate, semantics=Semantics(most_active=2)) as server, open_socket(server) as ws:
        for name, lane in (("a1", "a"), ("a2", "a"), ("b1", "b")):
            send(ws, create(name, stream_id=lane))
        assert {receive(ws)["stream_id"], receive(ws)["stream_id"]} == {"a", "b"}
        assert sorted(gate.begun) == ["a1", "b1"]
        for name in ("a1", "a2", "b1"):
            gate.door(name).set()
        ends = Counter()
        while sum(ends.values()) < 3:
            event = receive(ws)
            ends[event["stream_id"]] += event["type"] == "response.completed"
    assert ends == {"a": 2, "b": 1}


def test_the_33rd_name_is_refused_with_the_name_and_the_others_go_on():
    with Server() as server, open_socket(server) as ws:
        for number in range(32):
            ask(ws, create(stream_id=f"n{number}"))
        [error] = ask(ws, create(stream_id="n32"))
        assert (error["status"], error["stream_id"]) == (400, "n32")
        assert error["error"]["code"] == "websocket_stream_limit_reached"
        assert ask(ws, create(stream_id="n7"))[-1]["type"] == "response.completed"
        assert ask(ws, create())[-1]["type"] == "response.completed"
        entry = server.ledger.requests[32]
        assert (entry.lane, entry.refused, entry.ended) == (
            "n32",
            "websocket_stream_limit_reached",
            "error",
        )
        with open_socket(server) as other:
            assert ask(other, create(stream_id="n32"))[-1]["type"] == "response.completed"


@pytest.mark.parametrize(("lanes", "echoed"), [(False, None), ("ignored", None), ("serial", "a")])
def test_a_server_without_lanes_runs_one_create_at_a_time(lanes, echoed):
    gate = Gate()
    with Server(rule=gate, semantics=Semantics(lanes=lanes)) as server, open_socket(server) as ws:
        for lane in "abc":
            gate.door(lane).set()
            send(ws, create(lane, stream_id=lane))
        answers = [answer(ws) for _ in range(3)]
    assert gate.most == 1
    assert [text_of(each) for each in answers] == ["a", "b", "c"]
    assert {event.get("stream_id") for event in answers[0]} == {echoed}
    lanes_seen = [entry.lane for entry in server.ledger.requests]
    assert lanes_seen == (list("abc") if echoed else [None] * 3)


def test_a_server_may_not_know_lanes_at_all():
    with Server(semantics=Semantics(lanes="refused")) as server, open_socket(server) as ws:
        [error] = ask(ws, create(stream_id="a"))
        assert (error["status"], error["error"]["param"]) == (400, "stream_id")
        assert error["error"]["code"] == "unknown_parameter"
        assert "stream_id" not in error
        assert text_of(ask(ws, create())) == "Hello there"
        assert [entry.refused for entry in server.ledger.requests] == ["unknown_parameter", None]


def test_a_server_without_lanes_caches_one_response_a_connection():
    with Server(semantics=Semantics(lanes=False)) as server, open_socket(server) as ws:
        first = ask(ws, create(stream_id="a", store=False))[-1]["response"]["id"]
        ask(ws, create(stream_id="b", store=False))
        [error] = ask(ws, create(stream_id="a", store=False, previous_response_id=first))
        assert error["error"]["code"] == "previous_response_not_found"


def test_an_old_connection_says_so_and_closes():
    with Server(semantics=Semantics(max_age=0.05)) as server, open_socket(server) as ws:
        events, code = closing(ws)
        [error] = events
        assert error["error"]["code"] == "websocket_connection_limit_reached"
        assert (error["status"], code) == (400, 1001)
        assert "stream_id" not in error
        with open_socket(server) as other:
            assert ask(other, create())[-1]["type"] == "response.completed"


def test_what_runs_when_the_age_is_reached_is_answered_and_what_comes_then_is_not():
    gate = Gate()
    with (
        Server(rule=gate, semantics=Semantics(max_age=0.3)) as server,
        open_socket(server) as ws,
    ):
        for name in ("one", "two"):
            send(ws, create(name, stream_id="a"))
        assert receive(ws)["type"] == "response.created"
        assert receive(ws)["error"]["code"] == "websocket_connection_limit_reached"
        send(ws, create("three", stream_id="b"))
        again = receive(ws)
        assert again["error"]["code"] == "websocket_connection_limit_reached"
        assert "stream_id" not in again
        for name in ("one", "two"):
            gate.door(name).set()
        events, code = closing(ws)
        entries = server.ledger.requests
    assert (text_of(events), code) == ("onetwo", 1001)
    assert [entry.ended for entry in entries] == ["completed", "completed", "error"]
    assert entries[2].refused == "websocket_connection_limit_reached"


def test_an_old_connection_may_close_at_once():
    gate = Gate()
    semantics = Semantics(max_age=0.3, drains=False)
    with Server(rule=gate, semantics=semantics) as server, open_socket(server) as ws:
        send(ws, create("one"))
        events, code = closing(ws)
        gate.door("one").set()
        kinds = [event["type"] for event in events]
        assert (kinds, code) == (["response.created", "error"], 1001)
        assert server.ledger.wait(lambda ledger: ledger.requests[0].ended == "lost")
        server.check()


def test_a_server_that_is_closed_does_not_wait_for_the_age():
    with Server(semantics=Semantics(max_age=3600.0)) as server, open_socket(server) as ws:
        ask(ws, create())
        server.close()
        names = [thread.name for thread in threading.enumerate()]
        assert [name for name in names if name.startswith("llmws-testing")] == []
