"""Open, take a turn, close: what a process holds stays flat."""

from __future__ import annotations

import llmws
from tests.life.census import baseline, descriptors, expect, rss_bytes, threads
from tests.life.server import ServerProcess
from tests.life.speech import said
from tests.life.tally import Tally


__all__ = ["plain", "secure"]

# The collections of a whole census cost more than a cycle, so one stands for several.
_CENSUS_EVERY = 50


def plain(tally: Tally, count: int) -> None:
    """Cycle over plain TCP."""
    _cycle(tally, count, secure=False)


def secure(tally: Tally, count: int) -> None:
    """Cycle over TLS."""
    _cycle(tally, count, secure=True)


def _cycle(tally: Tally, count: int, *, secure: bool) -> None:
    with ServerProcess(secure=secure) as server:
        arguments = server.arguments()
        _one(arguments, "warm")  # Imports and caches are not leaks.
        before, memory = baseline(), rss_bytes()
        for index in tally.rounds(count):
            with tally.trying("cycle"):
                _one(arguments, f"cycle {index}")
                # Closing has waited for the I/O thread, and it for its descriptors.
                assert [name for name in threads() if "-callbacks-" not in name] == []
                assert descriptors() == list(before.descriptors)
            if index % _CENSUS_EVERY == _CENSUS_EVERY - 1 or index == count - 1:
                with tally.trying("census"):
                    expect(before)
        grown = (rss_bytes() - memory) / count / 1024
        tally.note(f"memory grew by {grown:.1f} KiB a cycle, to {rss_bytes() / 2**20:.0f} MiB")


def _one(arguments: dict[str, object], question: str) -> None:
    told: list[llmws.Response] = []
    with llmws.Session(**arguments) as session:
        stream = session.stream(question)
        assert "".join(stream.texts()) == said(question)
        stream.on("done", told.append).wait()
    assert [response.text for response in told] == [said(question)]
