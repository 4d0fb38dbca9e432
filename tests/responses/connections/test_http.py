"""The few requests that go over HTTP, to an embedded server and to bare sockets."""

from __future__ import annotations

import base64
import contextlib
import email.utils
import gzip
import importlib.util
import logging
import os
import socket
import ssl
import threading
import time
import traceback

import pytest

import llmws
from llmws.errors import (
    APIError,
    AuthenticationError,
    ConfigurationError,
    ConnectError,
    ConnectTimeout,
    FirstEventTimeout,
    IdleTimeout,
    RateLimitError,
    RemoteProtocolError,
    StreamCancelledError,
    StreamInterruptedError,
    TotalTimeout,
)
from llmws.responses.connections import http, posting
from llmws.responses.connections.http import post_json
from llmws.secret import Secret
from llmws.testing import Server
from llmws.timeouts import Timeouts
from llmws.wire.endpoint import Endpoint
from tests.responses.acting import until


KEY = "sk-canary-0123456789abcdef"
TIMEOUTS = Timeouts(connect=5.0, first_event=5.0)


def endpoint_at(base_url, **options):
    return Endpoint.build(f"{base_url}/responses", credentials=lambda: Secret(KEY), **options)


@pytest.fixture
def answering():
    """Return a function that serves one canned HTTP answer, and gives the base URL and what was asked."""
    listeners = []

    def serve(answer):
        listener = socket.create_server(("127.0.0.1", 0))
        listeners.append(listener)
        asked = []

        def once():
            connection, _ = listener.accept()
            with connection:
                data = b""
                while b"\r\n\r\n" not in data or b"}" not in data:
                    data += connection.recv(65_536)
                asked.append(data)
                connection.sendall(answer)

        threading.Thread(target=once, daemon=True).start()
        return f"http://127.0.0.1:{listener.getsockname()[1]}/v1", asked

    yield serve
    for listener in listeners:
        listener.close()


def canned(status, body, headers=""):
    return (
        f"HTTP/1.1 {status} Whatever\r\nContent-Length: {len(body)}\r\nConnection: close\r\n{headers}\r\n"
    ).encode() + body


def test_the_answer_comes_back_as_an_object(answering):
    base_url, asked = answering(canned(200, b'{"ok":true}'))
    body = {"model": "m", "input": [{"é": 1}]}
    assert post_json(endpoint_at(base_url), "/responses/compact", body, TIMEOUTS) == {"ok": True}
    head, _, sent = asked[0].partition(b"\r\n\r\n")
    assert head.startswith(b"POST /v1/responses/compact HTTP/1.1\r\n")
    assert f"authorization: bearer {KEY}".encode() in head.lower()
    assert sent == '{"model":"m","input":[{"é":1}]}'.encode()


def test_the_headers_and_the_query_of_the_socket_go_with_it(answering):
    base_url, asked = answering(canned(200, b"{}"))
    endpoint = Endpoint.build(
        f"{base_url}/responses?api-version=1", headers={"OpenAI-Project": "p"}
    )
    post_json(endpoint, "/responses/compact", {}, TIMEOUTS)
    assert asked[0].startswith(b"POST /v1/responses/compact?api-version=1 ")
    assert b"openai-project: p" in asked[0].lower()
    assert b"authorization" not in asked[0].lower()


@pytest.mark.parametrize(
    ("status", "body", "kind", "words"),
    [
        (400, b'{"error":{"message":"Too short.","code":"c","param":"p"}}', APIError, "Too short"),
        (429, b'{"error":{"message":"Slow down."}}', RateLimitError, "Slow down"),
        (500, b"<html>", APIError, "status 500"),
        (404, b'{"error":"no"}', APIError, "status 404"),
    ],
)
def test_a_refusal_is_the_apis_error(answering, status, body, kind, words):
    base_url, _ = answering(canned(status, body, "Retry-After: 3\r\n"))
    with pytest.raises(kind, match=words) as caught:
        post_json(endpoint_at(base_url), "/responses/compact", {}, TIMEOUTS)
    assert caught.value.status == status


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_refusal_says_how_long_to_wait_as_seconds_or_as_a_date(answering, status):
    date = email.utils.formatdate(time.time() + 40, usegmt=True)
    for words, least, most in (("3", 3, 3), (date, 30, 41)):
        base_url, _ = answering(canned(status, b"{}", f"Retry-After: {words}\r\n"))
        with pytest.raises(APIError) as caught:
            post_json(endpoint_at(base_url), "/responses/compact", {}, TIMEOUTS)
        assert least <= caught.value.retry_after <= most


