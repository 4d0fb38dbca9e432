"""What the compaction of a transcript asks for, and what it gives."""

import pytest

from llmws.errors import ConfigurationError, RemoteProtocolError
from llmws.responses.conversation.compaction import compacted_items, compaction_request
from llmws.responses.sending.settings import Settings


def test_the_request_has_model_instructions_and_every_item():
    settings = Settings.of({"model": "m", "instructions": "Be brief.", "temperature": 1})
    assert compaction_request(settings, [b'{"a":1}']) == {
        "model": "m", "instructions": "Be brief.", "input": [{"a": 1}]
    }  # fmt: skip
    assert "instructions" not in compaction_request(
        Settings.of({"model": "m", "instructions": None}), [b'{"a":1}']
    )


def test_there_is_no_request_without_a_model():
    with pytest.raises(ConfigurationError, match="No model"):
        compaction_request(Settings.of({}), [b'{"a":1}'])


def test_there_is_no_request_without_items():
    with pytest.raises(ConfigurationError, match="nothing to compact"):
        compaction_request(Settings.of({"model": "m"}), [])


def test_the_output_is_taken_as_it_is():
    output = [
        {"type": "message", "role": "user", "content": "é"},
        {"type": "compaction", "novel": 1},
    ]
    assert [item.raw for item in compacted_items({"output": output})] == output


@pytest.mark.parametrize("answer", [{}, {"output": []}, {"output": None}, {"output": ["text"]}])
def test_an_answer_without_output_is_refused(answer):
    with pytest.raises(RemoteProtocolError, match="stays as it was"):
        compacted_items(answer)
