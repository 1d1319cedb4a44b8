"""Mel to sound by inversion: the pitch, the level and the mel itself come back."""

import numpy as np
import pytest
import torch

from generators.vocoding import _analysed, _overlapped, _synthesised, griffin_lim, magnitudes
from media.mel import MelSpec, log_mel, mel_filterbank

SPEC = MelSpec()


def _mel(wave: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(log_mel(wave.astype(np.float32), SPEC))


# A mel band at 3 kHz is 20 FFT bins wide: a tone comes back as a narrow band of the same mel, which holds less energy.
@pytest.mark.parametrize(("hz", "lost_db"), [(220.0, 2.5), (440.0, 2.5), (1_000.0, 2.5), (3_000.0, 7.5)])
def test_a_tone_keeps_its_pitch_within_the_width_of_a_mel_band(hz: float, lost_db: float) -> None:
    time = np.arange(32_000) / SPEC.sample_rate
    made = griffin_lim(_mel(0.5 * np.sin(2 * np.pi * hz * time)), SPEC).numpy()
    peak = np.abs(np.fft.rfft(made * np.hanning(len(made)))).argmax() * SPEC.sample_rate / len(made)
    bank = mel_filterbank(SPEC)[mel_filterbank(SPEC)[:, round(hz / SPEC.sample_rate * SPEC.n_fft)].argmax()]
    width = (bank > 0).sum() * SPEC.sample_rate / SPEC.n_fft
    assert abs(peak - hz) <= width / 2
    assert -lost_db <= 20 * np.log10(made.std() / (0.5 / 2**0.5)) <= 0.5


def test_the_mel_of_the_sound_is_the_mel_that_was_asked() -> None:
    noise = np.random.default_rng(0).standard_normal(48_000) * np.linspace(0.01, 0.3, 48_000)
    asked = _mel(noise)
    got = _mel(griffin_lim(asked, SPEC).numpy())
    assert (got - asked).abs().mean() < 0.06
    assert (_mel(noise[::-1].copy()) - asked).abs().mean() > 1  # the bound tells sounds apart


def test_magnitudes_are_non_negative_and_have_the_asked_mel() -> None:
    asked = _mel(np.random.default_rng(1).standard_normal(16_000) * 0.1)
    found = magnitudes(asked, SPEC, iterations=200)
    assert (found >= 0).all()
    back = found @ torch.from_numpy(mel_filterbank(SPEC).copy()).T
    assert torch.allclose(back.log(), asked, atol=0.02)


def test_equal_mels_give_equal_sound_of_exact_length() -> None:
    asked = _mel(np.random.default_rng(2).standard_normal(8_000) * 0.1)
    first, second = griffin_lim(asked, SPEC), griffin_lim(asked, SPEC)
    assert torch.equal(first, second) and len(first) == len(asked) * SPEC.hop


def test_spectra_are_those_of_torch() -> None:
    wave = torch.from_numpy(np.random.default_rng(3).standard_normal(SPEC.hop * 40).astype(np.float32))
    window = torch.hann_window(SPEC.n_fft)
    theirs = torch.stft(wave, SPEC.n_fft, SPEC.hop, window=window, return_complex=True)
    level = _overlapped(window.square().expand(theirs.shape[1], -1), SPEC.hop)
    assert torch.allclose(_analysed(wave, window, SPEC), theirs.T, atol=1e-4)
    bent = theirs * torch.linspace(0, 1, theirs.shape[1])  # no spectrum of any sound
    back = torch.istft(bent, SPEC.n_fft, SPEC.hop, window=window, length=len(wave))
    assert torch.allclose(_synthesised(bent.T, window, level, SPEC, len(wave)), back, atol=1e-5)
