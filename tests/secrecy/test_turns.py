"""However a turn goes wrong, what it leaves behind shows no key, even where the server quotes it."""

import threading

import pytest

from llmws.testing import Server, error_event, rules
from llmws.testing.record import record
from tests.secrecy.scenes import CANARIES, WAIT_SECONDS, attempt, errors_in, session_with, turn
from tests.wire import peers
from tests.wire.peers import Peer


@pytest.mark.parametrize("how", ["drop", "reset", "close"])
def test_a_link_that_breaks_in_the_middle_shows_no_key(evidence, some_way, canary, how):
    def rule(request):
        yield {"type": "response.created", "response": {"id": "r", "status": "in_progress"}}
        yield {"type": "response.output_text.delta", "delta": "Hel"}
        if how == "close":
            request.connection.close(1011, f"bad key {CANARIES[canary]}")
        else:
            getattr(request.connection, how)()

    with (
        Server(rule=rule) as server,
        session_with(evidence, some_way, canary, server.base_url) as session,
    ):
        turn(evidence, session)
    assert "StreamInterruptedError" in errors_in(evidence)


def refused_at_once(key):
    yield error_event(f"no_{key}", f"Incorrect API key provided: {key}.", status=401, param=key)


def refused_with_headers(key):
    headers = {"x-request-key": key}
    yield error_event("invalid_api_key", "No.", status=401, headers=headers)


def refused_flat(key):
    yield {"type": "error", "code": "invalid_api_key", "message": f"Not {key}", "param": None}


def refused_after_a_start(key):
    yield {"type": "response.created", "response": {"id": "r", "status": "in_progress"}}
    yield error_event("invalid_api_key", f"Incorrect API key provided: {key}.", status=401)
    error = {"code": "invalid_api_key", "message": f"Incorrect API key provided: {key}."}
    response = {"id": "r", "status": "failed", "output": [], "error": error}
    yield {"type": "response.failed", "response": response}


@pytest.mark.parametrize(
    "words",
    [refused_at_once, refused_with_headers, refused_flat, refused_after_a_start],
    ids=lambda words: words.__name__,
)
def test_an_error_that_echoes_the_key_shows_no_key(evidence, way, canary, words, tmp_path):
    path = tmp_path / "recording.jsonl"
    with (
        Server(rule=lambda request: words(CANARIES[canary])) as server,
        session_with(evidence, way, canary, server.base_url) as session,
        record(session, path),
    ):
        turn(evidence, session)
    evidence.add_text("recording", path.read_text())
    assert errors_in(evidence) == {"APIError"}


def test_a_message_that_is_no_json_shows_no_key(evidence, some_way, canary):
    def rule(request):
        text = f"<html>unknown key {CANARIES[canary]}</html>".encode()
        request.connection.send_bytes(bytes([0x81, len(text)]) + text)
        request.connection.closed.wait(WAIT_SECONDS)
        yield from ()

    with (
        Server(rule=rule) as server,
        session_with(evidence, some_way, canary, server.base_url) as session,
    ):
        turn(evidence, session)
    assert "RemoteProtocolError" in errors_in(evidence)


@pytest.mark.parametrize("limit", ["first_event", "idle", "total"])
def test_a_timeout_shows_no_key(evidence, some_way, canary, limit):
    def rule(request):
        if limit != "first_event":
            yield {"type": "response.created", "response": {"id": "r", "status": "in_progress"}}
        request.connection.closed.wait(WAIT_SECONDS)
        yield from ()

    with (
        Server(rule=rule) as server,
        session_with(evidence, some_way, canary, server.base_url) as session,
    ):
        turn(evidence, session, timeouts={limit: 0.05})
    assert errors_in(evidence) & {"FirstEventTimeout", "IdleTimeout", "TotalTimeout"}


def test_a_dial_that_hangs_shows_no_key(evidence, some_way, canary):
    with (
        Peer(peers.until_closed) as peer,
        session_with(evidence, some_way, canary, f"http://127.0.0.1:{peer.port}/v1") as session,
    ):
        turn(evidence, session, timeouts={"connect": 0.05, "total": 0.5})
    assert errors_in(evidence) & {"ConnectTimeout", "ReconnectError", "TotalTimeout"}


def test_a_cancelled_turn_and_a_closed_session_show_no_key(evidence, some_way, canary):
    started = threading.Event()

    def rule(request):
        started.set()
        request.connection.closed.wait(WAIT_SECONDS)
        yield from ()

    with (
        Server(rule=rule) as server,
        session_with(evidence, some_way, canary, server.base_url) as session,
    ):
        stream = session.stream("Hello")
        assert started.wait(WAIT_SECONDS)
        attempt(evidence, lambda: stream.response(timeout=0.0))
        stream.cancel()
        attempt(evidence, stream.response)
        waiting = session.stream("Hello")
        session.close()
        attempt(evidence, waiting.response)
        attempt(evidence, lambda: session.stream("Hello"))
    errors = {"WaitTimeout", "StreamCancelledError", "SessionClosedError"}
    assert errors <= errors_in(evidence)


@pytest.mark.parametrize("name", ["event", "text", "done"])
def test_a_callback_that_raises_shows_no_key(evidence, some_way, canary, name):
    def fail(value):
        raise RuntimeError("the callback's own trouble")

    with (
        Server(rule=rules.text("Hello!")) as server,
        session_with(evidence, some_way, canary, server.base_url) as session,
    ):
        stream = session.stream("Hello").on("callback_error", evidence.add_error).on(name, fail)
        stream.wait(WAIT_SECONDS)
    assert [record.name for record in evidence.records if record.exc_info]
    assert "RuntimeError" in errors_in(evidence)
