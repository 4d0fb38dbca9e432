"""gevent in programs of its own: what works, in which order of imports, patches and turns, and what is said."""

from __future__ import annotations

import json

import pytest

from tests.processes.programs import PATIENCE, WORDS, environment, serving, start


pytest.importorskip("gevent")

BEGIN = f"import signal\nsignal.alarm({int(PATIENCE)})"
BEGIN += """
import json, os, sys, warnings
# gevent warns of libraries that were imported before it patched ssl; these programs are about one of them.
warnings.simplefilter("ignore")

def patch(**modules):
    from gevent import monkey
    monkey.patch_all(**modules)

def sessions():
    import llmws
    import tests.owner
    tests.owner.watch_program()
    return [llmws.Session("m", base_url=url, api_key="none") for url in os.environ["LLMWS_TEST_URLS"].split()]"""
ORDERS = {
    "patched first": "patch(); opened = sessions()",
    # Both those that were opened before, and those that came after others had been used and closed.
    "opened, then patched": """
import llmws.testing, llmws.wire.dial
opened = sessions()
used = sessions()
for session in used:
    session.create("Hi")
    session.close()
patch()
opened += sessions()
# The embedded server too, of which everything was imported before.
server = llmws.testing.Server(rule=llmws.testing.rules.text("one two three"), delay=0.01)
opened.append(llmws.Session("m", base_url=server.base_url))
""",
    "used, then patched": """
opened = sessions()
for session in opened:
    session.create("Hi")
patch()
""",
    "patched in part": "patch(thread=False); opened = sessions()",
}
LATE = "after the session's first turn"
SAID = {
    "used, then patched": LATE,
    "patched in part": "but not threading,",
}
USE = """
import gevent, time

ticks = []

def tick():
    while True:
        gevent.sleep(0.005)
        ticks.append(time.monotonic())

facts = []
for session in opened:
    told, ticks[:] = [], []
    try:
        ticking = gevent.spawn(tick)
        text = session.create("Hi").text
        while_waiting = len(ticks)
        side_by_side = [gevent.spawn(lambda: session.create("Hi").text) for _ in range(2)]
        gevent.joinall(side_by_side, timeout=20)
        session.stream("Hi").on("text", told.append).wait(20)
        ticking.kill()
        begun = time.monotonic()
        session.close()
        facts.append({
            "texts": [text, *(greenlet.value for greenlet in side_by_side), "".join(told)],
            "ticks": while_waiting,
            "closing": time.monotonic() - begun,
            "dials": session.stats.dials,
        })
    except Exception as exc:
        facts.append({"error": type(exc).__name__, "says": str(exc)})
sys.stdout.write(json.dumps(facts))
"""


@pytest.fixture(scope="module")
def outcomes():
    """Run a program for each order, all at once."""
    with (
        serving(delay=0.01) as plain,
        serving(delay=0.01, secure=True) as secure,
    ):
        urls = f"{plain.base_url} {secure.base_url}"
        programs = {
            order: start(
                "-c", "\n".join((BEGIN, source, USE)), env=environment(LLMWS_TEST_URLS=urls)
            )
            for order, source in ORDERS.items()
        }
        # Whatever hangs is ended by its alarm.
        yield {
            order: (*program.communicate(), program.returncode)
            for order, program in programs.items()
        }


def facts_of(outcomes, order):
    output, errors, code = outcomes[order]
    assert code == 0, errors
    facts = json.loads(output)
    assert len(facts) >= 2  # Plain and TLS.
    return facts, errors


@pytest.mark.parametrize("order", [order for order in ORDERS if order not in SAID])
def test_turns_and_callbacks_work(outcomes, order):
    facts, errors = facts_of(outcomes, order)
    for fact in facts:
        assert fact.get("says") is None
        assert fact["texts"] == [WORDS] * 4
        assert fact["dials"] == 1
        assert fact["closing"] < 2.0
    assert errors == ""


@pytest.mark.parametrize("order", [order for order in ORDERS if order not in SAID])
def test_other_greenlets_run_while_one_waits_for_an_answer(outcomes, order):
    # A turn takes 0.1 s, and another greenlet wakes every 5 ms.
    facts, _ = facts_of(outcomes, order)
    assert all(fact["ticks"] >= 5 for fact in facts)


@pytest.mark.parametrize("order", SAID)
def test_an_order_that_cannot_work_is_said_at_the_next_turn(outcomes, order):
    facts, _ = facts_of(outcomes, order)
    for fact in facts:
        assert fact["error"] == "ConfigurationError"
        assert SAID[order] in fact["says"]
        assert "gevent.monkey.patch_all()" in fact["says"]
