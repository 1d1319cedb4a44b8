import json
import zlib

import numpy as np
import pytest

from configs.registry import ConfigError
from evaluation import steering
from evaluation.prompts import read_paraphrases
from evaluation.steering import SECONDS, Probe, ask_probes, measure, mixed, read_mixtures, read_probes
from media.audio import Audio
from media.mel import log_mel
from media.refs import MediaRef
from training.scenes import held_out

RATE, SAMPLES = 16_000, 81_920
AT = np.arange(SAMPLES) / RATE


def sound(samples: np.ndarray) -> Audio:
    noise = 1e-4 * np.random.default_rng(0).standard_normal(SAMPLES)
    return Audio((samples + noise)[None].astype(np.float32), RATE)


def taps(times) -> Audio:
    since = AT[:, None] - np.asarray(times)
    return sound(0.4 * np.where(since >= 0, np.exp(-np.abs(since) / 0.02), 0).sum(1) * np.sin(2 * np.pi * 1200 * AT))


def tone(hz: float, gain: float = 0.3) -> Audio:
    return sound(gain * np.sin(2 * np.pi * hz * AT))


def test_a_tempo_probe_is_passed_at_its_tempo_alone():
    probe = Probe("tempo", ("",), 120)

    assert measure(probe, [taps(np.arange(0.2, 5, 0.5))]) == {"right": 1.0, "octave": 0.0}
    assert measure(probe, [taps(np.arange(0.2, 5, 0.25))]) == {"right": 0.0, "octave": 1.0}
    assert measure(probe, [taps(np.arange(0.2, 5, 0.36))]) == {"right": 0.0, "octave": 0.0}


def test_pairs_are_passed_in_one_order_and_failed_in_the_other():
    slow, fast = taps(np.arange(0.2, 5, 1.0)), taps(np.arange(0.2, 5, 0.3))
    far = sound(0.02 * np.convolve(np.random.default_rng(1).standard_normal(SAMPLES), np.ones(9) / 9, mode="same"))
    near = sound(0.2 * np.random.default_rng(1).standard_normal(SAMPLES))
    for kind, less, more in (("pace", slow, fast), ("number", slow, fast), ("register", tone(200), tone(900)), ("distance", far, near)):
        probe = Probe(kind, ("", ""))
        assert measure(probe, [less, more])["right"] == 1.0, kind
        assert measure(probe, [more, less])["right"] == 0.0, kind


def test_near_must_be_louder_and_brighter():
    dull_but_loud = sound(0.5 * np.sin(2 * np.pi * 150 * AT))

    shown = measure(Probe("distance", ("", "")), [tone(2000, 0.05), dull_but_loud])

    assert shown == {"right": 0.0, "louder": 1.0, "brighter": 0.0}


def test_counts_and_contours():
    assert measure(Probe("count", ("",), 3), [taps([0.5, 1.2, 2.0])]) == {"right": 1.0, "within_one": 1.0}
    assert measure(Probe("count", ("",), 4), [taps([0.5, 1.2, 2.0])]) == {"right": 0.0, "within_one": 1.0}
    glide = sound(0.3 * np.sin(2 * np.pi * np.cumsum(300 * 2 ** (0.4 * AT)) / RATE))
    assert measure(Probe("contour", ("",), 1), [glide])["right"] == 1.0
    assert measure(Probe("contour", ("",), -1), [glide])["right"] == 0.0


def test_a_drawn_curve_is_followed_by_a_sound_made_from_it():
    probe = Probe("onsets", ("",), [0.5, 1.5, 2.0, 4.0])
    fine = np.interp(np.arange(SAMPLES), (np.arange(512) + 0.5) * 160, probe.curve())
    made = sound(np.where(fine > 0, 10 ** ((fine - 1) * 50 / 20), 0) * 0.3 * np.random.default_rng(2).standard_normal(SAMPLES))

    shown = measure(probe, [made])

    assert shown["right"] == 1.0 and shown["f1"] == 1.0 and shown["correlation"] > 0.9
    assert measure(probe, [taps([0.9, 2.4, 3.0])])["right"] == 0.0


