"""BigVGAN: mel to waveform by periodic activations that do not alias (Lee et al. 2023, arXiv:2206.04658).

Knows mels and waveforms. Does not know which system a mel comes from. Weight norm, with which the public files were trained, is folded
into plain weights on loading; all other names are those of the files.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Literal

import torch
import torch.nn.functional as F
from pydantic import BaseModel, ConfigDict, model_validator
from torch import Tensor, nn

TAPS = 12  # of the low-pass filters before and after an activation, which runs at twice the rate


class BigVganConfig(BaseModel):
    """What ``args.yml`` beside the weights says of the generator; its training settings are ignored."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    num_mels: int = 80
    upsample_initial_channel: int = 1536
    upsample_rates: tuple[int, ...] = (4, 4, 2, 2, 2, 2)
    upsample_kernel_sizes: tuple[int, ...] = (8, 8, 4, 4, 4, 4)
    resblock: Literal["1"] = "1"
    resblock_kernel_sizes: tuple[int, ...] = (3, 7, 11)
    resblock_dilation_sizes: tuple[tuple[int, ...], ...] = ((1, 3, 5), (1, 3, 5), (1, 3, 5))
    activation: Literal["snake", "snakebeta"] = "snakebeta"
    snake_logscale: bool = True

    @model_validator(mode="after")
    def _pairs(self) -> BigVganConfig:
        if len(self.upsample_rates) != len(self.upsample_kernel_sizes):
            raise ValueError("upsample_rates and upsample_kernel_sizes must be of one length")
        if len(self.resblock_kernel_sizes) != len(self.resblock_dilation_sizes):
            raise ValueError("resblock_kernel_sizes and resblock_dilation_sizes must be of one length")
        return self

    @property
    def hop(self) -> int:
        """Samples a mel frame."""
        return math.prod(self.upsample_rates)


