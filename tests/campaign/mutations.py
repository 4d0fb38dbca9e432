"""
The campaign put to the test: the library is broken on purpose, and each break has to be noticed by a quick run.

A campaign that never fails proves nothing. Breaks are made in copies of the tree; one may go unnoticed.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.breaks.copies import broken, snapshot
from tests.breaks.table import Break


__all__ = ["MUTATIONS", "make_all"]

# Beyond this it hangs, which is noticed too; a quick run of all blocks takes half a minute.
_MOST_SECONDS = 240
_MOST_SURVIVORS = 1

MUTATIONS = (
    Break(
        "replay what the server may have",
        "responses/routing/lanes.py",
        "turn.state is TurnState.SENT and turn.retry_uncertain and not turn.replayed",
        "turn.state is TurnState.SENT and not turn.replayed",
        ("P1",),
    ),
    Break(
        "send again after output",
        "responses/routing/turn.py",
        "return self.state in (TurnState.SENT, TurnState.ACCEPTED)",
        "return self.state in (TurnState.SENT, TurnState.ACCEPTED, TurnState.OUTPUT)",
        ("P3",),
    ),
    Break(
        "skip the drain of a turn that was left",
        "responses/routing/books.py",
        "self._lanes.drain(lane, turn, self._now + DRAIN_SECONDS, unaccepted=unaccepted)",
        "lane.forget()",
        ("P4",),
    ),
    Break(
        "give a lane's events to another one",
        "responses/routing/lane.py",
        "return self.default if name is None else self._named.get(name)",
        'return self.default if name is None else self._named.get("llmws-1")',
        ("P6",),
    ),
    Break(
        "take a close with 1000 for a normal end",
        "responses/routing/lanes.py",
        "self._finish(turn, interruption(turn, given))",
        "self._finish(turn, interruption(turn, given) if given.code != 1000 else None)",
        ("P2",),
    ),
    Break(
        "take a FIN for a normal end",
        "responses/routing/lanes.py",
        "self._finish(turn, interruption(turn, given))",
        "self._finish(turn, interruption(turn, given) if given.code != 1006 else None)",
        ("P1",),
    ),
    Break(
        "drop the echo check",
        "responses/routing/answers.py",
        "if not lanes.echoed and self._shows_no_lanes(event):",
        "if False:",
        ("P6",),
    ),
    Break(
        "keep the lane of a turn that has ended",
        "responses/routing/books.py",
        "            self._lanes.vacate(turn.lane)\n",
        "            pass\n",
        ("P6",),
    ),
    Break(
        "forget the close code",
        "responses/routing/ends.py",
        "close_code=lost.code",
        "close_code=1000",
        ("P1",),
    ),
    Break(
        "wake nobody at the end",
        "wire/inbox.py",
        "            self._ended = True\n            self._monitor.notify()\n",
        "            self._ended = True\n",
        ("P1",),
    ),
    Break(
        "send what the server knows in a delta",
        "responses/sending/continuation.py",
        "items = [*self.history.items_from(_covered(anchor)), *self._new(anchor)]",
        "items = [*self.history.items_from(max(0, _covered(anchor) - 1)), *self._new(anchor)]",
        ("P3",),
    ),
    Break(
        "keep what a lost socket's server knew",
        "responses/routing/books.py",
        "        self._lanes.reset()\n",
        "",
        ("P2",),
    ),
    Break(
        "do not wait as the server asks",
        "responses/routing/mending.py",
        "delay = Backoff().delay(",
        "delay = 0.0 * Backoff().delay(",
        ("P3",),
    ),
    Break(
        "send again after a quota is used up",
        "responses/routing/refusals.py",
        "    if labels & _FINAL or _told_not_to_retry(error):\n",
        "    if _told_not_to_retry(error):\n",
        ("P3",),
    ),
    Break(
        "give up after one dial",
        "wire/backoff.py",
        "return bool(tenacity.stop_after_attempt(self.attempts)(_retry_state(attempt)))",
        "return True",
        ("P1",),
    ),
    Break(
        "say that nothing was paid for",
        "responses/routing/turn.py",
        "self.state is not TurnState.QUEUED,\n        }",
        "False,\n        }",
        ("P1",),
    ),
    Break(
        "log the key",
        "responses/connections/credentials.py",
        "            self.given_out.update([self._key] if self._key else [])\n",
        "            self.given_out.update([self._key] if self._key else [])\n"
        "            __import__('logging').getLogger('llmws').debug(\n"
        "                'key %s', self._key and self._key.reveal()\n            )\n",
        ("P4",),
    ),
    Break(
        "lose the first event of a stretch",
        "responses/routing/reading.py",
        "                    reading.items += rest\n",
        "                    reading.items += rest[1:]\n",
        ("P4",),
    ),
    Break(
        "double the first event of a stretch",
        "responses/routing/reading.py",
        "                    reading.items += rest\n",
        "                    reading.items += [rest[0], *rest]\n",
        ("P4",),
    ),
    Break(
        "forget every time limit",
        "responses/routing/turn.py",
        "        if min(phase_due, end) > now:\n",
        "        if True:\n",
        ("P1",),
    ),
    Break(
        "leave the socket open",
        "wire/connection.py",
        "        sock, self._sock = self._sock, None\n"
        "        self._unread = self._blocked_write = self._write_after_read = False\n"
        "        if sock is None:\n",
        "        sock, self._sock = self._sock, None\n"
        "        self._unread = self._blocked_write = self._write_after_read = False\n"
        "        if sock is not None:\n"
        "            self._poll.unregister(sock)\n"
        "            globals().setdefault('left_open', []).append(sock)\n"
        "        if True:\n",
        ("P1",),
    ),
    Break(
        "give a lane away that still has a turn",
        "responses/routing/lane.py",
        "return self.turn is None and self.draining_until is None",
        "return self.draining_until is None",
        ("P6",),
    ),
    Break(
        "end with success when the time is up",
        "responses/routing/books.py",
        "        self._leave(turn)\n        self._finish(turn, error)\n"
        "        if error.state == TurnState.QUEUED.value:",
        "        self._leave(turn)\n"
        "        self._finish(turn, None if isinstance(error, TimeoutError) else error)\n"
        "        if error.state == TurnState.QUEUED.value:",
        ("P1",),
    ),
)


def make_all(names: list[str], seed: int, jobs: int) -> int:
    """Make the mutations of which a part of the name is given, or all; return the exit code."""
    chosen = [each for each in MUTATIONS if not names or any(part in each.name for part in names)]
    with tempfile.TemporaryDirectory(prefix="llmws-mutations-") as folder:
        tree = snapshot(Path(folder) / "whole")
        texts = {
            each.name: broken((tree / "llmws" / each.path).read_text("utf-8"), each)
            for each in chosen
        }
        blocks = sorted({block for each in chosen for block in each.tests})
        code, told = _run(tree, tuple(blocks), seed)
        if code != 0:
            _say(f"the campaign fails without a break:\n{told}")
            return 2
        with ThreadPoolExecutor(jobs) as pool:
            seen = list(pool.map(lambda each: _make(each, texts[each.name], tree, seed), chosen))
    survivors = seen.count(False)
    _say(f"{len(chosen) - survivors} of {len(chosen)} breaks noticed, seed {seed}")
    return 0 if survivors <= _MOST_SURVIVORS else 1


def _make(each: Break, text: str, tree: Path, seed: int) -> bool:
    """Make one break, in a copy; return whether the campaign noticed."""
    copy = tree.parent / f"mutation-{MUTATIONS.index(each)}"
    shutil.copytree(tree, copy)
    (copy / "llmws" / each.path).write_text(text, "utf-8")
    begun = time.monotonic()
    code, told = _run(copy, each.tests, seed)
    shutil.rmtree(copy)
    word = {0: "SURVIVED", None: "noticed: hung"}.get(code, "noticed")
    _say(f"{each.name:52} {word:14} {time.monotonic() - begun:5.1f} s  {told}")
    return code != 0


def _run(tree: Path, blocks: tuple[str, ...], seed: int) -> tuple[int | None, str]:
    """Run a quick campaign of a tree; return its exit code, None if it hung, and what it found broken."""
    command = [sys.executable, "-m", "tests.campaign", "--quick", "--seed", str(seed)]
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    try:
        process = subprocess.run(
            [*command, "--block", *blocks],
            cwd=tree,
            env={**kept, "PYTHONPATH": str(tree), "PYTHONDONTWRITEBYTECODE": "1"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            timeout=_MOST_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return None, ""
    if "promises broken" not in process.stdout and "Timeout" not in process.stderr:
        # It did not get as far as to judge: what broke is not the library's behaviour.
        raise RuntimeError(f"The campaign could not be run:\n{process.stderr[-2000:]}")
    found = [line for line in process.stdout.splitlines() if "{" in line and line[0] != " "]
    return process.returncode, "; ".join(line.rsplit(",", 1)[0] for line in found)


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()
