"""
Fresh TLS 1.3 connections with session tickets, certificates verified, a turn on each.

A client that reads and writes one TLS object from two threads loses some of these: the tickets come behind the
handshake, at a moment when the one thread writes and the other reads. openai-python's is counted beside ours.
"""

from __future__ import annotations

import ssl
import sys
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import llmws
from tests.life.server import ServerProcess
from tests.life.speech import said
from tests.life.tally import Tally


__all__ = ["openai_python", "ours"]

_SIDE_BY_SIDE = 4
_PATIENCE = 20.0
_PROGRESS_EVERY = 1000


def ours(tally: Tally, count: int) -> None:
    """Open ``count`` connections, each of a session of its own; every one must serve its turn."""
    with ServerProcess(secure=True) as server, ThreadPoolExecutor(_SIDE_BY_SIDE) as pool:
        arguments = server.arguments()

        def attempt(number: int) -> None:
            with tally.trying("a fresh connection"):
                question = f"fresh {number}"
                begun = time.monotonic()
                with llmws.Session(**arguments) as session:
                    assert session.create(question).text == said(question)
                    stats = session.stats
                assert (stats.dials, stats.failed_dials, stats.lost, stats.retries) == (1, 0, 0, 0)
                tally.took("dial, turn and close", time.monotonic() - begun)

        for start in tally.rounds(-(-count // _SIDE_BY_SIDE)):
            numbers = range(start * _SIDE_BY_SIDE, min(count, (start + 1) * _SIDE_BY_SIDE))
            list(pool.map(attempt, numbers))
            _tell_progress(numbers[-1])
        with tally.trying("the ledger"):
            asked = Counter(server.ledger())
            assert len(asked) == count
            assert {(ended, times) for (_, ended), times in asked.items()} == {("completed", 1)}
        seconds = time.monotonic() - tally.begun
        tally.note(f"{count:,} connections, {count / seconds:.0f} a second; {ssl.OPENSSL_VERSION}")


def openai_python(tally: Tally, count: int) -> None:
    """Do the same ``count`` times with ``client.responses.connect()``; failures are counted by kind."""
    import httpx2
    import openai

    with ServerProcess(secure=True) as server:
        context = server.arguments()["ssl_context"]
        http_client = httpx2.Client(verify=context, trust_env=False)
        client = openai.OpenAI(
            api_key="none", base_url=server.base_url, max_retries=0, http_client=http_client
        )
        options: Any = {"proxy": None, "ssl": context}
        tally.tries += count
        for start in tally.rounds(-(-count // _SIDE_BY_SIDE)):
            numbers = range(start * _SIDE_BY_SIDE, min(count, (start + 1) * _SIDE_BY_SIDE))
            for kind in _each_in_a_thread(client, options, numbers):
                tally.comparing(f"openai {openai.__version__}", kind)
            _tell_progress(numbers[-1])
        client.close()


def _each_in_a_thread(client: Any, options: Any, numbers: range) -> list[str]:
    """Ask on threads that can be left behind: who loses TLS records may wait for ever."""
    kinds = dict.fromkeys(numbers, "hung")

    def attempt(number: int) -> None:
        kinds[number] = _ask(client, options, f"fresh {number}")

    threads = [threading.Thread(target=attempt, args=(n,), daemon=True) for n in numbers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(_PATIENCE)
    return list(kinds.values())


def _ask(client: Any, options: Any, question: str) -> str:
    """Take a turn on a connection of its own; return ``ok``, or the kind of the failure."""
    try:
        with client.responses.connect(websocket_connection_options=options) as connection:
            connection.send({"type": "response.create", "model": "m", "input": question})
            while (event := connection.recv()).type != "response.completed":
                pass
    except Exception as exc:  # noqa: BLE001  Its kind is what is counted.
        return f"{type(exc).__name__} ({str(exc)[:60]})"
    return "ok" if event.response.output_text == said(question) else "wrong text"


def _tell_progress(number: int) -> None:
    if number % _PROGRESS_EVERY == _PROGRESS_EVERY - 1:
        sys.stderr.write(f"  {number + 1:,} connections\n")
