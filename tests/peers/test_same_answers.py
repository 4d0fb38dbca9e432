"""Two clients, one server: openai-python and llmws give the same text and usage for each recording."""

import ssl
import traceback

import httpx2
import openai
import pytest
from openai.lib.responses_websocket import (
    ResponsesWebSocketError,
    ResponsesWebSocketLimits,
    ResponsesWebSocketSession,
)

import llmws
from llmws.testing import Server
from tests.conformance.recorded import OWN, SHARED, SHARED_IS_ABSENT, read


KEY = "sk-test-0123456789"
WAIT_SECONDS = 20
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
RECORDINGS = [
    *sorted(SHARED.glob("*.jsonl")),
    # 5,000 deltas are for llmws to read; the SDK takes seconds for them, and shows nothing new.
    *sorted(path for path in OWN.glob("*.jsonl") if path.stem != "deltas-5000"),
]


@pytest.fixture(params=RECORDINGS, ids=lambda path: path.stem)
def parts(request):
    return read(request.param)


@pytest.fixture
def server(request, parts):
    with Server(request.node.callspec.params["parts"]) as server:
        yield server


@pytest.fixture
def client(server):
    with openai.OpenAI(
        api_key=KEY,
        base_url=server.base_url,
        max_retries=0,
        timeout=WAIT_SECONDS,
        http_client=httpx2.Client(trust_env=False, verify=NO_TLS),
    ) as client:
        yield client


def test_there_are_real_recordings():
    if not SHARED.is_dir():
        pytest.skip(SHARED_IS_ABSENT)
    assert {path.parent for path in RECORDINGS} == {SHARED, OWN}


def connected(client):
    return client.responses.connect(websocket_connection_options={"proxy": None})


def creates(parts):
    return [{"type": "response.create", **part.request} for part in parts]


def answers_of_llmws(server, parts):
    """What llmws makes of each part: text and usage, or the code of the error."""
    with llmws.Session(api_key=KEY, base_url=server.base_url, lanes=False) as session:
        for part in parts:
            fields = dict(part.request)
            ask = session.create if fields.pop("generate", True) else session.warm_up
            try:
                yield answer(ask(**fields).raise_for_status())
            except llmws.APIError as error:
                yield error.code


def answer(response):
    """Text and usage; both libraries name them alike, but for the text."""
    text = response.text if isinstance(response, llmws.Response) else response.output_text
    usage = response.usage
    if usage is None:
        return text, None
    if isinstance(response, llmws.Response):
        cached, reasoning = usage.cached_tokens, usage.reasoning_tokens
    else:
        cached = usage.input_tokens_details.cached_tokens
        reasoning = usage.output_tokens_details.reasoning_tokens
    counts = (usage.input_tokens, usage.output_tokens, usage.total_tokens)
    return text, (*counts, cached, reasoning)


def test_the_sdks_connection_gives_what_llmws_gives(server, client, parts):
    theirs = []
    with connected(client) as connection:
        for create, part in zip(creates(parts), parts, strict=True):
            connection.send(create)
            *_, last = [connection.recv() for _ in part.events]
            if last.type == "error":
                theirs.append(last.error.code)
            elif last.response.error is not None:
                theirs.append(last.response.error.code)
            else:
                theirs.append(answer(last.response))
    assert theirs == list(answers_of_llmws(server, parts))
    server.check()


def test_the_sdks_websocket_session_gives_what_llmws_gives(server, client, parts):
    theirs = []
    with connected(client) as connection, ResponsesWebSocketSession(connection, limits=LIMITS) as s:
        for create in creates(parts):
            s.default.send(create)
            try:
                theirs.append(answer(s.default.get_final_response(timeout=WAIT_SECONDS)))
            except ResponsesWebSocketError as error:
                theirs.append(code_of(error))
    assert theirs == list(answers_of_llmws(server, parts))
    server.check()


def code_of(error):
    return error.event.error.code


def raised_by_the_fold(error):
    """Tell the SDK's own accumulator from what a server may have done wrong to HTTP, SSE or JSON."""
    last = traceback.extract_tb(error.__traceback__)[-1]
    return "/openai/lib/streaming/" in last.filename.replace("\\", "/")


def test_the_sdks_sse_stream_gives_what_llmws_gives(server, client, parts):
    if len(parts) > 1:
        pytest.skip("the recording chains turns on one connection, which SSE has not")
    [part] = parts
    theirs = None
    try:
        with client.responses.stream(**part.request) as stream:
            deltas = [event.delta for event in stream if event.type == "response.output_text.delta"]
            theirs = answer(stream.get_final_response())
    except openai.APIError as error:
        theirs = error.code
    except Exception as error:
        if not raised_by_the_fold(error):
            raise
        pytest.skip(f"the SDK cannot fold this recording: {error!r}")
    assert [theirs] == list(answers_of_llmws(server, parts))
    if not isinstance(theirs, str):
        with llmws.Session(api_key=KEY, base_url=server.base_url, lanes=False) as session:
            assert list(session.stream(**part.request).texts()) == deltas
