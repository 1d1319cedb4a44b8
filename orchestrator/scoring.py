"""Makes what a plan asks for: spans in batches, checked and rolled again, kept so that a killed run goes on, laid on one stem a layer.

Knows plans and callables. Does not know which backends, encoders or detectors there are: who makes, listens and keeps is handed in.
At most one batch of sounds is in memory, however long the video is.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path
from typing import Literal, Protocol

import numpy as np
from pydantic import BaseModel, ConfigDict, ValidationError

from generators.base import Cancelled, Generated, GenerationRequest, MediaRef, OnProgress, Progress, canonical_json
from media.audio import Audio, read_audio
from media.loudness import LoudnessMeter
from media.refs import write_whole
from media.stems import Clip, lay, power_fade
from media.takes import Take, cut_take
from orchestrator.soundtrack import Event, Layer, Plan, Tape, curve_of, request_for

ROWS = 4  # requests in one batch, at most
CLIPPED = 0.01  # share of samples at full scale from which a sound counts as clipped
LEAST_CLEAR_DB = 6.0  # by how much an event stands out of what was before it
CLEARLY = 0.33  # likeness to a known sound from which a piece is no music; measured: pieces reach 0.30, sounds 0.20 to 0.38
SOFTEST_DB = -12.0  # gain of the weakest event
MOST_RAISED_DB = 30.0  # gain of a tape; what is quieter than that is not there
HELD = 4  # sounds that are kept decoded while stems are written

Kind = Literal["sound", "music", "speech"]


@dataclass(frozen=True)
class Heard:
    """What somebody hears in a made sound: its ``kind``, how sure, and the nearest known name."""

    kind: Kind
    share: float
    name: str


class Hands(Protocol):
    """Who does what a score cannot do itself."""

    def generate(
        self, maker: str, requests: Sequence[GenerationRequest], rows: int, on_progress: OnProgress, cancelled: Callable[[], bool]
    ) -> list[Generated]: ...

    def bucket(self, maker: str, count: int) -> int:
        """The batch size that ``count`` requests are made in."""

    def fingerprint(self, maker: str, rows: int) -> str: ...

    def path(self, ref: MediaRef) -> Path: ...

    def holds(self, ref: MediaRef) -> bool: ...

    def keep_curve(self, curve: np.ndarray) -> MediaRef: ...

    def listen(self, path: Path) -> Heard: ...


class Verdict(BaseModel):
    """What the check of one span said. ``faults``: of every roll in order, "" where it passed."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    layer: Layer
    tape: int
    span: int
    prompt: str
    seed: int  # of the roll that was kept
    rolls: int
    faults: tuple[str, ...]
    fault: str  # of the roll that was kept
    heard: str
    media: str


@dataclass(frozen=True)
class Score:
    """All sounds of a plan: ``sounds[tape][span]``, and a verdict for each."""

    sounds: tuple[tuple[Generated, ...], ...]
    verdicts: tuple[Verdict, ...]


class Ledger:
    """Finished sounds by request and fingerprint, one small file each, written whole: what is here is not made again."""

    def __init__(self, folder: Path, holds: Callable[[MediaRef], bool]) -> None:
        self._folder, self._holds = folder, holds

    def _place(self, request: GenerationRequest, fingerprint: str) -> Path:
        told = canonical_json({"request": request.model_dump(mode="json"), "fingerprint": fingerprint})
        name = hashlib.sha256(told.encode()).hexdigest()
        return self._folder / name[:2] / f"{name[2:]}.json"

    def find(self, request: GenerationRequest, fingerprint: str) -> Generated | None:
        """The finished sound of a request, if it was made by the same backend and is still in the store."""
        try:
            made = Generated.model_validate_json(self._place(request, fingerprint).read_text())
        except (OSError, ValidationError):
            return None
        return made if self._holds(made.media) else None

    def keep(self, made: Generated) -> None:
        place = self._place(made.request, made.fingerprint)
        place.parent.mkdir(parents=True, exist_ok=True)
        write_whole(place, made.model_dump_json().encode())


