import pytest

from tests.peers.lessons.scene import Clock


@pytest.fixture
def short_drain(monkeypatch):
    """Let a server that never ends a turn that was given up be waited for no longer than a moment."""
    monkeypatch.setattr("llmws.responses.routing.books.DRAIN_SECONDS", 0.05)


@pytest.fixture
def clock(monkeypatch):
    """Be the clock that turns are dated by; it is given to ``session_at`` too, for the connections."""
    clock = Clock()
    for module in (
        "conversation.conversation",
        "conversation.course",
        "connections.rotation",
        "session",
    ):
        monkeypatch.setattr(f"llmws.responses.{module}.time", clock)
    return clock
