"""Recordings of motion: six channels of an inertial measurement unit, from .npy or .csv.

Knows numbers and files. Does not know models. Nothing in a file can run: arrays of Python objects are refused.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from media.refs import MediaTooLarge, UnreadableMedia, require_file, shown

CHANNELS = 6  # acceleration along three axes, then rotation about three axes
MAX_BYTES = 64_000_000
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
