"""A sound survives being drawn and heard again."""

from __future__ import annotations

import numpy as np
import pytest

from generators.spectrogram_image import Drawing, draw, magnitudes, undraw

QUICK = Drawing(sample_rate=16_000, n_fft=6400, window=1600, hop=160, bins=256, top=6000.0)


def known(rate: int, seconds: float = 2.0) -> np.ndarray:
    """Four strokes of 440 Hz, and 1500 Hz from the middle on."""
    t = np.arange(round(seconds * rate)) / rate
    strokes = 0.5 * np.sin(2 * np.pi * 440 * t) * np.exp(-6 * (t % 0.5))
    return np.asarray(strokes + 0.25 * np.sin(2 * np.pi * 1500 * t) * (t > seconds / 2), np.float32)


def mel_snr_db(original: np.ndarray, heard: np.ndarray, drawing: Drawing) -> float:
    """How far the mel magnitudes of what is heard stand above their difference to the original's, at the best level."""
    a, b = (drawing.bank @ np.abs(drawing.stft(wave)) for wave in (original, heard))
    a, b = a[:, : b.shape[1]], b[:, : a.shape[1]]
    b = b * ((a * b).sum() / (b * b).sum())
    return float(10 * np.log10((a**2).sum() / ((a - b) ** 2).sum()))


@pytest.mark.parity
@pytest.mark.parametrize("drawing", [QUICK, pytest.param(Drawing(), marks=pytest.mark.slow)], ids=["quick", "riffusion"])
def test_riffusion_a_known_sound_comes_back_20_db_above_what_is_lost(drawing: Drawing) -> None:
    wave = known(drawing.sample_rate)
    picture = draw(wave, drawing)
    assert picture.shape == (drawing.bins, 1 + len(wave) // drawing.hop, 3) and picture.dtype == np.uint8
    heard = undraw(picture, drawing)
    assert mel_snr_db(wave, heard, drawing) > 20
    assert mel_snr_db(wave, heard[::-1], drawing) < 5  # the figure can be low
    second = heard[: drawing.sample_rate]
    assert abs(int(np.abs(np.fft.rfft(second)).argmax()) - 440) <= 1  # Hz


def test_low_is_at_the_bottom_early_at_the_left_and_dark_is_loud() -> None:
    picture = draw(known(QUICK.sample_rate), QUICK)[..., 0]
    row, column = np.unravel_index(picture.argmin(), picture.shape)
    assert picture.min() == 0 and row > QUICK.bins // 2 and column % 50 <= 12  # 440 Hz of 6000, at the beginning of a stroke
    high = picture[: row - 30]
    assert high[:, 120:].min() + 60 < high[:, 10:90].min()  # 1500 Hz sounds in the second half only


def test_magnitudes_give_the_mel_that_they_were_asked_for() -> None:
    mel = QUICK.bank @ np.abs(QUICK.stft(known(QUICK.sample_rate)))
    mel /= mel.max()
    found = magnitudes(mel, QUICK)
    lost = QUICK.bank @ found - mel
    assert found.min() >= 0 and 10 * np.log10((mel**2).sum() / (lost**2).sum()) > 40  # dB


def test_the_spectra_of_a_sound_give_it_back() -> None:
    wave = known(QUICK.sample_rate)
    back = QUICK.istft(QUICK.stft(wave))
    assert np.abs(back - wave[: len(back)]).max() < 1e-4
