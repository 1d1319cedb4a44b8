"""From the rows of a study to its table: every system on the same prompts and seeds, with intervals, differences and warnings.

Knows rows, prompts, vectors and the names of evaluation/catalogue.py. Does not know how a sound is made, nor how a table looks.

Equal n is a rule: a cell counts only where every system has a usable sound of it; failures are counted beside, for each system.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from configs.registry import ConfigError
from evaluation.catalogue import CATALOGUE, DEFAULT, Measure, check
from evaluation.distances import (
    cosine,
    fad_infinity,
    frechet_distance,
    inception_score,
    kernel_distance,
    kl_divergence,
    sigmoid,
    softmax,
    spread,
    twins,
)
from evaluation.embedders import Cache, Clip, Embedder, EmbedderMissing, Heard, embedder, hear
from evaluation.signals import Loudness, character_error, mel_cepstral_distortion, onset_offset
from evaluation.statistics import (
    Difference,
    Estimate,
    SetEstimate,
    corrected,
    frechet_warning,
    jackknife,
    mean_interval,
    paired_difference,
    set_difference,
    share_interval,
)
from media.audio import read_audio, resample
from media.mel import MelSpec, log_mel
from media.refs import MediaError

__all__ = ["CATALOGUE", "DEFAULT", "Figure", "Prompt", "Table", "check", "measure"]

_SHARES = ("failures", "duplicates")
LEAST_SHARE = 0.5  # of the cells; a system with fewer is left out, rather than taking everybody's cells with it
OnProgress = Callable[[str, int, int], None]


class RowLike(Protocol):
    """What is read of a ledger's row (evaluation.ledger.Row)."""

    @property
    def prompt(self) -> str: ...
    @property
    def backend(self) -> str: ...
    @property
    def seed(self) -> int: ...
    @property
    def status(self) -> str: ...
    @property
    def audio(self) -> str | None: ...
    @property
    def audio_sha256(self) -> str | None: ...
    @property
    def guard(self) -> Any: ...
    @property
    def error(self) -> str | None: ...


@dataclass(frozen=True)
class Prompt:
    """What was asked for, and the true sound of it if there is one."""

    id: str
    caption: str = ""
    reference: Path | None = None
    image: Path | None = None
    video: Path | None = None
    transcript: str | None = None

    @property
    def sight(self) -> Path | None:
        return self.video or self.image


@dataclass(frozen=True)
class Figure:
    """One cell of the table: a system's value of a metric.

    ``low`` and ``high`` belong to ``corrected`` where there is one (figures of whole sets, whose plain value is too high by a bias
    that falls with n), else to ``value``. Everything is None, with a ``reason``, where nothing could be measured.
    """

    backend: str
    metric: str
    value: float | None = None
    corrected: float | None = None
    low: float | None = None
    high: float | None = None
    prompts: int = 0
    sounds: int = 0
    by_prompt: Mapping[str, float] = field(default_factory=dict)
    by_cell: Mapping[tuple[str, int], float] = field(default_factory=dict)  # (prompt, seed)
    warning: str = ""
    reason: str = ""


@dataclass(frozen=True)
class Table:
    """A study's figures. ``differences`` compares each system with the first, Holm-corrected over all of them together."""

    backends: tuple[str, ...]
    metrics: tuple[Measure, ...]
    figures: Mapping[tuple[str, str], Figure]
    differences: Mapping[tuple[str, str], Difference]
    prompts: tuple[str, ...]  # that count
    seeds: tuple[int, ...]
    cells: int  # that count, of each system
    left_out: Mapping[str, str]  # system -> why it has no figures
    dropped: int  # cells that some system has no usable sound of
    embedders: Mapping[str, Mapping[str, Any]]  # name -> digest, sample rate, window
    warnings: tuple[str, ...]

    def figure(self, backend: str, metric: str) -> Figure:
        return self.figures[backend, metric]


