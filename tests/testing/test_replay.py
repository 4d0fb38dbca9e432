import json

import pytest
from websockets.exceptions import ConnectionClosed

from llmws.errors import ConfigurationError, RecordingMismatchError, RecordingNotFoundError
from llmws.testing import Server, rules
from llmws.wire.recording import Close, Frame, Recording, load
from tests.testing.client import (
    RECORDINGS,
    SHARED,
    ask,
    create,
    open_socket,
    receive,
    send,
    text_of,
)


def test_a_server_without_arguments_echoes():
    with Server() as server, open_socket(server) as ws:
        assert text_of(ask(ws, create())) == "Hello there"


@pytest.mark.parametrize("name", sorted(path.name for path in RECORDINGS.glob("*.jsonl")))
def test_a_recording_is_played_as_it_was_recorded(name):
    recording = load(RECORDINGS / name)
    with Server(RECORDINGS / name) as server, open_socket(server) as ws:
        for request, part in zip(recording.requests(), recording.parts(), strict=True):
            send(ws, request)
            assert [receive(ws) for _ in part] == part
        server.check()


@pytest.mark.skipif(not SHARED.exists(), reason="no real recordings in ../shared")
def test_every_real_recording_is_played_as_it_was_recorded():
    for path in sorted(SHARED.glob("*.jsonl")):
        events = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
        with Server(str(path)) as server, open_socket(server) as ws:
            send(ws, create())
            assert [receive(ws) for _ in events] == events, path.name


def test_each_connection_plays_from_the_start_and_over_again():
    parts = [[{"type": "response.completed", "n": n}] for n in range(2)]
    with Server(recording=parts[0] + parts[1]) as server:
        for _ in range(2):
            with open_socket(server) as ws:
                assert [ask(ws, create())[0]["n"] for _ in range(3)] == [0, 1, 0]


def test_a_recording_may_be_given_as_a_value():
    recording = Recording.of_events([{"type": "response.completed", "n": 7}])
    with Server(recording) as server, open_socket(server) as ws:
        assert ask(ws, create()) == [{"type": "response.completed", "n": 7}]


def test_played_events_carry_the_lane_that_was_asked_for_and_no_other():
    with (
        Server([{"type": "response.completed", "stream_id": "old"}]) as server,
        open_socket(server) as ws,
    ):
        assert ask(ws, create(stream_id="new"))[0]["stream_id"] == "new"
        assert "stream_id" not in ask(ws, create())[0]


def test_a_request_that_differs_from_the_recording_is_told_and_answered_all_the_same():
    [request] = load(RECORDINGS / "text.jsonl").requests()
    with Server(RECORDINGS / "text.jsonl") as server, open_socket(server) as ws:
        ask(ws, request)
        server.check()
        assert ask(ws, {**request, "model": "other"})[-1]["type"] == "response.completed"
        assert [mismatch.path for mismatch in server.mismatches] == ["$.model"]
        with pytest.raises(RecordingMismatchError, match=r"\$\.model"):
            server.check()


@pytest.mark.parametrize("code", [1011, 1005, 1006])
def test_an_interrupted_recording_ends_as_its_socket_did(code):
    events = [{"type": "response.created", "response": {"id": "r"}}, {"type": "x"}]
    frames = [Frame(0.0, "in", event) for event in events]
    recording = Recording(entries=(*frames, Close(1.0, code, "cut" if code == 1011 else "")))
    with Server(recording) as server, open_socket(server) as ws:
        send(ws, create())
        assert [receive(ws) for _ in events] == events
        with pytest.raises(ConnectionClosed):
            ws.recv(timeout=10)
        assert ws.protocol.close_code == code
        assert server.ledger.wait(lambda ledger: ledger.requests[0].ended == "lost")


def test_bad_arguments_are_refused_before_anything_is_opened():
    with pytest.raises(ConfigurationError, match="not both"):
        Server([], rule=rules.echo())
    with pytest.raises(ConfigurationError, match="nothing to play"):
        Server([])
    with pytest.raises(ConfigurationError, match="chunk_bytes"):
        Server(chunk_bytes=0)
    with pytest.raises(RecordingNotFoundError):
        Server("no/such/recording.jsonl")
