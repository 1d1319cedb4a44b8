"""The benchmark of the embedded checkpoint: what judge J1 takes its sounds for, beside what judge and decoder allow.

Knows judge, prompts and the AudioLDM 2 backend. Does not know how clips are synthesised (the caller hands that in) and
trains nothing. The judge ranks no candidate and decides no re-roll: it only counts.

Every figure at the top level of a checkpoint's object is over the procedural classes; the same keys over the recorded
ones lie under ``recorded``. A prompt is judged within the label set of its kind.
"""

from __future__ import annotations

import hashlib
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch

from evaluation.judge import SAMPLES, SHIPPED, SPEC, Judge
from evaluation.metrics import bootstrap_interval
from evaluation.prompts import (
    ANIMALS,
    DATA,
    PICTURES,
    Kind,
    Paraphrase,
    blank_pictures,
    first_of_each,
    read_paraphrases,
)
from generators.audioldm2 import AudioLDM2
from generators.base import GenerationRequest, UnsupportedRequest
from media.audio import Audio, read_audio
from media.refs import MediaRef, MediaStore

SEEDS = (0, 1)
HELD_OUT_SEED = 30_000_000  # first seed of the clips that only this benchmark makes
HELD_OUT_CLIPS = 4  # per class
STEPS = 25  # the few-step setting is the checkpoint's own
ROWS = 8  # one batch bucket throughout: a sound never depends on how many were asked for
SECONDS = SAMPLES / SPEC.sample_rate

Synthesise = Callable[[str, int], Audio]  # (procedural class, seed) -> 5.12 s, mono, 16 kHz
OnProgress = Callable[[str, int, int], None]  # (what is being made, done, of)


# -- counting -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Verdicts:
    """What the judge made of some sounds of one kind.

    ``places`` [N] is the place (0 = first) of the right label, ``names`` [N] the class that was asked for, ``groups``
    [N] tells which sounds answer the same prompt: intervals draw whole groups.
    """

    names: tuple[str, ...]
    groups: tuple[int, ...]
    places: np.ndarray

    def share(self, k: int) -> float:
        """How many have the right label among the first ``k``, 0..1."""
        return float((self.places < k).mean())

    def interval(self, k: int) -> list[float]:
        """95 % bootstrap interval of ``share(k)``."""
        return [round(end, 4) for end in bootstrap_interval((self.places < k).astype(float), self.groups)]

    def by_class(self, k: int) -> dict[str, float]:
        """``share(k)`` of each class."""
        names = np.array(self.names)
        return {name: float((self.places[names == name] < k).mean()) for name in dict.fromkeys(self.names)}


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


# -- one checkpoint -------------------------------------------------------------------------------------------------


def open_checkpoint(folder: Path, store: MediaStore, loa_mode: str = "predicted") -> AudioLDM2:
    """The backend over a checkpoint folder, as shipped or with its Language of Audio blanked (``loa_mode="zeros"``)."""
    options = {"checkpoint": str(folder.resolve()), "loa_mode": loa_mode}
    return AudioLDM2(name=folder.name, options=options, store=store, home=folder.resolve().parent)


