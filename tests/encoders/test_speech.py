"""Speech is found where somebody speaks, and neither in noise nor in music."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from encoders.speech import CHUNK, RATE, spans, speech_probabilities, speech_spans
from media.audio import Audio, resample
from tests import makers, toys


@pytest.fixture(scope="module")
def spoken() -> np.ndarray:
    """One sentence by the bundled voice, [T] float32 at 16 kHz, without the silence around it."""
    from hibari import Hibari as Voice

    wave = Voice(threads=1)("We have to leave now, the train departs in ten minutes.", speed=1.0, seed=0)
    clean = resample(Audio(np.asarray(wave, np.float32)[None], 24_000), RATE).samples[0]
    loud = np.flatnonzero(np.abs(clean) > 0.02)
    return clean[loud[0] : loud[-1]] * (0.4 / np.abs(clean).max())


def music(seconds: float) -> np.ndarray:
    """Chords of plucked strings with a beat."""
    time = np.arange(round(seconds * RATE)) / RATE
    made = sum(np.sin(2 * np.pi * hz * time) * np.exp(-3 * (time % 0.5)) for hz in (220, 277, 330, 440, 660))
    return np.asarray(0.08 * made + 0.05 * np.random.default_rng(0).standard_normal(len(time)) * (time % 0.25 < 0.02), np.float32)


def test_a_sentence_between_silence_and_over_rain_and_music(spoken: np.ndarray) -> None:
    begin, length = 1.2, len(spoken) / RATE
    whole = begin + length + 1.2
    for bed in (np.zeros(round(whole * RATE)), makers.noise(whole, RATE, level=0.03).samples[0], music(whole)):
        sound = np.asarray(bed, np.float32).copy()
        sound[round(begin * RATE) : round(begin * RATE) + len(spoken)] += spoken[: len(sound)]
        found = spans(speech_probabilities(iter(np.array_split(sound, 7))), CHUNK / RATE)
        assert found[0][0] == pytest.approx(begin, abs=0.25) and found[-1][1] == pytest.approx(begin + length, abs=0.3), found
        assert sum(end - start for start, end in found) > 0.75 * length  # there is a pause behind "now"


def test_rain_music_and_an_engine_say_nothing() -> None:
    time = np.arange(4 * RATE) / RATE
    engine = 0.2 * np.sign(np.sin(2 * np.pi * 45 * time + np.sin(time))) * (1 + 0.3 * np.sin(20 * time))
    for sound in (makers.noise(4, RATE).samples[0], music(4), engine.astype(np.float32)):
        assert spans(speech_probabilities(iter([sound])), CHUNK / RATE) == []


def test_blocks_of_any_size_give_the_same(spoken: np.ndarray) -> None:
    whole = speech_probabilities(iter([spoken]))
    np.testing.assert_array_equal(whole, speech_probabilities(iter(np.array_split(spoken, 23))))
    assert len(whole) == -(-len(spoken) // CHUNK)


def test_spans_of_a_video_lie_on_the_pictures_clock(tmp_path: Path, spoken: np.ndarray) -> None:
    sound = np.concatenate([np.zeros(RATE, np.float32), spoken, np.zeros(RATE, np.float32)])
    length = len(sound) / RATE
    video = toys.toy(tmp_path / "v.mp4", [toys.Shot("still", length)], 10, (64, 48), sound=resample(Audio(sound[None], RATE), 48_000))
    found = speech_spans(video.path)
    assert found[0][0] == pytest.approx(1, abs=0.25) and found[-1][1] == pytest.approx(length - 1, abs=0.3)
    assert speech_spans(toys.toy(tmp_path / "q.mp4", [toys.Shot("still", 0.4)], 10, (64, 48)).path) == []
