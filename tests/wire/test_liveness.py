"""The clocks of a link, by numbers alone."""

from llmws.wire.liveness import Liveness


def opened(now=0.0):
    liveness = Liveness(ping_interval=20.0, ping_timeout=10.0, pong_grace=1.0)
    liveness.opened(now)
    return liveness


def pinged(now=20.0):
    liveness = opened()
    liveness.ping_queued(now)
    return liveness


def test_the_first_ping_is_due_an_interval_after_the_opening():
    assert opened(5.0).deadline == 25.0


def test_a_pings_clock_starts_when_its_bytes_reach_the_kernel():
    liveness = pinged(20.0)
    assert liveness.deadline == 30.0
    liveness.ping_written(23.0)
    assert (liveness.deadline, liveness.silence(30.0)) == (33.0, 7.0)


def test_progress_of_the_outbox_moves_the_deadline():
    liveness = pinged(20.0)
    liveness.progressed(28.0)
    assert liveness.deadline == 38.0


def test_any_byte_ends_the_wait_and_the_next_ping_keeps_its_time():
    liveness = pinged(20.0)
    liveness.heard()
    assert not liveness.waits
    assert liveness.deadline == 40.0


def test_a_request_on_a_link_that_is_pinged_in_time_is_not_held():
    liveness = opened()
    assert not liveness.request_queued(20.5)
    assert not liveness.holds


def test_a_request_right_behind_a_ping_is_not_held():
    liveness = pinged(20.0)
    assert not liveness.request_queued(20.9)
    assert not liveness.holds


def test_a_request_behind_an_overdue_pong_is_held_for_the_grace():
    liveness = pinged(20.0)
    assert not liveness.request_queued(21.0)
    assert liveness.holds
    assert liveness.deadline == 22.0
    liveness.heard()
    assert not liveness.holds


def test_a_second_request_does_not_prolong_the_wait():
    liveness = pinged(20.0)
    liveness.request_queued(21.0)
    liveness.request_queued(21.5)
    assert liveness.deadline == 22.0


def test_late_timers_ask_for_a_pong_before_the_request():
    liveness = opened()
    assert liveness.request_queued(500.0)
    liveness.ping_queued(500.0)
    assert liveness.holds
    assert liveness.deadline == 501.0


def test_a_request_waits_for_the_answer_to_a_ping_that_was_late():
    # The process slept: first the timer that is late sends its ping, then comes the request.
    liveness = pinged(now=400.0)
    assert liveness.request_queued(400.0) is False
    assert liveness.holds
    assert liveness.deadline == 401.0
    liveness.heard()
    assert not liveness.holds
    assert liveness.request_queued(402.0) is False
    assert not liveness.holds


def test_a_request_does_not_wait_for_the_answer_to_a_ping_in_time():
    liveness = pinged(now=20.5)
    assert liveness.request_queued(20.6) is False
    assert not liveness.holds
