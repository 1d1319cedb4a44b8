"""Where somebody speaks in the sound of a video: Silero VAD, inside a registry package (MIT), on onnxruntime.

The network hears 32 ms at a time and remembers; it knows no words. Sounds of any length: memory does not grow.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from encoders.base import packaged_file
from media.streaming import gathered, track_blocks
from media.video import picture_span

PACKAGE = "silero_vad"
SHA256 = "7ed98ddbad84ccac4cd0aeb3099049280713df825c610a8ed34543318f1b2c49"
RATE = 16_000  # Hz
CHUNK, CONTEXT = 512, 64  # samples that are heard at a time, and those before them
SURE, MAYBE = 0.5, 0.2  # probability: speech is heard, and lasts in both directions as long as it may be
PAUSE = 0.35  # seconds; a shorter silence lies between two words
SHORTEST = 0.25  # seconds


def speech_spans(path: Path) -> list[tuple[float, float]]:
    """Spans of speech in the first sound stream of a video, in seconds on the picture's clock; empty without sound or without speech.

    Raises:
        MissingMedia, UnreadableMedia, MediaTooLarge. EncoderMissing: the package is not installed.
    """
    start, seconds = picture_span(path)
    sound = (block.mean(axis=0) for block in gathered(track_blocks(path, RATE, start)))
    found = spans(speech_probabilities(sound), CHUNK / RATE)
    return [(begin, min(end, seconds)) for begin, end in found if begin < seconds]


@cache
def _session() -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1  # so small a network is slower on more
    path = packaged_file(PACKAGE, "data", "silero_vad_16k_op15.onnx", sha256=SHA256)
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def speech_probabilities(blocks: Iterator[np.ndarray]) -> np.ndarray:
    """Probability of speech for every ``CHUNK`` samples, [N] float32 in 0..1, of blocks [n] float32 at 16 kHz."""
    state, context = np.zeros((2, 1, 128), np.float32), np.zeros((1, CONTEXT), np.float32)
    rate, found = np.array(RATE, np.int64), []
    for chunk in _chunks(blocks):
        heard = np.concatenate([context, chunk[None]], axis=1)
        probability, state = _session().run(None, {"input": heard, "state": state, "sr": rate})
        context = heard[:, -CONTEXT:]
        found.append(float(probability[0, 0]))
    return np.array(found, np.float32)


def _chunks(blocks: Iterator[np.ndarray]) -> Iterator[np.ndarray]:
    rest = np.zeros(0, np.float32)
    for block in blocks:
        rest = np.concatenate([rest, block])
        full = len(rest) // CHUNK
        yield from rest[: full * CHUNK].reshape(full, CHUNK)
        rest = rest[full * CHUNK :]
    if len(rest):
        yield np.pad(rest, (0, CHUNK - len(rest)))


def spans(probabilities: Sequence[float] | np.ndarray, step: float) -> list[tuple[float, float]]:
    """Spans (start, end) in seconds of probabilities every ``step`` seconds.

    >>> spans([0, .6, .9, .4, .4, .6, .1, 0, 0, .9, 0], 0.1)
    [(0.1, 1.0)]
    """
    heard = np.concatenate([[0.0], np.asarray(probabilities, np.float64), [0.0]])
    edges = np.flatnonzero(np.diff((heard >= MAYBE).astype(int))).reshape(-1, 2)
    found: list[list[int]] = []
    for begin, end in edges.tolist():
        if heard[begin + 1 : end + 1].max() < SURE:
            continue
        if found and (begin - found[-1][1]) * step < PAUSE:
            found[-1][1] = end
        else:
            found.append([begin, end])
    return [(round(begin * step, 3), round(end * step, 3)) for begin, end in found if (end - begin) * step >= SHORTEST]
