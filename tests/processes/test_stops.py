"""A process that is stopped and goes on; the same rules with a clock by hand are in tests/wire/test_connection.py."""

from __future__ import annotations

import signal
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.processes.programs import WORDS
from tests.processes.stops import stop


pytestmark = pytest.mark.skipif(
    not hasattr(signal, "SIGSTOP"), reason="this system cannot stop a process"
)
# Long after a ping and its timeout, by the short numbers.
SECONDS = 1.3


def test_a_link_outlives_the_time_in_which_its_process_stood_still():
    with ThreadPoolExecutor() as threads:
        idle, busy = threads.map(
            lambda in_a_turn: stop(seconds=SECONDS, short=True, in_a_turn=in_a_turn), (False, True)
        )
    assert (idle["text"], idle["dials"], idle["lost"]) == (WORDS, 1, 0)
    assert (busy["text"], busy["again"], busy["dials"], busy["lost"]) == (WORDS, WORDS, 1, 0)
    assert idle["connections"] == busy["connections"] == 1
