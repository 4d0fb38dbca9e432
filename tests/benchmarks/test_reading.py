"""The loops that every client's events go through."""

from types import SimpleNamespace

import pytest

from benchmarks.clients.reading import READERS, deltas


DELTA = "response.output_text.delta"
EVENTS = [
    {"type": "response.created"},
    {"type": DELTA, "delta": "ab"},
    {"type": DELTA, "delta": "cde"},
    {"type": "response.completed"},
    {"type": DELTA, "delta": "of the next answer"},
]


def shaped(reads):
    return iter(EVENTS if reads == "dicts" else [SimpleNamespace(**event) for event in EVENTS])


@pytest.mark.parametrize("reads", ["objects", "dicts"])
def test_an_endless_iterator_is_left_at_the_terminal_event(reads):
    events = shaped(reads)
    characters, last = READERS[reads](events, True)
    assert characters == 5
    assert (last["type"] if reads == "dicts" else last.type) == "response.completed"
    assert len(list(events)) == 1


@pytest.mark.parametrize("reads", ["objects", "dicts"])
def test_another_is_read_to_its_end(reads):
    events = shaped(reads)
    assert READERS[reads](events, False)[0] == 23
    assert list(events) == []


def test_chunks_are_read_for_their_text():
    chunks = [SimpleNamespace(text=text) for text in ("", "ab", "cde")]
    assert READERS["chunks"](iter(chunks), False) == (5, chunks[-1])


@pytest.mark.parametrize("reads", ["objects", "dicts"])
def test_deltas_are_given_one_by_one(reads):
    assert list(deltas(shaped(reads), reads, True)) == ["ab", "cde"]
    assert len(list(deltas(shaped(reads), reads, False))) == 3
