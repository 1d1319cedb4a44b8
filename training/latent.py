"""Stages (e) and (h): latent diffusion steered by the Language of Audio, by text and by a loudness curve.

v-prediction (Salimans & Ho 2022) over AudioLDM's noise schedule. LOA comes through the probabilistic switcher of AudioLDM 2
(section III-D): the clip's own features in a quarter of the rows, what GPT-2 wrote from the caption in the others, so that the U-Net
is never shown only what it will not get at inference.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from diffusers import AudioLDM2UNet2DConditionModel, AutoencoderKL, DDIMScheduler
from scipy.ndimage import gaussian_filter1d
from torch import Tensor

from configs.schema import LatentStage, UnetSize
from encoders.base import Condition
from encoders.loa import LoaWriter
from generators.conditioning import envelope_channels
from media.mel import loudness_curve
from training.data import MelSet
from training.diffusion import diffuse, per_row, velocity
from training.loop import Loop, fit
from training.translator import CaptionBank, moved

TRUE_LOA_SHARE = 0.25
DROP_ALL, DROP_LOA, DROP_TEXT, DROP_ENVELOPE = 0.1, 0.1, 0.1, 0.5
LATENT_FRAMES, LATENT_BINS, DOWN = 64, 8, 8
CURVE_BLURS = (0.0, 0.0, 1.0, 3.0, 8.0)  # sigma in mel frames of 10 ms: what people draw is smoother than what sounds do


def build_unet(size: UnetSize = UnetSize()) -> AudioLDM2UNet2DConditionModel:  # noqa: B008 (frozen)
    """nano's: 9 M parameters over latents [B, 8, 64, 8] and, stacked under them, an envelope [B, 9, 64, 8].

    Attention (self, LOA, text) where a cell covers 0.32 s.
    """
    return AudioLDM2UNet2DConditionModel(**size.model_dump())


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
        x = x.to(vae.device).contiguous(memory_format=torch.channels_last)
        out.append(vae.encode(x).latent_dist.mean.half().cpu())
    return torch.cat(out)


@torch.no_grad()
def written_loas(writer: LoaWriter, bank: CaptionBank, batch: int = 128) -> Tensor:
    """What GPT-2 writes for every caption of the bank: [N, 8, 128]."""
    out = []
    for at in range(0, len(bank.texts), batch):
        first, second = bank.conditions(list(range(at, min(at + batch, len(bank.texts)))))
        device = writer.language_model.device
        out.append(writer(moved(first, device), moved(second, device)).states.cpu())
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


class Drawn(NamedTuple):
    """A batch as chance drew it. Everything that chance decides is here; what is computed from it is not."""

    x0: Tensor  # latents of clips [B, C, T, F]
    loa: Tensor  # their own LOA [B, N, D]
    rows: Tensor  # of the caption bank [B]
    sentence: Condition  # [B, 1, 384]
    text: Condition  # [B, 32, 384]
    envelope: Tensor  # [B, 9, T, F]
    t: Tensor  # timesteps of the scheduler [B]
    eps: Tensor  # like x0
    keep_true: Tensor  # the switcher [B]: rows that read their own LOA
    drop_loa: Tensor  # [B]
    drop_text: Tensor  # [B]

    def to(self, device: torch.device) -> Drawn:
        parts: dict[str, Any] = {
            name: moved(x, device) if isinstance(x, Condition) else x.to(device) for name, x in self._asdict().items()
        }
        return Drawn(**parts)


def draw_batch(
    data: MelSet, latents: list[Tensor], loas: list[Tensor], bank: CaptionBank, batch: int, number: int, true_share: float
) -> Drawn:
    """``batch`` clips of ``data`` with captions, noise and switches; the same ``number`` gives the same."""
    draw, generator = np.random.default_rng([number, 4]), torch.Generator().manual_seed(number)
    clips = data.draw(draw, batch)
    x0 = torch.stack([latents[s][i] for s, i in clips]).float()
    rows = [int(draw.choice(bank.rows[data.sources[s].labels[i]])) for s, i in clips]
    sentence, text = bank.conditions(rows, noise=0.25, generator=generator)
    keep_true = torch.from_numpy(draw.random(batch) < true_share)
    drop_all, drop_loa, drop_text = (torch.from_numpy(draw.random(batch) < p) for p in (DROP_ALL, DROP_LOA, DROP_TEXT))
    # One timestep per slice of the range keeps the loss of a batch steady.
    t = torch.from_numpy(((np.arange(batch) + draw.random(batch)) / batch * 1000).astype(np.int64))
    t = t[torch.from_numpy(draw.permutation(batch))]
    return Drawn(
        x0=x0,
        loa=torch.stack([loas[s][i] for s, i in clips]).float(),
        rows=torch.tensor(rows),
        sentence=sentence,
        text=text,
        t=t,
        eps=torch.randn(x0.shape, generator=generator),
        envelope=envelopes([data.sources[s].mel[i] for s, i in clips], draw),
        keep_true=keep_true,
        drop_loa=drop_all | drop_loa,
        drop_text=drop_all | drop_text,
    )


def switched(drawn: Drawn, predicted: Tensor) -> Tensor:
    """The probabilistic switcher, per row: a clip's own LOA, or the ``predicted`` one [B, N, D]."""
    return torch.where(drawn.keep_true[:, None, None], drawn.loa, predicted)


