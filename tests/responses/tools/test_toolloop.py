"""The tool loop: chunks of all turns, calls answered in between, and an end that says why."""

import contextlib
import copy
import json
import pickle
import threading
import weakref
from concurrent.futures import ThreadPoolExecutor

import pytest

from llmws.errors import (
    ConfigurationError,
    LLMWSError,
    SessionClosedError,
    StreamInterruptedError,
    WouldDeadlockError,
)
from llmws.responses.conversation.conversation import Conversation
from llmws.responses.tools.toolloop import ToolRun
from llmws.responses.tools.tools import CustomTool, Tool
from llmws.wire.monitor import Monitor
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


def test_a_century_for_tools_is_a_limit_on_any_thread(desk):
    never = threading.Event()
    desk.script = [calling("c"), {}]
    # Slow enough to be waited for.
    chat = desk.conversation(tools=[tool(lambda q: never.wait(0.2))])
    run = chat.run("x", tool_timeout=3e9)
    with ThreadPoolExecutor() as threads:
        assert threads.submit(run.result).result(10).status == "completed"
    assert run.tool_errors == []


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


def struck_once(monkeypatch, when=lambda: True):
    """Have Ctrl-C strike the first wait for tools for which it is time."""
    wait_for, left = Monitor.wait_for, [1]

    def struck(self, arrived, deadline=None):
        if left and when():
            left.pop()
            raise KeyboardInterrupt
        return wait_for(self, arrived, deadline)

    monkeypatch.setattr(Monitor, "wait_for", struck)


def test_ctrl_c_while_tools_work_ends_the_wait_and_the_run_goes_on_without_running_a_tool_twice(
    desk, monkeypatch
):
    desk.script = [calling("c"), {"text": "done"}]
    ran = []
    run = desk.conversation(tools=[tool(lambda q: ran.append(q) or "found")]).run("x")
    struck_once(monkeypatch)
    with pytest.raises(KeyboardInterrupt):
        run.result()
    assert (run.turns, run.finish_reason) == (1, None)
    assert [chunk.text for chunk in run if chunk.type == "content"] == ["done"]
    assert (ran, run.turns, run.finish_reason) == (["x"], 2, "stop")
    assert inputs(desk)[1] == [output("c", "found")]


@pytest.mark.parametrize("name", ["_take", "_send", "_open", "_answer"])
@pytest.mark.parametrize("late", [False, True])
def test_ctrl_c_between_turns_loses_and_doubles_nothing(desk, monkeypatch, name, late):
    desk.script = [calling("c"), {"text": "done"}, {"text": "done"}]
    ran = []
    run = desk.conversation(tools=[tool(lambda q: ran.append(q) or 1 / 0)]).run("x")
    method, left = getattr(ToolRun, name), [1]

    def struck(self, *given):
        if left and not late:
            left.pop()
            raise KeyboardInterrupt
        result = method(self, *given)
        if left:
            left.pop()
            raise KeyboardInterrupt
        return result

    monkeypatch.setattr(ToolRun, name, struck)
    with pytest.raises(KeyboardInterrupt):
        run.result()
    assert run.result().text == "done"
    assert (ran, run.turns, len(run.tool_errors), run.outputs) == (["x"], 2, 1, [])


@pytest.fixture
def struck_opening(monkeypatch):
    """Have Ctrl-C strike when a turn with outputs has just been opened, before its run goes on with it."""
    begin, left = Conversation._begin, [1]

    def struck(self, given, *more):
        stream = begin(self, given, *more)
        if left and isinstance(given, list):
            left.pop()
            raise KeyboardInterrupt
        return stream

    monkeypatch.setattr(Conversation, "_begin", struck)


@pytest.mark.parametrize(
    ("answer", "sent"),
    [({"text": "done"}, [[output("c", "1")]]), (calling("d"), [[output("c", "1")], [output("d", "2")]])],
    ids=["answered", "called again"],
)  # fmt: skip
@pytest.mark.parametrize("more", [None, "and now?"])
@pytest.mark.usefixtures("struck_opening")
def test_ctrl_c_while_a_turn_is_opened_goes_on_with_what_the_server_said(desk, answer, sent, more):
    ran = []
    chat = stopped(desk, tool(lambda q: ran.append(q) or len(ran)))
    desk.script = [answer, {"text": "done"}]
    run = chat.run(more)
    with pytest.raises(KeyboardInterrupt):
        run.result()
    assert [chunk.text for chunk in run if chunk.type == "content"][-1] == "done"
    sent = [[*sent[0], *([user(more)] if more else [])], *sent[1:]]
    assert (inputs(desk)[1:], run.outputs, run.finish_reason) == (sent, [], "stop")
    assert len(chat.turns) == len(desk.creates)


