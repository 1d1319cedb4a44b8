"""How loud a sound of any length is, and how it is kept below a ceiling: BS.1770 loudness, true peak, a look-ahead limiter.

Knows blocks of samples. Does not know files, nor what is mixed.
"""

from __future__ import annotations

import math
from functools import cache

import numpy as np

OVERSAMPLING = 4  # BS.1770-4, annex 2, for 48 kHz
REACH = 24  # samples that the interpolator hears on either side
SILENCE_LUFS = -70.0  # the absolute gate


@cache
def k_weighting(sample_rate: int) -> np.ndarray:
    """The two biquads of BS.1770-4 annex 1 as second-order sections [2, 6], designed for any rate.

    The analogue prototypes behind the table for 48 kHz (a shelf of +4 dB at 1682 Hz, a high pass at 38 Hz), through the bilinear
    transform; at 48 kHz the table itself.
    """

    def section(f0: float, q: float, high: float, band: float, low: float) -> list[float]:
        k = math.tan(math.pi * f0 / sample_rate)
        a0 = 1 + k / q + k * k
        b = [high + band * k / q + low * k * k, 2 * (low * k * k - high), high - band * k / q + low * k * k]
        return [x / a0 for x in b] + [1.0, 2 * (k * k - 1) / a0, (1 - k / q + k * k) / a0]

    gain = 10 ** (3.999843853973347 / 20)
    shelf = section(1681.974450955533, 0.7071752369554196, gain, gain**0.4996667741545416, 1.0)
    k = math.tan(math.pi * 38.13547087602444 / sample_rate)
    q = 0.5003270373238773
    a0 = 1 + k / q + k * k
    highpass = [1.0, -2.0, 1.0, 1.0, 2 * (k * k - 1) / a0, (1 - k / q + k * k) / a0]
    return np.array([shelf, highpass])


class LoudnessMeter:
    """Integrated loudness (ITU-R BS.1770-4) of blocks [C, n], mono or stereo; keeps ten numbers a second of sound."""

    def __init__(self, sample_rate: int, channels: int) -> None:
        self._sections = k_weighting(sample_rate)
        self._state = np.zeros((2, channels, 2))
        self._hop = max(1, round(0.1 * sample_rate))
        self._rest = np.zeros(0)  # power of the samples of the hop that is not full yet
        self._hops: list[np.ndarray] = []
        self._energy, self._samples = 0.0, 0

    def add(self, block: np.ndarray) -> None:
        from scipy.signal import sosfilt

        if block.shape[1] == 0:
            return
        weighted, self._state = sosfilt(self._sections, block.astype(np.float64), axis=1, zi=self._state)
        power = (weighted**2).sum(axis=0)
        self._energy, self._samples = self._energy + float(power.sum()), self._samples + len(power)
        power = np.concatenate([self._rest, power])
        full = len(power) // self._hop
        self._hops.append(power[: full * self._hop].reshape(full, self._hop).sum(axis=1))
        self._rest = power[full * self._hop :]

    def lufs(self) -> float:
        """Gated loudness so far in LUFS; -inf for silence. Less than 0.4 s is taken as one block, without gates."""
        hops = np.concatenate(self._hops) if self._hops else np.zeros(0)
        self._hops = [hops]
        if len(hops) < 4:
            return _lufs(self._energy / self._samples) if self._samples else -math.inf
        sums = np.cumsum(np.concatenate([[0.0], hops]))
        blocks = (sums[4:] - sums[:-4]) / (4 * self._hop)
        heard = blocks[blocks > _power(SILENCE_LUFS)]
        if len(heard) == 0:
            return -math.inf
        return _lufs(float(heard[heard > heard.mean() / 10].mean()))  # the relative gate lies 10 LU below


def _lufs(power: float) -> float:
    return -0.691 + 10 * math.log10(power) if power > 0 else -math.inf


def _power(lufs: float) -> float:
    return 10 ** ((lufs + 0.691) / 10)


@cache
def _interpolator() -> np.ndarray:
    """A low pass at the old Nyquist frequency for the fourfold rate, linear phase, [2 * 4 * REACH + 1]."""
    from scipy.signal import firwin

    return OVERSAMPLING * firwin(2 * OVERSAMPLING * REACH + 1, 1 / OVERSAMPLING, window=("kaiser", 6.0))


