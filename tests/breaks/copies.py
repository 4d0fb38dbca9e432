"""Copies of the tree, broken on purpose: the working tree itself is never touched."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from tests.breaks.table import Break


__all__ = ["ROOT", "BreakError", "broken", "run_tests", "snapshot", "whole"]

ROOT = Path(__file__).resolve().parents[2]
# A broken library may hang; pytest's own limit ends a test after a minute, this ends what is beyond its reach.
MOST_SECONDS = 240
# Compiled files are copied: they save seconds, and a broken file has another time and is compiled again.
LEFT_OUT = shutil.ignore_patterns(".*", "*.egg-info", "build", "dist")


class BreakError(Exception):
    """The table is wrong: a break cannot be made, or the tests fail without it."""


def snapshot(folder: Path) -> Path:
    """Copy the tree as it is now; later copies are of this one, however the original goes on."""
    return Path(shutil.copytree(ROOT, folder, ignore=LEFT_OUT))


def whole(path: str) -> str:
    """Return a file of the library, by its path from ``llmws/``."""
    return (ROOT / "llmws" / path).read_text("utf-8")


def broken(text: str, each: Break) -> str:
    """
    Return a file's text with the break in it.

    Raises:
        BreakError: The old text is not there exactly once.
    """
    count = text.count(each.old)
    if count != 1:
        raise BreakError(f"{each.name}: its old text is found {count} times in llmws/{each.path}")
    return text.replace(each.old, each.new)


def run_tests(tree: Path, tests: tuple[str, ...]) -> tuple[int, str]:
    """
    Run test files of a copy up to the first failure.

    Returns:
        pytest's exit code, or -1 if it had to be ended, and what it wrote of its last test.
    """
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", "--tb=line"]
    command += [f"tests/{name}" for name in tests]
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    process = subprocess.Popen(
        command,
        cwd=tree,
        # The copy comes before any llmws that is installed, in this process and in those that tests start.
        env={**kept, "PYTHONPATH": str(tree), "PYTHONDONTWRITEBYTECODE": "1", "CI": "true"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        errors="replace",
    )
    try:
        output, _ = process.communicate(timeout=MOST_SECONDS)
        return process.returncode, telling(output)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        return -1, f"it hung for {MOST_SECONDS} s"


def telling(output: str) -> str:
    """Return the lines that say where a run ended: those that name a test file, and the last ones."""
    lines = output.splitlines()
    named = [line for line in lines[:-5] if "tests/" in line or line.startswith("E ")]
    return "\n".join([*named[-10:], *lines[-5:]])
