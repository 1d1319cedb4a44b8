"""The plan of a soundtrack: which layers, from what, where, and that it depends on nothing but what was seen and asked."""

from __future__ import annotations

import itertools
import subprocess
import sys

import numpy as np
import pytest

from generators.base import UnsupportedRequest, canonical_json
from media.refs import MediaRef
from orchestrator.soundtrack import Plan, Seen, apart, curve_of, places_of, plan, request_for, spans_of, understood
from tests.orchestrator.film import HERE, THERE, Film, Flash, makers, seen

PICTURE = MediaRef(id="sha256:" + "a" * 64, kind="image", mime="image/png")


def covered(made: Plan, layer: str) -> list[tuple[float, float]]:
    return sorted((p.at, p.at + p.last - p.first) for p in made.laid if made.tapes[p.tape].layer == layer)


def test_every_bed_covers_the_whole_video_and_no_span_is_longer_than_the_backend_allows() -> None:
    film = Film(100.0, cuts=(13.0, 47.5, 50.0))
    made = plan(film, seen(HERE, THERE, HERE, None), makers(longest=10.0))
    for layer in ("ambience", "music"):
        pieces = covered(made, layer)
        assert pieces[0][0] == 0 and pieces[-1][1] == pytest.approx(100.0)
        assert all(later[0] <= earlier[1] for earlier, later in itertools.pairwise(pieces)), layer
    assert max(span.seconds for tape in made.tapes for span in tape.spans) <= 10.0
    for tape in made.tapes:
        ends = [span.start + span.seconds for span in tape.spans]
        if tape.layer != "foley":
            assert ends[-1] >= tape.seconds - 1e-6
            assert all(end - span.start >= 2.0 - 1e-5 for end, span in zip(ends, tape.spans[1:], strict=False))


def test_what_is_asked_of_a_backend_at_once_does_not_grow_with_the_video() -> None:
    longest = [
        max(span.seconds for tape in plan(Film(length), seen(HERE), makers(longest=600.0)).tapes for span in tape.spans)
        for length in (19.0, 60.0, 3600.0)
    ]
    assert max(longest) <= 20.0 and longest[0] == 19.0


def test_a_place_that_comes_back_goes_on_with_its_own_tape() -> None:
    film = Film(12.0, cuts=(4.0, 7.0))
    made = plan(film, seen(HERE, THERE, 2 * HERE), makers(), layers=["ambience"])
    assert [scene.place for scene in made.scenes] == [0, 1, 0]
    first, second, third = sorted(made.laid, key=lambda piece: piece.at)
    assert first.tape == third.tape != second.tape
    assert third.first == first.last  # the recording ran on
    assert len(made.tapes) == 2
    # Neighbours cross in the middle of the cut.
    assert second.at == pytest.approx(4.0 - 0.06) and first.at + first.last - first.first == pytest.approx(4.0 + 0.06)


def test_a_cut_within_one_place_is_no_seam() -> None:
    made = plan(Film(9.0, cuts=(3.0, 6.0)), seen(HERE, HERE, HERE), makers(), layers=["ambience"])
    assert len(made.scenes) == 3 and len(made.laid) == 1 and len(made.tapes) == 1


def test_cuts_closer_than_a_fade_still_make_a_plan() -> None:
    cuts = tuple(round(0.5 + 0.04 * k, 2) for k in range(10))
    made = plan(Film(2.0, cuts=cuts), seen(*[None] * 11), makers())
    assert all(p.last > p.first and p.fade_in >= 0 and p.fade_out >= 0 for p in made.laid)
    assert covered(made, "ambience")[-1][1] == pytest.approx(2.0)


def test_similar_pictures_are_one_place_and_an_unknown_one_is_its_own() -> None:
    angle = [0.0, 0.4, 1.5, 0.2]
    vectors = [np.array([np.cos(a), np.sin(a)]) for a in angle]
    assert places_of([*vectors, None, None]) == [0, 0, 1, 0, 2, 3]


def test_events_lie_on_what_is_seen_and_end_where_the_next_begins() -> None:
    film = Film(6.0, cuts=(3.0,), onsets=(Flash(0.5), Flash(0.9, 0.25), Flash(4.0)))
    made = plan(film, seen(HERE, THERE), makers())
    assert [(e.time, e.until, e.strength) for e in made.events] == [(0.5, 0.9, 1.0), (0.9, 2.1, 0.25), (4.0, 5.2, 1.0)]
    assert made.events[0].tape == made.events[1].tape != made.events[2].tape  # a place has takes of its own
    assert [e.take for e in made.events] == [0, 1, 0]


