import gc
import os
import pickle
import ssl
import threading
import traceback
import weakref

import pytest

import llmws
from llmws.errors import (
    ConfigurationError,
    OutboxFullError,
    SessionClosedError,
    StreamCancelledError,
)
from llmws.secret import Secret
from llmws.testing import Server, fingerprint, rules
from tests.responses.acting import (
    PATIENCE,
    Steps,
    first_events,
    in_threads,
    mute_server,
    opened,
    until,
)
from tests.wire import peers
from tests.wire.peers import Peer


KEY = "sk-canary-0123456789"
PACKAGE = os.path.dirname(llmws.__file__)
ITEM = {"role": "user", "content": "Hi"}


# Arguments.


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("model", 5),
        ("model", ""),
        ("model", b"m"),
        ("api_key", 5),
        ("api_key", ""),
        ("api_key", "two\nlines"),
        ("base_url", 5),
        ("base_url", ""),
        ("base_url", b"http://127.0.0.1/v1"),
        ("base_url", "ftp://127.0.0.1/v1"),
        ("base_url", "127.0.0.1:80/v1"),
        ("base_url", "http:///v1"),
        ("base_url", "http://127.0.0.1:0/v1"),
        ("base_url", "http://127.0.0.1:65536/v1"),
        ("base_url", "http://127.0.0.1:port/v1"),
        ("base_url", "http://user:pw@127.0.0.1/v1"),
        ("base_url", "http://127.0.0.1/v1#part"),
        ("base_url", "http://127.0.0.1/v1\r\nX: y"),
        ("base_url", "http://127.0.0.1/v 1"),
        ("organization", 5),
        ("organization", "two\nlines"),
        ("project", "\x00"),
        ("headers", 5),
        ("headers", [("a", "b")]),
        ("headers", {5: "b"}),
        ("headers", {"a": 5}),
        ("headers", {"a b": "c"}),
        ("headers", {"a": "b\r\nc: d"}),
        ("headers", {"Upgrade": "h2c"}),
        ("headers", {"Host": "elsewhere"}),
        ("timeouts", 5),
        ("timeouts", {"read": 5}),
        ("timeouts", {"idle": 0}),
        ("lanes", 1),
        ("lanes", "yes"),
        ("capabilities", {"lanes": True}),
        ("ssl_context", True),
        ("ssl_context", "verify"),
        ("allow_insecure", 1),
        ("allow_insecure", None),
        ("retry_uncertain", 1),
        ("retry_uncertain", None),
        ("sequence_check", "off"),
        ("sequence_check", None),
        ("sequence_check", []),
        ("callback_threads", 0),
        ("callback_threads", -1),
        ("callback_threads", 1.5),
        ("callback_threads", True),
        ("callback_threads", None),
        ("stream", True),
        ("background", True),
        ("generate", False),
        ("stream_id", "a"),
        ("temperature", float("nan")),
        ("metadata", {"a": b"raw"}),
        ("instructions", "x" * 2**24),
    ],
    ids=lambda value: str(value)[:24],
)
def test_an_argument_that_cannot_be_used_is_refused_before_anything_is_dialled(name, value):
    with mute_server() as (listener, base_url):
        with pytest.raises(ConfigurationError):
            llmws.Session(**{"base_url": base_url, name: value})
        with pytest.raises(BlockingIOError):
            listener.accept()


