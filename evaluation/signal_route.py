"""Does a picture alone make the right kind of sound through a language model's hidden states, and do those states carry it?

``python -m evaluation.signal_route [--rows FILE] [-o FILE]`` makes in one run, of the same pictures with the same seeds, sounds by both
of nano's routes (words and hidden states), with the media prefix zeroed, with the hidden states of another picture, and with words
beside the picture. Judge J1 listens. FILE names further pictures, paths beside it, a row of JSON each: {"file", "labels"}, the
judge's labels that fit. Without it the test pictures alone are judged. Pictures come eight at a time in a drawn order, partners are
among the eight, and the figures are written after each eight: a run that is stopped tells of those that it had.

A sound *follows* the other picture in three senses, none of which implies another (docs/signal.md argues them): ``forced``, the judge
finds a label of the other picture likelier than every label of the own one; ``heard``, a label of the other picture is among its first
five, as ``heard_by_itself`` tells for the other picture's own states; ``nearer``, an ear that is not the judge finds the sound nearer
to the other picture's sounds of other seeds than to the own picture's.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from encoders.clap import AudioLabeller
from encoders.signal_lm import Medium
from evaluation.judge import SHIPPED, Judge
from evaluation.metrics import bootstrap_interval
from evaluation.probes import brightness_hz, level_db
from evaluation.prompts import DATA, PICTURES
from generators.audioldm2 import AudioLDM2
from generators.base import GenerationRequest
from generators.scene import Layer
from generators.signal_route import SignalConditioner
from media.audio import Audio, read_audio
from media.mel import MelSpec, log_mel
from media.refs import MediaRef, MediaStore, write_whole

SECONDS = 5.12
FIRST = 5  # of the judge's labels
FAR, CLOSE = "but at night, far away", "close up"
ROWS = 8  # pictures at once, in rows of one number: so a sound does not depend on how many are left
RESAMPLES = 2000
BESIDE = 24  # pictures beside which words are said


@dataclass(frozen=True)
class Shown:
    """A picture and the judge's labels that a fitting sound may have."""

    file: Path
    labels: tuple[str, ...]

    @property
    def drawn(self) -> bool:
        return self.file.parent.name == "drawings"


def pictures(rows: Path | None) -> list[Shown]:
    """The test pictures that the judge can hear, and those that ``rows`` names beside them."""
    found = [Shown(DATA / "pictures" / picture.file, picture.labels) for picture in PICTURES if picture.labels]
    known = {picture.file.name for picture in found}
    if rows is not None:
        named = [json.loads(line) for line in rows.read_text("utf-8").splitlines()]
        found += [Shown(rows.parent / row["file"], tuple(row["labels"])) for row in named if Path(row["file"]).name not in known]
    return found


# -- figures -----------------------------------------------------------------------------------------------------------


def fits(logits: np.ndarray, shown: Sequence[Shown], names: Sequence[str], first: int = FIRST) -> np.ndarray:
    """[N] of 0 and 1: whether the ``first`` likeliest labels of each row of logits [N, L] hold one that fits its picture."""
    told = []
    for row, picture in zip(logits, shown, strict=True):
        told.append(float(any(names[k] in picture.labels for k in np.argsort(-row)[:first])))
    return np.asarray(told)


def chosen(logits: np.ndarray, others: Sequence[Shown], owns: Sequence[Shown], names: Sequence[str]) -> np.ndarray:
    """[N] of 0 and 1: whether the likeliest label of the other picture is likelier than that of the own one."""

    def best(row: np.ndarray, picture: Shown) -> float:
        return max(float(row[names.index(label)]) for label in picture.labels)

    return np.asarray([float(best(row, j) > best(row, i)) for row, j, i in zip(logits, others, owns, strict=True)])


