"""Kaldi's filterbank and torchaudio's resampling, against closed forms, transformers and recorded numbers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.signal import get_window
from transformers.audio_utils import mel_filter_bank, spectrogram

from encoders.fbank import fbank, filterbank, fitted, wave_at
from media.audio import Audio, resample
from tests import makers
from tests.drawn import drawn_sound

RECORDED = np.load(Path(__file__).parent.parent / "data" / "parity" / "torchaudio.npz")


def test_the_filterbank_equals_that_of_transformers() -> None:
    other = mel_filter_bank(257, 128, 20, 8000, 16_000, norm=None, mel_scale="kaldi", triangularize_in_mel_space=True)
    assert np.abs(filterbank().numpy().T - other).max() < 1e-4


def test_features_equal_those_of_transformers() -> None:
    wave = drawn_sound(16_000, 2.0, 1, 3)[0]
    other = spectrogram(
        wave,
        get_window("hann", 400, fftbins=False),
        frame_length=400,
        hop_length=160,
        fft_length=512,
        power=2.0,
        center=False,
        preemphasis=0.97,
        mel_filters=mel_filter_bank(257, 128, 20, 8000, 16_000, norm=None, mel_scale="kaldi", triangularize_in_mel_space=True),
        log_mel="log",
        mel_floor=1.192092955078125e-07,
        remove_dc_offset=True,
    ).T
    own = fbank(torch.from_numpy(wave))
    assert own.shape == other.shape == (198, 128) and np.abs(own.numpy() - other).max() < 5e-4


@pytest.mark.parity
def test_features_and_resampling_equal_torchaudio() -> None:
    own = fbank(torch.from_numpy(drawn_sound(16_000, 0.5, 1, 7)[0]))
    # The power is held; the logarithm of next to nothing follows a processor's way of rounding an FFT (1.2e-4 seen on another one).
    power, theirs = np.exp(own.numpy()), np.exp(RECORDED["fbank"])
    assert (np.abs(power - theirs) / theirs.max()).max() < 1e-5 and np.abs(own.numpy() - RECORDED["fbank"]).max() < 5e-4
    for rate in (8_000, 44_100, 48_000):
        again = wave_at(Audio(drawn_sound(rate, 0.05, 2, rate), rate))
        assert again.shape == RECORDED[f"from_{rate}"].shape
        assert np.abs(again.numpy() - RECORDED[f"from_{rate}"]).max() < 2e-5


def test_a_tone_is_loudest_in_its_own_band() -> None:
    x = fbank(torch.from_numpy(makers.tone(1000.0).samples[0])).mean(0)
    low, high = (1127 * np.log(1 + hz / 700) for hz in (20, 8000))
    centre = (1127 * np.log(1 + 1000 / 700) - low) / ((high - low) / 129) - 1
    assert abs(int(x.argmax()) - centre) < 1


def test_silence_and_short_sounds_stay_finite() -> None:
    assert torch.allclose(fbank(torch.zeros(400)), torch.full((1, 128), float(np.log(np.finfo(np.float32).eps))))
    assert fbank(torch.zeros(399)).shape == (0, 128)


def test_features_are_cut_or_followed_by_zeros() -> None:
    x = torch.ones(3, 4)
    assert fitted(x, 2).shape == (2, 4) and fitted(x, 5)[3:].abs().sum() == 0 and torch.equal(fitted(x, 5)[:3], x)


@pytest.mark.parametrize("rate", [8_000, 44_100, 48_000])
def test_resampling_keeps_pitch_and_agrees_with_soxr_away_from_the_edges(rate: int) -> None:
    tone = makers.tone(440.0, 1.0, rate)
    again = wave_at(tone)
    assert again.shape == (1, 16_000) and makers.peak_hz(Audio(again.numpy(), 16_000)) == pytest.approx(440, abs=0.5)
    assert np.abs(again.numpy() - resample(tone, 16_000).samples)[:, 200:-200].max() < 5e-3


def test_the_same_rate_is_a_copy() -> None:
    tone = makers.tone()
    wave_at(tone)[:] = 0
    assert np.abs(tone.samples).max() > 0.4
