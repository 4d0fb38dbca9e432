"""What a response is made of: usage, calls, images, items."""

import base64
import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmws.errors import RemoteProtocolError
from llmws.responses.vocabulary.items import (
    Image,
    OutputItem,
    ToolCall,
    Usage,
    finish_reason_of,
    output_items,
)


# Inputs that nest to the limit.
pytestmark = pytest.mark.usefixtures("no_finalizers")


USAGE = {
    "input_tokens": 10,
    "input_tokens_details": {"cached_tokens": 4, "cache_write_tokens": 3},
    "output_tokens": 5,
    "output_tokens_details": {"reasoning_tokens": 2},
    "total_tokens": 15,
}


def test_usage_reads_every_count():
    usage = Usage.from_wire(USAGE)
    assert usage == Usage(10, 5, 15, 4, 3, 2)
    assert usage.raw is USAGE


def test_a_missing_total_is_the_sum():
    assert Usage.from_wire({"input_tokens": 3, "output_tokens": 4}).total_tokens == 7


@pytest.mark.parametrize("raw", [None, [], 3, "x"])
def test_no_usage_object_is_no_usage(raw):
    assert Usage.from_wire(raw) is None


def test_garbled_counts_are_zero():
    raw = {
        "input_tokens": "9",
        "output_tokens": True,
        "total_tokens": -1,
        "input_tokens_details": 3,
    }
    assert Usage.from_wire(raw) == Usage()


def test_usage_adds_up():
    assert sum([Usage.from_wire(USAGE)] * 3, Usage()) == Usage(30, 15, 45, 12, 9, 6)
    with pytest.raises(TypeError):
        Usage() + 1


def test_a_function_call_has_parsed_arguments():
    call = ToolCall.from_item(
        {
            "type": "function_call",
            "id": "fc",
            "call_id": "call",
            "name": "f",
            "arguments": '{"q":1}',
        }
    )
    assert call == ToolCall("call", "fc", "f", {"q": 1}, '{"q":1}', builtin=False)


@pytest.mark.parametrize("text", ["", "{", '{"a":NaN}', "\ud800", "[" * 100_000])
def test_broken_arguments_are_none_and_keep_their_text(text):
    call = ToolCall.from_item({"type": "function_call", "id": "fc", "name": "f", "arguments": text})
    assert (call.id, call.arguments, call.arguments_text) == ("fc", None, text)


def test_the_input_of_a_custom_tool_is_never_parsed():
    call = ToolCall.from_item(
        {
            "type": "custom_tool_call",
            "call_id": "c",
            "name": "sql",
            "input": '{"looks":"like JSON"}',
        }
    )
    assert (call.name, call.arguments, call.arguments_text) == (
        "sql",
        None,
        '{"looks":"like JSON"}',
    )
    assert not call.builtin


@pytest.mark.parametrize(
    ("item", "name", "arguments", "builtin"),
    [
        ({"type": "computer_call", "action": {"x": 1}}, "computer", {"x": 1}, False),
        ({"type": "computer_call", "actions": [{"x": 1}]}, "computer", [{"x": 1}], False),
        (
            {"type": "local_shell_call", "action": {"command": []}},
            "local_shell",
            {"command": []},
            False,
        ),
        (
            {"type": "shell_call", "action": {}, "environment": {"type": "local"}},
            "shell",
            {},
            False,
        ),
        (
            {"type": "shell_call", "action": {}, "environment": {"type": "container_reference"}},
            "shell",
            {},
            True,
        ),
        (
            {"type": "apply_patch_call", "operation": {"diff": ""}},
            "apply_patch",
            {"diff": ""},
            False,
        ),
        (
            {"type": "tool_search_call", "execution": "client", "arguments": {}},
            "tool_search",
            {},
            False,
        ),
        (
            {"type": "tool_search_call", "execution": "server", "arguments": {}},
            "tool_search",
            {},
            True,
        ),
        ({"type": "web_search_call", "action": {"query": "q"}}, "web_search", {"query": "q"}, True),
        ({"type": "file_search_call", "queries": ["q"]}, "file_search", {"queries": ["q"]}, True),
        ({"type": "code_interpreter_call", "code": "1"}, "code_interpreter", {"code": "1"}, True),
        ({"type": "image_generation_call", "result": "aGk="}, "image_generation", None, True),
        ({"type": "mcp_call", "name": "shorten", "arguments": "[1]"}, "shorten", [1], True),
        ({"type": "new_call"}, "new", None, True),
    ],
)
def test_each_kind_of_call_is_read(item, name, arguments, builtin):
    call = ToolCall.from_item({"id": "i", **item})
    assert (call.id, call.name, call.arguments, call.builtin) == ("i", name, arguments, builtin)


@pytest.mark.parametrize("item", [{}, {"type": "message"}, {"type": "mcp_list_tools"}, {"type": 3}])
def test_what_is_no_call_is_none(item):
    assert ToolCall.from_item(item) is None


