"""Clips for training: a folder of cached waveforms and mels, and how they are drawn.

``python -m training.data OUT --recordings DIR`` writes the folder: procedural clips of the split's own seeds and placements of the
recordings of the split's own take families. DIR is what ``python -m training.recordings`` writes.

    OUT/<part>_wav.npy [N, 81920] int16    OUT/<part>_mel.npy [N, 512, 64] float16    OUT/<part>.json  [[class or row, seed], …]
    OUT/labels.json  {"procedural": [class of index], "recorded": [category of row]}
    parts: proc, rec_train (the model) · jproc, rec_judge (judge J1) · tproc, rec_test (nobody trains on them)
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import cached_property, partial
from importlib.resources import files
from pathlib import Path

import numpy as np

from media.audio import read_audio
from media.mel import MelSpec, log_mel
from media.refs import MediaError
from training.synthesis import CLASSES

SAMPLE_RATE = 16_000
SECONDS = 5.12
SAMPLES = 81_920
SEEDS = {"proc": (0, 130), "jproc": (10_000_000, 60), "tproc": (20_000_000, 8)}  # first seed, clips per class
PLACEMENTS = {"train": 4, "judge": 4, "test": 2}


def split_of(take: str) -> str:
    """Which part a take family belongs to: 65 % train, 20 % judge, 15 % test, by hash, so that families never cross."""
    share = int(hashlib.md5(take.encode(), usedforsecurity=False).hexdigest(), 16) % 20
    return "train" if share < 13 else "judge" if share < 17 else "test"


def recordings() -> list[dict[str, object]]:
    """The rows of the recorded set: package, path, licence, caption, category, take, seconds."""
    return [json.loads(line) for line in (files("training") / "recordings.jsonl").read_text().splitlines()]


def _finish(draw: np.random.Generator, samples: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A noise floor in three of five clips (real rooms are never digitally silent), then int16 and log-mel."""
    if draw.random() < 0.6:
        level = 10 ** (draw.uniform(-75, -45) / 20)
        samples = samples + np.float32(level) * draw.standard_normal(len(samples)).astype(np.float32)
    samples = np.clip(samples, -1, 1)
    return (samples * 32767).astype(np.int16), log_mel(samples.astype(np.float32), MelSpec()).astype(np.float16)


