"""When sounds begin: signal processing over samples.

Does not know what sounds.
"""

from __future__ import annotations

import numpy as np


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
    rise = rise[: (len(mono) - size) // hop]  # where the sound is cut off, a splash of all frequencies begins nothing
    peaks, _ = find_peaks(rise, height=max(0.2 * rise.max(), 1.0), distance=12)
    return [max(0.0, float(((p + 1) * hop + size / 2 - size) / sample_rate)) for p in peaks]
