"""
RFC 6455 framing for both roles, without I/O.

``Framing`` turns the bytes of one connection into messages and control frames; ``encode`` does the reverse. A text
message is delivered as its bare payload (``bytes``, or ``bytearray`` if it was large), because it is nearly all there
is and everything else on its way is measured in tenths of a microsecond; all other frames are small values.

A breach of the protocol is a value too: ``Violation``, always the last thing delivered. What came before it in the
same bytes is delivered first.
"""

from __future__ import annotations

import codecs
from collections.abc import Iterator
from typing import Literal

import attrs


__all__ = [
    "BINARY",
    "CLOSE",
    "CONTINUATION",
    "PING",
    "PONG",
    "TEXT",
    "Binary",
    "Close",
    "Delivery",
    "Framing",
    "Ping",
    "Pong",
    "Violation",
    "encode",
    "encode_close",
    "encode_in_pieces",
]

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10

_NO_STATUS = 1005
# Codes that a close frame may carry (RFC 6455 §7.4 and the IANA registry; 1004 to 1006 and 1015 never travel).
_CLOSE_CODES = frozenset({1000, 1001, 1002, 1003, *range(1007, 1015)})
# From here on a payload is gathered in a buffer of its own instead of being sliced out of what was read.
_LARGE_BYTES = 128 * 1024
_ROOM_BYTES = 256 * 1024
_MASK_CHUNK_BYTES = 64 * 1024
# A frame that is built in pieces is built in these; a multiple of the mask's four bytes.
_PIECE_BYTES = 512 * 1024


@attrs.frozen
class Binary:
    """A whole binary message."""

    data: bytes | bytearray


@attrs.frozen
class Ping:
    """A ping; it wants a pong with the same payload."""

    payload: bytes


@attrs.frozen
class Pong:
    """A pong."""

    payload: bytes


@attrs.frozen
class Close:
    """The peer's close frame; ``code`` is 1005 if the frame had none."""

    code: int
    reason: str


@attrs.frozen
class Violation:
    """The peer broke the protocol: close with this code, and read nothing more."""

    code: int
    reason: str


Delivery = bytes | bytearray | Binary | Ping | Pong | Close | Violation


