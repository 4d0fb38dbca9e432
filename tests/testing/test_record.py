import threading

import llmws
from llmws.testing import Semantics, Server, record, rules
from llmws.wire.recording import load


def test_every_connection_of_a_session_is_recorded(tmp_path):
    begun = threading.Barrier(2)

    def rule(request):
        begun.wait(10)  # Neither ends before both run.
        return rules.echo()(request)

    path = tmp_path / "two.jsonl"
    with (
        Server(rule=rule, semantics=Semantics(lanes="refused")) as server,
        llmws.Session("any", base_url=server.base_url, lanes=False) as session,
        record(session, path),
    ):
        streams = [session.stream(text) for text in ("one", "two")]
        assert [stream.response(10).text for stream in streams] == ["one", "two"]
        server.check()
        assert server.ledger.connections == 2
    sent = [event["input"] for event in load(path).requests()]
    assert sorted(sent) == ["one", "two"]
