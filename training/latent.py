"""Stages (e) and (h): latent diffusion steered by the Language of Audio, by text and by a loudness curve.

v-prediction (Salimans & Ho 2022) over AudioLDM's noise schedule. LOA comes through the probabilistic switcher of AudioLDM 2
(section III-D): the clip's own features in a quarter of the rows, what GPT-2 wrote from the caption in the others, so that the U-Net
is never shown only what it will not get at inference.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from diffusers import AudioLDM2UNet2DConditionModel, AutoencoderKL, DDIMScheduler
from scipy.ndimage import gaussian_filter1d
from torch import Tensor, nn

from encoders.loa import LoaWriter
from generators.conditioning import envelope_channels
from media.mel import loudness_curve
from training.data import MelSet
from training.diffusion import diffuse, per_row, velocity
from training.loop import Log, LoopConfig, quiet, train
from training.translator import CaptionBank

TRUE_LOA_SHARE = 0.25
DROP_ALL, DROP_LOA, DROP_TEXT, DROP_ENVELOPE = 0.1, 0.1, 0.1, 0.5
LATENT_CHANNELS, LATENT_FRAMES, LATENT_BINS, DOWN = 8, 64, 8, 8
CURVE_BLURS = (0.0, 0.0, 1.0, 3.0, 8.0)  # sigma in mel frames of 10 ms: what people draw is smoother than what sounds do


def build_unet() -> AudioLDM2UNet2DConditionModel:
    """9 M parameters over latents [B, 8, 64, 8] and, stacked under them, an envelope [B, 9, 64, 8].

    Attention (self, LOA, text) where a cell covers 0.32 s.
    """
    return AudioLDM2UNet2DConditionModel(
        sample_size=[64, 8],
        in_channels=LATENT_CHANNELS + DOWN + 1,
        out_channels=8,
        down_block_types=("DownBlock2D", "DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D", "UpBlock2D"),
        block_out_channels=(64, 128, 128),
        layers_per_block=1,
        attention_head_dim=(2, 4, 4),
        cross_attention_dim=((None, 128, 384),) * 3,
        norm_num_groups=16,
    )


def without_envelope(unet: AudioLDM2UNet2DConditionModel) -> dict[str, Tensor]:
    """The weights of a U-Net that knows no envelope, for ``build_unet``: what it makes stays the same until it learns more."""
    state = unet.state_dict()
    first = state["conv_in.weight"]
    state["conv_in.weight"] = torch.cat([first, torch.zeros(len(first), DOWN + 1, *first.shape[2:])], dim=1)
    return state


def build_scheduler() -> DDIMScheduler:
    """AudioLDM's noise schedule. ``clip_sample`` must be off: it would clip unit-variance latents to one sigma."""
    return DDIMScheduler(
        num_train_timesteps=1000,
        beta_schedule="scaled_linear",
        beta_start=0.0015,
        beta_end=0.0195,
        prediction_type="v_prediction",
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
    )


@torch.no_grad()
def encode_latents(vae: AutoencoderKL, mels: np.ndarray, batch: int = 32) -> Tensor:
    """Posterior means [N, 8, 64, 8] float16 of log-mels [N, 512, 64], not yet scaled."""
    out = []
    for at in range(0, len(mels), batch):
        x = torch.from_numpy(np.asarray(mels[at : at + batch], np.float32))[:, None]
        out.append(vae.encode(x.contiguous(memory_format=torch.channels_last)).latent_dist.mean.half())
    return torch.cat(out)


@torch.no_grad()
def written_loas(writer: LoaWriter, bank: CaptionBank, batch: int = 128) -> Tensor:
    """What GPT-2 writes for every caption of the bank: [N, 8, 128]."""
    out = []
    for at in range(0, len(bank.texts), batch):
        first, second = bank.conditions(list(range(at, min(at + batch, len(bank.texts)))))
        out.append(writer(first, second).states)
    return torch.cat(out)


