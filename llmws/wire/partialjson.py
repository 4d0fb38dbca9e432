"""
JSON that is still being written: the value so far of a text that is cut anywhere.

For arguments of a tool call and structured output while they stream in. The value only ever grows: what was in it for a
text is in it, unchanged, for every longer text. So a number, ``true``, ``false`` and ``null`` are there once they are
whole, a field once its value has begun, and a string from its first character on.
"""

from __future__ import annotations

import json
import re
from typing import Any, Literal

import attrs

from . import jsoncodec


__all__ = ["partial_json"]

_SPACE = re.compile(r"[ \t\n\r]*")
_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?")
_NUMBER_SO_FAR = re.compile(r"[-+.0-9eE]+")
_ESCAPE_SO_FAR = re.compile(r"\\(?:u[0-9a-fA-F]{0,3})?")
# Liberal with line breaks inside of strings, which models write: only the whole text is judged, by the codec.
_STRINGS = json.JSONDecoder(strict=False)
_HALF = re.compile("[\ud800-\udfff]")
_WORDS = (("true", True), ("false", False), ("null", None))

# What may come next; the first key and the first element have the choice to be none.
_Want = Literal["value", "element or ]", "key", "key or }", "colon", "comma or end", "nothing"]


def partial_json(text: str) -> Any:
    """
    Return the value so far of a JSON text that may be cut anywhere.

    ``partial_json('{"city": "Dres')`` is ``{"city": "Dres"}``. Takes time in proportion to the text, nests as deep
    as the text does, and never raises. A number at the very end is left out, because it may go on, unless it is all
    there is.

    Args:
        text: The beginning of a JSON text, or all of it. Of a text that is no JSON, what comes before the fault counts.

    Returns:
        The value, new each time, or None if there is nothing yet.
    """
    reading = _Reading(text)
    while reading.step():
        pass
    return reading.top[0] if reading.top else None


@attrs.define(eq=False)
class _Reading:
    """
    How far a text was read; a loop with a stack, so that no text nests too deep.

    Attributes:
        at: Where to go on.
        top: Holds the value, once it has begun.
        open: The arrays and objects that have not ended, the outermost first.
        key: The field whose value comes next.
    """

    text: str
    at: int = 0
    top: list[Any] = attrs.field(factory=list)
    open: list[Any] = attrs.field(factory=list)
    key: str = ""
    want: _Want = "value"

    def step(self) -> bool:
        """Read the next piece; tell whether there may be more."""
        space = _SPACE.match(self.text, self.at)
        self.at = space.end() if space else self.at
        mark = self.text[self.at : self.at + 1]
        if not mark or self.want == "nothing":
            return False
        if self.want == "comma or end":
            return self._go_on(mark)
        if self.want == "colon":
            self.at, self.want = self.at + 1, "value"
            return mark == ":"
        if self.want.endswith(
            f" or {mark}"
        ):  # The end of an array or object that has nothing in it.
            return self._close()
        return self._read_key(mark) if self.want.startswith("key") else self._read_value(mark)

    def _go_on(self, mark: str) -> bool:
        inside_object = isinstance(self.open[-1], dict)
        if mark == ",":
            self.at, self.want = self.at + 1, "key" if inside_object else "value"
            return True
        return mark == ("}" if inside_object else "]") and self._close()

    def _close(self) -> bool:
        self.at += 1
        self.open.pop()
        return self._ended()

    def _ended(self) -> bool:
        self.want = "comma or end" if self.open else "nothing"
        return True

    def _put(self, value: Any) -> bool:
        holder = self.open[-1] if self.open else self.top
        if isinstance(holder, dict):
            holder[self.key] = value
        else:
            holder.append(value)
        return self._ended()

    def _read_key(self, mark: str) -> bool:
        key, whole = self._string() if mark == '"' else (None, False)
        if key is None or not whole:
            return False
        self.key, self.want = key, "colon"
        return True

    def _read_value(self, mark: str) -> bool:
        if mark == '"':
            value, whole = self._string()
            return value is not None and self._put(value) and whole
        if mark in "{[":
            holder: dict[str, Any] | list[Any] = {} if mark == "{" else []
            self._put(holder)
            self.open.append(holder)
            self.at, self.want = self.at + 1, "key or }" if mark == "{" else "element or ]"
            return True
        for word, meaning in _WORDS:
            if self.text.startswith(word, self.at):
                self.at += len(word)
                return self._put(meaning)
        return self._read_number()

    def _read_number(self) -> bool:
        so_far = _NUMBER_SO_FAR.match(self.text, self.at)
        number = _NUMBER.match(self.text, self.at)
        if so_far is None or number is None:
            return False
        cut = so_far.end() == len(self.text)
        if self.open and (cut or number.end() != so_far.end()):
            return False
        try:
            value = jsoncodec.decode(number[0].encode())
        except ValueError:  # Beyond what a float holds.
            return False
        self.at = so_far.end()
        return self._put(value)

    def _string(self) -> tuple[str | None, bool]:
        """Read a string; return what there is of it, or None if it is faulty, and whether it is whole."""
        try:
            value, self.at = _STRINGS.raw_decode(self.text, self.at)
        except ValueError:
            value, whole = _cut_string(self.text[self.at + 1 :]), False
        else:
            whole = True
        # Half a pair is what the codec, too, has no character for.
        return (None if value is None else _HALF.sub("\ufffd", value)), whole


def _cut_string(written: str) -> str | None:
    """Read the inside of a string that lacks its end; None if it is faulty."""
    last = written.rfind("\\")
    before = written[: last + 1]
    if (len(before) - len(before.rstrip("\\"))) % 2 and _ESCAPE_SO_FAR.fullmatch(written[last:]):
        written = written[:last]
    try:
        value: str = _STRINGS.decode(f'"{written}"')
    except ValueError:
        return None
    # The other half may be next.
    return value[:-1] if "\ud800" <= value[-1:] <= "\udbff" else value
