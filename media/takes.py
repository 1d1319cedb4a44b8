"""One event cut out of a made sound: where it begins to the millisecond, and where it is over.

Knows samples. Does not know what they are of, nor what they will be laid under.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import maximum_filter1d

HOP_S = 0.002  # of the level curve; each value is the RMS of two hops
STRUCK_S = 0.03  # but no later than that after its beginning
LEAD_S = 0.004  # kept before the attack, faded in
RISE = 0.25  # an attack begins where the level last was below this share of its peak
STRUCK = 0.7  # and is heard as begun where the level first reaches this one: ears time a sound by its rise, not by its first trace
REACH_S = 0.08  # the longest attack
SEARCH_S = (0.15, 0.35)  # before and after the moment where an event is expected
OVER_DB = 36.0  # an event is over this far below its peak
AGAIN = (0.4, 2.5)  # another event begins where the level is this share of the peak and this many times the least level since
AGAIN_S = 0.1  # at least this long after the first
FADE_S = 0.05  # at the end
LEVEL = 0.18  # RMS of the first 50 ms that every take is brought to
LEAST = 1e-3  # a peak level under it is no event (-60 dBFS)


@dataclass(frozen=True)
class Take:
    """One event: ``samples`` [C, n] float32; it is heard to begin ``lead`` samples in and stands ``clear_db`` above what was before."""

    samples: np.ndarray
    lead: int
    clear_db: float


def cut_take(samples: np.ndarray, rate: int, near: float | None = None, longest: float = 1.1) -> Take | None:
    """The event in ``samples`` [C, T] that begins near ``near`` seconds (None: the clearest one of all), or None where there is none.

    The level (RMS over 4 ms) rises from under a quarter of its peak within 80 ms; the event lasts until it is 36 dB down, another event
    begins, or ``longest`` seconds are over. All takes come out equally loud over their first 50 ms.
    """
    level = _level(samples, rate)
    first, last = (0, len(level)) if near is None else (round((near - SEARCH_S[0]) / HOP_S), round((near + SEARCH_S[1]) / HOP_S))
    first, last = max(first, 0), min(last, len(level))
    if last - first < 3:
        return None
    reach = round(REACH_S / HOP_S)
    if near is None:
        ahead = maximum_filter1d(level, reach, origin=-(reach // 2))
        behind = maximum_filter1d(np.concatenate([np.full(reach, LEAST), level]), reach, origin=(reach - 1) // 2)[: len(level)]
        rise = ahead / np.maximum(behind, 0.02 * max(float(level.max()), LEAST)) * (ahead > RISE * level.max())
        middle = int(rise.argmax())
        first, last = max(middle - 2, 0), min(middle + reach, len(level))
    top = first + int(level[first:last].argmax())
    peak = float(level[top])
    if peak < LEAST:
        return None
    begin = top
    while begin > max(top - reach, 0) and level[begin - 1] >= RISE * peak:
        begin -= 1
    before = level[max(begin - reach, 0) : max(begin - 1, 1)]
    clear_db = float(20 * np.log10(peak / max(float(before.mean()), peak * 1e-3)))
    end = _end(level, top, peak, round(longest / HOP_S) + begin)
    struck = begin + min(int((level[begin : top + 1] >= STRUCK * peak).argmax()), round(STRUCK_S / HOP_S))
    quiet = min(round(LEAD_S * rate), round(begin * HOP_S * rate))
    at = round(begin * HOP_S * rate) - quiet
    lead = round(struck * HOP_S * rate) - at
    cut = np.array(samples[:, at : min(round(end * HOP_S * rate), samples.shape[1])], np.float32)
    if cut.shape[1] < lead + 2:
        return None
    cut[:, :quiet] *= np.linspace(0, 1, quiet, dtype=np.float32)
    fade = min(round(FADE_S * rate), (cut.shape[1] - lead) // 2)
    cut[:, cut.shape[1] - fade :] *= np.cos(np.linspace(0, np.pi / 2, fade, dtype=np.float32))
    loud = float(np.sqrt(np.mean(cut[:, lead : lead + round(0.05 * rate)].astype(np.float64) ** 2)))
    most = float(np.abs(cut).max())
    return Take(cut * np.float32(min(LEVEL / max(loud, 1e-9), 0.95 / max(most, 1e-9))), lead, clear_db)


def _level(samples: np.ndarray, rate: int) -> np.ndarray:
    """RMS [N] every ``HOP_S`` over two hops, of all channels together."""
    hop = HOP_S * rate
    energy = np.concatenate([[0.0], np.cumsum((samples.astype(np.float64) ** 2).mean(axis=0))])
    edges = np.minimum(np.rint(np.arange(int(samples.shape[1] / hop) + 3) * hop).astype(int), samples.shape[1])
    width = np.maximum(edges[2:] - edges[:-2], 1)
    power: np.ndarray = np.maximum(energy[edges[2:]] - energy[edges[:-2]], 0) / width
    return np.sqrt(power)


def _end(level: np.ndarray, top: int, peak: float, latest: int) -> int:
    """The hop where the event with its peak at ``top`` is over."""
    least, over = peak, peak * 10 ** (-OVER_DB / 20)
    for index in range(top, min(latest, len(level))):
        least = min(least, float(level[index]))
        if level[index] < over and level[index : index + 25].max() < over:
            return index
        again = level[index] > AGAIN[0] * peak and level[index] > AGAIN[1] * least
        if again and index - top > AGAIN_S / HOP_S:
            return max(index - round(0.02 / HOP_S), top + 1)
    return min(latest, len(level))