@pytest.mark.parametrize(
    "arguments",
    [
        {"model": "m"},
        {"api_key": KEY},
        {"api_key": lambda: KEY},
        {"organization": "o", "project": "p", "headers": {"X-Own": "ü"}},
        {"headers": dict},
        {"timeouts": llmws.Timeouts(idle=None)},
        {"timeouts": {"idle": 5}},
        {"lanes": True},
        {"lanes": False, "capabilities": llmws.Capabilities(max_lanes=2)},
        {"ssl_context": ssl.create_default_context()},
        {"allow_insecure": True, "retry_uncertain": True},
        {"sequence_check": "strict", "callback_threads": 1},
        {"instructions": "Be brief.", "store": False, "an_option_of_tomorrow": [1]},
    ],
    ids=lambda arguments: " ".join(arguments),
)
def test_an_argument_that_can_be_used_is_taken_and_nothing_is_dialled(arguments):
    with mute_server() as (listener, base_url):
        with llmws.Session(base_url=base_url, **arguments) as session:
            assert session.stats.dials == 0
        with pytest.raises(BlockingIOError):
            listener.accept()


@pytest.mark.parametrize("name", ["api_key", "headers"])
def test_a_refused_key_is_in_no_variable_of_ours(name):
    values = {"api_key": f"{KEY}\n", "headers": [("Authorization", KEY)]}
    try:
        llmws.Session(**{name: values[name]})
    except ConfigurationError as exc:
        shown = traceback.TracebackException.from_exception(exc, capture_locals=True)
    ours = [str(frame.locals) for frame in shown.stack if frame.filename.startswith(PACKAGE)]
    assert len(ours) >= 2
    assert "canary" not in "".join(ours)
    assert "canary" not in str(shown)


def test_lanes_say_more_than_what_is_known_of_the_host():
    with mute_server() as (_, base_url):
        assert llmws.Session(base_url=base_url).capabilities.lanes is None
        assert llmws.Session(base_url=base_url, lanes=True).capabilities.lanes is True
        own = llmws.Capabilities(lanes=True, max_lanes=3)
        assert llmws.Session(base_url=base_url, capabilities=own).capabilities is own
        told = llmws.Session(base_url=base_url, capabilities=own, lanes=False).capabilities
        assert (told.lanes, told.max_lanes) == (False, 3)


def test_timeouts_may_be_a_mapping_of_what_differs():
    assert llmws.Session(api_key=KEY, timeouts={"idle": 5}).timeouts == llmws.Timeouts(idle=5)


# Where it leads.


@pytest.mark.parametrize(
    ("base_url", "shown"),
    [
        ("https://host/v1", "wss://host/v1/responses"),
        ("wss://host/v1/", "wss://host/v1/responses"),
        ("https://host:8443/v1//", "wss://host:8443/v1/responses"),
        ("http://localhost:1234/v1", "ws://localhost:1234/v1/responses"),
        ("ws://[::1]:1234/v1", "ws://[::1]:1234/v1/responses"),
        ("http://127.0.0.2/", "ws://127.0.0.2/responses"),
        ("https://host", "wss://host/responses"),
        ("https://host/v1?api-version=1", "wss://host/v1/responses"),
    ],
)
def test_a_base_url_may_be_written_in_several_ways(base_url, shown):
    session = llmws.Session("m", api_key=KEY, base_url=base_url)
    assert repr(session) == f"<Session {shown} model='m'>"


@pytest.mark.parametrize("slash", ["", "/"])
@pytest.mark.parametrize("scheme", ["http", "ws"])
def test_a_server_is_reached_by_either_scheme_and_with_a_query(scheme, slash):
    with Server() as server:
        base_url = server.base_url.replace("http", scheme, 1) + slash + "?api-version=2026"
        with llmws.Session("m", base_url=base_url) as session:
            assert session.create("Hi").text == "Hi"


def test_without_a_base_url_it_is_openai():
    assert "wss://api.openai.com/v1/responses" in repr(llmws.Session(api_key=KEY))


def test_an_empty_base_url_is_none_in_the_environment_and_an_error_as_an_argument(monkeypatch):
    monkeypatch.setenv("OPENAI_BASE_URL", "")
    assert "wss://api.openai.com/v1/responses" in repr(llmws.Session(api_key=KEY))
    monkeypatch.setenv("OPENAI_BASE_URL", "https://host/v1")
    with pytest.raises(ConfigurationError):
        llmws.Session(api_key=KEY, base_url="")


