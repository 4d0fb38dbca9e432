"""
The project's own port of Autobahn's client cases, for any Python and without a server of others; and cases of its own.

A case is what a server sends, step by step, and what it is to read before it goes on. Names of Autobahn's are its
numbers; a number with a word behind it is a variant. Where RFC 6455 leaves a choice, the case holds what llmws chose.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import attrs

from llmws.wire.framing import (
    BINARY,
    CLOSE,
    CONTINUATION,
    PING,
    PONG,
    TEXT,
    Close,
    Delivery,
    Pong,
    encode,
    encode_close,
)
from tests.autobahn.sequences import INVALID, KOSME, VALID


__all__ = ["CASES", "MAX_MESSAGE_BYTES", "Case"]

# Most cases are played with this limit, so that it need not be reached with megabytes.
MAX_MESSAGE_BYTES = 300_000
_HELLO = b"Hello, world!"
_NORMAL = bytes(encode_close(1000))
# Bytes that make a text invalid, and valid text to come behind them.
_BEYOND, _EDITED = b"\xf4\x90\x80\x80", b"edited"

Step = tuple[bytes, tuple[Delivery, ...]]


@attrs.frozen
class Case:
    """
    One case.

    Attributes:
        name: Its section's number and more.
        steps: What the server sends, and what it is to read before the next step; the last read ends with a close.
        delivered: The messages that are handed to the router.
        lost: The close code that the router is told.
        violation: Whether it is told that the server broke the protocol.
        echo: Whether the router sends back what it is handed.
    """

    name: str
    steps: tuple[Step, ...]
    delivered: tuple[bytes, ...]
    lost: int
    violation: bool
    echo: bool = True

    @property
    def section(self) -> str:
        """The number before the first point, or the word."""
        return self.name.split(".")[0]


def frame(opcode: int, payload: bytes = b"", *, fin: bool = True, rsv: int = 0) -> bytes:
    """Build a server's frame."""
    encoded = encode(opcode, payload, fin=fin)
    return bytes((encoded[0] | rsv << 4,)) + bytes(encoded[1:])


def fragments(opcode: int, *parts: bytes) -> bytes:
    """Build the frames of a fragmented message."""
    last = len(parts) - 1
    return b"".join(
        frame(CONTINUATION if index else opcode, part, fin=index == last)
        for index, part in enumerate(parts)
    )


def lawful(name: str, *steps: tuple[bytes, list[Delivery]], **more: Any) -> Case:
    """Make a case that the server ends with 1000, which is answered; texts are read back as they were sent."""
    read = [item for _, items in steps for item in items]
    delivered = tuple(item for item in read if isinstance(item, bytes))
    return closing(name, _NORMAL, 1000, *steps, **{"delivered": delivered, **more})


def closing(
    name: str,
    data: bytes,
    code: int,
    *steps: tuple[bytes, list[Delivery]],
    delivered: tuple[bytes, ...] = (),
    echo: bool = True,
) -> Case:
    """Make a case that the server ends with these bytes; the answer has the same code."""
    all_steps = _steps(steps, (data, [Close(code, "")]))
    return Case(name, all_steps, delivered, code, violation=False, echo=echo)


def breach(
    name: str,
    code: int,
    data: bytes,
    *steps: tuple[bytes, list[Delivery]],
    delivered: tuple[bytes, ...] = (),
    echo: bool = True,
) -> Case:
    """Make a case in which these bytes, the last, are answered with a close of this code."""
    read = tuple(item for _, items in steps for item in items if isinstance(item, bytes))
    all_steps = _steps(steps, (data, [Close(code, "")]))
    return Case(name, all_steps, read + delivered, code, violation=True, echo=echo)


def _steps(steps: tuple[Any, ...], last: Any) -> tuple[Step, ...]:
    return tuple((data, tuple(read)) for data, read in (*steps, last))


