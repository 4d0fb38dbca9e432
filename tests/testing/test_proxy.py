"""What the fault proxy does to bytes, byte by byte."""

import contextlib
import os
import socket
import threading
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmws.errors import ConfigurationError, WouldDeadlockError
from llmws.testing.plans import Plan
from llmws.testing.proxy import FaultProxy
from tests.wire.peers import Peer


PATIENCE = 5.0
DATA = bytes(range(256)) * 4


class Target(Peer):
    """
    A server of bytes.

    Args:
        says: What it sends to each connection at once.
        answers: What it sends to each connection once something comes.
        echoes: Whether it sends back what comes.

    Attributes:
        heard: What came, of all connections.
        ends: How each connection ended for it: ``eof`` or ``reset``.
    """

    def __init__(self, says=b"", answers=b"", echoes=False):
        super().__init__(self._play)
        self.says, self.answers, self.echoes = says, answers, echoes
        self.heard = b""
        self.ends = []
        self._changed = threading.Condition()

    def _play(self, conn):
        end = "eof"
        try:
            if (
                self.says
            ):  # To send nothing would already tell of a reset, in front of what came before it.
                conn.sendall(self.says)
            while data := conn.recv(65536):
                with self._changed:
                    self.heard += data
                    self._changed.notify_all()
                if self.answers:
                    conn.sendall(self.answers)
                if self.echoes:
                    conn.sendall(data)
        except ConnectionError:
            end = "reset"
        with self._changed:
            self.ends.append(end)
            self._changed.notify_all()

    def wait(self, predicate):
        with self._changed:
            assert self._changed.wait_for(predicate, PATIENCE), (len(self.heard), self.ends)


@contextlib.contextmanager
def proxied(plan=None, **options):
    """Open a target and a proxy before it."""
    with (
        Target(**options) as target,
        FaultProxy("127.0.0.1", target.port, plan=plan) as proxy,
    ):
        yield proxy, target


@contextlib.contextmanager
def through(plan=None, **options):
    """Open a target, a proxy before it and a client's socket."""
    with proxied(plan, **options) as (proxy, target), connected(proxy) as client:
        yield client, proxy, target


def connected(proxy):
    return socket.create_connection(("127.0.0.1", proxy.port), timeout=PATIENCE)


def outcome(proxy):
    """Dial, and read to the end; a reset may come before the system says that the dial has succeeded."""
    try:
        with connected(proxy) as client:
            return read(client)
    except ConnectionResetError:
        return b"", "reset"


def read(sock, count=None):
    """Read so many bytes, or to the end; return them and how they ended: ``more``, ``eof`` or ``reset``."""
    data = b""
    while count is None or len(data) < count:
        try:
            piece = sock.recv(65536)
        except ConnectionResetError:
            return data, "reset"
        if not piece:
            return data, "eof"
        data += piece
    return data, "more"


def is_silent(sock):
    """Tell whether nothing is there to be read, not even an end."""
    sock.settimeout(0.03)
    try:
        sock.recv(1)
    except TimeoutError:
        return True
    finally:
        sock.settimeout(PATIENCE)
    return False


# Without faults.


def test_bytes_and_ends_pass_unharmed_both_ways():
    big = os.urandom(3 * 2**20)
    with through(says=DATA, echoes=True) as (client, proxy, target):
        assert read(client, len(DATA))[0] == DATA
        sender = threading.Thread(target=client.sendall, args=(big,))
        sender.start()
        assert read(client, len(big))[0] == big
        sender.join()
        client.shutdown(socket.SHUT_WR)
        assert read(client) == (b"", "eof")
        assert target.ends == ["eof"]
        assert proxy.wait(lambda proxy: proxy.counters.open == 0)
        counters = proxy.counters
        assert counters.connections == 1
        assert counters.from_client_bytes == counters.to_server_bytes == len(big)
        assert counters.from_server_bytes == counters.to_client_bytes == len(big) + len(DATA)
        assert counters.fired == 0


def test_what_the_server_says_last_is_not_lost_with_it():
    def script(conn):
        conn.sendall(DATA * 1000)

    with (
        Peer(script) as peer,
        FaultProxy("127.0.0.1", peer.port) as proxy,
        connected(proxy) as client,
    ):
        assert read(client) == (DATA * 1000, "eof")


