"""The Audio value: read, write, resample, loudness, crossfade.

Knows samples and sound files. Does not know models. Foreign files go through ``media.guard`` first.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from media import tags as tagging
from media.refs import MediaError, MediaTooLarge, MissingMedia, UnreadableMedia, require_file, write_whole

MAX_SECONDS = 600.0
MAX_CHANNELS = 8
MAX_VALUES = 64_000_000  # samples times channels: 256 MB as float32
RATES = (1_000, 384_000)  # Hz
_BLOCK = 1 << 18  # values that are decoded or encoded at a time
_ROOM = 1 << 17  # 16-bit values that are decoded at a time: a call costs as much as ten thousand of them
_PART = _ROOM // 4  # of them that are mixed at a time: they stay in the processor's cache
_FORMATS = {
    "wav": ("WAV", "PCM_16"),
    "flac": ("FLAC", "PCM_16"),
    "ogg": ("OGG", "VORBIS"),
    "mp3": ("MP3", "MPEG_LAYER_III"),
}
# What libsndfile may decode. It knows 25 containers and 30 codings; the ADPCM ones had memory bugs.
_CONTAINERS = {"WAV", "WAVEX", "RF64", "FLAC", "OGG", "MP3", "MPEG"}
_CODINGS = {"PCM_U8", "PCM_S8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE", "ULAW", "ALAW", "VORBIS", "OPUS"}
_CODINGS |= {"MPEG_LAYER_I", "MPEG_LAYER_II", "MPEG_LAYER_III"}


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
        return self if self.channels == 1 else Audio(_mixed(self.samples), self.sample_rate)


def _mixed(samples: np.ndarray) -> np.ndarray:
    """The mean of the channels [1, T] float32 of samples [C, T]; numpy's own ``mean`` takes four times as long for the same bits."""
    if len(samples) == 1:
        return samples
    mixed = np.add.reduce(samples, axis=0, dtype=np.float32, keepdims=True)
    mixed /= np.float32(len(samples))
    return mixed


def read_audio(path: Path, sample_rate: int | None = None, mono: bool = False, max_seconds: float = MAX_SECONDS) -> Audio:
    """Read a sound file (or the first sound stream of a video).

    Args:
        sample_rate: resample to it; None keeps the file's.
        mono: the mean of the channels.

    Returns:
        Audio; values beyond full scale (floating-point files, lossy codecs) are clipped to [-1, 1].

    Raises:
        MissingMedia, UnreadableMedia, MediaTooLarge (longer than ``max_seconds``, too many channels or samples).
    """
    require_file(path)
    loudest = 0.0

    def checked(blocks: Iterator[np.ndarray]) -> Iterator[np.ndarray]:
        nonlocal loudest
        for block in blocks:
            # Both ends of the range: NaN passes through them, and no copy is made.
            peak = float(max(block.max(initial=0.0), -block.min(initial=0.0)))
            if not np.isfinite(peak):
                raise UnreadableMedia("the sound holds values that are not numbers (NaN or infinite); export it again")
            loudest = max(loudest, peak)
            yield _mixed(block) if mono else block

    whole: np.ndarray | None
    try:
        file = _sndfile(path, max_seconds)
        if file is not None and file.subtype == "PCM_16":
            with file:
                rate, whole = file.samplerate, _integers(file, mono)
        else:
            rate, blocks, frames = _streamed(file, max_seconds) if file is not None else _av_blocks(path, max_seconds)
            whole = _joined(checked(blocks), frames)
    except MediaError:
        raise
    except MemoryError:
        raise MediaTooLarge("decoding the sound takes more memory than there is; cut it or mix it down") from None
    except Exception:  # decoders fail in many ways on foreign bytes; none of their texts is for people
        raise UnreadableMedia("the sound cannot be decoded; give a whole WAV, FLAC, OGG or MP3 file") from None
    if whole is None or not whole.shape[1]:
        raise UnreadableMedia("the sound is empty; give a file with at least one sample")
    audio = Audio(np.clip(whole, -1.0, 1.0) if loudest > 1.0 else whole, rate)
    return resample(audio, sample_rate) if sample_rate else audio


