"""Do edits keep what they must and change what they should?

``python -m evaluation.edits [-o FILE]`` edits sounds that ``nano`` makes of the names of known sounds: variations of every strength,
fifty random regions, ten extensions, and blends of two stored Languages of Audio. What is heard is told by judge J1, by nano's audio
tower and by log-mel spectra; what stays, by samples.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from encoders.clap import AudioLabeller
from evaluation.judge import SHIPPED, Judge
from evaluation.metrics import bootstrap_interval
from generators.audioldm2 import AudioLDM2
from generators.base import Edit, GenerationRequest
from generators.editing import TAIL_S
from media.audio import Audio, read_audio
from media.mel import MelSpec, log_mel
from media.refs import MediaRef, MediaStore, write_whole

SECONDS, RATE = 5.12, 16_000
STEP = 1 / 32_768  # of 16 bits
NEAR = RATE // 10  # samples on either side of a seam
SOURCES = (
    "rain", "church bell", "dog", "car engine", "songbird", "clock", "applause", "typing", "siren", "ocean waves",
)  # fmt: skip
ASKED = (
    "church bell", "dog", "rain", "songbird", "train", "thunder", "cat", "frog", "vacuum cleaner", "telephone",
)  # fmt: skip
STRENGTHS = (0.0, 0.25, 0.5, 0.75, 1.0)
WEIGHTS = (0.0, 0.25, 0.5, 0.75, 1.0)
WAVER = 0.05  # of probability: a fall between two weights that counts as none


class Seam(NamedTuple):
    """Levels in dB of full scale before and after a join."""

    before: float
    after: float

    @property
    def step(self) -> float:
        return self.after - self.before


# -- figures -----------------------------------------------------------------------------------------------------------


def level_db(x: np.ndarray) -> float:
    """Root mean square in dB of full scale; -100 for silence."""
    return float(10 * np.log10(np.mean(np.square(x, dtype=np.float64)) + 1e-10))


def seam_at(x: np.ndarray, at: int) -> Seam:
    return Seam(level_db(x[max(at - NEAR, 0) : at]), level_db(x[at : at + NEAR]))


def rank_correlation(x: Sequence[float], y: Sequence[float]) -> float:
    """Spearman's: the correlation of ranks, which ties share.

    >>> rank_correlation([0, 1, 2], [1, 5, 25]), rank_correlation([0, 1, 2], [3, 2, 2.5])
    (1.0, -0.5)
    """
    first, second = (np.asarray([(np.sum(v < a) + np.sum(v <= a) + 1) / 2 for a in v]) for v in (np.asarray(x), np.asarray(y)))
    return round(float(np.corrcoef(first, second)[0, 1]), 6) if min(np.ptp(first), np.ptp(second)) > 0 else 0.0


def told(values: Sequence[float] | np.ndarray, digits: int = 3) -> dict[str, Any]:
    low, high = bootstrap_interval(np.asarray(values, float))
    return {"mean": round(float(np.mean(values)), digits), "interval": [round(low, digits), round(high, digits)], "n": len(values)}


# -- sounds ------------------------------------------------------------------------------------------------------------


class Bench:
    """One backend over a store, the judge, and an ear."""

    def __init__(self, home: Path, steps: int, say: Callable[[str], None]) -> None:
        self.store, self.steps, self.say = MediaStore(home / "store"), steps, say
        self.backend = AudioLDM2("nano", {"checkpoint": "nano"}, self.store, home)
        self.judge, self.tower = Judge.load(SHIPPED), AudioLabeller()

    def made(self, requests: Sequence[GenerationRequest]) -> list[MediaRef]:
        found: list[MediaRef] = []
        for at in range(0, len(requests), 4):
            found += [sound.media for sound in self.backend.generate(requests[at : at + 4])]
            self.say(f"{len(found)} of {len(requests)}")
        return found

    def read(self, refs: Sequence[MediaRef]) -> list[Audio]:
        return [read_audio(self.store.path(ref)) for ref in refs]

    def plain(self, prompts: Sequence[str], seed: int) -> list[MediaRef]:
        return self.made([GenerationRequest(prompt=p, seconds=SECONDS, seed=seed, steps=self.steps) for p in prompts])

    def edited(self, prompt: str, seed: int, edit: Edit, seconds: float = SECONDS) -> GenerationRequest:
        return GenerationRequest(prompt=prompt, seconds=seconds, seed=seed, steps=self.steps, edit=edit)

    def vectors(self, sounds: Sequence[Audio]) -> dict[str, np.ndarray]:
        """By two ears [N, D]: the tower's unit vectors, and log-mel spectra."""
        tower = np.stack([self.tower.encode([sound]).states[0, 0].numpy() for sound in sounds])
        return {"tower": tower, "mel": np.stack([log_mel(sound.samples[0], MelSpec()).ravel() for sound in sounds])}

    # -- strength ------------------------------------------------------------------------------------------------------
    def strengths(self) -> dict[str, Any]:
        """Variations of sources by the words of another sound, beside sounds of those words that know no source."""
        sources = self.plain(SOURCES, 1)
        heard = self.read(sources)
        rebuilt = self.backend.reconstruct(heard)
        unrelated = self.vectors(self.read(self.plain(ASKED, 3)))
        own, rows = self.vectors(heard), dict[str, Any]()
        logits = {}
        for strength in STRENGTHS:
            requests = [
                self.edited(asked, 2, Edit(kind="variation", source=source, strength=strength))
                for source, asked in zip(sources, ASKED, strict=True)
            ]
            sounds = self.read(self.made(requests))
            row, there = dict[str, Any](), self.vectors(sounds)
            row["cosine_to_source"] = told((there["tower"] * own["tower"]).sum(1))
            row["mel_distance_to_source_nepers"] = told(np.abs(there["mel"] - own["mel"]).mean(1))
            logits[strength] = self.judge.listen(sounds)
            row["heard_as_asked"], row["heard_as_source"] = self.shares(logits[strength])
            if not strength:
                away = [float(np.abs(a.samples - b.samples).max()) / STEP for a, b in zip(sounds, rebuilt, strict=True)]
                row["away_from_reconstruction_steps_of_16_bits"] = {"most": round(max(away), 2), "n": len(away)}
            rows[str(strength)] = row
        rows["unrelated"] = {
            "cosine_to_source": told((unrelated["tower"] * own["tower"]).sum(1)),
            "mel_distance_to_source_nepers": told(np.abs(unrelated["mel"] - own["mel"]).mean(1)),
        }
        pairs = [
            self.made([self.edited(asked, 2, Edit(kind="variation", source=s, strength=1.0)) for s in (first, second)])
            for asked, first, second in zip(ASKED, sources, sources[1:] + sources[:1], strict=True)
        ]
        rows["two_sources_one_sound_at_1"] = {"same_bytes": sum(a == b for a, b in pairs), "n": len(pairs)}
        return rows

    def shares(self, logits: np.ndarray) -> tuple[float, float]:
        """How often the judge's first five hold what was asked for, and the source."""
        names = self.judge.labels.names
        first = [[names[k].replace("_", " ") for k in np.argsort(-row)[:5]] for row in logits]
        both = [float(np.mean([name in row for name, row in zip(of, first, strict=True)])) for of in (ASKED, SOURCES)]
        return round(both[0], 3), round(both[1], 3)

    # -- regions -------------------------------------------------------------------------------------------------------
    def regions(self, edits: int) -> dict[str, Any]:
        """Random regions, one or two, made anew by the source's own words or by others; then extensions."""
        draw, sources = np.random.default_rng(0), self.plain(SOURCES, 1)
        requests, spans = [], []
        for number in range(edits):
            places = np.sort(draw.uniform(0.2, SECONDS - 0.2, 4))
            while min(places[1] - places[0], places[3] - places[2]) < 0.3 or places[2] - places[1] < 0.25:
                places = np.sort(draw.uniform(0.2, SECONDS - 0.2, 4))
            chosen = [(float(places[0]), float(places[1])), (float(places[2]), float(places[3]))][: 1 + number % 2]
            which = number % len(SOURCES)
            words = SOURCES[which] if draw.random() < 0.5 else str(draw.choice(ASKED))
            requests.append(self.edited(words, number, Edit(kind="inpaint", source=sources[which], regions=tuple(chosen))))
            spans.append([(round(a * RATE), round(b * RATE)) for a, b in chosen])
        seams, kept, changed = list[Seam](), 0, 0
        for request, sound, mine in zip(requests, self.read(self.made(requests)), spans, strict=True):
            assert request.edit is not None
            before, after = read_audio(self.store.path(request.edit.source)).samples[0], sound.samples[0]
            inside = np.zeros(len(before), bool)
            for first, last in mine:
                inside[first:last] = True
                seams += [seam_at(after, first), seam_at(after, last)]
            kept += len(after) == len(before) and np.array_equal(after[~inside], before[~inside])
            changed += all(not np.array_equal(after[a:b], before[a:b]) for a, b in mine)
        report = {"edits": edits, "outside_bit_equal": kept, "inside_changed": changed, "seams": told_seams(seams)}
        return report | {"extensions": self.extensions(sources)}

    def extensions(self, sources: Sequence[MediaRef]) -> dict[str, Any]:
        longer = [self.edited(words, 5, Edit(kind="extend", source=s), 8.0) for words, s in zip(SOURCES, sources, strict=True)]
        at, kept, seams = round((SECONDS - TAIL_S) * RATE), 0, list[Seam]()
        for source, sound in zip(self.read(sources), self.read(self.made(longer)), strict=True):
            kept += len(sound.samples[0]) == 8 * RATE and np.array_equal(sound.samples[0, :at], source.samples[0, :at])
            seams.append(seam_at(sound.samples[0], at))
        return {"edits": len(longer), "old_part_bit_equal": kept, "seams": told_seams(seams)}

    # -- blends --------------------------------------------------------------------------------------------------------
    def blends(self, pairs: int, seeds: Sequence[int]) -> dict[str, Any]:
        """Two stored Languages of Audio with weights: how sure the judge is of the second where it may only choose between the two.

        Pairs are drawn among the sounds that the judge hears in what nano makes of their LOA alone with the first seed.
        """
        draw, names = np.random.default_rng(1), self.judge.labels.names
        able = [name for name in names if self.backend_names(name)]
        loas = {name: self.backend.loa_for(GenerationRequest(prompt=name.replace("_", " "), seconds=SECONDS)) for name in able}
        alone = self.made([GenerationRequest(loa=((loas[n], 1.0),), seconds=SECONDS, seed=seeds[0], steps=self.steps) for n in able])
        logits = self.judge.listen(self.read(alone))
        heard = [name for name, row in zip(able, logits, strict=True) if int(row.argmax()) == names.index(name)]
        chosen = [tuple(str(name) for name in draw.choice(heard, 2, replace=False)) for _ in range(pairs)]
        rows = list[dict[str, Any]]()
        for first, second in chosen:
            requests = [
                GenerationRequest(loa=((loas[first], 1 - w), (loas[second], w)), seconds=SECONDS, seed=seed, steps=self.steps)
                for seed in seeds
                for w in WEIGHTS
            ]
            found = self.judge.listen(self.read(self.made(requests)))
            a, b = names.index(first), names.index(second)
            leaning = (1 / (1 + np.exp(found[:, a] - found[:, b]))).reshape(len(seeds), -1).mean(0)
            rows.append(
                {
                    "pair": [first, second],
                    "leaning": [round(float(value), 3) for value in leaning],
                    "rank_correlation": rank_correlation(WEIGHTS, leaning.tolist()),
                    "largest_fall": round(float(-np.diff(leaning).min(initial=0)), 3),
                }
            )
        return {
            "pairs": len(rows),
            "seeds": list(seeds),
            "weights": WEIGHTS,
            "heard_by_loa_alone": f"{len(heard)} of {len(able)}",
            "rank_correlation": told([row["rank_correlation"] for row in rows]),
            "monotonic": sum(row["largest_fall"] <= WAVER for row in rows),
            "turned_from_first_to_second": sum(row["leaning"][0] < 0.5 < row["leaning"][-1] for row in rows),
            "each": rows,
        }

    def backend_names(self, name: str) -> bool:
        """Whether nano knows a sound by this name."""
        self.backend.load()
        anchors = self.backend.labeller.anchors
        return anchors is not None and name.replace("_", " ") in anchors.texts


