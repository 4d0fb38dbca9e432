import base64
import json
from itertools import pairwise
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmws.secret import REDACTED, Secret
from llmws.wire.scrub import scrub


KEY = "Zx9+key/of some=length"


def deltas(*pieces, item="msg_1", **fields):
    return [
        {"type": "response.output_text.delta", "item_id": item, "delta": piece, **fields}
        for piece in pieces
    ]


def joined(events):
    return "".join(event["delta"] for event in events)


@given(st.lists(st.integers(0, len(KEY) + 8), max_size=6))
def test_a_known_key_is_found_wherever_it_is_cut(cuts):
    text = f"It is {KEY}, I"
    edges = [0, *sorted(min(cut, len(text)) for cut in cuts), len(text)]
    pieces = [text[a:b] for a, b in pairwise(edges)]
    assert joined(scrub(deltas(*pieces), Secret(KEY))) == f"It is {REDACTED}, I"


def test_the_pieces_outside_the_key_stay_where_they_were():
    events = scrub(deltas("one ", "two Zx9+key", "/of some", "=length three", " four"), Secret(KEY))
    assert [event["delta"] for event in events] == [
        "one ",
        f"two {REDACTED}",
        "",
        " three",
        " four",
    ]


def test_a_key_that_comes_twice_is_removed_twice():
    events = scrub(deltas(*f"{KEY}{KEY}"), Secret(KEY))
    assert joined(events) == REDACTED * 2


def test_occurrences_that_overlap_are_one_gap():
    assert joined(scrub(deltas("01010", "1010"), Secret("010101"))) == f"{REDACTED}0"


@pytest.mark.parametrize(
    "form",
    [
        quote(KEY, safe=""),
        quote(KEY, safe="").lower(),
        base64.b64encode(KEY.encode()).decode(),
        base64.urlsafe_b64encode(KEY.encode()).decode().rstrip("="),
        base64.b64encode(f"u:{KEY}".encode()).decode(),
        base64.b64encode(f"us:{KEY}\n".encode()).decode(),
        json.dumps(KEY)[1:-1],
    ],
)
def test_an_encoded_key_is_found_whole_and_in_pieces(form):
    key = Secret(KEY)
    whole = scrub([{"type": "x", "text": f"see {form}"}], key)
    assert form not in json.dumps(whole)
    assert REDACTED in json.dumps(whole)
    split = joined(scrub(deltas("see ", *form), key))
    assert form not in split
    assert REDACTED in split
    # What may be left are the characters that mix in neighbouring bytes.
    assert len(split) <= len(f"see {REDACTED}") + 12


def test_a_key_with_quotes_is_found_in_json_text():
    key = 'quo"ted\\key'
    events = scrub(deltas(*json.dumps({"k": key})), Secret(key))
    assert joined(events) == f'{{"k": "{REDACTED}"}}'


@pytest.mark.parametrize("other", [{"item": "msg_2"}, {"stream_id": "b"}, {"content_index": 1}])
def test_pieces_of_different_texts_do_not_make_a_key(other):
    half = len(KEY) // 2
    events = [*deltas(KEY[:half]), *deltas(KEY[half:], **other)]
    assert scrub(events, Secret(KEY)) == events


def test_other_events_between_do_not_hide_a_key():
    half = len(KEY) // 2
    events = [
        *deltas(KEY[:half]),
        {"type": "ping"},
        *deltas("x", item="msg_2"),
        *deltas(KEY[half:]),
    ]
    assert [event.get("delta") for event in scrub(events, Secret(KEY))] == [REDACTED, None, "x", ""]


def test_shell_output_is_searched_by_its_streams():
    events = [
        {
            "type": "response.shell_call_output_content.delta",
            "delta": {"stdout": piece, "stderr": "e"},
        }
        for piece in (KEY[:5], KEY[5:])
    ]
    cleaned = scrub(events, Secret(KEY))
    assert [event["delta"] for event in cleaned] == [
        {"stdout": REDACTED, "stderr": "e"},
        {"stdout": "", "stderr": "e"},
    ]


def test_what_looks_like_a_key_is_removed_without_being_known():
    assert scrub([{"type": "x", "text": "sk-abcdefghijkl"}]) == [{"type": "x", "text": REDACTED}]


def test_the_events_given_are_not_changed():
    events = deltas(KEY[:5], KEY[5:])
    scrub(events, None, Secret(KEY))
    assert joined(events) == KEY


def test_what_is_too_short_for_a_key_destroys_no_event():
    events = deltas("a test", "type")
    assert scrub(events, Secret("e"), Secret("test")) == events


@given(st.lists(st.text("01#", max_size=5), max_size=12), st.text("01#", min_size=6, max_size=7))
def test_no_split_of_any_text_keeps_a_key(pieces, key):
    cleaned = joined(scrub(deltas(*pieces), Secret(key)))
    assert key not in cleaned
    expected = "".join(pieces)
    assert (cleaned == expected) == (key not in expected)