def _joined(blocks: Iterator[np.ndarray], frames: int) -> np.ndarray | None:
    """Blocks [C, n] behind each other, put straight into place where the file told how many frames there are; None for no block."""
    whole, at = None, 0
    for block in blocks:
        end = at + block.shape[1]
        if whole is None:
            whole = np.empty((len(block), max(frames, end)), np.float32)
        elif end > whole.shape[1]:
            whole = np.concatenate([whole[:, :at], np.empty((len(block), end), np.float32)], axis=1)  # twice the room, or more
        whole[:, at:end] = block
        at = end
    return None if whole is None else np.ascontiguousarray(whole[:, :at])


class Blocks(NamedTuple):
    """A file that is being decoded."""

    sample_rate: int
    blocks: Iterator[np.ndarray]  # [C, n] float32
    frames: int  # that the file claims; 0: unknown


def open_blocks(path: Path, max_seconds: float) -> Blocks:
    """A sound file's blocks: by libsndfile where it knows the file, by FFmpeg for the rest (AAC, videos)."""
    file = _sndfile(path, max_seconds)
    return _av_blocks(path, max_seconds) if file is None else _streamed(file, max_seconds)


def _sndfile(path: Path, max_seconds: float) -> Any:
    """The file, open in libsndfile and within the limits; None where FFmpeg shall read it, or say what is wrong with it."""
    import soundfile

    with path.open("rb") as opened:
        head = opened.read(3)
    if is_mpeg(head):  # mpg123, inside libsndfile, writes its complaints about damaged frames onto our stderr
        return None
    try:
        file = soundfile.SoundFile(path)
    except Exception:
        return None
    if file.format not in _CONTAINERS or file.subtype not in _CODINGS:
        file.close()
        raise UnreadableMedia(
            f"the sound is {file.subtype} in {file.format}, which loa does not decode; give WAV (PCM), FLAC, OGG or MP3"
        )
    if file.frames > 2**62:  # it was written as a stream and does not say its length; libsndfile fails at its end
        file.close()
        return None
    _check_size(file.samplerate, file.channels, file.frames, max_seconds)
    return file


def is_mpeg(head: bytes) -> bool:
    """Whether a file with these first bytes is MPEG audio: it begins with ID3 tags or with a frame of layer I, II or III."""
    return head.startswith(b"ID3") or (len(head) > 1 and head[0] == 0xFF and head[1] & 0xE6 in (0xE2, 0xE4, 0xE6))


