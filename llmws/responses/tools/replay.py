"""From JSON objects to items of a transcript: what a user gives, and what a server takes back of its own output."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ...errors import ConfigurationError
from ...wire import jsoncodec
from .pending import Item


__all__ = ["input_items", "output_items_to_keep"]


def input_items(given: Any, where: str = "input") -> list[Item]:
    """
    Read a turn's input.

    Args:
        given: A string, one item, a list of items, or None for none.
        where: What to call it in an error.

    Raises:
        ConfigurationError: It has no usable form, or a value is no JSON.
    """
    if given is None:
        return []
    if isinstance(given, str):
        # Only as an item can it stand behind others; so it is one from the first turn on.
        given = [{"type": "message", "role": "user", "content": given}]
    elif isinstance(given, Mapping):
        given = [given]
    if not isinstance(given, (list, tuple)):
        raise ConfigurationError(
            f"{where} is of type {type(given).__name__}: give a string, one item (a dict) or a list of items."
        )
    return [_item(each, f"{where}[{index}]") for index, each in enumerate(given)]


def output_items_to_keep(output: Iterable[Mapping[str, Any]], *, stored: bool) -> list[Item]:
    """
    Return a response's output as input of later turns: as the wire has it, less what the API would refuse.

    It would refuse who made an item, which is told but not asked for, and reasoning that neither is kept by the server
    nor comes with its content, encrypted or plain (inferred: it looks for what it does not have).

    Args:
        output: The items of the response's output.
        stored: Whether the server keeps the response.
    """
    return [
        _item(_less_maker(raw), "output")
        for raw in output
        if stored or raw.get("type") != "reasoning" or _has_content(raw)
    ]


def _item(raw: Any, where: str) -> Item:
    if not isinstance(raw, Mapping):
        raise ConfigurationError(
            f'{where} is of type {type(raw).__name__}: an item is a dict, such as {{"role": "user", "content": "…"}}.'
        )
    raw = dict(raw)
    try:
        return Item(raw, jsoncodec.encode(raw))
    except jsoncodec.JSONError as exc:
        raise ConfigurationError(f"{where} cannot be sent as JSON: {exc}.") from None


def _has_content(raw: Mapping[str, Any]) -> bool:
    return bool(raw.get("encrypted_content") or raw.get("content"))


def _less_maker(raw: Mapping[str, Any]) -> Mapping[str, Any]:
    """Leave out ``created_by``, of the item and of the parts of a shell's output."""
    parts = raw.get("output")
    if isinstance(parts, list) and any(_is_made(part) for part in parts):
        raw = {**raw, "output": [_less_maker(part) if _is_made(part) else part for part in parts]}
    if not _is_made(raw):
        return raw
    return {name: value for name, value in raw.items() if name != "created_by"}


def _is_made(value: object) -> bool:
    return isinstance(value, Mapping) and "created_by" in value
