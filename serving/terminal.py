"""What a terminal shows of a sound: its waveform and spectrogram in block characters, the tree of versions; and who can play it.

Pure: samples and versions in, lines of text out. Knows no command and no store; numpy is imported where samples are looked at.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np

    from orchestrator.conversation import Version, Versions

BLOCKS = " ▁▂▃▄▅▆▇█"  # eighths of a character, from below
SHADES = " ░▒▓█"
RANGE_DB = 60.0  # of a spectrogram, below its loudest spot
LOWEST = 60.0  # Hz
_PLAYERS = (
    ("afplay",), ("pw-play",), ("paplay",), ("aplay", "-q"), ("ffplay", "-nodisp", "-autoexit", "-loglevel", "quiet"),
    ("mpv", "--really-quiet", "--no-video"), ("play", "-q"),
)  # fmt: skip


def waveform(samples: np.ndarray, columns: int = 64, rows: int = 2) -> list[str]:
    """``rows`` lines of ``columns`` characters: the greatest magnitude in each slice of time; the loudest one fills it.

    Args:
        samples: [C, T] in [-1, 1]; a silent sound gives blanks.
    """
    import numpy as np

    loud = np.abs(samples).max(axis=0)
    edges = np.linspace(0, len(loud), columns + 1).astype(int)
    peaks = [float(loud[a:b].max()) if b > a else 0.0 for a, b in pairwise(edges)]
    highest = max([*peaks, 1e-6])
    eighths = [round(peak / highest * 8 * rows) for peak in peaks]
    return ["".join(BLOCKS[min(max(e - 8 * row, 0), 8)] for e in eighths) for row in reversed(range(rows))]


def spectrogram(samples: np.ndarray, sample_rate: int, columns: int = 64, rows: int = 8) -> list[str]:
    """``rows`` lines, high above low: the energy of bands that are equally wide in octaves, down to 60 dB under the loudest.

    Each line begins with the upper edge of its band in kHz. A silent sound gives empty lines.

    Args:
        samples: [C, T] in [-1, 1].
    """
    import numpy as np

    mono = samples.mean(axis=0)
    size = 1024
    mono = np.pad(mono, (0, max(0, size - len(mono))))
    starts = np.linspace(0, len(mono) - size, columns).astype(int)
    frames = np.stack([mono[a : a + size] for a in starts]) * np.hanning(size)
    power = np.abs(np.fft.rfft(frames)) ** 2  # [columns, bins]
    edges = np.geomspace(LOWEST, sample_rate / 2, rows + 1)
    hertz = np.fft.rfftfreq(size, 1 / sample_rate)
    bands = []
    for low, high in pairwise(edges):
        inside = (hertz >= low) & (hertz < high)
        if not inside.any():  # a band between two bins has the energy of the nearer one
            inside = np.arange(len(hertz)) == int(np.abs(hertz - (low * high) ** 0.5).argmin())
        bands.append(power[:, inside].sum(axis=1))
    energy = np.array(bands)
    loudest = float(energy.max())
    db = 10 * np.log10(np.maximum(energy, 1e-30) / loudest) if loudest > 1e-12 else np.full(energy.shape, -np.inf)
    level = np.clip((db + RANGE_DB) / RANGE_DB, 0, 1)
    shade = np.ceil(level * (len(SHADES) - 1)).astype(int)
    return [
        f"{edge / 1000:5.2f} " + "".join(SHADES[k] for k in row) for edge, row in reversed(list(zip(edges[1:], shade, strict=True)))
    ]


def tree(versions: Versions) -> list[str]:
    """One line a version, children under their parent; a star marks the current one."""
    from orchestrator.conversation import caption

    lines = []
    for depth, version in _walk(versions, None, 0):
        here = "*" if versions.current and version.number == versions.current.number else " "
        lines.append(f"{here} {version.number:>2}  {'  ' * depth}{'└ ' if depth else ''}{caption(version)}")
    return lines


def _walk(versions: Versions, parent: int | None, depth: int) -> Iterator[tuple[int, Version]]:
    for version in versions.made:
        if version.parent == parent:
            yield depth, version
            yield from _walk(versions, version.number, depth + 1)


def player(path: Path, which: Callable[[str], str | None] = shutil.which) -> list[str] | None:
    """The command that plays a file here; None where no known player is installed."""
    return next(([found, *rest, str(path)] for name, *rest in _PLAYERS if (found := which(name))), None)
