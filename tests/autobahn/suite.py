"""Autobahn|Testsuite: a Python 2.7 that runs it, its installation, and its fuzzing server."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path


__all__ = ["VERSION", "Unavailable", "find_python", "fuzzing_server", "install"]

VERSION = "25.10.1"
_INSTALL_SECONDS = 600
_PROBE_SECONDS = 30
# zope is a namespace package that only a .pth file makes whole, so that a search path alone does not do.
_RUN = """
import site, sys
site.addsitedir(sys.argv.pop(1))
from autobahntestsuite.wstest import run
run()
"""


class Unavailable(Exception):
    """The testsuite cannot be run here; the words say why."""


def find_python() -> str:
    """
    Return a Python 2.7 with pip, found by running what may be one.

    Raises:
        Unavailable: There is none.
    """
    for candidate in _candidates():
        if _says(candidate, "import sys, pip; print(sys.version_info[:2])") == "(2, 7)":
            return candidate
    raise Unavailable("no Python 2.7 with pip was found on PATH or among pyenv's versions")


def _candidates() -> Iterator[str]:
    for name in ("python2.7", "python2", "python"):
        found = shutil.which(name)
        if found:
            yield found
    pyenv = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv")
    yield from map(str, sorted(pyenv.glob("versions/2.7*/bin/python"), reverse=True))


def _says(python: str, program: str) -> str:
    # A shim of pyenv is there for every version that was ever installed, and fails when it is run.
    try:
        done = subprocess.run(
            [python, "-c", program],
            env=_environment(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            encoding="utf-8",
            timeout=_PROBE_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def _environment() -> dict[str, str]:
    # What is meant for the Python of this process would break the other one.
    return {name: text for name, text in os.environ.items() if not name.startswith("PYTHON")}


def install(python: str, log: Path) -> Path:
    """
    Install the testsuite for this Python, or find it installed; it stays in the user's cache.

    Args:
        python: The Python 2.7 to install with.
        log: Where the installer's words go.

    Raises:
        Unavailable: It could not be installed.
    """
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "llmws-tests"
    target = cache / f"autobahntestsuite-{VERSION}"
    if target.is_dir():
        return target
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache) as partial, log.open("w") as words:
        command = [python, "-m", "pip", "install", "--target", f"{partial}/site"]
        try:
            done = subprocess.run(
                [*command, f"autobahntestsuite=={VERSION}"],
                env=_environment(),
                stdin=subprocess.DEVNULL,
                stdout=words,
                stderr=subprocess.STDOUT,
                timeout=_INSTALL_SECONDS,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise Unavailable(f"its installation took longer than {_INSTALL_SECONDS} s") from None
        if done.returncode:
            last = log.read_text(errors="replace").strip().splitlines()[-1:]
            raise Unavailable(f"it could not be installed ({' '.join(last) or 'no reason given'})")
        # Whole or not at all; another run may have been faster.
        with contextlib.suppress(OSError):
            Path(partial, "site").rename(target)
    return target


@contextlib.contextmanager
def fuzzing_server(
    python: str, site: Path, work: Path, cases: list[str], port: int
) -> Iterator[Path]:
    """
    Run the fuzzing server on all addresses of this network; give the folder of its reports.

    Args:
        python: The Python 2.7 to run it with.
        site: Where it is installed.
        work: A folder for its specification, its reports and its log.
        cases: Names of cases, or patterns such as ``6.*``.
        port: Where it listens.
    """
    reports = work / "reports"
    # Those of an earlier run say nothing about this one.
    shutil.rmtree(reports, ignore_errors=True)
    specification = {
        "url": f"ws://127.0.0.1:{port}",
        "outdir": str(reports),
        "cases": cases,
        "exclude-cases": [],
        "exclude-agent-cases": {},
    }
    (work / "specification.json").write_text(json.dumps(specification))
    command = [python, "-u", "-c", _RUN, str(site), "--mode", "fuzzingserver", "--webport", "0"]
    with (work / "server.log").open("w") as log:
        server = subprocess.Popen(
            [*command, "--spec", "specification.json"],
            cwd=work,
            env=_environment(),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
        try:
            yield reports
        finally:
            server.kill()
            server.wait()
