"""The benchmark of the embedded checkpoint: what judges take its sounds for and what can be measured in them, beside what is possible.

Knows the protocol. Does not know how clips are synthesised (the caller hands that in) and trains nothing. No judge ranks a candidate or
decides a re-roll: judges only count, after all sounds are made.

Every figure at the top level of a checkpoint's object is over the procedural classes; the same keys over the recorded ones lie under
``recorded``. A prompt is judged within the label set of its kind. What could not be measured is None with a reason beside it.
"""

from __future__ import annotations

import hashlib
import os
import platform
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch

from evaluation import probes, steering
from evaluation.cost import SECONDS, STEPS, peak_mb, real_time_factors, size_mb
from evaluation.j2 import read_prompts as read_j2_prompts
from evaluation.judge import SHIPPED, Judge, mel_of, ranks
from evaluation.making import ROWS, Maker, OnProgress, Recipe, makers, one_thread, open_checkpoint
from evaluation.metrics import bootstrap_interval
from evaluation.prompts import ANIMALS, DATA, PICTURES, Kind, Paraphrase, blank_pictures, moving_picture, read_paraphrases
from evaluation.steering import Mixture, Reading, mixed, read_mixtures, read_probes, samples_of
from evaluation.verdicts import KEYS, Verdicts, difference, figures, per_class, rounded
from generators.base import GenerationRequest, UnsupportedRequest
from generators.conditioning import envelope_bytes
from media.audio import Audio
from media.refs import MediaRef, MediaStore

HELD_OUT_SEED = 30_000_000  # first seed of the clips that only this benchmark makes

Synthesise = Callable[[str, int], Audio]  # (procedural class, seed) -> 5.12 s, mono, 16 kHz
Staged = Callable[[str, int], tuple[Audio, float]]  # ("tempo" or "count", seed) -> a clip, and its beats per minute or events


@dataclass(frozen=True)
class Scale:
    """How much is asked. Figures of different scales do not compare."""

    seeds: tuple[int, ...] = (0, 1)
    class_stride: int = 1  # every n-th procedural class and recorded category
    paraphrases: int = 4  # per class
    held_out: int = 4  # real clips per class for the ceilings
    resynthesised: int = 2  # of these, through their own LOA
    staged: int = 24  # true trains of events on which the probes of tempo and number are measured, beside the made ones
    probe_stride: int = 1  # every n-th row of probes.jsonl and mixtures.jsonl
    probe_few: bool = False  # probes and mixtures at the few-step setting
    guidances: tuple[float, ...] = (1.0, 2.0, 5.0, 7.0)  # beside the checkpoint's own
    step_counts: tuple[int, ...] = (4, 8, 25, 50)
    rounds: int = 5  # of the timing
    beyond_classes: bool = True  # also recorded classes, words that no class has, probes, mixtures and sweeps


FULL = Scale()
CORE = Scale(beyond_classes=False)  # its figures are those of a full run; the rest is left out
QUICK = Scale((0,), 8, 1, 1, 1, 4, 5, True, (), (), 1)  # eight classes, for eight rows


class CrossJudge(Protocol):
    """Judge J2, as far as it is asked here (evaluation.j2.CrossJudge)."""

    @property
    def names(self) -> Sequence[str]: ...
    @property
    def figures(self) -> Mapping[str, Any]: ...
    @property
    def digest(self) -> str: ...
    def label_of(self, name: str, kind: Kind) -> str | None: ...
    def logits(self, mels: np.ndarray) -> np.ndarray: ...


@dataclass(frozen=True)
class Trial:
    """One sound to be made and the class it should be heard as; ``group`` numbers the prompt."""

    name: str
    group: int
    request: GenerationRequest


def ask(paraphrases: Sequence[Paraphrase], seeds: Sequence[int], steps: int) -> list[Trial]:
    """Every prompt at every seed."""
    return [
        Trial(row.name, group, GenerationRequest(prompt=row.prompt, seconds=SECONDS, seed=seed, steps=steps))
        for group, row in enumerate(paraphrases)
        for seed in seeds
    ]