def test_a_shell_call_that_the_output_answers_was_run_by_the_server():
    call = {"type": "shell_call", "call_id": "c1", "action": {}}
    other = {"type": "shell_call", "call_id": "c2", "action": {}}
    answer = {"type": "shell_call_output", "call_id": "c1"}
    assert [call.builtin for call in output_items([call, other, answer])[1]] == [True, False]


def test_an_image_is_decoded_on_demand():
    raw = {"type": "image_generation_call", "id": "ig", "result": "aGk=", "output_format": "webp"}
    image = OutputItem(raw).image
    assert (image.data, image.media_type, image.item_id, image.partial) == (
        b"hi",
        "image/webp",
        "ig",
        False,
    )
    assert OutputItem({**raw, "result": None}).image is None
    assert "aGk=" not in repr(image)


@pytest.mark.parametrize("encoded", ["aGk", "aG...k=", "é"])
def test_a_broken_image_says_so_when_it_is_decoded(encoded):
    with pytest.raises(RemoteProtocolError, match="ig_1"):
        _ = Image(encoded, item_id="ig_1").data


@pytest.mark.parametrize(
    ("made", "media_type"), [(None, "image/png"), ("jpeg", "image/jpeg"), ("svg", "image/svg+xml")]
)
def test_the_media_type_follows_the_format(made, media_type):
    assert Image.from_wire("", {"output_format": made}).media_type == media_type


def test_an_item_joins_its_parts_by_kind():
    item = OutputItem(
        {
            "type": "message",
            "id": "m",
            "status": "completed",
            "content": [
                {"type": "output_text", "text": "a", "annotations": [{"n": 1}, None]},
                {"type": "refusal", "refusal": "no"},
                None,
                {"type": "output_text", "text": 3},
                {"type": "output_text", "text": "b"},
            ],
        }
    )
    assert (item.text, item.refusal, item.thinking, item.status) == ("ab", "no", "", "completed")
    assert item.annotations == [{"n": 1}]
    assert item["id"] == item.id == item.get("id") == "m"
    assert "text='ab'" in repr(item)


def test_reasoning_is_its_summary_or_else_its_text():
    content = [{"type": "reasoning_text", "text": "x"}, {"type": "reasoning_text", "text": "y"}]
    summary = [
        {"type": "summary_text", "text": "a"},
        {"text": ""},
        {"type": "summary_text", "text": "b"},
    ]
    raw = {"type": "reasoning", "content": content}
    assert OutputItem({**raw, "summary": summary}).thinking == "a\n\nb"
    assert OutputItem({**raw, "summary": []}).thinking == "xy"
    assert OutputItem({**raw, "type": "message"}).thinking == ""


CLIENT = ToolCall("c", "i", "f", None, "")
SERVER = ToolCall("c", "i", "f", None, "", builtin=True)


@pytest.mark.parametrize(
    ("status", "reason", "calls", "expected"),
    [
        ("completed", None, [], "stop"),
        ("completed", None, [SERVER], "stop"),
        ("completed", None, [SERVER, CLIENT], "tool_calls"),
        ("incomplete", "max_output_tokens", [CLIENT], "length"),
        ("incomplete", "max_tokens", [], "length"),
        ("incomplete", "content_filter", [], "content_filter"),
        ("incomplete", "steered", [], "incomplete"),
        ("incomplete", None, [], "incomplete"),
        ("incomplete", ["x"], [], "incomplete"),
        ("failed", None, [CLIENT], "error"),
        ("cancelled", None, [], "cancelled"),
        ("in_progress", None, [CLIENT], None),
        ("queued", None, [], None),
        ("new", None, [], "unknown"),
        (None, None, [], "unknown"),
        ([], None, [], "unknown"),
    ],
)
def test_the_finish_reason_is_portable(status, reason, calls, expected):
    assert finish_reason_of(status, reason, calls) == expected


def test_values_survive_pickling_and_are_not_hashable():
    call = ToolCall.from_item({"type": "function_call", "name": "f", "arguments": "{}"})
    for value in (call, Usage.from_wire(USAGE), Image("aGk="), OutputItem({"type": "message"})):
        assert pickle.loads(pickle.dumps(value)) == value
        with pytest.raises(TypeError):
            hash(value)


@given(st.binary())
def test_an_image_gives_back_every_byte(data):
    assert Image(base64.b64encode(data).decode()).data == data


@pytest.mark.parametrize(
    ("text", "value"),
    [('{"a": [1, 2', {"a": [1]}), ('{"a": 1}', {"a": 1}), ("", None), ("x", None)],
)
def test_the_arguments_so_far_are_what_can_be_read_of_them(text, value):
    assert ToolCall("c", "i", "f", None, text).partial_arguments == value
