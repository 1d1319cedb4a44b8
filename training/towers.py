"""Stage (d): the audio tower of the joint space, contrastive against the frozen sentence encoder.

InfoNCE over the classes of the batch (Oord et al. 2018; CLIP, Radford et al. 2021), with all captions of a class as positives.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from encoders.audiomae import AudioMae
from encoders.clap import Anchors, AudioTower
from training.captions import captions_of
from training.data import MelSet
from training.loop import Log, LoopConfig, quiet, train
from training.translator import CaptionBank


def build_anchors(bank: CaptionBank, labels: dict[str, tuple[str, ...]]) -> Anchors:
    """The unframed phrases of every class."""
    wanted = [(label, phrase) for label, recorded in labels.items() for phrase in captions_of(label, recorded)]
    index = {text: row for row, text in reversed(list(enumerate(bank.texts)))}
    vectors = bank.conditions([index[phrase] for _, phrase in wanted])[0].states[:, 0]
    return Anchors(tuple(p for _, p in wanted), tuple(label for label, _ in wanted), vectors.numpy())


@torch.no_grad()
def extract_features(model: AudioMae, mels: np.ndarray, batch: int = 64) -> Tensor:
    """Patch features [N, P, W] float16."""
    out = []
    for at in range(0, len(mels), batch):
        out.append(model.features(torch.from_numpy(np.asarray(mels[at : at + batch], np.float32))).half())
    return torch.cat(out)


def train_tower(
    data: MelSet,
    features: list[Tensor],
    anchors: Anchors,
    folder: Path,
    loop: LoopConfig,
    *,
    batch: int = 128,
    on_log: Log = quiet,
) -> AudioTower:
    """``features``: AudioMAE features [N, P, W] of each source's clips."""
    torch.manual_seed(0)
    tower = AudioTower()
    names, means = anchors.classes()
    targets, number = torch.from_numpy(means).float(), {name: i for i, name in enumerate(names)}
    modules = nn.ModuleDict({"tower": tower})

    def loss(step: int) -> dict[str, Tensor]:
        draw = np.random.default_rng([step, 5])
        clips = data.draw(draw, batch)
        x = torch.stack([features[s][i] for s, i in clips]).float()
        x = x + 0.1 * torch.randn(x.shape, generator=torch.Generator().manual_seed(step))
        truth = torch.tensor([number[data.sources[s].labels[i]] for s, i in clips])
        logits = tower.log_scale.exp().clamp(max=100) * tower(x) @ targets.T
        value = nn.functional.cross_entropy(logits, truth, label_smoothing=0.05)
        return {"loss": value, "right": (logits.argmax(1) == truth).float().mean()}

    modules.load_state_dict(train(modules, loss, loop, folder, settings={"stage": "tower", "batch": batch}, on_log=on_log))
    return tower.eval()