def plain_names(names: Sequence[str]) -> list[Paraphrase]:
    """The bare class names as prompts: "car engine"."""
    return [Paraphrase(name, "procedural", name.replace("_", " ")) for name in names]


def chosen(paraphrases: Sequence[Paraphrase], scale: Scale) -> list[Paraphrase]:
    """The prompts of every ``class_stride``-th class of each kind, the first ones of each class."""
    kept: list[Paraphrase] = []
    for kind in ("procedural", "recorded"):
        names = list(dict.fromkeys(row.name for row in paraphrases if row.kind == kind))[:: scale.class_stride]
        for name in names:
            kept += [row for row in paraphrases if row.kind == kind and row.name == name][: scale.paraphrases]
    return kept


# -- one checkpoint -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Listener:
    """A checkpoint's maker of sounds, the judges that hear them, and the store of pictures and conditions."""

    maker: Maker
    judge: Judge
    second: CrossJudge | None
    store: MediaStore

    def judgeable(self, paraphrases: Sequence[Paraphrase], kind: Kind) -> list[Paraphrase]:
        """The prompts of one kind whose class judge J1 can name."""
        return [row for row in paraphrases if row.kind == kind and self.judge.labels.answer(row.name, kind) is not None]

    def try_all(self, stage: str, trials: Sequence[Trial], kind: Kind) -> dict[str, Verdicts]:
        """Make and judge every trial: verdicts by judge, "" for J1 and "j2 " where J2 is there and knows some of the classes."""
        sounds = self.maker.sounds(stage, [trial.request for trial in trials])
        seeds = [trial.request.seed for trial in trials]
        return self.count(heard(sounds), [t.name for t in trials], [t.group for t in trials], kind, seeds)

    def count(
        self, mels: np.ndarray, names: Sequence[str], groups: Sequence[int], kind: Kind, seeds: Sequence[int] = ()
    ) -> dict[str, Verdicts]:
        """Log-mels of sounds of one kind -> verdicts by judge."""
        answers = [self._answer(name, kind) for name in names]
        told = {"": Verdicts(tuple(names), tuple(groups), self.judge.ranks(self.judge.logits(mels), answers, kind), tuple(seeds))}
        if self.second is None:
            return told
        labels = [self.second.label_of(name, kind) for name in names]
        rows = [row for row, label in enumerate(labels) if label is not None]
        if rows:
            known = [label for label in labels if label is not None]
            places = ranks(self.second.logits(mels[rows]), self.second.names, known, self.second.names)
            told["j2 "] = Verdicts(
                tuple(names[row] for row in rows),
                tuple(groups[row] for row in rows),
                places,
                tuple(seeds[row] for row in rows) if seeds else (),
            )
        return told

    def _answer(self, name: str, kind: Kind) -> str:
        label = self.judge.labels.answer(name, kind)
        assert label is not None, f"'{name}' has no label: judgeable() should have left it out"
        return label

    def ceilings(self, clips: Mapping[str, Sequence[Audio]], kind: Kind) -> tuple[dict[str, Verdicts], dict[str, Any]]:
        """The judges on real held-out clips, on their reconstructions, and on the VAE's mels before the vocoder; and how far
        reconstructions are from their originals."""
        names = [name for name, sounds in clips.items() for _ in sounds]
        sounds = [sound for each in clips.values() for sound in each]
        rebuilt, mels = self.maker.rebuilt(f"{kind} reconstructions", sounds)
        groups = range(len(sounds))
        originals, afterwards = heard(sounds), heard(rebuilt)
        verdicts: dict[str, Verdicts] = {}
        for key, what in (("judge_ceiling", originals), ("recon", afterwards), ("vae", mels)):
            verdicts |= {judge + key: told for judge, told in self.count(what, names, groups, kind).items()}
        stft = [probes.stft_distance(samples_of(a), samples_of(b)) for a, b in zip(sounds, rebuilt, strict=True)]
        return verdicts, {
            "vae_mel_l1": round(float(np.abs(mels - originals).mean()), 4),
            "mel_l1": round(float(np.abs(afterwards - originals).mean()), 4),
            "stft_convergence": round(float(np.mean([d.convergence for d in stft])), 4),
            "stft_log_magnitude": round(float(np.mean([d.log_magnitude for d in stft])), 4),
            "n": len(sounds),
        }

    def resynthesise(self, clips: Mapping[str, Sequence[Audio]], steps: int) -> dict[str, Verdicts]:
        """G(A(x)): sounds made from the Language of Audio of real clips and from no words, one per clip."""
        names = [name for name, sounds in clips.items() for _ in sounds]
        refs = [self.maker.backend.loa_of(sound) for each in clips.values() for sound in each]
        requests = [GenerationRequest(loa=((ref, 1.0),), seconds=SECONDS, seed=0, steps=steps) for ref in refs]
        sounds = self.maker.sounds("resynthesis from true LOA", requests)
        return self.count(heard(sounds), names, range(len(names)), "procedural")

    def media(self, seeds: Sequence[int], steps: int, as_video: bool = False) -> dict[str, Any]:
        """What test pictures sound like, still or as short videos that move over them.

        ``share`` of the sounds have a fitting label among the judge's first 5 of all labels. Pictures of nothing (``blank``) must not
        be claimed to show an animal.
        """
        refs: dict[str, MediaRef] = {}
        for picture in PICTURES:
            file = DATA / "pictures" / picture.file
            data, mime = (moving_picture(file), "video/mp4") if as_video else (file.read_bytes(), "image/jpeg")
            refs[picture.file] = self.store.put_bytes(data, mime, "video" if as_video else "image")
        nothing = {} if as_video else {n: self.store.put_bytes(data, "image/png", "image") for n, data in blank_pictures().items()}
        seen = self._seen("videos" if as_video else "pictures", refs | nothing, seeds, steps)

        results: dict[str, Any] = {}
        for picture in PICTURES:
            told = seen[picture.file]
            hits = [bool(set(row) & set(picture.labels)) for row in told["top5"]] or [False for _ in seeds]
            known = bool(set(picture.labels) & set(self.judge.labels.names))
            results[picture.file] = {"shows": picture.shows, "accepts": picture.labels, "in_top5": hits if known else None} | told
        judged = [np.mean(row["in_top5"]) for row in results.values() if row["in_top5"] is not None]
        blank = {name: seen[name] | {"claims_animal": any(row[0] in ANIMALS for row in seen[name]["top5"])} for name in nothing}
        return {"share": round(float(np.mean(judged)), 4), "judged": len(judged), "each": results, "blank": blank}

    def _seen(self, stage: str, refs: Mapping[str, MediaRef], seeds: Sequence[int], steps: int) -> dict[str, dict[str, Any]]:
        """Name of a picture -> the judge's first 5 labels of each of its sounds, or why none was made."""
        requests = [GenerationRequest(media=(ref,), seconds=SECONDS, seed=seed, steps=steps) for ref in refs.values() for seed in seeds]
        try:
            logits = self.judge.logits(heard(self.maker.sounds(stage, requests)))
        except UnsupportedRequest as refusal:  # to say that nothing was recognised is an honest answer, too
            if len(refs) > 1:  # which one it was
                return {name: self._seen(stage, {name: ref}, seeds, steps)[name] for name, ref in refs.items()}
            return {name: {"top5": [], "refused": str(refusal)} for name in refs}
        names = self.judge.labels.names
        rows = [[names[i] for i in np.argsort(-row)[:5]] for row in logits]
        return {name: {"top5": rows[at * len(seeds) : (at + 1) * len(seeds)]} for at, name in enumerate(refs)}

    def probe(self, rows: Sequence[steering.Probe], seeds: Sequence[int], steps: int) -> tuple[list[Reading], float | None]:
        """Readings of every probe that the checkpoint can be asked, and the drawn curves' correlation by chance."""
        asked = steering.ask_probes(rows, seeds, steps, self._store_curve if self.maker.backend.capabilities.envelope else None)
        sounds = self.maker.sounds("probes", [request for each in asked for request in each.requests])
        return steering.read(asked, sounds), steering.shuffled_correlation(asked, sounds)

    def _store_curve(self, curve: np.ndarray) -> MediaRef:
        return self.store.put_bytes(envelope_bytes(curve), "application/x-safetensors", "condition")

    def mixtures(
        self, rows: Sequence[Mixture], seeds: Sequence[int], steps: int, clips: Mapping[str, Sequence[Audio]]
    ) -> dict[str, Any]:
        """Whether both of two classes are among the judge's first 5, "while" and "then" apart, beside true mixtures of held-out clips
        and their reconstructions."""
        told: dict[str, Any] = {}
        for how in dict.fromkeys(row.how for row in rows):
            mine = [row for row in rows if row.how == how]
            trials = [
                (group, row, GenerationRequest(prompt=row.prompt, seconds=SECONDS, seed=seed, steps=steps))
                for group, row in enumerate(mine)
                for seed in seeds
            ]
            places = self._both(heard(self.maker.sounds(f"X {how} Y", [r for _, _, r in trials])), [row for _, row, _ in trials])
            true = [mixed(how, clips[row.first][0], clips[row.second][0]) for row in mine]
            rebuilt, _ = self.maker.rebuilt(f"true mixtures, X {how} Y", true)
            both = (places < 5).all(axis=1).astype(float)
            told[how] = {
                "both_top5": round(float(both.mean()), 4),
                "either_top5": round(float((places < 5).any(axis=1).mean()), 4),
                "interval": rounded(bootstrap_interval(both, [group for group, _, _ in trials])),
                "ceiling": round(float((self._both(heard(true), mine) < 5).all(axis=1).mean()), 4),
                "recon": round(float((self._both(heard(rebuilt), mine) < 5).all(axis=1).mean()), 4),
                "n": len(trials),
                "pairs": len(mine),
            }
        return told

    def _both(self, mels: np.ndarray, rows: Sequence[Mixture]) -> np.ndarray:
        """Places of the first and the second class, [N, 2]."""
        logits = self.judge.logits(mels)
        sides = ([self._answer(row.first, "procedural") for row in rows], [self._answer(row.second, "procedural") for row in rows])
        return np.stack([self.judge.ranks(logits, side, "procedural") for side in sides], axis=1)

    def sweep(
        self, rows: Sequence[Paraphrase], requests: Mapping[float, Callable[[GenerationRequest], GenerationRequest]]
    ) -> list[Any]:
        """J1 over one prompt a class at several settings; ``requests`` maps a setting to what it changes in a request."""
        told = []
        for value, change in requests.items():
            trials = [replace(trial, request=change(trial.request)) for trial in ask(rows, (0,), STEPS)]
            heard_as = self.try_all(f"sweep, {value:g}", trials, "procedural")[""]
            told.append(
                {
                    "at": value,
                    "top1": round(heard_as.share(1), 4),
                    "interval": heard_as.interval(1),
                    "top5": round(heard_as.share(5), 4),
                }
            )
        return told


