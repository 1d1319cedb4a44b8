"""Log-mels as pictures, so that a person sees what a network makes. Knows arrays and Pillow; no plotting library."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from media.refs import write_whole

LOWEST, HIGHEST = -11.5, 2.0  # natural logarithm: the floor of media.mel and a loud partial
# Dark violet over red and orange to light yellow; lightness rises evenly, so that grey prints keep the order.
COLOURS = np.array([[4, 2, 30], [82, 18, 124], [182, 54, 121], [251, 135, 97], [252, 253, 191]], np.float32)
GAP = 4  # pixels between pictures


def picture(mel: np.ndarray, zoom: int = 2) -> np.ndarray:
    """One log-mel [T, bins] as RGB uint8 [bins * zoom, T, 3]: time to the right, low tones at the bottom."""
    level = (np.clip(np.nan_to_num(np.asarray(mel, np.float32), nan=LOWEST), LOWEST, HIGHEST) - LOWEST) / (HIGHEST - LOWEST)
    stops = np.linspace(0, 1, len(COLOURS))
    rgb = np.stack([np.interp(level, stops, COLOURS[:, c]) for c in range(3)], axis=-1)
    return rgb.transpose(1, 0, 2)[::-1].repeat(zoom, 0).round().astype(np.uint8)


def stack(mels: Sequence[np.ndarray]) -> np.ndarray:
    """Pictures below each other, RGB uint8; shorter ones end in white."""
    drawn = [picture(mel) for mel in mels]
    sheet = np.full((sum(len(p) + GAP for p in drawn) - GAP, max(p.shape[1] for p in drawn), 3), 255, np.uint8)
    at = 0
    for one in drawn:
        sheet[at : at + len(one), : one.shape[1]] = one
        at += len(one) + GAP
    return sheet


def write_spectrograms(mels: Sequence[np.ndarray], path: Path) -> None:
    """A PNG of log-mels [T, bins], the first on top; whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    data = io.BytesIO()
    Image.fromarray(stack(mels)).save(data, "PNG", optimize=True)
    write_whole(path, data.getvalue())
