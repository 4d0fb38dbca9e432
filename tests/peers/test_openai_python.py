"""The embedded server as openai-python sees it: what its clients make of a recording is what was recorded."""

import ssl
from pathlib import Path

import httpx2
import openai
import pytest
from openai.lib.responses_websocket import ResponsesWebSocketLimits, ResponsesWebSocketSession

from llmws.testing import Server, fingerprint, rules
from llmws.wire.recording import load


RECORDINGS = Path(__file__).resolve().parents[2] / "recordings" / "responses"
KEY = "sk-test-0123456789"
# To load the system's certificates for each client would take half of the time of these tests.
NO_TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
LIMITS = ResponsesWebSocketLimits(
    max_lanes=8,
    max_events_per_lane=10_000,
    max_events=20_000,
    max_bytes_per_lane=2**24,
    max_bytes=2**26,
    max_response_bytes=2**24,
)
# What ends with a response; an error before that is an exception of the SDK's.
ANSWERED = sorted(
    path.stem
    for path in RECORDINGS.glob("*.jsonl")
    # 5,000 deltas are for llmws to read; the SDK takes seconds for them, and shows nothing new.
    if path.stem not in {"failed", "error-before-output", "deltas-5000"}
)


@pytest.fixture(params=["plain", "tls"])
def peer(request, tls_without_tickets):
    """Return what opens a server, and what opens a client of it with its WebSocket options."""
    server_context, client_context = tls_without_tickets if request.param == "tls" else (None, None)
    clients = []

    def serve(*arguments, **options):
        return Server(*arguments, ssl_context=server_context, **options)

    def client_of(server):
        client = openai.OpenAI(
            api_key=KEY,
            base_url=server.base_url,
            max_retries=0,
            timeout=10,
            http_client=httpx2.Client(verify=client_context or NO_TLS, trust_env=False),
        )
        clients.append(client)
        return client

    options = {"proxy": None, **({"ssl": client_context} if client_context else {})}
    yield serve, client_of, options
    for client in clients:
        client.close()


def expected(name):
    return [part[-1]["response"] for part in load(RECORDINGS / f"{name}.jsonl").parts()]


def text_of(response):
    parts = [part for item in response["output"] for part in item.get("content") or []]
    return "".join(part.get("text", "") for part in parts)


def sent(create):
    return {key: value for key, value in create.items() if key not in {"type", "generate"}}


@pytest.mark.parametrize("name", ANSWERED)
def test_the_sdks_websocket_receives_what_was_recorded(name, peer):
    serve, client_of, options = peer
    recording = load(RECORDINGS / f"{name}.jsonl")
    with serve(recording) as server:
        manager = client_of(server).responses.connect(websocket_connection_options=options)
        with manager as connection:
            for request, part in zip(recording.requests(), recording.parts(), strict=True):
                connection.send(request)
                received = [connection.recv() for _ in part]
                assert [event.type for event in received] == [event["type"] for event in part]
                final, recorded = received[-1].response, part[-1]["response"]
                assert final.id == recorded["id"]
                assert final.output_text == text_of(recorded)
                assert final.usage.to_dict() == recorded["usage"]
                assert len(final.output) == len(recorded["output"])
        server.check()
        assert server.ledger.requests[0].headers["authorization"] == fingerprint(f"Bearer {KEY}")


def test_the_sdks_session_keeps_lanes_apart(peer):
    serve, client_of, options = peer
    with serve(rule=rules.echo()) as server:
        manager = client_of(server).responses.connect(websocket_connection_options=options)
        with manager as connection, ResponsesWebSocketSession(connection, limits=LIMITS) as session:
            lanes = {
                None: session.default,
                **{name: session.lane(name) for name in ("a", "b", "c")},
            }
            for turn in range(3):
                for name, lane in lanes.items():
                    create = {"type": "response.create", "model": "m", "input": f"{name} {turn}"}
                    lane.send(create)
                for name, lane in lanes.items():
                    response = lane.get_final_response(timeout=10)
                    assert response.output_text == f"{name} {turn}"
        server.check()
        assert [entry.ended for entry in server.ledger.requests] == ["completed"] * 12


def test_the_sdks_session_ends_with_what_the_recording_ends_with(peer):
    serve, client_of, options = peer
    recording = load(RECORDINGS / "parallel-tool-calls.jsonl")
    with serve(recording) as server:
        manager = client_of(server).responses.connect(websocket_connection_options=options)
        with manager as connection, ResponsesWebSocketSession(connection, limits=LIMITS) as session:
            session.default.send(recording.requests()[0])
            response = session.default.get_final_response(timeout=10)
        calls = [(call.name, call.arguments, call.call_id) for call in response.output]
        [recorded] = expected("parallel-tool-calls")
        assert calls == [
            (item["name"], item["arguments"], item["call_id"]) for item in recorded["output"]
        ]


@pytest.mark.parametrize("name", [name for name in ANSWERED if name != "warm-up"])
def test_the_sdks_sse_stream_receives_what_was_recorded(name, peer):
    serve, client_of, _ = peer
    recording = load(RECORDINGS / f"{name}.jsonl")
    [recorded] = expected(name)
    with serve(recording) as server:
        client = client_of(server)
        events = list(client.responses.create(**sent(recording.requests()[0]), stream=True))
        assert [event.type for event in events] == [event["type"] for event in recording.parts()[0]]
        assert events[-1].response.output_text == text_of(recorded)
        assert events[-1].response.usage.to_dict() == recorded["usage"]


def test_the_sdks_stream_helper_folds_the_events(peer):
    serve, client_of, _ = peer
    [recorded] = expected("text")
    with (
        serve(RECORDINGS / "text.jsonl") as server,
        client_of(server).responses.stream(model="m", input="x") as stream,
    ):
        deltas = [event.delta for event in stream if event.type == "response.output_text.delta"]
        final = stream.get_final_response()
    assert "".join(deltas) == final.output_text == text_of(recorded)
    assert final.usage.to_dict() == recorded["usage"]


def test_the_sdk_reads_a_plain_answer(peer):
    serve, client_of, _ = peer
    [recorded] = expected("text")
    with serve(RECORDINGS / "text.jsonl") as server:
        response = client_of(server).responses.create(model="m", input="x")
    assert response.output_text == text_of(recorded)


def test_a_refused_request_is_the_sdks_own_error(peer):
    serve, client_of, _ = peer
    rule = rules.refuse(429, "rate_limit_exceeded", "Slow down", headers={"retry-after": "7"})
    with serve(rule=rule) as server:
        client = client_of(server)
        with pytest.raises(openai.RateLimitError) as caught:
            client.responses.create(model="m", input="x", stream=True)
    assert caught.value.code == "rate_limit_exceeded"
    assert caught.value.response.headers["retry-after"] == "7"


def test_a_failure_in_the_stream_is_the_sdks_own_error(peer):
    serve, client_of, _ = peer
    with serve(RECORDINGS / "failed.jsonl") as server:
        stream = client_of(server).responses.create(model="m", input="x", stream=True)
        with stream, pytest.raises(openai.APIError, match="exceeded your current quota"):
            list(stream)
