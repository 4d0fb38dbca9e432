"""Items that are still being written."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmws.responses.stream import drafts
from llmws.responses.stream.drafts import Drafts
from llmws.responses.vocabulary.events import TYPES, from_raw


def fold(*raws):
    gathered = Drafts()
    for name, fields in raws:
        gathered.add(from_raw({"type": f"response.{name}", **fields}))
    return gathered.output()


def test_every_rule_is_about_a_known_type():
    assert set(drafts._RULES) <= set(TYPES)
    assert {rule.name for rule in drafts._RULES.values()} == {*drafts._PLACES}


@pytest.mark.parametrize(
    ("name", "done", "item_type", "field"),
    [
        ("function_call_arguments", "arguments", "function_call", "arguments"),
        ("mcp_call_arguments", "arguments", "mcp_call", "arguments"),
        ("custom_tool_call_input", "input", "custom_tool_call", "input"),
        ("code_interpreter_call_code", "code", "code_interpreter_call", "code"),
    ],
)
def test_flat_texts_build_an_item_that_was_never_announced(name, done, item_type, field):
    where = {"output_index": 3, "item_id": "i"}
    deltas = [(f"{name}.delta", {**where, "delta": text}) for text in ("a", "b")]
    assert fold(*deltas) == [{"type": item_type, "id": "i", field: "ab"}]
    whole = (f"{name}.done", {**where, done: "whole"})
    assert fold(*deltas, whole) == [{"type": item_type, "id": "i", field: "whole"}]


def test_an_announced_call_keeps_its_name():
    item = {"type": "function_call", "id": "fc", "call_id": "c", "name": "f", "arguments": ""}
    delta = {"output_index": 0, "item_id": "fc", "delta": "{"}
    output = fold(
        ("output_item.added", {"output_index": 0, "item": item}),
        ("function_call_arguments.delta", delta),
    )
    assert output == [{**item, "arguments": "{"}]
    assert item["arguments"] == ""


def test_a_finished_item_replaces_what_its_deltas_built():
    item = {"type": "message", "id": "m", "content": [{"type": "output_text", "text": "whole"}]}
    delta = ("output_text.delta", {"output_index": 0, "item_id": "m", "delta": "trimmed"})
    done = ("output_item.done", {"output_index": 0, "item": item})
    for order in (
        [delta, done],
        [done, delta],
        [done, ("output_item.added", {"output_index": 0, "item": {"id": "m"}})],
    ):
        assert fold(*order) == [item]


def test_parts_are_sorted_by_their_index_and_gaps_do_not_matter():
    def delta(place, text):
        fields = {"output_index": 7, "content_index": place, "item_id": "m", "delta": text}
        return ("output_text.delta", fields)

    item = {
        "type": "message",
        "id": "m",
        "content": [{"type": "output_text", "text": text} for text in "abc"],
    }
    assert fold(delta(9, "c"), delta(0, "a"), delta(4, "b")) == [item]


def test_items_are_sorted_by_their_index():
    items = [{"type": "message", "id": str(index)} for index in (5, 0, 12)]
    output = fold(*[("output_item.done", {"output_index": int(i["id"]), "item": i}) for i in items])
    assert [item["id"] for item in output] == ["0", "5", "12"]


def test_items_without_an_index_are_told_apart_by_their_id():
    output = fold(
        ("output_text.delta", {"item_id": "a", "delta": "1"}),
        ("output_text.delta", {"item_id": "b", "delta": "2"}),
        ("output_text.delta", {"item_id": "a", "delta": "3"}),
    )
    assert [item["content"][0]["text"] for item in output] == ["13", "2"]


def test_a_delta_without_an_index_finds_its_announced_item():
    item = {"type": "function_call", "id": "fc", "name": "f"}
    output = fold(
        ("output_item.added", {"output_index": 4, "item": item}),
        ("function_call_arguments.delta", {"item_id": "fc", "delta": "{}"}),
    )
    assert output == [{**item, "arguments": "{}"}]


def test_an_item_that_is_null_is_passed_over():
    assert fold(("output_item.added", {"output_index": 0, "item": None})) == []


def test_a_refusal_never_becomes_text_even_without_indices():
    output = fold(("output_text.delta", {"delta": "yes"}), ("refusal.delta", {"delta": "no"}))
    assert output[0]["content"] == [
        {"type": "output_text", "text": "yes"},
        {"type": "refusal", "refusal": "no"},
    ]


def test_parts_keep_what_they_were_announced_with():
    where = {"output_index": 0, "item_id": "m", "content_index": 0}
    part = {"type": "output_text", "text": "", "annotations": [{"n": 0}]}
    added = ("content_part.added", {**where, "part": part})
    delta = ("output_text.delta", {**where, "delta": "Hi"})
    note = ("output_text.annotation.added", {**where, "annotation": {"n": 1}})
    content = [{"type": "output_text", "text": "Hi", "annotations": [{"n": 0}, {"n": 1}]}]
    assert fold(added, delta, note) == [{"type": "message", "id": "m", "content": content}]
    assert part["annotations"] == [{"n": 0}]
    # Announced late: what was gathered is not lost.
    assert fold(delta, note, added)[0]["content"] == content
    whole = {"type": "output_text", "text": "whole", "annotations": []}
    assert fold(added, delta, note, ("content_part.done", {**where, "part": whole}))[0][
        "content"
    ] == [whole]


def test_summaries_and_reasoning_are_kept_apart():
    where = {"output_index": 0, "item_id": "rs"}
    part = {"type": "summary_text", "text": ""}
    output = fold(
        ("reasoning_summary_part.added", {**where, "summary_index": 0, "part": part}),
        ("reasoning_summary_text.delta", {**where, "summary_index": 0, "delta": "a"}),
        ("reasoning_summary_text.delta", {**where, "summary_index": 1, "delta": "b"}),
        ("reasoning_summary_text.done", {**where, "summary_index": 1, "text": "B"}),
        ("reasoning_text.delta", {**where, "content_index": 0, "delta": "c"}),
    )
    assert output == [
        {
            "type": "reasoning",
            "id": "rs",
            "summary": [
                {"type": "summary_text", "text": "a"},
                {"type": "summary_text", "text": "B"},
            ],
            "content": [{"type": "reasoning_text", "text": "c"}],
        }
    ]


def test_a_piece_of_encrypted_content_is_not_kept():
    item = {"type": "reasoning", "id": "rs", "encrypted_content": "half", "summary": []}
    added = ("output_item.added", {"output_index": 0, "item": item})
    delta = ("reasoning_summary_text.delta", {"output_index": 0, "delta": "a"})
    assert "encrypted_content" not in fold(added, delta)[0]
    assert fold(added, ("output_item.done", {"output_index": 0, "item": item})) == [item]


def test_shell_commands_and_patches_go_into_their_call():
    action = {"commands": [], "timeout_ms": 5}
    item = {"type": "shell_call", "id": "sh", "action": action}
    output = fold(
        ("output_item.added", {"output_index": 0, "item": item}),
        ("shell_call_command.added", {"output_index": 0, "command_index": 0, "command": "l"}),
        ("shell_call_command.delta", {"output_index": 0, "command_index": 0, "delta": "s"}),
        ("shell_call_command.done", {"output_index": 0, "command_index": 1, "command": "pwd"}),
        (
            "apply_patch_call_operation_diff.delta",
            {"output_index": 1, "item_id": "ap", "delta": "+x"},
        ),
    )
    assert output[0]["action"] == {"commands": ["ls", "pwd"], "timeout_ms": 5}
    assert output[1] == {"type": "apply_patch_call", "id": "ap", "operation": {"diff": "+x"}}
    assert action["commands"] == []


def test_an_item_that_only_began_is_told_on_request():
    gathered = Drafts()
    item = {"type": "web_search_call", "id": "ws", "status": "in_progress"}
    gathered.add(from_raw({"type": "response.output_item.added", "output_index": 0, "item": item}))
    assert gathered.output() == []
    assert gathered.output(all_announced=True) == [item]


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 2), st.text(max_size=5))))
def test_interleaved_deltas_never_mix(pieces):
    expected = {}
    for index, place, text in pieces:
        key = (index, place)
        expected[key] = expected.get(key, "") + text
    output = fold(
        *[
            ("output_text.delta", {"output_index": index, "content_index": place, "delta": text})
            for index, place, text in pieces
        ]
    )
    texts = [part["text"] for item in output for part in item["content"]]
    assert texts == [expected[key] for key in sorted(expected)]
