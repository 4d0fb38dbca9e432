"""The tool loop: chunks of all turns, calls answered in between, and an end that says why."""

import threading
import weakref

import pytest

from llmws.errors import ConfigurationError, StreamInterruptedError
from llmws.responses.conversation import Conversation
from llmws.responses.tools import CustomTool, Tool
from tests.responses.chatting import Desk, call, output, user


SCHEMA = {"type": "object", "properties": {"q": {"type": "string"}}}


@pytest.fixture
def desk():
    return Desk()


def tool(fn=lambda q: f"found {q}", name="look_up"):
    return Tool(name, SCHEMA, fn, strict=False)


def calling(*ids, name="look_up", arguments='{"q":"x"}'):
    return {"output": [call(id, name, arguments) for id in ids]}


def inputs(desk):
    return [create.body["input"] for create in desk.creates]


def test_a_run_yields_the_chunks_of_all_turns_and_answers_calls_in_between(desk):
    desk.script = [calling("c1", "c2"), calling("c3"), {"text": "done"}]
    chat = desk.conversation(tools=[tool()])
    run = chat.run("find it")
    texts = [chunk.text for chunk in run if chunk.type == "content"]
    assert texts == ["ok", "ok", "done"]
    assert inputs(desk) == [
        [user("find it")],
        [output("c1", "found x"), output("c2", "found x")],
        [output("c3", "found x")],
    ]
    assert run.response.text == "done"
    assert (run.turns, run.finish_reason, run.tool_errors) == (3, "stop", [])
    assert [response.id for response in run.responses] == ["resp_1", "resp_2", "resp_3"]
    assert [turn.sent.kind for turn in chat.turns] == ["full", "delta", "delta"]


def test_the_first_turn_is_sent_at_once(desk):
    chat = desk.conversation()
    run = chat.run("hello")
    assert inputs(desk) == [[user("hello")]]
    assert (run.response, run.finish_reason) == (None, None)
    run.close()


def test_the_result_can_be_had_without_reading(desk):
    desk.script = [calling("c"), {"text": "done"}]
    assert desk.conversation(tools=[tool()]).run("x").result().text == "done"


def test_tools_of_a_run_take_the_place_of_the_conversations(desk):
    desk.script = [calling("c", name="other"), {}, {}]
    chat = desk.conversation(tools=[tool()])
    mine = tool(lambda q: "mine", "other")
    chat.run("x", tools=iter([mine])).result()
    assert [body["tools"] for body in (create.body for create in desk.creates)] == [
        [mine.wire()]
    ] * 2
    assert inputs(desk)[1] == [output("c", "mine")]
    assert chat.turns[1].sent.kind == "delta"
    chat.create("y")
    assert chat.turns[2].sent.reason == "settings changed: tools"


def test_the_tools_of_a_session_serve_too(desk):
    desk.script = [calling("c"), {}]
    Conversation(desk, {"model": "m", "tools": [tool()]}).run("x").result()
    assert inputs(desk)[1] == [output("c", "found x")]


def test_what_goes_wrong_goes_back_to_the_model_and_is_kept(desk):
    def fail(q):
        raise LookupError("no such thing")

    desk.script = [
        {"output": [call("c1", "fail", '{"q":"x"}'), call("c2", "nobody"), call("c3", arguments="{")]}, {}
    ]  # fmt: skip
    run = desk.conversation(tools=[tool(), tool(fail, "fail")]).run("x")
    run.result()
    assert [error.kind for error in run.tool_errors] == ["raised", "unknown", "arguments"]
    assert "no such thing" in inputs(desk)[1][0]["output"]
    assert [item["call_id"] for item in inputs(desk)[1]] == ["c1", "c2", "c3"]


def test_a_slow_tool_is_given_up_and_the_model_told(desk):
    released = threading.Event()
    desk.script = [calling("c"), {}]
    run = desk.conversation(tools=[tool(lambda q: released.wait(10))]).run("x", tool_timeout=0.05)
    run.result()
    released.set()
    assert [error.kind for error in run.tool_errors] == ["timeout"]


def test_custom_tools_get_free_text(desk):
    item = {"type": "custom_tool_call", "id": "ct", "call_id": "c", "name": "shout", "input": "hey"}
    desk.script = [{"output": [item]}, {}]
    desk.conversation(tools=[CustomTool("shout", str.upper)]).run("x").result()
    assert inputs(desk)[1] == [{"type": "custom_tool_call_output", "call_id": "c", "output": "HEY"}]


def test_approvals_are_asked_for_or_end_the_run(desk):
    asked = {"type": "mcp_approval_request", "id": "mcpr_1", "name": "drop", "arguments": "{}"}
    desk.script = [{"output": [asked]}, {}]
    desk.conversation().run("x", approve_mcp=lambda item: item.get("name") == "drop").result()
    assert inputs(desk)[1][0]["approve"] is True
    desk.script = [{"output": [asked]}]
    run = desk.conversation().run("x")
    run.result()
    assert (run.turns, [item.id for item in run.unanswered]) == (1, ["mcpr_1"])


