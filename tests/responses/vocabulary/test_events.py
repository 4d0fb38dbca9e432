"""Events: the table of wire types, the typed views, the decoder."""

import pickle

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmws.errors import RemoteProtocolError
from llmws.responses.vocabulary import events
from llmws.responses.vocabulary.events import TERMINAL_TYPES, TYPES, Event, decode, from_raw


# Inputs that nest to the limit.
pytestmark = pytest.mark.usefixtures("no_finalizers")


# Every name of the vendor's schema and of its guides, and the class it has to become.
WIRE_NAMES = {
    "error": "ErrorEvent",
    "response.error": "ErrorEvent",
    "response.apply_patch_call_operation_diff.delta": "PatchDelta",
    "response.apply_patch_call_operation_diff.done": "PatchDone",
    "response.audio.delta": "AudioDelta",
    "response.audio.done": "AudioDone",
    "response.audio.transcript.delta": "TranscriptDelta",
    "response.audio.transcript.done": "TranscriptDone",
    "response.code_interpreter_call.completed": "ToolProgress",
    "response.code_interpreter_call.in_progress": "ToolProgress",
    "response.code_interpreter_call.interpreting": "ToolProgress",
    "response.code_interpreter_call_code.delta": "CodeDelta",
    "response.code_interpreter_call_code.done": "CodeDone",
    "response.compaction.compacting": "ToolProgress",
    "response.completed": "ResponseFinished",
    "response.content_part.added": "PartAdded",
    "response.content_part.done": "PartDone",
    "response.created": "ResponseStarted",
    "response.custom_tool_call_input.delta": "ArgumentsDelta",
    "response.custom_tool_call_input.done": "ArgumentsDone",
    "response.failed": "ResponseFinished",
    "response.file_search_call.completed": "ToolProgress",
    "response.file_search_call.in_progress": "ToolProgress",
    "response.file_search_call.searching": "ToolProgress",
    "response.function_call_arguments.delta": "ArgumentsDelta",
    "response.function_call_arguments.done": "ArgumentsDone",
    "response.image_generation_call.completed": "ToolProgress",
    "response.image_generation_call.generating": "ToolProgress",
    "response.image_generation_call.in_progress": "ToolProgress",
    "response.image_generation_call.partial_image": "PartialImage",
    "response.in_progress": "ResponseStarted",
    "response.incomplete": "ResponseFinished",
    "response.inject.created": "InjectEvent",
    "response.inject.failed": "InjectEvent",
    "response.mcp_call.completed": "ToolProgress",
    "response.mcp_call.failed": "ToolProgress",
    "response.mcp_call.in_progress": "ToolProgress",
    "response.mcp_call_arguments.delta": "ArgumentsDelta",
    "response.mcp_call_arguments.done": "ArgumentsDone",
    "response.mcp_list_tools.completed": "ToolProgress",
    "response.mcp_list_tools.failed": "ToolProgress",
    "response.mcp_list_tools.in_progress": "ToolProgress",
    "response.output_item.added": "OutputItemAdded",
    "response.output_item.done": "OutputItemDone",
    "response.output_text.annotation.added": "AnnotationAdded",
    "response.output_text.delta": "TextDelta",
    "response.output_text.done": "TextDone",
    "response.queued": "ResponseStarted",
    "response.reasoning_summary_part.added": "ReasoningPartAdded",
    "response.reasoning_summary_part.done": "ReasoningPartDone",
    "response.reasoning_summary_text.delta": "ReasoningDelta",
    "response.reasoning_summary_text.done": "ReasoningDone",
    "response.reasoning_text.delta": "ReasoningDelta",
    "response.reasoning_text.done": "ReasoningDone",
    "response.refusal.delta": "RefusalDelta",
    "response.refusal.done": "RefusalDone",
    "response.shell_call_command.added": "ShellCommandAdded",
    "response.shell_call_command.delta": "ShellCommandDelta",
    "response.shell_call_command.done": "ShellCommandDone",
    "response.shell_call_output_content.delta": "ShellOutputDelta",
    "response.shell_call_output_content.done": "ShellOutputDone",
    "response.steer.accepted": "SteerEvent",
    "response.steer.failed": "SteerEvent",
    "response.steer.pending": "SteerEvent",
    "response.web_search_call.completed": "ToolProgress",
    "response.web_search_call.in_progress": "ToolProgress",
    "response.web_search_call.searching": "ToolProgress",
}

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3)
    ),
    max_leaves=8,
)
FIELDS = sorted(
    {
        name
        for event_class in TYPES.values()
        for base in event_class.__mro__
        for name, value in vars(base).items()
        if isinstance(value, events.Field)
    }
)


