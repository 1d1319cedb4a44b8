"""Sound as a picture and back, as Riffusion draws it (riffusion/riffusion-hobby @ 94c29ab): a mel spectrogram, the darker the louder.

Knows samples and pixels. Does not know a network. Levels are lost: the picture holds shares of its own loudest point.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy import sparse
from scipy.fft import irfft, rfft


@dataclass(frozen=True)
class Drawing:
    """What a picture of sound means: ``hop`` samples a column, ``bins`` rows from 0 to ``top`` Hz, low ones at the bottom."""

    sample_rate: int = 44_100  # Hz
    n_fft: int = 17_640  # samples: 400 ms, of which the window covers a quarter
    window: int = 4410
    hop: int = 441
    bins: int = 512
    top: float = 10_000.0  # Hz
    power: float = 0.25  # pixels hold magnitude ** power

    @cached_property
    def bank(self) -> sparse.csr_matrix:
        """Triangles of HTK's mel scale [bins, n_fft // 2 + 1], peak 1."""
        mels = np.linspace(0.0, 2595.0 * np.log10(1.0 + self.top / 700.0), self.bins + 2)
        corners = 700.0 * (10.0 ** (mels / 2595.0) - 1.0)
        frequencies = np.linspace(0.0, self.sample_rate / 2, self.n_fft // 2 + 1)
        rising = (frequencies - corners[:-2, None]) / np.diff(corners)[:-1, None]
        falling = (corners[2:, None] - frequencies) / np.diff(corners)[1:, None]
        return sparse.csr_matrix(np.maximum(0.0, np.minimum(rising, falling)).astype(np.float32))

    @cached_property
    def _shape(self) -> np.ndarray:
        """The window in the middle of a frame [n_fft], Hann."""
        side = (self.n_fft - self.window) // 2
        hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(self.window) / self.window)
        return np.pad(hann, (side, self.n_fft - self.window - side)).astype(np.float32)

    def stft(self, wave: np.ndarray) -> np.ndarray:
        """Complex spectra [F, 1 + N // hop] of a mono sound [N], each around its column."""
        padded = np.pad(wave, self.n_fft // 2, mode="reflect" if len(wave) > self.n_fft // 2 else "constant")
        frames = np.lib.stride_tricks.sliding_window_view(padded, self.n_fft)[:: self.hop]
        return np.asarray(rfft(frames * self._shape, axis=1).T, np.complex64)

    def istft(self, spectra: np.ndarray) -> np.ndarray:
        """The sound [(T - 1) * hop] whose spectra come nearest to these (Griffin & Lim 1984, equation 6)."""
        frames = np.asarray(irfft(spectra.T, n=self.n_fft, axis=1), np.float32) * self._shape
        total = self.n_fft + (len(frames) - 1) * self.hop
        wave, weight = np.zeros(total, np.float32), np.zeros(total, np.float32)
        for index, frame in enumerate(frames):
            at = slice(index * self.hop, index * self.hop + self.n_fft)
            wave[at] += frame
            weight[at] += self._shape**2
        half = self.n_fft // 2
        return (wave / np.maximum(weight, 1e-8))[half : total - half]


def draw(wave: np.ndarray, drawing: Drawing) -> np.ndarray:
    """The picture [bins, T, 3] uint8 of a mono sound [N]; white is silence."""
    mel = drawing.bank @ np.abs(drawing.stft(wave))
    share = (mel / max(float(mel.max(initial=0.0)), 1e-12)) ** drawing.power
    grey = np.round(255 * (1 - share[::-1])).astype(np.uint8)
    return np.repeat(grey[..., None], 3, axis=2)


def undraw(picture: np.ndarray, drawing: Drawing, *, seed: int = 0, iterations: int = 32, momentum: float = 0.99) -> np.ndarray:
    """The sound [(T - 1) * hop] float32 of a picture [bins, T, 3] uint8, its loudest sample at 1; the first channel is read.

    Magnitudes by multiplicative updates (Lee & Seung 2001, equation 4, with the filterbank fixed), phases by fast Griffin-Lim
    (Perraudin, Balazs & Søndergaard 2013, algorithm 2) from noise of ``seed``.
    """
    share = 1 - picture[::-1, :, 0].astype(np.float32) / 255
    mel = share ** (1 / drawing.power)
    size = magnitudes(mel, drawing)
    turn = np.random.default_rng(seed).uniform(0, 2 * np.pi, size.shape).astype(np.float32)
    phase, previous = np.exp(1j * turn).astype(np.complex64), np.zeros(1, np.complex64)
    for _ in range(iterations):
        rebuilt = drawing.stft(drawing.istft(size * phase))
        ahead = rebuilt - previous * np.float32(momentum / (1 + momentum))
        phase, previous = ahead / np.maximum(np.abs(ahead), 1e-12), rebuilt
    wave = drawing.istft(size * phase)
    return np.asarray(wave / max(float(np.abs(wave).max(initial=0.0)), 1e-9), np.float32)


def magnitudes(mel: np.ndarray, drawing: Drawing, iterations: int = 60) -> np.ndarray:
    """Linear magnitudes [F, T], none negative, whose mel is ``mel`` [bins, T]."""
    bank = drawing.bank
    numerator = bank.T @ mel
    found = numerator + np.float32(1e-8)
    for _ in range(iterations):
        found *= numerator / (bank.T @ (bank @ found) + np.float32(1e-10))
    return np.asarray(found, np.float32)
