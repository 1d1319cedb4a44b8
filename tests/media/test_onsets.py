"""Onsets of sounds: found where the sound begins, also by another implementation."""

from __future__ import annotations

import numpy as np
import pytest

from media.onsets import audio_onsets

RATE = 48_000


def blows(times: list[float], seconds: float, seed: int = 0) -> np.ndarray:
    """Noise that begins at once and fades within 60 ms, over a faint bed."""
    rng = np.random.default_rng(seed)
    time = np.arange(round(seconds * RATE)) / RATE
    made = 0.001 * rng.standard_normal(len(time))
    for start in times:
        made += 0.4 * rng.standard_normal(len(time)) * np.exp(-np.maximum(time - start, 0) / 0.06) * (time >= start)
    return made


def test_blows_are_found_within_ten_milliseconds() -> None:
    times = [0.21, 0.5, 0.83, 1.4, 1.52, 2.31]
    for samples in (blows(times, 3), np.tile(blows(times, 3, 1), (2, 1))):
        assert audio_onsets(samples, RATE) == pytest.approx(times, abs=0.01)


@pytest.mark.slow
def test_librosa_hears_the_same() -> None:
    import librosa

    samples = blows([0.4, 0.9, 1.7], 2.5).astype(np.float32)
    theirs = librosa.onset.onset_detect(y=samples, sr=RATE, hop_length=256, units="time")
    assert audio_onsets(samples, RATE) == pytest.approx(theirs.tolist(), abs=0.03)


def test_silence_and_a_steady_tone_begin_nothing() -> None:
    assert audio_onsets(np.zeros(RATE), RATE) == [] and audio_onsets(np.zeros(10), RATE) == []
    assert audio_onsets(0.1 * np.sin(np.arange(2 * RATE) * 0.05)[RATE // 2 :], RATE) in ([], [0.0])