def nearer(sounds: np.ndarray, others: np.ndarray, owns: np.ndarray) -> np.ndarray:
    """[N] of 0, 0.5 and 1: whether vectors [N, D] have larger mean cosines with ``others`` [N, K, D] than with ``owns`` [N, K, D]."""

    def cosine(them: np.ndarray) -> np.ndarray:
        dots = np.einsum("nd,nkd->nk", sounds, them)
        mean: np.ndarray = (dots / np.linalg.norm(them, axis=2) / np.linalg.norm(sounds, axis=1)[:, None]).mean(1)
        return mean

    return (1 + np.sign(cosine(others) - cosine(owns))) / 2


def by_chance(logits: np.ndarray, shown: Sequence[Shown], names: Sequence[str], first: int = FIRST) -> float:
    """How often sounds fit pictures that they were not made of: the mean over all pairs of two different pictures."""
    rows = [fits(np.repeat(row[None], len(shown), 0), shown, names, first) for row in logits]
    table = np.stack(rows)
    return float(table[~np.eye(len(shown), dtype=bool)].mean())


def partners(shown: Sequence[Shown], turn: int) -> list[int]:
    """For each picture another one none of whose labels it has; another partner for every ``turn``, as far as there are.

    Raises:
        ValueError: a picture shares a label with every other.
    """
    found = []
    for i, picture in enumerate(shown):
        apart = [j for k in range(1, len(shown)) if not set(shown[j := (i + k) % len(shown)].labels) & set(picture.labels)]
        if not apart:
            raise ValueError(f"all pictures that are judged with {picture.file.name} share a label with it; give more kinds")
        found.append(apart[turn % len(apart)])
    return found


def over_pairs(logits: np.ndarray, shown: Sequence[Shown], names: Sequence[str]) -> dict[str, Any]:
    """``chosen`` over all pairs of pictures that share no label, for sounds with logits [P, L] of their own states.

    Where a swapped sound is the other picture's own one, sample for sample, this is ``forced`` for every partner that there is. The
    interval is by bootstrap over pictures, on both sides of the pair.
    """
    count = len(shown)
    apart = [(i, j) for i in range(count) for j in range(count) if not set(shown[i].labels) & set(shown[j].labels)]
    own, other = (list(side) for side in zip(*apart, strict=True))
    table = np.full((count, count), np.nan)
    table[own, other] = chosen(logits[other], [shown[j] for j in other], [shown[i] for i in own], names)
    draw, means = np.random.default_rng(0), []
    for _ in range(RESAMPLES):
        drawn = draw.integers(count, size=count)
        part = table[np.ix_(drawn, drawn)]
        if np.isfinite(part).any():
            means.append(np.nanmean(part))
    low, high = np.percentile(means, [2.5, 97.5])
    return {"mean": round(float(np.nanmean(table)), 3), "interval": [round(float(low), 3), round(float(high), 3)], "pairs": len(apart)}


def told(values: np.ndarray, digits: int = 3) -> dict[str, Any]:
    """The mean of [P, K] values of K seeds and P pictures, with an interval by bootstrap over pictures."""
    groups = np.repeat(np.arange(len(values)), values.shape[1])
    low, high = bootstrap_interval(values.flatten(), groups)
    return {"mean": round(float(values.mean()), digits), "interval": [round(float(low), digits), round(float(high), digits)]}


def shape_of(sound: Audio) -> np.ndarray:
    """Mean and spread over time of a sound's log-mel spectrum, [128]: an ear that nobody trained."""
    mel = log_mel(sound.samples[0], MelSpec())
    return np.concatenate([mel.mean(0), mel.std(0)])


# -- sounds ------------------------------------------------------------------------------------------------------------


