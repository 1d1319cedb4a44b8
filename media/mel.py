"""The one log-mel definition that autoencoder, vocoder, AudioMAE, judges and metrics share.

Knows arrays. Does not know files, torch or models. Equal to librosa's (test), without its import time.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np


@dataclass(frozen=True)
class MelSpec:
    """Analysis of AudioLDM at 16 kHz: Slaney mel scale and area normalisation, magnitude, natural logarithm."""

    sample_rate: int = 16_000  # Hz
    n_fft: int = 1024  # samples, also the window's length
    hop: int = 160  # samples between frames
    n_mels: int = 64
    fmin: float = 0.0  # Hz
    fmax: float = 8_000.0  # Hz
    floor: float = 1e-5  # magnitudes below it are clipped before the logarithm


def hz_to_mel(hz: np.ndarray) -> np.ndarray:
    """Slaney's scale: linear to 1 kHz (15 mels), then 27 steps an octave of log(6.4)."""
    hz = np.asarray(hz, np.float64)
    return np.where(hz < 1000, hz * 3 / 200, 15 + np.log(np.maximum(hz, 1e-9) / 1000) * 27 / np.log(6.4))


def mel_to_hz(mel: np.ndarray) -> np.ndarray:
    """Inverse of ``hz_to_mel``."""
    mel = np.asarray(mel, np.float64)
    return np.where(mel < 15, mel * 200 / 3, 1000 * np.exp((mel - 15) * np.log(6.4) / 27))


@lru_cache(maxsize=8)
def mel_filterbank(spec: MelSpec) -> np.ndarray:
    """Triangles of unit area, [n_mels, n_fft // 2 + 1] float32; do not write into it."""
    bins = np.linspace(0, spec.sample_rate / 2, spec.n_fft // 2 + 1)
    edges = mel_to_hz(np.linspace(hz_to_mel(np.array(spec.fmin)), hz_to_mel(np.array(spec.fmax)), spec.n_mels + 2))
    rise = (bins[None] - edges[:-2, None]) / np.diff(edges)[:-1, None]
    fall = (edges[2:, None] - bins[None]) / np.diff(edges)[1:, None]
    triangles = np.maximum(0, np.minimum(rise, fall)) * (2 / (edges[2:] - edges[:-2]))[:, None]
    bank = triangles.astype(np.float32)
    bank.setflags(write=False)
    return bank


def log_mel(samples: np.ndarray, spec: MelSpec) -> np.ndarray:
    """log-mel [T // hop, n_mels] float32 of samples [T] in [-1, 1].

    Frames are centred: frame k looks at samples around k * hop, the signal mirrored at both ends.

    Raises:
        ValueError: not one-dimensional, or too short to be mirrored (T <= n_fft // 2).
    """
    samples = np.asarray(samples, np.float32)
    if samples.ndim != 1 or len(samples) <= spec.n_fft // 2:
        raise ValueError(f"log_mel wants more than {spec.n_fft // 2} mono samples, got shape {samples.shape}")
    padded = np.pad(samples, spec.n_fft // 2, mode="reflect")
    frames = np.lib.stride_tricks.sliding_window_view(padded, spec.n_fft)[:: spec.hop][: len(samples) // spec.hop]
    window = np.hanning(spec.n_fft + 1)[:-1].astype(np.float32)
    magnitude = np.abs(np.fft.rfft(frames * window, axis=1)).astype(np.float32)
    return np.log(np.maximum(mel_energy(magnitude, spec), np.float32(spec.floor)))


def mel_energy(magnitude: np.ndarray, spec: MelSpec) -> np.ndarray:
    """[T, n_fft // 2 + 1] float32 through the filterbank: [T, n_mels].

    Not by the @ of BLAS, which rounds by its number of threads: the same sound gives the same numbers on every machine's settings.
    Bands are summed over the bins that they have, in whole blocks, so that every sum has the order, and the bits, of one over all bins.
    """
    bank = mel_filterbank(spec)
    energy = np.empty((len(magnitude), spec.n_mels), np.float32)
    for first, last, low, high in _reaches(spec):
        np.einsum("tf,mf->tm", magnitude[:, low:high], bank[first:last, low:high], out=energy[:, first:last])
    return energy


_BLOCK = 64  # bins: a multiple of what einsum adds at once, on every processor


@lru_cache(maxsize=8)
def _reaches(spec: MelSpec) -> tuple[tuple[int, int, int, int], ...]:
    """Neighbouring bands and the blocks of bins that they reach: (first band, last + 1, first bin, last + 1)."""
    found: list[tuple[int, int, int, int]] = []
    for band, weights in enumerate(mel_filterbank(spec)):
        bins = np.flatnonzero(weights) if weights.any() else np.zeros(1, int)
        low, high = int(bins[0]) // _BLOCK * _BLOCK, min(-(-int(bins[-1] + 1) // _BLOCK) * _BLOCK, len(weights))
        first = found.pop()[0] if found and found[-1][2:] == (low, high) else band
        found.append((first, band + 1, low, high))
    return tuple(found)


CURVE_RANGE_DB = 50.0  # how far below its loudest frame a clip's loudness curve reaches zero


def loudness_curve(mel: np.ndarray) -> np.ndarray:
    """How loud a clip is over time, relative to its loudest frame: [T] float32 in 0..1 from log-mel [T, n_mels].

    The mean power over the mel bands in decibels, 0 at ``CURVE_RANGE_DB`` or more below the loudest frame and 1 at it. A clip
    without any sound is 0 throughout.
    """
    mel = np.asarray(mel, np.float64)
    if mel.max() <= np.log(MelSpec.floor) + 1e-3:
        return np.zeros(len(mel), np.float32)
    level_db = 10 * np.log10(np.exp(2 * mel).mean(axis=1))
    return np.clip(1 + (level_db - level_db.max()) / CURVE_RANGE_DB, 0, 1).astype(np.float32)
