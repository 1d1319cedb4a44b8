"""Does a picture alone make the right kind of sound, through a language model's hidden states and through words?

``python -m evaluation.signal_route [--rows FILE]`` judges pictures by both of nano's routes with J1, and what the signal route rests
on: its media prefix zeroed, its hidden states swapped, words beside the picture. FILE names further pictures, paths beside it, a row of
JSON each: {"file", "labels"}, the judge's labels that fit. Without it the test pictures alone are judged.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from encoders.signal_lm import Medium
from evaluation.judge import SHIPPED, Judge
from evaluation.metrics import bootstrap_interval
from evaluation.probes import brightness_hz, level_db
from evaluation.prompts import DATA, PICTURES
from generators.audioldm2 import AudioLDM2
from generators.base import GenerationRequest
from generators.signal_route import SignalConditioner
from media.audio import Audio, read_audio
from media.refs import MediaRef, MediaStore

SECONDS = 5.12
WORDS = "but at night, far away"


@dataclass(frozen=True)
class Shown:
    """A picture and the judge's labels that a fitting sound may have."""

    file: Path
    labels: tuple[str, ...]


def pictures(rows: Path | None) -> list[Shown]:
    """The test pictures that the judge can hear, and those that ``rows`` names."""
    found = [Shown(DATA / "pictures" / picture.file, picture.labels) for picture in PICTURES if picture.labels]
    if rows is not None:
        named = [json.loads(line) for line in rows.read_text("utf-8").splitlines()]
        found += [Shown(rows.parent / row["file"], tuple(row["labels"])) for row in named]
    return found


def fits(top: Sequence[Sequence[str]], shown: Sequence[Shown]) -> np.ndarray:
    """[N] of 0 and 1: whether the judge's first labels of each sound hold one that fits its picture."""
    return np.asarray([float(bool(set(row) & set(picture.labels))) for row, picture in zip(top, shown, strict=True)])


