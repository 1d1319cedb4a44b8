import json
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from evaluation import nano
from evaluation.cost import size_mb
from evaluation.judge import SHIPPED, Judge, mel_of
from evaluation.making import Maker, Recipe
from evaluation.nano import FULL, Listener, Scale, ask, chosen, plain_names
from evaluation.prompts import Paraphrase, read_paraphrases
from evaluation.steering import Mixture, Probe
from evaluation.table import LINES, shown, table
from evaluation.verdicts import Verdicts, difference, figures, per_class
from generators.audioldm2 import LoaConfig
from generators.base import GenerationFailed, GenerationRequest, UnsupportedRequest
from media.audio import Audio
from media.refs import MediaRef, MediaStore
from training.synthesis import CLASSES


@cache
def synthesise(name: str, seed: int) -> Audio:
    index = list(CLASSES).index(name)
    samples = CLASSES[name](np.random.default_rng([index, seed]), 5.12)[:81_920]
    return Audio(np.pad(samples, (0, 81_920 - len(samples)))[None].astype(np.float32), 16_000)


@dataclass
class Made:
    media: MediaRef


@dataclass
class Parrot:
    """Answers a prompt with a true clip of the class written in it, or of ``stuck``; resynthesises the sound itself."""

    store: MediaStore
    stuck: str | None = None
    sees: str | None = "cat"
    envelope: bool = False
    config: LoaConfig = field(default_factory=lambda: LoaConfig(encoders="nano", few_steps=8, guidance=2.5))
    batches: list[int] = field(default_factory=list)
    asked: list[GenerationRequest] = field(default_factory=list)

    @property
    def capabilities(self) -> SimpleNamespace:
        return SimpleNamespace(accepts={"text", "image", "video"}, envelope=self.envelope, sample_rate=16_000)

    def fingerprint(self, rows):
        return f"parrot {self.stuck} {self.sees}"

    def generate(self, requests, rows=None):
        self.batches.append(len(requests))
        self.asked += requests
        return [Made(self.answer(request)) for request in requests]

    def answer(self, request: GenerationRequest) -> MediaRef:
        if request.loa:
            return request.loa[0][0]
        if request.media and self.sees is None:
            raise UnsupportedRequest("nothing in the picture is known")
        said = request.prompt.replace(" ", "_")
        name = self.stuck or (self.sees if request.media else said if said in CLASSES else "dog")
        return self.store.put_audio(synthesise(name, 50_000_000 + request.seed))

    def reconstruct(self, sounds):
        return [Audio(np.zeros_like(sound.samples), sound.sample_rate) for sound in sounds]

    def vae_mel(self, sounds):
        return np.stack([mel_of(sound) for sound in sounds])

    def loa_of(self, sound):
        return self.store.put_audio(sound)

    def unload(self):
        self.batches.clear()


class Second:
    """A second judge that knows two classes and hears what the first one hears."""

    def __init__(self, judge: Judge) -> None:
        self.judge = judge
        self.names, self.figures, self.digest = ("owl", "water"), {"top1": 0.4, "top5": 0.7}, "second"

    def label_of(self, name, kind):
        return {"owl": "owl", "rain": "water"}.get(name)

    def logits(self, mels):
        columns = [self.judge.labels.names.index(name) for name in ("owl", "rain")]
        return self.judge.logits(mels)[:, columns]


@pytest.fixture(scope="module")
def judge() -> Judge:
    return Judge.load(SHIPPED)


@pytest.fixture
def listen(judge, tmp_path):
    def build(second=None, **habits) -> Listener:
        store = MediaStore(tmp_path / "store")
        maker = Maker(Parrot(store, **habits), Recipe(tmp_path, "predicted", store.root, tmp_path / "kept"), None, lambda *_: None)
        return Listener(maker, judge, second, store)

    return build


NAMES = ["rain", "dog", "church_bell", "laser", "typing", "car_engine", "owl", "zipper", "siren"]


def test_who_makes_what_was_asked_gets_all_points(listen):
    verdicts = listen().try_all("", ask(plain_names(NAMES), (0, 1), 25), "procedural")[""]

    assert len(verdicts.places) == 18
    assert verdicts.share(1) == 1.0