def test_somebody_who_fills_the_picture_strikes_nothing_unless_it_is_asked_for() -> None:
    film = Film(8.0, cuts=(4.0,), onsets=(Flash(1.0), Flash(6.0)))
    sights = [Seen((("bow tie", 0.6),), None, HERE, person=True), Seen((), None, THERE)]
    assert [event.time for event in plan(film, sights, makers()).events] == [6.0]
    assert "own movements" in plan(Film(4.0, onsets=(Flash(1.0),)), sights[:1], makers()).notes[0]
    assert [event.time for event in plan(film, sights, makers(), prompt="knocks on wood").events] == [1.0, 6.0]


def test_many_events_share_a_few_takes_and_a_few_have_one_each() -> None:
    film = Film(60.0, onsets=tuple(Flash(0.5 + k / 2) for k in range(100)))
    made = plan(film, seen(HERE), makers())
    (tape,) = [tape for tape in made.tapes if tape.layer == "foley"]
    assert [e.take for e in made.events[:10]] == [0, 1, 2, 3, 4, 5, 6, 7, 0, 1]
    assert len(tape.spans) == 2 and len(tape.takes) == 4 and len({span.seed for span in tape.spans}) == 2
    assert len(made.events) == 100


def test_a_tape_of_takes_draws_a_pulse_for_each() -> None:
    made = plan(Film(4.0, onsets=(Flash(1.0), Flash(2.0))), seen(HERE), makers())
    (index,) = [i for i, tape in enumerate(made.tapes) if tape.layer == "foley"]
    curve = curve_of(made.tapes[index], 0)
    assert curve is not None
    rises = (np.flatnonzero(np.diff(curve) > 0.5) + 1) / made.tapes[index].curve_hz
    assert rises == pytest.approx(made.tapes[index].takes, abs=0.011)


def test_without_an_envelope_a_span_is_one_take_and_no_curve_is_drawn() -> None:
    motion = np.linspace(0, 1, 100).astype(np.float32)
    film = Film(4.0, onsets=tuple(Flash(0.5 * k + 0.5) for k in range(6)), motion=motion)
    made = plan(film, seen(HERE), makers(envelope=False))
    (tape,) = [tape for tape in made.tapes if tape.layer == "foley"]
    assert len(tape.spans) == 4 and tape.takes == ()
    assert not any(tape.curve for tape in made.tapes)


def test_motion_drives_a_bed_and_stillness_does_not() -> None:
    still, moving = np.full(200, 0.3, np.float32), np.repeat(np.array([0, 1], np.float32), 100)
    quiet = plan(Film(8.0, motion=still), seen(HERE), makers(), layers=["ambience"])
    driven = plan(Film(8.0, motion=moving), seen(HERE), makers(), layers=["ambience"])
    assert quiet.tapes[0].curve == ()
    curve = curve_of(driven.tapes[0], 0)
    assert curve is not None and len(curve) == 80
    assert curve[:30].max() == pytest.approx(0.72) and curve[50:].min() == pytest.approx(1.0)


def test_motion_leaves_the_rhythm_of_a_clock_alone() -> None:
    moving = np.repeat(np.array([0, 1], np.float32), 100)
    clock, engine = (
        plan(Film(8.0, motion=moving), [Seen((), sound, HERE)], makers(), layers=["ambience"]).tapes[0]
        for sound in ("clock", "car engine")
    )
    assert clock.curve == () and len(engine.curve) == 80


def test_what_is_not_recognised_is_wind_and_a_dull_impact() -> None:
    made = plan(Film(4.0, onsets=(Flash(1.0),)), seen(HERE), makers())
    assert {tape.layer: tape.prompt for tape in made.tapes} == {
        "ambience": "wind", "foley": "a dull impact", "music": "calm piano music",
    }  # fmt: skip
    assert not made.scenes[0].sure and not any(tape.media for tape in made.tapes)


def test_what_is_recognised_gives_words_and_picture_and_a_stroke_sounds_as_itself() -> None:
    def tapes(sound: str) -> dict[str, tuple[str, int]]:
        film, sight = Film(4.0, onsets=(Flash(1.0),)), [Seen((), sound, HERE, PICTURE)]
        return {tape.layer: (tape.prompt, len(tape.media)) for tape in plan(film, sight, makers(), layers=["ambience", "foley"]).tapes}

    assert tapes("car engine") == {"ambience": ("car engine", 1), "foley": ("a dull impact", 0)}
    assert tapes("dog") == {"ambience": ("dog", 1), "foley": ("dog", 1)}
    film, sight = Film(4.0), [Seen((), "dog", HERE, PICTURE)]
    assert plan(film, sight, makers(accepts=["text"]), layers=["ambience"]).tapes[0].media == ()


