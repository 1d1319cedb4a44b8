"""The mathematics of diffusion, from q(x_t | x_0) to a sample: the lecture in one file.

Pure functions of tensors, of any dtype and device; randomness is handed in. Knows Gaussians and noise schedules. Does not
know networks, latents, sounds or conditions.

Letters are the papers': x0 is data, eps ~ N(0, 1), beta_t the variance that step t adds, alpha_bar_t = prod_{i<=t} (1 - beta_i).
Times are the papers' too: t = 1..T, and t = 0 is data with alpha_bar_0 = 1; the timestep that a U-Net or a diffusers scheduler
counts is t - 1. ``alpha_bar`` is the whole table [T + 1], ``alpha_bar_t`` its value at t (scalar, or shaped to broadcast against x:
see ``per_row``), ``alpha_bar_s`` that at an earlier s < t: one step back where s = t - 1, a stride where it is less.

Ho 2020: "Denoising Diffusion Probabilistic Models". Luo 2022: "Understanding Diffusion Models: A Unified Perspective".
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

CONDITION_DROPOUT = 0.1  # share of the training rows that lose their condition (AudioLDM 2, as Ho & Salimans 2022)
GUIDANCE = 3.5  # scale at inference (AudioLDM 2)


class Gaussian(NamedTuple):
    """Independent normal variables: mean [...] and variance (not standard deviation), which broadcasts against it."""

    mean: Tensor
    var: Tensor

    def log_prob(self, x: Tensor) -> Tensor:
        """Log-density of each element of x [...], in nats."""
        return -0.5 * ((x - self.mean) ** 2 / self.var + self.var.log() + math.log(2 * math.pi))


def kl(p: Gaussian, q: Gaussian) -> Tensor:
    """KL(p || q) of each element, in nats; 0 where they agree."""
    ratio = p.var / q.var
    return 0.5 * (ratio - 1 - ratio.log() + (p.mean - q.mean) ** 2 / q.var)


# ------------------------------------------------------------------------------------------------- 1. Noise schedules


def linear_betas(steps: int = 1000, start: float = 1e-4, end: float = 0.02) -> Tensor:
    """beta_1..beta_T in equal steps, [T] float64. Ho 2020, section 4."""
    return torch.linspace(start, end, steps, dtype=torch.float64)


def scaled_linear_betas(steps: int = 1000, start: float = 0.0015, end: float = 0.0195) -> Tensor:
    """Linear in sqrt(beta), [T] float64: latent diffusion's schedule, with AudioLDM's numbers."""
    return torch.linspace(start**0.5, end**0.5, steps, dtype=torch.float64) ** 2


def cosine_betas(steps: int = 1000, offset: float = 0.008, largest: float = 0.999) -> Tensor:
    """alpha_bar falls as a squared cosine, [T] float64. Nichol & Dhariwal 2021, eq. 17."""
    share = torch.linspace(0, 1, steps + 1, dtype=torch.float64)
    alpha_bar = torch.cos((share + offset) / (1 + offset) * math.pi / 2) ** 2
    return (1 - alpha_bar[1:] / alpha_bar[:-1]).clamp(max=largest)


def zero_terminal_snr(betas: Tensor) -> Tensor:
    """The schedule [T] stretched so that x_T is noise alone: alpha_bar_1 stays, alpha_bar_T is 0. Lin 2024, algorithm 1.

    A network must then predict v or x0: at T, eps is x_T itself and says nothing about x0.
    """
    root = alpha_bars(betas)[1:].sqrt()
    root = (root - root[-1]) * root[0] / (root[0] - root[-1])
    return 1 - torch.cat([root[:1], root[1:] / root[:-1]]) ** 2


def alpha_bars(betas: Tensor) -> Tensor:
    """alpha_bar_0 = 1 .. alpha_bar_T [T + 1] from beta_1..beta_T [T]; ``[1:]`` is diffusers' ``alphas_cumprod``."""
    return torch.cat([torch.ones_like(betas[:1]), torch.cumprod(1 - betas, 0)])


