"""What happens when in a video, seen by its pixels alone: scene cuts, motion, and the moments that ask for a sound.

Knows frames and their times, at any rate. Does not know what is in the picture. Each frame is looked at once, small and grey; of it a
few numbers stay, so that memory does not grow with length.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np

from media.refs import MediaError, MediaTooLarge, UnreadableMedia

WIDTH = 96  # pixels of the longer side that is looked at
RATE = 25.0  # Hz of the motion curve


@dataclass(frozen=True)
class Onset:
    """A moment that is seen to make a sound: ``time`` in seconds from the first frame, ``strength`` 0..1."""

    time: float
    strength: float


@dataclass(frozen=True, eq=False)
class Timeline:
    """``seconds`` from the first frame's start to the last one's end; ``cuts``: when a new scene begins, without 0.

    ``motion``: [N] float32 in 0..1 at ``rate`` Hz, cuts taken out; ``onsets``: impacts, steps, flashes, no cuts, no steady movers.
    """

    seconds: float
    fps: float
    cuts: tuple[float, ...]
    motion: np.ndarray
    rate: float
    onsets: tuple[Onset, ...]

    @property
    def scenes(self) -> tuple[tuple[float, float], ...]:
        """(start, end) of each scene in seconds; together they are the whole video."""
        edges = (0.0, *self.cuts, self.seconds)
        return tuple(pairwise(edges))


def watch(path: Path, on_progress: Callable[[float], None] = lambda _: None, cancelled: Callable[[], bool] = lambda: False) -> Timeline:
    """Look at a whole video once.

    Args:
        on_progress: is told the share that is done, 0..1.
        cancelled: is asked now and then; a True ends with ``InterruptedError``.

    Raises:
        MissingMedia, UnreadableMedia (no video, no picture, damaged), MediaTooLarge.
    """
    from media.video import picture_span, probe

    info = probe(path)
    _, seconds = picture_span(path)
    times, before, changes, shapes = [], None, [], []
    for time, frame in small_frames(path):
        now = frame.astype(np.float32) / 255
        changes.append(0.0 if before is None else float(np.abs(now - before).mean()))
        histogram = np.histogram(frame, 16, (0, 256))[0] / frame.size
        shapes.append(histogram)
        times.append(time)
        before = now
        if len(times) % 50 == 0:
            on_progress(min(time / seconds, 1.0))
            if cancelled():
                raise InterruptedError("watching was stopped")
    at, change = np.array(times), np.array(changes)
    moved = np.concatenate([[0.0], 0.5 * np.abs(np.diff(np.array(shapes), axis=0)).sum(axis=1)])
    cut = find_cuts(change, moved)
    change[cut] = 0
    count = max(1, round(seconds * RATE))
    curve = np.interp(np.arange(count) / RATE, at, change).astype(np.float32)
    top = float(np.quantile(curve, 0.98)) or float(curve.max()) or 1.0
    rise = np.diff(change, prepend=0.0)
    strong = max(float(rise.max()), 1e-3)
    onsets = tuple(Onset(float(at[k]), float(rise[k] / strong)) for k in range(1, len(at)) if rise[k] > 0.3 * strong and k not in cut)
    on_progress(1.0)
    return Timeline(seconds, info.fps, tuple(float(at[k]) for k in cut), np.clip(curve / top, 0, 1), RATE, onsets)


def find_cuts(change: np.ndarray, moved: np.ndarray) -> list[int]:
    """Indices of frames that begin a new scene, from the mean change and the share of the histogram that moved."""
    found = []
    for k in range(1, len(change)):
        around = np.concatenate([change[max(1, k - 8) : k], change[k + 1 : k + 9]])
        usual = float(np.median(around)) if len(around) else 0.0
        if change[k] > 0.05 and change[k] > 4 * usual and moved[k] > 0.15:
            found.append(k)
    return found


def small_frames(path: Path) -> Iterator[tuple[float, np.ndarray]]:
    """(seconds from the first frame, grey [h, w] uint8) of every frame, the longer side ``WIDTH`` pixels, as stored (not turned).

    Raises:
        UnreadableMedia: damaged frames. MediaTooLarge: more memory than there is.
    """
    import os

    from media.video import open_container, picture_stream

    try:
        with open_container(path) as container:
            stream = picture_stream(container)
            assert stream is not None, "picture_span has found it"
            stream.thread_type = "AUTO"
            stream.codec_context.thread_count = min(4, os.cpu_count() or 1)
            first = None
            for frame in container.decode(stream):
                first = frame.time if first is None else first
                scale = WIDTH / max(frame.width, frame.height)
                width, height = max(2, round(frame.width * scale)), max(2, round(frame.height * scale))
                small = frame.reformat(width=width, height=height, format="gray", interpolation="AREA")
                yield frame.time - first, small.to_ndarray()
    except MediaError:
        raise
    except MemoryError:
        raise MediaTooLarge("decoding the video takes more memory than there is; scale it down") from None
    except Exception:
        raise UnreadableMedia("the video's frames cannot be decoded; export it again as H.264 or VP9") from None
