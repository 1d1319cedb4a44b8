"""A study's cells, ledger and resume, over a backend whose sounds anybody can work out."""

from pathlib import Path

import numpy as np
import pytest

from configs.schema import StudyConfig, parse, presets
from evaluation.ledger import Row
from evaluation.study import plan, run, study_rows
from media.audio import Audio, read_audio
from tests import makers, quick_backend

SPEC = {
    "name": "tones",
    "prompts": [{"id": "a", "caption": "a dog"}, {"id": "b", "caption": "a cat"}, {"id": "c", "caption": "rain"}],
    "backends": [{"name": "quick"}, {"name": "four", "row": "quick", "steps": 4}],
    "seeds": [0, 1],
    "seconds": 0.25,
}


@pytest.fixture
def home(tmp_path, monkeypatch) -> Path:
    monkeypatch.syspath_prepend(quick_backend.install(tmp_path / "site", tmp_path / "home"))
    monkeypatch.setenv("LOA_QUICK_LOG", str(tmp_path / "log"))
    return tmp_path / "home"


@pytest.fixture
def study(tmp_path, home):
    """``study(**changes)`` runs SPEC with them in one folder and gives its summary."""

    def go(folder: str = "out", **changes):
        how = {name: changes.pop(name) for name in ("jobs", "retry", "executor") if name in changes}
        return run(planned(tmp_path / folder, home, **changes), tmp_path / folder, **how)

    return go


def planned(folder: Path, home: Path, **changes):
    return plan(parse(SPEC | changes, StudyConfig, "spec"), folder, home, presets(home), synthesise)


def synthesise(name: str, seed: int) -> Audio:
    if name != "rain":
        raise ValueError(name)
    return makers.noise(1.0, seed=seed)


def log(tmp_path: Path) -> list[list[str]]:
    return [line.split("|")[1:] for line in (tmp_path / "log").read_text().splitlines()]


def without_measured(rows: list[Row]) -> list[dict]:
    return sorted((row.model_dump(mode="json", exclude={"measured"}) for row in rows), key=lambda row: (row["key"], row["backend"]))


def test_every_prompt_meets_every_backend_and_seed_and_the_sound_is_theirs(study, tmp_path):
    summary = study()
    rows = study_rows(tmp_path / "out")
    assert (summary.cells, summary.done, summary.made) == (12, 12, 12)
    assert [(r.backend, r.prompt, r.seed) for r in rows] == [(b, p, s) for b in ("quick", "four") for p in "abc" for s in (0, 1)]
    for row in rows:
        expected = quick_backend.tone(row.request)
        heard = read_audio(tmp_path / "out" / row.audio)
        assert np.abs(heard.samples - expected.samples).max() < 1e-4
        assert row.audio == f"audio/{row.key}.wav"
        assert (row.sample_rate, row.seconds, row.measured.rows) == (8000, 0.25, 6)