class Bench:
    """Both routes over one store, and the judge."""

    def __init__(self, home: Path, steps: int, say: Callable[[str], None]) -> None:
        self.store, self.steps, self.say, self.judge = MediaStore(home / "store"), steps, say, Judge.load(SHIPPED)
        self.routes = {
            route: AudioLDM2(route, {"checkpoint": "nano", "route": route}, self.store, home) for route in ("caption", "signal")
        }

    @property
    def signal(self) -> SignalConditioner:
        backend = self.routes["signal"]
        backend.load()
        assert isinstance(backend._conditioner, SignalConditioner)
        return backend._conditioner

    def sounds(self, route: str, refs: Sequence[MediaRef], seed: int, words: str = "") -> list[Audio]:
        made = []
        for at in range(0, len(refs), 4):
            requests = [
                GenerationRequest(prompt=words, media=(ref,), seconds=SECONDS, seed=seed, steps=self.steps) for ref in refs[at : at + 4]
            ]
            made += [read_audio(self.store.path(sound.media)) for sound in self.routes[route].generate(requests)]
            self.say(f"{route} {words}: {len(made)} of {len(refs)}")
        return made

    def top(self, sounds: Sequence[Audio], first: int = 5) -> list[list[str]]:
        """The judge's first labels of all for each sound."""
        names = self.judge.labels.names
        return [[names[k] for k in np.argsort(-row)[:first]] for row in self.judge.listen(sounds)]

    def measure(self, shown: Sequence[Shown], seed: int) -> dict[str, Any]:
        refs = [self.store.put_file(picture.file) for picture in shown]
        made = {route: self.sounds(route, refs, seed) for route in ("caption", "signal")}
        told: dict[str, Any] = {"pictures": len(refs), "steps": self.steps, "seed": seed}
        for route, sounds in made.items():
            top = self.top(sounds)
            hits = fits(top, shown)
            told[route] = share(hits) | {"top1": share(fits([row[:1] for row in top], shown)), "test_pictures": float(hits[:5].sum())}
            told[route]["each"] = {p.file.stem: [float(hit), row[:5]] for p, hit, row in zip(shown, hits, top, strict=True)}
        told["zeroed"] = self.zeroed(refs, shown, seed)
        told["swapped"] = self.swapped(refs, shown, seed, fits(self.top(made["signal"]), shown))
        told["words"] = self.worded(refs[:12], made["signal"][:12], seed)
        return told

    def zeroed(self, refs: Sequence[MediaRef], shown: Sequence[Shown], seed: int) -> dict[str, Any]:
        """The prefix holds no picture: then all pictures have the same sounds, here four of other seeds."""
        nothing: Medium = ("image", torch.zeros(384))
        with replaced(self.signal, "medium", lambda ref: nothing):
            top = [self.top(self.sounds("signal", refs[:1], seed + k))[0] for k in range(4)]
        hits = np.concatenate([fits([row] * len(shown), shown) for row in top])
        kinds = len({label for row in top for label in row[:1]})
        by_chance = np.mean([len(p.labels) for p in shown]) * 5 / len(self.judge.labels.names)
        return share(hits) | {"chance": round(float(by_chance), 3), "first_labels": kinds}

    def swapped(self, refs: Sequence[MediaRef], shown: Sequence[Shown], seed: int, heard: np.ndarray) -> dict[str, Any]:
        """Each request is given the hidden states of the next picture of another kind.

        Args:
            heard: [N] of 0 and 1: which pictures are heard rightly by their own states; of the others a swap can show nothing.
        """
        conditioner, plain = self.signal, self.signal.signals
        order = [next(j for k in range(1, len(shown)) if apart(shown[i], shown[j := (i + k) % len(shown)])) for i in range(len(shown))]
        states = [plain("", [conditioner.medium(ref)]) for ref in refs]
        queue = iter([states[j] for j in order])
        with replaced(conditioner, "signals", lambda words, media: next(queue)):
            top = self.top(self.sounds("signal", refs, seed + 100))
        other, own = fits(top, [shown[j] for j in order]), fits(top, shown)
        could = heard[order] > 0
        told = {"follows_other": share(other), "follows_own": share(own), "each": other.tolist(), "order": order}
        return told | ({"follows_other_of_heard": share(other[could])} if could.any() else {})

    def worded(self, refs: Sequence[MediaRef], before: Sequence[Audio], seed: int) -> dict[str, Any]:
        """Level, brightness and how much of a cricket (night's sound in training) the judge hears, with words beside the pictures."""
        after, again = self.sounds("signal", refs, seed, WORDS), self.sounds("signal", refs, seed, "close up")
        told: dict[str, Any] = {"words": WORDS, "pictures": len(refs)}
        cricket = self.judge.labels.names.index("cricket")
        for name, value in (
            ("level_db", lambda sound: level_db(sound.samples[0])),
            ("brightness_hz", lambda sound: brightness_hz(sound.samples[0])),
            ("cricket", lambda sound: float(self.judge.listen([sound])[0][cricket])),
        ):
            rows = [[value(sound) for sound in sounds] for sounds in (before, after, again)]
            told[name] = {key: round(float(np.median(row)), 1) for key, row in zip(("without", "far", "close"), rows, strict=True)}
            told[name]["lower_in"] = float(np.mean(np.asarray(rows[1]) < np.asarray(rows[0])))
            told[name]["far_below_close_in"] = float(np.mean(np.asarray(rows[1]) < np.asarray(rows[2])))
        return told


def apart(a: Shown, b: Shown) -> bool:
    return not set(a.labels) & set(b.labels)


def share(hits: np.ndarray) -> dict[str, Any]:
    low, high = bootstrap_interval(hits, list(range(len(hits))))
    return {"share": round(float(hits.mean()), 3), "interval": [round(float(low), 3), round(float(high), 3)], "n": len(hits)}


class replaced:
    """One method of an object is another function within a block."""

    def __init__(self, owner: object, name: str, function: Callable[..., Any]) -> None:
        self.owner, self.name, self.function = owner, name, function

    def __enter__(self) -> None:
        setattr(self.owner, self.name, self.function)

    def __exit__(self, *_: object) -> None:
        delattr(self.owner, self.name)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rows", type=Path, help="further pictures, see above")
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--home", type=Path, help="keeps the sounds; default: a temporary folder")
    given = parser.parse_args(arguments)
    import sys

    with tempfile.TemporaryDirectory(prefix="loa-signal-") as folder:
        bench = Bench(given.home or Path(folder), given.steps, lambda line: print(line, file=sys.stderr, flush=True))
        print(json.dumps(bench.measure(pictures(given.rows), given.seed)))


if __name__ == "__main__":
    main()
