"""How fast clips reach an embedder: audioldm_eval's own loader, run from its repository, against evaluation/embedders.py, in one run.

python -m tests.evaluation.throughput --theirs DIR [--torchaudio DIR] [--clips 200] [--rounds 3] [--alone]

DIR holds a checkout of haoheliu/audioldm_eval, of which only ``datasets/load_mel.py`` is imported; both sides feed ``nano-clap``.
Writes docs/measurements/metrics-throughput.json; with ``--alone`` the loaders only, each round.
Ratios are of processor time, children included: wall time is noise here.
Their worker processes are started for each pass: with fewer than a hundred clips that is most of what is measured.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from types import ModuleType
from typing import Any

import numpy as np
import soundfile
import torch
from torch.utils.data import DataLoader

from evaluation.embedders import Cache, Clip, Embedder, Heard, embedder, hear
from media.audio import Audio

OUT = Path(__file__).parents[2] / "docs" / "measurements" / "metrics-throughput.json"
KINDS = {"44.1 kHz stereo": (44_100, 2), "16 kHz mono": (16_000, 1)}
SECONDS = 10
WORKERS = (8, 6)  # of theirs: the loader before VGGish, and the one before CNN14; every clip is loaded for each


def their_loader(repository: Path, torchaudio: Path | None) -> ModuleType:
    """``load_mel.py`` as it is. torchaudio without its compiled part, which fits one torch only; its ``load`` reads by soundfile."""
    if torchaudio is not None:
        sys.path.append(str(torchaudio))
    compiled = ModuleType("torchaudio._extension")
    vars(compiled).update(_IS_TORCHAUDIO_EXT_AVAILABLE=False, fail_if_no_align=lambda f: f, _check_cuda_version=lambda: None)
    sys.modules["torchaudio._extension"], sys.modules["torchaudio._extension.utils"] = compiled, ModuleType("utils")
    audio = importlib.import_module("torchaudio")

    def load(path: str) -> tuple[torch.Tensor, int]:
        samples, rate = soundfile.read(path, dtype="float32", always_2d=True)
        return torch.from_numpy(samples.T.copy()), rate

    audio.load = load
    spec = importlib.util.spec_from_file_location("load_mel", repository / "audioldm_eval" / "datasets" / "load_mel.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["load_mel"] = module  # its workers look it up by name
    spec.loader.exec_module(module)
    return module


class Deaf:
    """An embedder that hears nothing: what is left is the loader."""

    name, sample_rate, window, classes, digest = "deaf", 16_000, "", "", "sha256:" + "0" * 64

    def embed(self, sounds: Any) -> list[Heard]:
        return [Heard(np.zeros(1, np.float32), np.zeros((1, 1), np.float32)) for _ in sounds]


class Again:
    """The same embedder under a second name, since theirs feeds two."""

    def __init__(self, ear: Embedder) -> None:
        self.name, self.sample_rate, self.window, self.classes, self.digest = "again", ear.sample_rate, "", "", ear.digest
        self.embed = ear.embed


def spent(work: Callable[[], object]) -> tuple[float, float]:
    """Wall and processor seconds, children included."""

    def used() -> float:
        both = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
        return sum(each.ru_utime + each.ru_stime for each in both)

    wall, processor = time.perf_counter(), used()
    work()
    return time.perf_counter() - wall, used() - processor


def folder_of(root: Path, rate: int, channels: int, count: int) -> Path:
    folder = root / f"{rate}-{channels}"
    folder.mkdir(exist_ok=True)
    for index in range(count):
        noise = 0.1 * np.random.default_rng(index).standard_normal((SECONDS * rate, channels))
        soundfile.write(folder / f"{index:04d}.wav", noise.clip(-1, 1), rate)
    return folder


class Sides:
    """Both ways of a folder's clips to an embedder; ``heard`` keeps the vectors [N, D] of the last pass of each kind."""

    def __init__(self, theirs: ModuleType, folder: Path) -> None:
        self._theirs, self._folder = theirs, folder
        self.paths = sorted(folder.glob("*.wav"))
        self.told = [Clip.of(path) for path in self.paths]  # what the ledger says of a study's own sounds
        self._ear = embedder("nano-clap")
        self._ear.embed([Audio(np.zeros((1, 16_000), np.float32), 16_000)])  # loaded before anything is timed
        self.heard: dict[str, np.ndarray] = {}

    def _load(self, workers: int) -> list[torch.Tensor]:
        dataset = self._theirs.WaveDataset(str(self._folder), 16_000)
        return [wave[0] for wave, _ in DataLoader(dataset, batch_size=1, num_workers=workers)]

    def their_loading(self) -> None:
        for workers in WORKERS:
            self._load(workers)

    def their_pass(self, together: int) -> None:
        sounds = [Audio(wave.numpy(), 16_000) for wave in self._load(WORKERS[0])]
        batches = [sounds[at : at + together] for at in range(0, len(sounds), together)]
        self.heard["theirs"] = np.stack([each.vector for batch in batches for each in self._ear.embed(batch)])

    def their_both_passes(self) -> None:
        """As its repository does it: every clip is loaded for each of two embedders, and heard alone."""
        for workers in WORKERS:
            for wave in self._load(workers):
                self._ear.embed([Audio(wave.numpy(), 16_000)])

    def our_loading(self, hashed: bool) -> None:
        hear(self.told if hashed else [Clip.of(path) for path in self.paths], [Deaf()])

    def our_pass(self, which: list[Path], cache: Cache | None = None, key: str = "ours") -> None:
        clips = [Clip.of(path) for path in which]
        found, broken = hear(clips, [self._ear], cache)
        assert not broken
        self.heard[key] = np.stack([found[self._ear.name][clip.sha256].vector for clip in clips])

    def our_both(self) -> None:
        hear([Clip.of(path) for path in self.paths], [self._ear, Again(self._ear)])

    def works(self, cache: Cache) -> dict[str, Callable[[], object]]:
        """What is timed, in this order, over an empty ``cache``."""
        known = self.paths[: len(self.paths) * 10 // 11]  # a study that then grows by a tenth
        return {
            "their loader, both passes": self.their_loading,
            "our loader": lambda: self.our_loading(hashed=True),
            "our loader, hashing first": lambda: self.our_loading(hashed=False),
            "theirs, heard one by one": lambda: self.their_pass(1),  # as it does; our embedder fills its rows up
            "theirs, heard sixteen at a time": lambda: self.their_pass(16),  # as it could
            "ours with the embedder": lambda: self.our_pass(self.paths),
            "theirs, two embedders": self.their_both_passes,
            "ours, two embedders": self.our_both,
            "ours, most of the study": lambda: self.our_pass(known, cache, "part"),
            "ours, a tenth more": lambda: self.our_pass(self.paths, cache, "grown"),
            "ours, nothing new": lambda: self.our_pass(self.paths, cache, "again"),
        }


def measure(kind: str, theirs: ModuleType, root: Path, count: int, rounds: int) -> dict[str, Any]:
    sides = Sides(theirs, folder_of(root, *KINDS[kind], count))
    takes: dict[str, list[tuple[float, float]]] = {}
    for turn in range(rounds):
        for name, work in sides.works(Cache(root / f"cache-{kind}-{turn}")).items():
            takes.setdefault(name, []).append(spent(work))
    heard = sides.heard
    assert np.array_equal(heard["ours"], heard["grown"]) and np.array_equal(heard["ours"], heard["again"])
    told = {"clips": f"{count} of {SECONDS} s, {kind}", "rounds": rounds} | summary(takes, count)
    return told | {"cosine_of_vectors_at_least": round(float((heard["ours"] * heard["theirs"]).sum(1).min()), 5)}


def alone(kind: str, theirs: ModuleType, root: Path, count: int, rounds: int) -> list[str]:
    """Processor milliseconds a clip of their loader (both passes) / ours, each round."""
    sides = Sides(theirs, folder_of(root, *KINDS[kind], count))
    takes = [(spent(sides.their_loading)[1], spent(lambda: sides.our_loading(hashed=True))[1]) for _ in range(rounds)]
    return [f"{1000 * slow / count:.2f}/{1000 * fast / count:.2f}" for slow, fast in takes]


def summary(takes: dict[str, list[tuple[float, float]]], count: int) -> dict[str, Any]:
    """Medians and ratios of processor time; of a ratio, the median of the rounds'."""
    milliseconds = {name: round(1000 * median(cpu for _, cpu in each) / count, 2) for name, each in takes.items()}
    hearing = milliseconds["ours with the embedder"] - milliseconds["our loader"]

    def ratio(slow: str, fast: str) -> float:
        return round(median(a / b for (_, a), (_, b) in zip(takes[slow], takes[fast], strict=True)), 2)

    return {
        "cpu_milliseconds_a_clip": milliseconds,
        "ratio_of_the_loaders": ratio("their loader, both passes", "our loader"),
        "ratio_of_the_loaders_hashing_first": ratio("their loader, both passes", "our loader, hashing first"),
        "ratio_of_both_loops_with_two_embedders": ratio("theirs, two embedders", "ours, two embedders"),
        "ratio_with_the_embedder": {
            how: {
                "nothing kept": ratio(f"theirs, {how}", "ours with the embedder"),
                "most that a free loader could reach": round(milliseconds[f"theirs, {how}"] / max(hearing, 1e-9), 2),
                "a study that grew by a tenth": ratio(f"theirs, {how}", "ours, a tenth more"),
                "the same study again": ratio(f"theirs, {how}", "ours, nothing new"),
            }
            for how in ("heard one by one", "heard sixteen at a time")
        },
    }


def main() -> None:
    asked = argparse.ArgumentParser()
    asked.add_argument("--theirs", type=Path, required=True)
    asked.add_argument("--torchaudio", type=Path)
    asked.add_argument("--clips", type=int, default=200)
    asked.add_argument("--rounds", type=int, default=3)
    asked.add_argument("--alone", action="store_true")
    asked.add_argument("--out", type=Path, default=OUT)
    told = asked.parse_args()
    torch.set_num_threads(1)
    theirs = their_loader(told.theirs, told.torchaudio)
    with tempfile.TemporaryDirectory() as root:
        made: dict[str, Any] = {"processors": os.cpu_count()}
        if told.alone:
            made["loaders_alone"] = {kind: alone(kind, theirs, Path(root), told.clips, told.rounds) for kind in KINDS}
        else:
            made["rows"] = [measure(kind, theirs, Path(root), told.clips, told.rounds) for kind in KINDS]
    kept = json.loads(OUT.read_text()) if OUT.exists() else {}
    told.out.write_text(json.dumps(kept | made, indent=1) + "\n")
    print(json.dumps(made, indent=1))


if __name__ == "__main__":
    main()
