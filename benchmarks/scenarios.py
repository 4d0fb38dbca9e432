"""What is run: which clients do which task against which server. A ratio is only ever taken inside one scenario."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import attrs


__all__ = ["SCENARIOS", "Scenario", "shortened"]

_FAST, _STDLIB, _OPENAI = "llmws-fast", "llmws-stdlib", "openai"
_CORE = (_FAST, _STDLIB, _OPENAI)
_OTHERS = ("openai-lanes", "openai-sse", "websockets", "websocket-client")


@attrs.frozen
class Scenario:
    """
    Clients that do the same, in turn.

    Attributes:
        title: What its table is headed with.
        task: A task of ``clients.tasks``; or ``import`` or ``cold``, which time whole processes (``programs``).
        clients: Names of ``clients.CLIENTS``.
        scheme: ``https`` has the server speak TLS.
        settings: What the task is told besides the sizes.
    """

    title: str
    task: str
    clients: tuple[str, ...]
    scheme: Literal["http", "https"] = "http"
    settings: Mapping[str, Any] = attrs.field(factory=dict)


SCENARIOS: dict[str, Scenario] = {
    "burst": Scenario(
        "Burst: a whole answer at once",
        "burst",
        (
            *_CORE,
            "llmws-fast-chunks",
            "llmws-stdlib-chunks",
            "openai-lanes",
            "openai-sse",
            "websockets",
            "websocket-client",
            "websocket-client-default",
            "requests-sse",
            "owner-thread",
            "raw-msgspec",
            "raw-json",
        ),
    ),
    "burst-tls": Scenario(
        "Burst over TLS 1.3",
        "burst",
        (*_CORE, "openai-lanes", "openai-sse", "websockets", "raw-msgspec", "raw-json"),
        "https",
    ),
    "paced": Scenario(
        "2,000 events a second: from the server's write to the reader",
        "paced",
        (*_CORE, *_OTHERS, "owner-thread", "raw-msgspec"),
        settings={"answer": "paced"},
    ),
    "turns": Scenario(
        "Short turns on one warm connection",
        "turns",
        (*_CORE, *_OTHERS, "owner-thread", "raw-msgspec"),
    ),
    "large": Scenario(
        "One large event",
        "large",
        (*_CORE, "openai-sse", "websockets", "websocket-client"),
    ),
    "upload": Scenario(
        "One large request",
        "upload",
        (*_CORE, "openai-sse", "websockets", "websocket-client"),
    ),
    "import": Scenario("Import, over an empty process", "import", _CORE),
    "cold": Scenario(
        "A process from its start to the end of its first turn", "cold", (*_CORE, "openai-sse")
    ),
    "idle": Scenario("Idle connections, one turn behind each", "idle", (*_CORE, "websockets")),
    "fresh": Scenario(
        "Fresh TLS 1.3 connections, session tickets on, a turn on each",
        "fresh",
        (*_CORE, "websockets"),
        "https",
    ),
    "busy": Scenario(
        "100 events a second while another thread computes, switch interval 5 ms (the default)",
        "paced",
        _CORE,
        settings={"answer": "slow", "switch_interval": 0.005},
    ),
    "busy-short": Scenario(
        "The same, switch interval 0.5 ms",
        "paced",
        _CORE,
        settings={"answer": "slow", "switch_interval": 0.0005},
    ),
}


def shortened(
    scenarios: Mapping[str, Scenario], needed: Mapping[str, set[str]]
) -> dict[str, Scenario]:
    """
    Return scenarios in which every client still appears, but each only where it is new or needed.

    Args:
        scenarios: What is to be shortened.
        needed: By scenario, the clients that have to stay.
    """
    seen: set[str] = set()
    short = {}
    for name, scenario in scenarios.items():
        clients = [c for c in scenario.clients if c not in seen or c in needed[name]]
        seen.update(clients)
        short[name] = attrs.evolve(scenario, clients=tuple(clients))
    return short
