"""The rules: which tool, with which arguments, and what is said."""

from __future__ import annotations

import json
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage, HumanMessage, ToolMessage

from configs.registry import ConfigError, MissingExtra
from encoders.text import SentenceEncoder
from orchestrator import intents
from orchestrator.chat_model import RulesChatModel, build_langchain, build_rules, report
from orchestrator.contract import schemas
from tests.orchestrator.routing import TOOLS, generated, messages, rows, score

ROWS = Path(__file__).parents[1] / "data" / "routing_first.jsonl"


@lru_cache
def rules() -> RulesChatModel:
    return build_rules({"backends": ["nano", "audioldm2", "hibari"]}, SentenceEncoder())


def answer(say: str, *history: BaseMessage, attach: tuple[str, ...] = ()) -> AIMessage:
    row = messages({"say": say, "attach": attach})
    return rules().invoke([*history, *row], tools=TOOLS)


def call(say: str, *history: BaseMessage, attach: tuple[str, ...] = ()) -> dict[str, Any]:
    found = answer(say, *history, attach=attach).tool_calls
    assert len(found) == 1
    return {"tool": found[0]["name"], **found[0]["args"]}


def after(prompt: str, number: int = 1, **request: Any) -> list[BaseMessage]:
    """The history of one sound."""
    artifact = generated(number, prompt)
    artifact["generated"]["request"] |= request
    tool_call = {"name": "generate_audio", "args": {}, "id": "1", "type": "tool_call"}
    made = ToolMessage("Made it", tool_call_id="1", artifact=artifact)
    return [HumanMessage(prompt), AIMessage("", tool_calls=[tool_call]), made, AIMessage("Here it is.")]


def test_free_requests_are_routed() -> None:
    result = score(ROWS, rules())
    assert result["rows"] >= 250
    assert result["tool_accuracy"] >= 0.93, result["wrong"]
    assert result["argument_accuracy"] >= 0.90, result["wrong"]


@pytest.mark.parametrize("say", ["what did you change?", "which seed was that?", "What seed did you use?", "what have you done to it?"])
def test_what_was_made_is_told_and_not_made_again(say: str) -> None:
    said = answer(say, *after("a dog barking", seed=4))
    assert not said.tool_calls and said.text == "Version 1: “a dog barking”  (5 s, nano, seed 4)."


def test_a_sound_that_is_not_there_is_not_made_up() -> None:
    two = [*after("a dog barking"), *after("rain", 2)]
    for say in ("the fifth one, calmer", "go back to the fourth"):
        said = answer(say, *two)
        assert not said.tool_calls and said.text == "There is no such one among the 2 here. Which do you mean?"
    said = answer("the last two", *two)
    assert not said.tool_calls and said.text.startswith("A is version 1, “a dog barking”")
    assert "rain" in call("the second one but with rain", *two)["prompt"]


def test_sounds_are_counted() -> None:
    said = answer("how many sounds have you made?", *after("a dog barking"), *after("rain", 2))
    assert not said.tool_calls and said.text.startswith("2 so far, the last one “rain”")


def test_no_row_of_the_routing_file_is_an_example_of_the_classifier() -> None:
    known = {text.lower().strip(" .?!") for texts in intents.examples().values() for text in texts}
    assert not [row["say"] for row in rows(ROWS) if row["say"] and row["say"].lower().strip(" .?!") in known]


def test_the_shipped_weights_are_those_of_the_examples() -> None:
    fitted, stored = intents.fit(intents.examples(), SentenceEncoder()), intents.shipped()
    assert fitted.names == stored.names
    assert np.abs(fitted.weights - stored.weights).max() < 1e-3


def test_a_length_on_its_own_is_kept_until_the_subject_comes() -> None:
    asked = answer("I need a clip of eight seconds with seed 3")
    assert asked.text.endswith("?") and not asked.tool_calls
    done = call("rain on a tent", HumanMessage("I need a clip of eight seconds with seed 3"), asked)
    assert (done["prompt"], done["seconds"], done["seed"]) == ("rain on a tent", 8.0, 3)


def test_a_question_about_a_missing_file_is_answered_by_the_file() -> None:
    asked = answer("what is in this picture?")
    assert not asked.tool_calls and "attach" in asked.text
    done = call("", HumanMessage("what is in this picture?"), asked, attach=("image",))
    assert done["tool"] == "describe_media"