def test_a_reset_passes():
    with through() as (client, _, target):
        client.sendall(b"x")
        target.wait(lambda: target.heard)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        client.close()
        target.wait(lambda: target.ends == ["reset"])


def test_a_server_that_talks_on_hears_that_its_client_is_gone():
    def script(conn):
        try:
            while True:
                conn.sendall(DATA)
        except ConnectionError:
            ends.append("heard")

    ends = []
    with Peer(script) as peer, FaultProxy("127.0.0.1", peer.port) as proxy:
        with connected(proxy) as client:
            assert read(client, 10)[1] == "more"
            client.shutdown(socket.SHUT_WR)
        assert proxy.wait(lambda proxy: proxy.counters.open == 0)
    assert ends == ["heard"]


def test_a_target_that_is_not_there_resets_its_clients():
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with FaultProxy("127.0.0.1", port) as proxy:
        assert outcome(proxy) == (b"", "reset")


def test_connections_are_numbered_and_do_not_disturb_each_other():
    with (
        through(lambda number: Plan("fin") if number == 2 else None, echoes=True) as (
            one,
            proxy,
            _,
        ),
        connected(proxy) as two,
        connected(proxy) as three,
    ):
        assert read(two) == (b"", "eof")
        for client in (one, three):
            client.sendall(DATA)
            assert read(client, len(DATA))[0] == DATA
        assert [fired.connection for fired in proxy.fired] == [2]
        assert proxy.counters.connections == 3


# Places.


@pytest.mark.parametrize(("what", "end"), [("reset", "reset"), ("fin", "eof")])
@pytest.mark.parametrize("count", [1, 700])
def test_exactly_so_many_of_the_servers_bytes_come_through(what, end, count):
    plan = Plan(what, after_server_bytes=count)
    with through(plan, answers=DATA) as (client, proxy, _):
        client.sendall(b"?")
        assert read(client) == (DATA[:count], end)
        (fired,) = proxy.fired
        assert (fired.connection, fired.plan, fired.server_bytes) == (1, plan, count)
        assert proxy.counters.to_client_bytes == count


@pytest.mark.parametrize(("what", "end"), [("reset", "reset"), ("fin", "eof")])
def test_none_of_the_servers_bytes_come_through(what, end):
    with proxied(Plan(what, after_server_bytes=0), says=DATA) as (proxy, _):
        assert outcome(proxy) == (b"", end)
        assert proxy.counters.to_client_bytes == 0


@pytest.mark.parametrize(("what", "end"), [("reset", "reset"), ("fin", "eof")])
@pytest.mark.parametrize("count", [1, 700])
def test_exactly_so_many_of_the_clients_bytes_come_through(what, end, count):
    with through(Plan(what, after_client_bytes=count)) as (client, proxy, target):
        client.sendall(DATA)
        target.wait(lambda: target.ends)
        assert (target.heard, target.ends) == (DATA[:count], [end])
        assert proxy.counters.to_server_bytes == proxy.fired[0].client_bytes == count


@given(first=st.integers(0, 40), second=st.integers(0, 40))
def test_several_plans_each_strike_at_their_own_place(first, second):
    plans = [
        Plan("split", size_bytes=3, after_server_bytes=first),
        Plan("fin", after_server_bytes=second),
    ]
    with through(plans, says=DATA) as (client, proxy, _):
        assert read(client)[0] == DATA[:second]
        happened = [(fired.plan.what, fired.server_bytes) for fired in proxy.fired]
        expected = [("split", first)] * (first <= second) + [("fin", second)]
        assert happened == expected


def test_a_place_that_is_never_reached_is_not_counted():
    with through(Plan("reset", after_server_bytes=len(DATA) + 1), says=DATA) as (client, proxy, _):
        assert read(client, len(DATA))[0] == DATA
        assert is_silent(client)
        assert proxy.fired == []


def test_a_plan_strikes_after_its_time():
    start = time.monotonic()
    with through(Plan("fin", after_seconds=0.05)) as (client, _, _):
        assert read(client) == (b"", "eof")
    assert time.monotonic() - start >= 0.05


