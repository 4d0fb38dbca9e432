"""
The fault campaign: ``python -m tests.campaign [--quick] [--seed N] [--block P1 …] [--only ID] [--report PATH]``.

Harms thousands of turns, each known by a nonce that its text is a function of, and counts every promise of the library
that does not hold. A trial is replayed by ``--seed`` and ``--only`` as told. ``--mutations`` breaks copies of the
library on purpose instead, and sees that the campaign notices. The exit code is 1 if a promise was broken, or if more
than one break was not noticed.
"""

from __future__ import annotations

import argparse
import faulthandler
import os
import random
import sys
from pathlib import Path

from tests.campaign.blocks import BLOCKS, run
from tests.campaign.book import Book
from tests.campaign.report import as_lines, write


_FROM_ENVIRONMENT = ("http_proxy", "https_proxy", "all_proxy", "no_proxy")
# What a block may take; only a hang of the campaign itself takes longer.
_MOST_SECONDS = 1500


def main() -> int:
    """Run the blocks and return the exit code."""
    asked = _arguments()
    for name in list(os.environ):
        if name.startswith("OPENAI_") or name.lower() in _FROM_ENVIRONMENT:
            del os.environ[name]
    if asked.mutations is not None:
        from tests.campaign.mutations import make_all

        return make_all(asked.mutations, asked.seed, asked.jobs)
    _say(f"seed {asked.seed}")
    books = []
    for name in asked.block or BLOCKS:
        faulthandler.dump_traceback_later(_MOST_SECONDS, exit=True)
        book = run(name, asked.seed, asked.scale, asked.only)
        faulthandler.cancel_dump_traceback_later()
        if book is None:
            continue
        books.append(book)
        for line in as_lines(book):
            _say(line)
        if book.stuck:
            break
    if asked.report is not None:
        write(Path(asked.report), asked.seed, asked.scale, books)
    return _verdict(books)


def _verdict(books: list[Book]) -> int:
    judged = [book for book in books if BLOCKS[book.name].judged]
    sound = bool(judged) and all(book.sound for book in judged)
    faults = sum(book.figures["faults"] for book in judged)
    turns = sum(book.figures["turns"] for book in judged)
    breaches = sum(book.breaches.total() for book in judged)
    _say(f"{faults:,} faults, {turns:,} concurrent turns, {breaches:,} promises broken")
    if any(book.stuck for book in books):
        # Its threads would be waited for.
        sys.stdout.flush()
        os._exit(1)
    return 0 if sound else 1


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def _arguments() -> argparse.Namespace:
    words = (__doc__ or "").strip().splitlines()[0]
    parser = argparse.ArgumentParser("python -m tests.campaign", description=words)
    parser.add_argument("--seed", type=int, default=random.randrange(10**6))
    parser.add_argument("--block", nargs="+", choices=list(BLOCKS), metavar="BLOCK")
    parser.add_argument("--only", metavar="ID", help="trials whose id begins so")
    parser.add_argument("--report", metavar="PATH", help="writes PATH.json and PATH.md")
    parser.add_argument("--mutations", nargs="*", metavar="NAME", help="break the library instead")
    parser.add_argument("--jobs", type=int, default=2, help="breaks at the same time")
    scale = parser.add_mutually_exclusive_group()
    for option, meaning in (("quick", "about 500 faults"), ("suite", "as much as pytest does")):
        scale.add_argument(
            f"--{option}", dest="scale", action="store_const", const=option, help=meaning
        )
    parser.set_defaults(scale="full")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
