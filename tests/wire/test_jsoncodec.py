"""JSON: the fast path and the definition give the same values and the same errors."""

from __future__ import annotations

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmws.wire import jsoncodec
from llmws.wire.jsoncodec import JSONError, decode, decode_all, encode


# Inputs that nest to the limit.
pytestmark = pytest.mark.usefixtures("no_finalizers")


values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)
SAMPLE = json.dumps(
    {
        "type": "response.output_text.delta",
        "delta": 'Ü\ud83d\ude00\\"\n',
        "n": [0, -1.5e3, 12, None],
    }
)


@pytest.fixture(params=["installed", "absent"])
def codec(request, monkeypatch):
    """Run a test with msgspec and once more without it."""
    if request.param == "absent":
        monkeypatch.setattr(jsoncodec, "_fast", None)
    elif jsoncodec._fast is None:
        pytest.skip("msgspec is not installed")
    return request.param


def outcome(read, data):
    try:
        return typed(read(data))
    except JSONError as exc:
        return f"JSONError: {exc}"


def typed(value):
    """Make values comparable by type too: 1 is not 1.0 nor True, 0.0 is not -0.0."""
    if isinstance(value, dict):
        return {key: typed(item) for key, item in value.items()}, list(value)
    if isinstance(value, list):
        return [typed(item) for item in value]
    return type(value).__name__, repr(value)


def assert_same(data):
    assert outcome(decode, data) == outcome(jsoncodec._decode_by_definition, data)


# Each is good or bad alone, and many are good together.
PIECES = [
    b"[1", b"2]", b'{"a":[1', b"2]}", b"{}", b"{},{}", b"1,2", b" 1 ", b"", b'"',
    b'"\\ud800"', b'"\xff"', b"1e999", b"\\",
]  # fmt: skip


@given(st.lists(values.map(lambda value: json.dumps(value).encode()) | st.sampled_from(PIECES)))
def test_many_texts_read_as_each_alone(texts):
    def alone(texts):
        return [decode(text) for text in texts]

    assert outcome(decode_all, texts) == outcome(alone, texts)
    try:
        joined = jsoncodec._decode_joined(texts)
    except ValueError:
        return  # It cannot tell; then each is read alone.
    assert typed(joined) == typed(alone(texts))


def test_texts_that_are_good_only_together_are_refused(codec):
    for texts in ([b"[1", b"2]"], [b'{"a":[1', b"2]}", b"{},{}"], [b"1,2", b"3"], [b"1", b""]):
        with pytest.raises(JSONError):
            decode_all(texts)


def test_good_texts_are_read_in_one_go(monkeypatch):
    monkeypatch.setattr(jsoncodec, "_fast", None)
    monkeypatch.delattr(jsoncodec, "decode")
    assert decode_all([b'{"a": 1}', bytearray(b"2")]) == [{"a": 1}, 2]


LONG = st.text(min_size=1, max_size=8).map(
    lambda text: text * (jsoncodec._LONG_CHARACTERS // len(text) + 1)
)


@given(st.dictionaries(st.text(max_size=4), values | LONG, max_size=4))
def test_long_texts_are_written_as_the_definition_writes_them(value):
    assert encode(value) == jsoncodec._encode_by_definition(value)


@given(st.text() | st.text(st.sampled_from('\\"\n\r\t\b\x00\x1f\x7fé ')))
def test_a_text_is_written_without_msgspec_as_the_definition_writes_it(text):
    assert jsoncodec._write_text(text) == jsoncodec._encode_by_definition(text)


def test_a_long_text_that_utf8_cannot_hold_is_refused_by_name():
    with pytest.raises(JSONError, match=r"\$\.input holds half of a surrogate pair"):
        encode({"input": "x" * jsoncodec._LONG_CHARACTERS + "\ud800"})


def test_a_message_that_holds_the_fence_is_written_as_it_is():
    long = "x" * jsoncodec._LONG_CHARACTERS
    value = {"input": long, "name": jsoncodec._FENCE}
    assert encode(value) == jsoncodec._encode_by_definition(value)


@given(values, st.booleans())
def test_both_read_any_json_value_alike(value, ascii_only):
    data = json.dumps(value, ensure_ascii=ascii_only).encode()
    assert_same(data)
    assert typed(decode(data)) == typed(value)


@given(st.binary(max_size=60))
def test_both_read_any_bytes_alike(data):
    assert_same(data)


@given(
    st.text(alphabet='{}[]",:\\/ubfnrtdDcC89aA0123eE+-. \t\ntruefalsN\x00\x1f\x7fé', max_size=30)
)
def test_both_read_what_looks_like_json_alike(text):
    assert_same(text.encode())


@given(st.integers(0, len(SAMPLE) - 1), st.integers(0, 3), st.binary(max_size=4))
def test_both_read_damaged_json_alike(place, removed, added):
    data = SAMPLE.encode()
    assert_same(data[:place] + added + data[place + removed :])


@pytest.mark.parametrize(
    "data",
    [
        b"1e308", b"-1e308", b"1e-400", b"-0", b"-0.0", b"0.1", b"1E5", b"1e+5", b"01", b"1.", b".5", b"+1", b"-",
        b"18446744073709551615", b"18446744073709551616", b"-9223372036854775809", b"123456789012345678901234567890",
        b"9" * 4300, b"9" * 4301, b"9" * 5000, b"0." + b"1" * 5000, b"1" * 400 + b".5", b"1e400", b"-1e999",
        b'"\\ud83d\\ude00"', b'"\\uD83D\\uDE00"', b'"\\ud83d"', b'"\\ude00"', b'"\\ude00\\ud83d"', b'"\\\\ud83d"',
        b'"\\ud83d\\ud83d\\ude00"', b'"\\ud83dx"', b'{"\\udc00":1}', b'"\\u0000"', b'"\\u00"', b'"\\x"',
        b'"a\nb"', b'"a\x7fb"', b'"\xed\xa0\x80"', b'"\xff"', b"\xef\xbb\xbf{}", b"\xff\xfe{\x00}\x00",
        b"", b" ", b"{}x", b"{} {}", b"nul", b"NaN", b"Infinity", b"-Infinity", b"{1:2}", b'{"a":1,}', b"[1,]", b"'a'",
        b'{"a":1,"a":2}', b'{"b":1,"a":2}', b"\x00", b"// c\n1", b"\t\r\n 1 \t", b"\x0b1", b"\xc2\xa01",
    ],
)  # fmt: skip
def test_both_read_the_corners_of_json_alike(data):
    for form in (data, bytearray(data), memoryview(data)):
        assert_same(form)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"NaN", "NaN is no JSON number"),
        (b"[-Infinity]", "-Infinity is no JSON number"),
        (b'{"a":1e999}', "the number 1e999 is out of range"),
        (b"9" * 5000, "is no JSON"),
        (b"\xef\xbb\xbf{}", "is no JSON"),
        (b'"\xff"', "is no UTF-8 at byte 1"),
        (b"{", "is no JSON"),
        (b"", "is no JSON"),
        (b"[" * 100_000, "nests too deep to be read"),
        (b'{"a":' * 100_000, "nests too deep to be read"),
    ],
)
def test_what_is_no_json_is_refused_in_words(codec, data, words):
    with pytest.raises(JSONError, match=words):
        decode(data)


