"""Toy videos with a known schedule: balls that bounce, lamps that flash, blocks that step, and a bystander that makes no sound.

Deterministic: what happens is drawn by a seed, every picture follows from its time alone. The schedule is the truth that a detector is
held against.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Literal

import av
import numpy as np

from media.audio import Audio

Kind = Literal["bounce", "flash", "step", "still"]
NTSC_FILM, NTSC = Fraction(24_000, 1001), Fraction(30_000, 1001)
_CODECS = {".mp4": ("libx264", "aac"), ".mov": ("libx264", "aac"), ".mkv": ("libx264", "aac"), ".webm": ("libvpx", "libopus")}
_LAYOUTS = {1: "mono", 2: "stereo", 6: "5.1"}


@dataclass(frozen=True)
class Toy:
    """What happens in a clip, in seconds from its first frame: ``cuts`` begin a scene, ``onsets`` are heard."""

    path: Path
    seconds: float
    cuts: tuple[float, ...]
    onsets: tuple[float, ...]


@dataclass(frozen=True)
class Shot:
    """One scene: its kind, its length, and the seed of everything in it."""

    kind: Kind
    seconds: float
    seed: int = 0


def toy(
    path: Path,
    shots: Sequence[Shot],
    fps: Fraction | float = 30,
    size: tuple[int, int] = (160, 120),
    times: Sequence[float] | None = None,
    sound: Audio | None = None,
    bframes: int = 0,
    bystander: bool = True,
    gop: int = 30,
    crf: int = 18,
) -> Toy:
    """Draw and encode a clip.

    Args:
        times: when frames begin (seconds from 0, rising), for a variable frame rate; the default is a constant one.
        bframes: frames that look both ways between two others (H.264 only).
    """
    fps = Fraction(fps).limit_denominator(1001)
    length = sum(shot.seconds for shot in shots)
    at = np.arange(int(np.ceil(length * fps - 1e-6))) / float(fps) if times is None else np.asarray(times, float)
    starts = np.cumsum([0.0, *(shot.seconds for shot in shots)])
    scenes = [scene(shot, size, bystander) for shot in shots]
    ticks = fps.numerator if times is None else 90_000
    base = Fraction(1, ticks)
    stamps = np.arange(len(at)) * fps.denominator if times is None else np.round(at * ticks).astype(int)
    drawn = [int(np.searchsorted(starts, time + 1e-9, side="right") - 1) for time in at]
    with av.open(str(path), "w") as container:
        picture_codec, sound_codec = _CODECS[path.suffix]
        stream = container.add_stream(picture_codec, rate=fps)
        stream.width, stream.height, stream.pix_fmt = *size, "yuv420p"
        stream.time_base = stream.codec_context.time_base = base
        stream.codec_context.gop_size = gop
        if picture_codec == "libx264":
            preset = "veryfast" if bframes else "ultrafast"
            stream.options = {"preset": preset, "crf": str(crf), "bf": str(bframes), "threads": "1", "x264-params": "log-level=none"}
        else:
            stream.options = {"b": "1M", "deadline": "realtime", "cpu-used": "8"}
        voice = None if sound is None else container.add_stream(sound_codec, rate=sound.sample_rate, layout=_LAYOUTS[sound.channels])
        for time, stamp, index in zip(at, stamps, drawn, strict=True):
            frame = av.VideoFrame.from_ndarray(scenes[index][0](time - starts[index]), format="gray").reformat(format="yuv420p")
            frame.pts, frame.time_base = int(stamp), base
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
        if voice is not None and sound is not None:
            heard = av.AudioFrame.from_ndarray(np.ascontiguousarray(sound.samples), "fltp", _LAYOUTS[sound.channels])
            heard.sample_rate, heard.pts = sound.sample_rate, 0
            container.mux(voice.encode(heard))
            container.mux(voice.encode(None))
    cuts = [float(at[k]) for k in range(1, len(at)) if drawn[k] != drawn[k - 1]]
    onsets = [float(starts[k] + time) for k, (_, events) in enumerate(scenes) for time in events]
    return Toy(path, len(at) / float(fps) if times is None else float(length), tuple(cuts), tuple(onsets))


def scene(shot: Shot, size: tuple[int, int], bystander: bool) -> tuple[Callable[[float], np.ndarray], list[float]]:
    """A painter (seconds from the scene's start -> [H, W] uint8) and the moments of its events."""
    rng = np.random.default_rng(shot.seed)
    ground = _ground(size, rng)
    act, events = _ACTS[shot.kind](shot.seconds, size, rng)
    walker = _bystander(size, rng) if bystander else None

    def paint(time: float) -> np.ndarray:
        pixels = ground.copy()
        if walker is not None:
            walker(pixels, time)
        act(pixels, time)
        return np.rint(pixels.clip(0, 255)).astype(np.uint8)

    return paint, events


Act = Callable[[np.ndarray, float], None]


def _ground(size: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    """A soft picture: a few broad waves of grey around a level of its own."""
    x, y = np.meshgrid(np.linspace(0, 1, size[0]), np.linspace(0, 1, size[1]))
    picture = np.full(x.shape, rng.uniform(60, 150))
    for _ in range(4):
        fx, fy, phase = rng.uniform(-3, 3), rng.uniform(-3, 3), rng.uniform(0, 6)
        picture += rng.uniform(5, 16) * np.sin(2 * np.pi * (fx * x + fy * y) + phase)
    return picture


def _disc(pixels: np.ndarray, x: float, y: float, radius: float, grey: float) -> None:
    """A disc with a soft edge, at fractions of a pixel."""
    left, top = max(0, int(x - radius - 2)), max(0, int(y - radius - 2))
    box = pixels[top : max(0, int(y + radius + 3)), left : max(0, int(x + radius + 3))]
    if box.size:
        ys, xs = np.ogrid[top : top + box.shape[0], left : left + box.shape[1]]
        alpha = (radius + 0.5 - np.hypot(xs - x, ys - y)).clip(0, 1)
        box += alpha * (grey - box)


def _slab(pixels: np.ndarray, x: float, y: float, width: float, height: float, grey: float) -> None:
    """An upright rectangle with soft edges around its middle."""
    ys, xs = np.ogrid[: pixels.shape[0], : pixels.shape[1]]
    alpha = (width / 2 + 0.5 - np.abs(xs - x)).clip(0, 1) * (height / 2 + 0.5 - np.abs(ys - y)).clip(0, 1)
    pixels += alpha * (grey - pixels)


def _moments(seconds: float, rng: np.random.Generator, low: float, high: float) -> list[float]:
    """Irregular moments, ``low`` to ``high`` seconds apart, none in the first and last 0.3 s."""
    found = [0.3 + rng.uniform(0, high - low)]
    while found[-1] < seconds:
        found.append(found[-1] + rng.uniform(low, high))
    return [moment for moment in found if moment <= seconds - 0.3]


def _bounce(seconds: float, size: tuple[int, int], rng: np.random.Generator) -> tuple[Act, list[float]]:
    """A ball that hits the floor at irregular moments: parabolas between them, as high as their time allows."""
    width, height = size
    hits = _moments(seconds, rng, 0.45, 0.9)
    gravity = _gravity(size)
    x0, radius, grey, floor = rng.uniform(0.25, 0.45) * width, 0.055 * width, 240.0, 0.86 * height
    drift = rng.uniform(-0.01, 0.01) * width
    if hits and hits[-1] + 0.9 < seconds - 0.15:
        hits.append(hits[-1] + 0.9)
    around = [hits[0] - 0.7, *hits, max(hits[-1] + 0.9, seconds + 0.1)] if hits else [-0.1, seconds + 1]

    def act(pixels: np.ndarray, time: float) -> None:
        pixels[round(floor + radius) :] = 30
        k = max(int(np.searchsorted(around, time, side="right")) - 1, 0)
        begin, end = around[k], around[min(k + 1, len(around) - 1)]
        up = 0.5 * gravity * max(time - begin, 0) * max(end - time, 0)
        _disc(pixels, x0 + drift * time, floor - up, radius, grey)

    return act, hits


def _flash(seconds: float, size: tuple[int, int], rng: np.random.Generator) -> tuple[Act, list[float]]:
    """A lamp that lights up at once and fades within a fifth of a second."""
    flashes = np.array(_moments(seconds, rng, 0.5, 1.1))
    x, y = rng.uniform(0.2, 0.8) * size[0], rng.uniform(0.2, 0.5) * size[1]

    def act(pixels: np.ndarray, time: float) -> None:
        since = time - flashes[flashes <= time + 1e-9]
        glow = float(np.exp(-since[-1] / 0.08)) if len(since) else 0.0
        _disc(pixels, x, y, 0.08 * size[0], 45 + 205 * glow)

    return act, flashes.tolist()


def _step(seconds: float, size: tuple[int, int], rng: np.random.Generator) -> tuple[Act, list[float]]:
    """A block that hops forward and stands still at once where it lands."""
    landings = np.array(_moments(seconds, rng, 0.55, 1.0))
    stride, flight = 0.5 / max(len(landings), 1) * size[0], 0.35
    gravity = _gravity(size)

    def act(pixels: np.ndarray, time: float) -> None:
        done = int(np.searchsorted(landings, time, side="right"))
        x, up = 0.25 * size[0] + done * stride, 0.0
        if done < len(landings) and time > landings[done] - flight:
            flown = time - landings[done] + flight
            x += stride * flown / flight
            up = 0.5 * gravity * flown * (flight - flown)
        _slab(pixels, x, 0.7 * size[1] - up, 0.09 * size[0], 0.2 * size[1], 235.0)

    return act, landings.tolist()


def _gravity(size: tuple[int, int]) -> float:
    """Pixels a second squared: in 0.9 s a ball flies up 60 % of the picture and comes back."""
    return 8 * 0.6 * size[1] / 0.9**2


def _still(seconds: float, size: tuple[int, int], rng: np.random.Generator) -> tuple[Act, list[float]]:
    """Nothing but the ground, darker or lighter things in it."""
    spots = [(rng.uniform(0, size[0]), rng.uniform(0, size[1]), rng.uniform(5, 20), rng.uniform(20, 235)) for _ in range(12)]

    def act(pixels: np.ndarray, time: float) -> None:
        for spot in spots:
            _disc(pixels, *spot)

    return act, []


_ACTS: dict[str, Callable[[float, tuple[int, int], np.random.Generator], tuple[Act, list[float]]]] = {
    "bounce": _bounce, "flash": _flash, "step": _step, "still": _still,
}  # fmt: skip


def _bystander(size: tuple[int, int], rng: np.random.Generator) -> Act:
    """Something that moves and hits nothing: it drifts through, swings like a pendulum, or goes round in a circle."""
    way, phase, grey = int(rng.integers(3)), rng.uniform(0, 6), rng.uniform(15, 45)
    width, height = size
    period, row = rng.uniform(1.6, 2.6), rng.uniform(0.2, 0.35) * height

    def act(pixels: np.ndarray, time: float) -> None:
        turn = 2 * np.pi * time / period + phase
        if way == 0:
            x, y = (0.35 * time * width + phase * 20) % (1.4 * width) - 0.2 * width, row
        elif way == 1:
            x, y = (0.72 + 0.18 * np.sin(turn)) * width, row + 0.04 * height * np.cos(2 * turn)
        else:
            x, y = (0.75 + 0.14 * np.cos(turn)) * width, (0.35 + 0.2 * np.sin(turn)) * height
        _slab(pixels, x, y, 0.1 * width, 0.12 * height, grey)

    return act


def variable_times(seconds: float, seed: int = 0) -> list[float]:
    """Starts of frames 1/60 to 1/15 s apart, as phones write them in changing light."""
    rng = np.random.default_rng(seed)
    found = [0.0]
    while (after := found[-1] + 1 / rng.uniform(15, 60)) < seconds:
        found.append(after)
    return found
