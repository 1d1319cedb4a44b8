"""What a language model with media before it and a sound behind it is taught: turns, their answers, and what is to be heard.

Knows words and vectors. Every lesson is a function of a number. Pictures are drawn as labels with probabilities (training.sights),
sounds are vectors of nano's ears, words are training.captions'. What is to be heard is a text in the generator's own words ("cat in the
distance"): its states are what the output projector learns to give.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from encoders.sights import sights
from training.captions import framed, phrases
from training.scenes import held_out
from training.sights import Sights

NOTHING = "wind"  # what is heard where nothing is recognised (generators.conditioning.NEUTRAL)
FAR = (
    "far away", "in the distance", "from afar", "very far off", "a long way off", "distant", "heard from far away", "make it distant",
    "as if it were miles away", "far off", "somewhere far away", "faintly in the distance",
)  # fmt: skip
NEAR = (
    "close up", "very close", "right next to me", "nearby", "right in front of me", "at close range", "very near", "from up close",
)  # fmt: skip
PLACES = {
    "at night": "cricket", "on a summer night": "cricket", "in the dark": "cricket", "late at night": "cricket",
    "in the rain": "rain", "while it rains": "rain", "on a rainy day": "rain", "in a thunderstorm": "thunder",
    "during a storm": "thunder", "on a windy day": "wind", "in the wind": "wind",
    "by the sea": "ocean waves", "on the beach": "ocean waves",
    "at a stream": "stream", "beside a river": "stream", "by the fire": "fire", "at a campfire": "fire",
    "in the forest": "songbird", "in a garden in spring": "songbird", "on stage": "applause", "in front of an audience": "applause",
    "in the street": "car engine", "in heavy traffic": "car engine",
}  # fmt: skip
MAKE = (
    "", "", "", "make the sound of this", "what does this sound like", "a sound for this picture", "let me hear it", "play this",
    "make a fitting sound", "the sound of what you see", "give me its sound", "sound, please", "make it audible",
    "create audio for this",
)  # fmt: skip
ASK = (
    "what is this?", "what do you see?", "what is here?", "describe it", "name it", "in a word, what is that?", "tell me what this is",
)  # fmt: skip
LINKS = ("{}", "but {}", "and {}", "{}, please", "it is {}", "make it {}", "only {}", "the same {}")


@dataclass(frozen=True)
class Lesson:
    """One turn: ``said`` after ``media`` (kind, vector [D]); the answer in words, or ``heard``: what the generator is to be told."""

    said: str
    media: tuple[tuple[str, np.ndarray], ...] = ()
    answer: str = ""
    heard: str = ""


@dataclass(frozen=True)
class School:
    """Where lessons come from.

    Args:
        heard: name of a sound -> vectors [N, D] of clips of it.
    """

    pictures: Sights
    heard: Mapping[str, np.ndarray]

    def encoding(self, draw: np.random.Generator) -> Lesson:
        """Stage 1, comprehension: a picture or a sound, and its name in words."""
        name, medium = self.medium(draw)
        return Lesson(_one(draw, ASK), (medium,), answer=plain(name))

    def decoding(self, draw: np.random.Generator) -> Lesson:
        """Stage 2: a caption, and signal tokens that say it to the generator."""
        name = _one(draw, sorted(phrases()))
        words, told = self._beside(draw, name)
        said = framed(_one(draw, phrases()[name]), draw)
        return Lesson(f"{said}, {words}" if words else said, heard=told)

    def instruction(self, draw: np.random.Generator) -> Lesson:
        """Stage 3: media, with and without words beside them, to signals or, where it is asked what they are, to words."""
        chance = draw.random()
        if chance < 0.06:
            return self.encoding(draw)
        if chance < 0.18:
            return self.decoding(draw)
        name, medium = self.medium(draw)
        words, told = self._beside(draw, name) if draw.random() < 0.5 else ("", plain(name))
        said = _one(draw, MAKE) if draw.random() < 0.6 or not words else ""
        return Lesson(", ".join(part for part in (said, words) if part), (medium,), heard=told)

    def medium(self, draw: np.random.Generator) -> tuple[str, tuple[str, np.ndarray]]:
        """A name and a picture or sound of it."""
        if draw.random() < 0.3:
            name = _one(draw, sorted(self.heard))
            clips = self.heard[name]
            vector = clips[int(draw.integers(len(clips)))]
            # Clips that the ears were trained on are heard more clearly than others will be.
            vector = vector + draw.normal(0, draw.uniform(0, 0.9) / np.sqrt(len(vector)), len(vector))
            return name, ("audio", (vector / np.linalg.norm(vector)).astype(np.float32))
        if draw.random() < 0.08:
            return NOTHING, ("image", self.pictures.picture_of_nothing(draw))
        name = _one(draw, sorted(sights()))
        return name, ("image", self.pictures.picture_of(draw, name))

    def _beside(self, draw: np.random.Generator, name: str) -> tuple[str, str]:
        """Words beside a thing, and what is to be heard of both."""
        said, told, chance = [], plain(name), draw.random()
        if chance < 0.3:
            return "", told
        if chance < 0.38:
            other = _one(draw, sorted(phrases()))
            if other == name or held_out(name, other):
                return "", told
            return f"with {_one(draw, [p for p in phrases()[other] if len(p.split()) < 5])}", f"{told} and {plain(other)}"
        far = draw.random()
        if far < 0.6:
            said.append(_one(draw, FAR))
            told = f"{told} in the distance"
        elif far < 0.75:
            said.append(_one(draw, NEAR))
            told = f"{told} close up"
        if far >= 0.75 or draw.random() < 0.25:
            place = _one(draw, sorted(PLACES))
            if PLACES[place] != plain(name):
                said.append(place)
                told = f"{told} with {PLACES[place]} in the background"
        draw.shuffle(said)
        return _one(draw, LINKS).format(", ".join(said)) if said else "", told


def plain(name: str) -> str:
    """A class's name as the generator knows it."""
    return name.replace("_", " ")


def _one(draw: np.random.Generator, of: Sequence[str]) -> str:
    return str(of[int(draw.integers(len(of)))])
