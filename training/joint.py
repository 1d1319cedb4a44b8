"""Stage (g): GPT-2 and U-Net together, through the probabilistic switcher.

AudioLDM 2 (Liu et al. 2024), section III-D: a row of the batch reads the clip's own LOA with probability 0.25, else what GPT-2 writes
from the caption at this very moment, and the diffusion loss flows back through it into GPT-2, whose own loss is added.
"""

from __future__ import annotations

from pathlib import Path

import torch
from diffusers import AudioLDM2UNet2DConditionModel
from torch import Tensor, nn

from configs.schema import JointStage
from encoders.loa import LoaWriter
from training.data import MelSet
from training.latent import Drawn, build_scheduler, denoising_loss, draw_batch, switched
from training.loop import Loop, train
from training.translator import CaptionBank, write_and_compare


def joint_loss(
    unet: AudioLDM2UNet2DConditionModel,
    writer: LoaWriter,
    drawn: Drawn,
    alpha_bar: Tensor,
    autocast: torch.autocast,
    translator_weight: float,
) -> dict[str, Tensor]:
    """``diffusion`` reaches the writer through the rows that the switcher gives it; ``forced`` and ``free`` are its own losses."""
    said = write_and_compare(writer, drawn.sentence, drawn.text, drawn.loa)
    diffusion = denoising_loss(unet, drawn, switched(drawn, said.written), alpha_bar, autocast)
    total = diffusion + translator_weight * (said.forced + said.free)
    return {"loss": total, "diffusion": diffusion, "forced": said.forced, "free": said.free}


def train_joint(
    unet: AudioLDM2UNet2DConditionModel,
    writer: LoaWriter,
    data: MelSet,
    latents: list[Tensor],
    loas: list[Tensor],
    bank: CaptionBank,
    folder: Path,
    loop: Loop[JointStage],
) -> tuple[AudioLDM2UNet2DConditionModel, LoaWriter]:
    """Train both on from the weights they come with; both come back with averaged weights. Arguments as of ``train_unet``."""
    stage, alpha_bar = loop.config, build_scheduler().alphas_cumprod.to(loop.device)
    modules = nn.ModuleDict({"unet": unet.train().to(memory_format=torch.channels_last), "writer": writer.train()})
    drawn = loop.ahead(lambda number: draw_batch(data, latents, loas, bank, stage.batch, number, stage.true_loa_share))

    def loss(number: int) -> dict[str, Tensor]:
        return joint_loss(unet, writer, drawn(number).to(loop.device), alpha_bar, loop.autocast(), stage.translator_weight)

    groups = [{"params": list(unet.parameters())}, {"params": list(writer.parameters())}]
    modules.load_state_dict(train(modules, loss, loop, folder, groups=groups))
    return unet.cpu().eval(), writer.cpu().eval()
