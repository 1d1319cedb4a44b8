"""Edits, soundtracks, comparisons, files and pictures: which tool, with which arguments."""

from __future__ import annotations

from typing import Any

import pytest

from orchestrator.actions import act, carried_out, lufs, regions
from orchestrator.contract import NAMES
from orchestrator.conversation import Conversation
from orchestrator.parsing import parse
from orchestrator.rehearsal import medium, past

BACKENDS = ("nano", "hibari", "audioldm2")


def acted(say: str, *history: str, attach: tuple[str, ...] = (), describing: bool = False) -> tuple[str, dict[str, Any]]:
    earlier = Conversation.read(past(history))
    media = tuple(medium(kind, 100 + k) for k, kind in enumerate(attach))
    found = act(parse(say, BACKENDS), media, earlier, NAMES, earlier.current, describing, BACKENDS)
    return ("", {}) if found is None else (found.tool, found.args)


SOUND = medium("audio", 0).id
VIDEO = medium("video", 100).id


@pytest.mark.parametrize(
    ("say", "tool", "expected"),
    [
        ("from 2 to 4 seconds make it a gunshot", "edit_audio", {"kind": "inpaint", "regions": [[2.0, 4.0]], "prompt": "a gunshot"}),
        ("replace everything after second 3 with thunder", "edit_audio", {"regions": [[3.0, 5.0]], "prompt": "thunder"}),
        ("from second 2 on a siren", "edit_audio", {"regions": [[2.0, 5.0]], "prompt": "a siren"}),
        ("thunder after 3 seconds of rain", "", {}),
        ("stretch it out to 25 seconds", "edit_audio", {"kind": "extend", "seconds": 25.0}),
        ("I liked the earlier one better", "", {}),  # there is only one: a question
        ("I like the first snow of winter", "", {}),
        ("draw two album covers with a whale", "generate_image", {"count": 2}),
        ("the last two seconds should be thunder", "edit_audio", {"regions": [[3.0, 5.0]], "prompt": "thunder"}),
        ("extend it to 12 seconds", "edit_audio", {"kind": "extend", "seconds": 12.0}),
        ("continue for another 4 seconds", "edit_audio", {"kind": "extend", "seconds": 9.0}),
        ("in the style of an old radio play", "edit_audio", {"kind": "style", "prompt": "an old radio play"}),
        ("a slight variation of it", "edit_audio", {"kind": "variation", "strength": 0.3}),
        ("export it as mp3 at -14 LUFS", "export_audio", {"media": [SOUND], "format": "mp3", "lufs": -14.0}),
        ("compare nano and audioldm2 on a galloping horse", "compare", {"backends": ["nano", "audioldm2"], "task": "sound"}),
        ("draw a lighthouse without people", "generate_image", {"prompt": "a lighthouse", "negative_prompt": "people"}),
        ("make a video of a train crossing a bridge", "generate_video", {"prompt": "a train crossing a bridge"}),
        ("make the sound of a camera", "", {}),
        ("calmer please", "", {}),
    ],
)
def test_words_of_their_own_call_for_a_tool(say: str, tool: str, expected: dict[str, Any]) -> None:
    called, args = acted(say, "audio")
    assert called == tool and {name: args.get(name) for name in expected} == expected


@pytest.mark.parametrize("kind", ["variation", "style", "remove"])
def test_a_recording_that_came_along_is_edited_where_somebody_else_decided_so(kind: str) -> None:
    recording, earlier = medium("audio", 100), Conversation.read(past(("audio",)))
    found = carried_out(
        "edit_audio", kind, parse("way too harsh, warmer and rounder"), (recording,), earlier, None, BACKENDS, firm=True
    )
    assert found is not None and not found.asks
    assert (found.tool, found.args["kind"], found.args["source"]) == ("edit_audio", kind, recording.id)


def test_of_a_film_its_sound_is_exported_where_no_sound_came_before() -> None:
    earlier = Conversation.read(past(("video",)))
    film = earlier.last("video")
    found = carried_out("export_audio", "", parse("its soundtrack as flac at -18 LUFS"), (), earlier, None, BACKENDS)
    assert film is not None and found is not None and found.args == {"media": [film.id], "format": "flac", "lufs": -18.0}
    assert carried_out("export_audio", "", parse("as flac"), (), Conversation.read([]), None, BACKENDS) is None


@pytest.mark.parametrize(
    ("say", "backends"),
    [
        ("compare it with tango", ["nano", "tango"]),  # a system here, though a word elsewhere
        ("compare this to audioldm2 please", ["nano", "audioldm2"]),
        ("compare all models on that", None),
    ],
)
def test_what_was_made_is_compared_as_it_was_asked_for(say: str, backends: list[str] | None) -> None:
    tool, args = acted(say, "audio")
    request = Conversation.read(past(("audio",))).sounds[-1].request
    assert (tool, args.get("backends")) == ("compare", backends)
    assert (args["prompt"], args["seconds"], args["seed"]) == (request["prompt"], request["seconds"], request["seed"])
    assert acted(say) == ("", {})  # nothing was made: a question


def test_a_tango_is_music_where_nothing_is_compared() -> None:
    assert acted("dance with tango music") == ("", {})
    assert acted("compare nano with audioldm2 on a tango for two")[1]["prompt"] == "a tango for two"


def test_two_versions_are_told_apart() -> None:
    earlier = Conversation.read(past(("audio2",)))
    found = act(parse("compare them", BACKENDS), (), earlier, NAMES, earlier.current, False, BACKENDS)
    assert found is not None and found.tool == ""
    assert found.asks.startswith("A is version 1, ") and "; B is version 2, " in found.asks


def test_a_video_gets_a_soundtrack_with_what_was_said_about_its_layers() -> None:
    tool, args = acted("a tense soundtrack without music, keep the original sound, -18 LUFS", attach=("video",))
    assert (tool, args["media"], args["layers"], args["original"], args["lufs"]) == (
        "soundtrack_video", [VIDEO], ["ambience", "foley"], "keep", -18.0,
    )  # fmt: skip
    assert "tense" in args["prompt"]


def test_a_question_about_a_video_asks_for_no_soundtrack() -> None:
    assert acted("what happens in the video?", attach=("video",), describing=True) == ("", {})


def test_times_are_read_in_several_spellings() -> None:
    assert regions("0:01-0:03 silence", None) == (1.0, 3.0)
    assert regions("between second 1 and 2.5", None) == (1.0, 2.5)
    assert regions("the first second", 5.0) == (0.0, 1.0)
    assert regions("the last second", None) is None


def test_a_loudness_is_below_zero() -> None:
    assert (lufs("to -23 lufs"), lufs("16 LUFS please"), lufs("16 steps")) == (-23.0, -16.0, None)
