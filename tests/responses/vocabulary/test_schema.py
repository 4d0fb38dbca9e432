"""Schemas as the API takes them, and the nulls that they ask for."""

import copy
import dataclasses
import datetime
import decimal
import enum
import json
import sys
import typing
from typing import Annotated, Any, Literal

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmws.errors import ConfigurationError
from llmws.responses.stream.parsing import validated
from llmws.responses.vocabulary.schema import (
    schema_of,
    strict_schema,
    text_format_of,
    without_nulls,
)


msgspec = pytest.importorskip("msgspec")

NULL = {"type": "null"}


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


@dataclasses.dataclass
class Point:
    """A point."""

    x: int
    y: int = 3


@dataclasses.dataclass
class Node:
    """A node of a tree."""

    name: str
    left: typing.Optional["Node"] = None
    weight: float = 1.0


@attrs.define
class River:
    name: str = attrs.field(validator=attrs.validators.min_len(1))
    mouths: list[Point] = attrs.field(factory=list)


class Album(typing.TypedDict, total=False):
    title: str
    year: int


class Cat(msgspec.Struct, tag=True):
    lives: int = 9


class Dog(msgspec.Struct, tag=True):
    name: str = "Rex"


class Zoo(msgspec.Struct):
    animal: Cat | Dog
    colour: Colour
    day: datetime.datetime
    price: decimal.Decimal
    kind: Literal["open", "shut"]
    short: Annotated[str, msgspec.Meta(max_length=3, pattern="^a", description="Short.")]
    few: Annotated[int, msgspec.Meta(ge=1, le=5)]
    at: Annotated[Point, msgspec.Meta(description="Where.")]
    names: set[str]
    data: bytes
    painted: Colour = Colour.RED
    perhaps: Point | None = None
    points: list[Point] = msgspec.field(default_factory=list)


def objects(schema):
    """Yield every schema within a schema, that of a property too."""
    yield schema
    for name in ("properties", "$defs"):
        for one in schema.get(name, {}).values():
            yield from objects(one)
    for one in (*schema.get("anyOf", ()), *([schema["items"]] if "items" in schema else ())):
        yield from objects(one)


@pytest.mark.parametrize("kind", [Point, Node, River, Album, Zoo])
def test_every_part_of_a_strict_schema_is_strict(kind):
    schema = text_format_of(kind)["schema"]
    refused = {
        "default",
        "minLength",
        "maxLength",
        "uniqueItems",
        "contentEncoding",
        "discriminator",
        "oneOf",
    }
    for one in objects(schema):
        assert not refused & set(one)
        assert one.keys() & {"type", "$ref", "anyOf"}
        assert one.get("format") in (None, "date-time")
        if "$ref" in one:
            assert set(one) == {"$ref"}
            assert one["$ref"].removeprefix("#/$defs/") in schema["$defs"]
        if one.get("type") == "object":
            assert one["additionalProperties"] is False
            assert one["required"] == list(one["properties"])


@pytest.mark.parametrize("kind", [Point, Node, River, Album, Zoo])
def test_a_strict_schema_is_its_own_strict_form(kind):
    schema = text_format_of(kind)["schema"]
    before = copy.deepcopy(schema)
    assert strict_schema(schema, "x") == schema == before


def test_the_text_format_of_a_class_is_the_field_of_the_wire():
    assert text_format_of(Point) == {
        "type": "json_schema",
        "name": "Point",
        "strict": True,
        "schema": {
            "title": "Point",
            "description": "A point.",
            "type": "object",
            "properties": {
                "x": {"type": "integer"},
                "y": {"description": "(default: 3)", "anyOf": [{"type": "integer"}, NULL]},
            },
            "required": ["x", "y"],
            "additionalProperties": False,
        },
    }
    json.dumps(text_format_of(Zoo))


def test_what_has_no_strict_form_is_told_in_words():
    fields = text_format_of(Zoo)["schema"]["properties"]
    assert fields["short"] == {
        "type": "string",
        "pattern": "^a",
        "description": "Short. (maxLength: 3)",
    }
    assert fields["price"] == {"type": "string", "description": "(format: decimal)"}
    assert fields["names"]["description"] == "(uniqueItems: true)"
    assert fields["painted"] == {
        "description": '(default: "red")', "anyOf": [{"$ref": "#/$defs/Colour"}, NULL]
    }  # fmt: skip
    assert fields["at"] == {"description": "Where.", "anyOf": [{"$ref": "#/$defs/Point"}]}
    assert fields["kind"] == {"enum": ["open", "shut"], "type": "string"}
    assert fields["few"] == {"type": "integer", "minimum": 1, "maximum": 5}