def usable(row: RowLike) -> str:
    """Why a row's sound does not count, or ""."""
    if row.status != "done":
        return row.error or "failed"
    guard = row.guard
    if guard is None or row.audio is None:
        return "" if row.audio else "no sound"
    return "silent" if guard.silent else str(guard.fatal)


# -- the whole table ----------------------------------------------------------------------------------------------------


def measure(
    rows: Sequence[RowLike],
    folder: Path,
    prompts: Sequence[Prompt],
    names: Sequence[str] = (),
    *,
    find: Callable[[str], Embedder] = embedder,
    on_progress: OnProgress = lambda what, done, of: None,
) -> Table:
    """Every metric of every system over the cells that all of them have.

    Args:
        folder: the study's; ``row.audio`` lies below it, and vectors are kept in ``embeddings``.
        names: metrics; empty: ``DEFAULT``.
        find: name -> embedder.

    Raises:
        UnknownName: a metric of another name. ConfigError: no rows.
    """
    metrics = check(names)
    if not rows:
        raise ConfigError(f"{folder} holds no finished cell yet: 'loa study run SPEC.yaml -o {folder}' makes some")
    study = _Study(rows, folder, {prompt.id: prompt for prompt in prompts}, find, on_progress)
    figures: dict[tuple[str, str], Figure] = {}
    differences: list[tuple[str, Difference]] = []
    for metric in metrics:
        found, compared = study.figures(metric)
        figures |= {(each.backend, metric.name): each for each in found}
        differences += [(metric.name, each) for each in compared]
    real = [pair for pair in differences if not math.isnan(pair[1].p)]
    adjusted = corrected([each for _, each in real])
    return Table(
        backends=study.backends,
        metrics=tuple(metrics),
        figures=figures,
        differences={(each.first, name): each for (name, _), each in zip(real, adjusted, strict=True)},
        prompts=study.counted_prompts,
        seeds=study.seeds,
        cells=len(study.cells),
        left_out=study.left_out,
        dropped=study.dropped,
        embedders=study.told,
        warnings=tuple(dict.fromkeys(study.warnings)),
    )


