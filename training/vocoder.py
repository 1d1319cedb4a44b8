"""Stage (c): the vocoder. log-mel [T, 64] to 160 samples a frame, a small stock SpeechT5HifiGan.

Kong et al. 2020 (HiFi-GAN) generator, trained on the multi-resolution spectral loss of Yamamoto et al. 2020 (Parallel WaveGAN,
equations 6-8), on the log-mel itself and, where the recipe asks for them, against critics. Half of the inputs are mels that went
through the autoencoder, which is what it will be fed.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import SpeechT5HifiGan, SpeechT5HifiGanConfig

from configs.schema import VocoderSize, VocoderStage
from media.mel import MelSpec, mel_filterbank
from training.autoencoder import MEL_MEAN, MEL_STD
from training.critics import wave_critics, weighed
from training.data import MelSet
from training.loop import Loop, fit

RESOLUTIONS = ((512, 128), (1024, 256), (256, 64), (128, 32))  # (FFT size, hop) in samples


def build_vocoder(size: VocoderSize = VocoderSize()) -> SpeechT5HifiGan:  # noqa: B008 (frozen)
    """nano's: 0.9 M parameters. Its kernels minus its rates are even, so that T frames give exactly 160 T samples."""
    config = SpeechT5HifiGanConfig(model_in_dim=64, sampling_rate=16_000, **size.model_dump())
    vocoder = SpeechT5HifiGan(config)
    vocoder.mean.fill_(MEL_MEAN)
    vocoder.scale.fill_(MEL_STD)
    return vocoder


class TorchMel(nn.Module):
    """media.mel.log_mel in torch, differentiable: [B, T] to [B, frames, n_mels], without mirrored borders."""

    bank: Tensor
    window: Tensor

    def __init__(self, spec: MelSpec) -> None:
        super().__init__()
        self.spec = spec
        self.register_buffer("bank", torch.from_numpy(mel_filterbank(spec).copy()))
        self.register_buffer("window", torch.hann_window(spec.n_fft))

    def forward(self, wave: Tensor) -> Tensor:
        stft = torch.stft(
            wave, self.spec.n_fft, self.spec.hop, window=self.window, center=True, pad_mode="reflect", return_complex=True
        )
        magnitude = (stft.real**2 + stft.imag**2 + 1e-12).sqrt()
        return (self.bank @ magnitude).clamp(min=self.spec.floor).log().transpose(1, 2)


def spectral_loss(made: Tensor, truth: Tensor) -> Tensor:
    """Log-magnitude L1 plus spectral convergence, averaged over resolutions. Waves [B, T]."""
    total = made.new_zeros(())
    for size, hop in RESOLUTIONS:
        window = torch.hann_window(size, device=made.device)

        def magnitude(wave: Tensor, size: int = size, hop: int = hop, window: Tensor = window) -> Tensor:
            stft = torch.stft(wave, size, hop, window=window, return_complex=True)
            return (stft.real**2 + stft.imag**2 + 1e-9).sqrt()

        a, b = magnitude(made), magnitude(truth)
        floor = 1e-4 * size**0.5
        total = total + F.l1_loss((a + floor).log(), (b + floor).log()) + 0.5 * (a - b).norm() / (b.norm() + 1e-3)
    return total / len(RESOLUTIONS)


def train_vocoder(
    data: MelSet, through_vae: dict[tuple[int, int], np.ndarray], folder: Path, loop: Loop[VocoderStage]
) -> SpeechT5HifiGan:
    """``through_vae``: (source, index) to the clip's log-mel [512, 64] after the autoencoder, for some of the clips."""
    torch.manual_seed(0)
    stage, device, hop = loop.config, loop.device, MelSpec().hop
    batch, frames = stage.batch, stage.frames
    vocoder, mel_of = build_vocoder(stage.model), TorchMel(MelSpec()).to(device)
    critics = wave_critics(stage.adversarial.width) if stage.adversarial else None
    decoded = list(through_vae)

    def draw(number: int) -> tuple[Tensor, Tensor]:
        chance = np.random.default_rng([number, 6])
        clips = data.draw(chance, batch // 2) if decoded else data.draw(chance, batch)
        fed = [data.sources[s].mel[i] for s, i in clips]
        for _ in range(batch - len(clips)):
            clips.append(decoded[int(chance.integers(len(decoded)))])
            fed.append(through_vae[clips[-1]])
        mels, waves = np.empty((batch, frames, 64), np.float32), np.empty((batch, frames * hop), np.float32)
        for row, (s, i) in enumerate(clips):
            at = int(chance.integers(0, 512 - frames + 1))
            mels[row] = fed[row][at : at + frames]
            waves[row] = data.sources[s].wav[i, at * hop : (at + frames) * hop] / 32767
        return torch.from_numpy(mels), torch.from_numpy(waves)

    drawn = loop.ahead(draw)

    def loss(number: int) -> dict[str, Tensor]:
        mels, true = (x.to(device) for x in drawn(number))
        with loop.autocast():
            made = vocoder(mels)
        made = made.float()[:, : true.shape[1]]  # the public one's kernels, less their rates, are odd: some samples too many
        # Frame k is centred on sample k * hop, and frames at the crop's borders look beyond it.
        values = {"mel": (mel_of(made) - mel_of(true))[:, 3:-3].abs().mean(), "spectral": spectral_loss(made, true)}
        total = values["mel"] + values["spectral"]
        if critics is not None and stage.adversarial is not None and loop.step(number) >= stage.adversarial.from_step:
            total = total + weighed(critics, true[:, None], made[:, None], stage.adversarial, loop, values)
        return {"loss": total, **values}

    return fit("vocoder", vocoder, loss, loop, folder, critics=critics)