@pytest.mark.parametrize("scheme", ["http", "ws"])
def test_plain_text_to_another_machine_must_be_allowed(scheme):
    with pytest.raises(ConfigurationError, match="allow_insecure=True"):
        llmws.Session(api_key=KEY, base_url=f"{scheme}://host/v1")
    llmws.Session(api_key=KEY, base_url=f"{scheme}://host/v1", allow_insecure=True)


# Keys and headers.


def test_a_missing_key_is_said_at_construction_and_how_to_give_one():
    with pytest.raises(ConfigurationError, match=r"pass api_key .* or set OPENAI_API_KEY"):
        llmws.Session("m")


def test_the_users_own_authorization_is_a_key():
    llmws.Session("m", headers={"authorization": f"Bearer {KEY}"})


def sent_headers(**arguments):
    with opened(**arguments) as (server, session):
        session.create("Hi")
        return server.ledger.requests[0].headers


def test_a_key_is_sent_as_a_bearer():
    assert sent_headers(api_key=KEY)["authorization"] == fingerprint(f"Bearer {KEY}")


def test_a_server_on_this_machine_needs_no_key():
    assert "authorization" not in sent_headers()


def test_an_authorization_header_of_the_users_goes_before_the_key_of_the_environment(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-other")
    headers = sent_headers(headers={"Authorization": "Custom abc"})
    assert headers["authorization"] == fingerprint("Custom abc")


def test_an_authorization_header_goes_before_a_key_given_too():
    headers = sent_headers(headers={"Authorization": "Custom abc"}, api_key=KEY)
    assert headers["authorization"] == fingerprint("Custom abc")


def test_the_environment_fills_what_is_not_given(monkeypatch):
    with Server() as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.base_url)
        monkeypatch.setenv("OPENAI_API_KEY", KEY)
        monkeypatch.setenv("OPENAI_ORG_ID", "org")
        monkeypatch.setenv("OPENAI_PROJECT_ID", "project")
        with llmws.Session("m") as session:
            session.create("Hi")
        headers = server.ledger.requests[0].headers
    assert headers["authorization"] == fingerprint(f"Bearer {KEY}")
    assert (headers["openai-organization"], headers["openai-project"]) == ("org", "project")


def test_headers_are_joined_and_the_users_win():
    headers = sent_headers(
        headers={"X-Own": "1", "openai-organization": "mine"}, organization="o", project="p"
    )
    assert headers["x-own"] == "1"
    assert headers["openai-organization"] == "mine"
    assert headers["openai-project"] == "p"
    assert headers["user-agent"].startswith("llmws/")


def test_a_callable_key_is_asked_at_each_dial_and_its_new_value_is_sent():
    def break_after_each(request):
        yield from rules.echo()(request)
        request.connection.drop()

    keys = iter(["first-key", "second-key"])
    with opened(break_after_each, api_key=lambda: next(keys)) as (server, session):
        session.create("one")
        until(lambda: session.stats.lost == 1)
        session.create("two")
        sent = [request.headers["authorization"] for request in server.ledger.requests]
    assert sent == [fingerprint("Bearer first-key"), fingerprint("Bearer second-key")]


def test_a_key_that_cannot_be_had_ends_the_turn_and_is_the_cause():
    def ask():
        raise LookupError("the vault is closed")

    with (
        mute_server() as (_, base_url),
        llmws.Session("m", base_url=base_url, api_key=ask) as session,
        pytest.raises(llmws.ConnectError) as caught,
    ):
        session.create("Hi")
    assert isinstance(causes_of(caught.value)[-1], LookupError)
    assert session.stats.dials == 1


def causes_of(error):
    """Return an error and what led to it."""
    found = [error]
    while found[-1].__cause__ is not None:
        found.append(found[-1].__cause__)
    return found


def breaking_after_each(request):
    yield from rules.echo()(request)
    request.connection.drop()