def test_headers_are_asked_for_at_each_request(answering):
    values = iter([{"X-Turn": "1"}, {"X-Turn": "2", "Authorization": "Custom abc"}])
    for turn, authorization in (("1", f"bearer {KEY}"), ("2", "custom abc")):
        base_url, asked = answering(canned(200, b"{}"))
        endpoint = endpoint_at(base_url, headers={"x-turn": "0"}, ask_headers=lambda: next(values))
        post_json(endpoint, "/responses/compact", {}, TIMEOUTS)
        head = asked[0].partition(b"\r\n\r\n")[0].decode().lower()
        assert head.count("x-turn:") == head.count("authorization:") == 1
        assert f"x-turn: {turn}\r\n" in head
        assert f"authorization: {authorization}" in head


@pytest.mark.parametrize("given", [None, {"Host": KEY}, {"X-Own": f"{KEY}\n"}, [("X-Own", KEY)]])
def test_asked_headers_that_cannot_be_sent_are_refused_unseen(given):
    endpoint = endpoint_at("http://127.0.0.1:9/v1", ask_headers=lambda: given)
    with pytest.raises(ConfigurationError, match="headers callable returned") as caught:
        post_json(endpoint, "/responses/compact", {}, TIMEOUTS)
    assert KEY not in str(caught.value)


def test_a_key_in_asked_headers_that_the_server_quotes_is_masked(answering):
    base_url, _ = answering(canned(401, b'{"error":{"message":"Bad key Zq9birdsong44x"}}'))
    endpoint = endpoint_at(base_url, ask_headers=lambda: {"Api-Key": "Zq9birdsong44x"})
    with pytest.raises(APIError, match="Bad key") as caught:
        post_json(endpoint, "/responses/compact", {}, TIMEOUTS)
    assert "birdsong" not in str(caught.value) + repr(caught.value)


def test_a_key_that_the_server_quotes_is_masked(answering):
    base_url, _ = answering(canned(401, b'{"error":{"message":"Bad key %s"}}' % KEY.encode()))
    with pytest.raises(APIError) as caught:
        post_json(endpoint_at(base_url), "/responses/compact", {}, TIMEOUTS)
    assert KEY not in str(caught.value) + repr(caught.value)
    assert not isinstance(caught.value, AuthenticationError)


@pytest.mark.parametrize("body", [b"[1]", b"nothing", b""])
def test_an_answer_that_is_no_object_is_a_breach(answering, body):
    base_url, _ = answering(canned(200, body))
    with pytest.raises(RemoteProtocolError, match="no JSON object"):
        post_json(endpoint_at(base_url), "/responses/compact", {}, TIMEOUTS)


@pytest.mark.parametrize("body", [b"", b'{"output":[{}]}'])
def test_a_redirect_is_not_followed(answering, body):
    base_url, _ = answering(canned(302, body, "Location: http://127.0.0.1:1/\r\n"))
    with pytest.raises(RemoteProtocolError, match="redirects are not followed"):
        post_json(endpoint_at(base_url), "/responses/compact", {}, TIMEOUTS)


def test_a_server_that_is_not_there_is_no_connection():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    endpoint = endpoint_at(f"http://127.0.0.1:{port}/v1")
    with pytest.raises(ConnectError, match="No connection to") as caught:
        post_json(endpoint, "/responses/compact", {}, TIMEOUTS)
    assert caught.value.__cause__ is None


# Limits, and what breaks.


@pytest.fixture
def playing():
    """Return a function that serves one connection by a script, and gives the endpoint of it."""
    over, listeners, threads = threading.Event(), [], []

    def serve(script, **options):
        listener = socket.create_server(("127.0.0.1", 0))
        listeners.append(listener)

        def once():
            # The client may be gone at any time.
            with contextlib.suppress(OSError), listener.accept()[0] as connection:
                script(connection, over)

        threads.append(threading.Thread(target=once, daemon=True))
        threads[-1].start()
        return endpoint_at(f"http://127.0.0.1:{listener.getsockname()[1]}/v1", **options)

    yield serve
    over.set()
    for listener in listeners:
        with contextlib.suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)
        listener.close()
    for thread in threads:
        thread.join(5)


