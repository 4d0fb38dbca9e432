"""From what users give as a request's fields to what the wire has: tools with their functions, classes as formats."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


__all__ = ["wire_fields"]


def wire_fields(given: Mapping[str, Any]) -> dict[str, Any]:
    """
    Return fields as the wire has them: ``tools`` as their descriptions, ``text_format`` as a part of ``text``.

    Raises:
        ConfigurationError: A tool or a format cannot be described.
    """
    fields = dict(given)
    if fields.get("tools") is not None:
        # Imported here: a program that uses neither should not pay for them.
        from .tools import Toolbox

        fields["tools"] = Toolbox.of(fields["tools"]).wire()
    kind = fields.pop("text_format", None)
    if kind is not None:
        from .schema import text_format_of

        fields["text"] = {**(fields.get("text") or {}), "format": text_format_of(kind)}
    return fields
