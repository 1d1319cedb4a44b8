"""The denoising loop: equal to diffusers' pipeline, the same for a request whoever its neighbours are, windows without seams."""

from __future__ import annotations

import doctest
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from diffusers import (
    DDIMScheduler,
    DPMSolverMultistepScheduler,
    EulerDiscreteScheduler,
    HeunDiscreteScheduler,
    PNDMScheduler,
    UniPCMultistepScheduler,
)
from torch import Tensor, nn

from encoders.base import Condition
from generators import engine
from generators.audioldm2 import AudioLDM2
from generators.base import Cancelled, Progress
from generators.engine import Job, denoise, ramp, window_starts

SOLVERS = {
    "ddim": DDIMScheduler,
    "dpmpp_2m": DPMSolverMultistepScheduler,
    "unipc": UniPCMultistepScheduler,
    "euler": EulerDiscreteScheduler,
    "heun": HeunDiscreteScheduler,
    "pndm": PNDMScheduler,
}
FRAMES, BINS = 16, 16


def job(seed: int, *, steps: int = 3, guidance: float = 3.5, frames: int = FRAMES, text: int = 24) -> Job:
    """A job with random conditions whose texts end at different places."""
    draw = torch.Generator().manual_seed(seed)

    def condition(name: str, length: int, width: int, real: int) -> Condition:
        return Condition(name, torch.randn(1, length, width, generator=draw), torch.arange(length)[None] < real)

    return Job(
        noise=torch.randn(4, frames, BINS, generator=draw),
        loa=condition("loa", 8, 16, 8),
        text=condition("t5", text, 24, 3 + seed % 9),
        null_loa=condition("loa", 8, 16, 8),
        null_text=condition("t5", text, 24, 1),
        steps=steps,
        guidance=guidance,
    )


@pytest.fixture(scope="session")
def unet(hub: AudioLDM2) -> nn.Module:
    return hub._unet


def run(unet: Any, jobs: list[Job], rows: int = 4, window: int | None = None, overlap: int = 4, **more: Any) -> list[Tensor]:
    return denoise(unet, jobs, scheduler("ddim"), rows=rows, window=window, overlap=overlap, **more)


def scheduler(solver: str) -> Callable[[], Any]:
    fields = {
        "beta_schedule": "scaled_linear",
        "beta_start": 0.0015,
        "beta_end": 0.0195,
        "clip_sample": False,
        "set_alpha_to_one": False,
        "steps_offset": 1,
    }
    known = DDIMScheduler(**fields).config
    return lambda: SOLVERS[solver].from_config(known)


def diffusers_wave(pipeline: Any, solver: str, what: Job) -> Tensor:
    """What ``AudioLDM2Pipeline.__call__`` makes of the same conditions and the same start noise: [samples]."""
    pipeline.scheduler = scheduler(solver)()
    made = pipeline(
        audio_length_in_s=what.noise.shape[1] * 4 * 160 / 16_000,
        num_inference_steps=what.steps,
        guidance_scale=what.guidance,
        latents=what.noise[None],
        prompt_embeds=what.text.states,
        attention_mask=what.text.mask.long(),
        generated_prompt_embeds=what.loa.states,
        negative_prompt_embeds=what.null_text.states,
        negative_attention_mask=what.null_text.mask.long(),
        negative_generated_prompt_embeds=what.null_loa.states,
    )
    return torch.from_numpy(made.audios[0])


@pytest.mark.parametrize("guidance", [1.5, 3.5])
@pytest.mark.parametrize(
    ("solver", "steps"),
    [*((solver, steps) for solver in ("ddim", "dpmpp_2m", "unipc") for steps in (5, 20)), ("euler", 5), ("heun", 5), ("pndm", 5)],
)
def test_the_loop_makes_the_waveform_of_diffusers_pipeline(
    public: Any, hub: AudioLDM2, solver: str, steps: int, guidance: float, record_property: Callable[[str, object], None]
) -> None:
    what = job(7, steps=steps, guidance=guidance)
    theirs = diffusers_wave(public.pipeline, solver, what)
    neighbours = [what, job(8, steps=steps - 1), job(9, steps=steps + 3)]
    latent = denoise(hub._unet, neighbours, scheduler(solver), rows=4, window=None, overlap=4)[0]
    ours = torch.from_numpy(hub._decode(latent, 0.64).samples[0])
    difference = float((ours - theirs).abs().max())
    record_property("max_abs_difference", difference)
    assert theirs.shape == ours.shape == (10_240,)
    assert float(theirs.std()) > 0.01 and float(theirs.abs().max()) < 1
    assert difference < 1e-4