def heard(sounds: Sequence[Audio]) -> np.ndarray:
    """Log-mels [N, 512, 64] of the first 5.12 s of each sound."""
    return np.stack([mel_of(sound) for sound in sounds])


# -- the protocol ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Real:
    """Sounds that no checkpoint made: clips of held-out seeds by class, held-out recordings by category where they are at hand, and
    true trains of events with what they are."""

    held_out: Mapping[str, Sequence[Audio]]
    recordings: Mapping[str, Sequence[Audio]] | None = None
    staged: Mapping[str, Sequence[tuple[Audio, float]]] | None = None


@dataclass(frozen=True)
class Examined:
    """A checkpoint's figures, and what they were counted from, for comparison with another's."""

    row: dict[str, Any]
    verdicts: Mapping[str, Verdicts]
    recorded: Mapping[str, Verdicts]
    readings: Sequence[Reading]


def run(
    checkpoints: Sequence[Path],
    scale: Scale = FULL,
    on_progress: OnProgress | None = None,
    *,
    synthesise: Synthesise,
    staged: Staged | None = None,
    recordings: Mapping[str, Sequence[Audio]] | None = None,
    second: CrossJudge | None = None,
    second_reason: str = "judge J2 was not given",
    work: Path | None = None,
    jobs: int = 1,
) -> dict[str, Any]:
    """Judge checkpoints by one protocol.

    Args:
        checkpoints: folders in the public AudioLDM 2 layout. All make the same prompts at the same seeds.
        synthesise: makes the real clips of the ceilings; called with seeds that no training uses.
        staged: makes true trains of events. Without it the ceilings of tempo and number are None.
        recordings: held-out recorded clips by category, where they are at hand (they are not shipped). Without them the
            recorded reconstructions are None.
        second: judge J2, where it was built; ``second_reason`` says why it was not.
        work: a folder that keeps finished sounds, so that a run that was killed goes on; by default they are thrown away.
        jobs: processes that make sounds, one thread each.

    Returns: ``{"settings": {...}, "checkpoints": [{...}, ...], "comparison": [...]}``, ready for JSON.

    Raises:
        ConfigError: prompts are missing. CheckpointMissing: from the backend.
    """
    judge = Judge.load(SHIPPED)
    notify = on_progress or (lambda stage, done, of: None)
    names = judge.labels.procedural[:: scale.class_stride]
    real = Real(
        {name: [synthesise(name, HELD_OUT_SEED + index) for index in range(scale.held_out)] for name in names},
        recordings,
        staged and {kind: [staged(kind, HELD_OUT_SEED + index) for index in range(scale.staged)] for kind in ("tempo", "count")},
    )
    with _folder(work) as place, makers(jobs) as workers:
        store = MediaStore(place / "store")
        found: list[Examined] = []
        for folder in checkpoints:
            with one_thread():
                recipe = Recipe(folder.resolve(), "predicted", store.root, place / "sounds")
                maker = Maker(open_checkpoint(folder, store), recipe, workers, notify)
                found.append(examine(Listener(maker, judge, second, store), scale, real, second_reason))
                maker.backend.unload()
    with tempfile.TemporaryDirectory() as place:
        backends = [open_checkpoint(folder, MediaStore(Path(place))) for folder in checkpoints]
        notify("time and memory", 0, 1)
        factors = real_time_factors(backends, scale.rounds)
    rows = [
        {"checkpoint": str(folder)} | each.row | factor | {"peak_mb": peak_mb(folder), "size_mb": round(size_mb(folder), 2)}
        for folder, each, factor in zip(checkpoints, found, factors, strict=True)
    ]
    notify("time and memory", 1, 1)
    compared = [{"checkpoint": str(folder)} | compare(each, found[0]) for folder, each in zip(checkpoints[1:], found[1:], strict=True)]
    return {"settings": settings(judge, second, scale, jobs), "checkpoints": rows, "comparison": compared}


