"""What can be measured in a sound without a trained judge: tempo, number of events, pitch, brightness, level, timing.

Pure functions of samples and log-mels (media.mel: 100 frames a second, natural logarithm). Knows no prompts, no models and no files.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np
from scipy.ndimage import maximum_filter1d, uniform_filter1d
from scipy.signal import find_peaks, resample_poly

from media.mel import MelSpec

SPEC = MelSpec()
FRAME_RATE = SPEC.sample_rate / SPEC.hop  # Hz
RANGE_DB = 45.0  # what lies further below a clip's loudest cell is silence: reverberation and noise floors are no events
DB = 20 / np.log(10)  # decibels in a neper: mels hold the logarithm of magnitudes
TOLERANCE = 0.04  # seconds within which an onset counts as hit
TEMPI = (35.0, 260.0)  # beats per minute that are looked for

Tempo = Literal["right", "octave", "wrong"]


# -- events ---------------------------------------------------------------------------------------------------------


def onset_strength(mel: np.ndarray) -> np.ndarray:
    """How much louder each frame is than what came just before, summed over bands: [T] from log-mel [T, n_mels], in decibels.

    The rise is counted against the loudest of the three frames before (SuperFlux without the band filter, Böck & Widmer 2013), within
    ``RANGE_DB`` of the clip's loudest cell.
    """
    level_db = np.asarray(mel, np.float64) * DB
    level_db = np.maximum(level_db, level_db.max() - RANGE_DB)
    before = np.full_like(level_db, level_db.min())
    for back in (1, 2, 3):
        before[back:] = np.maximum(before[back:], level_db[:-back])
    return np.maximum(level_db - before, 0).mean(axis=1)


def onsets(mel: np.ndarray, gap: float = 0.09) -> np.ndarray:
    """When events begin, in seconds [N], at least ``gap`` apart.

    Peaks of the onset strength that stand out of their surroundings (200 ms) and are not much weaker than the strongest ones.
    """
    strength = onset_strength(mel)
    if strength.max() < 1.0:  # decibels: nothing begins
        return np.zeros(0)
    # A frame is 64 ms long and 10 ms apart: the rise of one click is spread over several frames. Their sum is its height.
    rise = np.convolve(strength, np.ones(5), mode="same")
    usual = uniform_filter1d(rise, 41)
    strong = np.quantile(maximum_filter1d(rise, 51), 0.9)
    peaks, _ = find_peaks(
        rise, height=np.maximum(0.25 * strong, 1.3 * usual), prominence=0.2 * strong, distance=round(gap * FRAME_RATE)
    )
    if len(peaks) == 0 or peaks[0] > 2:  # a sound that begins with the clip rises from nothing
        opening = rise[: round(gap * FRAME_RATE)]
        if opening[:3].max() > max(0.25 * strong, 3.0) and (len(peaks) == 0 or peaks[0] > gap * FRAME_RATE):
            peaks = np.insert(peaks, 0, int(opening[:3].argmax()))
    return (peaks + 1) / FRAME_RATE  # a frame hears 32 ms ahead of its middle, and so finds a click about a frame too early


def count_events(mel: np.ndarray) -> int:
    """How many separate events a clip holds; what follows within 0.2 s belongs to the event before."""
    return len(onsets(mel, gap=0.2))


def onset_rate(mel: np.ndarray) -> float:
    """Events a second between the first and the last one; fewer than two events give their number over the clip."""
    times = onsets(mel)
    if len(times) < 2:
        return len(times) / (len(mel) / FRAME_RATE)
    return float((len(times) - 1) / (times[-1] - times[0]))


def tempo(mel: np.ndarray, low: float = TEMPI[0], high: float = TEMPI[1]) -> float | None:
    """Beats per minute of a regular train of events, or None where nothing repeats.

    The shortest lag of the onset strength's autocorrelation that is nearly (85 %) as high as the best one, so that every second beat is
    not taken for the beat; refined by a parabola and by the multiples of the lag within the clip.
    """
    strength = np.convolve(onset_strength(mel), np.hanning(7)[1:-1], mode="same")
    strength = strength - strength.mean()
    count = len(strength)
    if strength.std() < 1e-6:
        return None
    spectrum = np.abs(np.fft.rfft(strength, 2 * count)) ** 2
    correlation = np.fft.irfft(spectrum)[:count] / (count - np.arange(count))  # unbiased: late lags have fewer products
    correlation = correlation / correlation[0]
    first, last = int(60 * FRAME_RATE / high), min(int(np.ceil(60 * FRAME_RATE / low)), int(0.75 * count))
    peaks, _ = find_peaks(correlation[: last + 2])
    peaks = peaks[(peaks >= first) & (peaks <= last)]
    if len(peaks) == 0 or correlation[peaks].max() < 0.15:
        return None
    lag = int(peaks[correlation[peaks] >= 0.85 * correlation[peaks].max()][0])
    period = _parabola(correlation, lag)
    for multiple in (2, 3, 4):  # a frame's rounding shrinks with every beat that is counted over
        near = round(period * multiple)
        if near + 2 < 0.75 * count:
            around = np.arange(max(near - 2, 1), near + 3)
            best = int(around[correlation[around].argmax()])
            if correlation[best] > 0.5 * correlation[lag]:
                period = _parabola(correlation, best) / multiple
    return float(60 * FRAME_RATE / period)


def _parabola(values: np.ndarray, peak: int) -> float:
    """The place of a maximum between samples, by the parabola through it and its neighbours."""
    left, middle, right = values[peak - 1 : peak + 2]
    bend = left - 2 * middle + right
    return peak if bend >= 0 else float(peak + np.clip(0.5 * (left - right) / bend, -0.5, 0.5))


def tempo_verdict(asked: float, made: float | None, tolerance: float = 0.08) -> Tempo:
    """Whether a tempo is the asked one, its double or half (an octave error), or another one."""
    if made is None:
        return "wrong"

    def near(goal: float) -> bool:
        return abs(made - goal) <= tolerance * goal

    return "right" if near(asked) else "octave" if near(2 * asked) or near(asked / 2) else "wrong"


class Match(NamedTuple):
    """How well two lists of moments agree, 0..1 each."""

    precision: float  # share of the made ones that were asked for
    recall: float  # share of the asked ones that were made
    f1: float


def match_onsets(asked: Sequence[float] | np.ndarray, made: Sequence[float] | np.ndarray, tolerance: float = TOLERANCE) -> Match:
    """Pairs moments (seconds) one to one, nearest first, and counts pairs no further apart than ``tolerance``."""
    wanted, got = np.sort(np.asarray(asked, float)), np.sort(np.asarray(made, float))
    hits = i = j = 0
    while i < len(wanted) and j < len(got):  # sorted lists: the greedy walk pairs as many as can be paired
        apart = got[j] - wanted[i]
        if abs(apart) <= tolerance + 1e-9:
            hits, i, j = hits + 1, i + 1, j + 1
        elif apart < 0:
            j += 1
        else:
            i += 1
    precision = hits / len(got) if len(got) else 0.0
    recall = hits / len(wanted) if len(wanted) else 0.0
    return Match(precision, recall, 2 * hits / (len(got) + len(wanted)) if len(got) + len(wanted) else 0.0)


# -- pitch ----------------------------------------------------------------------------------------------------------


def pitch_track(samples: np.ndarray, rate: int = SPEC.sample_rate, low: float = 60.0, high: float = 4000.0) -> np.ndarray:
    """Fundamental frequency of every 10 ms in Hz, NaN where there is none: [T'] from samples [T].

    YIN's cumulative mean normalised difference (de Cheveigné & Kawahara 2002, steps 2 to 5) over windows of 64 ms, at four times the
    rate: between the samples of a 16 kHz signal lies no lag for a high whistle.
    """
    x, rate = resample_poly(np.asarray(samples, np.float64), 4, 1), 4 * rate
    hop, window = rate // 100, int(0.064 * rate)
    longest = min(int(rate / low), window // 2)
    shortest = max(int(rate / high), 2)
    found = np.full(max((len(x) - window) // hop + 1, 0), np.nan)
    loudest = np.sqrt(np.mean(x**2)) if len(x) else 0.0
    for index in range(len(found)):
        frame = x[index * hop : index * hop + window]
        if np.sqrt(np.mean(frame**2)) < 0.05 * loudest or not frame.any():
            continue
        width = window - longest
        # d(lag) = sum over the window of (x[t] - x[t + lag])^2, by one correlation and running sums of squares
        product = np.fft.irfft(np.fft.rfft(frame, 2 * window) * np.conj(np.fft.rfft(frame[:width], 2 * window)))[: longest + 1]
        squares = np.concatenate([[0.0], np.cumsum(frame**2)])
        energy = squares[width : width + longest + 1] - squares[: longest + 1]
        difference = np.maximum(energy[0] + energy - 2 * product, 0)
        normal = np.ones_like(difference)
        normal[1:] = difference[1:] * np.arange(1, longest + 1) / np.maximum(np.cumsum(difference[1:]), 1e-12)
        dips = np.flatnonzero(normal[shortest:longest] < 0.15) + shortest
        if len(dips) == 0:
            continue
        lag = int(dips[0])
        while lag + 1 < longest and normal[lag + 1] < normal[lag]:
            lag += 1
        found[index] = rate / _parabola(-normal, lag)
    return found


def median_pitch(samples: np.ndarray, rate: int = SPEC.sample_rate) -> float | None:
    """Median fundamental frequency in Hz, or None where fewer than a twentieth of the frames have one."""
    track = pitch_track(samples, rate)
    heard = track[np.isfinite(track)]
    return float(np.median(heard)) if len(heard) >= max(0.05 * len(track), 3) else None


def pitch_slope(samples: np.ndarray, rate: int = SPEC.sample_rate) -> float | None:
    """How pitch moves, in octaves a second (positive: up), or None without enough pitched frames.

    The median slope over all pairs of frames (Theil & Sen), which a few octave errors do not turn.
    """
    track = pitch_track(samples, rate)
    at = np.flatnonzero(np.isfinite(track))
    if len(at) < max(0.05 * len(track), 5):
        return None
    at = at[np.linspace(0, len(at) - 1, min(len(at), 120)).astype(int)]
    first, second = np.triu_indices(len(at), 1)
    octaves = np.log2(track[at])
    return float(np.median((octaves[second] - octaves[first]) / (at[second] - at[first])) * 100)


# -- near and far, loud and soft -------------------------------------------------------------------------------------


def level_db(samples: np.ndarray) -> float:
    """Level of the louder half of a clip: RMS over the louder half of its 50 ms frames, in dBFS, at least -120."""
    frame = SPEC.sample_rate // 20
    x = np.asarray(samples, np.float64)
    power = (x[: len(x) // frame * frame].reshape(-1, frame) ** 2).mean(axis=1)
    loud = np.sort(power)[len(power) // 2 :].mean() if len(power) else 0.0
    return float(10 * np.log10(max(loud, 1e-12)))


def brightness_hz(samples: np.ndarray, rate: int = SPEC.sample_rate) -> float:
    """Centre of gravity of the magnitude spectrum above 40 Hz, in Hz, frames weighted by their energy; 0 for silence."""
    x = np.asarray(samples, np.float64)
    size = 1024
    if len(x) < size or not x.any():
        return 0.0
    frames = np.lib.stride_tricks.sliding_window_view(x, size)[:: size // 2] * np.hanning(size)
    magnitude = np.abs(np.fft.rfft(frames, axis=1))
    hz = np.fft.rfftfreq(size, 1 / rate)
    magnitude[:, hz < 40] = 0
    spectrum = (magnitude**2).sum(axis=0)  # energy weighs the frames; its root brings back magnitudes
    weight = np.sqrt(spectrum)
    return float((weight * hz).sum() / weight.sum())


def correlation(asked: np.ndarray, made: np.ndarray) -> float:
    """Pearson correlation of two curves over the same span, whatever their lengths; 0 where one of them is flat."""
    wanted, got = np.asarray(asked, np.float64), np.asarray(made, np.float64)
    # Each point is the middle of its share of the span.
    at = (np.arange(len(got)) + 0.5) / len(got) * len(wanted) - 0.5
    wanted = np.interp(at, np.arange(len(wanted)), wanted)
    if wanted.std() < 1e-9 or got.std() < 1e-9:
        return 0.0
    return float(np.corrcoef(wanted, got)[0, 1])


# -- how far a reconstruction is from its original ---------------------------------------------------------------------

STFT_SIZES = (512, 1024, 2048)


class StftDistance(NamedTuple):
    """Mean over FFT sizes of the two terms of the multi-resolution STFT loss (Yamamoto, Song & Kim 2020, equations 2 and 3)."""

    convergence: float  # ||S| - |S'|| over ||S||, Frobenius
    log_magnitude: float  # mean absolute difference of the logarithms, nepers


def stft_distance(original: np.ndarray, rebuilt: np.ndarray) -> StftDistance:
    """Multi-resolution STFT distance of two signals [T] of equal length. It hears no phase."""
    convergence: list[float] = []
    log_magnitude: list[float] = []
    for size in STFT_SIZES:
        ours, theirs = _magnitude(original, size), _magnitude(rebuilt, size)
        norm = np.linalg.norm(ours)
        convergence.append(float(np.linalg.norm(ours - theirs) / norm) if norm > 0 else 0.0)
        log_magnitude.append(float(np.abs(np.log(np.maximum(ours, 1e-5)) - np.log(np.maximum(theirs, 1e-5))).mean()))
    return StftDistance(float(np.mean(convergence)), float(np.mean(log_magnitude)))


def _magnitude(x: np.ndarray, size: int) -> np.ndarray:
    frames = np.lib.stride_tricks.sliding_window_view(np.asarray(x, np.float64), size)[:: size // 4]
    return np.abs(np.fft.rfft(frames * np.hanning(size), axis=1))