@dataclass
class _Roll:
    """A span and what came of it so far."""

    tape: int
    span: int
    kept: Generated | None = None
    fault: str = "nothing was made"
    heard: str = ""
    faults: tuple[str, ...] = ()


def make(
    plan: Plan,
    hands: Hands,
    ledger: Ledger,
    *,
    rerolls: int = 2,
    on_progress: OnProgress = lambda _: None,
    cancelled: Callable[[], bool] = lambda: False,
) -> Score:
    """Make every span of the plan; one that fails its check is rolled again with another seed, up to ``rerolls`` times.

    Where every roll fails, the one with the least fault is kept and its verdict says so. Batches have one size throughout, so that a
    sound does not depend on what was made before a kill.

    Raises:
        Cancelled: within one denoising step. BackendError, MediaError: as the backend.
    """
    rolls = [_Roll(tape, span) for tape, each in enumerate(plan.tapes) for span in range(len(each.spans))]
    makers = list(dict.fromkeys(tape.maker for tape in plan.tapes))
    sizes = {name: hands.bucket(name, min(ROWS, sum(len(tape.spans) for tape in plan.tapes if tape.maker == name))) for name in makers}
    signs = {name: hands.fingerprint(name, sizes[name]) for name in makers}
    envelopes = _Envelopes(plan, hands)
    done = 0
    for attempt in range(rerolls + 1):
        todo = [roll for roll in rolls if roll.fault]
        for maker in makers:
            own = [roll for roll in todo if plan.tapes[roll.tape].maker == maker]
            for at in range(0, len(own), sizes[maker]):
                batch = own[at : at + sizes[maker]]
                requests = [request_for(plan.tapes[r.tape], r.span, attempt, envelopes.of(r.tape, r.span)) for r in batch]
                shares = _Shares(on_progress, done, len(rolls), len(batch) if attempt == 0 else 0)
                made = _made(requests, maker, sizes[maker], signs[maker], hands, ledger, shares, cancelled)
                for roll, sound in zip(batch, made, strict=True):
                    _judge(roll, sound, plan.tapes[roll.tape], hands)
                done += len(batch) if attempt == 0 else 0
                on_progress(Progress(done, len(rolls)))
        if not any(roll.fault for roll in rolls):
            break
    return _score(plan, rolls)


@dataclass(frozen=True)
class _Shares:
    """Progress of one batch as a share of all spans; a re-roll moves nothing."""

    tell: OnProgress
    done: int
    of: int
    batch: int

    def __call__(self, progress: Progress) -> None:
        share = self.done + self.batch * progress.step / max(progress.of, 1)
        self.tell(Progress(int(1000 * share), 1000 * self.of, progress.eta_s))


def _made(
    requests: Sequence[GenerationRequest],
    maker: str,
    rows: int,
    sign: str,
    hands: Hands,
    ledger: Ledger,
    on_progress: OnProgress,
    cancelled: Callable[[], bool],
) -> list[Generated]:
    found = [ledger.find(request, sign) for request in requests]
    missing = [request for request, known in zip(requests, found, strict=True) if known is None]
    if cancelled():
        raise Cancelled
    fresh = iter(hands.generate(maker, missing, rows, on_progress, cancelled) if missing else ())
    made = []
    for known in found:
        if known is None:
            known = next(fresh)
            ledger.keep(known)
        made.append(known)
    return made


class _Envelopes:
    """Loudness curves as stored media, each stored once."""

    def __init__(self, plan: Plan, hands: Hands) -> None:
        self._plan, self._keep = plan, hands.keep_curve
        self._known: dict[tuple[int, int], MediaRef | None] = {}

    def of(self, tape: int, span: int) -> MediaRef | None:
        key = (tape, 0 if self._plan.tapes[tape].takes else span)
        if key not in self._known:
            curve = curve_of(self._plan.tapes[tape], span)
            self._known[key] = None if curve is None else self._keep(curve)
        return self._known[key]


