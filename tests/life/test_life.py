"""A bounded part of each campaign; ``python -m tests.life`` runs them whole."""

from __future__ import annotations

import logging
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from tests.life.items import ITEMS, run
from tests.life.tally import Tally


ROOT = Path(__file__).resolve().parents[2]
SEED = 1
IN_THE_SUITE = {name: item for name, item in ITEMS.items() if item.suite}
SIGNALLED = [name for name, item in IN_THE_SUITE.items() if item.main_thread]


@pytest.mark.parametrize("name", [name for name in IN_THE_SUITE if name not in SIGNALLED])
def test_a_bounded_part_of_a_campaign_passes(name):
    tally = run(name, "suite", SEED)
    assert tally.tries
    assert not tally.failures, "\n".join(tally.report())


def test_the_campaigns_that_send_signals_pass():
    # A signal that comes late would otherwise end the whole run of tests.
    command = [sys.executable, "-W", "error", "-m", "tests.life", "--suite", "--seed", str(SEED)]
    ran = subprocess.run(
        [*command, *SIGNALLED], cwd=ROOT, capture_output=True, text=True, timeout=50
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert ran.stderr == ""
    assert ran.stdout.count("tries, 0 failures") == len(SIGNALLED)


# A count that cannot fail shows nothing.


def test_what_a_try_raises_is_counted_by_kind():
    tally = Tally(SEED, 60)
    for value in ("a", "b", 5):
        with tally.trying("a number"):
            int(value)
    assert tally.tries == 3
    assert tally.failures == {"a number: ValueError": 2}
    assert any("FAILED 2 times: a number: ValueError" in line for line in tally.report())


def test_to_be_late_or_out_of_time_is_a_failure():
    tally = Tally(SEED, 60)
    tally.took("closing", 0.5, 1.0)
    assert not tally.failures
    tally.took("closing", 1.0, 1.0)
    assert tally.failures == {"closing: too slow": 1}
    assert list(Tally(SEED, 60).rounds(3)) == [0, 1, 2]
    late = Tally(SEED, -1.0)
    assert list(late.rounds(3)) == []
    assert late.failures == {"out of time": 1}


def test_what_is_logged_or_raised_elsewhere_is_a_failure():
    tally = Tally(SEED, 60)
    with tally.listening():
        logging.getLogger("llmws.wire.connection").error("the I/O thread failed")
        logging.getLogger("llmws.wire.connection").warning("gave up")
        thread = threading.Thread(target=lambda: 1 // 0)
        thread.start()
        thread.join()
    assert tally.failures == {"logged as an error": 1, "raised unseen": 1}