def test_callable_headers_are_asked_at_each_dial_on_its_own_thread_and_their_new_values_are_sent():
    threads = []

    def ask():
        threads.append(threading.current_thread())
        return {"X-Turn": str(len(threads)), "OpenAI-Organization": f"org-{len(threads)}"}

    with opened(breaking_after_each, headers=ask, organization="o", project="p") as (
        server,
        session,
    ):
        assert threads == []
        session.create("one")
        until(lambda: session.stats.lost == 1)
        session.create("two")
        sent = [request.headers for request in server.ledger.requests]
    assert [headers["x-turn"] for headers in sent] == ["1", "2"]
    assert [headers["openai-organization"] for headers in sent] == ["org-1", "org-2"]
    assert {headers["openai-project"] for headers in sent} == {"p"}
    assert all(headers["user-agent"].startswith("llmws/") for headers in sent)
    assert len({*threads, threading.current_thread()}) == 3
    assert not any(thread.is_alive() for thread in threads)


def test_headers_of_a_mapping_are_those_of_the_sessions_beginning():
    headers = {"X-Turn": "1"}
    with opened(breaking_after_each, headers=headers) as (server, session):
        headers["X-Turn"] = "2"
        session.create("one")
        until(lambda: session.stats.lost == 1)
        session.create("two")
        sent = [request.headers["x-turn"] for request in server.ledger.requests]
    assert sent == ["1", "1"]


def test_an_authorization_that_callable_headers_give_goes_before_the_key_which_is_not_asked_for():
    keys, given = iter(["second-key"]), iter([{"authorization": "Custom first"}, {}])
    arguments = {"headers": lambda: next(given), "api_key": lambda: next(keys)}
    with opened(breaking_after_each, **arguments) as (server, session):
        session.create("one")
        until(lambda: session.stats.lost == 1)
        session.create("two")
        sent = [request.headers["authorization"] for request in server.ledger.requests]
    assert sent == [fingerprint("Custom first"), fingerprint("Bearer second-key")]


def test_callable_headers_that_cannot_be_had_end_the_turn_and_are_the_cause():
    def ask():
        raise LookupError("the vault is closed")

    with opened(headers=ask) as (server, session):
        with pytest.raises(llmws.ConnectError, match="the vault is closed") as caught:
            session.create("Hi")
        assert isinstance(causes_of(caught.value)[-1], LookupError)
        assert (session.stats.dials, server.ledger.connections) == (1, 0)


@pytest.mark.parametrize(
    "given", [None, [("X-Own", KEY)], {"Upgrade": KEY}, {"X-Own": f"{KEY}\r\nX: y"}, {"X-Own": 5}]
)
def test_callable_headers_that_cannot_be_sent_end_the_turn_unseen_and_nothing_is_dialled(given):
    with opened(headers=lambda: given) as (server, session):
        with pytest.raises(llmws.ConnectError, match="headers callable returned") as caught:
            session.create("Hi")
        errors = causes_of(caught.value)
        assert isinstance(errors[-1], ConfigurationError)
        assert "canary" not in f"{errors} {[str(error) for error in errors]}"
        assert b"canary" not in pickle.dumps(caught.value)
        assert server.ledger.connections == 0


def test_headers_that_a_server_refuses_are_asked_for_again_by_the_next_turn():
    heads = []
    with Peer(peers.answering(b"HTTP/1.1 401 No\r\n\r\n", heads=heads)) as peer:
        tokens = iter(["old", "new"])
        base_url = f"http://127.0.0.1:{peer.port}/v1"
        headers = lambda: {"Authorization": f"Bearer {next(tokens)}"}  # noqa: E731  As users write it.
        with llmws.Session("m", base_url=base_url, headers=headers) as session:
            for _ in range(2):
                with pytest.raises(llmws.AuthenticationError):
                    session.create("Hi")
    assert [b"Bearer old" in heads[0], b"Bearer new" in heads[1]] == [True, True]


