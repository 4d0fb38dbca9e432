import pytest

from llmws.errors import ConfigurationError
from llmws.testing import Semantics, Server


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("lanes", "maybe"),
        ("lanes", None),
        ("lanes", 1),
        ("most_active", 0),
        ("most_active", 1.5),
        ("most_active", True),
        ("most_names", -1),
        ("most_steers", -1),
        ("max_age", 0),
        ("max_age", float("nan")),
        ("max_age", "1"),
    ],
)
def test_a_value_that_makes_no_sense_is_refused(name, value):
    with pytest.raises(ConfigurationError, match=f"^{name} is {value!r}: give "):
        Semantics(**{name: value})


def test_the_server_takes_nothing_else_for_semantics():
    with pytest.raises(ConfigurationError, match=r"^semantics is 'strict': give "):
        Server(semantics="strict")


def test_without_lanes_one_response_runs_at_a_time():
    assert Semantics().runs_at_once == 16
    assert Semantics(most_active=3).runs_at_once == 3
    for lanes in (False, "serial", "ignored", "refused"):
        assert Semantics(lanes=lanes).runs_at_once == 1
