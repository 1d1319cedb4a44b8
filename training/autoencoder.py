"""Stage (b): the mel autoencoder. log-mel [B, 1, T, 64] <-> latent [B, 8, T/8, 8], a stock diffusers AutoencoderKL.

Rombach et al. 2022, section 3.1 (KL-regularised first stage); AudioLDM uses the same on mels (Liu et al. 2023). Optional: a critic over
patches, comparisons at several resolutions, and training the decoder alone, which leaves latents and everything built on them valid.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL
from torch import Tensor, nn

from configs.schema import VaeSize, VaeStage
from training.critics import mel_critics, weighed
from training.loop import Loop, fit

MEL_MEAN, MEL_STD = -5.2, 2.6  # of log-mels over the training clips: sets the scale of the first and last layer


def build_vae(size: VaeSize = VaeSize()) -> AutoencoderKL:  # noqa: B008 (frozen)
    """nano's: 1.7 M parameters, 8x down in time and in frequency, 8 latent channels."""
    blocks = len(size.block_out_channels)
    vae = AutoencoderKL(
        in_channels=1,
        out_channels=1,
        down_block_types=("DownEncoderBlock2D",) * blocks,
        up_block_types=("UpDecoderBlock2D",) * blocks,
        **size.model_dump(),
    )
    fold_scale(vae)
    return vae


@torch.no_grad()
def fold_scale(vae: AutoencoderKL) -> None:
    """Let raw log-mels in and out of a network initialised for unit variance: the scale goes into conv_in and conv_out."""
    conv_in, conv_out = vae.encoder.conv_in, vae.decoder.conv_out
    conv_in.bias -= conv_in.weight.sum(dim=(1, 2, 3)) * MEL_MEAN / MEL_STD
    conv_in.weight /= MEL_STD
    conv_out.weight *= MEL_STD
    conv_out.bias.mul_(MEL_STD).add_(MEL_MEAN)


def compare(made: Tensor, true: Tensor, scales: int = 1) -> tuple[Tensor, Tensor]:
    """L1 of values and of slopes along both axes, means over ``scales`` resolutions. Mels [B, 1, T, bins].

    Slopes keep partials and onsets sharp, which plain L1 blurs.
    """
    difference = made - true
    l1 = slope = made.new_zeros(())
    for _ in range(scales):
        l1 = l1 + difference.abs().mean()
        slope = slope + difference.diff(dim=2).abs().mean() + difference.diff(dim=3).abs().mean()
        difference = nn.functional.avg_pool2d(difference, 2)
    return l1 / scales, slope / scales


def train_vae(mels: list[np.ndarray], weights: list[float], folder: Path, loop: Loop[VaeStage]) -> AutoencoderKL:
    """Train on random crops.

    Args:
        mels: arrays [N, 512, 64] of log-mels (memory maps are fine); ``weights``: how often each is drawn.

    Returns: the autoencoder with averaged weights. With ``decoder_only`` its latents are those of ``start``.
    """
    torch.manual_seed(0)
    stage, device = loop.config, loop.device
    vae = build_vae(stage.model) if stage.start is None else AutoencoderKL.from_pretrained(stage.start).float().train()
    vae.to(memory_format=torch.channels_last)
    if stage.decoder_only:
        vae.encoder.requires_grad_(False)
        vae.quant_conv.requires_grad_(False)
    critics = mel_critics(stage.adversarial.width) if stage.adversarial else None
    share = np.cumsum(np.asarray(weights) / np.sum(weights))

    def draw(number: int) -> Tensor:
        chance = np.random.default_rng([number, 1])
        picked = np.empty((stage.batch, stage.crop, mels[0].shape[2]), np.float32)
        for row in range(stage.batch):
            source = mels[int(np.searchsorted(share, chance.random()))]
            clip, at = chance.integers(len(source)), chance.integers(0, source.shape[1] - stage.crop + 1)
            picked[row] = source[clip, at : at + stage.crop]
        gain = chance.uniform(-1.5, 0.5, (stage.batch, 1, 1))
        return torch.from_numpy(np.maximum(picked + gain, np.log(1e-5)).astype(np.float32))[:, None]

    drawn = loop.ahead(draw)

    def loss(number: int) -> dict[str, Tensor]:
        x = drawn(number).to(device)
        with loop.autocast():
            posterior = vae.encode(x.contiguous(memory_format=torch.channels_last)).latent_dist
            mean, logvar = posterior.mean.float(), posterior.logvar.float()
            noise = torch.randn(mean.shape, generator=torch.Generator().manual_seed(number)).to(device)
            z = mean + torch.exp(0.5 * logvar) * noise
            out = vae.decode(z.contiguous(memory_format=torch.channels_last)).sample
        true, made = (x - MEL_MEAN) / MEL_STD, (out.float() - MEL_MEAN) / MEL_STD
        l1, slope = compare(made, true, stage.scales)
        values = {"l1": l1, "slope": slope, "kl": 0.5 * (mean**2 + logvar.exp() - 1 - logvar).mean()}
        total = l1 + 0.25 * slope + stage.kl * values["kl"]
        if critics is not None and stage.adversarial is not None and loop.step(number) >= stage.adversarial.from_step:
            total = total + weighed(critics, true, made, stage.adversarial, loop, values)
        return {"loss": total, **values}

    return fit("vae", vae, loss, loop, folder, critics=critics)


@torch.no_grad()
def whiten(vae: AutoencoderKL, latents: Tensor) -> None:
    """Give every latent channel zero mean and unit variance over ``latents`` [N, C, T, F], exactly.

    The change of scale goes into the 1x1 convolutions on both sides of the latent, so that decode(encode(x)) stays as it was and
    diffusion meets the variance that its noise schedule assumes in every channel, not only on average.
    """
    mean, std = latents.float().mean(dim=(0, 2, 3)), latents.float().std(dim=(0, 2, 3))
    to, back = vae.quant_conv, vae.post_quant_conv
    count = len(mean)
    to.weight[:count] /= std[:, None, None, None]
    to.bias[:count] = (to.bias[:count] - mean) / std
    to.bias[count:] -= 2 * std.log()
    back.bias += (back.weight[:, :, 0, 0] * mean).sum(1)
    back.weight *= std[None, :, None, None]
    vae.register_to_config(scaling_factor=1.0)