@pytest.mark.parametrize(
    ("words", "layers"),
    [
        ("no music", ("ambience", "foley")),
        ("a quiet lake, without any background music please", ("ambience", "foley")),
        ("storm but no sound effects and no music", ("ambience",)),
        ("music of a noble kind", ("ambience", "foley", "music")),
    ],
)
def test_no_music_removes_the_layer(words: str, layers: tuple[str, ...]) -> None:
    made = plan(Film(4.0, onsets=(Flash(1.0),)), seen(HERE), makers(), prompt=words)
    assert made.wishes.layers == layers and set(made.layers()) == set(layers)
    assert not any("music" in tape.prompt for tape in made.tapes if tape.layer != "music")


def test_a_prompt_steers_every_layer_instead_of_the_picture() -> None:
    sight = [Seen((), "cat", HERE, PICTURE)]
    made = plan(Film(4.0, onsets=(Flash(1.0),)), sight, makers(), prompt="heavy rain, hammering on metal, tense strings, no voices")
    assert {tape.layer: tape.prompt for tape in made.tapes} == {
        "ambience": "heavy rain", "foley": "hammering on metal", "music": "calm tense strings",
    }  # fmt: skip
    assert all(tape.negative_prompt == "voices" and tape.media == () for tape in made.tapes)
    one = understood("a dark rainy street")
    assert (one.ambience, one.foley, one.music) == ("a dark rainy street", "a dark rainy street", "dark")
    assert understood("tense, dark").ambience == ""  # a mood is no place


def test_music_begins_anew_at_cuts_and_keeps_its_words() -> None:
    film = Film(30.0, cuts=(2.0, 9.0, 12.0, 20.0))
    made = plan(film, seen(*[None] * 5), makers(), layers=["music"], prompt="slow jazz")
    assert [piece.at for piece in made.laid] == [0.0, 9.0, 20.0]
    assert {tape.prompt for tape in made.tapes} == {"slow jazz"}
    assert len({span.seed for tape in made.tapes for span in tape.spans}) == 3
    assert made.laid[0].at + made.laid[0].last == pytest.approx(9.5)  # it rings on under the next section


def test_a_layer_that_nobody_makes_is_left_out_and_said() -> None:
    able = makers()
    del able["music"]
    made = plan(Film(4.0), seen(HERE), able)
    assert made.layers() == ("ambience",)
    assert "makes music" in made.notes[0] and "no impact" in made.notes[1]
    with pytest.raises(UnsupportedRequest, match="no system here makes music"):
        plan(Film(4.0), seen(HERE), able, layers=["music"])
    with pytest.raises(UnsupportedRequest, match="no layer is left"):
        plan(Film(4.0), seen(HERE), able, layers=["music"], prompt="no music")


def test_the_same_video_and_wishes_give_the_same_plan_and_another_seed_other_sounds() -> None:
    film = Film(9.0, cuts=(4.0,), onsets=(Flash(1.0),))
    first, again, other = (plan(film, seen(HERE, THERE), makers(), seed=seed) for seed in (0, 0, 1))
    assert canonical_json(first) == canonical_json(again)
    assert Plan.model_validate_json(canonical_json(first)) == first
    seeds = [{span.seed for tape in made.tapes for span in tape.spans} for made in (first, other)]
    assert not seeds[0] & seeds[1]


def test_another_roll_has_another_seed_and_nothing_else() -> None:
    made = plan(Film(9.0), seen(HERE), makers(), layers=["ambience"])
    first, second = request_for(made.tapes[0], 0, 0, None), request_for(made.tapes[0], 0, 1, None)
    assert first.seed != second.seed and first.model_copy(update={"seed": 0}) == second.model_copy(update={"seed": 0})


def test_of_onsets_in_the_same_instant_the_stronger_one_stays() -> None:
    assert [m.time for m in apart([Flash(1.0, 0.3), Flash(1.04, 0.9), Flash(1.5, 0.1)])] == [1.04, 1.5]


def test_spans_share_at_least_their_overlap_and_end_with_the_tape() -> None:
    for seconds in (30.1, 58.0, 59.0, 900.0):
        spans = spans_of(seconds, 30.0)
        assert spans[-1][0] + spans[-1][1] == pytest.approx(seconds)
        assert all(a + length - b >= 2.0 - 1e-9 for (a, length), (b, _) in itertools.pairwise(spans))


def test_a_very_short_video_has_a_plan() -> None:
    made = plan(Film(0.2, onsets=(Flash(0.1),)), seen(HERE), makers())
    assert set(made.layers()) == {"ambience", "foley", "music"}
    assert made.events[0].until == 0.2


def test_planning_needs_no_network() -> None:
    rooms = "orchestrator.soundtrack, orchestrator.scoring, orchestrator.sync"
    code = f"import sys, {rooms}; print({{'torch', 'langchain', 'av'}} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "set()\n"
