"""From what users give as a request's fields to what the wire has: tools with their functions, classes as formats."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...errors import ConfigurationError


__all__ = ["wire_fields"]


def wire_fields(given: Mapping[str, Any]) -> dict[str, Any]:
    """
    Return fields as the wire has them: ``tools`` as their descriptions, ``text_format`` as a part of ``text``.

    A ``text_format`` of None asks for plain text, whatever the session asks for.

    Raises:
        ConfigurationError: A tool or a format cannot be described, or ``text`` has no place for the format.
    """
    fields = dict(given)
    if fields.get("tools") is not None:
        # Imported here: a program that uses neither should not pay for them.
        from .tools import Toolbox

        fields["tools"] = Toolbox.of(fields["tools"]).wire()
    if "text_format" not in fields:
        return fields
    kind, text = fields.pop("text_format"), _text_beside(fields.get("text"))
    if kind is None:
        # As the wire says "no format": a session's own would count if nothing was said.
        fields["text"] = {"format": {"type": "text"}, **text}
    else:
        from ..vocabulary.schema import text_format_of

        fields["text"] = {**text, "format": text_format_of(kind)}
    return fields


def _text_beside(text: Any) -> Mapping[str, Any]:
    """Return the ``text`` that a format is to be a part of."""
    if text is None:
        return {}
    if not isinstance(text, Mapping):
        raise ConfigurationError(
            f'text is of type {type(text).__name__}: beside text_format give a dict, such as {{"verbosity": "low"}}, '
            "or nothing."
        )
    return text
