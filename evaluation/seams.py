"""Do the joins of a long bed stand out? Level and spectral flux where windows meet, against the same figures everywhere else.

Two ways to make a bed that is longer than a window are compared on the same joins: one request, whose windows the engine blends in
latent space (MultiDiffusion, Bar-Tal et al. 2023), and separate sounds that are crossfaded. Knows backends and samples; takes part in
no making. ``python -m evaluation.seams -o FILE.json`` writes the figures.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from generators.base import Backend, GenerationRequest
from media.audio import read_audio

BEDS = ("wind", "rain", "ocean waves", "stream", "fire", "car engine", "machine", "applause")
WINDOW_S, OVERLAP_S, WINDOWS = 5.12, 1.28, 5  # nano's own: 64 and 16 latent frames of 80 ms
FRAME_S = 0.05
Fade = Literal["equal power", "linear"]
STEP_S = WINDOW_S - OVERLAP_S
SECONDS = WINDOW_S + (WINDOWS - 1) * STEP_S


def joins() -> list[float]:
    """The middles of the overlaps, in seconds."""
    return [index * STEP_S + OVERLAP_S / 2 for index in range(1, WINDOWS)]


def crossfaded(pieces: Sequence[np.ndarray], rate: int, fade: Fade) -> np.ndarray:
    """Pieces [n] of a window each, laid ``STEP_S`` apart and faded over all of their overlap."""
    step, overlap = round(STEP_S * rate), round(OVERLAP_S * rate)
    out = np.zeros(step * (len(pieces) - 1) + len(pieces[0]))
    rise = (np.arange(overlap) + 0.5) / overlap
    rise = np.sin(rise * np.pi / 2) if fade == "equal power" else rise
    for index, piece in enumerate(pieces):
        weights = np.ones(len(piece))
        if index:
            weights[:overlap] = rise
        if index + 1 < len(pieces):
            weights[-overlap:] = rise[::-1]
        out[index * step : index * step + len(piece)] += weights * piece
    return out


def curves(samples: np.ndarray, rate: int) -> tuple[np.ndarray, np.ndarray]:
    """Level in dB and spectral flux in dB, [N] each, every 50 ms; flux is the mean change of log-magnitude over bins."""
    size = round(FRAME_S * rate)
    frames = samples[: len(samples) // size * size].reshape(-1, size)
    level = 10 * np.log10((frames**2).mean(axis=1) + 1e-10)
    magnitude = 20 * np.log10(np.abs(np.fft.rfft(frames * np.hanning(size), axis=1)) + 1e-4)
    return level, np.abs(np.diff(magnitude, axis=0, prepend=magnitude[:1])).mean(axis=1)


def standing_out(curve: np.ndarray, moments: Sequence[float], width: float = OVERLAP_S / 2) -> list[float]:
    """Where the mean of ``curve`` around each join lies among the means of as long stretches that touch no overlap: shares 0..1.

    The stretch is half an overlap long, so that the interior has some that do not touch.
    """
    count = round(width / FRAME_S)
    means = np.convolve(curve, np.ones(count) / count, mode="valid")
    middle = (np.arange(len(means)) + count / 2) * FRAME_S
    inside = np.all([np.abs(middle - moment) > (OVERLAP_S + width) / 2 for moment in moments], axis=0)
    inside &= (middle > 0.5) & (middle < middle[-1] - 0.5)
    at = [int(np.abs(middle - moment).argmin()) for moment in moments]
    return [float((means[inside] < means[k]).mean()) for k in at]


def figures(places: Sequence[float], differences: Sequence[float]) -> dict[str, float]:
    """Share of joins within the middle 95 % of the interior, mean place (0.5: unremarkable) and mean difference from it."""
    ranks = np.asarray(places)
    return {
        "joins": len(ranks),
        "within_95": float(((ranks >= 0.025) & (ranks <= 0.975)).mean()),
        "mean_place": float(ranks.mean()),
        "mean_difference_db": float(np.mean(differences)),
        "spread_db": float(np.std(differences)),
    }


def differences(curve: np.ndarray, moments: Sequence[float], width: float = OVERLAP_S / 2) -> list[float]:
    """Mean around each join minus the mean of the seconds on either side of its overlap."""
    at = (np.arange(len(curve)) + 0.5) * FRAME_S
    out = []
    for moment in moments:
        off = np.abs(at - moment)
        out.append(float(curve[off <= width / 2].mean() - curve[(off > OVERLAP_S / 2) & (off <= OVERLAP_S / 2 + 1.0)].mean()))
    return out


def measure(
    backend: Backend, beds: Sequence[str] = BEDS, seeds: Sequence[int] = (0,), rows: int = 4, steps: int | None = None
) -> dict[str, Any]:
    """Figures of every way, over all beds and seeds.

    Every sound has a seed of its own: how the level goes up and down is in the start noise, and beds of one seed share their dips.
    """
    made: dict[str, list[np.ndarray]] = {"latent": [], "equal power": [], "linear": []}
    rate = backend.capabilities.sample_rate
    for number, bed in enumerate(beds):
        for seed in seeds:
            own = 1000 * (len(beds) * seed + number)
            whole = GenerationRequest(prompt=bed, seconds=SECONDS, seed=own, steps=steps)
            parts = [GenerationRequest(prompt=bed, seconds=WINDOW_S, seed=own + 1 + k, steps=steps) for k in range(WINDOWS)]
            sounds = [read_audio(backend.store.path(g.media)).samples[0] for g in backend.generate([whole, *parts], rows=rows)]
            made["latent"].append(sounds[0].astype(np.float64))
            made["equal power"].append(crossfaded(sounds[1:], rate, "equal power"))
            made["linear"].append(crossfaded(sounds[1:], rate, "linear"))
    told: dict[str, Any] = {}
    for way, sounds in made.items():
        each: dict[str, list[float]] = {"level": [], "flux": []}
        gaps: dict[str, list[float]] = {"level": [], "flux": []}
        for sound in sounds:
            for name, curve in zip(("level", "flux"), curves(sound, rate), strict=True):
                each[name] += standing_out(curve, joins())
                gaps[name] += differences(curve, joins())
        told[way] = {name: figures(each[name], gaps[name]) for name in each}
    return told


def main() -> None:
    from configs.schema import load_config
    from generators.audioldm2 import AudioLDM2
    from media.refs import MediaStore

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-o", dest="out", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--steps", type=int, help="Denoising steps; the backend's own where left out.")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        backend = AudioLDM2("nano", {"checkpoint": "nano"}, MediaStore(Path(place)), load_config().home)
        told = {
            "backend": "nano",
            "fingerprint": backend.fingerprint(4),
            "beds": BEDS,
            "seconds": SECONDS,
            "joins": joins(),
            "steps": given.steps,
        }
        told["ways"] = measure(backend, seeds=range(given.seeds), steps=given.steps)
    given.out.write_text(json.dumps(told, indent=1) + "\n")


if __name__ == "__main__":
    main()
