"""What happens when in a video, seen by its pixels alone: scene cuts, motion, and the moments that ask for a sound.

Knows frames and their times, at any rate. Does not know what is in the picture. Each frame is looked at once, small and grey; of it a
few numbers stay, so that memory does not grow with length.
"""

from __future__ import annotations

import math
import os
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import numpy as np

from media.motion import FAR, STILL, Moved, blow, flash, follow, renewal, turn_at
from media.refs import MediaError, MediaTooLarge, UnreadableMedia, shown

SIDE = 96  # pixels of the longer side that is looked at
RATE = 25.0  # Hz of the motion curve
NOISE = 3.0  # grey levels that a pixel changes without moving
SPAN = 1 / 33  # seconds; movement is followed over at least as long, so that 60 frames a second look like 30
LATE = 0.05  # seconds; pictures further apart are not left out between
BLOW = 25.0  # pixels a second that a thing must lose at once: a quarter of the picture's longer side
HARD = 90.0  # a blow of so much has a strength of 0.63
OVER = 3.5  # and how many times the usual loss
AROUND = 1.0  # seconds before and after in which it is usual
FLASH = 12.0  # grey levels, mean over a patch
CUT = 9.0  # grey levels, median over the picture
RETURN = 0.25  # seconds within which a flash over the whole picture is gone again
GAP = 0.1  # seconds between two onsets


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
    from media.guard import MAX_IN_PLACE, admit
    from media.video import picture_span, probe

    admit(path, MAX_IN_PLACE)  # decoded in a child first
    eye = Eye()
    try:
        info = probe(path)
        _, seconds = picture_span(path)
        for count, (time, frame) in enumerate(small_frames(path)):
            eye.see(time, frame)
            if count % 32 == 0:
                on_progress(min(time / seconds, 1.0))
                if cancelled():
                    raise InterruptedError("watching was stopped")
    except MediaError as error:
        raise type(error)(f"{shown(path)}: {error}") from None
    on_progress(1.0)
    cuts, motion, onsets = eye.told(seconds)
    return Timeline(seconds, info.fps, cuts, motion, RATE, onsets)


def _far(seconds: float) -> int:
    """Pixels that a thing is followed over: at ordinary rates ``FAR``, more where pictures are further apart."""
    return min(max(FAR, 2 * math.ceil(FAR / 2 * 25 * seconds)), 2 * FAR)


@dataclass
class Struck:
    """A thing that lost speed at ``time``, ``lasts`` seconds before the next picture. ``loss`` in pixels a second; then how far its
    movement changed one picture ``before``, ``now``, and in the two pictures ``after``, each with the seconds that it took."""

    time: float
    lasts: float
    loss: float
    before: tuple[float, float]
    now: tuple[float, float]
    after: list[tuple[float, float]] = field(default_factory=list)


