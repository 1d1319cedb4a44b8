"""Video in: what it is, and frames at times. Knows PyAV, with every protocol but plain files closed."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from media.refs import MediaError, MediaTooLarge, MissingMedia, UnreadableMedia

if TYPE_CHECKING:
    from av.container import InputContainer

MAX_PIXELS = 4096 * 2304
MAX_SECONDS = 4 * 3600.0
CONTAINERS = "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,wav,mp3,ogg,flac"
CODECS = (
    "h264,hevc,vp8,vp9,av1,libdav1d,libvpx,libvpx-vp9,mpeg4,mjpeg,aac,mp3,mp3float,opus,libopus,vorbis,flac,"
    "pcm_s16le,pcm_s24le,pcm_s32le,pcm_f32le,pcm_u8,ac3,eac3"
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
    """Open a local file. Playlists, ``concat:`` and addresses cannot be reached from it: FFmpeg may only use ``file``,
    the listed containers and, per stream, the listed codecs."""
    import av

    if not path.is_file():
        raise MissingMedia(f"there is no file {path}")
    container = av.open(
        f"file:{path.resolve()}",
        options={"protocol_whitelist": "file", "format_whitelist": CONTAINERS},
        metadata_errors="ignore",
    )
    for stream in container.streams:
        if stream.type in ("audio", "video"):
            stream.codec_context.options = {"codec_whitelist": CODECS, "max_pixels": str(MAX_PIXELS)}
    return container


def probe(path: Path) -> VideoInfo:
    """Raises MissingMedia, UnreadableMedia (no picture stream, damaged), MediaTooLarge (pixels or duration)."""
    try:
        with open_container(path) as container:
            if not container.streams.video:
                raise UnreadableMedia("the file holds no video; give an MP4, MKV, WEBM or MOV file")
            stream = container.streams.video[0]
            width, height = stream.codec_context.width, stream.codec_context.height
            if width * height > MAX_PIXELS:
                raise MediaTooLarge(f"the video has {width} x {height} pixels, the limit is 4096 x 2304; scale it down")
            if stream.duration and stream.time_base:
                seconds = float(stream.duration * stream.time_base)
            else:  # Matroska keeps the duration with the container
                seconds = float(container.duration or 0) / 1e6
            if seconds > MAX_SECONDS:
                raise MediaTooLarge(f"the video claims {seconds:.0f} s, the limit is {MAX_SECONDS:.0f} s; cut it")
            fps = float(stream.average_rate or 0)
            return VideoInfo(seconds, fps, width, height, bool(container.streams.audio))
    except MediaError:
        raise
    except Exception:
        raise UnreadableMedia("the video cannot be read; give an MP4, MKV, WEBM or MOV file") from None


def frames_at(path: Path, times: list[float]) -> list[np.ndarray]:
    """The frame shown at each time (seconds, any order): [H, W, 3] uint8, upright.

    Raises:
        MissingMedia, UnreadableMedia (nothing can be decoded).
    """
    probe(path)
    order = sorted(range(len(times)), key=times.__getitem__)
    found: dict[int, np.ndarray] = {}
    try:
        with open_container(path) as container:
            stream = container.streams.video[0]
            stream.thread_type = "AUTO"
            previous, wanted = None, list(order)
            for frame in container.decode(stream):
                now = frame.time if frame.time is not None else 0.0
                while wanted and times[wanted[0]] < now and previous is not None:
                    found[wanted.pop(0)] = _pixels(previous)
                previous = frame
                if not wanted:
                    break
            for index in wanted:
                if previous is not None:
                    found[index] = _pixels(previous)
    except MediaError:
        raise
    except Exception:
        if not found:
            raise UnreadableMedia("the video's frames cannot be decoded; export it again as H.264 or VP9") from None
    if not found:
        raise UnreadableMedia("the video holds no frame; give one with at least one picture")
    last = found[max(found, key=times.__getitem__)]
    return [found.get(index, last) for index in range(len(times))]


def _pixels(frame: object) -> np.ndarray:
    array: np.ndarray = frame.to_ndarray(format="rgb24")  # type: ignore[attr-defined]
    turns = round((getattr(frame, "rotation", 0) or 0) / 90) % 4
    return np.rot90(array, turns).copy() if turns else array


def sample_frames(path: Path, count: int) -> list[np.ndarray]:
    """``count`` frames, spread evenly over the video."""
    seconds = probe(path).seconds
    return frames_at(path, [seconds * (k + 0.5) / count for k in range(count)])