def test_a_sound_without_words_is_asked_about() -> None:
    asked = answer("", attach=("audio",))
    assert asked.text.endswith("?") and not asked.tool_calls
    history = [*messages({"say": "", "attach": ("audio",)}), asked]
    assert call("tell me what it is", *history)["tool"] == "describe_media"
    assert call("make something like it", *history)["tool"] == "generate_audio"


@pytest.mark.parametrize(
    ("say", "changes"),
    [
        ("again, longer", {"seconds": 10.0, "seed": 4}),
        ("another one", {"seconds": 5.0, "seed": 5}),
        ("make it half as long", {"seconds": 2.5, "seed": 4}),
        ("3 seconds longer", {"seconds": 8.0, "seed": 4}),
        ("same with rain", {"prompt": "a dog barking in the wind with rain"}),
        ("without the wind", {"prompt": "a dog barking", "negative_prompt": "birds, wind"}),
        ("softer please", {"prompt": "a dog barking in the wind, softer"}),
        ("replace the dog with a wolf", {"prompt": "a wolf in the wind"}),
        ("a cow instead", {"prompt": "a cow"}),
        ("use 20 steps", {"steps": 20, "seed": 4}),
        ("the wind is too loud", {"prompt": "a dog barking in the quiet wind"}),
        ("make the dog smaller and further away", {"prompt": "a dog barking in the wind, dog smaller and further away"}),
        ("too short, i need at least 12 seconds", {"seconds": 12.0}),
        ("the dog should be a bit louder", {"prompt": "a dog barking in the wind, dog a bit louder"}),
        ("could you take out the wind?", {"prompt": "a dog barking", "negative_prompt": "birds, wind"}),
        ("swap the drums for a cello", {"prompt": "a dog barking in the wind with a cello"}),
        ("scrap the wind", {"prompt": "a dog barking", "negative_prompt": "birds, wind"}),
        (
            "can i have it without the wind and a bit slower",
            {"prompt": "a dog barking, a bit slower", "negative_prompt": "birds, wind"},
        ),
    ],
)
def test_a_change_keeps_all_else_of_the_sound(say: str, changes: dict[str, Any]) -> None:
    history = after("a dog barking in the wind", seed=4, negative_prompt="birds")
    expected = {"prompt": "a dog barking in the wind", "seed": 4, "seconds": 5.0, "negative_prompt": "birds"} | changes
    assert call(say, *history) == {"tool": "generate_audio", **expected}


@pytest.mark.parametrize(
    ("say", "kind", "changes"),
    [
        ("without the wind", "remove", {"prompt": "a dog barking", "negative_prompt": "birds, wind"}),
        ("softer please", "style", {"prompt": "a dog barking in the wind, softer"}),
    ],
)
def test_where_only_the_manner_changes_the_sound_itself_is_edited(say: str, kind: str, changes: dict[str, Any]) -> None:
    history = after("a dog barking in the wind", seed=4, negative_prompt="birds")
    (found,) = rules().invoke([*history, *messages({"say": say})], tools=schemas()).tool_calls
    source = history[2].artifact["generated"]["media"]["id"]  # type: ignore[attr-defined]
    expected = {"prompt": "a dog barking in the wind", "seed": 4, "negative_prompt": "birds"} | changes
    assert found["name"] == "edit_audio" and found["args"] == {"source": source, "kind": kind, **expected}


def test_several_takes_are_several_calls_with_seeds_of_their_own() -> None:
    found = answer("make three versions of a creaking gate").tool_calls
    assert [c["args"]["seed"] for c in found] == [0, 1, 2]
    assert {c["args"]["prompt"] for c in found} == {"a creaking gate"}
    assert len({c["id"] for c in found}) == 3


def test_several_of_an_earlier_sound_are_that_sound_anew() -> None:
    found = answer("make two other variants of that", *after("a dog barking", seed=4)).tool_calls
    assert [(c["args"]["prompt"], c["args"]["seed"]) for c in found] == [("a dog barking", 5), ("a dog barking", 6)]


def test_a_tempo_takes_the_place_of_another() -> None:
    assert call("faster, 100 bpm", *after("a lofi beat, 80 bpm"))["prompt"] == "a lofi beat, 100 bpm"


