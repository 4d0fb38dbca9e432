"""The order of gevent's patches and a session's turns; the real gevent is in tests/processes."""

import sys
from types import SimpleNamespace

import pytest

from llmws.errors import ConfigurationError
from llmws.wire.greenlets import Greenlets


ALL = {"threading", "socket", "select", "ssl", "time"}


@pytest.fixture
def gevent(monkeypatch):
    """Stand in for gevent: what is in the set is patched."""
    patched = set()
    monkey = SimpleNamespace(is_module_patched=lambda name: name in patched)
    monkeypatch.setitem(sys.modules, "gevent.monkey", monkey)
    return patched


def test_nothing_is_said_where_gevent_is_not_imported(monkeypatch):
    monkeypatch.delitem(sys.modules, "gevent.monkey", raising=False)
    greenlets = Greenlets()
    greenlets.check()
    greenlets.check()


def test_nothing_is_said_where_gevent_is_imported_but_patches_nothing(gevent):
    greenlets = Greenlets()
    greenlets.check()
    greenlets.check()


def test_nothing_is_said_of_a_module_that_is_half_imported(monkeypatch):
    monkeypatch.setitem(sys.modules, "gevent.monkey", SimpleNamespace())
    Greenlets().check()


def test_a_session_may_be_made_before_the_patches(gevent):
    greenlets = Greenlets()
    gevent |= ALL
    greenlets.check()
    greenlets.check()


def test_patches_after_the_first_turn_are_said_at_each_further_one(gevent):
    greenlets = Greenlets()
    greenlets.check()
    gevent |= ALL
    for _ in range(2):
        with pytest.raises(ConfigurationError, match="after the session's first turn"):
            greenlets.check()
    Greenlets().check()  # A session that is new is none the worse.


@pytest.mark.parametrize("missing", ["threading", "socket", "select"])
@pytest.mark.parametrize("begun", [False, True])
def test_patches_in_part_are_said_with_what_is_missing(gevent, missing, begun):
    greenlets = Greenlets()
    if begun:
        greenlets.check()
    gevent |= ALL - {missing}
    with pytest.raises(ConfigurationError, match=f"but not {missing}, and"):
        greenlets.check()


def test_patches_that_do_not_concern_a_session_are_not_said(gevent):
    greenlets = Greenlets()
    greenlets.check()
    gevent |= {"time", "os", "queue"}
    greenlets.check()
