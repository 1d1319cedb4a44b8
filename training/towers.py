"""Stage (d): the audio tower of the joint space, contrastive against the frozen sentence encoder.

InfoNCE over the classes of the batch (Oord et al. 2018; CLIP, Radford et al. 2021), with all captions of a class as positives.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from configs.schema import TowerStage
from encoders.audiomae import AudioMae
from encoders.clap import Anchors, AudioTower
from training.data import MelSet
from training.loop import Loop, fit
from training.translator import CaptionBank


def build_anchors(bank: CaptionBank, classes: dict[str, tuple[str, ...]]) -> Anchors:
    """The unframed phrases of every class."""
    wanted = [(label, phrase) for label, said in classes.items() for phrase in said]
    index = {text: row for row, text in reversed(list(enumerate(bank.texts)))}
    vectors = bank.conditions([index[phrase] for _, phrase in wanted])[0].states[:, 0]
    return Anchors(tuple(p for _, p in wanted), tuple(label for label, _ in wanted), vectors.numpy())


@torch.no_grad()
def extract_features(model: AudioMae, mels: np.ndarray, batch: int = 64) -> Tensor:
    """Patch features [N, P, W] float16."""
    out = []
    for at in range(0, len(mels), batch):
        mel = torch.from_numpy(np.asarray(mels[at : at + batch], np.float32))
        out.append(model.features(mel.to(model.cls_token.device)).half().cpu())
    return torch.cat(out)


def train_tower(data: MelSet, features: list[Tensor], anchors: Anchors, folder: Path, loop: Loop[TowerStage]) -> AudioTower:
    """``features``: AudioMAE features [N, P, W] of each source's clips."""
    torch.manual_seed(0)
    tower = AudioTower(width=features[0].shape[2])
    names, means = anchors.classes()
    targets, index = torch.from_numpy(means).float().to(loop.device), {name: i for i, name in enumerate(names)}

    def draw(number: int) -> tuple[Tensor, Tensor]:
        clips = data.draw(np.random.default_rng([number, 5]), loop.config.batch)
        x = torch.stack([features[s][i] for s, i in clips]).float()
        x = x + 0.1 * torch.randn(x.shape, generator=torch.Generator().manual_seed(number))
        return x, torch.tensor([index[data.sources[s].labels[i]] for s, i in clips])

    drawn = loop.ahead(draw)

    def loss(number: int) -> dict[str, Tensor]:
        x, truth = (x.to(loop.device) for x in drawn(number))
        logits = tower.log_scale.exp().clamp(max=100) * tower(x) @ targets.T
        value = nn.functional.cross_entropy(logits, truth, label_smoothing=0.05)
        return {"loss": value, "right": (logits.argmax(1) == truth).float().mean()}

    return fit("tower", tower, loss, loop, folder)
