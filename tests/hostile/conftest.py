import pytest


# Their assertions shall speak as those of tests do.
pytest.register_assert_rewrite("tests.endings.script", "tests.endings.watch")


@pytest.fixture(autouse=True)
def _short_drain(monkeypatch):
    # Several scenarios go through a drain that the server never ends.
    monkeypatch.setattr("llmws.responses.routing.books.DRAIN_SECONDS", 0.05)
