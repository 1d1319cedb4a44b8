"""Sounds for a benchmark: made in batches by several processes, and kept, so that a run that was killed goes on.

Knows checkpoints, requests and files. Does not know judges: which sound is made never depends on what somebody heard.

A kept file's name is a digest of all that decides the sound (the backend's fingerprint, the batch bucket, the request), and a file
appears whole or not at all: another checkpoint, another thread count or another library version never meets a stale sound.
"""

from __future__ import annotations

import hashlib
import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch

from evaluation.batches import made_each
from generators.audioldm2 import AudioLDM2
from generators.base import Generated, GenerationFailed, GenerationRequest, canonical_json
from media.audio import Audio, encode_audio, read_audio
from media.refs import MediaStore, write_whole

ROWS = 8  # one batch bucket throughout: a sound never depends on how many were asked for

OnProgress = Callable[[str, int, int], None]  # (what is being made, done, of)


def open_checkpoint(folder: Path, store: MediaStore, loa_mode: str = "predicted") -> AudioLDM2:
    """The backend over a checkpoint folder, as shipped or with its Language of Audio blanked (``loa_mode="zeros"``)."""
    options = {"checkpoint": str(folder.resolve()), "loa_mode": loa_mode}
    return AudioLDM2(name=folder.name, options=options, store=store, home=folder.resolve().parent)


@dataclass(frozen=True)
class Recipe:
    """What a process needs to make a checkpoint's sounds."""

    folder: Path
    loa_mode: str
    store: Path  # pictures, videos, stored conditions
    kept: Path  # where finished sounds go


Work = Callable[[Recipe, list[tuple[str, Any]]], None]  # makes one batch of (key, what to make)


@dataclass(frozen=True)
class Maker:
    """Makes and rebuilds sounds with one checkpoint.

    ``workers`` None: in this process, by ``backend``; otherwise every process opens the checkpoint by ``recipe``.
    """

    backend: AudioLDM2
    recipe: Recipe
    workers: Executor | None
    notify: OnProgress

    def sounds(self, stage: str, requests: Sequence[GenerationRequest]) -> list[Audio]:
        """One sound per request, in order. A sound that the guard refuses counts as silence.

        Raises:
            UnsupportedRequest: the checkpoint cannot do one of them.
        """
        made_by = self.backend.fingerprint(ROWS)
        # Only what was asked for is hashed: a field that requests gain later does not make old sounds strangers.
        keys = [_digest(made_by, canonical_json(r.model_dump(mode="json", exclude_defaults=True))) for r in requests]
        missing = [(key, r) for key, r in dict(zip(keys, requests, strict=True)).items() if not _sound_path(self.recipe, key).exists()]
        self._spread(stage, _make_batch, missing, len(keys))
        return [read_audio(_sound_path(self.recipe, key)) for key in keys]

    def rebuilt(self, stage: str, sounds: Sequence[Audio]) -> tuple[list[Audio], np.ndarray]:
        """Sounds of one length through autoencoder and vocoder, and the log-mels [N, T, n_mels] between the two."""
        made_by = self.backend.fingerprint(ROWS)
        keys = [_digest(made_by, "rebuilt", hashlib.sha256(sound.samples.tobytes()).hexdigest()) for sound in sounds]
        missing = [(key, s) for key, s in dict(zip(keys, sounds, strict=True)).items() if not _sound_path(self.recipe, key).exists()]
        self._spread(stage, _rebuild_batch, missing, len(keys))
        mels = [np.load(_mel_path(self.recipe, key)).astype(np.float32) for key in keys]
        return [read_audio(_sound_path(self.recipe, key)) for key in keys], np.stack(mels)

    def _spread(self, stage: str, work: Work, todo: list[tuple[str, Any]], of: int) -> None:
        """``work`` on every batch of ``todo``, here or in the workers; the first error is raised, what is finished stays."""
        self.recipe.kept.mkdir(parents=True, exist_ok=True)
        batches = [todo[at : at + ROWS] for at in range(0, len(todo), ROWS)]
        done = of - len(todo)
        for size in self._finished(work, batches):
            done += size
            self.notify(stage, done, of)

    def _finished(self, work: Work, batches: list[list[tuple[str, Any]]]) -> Iterator[int]:
        if self.workers is None:
            for batch in batches:
                with _lent(self.recipe, self.backend):
                    work(self.recipe, batch)
                yield len(batch)
            return
        sizes = {self.workers.submit(work, self.recipe, batch): len(batch) for batch in batches}
        try:
            for future in as_completed(sizes):
                future.result()
                yield sizes[future]
        finally:
            for future in sizes:
                future.cancel()


@contextmanager
def makers(jobs: int) -> Iterator[Executor | None]:
    """``jobs`` processes of one thread each, or None where one is asked for: this process then does the work."""
    if jobs <= 1:
        yield None
        return
    pool = ProcessPoolExecutor(jobs, mp_context=get_context("spawn"), initializer=_begin)
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)


@contextmanager
def one_thread() -> Iterator[None]:
    """torch on one thread, as in the workers, so that all processes sign their sounds alike."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


# -- in the process that does the work ------------------------------------------------------------------------------

_backends: dict[Recipe, AudioLDM2] = {}


def _begin() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's business: it cancels what has not begun
    torch.set_num_threads(1)


@lru_cache(maxsize=4)
def _opened(recipe: Recipe) -> AudioLDM2:
    return open_checkpoint(recipe.folder, MediaStore(recipe.store), recipe.loa_mode)


@contextmanager
def _lent(recipe: Recipe, backend: AudioLDM2) -> Iterator[None]:
    """Work in this process goes to the backend that is loaded here already."""
    _backends[recipe] = backend
    try:
        yield
    finally:
        del _backends[recipe]


def _make_batch(recipe: Recipe, batch: list[tuple[str, GenerationRequest]]) -> None:
    backend = _backends.get(recipe) or _opened(recipe)
    made = made_each(backend, [request for _, request in batch], ROWS)
    for (key, request), sound in zip(batch, made, strict=True):
        write_whole(_sound_path(recipe, key), _wav(backend, request, sound))


def _wav(backend: AudioLDM2, request: GenerationRequest, made: Generated | Exception) -> bytes:
    if not isinstance(made, Exception):
        return backend.store.path(made.media).read_bytes()
    if not isinstance(made, GenerationFailed):
        raise made
    rate = backend.capabilities.sample_rate
    return encode_audio(Audio(np.zeros((1, round(request.seconds * rate)), np.float32), rate), "wav")


def _rebuild_batch(recipe: Recipe, batch: list[tuple[str, Audio]]) -> None:
    backend = _backends.get(recipe) or _opened(recipe)
    sounds = [sound for _, sound in batch]
    mels, rebuilt = backend.vae_mel(sounds), backend.reconstruct(sounds)
    for (key, _), mel, sound in zip(batch, mels, rebuilt, strict=True):
        with _mel_path(recipe, key).open("wb") as file:  # before the sound, whose presence means that both are there
            np.save(file, mel.astype(np.float16))
        write_whole(_sound_path(recipe, key), encode_audio(sound, "wav"))


def _digest(*parts: str) -> str:
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:32]


def _sound_path(recipe: Recipe, key: str) -> Path:
    return recipe.kept / f"{key}.wav"


def _mel_path(recipe: Recipe, key: str) -> Path:
    return recipe.kept / f"{key}.npy"
