"""Parameters read from types and docstrings, and filled."""

import functools
import sys
from types import SimpleNamespace
from typing import Annotated

import attrs
import pytest

from llmws.errors import ConfigurationError
from llmws.responses.tools.parameters import Parameters, described


msgspec = pytest.importorskip("msgspec")


def typed(fn, words=None):
    return Parameters.typed(fn, "tool 'f'", words or {})


def filled(fn, arguments):
    parameters = typed(fn)
    positional, named = parameters.read(arguments, parameters.schema)
    return fn(*positional, **named)


def everything(a: int, /, b: int = 2, *, c: int, d: int = 4):
    return a, b, c, d


class Shop:
    """A class whose methods are tools."""

    def price(self, item: str) -> int:
        return len(item)

    def __call__(self, item: str) -> int:
        return len(item)


def test_the_schema_has_the_types_the_words_and_the_defaults():
    def fn(
        city: str,
        days: Annotated[int, "How many."] = 3,
        unit: Annotated[str, msgspec.Meta(description="K or C.")] = "C",
        more: str | None = None,
        odd: int = object(),
    ):
        pass

    assert typed(fn, {"city": "Where.", "unit": "Not this."}).schema == {
        "type": "object",
        "additionalProperties": False,
        "required": ["city"],
        "properties": {
            "city": {"type": "string", "description": "Where."},
            "days": {"type": "integer", "description": "How many.", "default": 3},
            "unit": {"type": "string", "description": "K or C.", "default": "C"},
            "more": {"anyOf": [{"type": "string"}, {"type": "null"}]},
            "odd": {"type": "integer"},
        },
    }


@pytest.mark.parametrize(
    ("arguments", "got"),
    [
        ({"a": 1, "c": 3}, (1, 2, 3, 4)),
        ({"d": 40, "c": 30, "b": 20, "a": 10}, (10, 20, 30, 40)),
    ],
)
def test_parameters_of_every_kind_are_filled(arguments, got):
    assert filled(everything, arguments) == got


def test_a_factory_is_told_of_as_a_default_of_no_value():
    @attrs.define
    class Search:
        words: str = "all"
        tags: list[str] = attrs.field(factory=list)

    properties = typed(Search).schema["properties"]
    assert properties["words"]["default"] == "all"
    assert properties["tags"] == {"type": "array", "items": {"type": "string"}}
    assert filled(Search, {}) == Search()


def test_a_default_is_the_functions_own_object():
    default = object()

    def fn(a: int = default):
        return a

    assert filled(fn, {}) is default


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"a": 1}, "c"),
        ({"a": 1, "c": 3, "e": 5}, "e"),
        ({"a": "1", "c": 3}, r"\$\.a"),
        ({"a": 1.5, "c": 3}, r"\$\.a"),
        ({"a": None, "c": 3}, r"\$\.a"),
    ],
)
def test_what_does_not_fit_is_an_error_with_the_place(arguments, words):
    with pytest.raises(ValueError, match=words):
        filled(everything, arguments)


@pytest.mark.parametrize("arguments", [{"c": 1}, {"a": 1}, {"a": 1, "c": 1, "e": 1}])
def test_without_types_the_names_still_count(arguments):
    with pytest.raises(TypeError, match="argument"):
        Parameters.untyped(everything).read(arguments, {})


def test_without_types_the_values_are_the_json():
    positional, named = Parameters.untyped(everything).read({"a": "1", "c": None}, {})
    assert everything(*positional, **named) == ("1", 2, None, 4)


def test_what_has_no_signature_is_called_by_name():
    assert Parameters.untyped(SimpleNamespace(__signature__=3)).read({"x": 1}, {}) == ((), {"x": 1})


def test_types_written_as_strings_are_resolved():
    def fn(a: "int", b: "Shop2 | None" = None) -> "NobodyKnows":  # noqa: F821
        return a

    fn.__globals__["Shop2"] = msgspec.defstruct("Shop2", [("x", int)])
    assert filled(fn, {"a": 1}) == 1


