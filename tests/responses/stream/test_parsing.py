"""Texts made into values of types."""

import dataclasses
import datetime
import sys

import attrs
import pytest

from llmws.errors import ConfigurationError
from llmws.responses.stream.parsing import parse_text, validated
from llmws.responses.vocabulary.schema import text_format_of


@dataclasses.dataclass
class Plain:
    km: int
    day: datetime.date | None = None
    n: int = 7


@attrs.define
class Attrs:
    km: int = attrs.field(validator=attrs.validators.gt(0))


@pytest.mark.parametrize(
    ("text", "kind", "value"),
    [
        ("[1]", list, [1]),
        ('{"a": 1}', dict, {"a": 1}),
        ("3", None, 3),
        ('"\\ud83d"', None, "\ufffd"),
    ],
)
def test_plain_json_needs_no_msgspec(text, kind, value, monkeypatch):
    monkeypatch.setitem(sys.modules, "msgspec", None)
    assert parse_text(text, kind) == value


@pytest.mark.parametrize(
    ("text", "kind", "words"),
    [
        ("[1]", dict, "is a JSON list"),
        ("{}", list, "is a JSON dict"),
        ('{"km": 1,', None, "char 9"),
        ('{"km": 1,', Plain, "char 9"),
        ('{"km": "1"}', Plain, r"\$\.km"),
        ('{"km": null}', Plain, r"\$\.km"),
        ("{}", Plain, "km"),
        ('{"km": 1, "day": "soon"}', Plain, r"\$\.day"),
        ('{"km": 0}', Attrs, "km"),
    ],
)
def test_what_does_not_fit_is_an_error_with_the_place(text, kind, words):
    pytest.importorskip("msgspec")
    with pytest.raises(ValueError, match=words):
        parse_text(text, kind)


def test_a_class_is_made_of_its_fields_and_null_stands_for_a_default():
    pytest.importorskip("msgspec")
    assert parse_text('{"km": 1, "day": "2026-11-22", "n": null}', Plain) == Plain(
        1, datetime.date(2026, 11, 22)
    )
    assert parse_text('{"km": 1}', Attrs) == Attrs(1)
    assert parse_text("[1, 2]", tuple[int, ...]) == (1, 2)
    assert text_format_of(Plain)["schema"]["required"] == ["km", "day", "n"]


@dataclasses.dataclass
class Picky:
    n: int

    def __post_init__(self):
        raise KeyError("odd")


def test_whatever_a_class_raises_is_an_error_of_the_value():
    pytest.importorskip("msgspec")
    with pytest.raises(ValueError, match="KeyError: 'odd'") as caught:
        parse_text('{"n": 1}', Picky)
    assert isinstance(caught.value.__cause__, KeyError)


def test_a_type_that_cannot_be_made_is_a_configuration_error():
    pytest.importorskip("msgspec")
    with pytest.raises(ConfigurationError, match="cannot be made"):
        validated([1], list[int] | set[int])


def test_a_type_without_a_schema_is_judged_by_its_value():
    msgspec = pytest.importorskip("msgspec")
    kind = msgspec.defstruct("A", [("a", int), ("b", complex, 1j)])
    assert validated({"a": 1}, kind).a == 1
    with pytest.raises(ValueError, match=r"\$\.a"):
        validated({"a": "1"}, kind)


def test_without_msgspec_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "msgspec", None)
    with pytest.raises(ConfigurationError, match=r"llmws\[fast\]"):
        parse_text("{}", Plain)
