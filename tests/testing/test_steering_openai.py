"""What the server says of steers, chains and compaction is what openai-python's own types describe."""

import json

import pytest
from openai.types.responses import CompactedResponse, ResponsesServerEvent
from pydantic import TypeAdapter

from llmws.testing import Semantics, Server, rules
from llmws.testing.context import items_of
from tests.testing.client import ask, create, http_client, open_socket, post, receive, send
from tests.testing.test_steering import Paused, answer, steer, until


EVENTS = TypeAdapter(ResponsesServerEvent)


def of_the_sdk(events):
    """Check each event against the SDK's types, which are lax about fields and strict about shapes."""
    for event in events:
        parsed = EVENTS.validate_python(event)
        assert parsed.type == event["type"]
        assert parsed.to_dict(mode="json", exclude_unset=True) == event
    return events


@pytest.mark.parametrize("calls", [True, False])
def test_steers(calls):
    rule = Paused(calls=calls)
    with Server(rule=rule) as server, open_socket(server) as ws:
        send(ws, create("Count.", stream_id="a"))
        begun = "function_call_arguments.done" if calls else "output_text.delta"
        events = until(ws, f"response.{begun}")
        target = events[0]["response"]["id"]
        steer(ws, target)
        events += until(ws, "response.steer.accepted")
        rule.steps.release(3)
        events += until(ws, "response.steer.pending") if calls else answer(ws) + answer(ws)
        steer(ws, target)
        events.append(receive(ws))
        assert events[-1]["type"] == "response.steer.failed"
    of_the_sdk(events)


def test_compaction():
    tight = {"context_management": [{"type": "compaction", "compact_threshold": 1}]}
    with Server() as server, open_socket(server) as ws, http_client(server) as client:
        final = of_the_sdk(ask(ws, create(**tight)))[-1]["response"]
        body = {"model": "m", "input": "x", "previous_response_id": final["id"]}
        reply = json.loads(post(client, body, "/v1/responses/compact")[2])
        # The SDK has no type for a user's message in an output, though the API gives those back.
        own = {**reply, "output": reply["output"][-1:]}
        parsed = CompactedResponse.model_validate(own)
        assert parsed.to_dict(mode="json", exclude_unset=True) == own
        begun = ask(ws, create([*reply["output"], *items_of("And?")]))
        assert begun[-1]["type"] == "response.completed"


def test_refusals():
    semantics = Semantics(max_age=0.2, most_names=0)
    with Server(semantics=semantics, rule=rules.echo()) as server, open_socket(server) as ws:
        of_the_sdk(ask(ws, create(previous_response_id="resp_x")))
        of_the_sdk(ask(ws, create(stream_id="a")))
        of_the_sdk([receive(ws)])
