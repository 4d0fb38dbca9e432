"""
What is fuzzed. A target is a pure function of bytes that raises where llmws breaks a promise.

The same functions run in the suite, on hypothesis's bytes, and under a coverage-guided fuzzer, on its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import attrs

from tests.fuzz import batches, events, files, framings, heads, jsons, seeds, turns


__all__ = ["TARGETS", "Target"]


@attrs.frozen
class Target:
    """
    One function to be fuzzed.

    Attributes:
        check: Raises anything at all for a finding.
        seeds: Gives inputs to begin with.
        most_bytes: Longer inputs find nothing more, and take longer.
    """

    check: Callable[[bytes], None]
    seeds: Callable[[], Iterable[bytes]]
    most_bytes: int = 1500


TARGETS = {
    "framing": Target(framings.any_bytes, seeds.wires, 400),
    "frames": Target(framings.any_frames, seeds.decisions, 100),
    "json": Target(jsons.any_json, seeds.json_texts),
    "texts": Target(jsons.any_texts, seeds.text_files, 600),
    "events": Target(events.any_events, seeds.event_files, 3000),
    "turns": Target(turns.any_server, seeds.decisions, 800),
    "batches": Target(batches.any_batches, seeds.decisions, 800),
    "upgrade": Target(heads.any_answer, seeds.answers),
    "recording": Target(files.any_file, seeds.recording_files, 3000),
    "scrub": Target(files.any_key, seeds.decisions, 300),
}
