"""What the lessons share: sessions that do not dawdle before a second try, and a clock that can jump."""

from __future__ import annotations

import contextlib
import itertools
import json
import time

import llmws
from llmws.responses.vocabulary.capabilities import Capabilities
from llmws.testing import Server, faults, rules
from llmws.testing.answer import Answer
from llmws.wire.backoff import RetryBudget
from llmws.wire.link import Link, LinkPolicy


# How long anything may take; reached by failures alone.
PATIENCE = 10.0
# What OpenAI documents.
LANES = Capabilities(lanes=True, max_active=16, max_lanes=32)
TEXT = "one two three"


@contextlib.contextmanager
def session_at(base_url, *, ping=20.0, clock=time.monotonic, timeouts=None, **options):
    """
    Open a session of which no connection waits before a further try, and for whose retries no other test pays.

    Several scripted servers never answer a close frame, so that is not waited for long.
    """
    limits = {"close": 0.2, **(timeouts or {})}
    with contextlib.closing(
        llmws.Session("m", base_url=base_url, timeouts=limits, **options)
    ) as session:
        pool = session._core.pool
        make, policy = (
            pool._make,
            LinkPolicy(ping_interval=ping, ping_timeout=ping, pong_grace=0.05, close_timeout=0.1),
        )

        def hasty(known):
            connection, lanes = make(known)
            connection._link = Link(policy)
            connection._budget, connection._jitter = RetryBudget(), lambda: 0.0
            connection._clock = clock
            return connection, lanes

        pool._make = hasty
        pool._slots[:] = [pool._new_slot()]
        yield session


@contextlib.contextmanager
def opened(rule=None, *, server=None, **options):
    """Open such a session on an embedded server, of which ``server`` has the other arguments."""
    with (
        Server(rule=rule or rules.text(TEXT), **(server or {})) as serving,
        session_at(serving.base_url, **options) as session,
    ):
        yield serving, session
        assert serving.errors == []


def only(*numbers, fault, rule=None):
    """Return a rule of which the server's requests with these numbers go wrong."""
    return faults.apply(
        rule or rules.text(TEXT), lambda request: fault if request.number in numbers else None
    )


def creates(server):
    """Return what each create was: its connection, whether it named a parent, and how many items it brought."""
    return [
        (entry.connection, entry.previous_response_id is not None, len(entry.body["input"]))
        for entry in server.ledger.requests
    ]


def notices(stream):
    """Return what a stream was told of tries that were not the last."""
    return [chunk.metadata for chunk in stream if "notice" in chunk.metadata]


def giving(*items):
    """Return a rule that answers each request with the next of these lists of items, the last one for ever."""
    answers = itertools.chain(items, itertools.repeat(items[-1]))

    def rule(request):
        answer = Answer(request)
        yield from answer.start()
        for item in next(answers):
            yield answer._added(item)
            yield answer._done(json.loads(json.dumps(item)))
        yield from answer.complete()

    return rule


class Clock:
    """A clock that goes on while its process sleeps: timers that were set before are late. Stands for ``time`` too."""

    def __init__(self) -> None:
        self._slept = 0.0

    def __call__(self) -> float:
        return time.monotonic() + self._slept

    monotonic = __call__

    def sleep(self, seconds: float) -> None:
        """Let so much time pass in which nobody can do anything."""
        self._slept += seconds
