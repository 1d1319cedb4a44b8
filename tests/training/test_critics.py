"""Critics pull what is made towards what is true: their gradient reaches the maker, their own lesson does not, and losses fall."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL
from torch import nn

from configs.registry import ConfigError
from configs.schema import Adversarial, VaeSize, VaeStage, VocoderSize, VocoderStage, parse, train_config
from media.mel import MelSpec, log_mel
from training.autoencoder import build_vae, compare, train_vae
from training.critics import PERIODS, SCALES, Critics, PeriodCritic, frozen, judge, mel_critics, wave_critics
from training.data import MelSet, Source
from training.loop import Loop
from training.vocoder import train_vocoder


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


KINDS = [(wave_critics, (2, 1, 1600)), (mel_critics, (2, 1, 64, 64))]
SMALL = VaeSize(block_out_channels=(8, 8, 8, 8), norm_num_groups=4)


@pytest.mark.parametrize(("build", "shape"), KINDS, ids=["waves", "mels"])
def test_what_the_critics_say_reaches_the_maker_and_what_they_learn_does_not(build: Any, shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    critics, made, true = build(4), noise(*shape).requires_grad_(), noise(*shape, seed=1)
    verdict = judge(critics, true, made)
    (verdict.pull + verdict.features).backward(retain_graph=True)
    assert made.grad is not None and float(made.grad.abs().max()) > 0
    assert all(parameter.grad is None for parameter in critics.parameters())
    made.grad = None
    verdict.critic.backward()
    assert made.grad is None
    # The bias of a score cancels while both hinges are open.
    learning = [p for name, p in critics.named_parameters() if "bias" not in name]
    assert learning and all(p.grad is not None and float(p.grad.abs().sum()) > 0 for p in learning)


def test_losses_are_the_hinges_of_the_papers() -> None:
    class Says(nn.Module):
        """A critic whose score is its input, and whose only feature is twice that."""

        def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
            return [2 * x, x]

    true, made = torch.tensor([[[0.5, 3.0]]]), torch.tensor([[[-2.0, 0.5]]])
    verdict = judge(Critics([Says()]), true, made)
    assert float(verdict.pull) == pytest.approx(0.75)  # minus the mean score
    assert float(verdict.critic) == pytest.approx((0.5 + 0) / 2 + (0 + 1.5) / 2)  # max(0, 1 - true), max(0, 1 + made)
    assert float(verdict.features) == pytest.approx((2.5 + 2.5) / 2 * 2 / 3.5, rel=1e-5)  # |difference| by mean |feature of true|


def test_a_critic_tells_noise_from_tones_after_a_few_lessons() -> None:
    torch.manual_seed(0)
    critics = wave_critics(4)
    optimizer = torch.optim.AdamW(critics.parameters(), 4e-3)
    time = torch.arange(800) / 16_000

    def batch(step: int) -> tuple[torch.Tensor, torch.Tensor]:
        tones = torch.sin(2 * torch.pi * (300 + 50 * (step % 5)) * time)[None, None].repeat(2, 1, 1)
        return tones, 0.5 * noise(2, 1, 800, seed=step)

    first = float(judge(critics, *batch(99)).critic.detach())
    for step in range(14):
        optimizer.zero_grad()
        judge(critics, *batch(step)).critic.backward()
        optimizer.step()
    assert first > 1.7 and float(judge(critics, *batch(99)).critic.detach()) < 0.5 * first


def test_a_period_critic_looks_along_every_nth_sample() -> None:
    torch.manual_seed(0)
    critic, wave = PeriodCritic(5, 4), noise(1, 1, 1000)
    scores = critic(wave)[-1]
    other = wave.clone()
    other[..., 3::5] += 1.0  # one phase of five
    changed = (critic(other)[-1] - scores).abs().amax(dim=(0, 1, 2))
    assert scores.shape[3] == 5 and (changed > 1e-4).tolist() == [False, False, False, True, False]
    assert len(wave_critics(4).critics) == len(PERIODS) + len(SCALES)


def test_frozen_parameters_want_their_gradient_again_afterwards() -> None:
    layer = nn.Linear(2, 1)
    layer.bias.requires_grad_(False)
    with frozen(layer):
        assert not layer.weight.requires_grad
    assert layer.weight.requires_grad and not layer.bias.requires_grad


# -- the autoencoder --------------------------------------------------------------------------------------------------
def mels() -> list[np.ndarray]:
    """Bands that move: something an autoencoder can learn."""
    time, band = np.arange(512)[:, None], np.arange(64)[None]
    return [
        np.stack([-9 + 6 * np.exp(-(((band - 32 - 20 * np.sin(time / (20 + 5 * k))) / 6) ** 2)) for k in range(6)]).astype(np.float16)
    ]


def rows(folder: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


def vae_stage(steps: int, **more: Any) -> Loop[VaeStage]:
    fields: dict[str, Any] = {
        "steps": steps,
        "batch": 2,
        "crop": 32,
        "lr": 3e-3,
        "warmup_steps": 1,
        "log_every_s": 1e-6,
        "model": SMALL,
    }
    return Loop(VaeStage(**(fields | more)))


def test_the_autoencoder_learns_with_a_critic_that_joins_later(tmp_path: Path) -> None:
    train_vae(mels(), [1.0], tmp_path, vae_stage(16, scales=2, adversarial=Adversarial(weight=0.05, width=4, from_step=13)))
    log = rows(tmp_path)
    assert ["critic" in row for row in log] == [False] * 13 + [True] * 3
    assert np.mean([row["l1"] for row in log[-4:]]) < 0.8 * np.mean([row["l1"] for row in log[:4]])
    state = torch.load(tmp_path / "state.pt", weights_only=True)["ema"]
    torch.manual_seed(0)
    build_vae(SMALL)
    fresh = mel_critics(4).state_dict()
    assert any(not torch.equal(state["critics." + key], value) for key, value in fresh.items())


def test_decoder_only_leaves_encoder_and_latents_bit_for_bit(tmp_path: Path) -> None:
    torch.manual_seed(3)
    start = build_vae(SMALL)
    start.save_pretrained(tmp_path / "start")
    stage = vae_stage(6, start=tmp_path / "start", decoder_only=True, adversarial=Adversarial(weight=0.1, width=4))
    made = train_vae(mels(), [1.0], tmp_path / "work", stage)
    before, after = start.state_dict(), made.state_dict()
    moved = {key.partition(".")[0] for key in before if not torch.equal(before[key], after[key])}
    assert moved == {"decoder", "post_quant_conv"}
    x = torch.from_numpy(mels()[0][:1, None, :64].astype(np.float32))
    start.eval().to(memory_format=torch.channels_last)  # as it was trained: the order of sums is part of the bits
    with torch.no_grad():
        assert torch.equal(start.encode(x).latent_dist.mean, made.encode(x).latent_dist.mean)
    assert rows(tmp_path / "work")[-1]["critic"] > 0


def test_a_crop_that_does_not_halve_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"'crop' must be a multiple of 8.*got 36"):
        parse({"steps": 1, "crop": 36}, VaeStage, "recipe")


def test_decoder_only_asks_what_to_start_from() -> None:
    with pytest.raises(ConfigError, match="'decoder_only' needs 'start'"):
        parse({"steps": 1, "decoder_only": True}, VaeStage, "recipe")


def test_reconstructions_are_compared_at_every_scale() -> None:
    made, true = noise(1, 1, 16, 16), torch.zeros(1, 1, 16, 16)
    l1, slope = compare(made, true, 2)
    half = nn.functional.avg_pool2d(made, 2)
    assert float(l1) == pytest.approx(float((made.abs().mean() + half.abs().mean()) / 2))
    by_hand = [x.diff(dim=2).abs().mean() + x.diff(dim=3).abs().mean() for x in (made, half)]
    assert float(slope) == pytest.approx(float(sum(by_hand)) / 2)


# -- the vocoder ------------------------------------------------------------------------------------------------------
def tones() -> MelSet:
    time = np.arange(81_920) / 16_000
    waves = np.stack([0.4 * np.sin(2 * np.pi * pitch * time) for pitch in (300, 310)]).astype(np.float32)
    mel = np.stack([log_mel(wave, MelSpec()) for wave in waves]).astype(np.float16)
    return MelSet((Source(mel, (waves * 32767).astype(np.int16), ("a", "b"), (), 1.0),))


def test_the_kernels_of_the_public_vocoder_train_too(tmp_path: Path) -> None:
    """They make a few samples more than 160 a frame."""
    public = train_config("audioldm2").vocoder.model
    size = public.model_copy(update={"upsample_initial_channel": 32, "resblock_kernel_sizes": (3,), "resblock_dilation_sizes": ((1,),)})
    train_vocoder(tones(), {}, tmp_path, Loop(VocoderStage(steps=1, batch=2, frames=16, model=size)))
    assert rows(tmp_path)[0]["skipped"] == 0


@pytest.mark.parametrize("adversarial", [None, Adversarial(weight=0.1, width=4)], ids=["alone", "against critics"])
def test_the_vocoder_learns(tmp_path: Path, adversarial: Adversarial | None) -> None:
    data = tones()
    stage = VocoderStage(
        steps=12,
        batch=2,
        frames=16,
        lr=1e-2,
        warmup_steps=1,
        log_every_s=1e-6,
        adversarial=adversarial,
        model=VocoderSize(upsample_initial_channel=32, resblock_kernel_sizes=(3,), resblock_dilation_sizes=((1,),)),
    )
    train_vocoder(data, {(0, 1): data.sources[0].mel[1].astype(np.float32)}, tmp_path, Loop(stage))
    log = rows(tmp_path)
    assert np.mean([row["mel"] for row in log[-3:]]) < 0.85 * np.mean([row["mel"] for row in log[:3]])
    assert all(row["skipped"] == 0 for row in log)
    assert ("critic" in log[0]) == (adversarial is not None)


def test_an_autoencoder_of_diffusers_is_what_comes_out(tmp_path: Path) -> None:
    made = train_vae(mels(), [1.0], tmp_path, vae_stage(1))
    assert isinstance(made, AutoencoderKL) and not made.training and made.device.type == "cpu"
