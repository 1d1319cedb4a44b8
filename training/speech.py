"""Speech for training: sentences of our own, spoken by the voice in the hibari-tts wheel (Apache-2.0), higher and lower."""

from __future__ import annotations

from typing import Any

import numpy as np
import soxr

from training import synthesis as s
from training.scenes import Scene
from training.synthesis import Rng

VOICE_RATE = 24_000  # Hz
# Speaker: share of the recorded pitch and how people name the voice.
SPEAKERS = {
    "a woman": (1.0, ("a woman", "a lady", "a female voice")),
    "a man": (0.76, ("a man", "a gentleman", "a male voice")),
    "a child": (1.28, ("a child", "a kid", "a little girl")),
}
SENTENCES = (
    "Good morning, how are you today?", "The train leaves at half past nine.", "Please close the door behind you.",
    "I think it will rain this afternoon.", "Could you pass me the salt?", "We are almost there.",
    "Nobody told me about the meeting.", "She bought three apples and a loaf of bread.", "Turn left at the next corner.",
    "That was a very good idea.", "I will call you back in ten minutes.", "The museum is closed on Mondays.",
    "Do not forget your umbrella.", "He said that he would be late.", "Let us begin with the first chapter.",
    "The water in the lake is cold.", "My brother works in a bakery.", "There is a letter on the table.",
    "What time does the shop open?", "It is further than you think.", "The children are playing in the garden.",
    "Thank you very much for your help.", "I cannot find my keys.", "This road leads to the old harbour.",
    "Yesterday we walked along the river.", "Please wait behind the yellow line.", "The soup needs a little more pepper.",
    "You should see a doctor.", "Everything will be fine.", "One, two, three, four, five.",
    "Attention please, the library closes in fifteen minutes.", "Once upon a time there was a small village.",
)  # fmt: skip


class Speaker:
    """The voice, loaded once."""

    def __init__(self) -> None:
        from hibari import Hibari  # type: ignore[import-untyped]

        self._voice: Any = Hibari(threads=1)

    def say(self, sentence: str, pitch: float, seed: int) -> np.ndarray:
        """16 kHz mono; ``pitch`` scales pitch and tempo together."""
        wave = self._voice(sentence, speed=1 / pitch, seed=seed)
        return soxr.resample(np.asarray(wave, np.float64), VOICE_RATE * pitch, s.SAMPLE_RATE)


def speech(speaker: Speaker, rng: Rng, seconds: float) -> Scene:
    """Sentences one after another until the clip is full."""
    pitch, names = SPEAKERS[str(rng.choice(list(SPEAKERS)))]
    y, at, first = s.silence(seconds), rng.uniform(0, 0.3), ""
    while at < seconds - 0.8:
        sentence = str(rng.choice(SENTENCES))
        first = first or sentence
        wave = speaker.say(sentence, pitch * rng.uniform(0.95, 1.05), int(rng.integers(2**31)))
        s.place(y, wave / (np.abs(wave).max() + 1e-6), at)
        at += len(wave) / s.SAMPLE_RATE + rng.uniform(0.2, 0.7)
    who = str(rng.choice(names))
    verb = str(rng.choice(("speaking", "talking", "speaks", "talks")))
    captions = (f"{who} {verb}", f'{who} says "{first.lower()}"', str(rng.choice(("speech", "someone talking", "a person speaking"))))
    return Scene(s.finished(rng, s.reverb(rng, y, 0.3, rng.uniform(0, 0.25))), captions)