@pytest.mark.usefixtures("struck_opening")
def test_ctrl_c_while_a_turn_is_opened_that_is_lost_loses_no_output(desk):
    ran = []
    chat = stopped(desk, tool(lambda q: ran.append(q) or "found"))
    desk.script = [{"how": "lost"}, {"text": "done"}]
    run = chat.run()
    with pytest.raises(KeyboardInterrupt):
        run.result()
    with pytest.raises(StreamInterruptedError):
        run.result()
    assert (run.outputs, run.finish_reason) == ([output("c", "found")], "error")
    assert (chat.run().result().text, ran) == ("done", ["x"])


@pytest.mark.parametrize("way", ["go on", "close"])
@pytest.mark.usefixtures("struck_opening")
def test_ctrl_c_while_a_turn_is_opened_leaves_it_to_the_run(desk, way):
    chat = stopped(desk, tool())
    desk.script = []
    run = chat.run()
    with pytest.raises(KeyboardInterrupt):
        run.result()
    (turn,) = desk.running
    if way == "close":
        run.close()
        assert chat.turns[-1].error.startswith("StreamCancelledError")
    else:
        desk.finish(turn, text="done")
        assert (run.result().text, len(desk.creates)) == ("done", 2)


def test_a_run_knows_of_a_turn_just_if_its_conversation_does(desk):
    class Struck(list):
        def append(self, stream):
            super().append(stream)
            raise KeyboardInterrupt

    chat, opened = desk.conversation(), Struck()
    with pytest.raises(KeyboardInterrupt):
        chat._begin("x", None, {}, opened)
    (stream,) = opened
    assert chat._course.running.turn is stream._turn


def test_a_run_whose_outputs_another_one_has_given_says_so(desk):
    chat = stopped(desk, tool())
    first, second = chat.run(), chat.run()
    assert first.result().text == "done"
    for _ in range(2):
        with pytest.raises(ConfigurationError, match="given before: there is nothing to send"):
            second.result()
    assert (len(desk.creates), second.finish_reason) == (2, "error")


def test_a_run_that_ended_in_an_error_says_so_again(desk):
    desk.script = [calling("c"), {"how": "lost"}]
    run = desk.conversation(tools=[tool()]).run("x")
    for _ in range(2):
        with pytest.raises(StreamInterruptedError):
            list(run)
    with pytest.raises(StreamInterruptedError):
        run.result()
    assert (run.turns, run.finish_reason, len(desk.creates)) == (1, "error", 2)


@pytest.mark.parametrize("tools", [tool(), 5, "look_up", {"type": "web_search"}])
def test_a_conversations_tools_are_a_list(desk, tools):
    with pytest.raises(ConfigurationError, match="give a list of tools"):
        desk.conversation(tools=tools)


# Calls that wait already.


def stopped(desk, *tools, **settings):
    """Return a conversation that was left in the middle of a call ``c``."""
    desk.script = [calling("c")]
    chat = desk.conversation(tools=tools, **settings)
    chat.run("x", max_turns=1).result()
    desk.script = [{"text": "done"}]
    return chat


@pytest.mark.parametrize("nothing", [(), (None,), ([],)])
def test_a_run_without_input_answers_the_calls_that_wait_and_goes_on(desk, nothing):
    chat = stopped(desk, tool())
    run = chat.run(*nothing)
    assert len(desk.creates) == 1  # The tools run when the first chunk is asked for.
    assert (run.turns, run.finish_reason) == (0, None)
    assert run.result().text == "done"
    assert inputs(desk)[1:] == [[output("c", "found x")]]
    assert (run.turns, run.finish_reason, run.outputs) == (1, "stop", [])
    assert chat.turns[-1].sent.kind == "delta"