def test_callable_headers_may_use_the_session_that_asks_for_them():
    seen = []

    def ask():
        seen.append((session.stats.dials, session.usage, repr(session), session.stream("again")))
        return {}

    with opened(headers=ask) as (_, session):
        assert session.create("Hi").text == "Hi"
        assert seen[0][-1].response().text == "again"


def test_without_a_key_callable_headers_have_to_give_an_authorization():
    session = llmws.Session("m", headers=lambda: {"X-Own": "1"})
    with session, pytest.raises(llmws.ConnectError, match="gave no Authorization") as caught:
        session.create("Hi")
    assert isinstance(caught.value.__cause__, ConfigurationError)


def test_the_sessions_own_headers_are_checked_at_once_even_if_others_are_asked_for():
    with pytest.raises(ConfigurationError, match="OpenAI-Organization"):
        llmws.Session("m", headers=dict, organization="two\nlines")


def test_a_forked_child_asks_for_headers_anew():
    asked = []

    def ask():
        asked.append(f"Bearer {KEY}-{len(asked)}")
        return {"Authorization": asked[-1], "X-Turn": str(len(asked))}

    with opened(headers=ask) as (server, session):
        session.create("one")
        session._core.stop()
        session._core.closed = False
        session._restart_core()  # What a fork calls.
        session.create("two")
        assert [request.headers["x-turn"] for request in server.ledger.requests] == ["1", "2"]
        # A server that quotes one of them is not repeated, and neither is it in a recording.
        assert {Secret(text) for text in asked} <= {*session._core.secrets()}
        assert "canary" not in repr(session) + repr(session._endpoint) + repr(session._credentials)


def test_a_key_in_callable_headers_that_the_server_quotes_is_masked():
    words = "Zq9birdsong44xWvT"  # No pattern by which anyone could know it for a key.
    with opened(rules.refuse(401, "no", f"Not {words}."), headers=lambda: {"Api-Key": words}) as (
        _,
        session,
    ):
        with pytest.raises(llmws.APIError) as caught:
            session.create("Hi")
        assert caught.value.message.startswith("Not ")
        assert words not in f"{caught.value} {vars(caught.value)}"


# What is sent.


def test_defaults_go_into_each_create_and_params_before_them():
    with opened(instructions="Be brief.", store=False) as (server, session):
        session.create("one")
        session.create("two", instructions="Be long.", model="other", metadata={"a": "b"})
        session.warm_up()
        session.create()
        first, second, warm, last = server.ledger.creates
    base = {"type": "response.create", "instructions": "Be brief.", "store": False, "model": "m"}
    assert first == {**base, "input": "one"}
    assert second == {
        **base,
        "input": "two",
        "instructions": "Be long.",
        "model": "other",
        "metadata": {"a": "b"},
    }
    assert warm == {**base, "generate": False}
    assert last == base


@pytest.mark.parametrize("given", [ITEM, [ITEM], (ITEM,)])
def test_one_item_or_several_are_sent_as_a_list(given):
    with opened() as (server, session):
        assert session.create(given).text == "Hi"
        assert server.ledger.creates[0]["input"] == [ITEM]


@pytest.mark.parametrize("method", ["stream", "create", "warm_up"])
@pytest.mark.parametrize(
    ("given", "params"),
    [
        (5, {}),
        (b"Hi", {}),
        ([ITEM, "Hi"], {}),
        ("Hi", {"stream": True}),
        ("Hi", {"background": False}),
        ("Hi", {"type": "response.create"}),
        ("Hi", {"stream_id": "a"}),
        ("Hi", {"generate": True}),
        ("Hi", {"api_key": KEY}),
        ("Hi", {"callback_threads": 2}),
        ("Hi", {"model": None}),
        ("Hi", {"temperature": float("inf")}),
        ("Hi", {"timeouts": {"idle": -1}}),
        ("Hi", {"timeouts": 5}),
        ("x" * 2**24, {}),
    ],
    ids=lambda value: str(value)[:24],
)
def test_what_cannot_be_sent_is_refused_and_nothing_is(method, given, params):
    with opened() as (server, session):
        with pytest.raises(ConfigurationError):
            getattr(session, method)(given, **params)
        assert session.stats == llmws.Session(base_url=server.base_url).stats
        assert server.ledger.connections == 0


