"""A comparison study: prompts x backends x seeds, made once, resumed after anything, measured and kept in one folder.

Knows specifications, cells and rows. Does not know how a sound is made (evaluation/workers.py) nor what it is worth (metrics, report).

A folder holds ``study.json`` (the specification as run, its protocol and its cells), ``ledger.jsonl`` (one row a cell), ``audio/`` and
``store/`` (what requests name), and what reports and listening tests add.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from configs.registry import ConfigError, UnknownName
from configs.schema import BackendConfig, PromptTable, StudyBackend, StudyConfig, StudyPrompt
from evaluation.batches import bucket_of, threads
from evaluation.ledger import Ledger, Row, StudyStopped, read_ledger, steady
from evaluation.prompt_tables import read_prompts
from evaluation.workers import STORE, Cell, OnProgress, Recipe, Task, count, finished, work, work_in_processes, work_on_ray
from generators.base import Backend, CheckpointMissing, GenerationRequest, UnsupportedRequest, canonical_json
from media.audio import Audio, encode_audio, read_audio
from media.refs import MediaRef, MediaStore, require_file, write_whole

__all__ = ["Cell", "Plan", "Row", "Study", "StudyStopped", "Summary", "cells", "plan", "read_ledger", "read_study", "run", "study_rows"]

SPEC = "study.json"
REFERENCES = "references"  # below a study's folder: procedural clips
PROCEDURAL = "procedural:"
Synthesise = Callable[[str, int], Audio]  # a class of sound and a seed to a true clip of it
Executor = Literal["local", "ray"]


class Study(BaseModel):
    """``study.json``: what was asked for, prompts written out, and how."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    config: StudyConfig
    protocol: dict[str, Any]
    cells: tuple[str, ...]  # keys, backend by backend: which rows of the ledger are this study's


@dataclass(frozen=True)
class Plan:
    """A study that can be run: its specification with every prompt, its cells, and the backends to make them with."""

    config: StudyConfig
    protocol: dict[str, Any]
    cells: list[Cell]
    recipes: dict[str, Recipe]  # by label
    buckets: dict[str, int]  # by label: the rows of its batches
    megabytes: dict[str, float]  # by label: of weights


@dataclass(frozen=True)
class Summary:
    """What a run came to. ``made`` counts the cells that this run finished; ``failed`` names those without a sound."""

    cells: int
    done: int
    failed: list[Row]
    made: int
    wall_seconds: float
    backends: dict[str, dict[str, float | None]]  # by label: medians of what was measured


def key_of(request: GenerationRequest, fingerprint: str) -> str:
    """sha256 over the canonical JSON of a request and the fingerprint that makes it: a contract with a test."""
    signed = {"request": request.model_dump(mode="json"), "fingerprint": fingerprint}
    return hashlib.sha256(canonical_json(signed).encode()).hexdigest()


def reference_path(folder: Path, prompt: StudyPrompt) -> Path | None:
    """Where the prompt's true sound lies; None where it has none."""
    return None if prompt.reference is None else folder / prompt.reference


def read_study(folder: Path) -> Study:
    """What a folder's study was asked for.

    Raises:
        ConfigError: the folder holds no study, or a damaged one.
    """
    path = folder / SPEC
    try:
        return Study.model_validate_json(path.read_bytes())
    except OSError:
        raise ConfigError(f"{folder} holds no study: 'loa study run SPEC.yaml -o {folder}' makes one") from None
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(map(str, first["loc"]))
        raise ConfigError(f"{path}: '{where}': {first['msg']}; run the study again: what is made stays") from None


def study_rows(folder: Path) -> list[Row]:
    """The rows of the folder's study as it was run last, in its order: by backend, prompt, seed."""
    study = read_study(folder)
    keys = set(study.cells)
    backends = {backend.name: at for at, backend in enumerate(study.config.backends)}
    prompts = {prompt.id: at for at, prompt in enumerate(study.config.prompts)}
    seeds = {seed: at for at, seed in enumerate(study.config.seeds)}
    rows = [row for row in read_ledger(folder) if row.key in keys and row.backend in backends and row.prompt in prompts]
    return sorted(rows, key=lambda row: (backends[row.backend], prompts[row.prompt], seeds.get(row.seed, -1)))


# -- planning ---------------------------------------------------------------------------------------------------------