def per_row(table: Tensor, t: Tensor, x: Tensor) -> Tensor:
    """table[t] for each row's t [B], shaped [B, 1, ...] to broadcast against x [B, ...]."""
    return table[t].reshape(-1, *[1] * (x.ndim - 1))


def snr(alpha_bar_t: Tensor) -> Tensor:
    """Signal-to-noise ratio alpha_bar / (1 - alpha_bar): infinite at t = 0. Kingma 2021, eq. 2."""
    return alpha_bar_t / (1 - alpha_bar_t)


# ------------------------------------------------------------------------------------------------------- 2. Forward


def forward(x0: Tensor, alpha_bar_t: Tensor) -> Gaussian:
    """q(x_t | x_0). Ho 2020, eq. 4."""
    return Gaussian(alpha_bar_t.sqrt() * x0, 1 - alpha_bar_t)


def diffuse(x0: Tensor, eps: Tensor, alpha_bar_t: Tensor) -> Tensor:
    """x_t, the sample of q(x_t | x_0) that eps makes."""
    return alpha_bar_t.sqrt() * x0 + (1 - alpha_bar_t).sqrt() * eps


def transition(xs: Tensor, alpha_bar_t: Tensor, alpha_bar_s: Tensor) -> Gaussian:
    """q(x_t | x_s) for s < t; Ho 2020, eq. 2 where s = t - 1."""
    return forward(xs, alpha_bar_t / alpha_bar_s)


def posterior(xt: Tensor, x0: Tensor, alpha_bar_t: Tensor, alpha_bar_s: Tensor) -> Gaussian:
    """q(x_s | x_t, x_0), Bayes' rule on the two above; a point at s = 0. Ho 2020, eq. 6 and 7 where s = t - 1."""
    alpha = alpha_bar_t / alpha_bar_s
    mean = alpha_bar_s.sqrt() * (1 - alpha) * x0 + alpha.sqrt() * (1 - alpha_bar_s) * xt
    return Gaussian(mean / (1 - alpha_bar_t), (1 - alpha) * (1 - alpha_bar_s) / (1 - alpha_bar_t))


def chain(x0: Tensor, eps: Tensor, alpha_bar: Tensor) -> list[Tensor]:
    """x_0, x_1, .. x_T of one walk of q, each like x0 [...]; eps [T, ...] is the noise of each step."""
    xs = [x0]
    for t, noise in enumerate(eps, start=1):
        xs.append(diffuse(xs[-1], noise, alpha_bar[t] / alpha_bar[t - 1]))
    return xs


# --------------------------------------------------------------------------------------- 3. What a network may predict


class Estimate(NamedTuple):
    """One prediction in two forms that determine each other through x_t = sqrt(alpha_bar) x0 + sqrt(1 - alpha_bar) eps.

    The ``from_*`` read a network's output, ``velocity(*estimate, ...)``, ``mu`` and ``score`` write the other forms.
    """

    x0: Tensor
    eps: Tensor


def from_x0(x0: Tensor, xt: Tensor, alpha_bar_t: Tensor) -> Estimate:
    """The estimate of a network that predicts x0. Raises ValueError at t = 0, where no noise is left to be told."""
    if bool((alpha_bar_t == 1).any()):
        raise ValueError("alpha_bar is 1: x_t is data and holds no eps; ask for t >= 1")
    return Estimate(x0, (xt - alpha_bar_t.sqrt() * x0) / (1 - alpha_bar_t).sqrt())


def from_eps(eps: Tensor, xt: Tensor, alpha_bar_t: Tensor) -> Estimate:
    """The estimate of a network that predicts eps (Ho 2020, eq. 15). Raises ValueError where the SNR is 0."""
    if bool((alpha_bar_t == 0).any()):
        raise ValueError("alpha_bar is 0: x_t is noise alone and its eps says nothing about x0; predict v or x0")
    return Estimate((xt - (1 - alpha_bar_t).sqrt() * eps) / alpha_bar_t.sqrt(), eps)


