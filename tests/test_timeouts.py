import threading
import time

import attrs
import pytest

from llmws.errors import ConfigurationError
from llmws.timeouts import Timeouts, deadline, seconds


NAMES = [field.name for field in attrs.fields(Timeouts)]


def test_the_defaults_are_the_documented_ones():
    assert attrs.asdict(Timeouts()) == {
        "connect": 15.0,
        "first_event": 60.0,
        "idle": 600.0,
        "total": None,
        "lane_wait": 60.0,
        "close": 2.0,
    }


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("value", [None, 1, 0.001, 2_000_000])
def test_a_limit_is_a_positive_number_or_none(name, value):
    assert getattr(Timeouts(**{name: value}), name) == value


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    "value",
    [0, -1, float("nan"), float("inf"), 2_000_001, 10**400, True, "1", b"1", [1], object()],
    ids=lambda value: str(value)[:12],
)
def test_anything_else_is_refused_by_name(name, value):
    with pytest.raises(ConfigurationError, match=f"Timeouts.{name} is "):
        Timeouts(**{name: value})


def test_but_changes_the_named_limits_alone():
    changed = Timeouts(idle=5).but({"first_event": 1, "total": None})
    assert changed == Timeouts(idle=5, first_event=1)


def test_but_with_a_whole_value_replaces_all():
    assert Timeouts(idle=5).but(Timeouts(total=1)) == Timeouts(total=1)


def test_but_with_none_or_nothing_changes_nothing():
    limits = Timeouts(idle=5)
    assert limits.but(None) is limits
    assert limits.but({}) == limits


@pytest.mark.parametrize("changes", [5, "idle", [("idle", 5)], True])
def test_but_takes_a_mapping_or_a_value(changes):
    with pytest.raises(ConfigurationError, match=r"give a Timeouts, or a mapping"):
        Timeouts().but(changes)


@pytest.mark.parametrize("changes", [{"read": 5}, {5: 5}, {"idle": 5, "Idle": 5}])
def test_but_refuses_an_unknown_limit_and_says_which_there_are(changes):
    with pytest.raises(ConfigurationError, match=r"no limit named .* choose from connect, first"):
        Timeouts().but(changes)


def test_but_checks_the_values_too():
    with pytest.raises(ConfigurationError, match=r"Timeouts.idle is -1"):
        Timeouts().but({"idle": -1})


def test_limits_cannot_be_changed():
    with pytest.raises(AttributeError):
        Timeouts().idle = 5


def test_none_is_no_limit_where_there_may_be_none():
    assert seconds("x", None) is None
    assert deadline(None) is None
    with pytest.raises(ConfigurationError, match=r"x is None: give .* 9,223,372,036\.$"):
        seconds("x", None, none_ok=False, longest=9_223_372_036)


def test_zero_is_a_limit_only_where_that_makes_sense():
    assert seconds("x", 0, zero_ok=True) == 0
    with pytest.raises(ConfigurationError, match="x is 0: give seconds as a number above 0"):
        seconds("x", 0)


def test_a_deadline_is_one_that_every_thread_can_wait_for():
    now = time.monotonic()
    assert now + 5 <= deadline(5) <= time.monotonic() + 5
    assert deadline(threading.TIMEOUT_MAX)
    for value in (threading.TIMEOUT_MAX * 2, float("inf"), -1, float("nan"), "1", True, 10**5000):
        with pytest.raises(
            ConfigurationError, match=r"timeout is .*: give seconds as a number from 0"
        ):
            deadline(value)
