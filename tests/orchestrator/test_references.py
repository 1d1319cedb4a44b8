"""Which sound a text means: fixed sentences, and twenty random conversations against a reader who keeps his own books."""

from __future__ import annotations

import random
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, ToolMessage

from orchestrator.chat_model import english
from orchestrator.contract import schemas
from orchestrator.conversation import Versions
from orchestrator.parsing import parse
from orchestrator.references import meant
from tests.orchestrator.routing import generated, ref


def brought(number: int, prompt: str, parent: int | None = None, seconds: float = 5.0, seed: int = 0) -> ToolMessage:
    """A tool's answer with sound ``number``."""
    artifact = generated(number, prompt)
    artifact["parent"] = None if parent is None else ref("audio", parent).id
    artifact["generated"]["seconds"] = seconds
    artifact["generated"]["request"]["seed"] = seed
    return ToolMessage("Made it", tool_call_id=f"c{number}", artifact=artifact)


def gone_back(message: ToolMessage) -> ToolMessage:
    return ToolMessage("Back", tool_call_id="r", artifact={**message.artifact, "restored": True})


DOG, NIGHT, RAIN = brought(1, "a dog barking"), brought(2, "a dog barking at night", 1, 8.0), brought(3, "rain on a roof", seed=7)
THREE = Versions.read([HumanMessage("a"), DOG, HumanMessage("b"), NIGHT, HumanMessage("c"), RAIN])
TAKES = Versions.read([HumanMessage("a"), DOG, HumanMessage("b"), *(brought(k, "rain", None, 5, k) for k in (2, 3, 4))])


@pytest.mark.parametrize(
    ("text", "numbers", "asked"),
    [
        ("calmer", [3], ""),
        ("make it longer", [3], ""),
        ("the second one, but longer", [2], ""),
        ("the first snow of winter", [3], ""),  # a prompt, not a reference
        ("back to the first", [1], "restore"),
        ("back to the first, but with wind", [1], ""),
        ("branch from the second", [2], "restore"),
        ("undo", [2], "undo"),
        ("undo twice", [1], "undo"),
        ("take that back", [2], "undo"),
        ("A/B", [2, 3], "compare"),
        ("compare the two", [2, 3], "compare"),
        ("the middle one", [2], ""),
        ("the previous one", [2], ""),
        ("the last two", [2, 3], ""),
        ("the second to last", [2], ""),
        ("the dog one, calmer", [2], ""),
        ("back to the dog", [2], "restore"),
        ("the longest one", [2], ""),
        ("the one with seed 7", [3], ""),
        ("version 2 with more wind", [2], ""),
        ("the fifth one", [], ""),
        ("zurück zum ersten", [1], "restore"),
        ("die zweite, aber länger", [2], ""),
        ("la première", [1], ""),
        ("annule", [2], "undo"),
        ("el segundo", [2], ""),
        ("第二个，更长", [2], ""),
        ("撤销", [2], "undo"),
    ],
)
def test_a_sentence_means_these_sounds(text: str, numbers: list[int], asked: str) -> None:
    found = meant(text, THREE)
    assert ([v.number for v in found.versions], found.asked) == (numbers, asked)


@pytest.mark.parametrize(
    ("text", "number"),
    [("the second one", 3), ("the middle one", 3), ("take 3", 4), ("version 1", 1), ("the very first", 1), ("undo", 1)],
)
def test_of_several_takes_the_takes_are_counted(text: str, number: int) -> None:
    assert [v.number for v in meant(text, TAKES).versions] == [number]


