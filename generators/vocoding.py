"""Mel to sound without a trained network: non-negative inversion of the filterbank, then Griffin-Lim.

Knows magnitudes and phases. The alternative to a checkpoint's neural vocoder, for checkpoints whose ``loa.json`` asks for it.
"""

from __future__ import annotations

import torch
from torch import Tensor

from media.mel import MelSpec, mel_filterbank


def magnitudes(mel: Tensor, spec: MelSpec, iterations: int = 30) -> Tensor:
    """Linear magnitudes [n_fft // 2 + 1, T], non-negative, whose mel is ``mel`` [T, n_mels] (natural logarithm).

    Multiplicative updates from the clipped pseudo-inverse (Lee & Seung 2001, equation 4, with the filterbank fixed).
    """
    bank = torch.from_numpy(mel_filterbank(spec).copy())
    wanted = mel.float().exp().T
    start = torch.linalg.pinv(bank.double()).float() @ wanted
    x, numerator = start.clamp(min=1e-6), bank.T @ wanted
    for _ in range(iterations):
        x = x * numerator / (bank.T @ (bank @ x) + 1e-9)
    return x


def griffin_lim(mel: Tensor, spec: MelSpec, iterations: int = 32, momentum: float = 0.99, free_after: int = 8) -> Tensor:
    """Samples [T * hop] of a log-mel [T, n_mels]; the start phase is noise of a fixed seed, so equal mels give equal sound.

    Fast Griffin-Lim (Perraudin, Balazs & Søndergaard 2013, algorithm 2). After ``free_after`` iterations only the mel is held
    fixed and not the guessed magnitudes: a tone, whose energy the guess spreads over its whole band, contracts to a line and
    regains its level.
    """
    length = mel.shape[0] * spec.hop
    size = magnitudes(mel, spec)
    size = torch.cat([size, size[:, -1:]], dim=1)  # the frame that log_mel drops
    bank = torch.from_numpy(mel_filterbank(spec).copy())
    wanted = bank @ size
    window = torch.hann_window(spec.n_fft)
    turn = torch.rand(size.shape, generator=torch.Generator().manual_seed(0)) * (2 * torch.pi)
    phase = torch.polar(torch.ones_like(turn), turn)
    previous: Tensor | None = None
    for step in range(iterations):
        wave = torch.istft(size * phase, spec.n_fft, spec.hop, window=window, length=length)
        rebuilt = torch.stft(wave, spec.n_fft, spec.hop, window=window, return_complex=True)
        ahead = rebuilt if previous is None else rebuilt - previous * (momentum / (1 + momentum))
        phase, previous = ahead / (ahead.abs() + 1e-12), rebuilt
        if step >= free_after:
            size = _towards(rebuilt.abs(), wanted, bank)
    return torch.istft(size * phase, spec.n_fft, spec.hop, window=window, length=length)


def _towards(size: Tensor, wanted: Tensor, bank: Tensor) -> Tensor:
    """One multiplicative step of magnitudes [F, T] towards those whose mel [n_mels, T] is ``wanted``."""
    ratio = wanted / (bank @ size + 1e-9)
    weight = bank.sum(0)[:, None]
    return size * torch.where(weight > 0, (bank.T @ ratio) / weight.clamp(min=1e-9), torch.ones_like(weight))