def from_v(v: Tensor, xt: Tensor, alpha_bar_t: Tensor) -> Estimate:
    """The estimate of a network that predicts v; divides by nothing, so it holds at every t. Salimans & Ho 2022, app. D."""
    signal, noise = alpha_bar_t.sqrt(), (1 - alpha_bar_t).sqrt()
    return Estimate(signal * xt - noise * v, signal * v + noise * xt)


def from_mu(mu: Tensor, xt: Tensor, alpha_bar_t: Tensor, alpha_bar_s: Tensor) -> Estimate:
    """The estimate of a network that predicts the mean of x_s given x_t; ``posterior`` solved for x0."""
    alpha = alpha_bar_t / alpha_bar_s
    x0 = mu * (1 - alpha_bar_t) - alpha.sqrt() * (1 - alpha_bar_s) * xt
    return from_x0(x0 / (alpha_bar_s.sqrt() * (1 - alpha)), xt, alpha_bar_t)


def velocity(x0: Tensor, eps: Tensor, alpha_bar_t: Tensor) -> Tensor:
    """v = sqrt(alpha_bar) eps - sqrt(1 - alpha_bar) x0. Salimans & Ho 2022, app. D."""
    return alpha_bar_t.sqrt() * eps - (1 - alpha_bar_t).sqrt() * x0


def mu(estimate: Estimate, xt: Tensor, alpha_bar_t: Tensor, alpha_bar_s: Tensor) -> Tensor:
    """The mean of p(x_s | x_t): the posterior's, with the estimate in the place of x0. Ho 2020, eq. 11."""
    return posterior(xt, estimate.x0, alpha_bar_t, alpha_bar_s).mean


def score(eps: Tensor, alpha_bar_t: Tensor) -> Tensor:
    """The gradient of log q(x_t) that an eps stands for. Song 2021; Luo 2022, eq. 151."""
    return -eps / (1 - alpha_bar_t).sqrt()


# ------------------------------------------------------------------------------------ 4. The evidence lower bound (ELBO)

Reverse = Callable[[Tensor, int], Gaussian]  # (x_t, t) -> p(x_{t-1} | x_t)


class Bound(NamedTuple):
    """A Monte Carlo estimate of a bound below log p(x0), in nats per element of x0."""

    reconstruction: Tensor  # log p(x_0 | x_1)
    prior_matching: Tensor
    matching: Tensor  # [T - 1, ...], the terms of the steps between

    @property
    def value(self) -> Tensor:
        return self.reconstruction - self.prior_matching - self.matching.sum(0)


def standard_normal(like: Tensor) -> Gaussian:
    """p(x_T)."""
    return Gaussian(torch.zeros_like(like), torch.ones_like(like))


def denoising_bound(xs: Sequence[Tensor], reverse: Reverse, alpha_bar: Tensor) -> Bound:
    """The form to train with: each term averages over x_t alone. Ho 2020, eq. 5; Luo 2022, eq. 58.

    log p(x_0 | x_1) - KL(q(x_T | x_0) || p(x_T)) - sum_{t=2..T} KL(q(x_{t-1} | x_t, x_0) || p(x_{t-1} | x_t))

    Args:
        xs: x_0..x_T from ``chain``.
    """
    x0, last = xs[0], len(xs) - 1
    matching = torch.stack([kl(posterior(xs[t], x0, alpha_bar[t], alpha_bar[t - 1]), reverse(xs[t], t)) for t in range(2, last + 1)])
    prior = kl(forward(x0, alpha_bar[last]), standard_normal(x0))
    return Bound(reverse(xs[1], 1).log_prob(x0), prior, matching)


