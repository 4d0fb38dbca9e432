"""Forks at the worst of moments, and what children of every kind find."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor

import pytest

from llmws.testing import rules
from tests.processes.campaign import forks, pools
from tests.processes.forker import SITUATIONS
from tests.processes.programs import WORDS, serving, watched


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


_HELD = """
import signal
chat = session.conversation(tools=[llmws.Tool("f", {"type": "object", "properties": {}}, lambda: "found")])
chat.run("x", max_turns=1).result()
course, held, go_on = chat._course, threading.Event(), threading.Event()

def hold():
    with LOCK:
        held.set()
        go_on.wait()

threading.Thread(target=hold, daemon=True).start()
held.wait()
pid = os.fork()
if not pid:
    signal.alarm(10)
    items = len(chat.to_dict()["items"])
    text = chat.run().result().text
    os._exit(0 if (items, text) == (2, "one two three") else 1)
code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
go_on.set()
tell(code=code, text=chat.run().result().text)
session.close()
"""


@pytest.mark.parametrize("lock", ["course._monitor.lock", "course.begun_calls().monitor.lock"])
def test_a_conversation_goes_on_in_a_child_whatever_of_it_was_held_when_it_forked(lock):
    def rule(request):
        answered = str(request.body["input"][-1].get("type")).endswith("_output")
        calls = rules.tool_calls([{"name": "f", "arguments": {}}])
        return (rules.text(WORDS) if answered else calls)(request)

    with (
        serving(rule) as server,
        watched(_HELD.replace("LOCK", lock), server.base_url) as program,
    ):
        assert program.facts() == {"code": 0, "text": WORDS}
        assert program.end() == (0, "")


@pytest.mark.parametrize(
    ("method", "kind"),
    [("fork", "Pool"), ("spawn", "ProcessPoolExecutor")],
)
def test_worker_processes_serve_turns_over_connections_of_their_own(method, kind):
    told = pools(secure=False, workers=2, method=method, kind=kind)
    assert told == {"texts": ["one two three"] * 4, "dials": [1, 1]}
