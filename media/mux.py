"""A sound track joined to copied video packets: nothing of the picture is encoded again.

Knows containers and encoders of sound. Does not know where the sound comes from.
"""

from __future__ import annotations

import os
import secrets
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from media.refs import MediaError, UnreadableMedia, require_file, shown
from media.streaming import Reader, stem_blocks

if TYPE_CHECKING:
    from av.container import InputContainer, OutputContainer

FORMATS = {
    ".mp4": ("mp4", "aac"),
    ".m4v": ("mp4", "aac"),
    ".mov": ("mov", "aac"),
    ".mkv": ("matroska", "aac"),
    ".webm": ("webm", "libopus"),
}
BITS = {"aac": 96_000, "libopus": 80_000}  # a second and channel
AHEAD = 0.5  # seconds that the sound is written before the picture: players and the interleaver hold no more
_LAYOUTS = {1: "mono", 2: "stereo", 6: "5.1"}


@dataclass(frozen=True)
class Muxed:
    """What was written: ``samples`` of sound at the encoder's rate, ``packets`` of the picture."""

    path: Path
    seconds: float
    samples: int
    codec: str
    packets: int


def mux(video: Path, sound: Path, output: Path, *, comment: str = "", title: str = "") -> Muxed:
    """Write ``output``: the packets of ``video`` bit for bit, with ``sound`` in the place of its sound.

    Rotation, chapters, subtitles, other streams and tags are kept where the container takes them. The sound lasts exactly as long
    as the picture: what is longer is cut, what is shorter ends in silence.

    Args:
        output: .mp4, .mov, .m4v, .mkv (AAC) or .webm (Opus); another file than both inputs.
        comment, title: tags of the file; the comment carries loa's provenance.

    Raises:
        MissingMedia, UnreadableMedia (no video, damaged, or not for this container), MediaTooLarge. OSError: the disk.
    """
    suffix = output.suffix.lower()
    if suffix not in FORMATS:
        raise UnreadableMedia(f"'{output.suffix}' is no container that loa writes; choose one of {', '.join(FORMATS)}")
    require_file(video)
    require_file(sound)
    for source in (video, sound):
        if output.exists() and os.path.samefile(source, output):
            raise UnreadableMedia(f"the output '{shown(output)}' is the input itself; name another file")
    part = output.parent / f".loa-{secrets.token_hex(8)}.part"
    try:
        made = _write(video, sound, part, *FORMATS[suffix], tags={"comment": comment, "title": title})
        with part.open("rb") as handle:
            os.fsync(handle.fileno())
        os.replace(part, output)
    except MediaError as error:
        raise type(error)(f"{shown(video)}: {error}") from None
    finally:
        part.unlink(missing_ok=True)
    return Muxed(output, *made)


def _write(video: Path, sound: Path, part: Path, form: str, codec: str, tags: dict[str, str]) -> tuple[float, int, str, int]:
    import av

    from media.video import open_container, picture_span, picture_stream

    start, seconds = picture_span(video)
    options = {"fflags": "+bitexact"}  # no random ids, no version: equal inputs give equal bytes
    if form in ("mp4", "mov"):
        options["movflags"] = "+faststart+use_metadata_tags"
    with open_container(video) as old, av.open(f"file:{part.resolve()}", "w", format=form, options=options) as new:
        picture = picture_stream(old)
        assert picture is not None, "picture_span has found it"
        copies = _copied_streams(old, new, picture.index, form)
        new.metadata.update(dict(old.metadata) | {name: text for name, text in tags.items() if text})
        voice = _Voice(new, sound, codec, start, seconds)
        packets = 0
        for packet in _packets(old, list(copies)):
            if packet.stream_index == picture.index:
                packets += 1
                if packet.dts is not None:
                    voice.until(float(packet.dts * packet.time_base) + AHEAD)
            packet.stream = copies[packet.stream_index]
            new.mux_one(packet)
        voice.finish()
    return seconds, voice.samples, "opus" if codec == "libopus" else codec, packets