def test_what_else_is_said_goes_behind_the_outputs(desk):
    chat = stopped(desk, tool())
    chat.run("and now?").result()
    assert inputs(desk)[1] == [output("c", "found x"), user("and now?")]


def test_what_else_is_said_is_said_once(desk):
    chat = stopped(desk, tool())
    desk.script = [calling("d"), {"text": "done"}]
    chat.run("and now?").result()
    assert inputs(desk)[2] == [output("d", "found x")]


def test_a_server_that_gives_each_call_the_same_id_has_each_one_run(desk):
    ran = []
    desk.script = [calling("c"), calling("c"), calling("c")]
    chat = desk.conversation(tools=[tool(lambda q: ran.append(q) or len(ran))])
    chat.run("x", max_turns=3).result()
    desk.script = [{}]
    chat.run().result()
    assert [given[0]["output"] for given in inputs(desk)[1:]] == ["1", "2", "3"]


def test_outputs_that_are_given_are_not_made_again(desk):
    ran = []
    desk.script = [calling("c", "d")]
    chat = desk.conversation(tools=[tool(lambda q: ran.append(q) or "run")])
    chat.run("x", max_turns=1).result()
    desk.script = [{}, {}]
    chat.run(output("d", "by hand")).result()
    assert inputs(desk)[1] == [output("c", "run"), output("d", "by hand")]
    assert ran == ["x"]


def test_without_anything_that_waits_a_run_without_input_is_a_turn_without_input(desk):
    desk.script = [{}]
    desk.conversation(tools=[tool()]).run().result()
    assert inputs(desk) == [[]]


def test_what_answers_the_calls_that_wait_are_the_tools_of_the_run(desk):
    chat = stopped(desk, tool())
    chat.run(tools=[tool(lambda q: "mine")]).result()
    assert inputs(desk)[1] == [output("c", "mine")]


def test_a_saved_conversation_goes_on_in_the_middle_of_a_call(desk):
    class Session:
        def conversation(self, **settings):
            return desk.conversation(**settings)

    data = json.loads(json.dumps(stopped(desk, tool()).to_dict()))
    again = Conversation.from_dict(data, session=Session(), tools=[tool()])
    assert again.run().result().text == "done"
    assert inputs(desk)[1][-1] == output("c", "found x")


def test_a_cancelled_run_is_taken_up_where_it_was(desk):
    desk.script = [calling("c")]
    ran = []
    chat = desk.conversation(tools=[tool(lambda q: ran.append(q) or "found")])
    with chat.run("x") as run:
        for chunk in run:
            if chunk.type == "content":
                break
    desk.script = [{"text": "done"}]
    assert chat.run().result().text == "done"
    assert ran == ["x"]


@pytest.mark.parametrize("how", ["lost", "failed", "refused"])
def test_a_tool_whose_output_was_not_taken_is_not_run_again_by_the_next_run(desk, how):
    desk.script = [calling("c"), {"how": how}]
    ran = []
    chat = desk.conversation(tools=[tool(lambda q: ran.append(q) or "found")])
    run = chat.run("x")
    with contextlib.suppress(LLMWSError):
        run.result()
    assert run.finish_reason == "error"
    desk.script = [{"text": "done"}]
    assert chat.run().result().text == "done"
    assert (inputs(desk)[-1][-1], ran) == (output("c", "found"), ["x"])


@pytest.mark.parametrize("how", ["lost", "failed", "refused"])
@pytest.mark.parametrize("way", ["run", "create"])
def test_a_tool_is_not_run_again_though_its_output_was_given_by_hand_and_lost_too(desk, how, way):
    desk.script = [calling("c"), {"how": how}, {"how": how}]
    ran = []
    chat = desk.conversation(tools=[tool(lambda q: ran.append(q) or "found")])
    run = chat.run("x")
    with contextlib.suppress(LLMWSError):
        run.result()
    with contextlib.suppress(LLMWSError):
        chat.run(run.outputs).result() if way == "run" else chat.create(run.outputs)
    desk.script = [{"text": "done"}]
    again = chat.run()
    assert again.result().text == "done"
    assert (inputs(desk)[-1][-1], ran, again.outputs) == (output("c", "found"), ["x"], [])