# -- checking ----------------------------------------------------------------------------------------------------------

_WORST = ("silent", "no event", "clipped", "speech", "music", "no music")


def _judge(roll: _Roll, made: Generated, tape: Tape, hands: Hands) -> None:
    """Hold a sound against its layer; it takes the place of an earlier roll if its fault is smaller."""
    heard = hands.listen(hands.path(made.media))
    fault = fault_of(tape, made, heard, lambda: read_audio(hands.path(made.media)))
    roll.faults = (*roll.faults, fault)
    if roll.kept is None or _gravity(fault) < _gravity(roll.fault):
        roll.kept, roll.fault, roll.heard = made, fault, f"{heard.name} ({heard.kind}, {heard.share:.2f})"


def _gravity(fault: str) -> int:
    return len(_WORST) - next((index for index, name in enumerate(_WORST) if fault.startswith(name)), len(_WORST))


def fault_of(tape: Tape, made: Generated, heard: Heard, sound: Callable[[], Audio]) -> str:
    """What is wrong with a sound in its layer; "" where nothing is.

    Silence, clipping, speech in any layer, music in a bed or an event (unless its words ask for it), no music in the music, a tape of
    takes without an event.
    """
    if made.guard.silent:
        return "silent"
    if tape.layer == "foley" and not any(take is not None and take.clear_db >= LEAST_CLEAR_DB for take in takes_of(tape, sound())):
        return "no event begins in it"
    if made.guard.clipped_share > CLIPPED:
        return f"clipped: {100 * made.guard.clipped_share:.0f} % of it is at full scale"
    if heard.kind == "speech":
        return f"speech is heard ({heard.name})"
    if heard.kind == "music" and tape.layer != "music":
        return f"music is heard ({heard.name})"
    if heard.kind == "sound" and tape.layer == "music" and heard.share >= CLEARLY:
        return f"no music is heard ({heard.name})"
    return ""


def takes_of(tape: Tape, sound: Audio) -> list[Take | None]:
    """The events of one span of a tape of takes, in order; None where nothing begins."""
    return [cut_take(sound.samples, sound.sample_rate, near) for near in tape.takes or (None,)]


def _score(plan: Plan, rolls: Sequence[_Roll]) -> Score:
    sounds: list[list[Generated]] = [[] for _ in plan.tapes]
    verdicts = []
    for roll in rolls:
        assert roll.kept is not None
        tape = plan.tapes[roll.tape]
        sounds[roll.tape].append(roll.kept)
        verdicts.append(
            Verdict(
                layer=tape.layer,
                tape=roll.tape,
                span=roll.span,
                prompt=tape.prompt,
                seed=roll.kept.request.seed,
                rolls=len(roll.faults),
                faults=roll.faults,
                fault=roll.fault,
                heard=roll.heard,
                media=roll.kept.media.id,
            )
        )
    return Score(tuple(tuple(each) for each in sounds), tuple(verdicts))


# -- stems -------------------------------------------------------------------------------------------------------------


def write_stem(plan: Plan, layer: Layer, score: Score, hands: Hands, path: Path) -> None:
    """Lay a layer's sounds on a stem (WAV, 32-bit float) that lasts as long as the video, block by block."""

    @lru_cache(maxsize=HELD)
    def sound(tape: int, span: int) -> Audio:
        return read_audio(hands.path(score.sounds[tape][span].media), max_seconds=3600.0)

    first = next(index for index, tape in enumerate(plan.tapes) if tape.layer == layer)
    shape = sound(first, 0)
    rate, channels = shape.sample_rate, shape.channels
    clips = _events(plan, sound, rate) if layer == "foley" else _bed(plan, layer, sound, rate)
    lay(path, rate, round(plan.seconds * rate), channels, clips)