def denoising_loss(
    unet: AudioLDM2UNet2DConditionModel, drawn: Drawn, loa: Tensor, alpha_bar: Tensor, autocast: torch.autocast
) -> Tensor:
    """Mean squared error of v, reading ``loa`` [B, N, D] and the text except where they are dropped."""
    # "Nothing" is zeros, fully attended: the form of the null condition at inference.
    loa = loa.masked_fill(drawn.drop_loa[:, None, None], 0.0)
    states = drawn.text.states.masked_fill(drawn.drop_text[:, None, None], 0.0)
    mask = drawn.text.mask | drawn.drop_text[:, None]
    a = per_row(alpha_bar, drawn.t, drawn.x0)  # the scheduler's table and the U-Net's t: one less than the papers'
    noisy, v = diffuse(drawn.x0, drawn.eps, a), velocity(drawn.x0, drawn.eps, a)
    noisy = torch.cat([noisy, drawn.envelope], dim=1)
    with autocast:
        predicted = unet(
            noisy.contiguous(memory_format=torch.channels_last),
            drawn.t,
            encoder_hidden_states=loa,
            encoder_hidden_states_1=states,
            encoder_attention_mask_1=mask,
        ).sample
    return (predicted.float() - v).pow(2).mean()


def train_unet(
    data: MelSet,
    latents: list[Tensor],
    loas: list[Tensor],
    bank: CaptionBank,
    written: Tensor,
    folder: Path,
    loop: Loop[LatentStage],
    *,
    start: dict[str, Tensor] | None = None,
) -> AudioLDM2UNet2DConditionModel:
    """Train from nothing, or from the weights ``start``.

    ``latents``, ``loas``: for each source of ``data``, unit-variance latents [N, 8, 64, 8] and true LOA [N, 8, 128]; ``written``: what
    GPT-2 writes for each caption of ``bank``.
    """
    torch.manual_seed(0)
    unet = build_unet(loop.config.model).to(memory_format=torch.channels_last)
    if start is not None:
        unet.load_state_dict(start)
    alpha_bar, written = build_scheduler().alphas_cumprod.to(loop.device), written.to(loop.device)
    drawn = loop.ahead(lambda number: draw_batch(data, latents, loas, bank, loop.config.batch, number, TRUE_LOA_SHARE))

    def loss(number: int) -> dict[str, Tensor]:
        now = drawn(number).to(loop.device)
        return {"loss": denoising_loss(unet, now, switched(now, written[now.rows]), alpha_bar, loop.autocast())}

    return fit("unet", unet, loss, loop, folder)