def test_a_tool_is_run_again_by_a_call_that_looks_like_one_whose_output_was_taken_by_hand(desk):
    desk.script = [calling("c"), {"how": "lost"}, {}, calling("c"), {}]
    ran = []
    chat = desk.conversation(tools=[tool(lambda q: ran.append(q) or len(ran))])
    run = chat.run("x")
    with contextlib.suppress(LLMWSError):
        run.result()
    chat.create(run.outputs)
    chat.create("once more")
    chat.run().result()
    assert inputs(desk)[-1] == [output("c", "2")]


def test_what_another_run_began_with_is_not_forgotten_by_one_that_comes_to_know_of_it_later(desk):
    desk.script = [calling("c"), {"how": "lost"}, {"text": "done"}]
    ran = []
    chat = desk.conversation(tools=[tool(lambda q: ran.append(q) or "found")])
    first = chat.run("x")
    with contextlib.suppress(LLMWSError):
        chat.run().result()
    assert first.result().text == "done"
    assert ran == ["x"]


def test_ctrl_c_and_a_further_run_do_not_run_a_tool_twice(desk, monkeypatch):
    desk.script = [calling("c"), {"text": "done"}]
    ran, started, go_on = [], threading.Event(), threading.Event()

    def fn(q):
        ran.append(q)
        started.set()
        return str(go_on.wait(10))

    chat = desk.conversation(tools=[tool(fn)])
    struck_once(monkeypatch, lambda: started.wait(10))
    with pytest.raises(KeyboardInterrupt):
        chat.run("x").result()
    go_on.set()
    assert chat.run().result().text == "done"
    assert (ran, inputs(desk)[1]) == (["x"], [output("c", "True")])


def test_a_call_of_a_later_turn_is_run_though_it_looks_like_one_before(desk):
    desk.script = [calling("c"), {}]
    ran = []
    chat = desk.conversation(tools=[tool(lambda q: ran.append(q))])
    chat.run("x").result()
    chat.replace_items([])
    desk.script = [calling("c"), {}]
    chat.run("x").result()
    assert ran == ["x", "x"]


SHELL = {"type": "shell_call", "id": "sh", "call_id": "s", "action": {"commands": ["ls"]}}
ASKED = {"type": "mcp_approval_request", "id": "mcpr_1", "name": "drop", "arguments": "{}"}


@pytest.mark.parametrize(
    ("item", "words"),
    [(SHELL, "sh .shell_call"), (ASKED, "drop .*approve_mcp"), (call("d", "nobody"), "nobody")],
)
def test_calls_that_wait_for_what_a_run_has_not_are_refused_before_any_tool_runs(desk, item, words):
    ran = []
    desk.script = [{"output": [call("c", arguments='{"q":"x"}'), item]}]
    chat = desk.conversation(tools=[tool(lambda q: ran.append(q))])
    chat.run("x", max_turns=1).result()
    with pytest.raises(ConfigurationError, match=f"{words}.*into the input"):
        chat.run()
    assert (ran, len(desk.creates)) == ([], 1)


def test_what_the_caller_answers_goes_together_with_what_tools_do(desk):
    desk.script = [{"output": [call("c", arguments='{"q":"x"}'), SHELL, ASKED]}]
    chat = desk.conversation(tools=[tool()])
    chat.run("x", max_turns=1).result()
    desk.script = [{}]
    listing = {"type": "shell_call_output", "call_id": "s", "output": []}
    chat.run(listing, approve_mcp=lambda item: True).result()
    yes = {"type": "mcp_approval_response", "approval_request_id": "mcpr_1", "approve": True}
    assert inputs(desk)[1] == [output("c", "found x"), yes, listing]


def test_on_a_closed_session_no_tool_runs_whose_output_could_not_be_sent(desk):
    def closed():
        raise SessionClosedError("closed")

    ran, checks = [], [lambda: None]
    desk.check_open = lambda: checks[-1]()
    chat = stopped(desk, tool(lambda q: ran.append(q)))
    waiting = chat.run()
    checks.append(closed)
    with pytest.raises(SessionClosedError):
        chat.run()
    with pytest.raises(SessionClosedError):
        waiting.result()
    assert (ran, waiting.finish_reason, len(desk.creates)) == ([], "error", 1)


