import json
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from evaluation import nano
from evaluation.judge import SHIPPED, Judge, mel_of
from evaluation.nano import KEYS, Listener, Verdicts, ask, figures, per_class, plain_names
from evaluation.prompts import Paraphrase, read_paraphrases
from generators.audioldm2 import LoaConfig
from generators.base import GenerationRequest, UnsupportedRequest
from media.audio import Audio
from media.refs import MediaRef, MediaStore
from training.synthesis import CLASSES


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
    config: LoaConfig = field(default_factory=lambda: LoaConfig(encoders="nano", few_steps=8, guidance=2.5))
    capabilities: SimpleNamespace = field(default_factory=lambda: SimpleNamespace(accepts={"text", "image"}))
    batches: list[int] = field(default_factory=list)

    def generate(self, requests, rows=None):
        self.batches.append(len(requests))
        return [Made(self.answer(request)) for request in requests]

    def answer(self, request: GenerationRequest) -> MediaRef:
        if request.loa:
            return request.loa[0][0]
        if request.media and self.sees is None:
            raise UnsupportedRequest("nothing in the picture is known")
        name = self.stuck or (self.sees if request.media else request.prompt.replace(" ", "_"))
        return self.store.put_audio(synthesise(name, 50_000_000 + request.seed))

    def reconstruct(self, sounds):
        return [Audio(np.zeros_like(sound.samples), sound.sample_rate) for sound in sounds]

    def vae_mel(self, sounds):
        return np.stack([mel_of(sound) for sound in sounds])

    def loa_of(self, sound):
        return self.store.put_audio(sound)

    def unload(self):
        self.batches.clear()


@pytest.fixture(scope="module")
def judge() -> Judge:
    return Judge.load(SHIPPED)


@pytest.fixture
def listen(judge, tmp_path):
    def build(**habits) -> Listener:
        store = MediaStore(tmp_path)
        return Listener(Parrot(store, **habits), judge, store, lambda stage, done, of: None)

    return build


NAMES = ["rain", "dog", "church_bell", "laser", "typing", "car_engine", "owl", "zipper", "siren"]


def test_who_makes_what_was_asked_gets_all_points(listen):
    verdicts = listen().try_all("", ask(plain_names(NAMES), (0, 1), 25), "procedural")

    assert len(verdicts.places) == 18
    assert verdicts.share(1) == 1.0


def test_who_always_makes_rain_gets_points_for_rain_only(listen):
    verdicts = listen(stuck="rain").try_all("", ask(plain_names(NAMES), (0, 1), 25), "procedural")

    assert verdicts.by_class(1) == {name: float(name == "rain") for name in NAMES}
    assert verdicts.share(1) == pytest.approx(1 / 9)


def test_sounds_are_made_eight_at_a_time(listen):
    listener = listen()

    listener.try_all("", ask(plain_names(NAMES), (0, 1), 25), "procedural")

    assert listener.backend.batches == [8, 8, 2]


def test_each_ceiling_listens_to_its_own_sounds(listen):
    clips = {name: [synthesise(name, 51_000_000)] for name in NAMES}

    verdicts = listen().ceilings(clips, "procedural")

    assert verdicts["judge_ceiling"].share(1) == 1.0
    assert verdicts["vae"].share(1) == 1.0
    assert verdicts["recon"].share(1) <= 1 / 9  # the parrot's vocoder is silent


def test_resynthesis_gives_the_true_loa_and_no_words(listen):
    clips = {name: [synthesise(name, 52_000_000)] for name in NAMES}

    assert listen(stuck="rain").resynthesise(clips, 25).share(1) == 1.0


def test_a_picture_counts_where_its_subject_is_heard(listen):
    seen = listen(sees="cat").pictures((0, 1), 25)

    assert seen["each"]["chelsea.jpg"]["in_top5"] == [True, True]
    assert seen["each"]["coffee.jpg"]["in_top5"] is None
    assert seen["judged"] == 5
    assert seen["share"] == pytest.approx(np.mean([row["in_top5"] for row in seen["each"].values() if row["in_top5"] is not None]))
    assert all(row["claims_animal"] for row in seen["blank"].values())


def test_who_refuses_a_blank_picture_claims_no_animal(listen):
    seen = listen(sees=None).pictures((0,), 25)

    assert not any(row["claims_animal"] for row in seen["blank"].values())
    assert "nothing in the picture" in seen["blank"]["noise"]["refused"]
    assert seen["share"] == 0.0 and seen["judged"] == 5


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


def test_figures_hold_shares_intervals_and_counts():
    heard = Verdicts(("dog", "dog", "cat", "cat"), (0, 1, 2, 3), np.array([0, 3, 7, 0]))

    told = figures({"paraphrases": heard, "recon": heard})

    assert told["top1"] == 0.5 and told["top5"] == 0.75 and told["recon_top5"] == 0.75
    assert told["intervals"]["top1"][0] <= 0.5 <= told["intervals"]["top1"][1]
    assert told["counts"] == {"recon_top1": 4, "recon_top5": 4, "top1": 4, "top5": 4}
    assert per_class({"paraphrases": heard}) == {"dog": {"top1": 0.5, "top5": 1.0}, "cat": {"top1": 0.5, "top5": 0.5}}


def test_size_counts_all_files_of_a_checkpoint(tmp_path: Path):
    (tmp_path / "unet").mkdir()
    (tmp_path / "unet" / "weights").write_bytes(bytes(1_500_000))
    (tmp_path / "config.json").write_bytes(bytes(500_000))

    assert nano.size_mb(tmp_path) == pytest.approx(2.0)


def test_protocol_keys_are_all_there(listen, monkeypatch):
    listener = listen()
    monkeypatch.setattr(nano, "open_checkpoint", lambda folder, store, loa_mode="predicted": Parrot(store, stuck="rain"))
    named = [Paraphrase(name, "procedural", name.replace("_", " ")) for name in NAMES]
    spoken = [Paraphrase("fire", "recorded", "fire")]
    clips = {name: [synthesise(name, 53_000_000)] for name in NAMES}

    told = nano.examine(listener, Path("nano"), [*named, *spoken], (0,), clips, None)

    asked_for = "judge_ceiling recon_top1 recon_top5 vae_top1 names_top1 names_top5 top1 top5 top1_few top5_few gt_loa_top1"
    assert set(KEYS) == {*asked_for.split(), "zero_loa_top1"}
    assert set(KEYS) <= set(told) and {"classes", "j2", "j2_ceiling", "j2_reason", "pictures_top5", "steps"} <= set(told)
    assert told["top1"] == 1.0 and told["gt_loa_top1"] == 1.0 and told["zero_loa_top1"] == pytest.approx(1 / 9, abs=1e-4)
    assert told["recorded"]["top1"] == 1.0 and told["recorded"]["recon_top1"] is None
    assert told["recorded"]["judge_ceiling"] == pytest.approx(0.187, abs=0.001)
    assert told["guidance"] == 2.5 and told["steps"] == 25 and told["steps_few"] == 8
    json.dumps(told)
