"""The denoising loop of our own: many requests at different steps and guidance in one padded batch.

Knows latents, schedulers and a U-Net of AudioLDM 2's signature. Does not know prompts, files or sound. All that it makes lies on the
device of the jobs' noise, where conditions and the network must lie too.

A batch always has the same shape: ``rows`` windows, each once with and once without its condition. Short of requests, it is
filled with copies; a request that needs fewer steps than its neighbours rides along unchanged. So every kernel sees the same
shapes, and a row's numbers do not depend on its neighbours (diffusers pads texts to the longest neighbour, and they do).
Latents longer than one window are denoised as overlapping windows whose predictions are averaged at every step
(MultiDiffusion, Bar-Tal et al. 2023, equation 5 with ramped weights).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from inspect import signature
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from encoders.base import Condition
from generators.base import Cancelled, OnProgress, Progress

SchedulerFactory = Callable[[], Any]


@dataclass(frozen=True)
class Known:
    """A sound that a job starts from instead of noise alone.

    ``latent`` [C, T, F] without noise; ``strength`` is the share of the steps that run (SDEdit, Meng et al. 2022: 0 gives the latent
    back, 1 forgets it); ``free`` [T] bool is where something new may come (None: everywhere). Elsewhere the latent is put back after
    every step, at that step's noise (Lugmayr et al. 2022, equation 8).
    """

    latent: Tensor
    strength: float = 1.0
    free: Tensor | None = None


@dataclass(frozen=True)
class Job:
    """One request, ready to be denoised.

    ``noise`` [C, T, F] start noise of unit variance; ``loa`` [1, N, D1] and ``text`` [1, L, D2] conditions, ``null_loa`` and
    ``null_text`` what stands for "nothing"; ``guidance`` is the scale of
    eps = eps(null) + scale * (eps(condition) - eps(null)), that is w + 1 of Ho & Salimans 2022, equation 6.
    """

    noise: Tensor
    loa: Condition
    text: Condition
    null_loa: Condition
    null_text: Condition
    steps: int
    guidance: float
    generator: torch.Generator | None = None
    eta: float = 0.0
    known: Known | None = None
    control: Tensor | None = None  # [K, T, F], stacked under the latent in every U-Net call (an envelope); guidance leaves it alone


class _View(NamedTuple):
    """One window of one job: ``size`` latent frames from ``start``."""

    job: int
    start: int
    size: int


def window_starts(length: int, window: int, overlap: int) -> list[int]:
    """Where windows of ``window`` frames begin so that they cover ``length`` and overlap by at least ``overlap``.

    >>> window_starts(64, 64, 16), window_starts(120, 64, 16)
    ([0], [0, 28, 56])
    """
    if length <= window:
        return [0]
    count = -(-(length - overlap) // (window - overlap))
    return [round(i * (length - window) / (count - 1)) for i in range(count)]


def ramp(window: int, overlap: int, device: torch.device | None = None) -> Tensor:
    """Weights [window] that rise and fall linearly over the overlap, never zero, so that windows meet without a step."""
    rise = (torch.arange(window, device=device) + 1) / (overlap + 1)
    return torch.minimum(rise, rise.flip(0)).clamp(max=1.0)


@torch.no_grad()
def denoise(
    unet: nn.Module,
    jobs: Sequence[Job],
    scheduler: SchedulerFactory,
    *,
    rows: int,
    window: int | None,
    overlap: int,
    on_progress: OnProgress = lambda _: None,
    cancelled: Callable[[], bool] = lambda: False,
) -> list[Tensor]:
    """Run every job to its end.

    Args:
        unet: called as diffusers' AudioLDM2UNet2DConditionModel, with one timestep per row.
        scheduler: makes a fresh diffusers scheduler; each job has its own, so step counts may differ.
        rows: windows per U-Net call (each counts twice: null and condition).
        window, overlap: latent frames. ``window`` None: every job in one piece, whatever its length.

    Returns: latents [C, T, F] of each job, in order.

    Raises:
        Cancelled: within one step after ``cancelled()`` turned true.
    """
    schedulers, latents, first = [], [], []
    for job in jobs:
        own = scheduler()
        own.set_timesteps(job.steps, device=job.noise.device)
        schedulers.append(own)
        first.append(len(own.timesteps) - round((job.known.strength if job.known else 1.0) * len(own.timesteps)))
        latents.append(_start(own, job, first[-1]))
    views = [view for j, job in enumerate(jobs) for view in _views(j, job.noise.shape[1], window, overlap)]
    total, begun = max(job.steps for job in jobs), time.perf_counter()
    calls = [len(own.timesteps) for own in schedulers]  # PNDM and Heun call more often than they step
    for step in range(min(first), max(calls)):
        if cancelled():
            raise Cancelled
        running = [first[j] <= step < calls[j] for j in range(len(jobs))]
        inputs = [
            own.scale_model_input(z, own.timesteps[step]) if runs else z
            for own, z, runs in zip(schedulers, latents, running, strict=True)
        ]
        active = [view for view in views if running[view.job]]
        times = [own.timesteps[min(max(step, first[j]), n - 1)] for j, (own, n) in enumerate(zip(schedulers, calls, strict=True))]
        predicted = _predict(unet, jobs, active, inputs, times, rows, overlap)
        for j, (job, own) in enumerate(zip(jobs, schedulers, strict=True)):
            if running[j]:
                latents[j] = _put_back(own, job, step, _step(own, predicted[j], step, latents[j], job))
        done = min(total, step + 1)
        on_progress(
            Progress(done, total, (time.perf_counter() - begun) / (done - min(first)) * (total - done) if done > min(first) else None)
        )
    if min(first) == max(calls):  # strength 0 throughout: there was nothing to do
        on_progress(Progress(total, total, 0.0))
    return [z[0] for z in latents]


def _start(own: Any, job: Job, first: int) -> Tensor:
    """What a job's first step sees: noise, or what it knows with the noise of that step."""
    noise: Tensor = job.noise[None] * own.init_noise_sigma
    if job.known is None or first == 0:
        return noise
    if first == len(own.timesteps):
        return job.known.latent[None]
    if hasattr(own, "set_begin_index"):  # solvers that count their steps
        own.set_begin_index(first)
    noisy: Tensor = own.add_noise(job.known.latent[None], job.noise[None], own.timesteps[first : first + 1])
    return noisy


