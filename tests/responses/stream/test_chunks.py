"""The projection of events into chunks."""

import copy
import json
import pickle
from pathlib import Path

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmws.errors import ConfigurationError
from llmws.responses.stream.chunks import Chunk, from_event
from llmws.responses.vocabulary.events import TYPES, from_raw
from llmws.responses.vocabulary.items import Image, ToolCall, Usage


FOLDER = Path(__file__).parents[3].parent / "shared" / "recordings" / "responses"
RECORDINGS = sorted(FOLDER.glob("*.jsonl")) or [
    pytest.param(None, marks=pytest.mark.skip(reason=f"no real recordings: {FOLDER} is absent"))
]
CALL = ToolCall("call_1", "fc_1", "f", {}, "{}")
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=5,
)


def project(name, **fields):
    return from_event(from_raw({"type": f"response.{name}", **fields}))


def test_a_text_delta_is_content():
    chunk = project("output_text.delta", delta="Hi", item_id="m", output_index=0)
    assert chunk == Chunk.content("Hi")
    assert (chunk.type, chunk.text, chunk.thinking) == ("content", "Hi", "")
    assert (chunk.part, chunk.tool_call, dict(chunk.metadata)) == (None, None, {})


@pytest.mark.parametrize(
    "chunk",
    [
        project("output_text.delta", delta="x"),
        project("refusal.delta", delta="x"),
        Chunk.content("x"),
    ],
)
def test_a_chunk_is_a_frozen_and_slotted_attrs_value(chunk):
    assert type(chunk) is Chunk
    assert attrs.has(Chunk)
    assert not hasattr(chunk, "__dict__")
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        chunk.text = "y"
    with pytest.raises(TypeError):
        chunk.metadata["x"] = 1
    assert pickle.loads(pickle.dumps(chunk)) == copy.deepcopy(chunk) == chunk


def test_a_garbled_text_delta_is_empty_content():
    assert project("output_text.delta", delta=3) == Chunk.content("")


def test_a_refusal_is_content_that_says_so():
    chunk = project("refusal.delta", delta="I can")
    assert (chunk.type, chunk.text, chunk.metadata["refusal"]) == ("content", "I can", True)


@pytest.mark.parametrize("name", ["reasoning_text.delta", "reasoning_summary_text.delta"])
def test_reasoning_is_thinking_and_not_text(name):
    chunk = project(name, delta="Hm", item_id="rs", output_index=1, summary_index=2)
    assert (chunk.type, chunk.thinking, chunk.text) == ("thinking", "Hm", "")
    assert chunk.metadata == {"item_id": "rs", "output_index": 1, "summary_index": 2}


@pytest.mark.parametrize(
    "name", ["function_call_arguments", "mcp_call_arguments", "custom_tool_call_input"]
)
def test_argument_deltas_are_meta(name):
    chunk = project(f"{name}.delta", delta='{"', item_id="fc", output_index=1)
    expected = {"item_id": "fc", "output_index": 1, "delta": '{"'}
    assert (chunk.type, chunk.metadata) == ("meta", {"tool_call_delta": expected})
    assert project(f"{name}.done", item_id="fc", output_index=1) is None


def test_a_finished_call_is_one_whole_chunk():
    item = {
        "type": "function_call",
        "id": "fc_1",
        "call_id": "call_1",
        "name": "f",
        "arguments": "{}",
    }
    chunk = project("output_item.done", output_index=1, item=item)
    assert (chunk.type, chunk.tool_call) == ("tool_call", CALL)
    assert chunk.metadata == {"item_id": "fc_1", "output_index": 1}
    assert project("output_item.added", output_index=1, item=item) is None


@pytest.mark.parametrize("item", [None, {}, {"type": "message"}, {"type": "reasoning"}, 3])
def test_a_finished_item_that_is_no_call_has_nothing_portable(item):
    assert project("output_item.done", item=item) is None


def test_a_preview_is_a_partial_part():
    chunk = project(
        "image_generation_call.partial_image",
        partial_image_b64="aGk=",
        partial_image_index=1,
        output_format="webp",
        item_id="ig",
    )
    assert chunk.type == "content_part"
    assert chunk.part == Image("aGk=", "image/webp", "ig", partial=True)
    assert (chunk.metadata["partial"], chunk.metadata["partial_image_index"]) == (True, 1)


def test_a_finished_image_is_a_part():
    item = {"type": "image_generation_call", "id": "ig", "result": "aGk="}
    chunk = project("output_item.done", item=item, output_index=0)
    assert (chunk.type, chunk.part) == ("content_part", Image("aGk=", item_id="ig"))
    assert "partial" not in chunk.metadata
    assert project("output_item.done", item={**item, "result": None}).type == "tool_call"


