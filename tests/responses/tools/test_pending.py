"""Calls and their outputs: what the server would refuse is refused before it is sent."""

import pytest

from llmws.errors import ConfigurationError
from llmws.responses.tools.pending import Pending, waiting_calls
from llmws.responses.tools.replay import input_items
from tests.responses.chatting import call, output, said, user


def transcript(*items):
    return Pending(input_items([*items]))


def admitted(pending, *items):
    return [item.raw for item in pending.admit(input_items([*items]))]


CALLS = [
    ({"type": "function_call", "id": "fc_1", "call_id": "c"}, {"type": "function_call_output", "call_id": "c"}),
    ({"type": "custom_tool_call", "id": "ct_1", "call_id": "c"}, {"type": "custom_tool_call_output", "call_id": "c"}),
    ({"type": "computer_call", "id": "cu_1", "call_id": "c"}, {"type": "computer_call_output", "call_id": "c"}),
    ({"type": "shell_call", "id": "sh_1", "call_id": "c"}, {"type": "shell_call_output", "call_id": "c"}),
    ({"type": "apply_patch_call", "id": "ap_1", "call_id": "c"}, {"type": "apply_patch_call_output", "call_id": "c"}),
    ({"type": "local_shell_call", "id": "ls_1", "call_id": "c"}, {"type": "local_shell_call_output", "id": "ls_1"}),
    ({"type": "local_shell_call", "id": "ls_1", "call_id": "c"}, {"type": "local_shell_call_output", "id": "c"}),
    (
        {"type": "tool_search_call", "id": "ts_1", "call_id": "c", "execution": "client"},
        {"type": "tool_search_output", "call_id": "c"},
    ),
    (
        {"type": "mcp_approval_request", "id": "mcpr_1", "name": "drop"},
        {"type": "mcp_approval_response", "approval_request_id": "mcpr_1", "approve": True},
    ),
]  # fmt: skip


@pytest.mark.parametrize(("asked", "answer"), CALLS, ids=lambda item: item["type"])
def test_every_kind_of_call_waits_for_its_output(asked, answer):
    pending = transcript(asked)
    name = asked.get("call_id") or asked["id"]
    with pytest.raises(
        ConfigurationError, match=rf"wait for their output: {name} \({answer['type']}\)"
    ):
        pending.admit(input_items("go on"))
    assert admitted(pending, answer, user("go on")) == [answer, user("go on")]


@pytest.mark.parametrize(
    "item",
    [
        said("hello", "msg_1"),
        {"type": "web_search_call", "id": "ws_1"},
        {"type": "mcp_call", "id": "mcp_1"},
        {"type": "tool_search_call", "id": "ts_1", "call_id": "c", "execution": "server"},
        {"type": "shell_call", "id": "sh", "call_id": "c", "environment": {"type": "container_auto"}},
        call("c", status="incomplete"),
        call("c", status="in_progress"),
        {"type": "reasoning", "id": "rs_1"},
    ],
    ids=lambda item: item["type"],
)  # fmt: skip
def test_nothing_else_waits(item):
    assert admitted(transcript(item), user("go on")) == [user("go on")]


def test_an_output_that_the_server_gave_itself_is_not_asked_for():
    answered = {"type": "shell_call_output", "call_id": "c", "output": []}
    pending = transcript({"type": "shell_call", "id": "sh", "call_id": "c"}, answered)
    assert pending.owed == {}


def test_all_missing_calls_are_named():
    pending = transcript(call("c1"), call("c2"), call("c3"))
    with pytest.raises(ConfigurationError, match=r"c1 \(function_call_output\), c3 \("):
        pending.admit(input_items([output("c2")]))


@pytest.mark.parametrize(
    "stray",
    [output("other"), {"type": "custom_tool_call_output", "call_id": "c"}, {"type": "function_call_output"}],
)  # fmt: skip
def test_an_output_without_its_call_is_refused(stray):
    pending = transcript(call("c"))
    with pytest.raises(ConfigurationError, match=r"has no such call .*wait for their output: c"):
        pending.admit(input_items([output("c"), stray]))


def test_an_output_is_frozen_once_given():
    pending = transcript(call("c"), output("c", "found"))
    with pytest.raises(ConfigurationError, match="'c' has had its output"):
        pending.admit(input_items([output("c", "something else")]))
    assert admitted(pending, output("c", "found"), user("and?")) == [user("and?")]


def test_two_outputs_for_one_call_in_one_input_are_one_or_an_error():
    pending = transcript(call("c"))
    assert admitted(pending, output("c"), output("c")) == [output("c")]
    with pytest.raises(ConfigurationError, match="frozen"):
        pending.admit(input_items([output("c"), output("c", "else")]))


def test_a_check_changes_nothing():
    pending = transcript(call("c"))
    for _ in range(2):
        assert admitted(pending, output("c")) == [output("c")]
        with pytest.raises(ConfigurationError):
            pending.admit(())


def test_a_call_in_the_input_itself_may_be_answered_there_and_must_be():
    assert admitted(Pending(), call("c"), output("c")) == [call("c"), output("c")]
    with pytest.raises(ConfigurationError, match="wait for their output: c"):
        Pending().admit(input_items([call("c")]))


@pytest.mark.parametrize(
    "again", [said("hello", "msg_1"), call("c"), {**call("c"), "id": "fc_other"}]
)
def test_what_is_part_of_the_conversation_is_not_taken_again(again):
    pending = transcript(said("hello", "msg_1"), call("c"), output("c"))
    with pytest.raises(ConfigurationError, match="already part of the conversation"):
        pending.admit(input_items([again]))
    with pytest.raises(ConfigurationError, match="already part of the conversation"):
        Pending().admit(input_items([again, again]))


def test_a_reference_may_stand_beside_its_item():
    reference = {"type": "item_reference", "id": "msg_1"}
    assert admitted(transcript(said("hello", "msg_1")), reference) == [reference]


def test_a_server_may_give_one_id_to_a_call_of_each_turn():
    pending = transcript(call("call_0"), output("call_0", "1"), call("call_0"))
    assert admitted(pending, output("call_0", "2")) == [output("call_0", "2")]


def test_a_copy_goes_its_own_way():
    pending = transcript(call("c"))
    twin = pending.copy()
    pending.note(*input_items([output("c")]))
    assert admitted(pending, user("on")) == [user("on")]
    assert admitted(twin, output("c", "else")) == [output("c", "else")]


@pytest.mark.parametrize(("asked", "answer"), CALLS, ids=lambda item: item["type"])
def test_the_calls_that_wait_are_found_whatever_came_before(asked, answer):
    name = next(iter(transcript(asked).owed))
    later = {**asked, "name": "later"}
    items = [user("x"), asked, call("other"), answer, output("other"), later, call("more")]
    assert waiting_calls(items, {name}) == [later]
    assert waiting_calls(items, {name, "more"}) == [later, call("more")]
    assert waiting_calls([*items, answer], {name}) == []
    assert waiting_calls([later, {**later, "name": "latest"}], {name}) == [later]