def test_a_missing_model_is_said_by_the_turn():
    with opened(model=None) as (_, session):
        with pytest.raises(ConfigurationError, match="No model"):
            session.stream("Hi")
        assert session.create("Hi", model="m").text == "Hi"


def test_a_request_may_be_exactly_as_long_as_the_provider_takes():
    limit = llmws.Capabilities(max_frame_bytes=1000)
    with opened(capabilities=limit) as (server, session):
        frame_bytes = len('{"type":"response.create","model":"m","input":""}')
        longest = "x" * (1000 - frame_bytes)
        assert session.create(longest).text == longest
        with pytest.raises(ConfigurationError, match="takes 1,001 bytes"):
            session.create(longest + "x")
        assert len(server.ledger.requests) == 1


# Totals.


def usage(read, written):
    return {"input_tokens": read, "output_tokens": written, "total_tokens": read + written}


def test_usage_sums_all_turns_failed_and_incomplete_ones_too():
    def rule(request):
        ends = {"incomplete": "max_output_tokens", "failed": None}
        status = request.input_text
        events = rules.text("x", usage=usage(10, 1))(request)
        for event in events:
            if event["type"] == "response.completed" and status in ends:
                response = {**event["response"], "status": status}
                event = {"type": f"response.{status}", "response": response}
            yield event

    with opened(rule) as (_, session):
        assert session.usage == llmws.Usage()
        statuses = [session.create(s).status for s in ("completed", "incomplete", "failed")]
        assert statuses == ["completed", "incomplete", "failed"]
        assert session.usage == llmws.Usage(30, 3, 33)


def test_warm_ups_are_counted_apart():
    with opened(rules.text("x", usage=usage(10, 1))) as (_, session):
        response = session.warm_up("a long preface", instructions="x")
        assert (response.status, response.output, response.text) == ("completed", [], "")
        assert session.usage == llmws.Usage()
        session.create("Hi", previous_response_id=response.id)
        assert session.usage.input_tokens == 10
        assert session.stats.warm_up_usage.input_tokens > 0
        assert (session.stats.turns, session.stats.warm_ups) == (1, 1)


def test_stats_count_what_was_done():
    with opened() as (_, session):
        session.create("Hi")
        session.create("Hi")
        stats = session.stats
        assert (stats.dials, stats.failed_dials, stats.lost) == (1, 0, 0)
        assert (stats.turns, stats.warm_ups, stats.retries) == (2, 0, 0)
        assert stats.bytes_sent > 0
        assert stats.bytes_received > stats.bytes_sent
        assert (stats.missing_events, stats.dropped_events) == (0, 0)


def leaving_out(numbers):
    def rule(request):
        for number, event in enumerate(rules.text("one two")(request)):
            yield {**event, "sequence_number": number + (number >= 5) * numbers}

    return rule


def test_missing_sequence_numbers_are_counted_and_logged(caplog):
    with opened(leaving_out(3)) as (_, session):
        assert session.create("Hi").text == "one two"
        assert session.stats.missing_events == 3
    assert "3 sequence numbers missing, 0 repeated" in caplog.text


def test_repeated_sequence_numbers_are_logged(caplog):
    with opened(leaving_out(-2)) as (_, session):
        assert session.create("Hi").text == "one two"
    assert "0 sequence numbers missing, 2 repeated" in caplog.text


