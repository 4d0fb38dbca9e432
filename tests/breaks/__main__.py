"""
Break llmws on purpose, one defect at a time, and see that the tests notice.

    python -m tests.breaks [--jobs N] [NAME ...]

A name is any part of a break's name; without one all are made. First the unbroken copy has to pass. The exit code is 1
if a break survives, and 2 if the table is wrong.
"""

from __future__ import annotations

import argparse
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.breaks.copies import BreakError, broken, run_tests, snapshot
from tests.breaks.table import BREAKS, Break


PASSED, FAILED, HUNG = 0, 1, -1
SHOWN = 70


def main(arguments: Sequence[str] | None = None) -> int:
    """Make the breaks that the arguments name; return the exit code."""
    parser = argparse.ArgumentParser("python -m tests.breaks", description=__doc__.split("\n")[1])
    parser.add_argument("names", nargs="*", metavar="NAME", help="part of a break's name")
    parser.add_argument("--jobs", type=int, default=1, help="breaks at the same time")
    given = parser.parse_args(arguments)
    chosen = [
        each for each in BREAKS if not given.names or any(part in each.name for part in given.names)
    ]
    if not chosen:
        parser.error(f"no break has {' or '.join(given.names)} in its name")
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        # As shells leave it for what runs in the background; tests that strike Ctrl-C would inherit that, and hang.
        signal.signal(signal.SIGINT, signal.default_int_handler)
    with tempfile.TemporaryDirectory(prefix="llmws-breaks-") as folder:
        try:
            survivors = make_all(chosen, Path(folder), given.jobs)
        except BreakError as exc:
            say(f"{exc}")
            return 2
    say(f"{len(chosen) - len(survivors)} of {len(chosen)} breaks noticed")
    for each in survivors:
        say(f"SURVIVED: {each.name} (llmws/{each.path}): none of {', '.join(each.tests)} noticed")
    return 1 if survivors else 0


def make_all(chosen: list[Break], folder: Path, jobs: int) -> list[Break]:
    """Make each break in a copy of its own; return those that nothing noticed."""
    tree = snapshot(folder / "whole")
    for each in chosen:  # All, before the first long run.
        broken((tree / "llmws" / each.path).read_text("utf-8"), each)
    tests = tuple(sorted({name for each in chosen for name in each.tests}))
    began = time.monotonic()
    code, output = run_tests(tree, tests)
    if code != PASSED:
        raise BreakError(f"the tests fail without a break:\n{output}")
    say(f"{'unbroken':{SHOWN}} {len(tests)} test files pass  {time.monotonic() - began:5.1f} s")
    with ThreadPoolExecutor(jobs) as pool:
        noticed = list(pool.map(lambda each: make(each, tree, folder), chosen))
    return [each for each, seen in zip(chosen, noticed, strict=True) if not seen]


def make(each: Break, tree: Path, folder: Path) -> bool:
    """Make one break; return whether its tests noticed."""
    copy = folder / f"break-{BREAKS.index(each)}"
    shutil.copytree(tree, copy)
    path = copy / "llmws" / each.path
    path.write_text(broken(path.read_text("utf-8"), each), "utf-8")
    began = time.monotonic()
    code, output = run_tests(copy, each.tests)
    shutil.rmtree(copy)
    if code not in (PASSED, FAILED, HUNG):
        raise BreakError(f"{each.name}: the tests could not be run (exit code {code}):\n{output}")
    word = {PASSED: "SURVIVED", FAILED: "noticed", HUNG: "noticed: hung"}[code]
    say(f"{each.name[:SHOWN]:{SHOWN}} {word:15} {time.monotonic() - began:5.1f} s")
    return code != PASSED


def say(words: str) -> None:
    sys.stdout.write(f"{words}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
