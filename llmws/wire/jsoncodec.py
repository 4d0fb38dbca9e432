"""
JSON in and out: msgspec where it is installed, the standard library elsewhere, with the same results.

The standard library's path is the definition. msgspec only answers first for what it accepts; whatever it refuses is
read again by the definition, which decides. So both give the same values, and the same errors by construction.
"""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NoReturn


try:
    import msgspec
    from msgspec.json import Decoder as _Decoder
    from msgspec.json import Encoder as _Encoder
except ImportError:  # The extra "fast" is not installed.
    _fast = _fast_text = None
else:
    _fast = _Decoder().decode
    _fast_text = _Encoder().encode  # Of a str: both escape the same characters in the same way.

__all__ = ["JSONError", "decode", "decode_all", "encode", "shape"]

# A lone half of a surrogate pair, as an escape: legal to write, impossible to encode again. Servers that cut text by
# UTF-16 units send them. The first alternative eats whole pairs, the last any other escape.
_SURROGATE = re.compile(
    r"\\(?:u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|(u[dD][89a-fA-F][0-9a-fA-F]{2})|.)",
    re.DOTALL,
)


# How JSON writes what is often in a text, the backslash first; and what is hardly ever in one.
_ESCAPES = ((b"\\", b"\\\\"), (b'"', b'\\"'), (b"\n", b"\\n"), (b"\r", b"\\r"), (b"\t", b"\\t"))
_RARE = bytes({*range(0x20)} - {*b"\n\r\t"})
# A text of so many characters is worth a detour.
_LONG_CHARACTERS = 16 * 1024
_SLICE_CHARACTERS = 64 * 1024
# Stands between texts that are read in one go, and for texts that are written apart; no peer can know it.
_FENCE = os.urandom(8).hex()
_FENCED = f',"{_FENCE}",'.encode()


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


def decode_all(texts: Sequence[bytes | bytearray]) -> list[Any]:
    """
    Read many JSON values, with the same results as ``decode`` of each and at less cost.

    Raises:
        JSONError: Of the first that ``decode`` refuses.
    """
    try:
        return [*map(_fast, texts)] if _fast is not None else _decode_joined(texts)
    except (ValueError, RecursionError):
        return [decode(text) for text in texts]


def shape(
    name: str, required: Mapping[str, Any], optional: Mapping[str, Any]
) -> Callable[[bytes | bytearray], Any] | None:
    """
    Return a reader of objects that have these fields and no others, which builds no dict; None without msgspec.

    What it reads, ``decode`` reads too. What it refuses, by a ``ValueError``, may be good JSON.

    Args:
        name: What to call the objects.
        required: The type of each field that must be there.
        optional: The type of each field that may be missing or null, and reads as None then.
    """
    if _fast is None:
        return None
    kind = msgspec.defstruct(
        name,
        [*required.items(), *((field, type_ | None, None) for field, type_ in optional.items())],
        forbid_unknown_fields=True,
        gc=False,
    )
    return _Decoder(kind).decode


def encode(value: Any) -> bytes:
    """
    Write a JSON value as compact UTF-8 bytes.

    Raises:
        JSONError: The value holds something that JSON has no form for; the message names the place.
    """
    try:
        if type(value) is dict:
            lifted = [*map(_is_long, value.values())]
            if any(lifted):
                return _encode_lifting(value, lifted)
        return _encode_by_definition(value)
    except (TypeError, ValueError, RecursionError) as exc:
        raise JSONError(
            _fault(value) or f"cannot be written as JSON: {type(exc).__name__}"
        ) from None


def _encode_by_definition(value: Any) -> bytes:
    return _WRITER.encode(value).encode()


def _is_long(value: Any) -> bool:
    return type(value) is str and len(value) >= _LONG_CHARACTERS


def _encode_lifting(value: dict[Any, Any], lifted: list[bool]) -> bytes:
    """Write an object, and those of its texts apart that are long, such as a document."""
    write = _fast_text or _write_text
    fields = zip(value.items(), lifted, strict=True)
    short = {name: _FENCE if long else field for (name, field), long in fields}
    pieces = _encode_by_definition(short).split(b'"%b"' % _FENCE.encode())
    texts = [write(field) for field, long in zip(value.values(), lifted, strict=True) if long]
    if len(pieces) != len(texts) + 1:  # Something in the object looks like the fence.
        return _encode_by_definition(value)
    texts.append(b"")
    return b"".join([part for pair in zip(pieces, texts, strict=True) for part in pair])


def _write_text(text: str) -> bytes | bytearray:
    """Write a long text as the definition does, which looks at one character at a time."""
    written = bytearray(b'"')
    # Slice by slice, in memory that stays warm: of ten megabytes, the operating system's new pages cost the most.
    for start in range(0, len(text), _SLICE_CHARACTERS):
        data = text[start : start + _SLICE_CHARACTERS].encode()
        if len(data.translate(None, _RARE)) != len(data):
            return _encode_by_definition(text)
        for plain, escaped in _ESCAPES:
            data = data.replace(plain, escaped)
        written += data
    written += b'"'
    return written


def _decode_by_definition(data: bytes | bytearray | memoryview) -> Any:
    try:
        text = str(data, "utf-8")
        # A text without backslashes, however long, is looked through once.
        if "\\" in text and ("\\ud" in text or "\\uD" in text):
            text = _SURROGATE.sub(_replace_lone_half, text)
        return _DEFINITION.decode(text)
    except RecursionError:
        raise JSONError("nests too deep to be read") from None
    except UnicodeDecodeError as exc:
        raise JSONError(f"is no UTF-8 at byte {exc.start}") from None
    except ValueError as exc:
        raise JSONError(f"is no JSON: {exc}") from None


def _decode_joined(texts: Sequence[bytes | bytearray]) -> list[Any]:
    """
    Read many values as one array, which takes half the time; a ``ValueError`` says nothing of any one of them.

    The texts stand in the array with a fence between each two. What comes back is right if every second value is a
    fence: then each fence stood outside of every value, so that each text was whole values alone, and there are as many
    values as texts. Texts that are only valid together, such as ``[1`` and ``2]``, swallow a fence and cannot make
    another, for they do not know it.
    """
    if len(texts) == 1:
        return [_decode_by_definition(texts[0])]
    values = _decode_by_definition(b"[%b]" % _FENCED.join(texts))
    if values[1::2] != [_FENCE] * (len(texts) - 1) or len(values) != 2 * len(texts) - 1:
        raise ValueError("some text is not one JSON value")
    return values[::2]  # type: ignore[no-any-return]  # An array is read as a list.


def _replace_lone_half(match: re.Match[str]) -> str:
    return "\\ufffd" if match[1] else match[0]


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON number")


def _finite(digits: str) -> float:
    number = float(digits)
    if math.isinf(number):
        raise ValueError(f"the number {digits[:20]} is out of range")
    return number


_WRITER = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"))
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
