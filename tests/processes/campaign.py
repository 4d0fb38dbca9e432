"""What the command counts in full and the tests in small: each function plays one item, and returns its facts."""

from __future__ import annotations

import json
from typing import Any

from tests.processes.programs import (
    PATIENCE,
    HeldTalk,
    environment,
    output_of,
    serving,
    start,
    watched,
)


__all__ = ["forks", "pools"]


def forks(*, secure: bool, count: int, seed: int) -> dict[str, Any]:
    """Fork so many times in each situation, in a program of its own."""
    seconds = PATIENCE + 2 * count
    source = (
        "from tests.processes import forker\n" + f"tell(**forker.run(session, {count}, {seed}))"
    )
    with (
        serving(HeldTalk(), secure=secure) as server,
        watched(source, server.base_url, seconds=seconds) as program,
    ):
        told = program.facts()
        assert program.end() == (0, "")
        return told


def pools(*, secure: bool, workers: int, method: str, kind: str) -> dict[str, Any]:
    """Run turns in the workers of a pool (``Pool`` or ``ProcessPoolExecutor``) that were started by a method."""
    source = f"""
import json, sys
from tests.processes import pooled
sys.stdout.write(json.dumps(pooled.main({workers}, {method!r}, {kind!r})))
"""
    with serving(secure=secure) as server:
        program = start("-c", source, env=environment(LLMWS_TEST_URL=server.base_url))
        told: dict[str, Any] = json.loads(output_of(program))
        return told
