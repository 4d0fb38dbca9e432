import os
import threading
import traceback

import pytest

import llmws
from llmws import default
from llmws.errors import ConfigurationError, SessionClosedError, StreamCancelledError
from llmws.testing import Server, fingerprint
from tests.responses.acting import PATIENCE, Steps, in_threads, mute_server


KEY = "sk-canary-0123456789"
PACKAGE = os.path.dirname(llmws.__file__)


@pytest.fixture
def server(monkeypatch):
    with Server() as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.base_url)
        yield server
        if default._default.session is not None:
            default._default.session.close()
            default._default.session = None


def test_the_default_session_is_made_by_its_first_use_from_the_environment(server, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    assert default._default.session is None
    assert list(llmws.stream("one two", model="m").texts()) == ["one", " two"]
    assert llmws.create("three", model="m").text == "three"
    assert server.ledger.connections == 1
    assert server.ledger.requests[0].headers["authorization"] == fingerprint(f"Bearer {KEY}")


def test_threads_that_use_it_first_together_share_one_session(server):
    together = threading.Barrier(8)

    def use():
        together.wait(PATIENCE)
        return llmws.create("Hi", model="m").text

    assert in_threads(*[use] * 8) == ["Hi"] * 8
    assert server.ledger.connections == 1
    assert default._default.session.stats.turns == 8


def test_a_model_is_needed_until_one_is_configured(server):
    with pytest.raises(ConfigurationError, match=r"No model: .* configure"):
        llmws.create("Hi")
    llmws.configure(model="m", instructions="Be brief.")
    assert llmws.create("Hi").text == "Hi"
    assert server.ledger.creates[0]["instructions"] == "Be brief."


def test_configure_dials_nothing():
    with mute_server() as (listener, base_url):
        llmws.configure(model="m", base_url=base_url)
        with pytest.raises(BlockingIOError):
            listener.accept()


def test_configure_replaces_the_session_and_closes_the_one_before(server):
    llmws.configure(model="first")
    llmws.create("Hi")
    before = default._default.session
    llmws.configure(model="second")
    llmws.create("Hi")
    assert [body["model"] for body in server.ledger.creates] == ["first", "second"]
    with pytest.raises(SessionClosedError):
        before.create("Hi")
    assert before._core.connection.join(PATIENCE)


def test_configure_cancels_what_ran_on_the_session_before():
    rule = Steps()
    with Server(rule=rule) as server:
        llmws.configure(model="m", base_url=server.base_url)
        stream = llmws.stream("Hi")
        llmws.configure(model="m", base_url=server.base_url)
        with pytest.raises(StreamCancelledError, match="session was closed"):
            stream.response()
        rule.let_all()


@pytest.mark.parametrize("arguments", [{"timeouts": 5}, {"stream": True}, {"api_key": 5}])
def test_a_configuration_that_is_refused_leaves_the_session_in_use(server, arguments):
    llmws.configure(model="m")
    before = default._default.session
    with pytest.raises(ConfigurationError):
        llmws.configure(**arguments)
    assert default._default.session is before
    assert llmws.create("Hi").text == "Hi"


@pytest.mark.parametrize("call", [llmws.stream, llmws.create])
@pytest.mark.parametrize(
    "name", ["stream", "background", "type", "generate", "api_key", "base_url"]
)
def test_what_is_no_field_is_refused_before_there_is_a_session(call, name):
    with pytest.raises(ConfigurationError, match=f"{call.__name__}\\(\\) cannot take '{name}'"):
        call("Hi", model="m", **{name: "x"})
    assert default._default.session is None


@pytest.mark.parametrize(
    "arguments",
    [
        {"api_key": f"{KEY}\n"},
        {"api_key": KEY, "callback_threads": 0},
        {"api_key": KEY, "type": "x"},
    ],
)
def test_a_refused_configuration_shows_no_key(arguments):
    caught = None
    try:
        llmws.configure(**arguments)
    except ConfigurationError as exc:
        caught = traceback.TracebackException.from_exception(exc, capture_locals=True)
    ours = [str(frame.locals) for frame in caught.stack if frame.filename.startswith(PACKAGE)]
    assert len(ours) >= 2
    assert "canary" not in "".join(ours)


def test_timeouts_go_with_the_call(server):
    with pytest.raises(ConfigurationError, match=r"Timeouts.idle is -1"):
        llmws.create("Hi", model="m", timeouts={"idle": -1})
    assert llmws.create("Hi", model="m", timeouts={"idle": 5}).ok
