"""Stems to one track: levels, places, ducking under speech, the original sound, a loudness target below a true-peak ceiling.

Blocks in, blocks out: memory does not grow with length. The sum is written once; then it is measured, turned and limited, again where
the limiter took away loudness. Does not know models or plans.
"""

from __future__ import annotations

import math
import os
import secrets
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Literal

import numpy as np

from media.loudness import Limiter, LoudnessMeter, PeakMeter
from media.refs import UnreadableMedia
from media.streaming import BLOCK, Reader, stem_blocks, track_blocks

Mode = Literal["keep", "duck", "drop"]
DUCK_DB = 12.0  # how far stems go down under speech
DUCK_BEFORE, DUCK_AFTER = 0.15, 0.22  # seconds: down just before a word, up again after it (the detector ends up to 0.13 s late)
MOST_GAIN_DB = 60.0  # what is quieter than that was not meant to be heard
MARGIN_DB = 0.3  # between the limiter's ceiling and the promise: a meter of eight times the rate sees 0.2 dB more
NEAR_LU = 0.1
PASSES = 8
MOST_REDUCED_DB = 24.0  # peaks that are turned down further than that are not pressed any more


@dataclass(frozen=True)
class Stem:
    """A sound file of any rate, mono or stereo, from the first picture on. ``pan``: -1 left, 0 middle, 1 right (constant power)."""

    path: Path
    gain_db: float = 0.0
    ducks: bool = True
    pan: float = 0.0


@dataclass(frozen=True)
class Mixed:
    """What was written. ``lufs`` and ``true_peak_db`` are measured on it; -inf for silence."""

    path: Path
    seconds: float
    samples: int
    lufs: float
    true_peak_db: float
    notes: tuple[str, ...]


def mix(
    stems: Sequence[Stem],
    output: Path,
    *,
    seconds: float,
    sample_rate: int = 48_000,
    channels: int = 2,
    original: Path | None = None,
    mode: Mode = "drop",
    speech: Sequence[tuple[float, float]] = (),
    lufs: float | None = -16.0,
    peak_db: float = -1.0,
) -> Mixed:
    """Mix stems, and the sound of ``original`` (a video) where ``mode`` keeps it, to one 24-bit WAV or FLAC of exactly ``seconds``.

    Args:
        speech: spans in seconds of the picture's clock; with ``duck`` the stems go ``DUCK_DB`` down in them.
        lufs: integrated loudness (BS.1770); None leaves the level.
        peak_db: true-peak ceiling in dBTP.

    Raises:
        MissingMedia, UnreadableMedia, MediaTooLarge: a stem or the original. ValueError: an argument. OSError: the disk.
    """
    samples = round(seconds * sample_rate)
    if samples < 1 or channels not in (1, 2) or mode not in ("keep", "duck", "drop"):
        raise ValueError(f"a mix has at least one sample, 1 or 2 channels, keep, duck or drop; got {seconds} s, {channels}, {mode!r}")
    if output.suffix.lower() not in (".wav", ".flac"):
        raise UnreadableMedia(f"a mix is written as .wav or .flac, got '{output.suffix}'")
    token = secrets.token_hex(8)
    raw, part = output.parent / f".loa-{token}.raw.part", output.parent / f".loa-{token}.part"
    try:
        meter = LoudnessMeter(sample_rate, channels)
        with raw.open("wb") as file:
            for block in _sum(stems, samples, sample_rate, channels, original, mode, speech):
                meter.add(block)
                file.write(np.ascontiguousarray(block.T, np.float32).tobytes())
        heard = meter.lufs()
        gain, notes = _first_gain(heard, lufs)
        with raw.open("rb") as file:
            slope, before = 1.0, (0.0, heard)  # how many LU a decibel of gain brings; less where the limiter takes it away again
            for left in reversed(range(PASSES)):
                made = _finish(file, part, output.suffix.lower(), samples, sample_rate, channels, gain, peak_db)
                if lufs is None or not math.isfinite(heard) or abs(made.lufs - lufs) <= NEAR_LU or gain >= MOST_GAIN_DB or not left:
                    break
                if made.lufs < lufs and made.reduced_db > MOST_REDUCED_DB:
                    break
                if abs(gain - before[0]) > 0.01 and before[0]:
                    slope = min(max((made.lufs - before[1]) / (gain - before[0]), 0.2), 1.0)
                before = (gain, made.lufs)
                gain = min(gain + (lufs - made.lufs) / slope, MOST_GAIN_DB)
        if lufs is not None and math.isfinite(made.lufs) and abs(made.lufs - lufs) > NEAR_LU and gain < MOST_GAIN_DB:
            notes.append(f"the loudness is {made.lufs:.1f} LUFS and not {lufs:g}: more would break the ceiling of {peak_db:g} dBTP")
        if made.reduced_db > 6:
            notes.append(f"peaks were turned down by up to {made.reduced_db:.1f} dB to stay below {peak_db:g} dBTP")
        os.replace(part, output)
    finally:
        raw.unlink(missing_ok=True)
        part.unlink(missing_ok=True)
    return Mixed(output, samples / sample_rate, samples, made.lufs, made.peak_db, tuple(notes))


