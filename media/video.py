"""Video in: what it is, and frames at times. Knows PyAV, with every protocol but plain files closed."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from media.refs import MediaError, MediaTooLarge, UnreadableMedia, require_file

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream

MAX_PIXELS = 4096 * 2304
MAX_SECONDS = 4 * 3600.0
MAX_STREAMS = 32
MAX_DECODED = 6_000  # frames in one call: a video whose key frames are minutes apart does not hold us up
MISSING = 0.5  # seconds between a promised end and the real one: headers round, and count the padding of sound
SEEK_AHEAD = 3.0  # seconds; nearer frames are reached by decoding on
CONTAINERS = "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,wav,mp3,ogg,flac"
CODECS = (
    "h264,hevc,vp8,vp9,av1,libdav1d,libvpx,libvpx-vp9,mpeg4,mjpeg,aac,mp3,mp3float,opus,libopus,vorbis,flac,alac,"
    "pcm_s16le,pcm_s16be,pcm_s24le,pcm_s32le,pcm_f32le,pcm_u8,ac3,eac3"
)


@dataclass(frozen=True)
class VideoInfo:
    """``seconds`` of the picture, ``fps`` on average, size in pixels as stored (before rotation)."""

    seconds: float
    fps: float
    width: int
    height: int
    has_audio: bool


def open_container(path: Path) -> InputContainer:
    """Open a local file for decoding.

    Playlists, ``concat:`` and addresses cannot be reached from it: FFmpeg may use the ``file`` protocol and the listed containers only.
    The codec list is given twice, since opening a file already decodes a little (container level), and decoding asks the stream
    (stream level); the pixel limit is heard by streams only.

    Raises:
        MissingMedia. Whatever PyAV raises for a file that it cannot open: map it.
    """
    import av

    require_file(path)
    container = av.open(
        f"file:{path.resolve()}",
        options={
            "protocol_whitelist": "file",
            "format_whitelist": CONTAINERS,
            "codec_whitelist": CODECS,
            "max_streams": str(MAX_STREAMS),
        },
        metadata_errors="ignore",
    )
    for stream in container.streams:
        if stream.type in ("audio", "video") and stream.codec_context is not None:
            stream.codec_context.options = {"codec_whitelist": CODECS, "max_pixels": str(MAX_PIXELS)}
    return container


def picture_stream(container: InputContainer) -> VideoStream | None:
    """The first stream of moving pictures; None where there is sound only (the cover of an album is not a video)."""
    from av.stream import Disposition

    moving = (s for s in container.streams.video if s.codec_context is not None)
    return next((s for s in moving if not s.disposition & Disposition.attached_pic), None)


def has_picture(path: Path) -> bool:
    """Whether there are moving pictures. A file that cannot be opened has some: their reader then says what is wrong."""
    try:
        with open_container(path) as container:
            return picture_stream(container) is not None or not container.streams.audio
    except Exception:  # as everywhere: decoders fail in many ways
        return True


def probe(path: Path) -> VideoInfo:
    """What a video is, without decoding it.

    Raises:
        MissingMedia, UnreadableMedia (no picture stream, damaged), MediaTooLarge (pixels or duration).
    """
    try:
        with open_container(path) as container:
            return _describe(container)
    except MediaError:
        raise
    except MemoryError:
        raise MediaTooLarge("reading the video takes more memory than there is; cut it or scale it down") from None
    except Exception:  # decoders fail in many ways on foreign bytes; none of their texts is for people
        raise UnreadableMedia("the video cannot be read; give a whole MP4, MKV, WEBM or MOV file") from None


def _describe(container: InputContainer) -> VideoInfo:
    stream = picture_stream(container)
    if stream is None:
        raise UnreadableMedia("the file holds no video; give an MP4, MKV, WEBM or MOV file")
    width, height = stream.codec_context.width, stream.codec_context.height
    if width * height > MAX_PIXELS:
        raise MediaTooLarge(f"the video has {width} x {height} pixels, the limit is 4096 x 2304; scale it down")
    if width * height <= 0:
        raise UnreadableMedia("the video has no size; export it again as H.264 or VP9")
    fps = float(stream.average_rate or stream.guessed_rate or 0)
    stored = float(stream.duration * stream.time_base) if stream.duration and stream.time_base else 0.0
    claimed = max(stored, float(container.duration or 0) / 1e6)
    if claimed > MAX_SECONDS:
        raise MediaTooLarge(f"the video claims {claimed:.0f} s, the limit is {MAX_SECONDS:.0f} s; cut it")
    seconds = stored or _measured_seconds(container, stream)
    return VideoInfo(seconds, fps, width, height, bool(container.streams.audio))


def _measured_seconds(container: InputContainer, stream: VideoStream) -> float:
    """Matroska gives one duration for all streams, a browser's WEBM none."""
    first, last = _packet_span(container, stream)
    return max(last - first, 0.0) if last > first else 0.0


def picture_span(path: Path) -> tuple[float, float]:
    """When the first picture begins on the container's clock, and for how long there are pictures, in seconds.

    From the packets' times, nothing is decoded: from the first one shown to the end of the last one. All that belongs to a video's
    picture (timeline, mix, mux) measures by this one clock.

    Raises:
        MissingMedia, UnreadableMedia (no video, no picture in it, an end that is missing), MediaTooLarge (longer than the limit).
    """
    try:
        with open_container(path) as container:
            stream = picture_stream(container)
            if stream is None:
                raise UnreadableMedia("the file holds no video; give an MP4, MKV, WEBM or MOV file")
            first, last = _packet_span(container, stream, whole=True)
    except MediaError:
        raise
    except Exception:  # as everywhere: decoders fail in many ways
        raise UnreadableMedia("the video cannot be read; give a whole MP4, MKV, WEBM or MOV file") from None
    if not last > first:
        raise UnreadableMedia("the video holds no frame; give one with at least one picture")
    return first, last - first


