"""How much of a picture or a sound survives the bridge (encoders/bridge.py), measured on the embedded checkpoint.

nano is made to stand where the public AudioLDM 2 stands: it hears through a bridge that captions alone have fitted, and the captions
nearest to what has crossed fill the slot of its text states. Its own small joint space (encoders/clap.py) takes ImageBind's place. What
comes out is named by judge J1 and set against the same things said in words, and against sounds of other inputs.

Knows the protocol. Fitting and the true sounds are handed in: evaluation knows no training. No judge takes part in making a sound.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from configs.registry import ConfigError
from encoders.base import Condition
from encoders.bridge import Bridge
from encoders.clap import AudioLabeller, image_vector
from encoders.eye import Eye
from encoders.text import SentenceEncoder, pool
from evaluation.cost import SECONDS
from evaluation.judge import SHIPPED, Judge, mel_of
from evaluation.making import ROWS, OnProgress, open_checkpoint
from evaluation.metrics import bootstrap_interval
from evaluation.verdicts import rounded
from generators.audioldm2 import AudioLDM2
from generators.base import GenerationRequest
from generators.conditioning import HubConditioner
from media.audio import Audio, read_audio
from media.image import load_image
from media.refs import MediaStore

Fit = Callable[[Sequence[str], Tensor, Tensor, Mapping[str, Tensor]], Bridge]  # training.bridge.fit_bridge
EXAMPLE_SEED = 31_000_000  # of the sounds whose mean stands for their kind; those that are judged have other ones
TRIED_SEED = 32_000_000


@dataclass(frozen=True)
class Shown:
    """A picture of some folder, what it shows in words, and the judge's labels that a fitting sound may have."""

    file: str
    says: str
    accepts: tuple[str, ...]


@dataclass(frozen=True)
class Trial:
    """An input, said in words as well; ``given`` is what the joint space reads of it."""

    name: str
    given: np.ndarray | Audio
    says: str
    accepts: tuple[str, ...]


def read_shown(path: Path) -> list[Shown]:
    """The pictures of a benchmark, a row of JSON each: {"file", "says", "accepts"}. Raises ConfigError."""
    try:
        rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        return [Shown(row["file"], row["says"], tuple(row["accepts"])) for row in rows]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigError(f'{path} names no pictures ({error}): it takes rows {{"file", "says", "accepts"}}') from error


class JointSpace:
    """Words, pictures and sounds of nano as vectors [B, 1, 384] of one space, as ImageBind gives them for AudioLDM 2."""

    name, width = "nano-joint", 384

    def __init__(self, labeller: AudioLabeller) -> None:
        self._text, self._images, self._labeller = SentenceEncoder(), Eye(), labeller

    def load(self) -> None:
        for part in (self._text, self._images, self._labeller):
            part.load()

    def sample_input(self) -> list[Any]:
        return self._text.sample_input()

    def encode(self, inputs: list[Any]) -> Condition:
        rows = torch.stack([self._vector(given) for given in inputs])[:, None]
        return Condition("clap", rows, torch.ones(len(inputs), 1, dtype=torch.bool))

    def _vector(self, given: str | np.ndarray | Audio) -> Tensor:
        if isinstance(given, Audio):
            return self._labeller.encode([given]).states[0, 0]
        if isinstance(given, str):
            return torch.from_numpy(self._text.sentences([given])[0])
        # By what it sounds like: a name of two meanings ("tick") would lie near the wrong one.
        return torch.from_numpy(image_vector(self._images.heard([given]) or self._images.labels([given], top=10), self._text))


class BridgedNano(HubConditioner):
    """nano's writer and U-Net behind the reader that the public checkpoints have; their two text encoders are its one.

    A loudness curve is lent to the caption that has crossed as to any words, so that both ways are the same after the bridge.
    """

    def __init__(self, backend: AudioLDM2, writer: Any, bridge: Bridge, space: JointSpace) -> None:
        self._by_words = backend._conditioner
        self._sentences = SentenceEncoder(backend.config.text_length)
        super().__init__(
            backend.store, None, writer, text_length=backend.config.text_length, uncond_loa="zeros", bridge=(bridge, space)
        )

    def one_sound(self, request: GenerationRequest) -> str | None:
        assert self._reader is not None
        inputs = [self._perceived(ref) for ref in request.media if ref.kind != "condition"]
        words = request.prompt or (self._reader.read(inputs, None)[2] if inputs else "")
        return self._by_words.one_sound(GenerationRequest(prompt=words, seconds=request.seconds)) if words else None

    def clap(self, words: str, model: Any = None) -> Condition:
        return Condition("clap", pool(self._sentences.tokens([words]))[:, None], torch.ones(1, 1, dtype=torch.bool))

    def t5(self, words: str, length: int = 0) -> Condition:
        tokens = self._sentences.tokens([words])
        real = int(tokens.mask.sum())
        return Condition("t5", tokens.states[:, :real], tokens.mask[:, :real])

    def _null(self, request: GenerationRequest, loa: Condition, text: Condition) -> tuple[Condition, Condition]:
        return loa.null(), text.null()  # as nano was trained


