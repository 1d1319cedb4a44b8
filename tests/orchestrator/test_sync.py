"""Seen and heard in time: pairs, scenes, a detector over a stem read in pieces, and a plot that shows them."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import soundfile
from PIL import Image

from orchestrator.sync import plot, report, stem_onsets


def test_a_scene_says_how_far_off_its_sounds_are() -> None:
    first, second, third = report([(0, 2), (2, 4), (4, 6)], [0.5, 1.5, 1.99, 3.0], [0.51, 1.47, 2.05, 3.5])
    assert (first.offset_ms, first.worst_ms, first.within, first.extra) == (pytest.approx(13.3), 60.0, 2, 0)
    assert first.visual == (0.5, 1.5, 1.99) and first.sound == (0.51, 1.47)  # the pair of 1.99 lies beyond the cut
    assert (second.offset_ms, second.within, second.extra) == (None, 0, 1)
    assert (third.offset_ms, third.visual, third.extra) == (None, (), 0)


def test_a_long_stem_is_searched_in_pieces_and_nothing_is_found_twice(tmp_path: Path) -> None:
    rate, at = 8000, [0.5, 29.98, 30.02, 59.9995, 75.0]
    samples = np.zeros(80 * rate, np.float32)
    samples[[round(moment * rate) for moment in at]] = 1.0
    soundfile.write(tmp_path / "a.wav", samples, rate, subtype="FLOAT")
    longest = []

    def detect(piece: np.ndarray, rate: int) -> list[float]:
        longest.append(len(piece))
        return [float(k / rate) for k in np.flatnonzero(piece > 0.5)]

    assert stem_onsets(tmp_path / "a.wav", detect) == pytest.approx(at)
    assert max(longest) <= 32 * rate


def test_the_plot_shows_what_is_seen_above_what_is_heard(tmp_path: Path) -> None:
    rate = 8000
    samples = np.zeros(10 * rate, np.float32)
    samples[4 * rate : 5 * rate] = 0.5
    soundfile.write(tmp_path / "a.wav", samples, rate, subtype="FLOAT")
    data = plot(10.0, np.linspace(0, 1, 250), 25.0, [2.0], [6.0], [6.5], [("foley", tmp_path / "a.wav")])
    pixels = np.asarray(Image.open(io.BytesIO(data)).convert("RGB")).astype(int)

    def columns(of: tuple[int, int, int]) -> np.ndarray:
        rows, found = np.nonzero((pixels == of).all(axis=2))
        return np.array([rows.mean(), found.mean()])

    seconds = lambda column: (column - 92) / 1400 * 10  # noqa: E731
    (seen_row, seen), (heard_row, heard), (_, cut) = columns((200, 60, 40)), columns((40, 90, 200)), columns((90, 160, 90))
    assert [seconds(c) for c in (seen, heard, cut)] == pytest.approx([6.0, 6.5, 2.0], abs=0.02)
    assert seen_row < heard_row
    wave = np.flatnonzero((pixels == (150, 150, 150)).all(axis=2).sum(axis=0) > 20)
    assert [seconds(wave.min()), seconds(wave.max())] == pytest.approx([4.0, 5.0], abs=0.02)


def test_the_plot_of_an_hour_is_not_larger_than_a_page(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", np.zeros(3600 * 100, np.float32), 100, subtype="FLOAT")
    image = Image.open(io.BytesIO(plot(3600.0, np.zeros(0), 25.0, [], [], [], [("foley", tmp_path / "a.wav")])))
    assert image.size[1] < 4000
