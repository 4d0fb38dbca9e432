"""Fields of a request as users give them."""

import pytest

from llmws.errors import ConfigurationError
from llmws.responses.tools.fields import wire_fields
from llmws.responses.tools.tools import CustomTool


FORMAT = {"type": "json_object"}
PLAIN = {"type": "text"}


def test_other_fields_pass_and_what_was_given_is_left_alone():
    given = {"store": False, "text": {"verbosity": "low"}, "tools": None, "text_format": FORMAT}
    before = dict(given)
    fields = wire_fields(given)
    assert fields == {
        "store": False, "text": {"verbosity": "low", "format": FORMAT}, "tools": None
    }  # fmt: skip
    assert given == before
    assert wire_fields({"text": {"format": FORMAT}}) == {"text": {"format": FORMAT}}


def test_tools_are_told_as_the_wire_has_them():
    made = CustomTool("run", str)
    assert wire_fields({"tools": [made, {"type": "web_search"}]}) == {
        "tools": [{"type": "custom", "name": "run"}, {"type": "web_search"}]
    }


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ({}, {"format": PLAIN}),
        ({"text": {"verbosity": "low"}}, {"verbosity": "low", "format": PLAIN}),
        ({"text": {"format": FORMAT}}, {"format": FORMAT}),
    ],
)
def test_no_format_undoes_a_sessions_and_not_what_stands_beside_it(text, said):
    assert wire_fields({**text, "text_format": None}) == {"text": said}
    session = wire_fields({"text_format": FORMAT})
    assert {**session, **wire_fields({**text, "text_format": None})} == {"text": said}


@pytest.mark.parametrize("text", ["x", [1], 5, ""])
@pytest.mark.parametrize("kind", [FORMAT, None])
def test_a_text_that_has_no_place_for_a_format_is_refused(text, kind):
    with pytest.raises(ConfigurationError, match=r"text is of type \w+: beside text_format give"):
        wire_fields({"text": text, "text_format": kind})
