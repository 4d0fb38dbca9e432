"""
The life of sessions in a process: ``python -m tests.life [--quick] [--seed N] [NAME…]``.

Runs each campaign, or those named, prints counts and figures, and exits with 1 if anything failed.
"""

from __future__ import annotations

import argparse
import faulthandler
import logging
import os
import random
import sys

from tests.life.items import ITEMS, run


# What a campaign may take beyond its time, in seconds.
_PATIENCE = 60.0
_FROM_ENVIRONMENT = ("http_proxy", "https_proxy", "all_proxy", "no_proxy")


def main() -> int:
    """Run the campaigns and return the exit code."""
    asked = _arguments()
    for name in list(os.environ):
        if name.startswith("OPENAI_") or name.lower() in _FROM_ENVIRONMENT:
            del os.environ[name]
    logging.getLogger("llmws").addHandler(
        logging.NullHandler()
    )  # Lost links are what these are about.
    failed = [name for name in asked.names or ITEMS if not _run(name, asked.scale, asked.seed)]
    sys.stdout.write(f"failed: {', '.join(failed)}\n" if failed else "all passed\n")
    return 1 if failed else 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.life", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(ITEMS))
    parser.add_argument("--seed", type=int, default=random.randrange(10**6))
    scale = parser.add_mutually_exclusive_group()
    for option, words in (("quick", "a tenth or so"), ("suite", "as much as pytest does")):
        scale.add_argument(
            f"--{option}", dest="scale", action="store_const", const=option, help=words
        )
    parser.set_defaults(scale="full")
    asked = parser.parse_args()
    if unknown := set(asked.names) - set(ITEMS):
        parser.error(f"no such campaign: {', '.join(sorted(unknown))}")
    return asked


def _run(name: str, scale: str, seed: int) -> bool:
    if not getattr(ITEMS[name], scale):
        sys.stdout.write(f"{name}: not in a run of this size\n")
        return True
    # What hangs in the main thread ends here, and says where.
    faulthandler.dump_traceback_later(ITEMS[name].seconds + _PATIENCE, exit=True)
    tally = run(name, scale, seed)
    faulthandler.cancel_dump_traceback_later()
    for line in tally.report():
        sys.stdout.write(f"{name}: {line}\n" if line[0] != " " else f"{line}\n")
    sys.stdout.flush()
    return not tally.failures


if __name__ == "__main__":
    sys.exit(main())
