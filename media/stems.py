"""Clips laid on a stem that is written block by block, so that its length costs no memory.

Knows samples and sound files. Does not know what a clip is of.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

BLOCK = 1 << 16  # samples of silence that are written at a time


@dataclass(frozen=True)
class Clip:
    """``samples`` [C, n] float32 that begin at sample ``at`` of the stem; what lies outside the stem is not heard."""

    at: int
    samples: np.ndarray


def lay(path: Path, rate: int, length: int, channels: int, clips: Iterable[Clip]) -> None:
    """Write a stem of ``length`` samples (WAV, 32-bit float) in which the clips sound, added where they overlap.

    Args:
        clips: in order of ``at``; pulled one at a time. At most the longest of them is held.

    Raises:
        ValueError: clips out of order, or with another number of channels (one channel fits all).
        OSError: the folder is missing or full.
    """
    import soundfile

    with soundfile.SoundFile(path, "w", rate, channels, "FLOAT", format="WAV") as file:
        done, held = 0, np.zeros((channels, 0), np.float32)  # ``held`` follows what is written
        for clip in clips:
            if len(clip.samples) not in (1, channels):
                raise ValueError(f"a clip of {len(clip.samples)} channels does not fit a stem of {channels}")
            at, samples = clip.at, clip.samples
            if at < 0:
                at, samples = 0, samples[:, -clip.at :]
            samples = samples[:, : max(length - at, 0)]
            if samples.shape[1] == 0:
                continue
            if at < done:
                raise ValueError(f"clips come in order of their beginning; one begins at {at}, {done} samples are written")
            ready = min(at - done, held.shape[1])
            _write(file, held[:, :ready])
            held, done = held[:, ready:], done + ready
            if done < at:
                _silence(file, channels, at - done)
                done = at
            missing = samples.shape[1] - held.shape[1]
            held = np.pad(held, ((0, 0), (0, max(missing, 0))))
            held[:, : samples.shape[1]] += samples
        _write(file, held)
        _silence(file, channels, length - done - held.shape[1])


def _write(file: object, block: np.ndarray) -> None:
    file.write(np.ascontiguousarray(block.T))  # type: ignore[attr-defined]


def _silence(file: object, channels: int, count: int) -> None:
    for start in range(0, count, BLOCK):
        file.write(np.zeros((min(BLOCK, count - start), channels), np.float32))  # type: ignore[attr-defined]


def power_fade(length: int, first: float, last: float, fade_in: float, fade_out: float, rate: int) -> np.ndarray:
    """Weights [length] of a clip at ``rate`` Hz: equal-power ramps (sin, cos; their squares add up to 1 in a crossfade).

    Args:
        first, last: seconds, on any clock, where the fades begin and end; sample 0 lies at 0 on that clock.
        fade_in, fade_out: seconds; 0 means a hard edge.
    """
    time = (np.arange(length) + 0.5) / rate
    rise = np.clip((time - first) / fade_in, 0, 1) if fade_in > 0 else (time >= first).astype(float)
    fall = np.clip((last - time) / fade_out, 0, 1) if fade_out > 0 else (time < last).astype(float)
    weights: np.ndarray = np.sin(rise * np.pi / 2) * np.sin(fall * np.pi / 2)
    return weights.astype(np.float32)
