"""The command line in processes of its own, which end with their test."""

import contextlib
import os
import subprocess
import sys
from pathlib import Path


ROOT = Path(__file__).parent.parent
RUN = [sys.executable, "-W", "error", "-m", "llmws"]
SECONDS = 30


def environment(**more):
    # PYTHONUNBUFFERED would hide an answer that is not shown as it comes.
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    return {**kept, "PYTHONPATH": str(ROOT), "TERM": "dumb", **more}


def begin(*arguments, command=RUN, **options):
    pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    settings = {"env": environment(), "encoding": "utf-8", **pipes, **options}
    return subprocess.Popen([*command, *arguments], **settings)


def end(programs):
    for program in programs:
        program.kill()
        program.communicate()


@contextlib.contextmanager
def starting():
    """Give what starts the command; all that it started ends here."""
    started = []

    def run(*arguments, **options):
        started.append(begin(*arguments, **options))
        return started[-1]

    try:
        yield run
    finally:
        end(started)
