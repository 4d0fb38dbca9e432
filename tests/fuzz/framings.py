"""
Framing against a decoder written from RFC 6455 alone: slow, whole buffers only, and not a line in common.

However the bytes are cut, and whether they are fed or read into the room that is offered, the deliveries are those of
the reference, nothing raises, and the limits hold.
"""

from __future__ import annotations

from typing import Any, Literal

from llmws.wire.framing import Binary, Close, Framing, Ping, Pong, Violation, encode
from tests.fuzz.choices import Choices


__all__ = ["any_bytes", "any_frames"]

Role = Literal["client", "server"]
MASK = b"\x37\xfa\x21\x3d"
SMALL_PIECES = (1, 2, 3, 7, 20, 1 << 20)
# Around the edges of the length forms and of what is read straight into place.
SIZES = (0, 1, 2, 5, 60, 125, 126, 127, 300, 65_535, 65_536, 131_071, 131_072, 131_073, 200_000)
LARGE_PIECES = (1 << 16, 1, 5, 1000, 100_000, 1 << 20)
FILLS = (b"x", "é".encode(), "\U0001f600".encode(), b"\xff", b"\xe2\x82", b"a\xed\xa0\x80")


def any_bytes(data: bytes) -> None:
    """Take a role, small limits and a way of cutting from the first bytes, and the wire from the rest."""
    choices = Choices(data)
    role: Role = "server" if choices.flag() else "client"
    limits = {"max_message_bytes": choices.one_of((50, 200, 1 << 27)), "max_fragments": 3}
    cutting = Choices(choices.bytes(6))
    wire = choices.rest()
    expected = reference(role, wire, **limits)
    check_readings(role, wire, expected, cutting, SMALL_PIECES, **limits)
    wire = wire[:100]
    single = Framing(role, **limits)
    one_by_one = [item for at in range(len(wire)) for item in single.feed(wire[at : at + 1])]
    assert comparable(one_by_one) == reference(role, wire, **limits), "fed byte by byte"


def any_frames(data: bytes) -> None:
    """Take frames of any kind and of sizes up to large ones from the bytes, most of them lawful."""
    choices = Choices(data)
    role: Role = "server" if choices.flag() else "client"
    limits = {"max_message_bytes": choices.one_of((250_000, 70_000, 400)), "max_fragments": 4}
    cutting = Choices(choices.bytes(6))
    wire = bytearray()
    for _ in range(6):
        if not choices.more:
            break
        wire += frame(role, choices)
    data = bytes(wire)[: len(wire) - choices.one_of((0, 0, 0, 1, 3, 200))]
    expected = reference(role, data, **limits)
    check_readings(role, data, expected, cutting, LARGE_PIECES, **limits)


