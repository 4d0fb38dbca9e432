"""
Autobahn|Testsuite's client cases against ``wire.connection.Connection``, in a network of their own.

``python -m tests.autobahn [--cases 1,2,6.4.3] [--keep DIR] [--require]``

It ends with 0 if every case is as it must be, or, with a reason, where it cannot run (with ``--require`` that is 1).
"""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import attrs

from llmws.errors import ConnectError
from tests.autobahn.echo import Driver, echoing_binary
from tests.autobahn.namespace import leave_the_network
from tests.autobahn.suite import VERSION, Unavailable, find_python, fuzzing_server, install
from tests.autobahn.verdicts import faults, read_reports, table


# 9 is about speed, which the benchmarks measure; 12 and 13 are about compression, which is not offered. There is no 8
# and no 11.
SECTIONS = "1,2,3,4,5,6,7,10"
CASES = 247
PORT = 9001  # In a network of its own nobody else has it.
# The longest case takes three seconds by itself.
CASE_SECONDS = 20.0
ALL_SECONDS = 240.0


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser("python -m tests.autobahn", description=__doc__.split("\n")[1])
    parser.add_argument("--cases", default=SECTIONS, help="sections or cases, with commas between")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="keep reports and logs here")
    parser.add_argument("--require", action="store_true", help="fail where it cannot run")
    chosen = parser.parse_args(arguments)
    with contextlib.ExitStack() as stack:
        work = chosen.keep or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        work.mkdir(parents=True, exist_ok=True)
        work = work.resolve()
        try:
            python = find_python()
            site = install(python, work / "install.log")
            problem = leave_the_network()
            if problem:
                raise Unavailable(problem)
        except Unavailable as exc:
            say(f"Autobahn|Testsuite was not run: {exc}.")
            return 1 if chosen.require else 0
        try:
            return play(python, site, work, chosen.cases)
        except (ConnectError, TimeoutError) as exc:
            log = (work / "server.log").read_text(errors="replace").splitlines()
            say(f"The fuzzing server does not do its part: {exc} Its last words:", *log[-10:])
            return 1


def patterns(chosen: str) -> list[str]:
    """Return what the server calls these sections and cases."""
    return [name if name.count(".") > 1 else f"{name}.*" for name in chosen.split(",")]


def play(python: str, site: Path, work: Path, chosen: str) -> int:
    """Play the cases, as the network cuts them and in small pieces, and say what came of it."""
    begun = time.monotonic()
    server = fuzzing_server(python, site, work, patterns(chosen), PORT)
    with server as reports, echoing_binary():
        with Driver(PORT) as driver:
            names = case_names(driver)
        passes = [Pass("llmws", names), Pass("llmws-in-pieces", names, in_pieces=True)]
        for each in passes:
            each.play(begun + ALL_SECONDS)
        with Driver(PORT) as driver:
            driver.visit("/updateReports?agent=any", CASE_SECONDS)
    say(f"Autobahn|Testsuite {VERSION}, in {time.monotonic() - begun:.1f} s")
    trouble = []
    if chosen == SECTIONS and len(names) != CASES:
        trouble.append(f"the server has {len(names)} cases, and not {CASES}")
    trouble += [problem for each in passes for problem in each.judge(reports)]
    say("", *trouble, f"{len(trouble)} faults" if trouble else "Every case is as it must be.")
    return 1 if trouble else 0


def case_names(driver: Driver) -> list[str]:
    """Ask the server which cases it has, in the order of their numbers."""
    (count,) = map(json.loads, driver.visit("/getCaseCount", CASE_SECONDS))
    infos = [
        driver.visit(f"/getCaseInfo?case={number}", CASE_SECONDS) for number in range(1, count + 1)
    ]
    return [json.loads(info)["id"] for (info,) in infos]


def piece_bytes(name: str) -> int:
    """Return how much of a case is read at a time; long messages take too long byte by byte."""
    return 1000 if name.split(".")[0] in ("1", "10") else 1


@attrs.define
class Pass:
    """
    All cases once.

    Attributes:
        agent: What the client is called in the reports.
        names: The cases.
        in_pieces: Whether the client reads in small pieces, mostly bytes.
        played: The cases that were played to their end, each with the messages that were delivered.
        trouble: What went wrong besides what the reports will say.
    """

    agent: str
    names: list[str]
    in_pieces: bool = False
    played: dict[str, list[Any]] = attrs.field(factory=dict)
    trouble: list[str] = attrs.field(factory=list)

    def play(self, until: float) -> None:
        """Play all, for as long as there is time."""
        with Driver(PORT) as driver:
            for name in self.names:
                seconds = min(CASE_SECONDS, until - time.monotonic())
                try:
                    if seconds <= 0:
                        raise TimeoutError("the time is up.")
                    resource = f"/runCase?casetuple={name}&agent={self.agent}"
                    most = piece_bytes(name) if self.in_pieces else None
                    self.played[name] = driver.visit(resource, seconds, piece_bytes=most)
                except TimeoutError as exc:
                    self.trouble.append(f"case {name} was not played to its end: {exc}")

    def judge(self, reports: Path) -> list[str]:
        """Say what the reports say; return what is not as it must be."""
        findings = read_reports(reports, self.agent)
        lenient = [finding.name for finding in findings if finding.behaviour == "NON-STRICT"]
        how = "read in small pieces" if self.in_pieces else "read as it comes"
        say("", f"{len(findings)} cases, {how}:", table(findings).rstrip("\n"))
        say(f"NON-STRICT: {', '.join(lenient) or 'none'}")
        return self.trouble + faults(findings, self.played)


def say(*lines: str) -> None:
    sys.stdout.write("".join(f"{line}\n" for line in lines))
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
