"""From a plan to stems: on time, checked, rolled again, and the same after a kill."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import soundfile

from generators.base import Cancelled, GenerationRequest, Progress
from media.loudness import LoudnessMeter
from media.refs import MediaStore
from orchestrator.scoring import Ledger, Score, make, write_stem
from orchestrator.soundtrack import ASKED_UNDER, BED, LEADS, UNDER, UNSURE_BED, Plan, Seen, plan
from tests.orchestrator.film import HERE, RATE, THERE, Film, Flash, Toy, makers, seen

ONSETS = (0.5, 1.25, 1.5, 3.04, 5.5)


def toy(tmp_path: Path, **how: object) -> Toy:
    return Toy(MediaStore(tmp_path / "store"), **how)  # type: ignore[arg-type]


def ledger(tmp_path: Path, hands: Toy) -> Ledger:
    return Ledger(tmp_path / "ledger", hands.holds)


def planned(seconds: float = 6.0, onsets: Sequence[float] = ONSETS, **how: object) -> Plan:
    film = Film(seconds, cuts=(seconds / 2,), onsets=tuple(Flash(t) for t in onsets))
    return plan(film, seen(HERE, THERE), makers(**how))


def stem(made: Plan, layer: str, score: Score, hands: Toy, folder: Path) -> np.ndarray:
    path = folder / f"{layer}.wav"
    write_stem(made, layer, score, hands, path)  # type: ignore[arg-type]
    samples, rate = soundfile.read(path, dtype="float32")
    assert rate == RATE
    return samples


def rises(samples: np.ndarray) -> list[float]:
    """When the 1 ms level jumps by more than 12 dB over the 20 ms before: of bursts on silence their beginnings, to a millisecond."""
    level = np.sqrt((samples[: len(samples) // 16 * 16].reshape(-1, 16) ** 2).mean(1)) + 1e-4
    found: list[float] = []
    for k in range(1, len(level)):
        if level[k] > 0.02 and level[k] > 4 * level[max(k - 20, 0) : k].max() and (not found or k / 1000 - found[-1] > 0.1):
            found.append(k / 1000)
    return found


@pytest.mark.parametrize("envelope", [True, False])
def test_every_event_begins_when_it_is_seen_and_nothing_else_does(tmp_path: Path, envelope: bool) -> None:
    hands, made = toy(tmp_path), planned(envelope=envelope)
    samples = stem(made, "foley", make(made, hands, ledger(tmp_path, hands)), hands, tmp_path)
    assert rises(samples) == pytest.approx(ONSETS, abs=0.006)


def test_a_weak_onset_sounds_softer(tmp_path: Path) -> None:
    film = Film(4.0, onsets=(Flash(1.0, 1.0), Flash(3.0, 0.5)))
    hands, made = toy(tmp_path), plan(film, seen(HERE), makers(), layers=["foley"])
    samples = stem(made, "foley", make(made, hands, ledger(tmp_path, hands)), hands, tmp_path)
    loud, soft = (np.sqrt((samples[int(t * RATE) : int((t + 0.05) * RATE)] ** 2).mean()) for t in (1.0, 3.0))
    assert 20 * np.log10(soft / loud) == pytest.approx(-6.0, abs=1.0)


@pytest.mark.parametrize("seconds", [6.0, 7.04, 0.2, 61.32])
def test_stems_last_as_long_as_the_video(tmp_path: Path, seconds: float) -> None:
    hands, made = toy(tmp_path), planned(seconds, onsets=(seconds / 4,), longest=10.0)
    score = make(made, hands, ledger(tmp_path, hands))
    for layer in made.layers():
        assert len(stem(made, layer, score, hands, tmp_path)) == round(seconds * RATE)


def test_a_long_bed_has_no_hole_and_no_bump_where_spans_meet(tmp_path: Path) -> None:
    hands = toy(tmp_path)
    made = plan(Film(95.0), seen(HERE), makers(longest=10.0), layers=["ambience"])
    samples = stem(made, "ambience", make(made, hands, ledger(tmp_path, hands)), hands, tmp_path)
    assert len(made.tapes[0].spans) == 12
    level = 10 * np.log10((samples[RATE:-RATE].reshape(-1, RATE // 4) ** 2).mean(1))
    assert np.ptp(level) < 1.0  # decibels: white noise of one level, spans with seeds of their own


def loudness(samples: np.ndarray) -> float:
    meter = LoudnessMeter(RATE, 1)
    meter.add(samples[None])
    return meter.lufs()


@pytest.mark.parametrize(("prompt", "under"), [("", UNDER), ("calm piano", ASKED_UNDER)])
def test_beds_are_equally_loud_and_music_stays_under_those_that_tell_something(tmp_path: Path, prompt: str, under: float) -> None:
    """Three scenes: a quiet clock, a loud engine, and something unknown, whose bed gives way to the music."""
    hands = toy(tmp_path, quiet=lambda request: 0.01 if "clock" in request.prompt else 1.0)
    sights = [Seen((), "clock", HERE), Seen((), "engine", THERE), Seen((), None, None)]
    made = plan(Film(24.0, cuts=(8.0, 16.0)), sights, makers(), prompt=prompt, layers=["ambience", "music"])
    score = make(made, hands, ledger(tmp_path, hands))
    bed, music = (stem(made, layer, score, hands, tmp_path) for layer in ("ambience", "music"))
    parts = [slice(round((start + 0.5) * RATE), round((start + 7.4) * RATE)) for start in (0, 8, 16)]
    assert [loudness(bed[part]) for part in parts] == pytest.approx([BED, BED, UNSURE_BED], abs=0.7)
    over = UNSURE_BED - BED + LEADS
    assert [loudness(music[part]) - BED for part in parts] == pytest.approx([under, under, over], abs=0.7)


def test_what_fails_its_check_is_rolled_again_with_another_seed(tmp_path: Path) -> None:
    first = {span.seed for tape in planned().tapes if tape.layer == "ambience" for span in tape.spans}
    hands = toy(tmp_path, spoiled=lambda request: "music" if request.seed in first else "")
    score = make(planned(), hands, ledger(tmp_path, hands))
    beds = [verdict for verdict in score.verdicts if verdict.layer == "ambience"]
    assert [(v.rolls, v.fault, v.faults) for v in beds] == [(2, "", ("music is heard (noise)", ""))] * 2
    assert all(v.rolls == 1 for v in score.verdicts if v.layer != "ambience")
    assert not first & {v.seed for v in beds}


def test_where_every_roll_fails_the_least_fault_is_kept_and_said(tmp_path: Path) -> None:
    turns = iter(["silent", "speech", "silent"])
    told: dict[int, str] = {}

    def spoiled(request: GenerationRequest) -> str:
        return told.setdefault(request.seed, next(turns)) if request.seed not in told else told[request.seed]

    hands = toy(tmp_path, spoiled=spoiled)
    made = plan(Film(4.0), seen(HERE), makers(), layers=["ambience"])
    (verdict,) = make(made, hands, ledger(tmp_path, hands), rerolls=2).verdicts
    assert verdict.rolls == 3 and verdict.fault == "speech is heard (noise)" and verdict.faults[0] == "silent"
    assert told[verdict.seed] == "speech"


def test_no_rerolls_means_one_roll(tmp_path: Path) -> None:
    hands = toy(tmp_path, spoiled=lambda request: "silent")
    score = make(planned(), hands, ledger(tmp_path, hands), rerolls=0)
    assert all(v.rolls == 1 and v.fault == "silent" for v in score.verdicts)


def test_a_run_that_dies_anywhere_goes_on_and_ends_with_the_same_stems(tmp_path: Path) -> None:
    made = planned(40.0, onsets=[1.0 + 2 * k for k in range(19)], longest=6.0)

    def digests(folder: Path, hands: Toy) -> list[str]:
        score = make(made, hands, ledger(folder, hands))
        return [hashlib.sha256(stem(made, layer, score, hands, folder).tobytes()).hexdigest() for layer in made.layers()]

    whole = toy(tmp_path / "whole")
    (tmp_path / "whole").mkdir()
    wanted = digests(tmp_path / "whole", whole)
    total = len(whole.made)
    assert total > 15
    for dies in (1, 9, total - 1):
        folder = tmp_path / str(dies)
        folder.mkdir()
        with pytest.raises(KeyboardInterrupt):
            digests(folder, toy(folder, stop_after=dies))
        again = toy(folder)
        assert digests(folder, again) == wanted
        assert len(again.made) <= total - dies // 4 * 4  # whole batches of four are not made twice
        assert {size for _, size in again.batches} <= {4}


def test_a_finished_sound_of_another_backend_is_not_taken_for_ours(tmp_path: Path) -> None:
    hands, made = toy(tmp_path), planned()
    make(made, hands, ledger(tmp_path, hands))
    count = len(hands.made)
    make(made, hands, ledger(tmp_path, hands))
    assert len(hands.made) == count
    other = toy(tmp_path, sign="sha256:" + "2" * 64)
    make(made, other, ledger(tmp_path, other))
    assert len(other.made) == count


def test_a_cancel_stops_at_once_and_progress_ends_at_all(tmp_path: Path) -> None:
    hands, made, told = toy(tmp_path), planned(), []
    make(made, hands, ledger(tmp_path, hands), on_progress=told.append)
    shares = [progress.step / progress.of for progress in told]
    assert shares == sorted(shares) and shares[-1] == 1.0 and isinstance(told[0], Progress)
    stopping = toy(tmp_path / "b")
    with pytest.raises(Cancelled):
        make(made, stopping, ledger(tmp_path / "b", stopping), cancelled=lambda: len(stopping.made) >= 2)
    assert len(stopping.made) == 2