class Eye:
    """Sees pictures one by one, [3, H, W] uint8 (brightness, two differences of colour), and remembers a few numbers of each."""

    def __init__(self) -> None:
        self._times: list[float] = []
        self._change: list[float] = []  # mean change of brightness
        self._renewal: list[float] = []
        self._returned: list[float] = []  # least renewal against the picture before, within RETURN
        self._light: list[float] = []
        self._recent: deque[tuple[float, np.ndarray]] = deque()
        self._open: list[tuple[int, np.ndarray]] = []  # candidates of cuts: their index, and the picture before
        self._pair: list[tuple[float, np.ndarray]] = []  # the last two pictures whose movement is followed
        self._left: tuple[float, np.ndarray] | None = None  # the last picture that came too soon to be followed
        self._before: tuple[Moved, float] = (STILL, 1.0)  # what moved in the picture before, and how long it had taken to come
        self._blows: list[Struck] = []
        self._pending: list[tuple[Struck, np.ndarray, np.ndarray]] = []  # the last ones, where the thing is now and its way to there

    def see(self, time: float, frame: np.ndarray) -> None:
        now = frame.astype(np.float32)
        before = self._recent[-1][1] if self._recent else now
        renewed = renewal(before, now)
        self._times.append(time)
        difference = np.abs(now[0] - before[0])
        self._change.append(float(np.maximum(difference - NOISE, 0).mean()))
        self._renewal.append(renewed)
        self._returned.append(renewed)
        self._light.append(flash(before[0], now[0]) if self._recent else 0.0)
        self._open = [(k, old) for k, old in self._open if time - self._times[k] <= RETURN]
        for k, old in self._open:
            self._returned[k] = min(self._returned[k], renewal(old, now))
        if renewed > CUT:
            self._open.append((len(self._times) - 1, before))
        self._recent.append((time, now))
        while len(self._recent) > 1:
            self._recent.popleft()
        self._follow(time, now[0])

    def _follow(self, time: float, now: np.ndarray) -> None:
        """Take a picture, or leave it where pictures come fast; one that was left is taken after all where the next one comes late."""
        if self._pair and time - self._pair[-1][0] < SPAN - 1e-3:
            self._left = (time, now)
            return
        if self._left is not None and time - self._pair[-1][0] > LATE:
            self._take(*self._left)
        self._left = None
        self._take(time, now)

    def _take(self, time: float, now: np.ndarray) -> None:
        if len(self._pair) == 2:
            (first, before), (middle, between) = self._pair
            lasted, lasts = middle - first, time - middle
            moved = follow(before, between, now, (_far(lasted), _far(lasts)))
            self._look_back(moved, lasted, lasts)
            took = (self._before[1] + lasted) / 2
            found = blow(*self._before, moved, lasted, lasts)
            if found is not None:
                struck = Struck(middle, lasts, found.loss, (found.before, took), (found.turn, (lasted + lasts) / 2))
                self._blows.append(struck)
                self._pending.append((struck, found.goes_to, found.gone))
            self._before = (moved, lasted)
        self._pair = [*self._pair[-1:], (time, now)]

    def _look_back(self, moved: Moved, lasted: float, lasts: float) -> None:
        """What became of the things of the last two blows. One that is not where it went was taken for another: that was no blow."""
        still = []
        for struck, place, gone in self._pending:
            seen = turn_at(place, gone, moved, lasted, lasts)
            if seen is None and not struck.after:
                struck.loss = 0.0
            elif seen is not None:
                struck.after.append((seen[0], (lasted + lasts) / 2))
                if len(struck.after) < 2:
                    still.append((struck, *seen[1:]))
        self._pending = still

    def told(self, seconds: float) -> tuple[tuple[float, ...], np.ndarray, tuple[Onset, ...]]:
        """Cuts, the motion curve and the onsets of a video of ``seconds``."""
        times = np.array(self._times)
        cuts = find_cuts(times, np.array(self._renewal), np.array(self._returned))
        at = times[cuts]
        found = [*flashes(times, np.array(self._light)), *blows(self._blows)]
        onsets = _apart([onset for onset in found if not len(at) or _clear_of(onset.time, times, cuts)])
        change = np.array(self._change)
        change[cuts] = 0.0
        return tuple(at.tolist()), motion_curve(times, change, seconds), onsets


def _clear_of(time: float, times: np.ndarray, cuts: list[int]) -> bool:
    """Whether a moment is not between the pictures around a cut."""
    k = int(np.searchsorted(times, time + 1e-9, side="right")) - 1
    return not any(cut - 2 <= k <= cut + 1 for cut in cuts)


def find_cuts(times: np.ndarray, renewed: np.ndarray, returned: np.ndarray) -> list[int]:
    """Indices of the pictures that begin a scene: much is new at once, and stays new.

    A flash over the whole picture comes and goes within ``RETURN``: neither is a cut.
    """
    found: list[int] = []
    over = -np.inf  # until when a flash may take to go
    for k in np.flatnonzero(renewed > CUT):
        around = np.r_[renewed[max(1, k - 3) : k], renewed[k + 1 : k + 4]]
        around = around[around > 1]  # pictures that are shown twice would halve what is usual
        usual = float(around.mean()) if len(around) else 0.0
        if returned[k] <= 0.4 * renewed[k]:
            over = times[k] + RETURN
        elif renewed[k] > 2.5 * usual and times[k] > over:
            found.append(int(k))
    return found


