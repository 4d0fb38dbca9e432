import copy
import json
import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmws.secret import REDACTED, Secret, mask, redact, redact_json


KEY = "canary-0123456789"
TEXTS = st.text(min_size=1)


def test_only_reveal_shows_the_value():
    assert Secret(KEY).reveal() == KEY


@pytest.mark.parametrize(
    "show",
    [
        repr,
        str,
        format,
        ascii,
        lambda s: f"{s!r:>50}",
        lambda s: f"{s} {s!r}",
        lambda s: str([s]),
    ],
)
def test_no_way_to_print_it_shows_the_value(show):
    assert KEY not in show(Secret(KEY))


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_it_is_not_pickled(protocol):
    with pytest.raises(TypeError, match="never pickled") as caught:
        pickle.dumps({"key": Secret(KEY)}, protocol)
    assert KEY not in str(caught.value)


def test_a_copy_is_itself():
    secret = Secret(KEY)
    assert copy.copy(secret) is secret
    assert copy.deepcopy([secret])[0] is secret


def test_it_has_no_dict_to_look_into():
    with pytest.raises(TypeError):
        vars(Secret(KEY))


def test_it_is_compared_by_value_and_never_equal_to_a_string():
    assert Secret(KEY) == Secret(KEY)
    assert Secret(KEY) != Secret("other")
    assert Secret(KEY) != KEY
    assert len({Secret(KEY), Secret(KEY), Secret("ü")}) == 2


def test_it_is_true_if_there_is_a_value():
    assert Secret(KEY)
    assert not Secret("")


@pytest.mark.parametrize(
    "text",
    [
        "sk-proj-abcDEF_123-456",
        "ek_0123456789abcdef",
        "sess-0123456789",
        "Authorization: Bearer abc.def-ghi",
        "authorization: basic dXNlcjpwYXNz",
        "openai-insecure-api-key.ephemeral-1234",
        "https://h/v1?api-key=hidden-0815&x=1",
        "wss://h/?x=1&token=hidden-0815",
        "?access_token=hidden-0815",
    ],
)
def test_what_looks_like_a_credential_is_redacted(text):
    shown = redact(f"before {text} after")
    assert REDACTED in shown
    assert shown.startswith("before ")
    for part in ("abcDEF", "0123456789", "abc.def", "dXNlcjpwYXNz", "ephemeral", "hidden"):
        assert part not in shown


@pytest.mark.parametrize(
    "text", ["", "nothing here", "a task-force", "https://h/v1?model=gpt", "skip"]
)
def test_other_text_stays_as_it_is(text):
    assert redact(text) == text


def test_known_keys_are_removed_whatever_they_look_like():
    assert redact("x p4ss y", Secret("p4ss"), None, Secret("")) == f"x {REDACTED} y"


def test_json_is_redacted_at_any_depth_and_in_keys():
    value = {
        "a": [{"b": f"Bearer {KEY}"}, 1, None, True, 1.5],
        f"sk-{KEY}": "x",
        "Authorization": "whatever it is",
        "client_secret": {"value": "ek_0123456789"},
        "api_key": None,
    }
    before = json.dumps(value)
    assert redact_json(value) == {
        "a": [{"b": REDACTED}, 1, None, True, 1.5],
        REDACTED: "x",
        "Authorization": REDACTED,
        "client_secret": {"value": REDACTED},
        "api_key": None,
    }
    assert json.dumps(value) == before


def test_json_without_secrets_is_equal_to_what_it_was():
    value = {"input": [{"content": "token count"}], "max_output_tokens": 5, "token": "…"}
    assert redact_json(value) == value


@given(TEXTS, TEXTS, TEXTS)
def test_a_known_key_never_stays_in_a_text(before, key, after):
    pieces = redact(before + key + after, Secret(key)).split(REDACTED)
    assert len(pieces) > 1
    assert all(key not in piece for piece in pieces)


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=3),
        lambda inner: st.lists(inner),
    )
)
def test_redaction_keeps_the_shape_of_json(value):
    assert redact_json(value) == value


def test_a_mask_takes_out_known_keys_in_every_string_and_no_placeholder():
    keys = [Secret("key/b+c=d"), Secret(""), Secret("looks")]
    said = {
        "key/b+c=d": ["no key/b+c=d, no key%2Fb%2Bc%3Dd", 7, None],
        "kept": "sk-looks-like-a-key",
    }
    assert mask(said, keys) == {
        REDACTED: [f"no {REDACTED}, no {REDACTED}", 7, None],
        "kept": "sk-looks-like-a-key",
    }
    assert mask(b"no key/b+c=d", keys) == f"no {REDACTED}".encode()
    assert "key/b+c=d" in said
