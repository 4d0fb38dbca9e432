"""Python programs with a session, in processes of their own."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any


__all__ = ["Program"]

ROOT = Path(__file__).resolve().parents[2]
PATIENCE = 20.0

# Python 3.12 warns of every fork of a process with threads.
WARNINGS = ["-W", "error", "-W", "ignore::DeprecationWarning"]
BEGIN = """
import json, os, sys, threading

def tell(**facts):
    os.write(1, json.dumps(facts).encode() + b"\\n")

def hear():
    sys.stdin.readline()
"""
OPEN = """
import llmws

session = llmws.Session("m", base_url=sys.argv[1], api_key="none")
"""


class Program:
    """
    A program that tells facts, a line each, and goes on when it is told to.

    Args:
        source: What it does with ``session``; ``tell`` and ``hear`` talk to the test.
        base_url: Where its session leads.
        first: What it does before it imports llmws.
    """

    def __init__(self, source: str, base_url: str, *, first: str = "") -> None:
        self.process = subprocess.Popen(
            [sys.executable, *WARNINGS, "-c", BEGIN + first + OPEN + source, base_url],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    def __enter__(self) -> Program:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.communicate(timeout=PATIENCE)

    def facts(self) -> dict[str, Any]:
        """Wait for the next line that it tells."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, self.process.communicate(timeout=PATIENCE)[1].decode()
        told: dict[str, Any] = json.loads(line)
        return told

    def go_on(self) -> None:
        """Let it go on from where it hears."""
        assert self.process.stdin is not None
        self.process.stdin.write(b"\n")
        self.process.stdin.flush()

    def end(self) -> tuple[int, str]:
        """Wait for the end; return the exit code and what was written to stderr."""
        _, errors = self.process.communicate(timeout=PATIENCE)
        return self.process.returncode, errors.decode()