def plan(config: StudyConfig, folder: Path, home: Path, rows: Mapping[str, BackendConfig], synthesise: Synthesise) -> Plan:
    """All cells with their keys; no weights are loaded, except where a true LOA has to be read by them.

    Args:
        folder: what requests name is stored below it.
        rows: of ``loa models list``, by name.
        synthesise: makes the references called ``procedural:CLASS:SEED``.

    Raises:
        ConfigError: a backend, an option or a prompt is wrong. MediaError: a file of one. CheckpointMissing: a backend is not ready.
    """
    prompts = read_prompts(config.prompts_from) if config.prompts_from else config.prompts
    told = {**_dataset(config.prompts_from), **config.protocol}
    recipes = {entry.name: _recipe(entry, rows, home) for entry in config.backends}
    store = MediaStore(folder / STORE)
    built: dict[str, Backend] = {}
    for recipe in recipes.values():
        built.setdefault(recipe.same, recipe.build(store))
    states = {same: backend.readiness() for same, backend in built.items()}
    absent = {built[same].name: state.reason for same, state in states.items() if not state.ready}
    if absent:
        raise CheckpointMissing("; ".join(f"backend '{name}' is not ready: {reason}" for name, reason in absent.items()))
    prompts = tuple(_with_reference(prompt, folder, synthesise) for prompt in prompts)
    config = config.model_copy(update={"prompts": prompts, "prompts_from": None, "protocol": told})
    stored = {prompt.id: _stored(prompt, store) for prompt in prompts}
    with threads(config.threads):  # from here on torch is needed, which signs
        buckets, signed, found = {}, {}, []
        for entry in config.backends:
            backend = built[recipes[entry.name].same]
            buckets[entry.name] = bucket_of(backend, config.rows)
            signed[entry.name] = fingerprint = backend.fingerprint(buckets[entry.name])
            for prompt in prompts:
                loa = _true_loa(entry, prompt, backend, store, folder)
                for seed in config.seeds:
                    request = _request(config, entry, prompt, stored[prompt.id], loa, seed)
                    found.append(Cell(key_of(request, fingerprint), prompt.id, entry.name, seed, request, fingerprint))
        for backend in built.values():
            backend.unload()
        protocol = _protocol(config, recipes, built, buckets, signed)
    megabytes = {label: states[recipe.same].bytes / 1e6 for label, recipe in recipes.items()}
    return Plan(config, protocol, found, recipes, buckets, megabytes)


def _dataset(table: PromptTable | None) -> dict[str, str]:
    """What a table of published figures calls these prompts, where they are a public data set."""
    if table is None or table.layout == "table":
        return {}
    name = {"audiocaps": "AudioCaps", "musiccaps": "MusicCaps", "ljspeech": "LJSpeech", "vggsound": "VGGSound"}[table.layout]
    split = table.split or {"audiocaps": "test", "vggsound": "test"}.get(table.layout)  # what is read where none is said
    drawn = {} if table.limit is None else {"drawn": f"{table.limit} by seed {table.shuffle}"}
    return {"dataset": name, **({"split": split} if split else {}), **drawn}


def cells(config: StudyConfig, folder: Path, home: Path, rows: Mapping[str, BackendConfig], synthesise: Synthesise) -> list[Cell]:
    """The cells of a study, backend by backend; see ``plan``."""
    return plan(config, folder, home, rows, synthesise).cells


def _recipe(entry: StudyBackend, rows: Mapping[str, BackendConfig], home: Path) -> Recipe:
    if entry.row_name not in rows:
        raise UnknownName("backend", entry.row_name, rows)
    row = rows[entry.row_name]
    if row.kind != "audio":
        raise ConfigError(f"backend '{entry.name}': '{row.name}' is a row of kind '{row.kind}'; a study compares rows that make sound")
    return Recipe(row.model_copy(update={"options": row.options | entry.options}), home)