def _framing() -> Iterator[Case]:
    for index, size in enumerate((0, 125, 126, 127, 128, 65_535, 65_536), 1):
        payload = b"*" * size
        yield lawful(f"1.1.{index}", (frame(TEXT, payload), [payload]))
        # A link has no answer to a binary message but a text.
        binary = b"\xfe" * size
        yield lawful(f"1.2.{index}", (frame(BINARY, binary), []), delivered=(binary,), echo=False)


def _pings() -> Iterator[Case]:
    for index, payload in enumerate(
        (b"", _HELLO, b"\x00\xff\xfe\xfd\xfc\xfb\x00\xff", b"\xfe" * 125), 1
    ):
        yield lawful(f"2.{index}", (frame(PING, payload), [Pong(payload)]))
    yield breach("2.5", 1002, frame(PING, b"\xfe" * 126))
    unsolicited = frame(PONG, b"unsolicited pong payload")
    yield lawful("2.7", (frame(PONG), []))
    yield lawful("2.8", (unsolicited, []))
    yield lawful("2.9", (unsolicited + frame(PING, b"ping payload"), [Pong(b"ping payload")]))
    payloads = [b"payload-%d" % number for number in range(10)]
    pings = b"".join(frame(PING, payload) for payload in payloads)
    yield lawful("2.10", (pings, [Pong(payload) for payload in payloads]))


def _refused(name: str, bad: bytes, code: int = 1002) -> Iterator[Case]:
    """Give the cases of bytes that are refused wherever they come; nothing behind them is answered."""
    behind, hello = frame(PING, b"behind"), frame(TEXT, _HELLO)
    yield breach(name, code, bad + behind)
    yield breach(f"{name} after a text", code, bad + behind, (hello, [_HELLO]))
    # In one piece with the message before it: that is delivered, and its answer would go to a link that is lost.
    yield breach(f"{name} with a text", code, hello + bad, delivered=(_HELLO,), echo=False)


def _reserved_bits() -> Iterator[Case]:
    opcodes = {"text": TEXT, "binary": BINARY, "close": CLOSE, "ping": PING, "pong": PONG}
    for rsv in range(1, 8):
        for word, opcode in opcodes.items():
            yield from _refused(f"3.{rsv} {word}", frame(opcode, rsv=rsv))
        yield from _refused(f"3.{rsv} payload", frame(TEXT, _HELLO, rsv=rsv))


def _opcodes() -> Iterator[Case]:
    for kind, opcodes in ((1, range(3, 8)), (2, range(11, 16))):
        for opcode in opcodes:
            yield from _refused(f"4.{kind} {opcode}", frame(opcode))
            yield from _refused(f"4.{kind} {opcode} payload", frame(opcode, _HELLO))


def _fragmentation() -> Iterator[Case]:
    one, two, both = b"fragment1", b"fragment2", b"fragment1fragment2"
    for name, opcode in (("5.1", PING), ("5.2", PONG), ("5.2 close", CLOSE)):
        yield breach(name, 1002, fragments(opcode, one, two))
    begun, rest = frame(TEXT, one, fin=False), frame(CONTINUATION, two)
    ping, pong = frame(PING, b"ping payload"), Pong(b"ping payload")
    yield lawful("5.3", (begun + rest, [both]))
    yield lawful("5.4", (begun, []), (rest, [both]))
    yield lawful("5.6", (begun + ping + rest, [pong, both]))
    yield lawful("5.7", (begun, []), (ping, [pong]), (rest, [both]))
    yield lawful(
        "5.7 binary",
        (frame(BINARY, b"\xff", fin=False), []),
        (ping, [pong]),
        (rest, []),
        delivered=(b"\xff" + two,),
        echo=False,
    )
    text = frame(TEXT, _HELLO)
    for number, fin in (("5.9", True), ("5.12", False)):
        yield from _refused(number, frame(CONTINUATION, b"non-continuation", fin=fin) + text)
    wrong = frame(CONTINUATION, b"fragment3", fin=False) + frame(TEXT, b"fragment4")
    yield breach("5.15", 1002, begun + rest + wrong, delivered=(both,), echo=False)
    yield breach("5.15 in steps", 1002, wrong, (begun + rest, [both]))
    for number, fin in (("5.16", False), ("5.17", True)):
        stray = frame(CONTINUATION, one, fin=fin)
        yield breach(number, 1002, (stray + fragments(TEXT, two, b"fragment3")) * 2)
    for word, opcode in (("", TEXT), (" binary", BINARY)):
        yield breach(f"5.18{word}", 1002, begun + frame(opcode, two))
        yield breach(f"5.18{word} in steps", 1002, frame(opcode, two), (begun, []))
    yield lawful(
        "5.19",
        (begun + frame(CONTINUATION, two, fin=False) + frame(PING, b"1"), [Pong(b"1")]),
        (frame(CONTINUATION, b"3", fin=False) + frame(PING, b"2"), [Pong(b"2")]),
        (frame(CONTINUATION, b"4"), [both + b"34"]),
    )


