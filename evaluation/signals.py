"""What a metric computes from samples alone: loudness, offset of picture and sound, mel-cepstral distortion, errors of letters.

Pure functions, and loudness in the form of an embedder so that it shares the one decode. Knows no prompts.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence

import numpy as np
from scipy.fft import dct

from evaluation.embedders import Heard
from media.audio import Audio, loudness_lufs

REACH = 2.0  # seconds, how far sound and picture are looked for apart; Synchformer's range
BLUR = 0.04  # seconds: a frame of video at 25 Hz
COEFFICIENTS = 13
_DECIBELS = 20 / np.log(10)  # in a neper of magnitude


class Loudness:
    """Integrated loudness (BS.1770) of the mean of the channels in LUFS, -70 for silence; ``vector`` [1]."""

    name = "loudness"
    sample_rate = 0  # the file's own
    window = "the whole clip"
    classes = ""
    digest = "sha256:" + "10" * 32  # a version: raise it when the figure changes

    def embed(self, sounds: Sequence[Audio]) -> list[Heard]:
        rows = [np.array([max(loudness_lufs(sound), -70.0)], np.float32) for sound in sounds]
        return [Heard(row, row[None]) for row in rows]


# -- picture and sound --------------------------------------------------------------------------------------------------


def onset_offset(seen: Sequence[float], heard: Sequence[float], reach: float = REACH) -> float | None:
    """By how many seconds the sound comes too late (negative: too early), or None where nothing is seen or heard to begin.

    The shift that brings most onsets together (each pair counts by a bell of 40 ms, the nearer shift wins a tie). DeSync of the
    literature asks Synchformer for the same number; this one is signal processing, and its figures do not compare with those.

    >>> onset_offset([1.0, 2.0, 3.5], [1.2, 2.2, 3.7])
    0.2
    """
    if not len(seen) or not len(heard):
        return None
    apart = np.subtract.outer(np.asarray(heard, np.float64), np.asarray(seen, np.float64)).ravel()
    shifts = np.round(np.arange(-reach, reach + 1e-9, 0.01), 2)
    support = np.exp(-((apart[:, None] - shifts[None]) ** 2) / (2 * BLUR**2)).sum(0)
    best = np.flatnonzero(support >= support.max() * (1 - 1e-9))
    return float(shifts[best[np.abs(shifts[best]).argmin()]])


# -- speech -------------------------------------------------------------------------------------------------------------


def cepstra(log_mel: np.ndarray, count: int = COEFFICIENTS) -> np.ndarray:
    """log-mel [T, M] in nepers to its first cosines [T, count], without the level: log|H| = c0 + sum c_m cos(m w)."""
    mel = np.asarray(log_mel, np.float64)
    return np.asarray(dct(mel, type=2, axis=1)[:, 1 : count + 1] / mel.shape[1])


def mel_cepstral_distortion(made: np.ndarray, true: np.ndarray) -> float:
    """MCD in decibels of two log-mels [T, M] and [U, M] (Kubichek 1993): 10 / ln 10 · (2 sum (c - c')²)^½, 13 coefficients.

    The mean along the best alignment (dynamic time warping, three steps). Here the cepstra are those of media.mel's log-mel; figures
    from WORLD's or SPTK's mel-generalised cepstra are lower or higher by their analysis.
    """
    x, y = cepstra(made), cepstra(true)
    apart = np.sqrt(np.maximum((x**2).sum(1)[:, None] + (y**2).sum(1)[None] - 2 * x @ y.T, 0))
    path = aligned(apart)
    return float(_DECIBELS / np.sqrt(2) * apart[path[:, 0], path[:, 1]].mean())


def aligned(cost: np.ndarray) -> np.ndarray:
    """The cheapest path through [T, U] from corner to corner by steps down, right and both: [P, 2] indices."""
    rows, columns = cost.shape
    total = np.full((rows + 1, columns + 1), np.inf)
    total[0, 0] = 0
    for diagonal in range(rows + columns - 1):  # cells of one diagonal do not depend on each other
        i = np.arange(max(0, diagonal - columns + 1), min(rows, diagonal + 1))
        j = diagonal - i
        total[i + 1, j + 1] = cost[i, j] + np.minimum(np.minimum(total[i, j + 1], total[i + 1, j]), total[i, j])
    path = [(rows - 1, columns - 1)]
    while path[-1] != (0, 0):
        i, j = path[-1]
        before = ((i - 1, j - 1), (i - 1, j), (i, j - 1))
        path.append(min(before, key=lambda at: total[at[0] + 1, at[1] + 1]))
    return np.asarray(path[::-1])


def letters(text: str) -> str:
    """Small letters, digits and single spaces: what counts when words are compared."""
    plain = unicodedata.normalize("NFKC", text).casefold().replace("’", "'")
    return " ".join(re.sub(r"[^\w\s]|_", "", plain).split())


def character_error(heard: str, said: str) -> float:
    """Character error rate: the fewest insertions, deletions and changes that make ``said`` of ``heard``, by letters of ``said``.

    >>> character_error("Hello, word!", "hello world")
    0.09090909090909091
    """
    got, wanted = letters(heard), letters(said)
    if not wanted:
        raise ValueError("nothing was to be said")
    row = list(range(len(got) + 1))
    for number, letter in enumerate(wanted, 1):
        corner, row[0] = row[0], number
        for at, other in enumerate(got, 1):
            corner, row[at] = row[at], min(row[at] + 1, row[at - 1] + 1, corner + (letter != other))
    return row[-1] / len(wanted)