class Framing:
    """
    The reading half of one connection's framing.

    Not thread-safe: it belongs to the thread that reads the socket.

    Args:
        role: Which side this is; a client refuses masked frames, a server unmasked ones.
        max_message_bytes: A longer message is refused before its payload is taken.
        max_fragments: A message of more frames than this is refused.

    Attributes:
        only_text: Whether the last delivery held text messages alone, so that nobody has to look at each.
    """

    def __init__(
        self,
        role: Literal["client", "server"],
        *,
        max_message_bytes: int = 128 * 1024 * 1024,
        max_fragments: int = 65_536,
    ) -> None:
        self._client = role == "client"
        self._max_message_bytes = max_message_bytes
        self._max_fragments = max_fragments
        self._rest: bytes = b""  # The beginning of a frame that is not whole yet.
        self._over = False
        self.only_text = True
        # The fragmented message under way: its opcode (0 for none), parts, size and UTF-8 check.
        self._opcode = 0
        self._parts: list[bytes | bytearray] = []
        self._parts_bytes = 0
        self._utf8 = codecs.getincrementaldecoder("utf-8")()
        # The large payload under way, how much of it is there, and the header it came with.
        self._large: bytearray | None = None
        self._filled = 0
        self._large_bytes = 0
        self._large_header: tuple[int, bool, bytes] = (0, True, b"")

    @property
    def over(self) -> bool:
        """Whether the peer closed or broke the protocol; whatever still comes is ignored."""
        return self._over

    def feed(self, data: bytes) -> list[Delivery]:
        """
        Take bytes from the socket and return what they complete, in order.

        Args:
            data: What was read; any cut is fine, down to single bytes.
        """
        if self._over:
            return []
        self.only_text = True
        delivered: list[Delivery] = []
        if self._large is not None:
            data = self._feed_large(data, delivered)
            if self._over:
                return delivered
        buffer = self._rest + data if self._rest else data
        position = self._messages(buffer, delivered)
        self._rest = buffer[position:] if position < len(buffer) and not self._over else b""
        return delivered

    def room(self) -> memoryview | None:
        """
        Return where the next bytes of a large payload belong, or None if none is under way.

        Reading straight into it saves a copy. Release the view, then call ``filled``.
        """
        if self._large is None or self._over:
            return None
        missing = self._large_bytes - self._filled
        if len(self._large) == self._filled:
            # Grown as it fills, at most doubled: a length that is only announced costs nothing.
            self._large.extend(bytes(min(missing, max(_ROOM_BYTES, self._filled))))
        return memoryview(self._large)[self._filled :]

    def filled(self, count: int) -> list[Delivery]:
        """Tell that ``count`` bytes were read into ``room()``, and return what they complete."""
        delivered: list[Delivery] = []
        self.only_text = True
        self._filled += count
        if self._filled == self._large_bytes:
            self._finish_large(delivered)
        return delivered

    def _messages(self, buffer: bytes, delivered: list[Delivery]) -> int:
        """Deliver every whole frame of the buffer; return where the first incomplete one begins."""
        position, end = 0, len(buffer)
        while True:
            if self._client and not self._opcode:
                position = self._whole_texts(buffer, position, delivered)
            if end - position < 2:
                return position
            after = self._frame(buffer, position, delivered)
            if after is None or self._over:
                return position
            position = after

    def _whole_texts(self, buffer: bytes, position: int, delivered: list[Delivery]) -> int:
        """Deliver whole, unmasked text frames of up to 64 KiB, nearly all there are; return where another begins."""
        last = len(buffer) - 4  # Where the longest header of such a frame may begin.
        most, deliver = self._max_message_bytes, delivered.append
        while position <= last and buffer[position] == 0x81:
            length = buffer[position + 1]
            start = position + 2
            if length == 126:
                length = buffer[start] << 8 | buffer[position + 3]
                start = position + 4
            elif length > 126:
                break
            payload = buffer[start : start + length]
            if (
                len(payload) < length
                or length > most
                or not (payload.isascii() or _is_utf8(payload))
            ):
                break
            deliver(payload)
            position = start + length
        return position

    def _frame(self, buffer: bytes, position: int, delivered: list[Delivery]) -> int | None:
        """Take one frame of any kind; return where it ends, or None if it is not whole yet."""
        first, second = buffer[position], buffer[position + 1]
        length, start = second & 0x7F, position + 2
        if length >= 126:
            wide = 2 if length == 126 else 8
            if len(buffer) < start + wide:
                # The first two bytes alone may already break the protocol.
                return self._checked(first, second, 0, delivered)
            length = int.from_bytes(buffer[start : start + wide], "big")
            start += wide
        if self._checked(first, second, length, delivered) is not None:
            return len(buffer)
        mask = b""
        if second & 0x80:
            mask = buffer[start : start + 4]
            start += 4
            if len(mask) < 4:
                return None
        opcode, fin, stop = first & 0x0F, bool(first & 0x80), start + length
        if stop > len(buffer):
            if length < _LARGE_BYTES:
                return None
            self._large_header = (opcode, fin, mask)
            self._large_bytes, self._filled = length, len(buffer) - start
            self._large = bytearray(memoryview(buffer)[start:])
            return len(buffer)
        payload = buffer[start:stop]
        self._take(opcode, fin, _masked(payload, mask) if mask else payload, delivered)
        return stop

    def _checked(
        self, first: int, second: int, length: int, delivered: list[Delivery]
    ) -> int | None:
        """Return None for a good frame header; else deliver the violation and return any number."""
        fault = self._fault(first, second, length)
        if fault is None:
            return None
        self._violate(*fault, delivered)
        return 0

    def _fault(self, first: int, second: int, length: int) -> tuple[int, str] | None:
        opcode, fin = first & 0x0F, first & 0x80
        if first & 0x70:
            return 1002, "reserved bits are set"
        if bool(second & 0x80) == self._client:
            return 1002, "a frame is masked" if self._client else "a frame is not masked"
        if opcode > PONG or BINARY < opcode < CLOSE:
            return 1002, f"opcode {opcode} is unknown"
        if opcode >= CLOSE:
            if not fin or second & 0x7F > 125:
                return 1002, "a control frame is fragmented or longer than 125 bytes"
            return None
        return self._data_fault(opcode, length)

    def _data_fault(self, opcode: int, length: int) -> tuple[int, str] | None:
        if (opcode == CONTINUATION) != bool(self._opcode):
            return 1002, "a fragmented message was continued wrongly"
        # Before the length, which may not have come yet.
        if len(self._parts) >= self._max_fragments:
            return 1009, f"a message has more than {self._max_fragments} fragments"
        if length >> 63:
            return 1002, "a frame's length has its top bit set"
        if length + self._parts_bytes > self._max_message_bytes:
            return 1009, f"a message is longer than {self._max_message_bytes} bytes"
        return None

    def _take(
        self, opcode: int, fin: bool, payload: bytes | bytearray, delivered: list[Delivery]
    ) -> None:
        if opcode >= CLOSE:
            self._control(opcode, bytes(payload), delivered)
        elif fin and opcode != CONTINUATION:
            self._deliver(opcode, payload, delivered)
        else:
            self._fragment(opcode, fin, payload, delivered)

    def _control(self, opcode: int, payload: bytes, delivered: list[Delivery]) -> None:
        self.only_text = False
        if opcode == PING:
            delivered.append(Ping(payload))
        elif opcode == PONG:
            delivered.append(Pong(payload))
        else:
            ending = _parse_close(payload)
            self._over = True
            delivered.append(ending)

    def _deliver(self, opcode: int, payload: bytes | bytearray, delivered: list[Delivery]) -> None:
        if opcode == BINARY:
            self.only_text = False
            delivered.append(Binary(payload))
        elif payload.isascii() or _is_utf8(payload):
            delivered.append(payload)
        else:
            self._violate(1007, "a text message is no UTF-8", delivered)

    def _fragment(
        self, opcode: int, fin: bool, payload: bytes | bytearray, delivered: list[Delivery]
    ) -> None:
        """Gather one part of a fragmented message; bad UTF-8 is refused at once, not at its end."""
        self._opcode = self._opcode or opcode
        if self._opcode == TEXT:
            try:
                self._utf8.decode(payload, fin)
            except UnicodeDecodeError:
                self._violate(1007, "a text message is no UTF-8", delivered)
                return
        self._parts.append(payload)
        self._parts_bytes += len(payload)
        if fin:
            message = b"".join(self._parts)
            self.only_text = self.only_text and self._opcode == TEXT
            delivered.append(message if self._opcode == TEXT else Binary(message))
            self._opcode, self._parts, self._parts_bytes = 0, [], 0
            self._utf8.reset()

    def _feed_large(self, data: bytes, delivered: list[Delivery]) -> bytes:
        """Fill the large payload under way; return the bytes behind it."""
        assert self._large is not None
        missing = self._large_bytes - self._filled
        if len(self._large) > self._filled:
            del self._large[self._filled :]  # Room that was offered and not used.
        self._large += data if len(data) <= missing else memoryview(data)[:missing]
        delivered += self.filled(min(len(data), missing))
        return data[missing:]

    def _finish_large(self, delivered: list[Delivery]) -> None:
        assert self._large is not None
        payload, (opcode, fin, mask) = self._large, self._large_header
        self._large = None
        self._take(opcode, fin, _masked(payload, mask) if mask else payload, delivered)

    def _violate(self, code: int, reason: str, delivered: list[Delivery]) -> None:
        self._over = True
        self.only_text = False
        self._large = None
        delivered.append(Violation(code, reason))


