"""The answers that the server has ready."""

import json
import statistics
import time

import pytest

from benchmarks.payloads import STAMP, Sizes, answers, frame, sse_block
from benchmarks.server import Script, Scripts
from llmws.responses.vocabulary import events
from llmws.wire.framing import Framing


DELTA = "response.output_text.delta"
QUICK = Sizes.quick()


def messages(name, sizes=QUICK):
    return answers(sizes)[name]().messages


def deltas_of(read):
    return [event["delta"] for event in read if event["type"] == DELTA]


@pytest.mark.parametrize("name", ["short", "burst", "paced", "slow", "large"])
def test_an_answer_is_whole_and_numbered(name):
    read = [json.loads(message) for message in messages(name)]
    assert [event["sequence_number"] for event in read] == list(range(len(read)))
    assert read[0]["type"] == "response.created"
    assert read[-1]["type"] == "response.completed"
    text = read[-1]["response"]["output"][0]["content"][0]["text"]
    if name != "large":
        assert "".join(deltas_of(read)) == text
        assert len(read) == len(deltas_of(read)) + 8


def test_a_short_turn_has_eighteen_events():
    assert len(messages("short")) == 18


def test_deltas_have_the_size_and_the_fields_of_recorded_ones():
    found = [
        message for message in messages("burst", Sizes(burst=2_000)) if DELTA.encode() in message
    ]
    sizes = [len(message) for message in found]
    assert statistics.mean(sizes) == pytest.approx(267, abs=3)
    assert 200 < min(sizes) < 215
    assert 315 < max(sizes) < 335
    assert set(json.loads(found[0])) == {
        "type",
        "sequence_number",
        "item_id",
        "output_index",
        "content_index",
        "delta",
        "logprobs",
        "obfuscation",
    }


def test_an_answer_is_the_same_at_every_start():
    assert messages("burst") == messages("burst")


def test_the_large_answer_has_the_size_that_was_asked_for():
    text = json.loads(messages("large")[-1])["response"]["output"][0]["content"][0]["text"]
    assert len(text) == QUICK.large_mib * 2**20
    assert text.isascii()


@pytest.mark.parametrize("size", [5, 125, 126, 65_535, 65_536, 200_000])
def test_a_frame_is_what_a_client_reads(size):
    message = b'"%s"' % (b"x" * (size - 2))
    assert list(Framing("client").feed(frame(message))) == [message]


def test_a_block_is_named_after_its_event():
    assert sse_block(b'{"type":"a.b","x":1}') == b'event: a.b\ndata: {"type":"a.b","x":1}\n\n'


def test_only_a_paced_answer_is_written_piece_by_piece():
    scripts = Scripts(QUICK)
    assert len(scripts.websocket("burst").pieces) == 1
    paced = scripts.websocket("paced")
    assert len(paced.pieces) == QUICK.paced + 8
    assert sum(at >= 0 for at in paced.stamps) == QUICK.paced


def test_a_paced_answer_is_not_ahead_of_its_pace_and_says_in_every_delta_when_it_was_written():
    class Written:
        def __init__(self):
            self.data = b""

        def sendall(self, data):
            self.data += data

    written = Written()
    script = Scripts(QUICK).websocket("paced")
    began = time.monotonic_ns()
    Script(script.pieces, 0.001, script.stamps).play(written)
    stamps = deltas_of(json.loads(message) for message in Framing("client").feed(written.data))
    # Four events go before the first delta, and each piece waits for its time.
    assert all(int(stamp) - began >= (5 + n) * 1_000_000 for n, stamp in enumerate(stamps))
    assert len(stamps) == QUICK.paced
    assert all(len(stamp) == len(STAMP) for stamp in stamps)


def test_llmws_knows_every_event():
    for name in answers(QUICK):
        for message in messages(name):
            assert type(events.from_raw(json.loads(message))) in events.TYPES.values()
