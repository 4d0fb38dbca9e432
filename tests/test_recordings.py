import importlib.util
from pathlib import Path

import pytest

from llmws.wire.recording import load


ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "recordings" / "responses"
NAMES = sorted(path.name for path in FOLDER.glob("*.jsonl"))


def make_recordings():
    spec = importlib.util.spec_from_file_location(
        "make_recordings", ROOT / "tests/make_recordings.py"
    )
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_recordings_are_what_the_script_makes(tmp_path):
    made = {path.name: path.read_bytes() for path in make_recordings().make(tmp_path)}
    kept = {path.name: path.read_bytes() for path in FOLDER.glob("*.jsonl")}
    assert sorted(made) == sorted(kept)
    assert [name for name in made if made[name] != kept[name]] == [], (
        "run python tests/make_recordings.py"
    )


@pytest.mark.parametrize("name", NAMES)
def test_each_create_has_an_answer_that_ends(name):
    recording = load(FOLDER / name)
    assert recording.source == "synthetic"
    parts = recording.parts()
    assert len(parts) == len(recording.requests()) > 0
    for part in parts:
        assert part[-1]["type"].split(".")[-1] in {"completed", "failed", "incomplete", "error"}
        assert [event["sequence_number"] for event in part] == list(range(len(part)))


@pytest.mark.parametrize("name", NAMES)
def test_the_deltas_of_each_item_join_to_what_its_done_event_says(name):
    for part in load(FOLDER / name).parts():
        texts, dones = {}, {}
        for event in part:
            stem, _, last = event["type"].rpartition(".")
            place = (stem, event.get("item_id"), event.get("summary_index"))
            if last == "delta":
                texts[place] = texts.get(place, "") + event["delta"]
            elif last == "done" and place in texts:
                field = {"text", "refusal", "arguments", "input"} & event.keys()
                dones[place] = event[field.pop()]
        assert texts == dones


@pytest.mark.parametrize("name", NAMES)
def test_the_last_event_repeats_every_item_that_was_done(name):
    for part in load(FOLDER / name).parts():
        done = [event["item"] for event in part if event["type"] == "response.output_item.done"]
        if "response" in part[-1]:
            assert part[-1]["response"]["output"] == done


def test_the_warm_up_is_chained():
    recording = load(FOLDER / "warm-up.jsonl")
    warm, chained = recording.requests()
    assert warm["generate"] is False
    assert recording.parts()[0][-1]["response"]["output"] == []
    assert chained["previous_response_id"] == recording.parts()[0][0]["response"]["id"]


def test_the_long_recording_has_5000_deltas():
    [part] = load(FOLDER / "deltas-5000.jsonl").parts()
    assert sum(event["type"] == "response.output_text.delta" for event in part) == 5000
