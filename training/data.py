"""Clips for training: a folder of cached waveforms and mels, and how they are drawn.

``python -m training.data OUT --recordings DIR [--soundfont FILE]`` writes the folder: procedural clips of the split's own seeds,
placements of the recordings of the split's own take families, and scenes (training.scenes, music, speech) with captions of their own.
DIR is what ``python -m training.recordings`` writes; without a soundfont there is no music.

    OUT/<part>_wav.npy [N, 81920] int16    OUT/<part>_mel.npy [N, 512, 64] float16    OUT/labels.json
    OUT/<part>.json  [[class or row, seed], …], of scenes [[caption, …], …]
    parts: proc, rec_train, paced, counted, placed, mixed, music, speech (the model) · jproc, rec_judge (judge J1)
    · tproc, rec_test (nobody trains on them)
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import cache, cached_property, partial
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np

from configs.registry import ConfigError
from media.audio import read_audio
from media.mel import MelSpec, log_mel
from media.refs import MediaError
from training.captions import captions_of
from training.music import Player, check_music, music
from training.scenes import Scene, counted, held_out, mixed, paced, placed, short_phrase
from training.speech import Speaker, speech
from training.synthesis import CLASSES

SAMPLE_RATE = 16_000
SECONDS = 5.12
SAMPLES = 81_920
SEEDS = {"proc": (0, 130), "jproc": (10_000_000, 60), "tproc": (20_000_000, 8)}  # first seed, clips per class
PLACEMENTS = {"train": 4, "judge": 4, "test": 2}
SCENES = {"paced": 1500, "counted": 700, "placed": 1500, "mixed": 3600, "music": 1800, "speech": 500}
# How often a source is drawn in training, relative to the others that are there.
SHARES = {
    "proc": 0.42, "rec_train": 0.16, "paced": 0.06, "counted": 0.03, "placed": 0.06, "mixed": 0.14, "music": 0.09, "speech": 0.04,
}  # fmt: skip
RECORDED_IN_MIX = 0.25  # share of mixed sounds that are recordings


def split_of(take: str) -> str:
    """Which part a take family belongs to: 65 % train, 20 % judge, 15 % test, by hash, so that families never cross."""
    share = int(hashlib.md5(take.encode(), usedforsecurity=False).hexdigest(), 16) % 20
    return "train" if share < 13 else "judge" if share < 17 else "test"


@cache
def recordings() -> list[dict[str, object]]:
    """The rows of the recorded set: package, path, licence, caption, category, take, seconds."""
    return [json.loads(line) for line in (files("training") / "recordings.jsonl").read_text().splitlines()]


def _finish(draw: np.random.Generator, samples: np.ndarray, quietest_db: float = -75) -> tuple[np.ndarray, np.ndarray]:
    """A noise floor in three of five clips (real rooms are never digitally silent), then int16 and log-mel."""
    if draw.random() < 0.6:
        level = 10 ** (draw.uniform(quietest_db, quietest_db + 30) / 20)
        samples = samples + np.float32(level) * draw.standard_normal(len(samples)).astype(np.float32)
    samples = np.clip(samples, -1, 1)
    return (samples * 32767).astype(np.int16), log_mel(samples.astype(np.float32), MelSpec()).astype(np.float16)


def procedural_clip(job: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """(class index, seed) to (int16 [81920], log-mel [512, 64])."""
    index, seed = job
    made = list(CLASSES.values())[index](np.random.default_rng([index, seed]), SECONDS)[:SAMPLES]
    return _finish(np.random.default_rng([index, seed, 7]), np.pad(made, (0, SAMPLES - len(made))).astype(np.float32))


def recorded_clip(folder: Path, job: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """(row index, seed): a crop of a long recording, or a short one placed several times with gaps."""
    index, seed = job
    draw = np.random.default_rng([1000 + index, seed])
    return _finish(draw, spread(recording_path(folder, index), draw))


def spread(path: Path, draw: np.random.Generator) -> np.ndarray:
    """A recording as 5.12 s, float32 [81920]: a crop of a long one; a short one several times with gaps.

    Padding short ones with silence would teach the model to fall silent after half a second.
    """
    sound = read_audio(path, sample_rate=SAMPLE_RATE, mono=True).samples[0]
    sound = sound / (np.abs(sound).max() + 1e-6)
    clip = np.zeros(SAMPLES, np.float32)
    if len(sound) >= SAMPLES:
        at = int(draw.integers(0, len(sound) - SAMPLES + 1))
        clip[:] = sound[at : at + SAMPLES]
    else:
        start, times = draw.uniform(0, 0.5), 0
        while start * SAMPLE_RATE < SAMPLES - min(len(sound), 1600) and times < 8:
            at = int(start * SAMPLE_RATE)
            size = min(len(sound), SAMPLES - at)
            clip[at : at + size] += draw.uniform(0.7, 1) * sound[:size]
            start, times = start + len(sound) / SAMPLE_RATE + draw.uniform(0.1, 1.2), times + 1
    return (clip / (np.abs(clip).max() + 1e-6) * np.float32(draw.uniform(0.5, 0.95))).astype(np.float32)


@dataclass(frozen=True)
class Bench:
    """What scenes are made from: the folder of recordings, the rows that may be used, and a soundfont for music."""

    recordings: Path
    rows: tuple[int, ...] = ()
    soundfont: Path | None = None

    def draw_sound(self, draw: np.random.Generator) -> tuple[str, str, np.ndarray]:
        """A class, a short phrase for it, and a fresh clip of it."""
        if self.rows and draw.random() < RECORDED_IN_MIX:
            index = int(draw.choice(self.rows))
            row = recordings()[index]
            return str(row["category"]), str(row["caption"]), spread(recording_path(self.recordings, index), draw)
        name = str(draw.choice(list(CLASSES)))
        made = CLASSES[name](draw, SECONDS)[:SAMPLES]
        return name, short_phrase(draw, name), np.pad(made, (0, SAMPLES - len(made)))

    def draw_mix(self, draw: np.random.Generator) -> Scene:
        """Two sounds of classes that may be trained on together."""
        while True:
            (x_name, x_phrase, x), (y_name, y_phrase, y) = self.draw_sound(draw), self.draw_sound(draw)
            if x_name != y_name and not held_out(x_name, y_name):
                return mixed(draw, (x_phrase, x), (y_phrase, y))

    def draw_placed(self, draw: np.random.Generator) -> Scene:
        _, phrase, sound = self.draw_sound(draw)
        return placed(draw, sound, phrase)


@cache
def _player(soundfont: Path) -> Player:
    return Player(soundfont)


@cache
def _speaker() -> Speaker:
    return Speaker()


def scene_clip(bench: Bench, part: str, seed: int) -> tuple[np.ndarray, np.ndarray, tuple[str, ...]]:
    """One clip of a part of ``SCENES``: int16 [81920], log-mel [512, 64], captions."""
    draw = np.random.default_rng([5000 + list(SCENES).index(part), seed])
    if part == "music":
        assert bench.soundfont is not None
        made = music(_player(bench.soundfont), draw, SECONDS)
    elif part == "speech":
        made = speech(_speaker(), draw, SECONDS)
    else:
        makers = {"paced": lambda d: paced(d, SECONDS), "counted": lambda d: counted(d, SECONDS)}
        makers |= {"placed": bench.draw_placed, "mixed": bench.draw_mix}
        made = makers[part](draw)
    samples = np.pad(made.samples, (0, SAMPLES))[:SAMPLES]
    return (*_finish(draw, samples, quietest_db=-80 if part == "placed" else -75), made.captions)


def recording_path(folder: Path, index: int) -> Path:
    """Where ``training.recordings`` put a row's sound."""
    return folder / str(recordings()[index]["file"])


