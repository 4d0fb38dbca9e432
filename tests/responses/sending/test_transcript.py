"""A transcript knows its size, shares what it can, and a window into it never changes."""

from hypothesis import given
from hypothesis import strategies as st

from llmws.responses.sending.transcript import Transcript


items = st.lists(st.sampled_from([b"{}", b'{"a":1}', b'{"text":"0123456789"}']), max_size=8)


@given(before=items, after=items, start=st.integers(0, 10))
def test_a_window_shows_the_items_of_its_time_and_their_size(before, after, start):
    transcript = Transcript(before)
    window = transcript.window()
    transcript.extend(after)
    assert window.items_from(start) == before[start:]
    assert window.size_bytes_from(start) == sum(map(len, before[start:]))
    assert transcript.items == before + after
    assert transcript.size_bytes == sum(map(len, before + after))
    assert transcript.holds(window)


@given(all=items, start=st.integers(0, 8), stop=st.integers(0, 8))
def test_a_cut_is_a_transcript_of_its_own(all, start, stop):
    transcript = Transcript(all)
    cut = transcript.cut(start, stop)
    cut.extend([b"{}"])
    assert cut.items == [*all[start:stop], b"{}"]
    assert transcript.items == all
    assert not cut.holds(transcript.window())


def test_the_beginning_of_a_window_is_a_window():
    transcript = Transcript([b"{}", b"[]", b"1"])
    beginning = transcript.window().first(2)
    assert beginning.items_from(0) == [b"{}", b"[]"]
    assert beginning.size_bytes_from(0) == 4
    assert transcript.window().first(9).count == 3


def test_the_bytes_of_items_are_shared_and_decoded_anew():
    item = b'{"a":[]}'
    transcript = Transcript([item])
    assert transcript.cut().items[0] is item
    window = transcript.window()
    window.decoded()[0]["a"].append(1)
    assert window.decoded() == [{"a": []}]
