"""Joint training: the diffusion loss reaches GPT-2 through the rows that the switcher gives it, and only through them."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from configs.schema import JointStage, UnetSize, WriterSize
from encoders.loa import LoaWriter
from training.data import MelSet, Source
from training.joint import joint_loss, train_joint
from training.latent import Drawn, build_scheduler, build_unet, denoising_loss, draw_batch, switched
from training.loop import Loop
from training.translator import CaptionBank, build_writer

SMALL = UnetSize(block_out_channels=(16, 16, 16), attention_head_dim=(2, 2, 2), norm_num_groups=8)
ALPHA_BAR = build_scheduler().alphas_cumprod


@pytest.fixture(scope="module")
def world() -> tuple[MelSet, list[Tensor], list[Tensor], CaptionBank]:
    """Three clips of three classes with latents, LOA and captions; numbers without meaning."""
    generator = torch.Generator().manual_seed(0)
    mel = np.random.default_rng(0).uniform(-10, 0, (3, 512, 64)).astype(np.float16)
    data = MelSet((Source(mel, np.zeros((3, 8), np.int16), ("a", "b", "c"), (), 1.0),))
    latents, loas = torch.randn(3, 8, 64, 8, generator=generator), torch.randn(3, 8, 128, generator=generator)
    states, mask = torch.randn(3, 32, 384, generator=generator).half(), torch.arange(32)[None] < torch.tensor([[3], [32], [7]])
    bank = CaptionBank(("a", "b", "c"), states, mask, {name: np.array([row]) for row, name in enumerate("abc")})
    return data, [latents.half()], [loas.half()], bank


@pytest.fixture(scope="module")
def parts() -> tuple[object, LoaWriter]:
    torch.manual_seed(0)
    return build_unet(SMALL), build_writer(WriterSize(layers=1))


def drawn(world: tuple[MelSet, list[Tensor], list[Tensor], CaptionBank], number: int, share: float, batch: int = 4) -> Drawn:
    return draw_batch(*world, batch, number, share)


def off() -> torch.autocast:
    return torch.autocast("cpu", enabled=False)


def gradient(module: torch.nn.Module, loss: Tensor) -> float:
    module.zero_grad()
    loss.backward()
    return sum(float(p.grad.abs().sum()) for p in module.parameters() if p.grad is not None)


@pytest.mark.parametrize(("share", "reaches"), [(1.0, False), (0.0, True)])
def test_diffusion_reaches_gpt2_through_predicted_rows_alone(world, parts, share: float, reaches: bool) -> None:
    unet, writer = parts
    values = joint_loss(unet, writer, drawn(world, 0, share), ALPHA_BAR, off(), translator_weight=1.0)
    assert (gradient(writer, values["diffusion"]) > 0) == reaches
    assert values["loss"].item() == pytest.approx((values["diffusion"] + values["forced"] + values["free"]).item())


def test_gpt2s_own_loss_is_there_whatever_the_switch_says(world, parts) -> None:
    unet, writer = parts
    values = joint_loss(unet, writer, drawn(world, 0, 1.0), ALPHA_BAR, off(), translator_weight=0.5)
    assert gradient(writer, values["loss"]) > 0
    own = values["forced"] + values["free"]
    assert values["loss"].item() == pytest.approx((values["diffusion"] + 0.5 * own).item())


def test_the_gradient_stays_in_the_rows_that_were_predicted(world, parts) -> None:
    unet, _ = parts
    batch = next(b for b in (drawn(world, n, 0.5, batch=8) for n in range(20)) if 2 < int(b.keep_true.sum()) < 6 and b.drop_loa.any())
    predicted = torch.randn(batch.loa.shape, generator=torch.Generator().manual_seed(1)).requires_grad_()
    denoising_loss(unet, batch, switched(batch, predicted), ALPHA_BAR, off()).backward()
    assert predicted.grad is not None
    touched = predicted.grad.abs().sum(dim=(1, 2)) > 0
    assert torch.equal(touched, ~batch.keep_true & ~batch.drop_loa)


def test_the_switch_keeps_its_share_over_many_draws_and_is_drawn_by_row(world) -> None:
    share = 0.25
    kept = torch.stack([drawn(world, number, share, batch=32).keep_true for number in range(40)]).float()
    assert float(kept.mean()) == pytest.approx(share, abs=4 * (share * (1 - share) / kept.numel()) ** 0.5)
    assert 0.02 < float(kept.mean(1).std()) < 0.16  # one draw a batch would give batches of zeros and of ones


def test_the_paper_keeps_a_quarter() -> None:
    assert JointStage(steps=1).true_loa_share == 0.25


def test_what_is_dropped_is_dropped_for_both_kinds_of_loa(world, parts) -> None:
    unet, _ = parts
    batch = drawn(world, 0, 0.5)
    nothing = batch._replace(drop_loa=torch.ones(4, dtype=torch.bool))
    with torch.no_grad():
        losses = [denoising_loss(unet, nothing, loa, ALPHA_BAR, off()).item() for loa in (batch.loa, 3 * batch.loa)]
    assert losses[0] == losses[1]


def test_a_batch_depends_on_its_number_alone(world) -> None:
    one, again, other = drawn(world, 5, 0.5), drawn(world, 5, 0.5), drawn(world, 6, 0.5)
    assert torch.equal(one.eps, again.eps) and torch.equal(one.text.states, again.text.states) and torch.equal(one.t, again.t)
    assert not torch.equal(one.eps, other.eps)


def test_both_learn_together(world, parts, tmp_path: Path) -> None:
    unet, writer = (copy.deepcopy(part) for part in parts)
    data, latents, loas, bank = world
    stage = JointStage(steps=8, batch=4, lr=4e-3, warmup_steps=1, ema=0.5)
    before = [joint_loss(unet, writer, drawn(world, 100 + n, 0.25), ALPHA_BAR, off(), 1.0)["loss"].item() for n in range(3)]
    unet, writer = train_joint(unet, writer, data, latents, loas, bank, tmp_path, Loop(stage))
    after = [joint_loss(unet, writer, drawn(world, 100 + n, 0.25), ALPHA_BAR, off(), 1.0)["loss"].item() for n in range(3)]
    assert sum(after) < 0.9 * sum(before)
    for name, part in (("unet", unet), ("writer", writer)):
        fresh = parts[("unet", "writer").index(name)].state_dict()
        assert any(not torch.equal(fresh[key], value) for key, value in part.state_dict().items()), name
