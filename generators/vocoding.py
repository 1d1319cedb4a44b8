"""Mel to sound without a trained network: non-negative inversion of the filterbank, then Griffin-Lim.

Knows magnitudes and phases. The alternative to a checkpoint's neural vocoder, for checkpoints whose ``loa.json`` asks for it.

Spectra lie here as [frames, bins], as the Fourier transform leaves them, and are overwritten in place: with torch's own ``stft``,
``istft`` and ``abs`` nine tenths of the time went into copies and strides.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from media.mel import MelSpec, mel_filterbank

VERSION = 4  # raise it when the same mel, or the same latent, starts to give another sound
TAIL = 16  # mel frames after the sound's end that are made with it: more than a window, so that its last frames know what follows


@lru_cache(maxsize=4)
def _bank(spec: MelSpec) -> Tensor:
    """Triangles [n_mels, F]."""
    return torch.from_numpy(mel_filterbank(spec).copy())


@lru_cache(maxsize=4)
def _inverse(spec: MelSpec) -> Tensor:
    """The filterbank's pseudo-inverse [F, n_mels]."""
    return torch.linalg.pinv(_bank(spec).double()).float()


@lru_cache(maxsize=4)
def _shares(spec: MelSpec) -> tuple[Tensor, Tensor]:
    """How much each band says of a bin [n_mels, F], and 1 for each bin [F] of which none says anything."""
    bank = _bank(spec)
    weight = bank.sum(0)
    return torch.where(weight > 0, bank / weight.clamp(min=1e-9), torch.zeros(())), (weight == 0).float()


def magnitudes(mel: Tensor, spec: MelSpec, iterations: int = 30) -> Tensor:
    """Linear magnitudes [T, n_fft // 2 + 1], non-negative, whose mel is ``mel`` [T, n_mels] (natural logarithm).

    Multiplicative updates from the clipped pseudo-inverse (Lee & Seung 2001, equation 4, with the filterbank fixed).
    """
    bank = _bank(spec)
    wanted = mel.float().exp()
    x, numerator = (wanted @ _inverse(spec).T).clamp(min=1e-6), wanted @ bank
    heard, told = torch.empty_like(wanted), torch.empty_like(x)  # memory that is taken anew each time costs as much as the products
    for _ in range(iterations):
        torch.mm(torch.mm(x, bank.T, out=heard), bank, out=told)
        x.mul_(numerator).div_(told.add_(1e-9))
    return x


def griffin_lim(mel: Tensor, spec: MelSpec, iterations: int = 32, momentum: float = 0.99, free_after: int = 8) -> Tensor:
    """Samples [T * hop] of a log-mel [T, n_mels]; the start phase is noise of a fixed seed, so equal mels give equal sound.

    Fast Griffin-Lim (Perraudin, Balazs & Søndergaard 2013, algorithm 2). After ``free_after`` iterations only the mel is held
    fixed and not the guessed magnitudes: a tone, whose energy the guess spreads over its whole band, contracts to a line and
    regains its level.
    """
    length = mel.shape[0] * spec.hop
    size = magnitudes(mel, spec)
    size = torch.cat([size, size[-1:]])  # the frame that log_mel drops
    wanted = size @ _bank(spec).T
    window = torch.hann_window(spec.n_fft)
    level = _overlapped(window.square().repeat(len(size), 1), spec.hop)
    turn = torch.rand(size.T.shape, generator=torch.Generator().manual_seed(0)).T * (2 * torch.pi)
    spectrum = torch.complex(size * turn.cos(), size * turn.sin())
    previous, length_of = torch.zeros_like(spectrum), np.empty(size.shape, np.float32)
    for step in range(iterations):
        rebuilt = _analysed(_synthesised(spectrum, window, level, spec, length), window, spec)
        if step >= free_after:
            size = _towards(torch.from_numpy(np.abs(rebuilt.numpy(), out=length_of)), wanted, spec)
        # The next spectrum: the phase of rebuilt - momentum / (1 + momentum) * previous, with the magnitudes that are wanted.
        torch.view_as_real(previous).mul_(-momentum / (1 + momentum) if step else 0.0).add_(torch.view_as_real(rebuilt))
        np.abs(previous.numpy(), out=length_of)  # numpy's is five times as fast as torch's
        scale = size / torch.from_numpy(length_of).add_(1e-12)
        np.multiply(previous.numpy(), scale.numpy(), out=spectrum.numpy())
        previous = rebuilt
    return _synthesised(spectrum, window, level, spec, length)


def _analysed(wave: Tensor, window: Tensor, spec: MelSpec) -> Tensor:
    """torch.stft of samples [T * hop], mirrored at both ends: [T + 1, n_fft // 2 + 1]."""
    half = spec.n_fft // 2
    mirrored = F.pad(wave[None], (half, half), mode="reflect")[0]
    return torch.fft.rfft(mirrored.unfold(0, spec.n_fft, spec.hop) * window)


def _synthesised(spectrum: Tensor, window: Tensor, level: Tensor, spec: MelSpec, length: int) -> Tensor:
    """torch.istft: windowed frames added where they overlap, over ``level``, the sum of the squared windows there."""
    half = spec.n_fft // 2
    whole = _overlapped(torch.fft.irfft(spectrum, spec.n_fft).mul_(window), spec.hop)
    return whole[half : half + length] / level[half : half + length]


def _overlapped(frames: Tensor, hop: int) -> Tensor:
    """The sum [(T + ceil(n / hop) - 1) * hop] of frames [T, n] of which each begins ``hop`` samples after the one before."""
    count, size = frames.shape
    starts = range(0, size, hop)
    total = frames.new_zeros(count + len(starts) - 1, hop)
    for part, start in enumerate(starts):
        piece = frames[:, start : start + hop]
        total[part : part + count, : piece.shape[1]] += piece
    return total.flatten()


def _towards(size: Tensor, wanted: Tensor, spec: MelSpec) -> Tensor:
    """One multiplicative step of magnitudes [T, F] towards those whose mel [T, n_mels] is ``wanted``."""
    share, unheard = _shares(spec)
    ratio = wanted / (size @ _bank(spec).T).add_(1e-9)
    return torch.addmm(unheard.expand_as(size), ratio, share).mul_(size)