JOBS = [
    job(0),
    job(1, steps=2),
    job(2, guidance=1.5),
    job(3, frames=24),
    job(4, frames=40, steps=2),
    job(5, guidance=7.0, steps=2),
    job(6),
    job(10, frames=24, steps=1),
]


@pytest.mark.parametrize("window", [None, 16], ids=["whole", "windows"])
def test_a_job_is_bitwise_the_same_alone_in_any_batch_and_in_any_order(unet: nn.Module, window: int | None) -> None:
    alone = [run(unet, [one], rows=8, window=window)[0] for one in JOBS]
    assert all(not torch.equal(alone[0], other) for other in alone[1:])
    for size in (2, 3, 5, 8):
        for made, wanted in zip(run(unet, JOBS[:size], rows=8, window=window), alone[:size], strict=True):
            assert torch.equal(made, wanted)
    order = [5, 2, 7, 0, 4, 1, 6, 3]
    for made, place in zip(run(unet, [JOBS[i] for i in order], rows=8, window=window), order, strict=True):
        assert torch.equal(made, alone[place])


def test_across_row_buckets_a_job_is_the_same_to_rounding(unet: nn.Module, record_property: Callable[[str, object], None]) -> None:
    reference = run(unet, JOBS, rows=8, window=16)
    worst = 0.0
    for rows in (1, 2, 4):
        for made, wanted in zip(run(unet, JOBS, rows=rows, window=16), reference, strict=True):
            worst = max(worst, float((made - wanted).abs().max() / wanted.abs().max()))
    record_property("max_relative_difference", worst)
    assert worst <= 1e-5


def test_padding_of_the_text_does_not_matter(unet: nn.Module) -> None:
    short = job(1, text=12)
    grown = replace(short, text=_longer(short.text, 12), null_text=_longer(short.null_text, 12))
    assert torch.allclose(run(unet, [short])[0], run(unet, [grown])[0], atol=1e-5)


def _longer(condition: Condition, by: int) -> Condition:
    junk = torch.full((1, by, condition.states.shape[2]), 9.0)
    return Condition(condition.name, torch.cat([condition.states, junk], 1), torch.cat([condition.mask, torch.zeros(1, by).bool()], 1))


def test_guidance_one_is_the_conditional_prediction_alone(unet: nn.Module, public: Any, hub: AudioLDM2) -> None:
    one = job(3, guidance=1.0, steps=5)
    other_null = replace(one, null_loa=job(11).null_loa, null_text=job(11).null_text)
    made = run(unet, [one])[0]
    assert torch.allclose(made, run(unet, [other_null])[0], atol=1e-5)
    unguided = diffusers_wave(public.pipeline, "ddim", one)  # at scale 1 diffusers runs the condition only
    assert float((torch.from_numpy(hub._decode(made, 0.64).samples[0]) - unguided).abs().max()) < 1e-4
    assert not torch.allclose(made, run(unet, [replace(one, guidance=2.0)])[0], atol=1e-3)


