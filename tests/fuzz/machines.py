"""
The suite's state machines, run for as long as one likes: whole lives of a link, of lanes, of an inbox.

    python -m tests.fuzz.machines MACHINE SECONDS SEED
"""

from __future__ import annotations

import random
import sys
import time
import traceback

from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis.stateful import RuleBasedStateMachine, run_state_machine_as_test

from tests.responses.routing.test_lanes_machine import LanesMachine
from tests.wire.test_inbox_machine import InboxMachine
from tests.wire.test_link_machine import LinkMachine


__all__ = ["MACHINES", "live"]

MACHINES: dict[str, type[RuleBasedStateMachine]] = {
    "link": LinkMachine,
    "lanes": LanesMachine,
    "inbox": InboxMachine,
}
LIVES, STEPS = 50, 80


def live(
    machine: type[RuleBasedStateMachine], seconds: float, first_seed: int, *, lives: int = LIVES
) -> int:
    """
    Run lives until the time is up; raises at the first that breaks a promise, with the shortest steps that lead there.

    Finding those steps may take minutes: what was found is written before.

    Args:
        machine: Whose lives.
        seconds: How long; looked at between batches.
        first_seed: What all that is random follows from.
        lives: How many there are in a batch.

    Returns:
        How many lives there were.
    """
    lived = 0

    class Counted(machine):  # type: ignore[misc, valid-type]  # Any machine.
        def __init__(self) -> None:
            nonlocal lived
            lived += 1
            super().__init__()

    long = settings(
        max_examples=lives,
        stateful_step_count=STEPS,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    seeds = random.Random(first_seed)
    until = time.monotonic() + seconds
    while True:
        again = seed(seeds.getrandbits(32))
        try:
            run_state_machine_as_test(again(Counted), settings=long)
        except Exception:
            traceback.print_exc()
            shortened = settings(long, phases=[Phase.generate, Phase.shrink])
            run_state_machine_as_test(again(machine), settings=shortened)
            raise
        if time.monotonic() >= until:
            return lived


if __name__ == "__main__":
    name, given_seconds, given_seed = sys.argv[1:]
    sys.stdout.write(f"{live(MACHINES[name], float(given_seconds), int(given_seed))} lives\n")
