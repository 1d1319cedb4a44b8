"""A listening test over sounds that exist: what is asked, in which order, and what the answers say.

Knows prompts, systems and ratings. Does not know pages or browsers, and nothing that a rater is handed tells which system made a sound.

Questions of one sound are rated from 1 to 5 (ITU-T P.800): `mos` how natural, `ovl` how good, `rel` how well it fits the words. `pair`
asks which of two is better. `mushra` (ITU-R BS.1534-3) rates all systems of a prompt from 0 to 100 beside a known reference; the
reference itself and a copy without anything above 3.5 kHz hide among them.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import math
import os
import random
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from configs.registry import ConfigError
from media.audio import Audio, encode_audio, loudness_lufs, read_audio, resample
from media.refs import write_whole

Kind = Literal["mos", "ovl", "rel", "pair", "mushra"]
KINDS: tuple[Kind, ...] = ("mos", "ovl", "rel", "pair", "mushra")
SCALES: tuple[Kind, ...] = ("mos", "ovl", "rel")
QUESTIONS: dict[Kind, str] = {
    "mos": "How natural does this sound?",
    "ovl": "How good is this sound, whatever it is meant to be?",
    "rel": "How well does this sound fit the words?",
    "pair": "Which of the two fits the words better and sounds better?",
    "mushra": "How good is each sound, compared with the reference?",
}
GRADES = {5: "Excellent", 4: "Good", 3: "Fair", 2: "Poor", 1: "Bad"}  # ITU-T P.800, table of the listening-quality scale
REFERENCE, ANCHOR, CHECK = "reference", "anchor", "check"  # systems that are none

RATE = 48_000  # Hz, of what raters hear
LEVEL_LUFS = -23.0  # EBU R 128
PEAK = 10 ** (-1 / 20)
CUTOFF_HZ = 3_500.0  # of the low anchor, BS.1534-3 section 5.1
MAX_PAIRS = 60  # pairs of one test; more are drawn from, by the seed
EVERY = 10  # one attention check for so many trials of a kind
LENIENT = 0.15  # BS.1534-3, 4.1.2: share of trials in which an assessor may be wrong about reference or anchor
EXPECTED = 90  # and what the reference must, and the anchor must not, be given


class BadAnswer(Exception):
    """An answer that the trial does not allow; the message says why."""


class _Value(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Sound(_Value):
    """A sound of a study: who made it for which prompt."""

    system: str
    prompt: str  # id
    caption: str
    seed: int
    path: Path


class Trial(_Value):
    """One question. ``stimuli`` are keys of ``Test.stimuli``; ``wanted`` is the grade that an attention check asks for."""

    id: str
    kind: Kind
    prompt: str
    caption: str
    stimuli: tuple[str, ...]
    wanted: int | None = None


class Stimulus(_Value):
    """What a rater may hear: ``sources`` of all that must sound equally loud in its trial lie in the same ``prompt``."""

    system: str
    prompt: str
    seed: int
    source: Path


class Test(_Value):
    """A whole listening test; everybody's order follows from ``seed`` and the rater's name."""

    __test__ = False  # not one of pytest's

    seed: int
    kinds: tuple[Kind, ...]
    systems: tuple[str, ...]
    trials: tuple[Trial, ...]
    stimuli: dict[str, Stimulus]


class Answer(_Value):
    """What one rater gave one trial: ``ratings`` and seconds ``heard`` by stimulus; of a pair the better has 1, of a tie both 0.5."""

    rater: str
    trial: str
    ratings: dict[str, float]
    heard: dict[str, float] = Field(default_factory=dict)
    seconds: float = 0.0


# -- what is asked --------------------------------------------------------------------------------------------------


def plan(sounds: Sequence[Sound], references: Mapping[str, Path], kinds: Sequence[Kind], seed: int) -> Test:
    """A test over ``sounds``; every prompt is asked at its first seed for which all systems made a sound.

    Args:
        references: recording by prompt id; only prompts that have one are asked in `mushra`.

    Raises:
        ConfigError: no prompt has a sound of every system; a pair of one system; mushra without references.
    """
    systems = tuple(dict.fromkeys(sound.system for sound in sounds))
    complete = _complete(sounds, systems)
    if not complete:
        raise ConfigError("no prompt has a sound of every system: finish the study first ('loa study run')")
    if "pair" in kinds and len(systems) < 2:
        raise ConfigError("pairs need two systems, and the study has one; leave 'pair' out")
    referenced = [prompt for prompt in complete if prompt in references]
    if "mushra" in kinds and not referenced:
        raise ConfigError("mushra needs recordings to compare with: give prompts a 'reference', or leave 'mushra' out")
    stimuli: dict[str, Stimulus] = {}

    def stimulus(system: str, prompt: str, drawn: int, source: Path) -> str:
        key = _digest(str(seed), system, prompt, str(drawn))
        stimuli[key] = Stimulus(system=system, prompt=prompt, seed=drawn, source=source)
        return key

    trials: list[Trial] = []
    for kind in kinds:
        mine: list[Trial] = []
        for prompt in referenced if kind == "mushra" else complete:
            made = {s.system: stimulus(s.system, prompt, s.seed, s.path) for s in complete[prompt]}
            caption, groups = complete[prompt][0].caption, [tuple(made.values())]
            if kind in SCALES:
                groups = [(key,) for key in made.values()]
            elif kind == "pair":
                groups = list(itertools.combinations(made.values(), 2))
            else:
                hidden = [stimulus(name, prompt, 0, references[prompt]) for name in (REFERENCE, ANCHOR)]
                groups = [(*made.values(), *hidden)]
            mine += [
                Trial(id=_digest(str(seed), kind, *group), kind=kind, prompt=prompt, caption=caption, stimuli=group) for group in groups
            ]
        if kind == "pair" and len(mine) > MAX_PAIRS:
            mine = random.Random(f"{seed} pairs").sample(mine, MAX_PAIRS)
        trials += mine + _checks(kind, mine, seed)
    return Test(seed=seed, kinds=tuple(kinds), systems=systems, trials=tuple(trials), stimuli=stimuli)


def _complete(sounds: Sequence[Sound], systems: Sequence[str]) -> dict[str, list[Sound]]:
    """By prompt: one sound of every system, of one seed, in the order of ``systems``."""
    found: dict[str, dict[int, dict[str, Sound]]] = defaultdict(lambda: defaultdict(dict))
    for sound in sounds:
        found[sound.prompt][sound.seed][sound.system] = sound
    chosen: dict[str, list[Sound]] = {}
    for prompt, by_seed in found.items():
        whole = [seed for seed in sorted(by_seed) if len(by_seed[seed]) == len(systems)]
        if whole:
            chosen[prompt] = [by_seed[whole[0]][system] for system in systems]
    return chosen


def _checks(kind: Kind, trials: Sequence[Trial], seed: int) -> list[Trial]:
    """Attention checks: a sound of the test, and the grade to give is said. A mushra checks itself by what hides in it."""
    if kind not in SCALES:
        return []
    draw = random.Random(f"{seed} {kind} checks")
    return [
        trial.model_copy(update={"id": _digest(str(seed), kind, CHECK, str(k)), "wanted": draw.randint(1, 5)})
        for k, trial in enumerate(draw.sample(list(trials), math.ceil(len(trials) / EVERY)))
    ]


def order(test: Test, rater: str) -> list[tuple[Trial, dict[str, str]]]:
    """What a rater is asked, one kind after the other, each in an order of their own: trials, and opaque name -> stimulus in order."""
    draw = random.Random(_digest(str(test.seed), rater))
    asked: list[tuple[Trial, dict[str, str]]] = []
    for kind in test.kinds:
        trials = [trial for trial in test.trials if trial.kind == kind]
        draw.shuffle(trials)
        for trial in trials:
            keys = list(trial.stimuli)
            draw.shuffle(keys)
            asked.append((trial, {_digest(str(test.seed), rater, trial.id, key): key for key in keys}))
    return asked


def check_answer(trial: Trial, ratings: Mapping[str, float]) -> None:
    """Raises BadAnswer where the ratings of the trial's stimuli are missing, strange or out of range."""
    if set(ratings) != set(trial.stimuli):
        raise BadAnswer(f"every sound of the trial wants one rating: {len(trial.stimuli)} sounds, {len(ratings)} ratings")
    values = sorted(ratings.values())
    if trial.kind == "pair":
        if values not in ([0.0, 1.0], [0.5, 0.5]):
            raise BadAnswer(f"of a pair one is better (1 and 0) or neither (0.5 and 0.5), got {values}")
        return
    low, high = (0, 100) if trial.kind == "mushra" else (1, 5)
    if not all(low <= value <= high and value == int(value) for value in values):
        raise BadAnswer(f"ratings are whole numbers from {low} to {high}, got {values}")