# By a call.


def test_a_strike_hits_one_connection_or_all():
    with through() as (one, proxy, _), connected(proxy) as two, connected(proxy) as three:
        assert proxy.wait(lambda proxy: proxy.counters.open == 3)
        assert proxy.strike(Plan("fin"), connection=2) == 1
        assert read(two) == (b"", "eof")
        two.close()
        assert proxy.wait(lambda proxy: proxy.counters.open == 2)
        assert proxy.strike(Plan("reset")) == 2
        assert read(one) == read(three) == (b"", "reset")
        assert proxy.strike(Plan("reset")) == 0
        assert [fired.connection for fired in proxy.fired] == [2, 1, 3]


@pytest.mark.parametrize(
    "plan",
    [
        Plan("reset", after_seconds=1),
        Plan("refuse"),
        Plan("mute"),
        Plan("fin", after_client_bytes=1),
    ],
)
def test_a_strike_waits_for_nothing(plan):
    with FaultProxy("127.0.0.1", 1) as proxy, pytest.raises(ConfigurationError, match="plan"):
        proxy.strike(plan)


def test_a_closed_door_refuses_until_it_is_open_again():
    with through(echoes=True) as (client, proxy, target):
        proxy.refuse()
        proxy.refuse()
        with pytest.raises(ConnectionRefusedError):
            connected(proxy)
        client.sendall(b"still here")
        assert read(client, 10)[0] == b"still here"
        proxy.accept()
        proxy.accept()
        with connected(proxy) as other:
            other.sendall(b"back")
            assert read(other, 4)[0] == b"back"
        assert target.connections == 2


# Kinds.


def test_a_black_hole_swallows_and_stays_open():
    with through(Plan("black_hole", after_client_bytes=3), echoes=True) as (client, proxy, target):
        client.sendall(b"one")
        assert proxy.wait(lambda proxy: proxy.fired)
        client.sendall(b"two")
        assert proxy.wait(lambda proxy: proxy.counters.from_client_bytes == 6)
        assert is_silent(client)
        assert target.heard == b"one"
        assert target.ends == []
        client.close()
        target.wait(lambda: target.ends)
        assert target.heard == b"one"


def test_a_black_hole_hides_the_servers_end():
    with (
        Peer(lambda conn: None) as peer,
        FaultProxy("127.0.0.1", peer.port, plan=Plan("black_hole")) as proxy,
    ):
        with connected(proxy) as client:
            assert is_silent(client)
            assert proxy.counters.open == 1
        assert proxy.wait(lambda proxy: proxy.counters.open == 0)


@pytest.mark.parametrize(("way", "heard", "echoed"), [("client", b"", b""), ("server", b"hi", b"")])
def test_a_black_hole_may_be_one_way(way, heard, echoed):
    with through(Plan("black_hole", way=way), says=b"welcome", echoes=True) as (
        client,
        proxy,
        target,
    ):
        if way == "client":
            assert read(client, 7)[0] == b"welcome"
        client.sendall(b"hi")
        assert proxy.wait(lambda proxy: proxy.counters.from_client_bytes == 2)
        if way == "server":
            target.wait(lambda: target.heard == b"hi")
        assert is_silent(client)
        assert target.heard == heard
        client.close()
        assert proxy.wait(lambda proxy: proxy.counters.open == 0)


def test_a_half_close_ends_the_servers_bytes_alone():
    plan = Plan("half_close", way="server", after_server_bytes=4)
    with through(plan, says=DATA) as (client, _, target):
        assert read(client) == (DATA[:4], "eof")
        client.sendall(b"and yet")
        target.wait(lambda: target.heard == b"and yet")
        assert target.ends == []


def test_a_half_close_ends_the_clients_bytes_alone():
    plan = Plan("half_close", way="client", after_client_bytes=4)

    def script(conn):
        assert read(conn) == (DATA[:4], "eof")
        conn.sendall(b"and yet")

    with (
        Peer(script) as peer,
        FaultProxy("127.0.0.1", peer.port, plan=plan) as proxy,
        connected(proxy) as client,
    ):
        client.sendall(DATA)
        assert read(client) == (b"and yet", "eof")


