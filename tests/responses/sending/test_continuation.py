"""The two messages of a turn: what the server lacks, or everything; their sizes are known without building them."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmws.responses.sending.continuation import Anchor, Continuation
from llmws.responses.sending.settings import Settings
from llmws.responses.sending.transcript import Transcript


SETTINGS = Settings.of({"model": "m", "instructions": "Be brief."})
items = st.lists(
    st.text(max_size=20).map(lambda text: {"role": "user", "content": text}), max_size=6
)


def encoded(items):
    return [json.dumps(item).encode() for item in items]


def turn(history, given, **fields):
    window = Transcript(encoded(history)).window()
    return Continuation(settings=SETTINGS, history=window, given=tuple(encoded(given)), **fields)


@given(history=items, new=items, covers=st.integers(0, 6), id=st.text(max_size=9))
def test_history_and_delta_make_the_same_context(history, new, covers, id):
    covers = min(covers, len(history))
    continuation = turn(history, new)
    full, sent = continuation.message(None, "first turn")
    anchor = Anchor(id, covers, stored=True)
    delta, sent_delta = continuation.message(anchor, "parent cached")
    whole, part = json.loads(full), json.loads(delta)
    assert whole["input"] == history + new
    assert part["input"] == history[covers:] + new
    assert part["previous_response_id"] == id
    assert {**part, "input": whole["input"]} == {**whole, "previous_response_id": id}
    assert (sent.kind, sent.items, sent.bytes, sent.saved_bytes) == (
        "full",
        len(whole["input"]),
        len(full),
        0,
    )
    assert (sent_delta.kind, sent_delta.items) == ("delta", len(part["input"]))
    assert sent_delta.saved_bytes == len(full) - len(delta)
    assert continuation.size_bytes() == len(full)
    assert continuation.size_bytes(anchor) == len(delta) == sent_delta.bytes


def test_a_message_has_the_settings_and_no_lane():
    message, sent = turn([], [{"role": "user"}]).message(None, "history edited")
    assert json.loads(message) == {
        "type": "response.create", "model": "m", "instructions": "Be brief.", "input": [{"role": "user"}],
    }  # fmt: skip
    assert message.startswith(b'{"type":')  # A lane can be put in after the brace.
    assert sent.reason == "history edited"


def test_a_warm_up_says_that_nothing_is_to_be_generated():
    message, _ = turn([{"role": "user"}], [], generate=False).message(None, "warm-up")
    assert json.loads(message)["generate"] is False


def test_a_long_call_id_and_an_odd_item_go_out_as_they_came():
    item = b'{"call_id" : "' + b"x" * 300 + b'", "a": 1.10}'
    window = Transcript([item]).window()
    message, _ = Continuation(settings=SETTINGS, history=window).message(None, "")
    assert message.endswith(b'"input":[' + item + b"]}")


@pytest.mark.parametrize("count", [10, 10_000])
def test_a_delta_touches_none_of_the_items_that_it_leaves_out(count):
    class Tracked(bytes):
        def __len__(self):
            raise AssertionError("looked at")

    transcript = Transcript([b"{}"] * count)
    transcript._items[:] = [Tracked(b"{}")] * count
    continuation = Continuation(
        settings=SETTINGS, history=transcript.window(), given=(b'{"new":1}',)
    )
    message, sent = continuation.message(Anchor("resp_1", count, stored=False), "parent cached")
    assert json.loads(message)["input"] == [{"new": 1}]
    assert sent.saved_bytes == 3 * count - len(b',"previous_response_id":"resp_1"')


def test_a_repr_shows_ways_and_sizes_but_no_content():
    continuation = turn([{"role": "user", "content": "secret"}], [])
    assert "secret" not in repr(continuation)
    assert "first turn" in repr(continuation)
