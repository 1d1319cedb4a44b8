"""Clips whose captions say more than a class: what the words promise is in the sound."""

from __future__ import annotations

import doctest
import json
import re
from pathlib import Path

import numpy as np
import pytest
from scipy.signal import find_peaks

from media.mel import MelSpec, log_mel, loudness_curve
from training import music, scenes
from training.data import SAMPLES, Bench, MelSet, scene_clip, write_part
from training.music import LEADS, MOODS, TEMPI, Piece, compose, draw_piece
from training.scenes import NUMBERS, counted, held_out, mixed, paced, placed

SECONDS = 5.12


def onsets(samples: np.ndarray) -> np.ndarray:
    """Times in seconds at which the level jumps."""
    level = np.exp(log_mel(samples, MelSpec())).sum(1)
    rise = np.maximum(np.diff(np.log(level + 0.02 * level.max())), 0)
    peaks, _ = find_peaks(np.r_[0, rise, 0], height=0.25 * rise.max(), distance=12)
    return peaks / 100


def test_doctests() -> None:
    assert doctest.testmod(scenes).failed == 0


def test_a_tempo_in_the_caption_is_the_tempo_of_the_sound() -> None:
    checked = 0
    for seed in range(40):
        scene = paced(np.random.default_rng(seed), SECONDS)
        bpm = int(re.search(r"(\d+) (?:bpm|beats)", " ".join(scene.captions))[1])  # type: ignore[index]
        if not any(word in scene.captions[1] for word in ("tick", "metronome", "knock", "beep", "clap")):
            continue  # heels and hearts sound twice a beat
        found = 60 / np.median(np.diff(onsets(scene.samples)))
        assert found == pytest.approx(bpm, rel=0.06), scene.captions
        checked += 1
    assert checked >= 10


def test_a_number_in_the_caption_is_the_number_of_events() -> None:
    right = []
    for seed in range(30):
        scene = counted(np.random.default_rng(seed), SECONDS)
        if any(word in scene.captions[0] for word in ("knock", "beep", "click", "clap")):
            wanted = next(i + 1 for i, word in enumerate(NUMBERS) if word in f"{scene.captions[0]} {scene.captions[2]}")
            right.append(len(onsets(scene.samples)) == wanted)
    assert len(right) >= 8 and np.mean(right) >= 0.9


def test_far_is_darker_and_softer_than_near() -> None:
    sound = np.random.default_rng(0).standard_normal(SAMPLES)
    near: list[tuple[float, float]] = []
    far: list[tuple[float, float]] = []
    for seed in range(20):
        scene = placed(np.random.default_rng(seed), sound, "a hiss")
        spectrum = np.abs(np.fft.rfft(scene.samples)) ** 2
        centroid_hz = float((spectrum * np.arange(len(spectrum))).sum() / spectrum.sum() / SECONDS)
        said_far = bool(re.search("far|dist|faint", " ".join(scene.captions)))
        (far if said_far else near).append((centroid_hz, float(np.abs(scene.samples).max())))
    assert min(c for c, _ in near) > max(c for c, _ in far) and min(p for _, p in near) > max(p for _, p in far)


def test_then_is_one_after_the_other_and_while_is_both() -> None:
    t = np.arange(SAMPLES) / 16_000
    sounds = {"a hum": 300, "a beep": 3000}  # Hz
    kinds = set()
    for seed in range(30):
        (a, x), (b, y) = ((name, np.sin(2 * np.pi * hz * t)) for name, hz in sounds.items())
        scene = mixed(np.random.default_rng(seed), (a, x), (b, y))
        ends = [np.abs(np.fft.rfft(part)) for part in (scene.samples[:16_000], scene.samples[-16_000:])]  # bins of 1 Hz
        sequential = any(word in scene.captions[0] for word in ("then", "followed", "after"))
        kinds.add(sequential)
        if sequential:
            assert [int(end.argmax()) for end in ends] == [300, 3000] and ends[0][3000] < 0.01 * ends[0][300]
        else:
            for end in ends:
                assert 0.15 < end[3000] / end[300] < 6.5, "neither hides the other by more than 16 dB"
    assert kinds == {True, False}


