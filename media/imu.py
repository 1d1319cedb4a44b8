"""Recordings of motion: six channels of an inertial measurement unit, from .npy or .csv.

Knows numbers and files. Does not know models. Nothing in a file can run: arrays of Python objects are refused.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from media.refs import MediaTooLarge, MissingMedia, UnreadableMedia, require_file, shown

CHANNELS = 6  # acceleration along three axes, then rotation about three axes
MAX_BYTES = 64_000_000
MIME = "application/x-npy"  # of a stored recording
CURVE_POINTS = 128
STILL = 1e-3  # of the acceleration's unit: what moves less does not move
_MAX_STEPS = 1_000_000
_WANTED = "give .npy or .csv with six columns: acceleration x, y, z and rotation x, y, z"


@dataclass(frozen=True)
class Motion:
    """A recording: ``samples`` [6, T] float32 in the units of the file (ImageBind was trained on Ego4D's m/s² and rad/s)."""

    samples: np.ndarray

    def __post_init__(self) -> None:
        if self.samples.ndim != 2 or self.samples.shape[0] != CHANNELS or self.samples.dtype != np.float32:
            raise ValueError(f"samples are [6, T] float32, got {self.samples.shape} {self.samples.dtype}")


def load_motion(path: Path) -> Motion:
    """Read a recording: [T, 6] or [6, T] in .npy; one step a line in .csv, a line of names above it or not.

    Raises:
        MissingMedia, UnreadableMedia (another format or shape, values that are not numbers), MediaTooLarge.
    """
    require_file(path)
    if path.suffix.lower() not in (".npy", ".csv"):
        raise UnreadableMedia(f"'{shown(path)}' is no motion recording by its name; {_WANTED}")
    if path.stat().st_size > MAX_BYTES:
        raise MediaTooLarge(f"'{shown(path)}' has more than {MAX_BYTES // 1_000_000} MB; cut it")
    try:
        values = np.load(path, allow_pickle=False) if path.suffix.lower() == ".npy" else _csv(path)
        values = np.asarray(values, np.float32)
    except MemoryError:
        raise MediaTooLarge(f"'{shown(path)}' takes more memory than there is; cut it") from None
    except Exception:  # numpy fails in many ways on foreign bytes; none of its texts is for people
        raise UnreadableMedia(f"'{shown(path)}' cannot be read as numbers; {_WANTED}") from None
    if values.ndim != 2 or CHANNELS not in values.shape:
        raise UnreadableMedia(f"'{shown(path)}' has the shape {list(values.shape)}; {_WANTED}")
    if values.shape[1] == CHANNELS:  # steps by channels; of 6 x 6 as well
        values = values.T
    steps = values.shape[1]
    if not 2 <= steps <= _MAX_STEPS:
        raise UnreadableMedia(f"'{shown(path)}' has {steps} steps; give 2 to {_MAX_STEPS}")
    if not np.isfinite(values).all():
        raise UnreadableMedia(f"'{shown(path)}' holds values that are not numbers (NaN or infinite); fill the gaps")
    return Motion(np.ascontiguousarray(values))


def encode_motion(motion: Motion) -> bytes:
    """The .npy bytes that a store holds: [6, T] float32."""
    data = io.BytesIO()
    np.save(data, motion.samples, allow_pickle=False)
    return data.getvalue()


def stored_motion(path: Path) -> Motion:
    """What ``encode_motion`` wrote. Raises MissingMedia where the store's file is damaged."""
    try:
        return Motion(np.load(path, allow_pickle=False))
    except (OSError, ValueError, EOFError):
        raise MissingMedia(f"the stored recording {path} is damaged; remove it and give the file again") from None


def loudness_curve(motion: Motion, points: int = CURVE_POINTS) -> np.ndarray:
    """How much is moving over time, as a loudness curve [N <= points] float32 in 0..1 over the whole recording.

    The acceleration less its mean (which is gravity, where the sensor is not turned) has a length at every step. A point of the curve
    is the root mean square of these over a stretch; the stretch that moves most is 1. Rotation is left out: its unit is another one.

    Raises:
        UnreadableMedia: nothing in it moves.
    """
    acceleration = motion.samples[:3].astype(np.float64)
    power = ((acceleration - acceleration.mean(axis=1, keepdims=True)) ** 2).sum(axis=0)
    stretches = np.array_split(power, min(points, len(power)))
    level = np.sqrt([stretch.mean() for stretch in stretches])
    if level.max() < STILL:
        raise UnreadableMedia("the motion recording does not move (its acceleration is constant), so it has no loudness curve to give")
    return (level / level.max()).astype(np.float32)


def _csv(path: Path) -> list[list[float]]:
    lines = [line for line in path.read_text("utf-8-sig").splitlines() if line.strip()]
    named = any(not _is_number(cell) for cell in lines[0].split(","))
    return [[float(cell) for cell in line.split(",")] for line in lines[named:]]


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True