# -- what is heard --------------------------------------------------------------------------------------------------


def prepare(test: Test, folder: Path) -> None:
    """Write ``folder/NAME.wav`` for every stimulus: 48 kHz, all of a prompt of one length and loudness."""
    folder.mkdir(parents=True, exist_ok=True)
    by_prompt: dict[str, list[str]] = defaultdict(list)
    for key, stimulus in test.stimuli.items():
        by_prompt[stimulus.prompt].append(key)
    for keys in by_prompt.values():
        if all((folder / f"{key}.wav").is_file() for key in keys):
            continue
        heard = [resample(read_audio(test.stimuli[key].source), RATE) for key in keys]
        heard = [without_treble(sound) if test.stimuli[key].system == ANCHOR else sound for key, sound in zip(keys, heard, strict=True)]
        for key, sound in zip(keys, matched(heard), strict=True):
            write_whole(folder / f"{key}.wav", encode_audio(sound, "wav"))


def matched(sounds: Sequence[Audio]) -> list[Audio]:
    """The sounds at -23 LUFS, as long as the longest; all softer by the same amount where one would pass -1 dBFS otherwise.

    Sounds of less than 0.4 s have no loudness; their level (root of the mean square, in dBFS) stands for it. Silence stays silent.
    """
    longest = max(sound.samples.shape[1] for sound in sounds)
    padded = [np.pad(sound.samples, ((0, 0), (0, longest - sound.samples.shape[1]))) for sound in sounds]
    levels = [_level(sound) for sound in sounds]
    gains = [10 ** ((LEVEL_LUFS - level) / 20) if math.isfinite(level) else 0.0 for level in levels]
    peak = max((float(np.abs(x).max()) * gain for x, gain in zip(padded, gains, strict=True)), default=0.0)
    common = min(1.0, PEAK / peak) if peak else 1.0
    return [Audio((x * gain * common).astype(np.float32), s.sample_rate) for x, gain, s in zip(padded, gains, sounds, strict=True)]


