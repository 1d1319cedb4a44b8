import json

import numpy as np
import pytest

from evaluation.judge import (
    FLOOR,
    SAMPLES,
    SHIPPED,
    TWINS,
    Clips,
    Judge,
    Labels,
    accuracy,
    choose_labels,
    fit,
    mel_of,
    ranks,
    read_clips,
)
from media.audio import Audio
from training.synthesis import CLASSES

UNSEEN = 40_000_000  # no split and no benchmark uses these seeds


@pytest.fixture(scope="module")
def judge() -> Judge:
    return Judge.load(SHIPPED)


@pytest.fixture(scope="module")
def fresh() -> list[tuple[str, np.ndarray]]:
    """Two clips of every procedural class, float32 [81920] each."""
    clips = []
    for index, (name, make) in enumerate(CLASSES.items()):
        for seed in range(2):
            samples = make(np.random.default_rng([index, UNSEEN + seed]), 5.12)[:SAMPLES]
            clips.append((name, np.pad(samples, (0, SAMPLES - len(samples))).astype(np.float32)))
    return clips


def top1(judge: Judge, clips: list[tuple[str, np.ndarray]]) -> float:
    heard = judge.listen([Audio(samples[None], 16_000) for _, samples in clips])
    return float((judge.ranks(heard, [name for name, _ in clips], "procedural") == 0).mean())


def test_judge_knows_sounds_of_seeds_it_never_met(judge, fresh):
    assert top1(judge, fresh) >= 0.95


def test_judge_is_not_fooled_by_level_or_noise(judge, fresh):
    noise = np.random.default_rng(0).standard_normal(SAMPLES).astype(np.float32)

    assert top1(judge, [(name, 0.2 * samples) for name, samples in fresh[::2]]) >= 0.95
    assert top1(judge, [(name, 0.7 * samples + 0.003 * noise) for name, samples in fresh[::2]]) >= 0.9


def test_judge_gives_no_verdict_by_chance(judge, fresh):
    shuffled = [(name, fresh[(place + 31) % len(fresh)][1]) for place, (name, _) in enumerate(fresh)]

    assert top1(judge, shuffled) <= 0.05


def test_shipped_judge_is_small_and_met_its_gate(judge):
    assert sum(path.stat().st_size for path in SHIPPED.iterdir()) < 2e6
    assert judge.figures["procedural"]["top1"] >= 0.98
    assert judge.labels.procedural == tuple(CLASSES)


def test_a_twin_is_one_label_for_both_kinds(judge):
    assert judge.labels.answer("footsteps snow", "recorded") == "footsteps"
    assert judge.labels.answer("footsteps", "procedural") == "footsteps"
    assert judge.labels.answer("goat", "recorded") is None
    assert set(TWINS.values()) <= set(judge.labels.procedural)
    assert "goat" in judge.labels.unjudged


def test_rank_is_the_place_in_the_sorted_list():
    random = np.random.default_rng(5)
    names = [f"label {index}" for index in range(12)]
    accepted = names[2:9]
    logits = random.standard_normal((40, 12))
    answers = [accepted[index] for index in random.integers(0, 7, 40)]

    for row, answer, place in zip(logits, answers, ranks(logits, names, answers, accepted), strict=True):
        ordered = sorted(accepted, key=lambda name: -row[names.index(name)])
        assert ordered[place] == answer


def test_a_constant_judge_gets_no_credit_for_ties():
    assert ranks(np.zeros((1, 4)), list("abcd"), ["a"], list("abcd")).tolist() == [3]


def test_mel_of_a_stereo_sound_at_another_rate_shows_its_tone():
    seconds = np.arange(3 * 44_100) / 44_100
    tone = 0.5 * np.sin(2 * np.pi * 1000 * seconds).astype(np.float32)

    mel = mel_of(Audio(np.stack([tone, tone]), 44_100))

    # Slaney's scale: 1 kHz is 15 of 45.25 mels up to 8 kHz, cut by 64 triangles: between the peaks of 20 and 21.
    loudest = int(mel[100:200].mean(axis=0).argmax())
    assert mel.shape == (512, 64)
    assert loudest in (20, 21)
    assert mel[400:].max() == pytest.approx(FLOOR)


def clips_of_low_and_high_sounds(seed: int) -> Clips:
    random = np.random.default_rng(seed)
    mels = np.full((40, 128, 64), -9.0) + 0.5 * random.standard_normal((40, 128, 64))  # a quarter of a clip is learned from as well
    targets = np.arange(40) % 2
    mels[targets == 0, :, 5:20] += 7
    mels[targets == 1, :, 40:55] += 7
    return Clips(mels.astype(np.float16), targets.astype(np.int64))


def test_training_learns_to_tell_low_from_high():
    labels = Labels(("low", "high"), ("low", "high"), (), {}, {})
    judge = Judge(fit(clips_of_low_and_high_sounds(0), 2, steps=10, batch=8, seed=1), labels, "", {})

    assert accuracy(judge, clips_of_low_and_high_sounds(1), "procedural")["top1"] == 1.0


def test_training_repeats_itself():
    first, second = (fit(clips_of_low_and_high_sounds(0), 2, steps=2, batch=4, seed=1).state_dict() for _ in range(2))

    assert all(np.array_equal(value, second[key]) for key, value in first.items())


@pytest.fixture
def folder(tmp_path):
    recorded = ["gong"] * 9 + ["fire"] * 9 + ["harp"] * 9 + ["lute"] * 9 + ["rare"]
    splits = {
        "rec_judge": [[0, 0], [9, 0], [27, 0]],  # gong, fire, lute
        "rec_test": [[1, 0], [10, 0], [18, 0]],  # gong, fire, harp
    }
    (tmp_path / "labels.json").write_text(json.dumps({"procedural": ["fire", "rain"], "recorded": recorded}))
    for name, rows in splits.items():
        (tmp_path / f"{name}.json").write_text(json.dumps(rows))
        np.save(
            tmp_path / f"{name}_mel.npy",
            np.arange(3, dtype=np.float16)[:, None, None] * np.ones((1, 512, 64), np.float16),
        )
    return tmp_path


def test_a_category_needs_families_to_learn_from_and_to_be_measured_on(folder):
    labels = choose_labels(folder)

    assert labels.names == ("fire", "rain", "gong")
    assert labels.recorded == ("fire", "gong")
    assert "learn" in labels.unjudged["harp"] and "measure" in labels.unjudged["lute"]
    assert set(labels.unjudged) == {"harp", "lute"}


def test_clips_without_a_label_are_left_out_and_twins_share_one(folder):
    clips = read_clips(folder, "rec_judge", choose_labels(folder))

    assert clips.targets.tolist() == [2, 0]  # gong, fire; no lute
    assert clips.mels[:, 0, 0].tolist() == [0.0, 1.0]


def test_a_list_that_does_not_fit_its_clips_is_refused(folder):
    (folder / "rec_test.json").write_text(json.dumps([[1, 0]]))

    with pytest.raises(ValueError, match="3 clips but"):
        read_clips(folder, "rec_test", choose_labels(folder))
