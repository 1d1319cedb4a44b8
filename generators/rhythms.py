"""When known sounds are loud: loudness curves of training clips, of which a prompt that says nothing of time is given one.

A small network that is told nothing of time blurs what is struck, barks or chops into a murmur; told when it is loud, it makes it.
GPT-2 writes what a sound is like (LOA); the curve says when it happens, and is drawn by the seed as the noise is.

Knows names, curves and one file. Does not know networks.
"""

from __future__ import annotations

import json
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from generators.scene import CURVE_RATE

RATE = 50  # stored points a second
POINTS = 256  # of a stored curve: 5.12 s
STEPS = 15  # a stored level counts from 0 to 15: 3 dB apart, two to a byte
JOIN = 0.2  # seconds in which one curve goes over into the next where a sound is longer


@dataclass(frozen=True)
class Rhythms:
    """``levels`` [C, 256] uint8 in 0..15, and for each known sound, by its plain name, which rows are its own."""

    levels: np.ndarray
    rows: dict[str, tuple[int, ...]]

    @classmethod
    def of(cls, curves: dict[str, list[np.ndarray]]) -> Rhythms:
        """From loudness curves in 0..1 over 5.12 s, of any number of points: each stored point is the mean of its share."""
        rows: dict[str, tuple[int, ...]] = {}
        levels: list[np.ndarray] = []
        for name, own in curves.items():
            rows[name] = tuple(range(len(levels), len(levels) + len(own)))
            levels += [np.rint(STEPS * curve.reshape(POINTS, -1).mean(axis=1)).astype(np.uint8) for curve in own]
        return cls(np.array(levels, np.uint8).reshape(-1, POINTS), rows)

    @classmethod
    def read(cls, path: Path) -> Rhythms:
        from safetensors import safe_open

        with safe_open(path, "np") as stored:
            packed, rows = stored.get_tensor("levels"), json.loads(stored.metadata()["rows"])
        levels = np.stack([packed >> 4, packed & 15], axis=-1).reshape(len(packed), -1)
        return cls(levels, {name: tuple(range(first, first + count)) for name, (first, count) in rows.items()})

    def write(self, path: Path) -> None:
        from safetensors.numpy import save_file

        path.parent.mkdir(parents=True, exist_ok=True)
        pairs = self.levels.reshape(len(self.levels), -1, 2)
        rows = {name: (own[0], len(own)) for name, own in self.rows.items() if own}
        save_file({"levels": (pairs[..., 0] << 4 | pairs[..., 1]).astype(np.uint8)}, path, metadata={"rows": json.dumps(rows)})

    def curve(self, name: str, seconds: float, seed: int) -> np.ndarray | None:
        """Loudness [seconds * 100] float32 in 0..1 of the sound called ``name``, or None where it is not known.

        A shorter sound gets the first stretch of a curve that is nearly as loud as its loudest one, a longer one several curves.
        """
        own = self.rows.get(name, ())
        if not own:
            return None
        draw, wanted = np.random.default_rng([seed, zlib.crc32(name.encode())]), max(round(seconds * RATE), 1)
        whole = self._drawn(own, draw)
        if wanted < POINTS:
            held = np.convolve(whole, np.ones(wanted), mode="valid")
            at = int(np.flatnonzero(held >= 0.9 * held.max())[0])
            whole = whole[at : at + wanted]
        edge = np.linspace(0, 1, round(JOIN * RATE) + 2, dtype=np.float32)[1:-1]
        while len(whole) < wanted:
            more, size = self._drawn(own, draw), len(edge)
            whole = np.concatenate([whole[:-size], whole[-size:] * (1 - edge) + more[:size] * edge, more[size:]])
        points = (np.arange(round(seconds * CURVE_RATE)) + 0.5) * RATE / CURVE_RATE - 0.5
        return np.interp(points, np.arange(wanted), whole[:wanted]).astype(np.float32)

    def _drawn(self, own: tuple[int, ...], draw: np.random.Generator) -> np.ndarray:
        return self.levels[own[int(draw.integers(len(own)))]].astype(np.float32) / STEPS