@pytest.mark.parametrize(("numbers", "shown"), [(3, 8), (-2, 3)])
def test_a_strict_check_makes_a_gap_or_a_repeat_an_error(numbers, shown):
    with opened(leaving_out(numbers), sequence_check="strict") as (_, session):
        stream = session.stream("Hi")
        with pytest.raises(llmws.RemoteProtocolError, match=f"number {shown} where 5") as caught:
            list(stream.events())
        assert stream.snapshot.text == "one"
        assert caught.value.partial.text == "one"


def test_a_strict_check_lets_unbroken_numbers_pass():
    with opened(sequence_check="strict") as (_, session):
        assert [session.create(word).text for word in ("a", "b")] == ["a", "b"]


# Ends.


def test_a_closed_session_takes_no_turn():
    with opened() as (_, session):
        session.create("Hi")
        session.close()
        for call in (session.stream, session.create, session.warm_up):
            with pytest.raises(SessionClosedError, match="open a new one"):
                call("Hi")
        assert repr(session).endswith("model='m' closed>")


def test_a_session_that_never_dialled_closes_at_once():
    with mute_server() as (_, base_url):
        session = llmws.Session("m", base_url=base_url)
        session.close()
        session.close(wait=False)


def test_closing_cancels_what_runs_and_what_waits():
    rule = Steps()
    with opened(rule) as (_, session):
        running, waiting = session.stream("a"), session.stream("b")
        rule.let(5)
        first_events(running, 5)
        session.close()
        for stream, text in ((running, "one"), (waiting, "")):
            with pytest.raises(StreamCancelledError, match="session was closed") as caught:
                stream.response()
            assert caught.value.partial.text == text


def test_closing_may_be_repeated_from_any_number_of_threads():
    with opened() as (_, session):
        session.create("Hi")
        results = in_threads(*[session.close] * 8, lambda: session.close(wait=False))
        assert results == [None] * 9


def test_closing_waits_for_the_end_of_the_io_thread():
    before = set(threading.enumerate())
    with opened() as (_, session):
        session.create("Hi")
        (thread,) = io_threads(before)
        session.close()
        thread.join(PATIENCE)
        assert not thread.is_alive()


def test_closing_leaves_no_callback_thread_behind():
    before = set(threading.enumerate())
    with opened() as (_, session):
        session._core.callbacks._idle_seconds = 3600.0
        session.stream("Hi").on("text", lambda _: None).wait()
        threads = [t for t in set(threading.enumerate()) - before if "-callbacks-" in t.name]
        assert threads
        session.close()
        for thread in threads:
            thread.join(PATIENCE)
            assert not thread.is_alive()


def test_closing_on_the_io_thread_does_not_wait_for_itself():
    with opened() as (_, session):
        stream, closed = session.stream("Hi"), threading.Event()

        def listener():
            if session._core.connection.on_own_thread:
                session.close()
                closed.set()

        stream._turn.inbox.listen(listener)
        assert closed.wait(PATIENCE)
        assert session._core.connection.join(PATIENCE)


def test_closing_in_a_callback_does_not_wait_for_itself():
    with opened() as (_, session):
        closed = threading.Event()
        session.stream("Hi").on("done", lambda _: (session.close(), closed.set()))
        assert closed.wait(PATIENCE)


def test_leaving_a_session_waits_until_callbacks_have_returned():
    told, rule = [], Steps()

    def save(response):
        threading.Event().wait(0.05)  # Time enough to leave early, if leaving did not wait.
        told.append(response.status)

    with Server(rule=rule) as server:
        with llmws.Session("m", base_url=server.base_url) as session:
            session.stream("Hi").on("text", told.append).on("done", save)
            rule.let_all()
        assert told == ["one", " two", " three", "completed"]


def test_leaving_a_session_by_an_error_waits_for_nothing():
    rule, ended = Steps(), threading.Event()
    with Server(rule=rule) as server:

        def leave_by_an_error():
            with llmws.Session("m", base_url=server.base_url) as session:
                session.stream("Hi").on("error", lambda exc: ended.set())
                raise LookupError

        with pytest.raises(LookupError):
            leave_by_an_error()
        assert ended.wait(PATIENCE)
        rule.let_all()


