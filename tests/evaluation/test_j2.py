import json
import zipfile
from collections import Counter
from contextlib import contextmanager

import numpy as np
import pytest

from evaluation import j2
from evaluation.j2 import INSTRUMENTS, NAMES, CrossJudge, Take, build, held_out, place, read_manifest, read_prompts
from evaluation.prompts import read_paraphrases
from media.refs import UnreadableMedia
from training.music import LEADS
from training.recordings import MANIFEST, PackageFiles
from training.recordings import read_manifest as training_manifest

RATE = 16_000


class Tones:
    """A package whose low sounds are at 200 Hz and whose high ones at 3 kHz; "gone" is missing."""

    def sound(self, path: str) -> np.ndarray:
        if "gone" in path:
            raise UnreadableMedia("no such file")
        at = np.arange(RATE) / RATE
        return np.sin(2 * np.pi * (200 if path.startswith("low") else 3000) * at + len(path))

    def read(self, path: str) -> bytes:
        return b"font"


@contextmanager
def open_tones(name, scratch):
    yield Tones()


TAKES = [
    Take(package, f"{label}/{k}{'x' * k}", label, f"{label}{k}")
    for package, count in (("large", 6), ("small", 2))
    for label in ("low", "high")
    for k in range(count)
]


def test_no_recording_of_the_judge_is_one_of_trainings():
    learned = {(row.package, row.path_in_package) for row in training_manifest(MANIFEST)}

    own = read_manifest()

    assert len(own) > 600
    for take in own:
        assert not any(package == take.package and f"/{take.path}".endswith(f"/{path}") for package, path in learned)


def test_every_name_of_a_class_is_one_that_the_judge_learns_and_that_is_asked_for():
    learned = Counter(take.label for take in read_manifest())
    asked = {row.name for row in read_paraphrases()}

    assert set(NAMES.values()) <= set(learned) and set(NAMES) <= asked
    assert {row.name for row in read_prompts()} <= set(INSTRUMENTS) | {"speech"}
    assert {name for names in INSTRUMENTS.values() for name in names} <= set(LEADS)
    assert min(count for label, count in learned.items() if label not in INSTRUMENTS) >= 3


def test_a_class_of_several_packages_is_measured_on_the_smallest_one():
    tested = held_out(TAKES)

    assert {TAKES[index].package for index in tested} == {"small"} and len(tested) == 4
    assert set(tested.values()) == {"package"}


def test_a_class_of_one_package_is_measured_on_families_that_are_not_learned_from():
    takes = [Take("only", f"{family}{k}", "low", family) for family in "abcde" for k in range(3)]

    tested = held_out(takes)

    families = {takes[index].family for index in tested}
    assert 1 <= len(families) <= 2 and len(tested) == 3 * len(families)
    assert held_out(takes[:3]) == {}  # a single family: nothing would be left


def test_a_short_recording_is_placed_several_times_over_a_noise_floor():
    clips = [place(np.ones(1600), np.random.default_rng(seed)) for seed in range(12)]

    counts = [int((np.diff((clip > 0.3).astype(int)) == 1).sum()) for clip in clips]
    assert min(counts) >= 1 and max(counts) > 2
    assert all(np.abs(clip[-160:]).max() > 0 for clip in clips)


def test_a_long_recording_is_cropped():
    ramp = np.linspace(0, 1, 200_000)

    clip = place(ramp, np.random.default_rng(0))

    assert clip[-1600:].mean() - clip[:1600].mean() == pytest.approx(0.7 * 80_320 / 200_000, abs=0.02)


def test_the_judge_learns_tells_its_ceiling_and_is_the_same_after_loading(tmp_path, monkeypatch):
    monkeypatch.setattr(j2, "spoken", lambda scratch: [])
    stages: list[str] = []

    built = build(tmp_path, open_tones, None, lambda stage, *_: stages.append(stage), steps=12, batch=5, takes=[*TAKES, TAKES[0]])

    assert built.figures["top1"] == 1.0 and built.figures["unseen_package"]["takes"] == 4
    assert built.names == ("high", "low") and built.label_of("low", "procedural") == "low"
    assert built.label_of("rain", "procedural") is None
    assert any("small" in stage for stage in stages)
    mels = j2.mels_of(Tones().sound("low"), 5).astype(np.float32)
    again = CrossJudge.load(tmp_path)
    assert np.array_equal(again.logits(mels), built.logits(mels))
    assert again.logits(mels).argmax(axis=1).tolist() == [1] * j2.PLACEMENTS
    assert json.loads((tmp_path / "figures.json").read_text())["labels"] == 2


def test_a_missing_recording_is_left_out(tmp_path, monkeypatch):
    monkeypatch.setattr(j2, "spoken", lambda scratch: [])

    found, mels = j2.gather([TAKES[0], Take("large", "gone", "low", "g")], open_tones, None, lambda *_: None)

    assert [take.path for take in found] == [TAKES[0].path] and len(mels) == j2.PLACEMENTS


def test_instruments_are_played_by_the_other_soundfont(monkeypatch):
    monkeypatch.setattr(j2, "spoken", lambda scratch: [])
    monkeypatch.setattr(j2, "NOTES", 1)
    played: list[tuple[bytes, str]] = []

    def play(font: bytes, name: str, seed: int) -> np.ndarray:
        played.append((font, name))
        return np.ones(100)

    found, _ = j2.gather([], open_tones, play, lambda *_: None)

    assert {take.label for take in found} == set(INSTRUMENTS)
    assert set(played) == {(b"font", name) for names in INSTRUMENTS.values() for name in names}


def test_sounds_inside_a_game_archive_are_found(tmp_path):
    with zipfile.ZipFile(tmp_path / "pak0.pk3", "w") as archive:
        archive.writestr("sound/world/wind1.wav", b"RIFF")

    assert PackageFiles(tmp_path).read("sound/world/wind1.wav") == b"RIFF"
