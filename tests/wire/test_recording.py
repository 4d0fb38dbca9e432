import json
import os
import stat
import threading
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from llmws.errors import RecordingError, RecordingNotFoundError
from llmws.secret import REDACTED, Secret
from llmws.wire.recording import FORMAT, Close, Frame, Open, Recorder, Recording, load, save


SHARED = Path(__file__).resolve().parents[3] / "shared" / "recordings" / "responses"
KEY = "sk-live-0123456789abcdef"
HEADER = json.dumps({"format": FORMAT, "api": "responses", "source": "live"})


def recording(*entries, **fields):
    return Recording(recorded_at="2026-01-02T03:04:05+00:00", entries=tuple(entries), **fields)


FULL = recording(
    Open(0.0, "wss://api.openai.com/v1/responses"),
    Frame(0.001, "out", {"type": "response.create", "input": "Grüße \N{WATER WAVE}"}),
    Frame(0.25, "in", {"type": "response.created", "response": {"id": "resp_1"}}),
    Frame(0.5, "in", {"type": "response.completed", "response": {"id": "resp_1"}}),
    Close(0.75, 1000, "bye"),
)


def test_what_is_saved_is_loaded_again(tmp_path):
    save(FULL, tmp_path / "a.jsonl")
    assert load(tmp_path / "a.jsonl") == FULL


def test_the_file_is_as_documented(tmp_path):
    save(FULL, tmp_path / "a.jsonl")
    lines = [json.loads(line) for line in (tmp_path / "a.jsonl").read_text("utf-8").splitlines()]
    assert list(lines[0]) == ["format", "api", "source", "recorded_at", "llmws"]
    assert lines[0]["format"] == "llmws-recording/1"
    assert lines[1:3] == [
        {"t": 0.0, "open": {"url": "wss://api.openai.com/v1/responses"}},
        {"t": 0.001, "dir": "out", "event": FULL.requests()[0]},
    ]
    assert lines[-1] == {"t": 0.75, "close": {"code": 1000, "reason": "bye"}}


json_events = st.dictionaries(st.text(max_size=5), st.text(max_size=5) | st.integers(), max_size=3)
entries = st.lists(
    st.builds(Open, st.floats(0, 1e6), st.just("wss://h/p"))
    | st.builds(Frame, st.floats(0, 1e6), st.sampled_from(["in", "out"]), json_events)
    | st.builds(Close, st.floats(0, 1e6), st.integers(1000, 4999), st.text(max_size=5))
)


@given(entries)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50)
def test_any_recording_survives_the_file(tmp_path, entries):
    typed = tuple(
        Frame(e.t, e.direction, {**e.event, "type": "x"}) if isinstance(e, Frame) else e
        for e in entries
    )
    save(recording(*typed), tmp_path / "a.jsonl")
    once = load(tmp_path / "a.jsonl")
    save(once, tmp_path / "b.jsonl")
    assert load(tmp_path / "b.jsonl") == once
    assert len(once.entries) == len(typed)


def test_requests_and_parts_are_the_two_directions():
    assert [event["type"] for event in FULL.requests()] == ["response.create"]
    assert [[event["type"] for event in part] for part in FULL.parts()] == [
        ["response.created", "response.completed"]
    ]
    assert FULL.last_close() == Close(0.75, 1000, "bye")
    assert recording().last_close() is None


@pytest.mark.skipif(not SHARED.exists(), reason="no real recordings in ../shared")
def test_every_real_recording_of_bare_events_is_one_part():
    paths = sorted(SHARED.glob("*.jsonl"))
    assert paths
    for path in paths:
        events = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
        assert load(path).parts() == [events], path.name


def test_a_missing_recording_says_how_to_make_one(tmp_path):
    with pytest.raises(RecordingNotFoundError, match=r"gone\.jsonl.*Make one"):
        load(tmp_path / "gone.jsonl")


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ([], "is empty"),
        (["", "  "], "is empty"),
        (["{"], "line 1 is no JSON"),
        (["[]"], "line 1 is no JSON object"),
        (['{"a": 1}'], "line 1 has no event"),
        (['{"type": "x"}', '{"type": 3}'], "line 2 has no event"),
        (
            [json.dumps({"format": "llmws-recording/9"})],
            "line 1 has the format 'llmws-recording/9'",
        ),
        ([HEADER, "", "nope"], "line 3 is no JSON"),
        ([HEADER, '{"dir": "in", "event": {"type": "x"}}'], "line 2 has no time"),
        ([HEADER, '{"t": true, "dir": "in", "event": {"type": "x"}}'], "line 2 has no time"),
        ([HEADER, '{"t": 1%s, "open": {"url": "u"}}' % ("0" * 400)], "line 2 has no time"),
        ([HEADER, '{"t": 0, "dir": "up", "event": {"type": "x"}}'], "line 2 is neither"),
        ([HEADER, '{"t": 0, "dir": "in", "event": {}}'], "line 2 has no event"),
        ([HEADER, '{"t": 0, "close": {}}'], "line 2 is neither"),
        ([HEADER, '{"t": 0, "open": {"url": 1}}'], "line 2 is neither"),
    ],
)
def test_a_bad_file_is_refused_with_its_line(tmp_path, lines, message):
    path = tmp_path / "bad.jsonl"
    path.write_text("\n".join(lines), "utf-8")
    with pytest.raises(RecordingError, match=message):
        load(path)


