from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmws.errors import ConnectError, HandshakeError
from llmws.wire.deadline import Deadline, TimedSocket
from llmws.wire.upgrade import Reply, _unchunked, read_reply


class InPieces(TimedSocket):
    """Reads so many bytes at a time, whatever the network would give."""

    piece_bytes = 1

    def read(self, size: int) -> bytes:
        return super().read(self.piece_bytes)


@pytest.fixture
def pair() -> Iterator[tuple[InPieces, socket.socket]]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield InPieces(ours, Deadline(5.0), "the server"), theirs


@pytest.mark.parametrize("line_end", [b"\r\n", b"\n"])
@pytest.mark.parametrize("piece_bytes", [1, 2, 3, 5, 1000])
def test_a_head_is_found_however_it_is_cut(
    pair: tuple[InPieces, socket.socket], line_end: bytes, piece_bytes: int
) -> None:
    wire, server = pair
    wire.piece_bytes = piece_bytes
    server.sendall(line_end.join([b"HTTP/1.1 204 Fine", b"X-A: 1", b"x-a:  2 ", b"Y:", b"", b""]))
    server.sendall(b"rest")
    server.shutdown(socket.SHUT_WR)
    assert read_reply(wire) == Reply(204, {"x-a": "1, 2", "y": ""})
    while wire.fill():
        pass
    assert wire.inbound == b"rest"


def test_cookies_are_no_part_of_a_reply(pair: tuple[InPieces, socket.socket]) -> None:
    wire, server = pair
    server.sendall(b"HTTP/1.0 200\r\nSET-COOKIE: a=b\r\nset-cookie: c=d\r\n\r\n")
    assert read_reply(wire) == Reply(200, {})


@pytest.mark.parametrize(
    "head",
    [
        b" Set-Cookie: a=b",
        b"Set-Cookie : a=b",
        b"\x0bSet-Cookie: a=b",
        b": x",
        b"a b: c",
        b"x\x00: y",
    ],
)
def test_a_field_whose_name_is_no_token_makes_the_whole_reply_bad(
    pair: tuple[InPieces, socket.socket], head: bytes
) -> None:
    wire, server = pair
    server.sendall(b"HTTP/1.1 200 OK\r\n" + head + b"\r\n\r\n")
    with pytest.raises(HandshakeError, match="no HTTP"):
        read_reply(wire)


def test_an_end_before_the_head_is_complete_is_an_error(
    pair: tuple[InPieces, socket.socket],
) -> None:
    wire, server = pair
    server.sendall(b"HTTP/1.1 200 OK\r\n")
    server.close()
    with pytest.raises(ConnectError, match="closed the connection"):
        read_reply(wire)


@given(chunks=st.lists(st.binary(min_size=1, max_size=40), max_size=8), cut=st.integers(0, 400))
def test_chunks_are_joined_and_a_cut_body_gives_its_beginning(
    chunks: list[bytes], cut: int
) -> None:
    wire = b"".join(b"%x\r\n%s\r\n" % (len(chunk), chunk) for chunk in chunks) + b"0\r\n\r\n"
    assert _unchunked(wire) == (b"".join(chunks), True)
    body, _ = _unchunked(wire[:cut])
    assert b"".join(chunks).startswith(body)


@given(st.binary(max_size=200))
def test_any_bytes_can_be_taken_for_chunks(data: bytes) -> None:
    body, _ = _unchunked(data)
    assert len(body) <= len(data)