@contextmanager
def _folder(work: Path | None) -> Iterator[Path]:
    if work is not None:
        work.mkdir(parents=True, exist_ok=True)
        yield work
        return
    with tempfile.TemporaryDirectory() as place:
        yield Path(place)


def examine(listener: Listener, scale: Scale, real: Real, second_reason: str = "") -> Examined:
    """All figures of one checkpoint but its cost. What the checkpoint has no part for is None, with the reason."""
    backend = listener.maker.backend
    few, own_guidance = backend.config.few_steps, backend.config.guidance
    prompts = chosen(read_paraphrases(), scale)
    procedural = listener.judgeable(prompts, "procedural")
    asked = listener.judgeable(prompts, "recorded") if scale.beyond_classes else []
    seeds, first_seed = scale.seeds, scale.seeds[:1]

    verdicts, rebuilt = listener.ceilings(real.held_out, "procedural")
    recorded: dict[str, Verdicts] = {}

    def listen(key: str, stage: str, trials: Sequence[Trial], kind: Kind = "procedural", by: Listener = listener) -> None:
        into = verdicts if kind == "procedural" else recorded
        into |= {judge + key: told for judge, told in by.try_all(stage, trials, kind).items()}

    listen("names", "class names", ask(plain_names(list(real.held_out)), first_seed, STEPS))
    listen("paraphrases", "paraphrases", ask(procedural, seeds, STEPS))
    listen("few", f"paraphrases, {few} steps", ask(procedural, seeds, few))
    row: dict[str, Any] = {}
    if backend.config.encoders == "nano":
        some = {name: clips[: scale.resynthesised] for name, clips in real.held_out.items()}
        verdicts |= {judge + "gt_loa": told for judge, told in listener.resynthesise(some, STEPS).items()}
        maker = listener.maker
        silenced = open_checkpoint(maker.recipe.folder, listener.store, "zeros")
        mute = replace(listener, maker=replace(maker, backend=silenced, recipe=replace(maker.recipe, loa_mode="zeros")))
        listen("zero_loa", "paraphrases without LOA", ask(procedural, first_seed, STEPS), by=mute)
        silenced.unload()
        row["loa_effect"] = loa_effect(verdicts)
    else:
        row |= {key: None for key in KEYS if "_loa" in key} | {
            "loa_effect": None,
            "loa_reason": "this folder holds no encoder of true LOA",
        }

    if asked:
        listen("paraphrases", "recorded paraphrases", ask(asked, seeds, STEPS), "recorded")
        listen("few", f"recorded paraphrases, {few} steps", ask(asked, seeds, few), "recorded")
    if real.recordings is not None:
        known = {name: clips for name, clips in real.recordings.items() if listener.judge.labels.answer(name, "recorded")}
        recorded |= listener.ceilings(known, "recorded")[0]

    row |= unknown_to_training(listener, scale) if scale.beyond_classes else {}
    steered, readings = steer(listener, scale, real) if scale.beyond_classes else ({}, [])
    return Examined(
        {
            "classes": len(real.held_out),
            "labels": len(listener.judge.labels.procedural),
            **figures(verdicts),
            **row,
            **second_figures(listener.second, verdicts, second_reason),
            **see(listener, scale),
            "steps": STEPS,
            "steps_few": few,
            "guidance": own_guidance,
            **steered,
            "reconstruction": rebuilt,
            "sweeps": sweeps(listener, scale, procedural) if scale.beyond_classes else None,
            "recorded": recorded_figures(listener.judge, recorded, asked) if asked else None,
            "per_class": per_class(verdicts),
        },
        verdicts,
        recorded,
        readings,
    )


