import json

import pytest

from llmws.testing import Answer, Server, rules
from llmws.testing.compaction import compact_threshold, compacted, compaction_item, left_by
from tests.testing.client import ask, create, http_client, open_socket, post, text_of


TIGHT = {"context_management": [{"type": "compaction", "compact_threshold": 40}]}
NEVER = {"context_management": [{"type": "compaction", "compact_threshold": 1_000_000}]}


def seen_by(contexts):
    """Return a rule that echoes, and keeps the context of each request."""

    def rule(request):
        contexts.append(request.context)
        return rules.echo()(request)

    return rule


def texts_in(reply):
    """Return the texts of the messages in an output, and None for what is none."""
    messages = [item.get("content") for item in reply["output"]]
    return [content and content[0]["text"] for content in messages]


def test_the_threshold_is_read_where_there_is_one():
    assert compact_threshold(TIGHT) == 40
    for management in (None, [], ["x"], [{"type": "other"}], [{"type": "compaction"}]):
        assert compact_threshold({"context_management": management}) is None
    assert compact_threshold({}) is None


def test_a_compaction_is_the_same_for_the_same_items_only():
    items = [{"role": "user", "content": "a secret"}]
    item = compaction_item("cmp_1", items)
    assert item == compaction_item("cmp_1", list(items))
    assert item["encrypted_content"] != compaction_item("cmp_1", items * 2)["encrypted_content"]
    assert "secret" not in json.dumps(item)


def test_what_is_left_is_the_latest_compaction_and_what_follows():
    old, new, rest = {"type": "compaction", "id": "1"}, {"type": "compaction", "id": "2"}, {"id": 3}
    assert left_by([old, new, rest]) == [new, rest]
    assert left_by([rest]) is None


def test_a_context_above_the_threshold_is_compacted_within_the_answer():
    contexts = []
    with Server(rule=seen_by(contexts)) as server, open_socket(server) as ws:
        events = ask(ws, create("long " * 100, **TIGHT))
        kinds = [event["type"].removeprefix("response.") for event in events]
        assert kinds[2:6] == [
            "output_item.added",
            "compaction.compacting",
            "output_item.done",
            "output_item.added",
        ]
        assert [event["sequence_number"] for event in events] == list(range(len(events)))
        final = events[-1]["response"]
        item, message = final["output"]
        assert (events[3]["item_id"], events[3]["output_index"]) == (item["id"], 0)
        assert (item["type"], message["type"]) == ("compaction", "message")
        ask(ws, create("And?", previous_response_id=final["id"]))
    assert contexts[1][:2] == [item, message]
    assert [each["content"] for each in contexts[1][2:]] == ["And?"]


@pytest.mark.parametrize("management", [{}, NEVER])
def test_a_context_below_the_threshold_is_left_alone(management):
    with Server() as server, open_socket(server) as ws:
        events = ask(ws, create("long " * 100, **management))
        assert [item["type"] for item in events[-1]["response"]["output"]] == ["message"]


def test_the_whole_chain_counts_and_a_conversation_stays_short():
    contexts = []
    with Server(rule=seen_by(contexts)) as server, open_socket(server) as ws:
        previous, compactions = {}, 0
        for number in range(40):
            final = ask(ws, create(f"turn {number}", store=False, **TIGHT, **previous))[-1]
            previous = {"previous_response_id": final["response"]["id"]}
            compactions += final["response"]["output"][0]["type"] == "compaction"
    assert 5 < compactions < 40
    assert max(map(len, contexts)) < 10


def test_the_compact_endpoint_leaves_the_users_messages_and_one_item():
    items = [
        {"type": "message", "role": "user", "content": "a"},
        {"type": "message", "role": "assistant", "content": "b"},
        {"type": "message", "role": "user", "content": "c"},
    ]
    with Server() as server, http_client(server) as client:
        body = {"model": "gpt-6-astra", "input": items}
        status, headers, data = post(client, body, "/v1/responses/compact")
        reply = json.loads(data)
        assert (status, reply["object"]) == (200, "response.compaction")
        assert headers["x-request-id"].startswith("req_")
        assert reply["output"] == compacted(reply["output"][-1]["id"], items)
        assert texts_in(reply) == ["a", "c", None]
        assert len({item["id"] for item in reply["output"]}) == 3
        assert reply["usage"]["total_tokens"] > 0
        assert server.ledger.requests == []
        [entry] = server.ledger.compactions
        assert (entry.body, entry.transport) == (body, "sse")


def test_the_compact_endpoint_knows_stored_responses_and_no_others():
    with Server() as server, open_socket(server) as ws, http_client(server) as client:
        stored = ask(ws, create("first"))[-1]["response"]["id"]
        body = {"model": "gpt-6-astra", "input": "more", "previous_response_id": stored}
        reply = json.loads(post(client, body, "/v1/responses/compact")[2])
        assert texts_in(reply) == ["first", "more", None]
        server.forget()
        status, _, data = post(client, body, "/v1/responses/compact")
        assert (status, json.loads(data)["error"]["code"]) == (400, "previous_response_not_found")
        assert post(client, b"{", "/v1/responses/compact")[0] == 400


def test_a_rule_may_compact_when_it_likes():
    def rule(request):
        answer = Answer(request)
        yield from answer.start()
        yield from answer.message("before")
        yield from answer.compaction()
        yield from answer.message("after")
        yield from answer.complete()

    contexts = []
    with (
        Server(rule=rules.sequence(rule, seen_by(contexts))) as server,
        open_socket(server) as ws,
    ):
        events = ask(ws, create())
        assert text_of(events) == "beforeafter"
        ask(ws, create("x", previous_response_id=events[-1]["response"]["id"]))
    assert [item["type"] for item in contexts[0]] == ["compaction", "message", "message"]
