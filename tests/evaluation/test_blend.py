"""A blend of two stored Languages of Audio moves from one sound to the other with the weight, as judge J1 hears it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from evaluation.judge import SHIPPED, Judge
from generators.audioldm2 import AudioLDM2
from generators.base import GenerationRequest
from media.audio import Audio, read_audio
from media.refs import MediaStore
from training.synthesis import CLASSES

WEIGHTS = (0.0, 0.25, 0.5, 0.75, 1.0)
PAIRS = (("rain", "church_bell"), ("cricket", "applause"), ("car_engine", "songbird"))


def leaning(home: Path, first: str, second: str, seed: int) -> list[float]:
    """The judge's probability of ``second`` where it may only choose between the two, by the weight of ``second``."""
    store, judge = MediaStore(home / "store"), Judge.load(SHIPPED)
    backend = AudioLDM2("nano", {"checkpoint": "nano"}, store, home)
    clips = [CLASSES[name](np.random.default_rng([list(CLASSES).index(name), 20_000_000 + seed]), 5.12) for name in (first, second)]
    one, other = (backend.loa_of(Audio(clip[None], 16_000)) for clip in clips)
    requests = [GenerationRequest(loa=((one, 1 - w), (other, w)), seconds=5.12, seed=seed, steps=8) for w in WEIGHTS]
    logits = judge.listen([read_audio(store.path(made.media)) for made in backend.generate(requests)])
    a, b = (judge.labels.names.index(name) for name in (first, second))
    return [float(1 / (1 + np.exp(row[a] - row[b]))) for row in logits]


@pytest.mark.slow
@pytest.mark.parametrize(("first", "second"), PAIRS)
def test_the_judge_leans_to_a_sound_as_its_weight_grows(first: str, second: str, tmp_path: Path) -> None:
    rows = np.mean([leaning(tmp_path, first, second, seed) for seed in (0, 1)], axis=0)
    print(first, second, rows.round(3).tolist())
    assert rows[-1] - rows[0] > 0.5
    assert all(np.diff(rows) > -0.05), rows  # monotonic; where the judge is sure already, it wavers by 0.02
