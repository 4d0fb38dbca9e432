"""Every recording, played over a real socket by two servers, is read back exactly, however it is read."""

import contextlib
import json
import threading

import attrs
import pytest

import llmws
from llmws.wire import jsoncodec
from tests.conformance.recorded import OWN, SHARED, SHARED_IS_ABSENT, calls_of, read
from tests.conformance.servers import foreign_server, our_server
from tests.conformance.watching import watch


RECORDINGS = [*sorted(SHARED.glob("*.jsonl")), *sorted(OWN.glob("*.jsonl"))]
BYTEWISE = 1
# Which server, the most it writes at once, and whether over TLS.
VARIANTS = {
    "llmws": (our_server, None, False),
    "llmws-bytewise": (our_server, BYTEWISE, False),
    "llmws-tls": (our_server, None, True),
    "websockets": (foreign_server, None, False),
    "websockets-bytewise": (foreign_server, BYTEWISE, False),
    "websockets-tls": (foreign_server, None, True),
}
# TLS changes nothing behind the socket: a few of them, long and short, will do.
OVER_TLS = ("compaction", "error", "reasoning", "text", "warm-up")
# Byte by byte goes every file but one, 5,000 deltas all alike; what is long, from our own server alone and in pieces of
# a few bytes, which are as likely to cut anywhere.
LONG_BYTES = 40_000
LONG_PIECES = 11


def is_worth_its_time(variant, path):
    if variant.endswith("-tls"):
        return any(word in path.stem for word in OVER_TLS)
    if variant == "websockets-bytewise":
        return path.stat().st_size < LONG_BYTES
    return variant != "llmws-bytewise" or path.stem != "deltas-5000"


CASES = [
    pytest.param(variant, path, id=f"{path.stem}-{variant}")
    for path in RECORDINGS
    for variant in VARIANTS
    if is_worth_its_time(variant, path)
]


@contextlib.contextmanager
def playing(path, variant, contexts):
    """Serve a recording and open a session on it; yield the session and the gate that holds the server."""
    serve, chunk_bytes, secure = VARIANTS[variant]
    if chunk_bytes and path.stat().st_size >= LONG_BYTES:
        chunk_bytes = LONG_PIECES
    server_context, client_context = contexts if secure else (None, None)
    source, gate = path if serve is our_server else read(path), threading.Event()
    with (
        serve(source, gate, ssl_context=server_context, chunk_bytes=chunk_bytes) as base_url,
        llmws.Session(base_url=base_url, ssl_context=client_context, lanes=False) as session,
    ):
        yield session, gate


def test_there_are_real_recordings():
    if not SHARED.is_dir():
        pytest.skip(SHARED_IS_ABSENT)
    assert len(list(SHARED.glob("*.jsonl"))) >= 24


@pytest.mark.parametrize(("variant", "path"), CASES)
def test_a_recording_is_read_back_exactly(variant, path, tls):
    parts = read(path)
    with playing(path, variant, tls) as (session, gate):
        for part in parts:
            if part.is_warm_up:
                fields = {key: part.request[key] for key in part.request if key != "generate"}
                gate.set()
                the_response_is_the_terminal_events(session.warm_up(**fields), part)
            else:
                gate.clear()
                what_was_seen_is_what_was_recorded(
                    watch(session.stream(**part.request), gate), part
                )
        the_totals_are_the_sums(session, parts)


def what_was_seen_is_what_was_recorded(watched, part):
    seen = watched.early[0]
    the_events_are_the_recorded_json_in_order(seen, part)
    the_chunks_are_the_deltas_in_order(seen, part)
    a_tool_call_chunk_comes_once_for_each_call(seen, part)
    the_sse_body_has_the_same_json(seen, part)
    all_readers_agree_whenever_they_start(watched)
    callbacks_are_told_what_readers_read(watched, watched.heard)
    callbacks_are_told_what_readers_read(watched, watched.late_heard)
    if part.terminal is None:
        a_bare_error_is_the_apis_own(watched, part)
    else:
        assert watched.error is None
        the_response_is_the_terminal_events(watched.response, part)
        the_stream_says_what_its_response_says(watched.stream, watched.response)
        a_failed_response_raises_the_apis_error(watched.response, part)


def the_events_are_the_recorded_json_in_order(seen, part):
    assert [event.raw for event in seen.events] == part.events
    assert [event.type for event in seen.events] == [event["type"] for event in part.events]


def the_chunks_are_the_deltas_in_order(seen, part):
    content = [chunk for chunk in seen.chunks if chunk.type == "content"]
    said = [chunk.text for chunk in content if not chunk.metadata.get("refusal")]
    assert said == part.deltas("output_text")
    assert seen.texts == said
    refused = [chunk.text for chunk in content if chunk.metadata.get("refusal")]
    assert refused == part.deltas("refusal")
    thought = [chunk.thinking for chunk in seen.chunks if chunk.type == "thinking"]
    assert thought == part.deltas("reasoning_summary_text", "reasoning_text")


def a_tool_call_chunk_comes_once_for_each_call(seen, part):
    # An image is a chunk of its own kind, in place of the call that made it.
    items = [item for item in part.finished_items() if item["type"] != "image_generation_call"]
    assert_calls([c.tool_call for c in seen.chunks if c.type == "tool_call"], calls_of(items))


