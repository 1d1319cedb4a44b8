"""How well a soundtrack fits its picture in time: what was seen against what is heard, by scene, and a plot of both.

Knows moments and stems. Does not know who found the moments.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
from pydantic import BaseModel, ConfigDict

TOLERANCE = 0.04  # seconds within which a sound is on what is seen
FAR = 0.15  # seconds beyond which a sound belongs to nothing seen
PIECE_S, ASIDE_S = 30.0, 1.0  # a stem is searched in pieces, each with a little of its neighbours

Detector = Callable[[np.ndarray, int], list[float]]


class Sync(BaseModel):
    """One scene in time. ``offset_ms``: mean of sound minus picture over the pairs; None where there is no pair."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    start: float
    end: float
    visual: tuple[float, ...]  # seconds
    sound: tuple[float, ...]
    offset_ms: float | None
    worst_ms: float | None  # the largest distance of a pair
    within: int  # what is seen and has a sound within 40 ms
    extra: int  # sounds with nothing seen within 150 ms


def paired(visual: Sequence[float], sound: Sequence[float], far: float = FAR) -> list[tuple[int, int]]:
    """Pairs of indices, nearest first, each moment in one pair at most.

    >>> paired([1.0, 2.0], [0.98, 1.05, 5.0])
    [(0, 0)]
    """
    distances = sorted(
        (abs(heard - seen), i, j) for i, seen in enumerate(visual) for j, heard in enumerate(sound) if abs(heard - seen) <= far
    )
    left, right, pairs = set[int](), set[int](), []
    for _, i, j in distances:
        if i not in left and j not in right:
            left.add(i)
            right.add(j)
            pairs.append((i, j))
    return sorted(pairs)


def report(scenes: Sequence[tuple[float, float]], visual: Sequence[float], sound: Sequence[float]) -> list[Sync]:
    """The scenes' synchrony. Pairs are sought over the whole video, so that an event at a cut is not torn from its sound."""
    pairs = paired(visual, sound)
    partner, heard = dict(pairs), {j for _, j in pairs}
    told = []
    for start, end in scenes:
        seen = [i for i, moment in enumerate(visual) if start <= moment < end]
        own = [j for j, moment in enumerate(sound) if start <= moment < end]
        offsets = [1000 * (sound[partner[i]] - visual[i]) for i in seen if i in partner]
        told.append(
            Sync(
                start=start,
                end=end,
                visual=tuple(round(visual[i], 4) for i in seen),
                sound=tuple(round(sound[j], 4) for j in own),
                offset_ms=round(float(np.mean(offsets)), 1) if offsets else None,
                worst_ms=round(max(map(abs, offsets)), 1) if offsets else None,
                within=sum(abs(offset) <= 1000 * TOLERANCE + 1e-6 for offset in offsets),
                extra=sum(j not in heard for j in own),
            )
        )
    return told


def stem_onsets(path: Path, detect: Detector) -> list[float]:
    """When sounds begin in a stem, by ``detect`` of mono samples [T] and their rate; read piece by piece."""
    found: list[float] = []
    for begin, first, last, samples, rate in _pieces(path):
        if float(np.abs(samples).max(initial=0.0)) < 1e-4:
            continue
        moments = [begin + moment for moment in detect(samples, rate)]
        found += [moment for moment in moments if first <= moment < last and (not found or moment - found[-1] > 0.03)]
    return found


def _pieces(path: Path) -> Iterator[tuple[float, float, float, np.ndarray, int]]:
    """(where the piece begins, from where and to where it counts, samples, rate)."""
    import soundfile

    with soundfile.SoundFile(path) as file:
        rate, seconds = file.samplerate, file.frames / file.samplerate
        for number in range(max(int(np.ceil(seconds / PIECE_S)), 1)):
            first, last = number * PIECE_S, min((number + 1) * PIECE_S, seconds)
            begin = max(first - ASIDE_S, 0.0)
            file.seek(round(begin * rate))
            block = file.read(round((min(last + ASIDE_S, seconds) - begin) * rate), dtype="float32", always_2d=True)
            yield begin, first, last + (1.0 if last == seconds else 0.0), block.mean(axis=1), rate


# -- the plot ----------------------------------------------------------------------------------------------------------

