"""What these tests have in common: programs whose sockets are watched, servers that they trust, and long answers."""

from __future__ import annotations

import atexit
import contextlib
import functools
import os
import shutil
import ssl
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import trustme

from llmws.testing import Server, rules
from tests.life.children import WARNINGS, Program
from tests.responses.acting import FIRST_WORD


__all__ = [
    "PATIENCE",
    "ROOT",
    "WORDS",
    "HeldTalk",
    "LongTalk",
    "environment",
    "output_of",
    "serving",
    "start",
    "watched",
]

ROOT = Path(__file__).resolve().parents[2]
# How long anything here may take; reached by failures alone.
PATIENCE = 45.0
WORDS = "one two three"
_WATCH = "import tests.owner; tests.owner.watch_program()\n"


def watched(source: str, base_url: str, *, first: str = "", seconds: float = PATIENCE) -> Program:
    """Start a program with a ``session``: whatever of it hangs ends, and no thread touches another's socket."""
    alarm = f"import signal; signal.alarm({int(seconds)})\n"
    trust = f"os.environ['SSL_CERT_FILE'] = {_authority()[1]!r}\n"
    return Program(source, base_url, first=alarm + trust + first + _WATCH)


def start(*arguments: str, **options: Any) -> subprocess.Popen[str]:
    """Start a program of its own: ``python …`` with warnings as errors, as text, in the root of the repository."""
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    settings = {"cwd": ROOT, "env": environment(), **pipes, **options}
    return subprocess.Popen([sys.executable, *WARNINGS, *arguments], **settings)


_making = threading.Lock()


def _authority() -> tuple[trustme.CA, str]:
    """Return the authority that programs trust, and where they find its certificate."""
    with _making:
        return _make_authority()


def output_of(program: subprocess.Popen[str]) -> str:
    """Wait for the end of a program that is to end well, without a word on stderr; return what it wrote."""
    try:
        output, errors = program.communicate(timeout=PATIENCE)
    except subprocess.TimeoutExpired:
        program.kill()
        output, errors = program.communicate()
        raise AssertionError(f"a program did not end: {output!r}, {errors!r}") from None
    assert (program.returncode, errors) == (0, "")
    return output


@functools.cache
def _make_authority() -> tuple[trustme.CA, str]:
    authority = trustme.CA()
    folder = tempfile.mkdtemp()
    atexit.register(shutil.rmtree, folder)
    path = os.path.join(folder, "authority.pem")
    authority.cert_pem.write_to_path(path)
    return authority, path


def environment(**more: str) -> dict[str, str]:
    """Return the environment of a program that imports this tree, and trusts the servers of these tests."""
    return {**os.environ, "PYTHONPATH": str(ROOT), "SSL_CERT_FILE": _authority()[1], **more}


@contextlib.contextmanager
def serving(rule: Any = None, *, secure: bool = False, delay: float = 0.0) -> Iterator[Server]:
    """
    Serve in this process.

    Args:
        rule: What answers; None says three words.
        secure: Whether over TLS.
        delay: Seconds between two events.
    """
    context = None
    if secure:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        _authority()[0].issue_cert("127.0.0.1").configure_cert(context)
    with Server(rule=rule or rules.text(WORDS), delay=delay, ssl_context=context) as server:
        yield server


class LongTalk:
    """
    A rule: it echoes, but talks on and on when it is asked for ``long``, until it has talked ``enough``.

    Attributes:
        enough: Once set, the long answer goes on without a pause, and so comes to its end.
    """

    def __init__(self, words: int = 1000) -> None:
        self.enough = threading.Event()
        self._talk = rules.text("word " * words)
        self._echo = rules.echo()

    def __call__(self, request: Any) -> Any:
        if request.input_text != "long":
            yield from self._echo(request)
            return
        for event in self._talk(request):
            self.enough.wait(0.02)
            yield event


class HeldTalk:
    """
    A rule of three words: asked to ``hold x`` it stops after the first one, until it is asked to ``release x``.

    So a client has a turn in its middle for as long as it likes; it releases it over another connection.
    """

    def __init__(self) -> None:
        self._gates: dict[str, threading.Event] = {}
        self._talk = rules.text(WORDS)

    def __call__(self, request: Any) -> Any:
        order, _, name = request.input_text.partition(" ")
        gate = self._gates.setdefault(name, threading.Event())
        if order == "release":
            gate.set()
        for index, event in enumerate(self._talk(request)):
            if order == "hold" and index == FIRST_WORD:
                gate.wait(PATIENCE)
            yield event