class _Study:
    """Rows sorted into equal cells, and what was heard in them."""

    def __init__(
        self,
        rows: Sequence[RowLike],
        folder: Path,
        prompts: Mapping[str, Prompt],
        find: Callable[[str], Embedder],
        on_progress: OnProgress,
    ) -> None:
        self.folder, self.prompts, self.find, self.on_progress = folder, prompts, find, on_progress
        self.rows = {(row.backend, row.prompt, row.seed): row for row in rows}
        self.backends = tuple(dict.fromkeys(row.backend for row in rows))
        self.seeds = tuple(sorted({row.seed for row in rows}))
        self.warnings: list[str] = []
        self.told: dict[str, dict[str, Any]] = {}
        self.asked: dict[str, dict[str, np.ndarray]] = {}  # metric -> prompt -> the vector of its words or sight
        self._heard: dict[str, dict[str, Heard]] = {}
        good = {key: row for key, row in self.rows.items() if not usable(row)}
        asked = {(prompt, seed) for _, prompt, seed in self.rows}
        have = {name: {(p, s) for b, p, s in good if b == name} for name in self.backends}
        self.left_out = {
            name: f"only {len(cells)} of {len(asked)} cells have a usable sound"
            for name, cells in have.items()
            if len(cells) < LEAST_SHARE * len(asked)
        }
        self.compared = tuple(name for name in self.backends if name not in self.left_out)
        common = set.intersection(*(have[name] for name in self.compared)) if self.compared else set()
        self.cells = sorted(common)
        self.dropped = len(asked) - len(common)
        self.counted_prompts = tuple(sorted({prompt for prompt, _ in common}))
        if self.dropped and self.compared:
            self.warnings.append(
                f"{self.dropped} of {len(asked)} cells have no usable sound of some system and are left out for all of them (equal n)"
            )
        self._clips = {
            key: Clip(folder / str(good[key].audio), str(good[key].audio_sha256).removeprefix("sha256:"))
            for key in good
            if key[0] in self.compared and key[1:] in common
        }

    @cached_property
    def references(self) -> dict[str, Clip]:
        """The true sounds of the prompts that count."""
        found: dict[str, Clip] = {}
        for name in self.counted_prompts:
            prompt = self.prompts.get(name)
            if prompt is not None and prompt.reference is not None:
                try:
                    found[name] = Clip.of(prompt.reference)
                except OSError as error:
                    self.warnings.append(f"the reference of '{name}' cannot be read: {error.strerror}")
        return found

    # -- vectors --------------------------------------------------------------------------------------------------------
    def hear(self, name: str) -> dict[str, Heard]:
        """Everything that counts, heard by one embedder. Raises EmbedderMissing and other ConfigErrors."""
        if name not in self._heard:
            ear: Embedder = Loudness() if name == "loudness" else self.find(name)
            clips = [*self._clips.values(), *([] if name == "loudness" else self.references.values())]
            said = f"hearing with {name}"
            heard, unreadable = hear(clips, [ear], Cache(self.folder / "embeddings"), lambda done, of: self.on_progress(said, done, of))
            if unreadable:
                broken = [f"{c.path.name}: {unreadable[c.sha256]}" for c in clips if c.sha256 in unreadable]
                raise ConfigError(f"{len(broken)} sounds of the study cannot be read ({broken[0]}); make them again")
            self._heard[name] = heard[name]
            if name != "loudness":
                self.told[name] = {
                    "digest": ear.digest,
                    "weights": getattr(ear, "weights", None),  # sha256 of the public file, by which tables are matched
                    "sample_rate": ear.sample_rate,
                    "window": ear.window,
                }
        return self._heard[name]

    def made(self, name: str, backend: str, prompts: Sequence[str] | None = None) -> list[tuple[str, int, Heard]]:
        """(prompt, seed, heard) of a system's sounds, sorted."""
        heard = self.hear(name)
        wanted = None if prompts is None else set(prompts)
        return [
            (prompt, seed, heard[self._clips[backend, prompt, seed].sha256])
            for prompt, seed in self.cells
            if wanted is None or prompt in wanted
        ]

    # -- figures --------------------------------------------------------------------------------------------------------
    def figures(self, metric: Measure) -> tuple[list[Figure], list[Difference]]:
        """Each system's figure, and the comparisons of the later ones with the first."""
        if metric.formula == "failures":
            return self._failures(metric), []
        reason = "" if self.cells else "no cell has a usable sound of every system"
        lacking = reason or self._lacking(metric)
        if not lacking:
            try:
                if metric.formula in _OF_SETS:
                    found, compared = self._of_sets(metric)
                else:
                    found, compared = self._of_prompts(metric)
                left = [Figure(name, metric.name, reason=why) for name, why in self.left_out.items()]
                return found + left, compared
            except (EmbedderMissing, ConfigError) as missing:
                lacking = str(missing)
            except ValueError as few:
                lacking = f"it cannot be computed here: {few}"
        return [Figure(name, metric.name, reason=lacking) for name in self.backends], []

    def _lacking(self, metric: Measure) -> str:
        """What the study has not that the metric needs, or ""."""
        prompts = [self.prompts.get(name, Prompt(name)) for name in self.counted_prompts]
        has = {
            "reference": bool(self.references),
            "caption": any(p.caption for p in prompts),
            "sight": any(p.sight for p in prompts),
            "video": any(p.video for p in prompts),
            "transcript": any(p.transcript for p in prompts),
            "seeds": len(self.seeds) > 1,
        }
        words = {
            "reference": "a 'reference' sound",
            "caption": "a 'caption'",
            "sight": "an 'image' or 'video'",
            "video": "a 'video'",
            "transcript": "a 'transcript'",
            "seeds": "two seeds or more",
        }
        lacks = [words[need] for need in sorted(metric.needs) if not has[need]]
        return f"it needs {' and '.join(lacks)}, which this study has not" if lacks else ""

    def _failures(self, metric: Measure) -> list[Figure]:
        found = []
        for name in self.backends:
            mine = [row for key, row in self.rows.items() if key[0] == name]
            bad = [float(bool(usable(row))) for row in mine]
            got = share_interval(bad, [row.prompt for row in mine])
            value = float(np.mean(bad))
            found.append(_figure(name, metric, got._replace(value=value), len(mine), {}))
        return found

    def _of_prompts(self, metric: Measure) -> tuple[list[Figure], list[Difference]]:
        """Metrics that each sound, or each prompt's sounds, have: means over prompts."""
        per_sound = _OF_PROMPTS[metric.formula]
        values = {name: per_sound(self, metric, name) for name in self.compared}
        # A value may be missing (nothing is heard to begin): then that cell counts for nobody.
        there = set.intersection(*({key for key, value in table.items() if value is not None} for table in values.values()))
        if not there:
            raise ValueError("no cell has it for every system")
        if len(there) < len(next(iter(values.values()))):
            self.warnings.append(f"{metric.title}: measured on {len(there)} cells, the others have none for some system")
        found, tables = [], {}
        for name in self.compared:
            keys = sorted(there)
            numbers = [float(values[name][key]) for key in keys]  # type: ignore[arg-type]
            got = (share_interval if metric.formula in _SHARES else mean_interval)(numbers, [prompt for prompt, _ in keys])
            grouped: dict[str, list[float]] = {}
            for (prompt, _), number in zip(keys, numbers, strict=True):
                grouped.setdefault(prompt, []).append(number)
            tables[name] = {prompt: float(np.mean(each)) for prompt, each in grouped.items()}
            cells = dict(zip(keys, numbers, strict=True))
            found.append(replace(_figure(name, metric, got, len(keys), tables[name]), by_cell=cells))
        first = self.compared[0]
        compared = (
            [paired_difference(tables[name], tables[first], (name, first)) for name in self.compared[1:]]
            if len(tables[first]) > 2
            else []
        )
        return found, compared

    def _of_sets(self, metric: Measure) -> tuple[list[Figure], list[Difference]]:
        """Metrics of all sounds together: jackknife over prompts."""
        assert metric.embedder is not None
        figure = _OF_SETS[metric.formula]
        prompts = (
            [name for name in self.counted_prompts if name in self.references]
            if "reference" in metric.needs
            else list(self.counted_prompts)
        )
        estimates: dict[str, SetEstimate] = {}
        found = []
        for number, name in enumerate(self.compared):
            self.on_progress(metric.title, number, len(self.compared))
            rows: dict[str, list[Heard]] = {}
            for prompt, _, heard in self.made(metric.embedder, name, prompts):
                rows.setdefault(prompt, []).append(heard)
            true = {p: self.hear(metric.embedder)[self.references[p].sha256] for p in prompts} if "reference" in metric.needs else {}

            def of(chosen: Sequence[str], rows: dict[str, list[Heard]] = rows, true: dict[str, Heard] = true) -> float:
                return figure([h for p in chosen for h in rows[p]], [true[p] for p in chosen if p in true])

            count, width = sum(len(h.frames) for each in rows.values() for h in each), next(iter(rows.values()))[0].frames.shape[1]
            warning = (
                (frechet_warning(min(count, sum(len(h.frames) for h in true.values())), width) or "")
                if metric.formula in ("frechet", "infinity")
                else ""
            )
            if "singular" in warning or metric.formula == "infinity":  # no interval is to be had
                estimates[name] = SetEstimate(of(prompts), Estimate(math.nan, math.nan, math.nan, len(prompts)), np.zeros(0))
            else:
                estimates[name] = jackknife(of, prompts)
            got = estimates[name]
            found.append(
                Figure(
                    name,
                    metric.name,
                    got.plain,
                    _real(got.corrected.value),
                    _real(got.corrected.low),
                    _real(got.corrected.high),
                    len(prompts),
                    sum(map(len, rows.values())),
                    warning=warning,
                )
            )
            if warning:
                self.warnings.append(f"{metric.title}: {warning}")
        first = self.compared[0]
        return found, [set_difference(estimates[name], estimates[first], (name, first)) for name in self.compared[1:]]

    # -- what the tables below call -----------------------------------------------------------------------------------------
    def sound(self, backend: str, prompt: str, seed: int) -> np.ndarray:
        """Mono samples at 16 kHz."""
        return read_audio(self._clips[backend, prompt, seed].path, MelSpec().sample_rate, mono=True).samples[0]

    def prompt_vectors(self, metric: Measure, kind: str) -> dict[str, np.ndarray]:
        """The vector of each prompt's words or sight."""
        assert metric.embedder is not None
        ear: Any = self.find(metric.embedder)
        named = {name: self.prompts[name] for name in self.counted_prompts if name in self.prompts}
        if kind == "words":
            given = {name: prompt.caption for name, prompt in named.items() if prompt.caption}
            vectors = ear.words(list(given.values()))
        else:
            sights = {name: prompt.sight for name, prompt in named.items() if prompt.sight}
            given, vectors = dict.fromkeys(sights, ""), ear.sights(list(sights.values()))
        return dict(zip(given, vectors, strict=True))

    @cached_property
    def seen(self) -> dict[str, list[float]]:
        """When something is seen to begin, by prompt with a video."""
        from media.timeline import watch

        videos = {name: p.video for name in self.counted_prompts if (p := self.prompts.get(name)) is not None and p.video is not None}
        return {name: [onset.time for onset in watch(path).onsets] for name, path in videos.items()}

    @cached_property
    def recogniser(self) -> Any:
        from evaluation.recogniser import Recogniser

        found = Recogniser()
        found.load()
        return found


