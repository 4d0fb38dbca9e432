"""Compaction: one opaque item in place of all that a chain held."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

from ..wire import jsoncodec


__all__ = ["compact_threshold", "compacted", "compaction_item", "left_by"]


def compact_threshold(body: Mapping[str, Any]) -> float | None:
    """Return above how many tokens of context a request wants to be compacted, or None for never."""
    for entry in body.get("context_management") or ():
        if isinstance(entry, dict) and entry.get("type") == "compaction":
            threshold = entry.get("compact_threshold")
            return threshold if isinstance(threshold, (int, float)) else None
    return None


def compaction_item(id: str, items: Sequence[Any]) -> dict[str, Any]:
    """Return the item that stands for these; its content is the same for the same items, and tells nothing of them."""
    digest = hashlib.sha256(jsoncodec.encode(list(items))).hexdigest()
    return {"id": id, "type": "compaction", "encrypted_content": f"gAAAA{digest}"}


def compacted(id: str, items: Sequence[Any]) -> list[Any]:
    """Return what ``POST /v1/responses/compact`` leaves: the user's messages, and then one item for everything."""
    mine = [item for item in items if isinstance(item, dict) and item.get("role") == "user"]
    messages = [_as_output(item, f"msg_{index}{id}") for index, item in enumerate(mine)]
    return [*messages, compaction_item(id, items)]


def _as_output(message: Mapping[str, Any], id: str) -> dict[str, Any]:
    """Return a user's message as the API gives it back: with an id, a status, and its content in parts."""
    content = message.get("content")
    parts = [{"type": "input_text", "text": content}] if isinstance(content, str) else content
    fields = {"id": id, "type": "message", "status": "completed", "role": "user"}
    return {**fields, **message, "content": parts}


def left_by(items: Sequence[Any]) -> list[Any] | None:
    """Return the latest compaction in an output and what follows it; None if there is none, and all stays."""
    for index in reversed(range(len(items))):
        item = items[index]
        if isinstance(item, dict) and item.get("type") == "compaction":
            return list(items[index:])
    return None