def _packet_span(container: InputContainer, stream: VideoStream, whole: bool = False) -> tuple[float, float]:
    """Start and end of a stream's pictures. Where the file is to be ``whole``, all its streams are read to the promised end."""
    first, last = math.inf, -math.inf
    begin, end = math.inf, -math.inf  # of all streams
    base, fps = float(stream.time_base or 0), float(stream.average_rate or stream.guessed_rate or 0)
    for packet in container.demux() if whole else container.demux(stream):
        if packet.pts is None or packet.is_discard:  # an edit list may hide packets
            continue
        if whole and packet.is_corrupt:
            raise UnreadableMedia(f"the video is damaged at {float(packet.pts * packet.time_base):.1f} s; copy or export it again")
        time, shown = float(packet.pts * packet.time_base), float((packet.duration or 0) * packet.time_base)
        if packet.stream_index == stream.index:
            first, last = min(first, time), max(last, time + (shown or (1 / fps if fps else 0.0)))
            if last - first > MAX_SECONDS:
                raise MediaTooLarge(f"the video is longer than {MAX_SECONDS:.0f} s; cut it")
        begin, end = min(begin, time), max(end, time + shown)
    if whole and last > first:
        stored = float(stream.duration * base) if stream.duration else 0.0
        for promised, there in ((float(container.duration or 0) / 1e6, end - begin), (stored, last - first)):
            if promised - there > MISSING:
                raise UnreadableMedia(
                    f"the video ends after {there:.1f} s and promises {promised:.1f} s: it is not whole; copy or export it again"
                )
    return first, last


def frames_at(path: Path, times: Sequence[float]) -> list[np.ndarray]:
    """The frame shown at each time (seconds from the first frame, any order): [H, W, 3] uint8, upright.

    Times beyond the ends give the first and the last frame. Far ones are reached through key frames, so that a long video is not
    decoded whole.

    Raises:
        MissingMedia, UnreadableMedia (nothing can be decoded), MediaTooLarge.
    """
    probe(path)
    if not times:
        return []
    wanted = [(max(0.0, time) if math.isfinite(time) else 0.0, index) for index, time in enumerate(times)]
    found: dict[int, np.ndarray] = {}
    try:
        with open_container(path) as container:
            for index, frame in _shown(container, sorted(wanted)):
                found[index] = _pixels(frame)
    except MediaError:
        raise
    except MemoryError:
        raise MediaTooLarge("decoding the video takes more memory than there is; scale it down") from None
    except Exception:  # a damaged end does not spoil the frames before it
        if not found:
            raise UnreadableMedia("the video's frames cannot be decoded; export it again as H.264 or VP9") from None
    if not found:
        raise UnreadableMedia("the video holds no frame; give one with at least one picture")
    last = found[max(found, key=lambda index: times[index])]
    return [found.get(index, last) for index in range(len(times))]


def _shown(container: InputContainer, wanted: list[tuple[float, int]]) -> Iterator[tuple[int, VideoFrame]]:
    """(index, frame) for (seconds, index) in rising order: each the last frame that starts no later than its time."""
    stream: Any = picture_stream(container)
    stream.thread_type = "AUTO"
    stream.codec_context.thread_count = min(4, os.cpu_count() or 1)  # every thread holds frames
    base = float(stream.time_base)
    start = float(stream.start_time or 0) * base
    frames: Iterator[VideoFrame] = container.decode(stream)
    shown: VideoFrame | None = None
    ahead, decoded, jumps = next(frames, None), 0, True
    for time, index in wanted:
        due = time + 0.5 * base  # times are rounded to the stream's clock
        if jumps and ahead is not None and due - _time(ahead, start) > SEEK_AHEAD:
            container.seek(int((start + time) / base), stream=stream, backward=True)
            after = container.decode(stream)
            landed = next(after, None)
            if landed is not None and _time(ahead, start) <= _time(landed, start) <= due:
                frames, ahead = after, landed
            else:  # the file's index is wrong: once more from the start, and no further jumps
                container.seek(0, stream=stream, backward=True)
                frames, jumps = container.decode(stream), False
                ahead = next(frames, None)
        while ahead is not None and _time(ahead, start) <= due and decoded < MAX_DECODED:
            shown, ahead, decoded = ahead, next(frames, None), decoded + 1
        if (best := shown or ahead) is not None:
            yield index, best


def _time(frame: VideoFrame, start: float) -> float:
    return (frame.time if frame.time is not None else start) - start


def _pixels(frame: VideoFrame) -> np.ndarray:
    array: np.ndarray = frame.to_ndarray(format="rgb24")
    turns = round((frame.rotation or 0) / 90) % 4
    return np.rot90(array, turns).copy() if turns else array


def sample_frames(path: Path, count: int) -> list[np.ndarray]:
    """``count`` frames [H, W, 3] uint8, spread evenly over the video. Raises as ``frames_at``."""
    seconds = probe(path).seconds
    return frames_at(path, [seconds * (k + 0.5) / count for k in range(count)])


def encode_frames(frames: np.ndarray, fps: float) -> bytes:
    """Frames [N, H, W, 3] uint8 as a silent MP4 (H.264; even width and height); equal frames give equal bytes."""
    from fractions import Fraction
    from io import BytesIO

    import av

    made = BytesIO()
    with av.open(made, "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=Fraction(fps).limit_denominator(1001), options={"crf": "18", "threads": "1"})
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = "yuv420p"
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())
    return made.getvalue()
