"""Tools: what the API is told, and one call."""

import dataclasses
import datetime
import enum
import functools
import inspect
import json
import sys
import threading
from typing import Annotated

import pytest

from llmws.errors import ConfigurationError
from llmws.responses.tools.fields import wire_fields
from llmws.responses.tools.outputs import ToolError
from llmws.responses.tools.tools import CustomTool, Tool, Toolbox, listed, tool
from llmws.responses.vocabulary.items import ToolCall


# Inputs that nest to the limit.
pytestmark = pytest.mark.usefixtures("no_finalizers")


SCHEMA = {
    "type": "object",
    "properties": {"q": {"type": "string"}, "n": {"type": "integer"}},
    "required": ["q"],
}
NULLABLE = {"anyOf": [{"type": "integer"}, {"type": "null"}]}


class Unit(enum.Enum):
    METRE = "m"
    FOOT = "ft"


@dataclasses.dataclass
class Place:
    city: str
    country: str = "DE"


def lookup(q, n=1):
    return {"q": q, "n": n}


async def waiting(q):
    return q


class Waiting:
    async def __call__(self, q):
        return q

    async def ask(self, q):
        return q

    @staticmethod
    async def each(q):
        yield q


@dataclasses.dataclass
class Picky:
    n: int

    def __post_init__(self):
        raise KeyError("odd")


def forecast(
    place: Place, day: datetime.date, unit: Unit = Unit.METRE, hours: list[int] | None = None
):
    """
    Tell the weather.

    Args:
        place: Where.
        day: When.
    """
    return [place.city, place.country, day.isoformat(), unit.name, hours]


# By hand.


def test_a_tool_by_hand_is_told_in_its_strict_form():
    made = Tool("lookup", SCHEMA, lookup, "Look up.")
    assert made.wire() == {
        "type": "function",
        "name": "lookup",
        "description": "Look up.",
        "strict": True,
        "parameters": {
            "type": "object",
            "properties": {"q": {"type": "string"}, "n": NULLABLE},
            "required": ["q", "n"],
            "additionalProperties": False,
        },
    }
    assert made.schema is SCHEMA


def test_a_tool_that_is_not_strict_is_told_as_it_is():
    wire = Tool("lookup", SCHEMA, lookup, strict=False).wire()
    assert wire == {"type": "function", "name": "lookup", "parameters": SCHEMA, "strict": False}


@pytest.mark.parametrize(
    ("arguments", "output"),
    [
        ('{"q": "a", "n": 2}', {"q": "a", "n": 2}),
        ('{"q": "a", "n": null}', {"q": "a", "n": 1}),
        ('{"q": 3}', {"q": 3, "n": 1}),
    ],
)
def test_a_tool_by_hand_needs_no_msgspec_and_gets_json(arguments, output, monkeypatch):
    monkeypatch.setitem(sys.modules, "msgspec", None)
    assert json.loads(Tool("lookup", SCHEMA, lookup).call(arguments)) == output


@pytest.mark.parametrize(
    "arguments", ["{", "[]", "3", '{"n": 1}', '{"q": "a", "x": 1}', "", "[" * 100_000]
)
def test_arguments_that_do_not_fit_never_reach_the_function(arguments):
    called = []
    error = Tool("f", SCHEMA, lambda q, n=1: called.append(q)).call(arguments)
    assert (error.kind, error.call.name, error.call.arguments_text) == ("arguments", "f", arguments)
    assert called == []


def test_a_function_that_raises_as_bad_arguments_would_has_raised():
    def fn(q):
        raise TypeError("missing a required argument: 'q'")

    assert Tool("f", SCHEMA, fn).call('{"q": "a"}').kind == "raised"


def test_a_call_without_a_word_has_no_arguments():
    made = Tool("f", {"type": "object"}, lambda: "done")
    assert made.call("") == made.call("{}") == "done"
    assert made.call("[]").kind == "arguments"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("a b", SCHEMA, lookup), "letters, digits"),
        (("", SCHEMA, lookup), "letters, digits"),
        ((lookup, SCHEMA, "x"), "name="),
        (("f", SCHEMA, "x"), "cannot be called"),
        (("f", {"type": "array"}, lookup), "object"),
        (
            ("f", {"type": "object", "properties": {"a": {}}}, lookup),
            r"tool 'f': \$\.a .*strict=False",
        ),
        (("f", "x", lookup, None, False), "no JSON schema"),
        (("f", {"type": object()}, lookup, None, False), "cannot be sent as JSON"),
        (("f", SCHEMA, lookup, 5), "description=5"),
        (("f", SCHEMA, waiting), "'f' is asynchronous"),
        (("f", SCHEMA, functools.partial(waiting, q="a")), "asynchronous"),
        (("f", SCHEMA, Waiting()), "asynchronous"),
        (("f", SCHEMA, Waiting().ask), "asynchronous"),
        (("f", SCHEMA, Waiting.each), "asynchronous"),
    ],
)
def test_what_cannot_be_a_tool_is_refused_at_once(arguments, words):
    with pytest.raises(ConfigurationError, match=words):
        Tool(*arguments)


