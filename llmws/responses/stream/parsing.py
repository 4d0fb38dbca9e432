"""An answer's text made into a value of a type, as structured output promises that it can be."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...errors import ConfigurationError
from ...wire import jsoncodec
from ..vocabulary.schema import schema_of, without_nulls


__all__ = ["parse_text", "validated"]


def parse_text(text: str, kind: Any) -> Any:
    """
    Read a JSON text as a value of a type.

    Args:
        text: The whole text.
        kind: Any type that msgspec knows, which needs the extra ``fast``; ``dict``, ``list`` or None, for any JSON
            value, do not.

    Raises:
        ConfigurationError: msgspec is not installed, or does not know the type.
        ValueError: The text is no such JSON; the message says where.
    """
    value = jsoncodec.decode(text.encode())
    if kind is None or kind is Any:
        return value
    if kind is dict or kind is list:
        if not isinstance(value, kind):
            raise ValueError(f"it is a JSON {type(value).__name__}, not a {kind.__name__}")
        return value
    return validated(value, kind)


def validated(value: Any, kind: Any, schema: Mapping[str, Any] | None = None) -> Any:
    """
    Make a JSON value into one of a type.

    Types are not mixed up: ``"3"`` is no integer; but a date, a UUID or a ``Decimal`` is read from its string, and an
    integer will do for a float. A null that stands for a field left out, as a strict schema asks for, gives the
    field's default.

    Args:
        value: What the codec decoded; it is not changed.
        kind: Any type that msgspec knows.
        schema: The type's own, not made strict, if the caller has it.

    Raises:
        ConfigurationError: msgspec is not installed, or does not know the type.
        ValueError: The value does not fit the type; the message says where.
    """
    try:
        import msgspec
    except ImportError:
        raise ConfigurationError(
            f"Making {kind!r} of JSON needs msgspec: install llmws[fast], or take a dict and read the rest by hand."
        ) from None
    try:
        return _converted(msgspec, value, kind, schema)
    except msgspec.ValidationError as exc:
        raise ValueError(str(exc)) from exc
    except TypeError as exc:
        raise ConfigurationError(f"JSON cannot be made into {kind!r}: {exc}") from exc
    except Exception as exc:  # The type's own code may raise anything; it has not taken the value.
        raise ValueError(f"{type(exc).__name__}: {exc}") from exc


def _converted(msgspec: Any, value: Any, kind: Any, schema: Mapping[str, Any] | None) -> Any:
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError as exc:
        try:
            known = schema_of(kind, repr(kind)) if schema is None else schema
        except ConfigurationError:
            # A type without a schema was never asked for, so no null stands for anything.
            raise exc from None
    return msgspec.convert(without_nulls(value, known), kind)
