"""What the command line shows: plain text on stdout, complaints of one line on stderr."""

from __future__ import annotations

import contextlib
import io
import os
import re
import sys


__all__ = ["complain", "discard_output", "one_line", "plain", "prepare", "show"]

# All of C0 but tab and line feed, DEL, and C1: what could move the cursor, rename the window or fill the clipboard.
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


def plain(text: str) -> str:
    """Return a text without control characters, line feeds and tabs excepted: a model may have written it."""
    return _CONTROL.sub("", text)


def one_line(text: str) -> str:
    """Return a text as one plain line."""
    return " ".join(plain(" ".join(text.split())).split())


def show(text: str = "", *, end: str = "\n") -> None:
    """Write a text to stdout at once, control characters left out."""
    print(plain(text), end=end, flush=True)  # noqa: T201 - the command line's one way to stdout.


def complain(problem: object) -> None:
    """Write an error, or any other object's text, as one line to stderr."""
    print(f"llmws: {one_line(str(problem))}", file=sys.stderr, flush=True)  # noqa: T201 - and to stderr.


def prepare() -> None:
    """Let no letter that a terminal cannot show, and no bytes that are no text, end the program."""
    for stream in (sys.stdin, sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")


def discard_output() -> None:
    """Send what is still written to stdout nowhere: its reader is gone, and the interpreter flushes it at exit."""
    with contextlib.suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)
