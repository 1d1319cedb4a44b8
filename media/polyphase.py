"""Resampling for networks that listen: a windowed sinc as matrix products, in two fifths of soxr's processor time.

Knows one-channel sounds and pairs of rates. What people hear goes through ``media.audio.resample`` and keeps its bytes.
"""

from __future__ import annotations

from functools import lru_cache
from math import ceil, gcd

import numpy as np

from media.audio import Audio, resample

NAME = "polyphase-1"  # part of what decides a vector: changes with any figure below
ZEROS = 32  # zero crossings of the sinc on each side
ROLLOFF = 0.97  # the filter's middle, in parts of the lower Nyquist frequency
BETA = 8.0  # Kaiser window: what is folded back lies 80 dB down
_TOGETHER = 32  # output samples of one product: more waste zeros, fewer waste calls
_ROWS = 32  # periods of one product: so small that BLAS does not share it among threads, which would wait for each other
_GROUPS = 8  # products that one filter makes before the next looks at the same samples, while the processor's cache still has them
_MOST = 2_000  # output samples of one period; rates with less in common take soxr


def resample_to_hear(audio: Audio, sample_rate: int) -> Audio:
    """A mono sound at another rate: linear phase, flat (0.01 dB) to 0.89 of the lower Nyquist rate, -80 dB from 1.05 on.

    soxr's high quality passes as much and stops at 1.0. What lies just below Nyquist matters to an embedder that hears logarithms:
    a filter that is flat to 0.84 moved nano-clap's vectors by a tenth of their length, this one by a thousandth where the band is
    filled; where it is empty (one siren), by 0.16, towards the vector of the sound as it was at first, from which soxr's lies 0.65.

    Args:
        audio: [1, T]; beyond both ends lies silence.

    Returns:
        [1, T x sample_rate / rate, rounded as soxr does], not clipped.
    """
    if audio.channels != 1:
        raise ValueError(f"only mono sounds are heard, got {audio.channels} channels")
    common = gcd(audio.sample_rate, sample_rate)
    if audio.sample_rate == sample_rate or sample_rate // common > _MOST or audio.sample_rate // common > _MOST:
        return resample(audio, sample_rate)
    step, period, filters = _filters(audio.sample_rate // common, sample_rate // common)
    given = audio.samples[0]
    length = int(len(given) * sample_rate / audio.sample_rate + 0.5)
    rows = ceil(length / period)
    out = np.empty((ceil(rows / _ROWS), _ROWS, period), np.float32)
    span = step * _ROWS  # from one group of periods to the next
    before, reach = -filters[0][0], span - step + filters[-1][0] + len(filters[-1][1])  # what a group looks at
    first = min(ceil(before / span), len(out))
    last = min(max(first, (len(given) - reach) // span + 1), len(out))  # the groups between see neither end: nothing is copied for them
    for start, stop in ((0, first), (first, last), (last, len(out))):
        if start < stop:
            _products(_cut(given, start * span - before, (stop - 1) * span + reach), filters, step, out[start:stop])
    return Audio(out.reshape(1, -1)[:, :length], sample_rate)


def _cut(given: np.ndarray, start: int, stop: int) -> np.ndarray:
    """``given[start:stop]`` with silence beyond both ends; a view where it meets none."""
    inside = given[max(start, 0) : max(stop, 0)]
    if len(inside) == stop - start:
        return inside
    cut = np.zeros(stop - start, np.float32)
    cut[max(-start, 0) : max(-start, 0) + len(inside)] = inside
    return cut


def _products(given: np.ndarray, filters: tuple[tuple[int, np.ndarray], ...], step: int, out: np.ndarray) -> None:
    """Into ``out`` [groups, _ROWS, period] what the filters make of ``given``, which begins where the first filter does."""
    for first in range(0, len(out), _GROUPS):
        made, at = out[first : first + _GROUPS], 0
        seen = given[first * _ROWS * step :]
        for place, taps in filters:
            shape, strides = (len(made), _ROWS, len(taps)), (4 * step * _ROWS, 4 * step, 4)
            windows: np.ndarray = np.ndarray(shape, np.float32, seen, 4 * (place - filters[0][0]), strides)  # nothing is copied
            np.matmul(windows, taps, out=made[..., at : at + taps.shape[1]])
            at += taps.shape[1]


@lru_cache(maxsize=8)
def _filters(step: int, period: int) -> tuple[int, int, tuple[tuple[int, np.ndarray], ...]]:
    """For ``step`` samples in and ``period`` out: both, multiplied to fill a product; and [K, N] taps with the place of their first."""
    times = ceil(_TOGETHER / period)
    step, period = step * times, period * times
    ratio = step / period
    cutoff = ROLLOFF * min(1.0, 1 / ratio)  # of the given sound's Nyquist frequency
    half = ZEROS / cutoff
    filters = []
    for start in range(0, period, _TOGETHER):
        places = np.arange(start, min(start + _TOGETHER, period)) * ratio
        first = ceil(places[0] - half)
        distance = np.arange(first, int(places[-1] + half) + 1)[:, None] - places
        window = np.i0(BETA * np.sqrt(np.clip(1 - (distance / half) ** 2, 0, None))) / np.i0(BETA)
        taps = cutoff * np.sinc(cutoff * distance) * np.where(abs(distance) <= half, window, 0)
        filters.append((first, np.ascontiguousarray(taps / taps.sum(0), np.float32)))  # a constant stays what it is
    return step, period, tuple(filters)