def test_a_curve_goes_through_its_points():
    curve = Probe("curve", ("",), [[0, 0.2], [2.56, 1.0], [5.12, 0.2]]).curve()

    assert curve.shape == (512,) and curve[255] == pytest.approx(1.0, abs=0.01) and curve[0] == pytest.approx(0.2, abs=0.01)


def test_drawn_probes_carry_their_curve_and_are_left_out_where_it_cannot_be_given():
    stored: list[np.ndarray] = []

    def store(curve: np.ndarray) -> MediaRef:
        stored.append(curve)
        return MediaRef(id="sha256:" + "0" * 64, kind="condition", mime="x")

    rows = [Probe("onsets", ("knocks",), [1.0]), Probe("pace", ("slow", "fast"))]

    with_curves, without = (ask_probes(rows, (0, 1), 8, how) for how in (store, None))

    assert [len(each.requests) for each in with_curves] == [1, 1, 2, 2] and len(stored) == 1
    assert with_curves[0].requests[0].envelope is not None
    assert [each.probe.kind for each in without] == ["pace", "pace"]


def test_summary_reads_sounds_in_the_order_of_the_requests():
    rows = [Probe("pace", ("slow", "fast")), Probe("count", ("two",), 2)]
    slow, fast = taps(np.arange(0.2, 5, 1.0)), taps(np.arange(0.2, 5, 0.3))
    asked = ask_probes(rows, (0,), 8, None)

    told = steering.summary(steering.read(asked, [slow, fast, taps([1.0, 2.0])]))

    assert told["pace"]["right"] == 1.0 and told["count"]["right"] == 1.0
    assert told["pace"]["n"] == 1 and told["count"]["interval"] == [1.0, 1.0]


def test_a_mixture_holds_both_sounds_at_once_or_in_turn():
    both = log_mel(mixed("while", tone(300), tone(3000, 0.03)).samples[0], steering.probes.SPEC)
    turn = log_mel(mixed("then", tone(300), tone(3000, 0.03)).samples[0], steering.probes.SPEC)

    low, high = (int(log_mel(tone(hz).samples[0], steering.probes.SPEC).mean(0).argmax()) for hz in (300, 3000))
    assert abs(both[:, low].mean() - both[:, high].mean()) < 1.5  # nepers; ten times apart before
    assert turn[50:200, low].mean() - turn[50:200, high].mean() > 3
    assert turn[310:460, high].mean() - turn[310:460, low].mean() > 3


def test_the_asked_pairs_are_those_that_training_leaves_out():
    mixtures, classes = read_mixtures(), {row.name for row in read_paraphrases()}

    assert len({row.how for row in mixtures}) == 2
    for row in mixtures:
        assert held_out(row.first, row.second) and {row.first, row.second} <= classes
        assert zlib.crc32("|".join(sorted((row.first, row.second))).encode()) % 5 == 0
    assert len({frozenset((row.first, row.second)) for row in mixtures}) == len(mixtures)


def test_goals_of_the_shipped_probes_can_be_met():
    for probe in read_probes():
        if probe.kind == "tempo":
            assert 40 <= probe.goal <= 240
        if probe.kind in steering.DRAWN:
            curve = probe.curve()
            assert curve.min() >= 0 and curve.max() <= 1 and curve.std() > 0.1
        if probe.kind == "onsets":
            assert min(np.diff(probe.goal)) >= 0.3 and probe.goal[0] > 0 and probe.goal[-1] < SECONDS - 0.3


def test_a_damaged_row_is_named(tmp_path):
    path = tmp_path / "probes.jsonl"
    path.write_text(
        json.dumps({"probe": "pace", "less": "slow", "more": "fast"}) + "\n" + json.dumps({"probe": "tempo", "prompt": "x"})
    )

    with pytest.raises(ConfigError, match="line 2"):
        read_probes(path)
    with pytest.raises(ConfigError, match="checkout"):
        read_probes(tmp_path / "none.jsonl")