def loa_effect(verdicts: Mapping[str, Verdicts]) -> dict[str, Any]:
    """Predicted LOA minus zero LOA on the same prompts and seeds: what the Language of Audio adds beside the words."""
    pairs = {"top1": ("", 1), "top5": ("", 5), "j2": ("j2 ", 5)}
    return {
        key: difference(verdicts[judge + "paraphrases"].hits(k), verdicts[judge + "zero_loa"].hits(k))
        for key, (judge, k) in pairs.items()
        if judge + "zero_loa" in verdicts and judge + "paraphrases" in verdicts
    }


def second_figures(second: CrossJudge | None, verdicts: Mapping[str, Verdicts], reason: str) -> dict[str, Any]:
    """J2's ceiling beside its figures, or the reason why there are none."""
    if second is None:
        absent = [key for key in KEYS if key.startswith("j2")]
        return {key: None for key in absent} | {"j2_ceiling": None, "j2_reason": reason}
    if "j2 paraphrases" not in verdicts:
        return {"j2": None, "j2_ceiling": second.figures["top5"], "j2_reason": "judge J2 knows none of the classes asked for"}
    return {
        "j2_ceiling": second.figures["top5"],
        "j2_ceiling_top1": second.figures["top1"],
        "j2_classes": len(second.names),
        "j2_asked": len({second.label_of(name, "procedural") for name in verdicts["j2 paraphrases"].names}),
    }


