"""From a user's arguments to one ``response.create`` message; pure, and strict about what cannot be sent."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...errors import ConfigurationError
from ...wire import jsoncodec
from ..vocabulary.views import shorten


__all__ = ["SESSION_ARGUMENTS", "build_create", "check_model", "check_params", "input_of"]

SESSION_ARGUMENTS = frozenset(
    {
        "allow_insecure",
        "api_key",
        "base_url",
        "callback_threads",
        "capabilities",
        "headers",
        "lanes",
        "max_connections",
        "organization",
        "project",
        "retry_uncertain",
        "sequence_check",
        "ssl_context",
        "warm_window",
    }
)

# Fields that have no place in a user's params, and what to do instead.
_RESERVED = {
    "type": "llmws writes it",
    "stream": "a WebSocket always streams; leave it out",
    "background": "WebSocket mode has no background responses; use HTTP for them",
    "background_options": "WebSocket mode has no background responses; use HTTP for them",
    "stream_id": "llmws chooses the lane",
    "generate": "use warm_up() to prepare the server without generating",
    "approve_mcp": "give it to a conversation's run()",
    "max_turns": "give it to a conversation's run()",
    "tool_timeout": "give it to a conversation's run()",
}


def check_params(params: dict[str, Any], where: str) -> None:
    """
    Refuse fields that are not a user's to set.

    Args:
        params: Fields of the request; emptied if there is one to refuse, because a traceback may show variables and a
            misplaced argument may be a key.
        where: Whose they are, for the message.

    Raises:
        ConfigurationError: A field is reserved, or is an argument of ``Session``.
    """
    name = next((name for name in params if name in SESSION_ARGUMENTS or name in _RESERVED), None)
    if name is None:
        return
    params.clear()
    if name in SESSION_ARGUMENTS:
        raise ConfigurationError(
            f"{where} cannot take {name!r}: it belongs to the session. Pass it to Session(…) or configure(…)."
        )
    raise ConfigurationError(f"{where} cannot take {name!r}: {_RESERVED[name]}.")


def check_model(given: Any, where: str) -> None:
    """
    Refuse what names no model.

    Args:
        given: What was given as the model.
        where: Where else one may be given, beside the call and the session.

    Raises:
        ConfigurationError: It is no name; the message says what it is instead.
    """
    if given is not None and not isinstance(given, str):
        raise ConfigurationError(
            f"model is {shorten(given)}: give the name of a model, as a string."
        )
    if not given:
        raise ConfigurationError(
            f'No model: pass model="…" to the call, to Session(…) or to {where}.'
        )


def build_create(
    fields: Mapping[str, Any], given_input: Any, *, warm_up: bool, max_frame_bytes: int
) -> bytes:
    """
    Build the message.

    Args:
        fields: The request's fields besides ``input``, already checked.
        given_input: A string, one item, a list of items, or None for no ``input``.
        warm_up: Whether the server shall only prepare.
        max_frame_bytes: The longest message that the provider takes.

    Raises:
        ConfigurationError: There is no model, the input has no usable form, a value is no JSON, or the message is too
            long.
    """
    check_model(fields.get("model"), "configure(…)")
    message: dict[str, Any] = {"type": "response.create", **fields}
    if given_input is not None:
        message["input"] = input_of(given_input)
    if warm_up:
        message["generate"] = False
    try:
        payload = jsoncodec.encode(message)
    except jsoncodec.JSONError as exc:
        raise ConfigurationError(f"The request cannot be sent as JSON: {exc}.") from None
    if len(payload) > max_frame_bytes:
        raise ConfigurationError(
            f"The request takes {len(payload):,} bytes, and the provider accepts messages of up to "
            f"{max_frame_bytes:,}: shorten the input, refer to files by id or URL, or send it over HTTP."
        )
    return payload


def input_of(given: Any) -> Any:
    """
    Return an input as the wire has it.

    Raises:
        ConfigurationError: It is neither a string, nor an item, nor a list of items.
    """
    if isinstance(given, str):
        return given
    if isinstance(given, Mapping):
        return [dict(given)]
    if isinstance(given, (list, tuple)):
        for index, item in enumerate(given):
            if not isinstance(item, Mapping):
                raise ConfigurationError(
                    f"input[{index}] is of type {type(item).__name__}: an item is a dict, such as "
                    '{"role": "user", "content": "…"}.'
                )
        return [dict(item) for item in given]
    raise ConfigurationError(
        f"input is of type {type(given).__name__}: give a string, one item (a dict) or a list of items."
    )
