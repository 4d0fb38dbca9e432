"""The search finds a planted key wherever it is, in whatever form."""

import base64
import logging

import pytest

import llmws
from llmws.wire.recording import Frame, Recording, save
from tests.secrecy.leaks import forms_of, found_in
from tests.secrecy.scenes import CANARIES


@pytest.mark.parametrize("form", ["plain", "base64", "hex", "url-encoded"])
def test_the_search_finds_every_form(canary, form):
    for text in forms_of(CANARIES[canary])[form]:
        assert form in found_in(f"before {text} after", CANARIES[canary])


def test_the_search_finds_a_key_within_a_longer_base64_text(canary):
    for user in ("u", "us", "use", "user"):
        pair = f"{user}:{CANARIES[canary]}"
        text = base64.b64encode(pair.encode()).decode()
        assert found_in(text, CANARIES[canary]) == {"base64"}


def test_the_search_finds_half_a_key(canary):
    assert found_in(CANARIES[canary][:13], CANARIES[canary]) == {"plain"}


def plant_in_a_repr(evidence, key, tmp_path):
    evidence.add([key])


def plant_in_an_attribute(evidence, key, tmp_path):
    holder = type("Holder", (), {"__repr__": lambda self: "<Holder>"})()
    holder.inside = key
    evidence.add(holder)


def plant_in_a_slot(evidence, key, tmp_path):
    holder = type("Holder", (), {"__slots__": ("inside",), "__repr__": lambda self: "<Holder>"})()
    holder.inside = key
    evidence.add(holder)


def plant_in_a_message(evidence, key, tmp_path):
    evidence.add_error(ValueError(key))


def plant_in_a_hidden_context(evidence, key, tmp_path):
    try:
        try:
            raise ValueError(key)
        except ValueError:
            raise KeyError from None
    except KeyError as error:
        evidence.add_error(error)


def plant_in_a_local(evidence, key, tmp_path):
    namespace = {}
    exec(compile("def fail(key):\n    raise ValueError", "elsewhere.py", "exec"), namespace)
    try:
        namespace["fail"](key)
    except ValueError as error:
        evidence.add_error(error)


def plant_in_a_pickle(evidence, key, tmp_path):
    error = llmws.APIError("refused")
    error.partial = llmws.Response.from_wire({"status": "failed", "error": {"message": key}})
    evidence.add_error(error)


def plant_in_a_log_message(evidence, key, tmp_path):
    logging.getLogger("some.library").debug("key %s", key)


def plant_in_a_logged_exception(evidence, key, tmp_path):
    try:
        raise ValueError(key)
    except ValueError:
        logging.getLogger("some.library").debug("oh", exc_info=True)


def plant_in_a_recording(evidence, key, tmp_path):
    frame = Frame(0.0, "in", {"type": "x", "twice": key.swapcase()})
    save(Recording(entries=(frame,)), tmp_path / "r.jsonl")
    evidence.add_text("recording", (tmp_path / "r.jsonl").read_text().swapcase())


PLANTS = [
    plant_in_a_repr,
    plant_in_an_attribute,
    plant_in_a_slot,
    plant_in_a_message,
    plant_in_a_hidden_context,
    plant_in_a_local,
    plant_in_a_pickle,
    plant_in_a_log_message,
    plant_in_a_logged_exception,
    plant_in_a_recording,
]


@pytest.mark.parametrize("plant", PLANTS, ids=lambda plant: plant.__name__)
def test_the_search_finds_a_planted_key(plant, canary, search, tmp_path):
    with search().listening() as evidence:
        plant(evidence, CANARIES[canary], tmp_path)
    assert evidence.leaks(CANARIES[canary])
    assert search().leaks(CANARIES[canary]) == []
