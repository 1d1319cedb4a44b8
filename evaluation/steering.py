"""Does a sound follow what a prompt says beyond its class: tempo, number, pitch, distance, a drawn loudness curve, two sounds at once?

Reads ``tests/data/probes.jsonl`` and ``mixtures.jsonl``, turns rows into requests and measured sounds into figures. Measures with
evaluation.probes; knows no checkpoint. The words are our own, the sounds that they name are training's common ones.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from configs.registry import ConfigError
from evaluation import probes
from evaluation.metrics import bootstrap_interval
from evaluation.prompts import DATA
from generators.base import GenerationRequest
from media.audio import Audio
from media.mel import log_mel, loudness_curve
from media.refs import MediaRef

SECONDS = 5.12
CURVE_POINTS = 512  # one a mel frame: 100 Hz
FADE = 0.3  # seconds in which a struck sound leaves the 50 dB of a loudness curve

PAIRS = ("pace", "distance", "number", "register")
DRAWN = ("onsets", "curve")


@dataclass(frozen=True)
class Probe:
    """One thing to ask for: a prompt and its goal, or two prompts of which the second shall have more of something."""

    kind: str
    prompts: tuple[str, ...]
    goal: Any = None  # tempo: bpm; count: number; contour: 1 up, -1 down; onsets: seconds; curve: [(seconds, 0..1)]

    def curve(self) -> np.ndarray:
        """The loudness curve of a drawn probe: [512] in 0..1, points in the middle of their share of the clip."""
        at = (np.arange(CURVE_POINTS) + 0.5) / CURVE_POINTS * SECONDS
        if self.kind == "curve":
            times, values = zip(*self.goal, strict=True)
            return np.interp(at, times, values).astype(np.float32)
        return struck(self.goal)


def struck(times: Sequence[float]) -> np.ndarray:
    """Loudness of events that begin at once and fade evenly in decibels: [512] in 0..1 over ``SECONDS``."""
    since = ((np.arange(CURVE_POINTS) + 0.5) / CURVE_POINTS * SECONDS)[:, None] - np.asarray(times)
    return np.where(since >= 0, np.clip(1 - since / FADE, 0, 1), 0).max(axis=1).astype(np.float32)


@dataclass(frozen=True)
class Mixture:
    """Two classes in one clip, at once ("while") or one after the other ("then"); the pair is kept out of training."""

    how: Literal["while", "then"]
    first: str
    second: str
    prompt: str


def read_probes(path: Path = DATA / "probes.jsonl") -> list[Probe]:
    """All probes, in the order of the file.

    Raises:
        ConfigError: the file is missing or a line of it is wrong.
    """
    return [_parsed(path, number, row, _probe) for number, row in _rows(path)]


def read_mixtures(path: Path = DATA / "mixtures.jsonl") -> list[Mixture]:
    """All mixtures. Raises ConfigError as ``read_probes``."""
    return [_parsed(path, number, row, lambda r: Mixture(**r)) for number, row in _rows(path)]


GOALS = {"tempo": "bpm", "count": "count", "contour": "direction", "onsets": "at", "curve": "points"}


def _probe(row: dict[str, Any]) -> Probe:
    kind = row["probe"]
    if kind in PAIRS:
        return Probe(kind, (row["less"], row["more"]))
    return Probe(kind, (row["prompt"],), row[GOALS[kind]])


def _rows(path: Path) -> list[tuple[int, str]]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise ConfigError(f"the benchmark's prompts are not at {path}: run it from a checkout of the repository") from error
    return list(enumerate(lines, 1))


def _parsed(path: Path, number: int, line: str, parse: Callable[[dict[str, Any]], Any]) -> Any:
    try:
        return parse(json.loads(line))
    except (ValueError, KeyError, TypeError) as error:
        raise ConfigError(f"{path}, line {number}: {type(error).__name__} {error}; see the lines around it") from error


# -- asking ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Asked:
    """The requests of one probe at one seed."""

    probe: Probe
    group: int  # number of the probe: intervals draw whole groups
    requests: tuple[GenerationRequest, ...]


def ask_probes(
    rows: Sequence[Probe], seeds: Sequence[int], steps: int, store_curve: Callable[[np.ndarray], MediaRef] | None
) -> list[Asked]:
    """Every probe at every seed. ``store_curve`` stores a loudness curve; None leaves out the probes that need one."""
    asked = []
    for group, row in enumerate(rows):
        if row.kind in DRAWN and store_curve is None:
            continue
        envelope = store_curve(row.curve()) if row.kind in DRAWN and store_curve else None
        for seed in seeds:
            requests = (
                GenerationRequest(prompt=prompt, seconds=SECONDS, seed=seed, steps=steps, envelope=envelope) for prompt in row.prompts
            )
            asked.append(Asked(row, group, tuple(requests)))
    return asked


# -- measuring ------------------------------------------------------------------------------------------------------


def samples_of(sound: Audio) -> np.ndarray:
    """Mono samples of a sound of the benchmark's rate."""
    return sound.mono().samples[0]


def measure(probe: Probe, sounds: Sequence[Audio]) -> dict[str, float]:
    """What the sounds of one probe at one seed show. ``right`` is 1.0 where the probe is passed; the rest tells how."""
    return _MEASURES[probe.kind](probe, [samples_of(sound) for sound in sounds])


def _mel(samples: np.ndarray) -> np.ndarray:
    return log_mel(samples, probes.SPEC)


def _tempo(probe: Probe, sounds: list[np.ndarray]) -> dict[str, float]:
    verdict = probes.tempo_verdict(probe.goal, probes.tempo(_mel(sounds[0])))
    return {"right": float(verdict == "right"), "octave": float(verdict == "octave")}


