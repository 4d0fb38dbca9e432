import pytest

from llmws.responses import lanes


@pytest.fixture(autouse=True)
def _short_drain(monkeypatch):
    # Several scenarios go through a drain that the server never ends; its length is tested in test_errors.
    monkeypatch.setattr(lanes, "_DRAIN_SECONDS", 0.1)