def _level(sound: Audio) -> float:
    loudness = loudness_lufs(sound)
    if math.isfinite(loudness):
        return loudness
    power = float(np.mean(sound.samples.astype(np.float64) ** 2))
    return 10 * math.log10(power) if power > 1e-12 else -math.inf


def without_treble(sound: Audio) -> Audio:
    """The low anchor: ripple within 0.1 dB up to 3.5 kHz, 25 dB down at 4 kHz, 50 dB at 4.5 kHz (BS.1534-3, 5.1); no delay."""
    from scipy.signal import fftconvolve, firwin

    taps = firwin(601, CUTOFF_HZ + 250, window=("kaiser", 7.0), fs=sound.sample_rate)
    filtered = np.stack([fftconvolve(channel, taps, mode="same") for channel in sound.samples.astype(np.float64)])
    return Audio(filtered[:, : sound.samples.shape[1]].astype(np.float32), sound.sample_rate)


# -- what is kept ---------------------------------------------------------------------------------------------------


def keep(file: Path, answer: Answer) -> None:
    """Append an answer, whole and on disk when this returns."""
    torn = file.is_file() and file.stat().st_size > 0 and not file.read_bytes().endswith(b"\n")
    with file.open("a", encoding="utf-8") as out:
        out.write(("\n" if torn else "") + answer.model_dump_json() + "\n")
        out.flush()
        os.fsync(out.fileno())