def unknown_to_training(listener: Listener, scale: Scale) -> dict[str, Any]:
    """Instruments and speech, which only J2 can name: among how many of its first 5 they are."""
    second = listener.second
    asked = [row for row in read_j2_prompts()[:: scale.probe_stride] if second is not None and second.label_of(row.name, "recorded")]
    if second is None or not asked:
        return {"j2_music": None}
    trials = ask(asked, scale.seeds, STEPS)
    logits = second.logits(heard(listener.maker.sounds("instruments and speech", [trial.request for trial in trials])))
    answers = [str(second.label_of(trial.name, "recorded")) for trial in trials]
    places = ranks(logits, second.names, answers, second.names)
    told = Verdicts(tuple(t.name for t in trials), tuple(t.group for t in trials), places, tuple(t.request.seed for t in trials))
    return {
        "j2_music": round(told.share(5), 4),
        "j2_music_top1": round(told.share(1), 4),
        "j2_music_interval": told.interval(5),
        "j2_music_per_class": told.by_class(5),
    }


def see(listener: Listener, scale: Scale) -> dict[str, Any]:
    """Pictures, videos and pictures of nothing."""
    accepts = listener.maker.backend.capabilities.accepts
    pictures = listener.media(scale.seeds, STEPS) if "image" in accepts else None
    videos = listener.media(scale.seeds[:1], STEPS, as_video=True) if "video" in accepts else None
    return {
        "pictures_top5": pictures and pictures["share"],
        "videos_top5": videos and videos["share"],
        "pictures": pictures,
        "videos": videos,
    }