def encode(
    opcode: int, payload: bytes | bytearray, *, mask: bytes | None = None, fin: bool = True
) -> bytes | bytearray:
    """
    Build one frame.

    Args:
        opcode: ``TEXT``, ``BINARY``, ``CLOSE``, ``PING``, ``PONG`` or ``CONTINUATION``.
        payload: The frame's payload; UTF-8 for text.
        mask: Four unpredictable bytes for a client's frame, None for a server's.
        fin: False if more frames of the same message follow.
    """
    frame = _header(opcode, len(payload), mask, fin)
    frame += _masked(payload, mask) if mask else payload
    return frame


def encode_in_pieces(
    opcode: int, payload: bytes | bytearray, *, mask: bytes
) -> Iterator[bytes | bytearray]:
    """Build one masked frame bit by bit, so that its first piece can travel while the next one is masked."""
    frame = _header(opcode, len(payload), mask, True)
    with memoryview(payload) as view:
        for start in range(0, len(payload), _PIECE_BYTES):
            frame += _masked(view[start : start + _PIECE_BYTES], mask)
            yield frame
            frame = bytearray()


def _header(opcode: int, length: int, mask: bytes | None, fin: bool) -> bytearray:
    masked = 0x80 if mask else 0
    header = bytearray((opcode | (0x80 if fin else 0),))
    if length < 126:
        header.append(masked | length)
    elif length < 65_536:
        header.append(masked | 126)
        header += length.to_bytes(2, "big")
    else:
        header.append(masked | 127)
        header += length.to_bytes(8, "big")
    return header + mask if mask else header