@pytest.mark.parametrize(
    ("text", "numbers"),
    [
        ("das erste nochmal, aber länger", [1]),
        ("zurück zum zweiten", [2]),
        ("Version 2, langsamer", [2]),
        ("mach das rückgängig", [2]),
        ("das vorige, aber leiser", [2]),
        ("die letzten beiden", [2, 3]),
        ("vergleiche die beiden", [2, 3]),
        ("das mit dem Regen", [3]),
        ("den Regen bitte weiter weg", [3]),
        ("der zweite war besser", [2]),
        ("nimm doch wieder das erste", [1]),
        ("das längste", [2]),
        ("das mittlere", [2]),
        ("le premier, mais plus long", [1]),
        ("reviens au deuxième", [2]),
        ("annule ça", [2]),
        ("le précédent, plus doux", [2]),
        ("les deux derniers", [2, 3]),
        ("compare les deux", [2, 3]),
        ("celui avec la pluie", [3]),
        ("le tout premier", [1]),
        ("je préfère le deuxième", [2]),
        ("celui d'avant", [2]),
        ("la version 2, plus lente", [2]),
        ("celui du milieu", [2]),
        ("el primero, pero más largo", [1]),
        ("vuelve al segundo", [2]),
        ("deshaz eso", [2]),
        ("el anterior, más suave", [2]),
        ("los dos últimos", [2, 3]),
        ("compara los dos", [2, 3]),
        ("el de la lluvia", [3]),
        ("el del medio", [2]),
        ("me gustaba más el primero", [1]),
        ("la versión 2, más lenta", [2]),
        ("第一个，长一点", [1]),
        ("回到第二个", [2]),
        ("撤销", [2]),
        ("上一个，轻一点", [2]),
        ("最后两个", [2, 3]),
        ("比较这两个", [2, 3]),
        ("下雨的那个", [3]),
        ("我更喜欢第一个", [1]),
        ("版本2，慢一点", [2]),
        ("中间那个", [2]),
        ("the earlier one, softer", [2]),
        ("no, the one before that", [2]),
        ("put the first one back", [1]),
        ("I'd rather have the second", [2]),
        ("the very first, but darker", [1]),
        ("same as the first but darker", [1]),
        ("number two again", [2]),
        ("the rain again but slower", [3]),
        ("both of them side by side", [2, 3]),
        ("the newest one without birds", [3]),
        ("second take please, slower", [2]),
        ("undo the last change", [2]),
        ("go two back", [1]),
        ("the long one", [2]),
        ("the one from the beginning", [1]),
        ("not that one, the first", [1]),
        ("ok the middle one then", [2]),
    ],
)
def test_in_every_language_the_same_sound_is_meant(text: str, numbers: list[int]) -> None:
    found = meant(parse(english(text), ("nano",)).rest, THREE)
    assert [v.number for v in found.versions] == numbers


def test_what_is_left_of_the_text_is_the_change() -> None:
    assert meant("back to the first, but with wind", THREE).rest == "but with wind"
    assert meant("make it longer", THREE).rest == "make it longer"


def test_without_sounds_nothing_is_meant() -> None:
    assert [meant(text, Versions()).versions for text in ("undo", "the first one", "A/B", "it")] == [(), (), (), ()]


# -- the careful reader ------------------------------------------------------------------------------------------------

THINGS = ("a barking dog", "rain on a tin roof", "an old piano", "a steam train", "church bells", "frogs in a pond", "a violin", "surf")
NAMES = {"a barking dog": "dog", "rain on a tin roof": "rain", "an old piano": "piano", "a steam train": "train"}
ORDINALS = ("first", "second", "third", "fourth", "fifth")