def test_leaving_a_session_cancels_turns_that_nobody_listens_to():
    rule = Steps()
    with Server(rule=rule) as server:
        with llmws.Session("m", base_url=server.base_url) as session:
            stream = session.stream("Hi")
        with pytest.raises(StreamCancelledError):
            stream.response()
        rule.let_all()


def io_threads(before):
    names = [t for t in threading.enumerate() if t not in before]
    return [
        t for t in names if t.name.startswith("llmws-responses-") and "-callbacks" not in t.name
    ]


def test_a_forgotten_session_is_collected_and_its_thread_ends():
    before = set(threading.enumerate())
    with Server() as server:
        session = llmws.Session("m", base_url=server.base_url)
        assert session.create("Hi").text == "Hi"
        (thread,) = io_threads(before)
        gone = weakref.ref(session)
        del session
        gc.collect()
        assert gone() is None
        thread.join(PATIENCE)
        assert not thread.is_alive()


def test_a_session_lives_as_long_as_a_stream_of_its():
    rule = Steps()
    with Server(rule=rule) as server:
        stream = llmws.Session("m", base_url=server.base_url).stream("Hi")
        gc.collect()
        rule.let_all()
        assert stream.response().text == "one two three"


def test_a_session_lives_as_long_as_a_callback_has_something_to_be_told():
    rule, done = Steps(), threading.Event()
    with Server(rule=rule) as server:
        llmws.Session("m", base_url=server.base_url).stream("Hi").on("done", lambda _: done.set())
        gc.collect()
        rule.let_all()
        assert done.wait(PATIENCE)


def test_requests_that_wait_to_be_written_are_bounded_together():
    limit = llmws.Capabilities(max_frame_bytes=2**26)
    with (
        mute_server() as (_, base_url),
        llmws.Session("m", base_url=base_url, capabilities=limit) as session,
    ):
        held = [session.stream("x" * (2**25 - 100)), session.stream("x" * (2**25 - 100))]
        with pytest.raises(OutboxFullError, match=r"wait for earlier turns"):
            session.stream("x" * 200)
        held.pop().cancel()
        held[0].cancel()
        for stream in held:
            with pytest.raises(StreamCancelledError):
                stream.response()
        assert session.stream("x" * 200).state is llmws.TurnState.QUEUED


def test_the_repr_of_a_session_and_of_its_stats_show_no_secret():
    with opened(api_key=KEY, headers={"X-Own": KEY}) as (_, session):
        session.create(f"about {KEY}")
        assert "canary" not in repr(session) + repr(session.stats)
        assert "turns=1" in repr(session.stats)


def test_leaving_a_session_waits_for_the_turns_that_callbacks_begin():
    told = []
    with opened(rules.text("one")) as (_, session):

        def again(response):
            session.stream("again").on("done", told.append).on("error", told.append)

        session.stream("first").on("done", again)
    assert [response.text for response in told] == ["one"]


def test_a_closed_session_stays_closed_in_a_forked_child():
    with opened() as (_, session):
        session.close()
        session._restart_core()  # What a fork calls.
        with pytest.raises(SessionClosedError):
            session.create("Hi")


@pytest.mark.parametrize("name", ["self", "host", "defaults", "settings"])
def test_a_conversation_takes_a_setting_of_any_name_that_the_wire_may_have(name):
    with (
        Server(rule=rules.echo()) as server,
        llmws.Session("m", base_url=server.base_url) as session,
    ):
        chat = session.conversation(**{name: "x"})
        assert chat.create("Hello.").text == "Hello."
        again = llmws.Conversation.from_dict(chat.to_dict(), session=session)
        assert again.create("Bye.").text == "Bye."
        assert [create[name] for create in server.ledger.creates] == ["x", "x"]
