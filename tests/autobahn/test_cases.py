"""Autobahn's cases and more, played everywhere: against the link alone, and over real sockets."""

from __future__ import annotations

import pytest

from llmws.errors import HandshakeError
from llmws.wire.link import LinkPolicy
from tests.autobahn.cases import CASES
from tests.autobahn.echo import Driver
from tests.autobahn.players import expected, play_link, playing_over_sockets
from tests.wire.peers import Peer, upgrading


SECTIONS = list(dict.fromkeys(case.section for case in CASES))


def differences(section, piece_bytes, play):
    """Return by name what came of the cases that did not go as they must, and what was to come of them."""
    cases = [case for case in CASES if case.section == section]
    came = {case.name: (play(case, piece_bytes), expected(case)) for case in cases}
    assert len(came) == len(cases), "two cases have one name"
    return {name: (found, wanted) for name, (found, wanted) in came.items() if found != wanted}


def test_every_section_has_cases():
    assert SECTIONS == ["1", "2", "3", "4", "5", "6", "7", "10", "own"]


@pytest.mark.parametrize("section", SECTIONS)
@pytest.mark.parametrize("piece_bytes", [None, 1, 3])
def test_a_link_does_in_each_case_as_it_must(section, piece_bytes):
    assert differences(section, piece_bytes, play_link) == {}


@pytest.mark.parametrize("section", SECTIONS)
def test_a_connection_does_in_each_case_as_it_must(section):
    with playing_over_sockets() as player:
        assert differences(section, None, player.play) == {}


# 3, 4 and 6 have most of the cases, and each of theirs is about one frame.
@pytest.mark.parametrize("section", ["1", "2", "5", "7", "10", "own"])
def test_a_connection_that_gets_every_byte_by_itself_does_as_it_must(section):
    with playing_over_sockets() as player:
        assert differences(section, 1, player.play) == {}


@pytest.mark.parametrize(
    "chosen", ["Sec-WebSocket-Extensions: permessage-deflate", "Sec-WebSocket-Protocol: chat"]
)
def test_a_connection_takes_no_socket_on_terms_that_it_did_not_offer(chosen):
    with (
        Peer(upgrading(extra=f"{chosen}\r\n")) as peer,
        Driver(peer.port, LinkPolicy()) as driver,
    ):
        with pytest.raises(HandshakeError, match="where nothing was offered") as caught:
            driver.visit("/", 10.0)
        assert not caught.value.retryable
        assert peer.connections == 1
