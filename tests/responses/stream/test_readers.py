import gc
import json
import weakref

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmws.errors import StreamInterruptedError
from llmws.responses.routing.turn import Notice
from llmws.responses.stream.readers import Reader, chunks_of, events_of, sse_of, texts_of
from llmws.responses.vocabulary.events import decode


def event(**raw):
    return decode(json.dumps(raw).encode())


def delta(text, **raw):
    return event(type="response.output_text.delta", delta=text, **raw)


REFUSED = event(type="response.refusal.delta", delta="No.")
NOTICE = Notice(
    "llmws.redial", {"type": "llmws.redial", "attempt": 2, "delay": 0.5, "reason": "reset"}
)


def log_of(items, error=None):
    """Give a source that reads a finished log."""

    def source(cursor, most):
        if cursor < len(items):
            return items[cursor : cursor + most]
        if error is not None:
            raise error
        return []

    return source


# Conversions.


def test_texts_are_the_answers_pieces_and_no_refusal():
    assert texts_of([delta("a"), REFUSED, NOTICE, delta(""), delta("b")]) == ["a", "", "b"]


def test_events_are_the_servers_alone():
    events = [delta("a"), event(type="something.new"), event(no="type")]
    assert events_of([NOTICE, *events, NOTICE]) == events


def test_a_notice_is_a_chunk_that_says_what_was_done():
    (chunk,) = chunks_of([NOTICE])
    assert chunk.type == "meta"
    assert chunk.metadata == {"notice": "redial", "attempt": 2, "delay": 0.5, "reason": "reset"}


def test_an_event_without_a_portable_view_is_no_chunk():
    assert chunks_of([event(type="something.new")]) == []


def test_a_block_of_sse_has_name_and_json():
    assert sse_of([delta("ü", sequence_number=3)]) == [
        b"event: response.output_text.delta\n"
        b'data: {"type":"response.output_text.delta","delta":"\xc3\xbc","sequence_number":3}\n\n'
    ]


def test_sse_has_no_notices_and_no_lane():
    (block,) = sse_of([NOTICE, delta("a", stream_id="lane-1")])
    assert b"stream_id" not in block
    assert b"lane-1" not in block


def test_sse_leaves_the_event_as_it_is():
    given_event = delta("a", stream_id="lane-1")
    sse_of([given_event])
    assert given_event.stream_id == "lane-1"


def test_an_error_is_flat_in_sse_as_it_is_over_http():
    nested = event(
        type="error",
        status=400,
        sequence_number=7,
        error={"type": "invalid_request_error", "code": "bad", "message": "No.", "param": "input"},
    )
    (block,) = sse_of([nested])
    name, data = block.decode().removesuffix("\n\n").split("\n")
    assert name == "event: error"
    assert json.loads(data.removeprefix("data: ")) == {
        "type": "error",
        "code": "bad",
        "message": "No.",
        "param": "input",
        "sequence_number": 7,
    }


@pytest.mark.parametrize("kind", ["a\nb", "a\r\nb", "a\rdata: b", " a", ""])
def test_no_type_breaks_out_of_its_line_in_sse(kind):
    (block,) = sse_of([event(type=kind, text="line\nbreak")])
    assert block.count(b"\n") == 3
    assert b"\r" not in block


# Reading.


def test_a_reader_ends_where_the_log_ends_and_stays_ended():
    reader = Reader(log_of([delta("a"), delta("b")]), texts_of)
    assert iter(reader) is reader
    assert list(reader) == ["a", "b"]
    assert list(reader) == []


def test_a_reader_raises_what_ended_the_log_after_all_that_came_before():
    reader = Reader(log_of([delta("a")], StreamInterruptedError("lost")), texts_of)
    assert next(reader) == "a"
    for _ in range(2):
        with pytest.raises(StreamInterruptedError, match="lost"):
            next(reader)


def test_a_reader_asks_on_when_a_slice_shows_it_nothing():
    items = [NOTICE] * 2000 + [delta("a")] + [REFUSED] * 2000
    assert list(Reader(log_of(items), texts_of)) == ["a"]


def test_a_reader_of_an_empty_log_ends_at_once():
    assert list(Reader(log_of([]), chunks_of)) == []


def test_a_reader_converts_a_long_backlog_in_slices():
    sizes = []

    def convert(events):
        sizes.append(len(events))
        return events

    items = [delta("a")] * 5000
    reader = Reader(log_of(items), convert)
    next(reader)
    assert sizes == [128]
    assert len(list(reader)) == 4999


def test_a_closed_reader_ends_in_the_middle_of_a_slice():
    reader = Reader(log_of([delta("a"), delta("b")]), texts_of)
    assert next(reader) == "a"
    reader.close()
    assert list(reader) == []
    assert "closed" in repr(reader)


def test_readers_of_one_log_do_not_know_of_each_other():
    source = log_of([delta("a"), delta("b")])
    first, second = Reader(source, texts_of), Reader(source, texts_of)
    assert [next(first), next(second), next(first), next(second)] == ["a", "a", "b", "b"]


class Interrupt(BaseException):
    """As Ctrl-C may come at any call."""


@given(
    st.lists(st.text(max_size=2), max_size=30),
    st.lists(st.integers(1, 5), min_size=1, max_size=5),
    st.sets(st.integers(0, 60)),
)
def test_slices_and_interrupts_lose_and_repeat_nothing(texts, sizes, interrupts):
    items = [delta(text) for text in texts]
    calls = []

    def interrupted():
        calls.append(None)
        if len(calls) - 1 in interrupts:
            raise Interrupt

    def source(cursor, most):
        interrupted()
        return items[cursor : cursor + sizes[len(calls) % len(sizes)]]

    def convert(events):
        interrupted()
        return texts_of(events)

    reader, got = Reader(source, convert), []
    for _ in range(len(interrupts) + 1):
        try:
            for text in reader:
                got.append(text)
            break
        except Interrupt:
            pass
    assert got == texts


def test_a_reader_that_another_thread_closes_within_a_step_ends():
    reader = Reader(log_of([delta("a"), delta("b"), delta("c")]), texts_of)

    class Closing(list):
        def __getitem__(self, index):
            reader.close()
            return super().__getitem__(index)

    assert next(reader) == "a"
    reader._batch = Closing(reader._batch)
    assert next(reader) == "b"
    assert list(reader) == []


def test_a_reader_that_is_closed_while_it_waits_gives_nothing_more():
    def source(cursor, most):
        reader.close()
        return [delta("late")]

    reader = Reader(source, texts_of)
    assert list(reader) == []


class StruckOnce(list):
    """Views of which the first look is interrupted, as by Ctrl-C between two lines of the reader."""

    def __init__(self, items):
        super().__init__(items)
        self.struck = set()

    def __getitem__(self, index):
        if index not in self.struck:
            self.struck.add(index)
            raise KeyboardInterrupt
        return super().__getitem__(index)


def test_a_reader_that_is_interrupted_at_an_item_gives_that_item_next():
    reader, got = (
        Reader(log_of([delta("a"), delta("b")]), lambda items: StruckOnce(texts_of(items))),
        [],
    )
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            next(reader)
        got.append(next(reader))
    assert got == ["a", "b"]
    assert list(reader) == []


def test_a_closed_reader_lets_go_of_its_source():
    class Source:
        def __call__(self, cursor, most):
            return []

    source = Source()
    held, reader = weakref.ref(source), Reader(source, texts_of)
    del source
    reader.close()
    gc.collect()
    assert held() is None