@dataclass(frozen=True)
class Listener:
    """A checkpoint, the judge that hears it, and the store between them."""

    backend: AudioLDM2
    judge: Judge
    store: MediaStore
    notify: OnProgress

    def hear(self, stage: str, requests: Sequence[GenerationRequest]) -> np.ndarray:
        """Make the sounds, ``ROWS`` at a time, and listen: logits [N, labels]."""
        heard = []
        for start in range(0, len(requests), ROWS):
            made = self.backend.generate(requests[start : start + ROWS], rows=ROWS)
            heard.append(self.judge.listen([read_audio(self.store.path(sound.media)) for sound in made]))
            self.notify(stage, min(start + ROWS, len(requests)), len(requests))
        return np.concatenate(heard)

    def count(self, logits: np.ndarray, names: Sequence[str], groups: Sequence[int], kind: Kind) -> Verdicts:
        """Logits of sounds of one kind -> verdicts."""
        answers = [self.answer(name, kind) for name in names]
        return Verdicts(tuple(names), tuple(groups), self.judge.ranks(logits, answers, kind))

    def answer(self, name: str, kind: Kind) -> str:
        """The judge's label for a class that it can judge."""
        label = self.judge.labels.answer(name, kind)
        assert label is not None, f"'{name}' has no label: judgeable() should have left it out"
        return label

    def judgeable(self, paraphrases: Sequence[Paraphrase], kind: Kind) -> list[Paraphrase]:
        """The prompts of one kind whose class the judge can name."""
        return [row for row in paraphrases if row.kind == kind and self.judge.labels.answer(row.name, kind) is not None]

    def try_all(self, stage: str, trials: Sequence[Trial], kind: Kind) -> Verdicts:
        """Make and judge every trial."""
        logits = self.hear(stage, [trial.request for trial in trials])
        return self.count(logits, [trial.name for trial in trials], [trial.group for trial in trials], kind)

    def ceilings(self, clips: Mapping[str, Sequence[Audio]], kind: Kind) -> dict[str, Verdicts]:
        """The judge on real held-out clips, on their reconstructions, and on the VAE's mels before the vocoder."""
        names = [name for name, sounds in clips.items() for _ in sounds]
        sounds = [sound for each in clips.values() for sound in each]
        rebuilt: list[Audio] = []
        mels: list[np.ndarray] = []
        for start in range(0, len(sounds), ROWS):
            chunk = sounds[start : start + ROWS]
            rebuilt += self.backend.reconstruct(chunk)
            mels.append(np.asarray(self.backend.vae_mel(chunk), dtype=np.float32))
            self.notify(f"{kind} reconstructions", min(start + ROWS, len(sounds)), len(sounds))
        groups = range(len(sounds))
        return {
            "judge_ceiling": self.count(self.judge.listen(sounds), names, groups, kind),
            "recon": self.count(self.judge.listen(rebuilt), names, groups, kind),
            "vae": self.count(self.judge.logits(np.concatenate(mels)), names, groups, kind),
        }

    def resynthesise(self, clips: Mapping[str, Sequence[Audio]], steps: int) -> Verdicts:
        """G(A(x)): sounds made from the Language of Audio of real clips and from no words, one per clip."""
        names = [name for name, sounds in clips.items() for _ in sounds]
        sounds = [sound for each in clips.values() for sound in each]
        refs = [self.backend.loa_of(sound) for sound in sounds]
        requests = [GenerationRequest(loa=((ref, 1.0),), seconds=SECONDS, seed=SEEDS[0], steps=steps) for ref in refs]
        return self.count(self.hear("resynthesis from true LOA", requests), names, range(len(names)), "procedural")

    def pictures(self, seeds: Sequence[int], steps: int) -> dict[str, Any]:
        """What pictures sound like: ``share`` of the sounds have a fitting label in the top 5 of all labels."""
        names = self.judge.labels.names
        results: dict[str, Any] = {}
        for picture in PICTURES:
            ref = self.store.put_file(DATA / "pictures" / picture.file)
            heard = self._see(picture.file, ref, seeds, steps)
            hits = [bool(set(row) & set(picture.labels)) for row in heard["top5"]] or [False for _ in seeds]
            known = bool(set(picture.labels) & set(names))
            results[picture.file] = {
                "shows": picture.shows,
                "accepts": picture.labels,
                "in_top5": hits if known else None,
            } | heard
        judged = [np.mean(row["in_top5"]) for row in results.values() if row["in_top5"] is not None]
        blanks: dict[str, Any] = {}
        for name, data in blank_pictures().items():
            heard = self._see(name, self.store.put_bytes(data, "image/png", "image"), seeds, steps)
            blanks[name] = heard | {"claims_animal": any(row[0] in ANIMALS for row in heard["top5"])}
        return {"share": float(np.mean(judged)), "judged": len(judged), "each": results, "blank": blanks}

    def _see(self, name: str, ref: MediaRef, seeds: Sequence[int], steps: int) -> dict[str, Any]:
        requests = [GenerationRequest(media=(ref,), seconds=SECONDS, seed=seed, steps=steps) for seed in seeds]
        try:
            logits = self.hear(f"picture {name}", requests)
        except UnsupportedRequest as refusal:  # to say that nothing was recognised is an honest answer, too
            return {"top5": [], "refused": str(refusal)}
        names = self.judge.labels.names
        return {"top5": [[names[i] for i in np.argsort(-row)[:5]] for row in logits]}


# -- cost -----------------------------------------------------------------------------------------------------------


