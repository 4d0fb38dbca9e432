"""Many threads on one session, each with one turn at the same time."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import attrs

import llmws
from llmws.testing.rules import nonce_text
from tests.scale.served import serving


__all__ = ["Crowd", "crowd"]


@attrs.frozen
class Crowd:
    """
    What came of a crowd.

    Attributes:
        seconds: From the start of all until the last one has its answer; connecting is part of it.
        wrong: How many answers were not those that the turns asked for.
        connections: How many connections the server saw.
        at_once: How many connections the session says it has.
        refused: The codes of what the server refused.
        requests: How many requests the server got.
    """

    seconds: float
    wrong: int
    connections: int
    at_once: int
    refused: list[str]
    requests: int


def crowd(
    threads: int,
    seconds: float,
    *,
    server_lanes: Any = True,
    session_lanes: bool | None = True,
    apart: bool = True,
) -> Crowd:
    """
    Have threads ask at the same moment, on one session that is not connected yet.

    Args:
        threads: How many.
        seconds: How long each answer takes.
        server_lanes: As for ``Semantics``.
        session_lanes: As for ``Session``.
        apart: Whether the server is a process of its own.
    """
    together = threading.Barrier(threads + 1)

    def ask(number: int) -> bool:
        together.wait()
        return session.create(f"nonce {number:04x}").text == nonce_text(f"{number:04x}", 20)

    with (
        serving("nonce", seconds, apart=apart, lanes=server_lanes) as served,
        llmws.Session("m", base_url=served.base_url, lanes=session_lanes) as session,
        ThreadPoolExecutor(threads) as pool,
    ):
        asking = [pool.submit(ask, number) for number in range(threads)]
        together.wait()
        began = time.perf_counter()
        right = sum(each.result() for each in asking)
        took = time.perf_counter() - began
        connections, asked = served.look()
        refused = [each.refused for each in asked if each.refused is not None]
        return Crowd(
            took, threads - right, connections, session.stats.connections, refused, len(asked)
        )