def _put_back(own: Any, job: Job, step: int, latent: Tensor) -> Tensor:
    """The latent after a step, with what is known outside the free frames."""
    if job.known is None or job.known.free is None:
        return latent
    known = job.known.latent[None]
    if step + 1 < len(own.timesteps):
        known = own.add_noise(known, job.noise[None], own.timesteps[step + 1 : step + 2])
    return torch.where(job.known.free[None, None, :, None], latent, known)


def _step(own: Any, predicted: Tensor, step: int, latent: Tensor, job: Job) -> Tensor:
    known = signature(own.step).parameters  # not every solver draws noise
    extra = {name: value for name, value in (("eta", job.eta), ("generator", job.generator)) if name in known}
    return own.step(predicted, own.timesteps[step], latent, **extra).prev_sample


def _views(job: int, length: int, window: int | None, overlap: int) -> list[_View]:
    size = min(length, window or length)
    return [_View(job, start, size) for start in window_starts(length, size, overlap)]


def _predict(
    unet: nn.Module,
    jobs: Sequence[Job],
    views: list[_View],
    inputs: list[Tensor],
    times: list[Tensor],
    rows: int,
    overlap: int,
) -> list[Tensor]:
    """Guided prediction [1, C, T, F] of every job that has views: all its windows through the U-Net, blended."""
    blended = [torch.zeros_like(z) for z in inputs]
    share = [torch.zeros(z.shape[2], device=z.device) for z in inputs]
    for chunk in _chunks(views, rows):
        padded = chunk + [chunk[-1]] * (rows - len(chunk))
        mates = [jobs[view.job] for view in padded]
        z = torch.cat([inputs[view.job][:, :, view.start : view.start + view.size] for view in padded])
        if jobs[padded[0].job].control is not None:
            z = torch.cat([z, torch.stack([_control(jobs[view.job], view) for view in padded])], dim=1)
        t = torch.stack([times[view.job] for view in padded])
        null, conditioned = unet(
            torch.cat([z, z]),
            torch.cat([t, t]),
            encoder_hidden_states=torch.cat([m.null_loa.states for m in mates] + [m.loa.states for m in mates]),
            encoder_attention_mask=torch.cat([m.null_loa.mask for m in mates] + [m.loa.mask for m in mates]),
            encoder_hidden_states_1=torch.cat([m.null_text.states for m in mates] + [m.text.states for m in mates]),
            encoder_attention_mask_1=torch.cat([m.null_text.mask for m in mates] + [m.text.mask for m in mates]),
        ).sample.chunk(2)
        for row, view in enumerate(chunk):
            guided = null[row] + jobs[view.job].guidance * (conditioned[row] - null[row])
            j, s, size = view.job, view.start, view.size
            if size == inputs[j].shape[2]:  # one window covers all: no blending, no rounding
                blended[j], share[j] = guided[None], torch.ones(size, device=guided.device)
            else:
                weights = ramp(size, overlap, guided.device)
                blended[j][0, :, s : s + size] += guided * weights[None, :, None]
                share[j][s : s + size] += weights
    return [total / part[None, None, :, None] for total, part in zip(blended, share, strict=True)]


def _control(job: Job, view: _View) -> Tensor:
    """A window of a job's control [K, size, F]; all jobs of a batch have one, or none has."""
    assert job.control is not None
    return job.control[:, view.start : view.start + view.size]


def _chunks(views: list[_View], rows: int) -> Iterator[list[_View]]:
    """At most ``rows`` views at a time, all of one size."""
    for size in sorted({view.size for view in views}):
        alike = [view for view in views if view.size == size]
        yield from (alike[at : at + rows] for at in range(0, len(alike), rows))
