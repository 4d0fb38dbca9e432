"""When to dial again."""

from __future__ import annotations

import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmws.wire.backoff import (
    RETRYABLE_CLOSE_CODES,
    Backoff,
    RetryBudget,
    process_budget,
    retry_after,
    retryable_status,
)


fractions = st.floats(0, 1)


@given(st.integers(1, 60), fractions)
def test_a_wait_lies_between_nothing_and_its_ceiling(attempt, fraction):
    ceiling = min(30.0, 0.5 * 2 ** (attempt - 1))
    assert Backoff().delay(attempt, fraction) == pytest.approx(fraction * ceiling)


@given(st.integers(1, 20), fractions, st.floats(0, 100))
def test_what_the_server_asked_for_is_never_undercut(attempt, fraction, asked):
    plain = Backoff().delay(attempt, fraction)
    assert Backoff().delay(attempt, fraction, asked) == max(plain, asked)


def test_the_first_ceilings_are_those_of_the_design():
    delays = [Backoff().delay(attempt, 1.0) for attempt in range(1, 9)]
    assert delays == [0.5, 1, 2, 4, 8, 16, 30, 30]


def test_five_dials_in_a_row_are_all():
    assert [Backoff().exhausted(attempt) for attempt in range(1, 7)] == [False] * 4 + [True] * 2
    assert Backoff(attempts=1).exhausted(1)


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": "7"}, 7.0),
        ({"retry-after": "0"}, 0.0),
        ({"retry-after": "1.5"}, 1.5),
        ({"retry-after": " 2 "}, 2.0),
        ({"retry-after-ms": "250"}, 0.25),
        ({"retry-after-ms": "250", "retry-after": "9"}, 0.25),
        ({"retry-after-ms": "soon", "retry-after": "9"}, 9.0),
        ({"retry-after": "-3"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "inf"}, None),
        ({"retry-after": "1e999"}, None),
        ({"retry-after": ""}, None),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "Thu, 01 Jan 1970 00:01:40 GMT"}, 40.0),
        ({"retry-after": "Thu, 01 Jan 1970 00:00:10 GMT"}, 0.0),
        ({"retry-after": "Thu, 99 Jan 1970 00:00:10 GMT"}, None),
        ({"retry-after": "Fri, 01 Jan 99999 00:00:10 GMT"}, None),
    ],
)
def test_every_form_of_retry_after_is_read(headers, seconds):
    assert retry_after(headers, wall_time=60.0) == seconds


def test_a_date_says_nothing_without_a_clock():
    assert retry_after({"retry-after": "Thu, 01 Jan 1970 00:01:40 GMT"}) is None


@given(st.text(max_size=40))
def test_no_header_makes_it_raise(value):
    found = retry_after({"retry-after": value}, wall_time=0.0)
    assert found is None or 0 <= found < float("inf")


def test_statuses_and_close_codes_are_retryable_as_designed():
    statuses = {status for status in range(100, 700) if retryable_status(status)}
    assert statuses == {408, 409, 429, *range(500, 600)}
    assert {1001, 1005, 1006, 1011, 1012, 1013, 1015} == RETRYABLE_CLOSE_CODES


def test_a_budget_is_spent_and_earned_within_its_bounds():
    budget = RetryBudget(tokens=30, cost=14)
    assert [budget.spend() for _ in range(4)] == [True, True, False, False]
    assert budget.tokens == 2
    for _ in range(5):
        budget.earn()
    assert budget.tokens == 30


def test_the_budget_of_the_process_is_that_of_the_design():
    fresh = RetryBudget()
    spent = 0
    while fresh.spend():
        spent += 1
    assert (spent, fresh.tokens) == (35, 10)
    assert isinstance(process_budget, RetryBudget)


def test_threads_together_never_spend_more_than_there_is():
    budget, spent = RetryBudget(tokens=14 * 1000, cost=14), []
    begin = threading.Barrier(8)

    def work():
        begin.wait(10)
        spent.append(sum(budget.spend() for _ in range(500)))

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert sum(spent) == 1000
    assert budget.tokens == 0


def test_a_lock_that_a_lost_thread_held_is_replaced():
    budget = RetryBudget()
    budget._lock.acquire()
    budget.reset_lock()
    assert budget.spend()