def test_who_always_makes_rain_gets_points_for_rain_only(listen):
    verdicts = listen(stuck="rain").try_all("", ask(plain_names(NAMES), (0, 1), 25), "procedural")[""]

    assert verdicts.by_class(1) == {name: float(name == "rain") for name in NAMES}
    assert verdicts.share(1) == pytest.approx(1 / 9)


def test_the_second_judge_counts_the_classes_it_knows(listen, judge):
    told = listen(Second(judge), stuck="rain").try_all("", ask(plain_names(NAMES), (0, 1), 25), "procedural")

    assert told["j2 "].names == ("rain", "rain", "owl", "owl")
    assert told["j2 "].by_class(1) == {"rain": 1.0, "owl": 0.0}


def test_sounds_are_made_eight_at_a_time_and_only_once(listen):
    listener = listen()
    trials = ask(plain_names(NAMES), (0, 1), 25)

    first = listener.try_all("", trials, "procedural")[""]
    assert listener.maker.backend.batches == [8, 8, 2]
    again = listener.try_all("", [*trials[4:], *trials[:4]], "procedural")[""]

    assert listener.maker.backend.batches == [8, 8, 2]
    assert again.share(1) == first.share(1)


def test_a_killed_run_makes_only_what_is_missing(listen):
    listener = listen()
    requests = [trial.request for trial in ask(plain_names(NAMES), (0, 1), 25)]
    whole = listener.maker.sounds("", requests)
    kept = sorted(listener.maker.recipe.kept.glob("*.wav"))
    kept[3].unlink()
    kept[7].unlink()
    listener.maker.backend.batches.clear()

    again = listener.maker.sounds("", requests)

    assert listener.maker.backend.batches == [2]
    assert all(np.array_equal(a.samples, b.samples) for a, b in zip(whole, again, strict=True))


def test_another_checkpoint_or_setting_never_meets_a_kept_sound(listen):
    honest, stuck = listen(), listen(stuck="dog")
    request = GenerationRequest(prompt="rain", seconds=5.12)

    sounds = [maker.sounds("", [r])[0] for maker, r in ((honest.maker, request), (stuck.maker, request))]
    honest.maker.sounds("", [request.model_copy(update={"seed": 1}), request.model_copy(update={"steps": 4})])

    assert not np.array_equal(sounds[0].samples, sounds[1].samples)
    assert honest.maker.backend.batches == [1, 2]


def test_a_sound_that_the_guard_refuses_is_silence_and_its_neighbours_stay(listen):
    listener = listen()
    backend, answer = listener.maker.backend, listener.maker.backend.answer

    def refuse(request):
        if request.prompt == "dog":
            raise GenerationFailed("not a number")
        return answer(request)

    backend.answer = refuse

    dog, rain = listener.maker.sounds("", [GenerationRequest(prompt=p, seconds=5.12) for p in ("dog", "rain")])

    assert not dog.samples.any() and dog.samples.shape == (1, 81_920)
    assert rain.samples.any()


def test_each_ceiling_listens_to_its_own_sounds(listen):
    clips = {name: [synthesise(name, 51_000_000)] for name in NAMES}

    verdicts, apart = listen().ceilings(clips, "procedural")

    assert verdicts["judge_ceiling"].share(1) == 1.0
    assert verdicts["vae"].share(1) == 1.0
    assert verdicts["recon"].share(1) <= 1 / 9  # the parrot's vocoder is silent
    assert apart["vae_mel_l1"] < 0.01 < apart["mel_l1"]  # half precision, and silence
    assert apart["stft_convergence"] == pytest.approx(1.0)


def test_resynthesis_gives_the_true_loa_and_no_words(listen):
    clips = {name: [synthesise(name, 52_000_000)] for name in NAMES}

    assert listen(stuck="rain").resynthesise(clips, 25)[""].share(1) == 1.0


@pytest.mark.parametrize("as_video", [False, True])
def test_a_picture_counts_where_its_subject_is_heard(listen, as_video):
    listener = listen(sees="cat")
    seen = listener.media((0, 1), 25, as_video)

    assert seen["each"]["chelsea.jpg"]["in_top5"] == [True, True]
    assert seen["each"]["coffee.jpg"]["in_top5"] is None
    assert seen["judged"] == 5
    assert seen["share"] == pytest.approx(np.mean([row["in_top5"] for row in seen["each"].values() if row["in_top5"] is not None]))
    assert {r.media[0].kind for r in listener.maker.backend.asked} == {"video" if as_video else "image"}
    assert listener.maker.backend.batches == ([8, 4] if as_video else [8, 8])  # all in full batches, pictures of nothing too


