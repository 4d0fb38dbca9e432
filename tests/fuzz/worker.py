"""
One target under atheris, in a process of its own: libFuzzer ends the process that it runs in.

    python -m tests.fuzz.worker TARGET FOLDER SECONDS SEED
"""

from __future__ import annotations

import logging
import sys
from pathlib import Path

import atheris


with atheris.instrument_imports(include=["llmws"]):
    from tests.fuzz.targets import TARGETS
from tests.fuzz import seeds


__all__ = ["main"]

# No input may take longer than this, in seconds, whatever it says.
SLOWEST_INPUT = 20
MOST_MIB = 2048


def main(name: str, folder: str, seconds: str, seed: str) -> None:
    """Fuzz a target; never returns. Findings are files in the folder whose names begin with ``find-``."""
    target, home = TARGETS[name], Path(folder)
    logging.disable(logging.CRITICAL)  # What a hostile server makes llmws say is not of interest.
    corpus = home / "corpus"
    corpus.mkdir(parents=True, exist_ok=True)
    for number, data in enumerate(target.seeds()):
        (corpus / f"seed-{number:02}").write_bytes(data)
    words = home / "words"
    words.write_text("".join(f'"{escaped(word)}"\n' for word in seeds.words()), "ascii")
    options = {
        "max_total_time": seconds,
        "seed": seed,
        "max_len": target.most_bytes,
        "timeout": SLOWEST_INPUT,
        "rss_limit_mb": MOST_MIB,
        "dict": words,
        "artifact_prefix": f"{home}/find-",
        "print_final_stats": 1,
        "verbosity": 1,
    }
    flags = [f"-{option}={value}" for option, value in options.items()]
    atheris.Setup([sys.argv[0], *flags, str(corpus)], target.check)
    atheris.Fuzz()


def escaped(word: bytes) -> str:
    return "".join(f"\\x{byte:02x}" for byte in word)


if __name__ == "__main__":
    main(*sys.argv[1:])