def procedural_clip(job: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """(class index, seed) to (int16 [81920], log-mel [512, 64])."""
    index, seed = job
    made = list(CLASSES.values())[index](np.random.default_rng([index, seed]), SECONDS)[:SAMPLES]
    return _finish(np.random.default_rng([index, seed, 7]), np.pad(made, (0, SAMPLES - len(made))).astype(np.float32))


def recorded_clip(folder: Path, job: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """(row index, seed): a crop of a long recording, or a short one placed several times with gaps.

    Padding short ones with silence would teach the model to fall silent after half a second.
    """
    index, seed = job
    draw = np.random.default_rng([1000 + index, seed])
    sound = read_audio(recording_path(folder, index), sample_rate=SAMPLE_RATE, mono=True).samples[0]
    sound = sound / (np.abs(sound).max() + 1e-6)
    clip = np.zeros(SAMPLES, np.float32)
    if len(sound) >= SAMPLES:
        at = int(draw.integers(0, len(sound) - SAMPLES + 1))
        clip[:] = sound[at : at + SAMPLES]
    else:
        start, placed = draw.uniform(0, 0.5), 0
        while start * SAMPLE_RATE < SAMPLES - min(len(sound), 1600) and placed < 8:
            at = int(start * SAMPLE_RATE)
            size = min(len(sound), SAMPLES - at)
            clip[at : at + size] += draw.uniform(0.7, 1) * sound[:size]
            start, placed = start + len(sound) / SAMPLE_RATE + draw.uniform(0.1, 1.2), placed + 1
    return _finish(draw, clip / (np.abs(clip).max() + 1e-6) * np.float32(draw.uniform(0.5, 0.95)))


def recording_path(folder: Path, index: int) -> Path:
    """Where ``training.recordings`` put a row's sound."""
    return folder / str(recordings()[index]["file"])


def write_part(make: Callable[[tuple[int, int]], tuple[np.ndarray, np.ndarray]], jobs: list[tuple[int, int]], stem: Path) -> None:
    """All clips of one part; the JSON list comes last, so its presence means that the arrays are whole."""
    waves = np.lib.format.open_memmap(f"{stem}_wav.npy", "w+", np.int16, (len(jobs), SAMPLES))
    mels = np.lib.format.open_memmap(f"{stem}_mel.npy", "w+", np.float16, (len(jobs), 512, 64))
    with ProcessPoolExecutor() as pool:
        for row, (wave, mel) in enumerate(pool.map(make, jobs, chunksize=32)):
            waves[row], mels[row] = wave, mel
    waves.flush()
    mels.flush()
    Path(f"{stem}.json").write_text(json.dumps(jobs))


@dataclass(frozen=True)
class Source:
    """One cached part: ``mel`` [N, 512, 64], ``wav`` [N, 81920], the label of each clip, and how often it is drawn."""

    mel: np.ndarray
    wav: np.ndarray
    labels: tuple[str, ...]
    captions: tuple[str, ...]  # of recordings; empty for procedural clips
    share: float


@dataclass(frozen=True)
class MelSet:
    """The model's training clips. Clips are named by (source, index)."""

    sources: tuple[Source, ...]

    @classmethod
    def open(cls, folder: Path) -> MelSet:
        """Map ``proc`` and ``rec_train`` of a folder that ``python -m training.data`` wrote."""
        names, rows = list(CLASSES), recordings()

        def arrays(part: str) -> tuple[np.ndarray, np.ndarray]:
            return np.load(folder / f"{part}_mel.npy", mmap_mode="r"), np.load(folder / f"{part}_wav.npy", mmap_mode="r")

        proc = json.loads((folder / "proc.json").read_text())
        rec = json.loads((folder / "rec_train.json").read_text())
        labels = tuple(str(rows[i]["category"]) for i, _ in rec)
        captions = tuple(str(rows[i]["caption"]) for i, _ in rec)
        return cls(
            (
                Source(*arrays("proc"), tuple(names[i] for i, _ in proc), (), 0.75),
                Source(*arrays("rec_train"), labels, captions, 0.25),
            )
        )

    @cached_property
    def _weights(self) -> list[np.ndarray]:
        """Cumulated chance of each clip: within a source by 1 / sqrt(size of its class), so that big classes do not rule."""
        out = []
        for source in self.sources:
            _, inverse, sizes = np.unique(np.asarray(source.labels), return_inverse=True, return_counts=True)
            weight = 1 / np.sqrt(sizes[inverse])
            out.append(np.cumsum(weight / weight.sum()))
        return out

    def draw(self, draw: np.random.Generator, count: int) -> list[tuple[int, int]]:
        """``count`` clips by chance."""
        shares = np.cumsum([s.share for s in self.sources])
        picked = []
        for _ in range(count):
            source = int(np.searchsorted(shares, draw.random() * shares[-1], side="right"))
            index = int(np.searchsorted(self._weights[source], draw.random()))
            picked.append((source, min(index, len(self.sources[source].labels) - 1)))
        return picked

    def mels(self, clips: list[tuple[int, int]], draw: np.random.Generator) -> np.ndarray:
        """log-mels [B, 512, 64] float32, each rolled in time by chance and a little louder or quieter."""
        out = np.stack([self.sources[s].mel[i] for s, i in clips]).astype(np.float32)
        out += draw.uniform(-1.0, 0.3, (len(clips), 1, 1)).astype(np.float32)
        return np.maximum(out, np.float32(np.log(1e-5)))


def main() -> int:
    parser = argparse.ArgumentParser(description="Write the cached training clips.")
    parser.add_argument("out", type=Path)
    parser.add_argument("--recordings", type=Path, required=True, help="what `python -m training.recordings` wrote")
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    rows, readable = recordings(), []
    for index in range(len(rows)):
        try:
            read_audio(recording_path(given.recordings, index))
            readable.append(index)
        except MediaError as error:
            print(f"skipped {rows[index]['path_in_package']}: {error}", file=sys.stderr)
    print(f"{len(rows) - len(readable)} of {len(rows)} recordings skipped", file=sys.stderr)
    for part, (first, count) in SEEDS.items():
        jobs = [(k, s) for s in range(first, first + count) for k in range(len(CLASSES))]
        write_part(procedural_clip, jobs, given.out / part)
    for split, count in PLACEMENTS.items():
        jobs = [(i, s) for i in readable if split_of(str(rows[i]["take"])) == split for s in range(count)]
        write_part(partial(recorded_clip, given.recordings), jobs, given.out / f"rec_{split}")
    labels = {"procedural": list(CLASSES), "recorded": [row["category"] for row in rows]}
    (given.out / "labels.json").write_text(json.dumps(labels))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
