"""Where somebody speaks, and where sounds begin: signal processing over blocks.

Does not know words.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from media.streaming import gathered, track_blocks

RATE = 16_000  # Hz
HOP = 160  # samples: 10 ms


def speech_spans(path: Path) -> list[tuple[float, float]]:
    """Spans of speech in the first sound stream of a video, in seconds on the picture's clock; empty without sound or without speech.

    Raises:
        MissingMedia, UnreadableMedia, MediaTooLarge.
    """
    from media.video import picture_span

    start, seconds = picture_span(path)
    levels = []
    for block in gathered(track_blocks(path, RATE, start), RATE):
        mono = block.mean(axis=0)
        mono = mono[: len(mono) // HOP * HOP].reshape(-1, HOP)
        levels.append((mono**2).mean(axis=1))
    if not levels:
        return []
    level = 10 * np.log10(np.concatenate(levels) + 1e-10)
    loud = np.concatenate([[False], level > max(-50.0, float(np.quantile(level, 0.95)) - 25), [False]])
    edges = np.flatnonzero(np.diff(loud.astype(int))) * HOP / RATE
    spans: list[tuple[float, float]] = []
    for begin, end in edges.reshape(-1, 2):
        if spans and begin - spans[-1][1] < 0.3:
            spans[-1] = (spans[-1][0], float(end))
        else:
            spans.append((float(begin), float(end)))
    return [(begin, min(end, seconds)) for begin, end in spans if end - begin > 0.2 and begin < seconds]


def audio_onsets(samples: np.ndarray, sample_rate: int) -> list[float]:
    """When events begin in samples [T] or [C, T], in seconds: peaks of the rise of the level over bands (spectral flux)."""
    from scipy.signal import find_peaks

    mono = np.asarray(samples, np.float64)
    mono = mono if mono.ndim == 1 else mono.mean(axis=0)
    hop, size = max(1, sample_rate // 200), max(8, sample_rate // 50)
    if len(mono) < size or not mono.any():
        return []
    padded = np.pad(mono, (size, size))
    frames = np.lib.stride_tricks.sliding_window_view(padded, size)[::hop] * np.hanning(size)
    level = 20 * np.log10(np.abs(np.fft.rfft(frames, axis=1)) + 1e-9)
    level = np.maximum(level, level.max() - 60)
    rise = np.maximum(level[2:] - level[:-2], 0).mean(axis=1)
    peaks, _ = find_peaks(rise, height=max(0.3 * rise.max(), 1.0), distance=12)
    return [max(0.0, float(((p + 1) * hop + size / 2 - size) / sample_rate)) for p in peaks]
