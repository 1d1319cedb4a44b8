"""Which sound a text means: fixed sentences, and twenty random conversations against a reader who keeps his own books."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import Any

import pytest
from langchain_core.messages import BaseMessage, HumanMessage, ToolMessage

from orchestrator.conversation import Versions
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


def test_twenty_random_conversations_are_read_as_a_careful_reader_reads_them() -> None:
    right, wrong = 0, []
    for seed in range(20):
        reader = Reader(random.Random(seed))
        reader.make(reader.draw.choice(THINGS))
        for _ in range(10):
            text, expected = reader.draw.choice(reader.sayings())
            found = sorted(v.number for v in meant(text, Versions.read(reader.messages)).versions)
            right += found == expected
            if found != expected:
                wrong.append((seed, text, expected, found))
            does = reader.draw.random()
            if does < 0.35:
                reader.make(reader.draw.choice(THINGS))
            elif does < 0.7:
                source = expected[0] if expected else reader.desk[-1]
                reader.make(reader.made[source - 1]["prompt"] + ", calmer", source)
            elif expected:
                reader.go_to(expected[0])
    assert right >= 0.95 * 200, wrong