def _first_gain(heard: float, lufs: float | None) -> tuple[float, list[str]]:
    if lufs is None:
        return 0.0, []
    if not math.isfinite(heard):
        return 0.0, ["the mix is silent: it has no loudness to bring to a target"]
    wanted = lufs - heard
    if wanted > MOST_GAIN_DB:
        return MOST_GAIN_DB, [f"the mix is so quiet ({heard:.1f} LUFS) that it was raised by {MOST_GAIN_DB:g} dB only"]
    return wanted, []


def _sum(
    stems: Sequence[Stem],
    samples: int,
    rate: int,
    channels: int,
    original: Path | None,
    mode: Mode,
    speech: Sequence[tuple[float, float]],
) -> Iterator[np.ndarray]:
    """All sounds together in blocks [channels, n], ``samples`` in all."""
    from media.video import picture_span

    own = None
    if original is not None and mode != "drop":
        own = Reader(track_blocks(original, rate, start=picture_span(original)[0]))
    readers = [(stem, Reader(stem_blocks(stem.path, rate))) for stem in stems]
    for begin in range(0, samples, BLOCK):
        count = min(BLOCK, samples - begin)
        total = np.zeros((2, count), np.float32)
        ducked = duck_gains(speech, begin, count, rate) if mode == "duck" else None
        for stem, reader in readers:
            block = placed(reader.take(count), stem.pan) * np.float32(10 ** (stem.gain_db / 20))
            total += block if ducked is None or not stem.ducks else block * ducked
        if own is not None:
            total += own.take(count)
        if not np.isfinite(total).all():
            raise UnreadableMedia("a stem holds values that are not numbers; make it again")
        yield total if channels == 2 else total.mean(axis=0, keepdims=True)


def placed(block: np.ndarray, pan: float) -> np.ndarray:
    """[1 or 2, n] as stereo [2, n], moved to ``pan`` (-1..1) at constant power; 0 leaves the level as it is."""
    stereo = np.repeat(block, 2, axis=0) if len(block) == 1 else block[:2]
    if pan == 0:
        return stereo
    angle = (np.clip(pan, -1.0, 1.0) + 1) * np.pi / 4
    return stereo * (np.sqrt(2) * np.array([[np.cos(angle)], [np.sin(angle)]])).astype(np.float32)


def duck_gains(speech: Sequence[tuple[float, float]], begin: int, count: int, rate: int) -> np.ndarray:
    """Factors [count] float32 from sample ``begin`` on: down ``DUCK_DB`` within speech, ramps straight in decibels."""
    first, last = begin / rate, (begin + count) / rate
    times = first + np.arange(count) / rate
    down = np.zeros(count)
    for start, end in speech:
        if start - DUCK_BEFORE < last and end + DUCK_AFTER > first:
            ramp = np.interp(times, (start - DUCK_BEFORE, start, end, end + DUCK_AFTER), (0.0, DUCK_DB, DUCK_DB, 0.0))
            np.maximum(down, ramp, out=down)
    return np.asarray(10 ** (-down / 20), np.float32)


@dataclass(frozen=True)
class _Finished:
    lufs: float
    peak_db: float
    reduced_db: float


def _finish(
    raw: BinaryIO, part: Path, suffix: str, samples: int, rate: int, channels: int, gain_db: float, peak_db: float
) -> _Finished:
    """Turn and limit the sum into a sound file, and measure what came out."""
    import soundfile

    gain = np.float32(10 ** (gain_db / 20))
    limiter = Limiter(rate, peak_db - MARGIN_DB)
    loudness, peak = LoudnessMeter(rate, channels), PeakMeter(channels)
    # RF64 is WAV without the limit of 4 GB.
    form = "FLAC" if suffix == ".flac" else "WAV" if samples * channels * 3 < 2**32 - 2**16 else "RF64"
    with part.open("w+b") as handle:
        with soundfile.SoundFile(handle, "w", rate, channels, "PCM_24", format=form) as file:
            for begin in range(0, samples, BLOCK):
                count = min(BLOCK, samples - begin)
                around = gain * _read(raw, begin - limiter.context, count + 2 * limiter.context, samples, channels)
                block = around[:, limiter.context : limiter.context + count] * limiter.gains(around).astype(np.float32)
                loudness.add(block)
                peak.add(block)
                file.write(block.T)
        handle.flush()
        os.fsync(handle.fileno())
    return _Finished(loudness.lufs(), peak.db(), limiter.most_db)


def _read(raw: BinaryIO, begin: int, count: int, samples: int, channels: int) -> np.ndarray:
    """Samples [channels, count] of the sum from ``begin`` on; zeros beyond its ends."""
    first, last = max(begin, 0), min(begin + count, samples)
    raw.seek(first * channels * 4)
    got = np.frombuffer(raw.read(max(last - first, 0) * channels * 4), np.float32).reshape(-1, channels).T
    return np.pad(got, ((0, 0), (first - begin, count - (first - begin) - got.shape[1])))
