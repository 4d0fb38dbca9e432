"""
What worker processes import: a module with a session in it, as an application has one.

``main`` runs in the parent: it has used the session by then, so workers that are forked inherit a live one, and workers
that are spawned make their own.
"""

from __future__ import annotations

import multiprocessing
import os
from concurrent.futures import ProcessPoolExecutor
from typing import Any

import llmws
from tests.owner import watch_program


__all__ = ["answer", "main"]

watch_program()
session = llmws.Session("m", base_url=os.environ["LLMWS_TEST_URL"], api_key="none")
# Workers meet here, so that one alone cannot take all of the work.
_meeting: Any = None


def join_in(meeting: Any) -> None:
    """Prepare a worker."""
    global _meeting
    _meeting = meeting


def answer(question: str) -> tuple[int, str, int]:
    """Run a turn in a worker; return its process, the text, and how often it has dialled."""
    _meeting.wait(40)
    return os.getpid(), session.create(question).text, session.stats.dials


def main(workers: int, method: str, kind: str) -> dict[str, Any]:
    """Have the workers of a pool, started by a method, serve two turns each."""
    session.create("first")
    context = multiprocessing.get_context(method)
    prepare = {"initializer": join_in, "initargs": (context.Barrier(workers),)}
    questions = ["Hi"] * 2 * workers
    if kind == "Pool":
        with context.Pool(workers, **prepare) as pool:
            answers = pool.map(answer, questions, chunksize=1)
            pool.close()
            pool.join()
    else:
        with ProcessPoolExecutor(workers, context, **prepare) as executor:
            answers = list(executor.map(answer, questions))
    # The parent has not noticed.
    assert session.create("last").text == "one two three"
    assert session.stats.dials == 1
    session.close()
    dials = {pid: number for pid, _, number in answers}
    return {"texts": [text for _, text, _ in answers], "dials": sorted(dials.values())}