def after(*pieces, pause=0.0, forever=False):
    """Return a script that reads the request, sends pieces with pauses between them, and hangs up."""

    def script(connection, over):
        data = b""
        while not data.endswith(b"}"):
            came = connection.recv(65_536)
            if not came:  # The client has given up.
                return
            data += came
        for piece in pieces:
            connection.sendall(piece)
            over.wait(pause)
        if forever:
            over.wait(10)

    return script


OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"
LONG = OK + b"Content-Length: 40\r\n\r\n"
DRIP = [b" "] * 40


def failed(endpoint, kind, limits=None, body=None, **options):
    """Post, see it fail, and return the error and how many seconds that took."""
    began = time.monotonic()
    with pytest.raises(kind) as caught:
        post_json(endpoint, "/responses/compact", body or {}, TIMEOUTS.but(limits), **options)
    assert type(caught.value) is kind
    assert KEY not in str(caught.value)
    return caught.value, time.monotonic() - began


def facts(error):
    return error.state, error.may_have_been_billed


def test_a_server_that_takes_the_request_and_says_nothing_is_not_waited_for(playing):
    error, seconds = failed(playing(after(forever=True)), FirstEventTimeout, {"first_event": 0.1})
    assert facts(error) == ("sent", True)
    assert seconds < 3
    assert "within 0.1 s" in str(error)


def test_a_head_that_drips_is_held_to_the_limit_of_its_beginning(playing):
    script = after(OK[:5], *[bytes([byte]) for byte in OK[5:]], pause=0.05, forever=True)
    error, seconds = failed(playing(script), FirstEventTimeout, {"first_event": 0.3})
    assert facts(error) == ("sent", True)
    assert seconds < 3


def test_an_answer_that_stops_is_held_to_the_limit_between_two_pieces(playing):
    error, seconds = failed(playing(after(LONG, b" ", forever=True)), IdleTimeout, {"idle": 0.1})
    assert facts(error) == ("output", True)
    assert seconds < 3


def test_an_answer_that_drips_is_held_to_the_limit_of_the_whole(playing):
    script = after(LONG, *DRIP, pause=0.1)
    error, seconds = failed(playing(script), TotalTimeout, {"idle": 1.0, "total": 0.5})
    assert facts(error) == ("output", True)
    assert seconds < 3


def test_without_a_total_limit_the_others_together_hold(playing):
    limits = {"connect": 0.2, "first_event": 0.2, "idle": 0.2}
    error, seconds = failed(playing(after(LONG, *DRIP, pause=0.1)), TotalTimeout, limits)
    assert "within 0.6 s" in str(error)
    assert seconds < 3


def test_without_limits_an_answer_may_take_its_time(playing):
    limits = Timeouts(connect=None, first_event=None, idle=None)
    endpoint = playing(after(LONG, *[b" "] * 5, b" " * 33 + b"{}", pause=0.05))
    assert post_json(endpoint, "/responses/compact", {}, limits) == {}


def test_a_wait_before_counts_in_the_total_limit_alone(playing):
    endpoint = playing(after(canned(200, b"{}")))
    started_at = time.monotonic() - 1000
    assert post_json(endpoint, "/responses/compact", {}, TIMEOUTS, started_at=started_at) == {}


def test_the_total_limit_counts_from_when_it_is_told(playing):
    error, seconds = failed(
        playing(after(forever=True)),
        TotalTimeout,
        {"total": 100},
        started_at=time.monotonic() - 99.9,
    )
    assert seconds < 3
    error, _ = failed(
        playing(after(forever=True)), TotalTimeout, {"total": 1}, started_at=time.monotonic() - 2
    )
    assert facts(error) == ("queued", False)


@pytest.mark.parametrize("asked", ["credentials", "ask_headers"])
def test_a_callable_that_hangs_is_held_to_the_limit_of_the_dial(asked):
    over = threading.Event()
    endpoint = Endpoint.build("http://127.0.0.1:9/v1/responses", **{asked: lambda: over.wait(10)})
    _, seconds = failed(endpoint, ConnectTimeout, {"connect": 0.1})
    over.set()
    assert seconds < 3


