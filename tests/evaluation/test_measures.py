"""A study's table over rows whose sounds have known vectors: a fake ear hears in a sound what its length says."""

from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from configs.registry import ConfigError, UnknownName
from evaluation.catalogue import CATALOGUE, DEFAULT
from evaluation.distances import frechet_distance, kl_divergence, softmax
from evaluation.embedders import Clip, EmbedderMissing, Heard
from evaluation.measures import Prompt, check, measure
from media.audio import Audio, write_audio

WIDTH = 4


@dataclass(frozen=True)
class Row:
    prompt: str
    backend: str
    seed: int
    status: str = "done"
    audio: str | None = None
    audio_sha256: str | None = None
    guard: object = field(default_factory=lambda: SimpleNamespace(silent=False, fatal=""))
    error: str | None = None


class Ear:
    """Each sound's samples are its vector: the first WIDTH of them, its classes the next three."""

    sample_rate, window, classes = 16_000, "all", "softmax"

    def __init__(self, name):
        self.name, self.digest, self.calls = name, f"sha256:{name}", 0

    def embed(self, sounds):
        self.calls += len(sounds)
        rows = [10 * sound.samples[0, : WIDTH + 3] for sound in sounds]
        return [Heard(row[:WIDTH], row[None, :WIDTH], row[WIDTH:]) for row in rows]

    def words(self, texts):
        return np.eye(WIDTH)[[int(text) for text in texts]]


def write(path: Path, vector, classes=(0, 0, 0)):
    samples = np.zeros((1, 400), np.float32)
    samples[0, : WIDTH + 3] = np.concatenate([vector, classes]) / 10
    path.parent.mkdir(exist_ok=True)
    write_audio(path, Audio(samples, 16_000))
    return Clip.of(path)


class Made:
    """A folder with ``prompts`` x systems x seeds; system "good" is nearer to the true sounds than "bad"."""

    def __init__(self, folder, prompts=40, seeds=(0, 1), systems=("good", "bad")):
        generator = np.random.default_rng(0)
        self.folder, self.rows, self.prompts, self.true, self.vectors = folder, [], [], {}, {}
        self.ears = {}
        for index in range(prompts):
            name = f"p{index:02d}"
            self.true[name] = generator.normal(0, 1, WIDTH)
            write(folder / "references" / f"{name}.wav", self.true[name], (1, 0, 0))
            self.prompts.append(Prompt(name, str(index % WIDTH), folder / "references" / f"{name}.wav"))
            for system in systems:
                for seed in seeds:
                    off = (0.3 if system == "good" else 1.5) * generator.normal(0.5, 1, WIDTH)
                    clip = write(
                        folder / "audio" / f"{system}-{name}-{seed}.wav", self.true[name] + off, (1, int(system == "bad") * 2, 0)
                    )
                    self.vectors[system, name, seed] = np.rint((self.true[name] + off) / 10 * 32768) / 32768 * 10
                    self.rows.append(Row(name, system, seed, audio=f"audio/{clip.path.name}", audio_sha256=clip.sha256))

    def find(self, name):
        return self.ears.setdefault(name, Ear(name))

    def table(self, *names, rows=None, prompts=None):
        return measure(
            self.rows if rows is None else rows, self.folder, self.prompts if prompts is None else prompts, names, find=self.find
        )


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return Made(tmp_path_factory.mktemp("study"))


def test_frechet_is_that_of_all_made_and_all_true_sounds(made):
    table = made.table("fad")
    good = np.stack([v for (system, _, _), v in made.vectors.items() if system == "good"])
    figure = table.figure("good", "fad")

    assert figure.value == pytest.approx(frechet_distance(good, np.stack(list(made.true.values()))), rel=1e-3)
    assert figure.low < figure.corrected < figure.high and figure.corrected < figure.value
    assert (figure.prompts, figure.sounds) == (40, 80)
    assert table.embedders["vggish"] == {"digest": "sha256:vggish", "weights": None, "sample_rate": 16_000, "window": "all"}


def test_the_worse_system_is_certainly_worse(made):
    table = made.table("fad", "kl")

    for metric in ("fad", "kl"):
        difference = table.differences["bad", metric]
        assert difference.second == "good" and difference.certain and difference.estimate.low > 0
        assert difference.p_holm >= difference.p
    assert ("good", "fad") not in table.differences


def test_both_directions_of_kl_are_what_they_say(made):
    table = made.table("kl", "kl-reverse")
    p, q = softmax(np.array([[1.0, 0, 0]])), softmax(np.array([[1.0, 2, 0]]))

    assert table.figure("bad", "kl").value == pytest.approx(float(kl_divergence(p, q)[0]), abs=1e-3)
    assert table.figure("bad", "kl-reverse").value == pytest.approx(float(kl_divergence(q, p)[0]), abs=1e-3)
    assert table.figure("good", "kl").value == pytest.approx(0, abs=1e-4)


