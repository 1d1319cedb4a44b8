"""Music for training: short pieces composed by chance and played through an MIT soundfont, captioned with what was chosen.

The soundfont is MuseScore_General_Lite (Debian package ``musescore-general-soundfont-small``, MIT); scores are drawn here, so no
corpus of melodies is involved. ``tinysoundfont`` renders them (``pip install --no-deps tinysoundfont``; it is needed only here).
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import soxr

from configs.registry import ConfigError
from training import synthesis as s
from training.scenes import Scene
from training.synthesis import Rng, Signal

SYNTH_RATE = 44_100  # Hz
DRUM_BANK, DRUM_CHANNEL = 128, 9
KICK, SNARE, HAT = 36, 38, 42

# General MIDI programs: the lead's name in captions and its program.
LEADS = {
    "piano": 0, "music box": 10, "vibraphone": 11, "marimba": 12, "xylophone": 13, "pipe organ": 19, "accordion": 21,
    "harmonica": 22, "acoustic guitar": 24, "electric guitar": 27, "violin": 40, "cello": 42, "harp": 46, "strings": 48,
    "choir": 52, "trumpet": 56, "trombone": 57, "french horn": 60, "saxophone": 65, "oboe": 68, "clarinet": 71, "flute": 73,
    "pan flute": 75, "synthesizer": 81, "banjo": 105, "steel drums": 114,
}  # fmt: skip
PAD, BASS = 48, 32


@dataclass(frozen=True)
class Mood:
    """A scale in semitones, chord roots as scale degrees (one chord a bar), and how people say it."""

    scale: tuple[int, ...]
    progressions: tuple[tuple[int, ...], ...]
    words: tuple[str, ...]


MOODS = {
    "happy": Mood((0, 2, 4, 5, 7, 9, 11), ((0, 4, 5, 3), (0, 5, 3, 4), (0, 3, 0, 4)), ("happy", "cheerful", "bright", "joyful")),
    "sad": Mood((0, 2, 3, 5, 7, 8, 10), ((0, 5, 2, 6), (0, 3, 4, 0)), ("sad", "melancholic", "sorrowful", "wistful")),
    "dark": Mood((0, 1, 3, 5, 7, 8, 10), ((0, 1, 0, 6), (0, 1, 5, 1)), ("dark", "tense", "ominous", "menacing")),
    "folk": Mood((0, 2, 4, 7, 9), ((0, 3, 4, 0), (0, 2, 3, 0)), ("folk", "traditional", "rustic", "country")),
}
TEMPI = {"slow": (55, 75), "": (90, 110), "fast": (135, 175)}
SPEED_WORDS = {"slow": ("slow", "calm", "gentle"), "": ("mid-tempo", ""), "fast": ("fast", "quick", "energetic", "upbeat")}


@dataclass(frozen=True)
class Piece:
    """What a clip of music is."""

    mood: str
    lead: str
    pace: str
    bpm: int
    backed: bool  # chords and bass
    drums: bool


@dataclass(frozen=True)
class Note:
    start: float  # seconds
    length: float  # seconds
    channel: int
    key: int
    velocity: int


def held_out(lead: str, mood: str, pace: str) -> bool:
    """Whether a combination is kept out of training, a fifth of all, so that a benchmark can ask for it."""
    return zlib.crc32(f"{lead}|{mood}|{pace}".encode()) % 5 == 0


def draw_piece(rng: Rng) -> Piece:
    """A combination that is not held out."""
    while True:
        mood, lead, pace = (str(rng.choice(list(table))) for table in (MOODS, LEADS, TEMPI))
        if not held_out(lead, mood, pace):
            low, high = TEMPI[pace]
            bpm = int(rng.integers(low // 5, high // 5 + 1) * 5)
            return Piece(mood, lead, pace, bpm, backed=bool(rng.random() < 0.6), drums=bool(rng.random() < 0.4))


def compose(piece: Piece, rng: Rng, seconds: float) -> list[Note]:
    """A melody that wanders over the chords in eighths, four beats a bar, with what backs it."""
    mood, eighth = MOODS[piece.mood], 30 / piece.bpm
    chords = mood.progressions[int(rng.integers(len(mood.progressions)))]
    root, degree = int(rng.integers(48, 60)), int(rng.integers(0, 7))
    notes: list[Note] = []

    def key(step: int, octave: int) -> int:
        return root + mood.scale[step % len(mood.scale)] + 12 * (step // len(mood.scale) + octave)

    for k in range(int(seconds / eighth) + 1):
        at, chord = k * eighth, chords[k // 8 % len(chords)]
        if piece.backed and k % 8 == 0:
            notes += [Note(at, 7.6 * eighth, 1, key(chord + third, 0), 55) for third in (0, 2, 4)]
        if piece.backed and k % 4 == 0:
            notes.append(Note(at, 3 * eighth, 2, key(chord, -1), 80))
        if rng.random() < (0.9 if k % 2 == 0 else 0.4):
            degree = int(np.clip(degree + rng.integers(-2, 3), 0, 12))
            if k % 8 == 0:  # bars begin on the chord
                degree = chord + int(rng.choice((0, 2, 4)))
            notes.append(Note(at, eighth * float(rng.choice((0.9, 1.8))), 0, key(degree, 1), int(rng.integers(80, 110))))
        if piece.drums:
            notes += [Note(at, 0.1, DRUM_CHANNEL, drum, velocity) for drum, velocity in _drums(k)]
    return notes


def _drums(eighth: int) -> Iterator[tuple[int, int]]:
    yield HAT, 55
    if eighth % 4 == 0:
        yield KICK, 105
    if eighth % 4 == 2:
        yield SNARE, 95


def check_music(soundfont: Path) -> None:
    """Raises ConfigError where there can be no music from ``soundfont``: it is missing, or what renders it is."""
    if not soundfont.is_file():
        raise ConfigError(f"no soundfont at {soundfont}; the Debian package musescore-general-soundfont-small has one")
    if find_spec("tinysoundfont") is None:
        raise ConfigError("music needs the package tinysoundfont: pip install --no-deps tinysoundfont, or leave the soundfont out")


class Player:
    """One soundfont, ready to play. Not thread-safe."""

    def __init__(self, soundfont: Path) -> None:
        import tinysoundfont

        self._synth: Any = tinysoundfont.Synth(samplerate=SYNTH_RATE)
        self._font = self._synth.sfload(str(soundfont))

    def play(self, piece: Piece, notes: list[Note], seconds: float) -> Signal:
        """The notes as sound, mono 16 kHz [T]."""
        for channel, program in ((0, LEADS[piece.lead]), (1, PAD), (2, BASS)):
            self._synth.program_select(channel, self._font, 0, program)
        self._synth.program_select(DRUM_CHANNEL, self._font, DRUM_BANK, 0, True)
        happenings = [(n.start, 1, n) for n in notes] + [(n.start + n.length, 0, n) for n in notes]
        chunks, done, total = [], 0, int(seconds * SYNTH_RATE)
        for at, on, note in sorted(happenings, key=lambda h: (h[0], h[1])):
            upto = min(int(at * SYNTH_RATE), total)
            if upto > done:
                chunks.append(self._render(upto - done))
                done = upto
            if on:
                self._synth.noteon(note.channel, note.key, note.velocity)
            else:
                self._synth.noteoff(note.channel, note.key)
        if total > done:
            chunks.append(self._render(total - done))
        for channel in range(16):
            self._synth.sounds_off(channel)
        wave = soxr.resample(np.concatenate(chunks), SYNTH_RATE, s.SAMPLE_RATE)
        return np.pad(wave, (0, max(0, s.sample_count(seconds) - len(wave))))[: s.sample_count(seconds)]

    def _render(self, samples: int) -> Signal:
        stereo = np.frombuffer(bytes(self._synth.generate(samples)), np.float32).reshape(-1, 2)
        return stereo.mean(1).copy()


def captions_of(piece: Piece, rng: Rng) -> tuple[str, ...]:
    """Three ways to ask for the piece; the first names the tempo in beats per minute."""
    mood = str(rng.choice(MOODS[piece.mood].words))
    speed = str(rng.choice(SPEED_WORDS[piece.pace]))
    noun = str(rng.choice(("melody", "tune", "music", "piece")))
    more = " with drums" if piece.drums else ""
    adjectives = " ".join(word for word in (speed, mood) if word)
    a = "" if noun == "music" else "an " if adjectives[0] in "aeiou" else "a "
    return (
        f"{mood} {piece.lead} {noun} at {piece.bpm} bpm{more}",
        f"{a}{adjectives} {piece.lead} {noun}{more}",
        str(
            rng.choice(
                (f"{adjectives} music played on the {piece.lead}", f"{piece.lead} playing {adjectives} {noun}", f"{adjectives} music")
            )
        ),
    )


def music(player: Player, rng: Rng, seconds: float) -> Scene:
    """One clip of music and its captions."""
    piece = draw_piece(rng)
    wave = player.play(piece, compose(piece, rng, seconds), seconds)
    return Scene(s.finished(rng, wave), captions_of(piece, rng))
