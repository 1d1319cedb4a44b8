"""The listening test: what is asked of whom, what they hear, and what is made of the answers."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from scipy.signal import freqz

from configs.registry import ConfigError
from evaluation.listening import (
    ANCHOR,
    LEVEL_LUFS,
    RATE,
    REFERENCE,
    Answer,
    BadAnswer,
    Kind,
    Sound,
    Test,
    analyse,
    as_rows,
    check_answer,
    crossed_interval,
    keep,
    load,
    matched,
    order,
    plan,
    prepare,
    read_answers,
    save,
    screened,
    without_treble,
)
from media.audio import Audio, loudness_lufs, read_audio, write_audio

SYSTEMS = ("small", "large")


def noise(seconds: float, level: float, seed: int = 0, rate: int = 16_000) -> Audio:
    draw = np.random.default_rng(seed)
    return Audio((level * draw.standard_normal((1, round(seconds * rate)))).clip(-1, 1).astype(np.float32), rate)


def sounds(folder: Path, prompts: int = 3, seeds: tuple[int, ...] = (0, 1)) -> list[Sound]:
    return [
        Sound(system=system, prompt=f"p{k}", caption=f"sound {k}", seed=seed, path=folder / f"{system}-{k}-{seed}.wav")
        for k in range(prompts)
        for system in SYSTEMS
        for seed in seeds
    ]


def asked(folder: Path, *kinds: Kind, prompts: int = 3) -> Test:
    return plan(sounds(folder, prompts), {f"p{k}": folder / f"reference-{k}.wav" for k in range(prompts)}, kinds, seed=7)


def test_every_system_is_asked_for_every_prompt(tmp_path: Path) -> None:
    test = asked(tmp_path, "ovl", "pair", "mushra")
    for kind, sizes in (("ovl", [1] * 6), ("pair", [2] * 3), ("mushra", [4] * 3)):
        assert [len(t.stimuli) for t in test.trials if t.kind == kind and t.wanted is None] == sizes
    hidden = {test.stimuli[key].system for t in test.trials if t.kind == "mushra" for key in t.stimuli}
    assert hidden == {*SYSTEMS, REFERENCE, ANCHOR}
    checks = [t for t in test.trials if t.wanted is not None]
    assert len(checks) == 1 and checks[0].kind == "ovl"


def test_a_prompt_that_one_system_failed_is_not_asked(tmp_path: Path) -> None:
    made = [s for s in sounds(tmp_path) if not (s.system == "small" and s.prompt == "p1")]
    assert {t.prompt for t in plan(made, {}, ["rel"], 0).trials} == {"p0", "p2"}
    without_first_seed = [s for s in sounds(tmp_path) if not (s.system == "small" and s.seed == 0)]
    assert {s.seed for s in plan(without_first_seed, {}, ["rel"], 0).stimuli.values()} == {1}


def test_what_cannot_be_asked_is_said(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="every system"):
        plan([], {}, ["mos"], 0)
    with pytest.raises(ConfigError, match="two systems"):
        plan([s for s in sounds(tmp_path) if s.system == "small"], {}, ["pair"], 0)
    with pytest.raises(ConfigError, match="'reference'"):
        plan(sounds(tmp_path), {}, ["mushra"], 0)


def test_raters_have_their_own_order_and_names_and_keep_them(tmp_path: Path) -> None:
    test = asked(tmp_path, "mos", "mushra", prompts=8)
    anna, ben = order(test, "anna"), order(test, "ben")
    assert anna == order(test, "anna")
    assert [t.id for t, _ in anna] != [t.id for t, _ in ben] and {t.id for t, _ in anna} == {t.id for t, _ in ben}
    assert [t.kind for t, _ in anna] == sorted((t.kind for t, _ in anna), key=["mos", "mushra"].index)
    names = {name for _, names in anna for name in names}
    assert not names & {name for _, names in ben for name in names}
    assert not names & set(test.stimuli), "a rater's names are not those of the files"
    places = [[test.stimuli[key].system for key in names.values()].index(REFERENCE) for t, names in anna if t.kind == "mushra"]
    assert len(set(places)) > 1, "the hidden reference does not always stand at one place"


def test_what_is_heard_is_of_one_loudness_length_and_rate(tmp_path: Path) -> None:
    test = asked(tmp_path, "mushra", prompts=1)
    for k, sound in enumerate(sounds(tmp_path, 1)):
        write_audio(sound.path, noise(2.9 + 0.02 * k, 0.02 * (k + 1), k))
    write_audio(tmp_path / "reference-0.wav", noise(3.0, 0.2, 9, 44_100))
    prepare(test, tmp_path / "stimuli")
    heard = {test.stimuli[key].system: read_audio(tmp_path / "stimuli" / f"{key}.wav") for key in test.stimuli}
    assert {s.sample_rate for s in heard.values()} == {RATE} and len({s.samples.shape for s in heard.values()}) == 1
    whole = {name: loudness_lufs(s) for name, s in heard.items() if name in ("small", "large", REFERENCE)}
    assert max(whole.values()) - min(whole.values()) < 0.5
    spectrum = np.abs(np.fft.rfft(heard[ANCHOR].samples[0])) ** 2
    hz = np.fft.rfftfreq(heard[ANCHOR].samples.shape[1], 1 / RATE)
    assert spectrum[hz > 4500].sum() < 1e-4 * spectrum[hz < 3400].sum()


def test_a_peaky_sound_makes_all_of_its_trial_softer() -> None:
    click = np.zeros((1, 48_000), np.float32)
    click[0, ::12_000] = 0.9
    loud, steady = matched([Audio(click, 48_000), noise(1.0, 0.1, rate=48_000)])
    assert np.abs(loud.samples).max() <= 10 ** (-1 / 20) + 1e-6
    assert loudness_lufs(loud) == pytest.approx(loudness_lufs(steady), abs=0.1)
    assert loudness_lufs(steady) < LEVEL_LUFS - 1
    silent, _ = matched([Audio(np.zeros((1, 48_000), np.float32), 48_000), noise(1.0, 0.1, rate=48_000)])
    assert not silent.samples.any()
    short, long = matched([noise(0.2, 0.5, rate=48_000), noise(1.0, 0.01, rate=48_000)])
    assert short.samples.shape == long.samples.shape


def test_the_anchor_keeps_to_the_recommendation() -> None:
    impulse = np.zeros((1, 9601), np.float32)
    impulse[0, 4800] = 1.0
    out = without_treble(Audio(impulse, RATE)).samples[0].astype(np.float64)
    assert int(np.abs(out).argmax()) == 4800, "no delay: switching stays aligned"
    hz, response = freqz(out, worN=8192, fs=RATE)
    level = 20 * np.log10(np.maximum(np.abs(response), 1e-9))
    assert np.abs(level[hz <= 3500]).max() <= 0.1
    assert level[hz >= 4000].max() <= -25 and level[hz >= 4500].max() <= -50


def test_answers_that_a_trial_does_not_allow_are_refused(tmp_path: Path) -> None:
    test = asked(tmp_path, "mos", "pair", "mushra")
    by_kind = {trial.kind: trial for trial in reversed(test.trials)}
    (one,), (a, b) = by_kind["mos"].stimuli, by_kind["pair"].stimuli
    check_answer(by_kind["mos"], {one: 5})
    check_answer(by_kind["pair"], {a: 0.5, b: 0.5})
    check_answer(by_kind["mushra"], dict.fromkeys(by_kind["mushra"].stimuli, 100))
    for trial, ratings in (
        (by_kind["mos"], {one: 6}),
        (by_kind["mos"], {one: 2.5}),
        (by_kind["mos"], {one: math.nan}),
        (by_kind["mos"], {}),
        (by_kind["pair"], {a: 1, b: 1}),
        (by_kind["pair"], {a: 1}),
        (by_kind["mushra"], dict.fromkeys(by_kind["mushra"].stimuli, 101)),
        (by_kind["mushra"], {one: 50}),
    ):
        with pytest.raises(BadAnswer):
            check_answer(trial, ratings)


def rate(test: Test, rater: str, value: dict[str, float], wrong: int = 0) -> list[Answer]:
    """Answers of a rater who gives every system its value; ``wrong`` attention checks are missed."""
    given = []
    for trial, names in order(test, rater):
        ratings = {key: value[test.stimuli[key].system] for key in names.values()}
        if trial.wanted is not None:
            ratings = {key: float(trial.wanted if wrong <= 0 else trial.wanted % 5 + 1) for key in ratings}
            wrong -= 1
        given.append(Answer(rater=rater, trial=trial.id, ratings=ratings))
    return given


def test_means_are_those_of_the_answers_and_careless_raters_do_not_count(tmp_path: Path) -> None:
    test = asked(tmp_path, "ovl", prompts=6)
    answers = rate(test, "a", {"small": 2, "large": 4}) + rate(test, "b", {"small": 3, "large": 5})
    told = analyse(test, answers + rate(test, "c", {"small": 5, "large": 1}, wrong=1))["ovl"]
    assert told["systems"]["small"]["mean"] == 2.5 and told["systems"]["large"]["mean"] == 4.5
    assert told["systems"]["small"]["interval"] == [2.0, 3.0] and told["systems"]["small"]["n"] == 12
    assert list(told["left_out"]) == ["c"] and told["raters"] == 2


def test_a_mushra_assessor_who_cannot_tell_the_reference_is_left_out(tmp_path: Path) -> None:
    test = asked(tmp_path, "mushra", prompts=10)
    good = rate(test, "good", {"small": 40, "large": 70, REFERENCE: 100, ANCHOR: 20})
    deaf = rate(test, "deaf", {"small": 40, "large": 70, REFERENCE: 80, ANCHOR: 20})
    slip = [a.model_copy(update={"rater": "slip"}) for a in rate(test, "slip", {"small": 50, "large": 60, REFERENCE: 95, ANCHOR: 10})]
    slip[0] = slip[0].model_copy(update={"ratings": {k: 50.0 for k in slip[0].ratings}})  # one of ten: 10 % is forgiven
    assert list(screened(test, "mushra", good + deaf + slip)) == ["deaf"]
    told = analyse(test, good + deaf)["mushra"]["systems"]
    assert {name: row["mean"] for name, row in told.items()} == {"small": 40, "large": 70, REFERENCE: 100, ANCHOR: 20}


def test_preferences_count_for_the_first_named_system(tmp_path: Path) -> None:
    test = asked(tmp_path, "pair", prompts=4)
    answers = []
    for trial, _ in order(test, "a"):
        large = next(key for key in trial.stimuli if test.stimuli[key].system == "large")
        answers.append(Answer(rater="a", trial=trial.id, ratings={key: float(key == large) for key in trial.stimuli}))
    answers[0] = answers[0].model_copy(update={"ratings": dict.fromkeys(answers[0].ratings, 0.5)})
    (pair,) = analyse(test, answers)["pair"]["pairs"]
    assert (pair["first"], pair["second"], pair["first_better"]["mean"]) == ("small", "large", 0.125)


def test_agreement_shows_who_goes_against_all_others(tmp_path: Path) -> None:
    test = asked(tmp_path, "mos", prompts=5)
    answers = rate(test, "a", {"small": 2, "large": 4}) + rate(test, "b", {"small": 1, "large": 5})
    told = analyse(test, answers + rate(test, "c", {"small": 5, "large": 2}))["mos"]["agreement"]
    assert told["a"] > 0 and told["c"] == -1.0
    assert analyse(test, answers)["mos"]["agreement"] is None


def test_the_interval_covers_when_raters_and_prompts_both_differ() -> None:
    """Raters and prompts with effects of their own: 95 % intervals hold the truth in 91 % of studies or more."""
    draw, held, studies = np.random.default_rng(3), 0, 150
    for _ in range(studies):
        strict, hard = draw.normal(0, 0.5, 12), draw.normal(0, 0.5, 15)
        values = 3 + strict[:, None] + hard[None] + draw.normal(0, 0.7, (12, 15))
        cells = [(f"r{i}", f"p{j}", float(values[i, j])) for i in range(12) for j in range(15)]
        low, high = crossed_interval(cells, resamples=400)
        held += low <= 3 <= high
    assert held / studies >= 0.91
    # Resampling ratings as if each stood alone holds it in half of them at best.
    flat = np.sqrt(0.5**2 / 12 + 0.5**2 / 15 + 0.7**2 / 180) / np.sqrt((0.5**2 * 2 + 0.7**2) / 180)
    assert flat > 2.5


def test_answers_survive_a_torn_line_and_the_first_of_two_counts(tmp_path: Path) -> None:
    file = tmp_path / "answers.jsonl"
    keep(file, Answer(rater="a", trial="t", ratings={"x": 1}))
    keep(file, Answer(rater="a", trial="t", ratings={"x": 5}))
    with file.open("a") as out:
        out.write('{"rater":"a","tri')
    keep(file, Answer(rater="b", trial="t", ratings={"x": 2}))
    assert [(a.rater, a.ratings["x"]) for a in read_answers(file)] == [("a", 1), ("b", 2)]


def test_a_test_is_kept_whole_and_a_damaged_one_is_named(tmp_path: Path) -> None:
    test = asked(tmp_path, "mos")
    assert load(tmp_path) is None
    save(test, tmp_path)
    assert load(tmp_path) == test
    (tmp_path / "test.json").write_text("{")
    with pytest.raises(ConfigError, match=r"test\.json"):
        load(tmp_path)


def test_rows_for_elsewhere_name_the_system(tmp_path: Path) -> None:
    test = asked(tmp_path, "rel")
    rows = as_rows(test, rate(test, "a", {"small": 2, "large": 4}))
    assert {(row["system"], row["rating"]) for row in rows if not row["check"]} == {("small", 2.0), ("large", 4.0)}
    assert sum(row["check"] for row in rows) == 1
