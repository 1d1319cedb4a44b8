"""What a prompt says about when and where: sounds at once or one after another, events at a tempo or in a number, near or far.

``plan`` turns words into layers, each a sound of its own with its moment, its loudness curve and its distance; ``arranged`` puts the
layers that were made together. A small network finds both sounds of a prompt in a few cases of ten and keeps no tempo that is only
said, but follows a loudness curve to 40 ms: so words about time become curves, and two sounds become two layers.

Knows words, curves and samples. Does not know networks; English only, as the encoder behind it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from media.audio import Audio
from media.mel import MelSpec, log_mel

RULES = 5  # counts up with every change of what a prompt becomes: a fingerprint names it
CURVE_RATE = 100  # points of a loudness curve a second
MOST_LAYERS = 4  # what says more is left to the network in one piece
WHOLE = 5.12  # seconds: shorter layers are cut out of a sound of this length
FADE = 0.06  # seconds at the borders between one sound and the next
APART, APART_SHARE, ENTRY = 0.8, 0.16, 0.2  # seconds between the beginnings of sounds at once, at most that share of them; their fades
LEVEL_DB = -20.0  # of the louder half of every layer where there are several
FAR_HZ, FAR_DB, FAR_PEAK, NEAR_PEAK = 1000.0, -12.0, 0.15, 0.95
SALIENT_DB, GLIMPSE_DB, MOST_GAIN_DB = 30.0, 3.0, 10.0  # what belongs to a sound, how far it must stand out, how far it may be moved

AFTER = re.compile(r"(?<!now and )\bthen\b|\bfollowed by\b|\bafter that\b|\bafterwards\b|;", re.I)
SILENT = re.compile(r"^(?:and |only |just )?(?:silence|quiet|stillness|nothing(?: more| else)?)$", re.I)
MUSIC = re.compile(
    r"\b(?:music|tune|melod(?:y|ies)|song|waltz|piano|guitars?|violins?|strings|flutes?|banjo|marimba|orchestra|band)\b", re.I
)
FAR = re.compile(
    r"\b(?:far (?:away|off|in the distance)|far-?(?:away|off)|distan(?:t|ce)|a long way (?:off|away)|afar|miles away)\b", re.I
)
NEAR = re.compile(
    r"\b(?:close[ -]up|up close|close by|(?:at |very )*close(?: range)?|right (?:beside|next to|in front of)|(?:beside|next to) me|"
    r"a step away|very near|nearby|in my ear)\b",
    re.I,
)
# The words around them that fall with them, and "a distant bell", whose article stays.
LISTENER = r"me|us|you|(?:my|the|your) (?:ears?|head|window|microphone|listener)"
PLACE = re.compile(
    r"\b(?:a )?close[- ]?up of |\b(?:distant|far-?away|far-?off|nearby|close-?up) (?=[a-z])|"
    r"(?:\s*,)?\s*\b(?:(?:heard|coming|somewhere|from|off|in|at|over|only|just|very|quite|some|a|an|the|great|far|long|close|right) )*"
    r"(?:far (?:away|off|in the distance)|far-?(?:away|off)(?! [a-z])|distance|"
    r"long way (?:off|away)|afar|miles away|close[ -]up|up close|"
    rf"close by(?! [a-z])|close range|(?:beside|next to|in front of) (?:{LISTENER})|step away|near|nearby|in my ear)\b(?:\s*,)?",
    re.I,
)

# Sounds that are struck and die away, and for how long (seconds) where it is not 0.3.
STRUCK = (
    r"knock|rap(?:s|ping)\b|tick|tock|click|metronome|clock|clap|beep|bleep|ping(?:s|ing)?\b|footstep|steps?\b|walk|stroll|strid|jog|"
    r"runner|march|hurr(?:y|ies)|hammer|drum|drip|heart ?beat|heart\b|bark|gunshot|shots?\b|bang|thud|pulse"
)
RINGING = r"bells?\b|toll|gong|chime"
EVENT = re.compile(rf"\b(?:{STRUCK}|{RINGING})", re.I)
RINGS = re.compile(rf"\b(?:{RINGING})", re.I)
NOUN = (
    "knock|rap|tick|click|clap|beep|bleep|ping|footstep|step|stroke|blow|hit|beat|bark|gunshot|shot|bang|thud|toll|chime|ring|drip|drop"
)
SMALL = ("one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
MANY = r"many|lots of|a lot of|plenty of|a volley of|a series of|countless"
BPM = re.compile(r"\b(\d{2,3})[ -]*(?:bpm\b|(?:[a-z]+ )?(?:per|a|each|every) minute\b)", re.I)
SLOW = re.compile(r"\b(?:slow(?:ly)?|leisurely|unhurried|strolls?|strolling|lazy|lazily|resting)\b", re.I)
FAST = re.compile(r"\b(?:fast|rapid(?:ly)?|quick(?:ly)?|hurr(?:y|ies|ied)|racing|brisk(?:ly)?|runner)\b", re.I)
PACES_BPM = {"slow": 54.0, "fast": 190.0}


@dataclass(frozen=True)
class Layer:
    """One sound of a prompt: ``words`` heard from ``start`` for ``seconds``, cut out of ``made`` seconds that are generated.

    ``curve`` [made * 100] in 0..1: its loudness, where the words say when; ``where``: "far", "near" or "".
    """

    words: str
    start: float
    seconds: float
    made: float
    curve: np.ndarray | None = None
    where: str = ""


def plan(
    prompt: str,
    seconds: float,
    sounds: Callable[[str], Sequence[str]] = lambda words: [words],
    differ: Callable[[Sequence[str]], bool] = lambda parts: True,
) -> list[Layer]:
    """The layers of a prompt over ``seconds``; a plain prompt is one layer of everything.

    ``sounds`` parts words into the sounds that are heard at once; ``differ`` says whether what is heard one after another are sounds of
    different kinds: only then each is made apart.

    >>> [(l.words, l.start, l.seconds) for l in plan("a dog barks, then rain", 6.0)]
    [('a dog barks', 0.0, 3.0), ('rain', 3.0, 3.0)]
    >>> plan("two knocks on the door", 5.0)[0].curve.nonzero()[0][[0, -1]] / CURVE_RATE
    array([0.4 , 1.29])

    Sounds at once begin and end apart, for ears part best what does not begin together (Bregman 1990, Auditory Scene Analysis, 3.1):

    >>> [(l.start, l.seconds) for l in plan("a dog barks while it rains", 5.0, lambda words: words.split(" while "))]
    [(0.0, 4.2), (0.8, 4.2)]
    """
    segments = [
        part for piece in AFTER.split(prompt) if (part := re.sub(r"^\W*(?:first|and)?\W+|(?:,? and)?[\s,.]*$", "", " " + piece))
    ]
    layers: list[Layer] = []
    for number, segment in enumerate(segments):
        if SILENT.match(segment):
            continue
        span = seconds / len(segments)
        whole = MUSIC.search(segment) and len(segments) == 1 and not _strongly(segment, sounds)
        made = max(span, min(seconds, WHOLE))
        layers += _apart([Layer(w, number * span, span, made, curve_of(w, made)) for w in ([segment] if whole else sounds(segment))])
    same = len(segments) > 1 and not differ([segment for segment in segments if not SILENT.match(segment)] or segments)
    if not layers or len(layers) > MOST_LAYERS or len(layers) == len(segments) == 1 or (same and len(layers) > 1):
        layers = [Layer(prompt, 0.0, seconds, seconds, curve_of(prompt, seconds))]
    return [replace(layer, words=unplaced(layer.words), where=where_of(layer.words)) for layer in layers]


def _apart(layers: list[Layer]) -> list[Layer]:
    """Layers of one stretch, one after another entering and leaving; what the words themselves put in time stays where it is."""
    lag = min(APART, APART_SHARE * layers[0].seconds) if len(layers) > 1 else 0.0
    return [
        layer if layer.curve is not None else replace(layer, start=layer.start + lag * share, seconds=layer.seconds - lag)
        for layer, share in zip(layers, np.linspace(0, 1, len(layers)).tolist(), strict=True)
    ]


def _strongly(segment: str, sounds: Callable[[str], Sequence[str]]) -> bool:
    """Whether music stands beside another sound, and not beside its own instruments ("strings over drums")."""
    parts = sounds(segment)
    return len(parts) > 1 and not all(MUSIC.search(part) or re.search(r"\bdrums?\b", part, re.I) for part in parts)


# -- when ---------------------------------------------------------------------------------------------------------------


def curve_of(words: str, seconds: float) -> np.ndarray | None:
    """The loudness [seconds * 100] in 0..1 that words ask for; None where they say nothing of time, or of no struck sound."""
    music, rings = bool(MUSIC.search(words)), bool(RINGS.search(words))
    bpm = tempo_of(words) if not rings or BPM.search(words) else None  # what fades slowly is not struck slowly
    if music:
        return None if bpm is None else 0.55 + 0.45 * struck(np.arange(0, seconds, 60 / bpm), seconds, 60 / bpm)
    if not EVENT.search(words):
        return None
    fade = 1.2 if rings else 0.3 if bpm is None else min(0.3, 42 / bpm)
    count = None if bpm is not None and BPM.search(words) else number_of(words)
    if count is not None:
        fade = 3.0 if rings and count == 1 else fade
        gap = 60 / bpm if bpm is not None else 1.0 if rings else 0.6
        start = min(0.4, seconds / 8)
        gap = min(gap, (seconds - start - min(fade, seconds / 4)) / max(count - 1, 1))
        return struck(start + np.arange(count) * gap, seconds, fade)
    if bpm is None:
        return None
    return struck(np.arange(min(0.3, 30 / bpm), seconds - 0.05, 60 / bpm), seconds, fade)


def tempo_of(words: str) -> float | None:
    """Beats per minute that words ask for, in numbers or by "slow" and "fast".

    >>> tempo_of("a clock ticking at 90 beats per minute"), tempo_of("slow footsteps"), tempo_of("footsteps")
    (90.0, 54.0, None)
    """
    said = BPM.search(words)
    if said and 20 <= float(said[1]) <= 300:
        return float(said[1])
    paces = [pace for pace, pattern in (("slow", SLOW), ("fast", FAST)) if pattern.search(words)]
    return PACES_BPM[paces[0]] if len(paces) == 1 else None


def number_of(words: str) -> int | None:
    """How many events words ask for; None where they do not say. "Many" are eight.

    >>> [number_of(w) for w in ("three short beeps", "a single knock", "he knocks twice", "many steps", "two dogs bark")]
    [3, 1, 2, 8, None]
    """
    adverb = re.search(rf"\b(once|twice|thrice|({'|'.join(SMALL)}|\d{{1,2}}) times)\b", words, re.I)
    if adverb and EVENT.search(words):
        return {"once": 1, "twice": 2, "thrice": 3}.get(adverb[1].lower()) or _value(adverb[2])
    if re.search(rf"\b(?:{MANY}) (?:\w+ ){{0,2}}(?:{NOUN})s\b", words, re.I):
        return 8
    if re.search(rf"\b(?:several|some) (?:\w+ ){{0,2}}(?:{NOUN})s\b", words, re.I):
        return 4
    if re.search(rf"\b(?:one|a single|just one|only one) (?:\w+ ){{0,2}}(?:{NOUN})\b", words, re.I):
        return 1
    some = re.search(rf"\b({'|'.join(SMALL[1:])}|\d{{1,2}}) (?:\w+ ){{0,2}}(?:{NOUN})s\b", words, re.I)
    return _value(some[1]) if some else None


def _value(word: str) -> int | None:
    number = SMALL.index(word.lower()) + 1 if word.lower() in SMALL else int(word)
    return number if 1 <= number <= 30 else None


def struck(times: np.ndarray, seconds: float, fade: float = 0.3) -> np.ndarray:
    """Loudness of events that begin at once and fade evenly in decibels within ``fade`` seconds: [seconds * 100] float32 in 0..1."""
    at = (np.arange(round(seconds * CURVE_RATE)) + 0.5) / CURVE_RATE
    if not len(times):
        return np.zeros(len(at), np.float32)
    since = at[:, None] - np.asarray(times)
    return np.where(since >= 0, np.clip(1 - since / fade, 0, 1), 0).max(axis=1).astype(np.float32)


# -- where --------------------------------------------------------------------------------------------------------------


def where_of(words: str) -> str:
    """ "far", "near", or "" where words say neither (or both).

    >>> where_of("a distant bell"), where_of("a dog at close range"), where_of("rain")
    ('far', 'near', '')
    """
    far, near = bool(FAR.search(words)), bool(NEAR.search(words))
    return "" if far == near else "far" if far else "near"


def unplaced(words: str) -> str:
    """Words without those that say near or far: the place is made of the finished sound, so far and near are one sound at two places.

    >>> unplaced("a distant bell"), unplaced("thunder rolling, heard from a great distance"), unplaced("he closes the near door")
    ('a bell', 'thunder rolling', 'he closes the near door')
    """
    left = re.sub(r"\s+", " ", PLACE.sub("", words)).strip(" ,") if where_of(words) else words
    return left if re.search(r"[a-z]{3}", left, re.I) else words


def distant(samples: np.ndarray, rate: int) -> np.ndarray:
    """Samples [T] as from afar: air and ground take the highs."""
    return _low_passed(_low_passed(samples, FAR_HZ, rate), 2.5 * FAR_HZ, rate)


def close(samples: np.ndarray, rate: int) -> np.ndarray:
    """Samples [T] as from close by: the highs that come straight are up to 5 dB stronger."""
    return samples + np.float32(0.8) * (samples - _low_passed(samples, FAR_HZ, rate))


def _low_passed(samples: np.ndarray, hz: float, rate: int) -> np.ndarray:
    from scipy.signal import lfilter  # a second of imports, and rows are listed without it

    pole = float(np.exp(-2 * np.pi * hz / rate))
    dull: np.ndarray = lfilter([1 - pole], [1, -pole], samples).astype(np.float32)
    return dull


# -- together -----------------------------------------------------------------------------------------------------------


def arranged(layers: Sequence[Layer], made: Sequence[Audio], seconds: float) -> Audio:
    """The sounds of all layers in one, mono: each at its moment, what is heard at once equally audible, far ones dull and soft.

    One layer that is neither far nor near is given back as it is.
    """
    rate = made[0].sample_rate
    if len(layers) == 1:
        only = layers[0]
        if not only.where:
            return made[0]
        placed, peak = (distant, FAR_PEAK) if only.where == "far" else (close, NEAR_PEAK)
        return Audio(_peaked(placed(made[0].samples[0], rate), peak)[None], rate)
    whole = np.zeros(round(seconds * rate), np.float32)
    spans = [
        (start := round(layer.start * rate), min(round((layer.start + layer.seconds) * rate), len(whole)) - start) for layer in layers
    ]
    pieces = [levelled(_loudest(sound.samples[0], size, rate)) for sound, (_, size) in zip(made, spans, strict=True)]
    for together in _at_once(spans):
        first = min(spans[number][0] for number in together)
        heard = np.zeros((len(together), max(sum(spans[number]) for number in together) - first), np.float32)
        for row, number in zip(heard, together, strict=True):
            row[spans[number][0] - first :][: len(pieces[number])] = pieces[number]
        for number, gain_db in zip(together, balance_db(list(heard), rate), strict=True):
            pieces[number] = pieces[number] * np.float32(10 ** (gain_db / 20))
    for number, (layer, (start, _), piece) in enumerate(zip(layers, spans, pieces, strict=True)):
        if layer.where == "far":
            piece = distant(piece, rate) * np.float32(10 ** (FAR_DB / 20))
        edge = ENTRY if any(number in together and len(together) > 1 for together in _at_once(spans)) else FADE
        fades = _faded(len(piece), rate, edge, rising=layer.start > 0, falling=layer.start + layer.seconds < seconds - 1e-6)
        whole[start : start + len(piece)] += piece * fades
    peak = float(np.abs(whole).max(initial=0.0))
    return Audio((whole * np.float32(0.95 / peak) if peak > 0.95 else whole)[None], rate)


def _at_once(spans: Sequence[tuple[int, int]]) -> list[list[int]]:
    """Numbers of spans (start, size), grouped by what is heard at once: a span joins those before it that last beyond its beginning."""
    groups: list[list[int]] = []
    for number, (start, _) in enumerate(spans):
        if groups and any(sum(spans[other]) > start + 1 for other in groups[-1]):
            groups[-1].append(number)
        else:
            groups.append([number])
    return groups


def levelled(samples: np.ndarray) -> np.ndarray:
    """Samples [T] whose louder half (of frames of 50 ms) has ``LEVEL_DB``; silence stays silence."""
    frames = samples[: len(samples) // 800 * 800].reshape(-1, 800).astype(np.float64)
    power = np.sort((frames**2).mean(axis=1))[len(frames) // 2 :]
    rms = float(np.sqrt(power.mean())) if len(power) else 0.0
    return samples * np.float32(10 ** (LEVEL_DB / 20) / rms) if rms > 1e-5 else samples


def balance_db(sounds: Sequence[np.ndarray], rate: int) -> np.ndarray:
    """Gains in decibels, of mean zero, at which sounds [T] that are heard at once show through each other alike: [N].

    At one loudness a hum still hides a chirp, or a chirp a hum. What of a sound is heard beside others are its glimpses (Cooke 2006):
    its cells of time and frequency that stand ``GLIMPSE_DB`` above all others. The gains make the shares equal, as far as
    ``MOST_GAIN_DB`` allows.
    """
    size = min(len(sound) for sound in sounds)
    gains, spec = np.zeros(len(sounds)), MelSpec(sample_rate=rate)
    if len(sounds) < 2 or size <= spec.n_fft or not all(np.any(sound) for sound in sounds):
        return gains
    levels = [20 / np.log(10) * log_mel(sound[:size], spec) for sound in sounds]
    for number in range(40):
        shares = glimpsed([level + gain for level, gain in zip(levels, gains, strict=True)])
        gains = np.clip(gains + 12 * 0.93**number * (shares.mean() - shares), -MOST_GAIN_DB, MOST_GAIN_DB)
        gains -= gains.mean()
    return gains


def glimpsed(levels: Sequence[np.ndarray]) -> np.ndarray:
    """Which share of each sound is heard beside the others: [N] in 0..1, of levels [T, bins] in decibels.

    A sound's own cells are those less than ``SALIENT_DB`` below its strongest one.
    """
    power = [10 ** (level / 10) for level in levels]
    total, stands = sum(power), 10 ** (GLIMPSE_DB / 10)
    return np.array([(own > stands * (total - own))[own > own.max() * 10 ** (-SALIENT_DB / 10)].mean() for own in power])


def _loudest(samples: np.ndarray, size: int, rate: int) -> np.ndarray:
    """The first stretch of ``size`` samples that holds seven tenths of the energy of the best one."""
    if len(samples) <= size:
        return samples
    energy = np.concatenate([[0.0], np.cumsum(samples.astype(np.float64) ** 2)])
    starts = np.arange(0, len(samples) - size + 1, rate // 10)
    held = energy[starts + size] - energy[starts]
    at = int(starts[np.flatnonzero(held >= 0.7 * held.max())[0]])
    return samples[at : at + size]


def _faded(size: int, rate: int, seconds: float, rising: bool, falling: bool) -> np.ndarray:
    gain, edge = np.ones(size, np.float32), min(round(seconds * rate), size)
    slope = (np.arange(edge, dtype=np.float32) + 1) / (edge + 1)
    if rising:
        gain[:edge] *= slope
    if falling:
        gain[size - edge :] *= slope[::-1]
    return gain


def _peaked(samples: np.ndarray, peak: float) -> np.ndarray:
    own = float(np.abs(samples).max(initial=0.0))
    return (samples * (peak / own) if own > 1e-5 else samples).astype(np.float32)
