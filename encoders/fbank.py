"""The log-mel filterbank of Kaldi and the resampling of torchaudio, as ImageBind and AudioMAE were trained on them.

Knows samples. Does not know models. The house's own definition is media/mel.py; public weights want this one: frames that lie wholly
inside the signal, the mean of each frame removed, pre-emphasis, power, the mel scale of HTK without area normalisation.
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from media.audio import Audio

RATE = 16_000  # Hz
BINS = 128
WINDOW = 400  # samples: 25 ms
HOP = 160  # samples: 10 ms
_FFT = 512
_EMPHASIS = 0.97
_LOWEST = 20.0  # Hz
_ZERO_CROSSINGS, _ROLLOFF = 6, 0.99  # of the resampling filter


def fbank(wave: Tensor) -> Tensor:
    """log-mel energies [1 + (T - 400) // 160, 128] of samples [T] at 16 kHz; none for fewer than 400 samples.

    Kaldi's ``fbank`` (Povey et al. 2011) with a Hann window, no dither and no energy column.
    """
    if len(wave) < WINDOW:
        return wave.new_zeros(0, BINS)
    frames = wave.unfold(0, WINDOW, HOP)
    frames = frames - frames.mean(dim=1, keepdim=True)
    earlier = torch.cat([frames[:, :1], frames[:, :-1]], dim=1)  # the first sample precedes itself
    frames = (frames - _EMPHASIS * earlier) * torch.hann_window(WINDOW, periodic=False)
    power = torch.fft.rfft(F.pad(frames, (0, _FFT - WINDOW))).abs().square()
    return (power @ filterbank().T).clamp(min=torch.finfo(torch.float32).eps).log()


@lru_cache(maxsize=4)
def filterbank(bins: int = BINS, fft: int = _FFT, rate: int = RATE, low_hz: float = _LOWEST, high_hz: float = RATE / 2) -> Tensor:
    """Triangles of height 1 on the mel scale, [bins, fft // 2 + 1]; do not write into it."""

    # Single precision, as in torchaudio: the slopes of narrow triangles differ by 1e-5 from the exact ones.
    low, high = (1127 * math.log(1 + hz / 700) for hz in (low_hz, high_hz))
    edges = low + torch.arange(bins + 2) * ((high - low) / (bins + 1))
    at = 1127 * (1 + torch.arange(fft // 2) * (rate / fft) / 700).log()
    rise = (at - edges[:-2, None]) / (edges[1:-1] - edges[:-2])[:, None]
    fall = (edges[2:, None] - at) / (edges[2:] - edges[1:-1])[:, None]
    triangles = torch.minimum(rise, fall).clamp(min=0)
    return F.pad(triangles, (0, 1))  # the bin at the Nyquist frequency counts for nothing


def fitted(features: Tensor, frames: int) -> Tensor:
    """Features [T, bins] cut, or followed by zeros, to [frames, bins]."""
    return F.pad(features[:frames], (0, 0, 0, max(0, frames - len(features))))


def wave_at(audio: Audio, sample_rate: int = RATE) -> Tensor:
    """The samples of a sound [C, T] at ``sample_rate``, by torchaudio's windowed sinc (six zero crossings, roll-off 0.99).

    soxr, which the rest of the house uses, is steeper; the networks behind this file heard this one.
    """
    wave = torch.from_numpy(np.ascontiguousarray(audio.samples))
    if audio.sample_rate == sample_rate:
        return wave.clone()
    gcd = math.gcd(audio.sample_rate, sample_rate)
    old, new = audio.sample_rate // gcd, sample_rate // gcd
    kernel = _sinc(old, new)
    width = (kernel.shape[-1] - old) // 2
    out = F.conv1d(F.pad(wave, (width, width + old))[:, None], kernel, stride=old)
    return out.transpose(1, 2).flatten(1)[:, : math.ceil(new * wave.shape[1] / old)]


@lru_cache(maxsize=8)
def _sinc(old: int, new: int) -> Tensor:
    """[new, 1, 2 * width + old]: one windowed sinc for each of the ``new`` places between samples that the output can have."""
    cutoff = min(old, new) * _ROLLOFF
    width = math.ceil(_ZERO_CROSSINGS * old / cutoff)
    shift = torch.arange(new)[:, None, None] / new  # in single precision, as in torchaudio
    places = torch.arange(-width, width + old, dtype=torch.float64) / old - shift
    t = (places * cutoff).clamp(-_ZERO_CROSSINGS, _ZERO_CROSSINGS)
    return (torch.sinc(t) * (t * math.pi / _ZERO_CROSSINGS / 2).cos().square() * cutoff / old).float()