def consistency_bound(xs: Sequence[Tensor], reverse: Reverse, alpha_bar: Tensor) -> Bound:
    """The first form of the same bound: each term averages over two random variables, x_{t-1} and x_{t+1}.

    So a term has the larger variance, and so has the bound where each term has draws of its own, or where one t is drawn per
    row as in training. (On one shared walk the errors of neighbours cancel in part: there the order may turn.)

    Luo 2022 goes from E[log q(x_t | x_{t-1}) - log p(x_t | x_{t+1})] over all three (eq. 44) to the mean over two of
    KL(q(x_t | x_{t-1}) || p(x_t | x_{t+1})) (eq. 45). That takes x_t and x_{t+1} as independent given x_{t-1}, which they are not,
    and is another number (the tests measure it). Here x_t is integrated out exactly, over r = q(x_t | x_{t-1}, x_{t+1}):
    KL(r || p(x_t | x_{t+1})) - KL(r || q(x_t | x_{t-1})).
    """
    x0, last = xs[0], len(xs) - 1

    def term(t: int) -> Tensor:
        before, now, after = alpha_bar[t - 1], alpha_bar[t], alpha_bar[t + 1]
        between = posterior(xs[t + 1], xs[t - 1], after / before, now / before)
        return kl(between, reverse(xs[t + 1], t + 1)) - kl(between, transition(xs[t - 1], now, before))

    matching = torch.stack([term(t) for t in range(1, last)])
    prior = kl(transition(xs[last - 1], alpha_bar[last], alpha_bar[last - 1]), standard_normal(x0))
    return Bound(reverse(xs[1], 1).log_prob(x0), prior, matching)


# ---------------------------------------------------------------------------------------- 5. Losses and their weights


def simple_loss(predicted: Tensor, eps: Tensor) -> Tensor:
    """L_simple: every t weighs the same. A scalar. Ho 2020, eq. 14."""
    return (predicted - eps).pow(2).mean()


