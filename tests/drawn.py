"""Random weights drawn by key, the same for a port and for the official code it is compared with: recordings need no weights."""

from __future__ import annotations

import math
import zlib
from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor, nn


def drawn(key: str, shape: tuple[int, ...]) -> Tensor:
    """float32 values that depend on the key and shape alone; norms near one, matrices keep the scale of what goes through them."""
    noise = np.random.default_rng(zlib.crc32(key.encode())).standard_normal(shape)
    if key.endswith("log_logit_scale"):  # the text's is above the cap of 100
        return torch.tensor(math.log(150.0 if ".text." in key else 20.0))
    if key.endswith(("running_var", "norm.weight")) or (len(shape) == 1 and key.endswith("weight")):
        return torch.from_numpy(np.abs(1 + 0.1 * noise).astype(np.float32))
    scale = 1 / math.sqrt(math.prod(shape[1:])) if len(shape) > 1 and min(shape) > 1 else 0.2
    return torch.from_numpy(np.asarray(scale * noise, np.float32))


def draw_into(module: nn.Module, rename: Mapping[str, str] | None = None) -> None:
    """Draw every floating-point tensor of a network anew, but attention masks; ``rename``: own key to the key that is drawn by."""
    with torch.no_grad():
        for key, value in module.state_dict().items():
            if value.is_floating_point() and not key.endswith("mask"):
                value.copy_(drawn((rename or {}).get(key, key), tuple(value.shape)))


def drawn_picture(height: int, width: int, seed: int) -> np.ndarray:
    """Waves of three colours under noise, [H, W, 3] uint8."""
    y, x = np.mgrid[0:height, 0:width] / 64.0
    draw = np.random.default_rng(seed)
    waves = [128 + 100 * np.sin(draw.uniform(1, 9) * x + draw.uniform(1, 9) * y + draw.uniform(0, 6)) for _ in range(3)]
    return (np.stack(waves, -1) + draw.normal(0, 20, (height, width, 3))).clip(0, 255).astype(np.uint8)


def drawn_sound(sample_rate: int, seconds: float, channels: int, seed: int) -> np.ndarray:
    """A rising tone for each channel over noise and a constant, [C, T] float32."""
    t = np.arange(int(sample_rate * seconds)) / sample_rate
    draw = np.random.default_rng(seed)
    tones = [0.3 * np.sin(2 * np.pi * (300 + 200 * k) * t * (1 + 0.1 * t)) for k in range(channels)]
    return np.stack([tone + 0.05 * draw.standard_normal(len(t)) + 0.02 for tone in tones]).astype(np.float32)