def _with_reference(prompt: StudyPrompt, folder: Path, synthesise: Synthesise) -> StudyPrompt:
    """A prompt whose reference is a file: a procedural one is made now, below the study's folder."""
    if prompt.reference is None:
        return prompt
    if not prompt.reference.startswith(PROCEDURAL):
        require_file(Path(prompt.reference))
        return prompt
    name, _, seed = prompt.reference.removeprefix(PROCEDURAL).rpartition(":")
    if not seed.isdigit():
        raise ConfigError(f"prompt '{prompt.id}': a procedural reference is written procedural:CLASS:SEED, got '{prompt.reference}'")
    path = folder / REFERENCES / f"{name}-{seed}.wav"
    if not path.is_file():
        try:
            sound = synthesise(name, int(seed))
        except ValueError:
            raise ConfigError(
                f"prompt '{prompt.id}': no procedural class is called '{name}' (training/synthesis.py lists them)"
            ) from None
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, encode_audio(sound, "wav"))
    return prompt.model_copy(update={"reference": f"{REFERENCES}/{path.name}"})


def _stored(prompt: StudyPrompt, store: MediaStore) -> tuple[MediaRef, ...]:
    """What is asked with besides words, stored."""
    found = []
    for kind in ("image", "video", "audio"):
        path = getattr(prompt, kind)
        if path is not None:
            ref = store.put_file(path)
            if ref.kind != kind:
                raise ConfigError(f"prompt '{prompt.id}': '{kind}' names a file that is a {ref.kind}: {path}")
            found.append(ref)
    return tuple(found)


def _true_loa(entry: StudyBackend, prompt: StudyPrompt, backend: Backend, store: MediaStore, folder: Path) -> tuple[MediaRef, ...]:
    """A(x) of the prompt's true sound, where the entry is made from it. A backend that takes sounds as LOA reads it itself."""
    if entry.loa == "own":
        return ()
    if prompt.loa is not None:
        require_file(prompt.loa)
        return (store.put_bytes(prompt.loa.read_bytes(), "application/x-safetensors", "condition"),)
    path = reference_path(folder, prompt)
    if path is None:
        raise ConfigError(f"backend '{entry.name}' is made from a true LOA, and prompt '{prompt.id}' has neither 'loa' nor 'reference'")
    ref = store.put_file(path)
    try:
        backend.check(GenerationRequest(loa=((ref, 1.0),), seconds=min(1.0, backend.capabilities.max_seconds)))
    except UnsupportedRequest as refusal:
        if not hasattr(backend, "loa_of"):
            raise ConfigError(f"backend '{entry.name}' cannot be made from a true LOA: {refusal}") from None
        ref = backend.loa_of(read_audio(path))
    return (ref,)


def _request(
    config: StudyConfig, entry: StudyBackend, prompt: StudyPrompt, media: tuple[MediaRef, ...], loa: tuple[MediaRef, ...], seed: int
) -> GenerationRequest:
    return GenerationRequest(
        prompt=prompt.caption,
        media=media,
        transcript=prompt.transcript,
        seconds=prompt.seconds or config.seconds,
        seed=seed,
        steps=entry.steps,
        guidance=entry.guidance,
        negative_prompt=entry.negative,
        candidates=entry.candidates,
        loa=tuple((ref, 1.0) for ref in loa),
    )


def _protocol(
    config: StudyConfig,
    recipes: Mapping[str, Recipe],
    built: Mapping[str, Backend],
    buckets: Mapping[str, int],
    signed: Mapping[str, str],
) -> dict[str, Any]:
    """What a table must say of itself to be compared with another one."""
    from importlib.metadata import version

    systems = {}
    for entry in config.backends:
        row, backend = recipes[entry.name].row, built[recipes[entry.name].same]
        systems[entry.name] = {
            "row": row.name,
            "system": row.system,
            "parameters": row.parameters,
            "licence": row.licence,
            "parity": row.parity,
            "sample_rate": backend.capabilities.sample_rate,
            "steps": entry.steps,
            "guidance": entry.guidance,
            "candidates": entry.candidates,
            "loa": entry.loa,
            "options": entry.options,
            "rows": buckets[entry.name],
            "fingerprint": signed[entry.name],
        }
    captions = [(prompt.id, prompt.caption, prompt.transcript) for prompt in config.prompts]
    return {
        **config.protocol,
        "prompts": len(config.prompts),
        "prompts_sha256": hashlib.sha256(canonical_json(captions).encode()).hexdigest(),
        "references": sum(prompt.reference is not None for prompt in config.prompts),
        "seeds": list(config.seeds),
        "seconds": config.seconds,
        "threads": config.threads,
        "versions": {name: version(name) for name in ("torch", "diffusers", "transformers", "numpy")},
        "backends": systems,
    }