def told_seams(seams: Sequence[Seam]) -> dict[str, Any]:
    """How many lie within 1 dB, and each that does not, as levels before and after."""
    steps = np.abs([seam.step for seam in seams])
    return {
        "within_1_db": int((steps <= 1).sum()),
        "n": len(seams),
        "largest_db": round(float(steps.max()), 2),
        "beyond": [[round(seam.before, 1), round(seam.after, 1)] for seam, step in zip(seams, steps, strict=True) if step > 1],
    }


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--edits", type=int, default=50, help="random regions")
    parser.add_argument("--pairs", type=int, default=12, help="blended")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="of the blends")
    parser.add_argument("--home", type=Path, help="keeps the sounds; default: a temporary folder")
    parser.add_argument("-o", "--out", type=Path, help="where the figures go; default: stdout")
    given = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="loa-edits-") as folder:
        bench = Bench(given.home or Path(folder), given.steps, lambda line: print(line, file=sys.stderr, flush=True))
        report = {"steps": given.steps, "strength": bench.strengths(), "regions": bench.regions(given.edits)}
        text = json.dumps(report | {"blend": bench.blends(given.pairs, given.seeds)}, indent=1) + "\n"
    if given.out:
        write_whole(given.out, text.encode())
    else:
        print(text, end="")


if __name__ == "__main__":
    main()
