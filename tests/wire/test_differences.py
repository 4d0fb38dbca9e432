import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmws.errors import RecordingMismatchError
from llmws.secret import Secret
from llmws.wire.differences import check, first_difference


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3)
    ),
    max_leaves=8,
)


@given(json_values)
def test_a_value_does_not_differ_from_itself(value):
    assert first_difference(value, value) is None


@given(json_values, json_values)
def test_values_differ_in_both_directions_at_the_same_kind_of_place(one, other):
    assert (first_difference(one, other) is None) == (first_difference(other, one) is None)


@pytest.mark.parametrize(
    ("expected", "actual", "path"),
    [
        ({"a": [1, {"b": 2}]}, {"a": [1, {"b": 3}]}, "$.a[1].b"),
        ({"a": 1}, {}, "$.a"),
        ({}, {"a": None}, "$.a"),
        ({"a": None}, {}, "$.a"),
        ([1], [1, 2], "$[1]"),
        ([1, 2], [1], "$[1]"),
        (True, 1, "$"),
        (0, False, "$"),
        ({"odd key": 1}, {"odd key": 2}, '$["odd key"]'),
        ({"a": {}}, {"a": []}, "$.a"),
        ("1", 1, "$"),
        ({"a": "nothing"}, {}, "$.a"),
    ],
)
def test_the_first_difference_is_named(expected, actual, path):
    assert first_difference(expected, actual) == path


def test_the_order_of_keys_and_the_kind_of_number_mean_nothing():
    assert first_difference({"a": 1, "b": 2}, {"b": 2.0, "a": 1}) is None


def test_a_mismatch_names_both_values_and_the_path():
    with pytest.raises(RecordingMismatchError, match=r"\$\.input\[0\].*'one'.*'two'") as caught:
        check({"input": ["one"]}, {"input": ["two"]})
    error = caught.value
    assert (error.expected, error.actual, error.path) == ("one", "two", "$.input[0]")


def test_a_missing_value_is_none_in_the_error():
    with pytest.raises(RecordingMismatchError, match="sent nothing") as caught:
        check({"input": "one"}, {})
    assert caught.value.actual is None


def test_keys_are_removed_before_comparing_and_never_shown():
    key = Secret("correct-horse")
    check({"input": "it is [redacted]"}, {"input": "it is correct-horse"}, secrets=[key])
    with pytest.raises(RecordingMismatchError) as caught:
        check({"input": "x"}, {"input": "it is correct-horse"}, secrets=[key])
    assert "correct-horse" not in f"{caught.value} {caught.value.actual}"