@pytest.mark.parametrize("asked", ["credentials", "ask_headers"])
def test_what_a_callable_raises_passes_through(asked):
    endpoint = Endpoint.build("http://127.0.0.1:9/v1/responses", **{asked: lambda: 1 / 0})
    with pytest.raises(ZeroDivisionError):
        post_json(endpoint, "/responses/compact", {}, TIMEOUTS)


@pytest.mark.parametrize(
    ("pieces", "state"),
    [
        ([], "sent"),
        ([b"HTTP/1"], "sent"),
        ([LONG, b'{"a":'], "output"),
        ([CHUNKED, b'5\r\n{"a":\r\n'], "output"),
        ([CHUNKED, b'5\r\n{"a'], "output"),
    ],
    ids=["nothing", "half a line", "length", "chunks", "within a chunk"],
)
def test_an_answer_that_breaks_off_is_an_interruption(playing, pieces, state):
    kind = RemoteProtocolError if pieces == [b"HTTP/1"] else StreamInterruptedError
    error, _ = failed(playing(after(*pieces)), kind)
    assert facts(error) == (state, True)


def test_an_answer_in_chunks_and_one_after_a_hundred_are_read(playing):
    endpoint = playing(after(CHUNKED, b'5\r\n{"a":\r\n2;x\r\n1}\r\n0\r\nX: y\r\n\r\n'))
    assert post_json(endpoint, "/responses/compact", {}, TIMEOUTS) == {"a": 1}
    endpoint = playing(after(b"HTTP/1.1 100 Continue\r\n\r\n", canned(200, b'{"a":1}')))
    assert post_json(endpoint, "/responses/compact", {}, TIMEOUTS) == {"a": 1}
    endpoint = playing(after(OK + b'\r\n{"a":1}'))
    assert post_json(endpoint, "/responses/compact", {}, TIMEOUTS) == {"a": 1}


@pytest.mark.parametrize(
    "answer",
    [OK + b"Content-Length: 1001\r\n\r\n", CHUNKED + b"10001\r\n" + b"x" * 0x10001],
    ids=["told", "not"],
)
def test_an_answer_that_is_too_long_is_not_read_to_its_end(playing, monkeypatch, answer):
    monkeypatch.setattr(http, "_MOST_BYTES", 1000)
    error, _ = failed(playing(after(answer, forever=True)), RemoteProtocolError, {"idle": 5})
    assert "more than 1,000 bytes" in str(error)
    assert error.may_have_been_billed


def test_an_answer_as_long_as_allowed_is_read(playing, monkeypatch):
    monkeypatch.setattr(http, "_MOST_BYTES", 1000)
    endpoint = playing(after(canned(200, b'{"a":1}'.ljust(1000))))
    assert post_json(endpoint, "/responses/compact", {}, TIMEOUTS) == {"a": 1}


def test_a_server_that_refuses_before_it_has_read_all_is_heard(playing):
    def script(connection, over):
        connection.sendall(canned(413, b'{"error":{"message":"Too long."}}'))
        connection.shutdown(socket.SHUT_WR)
        over.wait(0.2)
        while connection.recv(65_536):
            pass

    def unread(connection, over):
        connection.recv(10)
        connection.sendall(canned(413, b'{"error":{"message":"Too long."}}'))

    for each in (script, unread):
        error, _ = failed(playing(each), APIError, body={"input": "x" * 2**24})
        assert (error.status, error.message) == (413, "Too long.")
        assert facts(error) == ("sent", False)


def test_a_request_that_the_server_did_not_take_whole_cannot_have_been_billed(playing):
    error, _ = failed(
        playing(lambda connection, over: connection.recv(10)),
        StreamInterruptedError,
        body={"input": "x" * 2**22},
    )
    assert facts(error) == ("sent", False)


def test_a_request_that_the_server_does_not_read_is_held_to_the_limit_of_the_whole(playing):
    body, limits = {"input": "x" * 2**24}, {"total": 0.5}
    error, seconds = failed(
        playing(lambda connection, over: over.wait(10)), TotalTimeout, limits, body=body
    )
    assert facts(error) == ("sent", False)
    assert seconds < 3


