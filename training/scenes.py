"""Clips that say more than a class name: events at a tempo or in a number, sounds near and far, two sounds in one clip.

Each function draws one clip from ``rng`` and returns it with its captions: samples float32 [T], mono, 16 kHz. The words in a caption
are tied to what was done: "at 120 beats per minute" is a period of half a second. Knows nothing of caches or models.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from training import synthesis as s
from training.captions import phrases
from training.synthesis import Rng, Signal


@dataclass(frozen=True)
class Scene:
    """A clip and what people would call it."""

    samples: np.ndarray  # float32 [T]
    captions: tuple[str, ...]


# -- events in time --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Event:
    """Something that happens at a moment. ``voice(rng)`` draws a source, whose calls are its single sounds."""

    voice: Callable[[Rng], Callable[[Rng, int], Signal]]
    one: tuple[str, ...]  # "a knock"
    many: tuple[str, ...]  # "knocks", said after a number
    going: tuple[str, ...]  # "knocking on a door", said with a tempo
    room: float = 0.15  # wetness of the reverberation


def _clock(rng: Rng) -> Callable[[Rng, int], Signal]:
    f0_hz = rng.uniform(1500, 4000)
    return lambda r, k: s.modal(r, f0_hz * (1, 0.85)[k % 2], (1, 1.7, 2.6), (0.012, 0.008, 0.005), 0.1)


def _metronome(rng: Rng) -> Callable[[Rng, int], Signal]:
    f0_hz = rng.uniform(900, 1800)
    return lambda r, k: s.modal(r, f0_hz, (1, 2.7, 4.1), (0.03, 0.015, 0.01), 0.15)


def _step(rng: Rng) -> Callable[[Rng, int], Signal]:
    foot = s.FOOTSTEP_SURFACES[str(rng.choice(list(s.FOOTSTEP_SURFACES)))]

    def walk(r: Rng, k: int) -> Signal:
        step = s.silence(0.4)
        for delay, gain in ((0.0, 1.0), (0.07, 0.5)):
            s.place(step, foot(r), delay, gain * r.uniform(0.8, 1))
        return step

    return walk


def _knock(rng: Rng) -> Callable[[Rng, int], Signal]:
    f0_hz = rng.uniform(120, 300)
    return lambda r, k: s.modal(r, f0_hz, (1, 1.6, 2.4, 3.7), (0.05, 0.04, 0.03, 0.02), 0.25)


def _beep(rng: Rng) -> Callable[[Rng, int], Signal]:
    n = s.sample_count(rng.uniform(0.06, 0.14))
    tone = s.sine(rng.uniform(500, 2500), n) * s.trapezoid(np.arange(n) / n, 1.0, 0.05, 0.05)
    return lambda r, k: tone


def _heart(rng: Rng) -> Callable[[Rng, int], Signal]:
    n = s.sample_count(0.2)
    sag = 1 - 0.2 * np.arange(n) / n

    def beat(r: Rng, k: int) -> Signal:
        pair = s.silence(0.5)
        for delay, gain, f_hz in ((0.0, 1.0, 55), (0.24, 0.7, 70)):
            s.place(pair, np.sin(s.TAU * f_hz * np.arange(n) / s.SAMPLE_RATE * sag) * s.arch(n) ** 2, delay, gain)
        return pair

    return beat


def _drum(rng: Rng) -> Callable[[Rng, int], Signal]:
    low_hz = rng.uniform(60, 160)
    n = s.sample_count(0.35)

    def hit(r: Rng, k: int) -> Signal:
        body = s.sweep(low_hz * (1 + 1.2 * s.decay(n, 0.03))) * s.decay(n, 0.1)
        return body + 0.3 * s.band_pass(r.standard_normal(n), 1500, 6000) * s.decay(n, 0.02)

    return hit


def _clap(rng: Rng) -> Callable[[Rng, int], Signal]:
    centre_hz = rng.uniform(900, 2000)
    n = s.sample_count(0.08)
    return lambda r, k: s.band_pass(r.standard_normal(n) * s.decay(n, 0.012), centre_hz * 0.6, centre_hz * 1.8)


def _hammer(rng: Rng) -> Callable[[Rng, int], Signal]:
    f0_hz = rng.uniform(500, 1400)
    return lambda r, k: s.modal(r, f0_hz, (1, 2.76, 5.4, 8.9), (0.12, 0.07, 0.04, 0.02), 0.4)


def _drip(rng: Rng) -> Callable[[Rng, int], Signal]:
    low_hz = rng.uniform(600, 1400)
    return lambda r, k: s.bubble(r, low_hz, low_hz * 1.3)


def _toll(rng: Rng) -> Callable[[Rng, int], Signal]:
    f0_hz = rng.uniform(180, 420)
    return lambda r, k: s.struck_bell(r, 3.0, f0_hz)


EVENTS = {
    "clock": Event(_clock, ("a tick", "a clock tick"), ("ticks", "clock ticks"), ("a ticking clock", "a clock ticking", "ticking")),
    "metronome": Event(_metronome, ("a metronome click", "a click"), ("clicks",), ("a metronome", "a metronome ticking", "clicking")),
    "footsteps": Event(_step, ("a footstep", "a step"), ("footsteps", "steps"), ("footsteps", "someone walking", "walking", "steps")),
    "knock": Event(_knock, ("a knock", "a knock on the door"), ("knocks", "knocks on the door"), ("knocking", "knocking on a door")),
    "beeps": Event(_beep, ("a beep",), ("beeps",), ("beeping", "beeps", "a beeping machine"), 0.05),
    "heartbeat": Event(_heart, ("a heartbeat",), ("heartbeats",), ("a heartbeat", "a beating heart", "a heart beating"), 0.0),
    "drum": Event(_drum, ("a drum hit", "a drum stroke"), ("drum hits", "drum strokes"), ("a drum beat", "drumming", "a drum")),
    "clap": Event(_clap, ("a clap", "a hand clap"), ("claps", "hand claps"), ("clapping hands", "hand clapping", "someone clapping")),
    "hammer": Event(_hammer, ("a hammer blow",), ("hammer blows", "hammer strokes"), ("hammering", "a hammer", "a hammer on metal")),
    "water_drip": Event(_drip, ("a drop of water", "a drip"), ("drops of water", "drips"), ("dripping water", "a dripping tap"), 0.3),
    "church_bell": Event(_toll, ("a bell stroke",), ("bell strokes",), ("a tolling bell", "a bell tolling", "a church bell"), 0.3),
}
TEMPO_BPM = {"slow": (40, 70), "": (80, 125), "fast": (150, 240)}
TEMPO_ADJECTIVES = {
    "slow": ("slow", "very slow", "leisurely"),
    "": ("steady", "moderate"),
    "fast": ("fast", "very fast", "rapid", "quick"),
}
TEMPO_FRAMES = {
    "slow": ("{}, slowly", "{} at a slow pace", "{} slowly"),
    "": ("{}", "{} at a steady pace"),
    "fast": ("{}, fast", "{} at a fast pace", "{} quickly"),
}
NUMBERS = ("one", "two", "three", "four", "five")


def train_of(event: Event, rng: Rng, seconds: float, times_s: Signal) -> Signal:
    """The event at the given times, each a little louder or softer, in its room: [T]."""
    y, sound = s.silence(seconds), event.voice(rng)
    for k, at in enumerate(times_s):
        s.place(y, sound(rng, k), float(at), rng.uniform(0.8, 1))
    return s.reverb(rng, y, 0.4, event.room) if event.room else y


def paced(rng: Rng, seconds: float) -> Scene:
    """A regular train of one event whose captions name its tempo."""
    name = str(rng.choice([n for n in EVENTS if n != "church_bell"]))
    pace = str(rng.choice(list(TEMPO_BPM)))
    low, high = TEMPO_BPM[pace]
    bpm = int(rng.integers(low // 5, high // 5 + 1) * 5)
    times_s = np.arange(rng.uniform(0, 0.4), seconds, 60 / bpm)
    event = EVENTS[name]
    said = str(rng.choice(event.going))
    adjective = qualified(str(rng.choice(TEMPO_ADJECTIVES[pace])), said)
    exact = str(rng.choice(("{} at {} beats per minute", "{} at {} bpm", "{}, {} bpm")))
    captions = (
        adjective if rng.random() < 0.6 else str(rng.choice(TEMPO_FRAMES[pace])).format(said),
        exact.format(said, bpm),
        exact.format(adjective, bpm),
    )
    return Scene(s.finished(rng, train_of(event, rng, seconds, times_s)), captions)


def qualified(adjective: str, phrase: str) -> str:
    """An adjective before a phrase, behind its article.

    >>> qualified("slow", "a clock ticking"), qualified("old", "a clock"), qualified("fast", "steps")
    ('a slow clock ticking', 'an old clock', 'fast steps')
    """
    bare = phrase.removeprefix("a ").removeprefix("an ").removeprefix("the ")
    article = "" if bare == phrase else "an " if adjective[0] in "aeiou" else "a "
    return f"{article}{adjective} {bare}"


def counted(rng: Rng, seconds: float) -> Scene:
    """One to five events and then nothing more; the captions say how many."""
    name = str(rng.choice([n for n in EVENTS if n not in ("heartbeat", "water_drip")]))
    event, count = EVENTS[name], int(rng.integers(1, 6))
    times_s = rng.uniform(0.1, 0.6) + np.arange(count) * rng.uniform(0.35, min(0.8, (seconds - 1.2) / max(count - 1, 1)))
    noun = str(rng.choice(event.many))
    if count == 1:
        single = str(rng.choice(event.one))
        captions = (f"one {single.removeprefix('a ')}", f"a single {single.removeprefix('a ')}", f"{single}, once")
    else:
        captions = (f"{NUMBERS[count - 1]} {noun}", f"{noun}, {NUMBERS[count - 1]} times", f"exactly {NUMBERS[count - 1]} {noun}")
    return Scene(s.finished(rng, train_of(event, rng, seconds, times_s)), captions)


# -- near and far ----------------------------------------------------------------------------------------------------

FAR_WORDS = ("{} far away", "{} in the distance", "{}, very far off", "{} from afar")
NEAR_WORDS = ("{} close up", "{} right next to me", "{}, very near", "{} at close range")


def placed(rng: Rng, sound: Signal, phrase: str) -> Scene:
    """A sound near (dry, bright, loud) or far (reverberant, without highs, soft)."""
    if rng.random() < 0.5:
        adjective = str(rng.choice(("very close", "nearby", "loud")))
        return Scene(s.with_peak(sound, rng.uniform(0.85, 0.97)), (*_said(rng, NEAR_WORDS, phrase), qualified(adjective, phrase)))
    wet = s.reverb(rng, s.low_pass(s.low_pass(sound, rng.uniform(600, 1300)), 2500), rng.uniform(0.8, 1.5), rng.uniform(0.6, 1.2))
    adjective = str(rng.choice(("distant", "faint", "far-off")))
    return Scene(s.with_peak(wet, rng.uniform(0.06, 0.16)), (*_said(rng, FAR_WORDS, phrase), qualified(adjective, phrase)))


def _said(rng: Rng, frames: tuple[str, ...], *phrases_: str) -> tuple[str, ...]:
    return tuple(str(f).format(*phrases_) for f in rng.choice(frames, 2, replace=False))


# -- two sounds ------------------------------------------------------------------------------------------------------

WHILE_WORDS = ("{} while {}", "{} and {}", "{} with {}", "{} together with {}", "{} at the same time as {}")
BEHIND_WORDS = ("{} with {} in the background", "{} over {}", "{}, behind it {}")
THEN_WORDS = ("{}, then {}", "{} followed by {}", "first {}, then {}", "{} and after that {}")


def held_out(first: str, second: str) -> bool:
    """Whether a pair of classes is kept out of training, a fifth of all, so that a benchmark can ask for it."""
    return zlib.crc32("|".join(sorted((first, second))).encode()) % 5 == 0


def mixed(rng: Rng, first: tuple[str, Signal], second: tuple[str, Signal]) -> Scene:
    """Two sounds (phrase, samples [T]) of equal length at once or one after the other."""
    (a, x), (b, y) = first, second
    x, y = _level(x), _level(y)
    kind = rng.random()
    if kind < 0.45:
        if rng.random() < 0.5:
            (a, x), (b, y) = (b, y), (a, x)
        return Scene(s.finished(rng, x + y * 10 ** (rng.uniform(-3, 3) / 20)), _said(rng, WHILE_WORDS, a, b))
    if kind < 0.7:
        return Scene(s.finished(rng, x + y * 10 ** (rng.uniform(-14, -8) / 20)), _said(rng, BEHIND_WORDS, a, b))
    n = len(x)
    at, fade = int(n * rng.uniform(0.42, 0.58)), s.sample_count(0.06)
    gate = np.clip((np.arange(n) - at) / fade + 0.5, 0, 1)
    late = np.concatenate([np.zeros(at), y[: n - at]])
    return Scene(s.finished(rng, x * (1 - gate) + late * gate), _said(rng, THEN_WORDS, a, b))


def _level(x: Signal) -> Signal:
    """The sound at a loudness by which neither of two hides the other: its loud parts (90th percentile of 50 ms frames) at 0.1."""
    frames = x[: len(x) // 800 * 800].reshape(-1, 800)
    loud = np.percentile(np.sqrt((frames.astype(np.float64) ** 2).mean(1)), 90)
    return x * (0.1 / max(loud, 1e-4))


def short_phrase(rng: Rng, name: str, longest: int = 5) -> str:
    """One of a class's phrases of at most ``longest`` words."""
    short = [p for p in phrases()[name] if len(p.split()) <= longest]
    return str(rng.choice(short))