def test_on_a_closed_session_what_is_not_to_be_sent_is_made_all_the_same(desk):
    desk.script = [{"output": [call("c", arguments='{"q":"x"}'), SHELL]}]
    desk.check_open = lambda: 1 / 0
    run = desk.conversation(tools=[tool()]).run("x")
    run.result()
    assert run.outputs == [output("c", "found x")]


def test_what_is_true_of_one_thread_alone_does_not_end_the_run(desk):
    desk.script = [calling("c"), {"text": "done"}]
    chat = desk.conversation(tools=[tool(lambda q: "found")])
    run = chat.run("x")
    opened = desk.open_turn

    def open_turn(*given, **options):
        desk.open_turn = opened
        raise WouldDeadlockError("in the middle of a call")

    desk.open_turn = open_turn
    with pytest.raises(WouldDeadlockError):
        run.result()
    assert (run.finish_reason, run.result().text) == (None, "done")


def test_calls_that_the_input_itself_brings_are_not_answered(desk):
    chat = desk.conversation(tools=[tool()])
    with pytest.raises(ConfigurationError, match="wait for their output"):
        chat.run([call("mine")])
    assert desk.creates == []


@pytest.mark.parametrize(
    "given", [{"given": [output("z")]}, {"given": 5}, {"given": "y", "previous_response_id": "r"}]
)
def test_a_bad_argument_beside_calls_that_wait_is_refused_before_any_tool_runs(desk, given):
    ran = []
    chat = stopped(desk, tool(lambda q: ran.append(q)))
    with pytest.raises(ConfigurationError):
        chat.run(given.pop("given"), **given).result()
    assert (ran, len(desk.creates)) == ([], 1)


def test_the_error_of_a_turn_that_leaves_calls_can_be_copied(desk):
    with pytest.raises(ConfigurationError, match="let run") as caught:
        stopped(desk, tool()).create("y")
    for twin in (copy.copy(caught.value), pickle.loads(pickle.dumps(caught.value))):
        assert (str(twin), twin.calls) == (str(caught.value), {"c": "function_call_output"})


# Too much.


def test_an_output_too_long_for_a_message_is_told_to_the_model_instead(desk):
    desk.max_frame_bytes = 4000
    desk.script = [calling("c", "d"), {"text": "done"}]
    sizes = iter([100, 5000])
    run = desk.conversation(tools=[tool(lambda q: "x" * next(sizes))]).run("x")
    assert run.result().text == "done"
    (error,) = run.tool_errors
    assert (error.kind, "5,002 bytes" in error.message) == ("output", True)
    assert sorted(len(item["output"]) for item in inputs(desk)[1])[0] == 100
    assert error.output in [item["output"] for item in inputs(desk)[1]]


def test_an_input_too_long_for_a_message_costs_no_output(desk):
    chat = stopped(desk, tool(lambda q: "x" * 2000))
    desk.max_frame_bytes = 4000
    run = chat.run("y" * 5000)
    for _ in range(2):
        with pytest.raises(ConfigurationError, match="shorten the input"):
            run.result()
    assert (run.outputs, run.finish_reason) == ([output("c", "x" * 2000)], "error")
    assert chat.run().result().text == "done"


def test_a_run_that_was_closed_at_once_has_no_result(desk):
    run = desk.conversation().run("x")
    run.close()
    with pytest.raises(ConfigurationError, match="closed before its first response"):
        run.result()


@pytest.mark.parametrize(
    "arguments",
    [
        {"max_turns": 0}, {"max_turns": 1.5}, {"max_turns": True}, {"max_turns": "x"}, {"tool_timeout": 0},
        {"tool_timeout": "1"}, {"tool_timeout": float("nan")}, {"tool_timeout": True}, {"tool_timeout": 1e11},
        {"tools": [1]}, {"tools": tool()}, {"tools": 5}, {"tools": "look_up"}, {"tools": {"look_up": tool()}},
        {"approve_mcp": True}, {"api_key": "x"},
    ],
)  # fmt: skip
def test_a_bad_argument_is_refused_before_anything_is_sent(desk, arguments):
    with pytest.raises(ConfigurationError):
        desk.conversation().run("x", **arguments)
    assert desk.creates == []
