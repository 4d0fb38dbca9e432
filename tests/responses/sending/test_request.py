import json
import re
from types import MappingProxyType

import pytest

from llmws.errors import ConfigurationError
from llmws.responses.sending.request import SESSION_ARGUMENTS, build_create, check_params


LIMIT = 16 * 2**20


def built(given_input=None, *, warm_up=False, limit=LIMIT, **fields):
    return json.loads(raw(given_input, warm_up=warm_up, limit=limit, **fields))


def raw(given_input=None, *, warm_up=False, limit=LIMIT, **fields):
    return build_create(
        {"model": "m", **fields}, given_input, warm_up=warm_up, max_frame_bytes=limit
    )


def test_a_message_has_its_type_and_the_fields_as_they_are():
    assert built("Hi", store=False, metadata={"a": "ü"}) == {
        "type": "response.create",
        "model": "m",
        "store": False,
        "metadata": {"a": "ü"},
        "input": "Hi",
    }


@pytest.mark.parametrize(
    ("given", "sent"),
    [
        ("Hi", "Hi"),
        ("", ""),
        ({"role": "user", "content": "Hi"}, [{"role": "user", "content": "Hi"}]),
        ([{"role": "user", "content": "Hi"}], [{"role": "user", "content": "Hi"}]),
        (({"role": "user"}, {"role": "user"}), [{"role": "user"}, {"role": "user"}]),
        ([], []),
    ],
)
def test_an_input_is_a_string_one_item_or_a_list_of_items(given, sent):
    assert built(given)["input"] == sent


def test_without_an_input_none_is_sent():
    assert "input" not in built()


def test_the_input_given_is_not_changed():
    item = {"role": "user", "content": "Hi"}
    built([item])
    assert item == {"role": "user", "content": "Hi"}


@pytest.mark.parametrize("given", [5, 1.5, b"Hi", True, {"a"}, iter(["Hi"]), object()])
def test_an_input_of_another_form_is_refused_by_the_name_of_its_type(given):
    with pytest.raises(ConfigurationError, match=f"type {type(given).__name__}: give a string"):
        raw(given)


@pytest.mark.parametrize("kind", [list, tuple])
@pytest.mark.parametrize("item", ["Hi", None, 5, [], [("role", "user")], object()])
def test_an_item_that_is_no_mapping_is_refused_by_its_place_and_type(kind, item):
    given = kind([{"role": "user", "content": "Hi"}, item, 7])
    with pytest.raises(
        ConfigurationError,
        match=rf"^input\[1\] is of type {type(item).__name__}: an item is a dict",
    ):
        raw(given)


def test_any_mapping_is_an_item():
    assert built([MappingProxyType({"role": "user"})])["input"] == [{"role": "user"}]


def test_only_a_warm_up_says_generate():
    assert built(warm_up=True)["generate"] is False
    assert "generate" not in built()


@pytest.mark.parametrize("model", [None, ""])
def test_a_model_is_needed(model):
    with pytest.raises(ConfigurationError, match=r"No model: .* or to configure"):
        raw("Hi", model=model)


@pytest.mark.parametrize("model", [5, b"m", ["m"], True, 0])
def test_what_is_no_name_of_a_model_is_told(model):
    with pytest.raises(ConfigurationError, match=re.escape(f"model is {model!r}: give the name")):
        raw("Hi", model=model)


def circular():
    items = []
    items.append(items)
    return items


@pytest.mark.parametrize(
    ("fields", "place"),
    [
        ({"temperature": float("nan")}, "$.temperature is nan"),
        ({"temperature": float("-inf")}, "$.temperature is -inf"),
        ({"metadata": {"a": [1, {"b": b"raw"}]}}, "$.metadata.a[1].b is of type bytes"),
        ({"tools": [{"name": {1, 2}}]}, "$.tools[0].name is of type set"),
        ({"metadata": {("a",): 1}}, "$.metadata has a key of type tuple"),
        ({"metadata": {b"a": 1}}, "$.metadata has a key of type bytes"),
        ({"metadata": circular()}, "contains itself"),
        ({"instructions": "\ud800"}, "$.instructions holds half of a surrogate pair"),
    ],
)
def test_what_json_cannot_hold_is_refused_with_its_place(fields, place):
    with pytest.raises(ConfigurationError, match="cannot be sent as JSON") as caught:
        raw("Hi", **fields)
    assert place in str(caught.value)
    assert caught.value.__cause__ is None


def test_control_characters_in_a_text_travel_as_escapes():
    words = "".join(map(chr, range(32))) + "\x7f\u2028"
    assert built(words)["input"] == words


def test_a_message_may_have_exactly_the_length_that_the_provider_takes():
    size_bytes = len(raw("Grüße"))
    assert len(raw("Grüße", limit=size_bytes)) == size_bytes
    with pytest.raises(ConfigurationError, match=f"takes {size_bytes} bytes"):
        raw("Grüße", limit=size_bytes - 1)


@pytest.mark.parametrize(
    "name", ["stream", "background", "background_options", "type", "stream_id", "generate"]
)
def test_a_reserved_field_is_refused_whatever_its_value(name):
    for value in (None, False, True):
        with pytest.raises(ConfigurationError, match=f"stream\\(\\) cannot take '{name}'"):
            check_params({"store": False, name: value}, "stream()")


@pytest.mark.parametrize("name", sorted(SESSION_ARGUMENTS))
def test_an_argument_of_the_session_is_refused_and_forgotten(name):
    params = {name: "sk-secret"}
    with pytest.raises(ConfigurationError, match="belongs to the session") as caught:
        check_params(params, "stream()")
    assert params == {}
    assert "sk-secret" not in str(caught.value)


def test_any_other_field_passes_known_or_not():
    params = {"instructions": "x", "model": "m", "an_option_of_tomorrow": 1}
    check_params(params, "stream()")
    assert len(params) == 3