def threads():
    return [each for each in threading.enumerate() if each.name == "llmws-responses-post"]


@pytest.mark.parametrize(
    ("pieces", "kind"),
    [
        ([], FirstEventTimeout),
        ([*DRIP], FirstEventTimeout),
        ([LONG], IdleTimeout),
        ([LONG, *DRIP], TotalTimeout),
        ([CHUNKED, b"40\r\n", *DRIP], TotalTimeout),
        ([LONG, b"{"], StreamInterruptedError),
        ([OK[:3]], RemoteProtocolError),
        ([canned(200, b"x" * 1001)], RemoteProtocolError),
    ],
    ids=["silence", "dripping head", "no body", "drip", "chunk", "broken", "no HTTP", "too long"],
)
def test_an_exchange_that_failed_leaves_neither_thread_nor_descriptor(
    playing, monkeypatch, pieces, kind
):
    monkeypatch.setattr(http, "_MOST_BYTES", 1000)
    until(lambda: not threads())
    forever = issubclass(kind, TimeoutError)
    limits = {"connect": 60, "first_event": 0.2, "idle": 0.25, "total": 0.6}
    endpoint = playing(after(*pieces, pause=0.1 if forever else 0, forever=forever))
    before = open_sockets()
    failed(endpoint, kind, limits)
    # The other end may stay open until the test is over.
    until(lambda: not threads() and len(open_sockets() - before) <= 1)


def open_sockets():
    """Return what this process has open, as far as the system tells."""
    found = set()
    with contextlib.suppress(OSError):
        for name in os.listdir("/proc/self/fd"):
            with contextlib.suppress(OSError):
                found.add(os.readlink(f"/proc/self/fd/{name}"))
    return {name for name in found if name.startswith("socket:")}


def test_a_dial_that_is_given_up_sends_nothing_when_it_ends_after_all(playing, monkeypatch):
    until(lambda: not threads())
    came, go_on, look_up = [], threading.Event(), socket.getaddrinfo

    def slow(*args, **options):
        if threading.current_thread().name == "llmws-responses-post":
            go_on.wait(10)
        return look_up(*args, **options)

    def script(connection, over):
        while data := connection.recv(65_536):
            came.append(data)
        came.append(b"")

    endpoint = playing(script)
    monkeypatch.setattr(socket, "getaddrinfo", slow)
    failed(endpoint, ConnectTimeout, {"connect": 0.1}, {"input": "mine"})
    go_on.set()
    until(lambda: not threads() and came[-1:] == [b""])
    assert b"mine" not in b"".join(came)


def test_the_idle_limit_is_the_answers_and_the_first_events_is_not(playing):
    endpoint = playing(after(LONG, b" ", b" " * 37 + b"{}", pause=0.4))
    limits = TIMEOUTS.but({"first_event": 0.3, "idle": 5})
    assert post_json(endpoint, "/responses/compact", {}, limits) == {}


def test_an_answer_that_is_compressed_is_read_and_bounded_by_what_it_unpacks_to(
    answering, monkeypatch
):
    packed = gzip.compress(b'{"a":1}')
    base_url, _ = answering(canned(200, packed, "Content-Encoding: gzip\r\n"))
    assert post_json(endpoint_at(base_url), "/responses/compact", {}, TIMEOUTS) == {"a": 1}
    monkeypatch.setattr(http, "_MOST_BYTES", 100_000)
    packed = gzip.compress(b" " * 200_000)
    base_url, _ = answering(canned(200, packed, "Content-Encoding: gzip\r\n"))
    failed(endpoint_at(base_url), RemoteProtocolError)
    base_url, _ = answering(canned(200, b"plain", "Content-Encoding: gzip\r\n"))
    error, _ = failed(endpoint_at(base_url), RemoteProtocolError)
    assert "is no HTTP" in str(error)


@pytest.mark.parametrize("body", [{}, {"input": "x" * 2**24}], ids=["read", "not read"])
def test_a_session_that_is_closed_ends_the_wait_and_the_request(playing, body):
    until(lambda: not threads())
    reading = after(forever=True) if not body else lambda connection, over: over.wait(10)
    closed = threading.Event()
    timer = threading.Timer(0.1, closed.set)
    timer.start()
    limits = {"connect": 60, "first_event": 60}
    error, seconds = failed(
        playing(reading), StreamCancelledError, limits, body, closed=closed.is_set
    )
    assert facts(error) == ("sent", not body)
    assert seconds < 3
    began = time.monotonic()
    until(lambda: not threads())
    assert time.monotonic() - began < 3
    timer.join()