def _real(value: float) -> float | None:
    return None if math.isnan(value) else value


def _figure(backend: str, metric: Measure, got: Estimate, sounds: int, by_prompt: Mapping[str, float]) -> Figure:
    return Figure(backend, metric.name, got.value, None, _real(got.low), _real(got.high), got.n, sounds, by_prompt)


# -- figures of each sound ------------------------------------------------------------------------------------------------

_Values = dict[tuple[str, int], float | None]


def _against_prompts(kind: str) -> Callable[[_Study, Measure, str], _Values]:
    def values(study: _Study, metric: Measure, backend: str) -> _Values:
        assert metric.embedder is not None
        if metric.name not in study.asked:
            study.asked[metric.name] = study.prompt_vectors(metric, kind)
        asked = study.asked[metric.name]
        made = [(p, s, h.vector) for p, s, h in study.made(metric.embedder, backend) if p in asked]
        scores = cosine(np.stack([asked[p] for p, _, _ in made]), np.stack([v for _, _, v in made]))
        return {(p, s): float(score) for (p, s, _), score in zip(made, scores, strict=True)}

    return values


def _against_references(form: Callable[[np.ndarray, np.ndarray], np.ndarray]) -> Callable[[_Study, Measure, str], _Values]:
    """``form`` of logits: (true [N, K], made [N, K]) -> [N]."""

    def values(study: _Study, metric: Measure, backend: str) -> _Values:
        assert metric.embedder is not None
        heard = study.hear(metric.embedder)
        made = [(p, s, h) for p, s, h in study.made(metric.embedder, backend) if p in study.references]
        true = [heard[study.references[p].sha256] for p, _, _ in made]
        found = form(np.stack([_logits(h) for h in true]), np.stack([_logits(h) for _, _, h in made]))
        return {(p, s): float(value) for (p, s, _), value in zip(made, found, strict=True)}

    return values


