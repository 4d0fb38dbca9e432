import json

from llmws.testing import Entry, Ledger, Server, error_event, fingerprint, rules
from tests.testing.client import KEY, ask, create, open_socket, receive, send


def test_the_ledger_tells_how_each_answer_ended():
    rule = rules.sequence(
        rules.echo(),
        rules.incomplete("a"),
        rules.fail("x", "y"),
        rules.refuse(400, "z", "z"),
        lambda request: [{"type": "response.created", "response": {"id": "r5"}}],
    )
    with Server(rule=rule) as server, open_socket(server) as ws:
        for _ in range(3):
            last = ask(ws, create())[-1]
            if last["type"] == "error":
                receive(ws)
        ask(ws, create(stream_id="a"))
        send(ws, create())
        receive(ws)
        assert server.ledger.wait(lambda ledger: ledger.requests[-1].ended is not None)
        entries = server.ledger.requests
    assert [entry.ended for entry in entries] == [
        "completed",
        "incomplete",
        "failed",
        "error",
        "lost",
    ]
    assert [entry.lane for entry in entries] == [None, None, None, "a", None]
    assert [entry.response_id is None for entry in entries] == [False, False, False, True, False]
    assert entries[3].events_sent == 1
    assert all(entry.received <= entry.started <= entry.finished for entry in entries)
    assert server.ledger.connections == 1
    assert server.ledger.creates[0] == create()


def test_the_ledger_keeps_no_key():
    headers = {"Authorization": KEY, "X-Trace": "t1"}
    with Server() as server:
        with open_socket(server, additional_headers=headers) as ws:
            ask(ws, create())
        [entry] = server.ledger.requests
        assert entry.headers["authorization"] == fingerprint(KEY)
        assert entry.headers["x-trace"] == "t1"
        assert "sk-test" not in repr([entry, entry.headers, server, server.ledger])


def test_a_client_that_leaves_loses_its_answer_and_what_waits_behind():
    def rule(request):
        yield {"type": "response.created", "response": {"id": "r"}}
        assert request.connection.closed.wait(10)

    with Server(rule=rule) as server:
        with open_socket(server) as ws:
            send(ws, create())
            send(ws, create())
            receive(ws)
        assert server.ledger.wait(
            lambda ledger: [entry.ended for entry in ledger.requests] == ["lost", "lost"]
        )
        assert server.ledger.requests[1].events_sent == 0
        server.check()


def test_the_ledger_tells_what_was_asked():
    with Server() as server, open_socket(server) as ws:
        message = create("Hi", stream_id="a", generate=False)
        warm = ask(ws, message)[-1]["response"]["id"]
        ask(ws, create("Hi", previous_response_id=warm))
        first, second = server.ledger.requests
    assert (first.warm_up, first.previous_response_id, first.lane) == (True, None, "a")
    assert (second.warm_up, second.previous_response_id, second.lane) == (False, warm, None)
    assert first.request_bytes == len(json.dumps(message))


def test_a_refusal_is_an_error_or_a_failure_before_any_output():
    error = error_event("x", "y")
    flat = {"type": "error", "code": "flat"}
    nameless = {"type": "error", "error": {"type": "server_error"}}
    created = {"type": "response.created", "response": {"id": "r"}}
    failed = {"type": "response.failed", "response": {"error": {"code": "rate_limit_exceeded"}}}
    delta = {"type": "response.output_text.delta", "delta": "a"}
    cases = [
        ([error], "x"),
        ([flat], "flat"),
        ([nameless], "server_error"),
        ([created, failed], "rate_limit_exceeded"),
        ([created, error, failed], "x"),
        ([created, delta, failed], None),
        ([created, delta, error], None),
        ([created], None),
        ([created, {"type": "response.completed"}], None),
    ]
    ledger = Ledger()
    for events, _ in cases:
        entry = Entry(body={}, transport="ws", connection=1)
        ledger.begin(entry)
        for event in events:
            ledger.sending(entry, event)
    assert [entry.refused for entry in ledger.requests] == [code for _, code in cases]


def test_a_turn_that_was_asked_twice_without_a_refusal_is_found():
    rule = rules.sequence(
        rules.refuse(429, "rate_limit_exceeded", "Wait."),
        *[rules.nonce(3)] * 3,
        rules.echo(),
    )
    with Server(rule=rule) as server, open_socket(server) as ws:
        for text in ("nonce a", "nonce a", "nonce b", "plain", "plain"):
            ask(ws, create(text))
        ask(ws, create("nonce b", generate=False))
        assert server.ledger.second_creates() == []
        ask(ws, create("nonce b"))
        [(first, second)] = server.ledger.second_creates()
        assert (first.nonce, second.nonce) == ("b", "b")
        assert (first.ended, first.refused) == ("completed", None)
        assert first.received < second.received


def test_a_lost_turn_that_is_asked_again_counts_as_paid_twice():
    def lost(request):
        request.connection.drop()
        return []

    with Server(rule=rules.sequence(lost, rules.nonce(3))) as server:
        with open_socket(server) as ws:
            send(ws, create("nonce a"))
            assert server.ledger.wait(lambda ledger: ledger.requests[0:1] != [])
        with open_socket(server) as ws:
            ask(ws, create("nonce a", stream_id="x"))
        assert len(server.ledger.second_creates()) == 1