def steer(listener: Listener, scale: Scale, real: Real) -> tuple[dict[str, Any], list[Reading]]:
    """Probes, drawn curves and mixtures."""
    backend = listener.maker.backend
    steps = backend.config.few_steps if scale.probe_few else STEPS
    readings, chance = listener.probe(read_probes()[:: scale.probe_stride], scale.seeds, steps)
    told = steering.summary(readings)
    drawn = [r for r in readings if r.kind in steering.DRAWN]
    follows = [r.shown["correlation"] for r in drawn]
    onset = told.get("onsets")
    envelope = {
        "envelope_correlation": round(float(np.mean(follows)), 4) if drawn else None,
        "envelope_interval": rounded(bootstrap_interval(follows, [r.group for r in drawn])) if drawn else None,
        "envelope_chance": chance,
        "envelope_onsets": onset["right"] if onset else None,
    }
    if not drawn:
        envelope["envelope_reason"] = "this checkpoint reads no loudness curve"
    rows = [row for row in read_mixtures()[:: scale.probe_stride] if {row.first, row.second} <= set(real.held_out)]
    return {
        "probes": told | {"ceilings": staged_ceilings(listener, real.staged), "steps": steps},
        **envelope,
        "mixtures": listener.mixtures(rows, scale.seeds, steps, real.held_out) if rows else None,
        **({} if rows else {"mixtures_reason": "too few classes were asked for"}),
    }, readings


def staged_ceilings(listener: Listener, staged: Mapping[str, Sequence[tuple[Audio, float]]] | None) -> dict[str, Any] | None:
    """How often the probes of tempo and number are right on true clips and on their reconstructions."""
    if staged is None:
        return None
    told: dict[str, Any] = {}
    for kind, clips in staged.items():
        sounds = [sound for sound, _ in clips]
        rebuilt, _ = listener.maker.rebuilt(f"true clips for {kind}", sounds)
        for name, heard_in in (("real", sounds), ("recon", rebuilt)):
            passed = [
                steering.measure(steering.Probe(kind, ("",), goal), [sound])["right"]
                for sound, (_, goal) in zip(heard_in, clips, strict=True)
            ]
            told.setdefault(kind, {"n": len(clips)})[name] = round(float(np.mean(passed)), 4)
    return told


