"""Small pictures of sounds and figures for a page: spectrograms as PNG, a scatter and whiskers as SVG. No plotting library."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

import numpy as np
from PIL import Image

from media.audio import Audio, resample
from media.mel import MelSpec, log_mel

RANGE_DB = 70.0
WIDTH, HEIGHT = 220, 64  # pixels
# A dark ground through violet and orange to a pale yellow: even in lightness, so that it reads in grey as well.
_STOPS = np.array([[12, 10, 30], [60, 20, 95], [130, 35, 110], [200, 65, 85], [240, 125, 60], [250, 195, 110], [252, 245, 200]], float)


def palette() -> list[int]:
    """256 colours, flat, as Pillow takes them."""
    at = np.linspace(0, len(_STOPS) - 1, 256)
    columns = [np.interp(at, np.arange(len(_STOPS)), _STOPS[:, channel]) for channel in range(3)]
    return [int(value) for value in np.stack(columns, 1).round().ravel()]


_PALETTE = palette()


def spectrogram(audio: Audio, width: int = WIDTH, height: int = HEIGHT) -> np.ndarray:
    """Log-mel picture [height, width] uint8, low frequencies at the bottom, 70 dB below the loudest cell is 0."""
    mono = resample(audio.mono(), MelSpec().sample_rate).samples[0]
    mono = np.pad(mono, (0, max(0, 1024 - len(mono))))
    hop = max(1, len(mono) // width)
    level = log_mel(mono, MelSpec(hop=hop)) * (20 / math.log(10))
    level = level[np.linspace(0, len(level) - 1, width).round().astype(int)]
    scaled = np.clip((level - level.max()) / RANGE_DB + 1, 0, 1) if level.max() > -99 else np.zeros_like(level)
    return np.ascontiguousarray((scaled.T[::-1] * 255).round().astype(np.uint8))


def png(grey: np.ndarray) -> bytes:
    """A picture [H, W] uint8 in the palette's colours, 32 of them: a third of the bytes, and no eye sees it."""
    image = Image.fromarray((grey // 8 * 8 + 4).astype(np.uint8), mode="P")
    image.putpalette(_PALETTE)
    buffer = io.BytesIO()
    image.save(buffer, "PNG", optimize=False, compress_level=6)
    return buffer.getvalue()


# -- SVG ----------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Dot:
    """A system in a scatter; ``low`` and ``high`` are its interval, NaN for none."""

    label: str
    x: float
    y: float
    low: float = math.nan
    high: float = math.nan


def whisker(value: float, low: float, high: float, span: tuple[float, float], width: int = 84) -> str:
    """A dot on its interval, placed on the span that its column shares."""
    start, end = span
    scale = (width - 8) / ((end - start) or 1.0)
    at, left, right = (4 + (x - start) * scale for x in (value, low, high))
    return (
        f'<svg class="whisker" viewBox="0 0 {width} 10" width="{width}" height="10" aria-hidden="true">'
        f'<line x1="{left:.1f}" x2="{right:.1f}" y1="5" y2="5"/><circle cx="{at:.1f}" cy="5" r="3"/></svg>'
    )


def ticks(low: float, high: float, count: int = 5) -> list[float]:
    """Round numbers within [low, high].

    >>> ticks(0.13, 0.58)
    [0.2, 0.3, 0.4, 0.5]
    """
    if not high > low:
        return [low]
    raw = (high - low) / count
    step = 10 ** math.floor(math.log10(raw))
    step *= next(factor for factor in (1, 2, 5, 10) if factor * step >= raw)
    first = math.ceil(low / step - 1e-9)
    return [round(number * step, 12) for number in range(first, math.floor(high / step + 1e-9) + 1)]


def _powers(low: float, high: float) -> list[float]:
    found = [m * 10.0**p for p in range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1) for m in (1, 2, 5)]
    return [x for x in found if low <= x <= high]


def scatter(dots: Sequence[Dot], x_title: str, y_title: str, width: int = 560, height: int = 340) -> str:
    """Cost to the right (a logarithmic axis), quality upwards, each system with its interval and its name."""
    left, right, top, bottom = 56, 18, 16, 44
    xs = [dot.x for dot in dots]
    ys = [y for dot in dots for y in (dot.y, dot.low, dot.high) if not math.isnan(y)]
    x_low, x_high = min(xs) / 1.35, max(xs) * 1.6
    pad = (max(ys) - min(ys)) * 0.1 or abs(max(ys)) * 0.1 or 1.0
    y_low, y_high = min(ys) - pad, max(ys) + pad

    def px(x: float) -> float:
        return left + (math.log(x) - math.log(x_low)) / (math.log(x_high) - math.log(x_low)) * (width - left - right)

    def py(y: float) -> float:
        return height - bottom - (y - y_low) / (y_high - y_low) * (height - top - bottom)

    parts = [f'<svg class="scatter" viewBox="0 0 {width} {height}" role="img" aria-label="{escape(y_title)} over {escape(x_title)}">']
    for y in ticks(y_low, y_high):
        parts.append(f'<line class="grid" x1="{left}" x2="{width - right}" y1="{py(y):.1f}" y2="{py(y):.1f}"/>')
        parts.append(f'<text class="tick" x="{left - 7}" y="{py(y) + 4:.1f}" text-anchor="end">{y:g}</text>')
    for x in _powers(x_low, x_high) or [xs[0]]:
        parts.append(f'<line class="grid" x1="{px(x):.1f}" x2="{px(x):.1f}" y1="{top}" y2="{height - bottom}"/>')
        parts.append(f'<text class="tick" x="{px(x):.1f}" y="{height - bottom + 17}" text-anchor="middle">{x:g}</text>')
    taken: list[tuple[float, float, float]] = []
    for dot in sorted(dots, key=lambda d: (d.y, d.label)):
        x, y = px(dot.x), py(dot.y)
        if not math.isnan(dot.low):
            parts.append(f'<line class="reach" x1="{x:.1f}" x2="{x:.1f}" y1="{py(dot.low):.1f}" y2="{py(dot.high):.1f}"/>')
        parts.append(f'<circle class="dot" cx="{x:.1f}" cy="{y:.1f}" r="5"><title>{escape(dot.label)}: {dot.y:.4g}</title></circle>')
        wide = 6.6 * min(len(dot.label), 22)
        before = x + 10 + wide > width - right
        at = x - 10 - wide if before else x + 10
        line = y + 4
        while (
            any(abs(line - other) < 13 and at < end and start < at + wide for start, end, other in taken)
            and line < height - bottom + 40
        ):
            line += 4 if line >= y + 4 else -4
        taken.append((at, at + wide, line))
        name = dot.label if len(dot.label) <= 22 else dot.label[:21] + "…"
        anchor, tx = ("end", x - 10) if before else ("start", x + 10)
        parts.append(f'<text class="name" x="{tx:.1f}" y="{line:.1f}" text-anchor="{anchor}">{escape(name)}</text>')
    parts.append(f'<text class="axis" x="{(left + width - right) / 2}" y="{height - 6}" text-anchor="middle">{escape(x_title)}</text>')
    parts.append(f'<text class="axis" x="14" y="{(top + height - bottom) / 2}" text-anchor="middle" '
                 f'transform="rotate(-90 14 {(top + height - bottom) / 2})">{escape(y_title)}</text></svg>')  # fmt: skip
    return "".join(parts)
