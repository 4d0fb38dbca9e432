"""Texts that betray themselves: each piece is a function of a nonce and of its place."""

from __future__ import annotations

import hashlib
import re


__all__ = ["nonce_in", "nonce_pieces", "nonce_text"]

_NONCE = re.compile(r"\bnonce[ :=]+([A-Za-z0-9_-]+)")
# Of one, two, three and four bytes, and what JSON and server-sent events escape.
_SEASONING = (" ", "é", "水", "🙂", "\n", '"', "\\", "", "\t", " ", "ß", "  ")


def nonce_in(text: str) -> str | None:
    """Return the nonce that a text names, as in ``nonce 7f3a``, or None."""
    found = _NONCE.search(text)
    return found[1] if found else None


def nonce_pieces(nonce: str, deltas: int) -> list[str]:
    """Return the pieces of a nonce's text, no two alike, of 9 to 30 characters."""
    return [_piece(nonce, index) for index in range(deltas)]


def nonce_text(nonce: str, deltas: int) -> str:
    """Return what ``rules.nonce(deltas)`` answers to a nonce: a lost, doubled or foreign piece changes it."""
    return "".join(nonce_pieces(nonce, deltas))


def _piece(nonce: str, index: int) -> str:
    digest = hashlib.sha256(f"{nonce} {index}".encode()).digest()
    # The place is written out, so that pieces differ whatever the digest is.
    words = f"{index}.{digest.hex()[: 8 + digest[0] % 16]}"
    return words + _SEASONING[digest[1] % len(_SEASONING)]