def _utf8() -> Iterator[Case]:
    yield lawful("6.1.1", (frame(TEXT), [b""]))
    yield lawful("6.1.2", (fragments(TEXT, b"", b"", b""), [b""]))
    yield lawful("6.1.3", (fragments(TEXT, b"", b"middle", b""), [b"middle"]))
    start, end = "Hello-µ@ßöä".encode(), "üàá-UTF-8!!".encode()
    yield lawful("6.2.1", (frame(TEXT, start + end), [start + end]))
    yield lawful("6.2.2", (fragments(TEXT, start, end), [start + end]))
    surrogate = KOSME + b"\xed\xa0\x80" + _EDITED
    yield breach("6.3.1", 1007, frame(TEXT, surrogate))
    # Refused at the first byte that cannot be right, before the message ends.
    begun = frame(TEXT, KOSME, fin=False)
    yield breach("6.4.1", 1007, frame(CONTINUATION, _BEYOND, fin=False), (begun, []))
    yield breach(
        "6.4.2",
        1007,
        frame(CONTINUATION, _BEYOND[1:2], fin=False),
        (frame(TEXT, KOSME + _BEYOND[:1], fin=False), []),
    )
    yield breach("6.4.1 empty", 1007, frame(CONTINUATION), (frame(TEXT, b"\xce", fin=False), []))
    for number, text in VALID:
        yield lawful(number, (frame(TEXT, text), [text]))
        yield lawful(f"{number} in octets", (fragments(TEXT, *_octets(text)), [text]))
    for number, text in INVALID:
        yield breach(number, 1007, frame(TEXT, text))
        yield breach(f"{number} in octets", 1007, fragments(TEXT, *_octets(text)))
        yield lawful(f"{number} binary", (frame(BINARY, text), []), delivered=(text,), echo=False)


def _octets(text: bytes) -> list[bytes]:
    return [text[index : index + 1] for index in range(len(text))]


def _closes() -> Iterator[Case]:
    yield lawful("7.1.1", (frame(TEXT, _HELLO), [_HELLO]))
    # Nothing is taken, and nothing answered, behind a close.
    for name, behind in (
        ("7.1.2", frame(CLOSE)),
        ("7.1.3", frame(PING)),
        ("7.1.4", frame(TEXT, _HELLO)),
        ("7.1.4 bad", frame(TEXT, b"\xff")),
        ("7.1.4 no frame", b"\xff\xff\xff"),
    ):
        yield closing(name, _NORMAL + behind, 1000)
    rest = frame(CONTINUATION, b"fragment2")
    yield closing("7.1.5", frame(TEXT, b"fragment1", fin=False) + _NORMAL + rest, 1000)
    large = b"BAsd7&jh23" * 26_214
    yield closing(
        "7.1.6",
        frame(TEXT, large) + frame(TEXT, _HELLO) + _NORMAL + frame(PING),
        1000,
        delivered=(large, _HELLO),
        echo=False,
    )
    yield closing("7.3.1", frame(CLOSE), 1005)
    yield breach("7.3.2", 1002, frame(CLOSE, b"a"))
    yield closing("7.3.3", _NORMAL, 1000)
    yield closing("7.3.4", bytes(encode_close(1000, "Hello World!")), 1000)
    yield closing("7.3.5", bytes(encode_close(1000, "*" * 123)), 1000)
    yield breach("7.3.6", 1002, frame(CLOSE, b"\x03\xe8" + b"*" * 124))
    yield breach("7.5.1", 1007, frame(CLOSE, b"\x03\xe8" + KOSME + b"\xed\xa0\x80" + _EDITED))
    lawful_codes = (1000, 1001, 1002, 1003, *range(1007, 1015), 3000, 3999, 4000, 4999)
    for code in lawful_codes:
        yield closing(f"7.7 {code}", bytes(encode_close(code)), code)
    for code in (0, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65_535):
        yield breach(f"7.9 {code}", 1002, frame(CLOSE, code.to_bytes(2, "big")))


