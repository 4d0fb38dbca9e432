"""
The pure ring: tests that need no socket and no process, so that many Pythons can be asked in little time.

    python -m pytest -p tests.ring

As a plugin of pytest it takes these tests alone, and refuses them what they are said not to need.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any


__all__ = ["ALONE", "FILES", "Impure", "pytest_collection_modifyitems", "pytest_ignore_collect"]

TESTS = Path(__file__).resolve().parent
FILES = frozenset(
    TESTS / folder / f"test_{name}.py"
    for folder, names in {
        ".": "errors exports layout recordings secret terminal timeouts",
        "responses/vocabulary": "apierrors capabilities entries events items",
        "responses/sending": "request",
        "responses/routing": "lanes lanes_machine reading turn",
        "responses/stream": "chunks drafts readers snapshot",
        "responses/connections": "credentials",
        "secrecy": "arguments search",
        "testing": "rules",
        "wire": (
            "backoff callbacks connection dialling differences endpoint framing inbox inbox_machine jsoncodec link"
            " link_machine liveness monitor outbox parts recording scrub"
        ),
    }.items()
    for name in names.split()
)
# Tests of these files that do need a server or a process.
ALONE = frozenset(
    {
        "test_no_repr_of_a_session_or_of_what_it_gives_shows_a_key",
        "test_the_top_level_holds_nothing_but_what_the_design_names",
    }
)
# What the interpreter says when it makes a socket or a process.
FORBIDDEN = frozenset(
    {"os.exec", "os.fork", "os.posix_spawn", "socket.__new__", "subprocess.Popen"}
)


class Impure(AssertionError):
    """A test of the ring wanted a socket or a process."""


def pytest_ignore_collect(collection_path: Path) -> bool | None:
    """Leave all other files out."""
    is_other = collection_path.name.startswith("test_") and collection_path not in FILES
    return True if is_other else None


def pytest_collection_modifyitems(config: Any, items: list[Any]) -> None:
    """Leave out single tests, and forbid sockets and processes to the rest from now on."""
    left = [item for item in items if item.name.split("[")[0] in ALONE]
    items[:] = [item for item in items if item not in left]
    config.hook.pytest_deselected(items=left)
    forbid()


def forbid() -> None:
    """Refuse sockets and processes to this process until its end; what is imported is not asked."""
    sys.addaudithook(_refuse)


def _refuse(event: str, arguments: tuple[object, ...]) -> None:
    if event in FORBIDDEN:
        raise Impure(
            f"{event} {arguments}: this test is not pure, so tests/ring.py must not name it"
        )