def _streamed(file: Any, max_seconds: float) -> Blocks:
    def blocks() -> Iterator[np.ndarray]:
        with file:
            while len(block := file.read(max(1, _BLOCK // file.channels), dtype="float32", always_2d=True)):
                yield np.ascontiguousarray(block.T)

    return Blocks(file.samplerate, _counted(blocks(), file.samplerate, max_seconds), file.frames)


def _integers(file: Any, mono: bool) -> np.ndarray:
    """16-bit samples as [C, T] or mixed [1, T]: the numbers of libsndfile's own float32, in a quarter of its time or less.

    They are numbers within [-1, 1], whatever the file holds. Sums of eight are exact, so nothing is rounded twice. Every value is
    written straight into its place: what counts on the way of a clip to a network is the memory that is touched.
    """
    channels, full = file.channels, np.float32(1 / 32768)
    whole = np.empty((1 if mono else channels, file.frames), np.float32)
    room = np.empty((max(1, _ROOM // channels), channels), np.int16)
    part = max(1, _PART // channels)
    wide, even = np.empty((part, channels), np.float32), channels in (1, 2, 4, 8)
    shares = np.full(channels, full / channels if even else full, np.float32)
    at = 0
    while got := file.buffer_read_into(room, "int16"):
        for start in range(0, got, part):
            block = room[start : min(start + part, got)]
            target = whole[:, at : at + len(block)]
            if mono and channels > 1:
                np.copyto(wide[: len(block)], block)
                np.matmul(wide[: len(block)], shares, out=target[0])
            else:
                np.multiply(block.T, full, out=target)
            at += len(block)
    if mono and not even:
        whole[:, :at] /= np.float32(channels)
    return np.ascontiguousarray(whole[:, :at])


def _av_blocks(path: Path, max_seconds: float) -> Blocks:
    """The first sound stream, through FFmpeg; rate and channels are those of the first decoded frame."""
    frames = _av_frames(path, max_seconds)
    rate, first = next(frames, (0, np.zeros((1, 0), np.float32)))
    if not rate:
        raise UnreadableMedia("the sound is empty; give a file with at least one sample")

    def blocks() -> Iterator[np.ndarray]:
        yield first
        for other, block in frames:
            if other != rate or len(block) != len(first):
                raise UnreadableMedia("the sound changes its rate or channels on the way; export it again")
            yield block

    return Blocks(rate, _counted(blocks(), rate, max_seconds), 0)


def _av_frames(path: Path, max_seconds: float) -> Iterator[tuple[int, np.ndarray]]:
    from media.video import open_container

    with open_container(path) as container:
        stream = next((s for s in container.streams.audio if s.codec_context is not None), None)
        if stream is None:
            raise UnreadableMedia("the file holds no sound; give a WAV, FLAC, OGG, MP3 or a video with sound")
        claimed = max(float(container.duration or 0) / 1e6, float(stream.duration or 0) * float(stream.time_base or 0))
        if claimed > max_seconds + 1:  # headers count the codec's padding as well
            raise MediaTooLarge(f"the sound lasts {claimed:.0f} s, the limit is {max_seconds:g} s; cut it")
        for frame in container.decode(stream):
            block: np.ndarray = frame.to_ndarray()
            if not frame.format.is_planar:
                block = block.reshape(-1, frame.layout.nb_channels).T
            if block.dtype == np.uint8:
                block = (block.astype(np.float32) - 128) / 128
            elif block.dtype.kind == "i":
                block = block.astype(np.float32) / 2.0 ** (8 * block.itemsize - 1)
            yield int(frame.sample_rate), np.ascontiguousarray(block, np.float32)


def _counted(blocks: Iterator[np.ndarray], rate: int, max_seconds: float) -> Iterator[np.ndarray]:
    """The blocks, as long as their sum stays within the limits: a header may lie about its length."""
    total = 0
    for block in blocks:
        total += block.shape[1]
        _check_size(rate, len(block), total, max_seconds)
        yield block


def _check_size(rate: int, channels: int, frames: int, max_seconds: float) -> None:
    if not RATES[0] <= rate <= RATES[1]:
        raise UnreadableMedia(f"the sound claims {rate} samples a second, loa takes {RATES[0]} to {RATES[1]}; resample it")
    if channels > MAX_CHANNELS:
        raise MediaTooLarge(f"the sound has {channels} channels, the limit is {MAX_CHANNELS}; mix it down")
    if frames > max_seconds * rate:
        raise MediaTooLarge(f"the sound lasts {frames / rate:.0f} s or more, the limit is {max_seconds:g} s; cut it")
    if frames * channels > MAX_VALUES:
        raise MediaTooLarge(
            f"the sound has {frames * channels / 1e6:.0f} million values, the limit is {MAX_VALUES / 1e6:.0f}; "
            "lower its sample rate or mix it down"
        )


def encode_audio(audio: Audio, form: str, tags: Mapping[str, str] | None = None) -> bytes:
    """The bytes of a sound file; ``form`` is wav, flac, ogg or mp3. Equal input gives equal bytes.

    WAV and FLAC hold 16-bit integers, sample = value / 32768: what was read from such a file is written back without loss.

    Raises:
        UnreadableMedia: unknown ``form``, or a rate or channel count that it cannot hold.
        ValueError: values that are not numbers, or a tag that nobody reads back.
    """
    import soundfile

    if form not in _FORMATS:
        raise UnreadableMedia(f"'.{form}' cannot be written; choose one of {', '.join('.' + f for f in _FORMATS)}")
    tags = dict(tags or {})
    if unknown := set(tags) - set(tagging.NAMES):
        raise ValueError(f"tags are {', '.join(tagging.NAMES)}, got {', '.join(sorted(unknown))}")
    if not np.isfinite(audio.samples).all():
        raise ValueError("a sound with values that are not numbers cannot be written")
    container, subtype = _FORMATS[form]
    samples = np.clip(audio.samples.T, -1.0, 1.0)
    if subtype == "PCM_16":
        samples = np.clip(np.rint(samples * 32768.0), -32768, 32767).astype(np.int16)
    buffer = io.BytesIO()
    try:
        with soundfile.SoundFile(buffer, "w", audio.sample_rate, audio.channels, subtype, format=container) as file:
            for name, text in tags.items() if form in ("flac", "ogg") else ():
                setattr(file, name, text)
            # In blocks: libsndfile's Vorbis encoder takes a whole call on the stack and crashes on ten minutes at once.
            for start in range(0, len(samples), _BLOCK):
                file.write(samples[start : start + _BLOCK])
    except soundfile.LibsndfileError:
        raise UnreadableMedia(
            f"'.{form}' cannot hold {audio.channels} channels at {audio.sample_rate} Hz; write a .wav, or resample"
        ) from None
    data = buffer.getvalue()
    if form == "ogg":
        return tagging.with_ogg_serial(data, 0)
    if form == "wav" and tags:
        return tagging.with_info(data, tags)
    return tagging.with_id3(data, tags) if form == "mp3" and tags else data


def write_audio(path: Path, audio: Audio, tags: Mapping[str, str] | None = None) -> None:
    """Write a sound file, whole or not at all; the format follows the suffix.

    Args:
        tags: title, artist, comment, software, copyright, date; ``comment`` carries loa's provenance.

    Raises:
        MediaError: unknown suffix. OSError: the folder is missing or full.
    """
    write_whole(path, encode_audio(audio, path.suffix.lower().lstrip("."), tags))


def read_tags(path: Path) -> dict[str, str]:
    """Text tags of a sound file; empty where there are none. No decoder is involved, so the file may be a foreign one.

    Raises:
        MissingMedia, UnreadableMedia (no sound file by its first bytes).
    """
    from media.guard import sniff_file

    kind = sniff_file(path)[1]
    if kind != "audio":
        raise UnreadableMedia(f"{path.name} is a {kind}; give a sound file (WAV, FLAC, OGG, MP3)")
    try:
        return tagging.read(path)
    except OSError as error:
        raise MissingMedia(f"{path} cannot be read: {error.strerror}") from None


def resample(audio: Audio, sample_rate: int) -> Audio:
    """The same sound at another rate (soxr, high quality)."""
    if audio.sample_rate == sample_rate:
        return audio
    import soxr

    out = soxr.resample(audio.samples.T, audio.sample_rate, sample_rate)
    return Audio(np.ascontiguousarray(out.T, np.float32), sample_rate)


def loudness_lufs(audio: Audio) -> float:
    """Integrated loudness in LUFS (ITU-R BS.1770); -inf for silence and for less than 0.4 s.

    Raises:
        ValueError: samples that are not numbers (they would come out as silence).
    """
    import pyloudnorm

    if not np.isfinite(audio.samples).all():
        raise ValueError("samples that are not numbers have no loudness")
    if audio.seconds < 0.4:
        return float("-inf")
    return float(pyloudnorm.Meter(audio.sample_rate).integrated_loudness(audio.samples.T.astype(np.float64)))


def crossfade(first: Audio, second: Audio, seconds: float) -> Audio:
    """``first`` then ``second``, overlapping by ``seconds`` with equal-power ramps (sin² + cos² = 1)."""
    if first.sample_rate != second.sample_rate or first.channels != second.channels:
        raise ValueError("crossfade wants two sounds of one rate and channel count")
    if not 0 <= seconds < float("inf"):
        raise ValueError(f"crossfade wants an overlap of 0 s or more, got {seconds:g}")
    size = min(round(seconds * first.sample_rate), first.samples.shape[1], second.samples.shape[1])
    angle = (np.arange(size, dtype=np.float32) + 0.5) / max(size, 1) * np.float32(np.pi / 2)
    head, tail = first.samples[:, : first.samples.shape[1] - size], first.samples[:, first.samples.shape[1] - size :]
    joined = tail * np.cos(angle) + second.samples[:, :size] * np.sin(angle)
    return Audio(np.concatenate([head, joined, second.samples[:, size:]], axis=1).astype(np.float32), first.sample_rate)


def fit_length(sound: Audio, seconds: float) -> Audio:
    """Cut to exactly ``seconds`` with a 10 ms fade where something was cut off; a shorter sound ends in silence."""
    wanted = round(seconds * sound.sample_rate)
    have = sound.samples.shape[1]
    if have == wanted:
        return sound
    if have < wanted:
        return Audio(np.pad(sound.samples, ((0, 0), (0, wanted - have))), sound.sample_rate)
    samples = sound.samples[:, :wanted].copy()
    fade = min(wanted, sound.sample_rate // 100)
    samples[:, wanted - fade :] *= np.linspace(1.0, 0.0, fade, dtype=np.float32)
    return Audio(samples, sound.sample_rate)