def _logits(heard: Heard) -> np.ndarray:
    if heard.logits is None:
        raise ValueError("the embedder has no classes")
    return heard.logits


def _loudness(study: _Study, metric: Measure, backend: str) -> _Values:
    return {(p, s): float(h.vector[0]) for p, s, h in study.made("loudness", backend)}


def _spread(study: _Study, metric: Measure, backend: str) -> _Values:
    assert metric.embedder is not None
    together: dict[str, list[np.ndarray]] = {}
    for prompt, _, heard in study.made(metric.embedder, backend):
        together.setdefault(prompt, []).append(heard.vector)
    return {(p, study.seeds[0]): spread(np.stack(rows)) if len(rows) > 1 else None for p, rows in together.items()}


def _twins(study: _Study, metric: Measure, backend: str) -> _Values:
    assert metric.embedder is not None
    made = study.made(metric.embedder, backend)
    found = twins(np.stack([h.vector for _, _, h in made]), [p for p, _, _ in made])
    return {(p, s): float(twin) for (p, s, _), twin in zip(made, found, strict=True)}


def _sync(study: _Study, metric: Measure, backend: str) -> _Values:
    from evaluation.probes import onsets

    found: _Values = {}
    for prompt, seed in study.cells:
        if prompt in study.seen:
            late = onset_offset(study.seen[prompt], list(onsets(log_mel(study.sound(backend, prompt, seed), MelSpec()))))
            found[prompt, seed] = None if late is None else abs(late)
    return found


