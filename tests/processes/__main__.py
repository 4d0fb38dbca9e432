"""
Process life in full: ``python -m tests.processes [--quick] [NAME…]``.

Each item prints its figures and whether it held; the command fails if one did not. ``--quick`` is what the tests run.
"""

from __future__ import annotations

import argparse
import importlib.util
import itertools
import random
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from multiprocessing import get_all_start_methods
from typing import Any

from tests.processes.campaign import forks, pools
from tests.processes.programs import WORDS
from tests.processes.stops import stop


Item = Callable[[bool, int], Iterator[tuple[str, bool, Any]]]
CONNECTIONS = {"plain": False, "tls": True}


def forked(quick: bool, seed: int) -> Iterator[tuple[str, bool, Any]]:
    """Fork 50 times in each situation."""
    count = 1 if quick else 50
    for name, secure in CONNECTIONS.items():
        told = forks(secure=secure, count=count, seed=seed)
        dials = told.pop("dials")
        held = all(not facts["found"] and facts["forks"] >= count for facts in told.values())
        yield f"{count} forks in each situation, {name}", held and dials == 1, told


def pooled(quick: bool, seed: int) -> Iterator[tuple[str, bool, Any]]:
    """Serve turns in worker processes."""
    workers = 2 if quick else 4
    expected = {"texts": [WORDS] * 2 * workers, "dials": [1] * workers}
    methods = get_all_start_methods()
    for method, kind in itertools.product(methods, ("Pool", "ProcessPoolExecutor")):
        for name, secure in CONNECTIONS.items():
            told = pools(secure=secure, workers=workers, method=method, kind=kind)
            yield f"{kind}, {method}, {workers} workers, {name}", told == expected, told


def preloaded(quick: bool, seed: int) -> Iterator[tuple[str, bool, Any]]:
    """Serve turns in the workers of gunicorn."""
    missing = [name for name in ("gunicorn", "django") if not importlib.util.find_spec(name)]
    if missing:
        yield f"gunicorn: skipped, there is no {' and no '.join(missing)} here", True, {}
        return
    from tests.processes.served import serve_turns

    kinds = ["sync", "gthread", *(["gevent"] if importlib.util.find_spec("gevent") else [])]
    for site in ("site_django", "site_plain"):
        for worker in kinds[:1] if quick else kinds:
            workers = 2 if quick else 4
            threads = 4 if worker == "gthread" else 1
            told = serve_turns(site, worker=worker, workers=workers, threads=threads, secure=True)
            served = told["dials"] == [1] * workers and told["connections"] == 1 + workers
            well = told["given_up"] and told["lives"] and not told["wrong"] and not told["said"]
            yield f"gunicorn --preload, {workers} {worker} workers, {site}", served and well, told


def stopped(quick: bool, seed: int) -> Iterator[tuple[str, bool, Any]]:
    """Stop a process for 30 s; with ``--quick`` for 2."""
    seconds = 2 if quick else 30
    kinds = [
        {"in_a_turn": in_a_turn, "short": short, "secure": secure}
        for in_a_turn in (False, True)
        for short in (False, True)
        for secure in (False, True)
    ]
    # All at once: they wait.
    with ThreadPoolExecutor(len(kinds)) as threads:
        runs = [threads.submit(stop, seconds=seconds, **kind) for kind in kinds]
    for kind, run in zip(kinds, runs, strict=True):
        told = run.result()
        text = told.get("again", WORDS) == told["text"] == WORDS
        held = text and (told["dials"], told["lost"], told["connections"]) == (1, 0, 1)
        name = "in a turn" if kind["in_a_turn"] else "idle"
        limits = "short limits" if kind["short"] else "the library's limits"
        wire = "tls" if kind["secure"] else "plain"
        yield f"stopped for {seconds} s, {name}, {limits}, {wire}", held, told


ITEMS: dict[str, Item] = {
    "forks": forked,
    "pools": pooled,
    "gunicorn": preloaded,
    "stops": stopped,
}


def main() -> int:
    """Run the items asked for; return how many lines did not hold."""
    parser = argparse.ArgumentParser("python -m tests.processes", description=__doc__)
    parser.add_argument("items", nargs="*", metavar="NAME", help=f"of {', '.join(ITEMS)}")
    parser.add_argument("--quick", action="store_true", help="small counts and short waits")
    parser.add_argument("--seed", type=int, default=random.randrange(2**32))
    asked = parser.parse_args()
    unknown = set(asked.items) - set(ITEMS)
    if unknown:
        parser.error(f"there is no {', '.join(sorted(unknown))}: choose of {', '.join(ITEMS)}")
    say(f"seed {asked.seed}")
    failed = 0
    for name in asked.items or ITEMS:
        begun = time.monotonic()
        for line, held, told in ITEMS[name](asked.quick, asked.seed):
            failed += not held
            say(f"{'ok    ' if held else 'FAILED'}  {line}: {told}")
        say(f"        {name} took {time.monotonic() - begun:.1f} s")
    return failed


def say(line: str) -> None:
    """Write a line at once."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(bool(main()))
