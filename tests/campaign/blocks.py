"""The blocks of the campaign, by name."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import attrs

from tests.campaign import consuming, crowd, peers, positions, randoms, refusals
from tests.campaign.arena import Trial
from tests.campaign.book import Book


__all__ = ["BLOCKS", "Block", "run"]


@attrs.frozen
class Block:
    """
    One block.

    Attributes:
        about: What is done.
        trials: Yields its trials, given seed and scale.
        play: Plays some of them.
        judged: Whether its breaches are ours.
    """

    about: str
    trials: Callable[[int, str], Iterator[Trial]]
    play: Callable[[Book, list[Trial]], None]
    judged: bool = True


BLOCKS = {
    "P1": Block("40 places × 4 harms × ws, wss", positions.trials, positions.play_all),
    "P2": Block("random faults, two users of a session", randoms.trials, randoms.play_all),
    "P3": Block("12 refusals × 3 places × 2 forms", refusals.trials, refusals.play_all),
    "P4": Block("6 ways to leave a turn", consuming.trials, consuming.play_all),
    "P6": Block("16 threads, switch interval 1e-6", crowd.trials, crowd.play_all),
    "openai": Block("P1 on openai-python", peers.trials, peers.play_all, judged=False),
}


def run(name: str, seed: int, scale: str, only: str | None = None) -> Book | None:
    """Run a block; return what it found, or None if it has no trial in a run of this size."""
    block = BLOCKS[name]
    chosen = [
        trial
        for trial in block.trials(seed, scale)
        if only is None or f"{trial.id}/".startswith(f"{only}/")
    ]
    if not chosen:
        return None
    book = Book(name)
    block.play(book, chosen)
    book.close()
    return book
