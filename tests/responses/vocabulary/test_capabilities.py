import pytest

from llmws.responses.vocabulary.capabilities import Capabilities


@pytest.mark.parametrize(
    "host", ["api.openai.com", "API.OpenAI.com", "eu.api.openai.com", "api.openai.com."]
)
def test_openai_has_lanes_at_every_host_of_its(host):
    known = Capabilities.of(host)
    assert (known.lanes, known.max_active, known.max_lanes, known.steering) == (True, 16, 32, True)
    assert known.max_frame_bytes == 16 * 2**20


@pytest.mark.parametrize(
    "host",
    ["openai.com", "api.openai.com.evil.example", "notapi.openai.com.example", "127.0.0.1", ""],
)
def test_of_an_unknown_host_only_the_least_is_assumed(host):
    assert Capabilities.of(host) == Capabilities()
    assert Capabilities().lanes is None
    assert Capabilities().max_active == 1


def test_a_name_that_only_ends_alike_is_another_host():
    assert Capabilities.of("fakeapi.openai.com") == Capabilities()


def test_providers_that_document_one_turn_at_a_time_have_no_lanes():
    for host in ("mine.openai.azure.com", "api.x.ai", "ai-gateway.vercel.sh"):
        assert Capabilities.of(host).lanes is False
    assert Capabilities.of("ai-gateway.vercel.sh").max_frame_bytes == 4 * 2**20


def test_capabilities_are_values():
    assert Capabilities(lanes=True) == Capabilities(lanes=True) != Capabilities()
    with pytest.raises(AttributeError):
        Capabilities().lanes = True
