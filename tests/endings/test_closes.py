"""Every ending at every point of a turn, over real sockets; ``test_breaks`` shows that these can fail."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.endings import closes


@pytest.mark.parametrize("ending", closes.CLOSES)
@pytest.mark.parametrize("point", closes.POINTS)
def test_a_broken_turn_ends_everybody_with_the_same_error(point, ending):
    closes.breaks_off(point, ending)


@pytest.mark.parametrize("ending", closes.MUTES)
def test_a_mute_connection_ends_everybody_with_the_same_error(ending):
    # The waits overlap; a failure shows with the point in its traceback's locals.
    with ThreadPoolExecutor(len(closes.POINTS)) as pool:
        ends = {name: pool.submit(closes.breaks_off, name, ending) for name in closes.POINTS}
    for name, end in ends.items():
        assert end.exception() is None, f"{name}: {end.exception()!r}"


@pytest.mark.parametrize("ending", [*closes.CLOSES, "mute"])
def test_a_close_behind_the_terminal_event_harms_nobody(ending):
    closes.ends_right_after(ending)


@pytest.mark.parametrize("ending", ["fin", "rst"])
def test_a_turn_is_redialled_while_the_upgrade_goes_unanswered(ending):
    closes.is_redialled(ending)


def test_an_upgrade_that_is_never_answered_ends_everybody_with_connect_timeout():
    closes.is_never_upgraded()


@pytest.mark.parametrize("ending", ["fin", "rst", "1000", "1011"])
def test_a_queued_turn_is_sent_once_on_the_next_connection(ending):
    closes.is_sent_once(ending)


@pytest.mark.parametrize("code", ["1000", "1011", "1012"])
def test_a_turn_is_redialled_when_the_server_closes_at_once(code):
    closes.stops_at_an_early_close(code)


def test_five_refused_dials_end_everybody_with_a_reconnect_error():
    closes.gives_up()
