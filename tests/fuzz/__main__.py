"""
Fuzz llmws for a bounded time.

    python -m tests.fuzz [--seconds 30] [--seed N] [--folder F] [--require] [TARGET ...]
    python -m tests.fuzz TARGET --replay FILE

Byte targets need atheris; the state machines need hypothesis alone. A finding is kept in the folder, printed with the
command that replays it, and makes the exit code 1.
"""

from __future__ import annotations

import argparse
import importlib.util
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import attrs

from tests.fuzz.machines import MACHINES
from tests.fuzz.targets import TARGETS


# What a worker may take beyond its time: imports, the slowest input, and shrinking.
GRACE_SECONDS = 180
SHOWN_LINES = 40


@attrs.frozen
class Run:
    """What came of one target: how much was run, how much a second, and what was found."""

    count: int
    rate: float
    found: str = ""


def main(given: Sequence[str] | None = None) -> int:
    """Do as the arguments say; return the exit code."""
    arguments = parsed(given)
    if arguments.replay:
        TARGETS[arguments.targets[0]].check(Path(arguments.replay).read_bytes())
        say(f"{arguments.replay}: nothing was found")
        return 0
    names = arguments.targets or [*TARGETS, *MACHINES]
    if not importlib.util.find_spec("atheris") and any(name in TARGETS for name in names):
        say(
            f"atheris is not installed for Python {sys.version.split()[0]}: byte targets are skipped"
        )
        if arguments.require:
            return 1
        names = [name for name in names if name in MACHINES]
    return 1 if fuzz(names, arguments) else 0


def parsed(given: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser("python -m tests.fuzz", description=__doc__.split("\n")[1])
    parser.add_argument(
        "targets", nargs="*", metavar="TARGET", help=", ".join([*TARGETS, *MACHINES])
    )
    parser.add_argument("--seconds", type=int, default=30, help="for each target")
    parser.add_argument(
        "--seed", type=int, default=int(time.time()) % 10**6, help="of all randomness"
    )
    parser.add_argument("--folder", help="keep corpora and findings here")
    parser.add_argument("--require", action="store_true", help="fail where atheris is missing")
    parser.add_argument(
        "--replay", metavar="FILE", help="run one input of a target, and nothing else"
    )
    arguments = parser.parse_args(given)
    unknown = {*arguments.targets} - {*TARGETS, *MACHINES}
    if unknown or (arguments.replay and len({*arguments.targets} & {*TARGETS}) != 1):
        parser.error(
            f"choose from {', '.join([*TARGETS, *MACHINES])}; --replay takes one of the first"
        )
    return arguments


def fuzz(names: list[str], arguments: argparse.Namespace) -> bool:
    """Fuzz each target for its time; return whether anything was found."""
    folder = Path(arguments.folder or tempfile.mkdtemp(prefix="llmws-fuzz-")).resolve()
    say(f"seed {arguments.seed}, {arguments.seconds} s for each of {len(names)}")
    found = False
    for name in names:
        run = (machine if name in MACHINES else target)(name, folder / name, arguments)
        say(
            f"{name:10} {run.count:>10,} runs {run.rate:>9,.0f}/s  {'FOUND' if run.found else 'nothing found'}"
        )
        if run.found:
            found = True
            say(run.found)
    if not found and not arguments.folder:
        shutil.rmtree(folder)
    return found


def target(name: str, home: Path, arguments: argparse.Namespace) -> Run:
    """Fuzz a byte target in a process of its own."""
    given = (name, str(home), str(arguments.seconds), str(arguments.seed))
    code, output, _ = worked("tests.fuzz.worker", given, arguments.seconds)
    count, rate = (figure(output, f) for f in ("number_of_executed_units", "average_exec_per_sec"))
    finds = sorted(home.glob("find-*"), key=lambda path: path.stat().st_mtime)
    if code == 0 and count and not finds:
        return Run(count, rate)
    words = [
        tail(output),
        *(f"input: {path.read_bytes()[:300]!r}" for path in finds[-1:]),
        *(f"replay: python -m tests.fuzz {name} --replay {path}" for path in finds[-1:]),
    ]
    return Run(count, rate, "\n".join(words))


def machine(name: str, home: Path, arguments: argparse.Namespace) -> Run:
    """Run a state machine's lives in a process of its own."""
    given = (name, str(arguments.seconds), str(arguments.seed))
    code, output, seconds = worked("tests.fuzz.machines", given, arguments.seconds)
    counted = re.search(r"^(\d+) lives$", output, re.MULTILINE)
    count = int(counted[1]) if counted else 0
    if code == 0 and count:
        return Run(count, count / seconds)
    again = (
        f"replay: python -m tests.fuzz {name} --seed {arguments.seed} --seconds {arguments.seconds}"
    )
    return Run(count, count / seconds, f"{tail(output)}\n{again}")


def worked(module: str, given: tuple[str, ...], seconds: int) -> tuple[int, str, float]:
    """Run a worker; return its exit code, all that it wrote, and how long it took."""
    began = time.monotonic()
    command = [sys.executable, "-m", module, *given]
    try:
        done = subprocess.run(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=seconds + GRACE_SECONDS,
            encoding="utf-8",
            errors="replace",
        )
    except subprocess.TimeoutExpired as exc:
        said = exc.output or b""  # Bytes, whatever the encoding (CPython's issue 87597).
        return (
            -1,
            f"{said.decode(errors='replace')}\nthe worker took too long",
            time.monotonic() - began,
        )
    return done.returncode, done.stdout, time.monotonic() - began


def figure(output: str, name: str) -> int:
    """Return one of the figures that libFuzzer prints at its end."""
    found = re.search(rf"stat::{name}:\s+(\d+)", output)
    return int(found[1]) if found else 0


def tail(output: str) -> str:
    lines = [line for line in output.splitlines() if not line.startswith(("#", "INFO", "stat::"))]
    return "\n".join(lines[-SHOWN_LINES:])


def say(words: str) -> None:
    sys.stdout.write(f"{words}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
