"""Views as Django calls them: streamed answers, answers that callbacks write, and browsers that go away."""

from __future__ import annotations

import importlib
import json
import os
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.processes.programs import LongTalk, serving
from tests.responses.acting import PATIENCE, until
from tests.test_readme import PYTHON


pytest.importorskip("django", reason="Django is not installed", exc_type=ImportError)


@pytest.fixture(scope="module")
def talk():
    return LongTalk()


@pytest.fixture(scope="module")
def site(talk):
    """Import the site once, as a server does."""
    with serving(talk) as server, pytest.MonkeyPatch.context() as patch:
        patch.setenv("LLMWS_TEST_URL", server.base_url)
        site = importlib.import_module("tests.processes.site_django")
        with site.session:
            yield site
            talk.enough.set()
        assert site.session.stats.dials == 1


@pytest.fixture
def browser(site, talk):
    from django.test import Client

    talk.enough.clear()
    yield Client()
    talk.enough.set()


def test_a_view_answers_with_a_turn(browser):
    assert browser.get("/turn", {"question": "How are you?"}).json()["text"] == "How are you?"


def test_a_view_streams_an_answer_piece_by_piece(browser):
    reply = browser.get("/streamed", {"question": "one two three"})
    assert list(reply.streaming_content) == [b"one", b" two", b" three"]


@pytest.mark.parametrize("read", [0, 3])
def test_a_browser_that_goes_away_ends_its_turn(browser, site, talk, read):
    before = site.session.stats
    reply = browser.get("/streamed", {"question": "long"})
    pieces = reply.streaming_content
    assert [next(pieces) for _ in range(read)] == [b"word", b" word", b" word"][:read]
    assert len(site.streams) == 1
    reply.close()
    del reply, pieces
    until(lambda: not site.streams)
    # Whatever the server still says is dropped, and the next turn is served on the same connection.
    talk.enough.set()
    assert browser.get("/turn", {"question": "Next, please."}).json()["text"] == "Next, please."
    if read:  # Else it may not even have been sent.
        assert site.session.stats.dropped_events > before.dropped_events
    assert site.session.stats.lost == 0


def test_the_views_of_the_readme_take_djangos_requests_and_fill_its_responses(site, monkeypatch):
    from django.http import JsonResponse, StreamingHttpResponse
    from django.test import RequestFactory

    monkeypatch.setenv("OPENAI_BASE_URL", os.environ["LLMWS_TEST_URL"])
    (block,) = [block for block in PYTHON if "def ask_and_stream(request)" in block.text]
    names = {}
    exec(block.text, names)
    with names["session"]:  # Waits for its callbacks.
        request = RequestFactory().post("/", {"question": "one two three"})
        reply = JsonResponse({"number": names["ask"](request)}, status=202)
        assert json.loads(reply.content) == {"number": 0}
        streamed = StreamingHttpResponse(names["ask_and_stream"](request))
        assert list(streamed) == [b"one", b" two", b" three"]
    assert names["answers"] == {0: "one two three"}


def test_a_streamed_answer_may_be_read_and_closed_on_other_threads(browser, site, talk):
    # As a server does that has a sync iterator consumed by a pool of threads.
    with ThreadPoolExecutor(1) as one, ThreadPoolExecutor(1) as other:
        reply = one.submit(browser.get, "/streamed", {"question": "long"}).result(PATIENCE)
        pieces = reply.streaming_content
        assert one.submit(next, pieces).result(PATIENCE) == b"word"
        assert other.submit(next, pieces).result(PATIENCE) == b" word"
        waiting = one.submit(list, pieces)
        other.submit(reply.close).result(PATIENCE)
        waiting.result(PATIENCE)  # It ends with the piece that it waits for.
        del reply, pieces, waiting
    until(lambda: not site.streams)
    talk.enough.set()
    assert browser.get("/turn", {"question": "Next, please."}).json()["text"] == "Next, please."


def test_callbacks_write_an_answer_while_the_view_has_long_returned(browser, site):
    begun = time.monotonic()
    reply = browser.get("/asked", {"question": "one two three"})
    assert reply.status_code == 202
    assert time.monotonic() - begun < PATIENCE
    until(lambda: site.answers.get("done") == "yes")
    assert browser.get("/state").json()["answers"]["one two three"] == "one two three"
