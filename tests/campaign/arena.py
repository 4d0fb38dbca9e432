"""Where a block is played: two servers, one with TLS, their script, an ear for logs; and the threads that play."""

from __future__ import annotations

import contextlib
import logging
import random
import ssl
import sys
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from typing import Any

import attrs
import trustme

import llmws
from llmws.testing import FaultProxy, Server
from tests.campaign.book import Book
from tests.campaign.oracle import CANARY
from tests.campaign.script import Script
from tests.life.census import descriptors, threads


__all__ = ["SCHEMES", "Arena", "Trial", "arena", "spread", "tls"]

SCHEMES = ("ws", "wss")
# A trial that takes longer hangs: what it is made of has limits of a few seconds.
_STUCK = 60.0
_PATIENCE = 8.0
_NOT_FOUND = "previous_response_not_found"


@attrs.frozen
class Trial:
    """
    One thing to try.

    Attributes:
        id: What it is; with the seed, what replays it.
        seed: The campaign's.
        about: What the block needs to know beside it.
    """

    id: str
    seed: int
    about: Any = attrs.field(default=None, repr=False)

    @property
    def rng(self) -> random.Random:
        """Random numbers that are this trial's own, from the first one on."""
        return random.Random(f"{self.seed} {self.id}")

    def nonce(self, name: object = "") -> str:
        """Return a nonce of this trial."""
        plain = "".join(c if c.isalnum() else "-" for c in self.id)
        return f"{plain}_{name}".replace(" ", "-")


@cache
def tls() -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """Return the contexts of the server and of its clients, made once a process."""
    authority = trustme.CA()
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    server.num_tickets = (
        0  # So that openai-python's client, which two threads share, is not hurt by those.
    )
    authority.issue_cert("127.0.0.1", "*.campaign.test").configure_cert(server)
    client = ssl.create_default_context()
    authority.configure_trust(client)
    return server, client


class _Ear(logging.Handler):
    """Looks for the canary in everything that is logged, at every level."""

    def __init__(self, book: Book) -> None:
        super().__init__(logging.DEBUG)
        self._book = book

    def emit(self, record: logging.LogRecord) -> None:
        if CANARY in self.format(record):
            self._book.breach("keys", "a log line", record.name)


class Arena:
    """
    Two servers of one script.

    Args:
        book: What is found.

    Attributes:
        servers: By scheme.
        script: What they say.
        excused: Nonces of turns that were refused in words of which the ledger could not hear whose they are.
        without_parent: Nonces of turns whose parent the server is to deny.
    """

    def __init__(self, book: Book, **options: Any) -> None:
        self.book = book
        self.script = Script()
        self.excused: set[str] = set()
        self.without_parent: set[str] = set()
        self.servers = {
            "ws": Server(rule=self.script, **options),
            "wss": Server(rule=self.script, ssl_context=tls()[0], **options),
        }

    def proxy(self, scheme: str) -> FaultProxy:
        """Return a new proxy in front of a server."""
        return FaultProxy.before(self.servers[scheme].base_url)

    def session(
        self, scheme: str, proxy: FaultProxy | None = None, host: str | None = None, **options: Any
    ) -> llmws.Session:
        """Return a new session, on a server or through a proxy, by address or by a name of ``names.py``."""
        server = self.servers[scheme]
        url = server.base_url if proxy is None else proxy.base_url(server.base_url.split(":")[0])
        if host is not None:
            url = url.replace("127.0.0.1", host)
        given = {"ssl_context": tls()[1]} if scheme == "wss" else {}
        options.setdefault("lanes", True)
        return llmws.Session(
            "m", api_key=CANARY, base_url=url, allow_insecure=host is not None, **given, **options
        )

    def check_ledgers(self) -> None:
        """Count requests without leave or without a parent that the server has, and rules that broke down."""
        for server in self.servers.values():
            for first, second in server.ledger.second_creates():
                if first.nonce in self.excused:
                    continue
                self.book.breach("second creates", f"nonce {first.nonce}", (first, second))
            for entry in server.ledger.requests:
                if entry.refused == _NOT_FOUND and entry.nonce not in self.without_parent:
                    self.book.breach("transcripts", f"nonce {entry.nonce}", f"no parent: {entry}")
            for error in server.errors:
                self.book.breach("wrong outcomes", "the server", repr(error))

    def close(self) -> None:
        """Stop the servers."""
        for server in self.servers.values():
            server.close()


@contextlib.contextmanager
def arena(book: Book, **options: Any) -> Iterator[Arena]:
    """Open an arena, and see that nothing is left of it and that no key was told."""
    tls()
    before = threads(), descriptors()
    logger, ear = logging.getLogger("llmws"), _Ear(book)
    level, propagate = logger.level, logger.propagate
    logger.addHandler(ear)
    logger.setLevel(logging.DEBUG)
    logger.propagate = False
    opened = Arena(book, **options)
    try:
        yield opened
        opened.check_ledgers()
    finally:
        opened.close()
        logger.removeHandler(ear)
        logger.setLevel(level)
        logger.propagate = propagate
    if not book.stuck:
        _check_leaks(book, *before)
    if CANARY in repr(book.report()):
        book.breach("keys", "the report", "")


def _check_leaks(book: Book, old_threads: list[str], old_descriptors: list[str]) -> None:
    """Count what there is more of than before, once what is about to end has had the time."""
    deadline = time.monotonic() + _PATIENCE
    while True:
        more_threads, more_files = (
            _more(threads(), old_threads),
            _more(descriptors(), old_descriptors),
        )
        if not (more_threads or more_files) or time.monotonic() > deadline:
            break
        threading.Event().wait(0.05)
    for name in more_threads:
        book.breach("leaked threads", book.name, name)
    for name in more_files:
        book.breach("leaked descriptors", book.name, name)


def _more(now: list[str], before: list[str]) -> list[str]:
    left = list(now)
    for name in before:
        if name in left:
            left.remove(name)
    return left


def spread(
    book: Book, trials: Iterable[Trial], play: Callable[[Trial], None], count: int = 12
) -> None:
    """Play trials on several threads; one that hangs is counted, and the block ends."""
    waiting, running = deque(trials), {}

    def work() -> None:
        me = threading.get_ident()
        while waiting:
            try:
                trial = waiting.popleft()
            except IndexError:
                return
            running[me] = trial, time.monotonic()
            try:
                play(trial)
            except Exception as exc:  # noqa: BLE001  It is what is counted.
                where = traceback.extract_tb(exc.__traceback__)[-1]
                book.breach("wrong outcomes", trial.id, f"{exc!r} ({where.name}:{where.lineno})")
            finally:
                running.pop(me, None)

    workers = [threading.Thread(target=work, daemon=True) for _ in range(count)]
    for worker in workers:
        worker.start()
    while any(worker.is_alive() for worker in workers):
        for worker in workers:
            worker.join(0.1)
        for ident, (trial, begun) in list(running.items()):
            if time.monotonic() - begun > _STUCK:
                _tell_stuck(book, trial, ident)
                waiting.clear()
        if book.stuck:
            return


def _tell_stuck(book: Book, trial: Trial, ident: int) -> None:
    frame = sys._current_frames().get(ident)
    where = "".join(traceback.format_stack(frame)[-2:]) if frame is not None else ""
    book.breach("blocked", trial.id, where)
    book.stuck = True
