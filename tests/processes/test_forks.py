"""Forks at the worst of moments, and what children of every kind find."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.processes.campaign import forks, pools
from tests.processes.forker import SITUATIONS


pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")


def test_a_child_works_and_its_parent_does_not_notice():
    with ThreadPoolExecutor() as threads:
        plain = threads.submit(forks, secure=False, count=1, seed=1)
        with_tls = forks(secure=True, count=1, seed=1)
    for told in (plain.result(), with_tls):
        assert told.pop("dials") == 1
        assert {name: facts["found"] for name, facts in told.items()} == {
            name: {} for name in SITUATIONS
        }
        assert all(facts["forks"] >= 1 for facts in told.values())


@pytest.mark.parametrize(
    ("method", "kind"),
    [("fork", "Pool"), ("spawn", "ProcessPoolExecutor")],
)
def test_worker_processes_serve_turns_over_connections_of_their_own(method, kind):
    told = pools(secure=False, workers=2, method=method, kind=kind)
    assert told == {"texts": ["one two three"] * 4, "dials": [1, 1]}