# By decorator.


def test_a_typed_function_becomes_a_tool():
    pytest.importorskip("msgspec")
    made = tool(forecast)
    wire = made.wire()
    assert (wire["name"], wire["description"], wire["strict"]) == (
        "forecast",
        "Tell the weather.",
        True,
    )
    parameters = wire["parameters"]
    assert parameters["required"] == ["place", "day", "unit", "hours"]
    assert parameters["additionalProperties"] is False
    assert parameters["properties"]["place"] == {
        "description": "Where.",
        "anyOf": [{"$ref": "#/$defs/Place"}],
    }
    assert parameters["properties"]["unit"]["description"] == '(default: "m")'
    assert parameters["$defs"]["Place"]["required"] == ["city", "country"]


def test_the_decorated_function_can_be_called_as_before():
    pytest.importorskip("msgspec")
    made = tool(name="weather", description="Other.", strict=False)(forecast)
    assert made(Place("Ulm"), datetime.date(2026, 1, 2)) == forecast(
        Place("Ulm"), datetime.date(2026, 1, 2)
    )
    assert inspect.signature(made) == inspect.signature(forecast)
    assert (made.wire()["name"], made.wire()["description"]) == ("weather", "Other.")
    assert made.wire()["strict"] is False
    assert made.wire()["parameters"]["required"] == ["place", "day"]
    assert repr(made) == "Tool('weather', strict=False)"


def test_arguments_become_values_of_the_types():
    pytest.importorskip("msgspec")
    text = '{"place": {"city": "Ulm", "country": null}, "day": "2026-01-02", "unit": "ft", "hours": null}'
    assert json.loads(tool(forecast).call(text)) == ["Ulm", "DE", "2026-01-02", "FOOT", None]
    text = '{"place": {"city": "Ulm"}, "day": "2026-01-02", "unit": null, "hours": [1]}'
    assert json.loads(tool(forecast).call(text)) == ["Ulm", "DE", "2026-01-02", "METRE", [1]]


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ('{"place": {"city": 3}, "day": "2026-01-02"}', "$.place.city"),
        ('{"place": {"city": "Ulm"}, "day": "soon"}', "$.day"),
        ('{"place": {"city": "Ulm"}, "day": "2026-01-02", "hours": ["1"]}', "$.hours[0]"),
        ('{"place": {"city": "Ulm"}}', "day"),
        ('{"place": {"city": "Ulm"}, "day": "2026-01-02", "extra": 1}', "extra"),
    ],
)
def test_the_model_is_told_where_the_arguments_do_not_fit(text, place):
    pytest.importorskip("msgspec")
    error = tool(forecast).call(text)
    assert error.kind == "arguments"
    assert place in json.loads(error.output)["message"]


def test_a_parameters_class_that_raises_anything_is_an_error_of_the_call():
    pytest.importorskip("msgspec")

    @tool
    def fn(picky: Picky):
        return picky

    error = fn.call('{"picky": {"n": 1}}')
    assert (error.kind, error.message) == ("arguments", "The arguments do not fit: KeyError: 'odd'")


def test_a_method_becomes_a_tool():
    pytest.importorskip("msgspec")

    class Counter:
        total = 0

        def add(self, n: Annotated[int, "How much."]) -> int:
            """Add."""
            self.total += n
            return self.total

    add = tool(Counter().add)
    assert [add.call('{"n": 2}'), add.call('{"n": 3}')] == ["2", "5"]
    assert add.wire()["parameters"]["properties"] == {
        "n": {"type": "integer", "description": "How much."}
    }


@pytest.mark.parametrize(
    "make", [lambda: tool(3), lambda: tool(name="f")("x"), lambda: tool(name="a b")(forecast)]
)
def test_what_cannot_be_decorated_is_refused(make):
    pytest.importorskip("msgspec")
    with pytest.raises(ConfigurationError):
        make()


def test_a_parameter_without_a_strict_schema_is_refused_with_its_name():
    pytest.importorskip("msgspec")

    def fn(options: dict[str, int]):
        return options

    with pytest.raises(ConfigurationError, match=r"tool 'fn': \$\.options .*strict=False"):
        tool(fn)
    assert tool(strict=False)(fn).call('{"options": {"a": 1}}') == '{"a":1}'