def write_part(make: Callable[[Any], tuple[Any, ...]], jobs: Sequence[Any], stem: Path) -> None:
    """All clips of one part; the JSON list comes last, so its presence means that the arrays are whole.

    It lists the jobs, or what ``make`` returns beside wave and mel.
    """
    waves = np.lib.format.open_memmap(f"{stem}_wav.npy", "w+", np.int16, (len(jobs), SAMPLES))
    mels = np.lib.format.open_memmap(f"{stem}_mel.npy", "w+", np.float16, (len(jobs), 512, 64))
    listed = []
    with ProcessPoolExecutor() as pool:
        for row, (wave, mel, *more) in enumerate(pool.map(make, jobs, chunksize=32)):
            waves[row], mels[row] = wave, mel
            listed.append(more[0] if more else jobs[row])
    waves.flush()
    mels.flush()
    Path(f"{stem}.json").write_text(json.dumps(listed))


@dataclass(frozen=True)
class Source:
    """One cached part: ``mel`` [N, 512, 64], ``wav`` [N, 81920], the label of each clip, and how often it is drawn.

    A label is a class, or, where ``scenes``, the clip's own name: then ``captions`` holds all that may be said of it.
    """

    mel: np.ndarray
    wav: np.ndarray
    labels: tuple[str, ...]
    captions: tuple[tuple[str, ...], ...]  # of each recording or scene; empty for procedural clips
    share: float
    scenes: bool = False