def views(event):
    """Read every public attribute of an event."""
    return {name: getattr(event, name) for name in dir(event) if not name.startswith("_")}


def test_every_wire_name_has_its_class():
    assert {name: event_class.__name__ for name, event_class in TYPES.items()} == WIRE_NAMES


def test_every_class_of_the_table_is_public():
    assert {event_class.__name__ for event_class in TYPES.values()} <= set(events.__all__)
    assert all(hasattr(events, name) for name in events.__all__)


def test_the_terminal_types_are_the_three_ends():
    assert {"response.completed", "response.failed", "response.incomplete"} == TERMINAL_TYPES


def test_the_table_cannot_be_changed():
    with pytest.raises(TypeError):
        TYPES["x"] = Event


def test_a_delta_reads_its_fields():
    event = decode(
        b'{"type":"response.output_text.delta","sequence_number":4,"stream_id":"main","item_id":"msg_1",'
        b'"output_index":0,"content_index":1,"delta":"Hel","logprobs":[1]}'
    )
    assert isinstance(event, events.TextDelta)
    assert (event.type, event.delta, event.item_id) == (
        "response.output_text.delta",
        "Hel",
        "msg_1",
    )
    assert (event.sequence_number, event.stream_id) == (4, "main")
    assert (event.output_index, event.content_index, event.logprobs) == (0, 1, [1])


def test_missing_fields_read_as_empty_or_none():
    event = from_raw({"type": "response.output_text.delta"})
    assert isinstance(event, events.TextDelta)
    assert (event.delta, event.item_id, event.logprobs) == ("", "", [])
    assert (event.sequence_number, event.stream_id, event.output_index) == (None, None, None)


def test_fields_of_another_json_type_read_as_if_missing():
    raw = {"type": "response.output_text.delta", "delta": 1, "output_index": True, "logprobs": {}}
    event = from_raw({**raw, "stream_id": ["x"], "sequence_number": "4"})
    assert (event.delta, event.output_index, event.logprobs) == ("", None, [])
    assert (event.stream_id, event.sequence_number) == (None, None)


def test_what_a_missing_field_gives_is_not_shared():
    event = from_raw({"type": "response.output_item.done", "item": None})
    event.item["x"] = 1
    assert event.item == {}


def test_unknown_types_are_plain_events_and_keep_all_fields():
    raw = {"type": "codex.rate_limits", "plan_type": "pro"}
    event = from_raw(raw)
    assert type(event) is Event
    assert event.raw is raw
    assert event["plan_type"] == "pro"
    assert event.get("nothing", 5) == 5
    with pytest.raises(KeyError):
        event["nothing"]


@pytest.mark.parametrize("kind", [None, 3, ["x"], {}, True])
def test_a_message_without_a_type_is_an_event_with_an_empty_one(kind):
    event = from_raw({"type": kind})
    assert type(event) is Event
    assert event.type == ""


def test_events_are_frozen_and_slotted_attrs_classes_with_two_fields():
    event = from_raw({"type": "response.output_text.delta", "delta": "x"})
    assert [field.name for field in attrs.fields(type(event))] == ["type", "raw"]
    assert not hasattr(event, "__dict__")
    for name in ("type", "raw", "delta", "other"):
        with pytest.raises(attrs.exceptions.FrozenInstanceError):
            setattr(event, name, "y")


@pytest.mark.parametrize("event_class", sorted(set(TYPES.values()), key=lambda c: c.__name__))
def test_no_class_stores_more_than_the_base(event_class):
    assert not hasattr(event_class("x", {}), "__dict__")
    assert event_class("x", {}).raw == {}


def test_equality_counts_class_type_and_raw():
    raw = {"type": "response.output_text.delta", "delta": "x"}
    assert from_raw(raw) == from_raw(dict(raw)) == events.TextDelta(raw["type"], raw)
    assert from_raw(raw) != from_raw({**raw, "delta": "y"})
    assert Event(raw["type"], raw) != from_raw(raw)
    with pytest.raises(TypeError):
        hash(from_raw(raw))


def test_events_survive_pickling():
    event = from_raw({"type": "response.output_text.delta", "delta": "x"})
    assert pickle.loads(pickle.dumps(event)) == event


def test_match_narrows_by_class_and_field():
    match from_raw({"type": "response.output_text.delta", "delta": "x"}):
        case events.RefusalDelta():
            found = "refusal"
        case events.TextDelta(delta=text, output_index=None):
            found = text
    assert found == "x"
    match from_raw({"type": "new", "a": 1}):
        case Event("new", {"a": a}):
            found = a
    assert found == 1


def test_repr_shows_class_type_and_fields():
    event = from_raw({"type": "response.output_text.delta", "delta": "Hi", "output_index": 0})
    assert repr(event) == "TextDelta('response.output_text.delta', delta='Hi', output_index=0)"