@dataclass
class Reader:
    """Reads along with a pencil: what was made, and what lay on the desk before. Shares no code with what is tested."""

    draw: random.Random
    messages: list[BaseMessage] = field(default_factory=list)
    made: list[dict[str, Any]] = field(default_factory=list)  # prompt, message
    desk: list[int] = field(default_factory=list)  # numbers, the current one last

    def make(self, prompt: str, parent: int | None = None) -> None:
        number = len(self.made) + 1
        message = brought(number, prompt, parent, seconds=float(number + 2), seed=number)
        self.made.append({"prompt": prompt, "message": message})
        if parent is not None:
            self.lay(parent)  # who changes a sound has it on the desk
        self.desk.append(number)
        self.messages += [HumanMessage(prompt), message]

    def go_to(self, number: int) -> None:
        self.messages += [HumanMessage("back"), gone_back(self.made[number - 1]["message"])]
        self.lay(number)

    def lay(self, number: int) -> None:
        if self.desk[-1] == number:
            return
        if len(self.desk) > 1 and self.desk[-2] == number:
            self.desk.pop()
        else:
            self.desk.append(number)

    def sayings(self) -> list[tuple[str, list[int]]]:
        """What may be said now and what it means to this reader; only what he would not have to ask about."""
        count, current = len(self.made), self.desk[-1]
        said = [(text, [current]) for text in ("calmer", "make it longer", "without the birds", "the same again")]
        said += [(text, [count]) for text in ("the last one", "take the newest version")]
        for k in range(min(count, 5)):
            word = ORDINALS[k]
            said += [
                (f"the {word} one, but longer", [k + 1]),
                (f"go back to the {word}", [k + 1]),
                (f"version {k + 1}, slower", [k + 1]),
            ]
            said += [(f"branch from the {word} one", [k + 1]), (f"I liked the {word} version", [k + 1]), (f"#{k + 1} please", [k + 1])]
        if len(self.desk) > 1:
            before = self.desk[-2]
            said += [(text, [before]) for text in ("undo", "undo that", "the previous one", "go back", "take it back")]
            said += [(text, sorted({before, current})) for text in ("A/B", "compare them", "let me hear both side by side")]
        if count in (3, 5, 7):
            said.append(("the middle one", [count // 2 + 1]))
        if count > 1:
            said += [("the longest one", [count]), ("the shortest one, louder", [1]), ("the last two", [count - 1, count])]
        for prompt, name in NAMES.items():
            fitting = [k for k, entry in enumerate(self.made, 1) if entry["prompt"].startswith(prompt)]
            if len(fitting) == 1:
                said += [
                    (f"the {name} one, further away", fitting),
                    (f"back to the {name}", fitting),
                    (f"the one with the {name}", fitting),
                ]
        if count < 5:
            said.append((f"the {ORDINALS[count]} one", []))
        return said


def conversation(seed: int) -> Iterator[tuple[Reader, str, list[int]]]:
    """Ten turns: who reads, what is said, and which sounds are meant; between them sounds are made."""
    reader = Reader(random.Random(seed))
    reader.make(reader.draw.choice(THINGS))
    for _ in range(10):
        text, expected = reader.draw.choice(reader.sayings())
        yield reader, text, expected
        does = reader.draw.random()
        if does < 0.35:
            reader.make(reader.draw.choice(THINGS))
        elif does < 0.7:
            source = expected[0] if expected else reader.desk[-1]
            reader.make(reader.made[source - 1]["prompt"] + ", calmer", source)
        elif expected:
            reader.go_to(expected[0])


def test_twenty_random_conversations_are_read_as_a_careful_reader_reads_them() -> None:
    right, wrong = 0, []
    for seed in range(20):
        for reader, text, expected in conversation(seed):
            found = sorted(v.number for v in meant(text, Versions.read(reader.messages)).versions)
            right += found == expected
            if found != expected:
                wrong.append((seed, text, expected, found))
    assert right >= 0.95 * 200, wrong


@pytest.mark.slow
def test_the_default_model_takes_the_sounds_that_a_careful_reader_means() -> None:
    from serving.app import build

    model, wrong = build().chat_model, []
    for seed in range(20):
        for reader, text, expected in conversation(seed):
            answer = model.invoke([*reader.messages, HumanMessage(text)], tools=schemas())
            if not taken(answer, reader, expected):
                wrong.append((seed, text, expected, answer.text, answer.tool_calls))
    print(f"{200 - len(wrong)} of 200 references", wrong)
    assert len(wrong) <= 0.05 * 200, wrong


def taken(answer: AIMessage, reader: Reader, expected: list[int]) -> bool:
    """Whether the call's sound, or the versions that the answer tells apart, are the expected ones."""
    if not answer.tool_calls:
        return sorted(int(n) for n in re.findall(r"version (\d+)", answer.text)) == expected
    call = answer.tool_calls[0]
    ids = [entry["message"].artifact["generated"]["media"]["id"] for entry in reader.made]
    if call["name"] in ("generate_audio", "compare"):  # made anew from its words
        fitting = [k for k, entry in enumerate(reader.made, 1) if str(call["args"].get("prompt", "")).startswith(entry["prompt"])]
        return len(expected) == 1 and expected[0] in fitting
    named = [call["args"]["source"]] if "source" in call["args"] else call["args"].get("media", [])
    return [ids.index(i) + 1 for i in named] == expected
