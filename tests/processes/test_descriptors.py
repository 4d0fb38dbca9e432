"""Descriptors beyond 1024, where ``select`` ends and a selector does not."""

from __future__ import annotations

import pytest

from tests.processes.programs import WORDS, serving, watched


resource = pytest.importorskip("resource")

# Before llmws is imported: nothing of it can have had a low number.
MANY = """
import os, resource
_, most = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (min(4096, most), most))
held = [os.open(os.devnull, os.O_RDONLY) for _ in range(1200)]
"""
TURNS = """
def sockets():
    found = []
    for name in os.listdir("/proc/self/fd" if os.path.isdir("/proc/self/fd") else "/dev/fd"):
        try:
            if os.readlink(f"/proc/self/fd/{name}").startswith(("socket:", "anon_inode:")):
                found.append(int(name))
        except OSError:
            pass  # The listing's own, or a system without links.
    return found

assert not sockets()
told = []
for url in [sys.argv[1], os.environ["LLMWS_TEST_URL"]]:
    with llmws.Session("m", base_url=url, api_key="none") as session:
        texts = [session.create("Hi").text, session.create("Hi").text]
        opened = sockets()
        session.stream("Hi").on("text", texts.append).wait(10)
    told.append({"texts": texts, "lowest": min(opened), "dials": session.stats.dials, "left": sockets()})
tell(told=told)
"""


@pytest.mark.skipif(
    0 <= resource.getrlimit(resource.RLIMIT_NOFILE)[1] < 2000,
    reason="this system grants fewer than 2,000 descriptors",
)
def test_sessions_work_with_descriptors_beyond_1024(monkeypatch):
    with serving() as plain, serving(secure=True) as secure:
        monkeypatch.setenv("LLMWS_TEST_URL", secure.base_url)
        with watched(TURNS, plain.base_url, first=MANY) as program:
            told = program.facts()["told"]
            assert program.end() == (0, "")
    assert len(told) == 2
    for facts in told:
        assert facts["texts"] == [WORDS, WORDS, "one", " two", " three"]
        assert facts["dials"] == 1
        assert facts["lowest"] > 1024
        assert facts["left"] == []
