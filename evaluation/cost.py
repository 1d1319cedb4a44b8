"""What a checkpoint costs: time, memory, size. Knows backends and processes; judges nothing."""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

from evaluation.batches import peak_mb as peak_here
from evaluation.making import open_checkpoint
from generators.audioldm2 import AudioLDM2
from generators.base import GenerationRequest
from media.refs import MediaStore

STEPS = 25
SECONDS = 5.12


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
    peak = peak_here()
    assert peak is not None  # on Linux, as was asked before
    return peak


def size_mb(folder: Path) -> float:
    """Bytes of all files of a checkpoint, in MB."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 1e6
