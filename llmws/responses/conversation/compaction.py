"""What is asked of ``POST /responses/compact``, and what its answer makes of a transcript; pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ...errors import ConfigurationError, RemoteProtocolError
from ...wire import jsoncodec
from ..sending.settings import Settings
from ..tools.pending import Item, item_of
from ..vocabulary.items import objects


__all__ = ["COMPACT_PATH", "compacted_items", "compaction_request"]

COMPACT_PATH = "/responses/compact"
# Of a conversation's settings, those that this request has too.
_FIELDS = ("model", "instructions")


def compaction_request(settings: Settings, items: Sequence[bytes]) -> dict[str, Any]:
    """
    Return the body of the request.

    Args:
        settings: The conversation's.
        items: The transcript.

    Raises:
        ConfigurationError: There is no model, or nothing to compact.
    """
    settings.check_model()
    if not items:
        raise ConfigurationError("The conversation is empty: there is nothing to compact.")
    fields = settings.decoded()
    kept = {name: fields[name] for name in _FIELDS if fields.get(name) is not None}
    return {**kept, "input": [jsoncodec.decode(item) for item in items]}


def compacted_items(answer: Mapping[str, Any]) -> list[Item]:
    """
    Return the transcript that the answer gives, each item unchanged.

    Raises:
        RemoteProtocolError: The answer has no output, which would leave the conversation without its past.
    """
    output = objects(answer.get("output"))
    if not output:
        raise RemoteProtocolError(
            "The server's answer to a compaction has no output; the conversation stays as it was.",
            raw=jsoncodec.encode(dict(answer))[:512],
            state="output",
            may_have_been_billed=True,
        )
    return [item_of(jsoncodec.encode(item)) for item in output]