def test_repr_is_never_huge():
    raw = {"delta": "x" * 10_000, "response": {str(i): ["y" * 1000] * 100 for i in range(1000)}}
    for name in [*TYPES, "z" * 10_000]:
        assert len(repr(from_raw({"type": name, **raw, "item": raw, "error": raw}))) < 500


@pytest.mark.parametrize(
    ("name", "field"),
    [("function_call", "arguments"), ("mcp_call", "arguments"), ("custom_tool_call", "input")],
)
def test_finished_arguments_have_one_text(name, field):
    suffix = "arguments" if field == "arguments" else "input"
    event = from_raw({"type": f"response.{name}_{suffix}.done", field: "{}"})
    assert isinstance(event, events.ArgumentsDone)
    assert event.text == "{}"


def test_progress_is_split_into_tool_and_phase():
    event = from_raw({"type": "response.web_search_call.searching", "item_id": "ws_1"})
    assert isinstance(event, events.ToolProgress)
    assert (event.tool, event.phase, event.item_id) == ("web_search_call", "searching", "ws_1")
    compacting = from_raw({"type": "response.compaction.compacting"})
    assert (compacting.tool, compacting.phase) == ("compaction", "compacting")


def test_lifecycle_events_know_their_response():
    started = from_raw({"type": "response.created", "response": {"id": "resp_1"}})
    assert isinstance(started, events.ResponseStarted)
    assert started.response_id == "resp_1"
    finished = from_raw({"type": "response.incomplete", "response": {"id": "resp_1"}})
    assert isinstance(finished, events.ResponseFinished)
    assert (finished.response_id, finished.status) == ("resp_1", "incomplete")
    cancelled = from_raw({"type": "response.failed", "response": {"status": "cancelled"}})
    assert (cancelled.response_id, cancelled.status) == (None, "cancelled")


def test_a_steer_answer_reads_its_steer():
    event = from_raw(
        {
            "type": "response.steer.pending",
            "steer": {"id": "steer_1", "previous_response_id": "resp_1"},
            "reason": "waiting_for_required_input",
            "required_input": [{"type": "function_call_output", "call_id": "call_1"}],
        }
    )
    assert isinstance(event, events.SteerEvent)
    assert (event.steer_id, event.previous_response_id) == ("steer_1", "resp_1")
    assert event.reason == "waiting_for_required_input"
    assert event.required_input[0]["call_id"] == "call_1"
    assert event.error == {}


def test_an_inject_answer_reads_its_fields():
    event = from_raw(
        {
            "type": "response.inject.failed",
            "response_id": "resp_1",
            "input": [1],
            "error": {"code": "c"},
        }
    )
    assert isinstance(event, events.InjectEvent)
    assert (event.response_id, event.input, event.error) == ("resp_1", [1], {"code": "c"})


@pytest.mark.parametrize(
    "message", [b"[]", b"1", b"null", b'"x"', b"", b"{", b"\xff{}", b'{"a":NaN}']
)
def test_a_message_that_is_no_json_object_breaks_the_protocol(message):
    with pytest.raises(RemoteProtocolError) as caught:
        decode(message)
    assert caught.value.raw == message


def test_nesting_beyond_the_decoder_breaks_the_protocol_and_raw_is_cut():
    message = b'{"a":' + b"[" * 200_000 + b"]" * 200_000 + b"}"
    with pytest.raises(RemoteProtocolError) as caught:
        decode(bytearray(message))
    assert caught.value.raw == message[:512]


@given(
    st.sampled_from([*TYPES, "new.type", ""]), st.dictionaries(st.sampled_from(FIELDS), JSON), JSON
)
def test_no_field_however_garbled_makes_a_view_raise(name, fields, other):
    raw = {"type": name, **fields, "error": other, "headers": other, "unknown": other}
    before = repr(raw)
    event = from_raw(raw)
    views(event)
    assert len(repr(event)) < 2000
    assert event.raw is raw
    assert repr(raw) == before


@given(JSON)
def test_a_type_however_garbled_never_raises(kind):
    event = from_raw({"type": kind})
    assert event.type == (kind if isinstance(kind, str) else "")


@given(st.permutations(["item_id", "delta", "output_index", "obfuscation", "new"]))
def test_the_order_of_fields_does_not_matter(names):
    values = {"item_id": "m", "delta": "d", "output_index": 1, "obfuscation": "o", "new": {}}
    event = from_raw(
        {name: values[name] for name in names} | {"type": "response.output_text.delta"}
    )
    assert (event.item_id, event.delta, event.output_index) == ("m", "d", 1)