def test_a_run_ends_after_so_many_turns_and_says_so(desk):
    ran = []
    desk.script = [calling(f"c{number}") for number in range(9)]
    chat = desk.conversation(tools=[tool(lambda q: ran.append(q))])
    run = chat.run("x", max_turns=3)
    assert run.result().id == "resp_3"
    assert (run.turns, run.finish_reason, len(ran)) == (3, "max_turns", 2)
    desk.script = [{}]
    chat.create([output("c2", "by hand")])


def test_calls_that_are_the_callers_end_the_run_with_the_other_outputs_at_hand(desk):
    shell = {"type": "shell_call", "id": "sh", "call_id": "s", "action": {"commands": ["ls"]}}
    desk.script = [{"output": [call("c", arguments='{"q":"x"}'), shell]}, {}]
    chat = desk.conversation(tools=[tool()])
    run = chat.run("x")
    assert run.result().finish_reason == run.finish_reason == "tool_calls"
    assert run.outputs == [output("c", "found x")]
    assert [item.id for item in run.unanswered] == ["sh"]
    chat.create([*run.outputs, {"type": "shell_call_output", "call_id": "s", "output": []}])


def test_calls_of_the_server_and_calls_that_were_cut_off_are_not_answered(desk):
    desk.script = [
        {"how": "incomplete", "output": [{"type": "web_search_call", "id": "w"}, call("c", status="incomplete")]}
    ]  # fmt: skip
    run = desk.conversation(tools=[tool()]).run("x")
    run.result()
    assert (run.turns, run.finish_reason, run.unanswered) == (1, "incomplete", [])


def test_a_failed_response_ends_the_run_and_is_its_response(desk):
    desk.script = [calling("c"), {"how": "failed", **calling("d")}]
    run = desk.conversation(tools=[tool()]).run("x")
    assert run.result().status == "failed"
    assert (run.turns, run.finish_reason, run.outputs) == (2, "error", [output("c", "found x")])


def test_a_turn_that_breaks_raises_in_the_loop_and_its_outputs_are_not_lost(desk):
    desk.script = [calling("c"), {"how": "lost"}, {}]
    chat = desk.conversation(tools=[tool()])
    run = chat.run("x")
    with pytest.raises(StreamInterruptedError):
        run.result()
    assert run.outputs == [output("c", "found x")]
    assert chat.create(run.outputs).status == "completed"


@pytest.mark.parametrize("way", ["close", "with", "forget"])
def test_leaving_a_run_cancels_the_turn_that_runs(desk, way):
    chat = desk.conversation(tools=[tool()])
    run = chat.run("x")
    assert len(desk.running) == 1
    if way == "close":
        run.close()
        run.close()
    elif way == "with":
        with run:
            pass
    else:
        gone = weakref.ref(run)
        del run
        assert gone() is None  # At once, without a garbage collection.
    assert desk.running == {}
    assert chat.turns[0].error.startswith("StreamCancelledError")


def test_a_run_that_is_closed_while_its_tools_work_goes_no_further(desk):
    desk.script = [calling("c"), {}]
    run = desk.conversation(tools=[tool(lambda q: run.close())]).run("x")
    assert run.result().id == "resp_1"
    assert len(desk.creates) == 1
    assert run.finish_reason == "tool_calls"
    assert [item["call_id"] for item in run.outputs] == ["c"]


def test_ctrl_c_while_tools_work_ends_the_run_and_runs_no_tool_twice(desk, monkeypatch):
    desk.script = [calling("c"), {}]
    ran = []

    def struck(*given, **options):
        ran.append(given)
        raise KeyboardInterrupt

    monkeypatch.setattr("llmws.responses.toolloop.run_calls", struck)
    run = desk.conversation(tools=[tool()]).run("x")
    with pytest.raises(KeyboardInterrupt):
        run.result()
    assert list(run) == []
    assert (len(ran), run.turns, run.finish_reason) == (1, 1, "tool_calls")


def test_a_run_that_was_closed_at_once_has_no_result(desk):
    run = desk.conversation().run("x")
    run.close()
    with pytest.raises(ConfigurationError, match="closed before its first response"):
        run.result()


@pytest.mark.parametrize(
    "arguments",
    [
        {"max_turns": 0}, {"max_turns": 1.5}, {"max_turns": True}, {"tool_timeout": 0}, {"tool_timeout": "1"},
        {"tools": [1]}, {"api_key": "x"},
    ],
)  # fmt: skip
def test_a_bad_argument_is_refused_before_anything_is_sent(desk, arguments):
    with pytest.raises(ConfigurationError):
        desk.conversation().run("x", **arguments)
    assert desk.creates == []