class Bench:
    """Both routes over one store, the judge, and ears."""

    def __init__(self, home: Path, steps: int, say: Callable[[str], None]) -> None:
        self.store, self.steps, self.say, self.judge = MediaStore(home / "store"), steps, say, Judge.load(SHIPPED)
        self.routes = {
            route: AudioLDM2(route, {"checkpoint": "nano", "route": route}, self.store, home) for route in ("caption", "signal")
        }
        self.tower = AudioLabeller()

    @property
    def signal(self) -> SignalConditioner:
        backend = self.routes["signal"]
        backend.load()
        assert isinstance(backend._conditioner, SignalConditioner)
        return backend._conditioner

    def sounds(self, route: str, refs: Sequence[MediaRef], seeds: Sequence[int], words: str = "") -> list[Audio]:
        """One sound of each picture, with a seed of its own or all with one."""
        each = [*seeds] if len(seeds) > 1 else [*seeds] * len(refs)
        requests = [
            GenerationRequest(prompt=words, media=(ref,), seconds=SECONDS, seed=seed, steps=self.steps)
            for ref, seed in zip(refs, each, strict=True)
        ]
        return [read_audio(self.store.path(sound.media)) for sound in self.routes[route].generate(requests, rows=ROWS)]

    def swapped(self, refs: Sequence[MediaRef], others: Sequence[MediaRef], seed: int) -> list[Audio]:
        """Requests for ``refs``; where the language model has read one, its hidden states are replaced by those of the other."""
        conditioner, plain = self.signal, self.signal.signals
        instead = {key(conditioner.medium(i)): conditioner.medium(j) for i, j in zip(refs, others, strict=True)}

        def signals(words: str, media: list[Medium]) -> Tensor:
            return plain(words, [instead[key(medium)] for medium in media])

        with replaced(conditioner, "signals", signals):
            return self.sounds("signal", refs, [seed])

    def nothing(self, picture: Shown, seeds: Sequence[int]) -> np.ndarray:
        """The judge's logits [K, L] of sounds whose prefix holds no picture: all pictures then have these."""
        conditioner, ref = self.signal, self.store.put_file(picture.file)
        _, vector = conditioner.medium(ref)
        with replaced(conditioner, "medium", lambda ref: ("image", torch.zeros_like(vector))):
            return self.judge.listen(self.sounds("signal", [ref] * len(seeds), seeds))

    def unplaced(self, refs: Sequence[MediaRef], seed: int, words: str) -> list[Audio]:
        """With words that reach the sound through the hidden states alone: nothing is made far or near afterwards."""
        with replaced(self.routes["signal"], "_layers", lambda r: [Layer(r.prompt, 0.0, r.seconds, r.seconds)]):
            return self.sounds("signal", refs, [seed], words)

    def made(self, shown: Sequence[Shown], seeds: Sequence[int], *, worded: bool) -> Heard:
        """All sounds of a few pictures, as they are heard; partners are among these."""
        refs, sounds = [self.store.put_file(picture.file) for picture in shown], dict[str, list[list[Audio]]]()
        order = [partners(shown, turn) for turn in range(len(seeds))]
        for turn, seed in enumerate(seeds):
            for route in ("caption", "signal"):
                sounds.setdefault(route, []).append(self.sounds(route, refs, [seed]))
            sounds.setdefault("swapped", []).append(self.swapped(refs, [refs[j] for j in order[turn]], seed))
        for kind, words in (("far", FAR), ("close", CLOSE)) if worded else ():
            sounds[kind] = [self.sounds("signal", refs, seeds[:1], words)]
            sounds[f"{kind}_by_states"] = [self.unplaced(refs, seeds[0], words)]
        logits = {kind: np.stack([self.judge.listen(row) for row in rows], 1) for kind, rows in sounds.items()}
        ears = {
            f"{kind}/{name}": np.stack([[ear(sound) for sound in row] for row in sounds[kind]], 1)
            for kind in ("signal", "swapped")
            for name, ear in (("audio_tower", self.tower_of), ("log_mel", shape_of))
        }
        levels = {
            f"{kind}/{name}": np.asarray([value(sound.samples[0]) for sound in rows[0]])
            for kind, rows in sounds.items()
            for name, value in (("level_db", level_db), ("brightness_hz", brightness_hz))
        }
        same = [[np.array_equal(sounds["swapped"][k][i].samples, sounds["signal"][k][j].samples) for k, j in enumerate(row)]
                for i, row in enumerate(zip(*order, strict=True))]  # fmt: skip
        return Heard(list(shown), np.asarray(order).T, logits, ears, levels, np.asarray(same, float), worded)

    def tower_of(self, sound: Audio) -> np.ndarray:
        vector: np.ndarray = self.tower.encode([sound]).states[0, 0].numpy()
        return vector