def read_answers(file: Path) -> list[Answer]:
    """All answers; of two to one trial by one rater the first counts. A torn line, as a power cut leaves it, is passed over."""
    found: dict[tuple[str, str], Answer] = {}
    for line in file.read_text("utf-8").splitlines() if file.is_file() else ():
        try:
            answer = Answer.model_validate_json(line)
        except ValueError:
            continue
        found.setdefault((answer.rater, answer.trial), answer)
    return list(found.values())


# -- what it says ---------------------------------------------------------------------------------------------------


def analyse(test: Test, answers: Iterable[Answer]) -> dict[str, Any]:
    """Figures by kind: means (or preferences) with 95 % intervals, and who was left out and why.

    Intervals resample raters and prompts at once (the pigeonhole bootstrap of Owen 2007, which errs on the wide side), since two
    ratings of one rater, or of one prompt, tell less than two of different ones.
    """
    trials = {trial.id: trial for trial in test.trials}
    by_kind: dict[Kind, list[Answer]] = defaultdict(list)
    for answer in answers:
        if answer.trial in trials:
            by_kind[trials[answer.trial].kind].append(answer)
    told: dict[str, Any] = {}
    for kind in test.kinds:
        left_out = screened(test, kind, by_kind[kind])
        kept = [a for a in by_kind[kind] if a.rater not in left_out and trials[a.trial].wanted is None]
        table = _preferences(test, trials, kept) if kind == "pair" else _means(test, trials, kept)
        told[kind] = {
            "raters": len({answer.rater for answer in kept}),
            "left_out": left_out,
            "ratings": sum(len(answer.ratings) for answer in kept),
            "agreement": _agreement(kept) if kind != "pair" else None,
            **table,
        }
    return told


def screened(test: Test, kind: Kind, answers: Sequence[Answer]) -> dict[str, str]:
    """Rater -> why their answers to questions of this kind do not count (attention checks; BS.1534-3, 4.1.2)."""
    trials = {trial.id: trial for trial in test.trials}
    wrong: dict[str, list[bool]] = defaultdict(list)
    for answer in answers:
        trial = trials[answer.trial]
        if kind in SCALES and trial.wanted is not None:
            wrong[answer.rater].append(next(iter(answer.ratings.values())) != trial.wanted)
        elif kind == "mushra":
            given = {test.stimuli[key].system: value for key, value in answer.ratings.items()}
            wrong[answer.rater].append(given[REFERENCE] < EXPECTED or given[ANCHOR] > EXPECTED)
    allowed = LENIENT if kind == "mushra" else 0.0
    what = "reference below 90 or anchor above" if kind == "mushra" else "attention checks missed"
    return {rater: f"{what}: {sum(row)} of {len(row)}" for rater, row in wrong.items() if sum(row) > allowed * len(row)}


def _means(test: Test, trials: Mapping[str, Trial], answers: Sequence[Answer]) -> dict[str, Any]:
    cells: dict[str, list[tuple[str, str, float]]] = defaultdict(list)
    for answer in answers:
        for key, value in answer.ratings.items():
            cells[test.stimuli[key].system].append((answer.rater, trials[answer.trial].prompt, value))
    return {"systems": {name: _figure(cells[name]) for name in (*test.systems, REFERENCE, ANCHOR) if cells[name]}}


def _preferences(test: Test, trials: Mapping[str, Trial], answers: Sequence[Answer]) -> dict[str, Any]:
    cells: dict[tuple[str, str], list[tuple[str, str, float]]] = defaultdict(list)
    for answer in answers:
        (a, b) = sorted(answer.ratings, key=lambda key: test.systems.index(test.stimuli[key].system))
        pair = (test.stimuli[a].system, test.stimuli[b].system)
        cells[pair].append((answer.rater, trials[answer.trial].prompt, answer.ratings[a]))
    return {"pairs": [{"first": a, "second": b, "first_better": _figure(rows)} for (a, b), rows in cells.items()]}