WIDTH, LANE, LABEL, ROW_S, ROWS = 1400, 64, 92, 20.0, 24  # pixels, seconds of a row at least, rows at most
_INK, _PALE, _SEEN, _HEARD, _CUT = (40, 40, 40), (225, 225, 225), (200, 60, 40), (40, 90, 200), (90, 160, 90)


def plot(
    seconds: float,
    motion: np.ndarray,
    rate: float,
    cuts: Sequence[float],
    visual: Sequence[float],
    sound: Sequence[float],
    stems: Sequence[tuple[str, Path]],
) -> bytes:
    """PNG: rows of time; in each the motion with what is seen (red), then each stem's waveform; blue: what is heard, green: cuts."""
    from PIL import Image, ImageDraw

    row_s = min(max(ROW_S, seconds / ROWS), max(seconds, 1.0))
    rows = max(int(np.ceil(seconds / row_s - 1e-6)), 1)
    lanes = 1 + len(stems)
    high = rows * (lanes * LANE + 26) + 8
    image = Image.new("RGB", (LABEL + WIDTH + 12, high), "white")
    draw = ImageDraw.Draw(image)
    peaks = [_peaks(path, seconds, row_s * rows, WIDTH * rows) for _, path in stems]

    for row in range(rows):
        top, begin = 4 + row * (lanes * LANE + 26), row * row_s
        end = min(begin + row_s, seconds)

        def x_of(moment: float, begin: float = begin) -> int:
            return LABEL + round((moment - begin) / row_s * WIDTH)

        for lane, name in enumerate(["motion", *(name for name, _ in stems)]):
            low = top + (lane + 1) * LANE - 6
            draw.text((6, low - LANE // 2), name, fill=_INK)
            draw.line([(LABEL, low), (x_of(end), low)], fill=_PALE)
        for second in range(int(np.ceil(begin)), int(end) + 1):
            if row_s <= 40 or second % 10 == 0:
                draw.line([(x_of(second), top), (x_of(second), top + lanes * LANE - 6)], fill=(240, 240, 240))
                draw.text((x_of(second) + 2, top + lanes * LANE - 2), f"{second} s", fill=(120, 120, 120))
        low = top + LANE - 6
        at = begin + np.arange(WIDTH) / WIDTH * row_s
        values = np.interp(at, (np.arange(len(motion)) + 0.5) / rate, motion) if len(motion) else np.zeros(WIDTH)
        line = [(LABEL + x, low - round(float(v) * (LANE - 14))) for x, v in enumerate(values) if at[x] <= end]
        if len(line) > 1:
            draw.line(line, fill=_INK)
        for lane, each in enumerate(peaks):
            middle, part = top + (lane + 1) * LANE + LANE // 2 - 4, each[row * WIDTH : (row + 1) * WIDTH]
            tallest = max(float(each.max(initial=0.0)), 1e-6)
            for x, value in enumerate(part):
                reach = round(float(value) / tallest * (LANE / 2 - 6))
                if at[x] <= end:
                    draw.line([(LABEL + x, middle - reach), (LABEL + x, middle + reach)], fill=(150, 150, 150))
        for moments, colour, span in ((cuts, _CUT, (0, lanes)), (visual, _SEEN, (0, 1)), (sound, _HEARD, (1, 2))):
            for moment in moments:
                if begin <= moment < end:
                    draw.line([(x_of(moment), top + span[0] * LANE), (x_of(moment), top + span[1] * LANE - 6)], fill=colour, width=2)
    made = io.BytesIO()
    image.save(made, "PNG", optimize=True)
    return made.getvalue()


def _peaks(path: Path, seconds: float, shown: float, columns: int) -> np.ndarray:
    """Largest magnitude [columns] of a sound by column of time; read block by block."""
    import soundfile

    peaks = np.zeros(columns)
    with soundfile.SoundFile(path) as file:
        at = 0
        for block in file.blocks(1 << 16, dtype="float32", always_2d=True):
            loud = np.abs(block).max(axis=1)
            column = np.minimum(((at + np.arange(len(loud))) / file.samplerate / shown * columns).astype(int), columns - 1)
            np.maximum.at(peaks, column, loud)
            at += len(loud)
    return peaks
