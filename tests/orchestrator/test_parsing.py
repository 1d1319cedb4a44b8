"""Numbers, names and wishes in English."""

from __future__ import annotations

from typing import Any

import pytest

from orchestrator.parsing import parse, subject

BACKENDS = ("nano", "audioldm2", "hibari")


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("rain, 8 seconds", 8),
        ("8s of rain", 8),
        ("an 8-second rain", 8),
        ("eight seconds of rain", 8),
        ("twenty-five secs of rain", 25),
        ("half a minute of rain", 30),
        ("a minute and a half of rain", 90),
        ("two and a half seconds of rain", 2.5),
        ("1 minute 20 seconds of rain", 80),
        ("500 ms of rain", 0.5),
        ("rain for 2,5 seconds", 2.5),
        ("rain that lasts 3 min", 180),
    ],
)
def test_a_length_is_read_and_leaves_the_subject(text: str, seconds: float) -> None:
    parsed = parse(text)
    assert parsed.seconds == pytest.approx(seconds)
    assert subject(parsed.rest).removeprefix("an ").removeprefix("a ") == "rain"


@pytest.mark.parametrize(
    "text",
    [
        "a bell every two seconds",
        "the shop closes in ten minutes",
        "ten minutes before the storm",
        "twice as long",
        "three dogs",
        "a bomb that explodes after 5 seconds",
    ],
)
def test_a_time_that_belongs_to_the_scene_is_no_length(text: str) -> None:
    parsed = parse(text)
    assert parsed.seconds is None
    assert parsed.rest == text


@pytest.mark.parametrize(
    ("text", "expected", "rest"),
    [
        ("a bell, seed 42", {"seed": 42}, "a bell"),
        ("a bell (seed=7)", {"seed": 7}, "a bell"),
        ("a bell with 30 steps and guidance 2.5", {"steps": 30, "guidance": 2.5}, "a bell"),
        ("a bell, steps: 12, cfg scale 3", {"steps": 12, "guidance": 3.0}, "a bell"),
        ("ten steps on a wooden floor", {"steps": None}, "ten steps on a wooden floor"),
        ("a bell with audioldm2", {"backend": "audioldm2"}, "a bell"),
        ("nano: a bell", {"backend": "nano"}, "a bell"),
        ("a bell using the frobnicate backend", {"backend": "frobnicate"}, "a bell"),
        ("a street without cars", {"negative": "cars"}, "a street"),
        ("a street, no horns, no people", {"negative": "horns, people"}, "a street"),
        ("a street but no horns", {"negative": "horns"}, "a street"),
        ("no longer silent", {"negative": ""}, "no longer silent"),
    ],
)
def test_settings_are_read(text: str, expected: dict[str, Any], rest: str) -> None:
    parsed = parse(text, BACKENDS)
    assert {name: getattr(parsed, name) for name in expected} == expected
    assert parsed.rest == rest


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('say "the door is open, 8 seconds left"', "the door is open, 8 seconds left"),
        ("please read this aloud: Hello, world.", "Hello, world."),
        ("say good morning", "good morning"),
        ("a robot voice saying 'stand back'", "stand back"),
        ("speak «bonjour»", "bonjour"),
    ],
)
def test_words_to_be_spoken_are_kept_as_they_are(text: str, words: str) -> None:
    parsed = parse(text)
    assert parsed.transcript == words
    assert parsed.seconds is None


@pytest.mark.parametrize("text", ["say it again", 'a dog called "Rex" barks', "people saying hello to each other"])
def test_not_everything_that_is_said_is_a_transcript(text: str) -> None:
    assert parse(text).transcript is None


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("Could you please make me the sound of a creaky door?", "a creaky door"),
        ("I'd like to hear some geese", "some geese"),
        ("sound effect: whip", "whip"),
        ("what does a whale sound like?", "a whale"),
        ("for my film i need a scream", "a scream"),
        ("thunder", "thunder"),
    ],
)
def test_wishes_leave_the_subject(text: str, wanted: str) -> None:
    assert subject(parse(text).rest) == wanted