@dataclass(frozen=True)
class Heard:
    """What was heard of P pictures with K seeds: ``order`` [P, K] partners, ``logits`` kind -> [P, K, L], ``ears`` kind/ear ->
    [P, K, D], ``levels`` kind/value -> [P], ``same`` [P, K]."""

    shown: list[Shown]
    order: np.ndarray
    logits: dict[str, np.ndarray]
    ears: dict[str, np.ndarray]
    levels: dict[str, np.ndarray]
    same: np.ndarray
    worded: bool

    def __add__(self, more: Heard) -> Heard:
        def both(a: dict[str, np.ndarray], b: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
            return {name: np.concatenate([rows, b[name]]) if name in b else rows for name, rows in a.items()}

        order = np.concatenate([self.order, more.order + len(self.shown)])
        logits, ears, levels = both(self.logits, more.logits), both(self.ears, more.ears), both(self.levels, more.levels)
        return Heard(self.shown + more.shown, order, logits, ears, levels, np.concatenate([self.same, more.same]), self.worded)


def report_of(heard: Heard, nothing: np.ndarray, names: Sequence[str], about: dict[str, Any]) -> dict[str, Any]:
    """All figures as plain values."""
    shown, seeds = heard.shown, range(heard.order.shape[1])
    drawn = np.asarray([picture.drawn for picture in shown])

    def hits(kind: str, of: Sequence[Sequence[Shown]], first: int = FIRST) -> np.ndarray:
        return np.stack([fits(heard.logits[kind][:, k], of[k], names, first) for k in seeds], axis=1)

    own = [shown for _ in seeds]
    report: dict[str, Any] = about | {"pictures": len(shown), "photographs": int((~drawn).sum())}
    routes = {route: hits(route, own) for route in ("caption", "signal")}
    for route, values in routes.items():
        report[route] = {"top5": told(values), "top1": told(hits(route, own, 1))}
        for kind, mine in (("photographs", ~drawn), ("drawings", drawn)):
            report[route] |= {kind: told(values[mine])} if mine.any() else {}
    report["signal_minus_caption"] = told(routes["signal"] - routes["caption"])
    zeroed = np.stack([fits(np.repeat(row[None], len(shown), 0), shown, names) for row in nothing], axis=1)
    report["zeroed"] = told(zeroed) | {
        "chance": round(float(np.mean([by_chance(heard.logits["signal"][:, k], shown, names) for k in seeds])), 3),
        "first_labels": [names[int(row.argmax())] for row in nothing],
    }
    report["swapped"] = following(heard, names, routes["signal"], hits("swapped", own))
    report["words"] = beside(heard, names)
    return report | {"each": {p.file.stem: {route: routes[route][k].tolist() for route in routes} for k, p in enumerate(shown)}}


def following(heard: Heard, names: Sequence[str], itself: np.ndarray, as_own: np.ndarray) -> dict[str, Any]:
    """Do sounds follow the states put in? By the own picture: own sounds ``itself``, swapped ones ``as_own`` [P, K]."""
    shown, order, seeds = heard.shown, heard.order, range(heard.order.shape[1])
    others = [[shown[j] for j in order[:, k]] for k in seeds]
    follows = np.stack([fits(heard.logits["swapped"][:, k], others[k], names) for k in seeds], axis=1)
    forced = np.stack([chosen(heard.logits["swapped"][:, k], others[k], shown, names) for k in seeds], axis=1)
    with_own = np.stack([chosen(heard.logits["signal"][:, k], shown, others[k], names) for k in seeds], axis=1)
    bound = np.stack([itself[order[:, k], k] for k in seeds], axis=1)
    first = heard.logits["signal"].argmax(2)
    report = {
        "n": int(order.size),
        "same_samples_as_the_other_pictures_own": round(float(heard.same.mean()), 3),
        "both_pictures_of_one_first_label": round(float(np.mean([first[:, k] == first[order[:, k], k] for k in seeds])), 3),
        "forced": told(forced),
        "forced_with_own_states": told(with_own),
        "forced_over_all_pairs": over_pairs(heard.logits["signal"][:, 0], shown, names),
        "heard": told(follows),
        "heard_by_itself": told(bound),
        "heard_as_own": told(as_own),
        "heard_of_those_heard_by_themselves": {"mean": round(float(follows[bound > 0].mean()), 3), "n": int((bound > 0).sum())}
        if bound.any()
        else None,
    }
    if len(seeds) > 1:
        report["nearer"] = {name: told(near(heard, name)) for name in ("audio_tower", "log_mel")}
    return report


def near(heard: Heard, ear: str) -> np.ndarray:
    """[P, K]: are swapped sounds nearer to the other picture's sounds of other seeds than to the own picture's?"""
    own, swapped = heard.ears[f"signal/{ear}"], heard.ears[f"swapped/{ear}"]
    mean, spread = own.mean((0, 1)), own.std((0, 1)) + 1e-6
    own, swapped, columns = (own - mean) / spread, (swapped - mean) / spread, []
    for k in range(own.shape[1]):
        rest = [turn for turn in range(own.shape[1]) if turn != k]
        columns.append(nearer(swapped[:, k], own[heard.order[:, k]][:, rest], own[:, rest]))
    return np.stack(columns, axis=1)


def beside(heard: Heard, names: Sequence[str]) -> dict[str, Any]:
    """Level, brightness and the place of a cricket (night's sound in training) in the judge's order, with words and without."""
    few, cricket = len(heard.logits["far"]), list(names).index("cricket")
    report: dict[str, Any] = {"far": FAR, "close": CLOSE, "pictures": few}
    for kind in ("", "_by_states"):
        part: dict[str, Any] = {}
        for name in ("level_db", "brightness_hz"):
            plain, far, close = (heard.levels[f"{of}/{name}"][:few] for of in ("signal", "far" + kind, "close" + kind))
            part[name] = {
                "medians": [round(float(np.median(row)), 1) for row in (plain, far, close)],
                "far_minus_without": told((far - plain)[:, None], 2),
                "far_minus_close": told((far - close)[:, None], 2),
                "far_below_without": round(float(np.mean(far < plain)), 3),
                "far_below_close": round(float(np.mean(far < close)), 3),
            }
        rows = [heard.logits[of][:few, 0] for of in ("signal", "far" + kind)]
        part["places_of_a_cricket"] = [told((row > row[:, [cricket]]).sum(1)[:, None].astype(float), 1) for row in rows]
        report["through_states_alone" if kind else "as_shipped"] = part
    return report


def key(medium: Medium) -> bytes:
    return medium[1].numpy().tobytes()


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
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--home", type=Path, help="keeps the sounds, and may hold checkpoints/signal; default: a temporary folder")
    parser.add_argument("-o", "--out", type=Path, help="where the figures go; default: stdout")
    given = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="loa-signal-") as folder:
        bench = Bench(given.home or Path(folder), given.steps, lambda line: print(line, file=sys.stderr, flush=True))
        shown = pictures(given.rows)
        shown = [shown[k] for k in np.random.default_rng(0).permutation(len(shown))]
        nothing, heard, text = bench.nothing(shown[0], given.seeds), None, ""
        for at in range(0, len(shown), ROWS):
            more = bench.made(shown[at : at + ROWS], given.seeds, worded=at < BESIDE)
            heard = more if heard is None else heard + more
            report = report_of(heard, nothing, bench.judge.labels.names, {"seeds": given.seeds, "steps": given.steps})
            text = json.dumps(report, indent=1) + "\n"
            bench.say(f"{len(heard.shown)} of {len(shown)} pictures")
            if given.out:
                write_whole(given.out, text.encode())
        if not given.out:
            print(text, end="")


if __name__ == "__main__":
    main()