def the_sse_body_has_the_same_json(seen, part):
    assert parse_sse(b"".join(seen.sse)) == part.over_http()


def parse_sse(body):
    """Parse as strictly as the strictest client: two lines a block, and nothing else."""
    assert body.endswith(b"\n\n")
    assert b"\r" not in body
    events = []
    for block in body.decode("utf-8").removesuffix("\n\n").split("\n\n"):
        name, data = block.split("\n")
        assert name.startswith("event: ")
        assert data.startswith("data: ")
        event = json.loads(data.removeprefix("data: "))
        assert event["type"] == name.removeprefix("event: ")
        assert "stream_id" not in event
        events.append(event)
    return events


def all_readers_agree_whenever_they_start(watched):
    first, *others = watched.early
    assert len(others) == 3
    for seen in (*others, watched.late):
        assert [event.raw for event in seen.events] == [event.raw for event in first.events]
        assert [type(event) for event in seen.events] == [type(event) for event in first.events]
        assert seen.chunks == first.chunks
        assert seen.texts == first.texts
        assert seen.sse == first.sse
        assert (type(seen.error), str(seen.error)) == (type(first.error), str(first.error))
    assert (type(first.error), str(first.error)) == (type(watched.error), str(watched.error))


def callbacks_are_told_what_readers_read(watched, heard):
    seen = watched.early[0]
    assert [event.raw for event in heard["event"]] == [event.raw for event in seen.events]
    assert heard["chunk"] == seen.chunks
    assert heard["text"] == seen.texts
    assert heard["thinking"] == [chunk.thinking for chunk in seen.chunks if chunk.thinking]
    assert heard["tool_call"] == [c.tool_call for c in seen.chunks if c.type == "tool_call"]
    assert heard["meta"] == [chunk.metadata for chunk in seen.chunks if chunk.type == "meta"]
    assert heard["done"] == ([watched.response] if watched.response else [])
    errors = [watched.error] if watched.error else []
    assert [(type(error), str(error)) for error in heard["error"]] == [
        (type(error), str(error)) for error in errors
    ]
    assert heard["callback_error"] == []


def the_response_is_the_terminal_events(response, part):
    terminal = part.terminal
    expected = {**terminal, "output": part.output()}
    assert {name: response.raw[name] for name in expected} == expected
    assert [item.raw for item in response.output] == part.output()
    assert (response.id, response.model) == (terminal["id"], terminal["model"])
    assert (response.status, response.error) == (terminal["status"], terminal.get("error"))
    assert response.finish_reason == part.finish_reason()
    assert response.text == part.text()
    assert response.refusal == part.refusal()
    assert response.thinking == part.thinking()
    assert_calls(response.tool_calls, calls_of(part.output()))
    assert counted(response.usage) == part.usage()


def the_stream_says_what_its_response_says(stream, response):
    assert stream.snapshot == response
    assert stream.usage == response.usage
    assert stream.finish_reason == response.finish_reason
    assert stream.response_id == response.id
    assert stream.state == llmws.TurnState.ENDED


def a_failed_response_raises_the_apis_error(response, part):
    assert response.ok == (part.terminal["status"] != "failed")
    if not response.ok:
        with pytest.raises(llmws.APIError) as caught:
            response.raise_for_status()
        assert caught.value.code == part.terminal["error"]["code"]
        assert caught.value.message == part.terminal["error"]["message"]


def a_bare_error_is_the_apis_own(watched, part):
    assert watched.response is None
    assert isinstance(watched.error, llmws.APIError)
    assert watched.error.code == part.error()["code"]
    assert watched.error.message == part.error()["message"]
    assert watched.error.partial.text == part.text()


def the_totals_are_the_sums(session, parts):
    turns = [part for part in parts if not part.is_warm_up]
    warm_ups = [part for part in parts if part.is_warm_up]
    stats = session.stats
    assert counted(session.usage) == total(turns)
    assert counted(stats.warm_up_usage) == total(warm_ups)
    assert (stats.turns, stats.warm_ups) == (len(turns), len(warm_ups))
    assert (stats.dials, stats.lost, stats.retries, stats.dropped_events) == (1, 0, 0, 0)


def assert_calls(calls, expected):
    assert len(calls) == len(expected)
    for call, fields in zip(calls, expected, strict=True):
        assert {name: getattr(call, name) for name in fields} == fields


def counted(usage):
    return usage and attrs.asdict(usage, filter=attrs.filters.exclude("raw"))


def total(parts):
    counts = [part.usage() for part in parts if part.usage()]
    return {name: sum(count[name] for count in counts) for name in counted(llmws.Usage())}


@pytest.mark.parametrize("path", RECORDINGS, ids=lambda path: path.stem)
def test_both_json_decoders_read_the_same_values(path, monkeypatch):
    lines = [line.encode() for part in read(path) for line in part.lines]
    fast = [jsoncodec.decode(line) for line in lines]
    monkeypatch.setattr(jsoncodec, "_fast", None)
    plain = [jsoncodec.decode(line) for line in lines]
    assert plain == [event for part in read(path) for event in part.events]
    assert repr(fast) == repr(plain)  # The repr also tells 1 from 1.0.