def real_time_factors(backends: Sequence[AudioLDM2], rounds: int) -> list[dict[str, float]]:
    """Median seconds of work per second of sound, one request at a time, by JSON key; imports and loading excluded.

    Checkpoints and step counts take turns, so that a machine that slows down slows all of them.
    """
    spent: list[dict[str, list[float]]] = [{"rtf": [], "rtf_few": []} for _ in backends]
    for backend in backends:
        backend.generate([_short(0, 1)])  # the first call of a process pays for warming up
    for turn in range(rounds):
        for backend, times in zip(backends, spent, strict=True):
            for key, steps in (("rtf", STEPS), ("rtf_few", backend.config.few_steps)):
                started = time.perf_counter()
                backend.generate([_short(turn, steps)])
                times[key].append(time.perf_counter() - started)
    return [{key: round(statistics.median(walls) / SECONDS, 4) for key, walls in times.items()} for times in spent]


def _short(seed: int, steps: int) -> GenerationRequest:
    return GenerationRequest(prompt="rain on a roof", seconds=SECONDS, seed=seed, steps=steps)


def peak_mb(folder: Path) -> float | None:
    """Peak resident memory (MB) of a fresh process that loads the checkpoint and makes one sound; None off Linux."""
    if not Path("/proc/self/status").exists():
        return None
    with ProcessPoolExecutor(max_workers=1, mp_context=get_context("spawn")) as pool:
        return pool.submit(_peak_here, folder).result()


def _peak_here(folder: Path) -> float:
    with tempfile.TemporaryDirectory() as place:
        open_checkpoint(folder, MediaStore(Path(place))).generate([_short(0, STEPS)])
    # Not getrusage: its maximum is inherited from the parent across exec.
    status = Path("/proc/self/status").read_text(encoding="ascii")
    kib = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM:"))
    return round(kib * 1024 / 1e6, 1)


