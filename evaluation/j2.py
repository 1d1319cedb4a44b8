"""Judge J2: names sounds by what it learned from sources that no checkpoint was trained on. Built on demand, never shipped.

Its recordings are GPL-licensed (tier C): ``j2.jsonl`` beside this file names package, path, class and take family of each; none of them
is a row of training's recordings. Instruments come from another soundfont than training's (TimGM6mb), voices from espeak-ng where it is
installed. Knows labels, clips and a network like J1's; how a package is had and a soundfont played is handed in (training knows both).

What it knows is little: three to sixty clips a class. Its own ceiling, measured on packages and take families that it never met, is low
and belongs beside every figure. It ranks systems; it is no measure of quality.
"""

from __future__ import annotations

import json
import logging
import shutil
import subprocess
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch

from configs.registry import ConfigError
from evaluation.judge import SAMPLES, SPEC, Clips, Judge, JudgeNet, Labels, fit, ranks, write
from evaluation.prompts import DATA, Kind, Paraphrase
from media.audio import read_audio
from media.mel import log_mel
from media.refs import MediaError

log = logging.getLogger(__name__)

MANIFEST = Path(__file__).with_name("j2.jsonl")
SOUNDFONT = "timgm6mb-soundfont"
PLACEMENTS = 3  # of every clip: where in the 5.12 s it lies, how often, over which noise floor
NOTES = 6  # clips of every instrument
STEPS = 700  # three to five minutes on one core
TEST_SHARE = 0.3  # of the take families, where a class comes from one package only

# What a class of the benchmark is called by this judge; classes that it cannot have heard are not here.
NAMES: dict[str, str] = {
    "alarm horn": "horn",
    "alarm_clock": "beep",
    "arrow": "arrow",
    "bee": "insect buzz",
    "beeps": "beep",
    "bell": "bell",
    "bicycle_bell": "bell",
    "bow": "arrow",
    "bubbles": "water",
    "church_bell": "bell",
    "cow": "cow",
    "cymbal": "cymbal",
    "dial_tones": "beep",
    "dog": "dog",
    "elephant": "big animal",
    "explosion": "explosion",
    "female scream": "female scream",
    "fire": "fire",
    "fireworks": "explosion",
    "footsteps": "footsteps",
    "footsteps grass": "footsteps",
    "footsteps gravel": "footsteps",
    "footsteps sand": "footsteps",
    "footsteps snow": "footsteps",
    "goat": "sheep",
    "gunshot": "gunshot",
    "hammer": "metal",
    "hand drum": "hand drum",
    "hi-hat": "hi-hat",
    "horse": "horse",
    "impact": "impact",
    "kick drum": "kick drum",
    "laser": "laser",
    "machine": "machine",
    "male scream": "male scream",
    "metal clang": "metal",
    "mosquito": "insect buzz",
    "ocean_waves": "water",
    "owl": "owl",
    "rooster": "poultry",
    "rustle": "rustle",
    "sheep": "sheep",
    "snare drum": "snare drum",
    "songbird": "songbird",
    "sonar": "beep",
    "spaceship": "machine",
    "squish": "squish",
    "stream": "water",
    "success jingle": "jingle",
    "sword": "metal",
    "tabla": "hand drum",
    "thunder": "thunder",
    "tom drum": "tom drum",
    "vacuum_cleaner": "machine",
    "water_drip": "water",
    "whoosh": "whoosh",
    "wind": "wind",
    "wood impact": "impact",
}
INSTRUMENTS: dict[str, tuple[str, ...]] = {  # class -> what the player calls its instruments
    "piano": ("piano",),
    "mallets": ("music box", "vibraphone", "marimba", "xylophone"),
    "organ": ("pipe organ", "accordion", "harmonica"),
    "plucked strings": ("acoustic guitar", "electric guitar", "harp", "banjo"),
    "bowed strings": ("violin", "cello", "strings"),
    "brass": ("trumpet", "trombone", "french horn"),
    "woodwind": ("saxophone", "oboe", "clarinet", "flute", "pan flute"),
}
VOICES = ("en-us", "en-gb", "en-us+f2", "en-us+f4", "en-gb+f3", "en-us+m3", "en-gb+m5", "en-us+m7")
SENTENCES = (
    "The kitchen window was left open overnight.",
    "Seven boats came back before the storm.",
    "Would you like another cup of tea?",
    "He never found out who had written it.",
    "Please read the second page aloud.",
)


class Files(Protocol):
    """The files of an unpacked package."""

    def read(self, path_in_package: str) -> bytes: ...

    def sound(self, path_in_package: str) -> np.ndarray:
        """Mono samples at 16 kHz, silence cut off. Raises MediaError where the file is missing or damaged."""


OpenPackage = Callable[[str, Path], AbstractContextManager[Files]]  # (package, folder for what it stores meanwhile)
Play = Callable[[bytes, str, int], np.ndarray]  # (soundfont, instrument, seed) -> 5.12 s of a melody, mono, 16 kHz


