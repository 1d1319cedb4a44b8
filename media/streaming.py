"""Sounds of any length in blocks at one rate: our own stems, and the sound of a video on the picture's clock.

Knows decoding, resampling, channels. Memory does not grow with length. Does not know what the blocks are for.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from media.refs import MediaError, MediaTooLarge, UnreadableMedia, require_file

BLOCK = 1 << 16  # samples of every channel
DRIFT = 0.04  # seconds that timestamps may disagree with the count of samples before silence is put in or sound left out
# ITU-R BS.775-4, table 2, by the speakers' names; the low-frequency channel is left out, as there.
_HALF = float(np.sqrt(0.5))
_FOLDED = {
    "FL": (1.0, 0.0), "FR": (0.0, 1.0), "FC": (_HALF, _HALF), "LFE": (0.0, 0.0), "LFE2": (0.0, 0.0), "BC": (0.5, 0.5),
    "BL": (_HALF, 0.0), "BR": (0.0, _HALF), "SL": (_HALF, 0.0), "SR": (0.0, _HALF), "FLC": (1.0, 0.0), "FRC": (0.0, 1.0),
}  # fmt: skip


def stem_blocks(path: Path, sample_rate: int) -> Iterator[np.ndarray]:
    """A sound file in blocks [C, n] float32 at ``sample_rate`` Hz.

    Raises:
        MissingMedia, UnreadableMedia.
    """
    import soundfile

    require_file(path)
    try:
        file = soundfile.SoundFile(path)
    except soundfile.LibsndfileError:
        raise UnreadableMedia(f"the stem {path.name} is no sound file; give WAV or FLAC") from None
    with file:
        blocks = (np.ascontiguousarray(block.T) for block in file.blocks(BLOCK, dtype="float32", always_2d=True))
        yield from resampled(blocks, file.samplerate, sample_rate)


def track_blocks(path: Path, sample_rate: int, start: float) -> Iterator[np.ndarray]:
    """The first sound stream of a video in blocks [2, n] float32 at ``sample_rate`` Hz; the first sample lies at ``start``.

    Args:
        start: seconds on the container's clock, where the picture begins: a late sound begins with silence, an early one is cut.
            Gaps between timestamps become silence. Mono is given to both sides, surround is folded down (BS.775).

    Raises:
        MissingMedia, UnreadableMedia (damaged sound, or one that changes on the way), MediaTooLarge. No sound gives no block.
    """
    require_file(path)
    try:
        yield from _track_blocks(path, sample_rate, start)
    except MediaError:
        raise
    except MemoryError:
        raise MediaTooLarge("decoding the video's sound takes more memory than there is; cut it") from None
    except Exception:  # decoders fail in many ways on foreign bytes
        raise UnreadableMedia("the video's own sound cannot be decoded; export it again, or leave it out (--original drop)") from None


def _track_blocks(path: Path, sample_rate: int, start: float) -> Iterator[np.ndarray]:
    frames = _placed(path, start)
    first = next(frames, None)
    if first is None:
        return
    rate, names, block = first

    def blocks() -> Iterator[np.ndarray]:
        yield block
        for other_rate, other_names, other in frames:
            if (other_rate, other_names) != (rate, names):
                raise UnreadableMedia("the video's own sound changes its rate or channels on the way; export it again")
            yield other

    folded = (folded_down(block, names) for block in gathered(blocks()))
    yield from resampled(folded, rate, sample_rate)


def _placed(path: Path, start: float) -> Iterator[tuple[int, tuple[str, ...], np.ndarray]]:
    """Rate, speakers and samples [C, n] of each decoded frame, silence put in and sound left out so that all lie on the clock."""
    from media.audio import RATES
    from media.video import open_container

    with open_container(path) as container:
        stream = next((s for s in container.streams.audio if s.codec_context is not None), None)
        if stream is None:
            return
        written = 0
        for frame in container.decode(stream):
            rate = int(frame.sample_rate)
            if not RATES[0] <= rate <= RATES[1]:
                raise UnreadableMedia(f"the video's own sound claims {rate} samples a second; export it again")
            names = tuple(channel.name for channel in frame.layout.channels)
            block = as_float(frame.to_ndarray(), frame.format.is_planar, len(names))
            due = written if frame.time is None else round((frame.time - start) * rate)
            if written == 0 or abs(due - written) > DRIFT * rate:
                if due > written:
                    yield from ((rate, names, silence) for silence in _silence(len(names), due - written))
                    written = due
                elif due < written:
                    block = block[:, min(written - due, block.shape[1]) :]
            written += block.shape[1]
            if block.shape[1]:
                yield rate, names, block


def _silence(channels: int, count: int) -> Iterator[np.ndarray]:
    for begin in range(0, count, BLOCK):
        yield np.zeros((channels, min(BLOCK, count - begin)), np.float32)


def as_float(samples: np.ndarray, planar: bool, channels: int) -> np.ndarray:
    """FFmpeg's samples of any format as [C, n] float32 of full scale 1."""
    block = samples if planar else samples.reshape(-1, channels).T
    if block.dtype == np.uint8:
        block = (block.astype(np.float32) - 128) / 128
    elif block.dtype.kind == "i":
        block = block.astype(np.float32) / np.float32(2.0 ** (8 * block.itemsize - 1))
    return np.ascontiguousarray(block, np.float32)


