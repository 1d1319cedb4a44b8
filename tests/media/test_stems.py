"""Clips on a stem: where they were put, whole, and equal-power where they meet."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile

from media.stems import Clip, lay, power_fade

RATE = 8000


def clip(at: int, *values: float) -> Clip:
    return Clip(at, np.array([values], np.float32))


def laid(path: Path, length: int, *clips: Clip, channels: int = 1) -> np.ndarray:
    lay(path, RATE, length, channels, clips)
    samples, rate = soundfile.read(path, dtype="float32", always_2d=True)
    assert rate == RATE
    return samples.T


def test_clips_sound_where_they_lie_and_add_up_where_they_meet(tmp_path: Path) -> None:
    made = laid(tmp_path / "a.wav", 10, clip(-1, 9, 1), clip(2, 1, 2, 3), clip(3, 10, 10, 10, 10), clip(9, 5, 6, 7))
    assert made.tolist() == [[1, 0, 1, 12, 13, 10, 10, 0, 0, 5]]


def test_a_short_clip_inside_a_long_one_leaves_its_rest_alone(tmp_path: Path) -> None:
    assert laid(tmp_path / "a.wav", 8, clip(0, *[1.0] * 8), clip(2, 1), clip(5, 1)).tolist() == [[1, 1, 2, 1, 1, 2, 1, 1]]


def test_one_channel_fits_two_and_beyond_full_scale_nothing_is_cut(tmp_path: Path) -> None:
    assert laid(tmp_path / "a.wav", 3, clip(1, 1.5), channels=2).tolist() == [[0, 1.5, 0], [0, 1.5, 0]]


def test_disorder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="in order"):
        laid(tmp_path / "a.wav", 9, clip(5, 1), clip(3, 1))


def test_a_long_stem_takes_no_more_memory_than_a_short_one(tmp_path: Path) -> None:
    def clips(count: int) -> Iterator[Clip]:
        return (Clip(k * RATE, np.ones((1, 2 * RATE), np.float32)) for k in range(count))

    def most(seconds: int) -> int:
        tracemalloc.start()
        lay(tmp_path / "a.wav", RATE, seconds * RATE, 1, clips(seconds))
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return peak

    most(5)
    assert most(900) < most(10) + 200_000  # bytes


def test_two_fades_that_meet_keep_the_power() -> None:
    out = power_fade(RATE, -1, 1.0, 0.1, 0.4, RATE)
    into = power_fade(RATE, 0.6, 9.0, 0.4, 0.1, RATE)
    inside = slice(round(0.6 * RATE), RATE)
    assert np.allclose((out**2 + into**2)[inside], 1, atol=1e-5)
    assert not into[: round(0.6 * RATE)].any() and np.allclose(out[: round(0.5 * RATE)], 1)
