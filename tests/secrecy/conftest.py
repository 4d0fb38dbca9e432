"""What every test here has: a canary, and evidence that is searched for it afterwards."""

from pathlib import Path

import pytest

from tests.secrecy.leaks import Evidence
from tests.secrecy.scenes import CANARIES, WAYS, as_callable
from tests.wire import peers


# These hold the key themselves: the tests here, and the servers that they talk to.
OWN_FILES = (*map(str, Path(__file__).parent.glob("*.py")), peers.__file__)


@pytest.fixture
def search():
    """Return what makes evidence that passes over the tests' own frames."""
    return lambda: Evidence(*OWN_FILES)


@pytest.fixture(params=CANARIES)
def canary(request):
    """Return the name of a canary."""
    return request.param


@pytest.fixture
def evidence(canary, search):
    """Collect evidence during a test, and search it afterwards."""
    with search().listening() as evidence:
        yield evidence
    assert evidence.texts
    assert evidence.leaks(CANARIES[canary]) == []


@pytest.fixture(params=[*WAYS, "query"], ids=lambda way: getattr(way, "__name__", way))
def way(request):
    """Return how the key is given: as arguments of the session, or in the query of its URL."""
    return request.param


@pytest.fixture(params=[as_callable, "query"], ids=lambda way: getattr(way, "__name__", way))
def some_way(request):
    """Return one of the two ways that differ most, where the way makes no difference to be expected."""
    return request.param