def size_mb(folder: Path) -> float:
    """Bytes of all files of a checkpoint, in MB."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 1e6


# -- the protocol ---------------------------------------------------------------------------------------------------


def run(
    checkpoints: Sequence[Path],
    quick: bool = False,
    on_progress: OnProgress | None = None,
    *,
    synthesise: Synthesise,
    recordings: Mapping[str, Sequence[Audio]] | None = None,
) -> dict[str, Any]:
    """Judge checkpoints by one protocol.

    Args:
        checkpoints: folders in the public AudioLDM 2 layout.
        quick: one prompt a class, one seed, one held-out clip a class. Not comparable with full runs.
        synthesise: makes the real clips of the ceilings; called with seeds that no training uses.
        recordings: held-out recorded clips by category, where they are at hand (they are not shipped). Without them the
            recorded reconstructions are None.

    Returns: ``{"settings": {...}, "checkpoints": [{...}, ...]}``, ready for JSON.

    Raises:
        ConfigError: prompts are missing. CheckpointMissing, GenerationFailed: from the backend.
    """
    judge = Judge.load(SHIPPED)
    paraphrases = read_paraphrases()
    if quick:
        paraphrases = first_of_each(paraphrases)
    seeds = SEEDS[:1] if quick else SEEDS
    count = 1 if quick else HELD_OUT_CLIPS
    held_out = {name: [synthesise(name, HELD_OUT_SEED + index) for index in range(count)] for name in judge.labels.procedural}
    notify = on_progress or (lambda stage, done, of: None)

    with tempfile.TemporaryDirectory() as place:
        store = MediaStore(Path(place))
        backends = [open_checkpoint(folder, store) for folder in checkpoints]
        rows = []
        for folder, backend in zip(checkpoints, backends, strict=True):
            listener = Listener(backend, judge, store, notify)
            rows.append({"checkpoint": str(folder)} | examine(listener, folder, paraphrases, seeds, held_out, recordings))
        factors = real_time_factors(backends, rounds=1 if quick else 5)
        for row, folder, factor in zip(rows, checkpoints, factors, strict=True):
            row |= factor | {"peak_mb": peak_mb(folder), "size_mb": round(size_mb(folder), 2)}
    return {"settings": settings(judge, seeds, count, quick), "checkpoints": rows}


def examine(
    listener: Listener,
    folder: Path,
    paraphrases: Sequence[Paraphrase],
    seeds: Sequence[int],
    held_out: Mapping[str, Sequence[Audio]],
    recordings: Mapping[str, Sequence[Audio]] | None,
) -> dict[str, Any]:
    """All figures of one checkpoint but its cost. What the checkpoint has no part for is None, with the reason."""
    backend, few = listener.backend, listener.backend.config.few_steps
    procedural = listener.judgeable(paraphrases, "procedural")
    verdicts = listener.ceilings(held_out, "procedural")
    verdicts["names"] = listener.try_all("class names", ask(plain_names(list(held_out)), seeds, STEPS), "procedural")
    verdicts["paraphrases"] = listener.try_all("paraphrases", ask(procedural, seeds, STEPS), "procedural")
    verdicts["few"] = listener.try_all("few steps", ask(procedural, seeds, few), "procedural")
    absent: dict[str, Any] = {}
    if backend.config.encoders == "nano":
        verdicts["gt_loa"] = listener.resynthesise(held_out, STEPS)
        mute = replace(listener, backend=open_checkpoint(folder, listener.store, "zeros"))
        verdicts["zero_loa"] = mute.try_all("zero LOA", ask(procedural, seeds[:1], STEPS), "procedural")
        mute.backend.unload()
    else:
        absent |= {"gt_loa_top1": None, "zero_loa_top1": None, "loa_reason": "this folder holds no encoder of true LOA"}

    asked = listener.judgeable(paraphrases, "recorded")
    recorded = {
        "paraphrases": listener.try_all("recorded paraphrases", ask(asked, seeds, STEPS), "recorded"),
        "few": listener.try_all("recorded, few steps", ask(asked, seeds, few), "recorded"),
    }
    if recordings is not None:
        known = {name: clips for name, clips in recordings.items() if listener.judge.labels.answer(name, "recorded")}
        recorded |= listener.ceilings(known, "recorded")
    seen = listener.pictures(seeds, STEPS) if "image" in backend.capabilities.accepts else None
    return {
        "classes": len(listener.judge.labels.procedural),
        **figures(verdicts),
        **absent,
        "j2": None,
        "j2_ceiling": None,
        "j2_reason": "judge J2 is not built yet: it needs tier C recordings that are never shipped",
        "pictures_top5": seen and seen["share"],
        "steps": STEPS,
        "steps_few": few,
        "guidance": backend.config.guidance,
        "recorded": recorded_figures(listener.judge, recorded, asked),
        "per_class": per_class(verdicts),
        "pictures": seen,
    }


# JSON key -> which verdicts, and among how many first guesses.
KEYS: dict[str, tuple[str, int]] = {
    "judge_ceiling": ("judge_ceiling", 1),
    "recon_top1": ("recon", 1),
    "recon_top5": ("recon", 5),
    "vae_top1": ("vae", 1),
    "names_top1": ("names", 1),
    "names_top5": ("names", 5),
    "top1": ("paraphrases", 1),
    "top5": ("paraphrases", 5),
    "top1_few": ("few", 1),
    "top5_few": ("few", 5),
    "gt_loa_top1": ("gt_loa", 1),
    "zero_loa_top1": ("zero_loa", 1),
}


def figures(verdicts: Mapping[str, Verdicts]) -> dict[str, Any]:
    """The shares by their JSON keys, their intervals under ``intervals`` and the number of sounds under ``counts``."""
    kept = {key: (verdicts[name], k) for key, (name, k) in KEYS.items() if name in verdicts}
    return {
        **{key: round(verdict.share(k), 4) for key, (verdict, k) in kept.items()},
        "intervals": {key: verdict.interval(k) for key, (verdict, k) in kept.items()},
        "counts": {key: len(verdict.places) for key, (verdict, _) in kept.items()},
    }


def per_class(verdicts: Mapping[str, Verdicts]) -> dict[str, dict[str, float]]:
    """Class -> its figures by JSON key."""
    table: dict[str, dict[str, float]] = {}
    for key, (name, k) in KEYS.items():
        if name in verdicts:
            for label, share in verdicts[name].by_class(k).items():
                table.setdefault(label, {})[key] = round(share, 4)
    return table


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


def settings(judge: Judge, seeds: Sequence[int], count: int, quick: bool) -> dict[str, Any]:
    """The header: all that must be equal before figures of two runs may be compared, and the machine."""
    return {
        "protocol": 1,
        "quick": quick,
        "judge": "J1",
        "judge_sha256": judge.digest,
        "prompts_sha256": hashlib.sha256((DATA / "prompts.jsonl").read_bytes()).hexdigest(),
        "seeds": list(seeds),
        "zero_loa_seeds": list(seeds[:1]),
        "held_out_first_seed": HELD_OUT_SEED,
        "held_out_clips_per_class": count,
        "seconds": SECONDS,
        "rows": ROWS,
        "interval": "95 % percentile bootstrap over prompts, 5000 resamples",
        "threads": torch.get_num_threads(),
        "cpus": os.cpu_count(),
        "machine": platform.machine(),
        "python": platform.python_version(),
        "torch": torch.__version__,
    }
