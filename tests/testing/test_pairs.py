import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmws.testing import Answer, Semantics, Server, rules
from llmws.testing.context import Context
from llmws.testing.pairs import answered_by, call_in, nameless, owed_after, refers, unanswered
from tests.testing.client import (
    ask,
    create,
    http_client,
    open_socket,
    post,
    send,
    sse_events,
    text_of,
)
from tests.testing.test_steering import steer, until


KINDS = {
    "function_call": "function call",
    "custom_tool_call": "custom tool call",
    "computer_call": "computer call",
    "shell_call": "shell call",
    "apply_patch_call": "apply patch call",
    "tool_search_call": "tool search call",
}


def call(name="c1", kind="function_call", **fields):
    client = {"execution": "client"} if kind == "tool_search_call" else {}
    return {"type": kind, "call_id": name, "name": "f", "arguments": "{}", **client, **fields}


def output(name="c1", kind="function_call", **fields):
    answer = "tool_search_output" if kind == "tool_search_call" else f"{kind}_output"
    return {"type": answer, "call_id": name, "output": "x", **fields}


def refusal_of(events):
    """Check that these are nothing but a refusal, and return its message."""
    [error] = events
    assert (error["type"], error["status"]) == ("error", 400)
    details = error["error"]
    assert (details["type"], details["code"]) == ("invalid_request_error", None)
    assert details["param"] == "input"
    return details["message"]


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_of_call_is_answered_by_its_own_kind_of_output(kind):
    assert call_in(call(kind=kind)) == answered_by(output(kind=kind)) == (kind, "c1")
    assert answered_by(call(kind=kind)) is call_in(output(kind=kind)) is None
    others = [output(kind=other) for other in KINDS if other != kind]
    owed = owed_after({}, [call(kind=kind), *others])
    assert list(map(unanswered, owed)) == [f"No tool output found for {KINDS[kind]} c1."]
    assert nameless((kind, "c1")) == (
        f"No tool call found for {KINDS[kind]} output with call_id c1."
    )


@pytest.mark.parametrize(
    "item",
    [
        "text",
        None,
        {"role": "user", "content": "x"},
        {"type": ["function_call"], "call_id": "c1"},
        {"type": "function_call"},
        {"type": "function_call", "call_id": ""},
        {"type": "function_call_output", "call_id": 7},
        {"type": "mcp_approval_request", "id": "m1"},
        {"type": "mcp_approval_response", "approval_request_id": "m1"},
        {"type": "web_search_call", "call_id": "c1"},
        {"type": "some_new_call", "call_id": "c1"},
        {"type": "some_new_call_output", "call_id": "c1"},
        {"type": "tool_search_call", "call_id": "c1", "execution": "server"},
        {"type": "tool_search_output", "call_id": "c1", "execution": "server"},
    ],
)
def test_what_is_unknown_or_has_no_name_is_left_alone(item):
    assert call_in(item) is answered_by(item) is None
    assert owed_after({}, [item]) == {}
    assert Context().unpaired([item]) is None


def test_an_output_may_stand_anywhere_and_a_call_that_was_cut_off_owes_none():
    assert Context().unpaired([output(), {"role": "user", "content": "x"}, call()]) is None
    for status in ("incomplete", "in_progress"):
        assert Context().unpaired([call(status=status)]) is None
        assert Context().unpaired([call(status=status), output()]) is None
    assert Context().unpaired([call(status="completed")]) is not None


def test_an_id_that_is_used_again_owes_again():
    context = Context([call(), output()])
    assert context.unpaired([]) is None
    again = context.extended([call()])
    assert again.unpaired([{"role": "user", "content": "x"}]) is not None
    assert again.unpaired([output()]) is None
    assert context.unpaired([call()]) is not None


def test_a_reference_may_stand_for_what_is_missing():
    reference = {"type": "item_reference", "id": "fc_1"}
    assert refers(reference)
    assert not refers(call())
    assert Context().unpaired([reference, output()]) is None
    later = Context([reference, output()])
    assert later.unpaired([output("c2")]) is None
    assert later.extended([]).unpaired([call()]) is None
    before = Context([call()])
    before.extended([reference])
    assert before.unpaired([]) is not None


CALLS = st.tuples(st.sampled_from("ab"), st.sampled_from(["function_call", "shell_call"]))
BATCHES = st.lists(CALLS, max_size=3).map(
    lambda calls: [item for each in calls for item in (call(*each), output(*each))]
)


@given(st.lists(st.tuples(st.integers(0, 9), BATCHES), max_size=9))
def test_a_context_knows_the_calls_of_its_own_past_whoever_else_continues_it(steps):
    contexts, plain = [Context()], [[]]
    for which, items in steps:
        base = which % len(contexts)
        assert contexts[base].unpaired(items) is None
        contexts.append(contexts[base].extended(items))
        plain.append([*plain[base], *items])
    for context, items in zip(contexts, plain, strict=True):
        assert context.unpaired([]) is None
        for name in "ab":
            for kind in ("function_call", "shell_call"):
                known = call(name, kind) in items
                assert context.unpaired([output(name, kind)]) == (
                    None if known else nameless((kind, name))
                )


@pytest.fixture(params=["ws", "sse", "json"])
def asking(request):
    """Return a way to start a server and to ask it, by WebSocket or by POST."""

    def run(server, *creates):
        if request.param == "ws":
            with open_socket(server) as ws:
                return [ask(ws, each) for each in creates]
        with http_client(server) as client:
            return [posted(client, each) for each in creates]

    def posted(client, body):
        stream = request.param == "sse"
        fields = {key: value for key, value in body.items() if key != "type"}
        status, _, data = post(client, {**fields, "stream": stream})
        if status != 200:
            assert set(json.loads(data)) == {"error"}
            return [{"type": "error", "status": status, "error": json.loads(data)["error"]}]
        if stream:
            return sse_events(data)
        return [{"type": "response.completed", "response": json.loads(data)}]

    return run


