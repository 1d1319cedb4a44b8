"""The reader of requests: words and marks line up, and the shipped weights read requests that they never saw."""

import json
from pathlib import Path

import pytest
import torch

from checkpoints import __file__ as checkpoints
from encoders.reader import DECISIONS, KINDS, Reader, context, inputs, load, words
from orchestrator.languages import detect

ROWS = Path(__file__).parents[1] / "data" / "routing.jsonl"
WEIGHTS = Path(checkpoints).parent / "router" / "reader.safetensors"


@pytest.fixture(scope="module")
def reader() -> Reader:
    return load(WEIGHTS)


def test_neighbours_and_padding_do_not_change_what_a_request_says(reader: Reader) -> None:
    said = [["a", "dog", "barks"], ["drei", "Takes", "von", "einem", "Regen", ",", "bitte"]]
    around = [context((), ()), context(("image",), ("audio2",))]
    with torch.inference_mode():
        together = reader(*inputs(said, ["en", "de"], around))
        for k, (one, where) in enumerate(zip(said, around, strict=True)):
            alone = reader(*inputs([one], [("en", "de")[k]], [where]))
            assert torch.allclose(alone[0][0], together[0][k, : len(one)], atol=1e-5)
            assert all(torch.allclose(a[0], b[k], atol=1e-5) for a, b in zip(alone[1:], together[1:], strict=True))


def test_what_stands_where_is_told_in_the_letters_of_the_text(reader: Reader) -> None:
    text = "make the sound of a kettle, ten seconds, without any voices please"
    reading = reader.read(text, "en", context((), ()))
    assert reading is not None and len(reading.marks) == len(reading.spans) == len(words(text))
    assert any("kettle" in text[a:b] for a, b, _ in reading.stretches("W"))
    assert any("seconds" in text[a:b] for a, b, _ in reading.stretches("P"))
    assert sum(reading.decisions.values()) == pytest.approx(1, abs=1e-5) and set(reading.decisions) == set(DECISIONS)
    assert set(reading.kinds) == set(KINDS) and sum(reading.own_sound.values()) == pytest.approx(1, abs=1e-5)
    assert reader.read("   ", "en", context((), ())) is None


def test_a_request_without_end_is_read_up_to_a_point(reader: Reader) -> None:
    reading = reader.read("rain " * 5000, "en", context((), ()))
    assert reading is not None and len(reading.spans) == 160


def test_the_shipped_weights_know_what_published_rows_ask_for(reader: Reader) -> None:
    """Alone, without rules or language model: it was taught on none of these rows (tests/training/test_reading.py)."""
    right = total = 0
    for row in map(json.loads, ROWS.read_text("utf-8").splitlines()):
        reading = reader.read(row["say"], detect(row["say"]), context(row.get("attach") or (), row.get("history") or ()))
        if reading is not None:
            best = max(reading.decisions, key=lambda name: reading.decisions[name])
            wanted = (row["tool"] or "talk|ask").split("|")
            right, total = right + (best in wanted), total + 1
    assert total >= 300 and right / total >= 0.85, (right, total)