# -- windows ----------------------------------------------------------------------------------------------------------
class Pointwise(nn.Module):
    """A U-Net whose answer at a place depends on nothing but that place, so windows must not show at all."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[int, ...]] = []

    def forward(self, z: Tensor, t: Tensor, encoder_hidden_states: Tensor, **_: Tensor) -> SimpleNamespace:
        self.calls.append(tuple(z.shape))
        return SimpleNamespace(sample=torch.tanh(z) + encoder_hidden_states.mean(dim=(1, 2))[:, None, None, None])


def test_the_examples_of_window_starts_hold() -> None:
    assert doctest.testmod(engine).failed == 0 and doctest.testmod(engine).attempted >= 1


@pytest.mark.parametrize(("window", "overlap"), [(16, 0), (16, 4), (64, 16), (64, 63)])
def test_windows_cover_every_frame_and_overlap_enough(window: int, overlap: int) -> None:
    for length in range(1, 300):
        starts = window_starts(length, window, overlap)
        assert starts[0] == 0 and starts[-1] + window >= length
        if length > window:
            assert starts[-1] + window == length
            assert all(0 < b - a <= window - overlap for a, b in pairwise(starts))


@pytest.mark.parametrize(("window", "overlap"), [(16, 0), (16, 4), (64, 16), (16, 15)])
def test_the_weights_of_a_window_are_never_zero(window: int, overlap: int) -> None:
    weights = ramp(window, overlap)
    assert weights.shape == (window,) and float(weights.min()) > 0 and float(weights.max()) <= 1
    assert torch.equal(weights, weights.flip(0))


def test_windows_leave_no_seam_in_what_does_not_depend_on_them() -> None:
    long = job(2, frames=70, steps=4)
    whole, cut = run(Pointwise(), [long])[0], run(Pointwise(), [long], window=16)[0]
    assert torch.allclose(whole, cut, atol=1e-5) and cut.shape == (4, 70, BINS)


def test_one_window_is_bit_identical_to_the_plain_path(unet: nn.Module) -> None:
    one = job(2, frames=16, steps=4)
    assert torch.equal(run(unet, [one], window=16)[0], run(unet, [one], window=None)[0])


def test_every_call_of_the_network_has_the_same_number_of_rows() -> None:
    seen = Pointwise()
    run(seen, JOBS, rows=4, window=16)
    assert {shape[0] for shape in seen.calls} == {8} and {shape[2] for shape in seen.calls} == {16}


# -- progress and cancelling ------------------------------------------------------------------------------------------
def test_progress_counts_every_step_up_to_the_last(unet: nn.Module) -> None:
    seen: list[Progress] = []
    run(unet, [job(0, steps=2), job(1, steps=6)], on_progress=seen.append)
    assert [(p.step, p.of) for p in seen] == [(i, 6) for i in range(1, 7)]
    assert seen[-1].eta_s == 0 and all(p.eta_s is not None and p.eta_s >= 0 for p in seen)


@pytest.mark.parametrize("solver", ["heun", "pndm"])
def test_solvers_that_call_more_often_than_they_step_still_end_at_one(solver: str) -> None:
    seen: list[Progress] = []
    network = Pointwise()
    denoise(network, [job(0, steps=6)], scheduler(solver), rows=1, window=None, overlap=0, on_progress=seen.append)
    assert len(network.calls) > 6
    assert seen[-1].step == seen[-1].of == 6


def test_cancelling_stops_within_one_step() -> None:
    network, seen = Pointwise(), list[Progress]()
    with pytest.raises(Cancelled):
        run(network, [job(0, steps=50)], on_progress=seen.append, cancelled=lambda: len(seen) >= 3)
    assert len(network.calls) == 3


def test_a_job_that_is_done_waits_unchanged() -> None:
    network = Pointwise()
    short, _ = run(network, [job(0, steps=1), job(1, steps=5)], rows=2)
    assert torch.equal(short, run(Pointwise(), [job(0, steps=1)], rows=2)[0])
    assert len(network.calls) == 5


class Echo(nn.Module):
    """Predicts its control: what a job is given beside the latent comes out where it was given."""

    def forward(self, sample: Tensor, timestep: Tensor, **conditions: Tensor) -> SimpleNamespace:
        assert sample.shape[1] == 5, "four latent channels and one of control"
        return SimpleNamespace(sample=sample[:, 4:].expand(-1, 4, -1, -1))


def test_a_control_reaches_every_window_at_its_own_place() -> None:
    ramps = [curve[None, :, None].expand(1, 40, BINS) for curve in (torch.linspace(0, 1, 40), torch.linspace(1, 0, 40))]
    jobs = [replace(job(i, frames=40, steps=1), control=ramp) for i, ramp in enumerate(ramps)]

    made = denoise(Echo(), jobs, scheduler("ddim"), rows=2, window=16, overlap=4)
    for latent, curve, given in zip(made, ramps, jobs, strict=True):
        own = scheduler("ddim")()
        own.set_timesteps(1)
        wanted = own.step(curve.expand(4, -1, -1)[None], own.timesteps[0], given.noise[None]).prev_sample[0]
        assert torch.allclose(latent, wanted, atol=1e-6)


class Straight:
    """A solver of plain tensor arithmetic, x - v / steps: on the meta device nothing may be read, only where tensors lie is known."""

    init_noise_sigma = 1.0

    def set_timesteps(self, steps: int, device: torch.device | None = None) -> None:
        self.timesteps = torch.linspace(999, 0, steps, device=device)

    def scale_model_input(self, latent: Tensor, t: Tensor) -> Tensor:
        return latent

    def add_noise(self, latent: Tensor, noise: Tensor, t: Tensor) -> Tensor:
        return latent + noise * (t / 1000)

    def step(self, predicted: Tensor, t: Tensor, latent: Tensor) -> SimpleNamespace:
        return SimpleNamespace(prev_sample=latent - predicted * ((t + 1) / 1000 / len(self.timesteps)))


class Everywhere(nn.Module):
    """Mixes all that the network is given, so that a tensor left on another device stops it."""

    def forward(self, sample: Tensor, timestep: Tensor, **conditions: Tensor) -> SimpleNamespace:
        said = sum(states.float().mean(dim=tuple(range(1, states.ndim))) for states in conditions.values())
        return SimpleNamespace(sample=sample[:, :4] * (timestep / 1000 + said)[:, None, None, None])


def elsewhere(one: Job, device: str) -> Job:
    def moved(condition: Condition) -> Condition:
        return Condition(condition.name, condition.states.to(device), condition.mask.to(device))

    known = one.known
    if known is not None and known.free is not None:
        known = engine.Known(known.latent.to(device), known.strength, known.free.to(device))
    return replace(
        one,
        noise=one.noise.to(device),
        loa=moved(one.loa),
        text=moved(one.text),
        null_loa=moved(one.null_loa),
        null_text=moved(one.null_text),
        known=known,
    )


def test_all_that_the_loop_makes_lies_where_the_noise_lies() -> None:
    """The meta device stands for a card: arithmetic between it and the processor is refused, as it is there."""
    edited = replace(job(3, frames=40), known=engine.Known(torch.zeros(4, 40, BINS), free=torch.arange(40) < 20))
    jobs = [job(0, steps=2), job(1, frames=40), edited]
    with pytest.raises(RuntimeError, match="device"):
        denoise(Everywhere(), [*(elsewhere(one, "meta") for one in jobs[:2]), jobs[2]], Straight, rows=2, window=16, overlap=4)
    made = denoise(Everywhere(), [elsewhere(one, "meta") for one in jobs], Straight, rows=2, window=16, overlap=4)
    assert [z.device.type for z in made] == ["meta"] * 3 and [z.shape for z in made] == [one.noise.shape for one in jobs]


@pytest.mark.gpu
@pytest.mark.parametrize("solver", SOLVERS)
def test_a_card_makes_what_the_processor_makes(solver: str) -> None:
    jobs = [job(0, steps=6), job(1, frames=40, steps=4)]
    here = denoise(Everywhere(), jobs, scheduler(solver), rows=2, window=16, overlap=4)
    there = denoise(Everywhere(), [elsewhere(one, "cuda") for one in jobs], scheduler(solver), rows=2, window=16, overlap=4)
    for ours, theirs in zip(here, there, strict=True):
        assert torch.allclose(ours, theirs.cpu(), atol=1e-4 * float(ours.abs().max()))