@pytest.mark.parametrize(("way", "least"), [("both", 0.06), ("client", 0.03), ("server", 0.03)])
def test_a_delay_holds_each_piece_and_keeps_several_on_the_way(way, least):
    with through(Plan("delay", seconds=0.03, way=way), echoes=True) as (client, _, _):
        start = time.monotonic()
        for _ in range(50):
            client.sendall(b"x")
        assert read(client, 50)[0] == b"x" * 50
        assert least <= time.monotonic() - start < 50 * least


def test_a_throttle_lets_so_many_bytes_through():
    data = b"x" * 4000
    with through(Plan("throttle", bytes_per_second=80_000), says=data) as (client, _, _):
        start = time.monotonic()
        assert read(client, len(data))[0] == data
        assert time.monotonic() - start >= 0.04


def test_single_bytes_come_in_order():
    with through(Plan("split", size_bytes=1), echoes=True) as (client, _, target):
        client.sendall(DATA)
        assert read(client, len(DATA))[0] == DATA
        assert target.heard == DATA


def test_a_refused_connection_is_reset_and_not_dialled():
    with proxied(Plan("refuse")) as (proxy, target):
        assert outcome(proxy) == (b"", "reset")
        assert target.connections == 0
        assert proxy.counters.connections == proxy.counters.fired == 1


def test_a_mute_connection_is_accepted_and_not_dialled():
    with through(Plan("mute")) as (client, proxy, target):
        client.sendall(DATA)
        assert proxy.wait(lambda proxy: proxy.counters.from_client_bytes == len(DATA))
        assert is_silent(client)
        assert target.connections == 0
        client.close()
        assert proxy.wait(lambda proxy: proxy.counters.open == 0)


# Its own life.


@pytest.mark.parametrize(
    "plan",
    [
        None,
        Plan("black_hole"),
        Plan("mute"),
        Plan("delay", seconds=3600),
        Plan("half_close", way="server"),
    ],
)
def test_close_ends_everything_in_any_state(plan):
    with through(plan, says=DATA * 5000) as (client, proxy, _):
        client.sendall(DATA)
        assert proxy.wait(lambda proxy: proxy.counters.from_client_bytes > 0)
        proxy.close()
        proxy.close()
        assert read(client)[1] in ("eof", "reset")
        assert proxy.counters.open == 0
        with pytest.raises(ConnectionRefusedError):
            connected(proxy)
        # Nothing is there any more, and nobody waits for it.
        assert proxy.strike(Plan("reset")) == 0
        proxy.accept()


def test_a_plan_function_that_raises_costs_its_connection_and_is_told():
    def plan(number):
        raise ValueError(number)

    with proxied(plan) as (proxy, _):
        assert outcome(proxy) == (b"", "reset")
        assert [str(error) for error in proxy.errors] == ["1"]


def test_a_plan_function_may_not_wait_for_the_thread_that_calls_it():
    with proxied(lambda number: proxy.strike(Plan("reset"))) as (proxy, _):
        assert outcome(proxy) == (b"", "reset")
        assert [type(error) for error in proxy.errors] == [WouldDeadlockError]


@pytest.mark.parametrize(
    "plan",
    [
        None,
        Plan("black_hole"),
        Plan("mute"),
        Plan("fin"),
        Plan("half_close", way="server"),
        Plan("delay", seconds=3600),
    ],
)
def test_a_proxy_with_nothing_to_do_does_nothing(plan):
    """Such as on a connection whose server has gone, which a selector tells of again and again."""
    rounds = 0

    def count(_):
        nonlocal rounds
        rounds += 1

    with (
        Peer(lambda conn: conn.sendall(b"x")) as peer,
        FaultProxy("127.0.0.1", peer.port, plan=plan) as proxy,
        connected(proxy),
    ):
        assert proxy.wait(lambda proxy: proxy.counters.connections == 1)
        proxy.strike(Plan("fin"), connection=2)  # It wakes the thread, and is for nobody.
        proxy.wait(count, timeout=0.05)  # Asked after each round of the proxy's thread.
    assert rounds < 20