# -- running ----------------------------------------------------------------------------------------------------------


def task_of(plan: Plan, folder: Path, retry: bool = False) -> Task:
    """The plan's cells in batches, labels that share weights behind each other."""
    groups = {recipe.same: at for at, recipe in reversed(list(enumerate(plan.recipes.values())))}
    labels = sorted(plan.recipes, key=lambda label: groups[plan.recipes[label].same])
    batches = []
    for label in labels:
        own = [cell for cell in plan.cells if cell.backend == label]
        size = plan.buckets[label]
        batches += [own[at : at + size] for at in range(0, len(own), size)]
    return Task(folder.absolute(), plan.config.threads, plan.config.rows, plan.recipes, batches, retry)


def write_study(plan: Plan, folder: Path) -> None:
    """``study.json``, whole or not at all; what it says of cells decides which rows of the ledger count."""
    study = Study(config=plan.config, protocol=plan.protocol, cells=tuple(cell.key for cell in plan.cells))
    folder.mkdir(parents=True, exist_ok=True)
    data = json.dumps(study.model_dump(mode="json"), sort_keys=True, ensure_ascii=False, indent=1).encode() + b"\n"
    path = folder / SPEC
    if not (path.is_file() and path.read_bytes() == data):
        write_whole(path, data)


def run(
    plan: Plan,
    folder: Path,
    *,
    executor: Executor = "local",
    jobs: int = 1,
    retry: bool = False,
    on_progress: OnProgress = lambda *_: None,
) -> Summary:
    """Make what the ledger does not have yet. Killed, the same call goes on; the rows end the same, whoever made them.

    Args:
        jobs: workers; one is this process itself, unless Ray is asked.
        retry: make failed cells again.

    Raises:
        StudyStopped: disk full, or a worker died. MissingExtra: Ray is not installed.
    """
    started = time.perf_counter()
    task = task_of(plan, folder, retry)
    write_study(plan, folder)
    _sweep(folder)
    ledger = Ledger(task.folder)
    before, _ = count(task, ledger)
    jobs = min(jobs, sum(any(not finished(cell, ledger, retry) for cell in batch) for batch in task.batches))
    tell = _changes_only(on_progress)
    if not jobs:
        tell(before, before)
    elif executor == "ray":
        work_on_ray(task, jobs, plan.config.gpus, tell)
    elif jobs > 1:
        work_in_processes(task, jobs, tell)
    else:
        with threads(plan.config.threads):
            work(task, tell)
    rows = study_rows(folder)
    failed = [row for row in rows if row.status == "failed"]
    wall = time.perf_counter() - started
    return Summary(len(plan.cells), len(rows) - len(failed), failed, len(rows) - before, wall, costs(rows))


def _sweep(folder: Path, older: float = 3600.0) -> None:
    """Remove what killed processes left of files; younger ones may be somebody's who is at work."""
    for part in folder.rglob(".loa-*.part"):
        with suppress(OSError):
            if time.time() - part.stat().st_mtime > older:
                part.unlink()


def _changes_only(on_progress: OnProgress) -> OnProgress:
    last: list[tuple[int, int]] = []

    def tell(done: int, of: int) -> None:
        if last != [(done, of)]:
            last[:] = [(done, of)]
            on_progress(done, of)

    return tell


def costs(rows: Sequence[Row]) -> dict[str, dict[str, float | None]]:
    """By label: medians of wall seconds a sound and of the real-time factor, the highest memory, joules a sound."""
    from statistics import median

    found: dict[str, dict[str, float | None]] = {}
    for label in dict.fromkeys(row.backend for row in rows):
        measured = [row.measured for row in rows if row.backend == label and row.status == "done"]
        if not measured:
            continue
        usual = steady(measured)
        factors = [m.rtf for m in usual if m.rtf is not None]
        peaks = [m.peak_mb for m in measured if m.peak_mb is not None]
        joules = [m.energy_j for m in usual if m.energy_j is not None]
        found[label] = {
            "wall_seconds": median(m.wall_seconds for m in usual),
            "rtf": median(factors) if factors else None,
            "peak_mb": max(peaks) if peaks else None,
            "energy_j": median(joules) if joules else None,
        }
    return found