def test_a_class_that_contains_itself_keeps_its_definition():
    schema = text_format_of(Node)["schema"]
    assert schema["$defs"]["Node"]["properties"] == schema["properties"]
    assert schema["properties"]["left"] == {"anyOf": [{"$ref": "#/$defs/Node"}, NULL]}
    assert "$defs" not in text_format_of(Point)["schema"]


def test_a_dict_passes_through():
    given_format = {"type": "json_object"}
    assert text_format_of(given_format) == given_format
    assert text_format_of(given_format) is not given_format


def test_a_name_is_made_of_what_the_wire_allows():
    kind = msgspec.defstruct("Flüsse" + "x" * 80, [("a", int)])
    assert text_format_of(kind)["name"] == ("Fl_sse" + "x" * 80)[:64]


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        (list[int], "object"),
        (int, "object"),
        (Cat | Dog, "give a class"),
        (dict[str, int], "any fields"),
        (object(), "give a class"),
        (msgspec.defstruct("A", [("a", Any)]), r"\$\.a takes any value"),
        (msgspec.defstruct("A", [("a", list)]), r"\$\.a is a list of any values"),
        (msgspec.defstruct("A", [("a", list[Any])]), r"\$\.a is a list of any values"),
        (msgspec.defstruct("A", [("a", dict[str, int])]), r"\.a is an object with any fields"),
        (msgspec.defstruct("A", [("a", tuple[int, str])]), "prefixItems"),
        (
            msgspec.defstruct("A", [("a", complex)]),
            "no JSON schema.*complex",
        ),
    ],
)
def test_a_type_without_a_strict_schema_is_refused_with_the_place(kind, words):
    with pytest.raises(ConfigurationError, match=words):
        text_format_of(kind)


@pytest.mark.parametrize(
    ("schema", "words"),
    [
        ({"type": "object", "properties": {"a": 3}}, r"\.a is 3"),
        ({"type": "object", "properties": {"a": {"$ref": "#/$defs/B"}}}, "not there"),
        ({"type": "object", "properties": {"a": {"type": "string", "not": {}}}}, "uses not"),
        ({"type": "object", "properties": [1]}, "no object of schemas"),
        ({"type": "object", "properties": {}, "additionalProperties": {"type": "string"}}, "any fields"),
        ({"properties": {}}, "must be that of an object"),
        ("x", "must be that of an object"),
    ],
)  # fmt: skip
def test_a_schema_by_hand_without_a_strict_form_is_refused(schema, words):
    with pytest.raises(ConfigurationError, match=words):
        strict_schema(schema, "x")


def test_a_schema_that_contains_itself_is_refused():
    schema = {"type": "object", "properties": {}}
    schema["properties"]["a"] = schema
    with pytest.raises(ConfigurationError, match="contains itself"):
        strict_schema(schema, "x")


def test_a_schema_by_hand_is_made_strict_and_left_alone():
    schema = {
        "type": "object",
        "properties": {
            "q": {"type": "string", "minLength": 1},
            "n": {"oneOf": [{"type": "integer"}, {"enum": ["all", 0]}]},
            "r": {"allOf": [{"$ref": "#/$defs/R"}], "description": "R."},
            "c": {"const": "all"},
            "o": {"type": ["object", "null"], "properties": {"deep": {"type": "string"}}},
        },
        "required": ["q", "r"],
        "$defs": {"R": {"type": "string", "format": "date"}},
    }
    before = copy.deepcopy(schema)
    strict = strict_schema(schema, "x")
    assert schema == before
    assert strict["properties"] == {
        "q": {"type": "string", "description": "(minLength: 1)"},
        "n": {
            "anyOf": [
                {"type": "integer"},
                {"type": ["integer", "string"], "enum": ["all", 0]},
                NULL,
            ]
        },
        "r": {"description": "R.", "anyOf": [{"$ref": "#/$defs/R"}]},
        "c": {"anyOf": [{"type": "string", "enum": ["all"]}, NULL]},
        "o": {
            "type": ["object", "null"],
            "properties": {"deep": {"anyOf": [{"type": "string"}, NULL]}},
            "required": ["deep"],
            "additionalProperties": False,
        },
    }
    assert strict["required"] == ["q", "n", "r", "c", "o"]