def flashes(times: np.ndarray, light: np.ndarray) -> list[Onset]:
    """Sudden light: more than before by far, in one picture."""
    found = []
    for k in np.flatnonzero(light > FLASH):
        before = light[max(0, k - 3) : k]
        if light[k] > 2 * before.max(initial=0.0) and light[k] >= light[k : k + 2].max():
            # It came on at some time since the picture before: a little earlier than it is seen halves the worst error.
            found.append(Onset(float(times[k] - 0.3 * (times[k] - times[k - 1])), float(1 - np.exp(-light[k] / (3 * FLASH)))))
    return found


def blows(struck: list[Struck]) -> list[Onset]:
    """Moments at which a thing loses its speed at once: a hit, a landing, a stop.

    A blow falls between two pictures and changes the movement in both. What changes it as much in the pictures around these is gravity,
    a pendulum or a hand that slows down. And it stands out: where things lose speed all the time, as a face that talks or a hand that
    holds the camera, the usual loss is no blow.
    """
    found = []
    times, losses = np.array([one.time for one in struck]), np.array([one.loss for one in struck])
    for one in struck:
        (before, took), (now, long), (after, longer), (later, last) = one.before, one.now, *(*one.after, (0.0, 1.0), (0.0, 1.0))[:2]
        steady = max(0.7 * before / took, later / last)  # a second, as gravity
        score = min(now + after - steady * (long + (longer if one.after else long)), 2 * one.loss)
        near = slice(*np.searchsorted(times, (one.time - AROUND, one.time + AROUND)))
        if score > BLOW and score > OVER * np.median(losses[near]):
            share = after / (now + after)
            found.append(Onset(one.time + share * one.lasts, float(1 - np.exp(-score / HARD))))
    return found


def _apart(onsets: list[Onset]) -> tuple[Onset, ...]:
    """The strongest ones, at least ``GAP`` seconds apart, in order of time."""
    kept: list[Onset] = []
    for onset in sorted(onsets, key=lambda onset: (-onset.strength, onset.time)):
        if all(abs(onset.time - other.time) >= GAP for other in kept):
            kept.append(onset)
    return tuple(sorted(kept, key=lambda onset: onset.time))


def motion_curve(times: np.ndarray, change: np.ndarray, seconds: float) -> np.ndarray:
    """Change a second at ``RATE`` Hz, [N] float32 in 0..1, whatever the frame rate: what changed between two pictures is spread over
    the time between them."""
    count = max(1, round(seconds * RATE))
    edges = np.arange(count + 1) / RATE
    grown = np.interp(edges, times, np.cumsum(change))
    curve = np.convolve(np.pad(np.diff(grown), 1, mode="edge"), np.full(3, 1 / 3), mode="valid") * RATE
    top = max(float(np.quantile(curve, 0.98)), 2.0)  # grey levels a second: in a still picture the noise is no motion
    return np.clip(curve / top, 0.0, 1.0).astype(np.float32)


def small_frames(path: Path) -> Iterator[tuple[float, np.ndarray]]:
    """(seconds from the first frame, [3, h, w] uint8) of every frame: brightness and two differences of colour, as stored (not turned).

    Raises:
        UnreadableMedia: damaged frames. MediaTooLarge: more memory than there is.
    """
    from media.video import open_container, picture_stream

    last: float | None = None
    try:
        with open_container(path) as container:
            stream = picture_stream(container)
            assert stream is not None, "picture_span has found it"
            stream.thread_type = "AUTO"
            stream.codec_context.thread_count = min(4, os.cpu_count() or 1)
            first = None
            for frame in container.decode(stream):
                first = frame.time if first is None else first
                scale = SIDE / max(frame.width, frame.height)
                width, height = (max(16, round(side * scale)) for side in (frame.width, frame.height))
                small = frame.reformat(width=width, height=height, format="yuv444p", interpolation="AREA")
                last = frame.time - first
                yield last, small.to_ndarray()
    except MediaError:
        raise
    except MemoryError:
        raise MediaTooLarge("decoding the video takes more memory than there is; scale it down") from None
    except Exception:
        where = "" if last is None else f" after {last:.1f} s"
        raise UnreadableMedia(f"the video is damaged{where}: its frames cannot be decoded; export it again as H.264 or VP9") from None
