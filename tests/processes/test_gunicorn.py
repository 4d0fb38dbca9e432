"""gunicorn with --preload: a session that was used before the workers were forked serves turns in each of them."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor

import pytest


pytest.importorskip("gunicorn", reason="gunicorn is not installed", exc_type=ImportError)
pytest.importorskip("django", reason="Django is not installed", exc_type=ImportError)

from tests.processes.served import serve_turns


pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")

SITES = {
    "sync workers with Django": {"site": "site_django", "worker": "sync", "secure": True},
    "threaded workers with plain WSGI": {"site": "site_plain", "worker": "gthread", "threads": 3},
}


@pytest.fixture(scope="module")
def sites():
    with ThreadPoolExecutor() as threads:
        return {name: threads.submit(serve_turns, **options) for name, options in SITES.items()}


@pytest.mark.parametrize("name", SITES)
def test_every_worker_serves_turns_over_a_connection_of_its_own(sites, name):
    told = sites[name].result()
    assert told["wrong"] == []
    assert told["dials"] == [1, 1]
    assert told["connections"] == 1 + 2
    assert told["said"] == ""


@pytest.mark.parametrize("name", SITES)
def test_a_client_that_goes_away_ends_its_turn_and_not_its_worker(sites, name):
    told = sites[name].result()
    assert told["given_up"]
    assert told["lives"]
