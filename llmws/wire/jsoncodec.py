"""
JSON in and out: msgspec where it is installed, the standard library elsewhere, with the same results.

The standard library's path is the definition. msgspec only answers first for what it accepts; whatever it refuses is
read again by the definition, which decides. So both give the same values, and the same errors by construction.
"""

from __future__ import annotations

import json
import math
import re
from typing import Any, NoReturn


try:
    from msgspec.json import Decoder as _Decoder
except ImportError:  # The extra "fast" is not installed.
    _fast = None
else:
    _fast = _Decoder().decode

__all__ = ["JSONError", "decode", "encode"]

# A lone half of a surrogate pair, as an escape: legal to write, impossible to encode again. Servers that cut text by
# UTF-16 units send them. The first alternative eats whole pairs, the last any other escape.
_SURROGATE = re.compile(
    r"\\(?:u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|(u[dD][89a-fA-F][0-9a-fA-F]{2})|.)",
    re.DOTALL,
)


class JSONError(ValueError):
    """A text is no JSON, or a value cannot be written as JSON."""


def decode(data: bytes | bytearray | memoryview) -> Any:
    """
    Read one JSON value from UTF-8 bytes.

    Lone surrogates become U+FFFD. Safe to call from any thread.

    Raises:
        JSONError: The bytes are no UTF-8 or no JSON, hold NaN, Infinity or a number beyond a float, or nest too deep.
    """
    if _fast is not None:
        try:
            return _fast(data)
        except (ValueError, RecursionError):
            pass  # The definition below decides, and words the error.
    return _decode_by_definition(data)


def encode(value: Any) -> bytes:
    """
    Write a JSON value as compact UTF-8 bytes.

    Raises:
        JSONError: The value holds something that JSON has no form for; the message names the place.
    """
    try:
        text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        return text.encode()
    except (TypeError, ValueError, RecursionError) as exc:
        raise JSONError(
            _fault(value) or f"cannot be written as JSON: {type(exc).__name__}"
        ) from None


def _decode_by_definition(data: bytes | bytearray | memoryview) -> Any:
    try:
        text = str(data, "utf-8")
        if "\\ud" in text or "\\uD" in text:
            text = _SURROGATE.sub(_replace_lone_half, text)
        return _DEFINITION.decode(text)
    except RecursionError:
        raise JSONError("nests too deep to be read") from None
    except UnicodeDecodeError as exc:
        raise JSONError(f"is no UTF-8 at byte {exc.start}") from None
    except ValueError as exc:
        raise JSONError(f"is no JSON: {exc}") from None


def _replace_lone_half(match: re.Match[str]) -> str:
    return "\\ufffd" if match[1] else match[0]


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON number")


def _finite(digits: str) -> float:
    number = float(digits)
    if math.isinf(number):
        raise ValueError(f"the number {digits[:20]} is out of range")
    return number


_DEFINITION = json.JSONDecoder(parse_constant=_refuse_constant, parse_float=_finite)


def _fault(value: Any, path: str = "$", depth: int = 0) -> str | None:
    """Find the first part of a value that JSON has no form for."""
    if depth > 200:
        return f"{path} nests too deep, or contains itself"
    if isinstance(value, dict):
        for key, item in value.items():
            if not isinstance(key, (str, int, float, bool, type(None))):
                return f"{path} has a key of type {type(key).__name__}; JSON keys are strings"
            found = _fault(key, f"a key of {path}", depth + 1) or _fault(
                item, f"{path}.{key}", depth + 1
            )
            if found:
                return found
        return None
    if isinstance(value, (list, tuple)):
        found_in = (_fault(item, f"{path}[{i}]", depth + 1) for i, item in enumerate(value))
        return next(filter(None, found_in), None)
    return _scalar_fault(value, path)


def _scalar_fault(value: Any, path: str) -> str | None:
    if isinstance(value, float) and not math.isfinite(value):
        return f"{path} is {value}, which JSON has no form for"
    if isinstance(value, str):
        try:
            value.encode()
        except UnicodeEncodeError:
            return f"{path} holds half of a surrogate pair, which UTF-8 has no form for"
        return None
    if isinstance(value, (int, float, type(None))):
        return None
    return f"{path} is of type {type(value).__name__}, which JSON has no form for"