def envelopes(mels: list[np.ndarray], draw: np.random.Generator) -> Tensor:
    """Stage (h): the loudness curves of the clips themselves, half of them dropped: [B, 9, 64, 8] of log-mels [512, 64]."""
    out = []
    for mel in mels:
        if draw.random() < DROP_ENVELOPE:
            out.append(envelope_channels(None, LATENT_FRAMES, LATENT_BINS, DOWN))
            continue
        curve, blur = loudness_curve(mel), float(draw.choice(CURVE_BLURS))
        smooth = gaussian_filter1d(curve, blur) if blur else curve
        out.append(envelope_channels(torch.from_numpy(smooth), LATENT_FRAMES, LATENT_BINS, DOWN))
    return torch.stack(out)


def train_unet(
    data: MelSet,
    latents: list[Tensor],
    loas: list[Tensor],
    bank: CaptionBank,
    written: Tensor,
    folder: Path,
    loop: LoopConfig,
    *,
    batch: int = 32,
    start: dict[str, Tensor] | None = None,
    on_log: Log = quiet,
) -> AudioLDM2UNet2DConditionModel:
    """Train from nothing, or from the weights ``start``.

    ``latents``, ``loas``: for each source of ``data``, unit-variance latents [N, 8, 64, 8] and true LOA [N, 8, 128].
    """
    torch.manual_seed(0)
    unet = build_unet().to(memory_format=torch.channels_last)
    if start is not None:
        unet.load_state_dict(start)
    alpha_bar = build_scheduler().alphas_cumprod
    modules = nn.ModuleDict({"unet": unet})

    def loss(step: int) -> dict[str, Tensor]:
        draw, generator = np.random.default_rng([step, 4]), torch.Generator().manual_seed(step)
        clips = data.draw(draw, batch)
        x0 = torch.stack([latents[s][i] for s, i in clips]).float()
        rows = [int(draw.choice(bank.rows[data.sources[s].labels[i]])) for s, i in clips]
        _, text = bank.conditions(rows, noise=0.25, generator=generator)
        truth = torch.stack([loas[s][i] for s, i in clips]).float()
        switch = torch.from_numpy(draw.random(batch) < TRUE_LOA_SHARE)
        loa = torch.where(switch[:, None, None], truth, written[rows])
        drop_all, drop_loa, drop_text = (torch.from_numpy(draw.random(batch) < p) for p in (DROP_ALL, DROP_LOA, DROP_TEXT))
        loa = loa.masked_fill((drop_all | drop_loa)[:, None, None], 0.0)
        # "Nothing" is zeros, fully attended: the form of the null condition at inference.
        nothing = drop_all | drop_text
        states = text.states.masked_fill(nothing[:, None, None], 0.0)
        mask = text.mask | nothing[:, None]
        # One timestep per slice of the range keeps the loss of a batch steady.
        t = torch.from_numpy(((np.arange(batch) + draw.random(batch)) / batch * 1000).astype(np.int64))
        t = t[torch.from_numpy(draw.permutation(batch))]
        a = per_row(alpha_bar, t, x0)  # the scheduler's table and the U-Net's t: one less than the papers'
        eps = torch.randn(x0.shape, generator=generator)
        noisy, v = diffuse(x0, eps, a), velocity(x0, eps, a)
        noisy = torch.cat([noisy, envelopes([data.sources[s].mel[i] for s, i in clips], draw)], dim=1)
        with torch.autocast("cpu", torch.bfloat16):
            predicted = unet(
                noisy.contiguous(memory_format=torch.channels_last),
                t,
                encoder_hidden_states=loa,
                encoder_hidden_states_1=states,
                encoder_attention_mask_1=mask,
            ).sample
        return {"loss": (predicted.float() - v).pow(2).mean()}

    averaged = train(modules, loss, loop, folder, settings={"stage": "latent", "batch": batch}, on_log=on_log)
    modules.load_state_dict(averaged)
    return unet.eval()
