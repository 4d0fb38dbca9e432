"""What becomes an item of a transcript, and in what form."""

import pytest

from llmws.errors import ConfigurationError
from llmws.responses.tools.replay import input_items, output_items_to_keep
from tests.responses.chatting import call, said, user


def raws(items):
    return [item.raw for item in items]


@pytest.mark.parametrize(
    ("given", "items"),
    [
        (None, []),
        ("Hello", [user("Hello")]),
        (user("Hello"), [user("Hello")]),
        ([user("a"), user("b")], [user("a"), user("b")]),
        ((user("a"),), [user("a")]),
        ([], []),
    ],
)
def test_an_input_may_have_several_forms(given, items):
    assert raws(input_items(given)) == items


@pytest.mark.parametrize("given", [1, {1, 2}, ["text"], [None], b"bytes", [user("a"), object()]])
def test_an_input_of_another_form_is_refused(given):
    with pytest.raises(ConfigurationError, match=r"^input(\[\d\])? is of type"):
        input_items(given)


def test_an_input_that_is_no_json_is_refused_with_the_place():
    with pytest.raises(
        ConfigurationError, match=r"input\[1\] cannot be sent as JSON: .*\$\.content"
    ):
        input_items([user("a"), user(object())])


def test_output_goes_back_as_the_wire_has_it():
    output = [
        {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "e", "status": "completed"},
        said("hello", "msg_1", phase="final_answer", unknown={"a": [None]}),
        call("c" * 100),
    ]  # fmt: skip
    assert raws(output_items_to_keep(output, stored=False)) == output


def test_who_made_an_item_is_left_out_everywhere():
    output = {
        "type": "shell_call_output", "call_id": "c", "created_by": "a",
        "output": [{"stdout": "x", "created_by": "b"}, "text"],
    }  # fmt: skip
    (kept,) = raws(output_items_to_keep([output], stored=True))
    assert kept == {
        "type": "shell_call_output",
        "call_id": "c",
        "output": [{"stdout": "x"}, "text"],
    }


@pytest.mark.parametrize(
    ("fields", "stored", "kept"),
    [
        ({}, True, True),
        ({}, False, False),
        ({"encrypted_content": None, "content": []}, False, False),
        ({"encrypted_content": "e"}, False, True),
        ({"content": [{"type": "reasoning_text", "text": "hm"}]}, False, True),
    ],
)
def test_reasoning_that_the_server_could_not_find_again_is_left_out(fields, stored, kept):
    item = {"type": "reasoning", "id": "rs_1", "summary": [], **fields}
    assert raws(output_items_to_keep([item], stored=stored)) == [item] * kept
