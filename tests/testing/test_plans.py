import pytest

from llmws.errors import ConfigurationError
from llmws.testing.plans import Plan


@pytest.mark.parametrize(
    ("what", "options"),
    [
        ("explode", {}),
        ("reset", {"way": "up"}),
        ("reset", {"way": "client"}),
        ("reset", {"seconds": 1}),
        ("reset", {"after_client_bytes": 1, "after_seconds": 1}),
        ("reset", {"after_client_bytes": 1.5}),
        ("reset", {"after_server_bytes": -1}),
        ("reset", {"after_seconds": float("inf")}),
        ("refuse", {"after_seconds": 1}),
        ("delay", {}),
        ("delay", {"seconds": 0}),
        ("throttle", {"seconds": 1}),
        ("throttle", {"bytes_per_second": True}),
        ("split", {"size_bytes": 1.5}),
    ],
)
def test_a_plan_that_makes_no_sense_is_refused(what, options):
    with pytest.raises(ConfigurationError):
        Plan(what, **options)


def test_the_repr_of_a_plan_makes_it_again():
    plan = Plan("delay", seconds=0.5, way="client", after_server_bytes=3)
    assert eval(repr(plan)) == plan
    assert repr(Plan("reset")) == "Plan('reset')"