@pytest.mark.parametrize("kind", KINDS)
def test_a_call_or_an_output_alone_is_refused_and_both_together_are_not(asking, kind):
    user = {"role": "user", "content": "x"}
    with Server() as server:
        lone_output, lone_call, pair = asking(
            server,
            create([user, output(kind=kind)]),
            create([call(kind=kind), user]),
            create([call(kind=kind), output(kind=kind)]),
        )
        assert [entry.ended for entry in server.ledger.requests] == ["error", "error", "completed"]
        server.check()
    assert refusal_of(lone_output) == nameless((kind, "c1"))
    assert refusal_of(lone_call) == unanswered((kind, "c1"))
    assert pair[-1]["type"] == "response.completed"


def look(request):
    """Call a function, and answer its output."""
    if request.context[-1].get("type") == "function_call_output":
        return rules.echo()(request)
    return rules.tool_calls([{"name": "look", "arguments": {}}, {"name": "see", "arguments": {}}])(
        request
    )


@pytest.mark.parametrize("store", [True, False])
def test_what_a_parent_owes_must_come_with_the_next_create(store):
    with Server(rule=look) as server, open_socket(server) as ws:
        first = ask(ws, create(store=store))[-1]["response"]
        calls = [item["call_id"] for item in first["output"]]
        chain = {"previous_response_id": first["id"], "store": store}
        # On another lane, where an error takes nothing from the cache.
        fork = {**chain, "stream_id": "other"}
        missing = ask(ws, create([output(calls[0])], **fork))
        assert refusal_of([{**event, "stream_id": None} for event in missing]) == unanswered(
            ("function_call", calls[1])
        )
        foreign = ask(ws, create([*map(output, calls), output("call_x")], **fork))
        assert refusal_of(foreign) == nameless(("function_call", "call_x"))
        last = ask(ws, create([*map(output, calls)], **chain))
        assert text_of(last) == "x"
        # Answered once, they owe nothing any more.
        again = create(
            [{"role": "user", "content": "And?"}],
            **{**chain, "previous_response_id": last[-1]["response"]["id"]},
        )
        assert ask(ws, again)[-1]["type"] == "response.completed"


def test_a_refused_continuation_costs_its_own_lane_the_parent():
    with Server(rule=look) as server, open_socket(server) as ws:
        first = ask(ws, create(store=False))[-1]["response"]
        chain = {"previous_response_id": first["id"], "store": False}
        refusal_of(ask(ws, create("And?", **chain)))
        outputs = [output(item["call_id"]) for item in first["output"]]
        [error] = ask(ws, create(outputs, **chain))
        assert error["error"]["code"] == "previous_response_not_found"


def test_a_refusal_is_no_turn_of_the_rule_and_warm_ups_are_held_to_it_too():
    rule = rules.sequence(rules.text("A"), rules.text("B"))
    with Server(rule=rule) as server, open_socket(server) as ws:
        refusal_of(ask(ws, create([output()])))
        refusal_of(ask(ws, create([call()], generate=False)))
        assert [text_of(ask(ws, create())) for _ in range(2)] == ["A", "B"]


def test_what_was_compacted_is_gone_with_its_calls():
    def rule(request):
        if request.parent is not None:
            return rules.echo()(request)
        built = Answer(request)
        return [
            *built.start(),
            *built.function_call("f", {}),
            *built.compaction(),
            *built.complete(),
        ]

    with Server(rule=rule) as server, open_socket(server) as ws:
        first = ask(ws, create())[-1]["response"]
        [name] = [item["call_id"] for item in first["output"] if "call_id" in item]
        chain = {"previous_response_id": first["id"]}
        late = ask(ws, create([output(name)], **chain))
        assert refusal_of(late) == nameless(("function_call", name))
        assert ask(ws, create("And?", **chain))[-1]["type"] == "response.completed"


def test_the_compact_endpoint_takes_what_waits():
    body = {"model": "m", "input": [call()]}
    with Server() as server, http_client(server) as client:
        assert post(client, body, "/v1/responses/compact")[0] == 200


@pytest.mark.parametrize("semantics", [Semantics(pairs=False), Semantics(chains=False)])
def test_a_server_may_take_them_alone(semantics):
    with Server(semantics=semantics) as server, open_socket(server) as ws:
        for lone in (call(), output()):
            assert ask(ws, create([lone]))[-1]["type"] == "response.completed"


def test_a_recording_is_played_to_whatever_comes():
    with Server() as server, open_socket(server) as ws:
        events = ask(ws, create())
    with Server(events) as server, open_socket(server) as ws:
        assert ask(ws, create([output()])) == events


def test_a_steer_that_waits_is_no_output():
    with Server(rule=look, delay=0.02) as server, open_socket(server) as ws:
        send(ws, create(stream_id="a"))
        target = until(ws, "response.output_item.added")[0]["response"]["id"]
        steer(ws, target)
        pending = until(ws, "response.steer.pending")[-1]
        chain = {"previous_response_id": target, "stream_id": "a"}
        first = pending["required_input"][0]["call_id"]
        assert refusal_of(ask(ws, create([], **chain))) == unanswered(("function_call", first))
        outputs = [output(stub["call_id"]) for stub in pending["required_input"]]
        assert text_of(ask(ws, create(outputs, **chain))) == "x"
