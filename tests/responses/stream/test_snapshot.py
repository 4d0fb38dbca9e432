"""The response, and the fold that makes it."""

import dataclasses
import itertools
import json
import pickle
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmws import errors
from llmws.responses.stream.snapshot import Accumulator, Response, ToolCall, Usage
from llmws.responses.vocabulary.events import TERMINAL_TYPES, TYPES, from_raw


FOLDER = Path(__file__).parents[3].parent / "shared" / "recordings" / "responses"
RECORDINGS = sorted(FOLDER.glob("*.jsonl")) or [
    pytest.param(None, marks=pytest.mark.skip(reason=f"no real recordings: {FOLDER} is absent"))
]
real = pytest.mark.parametrize("path", RECORDINGS, ids=lambda path: path and path.stem)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=5,
)


def fold(raws, **kwargs):
    accumulator = Accumulator()
    for raw in raws:
        accumulator.add(from_raw(raw))
    return accumulator.response(**kwargs)


def read(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def message(text, **fields):
    return {"type": "message", "content": [{"type": "output_text", "text": text}], **fields}


def call(arguments="{}", **fields):
    return {"type": "function_call", "call_id": "c", "name": "f", "arguments": arguments, **fields}


def completed(*output, **fields):
    return Response.from_wire(
        {"id": "resp_1", "status": "completed", "output": list(output), **fields}
    )


def delta(text, **fields):
    raw = {
        "type": "response.output_text.delta",
        "output_index": 0,
        "content_index": 0,
        "delta": text,
    }
    return {**raw, **fields}


# Real traffic.


@real
def test_the_fold_of_a_real_stream_is_its_terminal_response(path):
    raws = read(path)
    assert fold(raws) == Response.from_wire(raws[-1]["response"])
    assert fold(raws).raw is raws[-1]["response"]


@real
@pytest.mark.parametrize("without", [{"output": None}, {}])
def test_a_terminal_without_output_is_rebuilt(path, without):
    raws = read(path)
    whole = fold(raws)
    last = {name: value for name, value in raws[-1]["response"].items() if name != "output"}
    rebuilt = fold([*raws[:-1], {**raws[-1], "response": {**last, **without}}])
    for name in (
        "text",
        "thinking",
        "refusal",
        "tool_calls",
        "annotations",
        "images",
        "finish_reason",
        "usage",
    ):
        assert getattr(rebuilt, name) == getattr(whole, name), name
    assert [item.id for item in rebuilt.output] == [item.id for item in whole.output]


@real
def test_the_snapshot_before_the_end_has_everything_but_the_end(path):
    raws = read(path)
    whole, so_far = fold(raws), fold(raws[:-1])
    assert (so_far.text, so_far.tool_calls, so_far.thinking) == (
        whole.text,
        whole.tool_calls,
        whole.thinking,
    )
    assert (so_far.id, so_far.model) == (whole.id, whole.model)
    assert (so_far.status, so_far.finish_reason, so_far.usage) == ("in_progress", None, None)


@real
def test_at_every_event_the_text_so_far_is_made_of_the_deltas_so_far(path):
    raws = read(path)
    first_done = next(
        (i for i, raw in enumerate(raws) if raw["type"] == "response.output_text.done"),
        len(raws) - 1,
    )
    accumulator, text = Accumulator(), ""
    for raw in raws[:first_done]:
        accumulator.add(from_raw(raw))
        text += raw["delta"] if raw["type"] == "response.output_text.delta" else ""
        assert accumulator.response().text == text


# The response.


def test_a_response_reads_the_wire():
    response = Response.from_wire(
        {
            "id": "resp_1",
            "model": "gpt-6-astra",
            "status": "completed",
            "output": [
                {"type": "reasoning", "summary": [{"text": "a"}, {"text": "b"}]},
                {"type": "reasoning", "content": [{"type": "reasoning_text", "text": "c"}]},
                message("Hel"),
                {"type": "compaction", "id": "cmp"},
                message("lo"),
                call('{"q":1}'),
                {"type": "image_generation_call", "id": "ig", "result": "aGk="},
            ],
            "usage": {"input_tokens": 1, "output_tokens": 2},
        }
    )
    assert (response.id, response.model, response.text) == ("resp_1", "gpt-6-astra", "Hello")
    assert response.thinking == "a\n\nb\n\nc"
    assert [item.type for item in response.output][3] == "compaction"
    assert [tool.name for tool in response.tool_calls] == ["f", "image_generation"]
    assert [image.data for image in response.images] == [b"hi"]
    assert (response.usage, response.finish_reason, response.ok) == (
        Usage(1, 2, 3),
        "tool_calls",
        True,
    )


def test_a_refusal_is_not_in_the_text():
    refusal = {"type": "message", "content": [{"type": "refusal", "refusal": "No."}]}
    response = completed(message("Hm. "), refusal)
    assert (response.text, response.refusal) == ("Hm. ", "No.")


def test_an_incomplete_response_says_why_and_is_no_error():
    details = {"reason": "max_output_tokens"}
    response = Response.from_wire({"status": "incomplete", "incomplete_details": details})
    assert (response.incomplete_reason, response.finish_reason) == ("max_output_tokens", "length")
    assert response.raise_for_status() is response


def test_a_failed_response_raises_what_the_server_said():
    error = {"code": "rate_limit_exceeded", "message": "try again in 2s"}
    response = Response.from_wire(
        {"id": "resp_1", "status": "failed", "error": error, "output": []}
    )
    assert (response.ok, response.finish_reason, response.error) == (False, "error", error)
    with pytest.raises(errors.RateLimitError) as caught:
        response.raise_for_status()
    raised = caught.value
    assert raised.partial is response
    assert (raised.response_id, raised.code, raised.retry_after) == (
        "resp_1",
        "rate_limit_exceeded",
        2.0,
    )
    assert (raised.state, raised.may_have_been_billed) == ("accepted", True)


def test_a_failure_without_a_reason_still_raises():
    with pytest.raises(errors.APIError, match="does not say why"):
        Response.from_wire({"status": "failed", "output": [message("x")]}).raise_for_status()


def test_classify_looks_only_at_calls_of_the_client():
    search = {"type": "web_search_call", "id": "ws"}
    final = completed(search, message("x")).classify()
    assert (final.type, final.text, final.tool_calls) == ("final_answer", "x", [])
    calls = completed(search, call()).classify()
    assert (calls.type, calls.finish_reason) == ("tool_calls", "tool_calls")
    assert [tool.name for tool in calls.tool_calls] == ["f"]


def test_repr_is_compact_and_cuts_the_text():
    shown = repr(completed(message("secret" * 1000), call()))
    assert len(shown) < 200
    assert "resp_1" in shown
    assert "tool_calls=1" in shown


def test_a_response_survives_pickling_and_is_frozen():
    response = completed(message("x"), call())
    assert pickle.loads(pickle.dumps(response)) == response
    with pytest.raises(AttributeError):
        response.text = "y"


# Structured output.


@pytest.mark.parametrize(
    ("cls", "text"), [(None, "[1]"), (list, "[1]"), (dict, '{"a": 1}'), (None, "3")]
)
def test_plain_json_is_parsed(cls, text):
    assert completed(message(text)).parse(cls) == json.loads(text)


def test_a_class_is_parsed_with_msgspec():
    msgspec = pytest.importorskip("msgspec")
    river = msgspec.defstruct("River", [("name", str), ("km", int)])
    response = completed(message('{"name":"Elbe","km":1094}'))
    assert response.parse(river) == river("Elbe", 1094)
    assert completed(message("[1,2]")).parse(list[int]) == [1, 2]
    with pytest.raises(errors.ParseError, match="km") as caught:
        completed(message('{"name":"Elbe","km":"long"}')).parse(river)
    assert caught.value.response.text == '{"name":"Elbe","km":"long"}'
    with pytest.raises(errors.ConfigurationError):
        response.parse(list[int] | set[int])


def test_a_class_without_msgspec_is_a_configuration_error(monkeypatch):
    monkeypatch.setitem(sys.modules, "msgspec", None)
    response = completed(message("{}"))
    with pytest.raises(errors.ConfigurationError, match=r"llmws\[fast\]"):
        response.parse(dict[str, int])
    assert response.parse(dict) == {}


@pytest.mark.parametrize(
    ("cls", "text"), [(None, ""), (None, "{"), (dict, "[]"), (list, "{}"), (None, "NaN")]
)
def test_a_text_that_is_no_such_json_is_an_error(cls, text):
    with pytest.raises(errors.ParseError, match="resp_1") as caught:
        completed(message(text)).parse(cls)
    assert caught.value.response.text == text
    assert caught.value.refusal == ""


def test_the_error_says_that_the_model_refused_or_was_cut_off():
    refusal = {"type": "message", "content": [{"type": "refusal", "refusal": "No."}]}
    with pytest.raises(errors.ParseError, match=r"refused: 'No\.'") as caught:
        completed(refusal).parse()
    assert caught.value.refusal == "No."
    cut = Response.from_wire({"status": "incomplete", "output": [message("{")]})
    with pytest.raises(errors.ParseError, match="incomplete"):
        cut.parse(dict)


@pytest.mark.parametrize("text", ["", "{"])
def test_the_error_of_a_failed_response_says_what_the_server_said(text):
    said = {"code": "server_error", "message": "The model is tired."}
    failed = Response.from_wire(
        {"id": "resp_1", "status": "failed", "error": said, "output": [message(text)]}
    )
    with pytest.raises(errors.ParseError, match=r"resp_1 .*failed: The model is tired\.") as caught:
        failed.parse(dict)
    assert isinstance(caught.value.__cause__, ValueError)
    unsaid = Response.from_wire({"id": "resp_1", "status": "failed", "output": []})
    with pytest.raises(errors.ParseError, match="it ended with error"):
        unsaid.parse(dict)


def test_the_error_of_a_class_that_raises_has_its_cause():
    pytest.importorskip("msgspec")

    @dataclasses.dataclass
    class Picky:
        n: int

        def __post_init__(self):
            raise KeyError("odd")

    with pytest.raises(errors.ParseError, match="KeyError: 'odd'") as caught:
        completed(message('{"n": 1}')).parse(Picky)
    assert isinstance(caught.value.__cause__.__cause__, KeyError)


def test_arguments_can_be_looked_at_while_they_are_written():
    events = [
        {"type": "response.output_item.added", "output_index": 0, "item": {**call(""), "status": "in_progress"}},
        {"type": "response.function_call_arguments.delta", "output_index": 0, "delta": '{"city": "Dre'},
    ]  # fmt: skip
    (so_far,) = fold(events).tool_calls
    assert (so_far.arguments, so_far.arguments_text) == (None, '{"city": "Dre')
    assert so_far.partial_arguments == {"city": "Dre"}


# The fold.


def test_nothing_yet_is_an_empty_running_response():
    response = Accumulator().response()
    assert (response.id, response.status, response.text, response.output) == (
        "",
        "in_progress",
        "",
        [],
    )
    assert response.finish_reason is None


def test_deltas_alone_make_a_snapshot():
    created = {
        "type": "response.created",
        "response": {"id": "resp_1", "status": "in_progress", "output": []},
    }
    response = fold([created, delta("Hel"), delta("lo")])
    assert (response.id, response.text, response.status) == ("resp_1", "Hello", "in_progress")


def test_a_partial_says_why_it_ended():
    assert fold([delta("Hel")], finish_reason="cancelled").finish_reason == "cancelled"
    end = {"type": "response.completed", "response": {"output": []}}
    assert fold([delta("Hel"), end], finish_reason="cancelled").finish_reason == "stop"


def test_an_explicit_empty_output_is_authoritative():
    end = {"type": "response.completed", "response": {"id": "r", "output": []}}
    response = fold([delta("Hel"), end])
    assert (response.text, response.status) == ("", "completed")


@pytest.mark.parametrize("output", [None, 3, {}])
def test_an_output_that_is_no_list_is_rebuilt_in_order(output):
    done = [
        {"type": "response.output_item.done", "output_index": index, "item": message(text)}
        for index, text in ((2, "b"), (0, "a"))
    ]
    announced = {
        "type": "response.output_item.added",
        "output_index": 1,
        "item": {"type": "message"},
    }
    end = {"type": "response.completed", "response": {"status": "completed", "output": output}}
    response = fold([*done, announced, end])
    assert (response.text, len(response.output)) == ("ab", 2)


def test_a_terminal_lends_what_it_lacks_from_the_start():
    created = {"type": "response.created", "response": {"id": "resp_1", "model": "m", "output": []}}
    response = fold([created, delta("x"), {"type": "response.incomplete"}])
    assert (response.id, response.model, response.status, response.text) == (
        "resp_1",
        "m",
        "incomplete",
        "x",
    )


def test_a_response_that_fails_after_an_error_has_the_error_of_the_terminal():
    error = {"type": "error", "error": {"code": "early", "message": "first"}}
    partial = fold([error])
    assert (partial.status, partial.error) == ("in_progress", {"code": "early", "message": "first"})
    failed = {
        "type": "response.failed",
        "response": {"status": "failed", "error": {"code": "late"}, "output": []},
    }
    response = fold([error, failed])
    assert (response.status, response.error, response.finish_reason) == (
        "failed",
        {"code": "late"},
        "error",
    )


def test_nothing_is_taken_after_the_terminal():
    end = {"type": "response.completed", "response": {"id": "r1", "output": None}}
    late = {"type": "response.created", "response": {"id": "r2"}}
    response = fold([delta("x"), end, delta("y"), late, {**end, "response": {"id": "r3"}}])
    assert (response.id, response.text) == ("r1", "x")


def test_the_final_response_is_made_once():
    accumulator = Accumulator()
    accumulator.add(
        from_raw({"type": "response.completed", "response": {"output": [message("x")]}})
    )
    assert accumulator.response() is accumulator.response()


def test_a_snapshot_does_not_change_when_more_comes():
    accumulator = Accumulator()
    accumulator.add(from_raw(delta("a")))
    before = accumulator.response()
    accumulator.add(from_raw(delta("b")))
    assert (before.text, accumulator.response().text) == ("a", "ab")


def test_arguments_in_the_making_are_text_without_a_value():
    raw = {
        "type": "response.function_call_arguments.delta",
        "output_index": 0,
        "item_id": "fc",
        "delta": '{"q',
    }
    assert fold([raw]).tool_calls == [ToolCall("fc", "fc", "function", None, '{"q')]


@given(st.text(), st.lists(st.integers(0, 50)))
def test_any_split_of_a_text_folds_to_the_same_text(text, cuts):
    edges = [0, *sorted(min(cut, len(text)) for cut in cuts), len(text)]
    pieces = [delta(text[start:end]) for start, end in itertools.pairwise(edges)]
    assert fold(pieces).text == text
    end = {"type": "response.completed", "response": {"output": None}}
    assert fold([*pieces, end]).text == text


FIELDS = [
    "delta",
    "text",
    "item",
    "part",
    "item_id",
    "output_index",
    "content_index",
    "annotation",
    "command",
]
RAWS = st.builds(
    lambda name, fields, response: {
        "type": name,
        **fields,
        "response": response,
        "error": response,
    },
    st.sampled_from([*TYPES, "new"]),
    st.dictionaries(st.sampled_from(FIELDS), JSON | st.integers(0, 2) | st.text(max_size=3)),
    JSON | st.dictionaries(st.sampled_from(["id", "status", "output", "usage", "error"]), JSON),
)


@given(st.lists(RAWS, max_size=8))
def test_no_events_however_garbled_make_the_fold_raise(raws):
    before = json.dumps(raws)
    accumulator = Accumulator()
    for raw in raws:
        accumulator.add(from_raw(raw))
        repr(accumulator.response())
    ended = any(raw["type"] in TERMINAL_TYPES for raw in raws)
    assert ended or accumulator.response(finish_reason="error").finish_reason == "error"
    assert json.dumps(raws) == before


@pytest.mark.parametrize("left_out", [{}, {"id": None, "model": None, "status": None}])
def test_a_terminal_that_leaves_out_what_is_known_says_it_all_the_same(left_out):
    started = {"id": "r", "model": "m", "status": "in_progress"}
    response = fold(
        [
            {"type": "response.created", "response": started},
            {"type": "response.completed", "response": {"output": [], **left_out}},
        ]
    )
    assert (response.id, response.model, response.status) == ("r", "m", "completed")
    assert response.finish_reason == "stop"
