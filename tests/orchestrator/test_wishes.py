"""What is to be heard, among the story told around it."""

from __future__ import annotations

import pytest

from orchestrator.parsing import parse, subject


@pytest.mark.parametrize(
    ("text", "heard"),
    [
        (
            "i'm making a podcast about trains, can you give me a steam train leaving the station? like 8s",
            "a steam train leaving the station",
        ),
        (
            "I need a sound for a thunderstorm in my video game, around 6 sec, with heavy rain underneath",
            "a thunderstorm, with heavy rain underneath",
        ),
        ("My son has a birthday. Could you make me a roaring dragon for his party? Thanks!", "a roaring dragon"),
        (
            "so we're shooting a short film about a lonely keeper and i'd like wind around a tower, waves below.",
            "wind around a tower, waves below",
        ),
        ("The scene: two knights fight in a stone hall. I need swords clashing with some echo.", "swords clashing with some echo"),
        ("can you do a bee? it's for my daughter", "a bee"),
        ("footsteps for my short film", "footsteps"),
        # what belongs to the sound stays
        ("rain on a roof. then thunder", "rain on a roof. then thunder"),
        ("a lullaby for piano", "a lullaby for piano"),
        ("birds in the school", "birds in the school"),
        ("a choir singing for the king", "a choir singing for the king"),
    ],
)
def test_the_story_and_the_purpose_are_left_out(text: str, heard: str) -> None:
    assert subject(parse(text).rest) == heard
