"""Critics: networks that learn to tell made from true, and what they say to the network that makes.

Hinge losses (Lim & Ye 2017) and feature matching (Larsen et al. 2016). For waves: critics over periods and over scales (Kong et al.
2020, HiFi-GAN, section 2.3; Kumar et al. 2019, MelGAN). For mels: a critic over patches (Isola et al. 2017). Unaware of who makes.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from typing import NamedTuple

from torch import Tensor, nn
from torch.nn import functional as F

from configs.schema import Adversarial, LoopConfig
from training.loop import Loop

PERIODS = (2, 3, 5, 7, 11)  # samples; primes, so that they share few views of the wave
SCALES = (1, 2, 4)
SLOPE = 0.1


class _Stack(nn.Module):
    """Convolutions whose outputs are the features; the last one holds a score a place."""

    def __init__(self, layers: list[nn.Module]) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.utils.parametrizations.weight_norm(layer) for layer in layers)

    def forward(self, x: Tensor) -> list[Tensor]:
        features = []
        for layer in self.layers[:-1]:
            x = F.leaky_relu(layer(x), SLOPE)
            features.append(x)
        return [*features, self.layers[-1](x)]


class PeriodCritic(_Stack):
    """Waves [B, 1, T] folded to [B, 1, T / period, period]: convolutions along every period-th sample."""

    def __init__(self, period: int, width: int) -> None:
        widths = [1, width, 4 * width, 8 * width, 8 * width]
        down = [nn.Conv2d(a, b, (5, 1), (3, 1), (2, 0)) for a, b in pairwise(widths)]
        super().__init__([*down, nn.Conv2d(widths[-1], 1, (3, 1), 1, (1, 0))])
        self.period = period

    def forward(self, x: Tensor) -> list[Tensor]:
        x = F.pad(x, (0, -x.shape[2] % self.period), "reflect")
        return super().forward(x.unflatten(2, (-1, self.period)))


class ScaleCritic(_Stack):
    """Waves [B, 1, T], averaged over ``scale`` samples: grouped convolutions with long kernels."""

    def __init__(self, scale: int, width: int) -> None:
        groups = max(1, width // 8)
        super().__init__(
            [
                nn.Conv1d(1, width, 15, 1, 7),
                nn.Conv1d(width, 2 * width, 41, 4, 20, groups=groups),
                nn.Conv1d(2 * width, 4 * width, 41, 4, 20, groups=groups),
                nn.Conv1d(4 * width, 8 * width, 41, 4, 20, groups=groups),
                nn.Conv1d(8 * width, 8 * width, 5, 1, 2),
                nn.Conv1d(8 * width, 1, 3, 1, 1),
            ]
        )
        self.scale = scale

    def forward(self, x: Tensor) -> list[Tensor]:
        return super().forward(F.avg_pool1d(x, self.scale) if self.scale > 1 else x)


class PatchCritic(_Stack):
    """Log-mels [B, 1, T, bins] of unit variance: a score for every patch of about 0.5 s x half of the bins."""

    def __init__(self, width: int) -> None:
        widths = [1, width, 2 * width, 4 * width]
        down = [nn.Conv2d(a, b, 4, 2, 1) for a, b in pairwise(widths)]
        super().__init__([*down, nn.Conv2d(widths[-1], 8 * width, 4, 1, 1), nn.Conv2d(8 * width, 1, 4, 1, 1)])


class Critics(nn.Module):
    """Several critics that look at the same thing."""

    def __init__(self, critics: list[nn.Module]) -> None:
        super().__init__()
        self.critics = nn.ModuleList(critics)

    def forward(self, x: Tensor) -> list[list[Tensor]]:
        return [critic(x) for critic in self.critics]


def wave_critics(width: int) -> Critics:
    return Critics([*(PeriodCritic(p, width) for p in PERIODS), *(ScaleCritic(s, width) for s in SCALES)])


def mel_critics(width: int) -> Critics:
    return Critics([PatchCritic(width)])


class Verdict(NamedTuple):
    """Three losses: ``pull`` and ``features`` are for what makes and leave the critics alone, ``critic`` is for the critics alone."""

    pull: Tensor
    features: Tensor
    critic: Tensor


def judge(critics: Critics, true: Tensor, made: Tensor) -> Verdict:
    """What the critics say to ``made``, and what they learn from telling it from ``true``; both of one shape."""
    with frozen(critics):
        heard = critics(made)
    of_true, of_made = critics(true), critics(made.detach())
    count = len(heard)
    pull = sum((-scores[-1].float().mean() for scores in heard), made.new_zeros(())) / count
    learn = made.new_zeros(())
    distance = made.new_zeros(())
    for said, a, b in zip(heard, of_true, of_made, strict=True):
        learn = learn + F.relu(1 - a[-1].float()).mean() + F.relu(1 + b[-1].float()).mean()
        for x, y in zip(said[:-1], a[:-1], strict=True):
            y = y.detach().float()
            distance = distance + (x.float() - y).abs().mean() / (y.abs().mean() + 1e-6) / (len(said) - 1)
    return Verdict(pull, distance / count, learn / count)


def weighed(
    critics: Critics, true: Tensor, made: Tensor, how: Adversarial, loop: Loop[LoopConfig], values: dict[str, Tensor]
) -> Tensor:
    """What a stage adds to its loss where a critic takes part; notes the three losses in ``values`` for the log."""
    with loop.autocast():
        verdict = judge(critics, true, made)
    values.update(verdict._asdict())
    return how.weight * (verdict.pull + how.features * verdict.features) + verdict.critic


@contextmanager
def frozen(module: nn.Module) -> Iterator[None]:
    """What is computed inside sends no gradient to the parameters of ``module``, but through it."""
    wanted = [(parameter, parameter.requires_grad) for parameter in module.parameters()]
    for parameter, _ in wanted:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter, before in wanted:
            parameter.requires_grad_(before)