def weighted_loss(predicted: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    """Mean of weight * squared error; weight broadcasts against the target [B, ...]. A scalar."""
    return (weight * (predicted - target).pow(2)).mean()


# KL(q(x_s | x_t, x_0) || p(x_s | x_t)) = weight * squared error, per element, where p has the posterior's variance. Infinite at
# s = 0: that term of the bound is the reconstruction, which has no KL.


def kl_weight_x0(alpha_bar_t: Tensor, alpha_bar_s: Tensor) -> Tensor:
    """(SNR_s - SNR_t) / 2. Kingma 2021, the loss in discrete time."""
    return (snr(alpha_bar_s) - snr(alpha_bar_t)) / 2


def kl_weight_eps(alpha_bar_t: Tensor, alpha_bar_s: Tensor) -> Tensor:
    """(SNR_s / SNR_t - 1) / 2. Ho 2020, eq. 12 with sigma^2 the posterior's variance."""
    return (snr(alpha_bar_s) / snr(alpha_bar_t) - 1) / 2


def kl_weight_v(alpha_bar_t: Tensor, alpha_bar_s: Tensor) -> Tensor:
    """(SNR_s - SNR_t) / (2 (SNR_t + 1)): an error of v is that of x0 over sqrt(1 - alpha_bar)."""
    return kl_weight_x0(alpha_bar_t, alpha_bar_s) * (1 - alpha_bar_t)


def kl_weight_mu(alpha_bar_t: Tensor, alpha_bar_s: Tensor) -> Tensor:
    """1 / (2 sigma^2). Ho 2020, eq. 8."""
    return (1 - alpha_bar_t) / (2 * (1 - alpha_bar_t / alpha_bar_s) * (1 - alpha_bar_s))


def min_snr_weight_x0(alpha_bar_t: Tensor, gamma: float = 5.0) -> Tensor:
    """min(SNR, gamma): steps that are nearly clean no longer drown the others. Hang 2023."""
    return snr(alpha_bar_t).clamp(max=gamma)


def min_snr_weight_eps(alpha_bar_t: Tensor, gamma: float = 5.0) -> Tensor:
    """min(SNR, gamma) / SNR, and its limit 1 where the SNR is 0. Hang 2023."""
    return (gamma / snr(alpha_bar_t)).clamp(max=1)


def min_snr_weight_v(alpha_bar_t: Tensor, gamma: float = 5.0) -> Tensor:
    """min(SNR, gamma) / (SNR + 1). Hang 2023."""
    return min_snr_weight_x0(alpha_bar_t, gamma) * (1 - alpha_bar_t)


# ----------------------------------------------------------------------------------------- 6. Classifier-free guidance


def dropped(batch: int, generator: torch.Generator, share: float = CONDITION_DROPOUT) -> Tensor:
    """Which rows train without their condition: [B] bool, on the generator's device. Ho & Salimans 2022, algorithm 1."""
    return torch.rand(batch, generator=generator, device=generator.device) < share


def without(condition: Tensor, rows: Tensor, nothing: Tensor) -> Tensor:
    """The condition [B, ...] with ``nothing`` (broadcasts against it) in the given rows [B] bool."""
    return torch.where(rows.reshape(-1, *[1] * (condition.ndim - 1)), nothing, condition)


def guided(conditional: Tensor, unconditional: Tensor, scale: float = GUIDANCE) -> Tensor:
    """(w + 1) eps(x, y) - w eps(x) with scale = w + 1, so that 1 is no guidance. Ho & Salimans 2022, eq. 6.

    Linear, with coefficients that sum to 1: it may as well be applied to v, x0, mu or the score.
    """
    return unconditional + scale * (conditional - unconditional)


# ------------------------------------------------------------------------------------------------------- 7. Sampling

Denoise = Callable[[Tensor, int], Estimate]  # (x_t, t) -> what it is made of


def ddpm_step(estimate: Estimate, xt: Tensor, alpha_bar_t: Tensor, alpha_bar_s: Tensor, noise: Tensor) -> Tensor:
    """x_s from x_t by the posterior of the estimate; noise is like xt and has no effect at s = 0. Ho 2020, algorithm 2."""
    step = posterior(xt, estimate.x0, alpha_bar_t, alpha_bar_s)
    return step.mean + step.var.sqrt() * noise


def ddim_step(estimate: Estimate, alpha_bar_t: Tensor, alpha_bar_s: Tensor, eta: float, noise: Tensor) -> Tensor:
    """x_s from x_t; eta 0 adds no noise, eta 1 is ``ddpm_step``. Song 2021 (DDIM), eq. 12 and 16."""
    var = eta**2 * (1 - alpha_bar_s) / (1 - alpha_bar_t) * (1 - alpha_bar_t / alpha_bar_s)
    # Rounding may leave -1e-17 where eta is 1 and x_t is noise alone.
    direction = (1 - alpha_bar_s - var).clamp(min=0).sqrt() * estimate.eps
    return alpha_bar_s.sqrt() * estimate.x0 + direction + var.sqrt() * noise


def sample_ddpm(denoise: Denoise, xT: Tensor, alpha_bar: Tensor, times: Sequence[int], generator: torch.Generator) -> Tensor:
    """x_0 from x_T ~ N(0, 1) by ancestral sampling; times fall from T, the last step leads to 0."""
    x = xT
    for t, s in zip(times, [*times[1:], 0], strict=True):
        noise = torch.randn(x.shape, generator=generator, dtype=x.dtype, device=x.device)
        x = ddpm_step(denoise(x, t), x, alpha_bar[t], alpha_bar[s], noise)
    return x


def sample_ddim(denoise: Denoise, xT: Tensor, alpha_bar: Tensor, times: Sequence[int]) -> Tensor:
    """x_0 from x_T ~ N(0, 1) without further randomness (eta 0); times fall from T, the last step leads to 0."""
    x = xT
    for t, s in zip(times, [*times[1:], 0], strict=True):
        x = ddim_step(denoise(x, t), alpha_bar[t], alpha_bar[s], 0.0, torch.zeros_like(x))
    return x