@dataclass(frozen=True)
class MelSet:
    """The model's training clips. Clips are named by (source, index); sources of classes come before scenes."""

    sources: tuple[Source, ...]

    @classmethod
    def open(cls, folder: Path) -> MelSet:
        """Map the model's parts of a folder that ``python -m training.data`` wrote; what scenes are missing are left out."""
        names, rows = list(CLASSES), recordings()

        def source(part: str, labels: list[str], captions: list[tuple[str, ...]], scenes: bool = False) -> Source:
            mel, wav = (np.load(folder / f"{part}_{kind}.npy", mmap_mode="r") for kind in ("mel", "wav"))
            return Source(mel, wav, tuple(labels), tuple(captions), SHARES[part], scenes)

        proc = json.loads((folder / "proc.json").read_text())
        rec = json.loads((folder / "rec_train.json").read_text())
        sources = [
            source("proc", [names[i] for i, _ in proc], []),
            source("rec_train", [str(rows[i]["category"]) for i, _ in rec], [(str(rows[i]["caption"]),) for i, _ in rec]),
        ]
        for part in SCENES:
            if (folder / f"{part}.json").is_file():
                said = [tuple(captions) for captions in json.loads((folder / f"{part}.json").read_text())]
                sources.append(source(part, [f"{part}/{i}" for i in range(len(said))], said, scenes=True))
        return cls(tuple(sources))

    @cached_property
    def classes(self) -> dict[str, tuple[str, ...]]:
        """Each class and all that it is called, in order of appearance."""
        found: dict[str, dict[str, None]] = {}
        for source in self.of_classes().sources:
            for index, label in enumerate(source.labels):
                captions = found.setdefault(label, {})
                if source.captions:
                    captions |= dict.fromkeys(source.captions[index])
        return {label: captions_of(label, tuple(captions)) for label, captions in found.items()}

    @cached_property
    def scenes(self) -> dict[str, tuple[str, ...]]:
        """The captions of each scene."""
        return {label: said for s in self.sources if s.scenes for label, said in zip(s.labels, s.captions, strict=True)}

    def of_classes(self) -> MelSet:
        """Without the scenes; the remaining sources keep their numbers."""
        return MelSet(tuple(source for source in self.sources if not source.scenes))

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


def make_clips(out: Path, folder: Path, soundfont: Path | None, say: Callable[[str], None]) -> None:
    """Write all parts into ``out``: recordings from ``folder``, music if there is a ``soundfont``. A part that is there is kept."""
    out.mkdir(parents=True, exist_ok=True)
    rows, readable = recordings(), []
    for index in range(len(rows)):
        try:
            read_audio(recording_path(folder, index))
            readable.append(index)
        except MediaError as error:
            say(f"skipped {rows[index]['path_in_package']}: {error}")
    say(f"{len(rows) - len(readable)} of {len(rows)} recordings skipped")
    in_split = {split: [i for i in readable if split_of(str(rows[i]["take"])) == split] for split in PLACEMENTS}
    for part, (first, count) in SEEDS.items():
        jobs = [(k, s) for s in range(first, first + count) for k in range(len(CLASSES))]
        _missing_part(procedural_clip, jobs, out / part)
    for split, count in PLACEMENTS.items():
        jobs = [(i, s) for i in in_split[split] for s in range(count)]
        _missing_part(partial(recorded_clip, folder), jobs, out / f"rec_{split}")
    bench = Bench(folder, tuple(in_split["train"]), soundfont)
    for part, count in SCENES.items():
        if part == "music" and soundfont is None:
            say("no music: give --soundfont")
            continue
        _missing_part(partial(scene_clip, bench, part), range(count), out / part)
    labels = {"procedural": list(CLASSES), "recorded": [row["category"] for row in rows]}
    (out / "labels.json").write_text(json.dumps(labels))  # written last, so its existence means that all clips are there


def _missing_part(make: Callable[[Any], tuple[Any, ...]], jobs: Sequence[Any], stem: Path) -> None:
    if not Path(f"{stem}.json").is_file():
        write_part(make, jobs, stem)


def main() -> int:
    parser = argparse.ArgumentParser(description="Write the cached training clips.")
    parser.add_argument("out", type=Path)
    parser.add_argument("--recordings", type=Path, required=True, help="what `python -m training.recordings` wrote")
    parser.add_argument("--soundfont", type=Path, help="MuseScore_General_Lite.sf3, for music")
    given = parser.parse_args()
    if given.soundfont is not None:
        try:
            check_music(given.soundfont)
        except ConfigError as error:
            parser.error(str(error))
    make_clips(given.out, given.recordings, given.soundfont, partial(print, file=sys.stderr))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
