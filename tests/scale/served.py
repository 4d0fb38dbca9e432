"""
The server of these tests, in this process or in one of its own, where its memory and its work are not the client's.

As a program it is told what to serve as JSON, prints its base URL, and then its requests each time it hears a line.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import attrs

from llmws.testing import Answer, Entry, Event, Request, Semantics, Server, rules


__all__ = ["RULES", "Asked", "Served", "serving"]

_ROOT = Path(__file__).resolve().parents[2]
_PATIENCE = 20.0


@attrs.frozen
class Asked:
    """
    What is left of a line in the ledger.

    Attributes:
        text: The text of the last input item.
        connection: The connection's number, from 1.
        lane: The lane, or None.
        parent: The response that it named, or None.
        items: How many input items came.
        warm_up: Whether nothing was to be generated.
        size_bytes: The size of the message.
        ended: How the answer ended, or None.
        refused: With which code it was refused, or None.
    """

    text: str
    connection: int
    lane: str | None
    parent: str | None
    items: int
    warm_up: bool
    size_bytes: int
    ended: str | None
    refused: str | None

    @classmethod
    def of(cls, entry: Entry) -> Asked:
        given = entry.body.get("input")
        return cls(
            text=Request(body=entry.body).input_text,
            connection=entry.connection,
            lane=entry.lane,
            parent=entry.previous_response_id,
            items=len(given) if isinstance(given, list) else 1,
            warm_up=entry.warm_up,
            size_bytes=entry.request_bytes,
            ended=entry.ended,
            refused=entry.refused,
        )


@attrs.frozen
class Served:
    """A server that runs: where it is, how often it was connected to, and what it was asked so far."""

    base_url: str
    look: Callable[[], tuple[int, list[Asked]]]


def counting(request: Request) -> Iterator[Event]:
    """Say the input again, and how many items a model would have seen: what is lost or doubled shows."""
    answer = Answer(request)
    yield from answer.start()
    yield from answer.message(f"{request.input_text}: {len(request.context)} items")
    yield from answer.complete()


RULES = {"echo": rules.echo(), "nonce": rules.nonce(), "counting": counting}


@contextlib.contextmanager
def serving(
    rule: str, seconds: float = 0.0, *, apart: bool = True, **semantics: Any
) -> Iterator[Served]:
    """
    Serve as long as the context lasts.

    Args:
        rule: One of ``RULES``.
        seconds: How long each answer takes, from its first event on.
        apart: Whether in a process of its own.
        semantics: Fields of ``Semantics``.
    """
    told = {"rule": rule, "seconds": seconds, "semantics": semantics}
    with (_apart if apart else _here)(told) as served:
        yield served


@contextlib.contextmanager
def _here(told: dict[str, Any]) -> Iterator[Served]:
    rule = RULES[told["rule"]]
    if told["seconds"]:
        rule = rules.delayed(rule, told["seconds"])
    with Server(rule=rule, semantics=Semantics(**told["semantics"])) as server:
        ledger = server.ledger
        yield Served(
            server.base_url,
            lambda: (ledger.connections, [Asked.of(entry) for entry in ledger.requests]),
        )
        assert server.errors == []


@contextlib.contextmanager
def _apart(told: dict[str, Any]) -> Iterator[Served]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    with subprocess.Popen(
        [sys.executable, "-m", "tests.scale.served", json.dumps(told)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=_ROOT,
        env={**kept, "PYTHONPATH": str(_ROOT)},
    ) as program:
        assert program.stdin is not None
        assert program.stdout is not None

        def look() -> tuple[int, list[Asked]]:
            program.stdin.write("\n")
            program.stdin.flush()
            connections, asked = json.loads(program.stdout.readline())
            return connections, [Asked(**each) for each in asked]

        try:
            yield Served(program.stdout.readline().strip(), look)
        finally:
            program.stdin.close()  # It ends then.
            program.wait(_PATIENCE)


def main(told: str) -> None:
    with _here(json.loads(told)) as served:
        _say(served.base_url)
        for _ in sys.stdin:
            connections, asked = served.look()
            _say(json.dumps([connections, [attrs.asdict(each) for each in asked]]))


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main(sys.argv[1])