def folded_down(block: np.ndarray, names: tuple[str, ...]) -> np.ndarray:
    """[C, n] of named speakers as stereo [2, n]; mono goes to both sides at its own level."""
    if len(names) == 1:
        return np.repeat(block, 2, axis=0)
    if names == ("FL", "FR"):
        return block
    # Speakers without a place (unordered layouts): alternately left and right.
    matrix = np.array([_FOLDED.get(name, (1.0, 0.0) if k % 2 == 0 else (0.0, 1.0)) for k, name in enumerate(names)], np.float32)
    return np.ascontiguousarray(matrix.T @ block)


def gathered(blocks: Iterator[np.ndarray], size: int = BLOCK) -> Iterator[np.ndarray]:
    """The same samples in blocks of at least ``size`` (the last may be shorter): decoders give a thousand at a time."""
    held: list[np.ndarray] = []
    count = 0
    for block in blocks:
        held.append(block)
        count += block.shape[1]
        if count >= size:
            yield np.concatenate(held, axis=1)
            held, count = [], 0
    if held:
        yield np.concatenate(held, axis=1)


def resampled(blocks: Iterator[np.ndarray], rate: int, wanted: int) -> Iterator[np.ndarray]:
    """Blocks [C, n] float32 of ``rate`` Hz at ``wanted`` Hz, without seams (soxr, high quality)."""
    import soxr

    if rate == wanted:
        yield from blocks
        return
    stream = None
    for block in blocks:
        stream = stream or soxr.ResampleStream(rate, wanted, len(block), dtype="float32")
        if (made := stream.resample_chunk(np.ascontiguousarray(block.T))).size:
            yield np.ascontiguousarray(made.T)
    if stream is not None and (made := stream.resample_chunk(np.zeros((0, len(block)), np.float32), last=True)).size:
        yield np.ascontiguousarray(made.T)


class Reader:
    """Takes exactly as many samples as are asked from an iterator of blocks; silence after its end."""

    def __init__(self, blocks: Iterator[np.ndarray]) -> None:
        self._blocks = blocks
        self._held = np.zeros((1, 0), np.float32)

    def take(self, count: int) -> np.ndarray:
        """[C, count] float32; one channel where the source has ended before its first block."""
        parts, have = [self._held], self._held.shape[1]
        while have < count and (block := next(self._blocks, None)) is not None:
            parts.append(block)
            have += block.shape[1]
        parts = [part for part in parts if part.shape[1]] or [self._held]
        joined = parts[0] if len(parts) == 1 else np.concatenate(parts, axis=1)
        self._held = joined[:, count:]
        made = joined[:, :count]
        return made if made.shape[1] == count else np.pad(made, ((0, 0), (0, count - made.shape[1])))