def places(logits: np.ndarray, names: Sequence[str], among: Sequence[str], accepts: Sequence[Sequence[str]]) -> np.ndarray:
    """How many wrong labels of ``among`` score above the best right one, per row. Ties count against it.

    >>> places(np.array([[3.0, 9.0, 1.0, 2.0]]), ["a", "b", "c", "d"], ["a", "b", "c"], [("c", "a")]).tolist()
    [1]
    """
    columns = {name: index for index, name in enumerate(names)}
    told = []
    for row, right in zip(logits, accepts, strict=True):
        best = max(row[columns[name]] for name in right)
        told.append(sum(row[columns[name]] >= best for name in among if name not in right))
    return np.array(told)


def shuffled(
    logits: np.ndarray, names: Sequence[str], among: Sequence[str], accepts: Sequence[Sequence[str]], k: int = 5
) -> np.ndarray:
    """For each row: how often its sound would pass for that of another input that shares no label with it, 0..1.

    This is every shuffling of the inputs at once: what a system scores that does not look at them.
    """
    shares = []
    for row, right in zip(logits, accepts, strict=True):
        others = [other for other in accepts if not set(other) & set(right)]
        shares.append(float((places(np.repeat(row[None], len(others), 0), names, among, others) < k).mean()))
    return np.array(shares)


def ratio_interval(ours: np.ndarray, theirs: np.ndarray, groups: Sequence[int], draws: int = 2000) -> list[float]:
    """95 % bootstrap interval of mean(ours) / mean(theirs); whole inputs are drawn, on both sides the same."""
    draw, numbers = np.random.default_rng(0), np.unique(groups)
    sums = np.array([[side[np.asarray(groups) == number].sum() for number in numbers] for side in (ours, theirs)])
    picked = draw.integers(0, len(numbers), (draws, len(numbers)))
    over = sums[0][picked].sum(1) / np.maximum(sums[1][picked].sum(1), 1e-9)
    return rounded([float(q) for q in np.quantile(over, (0.025, 0.975))])


class Crossing:
    """The embedded checkpoint with a bridge before it.

    Args:
        captions: what the bridge is fitted on; ``pictures``, ``sounds``: what stands for their kinds, and is not judged.
    """

    def __init__(
        self,
        folder: Path,
        store: MediaStore,
        captions: Sequence[str],
        fit: Fit,
        pictures: Sequence[np.ndarray],
        sounds: Sequence[Audio],
    ) -> None:
        self.backend = open_checkpoint(folder, store)
        self.backend.load()
        self.space = JointSpace(self.backend.labeller)
        self.judge = Judge.load(SHIPPED)
        self._own = self.backend._conditioner
        writer = self._own._writer  # type: ignore[attr-defined]
        words = self.space.encode(list(captions)).states[:, 0]
        examples = {"vision": self.space.encode(list(pictures)).states[:, 0], "audio": self.space.encode(list(sounds)).states[:, 0]}
        self.bridge = fit(captions, words, words, examples)
        self._bridged = BridgedNano(self.backend, writer, self.bridge, self.space)

    def sounds(self, trials: Sequence[Trial], seeds: Sequence[int], steps: int, *, by_words: bool) -> list[Audio]:
        """One sound for each input and seed: of the input through the bridge, or of what it is in words, nano's usual way."""
        self.backend._conditioner = self._own if by_words else self._bridged
        requests = []
        for trial in trials:
            if by_words:
                asked: dict[str, Any] = {"prompt": trial.says}
            elif isinstance(trial.given, Audio):
                asked = {"media": (self.backend.store.put_audio(trial.given),)}
            else:
                from media.image import encode_png

                asked = {"media": (self.backend.store.put_bytes(encode_png(trial.given), "image/png", "image"),)}
            requests += [GenerationRequest(**asked, seconds=SECONDS, seed=seed, steps=steps) for seed in seeds]
        made = self.backend.generate(requests, rows=ROWS)
        return [read_audio(self.backend.store.path(one.media)) for one in made]

    def measure(self, trials: Sequence[Trial], seeds: Sequence[int], steps: int, notify: OnProgress, what: str) -> dict[str, Any]:
        """Shares among the judge's first one and five, by the bridge and by words, with 95 % intervals over inputs."""
        accepts = [trial.accepts for trial in trials for _ in seeds]
        groups = [index for index, _ in enumerate(trials) for _ in seeds]
        names, among = self.judge.labels.names, self.judge.labels.procedural
        told: dict[str, Any] = {"inputs": len(trials), "n": len(groups)}
        hits, heard = {}, {}
        for number, (key, by_words) in enumerate((("bridge", False), ("words", True))):
            notify(f"{what} by {key}", number, 2)
            heard[key] = self.judge.logits(np.stack([mel_of(s) for s in self.sounds(trials, seeds, steps, by_words=by_words)]))
            place = places(heard[key], names, among, accepts)
            hits[key] = (place < 5).astype(float)
            told[key] = {
                f"top{k}": {
                    "share": round(float((place < k).mean()), 4),
                    "interval": rounded(bootstrap_interval((place < k).astype(float), groups)),
                }
                for k in (1, 5)
            }
        chance = shuffled(heard["bridge"], names, among, accepts)
        told["of_words_top5"] = {
            "ratio": round(float(hits["bridge"].mean() / max(hits["words"].mean(), 1e-9)), 4),
            "interval": ratio_interval(hits["bridge"], hits["words"], groups),
        }
        told["shuffled_top5"] = {"share": round(float(chance.mean()), 4), "interval": rounded(bootstrap_interval(chance, groups))}
        told["blind_top5"] = round(float(np.mean([min(1.0, 5 * len(right) / len(among)) for right in accepts])), 4)
        told["each"] = {
            trial.name: {key: float(hits[key].reshape(len(trials), -1)[index].mean()) for key in hits}
            | {"caption": self.nearest(trial)}
            for index, trial in enumerate(trials)
        }
        return told

    def nearest(self, trial: Trial) -> str:
        """The caption nearest to what has crossed."""
        kind = "audio" if isinstance(trial.given, Audio) else "vision"
        return self.bridge.captions(self.bridge.to_clap(self.space.encode([trial.given]).states[0, 0], kind), 1)[0][0]


