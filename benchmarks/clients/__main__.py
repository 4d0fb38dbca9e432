"""
One measured run: ``python -m benchmarks.clients`` with its description in JSON; prints the figures as a line of JSON.

The description names the ``client``, the ``task``, the server's ``base_url`` and ``authority_file``, and the task's
settings. After ``seconds`` the run is given up, and says where each thread was.
"""

from __future__ import annotations

import faulthandler
import json
import sys

from . import CLIENTS, Address, make
from .tasks import TASKS


def main(description: str) -> None:
    """Run a task, and print its figures."""
    told = json.loads(description)
    faulthandler.dump_traceback_later(told["seconds"], exit=True)
    for package in CLIENTS[told["client"]].without:
        sys.modules[package] = None  # type: ignore[assignment] # Whoever imports it gets an ImportError.
    client = make(told["client"], Address(told["base_url"], told["authority_file"]))
    figures = TASKS[told["task"]](client, told)
    figures["msgspec"] = (
        sys.modules.get("msgspec") is not None
    )  # So that samples say what decoded them.
    sys.stdout.write(json.dumps(figures) + "\n")


if __name__ == "__main__":
    main(sys.argv[1])