def frame(role: Role, choices: Choices) -> bytes:
    opcode = choices.one_of((1, 0, 1, 2, 9, 10, 8, 3, 11))
    fin = not choices.flag()
    size = choices.one_of(SIZES)
    fill = choices.one_of(FILLS)
    payload = (fill * (size // len(fill) + 1))[:size]
    if opcode == 8:
        payload = choices.bytes(2) + payload[:60]
    masked = (role == "server") != (choices.number(32) == 31)
    return bytes(encode(opcode, payload, mask=MASK if masked else None, fin=fin))


def check_readings(
    role: Role,
    wire: bytes,
    expected: list[Any],
    cutting: Choices,
    sizes: tuple[int, ...],
    **limits: int,
) -> None:
    """Read the same bytes whole, in pieces, and in pieces by way of the room; all must be as expected."""
    assert comparable(Framing(role, **limits).feed(wire)) == expected, "fed as a whole"
    pieces = list(cutting.cuts(wire, sizes))
    fed, roomy = Framing(role, **limits), Framing(role, **limits)
    by_feed = [item for piece in pieces for item in taken(fed, fed.feed(piece))]
    assert comparable(by_feed) == expected, "fed in pieces"
    by_room = [item for piece in pieces for item in read_into_room(roomy, piece)]
    assert comparable(by_room) == expected, "read into the room"
    ended = bool(expected) and type(expected[-1]) in (Close, tuple)
    assert fed.over is roomy.over is ended
    if ended:
        assert fed.feed(b"\x81\x00") == roomy.feed(wire) == [], "something came after the end"


def read_into_room(framing: Framing, piece: bytes) -> list[Any]:
    """Read as the I/O thread does: into the room that is offered, else as it comes."""
    found: list[Any] = []
    while piece:
        room = framing.room()
        if room is None:
            return found + taken(framing, framing.feed(piece))
        with room:
            count = min(len(room), len(piece))
            room[:count] = piece[:count]
        found += taken(framing, framing.filled(count))
        piece = piece[count:]
    return found


def taken(framing: Framing, delivered: list[Any]) -> list[Any]:
    if delivered:
        only = all(isinstance(item, (bytes, bytearray)) for item in delivered)
        assert framing.only_text is only, "only_text is not what was delivered"
    return delivered


def comparable(delivered: list[Any]) -> list[Any]:
    """Violations are compared by their code: the words are the decoder's own."""
    return [("violation", item.code) if type(item) is Violation else item for item in delivered]


# The reference.


def reference(role: Role, data: bytes, *, max_message_bytes: int, max_fragments: int) -> list[Any]:
    """Decode a whole buffer frame by frame; each rule once, in the order in which a reader could know it."""
    found: list[Any] = []
    at = 0
    opened: tuple[int, list[bytes]] | None = (
        None  # The fragmented message: its opcode and its parts.
    )
    while len(data) - at >= 2:
        first, second = data[at], data[at + 1]
        opcode, fin, short = first & 15, first >= 128, second & 127
        continued = opened[1] if opened else []
        if first & 0b0111_0000 or (second >= 128) != (role == "server"):
            return [*found, ("violation", 1002)]
        if opcode not in (0, 1, 2, 8, 9, 10) or (opcode >= 8 and (not fin or short > 125)):
            return [*found, ("violation", 1002)]
        if opcode < 8 and (opcode == 0) != (opened is not None):
            return [*found, ("violation", 1002)]
        if opcode < 8 and len(continued) >= max_fragments:
            return [*found, ("violation", 1009)]
        wide = {126: 2, 127: 8}.get(short, 0)
        start = at + 2 + wide
        if len(data) < start:
            return found
        size = int.from_bytes(data[at + 2 : start], "big") if wide else short
        if opcode < 8 and size >= 2**63:
            return [*found, ("violation", 1002)]
        if opcode < 8 and size + sum(map(len, continued)) > max_message_bytes:
            return [*found, ("violation", 1009)]
        mask = data[start : start + 4] if role == "server" else bytes(4)
        start += 4 if role == "server" else 0
        at = start + size
        if len(data) < at:
            return found
        # By the definition, but for a mask that changes nothing.
        plain = data[start:at]
        if any(mask):
            key = (mask * (size // 4 + 1))[:size]
            plain = bytes(a ^ b for a, b in zip(plain, key, strict=True))
        if opcode >= 8:
            found.append(control(opcode, plain))
            if opcode == 8:
                return found
            continue
        kind, parts = (opened[0], [*continued, plain]) if opened else (opcode, [plain])
        message = b"".join(parts)
        if kind == 1 and not could_be_utf8(message, whole=fin):
            return [*found, ("violation", 1007)]
        opened = None if fin else (kind, parts)
        if fin:
            found.append(message if kind == 1 else Binary(message))
    return found


def control(opcode: int, payload: bytes) -> Any:
    if opcode != 8:
        return Ping(payload) if opcode == 9 else Pong(payload)
    if not payload:
        return Close(1005, "")
    code = int.from_bytes(payload[:2], "big")
    may_travel = (1000 <= code <= 1014 and code not in (1004, 1005, 1006)) or 3000 <= code <= 4999
    if len(payload) == 1 or not may_travel:
        return "violation", 1002
    try:
        return Close(code, str(payload[2:], "utf-8"))
    except UnicodeDecodeError:
        return "violation", 1007


def could_be_utf8(data: bytes, *, whole: bool) -> bool:
    """Tell whether bytes are UTF-8, or may become so with what is yet to come."""
    try:
        str(data, "utf-8")
    except UnicodeDecodeError as exc:
        unfinished = exc.reason == "unexpected end of data" and exc.end == len(data)
        return not whole and unfinished
    return True