def test_a_choice_that_is_a_reference_to_something_that_may_be_null_gets_no_second_null():
    schema = {
        "type": "object",
        "properties": {"a": {"$ref": "#/$defs/A"}, "b": {"$ref": "#/$defs/B"}},
        "$defs": {"A": {"anyOf": [{"type": "string"}, NULL]}, "B": {"type": "string"}},
    }
    assert strict_schema(schema, "x")["properties"] == {
        "a": {"$ref": "#/$defs/A"},
        "b": {"anyOf": [{"$ref": "#/$defs/B"}, NULL]},
    }


def with_nulls(value, schema, root):
    """Do what a model does with a strict schema: write null for every field that it leaves out."""
    branches = [resolved(one, root) for one in (schema, *schema.get("anyOf", ()))]
    if isinstance(value, dict):
        (fields,) = [
            one["properties"] for one in branches if "properties" in one and has_tag(value, one)
        ]
        return {name: with_nulls(value.get(name), field, root) for name, field in fields.items()}
    if isinstance(value, list):
        (inner,) = [one["items"] for one in branches if "items" in one]
        return [with_nulls(one, inner, root) for one in value]
    return value


def resolved(schema, root):
    return root["$defs"][schema["$ref"].split("/")[-1]] if "$ref" in schema else schema


def has_tag(value, schema):
    tag = schema["properties"].get("type", {}).get("enum")
    return tag is None or value["type"] in tag


POINTS = st.builds(Point, st.integers(0, 9)) | st.builds(
    Point, st.integers(0, 9), st.integers(0, 9)
)
NODES = st.recursive(
    st.builds(Node, st.text(max_size=3)),
    lambda inner: st.builds(Node, st.text(max_size=3), inner, st.floats(0, 1)),
    max_leaves=3,
)


@given(
    NODES
    | st.builds(River, st.text(min_size=1, max_size=3), st.lists(POINTS, max_size=2))
    | st.builds(
        Zoo, st.builds(Cat) | st.builds(Dog), st.sampled_from(Colour),
        st.just(datetime.datetime(2026, 11, 22)), st.just(decimal.Decimal("1.5")), st.just("open"),
        st.just("a"), st.just(2), POINTS, st.just({"x"}), st.just(b"d"), points=st.lists(POINTS, max_size=2),
    )
)  # fmt: skip
def test_what_a_model_writes_to_the_strict_schema_gives_the_value_again(value):
    lax = schema_of(type(value), "x")
    strict = text_format_of(type(value))["schema"]
    plain = msgspec.to_builtins(value)
    defaults = {"y": 3, "weight": 1.0, "lives": 9, "name": "Rex", "painted": "red"}

    def without_defaults(one):
        if isinstance(one, dict):
            return {
                k: without_defaults(v)
                for k, v in one.items()
                if defaults.get(k, ...) != v and v is not None
            }
        return [without_defaults(v) for v in one] if isinstance(one, list) else one

    written = with_nulls(without_defaults(plain), strict, strict)
    assert validated(written, type(value)) == value
    assert validated(without_nulls(written, lax), type(value)) == value
    assert validated(plain, type(value)) == value


@pytest.mark.parametrize(
    ("value", "kept"),
    [
        ({"x": None, "y": None}, {"x": None}),
        ({"x": 1, "y": None, "z": None}, {"x": 1, "z": None}),
        ([1], [1]),
        (None, None),
        ("x", "x"),
    ],
)
def test_only_the_nulls_of_optional_fields_go(value, kept):
    assert without_nulls(value, schema_of(Point, "x")) == kept


def test_a_null_that_its_field_takes_stays():
    schema = schema_of(
        msgspec.defstruct("A", [("a", int | None, 3), ("b", Any, 3), ("c", int, 3)]), "x"
    )
    assert without_nulls({"a": None, "b": None, "c": None}, schema) == {"a": None, "b": None}


def test_nothing_is_asked_of_a_reference_that_leads_nowhere_or_round():
    schema = {"$ref": "#/$defs/A", "$defs": {"A": {"$ref": "#/$defs/A"}}}
    assert without_nulls({"a": None}, schema) == {"a": None}
    assert without_nulls({"a": None}, {"$ref": "#/nowhere"}) == {"a": None}


def test_a_class_without_msgspec_is_a_configuration_error(monkeypatch):
    monkeypatch.setitem(sys.modules, "msgspec", None)
    with pytest.raises(ConfigurationError, match=r"llmws\[fast\]"):
        text_format_of(Point)
    assert text_format_of({"type": "json_object"}) == {"type": "json_object"}