@dataclass(frozen=True)
class Take:
    """One recording of the manifest, or one clip that was rendered: ``family`` holds what belongs to one session."""

    package: str
    path: str
    label: str
    family: str


@dataclass(frozen=True)
class CrossJudge:
    """The trained judge, and which classes of the benchmark it can name."""

    judge: Judge

    @classmethod
    def load(cls, folder: Path) -> CrossJudge:
        """Read what ``build`` wrote. Raises FileNotFoundError naming the file that is missing."""
        return cls(Judge.load(folder))

    @property
    def names(self) -> tuple[str, ...]:
        return self.judge.labels.names

    @property
    def figures(self) -> Mapping[str, Any]:
        """``top1`` and ``top5`` on held-out packages and families, and how they came about."""
        return self.judge.figures

    @property
    def digest(self) -> str:
        return self.judge.digest

    def label_of(self, name: str, kind: Kind) -> str | None:
        """This judge's name for a class of the benchmark, None where it has none."""
        label = NAMES.get(name, name)
        return label if label in self.names else None

    def logits(self, mels: np.ndarray) -> np.ndarray:
        """Log-mels [N, 512, 64] -> logits [N, labels] float32."""
        return self.judge.logits(mels)


def read_manifest(path: Path = MANIFEST) -> list[Take]:
    """All recordings that the judge may learn from, in the order of the file."""
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    return [Take(row["package"], row["path"], row["class"], row["family"]) for row in rows]


def read_prompts(path: Path = DATA / "prompts_j2.jsonl") -> list[Paraphrase]:
    """Prompts for what only this judge can name: instruments and speech."""
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    return [Paraphrase(row["class"], "recorded", row["prompt"]) for row in rows]


# -- clips ----------------------------------------------------------------------------------------------------------


def place(samples: np.ndarray, draw: np.random.Generator) -> np.ndarray:
    """A recording of any length as a clip: a crop, or several copies with gaps, over a faint noise floor: float32 [81920].

    Short recordings padded with silence would teach that silence is a property of the class.
    """
    y = np.zeros(SAMPLES)
    sound = np.asarray(samples, np.float64) / max(float(np.abs(samples).max(initial=0.0)), 1e-6)
    if len(sound) >= SAMPLES:
        start = int(draw.integers(0, len(sound) - SAMPLES + 1))
        y += sound[start : start + SAMPLES]
    else:
        at, left = int(draw.uniform(0, 0.3) * 16_000), int(draw.integers(1, 7))
        while at < SAMPLES and left:
            piece = sound[: SAMPLES - at]
            y[at : at + len(piece)] += piece * draw.uniform(0.7, 1)
            at, left = at + len(sound) + int(draw.uniform(0.05, 1.0) * 16_000), left - 1
    floor = 10 ** (draw.uniform(-70, -40) / 20)
    return (0.7 * y + floor * draw.standard_normal(SAMPLES)).astype(np.float32)


def mels_of(samples: np.ndarray, seed: int) -> np.ndarray:
    """``PLACEMENTS`` log-mels of one recording, float16 [PLACEMENTS, 512, 64]."""
    draw = np.random.default_rng(seed)
    return np.stack([log_mel(place(samples, draw), SPEC) for _ in range(PLACEMENTS)]).astype(np.float16)


