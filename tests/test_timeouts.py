import attrs
import pytest

from llmws.errors import ConfigurationError
from llmws.timeouts import Timeouts


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
