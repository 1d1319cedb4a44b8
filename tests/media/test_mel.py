"""The log-mel definition is librosa's, number for number."""

from pathlib import Path

import librosa
import numpy as np
import pytest
from threadpoolctl import threadpool_limits

from media.mel import MelSpec, hz_to_mel, log_mel, mel_energy, mel_filterbank, mel_to_hz
from tests.makers import tone

SPECS = (MelSpec(), MelSpec(sample_rate=32_000, n_fft=1024, hop=320, n_mels=64, fmin=50, fmax=14_000), MelSpec(n_mels=128, n_fft=512))


def signals() -> dict[str, np.ndarray]:
    draw = np.random.default_rng(0)
    chirp = np.sin(2 * np.pi * np.cumsum(np.linspace(50, 7_900, 32_000)) / 16_000).astype(np.float32) * 0.8
    clicks = np.zeros(20_000, np.float32)
    clicks[::1_777] = 1.0
    return {
        "chirp": chirp,
        "noise": (draw.standard_normal(16_000) * 0.1).astype(np.float32),
        "clicks": clicks,
        "tone": tone(seconds=0.7).samples[0],
        "quiet": (draw.standard_normal(16_000) * 1e-5).astype(np.float32),
    }


@pytest.mark.parametrize("spec", SPECS, ids=str)
def test_the_filterbank_is_librosas(spec: MelSpec):
    theirs = librosa.filters.mel(sr=spec.sample_rate, n_fft=spec.n_fft, n_mels=spec.n_mels, fmin=spec.fmin, fmax=spec.fmax)
    ours = mel_filterbank(spec)
    assert ours.dtype == np.float32 and ours.max() > 0.01
    np.testing.assert_allclose(ours, theirs, atol=1e-6, rtol=0)


@pytest.mark.parametrize("name", signals())
@pytest.mark.parametrize("spec", SPECS[:2], ids=str)
def test_the_log_mel_is_librosas(name: str, spec: MelSpec):
    x = signals()[name]
    spectrum = np.abs(librosa.stft(x, n_fft=spec.n_fft, hop_length=spec.hop, window="hann", center=True, pad_mode="reflect"))
    bank = librosa.filters.mel(sr=spec.sample_rate, n_fft=spec.n_fft, n_mels=spec.n_mels, fmin=spec.fmin, fmax=spec.fmax)
    theirs = np.log(np.maximum(bank @ spectrum, spec.floor)).T[: len(x) // spec.hop]
    ours = log_mel(x, spec)
    assert ours.shape == (len(x) // spec.hop, spec.n_mels) and ours.dtype == np.float32
    # Beside a pure tone the quietest bands hold nothing but the rounding of two float32 transforms: compared as magnitudes.
    heard = theirs > np.log(1e-4)
    np.testing.assert_allclose(ours[heard], theirs[heard], atol=1e-4, rtol=0)
    np.testing.assert_allclose(np.exp(ours), np.exp(theirs), atol=1e-7, rtol=1e-4)
    assert name == "quiet" or heard.mean() > 0.1


def test_a_tone_lights_the_band_of_its_pitch():
    spec = MelSpec()
    centres = mel_to_hz(np.linspace(hz_to_mel(np.array(0.0)), hz_to_mel(np.array(8000.0)), spec.n_mels + 2))[1:-1]
    for hz in (440.0, 1000.0, 4000.0):
        band = int(log_mel(tone(hz=hz).samples[0], spec)[20:80].mean(0).argmax())
        assert abs(band - int(np.abs(centres - hz).argmin())) <= 1


def test_silence_is_the_floor_and_5_12_seconds_are_512_frames():
    out = log_mel(np.zeros(81_920, np.float32), MelSpec())
    assert out.shape == (512, 64)
    np.testing.assert_allclose(out, np.log(1e-5), rtol=1e-6)


def test_the_scale_turns_back():
    hz = np.linspace(0, 16_000, 333)
    np.testing.assert_allclose(mel_to_hz(hz_to_mel(hz)), hz, atol=1e-8)


def test_the_filterbank_cannot_be_spoilt_by_a_reader():
    with pytest.raises(ValueError, match="read-only"):
        mel_filterbank(MelSpec())[0, 0] = 1.0


def test_the_number_of_threads_changes_nothing():
    noise = np.random.default_rng(0).normal(0, 0.1, 160_000).astype(np.float32)
    made = []
    for count in (1, 2):
        with threadpool_limits(count, user_api="blas"):
            made.append(log_mel(noise, MelSpec()))
    assert np.array_equal(*made)


@pytest.mark.parametrize(
    "spec", [MelSpec(), MelSpec(hop=72, n_mels=80), MelSpec(16_000, 512, 160, 64, 50.0), MelSpec(48_000, 2048, 480, 128, fmax=24_000)]
)
@pytest.mark.parametrize("frames", [1, 5, 40])
def test_sums_over_the_bins_of_a_band_have_the_bits_of_sums_over_all(spec, frames):
    magnitude = np.random.default_rng(frames).random((frames, spec.n_fft // 2 + 1), np.float32)
    assert np.array_equal(mel_energy(magnitude, spec), np.einsum("tf,mf->tm", magnitude, mel_filterbank(spec)))


def test_too_short_or_not_mono_is_an_error():
    for wrong in (np.zeros(512, np.float32), np.zeros((1, 16_000), np.float32)):
        with pytest.raises(ValueError, match="shape"):
            log_mel(wrong, MelSpec())


def test_this_room_never_imports_torch():
    for path in (Path(__file__).parents[2] / "media").glob("*.py"):
        assert "import torch" not in path.read_text(), path
