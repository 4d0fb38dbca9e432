"""gunicorn with its workers, in front of a site whose session was used before they were forked."""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
import subprocess
import sys
import tempfile
import time
import urllib.parse
from collections.abc import Iterator
from typing import Any

from tests.processes.programs import PATIENCE, ROOT, LongTalk, environment, serving


__all__ = ["Site", "gunicorn", "serve_turns"]


_WATCHED = """
import tests.owner
from gunicorn.app.wsgiapp import run
tests.owner.watch_program()
run()
"""


class Site:
    """
    A running gunicorn, as its clients see it.

    Attributes:
        said: What it has written in all; known after its end.
    """

    def __init__(self, port: int) -> None:
        self._port = port
        self.said = ""

    def get(self, path: str, question: str = "") -> dict[str, Any]:
        """Return the JSON of an answer."""
        with self.opened(path, question) as reply:
            assert reply.status in (200, 202), reply.read()
            told: dict[str, Any] = json.loads(reply.read())
            return told

    @contextlib.contextmanager
    def opened(self, path: str, question: str = "") -> Iterator[http.client.HTTPResponse]:
        """Give an answer that is still to be read; to leave is to go away, in the middle of it or not."""
        query = "?" + urllib.parse.urlencode({"question": question}) if question else ""
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=PATIENCE)
        with contextlib.closing(connection):
            connection.request("GET", f"{path}{query}")
            reply = connection.getresponse()
            with reply:
                yield reply


@contextlib.contextmanager
def gunicorn(
    site: str, base_url: str, *, worker: str = "sync", workers: int = 2, threads: int = 1
) -> Iterator[Site]:
    """
    Run gunicorn with ``--preload``; at the end it is asked to stop, and does.

    Args:
        site: The module of the site.
        base_url: Where the site's session leads.
        worker: What kind of worker.
        workers: How many.
        threads: How many threads each has (``gthread``).
    """
    with socket.create_server(("127.0.0.1", 0)) as listener, tempfile.TemporaryFile() as output:
        command = [sys.executable, "-c", _WATCHED, f"tests.processes.{site}:application"]
        options = ["--preload", "-k", worker, "-w", str(workers), "--threads", str(threads)]
        options += ["--bind", f"fd://{listener.fileno()}", "--log-level", "warning"]
        options += ["--worker-tmp-dir", tempfile.gettempdir(), "--no-control-socket"]
        process = subprocess.Popen(
            [*command, *options],
            cwd=ROOT,
            env=environment(LLMWS_TEST_URL=base_url, PYTHONWARNINGS="ignore"),
            pass_fds=[listener.fileno()],
            stdout=output,
            stderr=output,
        )
        running = Site(listener.getsockname()[1])
        try:
            yield running
            process.terminate()
            assert process.wait(PATIENCE) == 0
        finally:
            process.kill()
            process.wait()
            output.seek(0)
            running.said = output.read().decode()


def serve_turns(site: str, *, secure: bool = False, **options: Any) -> dict[str, Any]:
    """
    Have every worker serve turns, and lose a client in the middle of one.

    Returns:
        The workers' processes, how often each dialled, wrong answers, whether the lost client's turn was given up and
        its worker lived on, the connections that the server saw, and what gunicorn wrote.
    """
    rule = LongTalk()
    workers = options.get("workers", 2)
    with (
        serving(rule, secure=secure) as server,
        gunicorn(site, server.base_url, **options) as running,
    ):
        seen: dict[int, int] = {}
        wrong = []
        deadline = time.monotonic() + PATIENCE
        asked = 0
        while (len(seen) < workers or asked < 20) and time.monotonic() < deadline:
            asked += 1
            facts = running.get("/turn", f"question {asked}")
            seen[facts["process"]] = facts["dials"]
            if facts["text"] != f"question {asked}":
                wrong.append(facts["text"])
        given_up, lives = _lose_a_client(running, rule, deadline)
        told = {
            "asked": asked,
            "dials": sorted(seen.values()),
            "wrong": wrong,
            "given_up": given_up,
            "lives": lives,
            "connections": server.ledger.connections,
        }
    return {**told, "said": running.said}


def _lose_a_client(running: Site, rule: LongTalk, deadline: float) -> tuple[bool, bool]:
    """Go away in the middle of an answer; return whether its turn was given up, and whether its worker serves on."""
    with running.opened("/streamed", "long") as reply:
        process = int(reply.headers["X-Process"])
        assert reply.read(5)
    given_up = lives = False
    while not given_up and time.monotonic() < deadline:
        facts = running.get("/state")
        given_up = facts["process"] == process and facts["streams"] == 0 and facts["dropped"] > 0
    rule.enough.set()
    while not lives and time.monotonic() < deadline:
        facts = running.get("/turn", "still there?")
        lives = facts["process"] == process and facts["text"] == "still there?"
    return given_up, lives
