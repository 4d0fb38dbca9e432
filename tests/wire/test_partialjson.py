"""The value so far of JSON that is cut anywhere."""

import json
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmws.responses.stream.snapshot import Accumulator
from llmws.responses.vocabulary.events import decode
from llmws.wire import jsoncodec
from llmws.wire.partialjson import partial_json


# Inputs that nest to the limit.
pytestmark = pytest.mark.usefixtures("no_finalizers")


TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=6) | st.sampled_from(
    ["\\", '"', "😀x", "\\u00", "\n\t", "\\\\", "é\ud83d".replace("\ud83d", "😀")]
)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=8,
)  # fmt: skip


def begins(part, whole):
    """Tell whether one value is what another was while it was being written."""
    if isinstance(part, str):
        return isinstance(whole, str) and whole.startswith(part)
    if isinstance(part, list):
        return (
            isinstance(whole, list)
            and len(part) <= len(whole)
            and part[:-1] == whole[: len(part)][:-1]
            and all(begins(a, b) for a, b in zip(part[-1:], whole[len(part) - 1 :], strict=False))
        )
    if isinstance(part, dict):
        names = list(part)
        return (
            isinstance(whole, dict)
            and names == list(whole)[: len(names)]
            and all(part[name] == whole[name] for name in names[:-1])
            and all(begins(part[name], whole[name]) for name in names[-1:])
        )
    return type(part) is type(whole) and part == whole


@given(VALUES, st.sampled_from([None, 1]), st.booleans())
def test_the_value_of_every_beginning_is_the_beginning_of_the_value(value, indent, ascii_only):
    text = json.dumps(value, indent=indent, ensure_ascii=ascii_only)
    assert partial_json(text) == value
    before = None
    for length in range(len(text) + 1):
        now = partial_json(text[:length])
        if not isinstance(value, (int, float)):
            assert begins(now, value) or (now is None and length < len(text))
            assert before is None or begins(before, now)
        before = now


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("", None),
        (" \n", None),
        ("{", {}),
        ('{"', {}),
        ('{"city', {}),
        ('{"city"', {}),
        ('{"city":', {}),
        ('{"city": "', {"city": ""}),
        ('{"city": "Dres', {"city": "Dres"}),
        ('{"city": "Dresden", "k', {"city": "Dresden"}),
        ('{"a": [1, 2', {"a": [1]}),
        ('{"a": [1, 2 ', {"a": [1, 2]}),
        ('{"a": [1, 2, tru', {"a": [1, 2]}),
        ('{"a": [{"b": null', {"a": [{"b": None}]}),
        ("-", None),
        ("12", 12),
        ("12.", 12),
        ('"a\\', "a"),
        ('"a\\u00e', "a"),
        ('"a\\u00e9', "aé"),
        ('"\\ud83d', ""),
        ('"\\ud83d\\ude0', ""),
        ('"\\ud83d\\ude00', "😀"),
        ('"\\\\', "\\"),
        ('"\\\\\\', "\\"),
        ('"\\\\u00', "\\u00"),
    ],
)
def test_what_is_whole_is_there_and_what_is_not_is_left_out(text, value):
    assert partial_json(text) == value


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("hello", None),
        ("[1, 2}", [1, 2]),
        ("[1 2]", [1]),
        ("[01, 2]", []),
        ("[1,]", [1]),
        ('{"a": 1 "b": 2}', {"a": 1}),
        ("{1: 2}", {}),
        ('{"a", 1}', {}),
        ('["a\\x", 1]', []),
        ('["a\\uzzzz", 1]', []),
        ("[1e999, 2]", []),
        ("[]]", []),
        ('{"a": 1} and more', {"a": 1}),
        ("[trueish]", [True]),
        ("]", None),
        ("}", None),
    ],
)
def test_what_comes_before_a_fault_counts(text, value):
    assert partial_json(text) == value


@given(st.text(st.sampled_from('{}[],:"\\ud83 e-1.tn'), max_size=12) | st.text(max_size=8))
def test_no_text_at_all_makes_it_raise(text):
    value = partial_json(text)
    try:
        whole = jsoncodec.decode(text.encode())
    except ValueError:
        return
    assert value == whole


def test_half_a_pair_reads_as_the_codec_reads_it():
    text = '["\\ud83d", "\\ude00x"]'
    assert partial_json(text) == jsoncodec.decode(text.encode()) == ["\ufffd", "\ufffdx"]


def test_a_text_may_nest_deeper_than_python_recurses():
    value = partial_json("[" * 100_000)
    depth = 0
    while value:
        value, depth = value[0], depth + 1
    assert depth == 100_000 - 1


@pytest.mark.parametrize("piece", ['{"a":[1,"x\\n"],"b":', "[", '"\\\\', "\\", '"', "1", "tru"])
def test_time_grows_no_faster_than_the_text(piece):
    def seconds(characters):
        text = (
            '["' + piece * (characters // len(piece))
            if piece[0] in "\\1"
            else piece * (characters // len(piece))
        )
        start = time.thread_time()
        partial_json(text)
        return time.thread_time() - start

    # Were it quadratic, sixteen times the text would take 256 times as long.
    assert seconds(160_000) < 80 * max(min(seconds(10_000) for _ in range(3)), 0.0002)


def test_the_arguments_of_a_call_can_be_read_while_they_stream_in():
    fold = Accumulator()
    item = {"id": "fc", "type": "function_call", "call_id": "call", "name": "f", "arguments": ""}
    fold.add(
        decode(
            json.dumps(
                {"type": "response.output_item.added", "output_index": 0, "item": item}
            ).encode()
        )
    )
    for delta in ('{"ci', 'ty": "Dr', "esd"):
        event = {
            "type": "response.function_call_arguments.delta",
            "output_index": 0,
            "item_id": "fc",
            "delta": delta,
        }
        fold.add(decode(json.dumps(event).encode()))
    (call,) = fold.response().tool_calls
    assert (call.id, call.name, call.arguments) == ("call", "f", None)
    assert partial_json(call.arguments_text) == {"city": "Dresd"}