def _figure(cells: Sequence[tuple[str, str, float]]) -> dict[str, Any]:
    values = [value for _, _, value in cells]
    low, high = crossed_interval(cells)
    return {"mean": round(float(np.mean(values)), 4), "interval": [round(low, 4), round(high, 4)], "n": len(values)}


def crossed_interval(cells: Sequence[tuple[str, str, float]], resamples: int = 4000, seed: int = 0) -> tuple[float, float]:
    """95 % interval of the mean of (rater, prompt, value), raters and prompts drawn anew and independently (Owen 2007, section 3)."""
    raters, rows = np.unique([rater for rater, _, _ in cells], return_inverse=True)
    prompts, columns = np.unique([prompt for _, prompt, _ in cells], return_inverse=True)
    sums, counts = np.zeros((len(raters), len(prompts))), np.zeros((len(raters), len(prompts)))
    np.add.at(sums, (rows, columns), [value for _, _, value in cells])
    np.add.at(counts, (rows, columns), 1.0)
    draw = np.random.default_rng(seed)
    heads = draw.multinomial(len(raters), np.full(len(raters), 1 / len(raters)), resamples)
    sheets = draw.multinomial(len(prompts), np.full(len(prompts), 1 / len(prompts)), resamples)
    total = np.einsum("bi,ij,bj->b", heads, sums, sheets, optimize=True)
    weight = np.einsum("bi,ij,bj->b", heads, counts, sheets, optimize=True)
    low, high = np.quantile(total[weight > 0] / weight[weight > 0], [0.025, 0.975])
    return float(low), float(high)


def _agreement(answers: Sequence[Answer]) -> dict[str, float] | None:
    """Rater -> correlation with the mean of the others on what both rated; None below three raters. Nobody is left out for it."""
    given: dict[str, dict[tuple[str, str], float]] = defaultdict(dict)
    for answer in answers:
        for key, value in answer.ratings.items():
            given[answer.rater][answer.trial, key] = value
    if len(given) < 3:
        return None
    told = {}
    for rater, mine in given.items():
        pairs = []
        for item, value in mine.items():
            theirs = [other[item] for name, other in given.items() if name != rater and item in other]
            if theirs:
                pairs.append((value, float(np.mean(theirs))))
        spread = np.std(np.array(pairs), axis=0) if pairs else np.zeros(2)
        if (spread > 1e-9).all():
            told[rater] = round(float(np.corrcoef(np.array(pairs).T)[0, 1]), 4)
    return told


def as_rows(test: Test, answers: Iterable[Answer]) -> list[dict[str, Any]]:
    """One flat row per rating, for a table elsewhere."""
    trials = {trial.id: trial for trial in test.trials}
    return [
        {
            "rater": answer.rater,
            "kind": trials[answer.trial].kind,
            "trial": answer.trial,
            "prompt": trials[answer.trial].prompt,
            "check": trials[answer.trial].wanted is not None,
            "system": test.stimuli[key].system,
            "seed": test.stimuli[key].seed,
            "rating": value,
            "heard_s": answer.heard.get(key),
            "trial_s": answer.seconds,
        }
        for answer in answers
        if answer.trial in trials
        for key, value in answer.ratings.items()
    ]


def save(test: Test, folder: Path) -> None:
    """Write the test to ``folder/test.json``, whole or not at all."""
    folder.mkdir(parents=True, exist_ok=True)
    write_whole(folder / "test.json", test.model_dump_json(indent=1).encode())


def load(folder: Path) -> Test | None:
    """The test in ``folder``; None where none was begun.

    Raises:
        ConfigError: the file is damaged.
    """
    file = folder / "test.json"
    if not file.is_file():
        return None
    try:
        return Test.model_validate_json(file.read_bytes())
    except ValueError as error:
        raise ConfigError(f"{file} is damaged ({json.dumps(str(error)[:120])}); delete the folder to begin a new test") from error


def _digest(*parts: str) -> str:
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:20]