def encode_close(code: int, reason: str = "", *, mask: bytes | None = None) -> bytes | bytearray:
    """Build a close frame; a reason that does not fit is cut between characters."""
    words = reason.encode()[:123].decode(errors="ignore").encode()
    payload = b"" if code == _NO_STATUS else code.to_bytes(2, "big") + words
    return encode(CLOSE, payload, mask=mask)


def _parse_close(payload: bytes) -> Close | Violation:
    if not payload:
        return Close(_NO_STATUS, "")
    code = int.from_bytes(payload[:2], "big")
    if len(payload) == 1 or not (code in _CLOSE_CODES or 3000 <= code < 5000):
        return Violation(1002, "a close frame has no valid code")
    try:
        return Close(code, payload[2:].decode())
    except UnicodeDecodeError:
        return Violation(1007, "a close frame's reason is no UTF-8")


def _is_utf8(payload: bytes | bytearray) -> bool:
    try:
        payload.decode()
    except UnicodeDecodeError:
        return False
    return True


def _masked(payload: bytes | bytearray | memoryview, mask: bytes) -> bytes | bytearray:
    """Mask or unmask: XOR in chunks of 64 KiB as big integers, the fastest that needs no C of our own."""
    length = len(payload)
    if length < _MASK_CHUNK_BYTES:
        return _xor(payload, int.from_bytes((mask * (length // 4 + 1))[:length], "little"))
    masked = bytearray(length)
    key = int.from_bytes(mask * (_MASK_CHUNK_BYTES // 4), "little")
    whole = length - length % _MASK_CHUNK_BYTES
    with memoryview(payload) as view:
        for start in range(0, whole, _MASK_CHUNK_BYTES):
            stop = start + _MASK_CHUNK_BYTES
            masked[start:stop] = _xor(view[start:stop], key)
        masked[whole:] = _masked(view[whole:], mask)
    return masked


def _xor(chunk: bytes | bytearray | memoryview, key: int) -> bytes:
    return (int.from_bytes(chunk, "little") ^ key).to_bytes(len(chunk), "little")
