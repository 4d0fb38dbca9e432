"""
What many turns cost, in full: ``python -m tests.scale [--quick] [NAME…]``.

Each line has its figures and says whether it held; the command fails if one did not. Every server is a process of its
own, so that what is measured is the client.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
import time

from tests.scale.items import ITEMS


_FROM_ENVIRONMENT = ("http_proxy", "https_proxy", "all_proxy", "no_proxy")


def main() -> int:
    """Run the items asked for; return how many lines did not hold."""
    parser = argparse.ArgumentParser("python -m tests.scale", description=__doc__)
    parser.add_argument("items", nargs="*", metavar="NAME", help=f"of {', '.join(ITEMS)}")
    parser.add_argument("--quick", action="store_true", help="fewer turns and shorter lives")
    asked = parser.parse_args()
    if unknown := set(asked.items) - set(ITEMS):
        parser.error(f"there is no {', '.join(sorted(unknown))}: choose of {', '.join(ITEMS)}")
    for name in list(os.environ):
        if name.startswith("OPENAI_") or name.lower() in _FROM_ENVIRONMENT:
            del os.environ[name]
    logging.getLogger("llmws").addHandler(logging.NullHandler())
    failed = 0
    for name in asked.items or ITEMS:
        begun = time.monotonic()
        for line, held, told in ITEMS[name](asked.quick):
            failed += not held
            say(f"{'ok    ' if held else 'FAILED'}  {line}: {told}")
        say(f"        {name} took {time.monotonic() - begun:.1f} s")
    return failed


def say(line: str) -> None:
    """Write a line at once."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(bool(main()))