def test_an_annotation_is_meta():
    chunk = project("output_text.annotation.added", annotation={"url": "u"}, item_id="m")
    assert (chunk.type, chunk.metadata["annotation"]) == ("meta", {"url": "u"})


def test_only_the_acceptance_names_the_response():
    response = {"id": "resp_1"}
    assert project("created", response=response) == Chunk.meta(response_id="resp_1")
    assert project("in_progress", response=response) is None
    assert project("queued", response=response) is None


def test_the_terminal_says_how_it_ended():
    usage = {"input_tokens": 1, "output_tokens": 2}
    chunk = project("completed", response={"id": "r", "status": "completed", "usage": usage})
    assert chunk.metadata == {
        "response_id": "r",
        "finish_reason": "stop",
        "usage": Usage(1, 2, 3),
        "terminal": True,
    }
    details = {"reason": "max_output_tokens"}
    cut = project("incomplete", response={"incomplete_details": details})
    assert (cut.metadata["finish_reason"], cut.metadata["usage"]) == ("length", None)
    call = {"type": "function_call", "name": "f"}
    assert (
        project("completed", response={"output": [call]}).metadata["finish_reason"] == "tool_calls"
    )


def test_an_error_is_meta():
    error = {"type": "t", "code": "c", "message": "m", "param": "p"}
    chunk = from_event(from_raw({"type": "error", "status": 400, "error": error}))
    assert chunk == Chunk.meta(error={"status": 400, **error})


@pytest.mark.parametrize(
    "name",
    [
        "audio.delta",
        "web_search_call.searching",
        "content_part.added",
        "output_text.done",
        "steer.accepted",
    ],
)
def test_other_events_have_nothing_portable(name):
    assert project(name) is None
    assert from_event(from_raw({"type": "codex.rate_limits"})) is None


def test_constructors_make_valid_chunks():
    made = [
        Chunk.content("x", a=1),
        Chunk.content_part(Image("aGk="), a=1),
        Chunk.reasoning("x", a=1),
        Chunk.call(CALL, a=1),
        Chunk.meta(a=1),
    ]
    assert [chunk.type for chunk in made] == [
        "content",
        "content_part",
        "thinking",
        "tool_call",
        "meta",
    ]
    assert all(chunk.validate() is chunk and chunk.metadata == {"a": 1} for chunk in made)


@pytest.mark.parametrize(
    "chunk",
    [
        Chunk("other"),
        Chunk("content", text=None),
        Chunk("content_part"),
        Chunk("thinking", thinking=3),
        Chunk("tool_call"),
        Chunk("tool_call", tool_call={}),
        Chunk("meta", metadata=None),
    ],
)
def test_a_chunk_that_lacks_what_its_type_says_is_not_valid(chunk):
    with pytest.raises(ConfigurationError):
        chunk.validate()


def test_repr_is_compact():
    assert repr(Chunk.content("Hello")) == "Chunk('content', 'Hello')"
    for chunk in (Chunk.content("x" * 999), Chunk.meta(a="y" * 999), Chunk.call(CALL)):
        assert len(repr(chunk)) < 50


@pytest.mark.parametrize("path", RECORDINGS, ids=lambda path: path and path.stem)
def test_the_content_of_a_real_stream_is_exactly_its_text_deltas(path):
    raws = [json.loads(line) for line in path.read_text().splitlines()]
    chunks = [chunk for raw in raws if (chunk := from_event(from_raw(raw)))]
    text = "".join(chunk.text for chunk in chunks if not chunk.metadata.get("refusal"))
    deltas = [raw["delta"] for raw in raws if raw["type"] == "response.output_text.delta"]
    assert text == "".join(deltas)
    assert all(chunk.validate() for chunk in chunks)
    assert [chunk.metadata.get("terminal", False) for chunk in chunks].count(True) == 1


@given(st.lists(st.text()))
def test_texts_are_passed_on_as_they_are(deltas):
    chunks = [project("output_text.delta", delta=delta) for delta in deltas]
    assert [chunk.text for chunk in chunks] == deltas


FIELDS = ["delta", "item", "response", "error", "annotation", "partial_image_b64", "output_index"]


@given(st.sampled_from([*TYPES, "new"]), st.dictionaries(st.sampled_from(FIELDS), JSON), JSON)
def test_no_event_however_garbled_raises(name, fields, other):
    nested = {"type": other, "output": [other, {"type": "function_call", "arguments": other}]}
    for raw in (fields, {**fields, "item": nested, "response": {**nested, "usage": {"x": other}}}):
        chunk = from_event(from_raw({"type": name, **raw}))
        assert chunk is None or (chunk.validate() and repr(chunk))