def test_word_score_is_the_mean_cosine_over_prompts(made):
    figure = made.table("clap").figure("good", "clap")
    cosines = {
        name: np.mean(
            [made.vectors["good", name, s][int(name[1:]) % WIDTH] / np.linalg.norm(made.vectors["good", name, s]) for s in (0, 1)]
        )
        for name in made.true
    }

    assert figure.value == pytest.approx(np.mean(list(cosines.values())), abs=1e-4)
    assert figure.by_prompt == pytest.approx(cosines, abs=1e-3)
    assert figure.low < figure.value < figure.high


def test_a_failure_of_one_takes_the_cell_from_all_and_is_counted_for_itself(made):
    silent = SimpleNamespace(silent=True, fatal="")
    rows = [
        Row(r.prompt, r.backend, r.seed, "failed", error="X: y") if (r.backend, r.prompt) == ("bad", "p00") else r for r in made.rows
    ]
    rows = [
        Row(r.prompt, r.backend, r.seed, "done", r.audio, r.audio_sha256, silent)
        if (r.backend, r.prompt, r.seed) == ("good", "p01", 0)
        else r
        for r in rows
    ]
    table = made.table("kl", "failures", rows=rows)

    assert table.cells == 77 and table.dropped == 3
    assert table.figure("good", "kl").sounds == table.figure("bad", "kl").sounds == 77
    assert table.figure("bad", "failures").value == pytest.approx(2 / 80)
    assert table.figure("good", "failures").value == pytest.approx(1 / 80)
    assert "3 of 80 cells" in table.warnings[0]


def test_a_system_that_mostly_fails_takes_nobody_with_it(made):
    broken = [Row(r.prompt, "broken", r.seed, "failed", error="GenerationFailed: NaN") for r in made.rows if r.backend == "good"]
    table = made.table("kl", "failures", rows=made.rows + broken)

    assert table.cells == 80
    assert table.figure("broken", "kl").value is None and "0 of 80" in table.figure("broken", "kl").reason
    assert table.figure("broken", "failures").value == 1.0


def test_what_is_lacking_is_said_and_nothing_is_invented(made):
    bare = [Prompt(p.id) for p in made.prompts]
    table = made.table("fad", "clap", "imagebind", "cer", prompts=bare)

    assert "'reference'" in table.figure("good", "fad").reason
    assert "'caption'" in table.figure("good", "clap").reason
    assert "'image' or 'video'" in table.figure("good", "imagebind").reason
    assert "'transcript'" in table.figure("good", "cer").reason
    assert all(figure.value is None for figure in table.figures.values())


def test_absent_weights_are_a_reason_and_the_rest_is_measured(made):
    def find(name):
        if name == "vggish":
            raise EmbedderMissing("vggish-10086976.pth is missing: get it")
        return made.find(name)

    table = measure(made.rows, made.folder, made.prompts, ["fad", "kl"], find=find)

    assert table.figure("good", "fad").reason == "vggish-10086976.pth is missing: get it"
    assert table.figure("good", "kl").value is not None


def test_few_clips_for_a_wide_embedder_are_warned_of(tmp_path):
    few = Made(tmp_path, prompts=3, seeds=(0,))
    figure = few.table("fad").figure("good", "fad")

    assert "singular" in figure.warning and figure.value is not None and figure.low is None


def test_sounds_are_heard_once_over_all_metrics_and_runs(tmp_path):
    fresh = Made(tmp_path, prompts=4, seeds=(0,))
    fresh.table("fd", "kl", "is")
    assert fresh.ears["panns-cnn14"].calls == 8 + 4

    first, fresh.ears = fresh.ears, {}
    fresh.table("fd", "kl", "is")
    assert "panns-cnn14" in first and fresh.ears["panns-cnn14"].calls == 0


def test_seeds_that_sound_alike_have_no_diversity(tmp_path):
    alike = Made(tmp_path, prompts=4, systems=("good",))
    same = [
        Row(r.prompt, "same", r.seed, audio=alike.rows[i // 2 * 2].audio, audio_sha256=alike.rows[i // 2 * 2].audio_sha256)
        for i, r in enumerate(alike.rows)
    ]
    table = alike.table("diversity", "duplicates", rows=alike.rows + same)

    assert table.figure("same", "diversity").value == pytest.approx(0, abs=1e-6)
    assert table.figure("good", "diversity").value > 0.005
    assert table.figure("same", "duplicates").value == 0


def test_names_are_checked_before_anything_is_heard(made):
    with pytest.raises(UnknownName, match="did you mean 'fad'"):
        check(["fadd"])
    assert [metric.name for metric in check([])] == list(DEFAULT)
    with pytest.raises(ConfigError, match="no finished cell yet"):
        made.table("kl", rows=[])


def test_every_metric_says_what_it_is():
    for metric in CATALOGUE.values():
        assert metric.about and metric.title and metric.formula
        assert not (
            metric.embedder == "nano-clap" and metric.formula in ("words", "frechet", "kernel", "kl", "kl-reverse", "inception")
        ) or metric.name.startswith("nano-")
