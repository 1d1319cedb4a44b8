"""Stage (a): AudioMAE, self-supervised. Three quarters of a mel's patches are hidden and reconstructed from the rest.

Huang et al. 2022: encoder over visible patches only, a shallow decoder with mask tokens, mean squared error on normalised hidden
patches.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from configs.schema import AudioMaeStage
from encoders.audiomae import AudioMae, AudioMaeConfig, Block, sincos_positions
from training.data import MelSet
from training.loop import Loop, fit

HIDDEN_SHARE = 0.75


class MaskedAutoencoder(nn.Module):
    """Encoder and decoder; only the encoder is kept."""

    def __init__(self, config: AudioMaeConfig, decoder_width: int = 96, decoder_depth: int = 2) -> None:
        super().__init__()
        self.encoder = AudioMae(config)
        self.embed = nn.Linear(config.width, decoder_width)
        self.mask_token = nn.Parameter(torch.zeros(1, 1, decoder_width))
        positions = sincos_positions(config.grid, decoder_width)[None, 1:]
        self.positions = nn.Parameter(positions, requires_grad=False)
        self.decoder = nn.ModuleList(Block(decoder_width, 4) for _ in range(decoder_depth))
        self.norm = nn.LayerNorm(decoder_width)
        self.head = nn.Linear(decoder_width, config.patch**2)
        nn.init.normal_(self.encoder.cls_token, std=0.02)
        nn.init.normal_(self.mask_token, std=0.02)

    def forward(self, mel: Tensor, order: Tensor) -> Tensor:
        """Loss of log-mels [B, frames, bins]; ``order`` [B, patches] a permutation whose first quarter stays visible."""
        config, count = self.encoder.config, order.shape[1]
        kept = int(count * (1 - HIDDEN_SHARE))
        patches = self.encoder.patches(mel)
        visible = patches.gather(1, order[:, :kept, None].expand(-1, -1, config.width))
        coded = self.embed(self.encoder.norm(self.encoder.blocks_out(visible)[-1])[:, 1:])
        full = torch.cat([coded, self.mask_token.expand(len(mel), count - kept, -1)], dim=1)
        x = full.gather(1, order.argsort(1)[..., None].expand(-1, -1, full.shape[2])) + self.positions
        for block in self.decoder:
            x = block(x)
        x = self.head(self.norm(x))
        p, (rows, columns) = config.patch, config.grid
        target = mel.unflatten(1, (rows, p)).unflatten(3, (columns, p)).permute(0, 1, 3, 2, 4).reshape(len(mel), count, p * p)
        # Normalised patches as in the paper, with a floor so that digital silence is not blown up into noise.
        target = (target - target.mean(2, keepdim=True)) / (target.std(2, keepdim=True) + 0.3)
        hidden = torch.zeros_like(order, dtype=torch.bool).scatter(1, order[:, kept:], True)
        return (x - target).pow(2).mean(2)[hidden].mean()


def build_audiomae(stage: AudioMaeStage) -> MaskedAutoencoder:
    return MaskedAutoencoder(AudioMaeConfig(**stage.model.model_dump()), stage.decoder_width, stage.decoder_depth)


def train_audiomae(data: MelSet, folder: Path, loop: Loop[AudioMaeStage]) -> AudioMae:
    """Train on random clips; returns the encoder with averaged weights."""
    torch.manual_seed(0)
    model = build_audiomae(loop.config)
    batch, patches = loop.config.batch, int(np.prod(model.encoder.config.grid))

    def draw(number: int) -> tuple[Tensor, Tensor]:
        chance = np.random.default_rng([number, 2])
        mel = torch.from_numpy(data.mels(data.draw(chance, batch), chance))
        return mel, torch.from_numpy(chance.random((batch, patches)).argsort(1))

    drawn = loop.ahead(draw)

    def loss(number: int) -> dict[str, Tensor]:
        mel, order = (x.to(loop.device) for x in drawn(number))
        with loop.autocast():
            value = model(mel, order)
        return {"loss": value.float()}

    return fit("mae", model, loss, loop, folder).encoder
