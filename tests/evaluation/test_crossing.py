"""The bridge's benchmark: how places and chance are counted, and that nano really hears through the bridge."""

from __future__ import annotations

import doctest
from pathlib import Path

import numpy as np
import pytest
import torch

from configs.registry import ConfigError
from encoders.bridge import Bridge
from evaluation import crossing
from evaluation.crossing import BridgedNano, Crossing, ratio_interval, read_shown, run, shuffled
from generators.audioldm2 import AudioLDM2
from generators.base import GenerationRequest
from media.image import load_image
from media.refs import MediaStore
from tests import makers

PICTURES = Path(__file__).parents[1] / "data" / "pictures"
ROWS = PICTURES.parent / "crossing.jsonl"
NANO = Path(__file__).parents[2] / "checkpoints" / "nano"
NAMES = ("a", "b", "c", "d", "e", "f", "g", "h")


def test_the_examples_of_the_docstrings_hold() -> None:
    assert doctest.testmod(crossing).failed == 0


def test_a_sound_that_fits_its_input_alone_passes_for_no_other() -> None:
    accepts = [("a",), ("b",), ("c", "d"), ("e",), ("a", "f")]
    logits = np.full((5, 8), -9.0)
    for row, right in zip(logits, accepts, strict=True):
        row[[NAMES.index(name) for name in right]] = 9.0
    assert shuffled(logits, NAMES, NAMES, accepts, k=1).tolist() == [0, 0, 0, 0, 0]
    assert shuffled(np.tile(np.arange(8.0), (5, 1)), NAMES, NAMES, accepts, k=8).tolist() == [1] * 5
    blind = np.random.default_rng(0).standard_normal((4000, 8))
    one_label = [(NAMES[i % 8],) for i in range(4000)]
    assert shuffled(blind[:40], NAMES, NAMES, one_label[:40], k=2).mean() == pytest.approx(2 / 8, abs=0.06)


def test_the_interval_of_a_ratio_holds_it_and_closes_with_more_inputs() -> None:
    draw = np.random.default_rng(1)
    for count, most in ((20, 0.9), (2000, 0.1)):
        groups = np.repeat(np.arange(count), 2)
        low, high = ratio_interval((draw.random(2 * count) < 0.6).astype(float), (draw.random(2 * count) < 0.8).astype(float), groups)
        assert low <= 0.75 <= high and high - low < most


def test_the_list_names_pictures_and_labels_that_the_judge_knows() -> None:
    from evaluation.judge import SHIPPED, Judge

    labels = set(Judge.load(SHIPPED).labels.procedural)
    shown = read_shown(ROWS)
    assert len(shown) == len({row.file for row in shown}) == 4
    assert all(row.accepts and set(row.accepts) <= labels and row.says and (PICTURES / row.file).is_file() for row in shown)


def test_pictures_that_lack_are_named_and_some_must_not_be_asked_about(tmp_path: Path) -> None:
    def go() -> None:
        run(tmp_path, tmp_path, ROWS, [], None, None, MediaStore(tmp_path), lambda *_: None)  # type: ignore[arg-type]

    with pytest.raises(ConfigError, match=r"lacks 4 of the 4 pictures .*chelsea\.jpg"):
        go()
    for row in read_shown(ROWS):
        (tmp_path / row.file).write_bytes((PICTURES / row.file).read_bytes())
    with pytest.raises(ConfigError, match="every picture"):
        go()


def test_nano_hears_what_crossed_and_reads_the_captions_nearest_to_it(tmp_path: Path) -> None:
    """A bridge that changes nothing: a cat's picture lies nearest to the caption that names a cat, and its Language of Audio too."""
    texts = ("a cat meows", "rain on a roof", "a train passes", "a church bell")

    def plain(captions, source, target, examples) -> Bridge:  # type: ignore[no-untyped-def]
        assert set(examples) == {"vision", "audio"}
        means = {"text": torch.zeros(384), "vision": torch.zeros(384), "audio": torch.zeros(384)}
        return Bridge(torch.eye(384), means, torch.zeros(384), 1.0, tuple(captions), torch.nn.functional.normalize(target, dim=-1))

    crossed = Crossing(NANO, MediaStore(tmp_path), texts, plain, [makers.halves()], [makers.tone()])
    cat = crossing.Trial("cat", load_image(PICTURES / "chelsea.jpg"), "a cat", ("cat",))
    assert crossed.nearest(cat) == "a cat meows"
    bridged = crossed._bridged
    assert isinstance(crossed.backend, AudioLDM2) and isinstance(bridged, BridgedNano)
    ref = crossed.backend.store.put_file(PICTURES / "chelsea.jpg")
    known = bridged.conditions(GenerationRequest(media=(ref,), seconds=1, steps=1))
    assert known.words == "a cat meows" and float(known.null_text.states.abs().max()) == 0
    said = bridged.t5("a cat meows")
    assert torch.equal(known.text.states[:, : said.states.shape[1]], said.states)
    told = bridged.conditions(GenerationRequest(prompt="a cat meows", seconds=1, steps=1)).loa.states
    other = bridged.conditions(GenerationRequest(prompt="a church bell", seconds=1, steps=1)).loa.states
    near, far = (float(torch.cosine_similarity(known.loa.states.flatten(), x.flatten(), dim=0)) for x in (told, other))
    assert near > far + 0.05
    assert bridged.one_sound(GenerationRequest(media=(ref,), seconds=1, steps=1)) == "cat"  # and so a cat's loudness curve