def _bed(plan: Plan, layer: Layer, sound: Callable[[int, int], Audio], rate: int) -> Iterator[Clip]:
    """Pieces of tapes, each brought to its loudness; neighbouring spans of a tape crossfade over all that they share."""

    @cache
    def gain(tape: int) -> float:
        each = plan.tapes[tape]
        return gain_to(each.lufs, (sound(tape, index).samples for index in range(len(each.spans))), rate)

    pieces = []
    for laid in plan.laid:
        tape = plan.tapes[laid.tape]
        if tape.layer != layer:
            continue
        for index, span in enumerate(tape.spans):
            begin, end = max(laid.first, span.start), min(laid.last, span.start + span.seconds)
            if end > begin:
                pieces.append((laid.at + begin - laid.first, laid, index, begin, end))
    for at, laid, index, begin, end in sorted(pieces, key=lambda piece: piece[0]):
        spans = plan.tapes[laid.tape].spans
        span, samples = spans[index], sound(laid.tape, index).samples
        start = round((begin - span.start) * rate)
        cut = samples[:, start : start + round((end - begin) * rate)]
        into = spans[index - 1].start + spans[index - 1].seconds - span.start if index else 0.0
        out = span.start + span.seconds - spans[index + 1].start if index + 1 < len(spans) else 0.0
        weights = power_fade(cut.shape[1], laid.first - begin, laid.last - begin, laid.fade_in, laid.fade_out, rate)
        weights = weights * power_fade(cut.shape[1], span.start - begin, span.start + span.seconds - begin, into, out, rate)
        if laid.levels:
            moments, levels = zip(*laid.levels, strict=True)
            weights = weights * 10 ** (np.interp(at + np.arange(cut.shape[1]) / rate, moments, levels) / 20)
        yield Clip(round(at * rate), (cut * weights * gain(laid.tape)).astype(np.float32))


def gain_to(lufs: float | None, sounds: Iterable[np.ndarray], rate: int) -> float:
    """The factor that brings sounds [C, n], heard one after the other, to a loudness; quiet parts do not count (BS.1770-4's gates)."""
    if lufs is None:
        return 1.0
    meter: LoudnessMeter | None = None
    for samples in sounds:
        meter = meter or LoudnessMeter(rate, len(samples))
        meter.add(samples)
    heard = meter.lufs() if meter else -math.inf
    return 10 ** (min(lufs - heard, MOST_RAISED_DB) / 20) if math.isfinite(heard) else 1.0


def _events(plan: Plan, sound: Callable[[int, int], Audio], rate: int) -> Iterator[Clip]:
    """Takes with their attack on what is seen, softer where less happens there; the next event ends the one before."""

    @lru_cache(maxsize=64)
    def take_of(tape: int, span: int, place: int) -> Take | None:
        return takes_of(plan.tapes[tape], sound(tape, span))[place]

    def usable(event: Event) -> Take | None:
        """The event's take, or the next one of its tape that can be heard."""
        tape = plan.tapes[event.tape]
        each = len(tape.takes) or 1
        total = each * len(tape.spans)
        for turn in range(total):
            span, place = divmod((event.take + turn) % total, each)
            take = take_of(event.tape, span, place)
            if take is not None and take.clear_db >= LEAST_CLEAR_DB:
                return take
        return take_of(event.tape, *divmod(event.take, each))

    for event in plan.events:
        take = usable(event)
        if take is None:
            continue
        most = take.lead + max(round((event.until - event.time) * rate) - round(0.006 * rate), 1)
        samples = take.samples[:, :most].copy()
        if samples.shape[1] < take.samples.shape[1]:
            fade = min(round(0.015 * rate), samples.shape[1] // 2)
            samples[:, samples.shape[1] - fade :] *= np.cos(np.linspace(0, np.pi / 2, fade, dtype=np.float32))
        gain = 10 ** (SOFTEST_DB * (1 - event.strength) / 20)
        yield Clip(round(event.time * rate) - take.lead, samples * np.float32(gain))
