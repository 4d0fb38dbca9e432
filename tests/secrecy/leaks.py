"""A search for keys in whatever a program may print, log, pickle or write to a file."""

from __future__ import annotations

import base64
import contextlib
import functools
import logging
import pickle
import traceback
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote, quote_plus


# A key cut in two is still half a key.
_PIECE_CHARACTERS = 12
_FORMATTER = logging.Formatter("%(name)s %(levelname)s %(threadName)s %(message)s")


@functools.lru_cache
def forms_of(key: str) -> dict[str, set[str]]:
    """Every form in which a key may turn up, by name; each as the texts that give it away."""
    raw = key.encode()
    pieces = {
        key[at : at + _PIECE_CHARACTERS] for at in range(len(key) - _PIECE_CHARACTERS + 1)
    } or {key}
    return {
        "plain": pieces,
        "base64": set(_base64(raw)),
        "hex": {raw.hex(), raw.hex().upper(), raw.hex(" "), raw.hex(":")},
        "url-encoded": {
            quote(key, safe=""),
            quote_plus(key),
            quote(key, safe="").lower(),
            "".join(f"%{byte:02x}" for byte in raw),
            "".join(f"%{byte:02X}" for byte in raw),
        },
    }


def _base64(raw: bytes) -> Iterator[str]:
    """Yield what base64 makes of a key at each of the three places where it may begin in a longer text."""
    for shift in range(3):
        whole = base64.b64encode(b"\0" * shift + raw).decode().rstrip("=")
        text = whole[(0, 2, 3)[shift] : -2]
        yield text
        yield text.replace("+", "-").replace("/", "_")


def found_in(text: str, key: str) -> set[str]:
    """Name the forms of a key that stand in a text."""
    return {name for name, texts in forms_of(key).items() if any(each in text for each in texts)}


class Evidence:
    """
    What a scenario left behind, and the search through it.

    Args:
        own_files: Files whose frames are not looked at: the tests', which hold the key themselves.
    """

    def __init__(self, *own_files: str) -> None:
        self._own_files = own_files
        self.records: list[logging.LogRecord] = []
        self.texts: list[tuple[str, str]] = []

    def add(self, *values: object) -> None:
        """Take values: what they print, and what their attributes print, one level down."""
        for value in values:
            kind = type(value).__name__
            shown = [repr(value), str(value), f"{value}", ascii(value)]
            self.texts += [(f"{kind} shown", text) for text in shown]
            for name, attribute in attributes_of(value):
                self.texts.append((f"{kind}.{name}", repr(attribute)))

    def add_error(self, error: BaseException) -> None:
        """Take an exception with its whole chain, its traceback with locals, and its pickle."""
        for each in chain_of(error):
            kind = type(each).__name__
            self.add(each)
            self.texts.append((f"{kind}.args", repr(each.args)))
            for frame in self._frames(each):
                self.texts.append(
                    (f"{kind} raised in {frame.name}", f"{frame.line} {frame.locals}")
                )
            with contextlib.suppress(TypeError, AttributeError, pickle.PicklingError):
                self.texts.append((f"{kind} pickled", pickle.dumps(each).decode("latin-1")))

    def _frames(self, error: BaseException) -> list[traceback.FrameSummary]:
        shown = traceback.TracebackException.from_exception(error, capture_locals=True)
        return [frame for frame in shown.stack if frame.filename not in self._own_files]

    def add_text(self, place: str, text: str) -> None:
        """Take a text, such as a file's."""
        self.texts.append((place, text))

    @contextlib.contextmanager
    def listening(self) -> Iterator[Evidence]:
        """Take every log record of every logger, at every level, while the block runs."""
        handler, root = _Keeper(self.records), logging.getLogger()
        level, disabled = root.level, logging.root.manager.disable
        root.addHandler(handler)
        root.setLevel(logging.DEBUG)
        logging.disable(logging.NOTSET)
        try:
            yield self
        finally:
            root.removeHandler(handler)
            root.setLevel(level)
            logging.disable(disabled)

    def leaks(self, key: str) -> list[tuple[str, str]]:
        """Return where the key was found, and in what form; never the text itself."""
        for record in self.records:
            self.texts.append((f"log record of {record.name}", _FORMATTER.format(record)))
            self.texts.append((f"log arguments of {record.name}", repr(vars(record))))
            if record.exc_info and record.exc_info[1]:
                self.add_error(record.exc_info[1])
        self.records = []
        return sorted(
            {(place, form) for place, text in set(self.texts) for form in found_in(text, key)}
        )


class _Keeper(logging.Handler):
    def __init__(self, records: list[logging.LogRecord]) -> None:
        super().__init__(logging.DEBUG)
        self._records = records

    def emit(self, record: logging.LogRecord) -> None:
        self._records.append(record)


def chain_of(error: BaseException | None) -> Iterator[BaseException]:
    """Yield an exception, its causes and its contexts, also those that a traceback would not show."""
    todo, seen = [error], set()
    while todo:
        each = todo.pop()
        if each is not None and id(each) not in seen:
            seen.add(id(each))
            yield each
            todo += [each.__cause__, each.__context__]


def attributes_of(value: object) -> Iterator[tuple[str, Any]]:
    names = {*getattr(value, "__dict__", ())}
    for kind in type(value).__mro__:
        slots = kind.__dict__.get("__slots__", ())
        names.update([slots] if isinstance(slots, str) else slots)
    for name in sorted(names - {"__dict__", "__weakref__"}):
        with contextlib.suppress(AttributeError):  # A slot that is empty.
            yield name, getattr(value, name)