def test_no_key_is_logged(answering, caplog):
    caplog.set_level(logging.DEBUG)
    for name, key in (("api-key", KEY), ("x", "plainword"), ("token", "a%2fb+c%20d")):
        base_url, asked = answering(canned(200, b"{}", f"No header {KEY}\r\n"))
        post_json(
            Endpoint.build(f"{base_url}/responses?{name}={key}"),
            "/responses/compact",
            {},
            TIMEOUTS,
        )
        assert f"?{name}={key}".lower().encode() in asked[0].lower()
        assert "/v1/responses/compact?[redacted]" in caplog.text
        assert key not in caplog.text
        assert KEY not in caplog.text
    assert {"DEBUG", "WARNING"} <= {record.levelname for record in caplog.records}


def test_what_others_log_of_their_requests_stays_as_it_is(answering, caplog):
    caplog.set_level(logging.DEBUG)
    for _ in range(2):
        base_url, _ = answering(canned(200, b"{}"))
        post_json(endpoint_at(base_url), "/responses/compact", {}, TIMEOUTS)
    logger = logging.getLogger("urllib3.connectionpool")
    assert len([each for each in logger.filters if type(each).__module__ == posting.__name__]) == 1
    logger.debug("GET %s", "/?api-key=theirs")
    assert "GET /?api-key=theirs" in caplog.text


@pytest.mark.parametrize("answer", [b"", b"HTTP/1", LONG, canned(500, b"{}")])
def test_no_key_is_in_the_frames_of_an_error(playing, answer):
    endpoint = playing(after(answer), headers={"Api-Key": "Zq9birdsong44x"})
    with pytest.raises(llmws.LLMWSError) as caught:
        post_json(endpoint, "/responses/compact", {}, TIMEOUTS)
    shown = traceback.TracebackException.from_exception(caught.value, capture_locals=True)
    text = "".join(shown.format())
    assert "post_json" in text
    assert "birdsong" not in text
    assert KEY not in text.replace(f"KEY = {KEY!r}", "")


def test_no_other_key_is_taken_from_a_netrc(answering, monkeypatch, tmp_path):
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login me password theirs\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    base_url, asked = answering(canned(200, b"{}"))
    post_json(Endpoint.build(f"{base_url}/responses"), "/responses/compact", {}, TIMEOUTS)
    assert b"authorization" not in asked[0].lower()


def test_it_goes_through_the_proxy_that_the_socket_would_take(monkeypatch):
    asked = []
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def once():
            with listener.accept()[0] as connection:
                data = b""
                while not data.endswith(b"{}"):
                    data += connection.recv(65_536)
                asked.append(data)
                connection.sendall(canned(200, b'{"by":"proxy"}'))

        thread = threading.Thread(target=once, daemon=True)
        thread.start()
        address = f"127.0.0.1:{listener.getsockname()[1]}"
        monkeypatch.setenv("HTTP_PROXY", f"http://me:pa%20ss@{address}")
        endpoint = endpoint_at("http://api.example:80/v1", allow_insecure=True)
        assert post_json(endpoint, "/responses/compact", {}, TIMEOUTS) == {"by": "proxy"}
        thread.join(5)
    assert asked[0].startswith(b"POST http://api.example/v1/responses/compact HTTP/1.1\r\n")
    assert base64.b64encode(b"me:pa ss") in asked[0]


# Where it goes.


def test_certificates_are_verified_as_the_sockets_are(tls):
    server_context, client_context = tls
    with Server(ssl_context=server_context) as server:
        body = {"model": "m", "input": [{"type": "message", "role": "user", "content": "Hi"}]}
        trusting = endpoint_at(server.base_url, ssl_context=client_context)
        answer = post_json(trusting, "/responses/compact", body, TIMEOUTS)
        assert answer["object"] == "response.compaction"
        with pytest.raises(ConnectError):
            post_json(endpoint_at(server.base_url), "/responses/compact", body, TIMEOUTS)