def _auto_fragmentation() -> Iterator[Case]:
    payload = b"*" * 65_536
    parts = [payload[start : start + 1300] for start in range(0, len(payload), 1300)]
    yield lawful("10.1.1", (fragments(TEXT, *parts), [payload]))


def _beyond_autobahn() -> Iterator[Case]:
    for word, opcode in (("text", TEXT), ("ping", PING), ("close", CLOSE)):
        yield from _refused(f"own.masked {word}", bytes(encode(opcode, b"{}", mask=b"abcd")))
    # By the header alone: nothing else of it ever comes.
    top_bit = (1 << 63 | 5).to_bytes(8, "big")
    for word, first in (("text", 0x81), ("binary", 0x82), ("begun", 0x01)):
        yield from _refused(f"own.top bit {word}", bytes((first, 127)) + top_bit)
        for size in (MAX_MESSAGE_BYTES + 1, 2**40, 2**63 - 1):
            announced = bytes((first, 127)) + size.to_bytes(8, "big")
            yield breach(f"own.oversized {word} {size}", 1009, announced)
    begun = frame(TEXT, b"*" * (MAX_MESSAGE_BYTES - 10), fin=False)
    announced = frame(CONTINUATION, b"*" * 11)[:2]
    yield breach("own.oversized by fragments", 1009, announced, (begun, []))
    whole = b"*" * MAX_MESSAGE_BYTES
    yield lawful("own.just not oversized", (frame(TEXT, whole), []), delivered=(whole,), echo=False)
    yield breach("own.endless fragments", 1009, begun + frame(CONTINUATION, b"*", fin=False) * 11)
    empty = frame(TEXT, fin=False) + frame(CONTINUATION, fin=False) * 65_535
    yield breach("own.endless empty fragments", 1009, frame(CONTINUATION, fin=False), (empty, []))
    # A length need not be in its shortest form. RFC 6455 asks for that, but it harms nobody, and others take it too.
    for word, size in (("16 bits", b"\x7e\x00\x0d"), ("64 bits", b"\x7f" + bytes(7) + b"\x0d")):
        yield lawful(f"own.length in {word}", (b"\x81" + size + _HELLO, [_HELLO]))
        yield from _refused(f"own.ping with a length in {word}", b"\x89" + size + _HELLO)
    for word, size in (("16 bits", b"\x7e\x00\x7e"), ("64 bits", b"\x7f" + bytes(7) + b"\x7e")):
        for opcode in (CLOSE, PING, PONG):
            yield breach(f"own.long {opcode} in {word}", 1002, bytes((0x80 | opcode,)) + size)
    for word, data in (
        ("HTTP", b"HTTP/1.1 500 Oh dear\r\n\r\n"),
        ("TLS", b"\x15\x03\x03\x00\x02\x02\x28"),
    ):
        yield breach(f"own.no frame but {word}", 1002, data)


CASES: list[Case] = [
    *_framing(),
    *_pings(),
    *_reserved_bits(),
    *_opcodes(),
    *_fragmentation(),
    *_utf8(),
    *_closes(),
    *_auto_fragmentation(),
    *_beyond_autobahn(),
]