def sweeps(listener: Listener, scale: Scale, procedural: Sequence[Paraphrase]) -> dict[str, Any] | None:
    """Guidance (at the few-step setting) and steps, over the first prompt of each class at one seed."""
    config = listener.maker.backend.config
    rows = list({row.name: row for row in reversed(procedural)}.values())[::-1]

    def guided(value: float) -> Callable[[GenerationRequest], GenerationRequest]:
        own = None if value == config.guidance else value  # the checkpoint's own is asked for as everywhere else: one sound, made once
        return lambda request: request.model_copy(update={"guidance": own, "steps": config.few_steps})

    def stepped(value: int) -> Callable[[GenerationRequest], GenerationRequest]:
        return lambda request: request.model_copy(update={"steps": value})

    if not scale.guidances:
        return None
    return {
        "n": len(rows),
        "guidance_steps": config.few_steps,
        "guidance": listener.sweep(rows, {g: guided(g) for g in sorted({*scale.guidances, config.guidance})}),
        "steps": listener.sweep(rows, {float(n): stepped(n) for n in sorted({*scale.step_counts, config.few_steps})}),
    }


def recorded_figures(judge: Judge, verdicts: Mapping[str, Verdicts], asked: Sequence[Paraphrase]) -> dict[str, Any]:
    """The same figures over recorded categories, with what could not be judged and why."""
    missing = {} if "recon" in verdicts else {"recon_top1": None, "recon_top5": None, "vae_top1": None}
    reason = {} if not missing else {"recon_reason": "no held-out recordings were given: they are not shipped"}
    return {
        "classes": len({row.name for row in asked}),
        "labels": len(judge.labels.recorded),
        "judge_ceiling": judge.figures["recorded"]["top1"],
        "judge_ceiling_top5": judge.figures["recorded"]["top5"],
        **figures(verdicts),
        **missing,
        **reason,
        "per_class": per_class(verdicts),
        "unjudged": dict(judge.labels.unjudged),
    }


def compare(ours: Examined, first: Examined) -> dict[str, Any]:
    """A checkpoint minus the first one, on the same prompts and seeds, by JSON key."""
    told: dict[str, Any] = {}
    for kind, mine, theirs in (("", ours.verdicts, first.verdicts), ("recorded_", ours.recorded, first.recorded)):
        for key, (name, k) in KEYS.items():
            if name in mine and name in theirs and name != "judge_ceiling":
                told[kind + key] = difference(mine[name].hits(k), theirs[name].hits(k))
    for probe in dict.fromkeys(r.kind for r in ours.readings):
        hits = [{(r.group, r.seed): next(iter(r.shown.values())) for r in each.readings if r.kind == probe} for each in (ours, first)]
        told[f"probe_{probe}"] = difference(*hits)
    return told


def settings(judge: Judge, second: CrossJudge | None, scale: Scale, jobs: int) -> dict[str, Any]:
    """The header: all that must be equal before figures of two runs may be compared, and the machine."""
    return {
        "protocol": 2,
        "quick": scale not in (FULL, CORE),
        "comparable": scale in (FULL, CORE),
        "scale": vars(scale),
        "judge": "J1",
        "judge_sha256": judge.digest,
        "judge2_sha256": second and second.digest,
        **{f"{name}_sha256": _sha256(DATA / f"{name}.jsonl") for name in ("prompts", "probes", "mixtures")},
        "held_out_first_seed": HELD_OUT_SEED,
        "seconds": SECONDS,
        "rows": ROWS,
        "interval": "95 % percentile bootstrap over prompts, 5000 resamples",
        "jobs": jobs,
        "threads": torch.get_num_threads(),
        "cpus": os.cpu_count(),
        "machine": platform.machine(),
        "python": platform.python_version(),
        "torch": torch.__version__,
    }


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