def test_the_sessions_ssl_context_decides_alone_and_stays_as_it_is(tls):
    server_context, _ = tls
    body = {"model": "m", "input": [{"type": "message", "role": "user", "content": "Hi"}]}

    class Context(ssl.SSLContext):
        def changed(self, *args, **options):
            raise AssertionError("it is the session's")

        load_verify_locations = load_default_certs = set_alpn_protocols = changed

    lax, strict = Context(ssl.PROTOCOL_TLS_CLIENT), Context(ssl.PROTOCOL_TLS_CLIENT)
    lax.check_hostname, lax.verify_mode = False, ssl.CERT_NONE
    with Server(ssl_context=server_context) as server:
        trusting = endpoint_at(server.base_url, ssl_context=lax)
        answer = post_json(trusting, "/responses/compact", body, TIMEOUTS)
        assert answer["object"] == "response.compaction"
        assert (lax.check_hostname, lax.verify_mode) == (False, ssl.CERT_NONE)
        error, _ = failed(endpoint_at(server.base_url, ssl_context=strict), ConnectError)
        assert "CERTIFICATE_VERIFY_FAILED" in str(error)
        assert not error.retryable
        assert (strict.check_hostname, strict.verify_mode) == (True, ssl.CERT_REQUIRED)


def test_certificates_are_verified_through_a_proxy_too(tls, monkeypatch):
    server_context, client_context = tls
    heads = []

    def once(listener, port):
        with listener.accept()[0] as ours, socket.create_connection(("127.0.0.1", port)) as theirs:
            heads.append(ours.recv(65_536))
            ours.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
            back = threading.Thread(target=carry, args=(theirs, ours), daemon=True)
            back.start()
            carry(ours, theirs)
            back.join(5)

    def carry(source, target):
        with contextlib.suppress(OSError):
            while data := source.recv(65_536):
                target.sendall(data)
            target.shutdown(socket.SHUT_WR)

    body = {"model": "m", "input": [{"type": "message", "role": "user", "content": "Hi"}]}
    with (
        Server(ssl_context=server_context) as server,
        socket.create_server(("127.0.0.1", 0)) as listener,
    ):
        port = int(server.base_url.rpartition(":")[2].partition("/")[0])
        monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{listener.getsockname()[1]}")
        for context in (client_context, None):
            thread = threading.Thread(target=once, args=(listener, port), daemon=True)
            thread.start()
            endpoint = endpoint_at(server.base_url, ssl_context=context)
            if context:
                assert post_json(endpoint, "/responses/compact", body, TIMEOUTS)["output"]
            else:
                failed(endpoint, ConnectError, body=body)
            thread.join(5)
    assert [head.split()[0] for head in heads] == [b"CONNECT", b"CONNECT"]
    assert KEY.encode() not in b"".join(heads)


def test_a_socks_proxy_without_what_it_needs_is_told(monkeypatch):
    pytest.importorskip("python_socks")
    if importlib.util.find_spec("socks") is not None:
        pytest.skip("PySocks is here")
    monkeypatch.setenv("ALL_PROXY", "socks5h://127.0.0.1:9")
    endpoint = endpoint_at("http://api.example/v1", allow_insecure=True)
    error, _ = failed(endpoint, ConfigurationError)
    assert 'pip install "llmws[socks]"' in str(error)


def test_a_conversation_is_compacted_over_http():
    with Server() as server, llmws.Session("m", base_url=server.base_url) as session:
        conversation = session.conversation()
        conversation.create("one")
        conversation.compact()
        assert conversation.items[-1]["type"] == "compaction"
        stream = conversation.stream("two")
        assert stream.response().text == "two"
        assert (stream.sent.kind, stream.sent.reason) == ("full", "compacted")


def test_a_compaction_asks_for_headers_afresh_and_they_may_look_at_the_conversation():
    asked = []

    def ask():
        asked.append(len(conversation.items))
        return {"X-Turn": str(len(asked))}

    with Server() as server, llmws.Session("m", base_url=server.base_url, headers=ask) as session:
        conversation = session.conversation()
        conversation.create("one")
        dials = len(asked)
        conversation.compact()
        assert (dials, len(asked), asked[-1]) == (1, 2, 2)
        assert conversation.items[-1]["type"] == "compaction"