def run(
    folder: Path,
    pictures: Path,
    rows: Path,
    captions: Sequence[str],
    fit: Fit,
    synthesise: Callable[[str, int], Audio],
    store: MediaStore,
    notify: OnProgress,
    *,
    seeds: Sequence[int] = (0, 1),
    steps: int = 8,
) -> dict[str, Any]:
    """The figures of ``loa bench bridge``.

    Args:
        folder: a nano checkpoint.
        pictures: a folder; those that ``rows`` names are asked about, pieces of the others stand for what pictures are like.
        captions: what the bridge is fitted on; ``synthesise``: a true sound of a procedural class by its seed.

    Raises:
        ConfigError: pictures or rows are not there, or every picture is asked about.
    """
    shown = read_shown(rows)
    missing = [row.file for row in shown if not (pictures / row.file).is_file()]
    if missing:
        raise ConfigError(f"{pictures} lacks {len(missing)} of the {len(shown)} pictures that {rows.name} names ({missing[0]}, …)")
    tried = {(pictures / row.file).resolve() for row in shown}
    others = [path for path in sorted(pictures.rglob("*")) if path.suffix in (".png", ".jpg") and path.resolve() not in tried]
    if not others:
        raise ConfigError(f"every picture of {pictures} is asked about: others are needed to tell what pictures have in common")
    notify("fitting", 0, 1)
    labels = Judge.load(SHIPPED).labels.procedural
    pieces = [piece for path in others for piece in _pieces(load_image(path))]
    crossing = Crossing(folder, store, captions, fit, pieces, [synthesise(name, EXAMPLE_SEED) for name in labels])
    seen = [Trial(row.file, load_image(pictures / row.file), row.says, row.accepts) for row in shown]
    heard = [Trial(name, synthesise(name, TRIED_SEED), name.replace("_", " "), (name,)) for name in labels]
    return {
        "checkpoint": folder.name,
        "steps": steps,
        "seeds": list(seeds),
        "captions": len(captions),
        "bridge": dict(crossing.bridge.about),
        "pictures": crossing.measure(seen, seeds, steps, notify, "pictures"),
        "sounds": crossing.measure(heard, seeds[:1], steps, notify, "sounds"),
    }


def _pieces(picture: np.ndarray) -> list[np.ndarray]:
    """A picture [H, W, 3] and its four quarters."""
    middle, centre = picture.shape[0] // 2, picture.shape[1] // 2
    rows, columns = (slice(0, middle), slice(middle, None)), (slice(0, centre), slice(centre, None))
    return [picture, *(picture[row, column] for row in rows for column in columns)]