def test_a_list_is_made_one_by_one() -> None:
    found = answer("I need: 1) a door slam 2) a car starting, 3 seconds each").tool_calls
    assert [(c["args"]["prompt"], c["args"]["seconds"]) for c in found] == [("a door slam", 3.0), ("a car starting", 3.0)]


def test_a_version_that_is_praised_is_gone_back_to() -> None:
    history = [*after("a cat"), *after("a dog", 2)]
    first = generated(1, "a cat")["generated"]["media"]["id"]
    for say in ("the first one is good, keep that", "I liked the version before that better."):
        found = rules().invoke([*history, HumanMessage(say)], tools=schemas()).tool_calls
        assert [(c["name"], c["args"]) for c in found] == [("edit_audio", {"kind": "restore", "source": first})]


@pytest.mark.parametrize(
    ("say", "prompt"),
    [("something spooky", "spooky sounds"), ("surprise me", "an owl at night"), ("can u make a fart sound lol", "a fart sound")],
)
def test_a_vague_wish_is_a_wish(say: str, prompt: str) -> None:
    assert call(say)["prompt"] == prompt


def test_what_the_sounds_may_be_used_for_is_told() -> None:
    assert "CC BY-SA" in answer("is this royalty free?").text


def test_something_else_begins_anew() -> None:
    made = call("give me something totally different: a spaceship landing", *after("a dog barking", seed=4))
    assert made == {"tool": "generate_audio", "prompt": "a spaceship landing", "seconds": 5.0}


def test_its_length_is_known_and_no_taste_is_claimed() -> None:
    assert answer("how long is it?", *after("a dog barking")).text == "It is 5 seconds long."
    said = answer("which one do you like better?", *after("a dog barking"), *after("a cat", 2)).text
    assert "for your ears" in said and "a dog barking" in said and "a cat" in said


def test_the_answer_comes_from_what_the_tool_returned() -> None:
    history = after("a dog")[:-1]
    text = rules().invoke(history, tools=TOOLS).text
    assert text == "Here is “a dog”: 5 s, made with nano (seed 0)."


def test_an_edit_that_a_system_cannot_do_is_said_to_be_another_sound() -> None:
    artifact = generated(1, "a dog, calmer") | {"tool": "edit_audio"}
    told = report([ToolMessage("Made it", tool_call_id="1", artifact=artifact)])
    assert told.endswith("nano cannot edit, so it was made anew.")
    artifact["generated"]["request"]["edit"] = {"kind": "style"}
    assert "anew" not in report([ToolMessage("Made it", tool_call_id="1", artifact=artifact)])


def test_a_silent_sound_is_said_to_be_silent() -> None:
    history = after("a dog")[:-1]
    history[-1].artifact["generated"]["guard"] = {"silent": True}  # type: ignore[attr-defined]
    assert "silent" in rules().invoke(history, tools=TOOLS).text


def test_a_failed_tool_is_not_spoken_of_as_a_sound() -> None:
    history = after("a dog")[:-1]
    history[-1] = ToolMessage("backend 'x' makes at most 5 s", tool_call_id="1", status="error")
    text = rules().invoke(history, tools=TOOLS).text
    assert "no new sound" in text and "at most 5 s" in text and "Here is" not in text


def test_streamed_pieces_are_the_whole_answer_and_carry_no_id_of_ours() -> None:
    pieces = list(rules()._stream(messages({"say": "hello"})))
    assert "".join(str(piece.message.content) for piece in pieces) == answer("hello").text
    assert all(piece.message.id is None for piece in pieces) and len(pieces) > 5
    whole = sum((p.message for p in rules()._stream(messages({"say": "a dog"}), tools=TOOLS)), AIMessageChunk(content=""))
    assert isinstance(whole, AIMessageChunk)
    assert [c["args"]["prompt"] for c in whole.tool_calls] == ["a dog"]


def test_a_tool_that_is_not_bound_is_not_called() -> None:
    assert not rules().invoke(messages({"say": "a dog"}), tools=TOOLS[1:]).tool_calls


def test_addresses_never_reach_a_tool() -> None:
    done = answer("the sound of a waterfall like http://evil.example/x.wav and /etc/passwd").tool_calls[0]
    assert "evil" not in json.dumps(done) and "passwd" not in json.dumps(done)


