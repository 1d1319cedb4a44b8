"""The plan of a soundtrack: what was seen of a video -> scenes -> layers -> spans that a backend can make.

Pure: knows no model, no file and no chance but a seed, so that a plan can be printed, tested and made again. A *tape* is one continuous
sound, in overlapping spans where it is longer than its backend makes at once; beds and music are pieces of tapes laid under scenes,
foley is single events (*takes*) taken out of a tape and put on what is seen.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
from pydantic import BaseModel, ConfigDict

from generators.base import Capabilities, GenerationRequest, MediaRef, UnsupportedRequest, canonical_json

Layer = Literal["ambience", "foley", "music"]
LAYERS: tuple[Layer, ...] = ("ambience", "foley", "music")

SAME_PLACE = 0.6  # cosine of two scenes' picture vectors; measured: 0.84 to 0.97 within a picture, 0.06 to 0.30 between pictures
NEUTRAL = "wind"  # what is heard where nothing is recognised: it claims nothing
IMPACT = "a dull impact"  # and what an onset is there
CUT_FADE = 0.12  # seconds; the crossfade of two beds at a cut
EDGE_FADE = 0.02  # seconds at the video's own ends
LONGEST = 20.0  # seconds of one span, whatever its backend could make: what decoding takes grows with it (nano: 25 MB a second)
OVERLAP = 2.0  # seconds that neighbouring spans of a tape share
LEAST_SPAN = 1.0  # seconds; less is not asked of a backend
SECTION = 6.0  # seconds that a section of the music lasts at least
SECTION_TAIL = 0.5  # seconds for which a section rings on under the next one
APART = 0.06  # seconds; of two onsets that are closer the stronger one sounds
TAKE = 1.2  # seconds between the events of a tape of takes
TAKE_AT = 0.3  # seconds before the first one
PULSE = 0.25  # seconds in which the drawn loudness of a take falls to 1/e
TAKES = {True: 8, False: 4}  # different takes of a place, with and without an envelope; then they come round again
CURVE_HZ = {"ambience": 10.0, "foley": 100.0, "music": 10.0}
REST, SWING = 0.72, 0.28  # of a bed's loudness curve (50 dB from 0 to 1): 14 dB between stillness and the strongest motion
# Loudness in LUFS: every tape is brought to its own, so that a ticking clock beside a motorcycle is still heard. What the picture shows
# comes before music by nearly the 20 dB that WCAG 1.4.7 asks for, unless somebody asked for that music; where nothing is recognised the
# wind claims nothing and music leads. A strong event has -15 dBFS for 50 ms.
BED, UNSURE_BED = -30.0, -36.0
UNDER, ASKED_UNDER = -18.0, -6.0  # music against a bed that tells something: of itself, and where somebody asked for that music
LEADS = 6.0  # music against a bed that tells nothing
SWELL = 0.6  # seconds around a cut in which music goes from one to the other
STILL = 0.03  # standard deviation of the motion under which it drives nothing

# Sounds that begin with a stroke; the others are states, and an impact in their scene sounds as an impact.
STROKES = frozenset({
    "knock", "hammer", "footsteps", "horse gallop", "coins", "click", "clock", "typing", "gunshot", "explosion", "fireworks",
    "breaking glass", "glass break", "glass clink", "door", "gate", "impact", "object falling", "metal clang", "wood impact",
    "wood chop", "pickaxe", "sword", "whip", "bowling strike", "crash", "drum kit", "kick drum", "snare drum", "tom drum",
    "hand drum", "cymbal", "claves", "cowbell", "bell", "bicycle bell", "church bell", "dog", "splash", "lock", "boing", "squish",
    "water drip", "beep", "cash register", "applause",
})  # fmt: skip
# Sounds that go on evenly, so that their loudness may follow a picture's motion; a clock or a cat has a rhythm of its own.
_STEADY = re.compile(
    r"\b(?:wind|rain\w*|ocean|waves?|surf|stream|river|brook|waterfall|fire|engine|motor\w*|train|airplane|plane|jet|helicopter|machine\w*|"
    r"vacuum|spaceship|rocket|drone|traffic|crowd|applause|rustl\w*|hiss\w*|hum\w*|rumbl\w*|storm|room tone)\b",
    re.I,
)
_STROKE = re.compile(
    r"\b(?:(?:foot)?steps?|walk|walks|walking|run|running|knock\w*|hits?|hitting|impacts?|ball|bounc\w+|clap\w*|hammer\w*|bark\w*|shots?|gun\w*|punch\w*|"
    r"door\w*|click\w*|typing|keys?|keyboard|coins?|bells?|drum\w*|drops?|dripp?\w*|thuds?|bangs?|crash\w*|slam\w*|kick\w*|stomp\w*|hoov\w+|gallop\w*|"
    r"hoof\w*|chop\w*|smash\w*|clang\w*|clatter\w*|splash\w*|ticks?|ticking|taps?|tapping|explo\w+|fireworks?|swords?|whips?|pops?)\b",
    re.I,
)
_MUSIC = re.compile(
    r"\b(?:music\w*|song|melod\w+|tune|piano|guitar|violin|cello|strings?|orchestra\w*|synth\w*|jazz|rock|techno|ambient|waltz|score|"
    r"flute|harp|organ|trumpet|accordion|banjo|saxophone|choir|bpm|beat|ballad|folk|theme)\b",
    re.I,
)
_MOODS = re.compile(
    r"\b(?:tense|ominous|dark|menacing|scary|happy|cheerful|bright|joyful|sad|melanchol\w+|wistful|sorrowful|calm|gentle|slow|fast|quick|"
    r"energetic|upbeat|folk|traditional|rustic|country|epic|romantic|dreamy|mysterious|playful)\b",
    re.I,
)
_NO_ONSET = "no impact, step or flash was seen, so there is no foley"
_CALLED = {
    "music": r"(?:background\s+)?(?:music|songs?|score|melody)",
    "foley": r"(?:foley|(?:sound\s+)?effects?|sfx)",
    "ambience": r"(?:ambien(?:ce|t)(?:\s+sounds?)?|atmosphere|background\s+(?:sounds?|noise))",
}
_NO = r"(?:\b(?:but|and)\s+)?\b(?:no|without(?:\s+any)?|not?\s+any|leave out|skip)\s+(?:the\s+)?"


class _Value(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Moment(Protocol):
    """Something seen: ``time`` in seconds, ``strength`` in 0..1 (media.timeline.Onset)."""

    @property
    def time(self) -> float: ...
    @property
    def strength(self) -> float: ...


class Watched(Protocol):
    """What the planner reads of media.timeline.Timeline."""

    @property
    def seconds(self) -> float: ...
    @property
    def scenes(self) -> tuple[tuple[float, float], ...]: ...
    @property
    def onsets(self) -> Sequence[Moment]: ...
    @property
    def motion(self) -> np.ndarray: ...
    @property
    def rate(self) -> float: ...


@dataclass(frozen=True)
class Seen:
    """What is known of one scene's picture. ``sound``: the known sound of what is there, None where nobody is sure.

    ``person``: somebody fills the picture. A head that nods loses speed as a ball does, but strikes nothing.
    """

    labels: tuple[tuple[str, float], ...] = ()
    sound: str | None = None
    vector: np.ndarray | None = None  # [D], any length; the same space for all scenes
    picture: MediaRef | None = None
    person: bool = False


@dataclass(frozen=True)
class Maker:
    """The backend of a layer."""

    name: str
    can: Capabilities


class Wishes(_Value):
    """What a person asked for, sorted out by ``understood``."""

    ambience: str = ""
    foley: str = ""
    music: str = ""
    negative: str = ""
    layers: tuple[Layer, ...] = LAYERS


class Scene(_Value):
    start: float  # seconds
    end: float
    place: int  # scenes of one place have the same number
    labels: tuple[tuple[str, float], ...]
    sure: bool  # whether the picture was recognised
    prompt: str  # what its bed is made from, in words


class Span(_Value):
    """One request: ``seconds`` of a tape from ``start``."""

    start: float
    seconds: float
    seed: int


class Tape(_Value):
    """One continuous sound of one layer. ``curve``: its loudness over time in 0..1 at ``curve_hz``; empty: as it comes."""

    layer: Layer
    maker: str
    prompt: str
    negative_prompt: str = ""
    media: tuple[MediaRef, ...] = ()
    seconds: float
    spans: tuple[Span, ...]
    curve: tuple[float, ...] = ()
    curve_hz: float = 10.0
    lufs: float | None = None  # what it is brought to; None: as it comes
    takes: tuple[float, ...] = ()  # foley: where in every span an event is drawn; empty: wherever the backend puts its one


class Laid(_Value):
    """A piece of a tape (seconds ``first`` to ``last``) under the picture from ``at``; the fades are equal-power and lie inside."""

    tape: int
    first: float
    last: float
    at: float
    fade_in: float
    fade_out: float
    levels: tuple[tuple[float, float], ...] = ()  # (seconds of the video, dB), straight between; empty: 0 dB


class Event(_Value):
    """A take on what is seen: event ``take`` of ``tape`` begins at ``time`` and is over by ``until``."""

    time: float
    strength: float
    tape: int
    take: int
    until: float


class Plan(_Value):
    seconds: float
    seed: int
    prompt: str
    wishes: Wishes
    scenes: tuple[Scene, ...]
    tapes: tuple[Tape, ...]
    laid: tuple[Laid, ...]
    events: tuple[Event, ...]
    notes: tuple[str, ...] = ()

    def layers(self) -> tuple[Layer, ...]:
        """The layers that something is made for."""
        return tuple(layer for layer in LAYERS if any(tape.layer == layer for tape in self.tapes))


def understood(prompt: str, layers: Sequence[Layer] = LAYERS) -> Wishes:
    """A person's words, by layer: what is unwanted goes, and a clause that is clearly music or a stroke goes to its own layer.

    >>> wishes = understood("rain on a roof, footsteps on gravel, calm piano, no voices")
    >>> wishes.ambience, wishes.foley, wishes.music, wishes.negative
    ('rain on a roof', 'footsteps on gravel', 'calm piano', 'voices')
    >>> understood("a busy market, but no music").layers
    ('ambience', 'foley')
    """
    text = " ".join(prompt.split())
    kept = [layer for layer in LAYERS if layer in layers]
    for layer, called in _CALLED.items():
        shorter, found = re.subn(rf"{_NO}{called}\b", ",", text, flags=re.I)
        if found:
            kept, text = [each for each in kept if each != layer], shorter
    unwanted = re.findall(rf"{_NO}([^,;.]+)", text, flags=re.I)
    text = re.sub(rf"{_NO}[^,;.]+", "", text, flags=re.I)
    clauses = [clause.strip(" .!") for clause in re.split(r"[,;]|\bwith\b|\band\b|\bwhile\b", text) if clause.strip(" .!")]
    musical = [clause for clause in clauses if _MUSIC.search(clause)]
    heard = [clause for clause in clauses if clause not in musical and re.search(r"[^\W\d_]{3}", _MOODS.sub("", clause))]
    strokes = [clause for clause in heard if _STROKE.search(clause)]
    states = [clause for clause in heard if clause not in strokes]
    music = ", ".join(musical) or " ".join(_MOODS.findall(text))
    return Wishes(
        ambience=", ".join(states or strokes),
        foley=", ".join(strokes or states),
        music=music,
        negative=", ".join(each.strip() for each in unwanted),
        layers=tuple(kept),
    )


def places_of(vectors: Sequence[np.ndarray | None], alike: float = SAME_PLACE) -> list[int]:
    """Which scenes show the same place, by number in order of appearance; a scene without a vector is a place of its own.

    A scene belongs to the known place whose mean vector is nearest by cosine, if that is at least ``alike``.
    """
    sums: list[np.ndarray | None] = []
    numbers = []
    for vector in vectors:
        unit = None if vector is None else np.asarray(vector, np.float64) / (np.linalg.norm(vector) + 1e-12)
        likeness = [-1.0 if unit is None or known is None else float(unit @ known / np.linalg.norm(known)) for known in sums]
        best = int(np.argmax(likeness)) if likeness else -1
        if unit is not None and best >= 0 and likeness[best] >= alike:
            sums[best] = sums[best] + unit
        else:
            sums.append(unit)
            best = len(sums) - 1
        numbers.append(best)
    return numbers


def spans_of(seconds: float, longest: float, overlap: float = OVERLAP) -> list[tuple[float, float]]:
    """(start, seconds) of the fewest equal spans of at most ``longest`` that cover ``seconds`` and share ``overlap``.

    >>> spans_of(8, 30), spans_of(58, 30), [round(start, 2) for start, _ in spans_of(100, 30)]
    ([(0.0, 8)], [(0.0, 30.0), (28.0, 30.0)], [0.0, 24.5, 49.0, 73.5])
    """
    if seconds <= longest:
        return [(0.0, max(seconds, min(LEAST_SPAN, longest)))]
    shared = min(overlap, longest / 4)
    count = math.ceil((seconds - shared) / (longest - shared) - 1e-9)
    each = (seconds + (count - 1) * shared) / count
    return [(index * (each - shared), each) for index in range(count)]


def seed_for(*words: object) -> int:
    """A seed in 0..2^31-1 that depends on all of ``words`` and on nothing else."""
    return int.from_bytes(hashlib.sha256(canonical_json(list(words)).encode()).digest()[:4], "big") >> 1


def plan(
    timeline: Watched,
    seen: Sequence[Seen],
    makers: Mapping[str, Maker],
    *,
    prompt: str = "",
    layers: Sequence[Layer] = LAYERS,
    seed: int = 0,
) -> Plan:
    """What is to be made for a video, and where it goes.

    Args:
        seen: one for each of ``timeline.scenes``.
        makers: by layer, who makes it; a layer without one is left out, and the plan's notes say so.

    Raises:
        UnsupportedRequest: no layer is left.
    """
    wishes = understood(prompt, layers)
    if not wishes.layers:
        raise UnsupportedRequest("no layer is left to make: ask for ambience, foley or music")
    lacking = [layer for layer in wishes.layers if layer not in makers]
    notes = [f"no system here makes {layer}, so it was left out" for layer in lacking]
    if len(lacking) == len(wishes.layers):
        raise UnsupportedRequest(f"no system here makes {' or '.join(lacking)}; 'loa models list' says what is ready")
    numbers = places_of([each.vector for each in seen])
    scenes = []
    for (start, end), place, sight in zip(timeline.scenes, numbers, seen, strict=True):
        first = seen[numbers.index(place)]
        words = wishes.ambience or first.sound or NEUTRAL
        scenes.append(
            Scene(
                start=round(start, 6), end=round(end, 6), place=place, labels=sight.labels, sure=sight.sound is not None, prompt=words
            )
        )
    draft = _Draft(timeline, scenes, [seen[numbers.index(scene.place)] for scene in scenes], wishes, makers, seed)
    for layer, add in (("ambience", draft.ambience), ("foley", draft.foley), ("music", draft.music)):
        if layer in wishes.layers and layer in makers:
            add()
    if "foley" in wishes.layers and "foley" in makers and not draft.events:
        nods = any(each.person for each in seen) and timeline.onsets
        notes.append("only somebody's own movements were seen, so there is no foley" if nods else _NO_ONSET)
    return Plan(
        seconds=timeline.seconds,
        seed=seed,
        prompt=prompt,
        wishes=wishes,
        scenes=tuple(scenes),
        tapes=tuple(draft.tapes),
        laid=tuple(draft.laid),
        events=tuple(draft.events),
        notes=tuple(notes),
    )


class _Draft:
    """A plan while it is drawn up, layer by layer."""

    def __init__(
        self, timeline: Watched, scenes: list[Scene], seen: list[Seen], wishes: Wishes, makers: Mapping[str, Maker], seed: int
    ) -> None:
        self.timeline, self.scenes, self.seen, self.wishes, self.makers, self.seed = timeline, scenes, seen, wishes, makers, seed
        self.tapes: list[Tape] = []
        self.laid: list[Laid] = []
        self.events: list[Event] = []

    # -- beds ------------------------------------------------------------------------------------------------------
    def ambience(self) -> None:
        """One tape per place, as if a recording there ran on whenever the picture shows it; it crossfades at cuts between places."""
        visits = _visits(self.scenes)
        for place in dict.fromkeys(place for place, _, _ in visits):
            number, at, laid = len(self.tapes), 0.0, []
            for visited, start, end in visits:
                if visited != place:
                    continue
                fade = {side: min(CUT_FADE, self._shortest(moment)) for side, moment in (("in", start), ("out", end))}
                before = fade["in"] / 2 if start > 0 else 0.0
                after = fade["out"] / 2 if end < self.timeline.seconds else 0.0
                length = end - start + before + after
                laid.append(
                    Laid(
                        tape=number,
                        first=round(at, 6),
                        last=round(at + length, 6),
                        at=round(start - before, 6),
                        fade_in=fade["in"] if before else EDGE_FADE,
                        fade_out=fade["out"] if after else EDGE_FADE,
                    )
                )
                at += length
            index = next(i for i, scene in enumerate(self.scenes) if scene.place == place)
            sight = self.seen[index]
            words = self.wishes.ambience or sight.sound or NEUTRAL
            curve = self._motion(laid, at) if _STEADY.search(words) else None
            tells = self._tells(self.scenes[index])
            self._tape(
                "ambience", f"place {place}", words, at, sight if sight.sound else None, curve, lufs=BED if tells else UNSURE_BED
            )
            self.laid += laid

    def _tells(self, scene: Scene) -> bool:
        """Whether a scene's bed sounds like something: its place was recognised, or somebody said what is heard."""
        first = next(each for each in self.scenes if each.place == scene.place)
        return bool(self.wishes.ambience) or first.sure

    def _shortest(self, moment: float) -> float:
        """Half the shorter of the scenes that meet at a cut: a fade may not reach beyond it."""
        touching = [scene.end - scene.start for scene in self.scenes if moment in (scene.start, scene.end)]
        return min(touching, default=CUT_FADE) / 2

    def _motion(self, laid: Sequence[Laid], seconds: float) -> np.ndarray | None:
        """A bed's loudness over the time of its tape, from how much moves; None where nothing does."""
        rate, motion = self.timeline.rate, np.asarray(self.timeline.motion, np.float64)
        if len(motion) < 2:
            return None
        width = max(round(rate), 1)
        calm = np.convolve(np.pad(motion, width // 2, mode="edge"), np.ones(width) / width, mode="same")[width // 2 :][: len(motion)]
        at = np.arange(max(math.ceil(seconds * CURVE_HZ["ambience"]), 2)) / CURVE_HZ["ambience"]
        curve = np.zeros(len(at))
        for piece in laid:
            inside = (at >= piece.first) & (at <= piece.last)
            curve[inside] = np.interp(at[inside] - piece.first + piece.at, (np.arange(len(calm)) + 0.5) / rate, calm)
        return REST + SWING * np.clip(curve, 0, 1) if float(curve.std()) >= STILL else None

    # -- events ----------------------------------------------------------------------------------------------------
    def foley(self) -> None:
        """A take on every onset; a place has takes of its own, which come round again where there are more events than takes."""
        seen = [onset for onset in self.timeline.onsets if 0 <= onset.time < self.timeline.seconds]
        onsets = apart([onset for onset in seen if self.wishes.foley or not self.seen[self._scene_number(onset.time)].person])
        can = self.makers["foley"].can
        found: dict[int, list[int]] = {}
        for index, onset in enumerate(onsets):
            found.setdefault(self._scene_at(onset.time).place, []).append(index)
        chosen: dict[int, tuple[int, int]] = {}
        for place, indices in found.items():
            sight = self.seen[next(i for i, scene in enumerate(self.scenes) if scene.place == place)]
            known = sight.sound if sight.sound in STROKES else None
            words = self.wishes.foley or known or IMPACT
            count = min(len(indices), TAKES[can.envelope])
            number, takes = len(self.tapes), self._takes(words, f"place {place}", count, sight if known else None)
            for turn, index in enumerate(indices):
                chosen[index] = (number, turn % takes)
        for index, onset in enumerate(onsets):
            following = onsets[index + 1].time if index + 1 < len(onsets) else self.timeline.seconds
            tape, take = chosen[index]
            self.events.append(
                Event(
                    time=round(onset.time, 6),
                    strength=round(float(onset.strength), 4),
                    tape=tape,
                    take=take,
                    until=round(min(following, onset.time + TAKE, self.timeline.seconds), 6),
                )
            )

    def _takes(self, words: str, name: str, count: int, sight: Seen | None) -> int:
        """A tape of at least ``count`` takes; how many it holds."""
        can = self.makers["foley"].can
        each = max(1, math.floor((min(can.max_seconds, 4 * TAKE) + 1e-9) / TAKE)) if can.envelope else 1
        spans = math.ceil(count / each)
        length = min(each * TAKE + (0.0 if each > 1 else TAKE_AT), can.max_seconds)
        takes = tuple(round(TAKE_AT + index * TAKE, 6) for index in range(each)) if can.envelope else ()
        at = np.arange(math.ceil(length * CURVE_HZ["foley"])) / CURVE_HZ["foley"]
        pulses = [np.where(at >= begin, np.exp(-(at - begin) / PULSE), 0.0) for begin in takes]
        self._tape("foley", name, words, length, sight, np.max(pulses, axis=0) if pulses else None, count=spans, takes=takes)
        return spans * each

    # -- music -----------------------------------------------------------------------------------------------------
    def music(self) -> None:
        """One piece: the same words throughout, in sections that begin at cuts; its pace follows the picture's motion."""
        starts = sections_of([scene.start for scene in self.scenes], self.timeline.seconds)
        ends = [*starts[1:], self.timeline.seconds]
        beds = "ambience" in self.wishes.layers and "ambience" in self.makers
        under = ASKED_UNDER if self.wishes.music else UNDER
        up = UNSURE_BED + LEADS - BED - under
        levels = swells([(scene.start, 0.0 if self._tells(scene) else up) for scene in self.scenes]) if beds else ()
        for number, (start, end) in enumerate(zip(starts, ends, strict=True)):
            last = number == len(starts) - 1
            tail = 0.0 if last else min(SECTION_TAIL, self.timeline.seconds - end)
            tape = len(self.tapes)
            self._tape(
                "music",
                f"section {number}",
                music_words(self.wishes.music, self._pace(start, end)),
                end - start + tail,
                None,
                None,
                lufs=BED + under,
            )
            self.laid.append(
                Laid(
                    tape=tape,
                    first=0.0,
                    last=round(end - start + tail, 6),
                    at=start,
                    fade_in=EDGE_FADE,
                    fade_out=tail or min(1.0, (end - start) / 4),
                    levels=levels,
                )
            )

    def _pace(self, start: float, end: float) -> float:
        """0..1: how lively a span of the picture is, by its motion and its cuts."""
        rate = self.timeline.rate
        moving = np.asarray(self.timeline.motion)[int(start * rate) : max(int(end * rate), int(start * rate) + 1)]
        cuts = sum(start < scene.start < end for scene in self.scenes)
        return float(np.clip((moving.mean() if len(moving) else 0.0) + 0.5 * cuts / max(end - start, 1.0), 0, 1))

    # -- all -------------------------------------------------------------------------------------------------------
    def _tape(
        self,
        layer: Layer,
        name: str,
        words: str,
        seconds: float,
        sight: Seen | None,
        curve: np.ndarray | None,
        *,
        count: int = 0,
        takes: tuple[float, ...] = (),
        lufs: float | None = None,
    ) -> None:
        """Add a tape. ``count``: that many separate spans of ``seconds`` (takes) instead of one sound in overlapping spans."""
        maker = self.makers[layer]
        can = maker.can
        pieces = [(index * seconds, seconds) for index in range(count)] if count else spans_of(seconds, min(can.max_seconds, LONGEST))
        wanted = getattr(self.wishes, layer)
        picture = sight.picture if sight and "image" in can.accepts and not wanted else None
        self.tapes.append(
            Tape(
                layer=layer,
                maker=maker.name,
                prompt=words if "text" in can.accepts else "",
                negative_prompt=self.wishes.negative if can.negative_prompt else "",
                media=(picture,) if picture else (),
                seconds=round(seconds * max(count, 1), 6),
                spans=tuple(
                    Span(start=round(start, 6), seconds=round(length, 6), seed=seed_for(self.seed, layer, name, words, index))
                    for index, (start, length) in enumerate(pieces)
                ),
                curve=tuple(round(float(value), 3) for value in curve) if curve is not None and can.envelope else (),
                curve_hz=CURVE_HZ[layer],
                lufs=lufs,
                takes=takes,
            )
        )

    def _scene_at(self, time: float) -> Scene:
        return self.scenes[self._scene_number(time)]

    def _scene_number(self, time: float) -> int:
        return next((index for index in reversed(range(len(self.scenes))) if self.scenes[index].start <= time), 0)


def apart(moments: Sequence[Moment], least: float = APART) -> list[Moment]:
    """Moments in order, the stronger ones of those that lie closer than ``least`` seconds."""
    kept: list[Moment] = []
    for moment in sorted(moments, key=lambda each: (-each.strength, each.time)):
        if all(abs(moment.time - other.time) >= least for other in kept):
            kept.append(moment)
    return sorted(kept, key=lambda each: each.time)


def sections_of(starts: Sequence[float], seconds: float, least: float = SECTION) -> list[float]:
    """Where sections of the music begin: at cuts, each at least ``least`` seconds after the one before and before the end.

    >>> sections_of([0.0, 2.0, 7.0, 9.0, 20.0, 29.0], 30.0)
    [0.0, 7.0, 20.0]
    """
    chosen = [0.0]
    for start in starts:
        if start - chosen[-1] >= least and seconds - start >= least:
            chosen.append(start)
    return chosen


def swells(wanted: Sequence[tuple[float, float]], ramp: float = SWELL) -> tuple[tuple[float, float], ...]:
    """(seconds, dB) of the corners of a level that is ``wanted`` from each moment on, with ramps in the middle of which it changes.

    >>> swells([(0.0, 0.0), (4.0, 6.0), (9.0, 6.0)])
    ((0.0, 0.0), (3.7, 0.0), (4.3, 6.0))
    >>> swells([(0.0, 6.0)])
    ((0.0, 6.0),)
    """
    corners = [wanted[0]]
    for index in range(1, len(wanted)):
        (start, before), (moment, level) = wanted[index - 1], wanted[index]
        if level != before:
            following = wanted[index + 1][0] if index + 1 < len(wanted) else moment + ramp
            half = min(ramp, moment - start, following - moment) / 2
            corners += [(round(moment - half, 6), before), (round(moment + half, 6), level)]
    return tuple(corners)


def music_words(wanted: str, pace: float) -> str:
    """The words of a section: what was asked, with a pace where none was asked.

    >>> music_words("", 0.05), music_words("tense", 0.8), music_words("slow jazz piano", 0.8)
    ('calm piano music', 'energetic tense piano music', 'slow jazz piano')
    """
    speed = "" if re.search(r"\b(?:slow|calm|gentle|fast|quick|energetic|upbeat|mid-tempo|bpm)\b", wanted, re.I) else (
        "calm" if pace < 0.2 else "energetic" if pace > 0.5 else "mid-tempo"
    )  # fmt: skip
    named = wanted if _MUSIC.search(wanted) else f"{wanted} piano music"
    return " ".join(f"{speed} {named}".split())


def _visits(scenes: Sequence[Scene]) -> list[tuple[int, float, float]]:
    """(place, start, end) of neighbouring scenes of one place joined."""
    joined: list[tuple[int, float, float]] = []
    for scene in scenes:
        if joined and joined[-1][0] == scene.place:
            joined[-1] = (scene.place, joined[-1][1], scene.end)
        else:
            joined.append((scene.place, scene.start, scene.end))
    return joined


def request_for(tape: Tape, index: int, attempt: int, envelope: MediaRef | None) -> GenerationRequest:
    """The request of span ``index``; ``attempt`` > 0 is another roll of the dice with a seed of its own."""
    span = tape.spans[index]
    return GenerationRequest(
        prompt=tape.prompt,
        media=tape.media,
        negative_prompt=tape.negative_prompt,
        seconds=span.seconds,
        seed=span.seed if attempt == 0 else seed_for(span.seed, attempt),
        envelope=envelope,
    )


def curve_of(tape: Tape, index: int) -> np.ndarray | None:
    """The loudness curve [N] of a span, N >= 2; takes have the same one in every span. None: as it comes."""
    if not tape.curve:
        return None
    curve = np.asarray(tape.curve, np.float32)
    span = tape.spans[index]
    if tape.layer == "foley":
        return curve
    first, last = (round(moment * tape.curve_hz) for moment in (span.start, span.start + span.seconds))
    part = curve[first:last]
    return part if len(part) >= 2 else np.repeat(curve[min(first, len(curve) - 1)], 2)