def test_an_error_has_no_chain_that_could_show_the_content(codec):
    with pytest.raises(JSONError) as caught:
        decode(b'{"secret": x}')
    assert caught.value.__suppress_context__
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("escapes", "text"),
    [
        (r"\ud83d\ude00", "😀"),
        (r"\ud83d", "\ufffd"),
        (r"\ude00", "\ufffd"),
        (r"\ude00\ud83d", "\ufffd\ufffd"),
        (r"\ud83d\ud83d\ude00", "\ufffd😀"),
        (r"a\uD83Db", "a\ufffdb"),
        (r"\\ud83d", r"\ud83d"),
        (r"\\\ud83d", "\\\ufffd"),
        (r"\n\ud83d\"", '\n\ufffd"'),
    ],
)
def test_lone_halves_of_a_pair_become_the_replacement_character(codec, escapes, text):
    assert decode(f'"{escapes}"'.encode()) == text
    decode(f'"{escapes}"'.encode()).encode()


def test_big_integers_keep_every_digit(codec):
    number = 7**300
    assert decode(str(number).encode()) == number


def test_moderate_nesting_is_read(codec):
    value = decode(b"[" * 200 + b"]" * 200)
    for _ in range(199):
        (value,) = value
    assert value == []


@given(values)
def test_what_is_written_is_read_back(value):
    data = encode(value)
    assert typed(decode(data)) == typed(value)
    assert typed(json.loads(data)) == typed(value)


def test_json_is_written_compactly_in_utf8():
    assert encode({"a": [1, "ü", None, True]}) == '{"a":[1,"ü",null,true]}'.encode()


class Thing:
    pass


def circle():
    value: dict = {}
    value["self"] = [value]
    return value


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (math.nan, r"^\$ is nan"),
        ({"a": [0, {"b": math.inf}]}, r"^\$\.a\[1\]\.b is inf"),
        ([1, -math.inf], r"^\$\[1\] is -inf"),
        ({"input": [{"content": Thing()}]}, r"^\$\.input\[0\]\.content is of type Thing"),
        ({"a": b"bytes"}, r"^\$\.a is of type bytes"),
        ({"a": {1, 2}}, r"^\$\.a is of type set"),
        ({"a": {(1, 2): 3}}, r"^\$\.a has a key of type tuple"),
        ({"a": {math.nan: 3}}, r"a key of \$\.a is nan"),
        ({"a": "\ud83d"}, r"^\$\.a holds half of a surrogate pair"),
        ({"\udc00": 1}, r"a key of \$ holds half"),
        (circle(), "nests too deep, or contains itself"),
        pytest.param(7**9000, "cannot be written as JSON", id="too many digits"),
    ],
)
def test_what_json_cannot_hold_is_refused_by_its_place(value, words):
    with pytest.raises(JSONError, match=words) as caught:
        encode(value)
    assert caught.value.__suppress_context__


def test_too_deep_a_value_is_refused():
    value: list = []
    for _ in range(100_000):
        value = [value]
    with pytest.raises(JSONError, match="nests too deep"):
        encode(value)
    while value:  # Taken apart by hand: freeing it all at once nests as deep.
        value = value.pop()