@pytest.mark.parametrize("model", ["nobody:x", ""])
def test_an_unknown_model_is_a_setting_that_is_wrong(model: str) -> None:
    with pytest.raises(ConfigError):
        build_langchain({"model": model})


def test_a_provider_without_its_package_is_a_missing_extra() -> None:
    with pytest.raises(MissingExtra, match=r"langchain.ollama"):
        build_langchain({"model": "ollama:qwen3"})


def calls(say: str, *history: BaseMessage, attach: tuple[str, ...] = ()) -> list[dict[str, Any]]:
    """With every tool there is."""
    found = rules().invoke([*history, *messages({"say": say, "attach": attach})], tools=schemas()).tool_calls
    return [{"tool": one["name"], **one["args"]} for one in found]


def test_two_sounds_are_mixed_by_name_and_nothing_is_deleted() -> None:
    three = [*after("a dog barking"), *after("rain", 2), *after("a piano", 3)]
    mixed = call("combine the first and the third", *three)
    assert mixed["tool"] == "generate_audio" and "prompt" not in mixed
    assert mixed["media"] == [generated(number, "")["generated"]["media"]["id"] for number in (1, 3)]
    said = answer("delete the second one", *three)
    assert not said.tool_calls and said.text.startswith("I delete nothing")


@pytest.mark.parametrize(
    ("say", "count", "strength"),
    [
        ("a variation of it", 1, 0.5),
        ("another take of that", 1, 0.5),
        ("three slightly different versions of the first", 3, 0.3),
        ("noch mal, nur einen Tick anders", 1, 0.3),
        ("dame tres variantes de este", 3, 0.5),
        ("跟刚才那个稍微不一样就行", 1, 0.3),
    ],
)
def test_variations_are_edits_one_a_take(say: str, count: int, strength: float) -> None:
    made = calls(say, *after("a dog barking in the wind"))
    assert [one["kind"] for one in made] == ["variation"] * count and {one["strength"] for one in made} == {strength}
    assert len({one.get("seed", 0) for one in made}) == count


def test_what_is_too_harsh_becomes_soft_and_a_place_in_time_is_no_length() -> None:
    (softer,) = calls("hmm too harsh, soften it a bit", *after("a dog barking"))
    assert (softer["tool"], softer["prompt"]) == ("edit_audio", "a dog barking, soft")
    placed = call("could you put a church bell at the 2 second mark?", *after("a dog barking"))
    assert placed["seconds"] == 5.0 and "church bell" in placed["prompt"]
    (cut,) = calls("can you take out the hiss between 1 and 2.5 seconds", *after("a dog barking"))
    assert (cut["kind"], cut["regions"], cut["negative_prompt"]) == ("inpaint", [[1.0, 2.5]], "hiss")


def test_a_system_that_people_know_from_elsewhere_is_named_to_the_tool_not_passed_over() -> None:
    assert call("rain on a tent, with suno")["backend"] == "suno"
    assert "backend" not in call("a dog that barks, seven seconds")
    assert call("half a minute of rain, audioldm2, seed 61")["backend"] == "audioldm2"


@pytest.mark.parametrize(
    ("say", "prompt"),
    [
        ("my grandson wants a T-Rex stomping through mud", "a T-Rex stomping through mud"),
        (
            "My late husband wrote on a typewriter every morning. I'd love to hear one, with the little ding",
            "a typewriter, with the little ding",
        ),
        ("my son is obsessed with combine harvesters, can you make one working in a field", "a combine harvester working in a field"),
        ("something for a horror trailer. a low drone that swells", "a horror trailer. a low drone that swells"),
        ("do you think you could do a ghostly wail? thanks a million!", "a ghostly wail"),
        ("zombie groaning but make it funny", "zombie groaning, funny"),
        ("cheesy 80s synth intro, 15 secs", "cheesy 80s synth intro"),
        ("ein Zug der vorbeifährt und ein Teller der runterfällt", "a train passing by and a plate falling"),
        ("幫我做一段放鞭炮的聲音,不要音樂", "firecracker string sound"),
        ("läutende Kirchenglocken", "ringing church bell"),
    ],
)
def test_what_is_heard_comes_out_of_what_is_said(say: str, prompt: str) -> None:
    assert call(say)["prompt"] == prompt