def test_the_decorator_without_msgspec_says_what_to_do(monkeypatch):
    monkeypatch.setitem(sys.modules, "msgspec", None)
    with pytest.raises(ConfigurationError, match=r"llmws\[fast\]"):
        tool(forecast)


def test_one_tool_may_be_called_on_many_threads_at_once():
    barrier = threading.Barrier(4, timeout=10)

    def fn(q):
        barrier.wait()
        return q

    made, outputs = Tool("f", SCHEMA, fn), []
    threads = [
        threading.Thread(target=lambda n=n: outputs.append(made.call(f'{{"q": "{n}"}}')))
        for n in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert sorted(outputs) == ["0", "1", "2", "3"]


# Custom tools.


def test_a_custom_tool_gets_the_text_as_it_is():
    grammar = {"type": "grammar", "syntax": "regex", "definition": "a+"}
    made = CustomTool("run", str.upper, "Run.", grammar)
    assert made.wire() == {
        "type": "custom",
        "name": "run",
        "description": "Run.",
        "format": grammar,
    }
    assert made.call("{not json") == "{NOT JSON" == made("{not json")
    assert CustomTool("run", str.upper).wire() == {"type": "custom", "name": "run"}
    assert repr(made) == "CustomTool('run')"
    error = CustomTool("run", int).call(ToolCall("c", "i", "run", None, "x"))
    assert isinstance(error, ToolError)
    assert (error.kind, error.call.id) == ("raised", "c")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("a b", int), "letters, digits"),
        (("a", 3), "cannot be called"),
        (("a", waiting), "asynchronous"),
        (("a", int, 5), "description=5"),
        (("a", int, None, "regex"), "format='regex': give .*grammar"),
        (("a", int, None, {"x": 1}), "format="),
        (("a", int, None, {"type": "grammar", "syntax": "regex"}), "definition"),
        (("a", int, None, {"type": "grammar", "definition": "a+"}), "syntax"),
        (("a", int, None, {"type": "text", "x": object()}), "cannot be sent as JSON"),
    ],
)
def test_what_cannot_be_a_custom_tool_is_refused(arguments, words):
    with pytest.raises(ConfigurationError, match=words):
        CustomTool(*arguments)


def test_plain_text_is_a_format_too():
    assert CustomTool("a", int, None, {"type": "text"}).wire()["format"] == {"type": "text"}


# Boxes.


def test_a_box_has_what_the_request_needs():
    made, custom, hosted = Tool("f", SCHEMA, lookup), CustomTool("f2", int), {"type": "web_search"}
    plain = {"type": "namespace", "name": "ns", "tools": [{"type": "function", "name": "g"}]}
    box = Toolbox.of([made, custom, hosted, plain])
    assert box.wire() == [made.wire(), custom.wire(), hosted, plain]
    assert dict(box.tools) == {("function_call", "f"): made, ("custom_tool_call", "f2"): custom}
    assert box.declared == {"ns", "g"}


@pytest.mark.parametrize(
    "tools",
    [
        [Tool("f", SCHEMA, lookup), Tool("f", SCHEMA, lookup)],
        [Tool("f", SCHEMA, lookup), CustomTool("f", int)],
        [{"type": "function", "name": "f"}, Tool("f", SCHEMA, lookup)],
        [Tool("f", SCHEMA, lookup), {"type": "function", "name": "f"}],
    ],
)
def test_two_tools_of_one_name_are_refused(tools):
    with pytest.raises(ConfigurationError, match="'f'"):
        Toolbox.of(tools)


def test_what_is_no_tool_is_refused():
    with pytest.raises(ConfigurationError, match=r"@llmws\.tool"):
        Toolbox.of([lookup])


@pytest.mark.parametrize(
    "tools",
    [Tool("f", SCHEMA, lookup), CustomTool("f", int), "f", {"type": "web_search"}, 5, lookup],
)
def test_what_is_no_list_of_tools_is_refused(tools):
    for take in (Toolbox.of, listed, lambda given: wire_fields({"tools": given})):
        with pytest.raises(ConfigurationError, match=r"give a list of tools, as in tools=\[…\]"):
            take(tools)


def test_tools_may_come_in_any_order_of_reading():
    made = Tool("f", SCHEMA, lookup)
    assert listed(iter([made])) == listed((made,)) == (made,)


@pytest.mark.parametrize("strict", [None, "x", 0, 1, "false"])
def test_strict_is_true_or_false(strict):
    with pytest.raises(ConfigurationError, match=f"strict={strict!r}: give True or False"):
        Tool("lookup", SCHEMA, lookup, strict=strict)
    pytest.importorskip("msgspec")
    with pytest.raises(ConfigurationError, match=f"strict={strict!r}: give True or False"):
        tool(strict=strict)(forecast)
