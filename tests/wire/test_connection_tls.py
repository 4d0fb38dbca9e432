"""The I/O thread's rounds on a real TLS socket, which holds bytes that select() cannot see."""

from __future__ import annotations

import select
import threading
from types import SimpleNamespace

import pytest

from llmws.wire.framing import TEXT, encode
from llmws.wire.steps import Deliver, Want
from tests.wire.harness import Bench


# More than a plain read takes, so that it is read straight into its place; no multiple of a TLS record.
LARGE_BYTES = 150_001


@pytest.fixture
def bench(pair) -> Bench:
    """Return a connection that has the client's end, and has read what the handshake left."""
    bench = Bench()
    bench.dials.append(SimpleNamespace(sock=pair[0], early=b""))
    bench.connection.post([Want(5.0)])
    bench.turn()
    bench.dial()
    bench.turn()
    return bench


def messages(bench: Bench) -> list[bytes]:
    return [bytes(message) for deliver in bench.router.of(Deliver) for message in deliver.messages]


def test_all_records_that_have_come_are_read_in_one_round(bench, pair) -> None:
    _, server = pair
    said = [b"one", b"two", b"three"]
    for message in said:
        server.sendall(bytes(encode(TEXT, message)))
    bench.turn(readable=True)
    assert messages(bench) == said


def test_what_tls_has_taken_beyond_a_large_message_is_read_before_the_next_wait(
    bench, pair
) -> None:
    client, server = pair
    said = [b"x" * LARGE_BYTES, b"behind it, in the same record"]
    wire = b"".join(bytes(encode(TEXT, message)) for message in said)
    sending = threading.Thread(target=server.sendall, args=(wire,), daemon=True)
    sending.start()
    # As the selector would have it: a turn only while the kernel has something.
    while sending.is_alive() or select.select([client], [], [], 0)[0]:
        if select.select([client], [], [], 10)[0]:
            bench.turn(readable=True)
    assert client.pending() == 0
    assert messages(bench) == said