def test_who_refuses_a_blank_picture_claims_no_animal(listen):
    assert all(row["claims_animal"] for row in listen(sees="cat").media((0, 1), 25)["blank"].values())
    told = listen(sees=None).media((0,), 25)["blank"]
    assert not any(row["claims_animal"] for row in told.values())
    assert "nothing in the picture" in told["noise"]["refused"]


def test_drawn_probes_are_asked_where_the_checkpoint_reads_curves(listen):
    rows = [
        Probe("onsets", ("knock",), [0.5, 1.5]),
        Probe("curve", ("wind",), [[0, 0.2], [5.12, 1]]),
        Probe("pace", ("clock", "clock")),
    ]

    can, chance = listen(envelope=True).probe(rows, (0,), 25)
    cannot, none = listen().probe(rows, (0,), 25)

    assert [r.kind for r in can] == ["onsets", "curve", "pace"] and chance is not None
    assert [r.kind for r in cannot] == ["pace"] and none is None


def test_mixtures_count_where_both_sounds_are_heard(listen):
    clips = {name: [synthesise(name, 54_000_000)] for name in ("owl", "church_bell")}

    told = listen(stuck="owl").mixtures([Mixture("while", "owl", "church_bell", "an owl while bells ring")], (0, 1), 25, clips)["while"]

    assert told["either_top5"] == 1.0 and told["n"] == 2 and told["pairs"] == 1
    assert told["ceiling"] in (0.0, 1.0) and told["recon"] == 0.0


def test_a_sweep_changes_one_setting(listen):
    listener = listen()
    told = listener.sweep(plain_names(NAMES[:3]), {1.0: lambda r: r.model_copy(update={"guidance": 1.0}), 2.0: lambda r: r})

    assert [point["at"] for point in told] == [1.0, 2.0] and told[0]["top1"] == 1.0
    assert [r.guidance for r in listener.maker.backend.asked] == [1.0] * 3 + [None] * 3


def test_only_classes_with_a_label_are_asked_for(listen):
    listener = listen()
    rows = read_paraphrases()

    asked = {row.name for row in listener.judgeable(rows, "recorded")}

    assert "goat" not in asked and {"fire", "footsteps snow", "snare drum"} <= asked
    assert len(listener.judgeable(rows, "procedural")) == 4 * 59


def test_every_prompt_meets_every_seed_and_shares_a_group():
    trials = ask([Paraphrase("dog", "procedural", "woof"), Paraphrase("cat", "procedural", "purr")], (0, 1), 8)

    assert [(t.request.prompt, t.request.seed, t.group) for t in trials] == [
        ("woof", 0, 0),
        ("woof", 1, 0),
        ("purr", 0, 1),
        ("purr", 1, 1),
    ]
    assert {t.request.steps for t in trials} == {8} and {t.request.seconds for t in trials} == {5.12}


def test_a_smaller_scale_asks_for_some_classes_of_each_kind():
    rows = read_paraphrases()

    assert chosen(rows, FULL) == rows
    few = chosen(rows, Scale(class_stride=6, paraphrases=1))
    assert len(few) == 10 + 7 and len({(row.kind, row.name) for row in few}) == len(few)


def test_figures_hold_shares_intervals_and_counts():
    heard = Verdicts(("dog", "dog", "cat", "cat"), (0, 1, 2, 3), np.array([0, 3, 7, 0]))

    told = figures({"paraphrases": heard, "recon": heard})

    assert told["top1"] == 0.5 and told["top5"] == 0.75 and told["recon_top5"] == 0.75
    assert told["intervals"]["top1"][0] <= 0.5 <= told["intervals"]["top1"][1]
    assert told["counts"] == {"recon_top1": 4, "recon_top5": 4, "top1": 4, "top5": 4}
    assert per_class({"paraphrases": heard}) == {"dog": {"top1": 0.5, "top5": 1.0}, "cat": {"top1": 0.5, "top5": 0.5}}


