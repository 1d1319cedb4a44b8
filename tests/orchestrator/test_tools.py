"""The tools: what reaches the generator, what comes back, and what is refused with a line that says what would work."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from langchain_core.messages import AIMessage, ToolMessage

from generators.base import CheckpointMissing, Generated, GenerationRequest, UnsupportedRequest
from media.audio import Audio
from media.refs import MediaRef
from orchestrator import contract
from orchestrator.conversation import Event, MediaReady
from orchestrator.tools import Offers, Written, build_tools, change_between, verdict, without_words
from tests.orchestrator.parts import RATE, House, Tones, colours, house, of_type
from tests.orchestrator.test_router import picture, scripted, tool_call

REMEMBERED = "sha256:" + 64 * "f"


@pytest.fixture
def home(tmp_path: Path) -> Iterator[House]:
    made = house(tmp_path, scripted())
    yield made
    made.router.close()


def does(home: House, tool: str, *media: MediaRef, **args: Any) -> list[Event]:
    """One turn in which the chat model calls ``tool``."""
    name = f"call{len(home.router.conversation('t').messages)}"
    home.model.messages = iter([tool_call(tool, name, **args), AIMessage("Done.")])  # type: ignore[attr-defined]
    return home.say("please", *media)


def brought(events: Sequence[Event]) -> list[MediaReady]:
    return [event for event in events if isinstance(event, MediaReady)]


def made(home: House, **args: Any) -> str:
    (sound,) = brought(does(home, "generate_audio", **args))
    return sound.media.id


def told(home: House) -> ToolMessage:
    """The newest answer of a tool."""
    return next(m for m in reversed(home.router.conversation("t").messages) if isinstance(m, ToolMessage))


def last_request(home: House) -> GenerationRequest:
    return home.tones.requests[-1][1]


def test_every_tool_of_the_contract_is_offered_where_its_work_can_be_done(home: House) -> None:
    able = Offers(
        ready=lambda task: (), export=home.offers.export, soundtrack=lambda *a, **k: None,  # type: ignore[arg-type, return-value]
        generate_image=home.tones, generate_video=home.tones,
    )  # fmt: skip
    assert tuple(tool.name for tool in build_tools(home.tones, colours, able)) == contract.NAMES
    bare = [tool.name for tool in build_tools(home.tones, colours)]
    assert bare == ["generate_audio", "edit_audio", "describe_media"]


def test_the_tools_ask_for_what_the_contract_says(home: House) -> None:
    from langchain_core.utils.function_calling import convert_to_openai_tool

    for tool, schema in zip(build_tools(home.tones, colours), (contract.generate_audio, contract.edit_audio), strict=False):
        told_to_model = convert_to_openai_tool(tool)["function"]["parameters"]["properties"]
        assert set(told_to_model) == set(schema.model_fields)


@pytest.mark.parametrize(
    ("args", "kind", "expected"),
    [
        ({"kind": "variation", "strength": 0.3}, "variation", {"prompt": "rain with birds", "seconds": 2.0}),
        ({"kind": "style", "prompt": "rain, calmer"}, "variation", {"prompt": "rain, calmer", "seconds": 2.0}),
        ({"kind": "inpaint", "regions": [[0.5, 1.0]]}, "inpaint", {"prompt": "rain with birds"}),
        ({"kind": "extend", "seconds": 6}, "extend", {"seconds": 6.0}),
        ({"kind": "remove", "negative_prompt": "birds"}, "remove", {"prompt": "rain", "negative_prompt": "birds"}),
        ({"kind": "remove", "prompt": "the birds"}, "remove", {"prompt": "rain", "negative_prompt": "the birds"}),
    ],
)
def test_an_edit_reaches_the_generator_whole(home: House, args: dict[str, Any], kind: str, expected: dict[str, Any]) -> None:
    source = made(home, prompt="rain with birds", seconds=2)
    does(home, "edit_audio", source=source, **args)
    request = last_request(home)
    assert request.edit is not None and (request.edit.kind, request.edit.source.id) == (kind, source)
    assert request.edit.regions == tuple(map(tuple, args.get("regions", ())))
    assert expected.items() <= request.model_dump().items()


@pytest.mark.parametrize(
    ("args", "reason"),
    [
        ({"kind": "inpaint", "regions": [[1, 9]]}, "not inside the sound, which is 2.00 s long"),
        ({"kind": "inpaint", "regions": [[1, 0.5]]}, "not inside the sound"),
        ({"kind": "inpaint"}, "inpaint needs regions"),
        ({"kind": "extend"}, "more than the 2.00 s that there are"),
        ({"kind": "extend", "seconds": 1}, "more than the 2.00 s that there are"),
        ({"kind": "style"}, "style needs a prompt"),
        ({"kind": "remove"}, "remove needs negative_prompt"),
        ({"kind": "variation", "strength": 2}, "strength"),
        ({"kind": "reverse"}, "kind"),
        ({"kind": "variation", "colour": "red"}, "colour"),
    ],
)
def test_an_edit_that_cannot_be_is_refused_with_what_would_work(home: House, args: dict[str, Any], reason: str) -> None:
    source = made(home, prompt="rain", seconds=2)
    before = len(home.tones.requests)
    assert not brought(does(home, "edit_audio", source=source, **args))
    assert told(home).status == "error" and reason in told(home).text
    assert len(home.tones.requests) == before


def test_only_sounds_of_this_thread_are_edited(home: House) -> None:
    does(home, "edit_audio", picture(home), source=REMEMBERED, kind="variation")
    assert "no medium" in told(home).text and home.tones.requests == []
    does(home, "edit_audio", source=picture(home).id, kind="variation")
    assert "only sounds can be edited" in told(home).text


def test_an_attached_sound_is_edited_at_its_own_length(home: House) -> None:
    ref = home.store.put_audio(Audio(np.full((1, RATE * 3), 0.1, np.float32), RATE))
    (sound,) = brought(does(home, "edit_audio", ref, source=ref.id, kind="variation", prompt="wind"))
    assert last_request(home).seconds == 3.0
    assert sound.details["parent"] == ref.id


def test_a_removal_says_that_it_is_no_separation(home: House) -> None:
    does(home, "edit_audio", source=made(home, prompt="rain with birds"), kind="remove", negative_prompt="birds")
    assert "no separation" in told(home).text


def test_what_a_system_cannot_edit_it_makes_anew_where_words_suffice(home: House, monkeypatch: pytest.MonkeyPatch) -> None:
    source, makes = made(home, prompt="rain", seed=4), Tones.__call__

    def refuses(tones: Tones, backend: str | None, request: GenerationRequest, **watched: Any) -> Generated:
        if request.edit is not None:
            raise UnsupportedRequest("tones cannot edit")
        return makes(tones, backend, request, **watched)

    monkeypatch.setattr(Tones, "__call__", refuses)
    (sound,) = brought(does(home, "edit_audio", source=source, kind="style", prompt="rain, calmer", seed=4))
    assert last_request(home).edit is None and last_request(home).prompt == "rain, calmer"
    assert sound.details["parent"] == source and sound.details["tool"] == "edit_audio"
    assert not brought(does(home, "edit_audio", source=source, kind="variation"))  # nothing else stands for a variation
    assert "cannot edit" in told(home).text


def test_words_are_spoken_by_a_voice_that_nobody_asked_for_rather_than_not_at_all(home: House, monkeypatch: pytest.MonkeyPatch) -> None:
    makes = Tones.__call__

    def one_voice(tones: Tones, backend: str | None, request: GenerationRequest, **watched: Any) -> Generated:
        if request.prompt:
            raise UnsupportedRequest("tones take no text")
        return makes(tones, backend, request, **watched)

    monkeypatch.setattr(Tones, "__call__", one_voice)
    (sound,) = brought(does(home, "generate_audio", prompt="an old pirate", transcript="hello"))
    assert last_request(home).transcript == "hello" and not last_request(home).prompt
    assert sound.details["unheard"] == "an old pirate" and "'an old pirate' is not followed" in told(home).text
    assert not brought(does(home, "generate_audio", prompt="rain"))  # only speech can do without its prompt
    assert "take no text" in told(home).text


def test_restoring_makes_nothing_and_brings_the_sound_back(home: House) -> None:
    first = made(home, prompt="rain", seed=1)
    made(home, prompt="wind", seed=2)
    (sound,) = brought(does(home, "edit_audio", source=first, kind="restore"))
    assert sound.media.id == first and len(home.tones.requests) == 2
    conversation = home.router.conversation("t")
    assert len(conversation.sounds) == 2 and conversation.current is not None and conversation.current.media.id == first


def test_each_sound_knows_its_parent_and_what_changed(home: House) -> None:
    first = made(home, prompt="rain", seconds=2)
    second = made(home, prompt="rain", seconds=4)  # the same words again: another take
    does(home, "edit_audio", source=first, kind="inpaint", regions=[[0, 1]], seed=3)
    made(home, prompt="a dog")
    versions = home.router.conversation("t").versions.made
    assert [v.parent for v in versions] == [None, 1, 1, None]
    assert [v.sound.change for v in versions] == ["", "2 → 4 s", "inpaint 0–1 s, seed 3", ""]
    assert versions[1].sound.media.id == second
    assert all(v.sound.artifact["generated"]["fingerprint"] == "sha256:tones" for v in versions)


def test_a_comparison_brings_a_sound_of_each_and_says_who_failed(home: House) -> None:
    events = does(home, "compare", prompt="rain", backends=["tones", "tonez"])
    assert [sound.backend for sound in brought(events)] == ["tones"]
    assert "tonez made nothing" in told(home).text
    assert [sound.backend for sound in home.router.conversation("t").sounds] == ["tones"]


def test_a_comparison_with_nobody_says_so(home: House) -> None:
    does(home, "compare", prompt="rain", backends=["tonez"])
    assert told(home).status == "error"
    does(home, "compare", prompt="hello", task="speech")
    assert "no system for speech is ready" in told(home).text


def test_a_comparison_outlives_a_missing_checkpoint(tmp_path: Path) -> None:
    home = house(tmp_path, scripted())

    def generate(backend: str | None, request: GenerationRequest, **how: Any) -> Generated:
        if backend == "big":
            raise CheckpointMissing("big.bin is not here")
        return home.tones(None, request, **how)

    home.router.close()
    other = house(tmp_path, scripted(), generate=generate)
    events = does(other, "compare", prompt="rain", backends=["big", "tones"])
    assert len(brought(events)) == 1 and "big.bin is not here" in told(other).text
    other.router.close()


def test_an_export_is_a_file_of_the_asked_format(home: House) -> None:
    source = made(home, prompt="rain")
    (file,) = brought(does(home, "export_audio", media=[source], format="mp3"))
    assert file.media.mime == "audio/mpeg" and file.media in home.router.conversation("t").media
    assert len(home.router.conversation("t").sounds) == 1  # no new version
    does(home, "export_audio", picture(home), media=[picture(home).id])
    assert "export_audio writes sounds" in told(home).text


def test_a_soundtrack_belongs_to_a_video(tmp_path: Path) -> None:
    asked = []
    clip = MediaRef(id="sha256:" + 64 * "c", kind="video", mime="video/mp4")

    def score(video: MediaRef, wishes: contract.soundtrack_video, **how: Any) -> Written:
        asked.append(wishes)
        return Written(clip, 4.0, ("one cut",))

    home = house(tmp_path, scripted(), soundtrack=score)
    (film,) = brought(does(home, "soundtrack_video", clip, media=[clip.id], prompt="at sea, see /etc/passwd", layers=["music"]))
    assert (film.media, film.seconds, asked[0].prompt, asked[0].layers) == (clip, 4.0, "at sea, see", ("music",))
    does(home, "soundtrack_video", picture(home), media=[picture(home).id])
    assert "belongs to a video" in told(home).text
    home.router.close()


def test_a_described_medium_keeps_its_doubt() -> None:
    ref = MediaRef(id="sha256:" + 64 * "0", kind="audio", mime="audio/wav")
    assert verdict(ref, [("dog", 0.9)]) == "I hear: dog (90 %)."
    assert verdict(ref, [("dog", 0.3), ("cat", 0.2)]).startswith("I am not sure about the audio; perhaps dog (30 %), cat")
    assert verdict(ref, [("dog", 0.1)]).startswith("I am not sure what is in the audio")
    assert "nothing" in verdict(ref, [])


@pytest.mark.parametrize(
    ("prompt", "gone", "left"),
    [
        ("rain with birds", "birds", "rain"),
        ("rain, birds and a dog", "the dog", "rain, birds"),
        ("a bird in the rain", "the bird", "in the rain"),
        ("rain", "thunder", "rain"),
        ("rain with thunder and wind", "thunder, wind", "rain"),
    ],
)
def test_words_leave_a_prompt(prompt: str, gone: str, left: str) -> None:
    assert without_words(prompt, gone) == left


def test_a_change_is_told_in_words() -> None:
    old = GenerationRequest(prompt="rain")
    assert change_between(old, old) == ""
    assert change_between(old, GenerationRequest(prompt="rain", steps=9, negative_prompt="birds")) == "without birds, steps 9"


def test_progress_is_told_by_every_tool_that_makes(home: House) -> None:
    events = does(home, "edit_audio", source=made(home, prompt="rain"), kind="variation")
    assert len(of_type(events, "progress")) == 4
