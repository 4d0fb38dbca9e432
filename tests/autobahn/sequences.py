"""Bytes that are UTF-8 and bytes that are not, after Markus Kuhn's "UTF-8 decoder capability and stress test"."""

from __future__ import annotations


__all__ = ["INVALID", "KOSME", "VALID"]

# A Greek word, with an accent in three bytes.
KOSME = b"\xce\xba\xe1\xbd\xb9\xcf\x83\xce\xbc\xce\xb5"

# By Autobahn's number of the group.
_VALID = {
    "6.5": [*(f"hello{char}world".encode() for char in "$¢€𤭢"), KOSME],
    # Those prefixes of it that end between characters.
    "6.6": [KOSME[:end] for end in (2, 5, 7, 9, 11)],
    # The first and the last of each length.
    "6.7": [b"\x00", b"\xc2\x80", b"\xe0\xa0\x80", b"\xf0\x90\x80\x80"],
    "6.9": [b"\x7f", b"\xdf\xbf", b"\xef\xbf\xbf", b"\xf4\x8f\xbf\xbf"],
    # Beside the surrogates.
    "6.11": [b"\xed\x9f\xbf", b"\xee\x80\x80", b"\xef\xbf\xbd"],
    # Code points that are no characters are encoded all the same.
    "6.22": [
        (plane << 16 | last).to_bytes(4, "big").decode("utf-32-be").encode()
        for plane in range(17)
        for last in (0xFFFE, 0xFFFF)
    ],
    "6.23": [chr(code).encode() for code in range(0xFFF9, 0x1_0000)],
}
_TRUNCATED = [
    *(b"\xc0", b"\xe0\x80", b"\xf0\x80\x80", b"\xf8\x80\x80\x80", b"\xfc\x80\x80\x80\x80"),
    *(b"\xdf", b"\xef\xbf", b"\xf7\xbf\xbf", b"\xfb\xbf\xbf\xbf", b"\xfd\xbf\xbf\xbf\xbf"),
]
_LONELY = [(0xC0, 0xDF), (0xE0, 0xEF), (0xF0, 0xF7), (0xF8, 0xFB), (0xFC, 0xFD)]
_HIGH = (b"\xed\xa0\x80", b"\xed\xad\xbf", b"\xed\xae\x80", b"\xed\xaf\xbf")
_LOW = (b"\xed\xb0\x80", b"\xed\xbf\xbf")
_INVALID = {
    "6.6": [KOSME[:end] for end in (1, 3, 4, 6, 8, 10)],
    # Five and six bytes, and code points beyond the last one.
    "6.8": [b"\xf8\x88\x80\x80\x80", b"\xfc\x84\x80\x80\x80\x80"],
    "6.10": [b"\xf7\xbf\xbf\xbf", b"\xfb\xbf\xbf\xbf\xbf", b"\xfd\xbf\xbf\xbf\xbf\xbf"],
    "6.11": [b"\xf4\x90\x80\x80"],
    # Continuations without a start, and starts without a continuation.
    "6.12": [*((b"\x80\xbf" * 3)[:end] for end in range(1, 7)), b"\xbf", bytes(range(0x80, 0xBF))],
    "6.13": [b"".join(b"%c " % byte for byte in range(*ends)) for ends in _LONELY],
    "6.14": _TRUNCATED,
    "6.15": [b"".join(_TRUNCATED)],
    "6.16": [b"\xfe", b"\xff", b"\xfe\xfe\xff\xff"],
    # Longer than need be: a slash, the last of each length, and zero.
    "6.17": [b"\xc0\xaf", b"\xe0\x80\xaf", b"\xf0\x80\x80\xaf", b"\xf8\x80\x80\x80\xaf"],
    "6.18": [b"\xc1\xbf", b"\xe0\x9f\xbf", b"\xf0\x8f\xbf\xbf", b"\xf8\x87\xbf\xbf\xbf"],
    "6.19": [b"\xc0\x80", b"\xe0\x80\x80", b"\xf0\x80\x80\x80", b"\xf8\x80\x80\x80\x80"],
    "6.20": [*_HIGH, *_LOW, b"\xed\xbe\x80"],
    "6.21": [high + low for high in _HIGH for low in _LOW],
}


def _numbered(groups: dict[str, list[bytes]], word: str) -> list[tuple[str, bytes]]:
    return [
        (f"{group}.{index}{word}", text)
        for group, texts in groups.items()
        for index, text in enumerate(texts, 1)
    ]


VALID = _numbered(_VALID, "")
INVALID = _numbered(_INVALID, " invalid")
