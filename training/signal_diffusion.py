"""The frozen generator behind the signal model in training: how well it denoises a clip that a condition is meant to say.

NExT-GPT's optional second loss of the decoding side: the gradient goes through U-Net and GPT-2 into the output projector, and moves
neither. Knows nano's folder, clips and conditions; no language model.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from diffusers import AudioLDM2UNet2DConditionModel, AutoencoderKL
from diffusers.pipelines.audioldm2.modeling_audioldm2 import AudioLDM2ProjectionModel
from torch import Tensor
from transformers import GPT2Model

from encoders.base import Condition
from encoders.clap import NANO
from encoders.loa import LoaWriter
from encoders.text import pool
from generators.conditioning import padded
from media.mel import MelSpec, log_mel
from training.data import SAMPLES, SECONDS
from training.latent import DOWN, Drawn, build_scheduler, denoising_loss, encode_latents
from training.synthesis import CLASSES

LENGTH = 32  # positions of a text as nano's U-Net reads it


class FrozenNano:
    """U-Net, GPT-2 and autoencoder of a nano folder; nothing of it is trained."""

    def __init__(self, folder: Path = NANO) -> None:
        projection = AudioLDM2ProjectionModel.from_pretrained(folder / "projection_model")
        self.writer = LoaWriter(projection, GPT2Model.from_pretrained(folder / "language_model"), 8).eval().requires_grad_(False)
        self.unet = AudioLDM2UNet2DConditionModel.from_pretrained(folder / "unet").float().eval().requires_grad_(False)
        self.vae = AutoencoderKL.from_pretrained(folder / "vae").float().eval().requires_grad_(False)
        self.alpha_bar = build_scheduler().alphas_cumprod

    @torch.no_grad()
    def latents(self, each: int) -> dict[str, Tensor]:
        """Class -> scaled latents [N, 8, 64, 8] float16 of ``each`` clips of training's own seeds."""
        made = {}
        for index, (name, make) in enumerate(CLASSES.items()):
            clips = [make(np.random.default_rng([index, seed]), SECONDS)[:SAMPLES] for seed in range(each)]
            mels = np.stack([log_mel(clip, MelSpec()) for clip in clips])
            made[name.replace("_", " ")] = encode_latents(self.vae, mels) * self.vae.config.scaling_factor
        return made

    def loss(self, text: Condition, x0: Tensor, number: int) -> Tensor:
        """Mean squared error of v at random times, latents ``x0`` [S, 8, 64, 8] being said by text states [S, Q, 384]."""
        generator = torch.Generator().manual_seed(number)
        rows, frames, bins = len(x0), *x0.shape[2:]
        text = padded(text, LENGTH)
        sentence = Condition("clap", pool(text)[:, None], torch.ones(rows, 1, dtype=torch.bool))
        loa = self.writer(sentence, text).states
        no = torch.zeros(rows, dtype=torch.bool)
        drawn = Drawn(
            x0=x0.float(),
            loa=loa,
            rows=torch.zeros(rows, dtype=torch.long),
            sentence=sentence,
            text=text,
            envelope=torch.zeros(rows, DOWN + 1, frames, bins),
            t=torch.randint(0, len(self.alpha_bar), (rows,), generator=generator),
            eps=torch.randn(x0.shape, generator=generator),
            keep_true=no,
            drop_loa=no,
            drop_text=no,
        )
        return denoising_loss(self.unet, drawn, loa, self.alpha_bar, torch.autocast("cpu", enabled=False))