def test_a_difference_pairs_prompts_and_seeds():
    ours = Verdicts(("a", "a", "b"), (0, 0, 1), np.array([0, 0, 3]), seeds=(0, 1, 0))
    theirs = Verdicts(("b", "a"), (1, 0), np.array([0, 4]), seeds=(0, 0))

    told = difference(ours.hits(1), theirs.hits(1))

    assert told is not None and told["n"] == 2 and told["difference"] == 0.0  # won one, lost one
    assert told["interval"] == [-1.0, 1.0]
    assert difference(ours.hits(1), {}) is None


def test_size_counts_all_files_of_a_checkpoint(tmp_path: Path):
    (tmp_path / "unet").mkdir()
    (tmp_path / "unet" / "weights").write_bytes(bytes(1_500_000))
    (tmp_path / "config.json").write_bytes(bytes(500_000))

    assert size_mb(tmp_path) == pytest.approx(2.0)


SMALL = Scale((0,), 10, 1, 1, 1, 1, 12, True, (1.0,), (4,), 1)


@pytest.fixture(scope="module")
def report(judge, tmp_path_factory):
    """Two checkpoints through the whole protocol: one says what it is asked, one always rains."""
    habits, place = {"good": {}, "wet": {"stuck": "rain"}}, tmp_path_factory.mktemp("bench")

    def open_parrot(folder, store, loa_mode="predicted"):
        return Parrot(store, **(habits["wet"] if loa_mode == "zeros" else habits[folder.name]))

    folders = [place / name for name in habits]
    for folder in folders:
        folder.mkdir()
    named = [Paraphrase(name, "procedural", name.replace("_", " ")) for name in judge.labels.procedural]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(nano, "open_checkpoint", open_parrot)
        patch.setattr(nano, "real_time_factors", lambda backends, rounds: [{"rtf": 0.5, "rtf_few": 0.2}] * len(backends))
        patch.setattr(nano, "peak_mb", lambda folder: 900.0)
        patch.setattr(nano, "read_paraphrases", lambda: [*named, Paraphrase("fire", "recorded", "fire")])
        return nano.run(folders, SMALL, synthesise=synthesise, second=Second(judge), work=place / "work")


def test_the_whole_protocol_tells_all_keys_and_compares_checkpoints(report):
    good, wet = report["checkpoints"]

    promised = "classes judge_ceiling recon_top1 recon_top5 top1 top5 top1_few top5_few gt_loa_top1 zero_loa_top1 j2 j2_ceiling"
    promised += " pictures_top5 rtf rtf_few peak_mb size_mb steps steps_few guidance"
    assert set(promised.split()) <= set(good) == set(wet)
    assert good["top1"] == 1.0 and wet["top1"] == pytest.approx(1 / 6, abs=1e-4)
    assert good["loa_effect"]["top1"]["difference"] == pytest.approx(5 / 6, abs=1e-4) and wet["loa_effect"]["top1"]["difference"] == 0
    assert good["gt_loa_top1"] == 1.0 and good["recorded"]["top1"] == 1.0 and good["recorded"]["recon_top1"] is None
    assert good["j2_ceiling"] == 0.7 and good["j2"] == 1.0
    assert good["envelope_correlation"] is None and "loudness curve" in good["envelope_reason"]
    assert good["guidance"] == 2.5 and good["steps"] == 25 and good["steps_few"] == 8
    assert [point["at"] for point in good["sweeps"]["guidance"]] == [1.0, 2.5]
    (compared,) = report["comparison"]
    assert compared["top1"]["difference"] == pytest.approx(-5 / 6, abs=1e-4) and compared["top1"]["interval"][1] < 0
    assert report["settings"]["comparable"] is False
    json.dumps(report)


def test_the_table_shows_every_figure_of_both_checkpoints(report):
    text = table(report)

    assert "compares with" not in text and "A quick run" in text
    line = next(line for line in text.splitlines() if line.startswith("  unseen paraphrases, top-1"))
    assert "1.000" in line and "0.167" in line
    assert "envelope_reason: this checkpoint reads no loudness curve" in text
    absent = {"envelope_correlation", "envelope_onsets", "recorded.recon_top5", "recorded.j2", "j2_music"}
    for told, path in LINES:
        if path and path not in absent and not path.startswith(("mixtures", "probes")):
            assert shown(report["checkpoints"][0], path) != "-", told


def test_without_a_second_judge_its_keys_are_null_with_a_reason(listen):
    told = nano.second_figures(None, {}, "not built")

    assert told["j2"] is None and told["j2_ceiling"] is None and told["j2_reason"] == "not built"