def between_samples(samples: np.ndarray) -> np.ndarray:
    """Largest magnitude from each sample up to the next one, at four times the rate, over all channels.

    Args:
        samples: [C, REACH + n + REACH]: the ends are context.

    Returns:
        [n] float64.
    """
    from scipy.signal import upfirdn

    count = samples.shape[1] - 2 * REACH
    fine = np.abs(upfirdn(_interpolator(), samples.astype(np.float64), up=OVERSAMPLING, axis=1))
    start = 2 * OVERSAMPLING * REACH  # REACH samples of context and as many of the filter's delay
    return fine[:, start : start + count * OVERSAMPLING].reshape(len(samples), count, OVERSAMPLING).max(axis=(0, 2))


class PeakMeter:
    """True peak (ITU-R BS.1770-4 annex 2) of blocks [C, n]."""

    def __init__(self, channels: int) -> None:
        self._before = np.zeros((channels, 2 * REACH))
        self._peak = 0.0

    def add(self, block: np.ndarray) -> None:
        around = np.concatenate([self._before, block], axis=1)
        self._before = around[:, -2 * REACH :]
        # The filter cannot make more than 3.2 of a 1 (the sum of one phase's magnitudes): a quiet block needs no look.
        if block.shape[1] and np.abs(around).max() * 3.2 > self._peak:
            self._peak = max(self._peak, float(between_samples(around).max()))

    def db(self) -> float:
        """dBTP so far; -inf for silence."""
        rest = np.concatenate([self._before, np.zeros((len(self._before), 2 * REACH))], axis=1)
        peak = max(self._peak, float(between_samples(rest).max()))
        return 20 * math.log10(peak) if peak > 0 else -math.inf


def true_peak_db(samples: np.ndarray) -> float:
    """True peak of samples [C, T] in dBTP; -inf for silence."""
    meter = PeakMeter(len(samples))
    meter.add(samples)
    return meter.db()


class Limiter:
    """How far samples are turned down so that their true peak stays below a ceiling: 5 ms ahead of a peak, slowly back.

    Blocks come with ``CONTEXT`` samples before and after, so that what is decided for one block fits the next.
    """

    def __init__(self, sample_rate: int, ceiling_db: float, release_db: float = 40.0) -> None:
        self.ahead = max(1, round(0.005 * sample_rate))
        self.context = 2 * self.ahead + REACH + 1
        self._ceiling = 10 ** (ceiling_db / 20)
        self._slope = release_db / sample_rate  # decibels a sample
        self._held = 0.0  # decibels held over from before
        self.most_db = 0.0  # the largest reduction so far

    def gains(self, around: np.ndarray) -> np.ndarray:
        """Factors [n] in 0..1 for the middle of ``around`` [C, context + n + context]; blocks in order, without gaps.

        The need of each sample is held until the 5 ms after it, falls off linearly in decibels, and is smoothed by a mean over 5 ms:
        the mean of what is nowhere less than the need is not less than the need.
        """
        from scipy.ndimage import maximum_filter1d, uniform_filter1d

        count = around.shape[1] - 2 * self.context
        edge = 2 * self.ahead  # what is left around the middle once the interpolator has had its context
        fine = between_samples(around)  # [1 + edge + n + edge + 1]
        peaks = np.maximum(fine[1:], fine[:-1])[: edge + count + edge]  # the stretch before a sample concerns it too
        need = 20 * np.log10(np.maximum(peaks / self._ceiling, 1.0))
        if not need.any() and self._held <= 0:
            return np.ones(count)
        held = maximum_filter1d(need, 2 * self.ahead + 1, mode="nearest")
        at = self._slope * np.arange(len(held))
        falling = np.maximum.accumulate(np.maximum(held + at, self._held)) - at
        smooth = uniform_filter1d(falling, 2 * self.ahead + 1, mode="nearest")
        middle = smooth[edge : edge + count]
        self._held = max(0.0, float(falling[count]))  # where the next block's context begins
        self.most_db = max(self.most_db, float(middle.max()))
        return np.asarray(10 ** (-middle / 20))
