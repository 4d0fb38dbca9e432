"""The pure ring names what there is, takes nothing else, and refuses sockets and processes."""

import subprocess
import sys

import pytest

from tests import ring


def test_the_ring_names_files_that_exist():
    assert sorted(path for path in ring.FILES if not path.is_file()) == []


def test_the_tests_that_are_left_out_exist():
    sources = "".join(path.read_text(encoding="utf-8") for path in ring.FILES)
    assert [name for name in ring.ALONE if f"def {name}(" not in sources] == []


@pytest.mark.parametrize(
    ("name", "left_out"),
    [
        ("wire/test_framing.py", None),
        ("test_exports.py", None),
        ("wire/test_dial.py", True),
        ("endings/test_closes.py", True),
        ("conftest.py", None),
        ("wire", None),
    ],
)
def test_only_files_of_the_ring_are_collected(name, left_out):
    assert ring.pytest_ignore_collect(ring.TESTS / name) is left_out


@pytest.mark.parametrize(
    "code",
    [
        "import socket; socket.socket()",
        "import socket; socket.socketpair()",
        "import os; os.fork() or os._exit(0)",
        "import subprocess; subprocess.run(['true'])",
    ],
)
def test_the_ring_has_no_sockets_and_no_processes(code):
    program = f"from tests.ring import forbid\nforbid()\n{code}"
    command = [sys.executable, "-c", program]
    ended = subprocess.run(
        command, cwd=ring.TESTS.parent, capture_output=True, text=True, check=False
    )
    assert ended.returncode == 1
    assert "Impure: " in ended.stderr
