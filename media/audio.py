"""The Audio value: read, write, resample, loudness, crossfade.

Knows samples and sound files. Does not know models. Foreign files go through ``media.guard`` first.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from media.refs import MediaError, MediaTooLarge, MissingMedia, UnreadableMedia, write_whole

MAX_SECONDS = 600.0
_FORMATS = {
    "wav": ("WAV", "PCM_16"),
    "flac": ("FLAC", "PCM_16"),
    "ogg": ("OGG", "VORBIS"),
    "mp3": ("MP3", "MPEG_LAYER_III"),
}


@dataclass(frozen=True)
class Audio:
    """Sound: ``samples`` [C, T] float32 in [-1, 1] at ``sample_rate`` Hz."""

    samples: np.ndarray
    sample_rate: int

    def __post_init__(self) -> None:
        if self.samples.ndim != 2 or self.samples.dtype != np.float32:
            raise ValueError(f"samples are [C, T] float32, got {self.samples.shape} {self.samples.dtype}")

    @property
    def seconds(self) -> float:
        return self.samples.shape[1] / self.sample_rate

    @property
    def channels(self) -> int:
        return int(self.samples.shape[0])

    def mono(self) -> Audio:
        """The mean of the channels."""
        return (
            self
            if self.channels == 1
            else Audio(self.samples.mean(0, keepdims=True, dtype=np.float32), self.sample_rate)
        )


def read_audio(
    path: Path, sample_rate: int | None = None, mono: bool = False, max_seconds: float = MAX_SECONDS
) -> Audio:
    """Read a sound file (or the first sound stream of a video).

    Args:
        sample_rate: resample to it; None keeps the file's.

    Raises:
        MissingMedia, UnreadableMedia, MediaTooLarge (longer than ``max_seconds``).
    """
    import soundfile

    if not path.is_file():
        raise MissingMedia(f"there is no file {path}")
    try:
        with soundfile.SoundFile(path) as file:
            if file.frames / file.samplerate > max_seconds:
                raise MediaTooLarge(
                    f"the sound lasts {file.frames / file.samplerate:.0f} s, the limit is {max_seconds:g} s; cut it"
                )
            samples, rate = file.read(dtype="float32", always_2d=True).T, file.samplerate
    except MediaError:
        raise
    except Exception:  # decoders fail in many ways on foreign bytes; none of their texts is for people
        samples, rate = _read_with_av(path, max_seconds)
    if samples.shape[1] == 0 or not np.isfinite(samples).all():
        raise UnreadableMedia("the sound is empty or holds values that are not numbers; export it again")
    audio = Audio(np.ascontiguousarray(samples, np.float32), rate)
    audio = audio.mono() if mono else audio
    return resample(audio, sample_rate) if sample_rate else audio


def _read_with_av(path: Path, max_seconds: float) -> tuple[np.ndarray, int]:
    from media.video import open_container

    try:
        with open_container(path) as container:
            if not container.streams.audio:
                raise UnreadableMedia("the file holds no sound; give a WAV, FLAC, OGG, MP3 or a video with sound")
            stream = container.streams.audio[0]
            rate, parts, total = int(stream.rate), [], 0
            for frame in container.decode(stream):
                block = frame.to_ndarray()
                if not frame.format.is_planar:
                    block = block.reshape(-1, frame.layout.nb_channels).T
                if block.dtype.kind == "i":
                    block = block.astype(np.float32) / np.iinfo(block.dtype).max
                parts.append(block.astype(np.float32))
                total += block.shape[1]
                if total > max_seconds * rate:
                    raise MediaTooLarge(f"the sound is longer than the limit of {max_seconds:g} s; cut it")
    except MediaError:
        raise
    except Exception:
        raise UnreadableMedia("the sound cannot be decoded; give a WAV, FLAC, OGG or MP3 file") from None
    if not parts:
        raise UnreadableMedia("the sound is empty; give a file with at least one sample")
    return np.concatenate(parts, axis=1), rate


def encode_audio(audio: Audio, form: str, tags: Mapping[str, str] | None = None) -> bytes:
    """The bytes of a sound file; ``form`` is wav, flac, ogg or mp3. WAV is 16-bit PCM; equal input gives equal bytes."""
    import soundfile

    if form not in _FORMATS:
        raise UnreadableMedia(f"'.{form}' cannot be written; choose one of {', '.join('.' + f for f in _FORMATS)}")
    container, subtype = _FORMATS[form]
    buffer = io.BytesIO()
    with soundfile.SoundFile(buffer, "w", audio.sample_rate, audio.channels, subtype, format=container) as file:
        for name, text in (tags or {}).items() if form != "wav" else ():
            setattr(file, name, text)
        file.write(np.clip(audio.samples.T, -1.0, 1.0))
    return buffer.getvalue() if form != "wav" else _with_info(buffer.getvalue(), tags or {})


# libsndfile drops WAV tags of more than 2 kB without a word, and provenance is longer: the INFO list is written and read here.
_INFO = {
    "title": b"INAM",
    "artist": b"IART",
    "comment": b"ICMT",
    "software": b"ISFT",
    "copyright": b"ICOP",
    "date": b"ICRD",
}


def _with_info(wav: bytes, tags: Mapping[str, str]) -> bytes:
    """RIFF bytes with a LIST/INFO chunk of the tags at the end."""
    if not tags:
        return wav
    entries = b""
    for name, text in tags.items():
        raw = text.encode() + b"\0"
        entries += _INFO[name] + struct.pack("<I", len(raw)) + raw + b"\0" * (len(raw) % 2)
    body = wav + b"LIST" + struct.pack("<I", len(entries) + 4) + b"INFO" + entries
    return body[:4] + struct.pack("<I", len(body) - 8) + body[8:]


def _read_info(wav: bytes) -> dict[str, str]:
    """The tags that ``_with_info`` wrote."""
    names = {code: name for name, code in _INFO.items()}
    found: dict[str, str] = {}
    at = 12
    while at + 8 <= len(wav):
        code, size = wav[at : at + 4], struct.unpack("<I", wav[at + 4 : at + 8])[0]
        if code == b"LIST" and wav[at + 8 : at + 12] == b"INFO":
            inner, end = at + 12, min(at + 8 + size, len(wav))
            while inner + 8 <= end:
                key, length = wav[inner : inner + 4], struct.unpack("<I", wav[inner + 4 : inner + 8])[0]
                if key in names:
                    found[names[key]] = wav[inner + 8 : inner + 8 + length].rstrip(b"\0").decode(errors="replace")
                inner += 8 + length + length % 2
        at += 8 + size + size % 2
    return found


def write_audio(path: Path, audio: Audio, tags: Mapping[str, str] | None = None) -> None:
    """Write a sound file, whole or not at all; the format follows the suffix.

    Args:
        tags: title, comment, software, …; ``comment`` carries loa's provenance.

    Raises:
        MediaError: unknown suffix. OSError: the folder is missing or full.
    """
    write_whole(path, encode_audio(audio, path.suffix.lower().lstrip("."), tags))


def read_tags(path: Path) -> dict[str, str]:
    """Text tags of a sound file (title, comment, software, …); empty where there are none.

    Raises:
        MissingMedia, UnreadableMedia.
    """
    import soundfile

    if not path.is_file():
        raise MissingMedia(f"there is no file {path}")
    try:
        with soundfile.SoundFile(path) as file:
            return _read_info(path.read_bytes()) if file.format == "WAV" else dict(file.copy_metadata())
    except Exception:
        raise UnreadableMedia(f"{path.name} is not a sound file that loa reads (WAV, FLAC, OGG, MP3)") from None


def resample(audio: Audio, sample_rate: int) -> Audio:
    """The same sound at another rate (soxr, high quality)."""
    if audio.sample_rate == sample_rate:
        return audio
    import soxr

    out = soxr.resample(audio.samples.T, audio.sample_rate, sample_rate)
    return Audio(np.ascontiguousarray(out.T, np.float32), sample_rate)


def loudness_lufs(audio: Audio) -> float:
    """Integrated loudness in LUFS (ITU-R BS.1770); -inf for silence and for less than 0.4 s."""
    import pyloudnorm

    if audio.seconds < 0.4:
        return float("-inf")
    return float(pyloudnorm.Meter(audio.sample_rate).integrated_loudness(audio.samples.T.astype(np.float64)))


def crossfade(first: Audio, second: Audio, seconds: float) -> Audio:
    """``first`` then ``second``, overlapping by ``seconds`` with equal-power ramps (sin² + cos² = 1)."""
    if first.sample_rate != second.sample_rate or first.channels != second.channels:
        raise ValueError("crossfade wants two sounds of one rate and channel count")
    size = min(round(seconds * first.sample_rate), first.samples.shape[1], second.samples.shape[1])
    angle = (np.arange(size, dtype=np.float32) + 0.5) / max(size, 1) * np.float32(np.pi / 2)
    head, tail = first.samples[:, : first.samples.shape[1] - size], first.samples[:, first.samples.shape[1] - size :]
    joined = tail * np.cos(angle) + second.samples[:, :size] * np.sin(angle)
    return Audio(np.concatenate([head, joined, second.samples[:, size:]], axis=1).astype(np.float32), first.sample_rate)
