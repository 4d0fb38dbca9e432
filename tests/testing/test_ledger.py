from llmws.testing import Server, fingerprint, rules
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
