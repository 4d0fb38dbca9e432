import pytest

from llmws.testing.steers import Steer, required_input, steer_fault, successor_of, with_steers


def test_what_a_client_owes_follows_from_the_calls():
    output = [
        {"type": "message", "id": "m"},
        {"type": "function_call", "call_id": "c1", "name": "f", "arguments": "{}"},
        {"type": "custom_tool_call", "call_id": "c2", "name": "g"},
        {"type": "computer_call", "call_id": "c3"},
        {"type": "shell_call", "call_id": "c4"},
        {"type": "apply_patch_call", "call_id": "c5"},
        {"type": "tool_search_call", "call_id": "c6", "execution": "client"},
        {"type": "tool_search_call", "call_id": "c7", "execution": "server"},
        {"type": "mcp_approval_request", "id": "m1"},
        {"type": "web_search_call", "id": "w1"},
    ]
    assert required_input(output) == [
        {"type": "function_call_output", "call_id": "c1", "name": "f"},
        {"type": "custom_tool_call_output", "call_id": "c2"},
        {"type": "computer_call_output", "call_id": "c3"},
        {"type": "shell_call_output", "call_id": "c4"},
        {"type": "apply_patch_call_output", "call_id": "c5"},
        {"type": "tool_search_output", "call_id": "c6", "execution": "client"},
        {"type": "mcp_approval_response", "approval_request_id": "m1"},
    ]


@pytest.mark.parametrize(
    "given",
    [
        "Stop.",
        [{"role": "user", "content": "a"}],
        [{"type": "message", "role": "user", "content": [{"type": "input_text", "text": "a"}]}],
        [{"role": "user", "content": [{"type": "input_image"}, {"type": "input_file"}]}],
    ],
)
def test_texts_and_messages_of_the_user_can_steer(given):
    message = {"type": "response.steer", "previous_response_id": "r", "input": given}
    assert steer_fault(message) is None
    assert "no field 'stream_id'" in steer_fault({**message, "stream_id": "a"})


@pytest.mark.parametrize(
    "given",
    [
        None,
        "",
        [],
        7,
        ["a"],
        [{"role": "assistant", "content": "a"}],
        [{"role": "user", "content": "a", "id": "x"}],
        [{"role": "user", "content": 7}],
        [{"role": "user", "content": [{"type": "output_text", "text": "a"}]}],
        [{"type": "function_call_output", "call_id": "c", "output": "a"}],
    ],
)
def test_nothing_else_can(given):
    message = {"type": "response.steer", "previous_response_id": "r", "input": given}
    assert steer_fault(message) is not None


def test_steers_come_before_the_input_in_their_order():
    steers = [Steer("s1", "r", "a"), Steer("s2", "r", [{"role": "user", "content": "b"}])]
    body = {"input": "c", "model": "m", "previous_response_id": "old"}
    texts = [item["content"] for item in with_steers(body, steers)["input"]]
    assert texts == ["a", "b", "c"]
    successor = successor_of(body, "r", steers)
    assert [item["content"] for item in successor["input"]] == ["a", "b"]
    assert (successor["model"], successor["previous_response_id"]) == ("m", "r")