def lowpass(taps: int = TAPS, cutoff: float = 0.25, half_width: float = 0.3) -> Tensor:
    """A windowed sinc [1, 1, taps] that sums to one; ``cutoff`` and the half width of its transition are shares of the sample rate.

    The Kaiser window's beta follows the attenuation that the length allows (Kaiser 1974; Oppenheim & Schafer, equations 7.75 and 7.76).
    """
    attenuation = 2.285 * (taps // 2 - 1) * math.pi * 4 * half_width + 7.95  # dB
    if attenuation > 50:
        beta = 0.1102 * (attenuation - 8.7)
    elif attenuation >= 21:
        beta = 0.5842 * (attenuation - 21) ** 0.4 + 0.07886 * (attenuation - 21)
    else:
        beta = 0.0
    times = torch.arange(taps) - (taps - 1) / 2
    taps_ = 2 * cutoff * torch.kaiser_window(taps, periodic=False, beta=beta) * torch.sinc(2 * cutoff * times)
    return (taps_ / taps_.sum()).view(1, 1, -1)


class _Filter(nn.Module):
    """Holds a low-pass filter, as the files do."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("filter", lowpass())

    def for_each(self, channels: int) -> Tensor:
        return self.get_buffer("filter").expand(channels, -1, -1)


class _Down(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lowpass = _Filter()


class Snake(nn.Module):
    """x + sin²(alpha x) / beta per channel (Ziyin et al. 2020); ``snake`` has one parameter for both. [B, C, T] to the same."""

    def __init__(self, channels: int, own_beta: bool, log_scale: bool) -> None:
        super().__init__()
        start = torch.zeros(channels) if log_scale else torch.ones(channels)
        self.log_scale = log_scale
        self.alpha = nn.Parameter(start)
        self.beta = nn.Parameter(start.clone()) if own_beta else None

    def forward(self, x: Tensor) -> Tensor:
        frequency, height = self.alpha[:, None], (self.alpha if self.beta is None else self.beta)[:, None]
        if self.log_scale:
            frequency, height = frequency.exp(), height.exp()
        return x + torch.sin(x * frequency).square() / (height + 1e-9)


class AntiAliased(nn.Module):
    """An activation at twice the sample rate: its overtones above the old limit are cut off, not folded back. [B, C, T] to the same."""

    def __init__(self, act: nn.Module) -> None:
        super().__init__()
        self.act = act
        self.upsample = _Filter()
        self.downsample = _Down()

    def forward(self, x: Tensor) -> Tensor:
        channels = x.shape[1]
        edge = TAPS // 2 - 1
        wide = F.pad(x, (edge, edge), mode="replicate")
        double = 2 * F.conv_transpose1d(wide, self.upsample.for_each(channels), stride=2, groups=channels)
        cut = 2 * edge + (TAPS - 2) // 2
        double = self.act(double[..., cut:-cut])
        double = F.pad(double, (edge, TAPS // 2), mode="replicate")
        return F.conv1d(double, self.downsample.lowpass.for_each(channels), stride=2, groups=channels)


class AmpBlock(nn.Module):
    """Residual pairs of a dilated and a plain convolution, each after an anti-aliased activation. [B, C, T] to the same."""

    def __init__(self, channels: int, kernel: int, dilations: tuple[int, ...], config: BigVganConfig) -> None:
        super().__init__()

        def conv(dilation: int) -> nn.Conv1d:
            return nn.Conv1d(channels, channels, kernel, dilation=dilation, padding=(kernel - 1) * dilation // 2)

        self.convs1 = nn.ModuleList(conv(dilation) for dilation in dilations)
        self.convs2 = nn.ModuleList(conv(1) for _ in dilations)
        self.activations = nn.ModuleList(_activation(channels, config) for _ in range(2 * len(dilations)))

    def forward(self, x: Tensor) -> Tensor:
        for step, (dilated, plain) in enumerate(zip(self.convs1, self.convs2, strict=True)):
            x = x + plain(self.activations[2 * step + 1](dilated(self.activations[2 * step](x))))
        return x


def _activation(channels: int, config: BigVganConfig) -> AntiAliased:
    return AntiAliased(Snake(channels, config.activation == "snakebeta", config.snake_logscale))


class BigVgan(nn.Module):
    """The generator: mel [B, num_mels, T] to waveform [B, T * hop] in [-1, 1]."""

    def __init__(self, config: BigVganConfig) -> None:
        super().__init__()
        self.config = config
        widths = [config.upsample_initial_channel // 2**level for level in range(len(config.upsample_rates) + 1)]
        self.conv_pre = nn.Conv1d(config.num_mels, widths[0], 7, padding=3)
        self.ups = nn.ModuleList()
        self.resblocks = nn.ModuleList()
        for level, (rate, kernel) in enumerate(zip(config.upsample_rates, config.upsample_kernel_sizes, strict=True)):
            up = nn.ConvTranspose1d(widths[level], widths[level + 1], kernel, rate, padding=(kernel - rate) // 2)
            self.ups.append(nn.ModuleList([up]))  # a list of one: the files count them so
            for size, dilations in zip(config.resblock_kernel_sizes, config.resblock_dilation_sizes, strict=True):
                self.resblocks.append(AmpBlock(widths[level + 1], size, dilations, config))
        self.activation_post = _activation(widths[-1], config)
        self.conv_post = nn.Conv1d(widths[-1], 1, 7, padding=3)

    def forward(self, mel: Tensor) -> Tensor:
        x = self.conv_pre(mel)
        kernels = len(self.config.resblock_kernel_sizes)
        for level, up in enumerate(self.ups):
            x = up[0](x)  # type: ignore[index]  # mypy does not see that the parts are lists
            blocks = list(self.resblocks)[level * kernels : (level + 1) * kernels]
            x = sum((block(x) for block in blocks[1:]), start=blocks[0](x)) / kernels
        return torch.tanh(self.conv_post(self.activation_post(x)))[:, 0]


def empty_bigvgan(folder: Path) -> BigVgan:
    """The generator that ``args.yml`` in a folder describes, without weights (on the meta device).

    Raises:
        ConfigError: it describes another network.
    """
    from configs.schema import read_yaml

    config = read_yaml(folder / "args.yml", BigVganConfig)
    with torch.device("meta"):
        return BigVgan(config)
