"""Rows of numbers over time from people's files: a drawn loudness curve, a sensor's trace.

Knows .npy and .csv. Does not know what the numbers drive.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from media.refs import MediaTooLarge, UnreadableMedia, require_file, shown

MAX_BYTES = 16 * 2**20


def read_table(path: Path, columns: int) -> np.ndarray:
    """Numbers [N, columns] float32 of a .npy array or a .csv (one time point a line, an optional header line).

    Raises:
        UnreadableMedia: no such numbers in it, another number of columns, or values that are not finite.
        MediaTooLarge: more than ``MAX_BYTES``. MissingMedia: no such file.
    """
    require_file(path)
    if path.stat().st_size > MAX_BYTES:
        raise MediaTooLarge(f"{shown(path)} has {path.stat().st_size:,} bytes; a curve may have at most {MAX_BYTES:,}")
    try:
        if path.suffix.lower() == ".npy":
            table = np.load(path, allow_pickle=False)
        else:
            table = np.array(_rows(path.read_text(encoding="utf-8-sig")))
        table = np.asarray(table, np.float32)
    except (ValueError, TypeError, OSError, EOFError) as error:
        raise UnreadableMedia(f"{shown(path)} holds no table of numbers; give .npy, or .csv with one time point a line") from error
    if table.ndim == 1 and columns == 1:
        table = table[:, None]
    if table.ndim != 2 or table.shape[1] != columns or len(table) < 2:
        raise UnreadableMedia(f"{shown(path)} must hold at least 2 rows of {columns} number(s), got shape {table.shape}")
    if not np.isfinite(table).all():
        raise UnreadableMedia(f"{shown(path)} holds values that are not finite; mend them first")
    return table


def read_curve(path: Path) -> np.ndarray:
    """One number from 0 to 1 a time point, [N] float32, N >= 2, from .npy or .csv.

    Raises:
        UnreadableMedia, MediaTooLarge, MissingMedia: as ``read_table``, or a value outside 0..1.
    """
    curve = read_table(path, columns=1)[:, 0]
    if curve.min() < 0 or curve.max() > 1:
        raise UnreadableMedia(f"{shown(path)}: values must lie from 0 (silent) to 1 (loudest), got {curve.min():g} to {curve.max():g}")
    return curve


def _rows(text: str) -> list[list[float]]:
    lines = [line for line in text.splitlines() if line.strip()]
    try:
        first = [[float(cell) for cell in lines[0].split(",")]] if lines else []
    except ValueError:  # a header
        first = []
    return first + [[float(cell) for cell in line.split(",")] for line in lines[1:]]