def gather(
    takes: Sequence[Take], open_package: OpenPackage, play: Play | None, notify: Callable[[str, int, int], None]
) -> tuple[list[Take], np.ndarray]:
    """Takes that could be had, and their mels [N * PLACEMENTS, 512, 64], a take's placements one after another.

    A file that cannot be read is left out and logged; a package that cannot be had is an error.
    """
    found: list[Take] = []
    mels: list[np.ndarray] = []

    def keep(take: Take, samples: np.ndarray) -> None:
        mels.append(mels_of(samples, len(found)))
        found.append(take)

    with tempfile.TemporaryDirectory() as scratch:
        packages = list(dict.fromkeys(take.package for take in takes))
        for number, package in enumerate(packages):
            notify(f"judge J2: {package}", number, len(packages) + 1)
            with open_package(package, Path(scratch)) as files:
                for take in (take for take in takes if take.package == package):
                    try:
                        keep(take, files.sound(take.path))
                    except MediaError as error:  # renamed in another version, say: the judge learns from the others
                        log.warning("%s: %s: %s", package, take.path, error)
        notify(f"judge J2: {SOUNDFONT}", len(packages), len(packages) + 1)
        if play is not None:
            with open_package(SOUNDFONT, Path(scratch)) as files:
                font = files.read("TimGM6mb.sf2")
            for label, instruments in INSTRUMENTS.items():
                for name in instruments:
                    for seed in range(NOTES):
                        keep(Take(SOUNDFONT, f"{name} {seed}", label, name), play(font, name, seed))
        for voice, sentence, samples in spoken(Path(scratch)):
            keep(Take("espeak-ng", f"{voice} {sentence}", "speech", voice), samples)
    return found, np.concatenate(mels) if mels else np.zeros((0, SAMPLES // SPEC.hop, SPEC.n_mels), np.float16)


def spoken(scratch: Path) -> Iterable[tuple[str, str, np.ndarray]]:
    """(voice, sentence, samples) by espeak-ng; nothing where it is not installed."""
    program = shutil.which("espeak-ng")
    if program is None:
        return
    path = scratch / "said.wav"
    for voice in VOICES:
        for sentence in SENTENCES:
            subprocess.run([program, "-v", voice, "-w", str(path), sentence], check=True, capture_output=True)
            yield voice, sentence, read_audio(path, sample_rate=SPEC.sample_rate, mono=True).samples[0]


# -- what it is measured on -------------------------------------------------------------------------------------------


def held_out(takes: Sequence[Take]) -> dict[int, str]:
    """Which takes the judge is measured on and never learns from: index -> "package" or "family".

    Of a class that comes from several packages the one with the fewest takes is held out whole; of one that comes from one package some
    of the take families. Nothing is held out where nothing would be left to learn from.
    """
    chosen: dict[int, str] = {}
    for label in dict.fromkeys(take.label for take in takes):
        mine = [index for index, take in enumerate(takes) if take.label == label]
        packages = Counter(takes[index].package for index in mine)
        if len(packages) > 1:
            rarest = min(packages, key=lambda name: (packages[name], name))
            chosen |= {index: "package" for index in mine if takes[index].package == rarest}
            continue
        families = sorted({takes[index].family for index in mine})
        count = min(max(1, round(TEST_SHARE * len(families))), len(families) - 1)
        some = {families[place] for place in np.linspace(0, len(families) - 1, count).astype(int)} if count > 0 else set()
        chosen |= {index: "family" for index in mine if takes[index].family in some}
    return chosen


def measure(judge: Judge, takes: Sequence[Take], mels: np.ndarray, tested: Mapping[int, str]) -> dict[str, Any]:
    """Shares on the takes that were held out (mean over classes, so that drums do not outweigh the rest), by what was held out."""
    names = judge.labels.names
    rows = [index for index in tested if takes[index].label in names]
    spread = np.concatenate([np.arange(index * PLACEMENTS, (index + 1) * PLACEMENTS) for index in rows])
    wanted = [takes[index].label for index in rows for _ in range(PLACEMENTS)]
    places = ranks(judge.logits(mels[spread]), names, wanted, names).reshape(-1, PLACEMENTS)
    labels = np.array([takes[index].label for index in rows])
    kinds = np.array([tested[index] for index in rows])

    def share(which: np.ndarray, k: int) -> float:
        return round(float(np.mean([(places[which & (labels == label)] < k).mean() for label in dict.fromkeys(labels[which])])), 4)

    every = np.ones(len(rows), bool)
    return {
        "top1": share(every, 1),
        "top5": share(every, 5),
        "takes": len(rows),
        **{
            f"unseen_{kind}": {"top1": share(kinds == kind, 1), "top5": share(kinds == kind, 5), "takes": int((kinds == kind).sum())}
            for kind in ("package", "family")
            if (kinds == kind).any()
        },
        "by_class": {
            label: [int((labels == label).sum()), share(labels == label, 1), share(labels == label, 5)] for label in sorted(set(labels))
        },
    }


# -- building ---------------------------------------------------------------------------------------------------------


def build(
    folder: Path,
    open_package: OpenPackage,
    play: Play | None = None,
    notify: Callable[[str, int, int], None] = lambda stage, done, of: None,
    *,
    steps: int = STEPS,
    batch: int = 32,
    takes: Sequence[Take] | None = None,
) -> CrossJudge:
    """Gather the recordings, train the judge, measure it, and write it to ``folder`` (config last, so that it is whole or absent).

    Args:
        play: plays the other soundfont; without it the judge knows only instruments that were recorded.
        takes: by default the whole manifest.
    """
    found, mels = gather(read_manifest() if takes is None else takes, open_package, play, notify)
    tested = held_out(found)
    learned = [index for index in range(len(found)) if index not in tested]
    labels = sorted({found[index].label for index in learned})
    if len(labels) < 2:
        raise ConfigError(f"judge J2 needs sounds of two classes at least, got {len(labels)}: were the packages empty?")
    rows = np.concatenate([np.arange(index * PLACEMENTS, (index + 1) * PLACEMENTS) for index in learned])
    targets = np.repeat([labels.index(found[index].label) for index in learned], PLACEMENTS)
    notify("judge J2: training", 0, 1)
    with torch.random.fork_rng():
        net: JudgeNet = fit(Clips(mels[rows], targets.astype(np.int64)), len(labels), steps=steps, batch=batch)
    known = Labels(tuple(labels), (), tuple(labels), {}, {})
    write(net, known, [m.out_channels for m in net.features if isinstance(m, torch.nn.Conv2d)], folder)
    judge = Judge.load(folder)
    figures = measure(judge, found, mels, tested) | {"learned": len(learned), "labels": len(labels), "steps": steps}
    (folder / "figures.json").write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
    notify("judge J2: training", 1, 1)
    return CrossJudge.load(folder)