def test_a_pair_is_held_out_whichever_comes_first_and_never_mixed() -> None:
    assert held_out("dog", "rain") == held_out("rain", "dog")
    share = np.mean([held_out(f"a{i}", f"b{i}") for i in range(1000)])
    assert 0.15 < share < 0.25
    bench = Bench(Path("/nowhere"))
    names: list[str] = []
    original = Bench.draw_sound

    def spy(self: Bench, draw: np.random.Generator) -> tuple[str, str, np.ndarray]:
        name, phrase, sound = original(self, draw)
        names.append(name)
        return name, phrase, sound

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Bench, "draw_sound", spy)
        for seed in range(12):
            bench.draw_mix(np.random.default_rng(seed))
            assert not held_out(*names[-2:]) and names[-1] != names[-2]


def test_a_piece_has_its_tempo_scale_and_no_held_out_combination() -> None:
    for seed in range(20):
        rng = np.random.default_rng(seed)
        piece = draw_piece(rng)
        assert not music.held_out(piece.lead, piece.mood, piece.pace)
        assert TEMPI[piece.pace][0] <= piece.bpm <= TEMPI[piece.pace][1] and piece.lead in LEADS
        notes = compose(piece, rng, SECONDS)
        eighth = 30 / piece.bpm
        assert all(abs(note.start / eighth - round(note.start / eighth)) < 1e-6 for note in notes)
        scale = MOODS[piece.mood].scale
        pitched = {(note.key % 12) for note in notes if note.channel != music.DRUM_CHANNEL}
        assert any(pitched <= {(root + step) % 12 for step in scale} for root in range(12))


def test_drums_keep_time() -> None:
    notes = compose(Piece("folk", "flute", "", 120, backed=False, drums=True), np.random.default_rng(0), 4.0)
    kicks = [note.start for note in notes if note.key == music.KICK and note.channel == music.DRUM_CHANNEL]
    assert kicks == [0.0, 1.0, 2.0, 3.0, 4.0]


@pytest.mark.parametrize("part", ["paced", "counted", "placed", "mixed"])
def test_a_scene_is_the_same_from_its_seed_and_another_from_another(part: str) -> None:
    bench = Bench(Path("/nowhere"))
    wave, mel, captions = scene_clip(bench, part, 3)
    again, _, same = scene_clip(bench, part, 3)
    other, _, _ = scene_clip(bench, part, 4)
    assert np.array_equal(wave, again) and captions == same and not np.array_equal(wave, other)
    assert wave.shape == (SAMPLES,) and wave.dtype == np.int16 and mel.shape == (512, 64) and len(captions) >= 2
    assert loudness_curve(mel).max() == 1


def test_speech_says_what_its_caption_says_and_is_not_silent() -> None:
    wave, mel, captions = scene_clip(Bench(Path("/nowhere")), "speech", 0)
    assert re.search(r'says "[a-z]', " ".join(captions)) and np.abs(wave).max() > 5000 and mel.std() > 1


def test_a_folder_without_scenes_opens_and_one_with_them_knows_their_captions(tmp_path: Path) -> None:
    blank = (np.zeros(SAMPLES, np.int16), np.zeros((512, 64), np.float16))
    for part, jobs in (("proc", [[0, 1], [3, 1]]), ("rec_train", [[0, 0]])):
        np.save(tmp_path / f"{part}_wav.npy", np.stack([blank[0]] * len(jobs)))
        np.save(tmp_path / f"{part}_mel.npy", np.stack([blank[1]] * len(jobs)))
        (tmp_path / f"{part}.json").write_text(json.dumps(jobs))
    assert MelSet.open(tmp_path).scenes == {} and len(MelSet.open(tmp_path).sources) == 2
    write_part(paced_clip, range(2), tmp_path / "paced")
    data = MelSet.open(tmp_path)
    assert list(data.scenes) == ["paced/0", "paced/1"] and data.scenes["paced/1"] == scene_clip(Bench(tmp_path), "paced", 1)[2]
    assert set(data.classes) == {"rain", "stream", str(data.sources[1].labels[0])}
    assert [len(s.labels) for s in data.of_classes().sources] == [2, 1]


def paced_clip(seed: int) -> tuple[np.ndarray, np.ndarray, tuple[str, ...]]:
    return scene_clip(Bench(Path("/nowhere")), "paced", seed)
