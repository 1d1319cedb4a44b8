"""Edits: what must stay stays bit for bit, what is new is new, and the joint is not heard."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np
import pytest

from generators.audioldm2 import AudioLDM2
from generators.base import Edit, GenerationRequest, UnsupportedRequest
from generators.editing import TAIL_S, free_frames, joined, spans
from media.audio import Audio, read_audio
from media.refs import MediaRef, MediaStore
from tests import makers

RATE = 16_000
SECONDS = 3.3


def level_db(x: np.ndarray) -> float:
    return float(20 * np.log10(np.sqrt(np.mean(x.astype(np.float64) ** 2)) + 1e-9))


@pytest.fixture(scope="module")
def backend(tmp_path_factory: pytest.TempPathFactory) -> AudioLDM2:
    store = MediaStore(tmp_path_factory.mktemp("store"))
    return AudioLDM2(name="nano", options={"checkpoint": "nano"}, store=store, home=tmp_path_factory.mktemp("home"))


@pytest.fixture(scope="module")
def source(backend: AudioLDM2) -> MediaRef:
    return backend.generate([GenerationRequest(prompt="rain on a roof", seconds=SECONDS, seed=1, steps=6)])[0].media


def samples(backend: AudioLDM2, ref: MediaRef) -> np.ndarray:
    return read_audio(backend.store.path(ref)).samples[0]


def edited(
    backend: AudioLDM2,
    source: MediaRef,
    prompt: str = "",
    *,
    seconds: float = SECONDS,
    seed: int = 2,
    negative: str = "",
    **edit: object,
):
    request = GenerationRequest(
        prompt=prompt,
        negative_prompt=negative,
        seconds=seconds,
        seed=seed,
        steps=6,
        edit=Edit(source=source, **edit),  # type: ignore[arg-type]
    )
    return samples(backend, backend.generate([request])[0].media)


# -- variation --------------------------------------------------------------------------------------------------------
def test_strength_0_gives_the_sources_reconstruction(backend: AudioLDM2, source: MediaRef) -> None:
    rebuilt = backend.reconstruct([read_audio(backend.store.path(source))])[0].samples[0]
    assert np.abs(edited(backend, source, kind="variation", strength=0.0) - rebuilt).max() < 1 / 32_768


def test_strength_1_forgets_the_source(backend: AudioLDM2, source: MediaRef) -> None:
    other = backend.store.put_audio(Audio(np.random.default_rng(0).uniform(-0.5, 0.5, (1, 52_800)).astype(np.float32), RATE))
    once, again = (edited(backend, ref, "a dog barks", kind="variation", strength=1.0) for ref in (source, other))
    assert np.array_equal(once, again)


def test_more_strength_moves_further_away(backend: AudioLDM2, source: MediaRef) -> None:
    from media.mel import MelSpec, log_mel

    before = log_mel(samples(backend, source), MelSpec())
    moved = [
        np.abs(log_mel(edited(backend, source, "a dog barks", kind="variation", strength=s), MelSpec()) - before).mean()
        for s in (0, 0.5, 1)
    ]
    assert moved[0] < moved[1] < moved[2]


# -- regions ----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("regions", [((1.0, 2.0),), ((0.0, 0.7), (2.5, SECONDS)), ((0.3, 1.0), (0.8, 1.4))])
def test_samples_outside_the_regions_stay_bit_for_bit(
    backend: AudioLDM2, source: MediaRef, regions: tuple[tuple[float, float], ...]
) -> None:
    before = samples(backend, source)
    after = edited(backend, source, "a dog barks", kind="inpaint", regions=regions)
    inside = np.zeros(len(before), bool)
    for start, end in regions:
        inside[round(start * RATE) : round(end * RATE)] = True
    assert np.array_equal(after[~inside], before[~inside]) and np.abs(after - before)[inside].mean() > 0.01


def test_an_edit_does_not_depend_on_its_neighbours(backend: AudioLDM2, source: MediaRef) -> None:
    edit = GenerationRequest(
        prompt="a bell", seconds=SECONDS, seed=4, steps=6, edit=Edit(kind="variation", source=source, strength=0.5)
    )
    plain = GenerationRequest(prompt="wind", seconds=2.0, seed=3, steps=4)
    alone = backend.generate([edit], rows=2)[0]
    assert [made.media for made in backend.generate([plain, edit], rows=2)][1] == alone.media


# -- extend and remove ------------------------------------------------------------------------------------------------
def test_extending_keeps_the_old_part_and_goes_on_at_its_level(backend: AudioLDM2, source: MediaRef) -> None:
    before, after = samples(backend, source), edited(backend, source, kind="extend", seconds=6.0)
    kept = int((SECONDS - TAIL_S) * RATE)
    assert len(after) == 6 * RATE and np.array_equal(after[:kept], before[:kept])
    assert abs(level_db(after[56_000:]) - level_db(before)) < 8


def test_removing_makes_another_sound_of_the_same_length(backend: AudioLDM2, source: MediaRef) -> None:
    after = edited(backend, source, kind="remove", negative="rain", strength=0.8)
    assert len(after) == len(samples(backend, source)) and not np.array_equal(after, samples(backend, source))


# -- refusals ---------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("edit", "more", "why"),
    [
        ({"kind": "inpaint"}, {}, "needs a region"),
        ({"kind": "inpaint", "regions": ((1.0, 4.0),)}, {}, "inside the sound"),
        ({"kind": "inpaint", "regions": ((2.0, 1.0),)}, {}, "inside the sound"),
        ({"kind": "variation", "regions": ((1.0, 2.0),)}, {}, "belong to inpaint"),
        ({"kind": "variation"}, {"seconds": 5.0}, "keeps the length"),
        ({"kind": "extend"}, {"seconds": 2.0}, "makes a sound longer"),
        ({"kind": "remove"}, {}, "name it"),
    ],
)
def test_what_does_not_fit_the_source_is_refused(
    backend: AudioLDM2, source: MediaRef, edit: dict[str, object], more: dict[str, float], why: str
) -> None:
    request = GenerationRequest(prompt="x", edit=Edit(source=source, **edit), **{"seconds": SECONDS} | more)  # type: ignore[arg-type]
    with pytest.raises(UnsupportedRequest, match=why):
        backend.check(request)


# -- the pure parts ---------------------------------------------------------------------------------------------------
def test_overlapping_regions_are_one_and_cover_whole_frames() -> None:
    ref = MediaRef(id="sha256:" + "0" * 64, kind="audio", mime="audio/wav")
    request = GenerationRequest(seconds=4.0, edit=Edit(kind="inpaint", source=ref, regions=((2.0, 3.0), (0.5, 1.0), (2.5, 3.5))))
    regions = spans(request, 4.0)
    assert regions == [(0.5, 1.0), (2.0, 3.5)]
    assert list(np.flatnonzero(free_frames(regions, 50, 0.08))) == [*range(6, 13), *range(25, 44)]


@pytest.mark.parametrize("louder_db", [-9.0, 0.0, 9.0])
def test_the_level_at_the_seams_is_that_of_the_source(louder_db: float) -> None:
    draw = np.random.default_rng(0)
    source, made = (
        Audio(draw.normal(0, scale, (1, 4 * RATE)).astype(np.float32), RATE) for scale in (0.05, 0.05 * 10 ** (louder_db / 20))
    )
    after = joined(source, made, [(1.0, 3.0)]).samples[0]
    near = RATE // 10
    for seam in (RATE, 3 * RATE):
        assert abs(level_db(after[seam - near : seam]) - level_db(after[seam : seam + near])) < 1
    assert level_db(after[int(1.8 * RATE) : int(2.2 * RATE)]) == pytest.approx(level_db(made.samples[0]), abs=0.5)


def test_where_the_sound_changes_quickly_both_sides_of_a_seam_are_still_as_loud() -> None:
    """Events begin and end at every place of fifty regions; whatever window is laid at a seam, both sides are within 1 dB."""
    draw, steps_db = np.random.default_rng(0), []

    def restless() -> Audio:
        knots, levels = np.sort(draw.uniform(0, 4, 24)), 10 ** (draw.uniform(-50, 0, 24) / 20)
        curve = np.interp(np.arange(4 * RATE) / RATE, knots, levels)
        return Audio((draw.normal(0, 0.05, (1, 4 * RATE)) * curve).astype(np.float32), RATE)

    for _ in range(50):
        source, made, start = restless(), restless(), draw.uniform(0.2, 2.0)
        first, last = round(start * RATE), round((start + draw.uniform(0.4, 1.0)) * RATE)
        after = joined(source, made, [(first / RATE, last / RATE)]).samples[0]
        assert np.array_equal(after[:first], source.samples[0, :first]) and np.array_equal(after[last:], source.samples[0, last:])
        near = RATE // 10
        steps_db += [level_db(after[seam - near : seam]) - level_db(after[seam : seam + near]) for seam in (first, last)]
    assert np.abs(steps_db).max() < 1


def test_a_crossfade_into_the_same_sound_changes_nothing() -> None:
    tone = Audio(0.3 * np.sin(np.arange(2 * RATE) / 20, dtype=np.float32)[None], RATE)
    assert np.abs(joined(tone, tone, [(0.5, 1.5)]).samples - tone.samples).max() < 0.02


@pytest.mark.slow
def test_fifty_random_edits_keep_what_they_must(backend: AudioLDM2, source: MediaRef, tmp_path: Path) -> None:
    draw, before = np.random.default_rng(0), samples(backend, source)
    steps_db = []
    for seed in range(50):
        start = draw.uniform(0.2, 2.0)
        end = start + draw.uniform(0.4, 1.0)
        after = edited(backend, source, "rain on a roof", seed=seed, kind="inpaint", regions=((start, end),))
        first, last, near = round(start * RATE), round(end * RATE), RATE // 10
        assert np.array_equal(after[:first], before[:first]) and np.array_equal(after[last:], before[last:])
        for seam in (first, last):
            steps_db.append(level_db(after[seam - near : seam]) - level_db(after[seam : seam + near]))
    assert np.abs(steps_db).max() < 1


@pytest.mark.parametrize("kind", ["variation", "inpaint", "extend", "remove"])
def test_the_public_weights_edit_too(hub: AudioLDM2, kind: Literal["variation", "inpaint", "extend", "remove"]) -> None:
    """Their U-Net knows no windows and their text states come from FLAN-T5; the samples outside a region stay all the same."""
    sound = makers.noise(0.64, seed=3)
    source = hub.store.put_audio(sound)
    regions = ((0.2, 0.4),) if kind == "inpaint" else ()
    edit = Edit(kind=kind, source=source, strength=0.5, regions=regions)
    seconds, negative = (0.96 if kind == "extend" else 0.64), "rain" if kind == "remove" else ""
    request = GenerationRequest(prompt="a dog barks", seconds=seconds, steps=2, edit=edit, negative_prompt=negative, candidates=1)
    (made,) = hub.generate([request])
    given, got = (read_audio(hub.store.path(ref)).samples[0] for ref in (source, made.media))
    assert made.seconds == pytest.approx(seconds) and np.abs(got).max() > 0.01
    if kind == "inpaint":
        assert np.array_equal(got[:3000], given[:3000]) and np.array_equal(got[6600:], given[6600:])
        assert not np.array_equal(got[3500:6200], given[3500:6200])
