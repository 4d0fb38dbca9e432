"""What comes of a call."""

import dataclasses
import datetime
import json
import sys

import attrs
import pytest

from llmws.responses.tools.outputs import ToolError, answered, output_of, raised, unfit
from llmws.responses.vocabulary.items import ToolCall


CALL = ToolCall("call_1", "fc_1", "f", None, "{}")
PART = {"type": "input_text", "text": "hi"}


@dataclasses.dataclass
class Point:
    x: int


@attrs.define
class River:
    name: str


class Mute(Exception):
    def __str__(self):
        raise RuntimeError("no words")


@pytest.mark.parametrize(
    ("value", "output"),
    [
        ("as it is", "as it is"),
        ("", ""),
        ([PART, {"type": "input_image", "image_url": "x"}], [PART, {"type": "input_image", "image_url": "x"}]),
        ([PART, {"type": "other"}], '[{"type":"input_text","text":"hi"},{"type":"other"}]'),
        ([], "[]"),
        (None, "null"),
        ({"a": (1, 2.5), "ü": True}, '{"a":[1,2.5],"ü":true}'),
    ],
)  # fmt: skip
def test_texts_and_parts_go_as_they_are_and_the_rest_as_json(value, output):
    assert output_of(value) == output


def test_classes_and_dates_become_json():
    pytest.importorskip("msgspec")
    value = [Point(1), River("Elbe"), datetime.date(2026, 11, 22), {1: {"s"}}]
    assert output_of(value) == '[{"x":1},{"name":"Elbe"},"2026-11-22",{"1":["s"]}]'


def test_an_attrs_class_becomes_json_without_msgspec(monkeypatch):
    monkeypatch.setitem(sys.modules, "msgspec", None)
    assert output_of(River("Elbe")) == '{"name":"Elbe"}'
    assert answered(CALL, lambda: object()).kind == "output"


@pytest.mark.parametrize(
    "value", [object(), float("nan"), "\ud83d", [{**PART, "text": "\ud83d"}], {(1, 2): 3}]
)
def test_what_cannot_be_sent_is_an_error_of_the_call(value):
    error = answered(CALL, lambda: value)
    assert (error.kind, error.call) == ("output", CALL)
    assert type(value).__name__ in error.message
    assert error.exception is not None


class Odd(list):
    def __bool__(self):
        raise LookupError("odd")


def test_what_raises_when_it_is_read_is_an_error_of_the_call():
    error = answered(CALL, lambda: Odd([1]))
    assert (error.kind, str(error.exception)) == ("output", "odd")
    assert error.message == "The tool returned Odd, which cannot be sent: odd"


def test_a_coroutine_is_told_of_and_closed():
    async def later():
        return 1

    error = answered(CALL, lambda: later())
    assert (error.kind, "asynchronous" in error.message) == ("output", True)


def test_what_a_tool_raises_is_told_without_traceback_and_keys():
    def run():
        raise LookupError("no city for sk-proj-0123456789abcdefghijABCDEFGHIJ")

    error = answered(CALL, run)
    assert (error.kind, type(error.exception)) == ("raised", LookupError)
    assert error.message.startswith("LookupError: no city for ")
    assert "0123456789" not in error.message + error.output + repr(error)
    assert json.loads(error.output) == {"error": "raised", "message": error.message}
    assert "Traceback" not in error.output


@pytest.mark.parametrize(
    ("exc", "message"),
    [
        (ValueError(), "ValueError"),
        (Mute(), "Mute"),
        (ValueError("x" * 9000), f"ValueError: {'x' * 500}…"),
        (ValueError("\ud83d"), "ValueError: ?"),
        (SystemExit(3), "SystemExit: 3"),
    ],
)
def test_the_words_of_an_exception_are_few_and_can_be_sent(exc, message):
    error = raised(CALL, exc)
    assert error.message == message
    assert json.loads(error.output)["message"] == message


def test_a_key_that_the_cut_would_halve_does_not_show():
    key = "sk-proj-0123456789abcdefghijABCDEFGHIJ"
    message = raised(CALL, ValueError("x" * 480 + " " + key)).message
    assert key[:12] not in message


def test_an_interrupt_is_not_an_answer():
    def run():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        answered(CALL, run)


def test_an_error_shows_the_call_and_is_frozen():
    error = unfit(CALL, ValueError("no JSON"))
    assert (
        repr(error)
        == "ToolError('arguments', 'f', id='call_1', 'The arguments do not fit: no JSON')"
    )
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        error.kind = "x"
    assert isinstance(error, ToolError)