def _copied_streams(old: InputContainer, new: OutputContainer, picture: int, form: str) -> dict[int, Any]:
    """New streams by the index of the old ones: all but the sound. What the container does not take is left out, save the picture."""
    copies: dict[int, Any] = {}
    for stream in old.streams:
        if stream.type == "audio":
            continue
        try:
            copy = new.add_stream_from_template(stream)
        except Exception:  # no codec, no place in this container
            if stream.index == picture:
                name = stream.codec_context.name if stream.codec_context else "unknown"
                raise UnreadableMedia(f"{form} cannot hold a picture coded as {name}; write an .mkv") from None
            continue
        copy.metadata.update(stream.metadata)
        copy.disposition = stream.disposition
        copies[stream.index] = copy
    if chapters := old.chapters():
        new.set_chapters(chapters)
    return copies


def _packets(old: InputContainer, streams: list[int]) -> Iterator[Any]:
    packets = old.demux([old.streams[index] for index in streams])
    while True:
        try:
            packet = next(packets)
        except StopIteration:
            return
        except Exception:
            raise UnreadableMedia("its picture ends in damaged data; export it again") from None
        if packet.size:  # the last one of each stream is empty: a decoder would be flushed with it
            yield packet


class _Voice:
    """The sound as a stream of ``container``, encoded no further than it is asked for."""

    def __init__(self, container: OutputContainer, sound: Path, codec: str, start: float, seconds: float) -> None:
        import soundfile

        with soundfile.SoundFile(sound) as file:
            rate, channels = file.samplerate, file.channels
        if channels not in _LAYOUTS:
            raise UnreadableMedia(f"the sound has {channels} channels; give 1, 2 or 6")
        if codec == "libopus" or rate not in (16_000, 22_050, 24_000, 32_000, 44_100, 48_000, 88_200, 96_000):
            rate = 48_000
        self._container, self._rate, self._channels, self._layout = container, rate, channels, _LAYOUTS[channels]
        stream: Any = container.add_stream(codec, rate=rate, layout=self._layout)
        stream.bit_rate = BITS[codec] * channels
        stream.codec_context.open(strict=False)
        self._stream, self._size = stream, stream.codec_context.frame_size or 1024
        self._reader = Reader(stem_blocks(sound, rate))
        self._start, self.samples = start, round(seconds * rate)
        # An MP4's edit list says to the sample where the sound begins, but decoders play its last frame whole. So what is missing to
        # a whole frame lies before the beginning, where the encoder's own delay is left out as well.
        whole = container.format.name in ("mp4", "mov") and start == 0
        self._at = -(-self.samples % self._size) if whole else 0

    def until(self, time: float) -> None:
        """Encode until ``time`` (seconds of the container's clock) is reached, or the sound's end."""
        import av

        while self._at < self.samples and self._start + self._at / self._rate < time:
            count = min(self._size, self.samples - self._at)
            before = min(max(-self._at, 0), count)
            block = np.pad(self._reader.take(count - before), ((0, 0), (before, 0)))
            if len(block) != self._channels:
                block = np.repeat(block[:1], self._channels, axis=0)
            frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(block), format="fltp", layout=self._layout)
            frame.sample_rate, frame.time_base = self._rate, Fraction(1, self._rate)
            frame.pts = round(self._start * self._rate) + self._at
            self._container.mux(self._stream.encode(frame))
            self._at += count

    def finish(self) -> None:
        """Encode the rest; the last packet says how many of its samples are padding (Matroska keeps that, MP4 its duration)."""
        self.until(float("inf"))
        packets = self._stream.encode(None)
        if packets and 0 < (packets[-1].duration or 0) < self._size:
            _discard(packets[-1], self._size - packets[-1].duration)
        self._container.mux(packets)


def _discard(packet: Any, samples: int) -> None:
    """Mark the last ``samples`` of a packet as padding, unless the encoder has said so itself."""
    from av import packet as av_packet

    if not packet.has_sidedata("skip_samples"):
        # FFmpeg's AV_PKT_DATA_SKIP_SAMPLES: samples to skip at the start and at the end, two reasons
        kinds: Any = av_packet  # its stubs do not know the constructor
        data = kinds.PacketSideData(kinds.packet_sidedata_type_from_literal("skip_samples"), 10)
        data.update(struct.pack("<IIBB", 0, samples, 0, 0))
        packet.set_sidedata(data)