def _count(probe: Probe, sounds: list[np.ndarray]) -> dict[str, float]:
    off = abs(probes.count_events(_mel(sounds[0])) - probe.goal)
    return {"right": float(off == 0), "within_one": float(off <= 1)}


def _contour(probe: Probe, sounds: list[np.ndarray]) -> dict[str, float]:
    slope = probes.pitch_slope(sounds[0])
    return {"right": float(slope is not None and slope * probe.goal > 0.02), "pitched": float(slope is not None)}


def _pace(probe: Probe, sounds: list[np.ndarray]) -> dict[str, float]:
    slow, fast = (probes.onset_rate(_mel(x)) for x in sounds)
    return {"right": float(fast > slow)}


def _number(probe: Probe, sounds: list[np.ndarray]) -> dict[str, float]:
    one, many = (probes.count_events(_mel(x)) for x in sounds)
    return {"right": float(many > one), "one_is_one": float(one == 1)}


def _register(probe: Probe, sounds: list[np.ndarray]) -> dict[str, float]:
    low, high = (probes.median_pitch(x) for x in sounds)
    pitched = low is not None and high is not None
    brighter = probes.brightness_hz(sounds[1]) > probes.brightness_hz(sounds[0])
    return {
        "right": float(low < high) if low is not None and high is not None else float(brighter),
        "pitched": float(pitched),
        "brighter": float(brighter),
    }


def _distance(probe: Probe, sounds: list[np.ndarray]) -> dict[str, float]:
    far, near = sounds
    louder = probes.level_db(near) > probes.level_db(far)
    brighter = probes.brightness_hz(near) > probes.brightness_hz(far)
    return {"right": float(louder and brighter), "louder": float(louder), "brighter": float(brighter)}


def _curve(probe: Probe, sounds: list[np.ndarray]) -> dict[str, float]:
    return {"correlation": probes.correlation(probe.curve(), loudness_curve(_mel(sounds[0])))}


def _onsets(probe: Probe, sounds: list[np.ndarray]) -> dict[str, float]:
    match = probes.match_onsets(probe.goal, probes.onsets(_mel(sounds[0])))
    return {"right": match.recall, "f1": match.f1} | _curve(probe, sounds)


_MEASURES: Mapping[str, Callable[[Probe, list[np.ndarray]], dict[str, float]]] = {
    "tempo": _tempo,
    "count": _count,
    "contour": _contour,
    "pace": _pace,
    "number": _number,
    "register": _register,
    "distance": _distance,
    "onsets": _onsets,
    "curve": _curve,
}


@dataclass(frozen=True)
class Reading:
    """What one probe at one seed showed."""

    kind: str
    group: int
    seed: int
    shown: Mapping[str, float]


def read(asked: Sequence[Asked], sounds: Sequence[Audio]) -> list[Reading]:
    """Readings of the sounds that answer all requests of ``asked``, in their order."""
    readings, at = [], 0
    for each in asked:
        count = len(each.requests)
        readings.append(Reading(each.probe.kind, each.group, each.requests[0].seed, measure(each.probe, sounds[at : at + count])))
        at += count
    return readings


def summary(readings: Sequence[Reading]) -> dict[str, dict[str, Any]]:
    """Kind of probe -> means of what was shown, the interval of the first of them over probes, and how many there were."""
    told: dict[str, dict[str, Any]] = {}
    for kind in dict.fromkeys(reading.kind for reading in readings):
        mine = [reading for reading in readings if reading.kind == kind]
        means = {key: round(float(np.mean([r.shown[key] for r in mine])), 4) for key in mine[0].shown}
        first = [r.shown[next(iter(means))] for r in mine]
        interval = bootstrap_interval(first, [r.group for r in mine])
        told[kind] = means | {"interval": [round(end, 4) for end in interval], "n": len(mine)}
    return told


def shuffled_correlation(asked: Sequence[Asked], sounds: Sequence[Audio]) -> float | None:
    """The correlation of made loudness with the curve of *another* drawn probe: what chance gives."""
    drawn = [each for each in asked if each.probe.kind in DRAWN]
    if len({each.group for each in drawn}) < 2:
        return None
    made, at = {}, 0
    for each in asked:
        if each.probe.kind in DRAWN:
            made[(each.group, each.requests[0].seed)] = loudness_curve(_mel(samples_of(sounds[at])))
        at += len(each.requests)
    groups = list(dict.fromkeys(each.group for each in drawn))
    following = dict(zip(groups, groups[1:] + groups[:1], strict=True))
    of = {each.group: each.probe for each in drawn}
    values = [probes.correlation(of[following[group]].curve(), curve) for (group, _), curve in made.items()]
    return round(float(np.mean(values)), 4)


# -- two sounds -------------------------------------------------------------------------------------------------------


def mixed(how: str, first: Audio, second: Audio) -> Audio:
    """Two clips of one length in one: added at the same loudness, or the first half of one and then the beginning of the other."""
    x, y = _levelled(samples_of(first)), _levelled(samples_of(second))
    if how == "while":
        z = x + y
    else:
        at, fade = len(x) // 2, 960
        gate = np.clip((np.arange(len(x)) - at) / fade + 0.5, 0, 1)
        z = x * (1 - gate) + np.concatenate([np.zeros(at), y[: len(x) - at]]) * gate
    peak = np.abs(z).max(initial=0.0)
    return Audio((z * (0.9 / peak) if peak > 0.9 else z)[None].astype(np.float32), first.sample_rate)


def _levelled(x: np.ndarray) -> np.ndarray:
    return x * 10 ** ((-20 - probes.level_db(x)) / 20) if np.any(x) else x