def _mcd(study: _Study, metric: Measure, backend: str) -> _Values:
    found: _Values = {}
    true: dict[str, np.ndarray] = {}
    for prompt, seed in study.cells:
        if prompt in study.references and study.prompts[prompt].transcript:
            if prompt not in true:
                true[prompt] = log_mel(resample(read_audio(study.references[prompt].path, mono=True), 16_000).samples[0], MelSpec())
            found[prompt, seed] = mel_cepstral_distortion(log_mel(study.sound(backend, prompt, seed), MelSpec()), true[prompt])
    return found


def _cer(study: _Study, metric: Measure, backend: str) -> _Values:
    found: _Values = {}
    for prompt, seed in study.cells:
        said = study.prompts[prompt].transcript if prompt in study.prompts else None
        if said:
            path = study._clips[backend, prompt, seed].path
            try:
                (written,) = study.recogniser.write([read_audio(path, mono=True)])
            except MediaError:
                found[prompt, seed] = None
            else:
                found[prompt, seed] = character_error(written, said)
    return found


_OF_PROMPTS: dict[str, Callable[[_Study, Measure, str], _Values]] = {
    "words": _against_prompts("words"),
    "sights": _against_prompts("sights"),
    "kl": _against_references(lambda true, made: kl_divergence(softmax(true), softmax(made))),
    "kl-reverse": _against_references(lambda true, made: kl_divergence(softmax(made), softmax(true))),
    "kl-sigmoid": _against_references(lambda true, made: kl_divergence(sigmoid(true), sigmoid(made))),
    "loudness": _loudness,
    "spread": _spread,
    "duplicates": _twins,
    "sync": _sync,
    "mcd": _mcd,
    "cer": _cer,
}


# -- figures of whole sets ------------------------------------------------------------------------------------------------


def _frames(heard: Sequence[Heard]) -> np.ndarray:
    return np.concatenate([each.frames for each in heard]).astype(np.float64)


def _vectors(heard: Sequence[Heard]) -> np.ndarray:
    return np.stack([each.vector for each in heard]).astype(np.float64)


_OF_SETS: dict[str, Callable[[Sequence[Heard], Sequence[Heard]], float]] = {
    "frechet": lambda made, true: frechet_distance(_frames(made), _frames(true)),
    "infinity": lambda made, true: fad_infinity(_frames(made), _frames(true)).value,
    "kernel": lambda made, true: kernel_distance(_vectors(made), _vectors(true)),
    "inception": lambda made, _: inception_score(softmax(np.stack([_logits(each) for each in made]))),
}