def test_bytes_that_are_no_utf8_are_refused_with_their_line(tmp_path):
    (tmp_path / "bad.jsonl").write_bytes(HEADER.encode() + b'\n{"t": 0, "x": "\xff"}\n')
    with pytest.raises(RecordingError, match="line 2 is no UTF-8"):
        load(tmp_path / "bad.jsonl")


@pytest.mark.skipif(os.name != "posix", reason="file modes are POSIX's")
def test_a_recording_is_readable_by_its_owner_only(tmp_path):
    save(FULL, tmp_path / "new" / "a.jsonl")
    assert stat.S_IMODE((tmp_path / "new" / "a.jsonl").stat().st_mode) == 0o600


def test_a_failed_save_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    path = tmp_path / "a.jsonl"
    save(FULL, path)
    before = path.read_bytes()

    def refuse(source, target):
        raise OSError("disk full")

    monkeypatch.setattr(os, "replace", refuse)
    with pytest.raises(OSError, match="disk full"):
        save(recording(), path)
    assert path.read_bytes() == before
    assert [each.name for each in tmp_path.iterdir()] == ["a.jsonl"]


def test_urls_lose_their_query_and_their_credentials(tmp_path):
    url = "wss://user:secret@api.openai.com:443/v1/responses?api_key=abc#frag"
    save(recording(Open(0.0, url)), tmp_path / "a.jsonl")
    assert load(tmp_path / "a.jsonl").entries == (
        Open(0.0, "wss://api.openai.com:443/v1/responses"),
    )


def test_what_is_no_url_is_left_out(tmp_path):
    save(recording(Open(0.0, "wss://[key@host/")), tmp_path / "a.jsonl")
    assert load(tmp_path / "a.jsonl").entries == (Open(0.0, ""),)


def test_no_key_is_saved_whole_split_or_in_a_close_reason(tmp_path):
    odd = "not-shaped-like-a-key"
    split = [
        Frame(0.0, "in", {"type": "d.delta", "item_id": "i", "delta": piece})
        for piece in ("it is not-sha", "ped-like", "-a-key.")
    ]
    noted = recording(
        Frame(0.0, "out", {"type": "response.create", "input": f"my key is {KEY}", odd: 1}),
        *split,
        Close(0.0, 1008, f"bad key {odd}"),
    )
    save(noted, tmp_path / "a.jsonl", secrets=[Secret(odd)])
    text = (tmp_path / "a.jsonl").read_text("utf-8")
    assert KEY not in text
    assert odd not in text
    frames = load(tmp_path / "a.jsonl").frames()
    assert "".join(frame.event["delta"] for frame in frames[1:]) == f"it is {REDACTED}."


def test_a_recorder_gives_what_it_was_fed_from_its_first_moment_on():
    recorder = Recorder(source="synthetic", recorded_at="2026-01-02T03:04:05+00:00")
    recorder.opened(100.0, "wss://h/v1/responses?x=1")
    recorder.sent(100.5, {"type": "response.create"})
    recorder.received(101.0, {"type": "response.created"})
    recorder.closed(102.0, 1006, "")
    assert recorder.recording() == recording(
        Open(0.0, "wss://h/v1/responses"),
        Frame(0.5, "out", {"type": "response.create"}),
        Frame(1.0, "in", {"type": "response.created"}),
        Close(2.0, 1006, ""),
    )


def test_a_recorder_gives_no_key_away():
    recorder = Recorder(secrets=[Secret("hush-hush")])
    for piece in ("hush", "-hush"):
        recorder.received(0.0, {"type": "d.delta", "delta": piece})
    given = recorder.recording()
    assert [frame.event["delta"] for frame in given.frames()] == [REDACTED, ""]
    assert "hush" not in repr(recorder) + repr(given)


def test_a_recorder_dates_itself():
    assert Recorder().recording().recorded_at.endswith("+00:00")
    assert Recorder().recording().entries == ()


def test_a_recording_may_be_taken_while_it_grows():
    recorder, done = Recorder(recorded_at="now"), threading.Event()

    def feed():
        for number in range(3000):
            recorder.received(float(number), {"type": "x", "n": number})
        done.set()

    thread = threading.Thread(target=feed)
    thread.start()
    over = False
    while not over:
        over = done.is_set()
        numbers = [frame.event["n"] for frame in recorder.recording().frames()]
        assert numbers == list(range(len(numbers)))
    thread.join()
    assert len(numbers) == 3000