def test_methods_partials_and_wrapped_functions_have_parameters():
    assert filled(Shop().price, {"item": "abc"}) == 3
    assert filled(Shop(), {"item": "abc"}) == 3
    assert filled(functools.partial(everything, c=9), {"a": 1}) == (1, 2, 9, 4)

    @functools.wraps(everything)
    def wrapper(*args, **kwargs):
        return everything(*args, **kwargs)

    assert filled(wrapper, {"a": 1, "c": 3}) == (1, 2, 3, 4)


def starred(*args: int):
    pass


def double_starred(**kwargs: int):
    pass


def bare(a):
    pass


def of_objects(a: object):
    pass


def of_nobody(a: "Nobody"):  # noqa: F821
    pass


async def asynchronous(a: int):
    pass


def of_two_lists(a: int, b: list[int] | set[int]):
    pass


def of_two_classes(a: int, b: list[Shop]):
    pass


@pytest.mark.parametrize(
    ("fn", "words"),
    [
        (starred, r"\*args"),
        (double_starred, r"\*\*kwargs"),
        (bare, "'a' has no type"),
        (Shop.price, r"tool\(instance\.method\)"),
        (of_objects, "object"),
        (of_two_lists, "tool 'f': parameter 'b': .*more than one array-like"),
        (of_two_classes, r"tool 'f': parameter 'b': list\[.*Shop\] has no JSON schema"),
        (of_nobody, "Nobody.*importable"),
        (asynchronous, "asynchronous"),
    ],
)
def test_a_function_that_makes_no_schema_is_refused(fn, words):
    with pytest.raises(ConfigurationError, match=words):
        typed(fn)


def test_without_msgspec_the_error_says_what_to_do(monkeypatch):
    monkeypatch.setitem(sys.modules, "msgspec", None)
    with pytest.raises(ConfigurationError, match=r"llmws\[fast\], or use Tool\(name, schema, fn\)"):
        typed(everything)


def test_a_docstring_is_text_and_parameters():
    def fn():
        """
        Look a city up.

        In the atlas: slowly.

        Args:
            city: Where,
                more: words.
            days (int): How many.

            *rest: The rest.

        Returns:
            city: not this one.
        """

    assert described(fn) == (
        "Look a city up.\n\nIn the atlas: slowly.",
        {"city": "Where, more: words.", "days": "How many.", "rest": "The rest."},
    )


def test_a_docstring_may_have_the_form_of_numpy():
    def fn():
        """
        Look a city up.

        Notes of mine
        -------------
        stay.

        Parameters
        ----------
        city : str
            Where,
            more: words.

        days, hours : int, optional
            How many.
        *rest
            The rest.
        bare : int

        Returns
        -------
        city : str
            Not this one.

        Other Parameters
        ----------------
        unit : {'m', 'ft'}
            In what.
        """

    assert described(fn) == (
        "Look a city up.\n\nNotes of mine\n-------------\nstay.",
        {
            "city": "Where, more: words.", "days": "How many.", "hours": "How many.", "rest": "The rest.",
            "bare": "", "unit": "In what.",
        },
    )  # fmt: skip


def test_a_docstring_may_have_the_form_of_sphinx():
    def fn():
        """
        Look a city up: slowly.

        :param city: Where,
            more: words.
        :type city: str
        :param int days: How many.
        :param dict[str, int] table: Of what.
        :keyword *rest: The rest.
        :param bare:
        :returns: city: not this one.
        :raises KeyError: or this.
        """

    assert described(fn) == (
        "Look a city up: slowly.",
        {"city": "Where, more: words.", "days": "How many.", "table": "Of what.", "rest": "The rest.", "bare": ""},
    )  # fmt: skip


def test_a_docstring_may_be_missing_or_begin_with_a_section():
    def section():
        """Args:
        a: One.
        """

    assert described(lambda: None) == (None, {})
    assert described(section) == (None, {"a": "One."})
    assert described(functools.partial(section)) == (None, {"a": "One."})
