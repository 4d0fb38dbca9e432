"""From what users give as a request's fields to what the wire has: tools with their functions, classes as formats."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


__all__ = ["wire_fields"]


def wire_fields(given: Mapping[str, Any]) -> dict[str, Any]:
    """
    Return fields as the wire has them: ``tools`` as their descriptions, ``text_format`` as a part of ``text``.

    A ``text_format`` of None asks for plain text, whatever the session asks for.

    Raises:
        ConfigurationError: A tool or a format cannot be described.
    """
    fields = dict(given)
    if fields.get("tools") is not None:
        # Imported here: a program that uses neither should not pay for them.
        from .tools import Toolbox

        fields["tools"] = Toolbox.of(fields["tools"]).wire()
    if "text_format" not in fields:
        return fields
    kind, text = fields.pop("text_format"), fields.get("text") or {}
    if kind is None:
        # As the wire says "no format": a session's own would count if nothing was said.
        fields["text"] = {"format": {"type": "text"}, **text}
    else:
        from ..vocabulary.schema import text_format_of

        fields["text"] = {**text, "format": text_format_of(kind)}
    return fields
