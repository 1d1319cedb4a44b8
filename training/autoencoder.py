"""Stage (b): the mel autoencoder. log-mel [B, 1, T, 64] <-> latent [B, 8, T/8, 8], a stock diffusers AutoencoderKL.

Rombach et al. 2022, section 3.1 (KL-regularised first stage); AudioLDM uses the same on mels (Liu et al. 2023).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL
from torch import Tensor, nn

from training.loop import Log, LoopConfig, quiet, train

MEL_MEAN, MEL_STD = -5.2, 2.6  # of log-mels over the training clips: sets the scale of the first and last layer


def build_vae() -> AutoencoderKL:
    """1.7 M parameters, 8x down in time and in frequency, 8 latent channels."""
    vae = AutoencoderKL(
        in_channels=1,
        out_channels=1,
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=(16, 32, 64, 96),
        layers_per_block=1,
        latent_channels=8,
        norm_num_groups=8,
        sample_size=64,
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


def train_vae(
    mels: list[np.ndarray],
    weights: list[float],
    folder: Path,
    config: LoopConfig,
    *,
    batch: int,
    crop: int,
    on_log: Log = quiet,
) -> nn.Module:
    """Train on random crops.

    Args:
        mels: arrays [N, 512, 64] of log-mels (memory maps are fine); ``weights``: how often each is drawn.
        crop: frames, a multiple of 8.

    Returns: the autoencoder with averaged weights.
    """
    torch.manual_seed(0)
    vae = build_vae().to(memory_format=torch.channels_last)
    modules = nn.ModuleDict({"vae": vae})
    share = np.cumsum(np.asarray(weights) / np.sum(weights))

    def loss(step: int) -> dict[str, Tensor]:
        draw = np.random.default_rng([step, 1])
        picked = np.empty((batch, crop, 64), np.float32)
        for row in range(batch):
            source = mels[int(np.searchsorted(share, draw.random()))]
            clip, at = draw.integers(len(source)), draw.integers(0, source.shape[1] - crop + 1)
            picked[row] = source[clip, at : at + crop]
        gain = draw.uniform(-1.5, 0.5, (batch, 1, 1))
        x = torch.from_numpy(np.maximum(picked + gain, np.log(1e-5)).astype(np.float32))[:, None]
        noise = torch.Generator().manual_seed(step)
        with torch.autocast("cpu", torch.bfloat16):
            posterior = vae.encode(x.contiguous(memory_format=torch.channels_last)).latent_dist
            mean, logvar = posterior.mean.float(), posterior.logvar.float()
            z = mean + torch.exp(0.5 * logvar) * torch.randn(mean.shape, generator=noise)
            out = vae.decode(z.contiguous(memory_format=torch.channels_last)).sample
        difference = (out.float() - x) / MEL_STD
        l1 = difference.abs().mean()
        # Slopes along both axes keep partials and onsets sharp, which plain L1 blurs.
        slope = difference.diff(dim=2).abs().mean() + difference.diff(dim=3).abs().mean()
        kl = 0.5 * (mean**2 + logvar.exp() - 1 - logvar).mean()
        return {"loss": l1 + 0.25 * slope + 1e-4 * kl, "l1": l1, "slope": slope, "kl": kl}

    averaged = train(modules, loss, config, folder, settings={"stage": "vae", "batch": batch, "crop": crop}, on_log=on_log)
    modules.load_state_dict(averaged)
    return vae.eval()


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
