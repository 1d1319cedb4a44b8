"""What soundtracks are held to, measured on the real thing: ``python -m tests.soundtrack_figures onsets|scenes|kills|memory``.

Truth is the makers' schedule and the pictures' meaning; the detector (librosa) and the judge (J1) know nothing of the generator. Prints
one JSON object. The slow tests call the same functions with small numbers.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import av
import numpy as np
from PIL import Image, ImageOps

from configs.schema import AppConfig
from evaluation.judge import SHIPPED, Judge
from evaluation.prompts import DATA, PICTURES
from media.audio import Audio, read_audio
from orchestrator.sync import paired
from serving.app import build
from serving.soundtracks import Asked, Studio, asked
from tests.makers import clip
from tests.toys import Shot, toy, variable_times

FEW = "name: nano-few\nsystem: AudioLDM 2\nbackend: audioldm2\noptions: {checkpoint: nano, steps: %d}\nlicence: CC BY-SA 4.0\nkind: audio\nparity: library\nsample_rate: 16000\nmax_seconds: 30\naccepts: [text, image, audio, video, condition]\ntasks: [sound, music]\nnotes: nano in few steps, for measurements.\n"  # noqa: E501
Shots = Sequence[Shot]


def heard(path: Path) -> list[float]:
    """When sounds begin, by librosa's detector with its own settings (22,050 Hz, hop 512)."""
    import librosa

    samples, rate = librosa.load(path, sr=22_050)
    return [float(t) for t in librosa.onset.onset_detect(y=samples, sr=rate, units="time")] if np.abs(samples).max() > 1e-3 else []


def counted(truth: Sequence[float], sound: Sequence[float], tolerance: float = 0.04) -> dict[str, Any]:
    pairs = paired(truth, sound, far=tolerance)
    return {
        "events": len(truth),
        "sounds": len(sound),
        "hit": len(pairs),
        "false": len(sound) - len(pairs),
        "offset_ms": round(float(np.mean([1000 * (sound[j] - truth[i]) for i, j in pairs])), 1) if pairs else None,
    }


def onsets(work: Path, clips: Sequence[tuple[str, Shots, float | None]], wanted: Asked | None = None) -> dict[str, Any]:
    """Foley of toy videos against their schedules; beside it how the picture's own onsets fit, without any sound."""
    wanted = wanted or asked("foley", stems=work / "stems")
    studio = Studio(build(AppConfig(home=work / "home")))
    rows = []
    for name, shots, fps in clips:
        times = variable_times(sum(shot.seconds for shot in shots), shots[0].seed) if fps is None else None
        made = toy(work / f"{name}.mp4", shots, fps or 30, times=times)
        told = studio.make(made.path, work / f"{name}.out.mp4", wanted).facts
        stems = [stem["path"] for stem in told["stems"] if stem["layer"] == "foley"]
        seen = [t for scene in told["scenes"] for t in scene["visual"]]
        rows.append(
            {
                "clip": name,
                "fps": fps,
                "heard": counted(made.onsets, heard(Path(stems[0])) if stems else []),
                "seen": counted(made.onsets, seen),
                "cuts": len(made.cuts),
                "cuts_right": len(paired(made.cuts, [scene["start"] for scene in told["scenes"][1:]], far=1 / (fps or 25) + 1e-3)),
                "cuts_found": len(told["scenes"]) - 1,
            }
        )
    eye = {key: sum(row["seen"][key] for row in rows) for key in ("events", "sounds", "hit", "false")}
    total = {key: sum(row["heard"][key] for row in rows) for key in ("events", "sounds", "hit", "false")}
    return {
        "clips": rows,
        "within_40_ms": total["hit"] / max(total["events"], 1),
        "false_share": total["false"] / max(total["sounds"], 1),
        "seen_alone": {"within_40_ms": eye["hit"] / max(eye["events"], 1), "false_share": eye["false"] / max(eye["sounds"], 1)},
        **total,
    }


def toys(count: int) -> list[tuple[str, Shots, float | None]]:
    """Bounces, flashes, steps and a cut sequence of them, at several rates and a variable one (None), each with a bystander that moves
    and makes no sound."""
    rates = (24_000 / 1001, 25.0, 30_000 / 1001, 60.0, None)
    found: list[tuple[str, Shots, float | None]] = []
    for number in range(count):
        mixed = [Shot("bounce", 4.0, number), Shot("flash", 3.0, number + 50), Shot("step", 4.0, number + 9)]
        single: list[tuple[str, Shots]] = [(kind, [Shot(kind, 8.0, 100 + number)]) for kind in ("bounce", "flash", "step")]
        for turn, (name, shots) in enumerate([*single, ("cuts", mixed)]):
            found.append((f"{name}{number}", shots, rates[(2 * number + turn) % 5]))
    return found


def film_of_pictures(path: Path, files: Sequence[str], seconds: float = 3.0, side: int = 224, mirrored: bool = False) -> Path:
    """A cut sequence of pictures, each slowly moved over."""
    shots = []
    for file in files:
        image = Image.open(DATA / "pictures" / file).convert("RGB").resize((side + 32, side + 32))
        image = ImageOps.mirror(image) if mirrored else image
        for step in range(round(seconds * 8)):
            left = round(32 * step / (seconds * 8))
            shots.append((np.asarray(image.crop((left, 16, left + side, 16 + side))), 1 / 8))
    return clip(path, shots, fps=8)


def scenes(work: Path, films: int, first: int = 0, layers: str = "ambience,foley,music") -> dict[str, Any]:
    """Whether judge J1 hears in each scene's part of the finished track what its picture shows, among its five first guesses."""
    judge = Judge.load(SHIPPED)
    studio = Studio(build(AppConfig(home=work / "home")))
    named = [picture for picture in PICTURES if picture.labels]
    rows = []
    for film in range(first, first + films):
        order = [named[k] for k in np.random.default_rng(film).permutation(len(named))]
        video = film_of_pictures(work / f"film{film}.mp4", [picture.file for picture in order], mirrored=bool(film % 2))
        told = studio.make(video, work / f"film{film}.out.mp4", asked(layers, seed=film, stems=work / "stems")).facts
        bed = next(stem["path"] for stem in told["stems"] if stem["layer"] == "ambience")
        tracks = {"track": read_audio(work / f"film{film}.out.mp4", mono=True), "bed": read_audio(Path(bed))}
        for picture, scene in zip(order, told["scenes"], strict=True):
            row: dict[str, Any] = {"film": film, "picture": picture.file, "prompt": scene["prompt"]}
            for name, sound in tracks.items():
                begin, end = (round(scene[key] * sound.sample_rate) for key in ("start", "end"))
                heard_as = judge.listen([Audio(sound.samples[:, begin:end], sound.sample_rate)])[0]
                row[name] = [judge.labels.names[k] for k in np.argsort(-heard_as)[:5]]
                row[f"{name}_right"] = bool(set(row[name]) & set(picture.labels))
            rows.append(row)
    shares = {name: sum(row[f"{name}_right"] for row in rows) / len(rows) for name in ("track", "bed")}
    return {"scenes": len(rows), "right": shares["track"], "bed_right": shares["bed"], "rows": rows}


def audio_hash(path: Path) -> str:
    """sha256 over the packets of a file's first sound stream."""
    digest = hashlib.sha256()
    with av.open(str(path)) as container:
        for packet in container.demux(container.streams.audio[0]):
            digest.update(bytes(packet))
    return digest.hexdigest()


def _command(home: Path, *arguments: str | Path) -> tuple[list[str], dict[str, str]]:
    (home / "backends").mkdir(parents=True, exist_ok=True)
    (home / "backends" / "nano-few.yaml").write_text(FEW % 1)
    root = str(Path(__file__).parents[1])
    return [sys.executable, "-m", "serving.cli", "soundtrack", *map(str, arguments)], os.environ | {
        "LOA_HOME": str(home),
        "PYTHONPATH": root,
    }


# What lies under LOA_HOME once a run has come to a phase.
PHASES = {
    "planning": "store/*/*",  # the first scene's picture
    "making": "cache/soundtrack/spans/*/*.json",
    "mixing": "cache/soundtrack/work/*/*.wav",
    "muxing": "cache/soundtrack/work/*/mix.wav",
}


def kills(work: Path, times: int, each: int = 3, seed: int = 0) -> dict[str, Any]:
    """Kill real runs (SIGKILL), then let them end: is the sound that of one run?

    The first soundtrack is killed as each phase begins; then come kills up to 6 s later, ``each`` in a row before a run that may end.
    """
    video = toy(work / "film.mp4", [Shot("bounce", 3.0, 1), Shot("flash", 3.0, 2)], 25).path
    how = ("--backend", "nano-few", "--rerolls", "0")
    command, env = _command(work / "whole", video, "-o", work / "whole.mp4", *how)
    subprocess.run(command, env=env, check=True, capture_output=True)
    wanted, draw = audio_hash(work / "whole.mp4"), random.Random(seed)
    same, runs, killed, left = 0, 0, list[tuple[str, float]](), list[str]()
    while len(killed) < times:
        home, out = work / f"home{runs}", work / f"out{runs}.mp4"
        command, env = _command(home, video, "-o", out, *how)
        anywhere = [(draw.choice([*PHASES]), round(draw.uniform(0, 6), 2)) for _ in range(min(each, times - len(killed)))]
        for phase, later in [(phase, 0.0) for phase in PHASES] if runs == 0 else anywhere:
            process = subprocess.Popen(command, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            while process.poll() is None and not any(home.glob(PHASES[phase])):
                time.sleep(0.005)
            with suppress(subprocess.TimeoutExpired):
                process.wait(later)
            if process.poll() is None:
                process.send_signal(signal.SIGKILL)
                process.wait()
                killed.append((phase, later))
                left += [path.name for path in work.glob(".*")] + ([out.name] if out.exists() and audio_hash(out) != wanted else [])
        done = subprocess.run(command, env=env, check=True, capture_output=True)
        assert not list((home / "cache" / "soundtrack" / "work").glob("*")), done.stderr
        same += audio_hash(out) == wanted
        runs += 1
        print(json.dumps({"killed": killed, "runs": runs, "same": same}), file=sys.stderr, flush=True)
    return {"kills": len(killed), "runs": runs, "same": same, "killed": killed, "left": left}


def memory(work: Path, minutes: Sequence[float] = (1.0, 15.0), layers: str = "ambience") -> dict[str, Any]:
    """Peak resident memory of the whole command, with nano in one step (memory knows no steps), by the length of the video."""
    rows = []
    for length in minutes:
        shots = [((40 + 160 * (k % 2), 90, 120), 20.0) for k in range(round(length * 3))]
        video = clip(work / f"{length:g}.mp4", shots, fps=5)
        command, env = _command(
            work / "home", video, "-o", work / f"{length:g}.out.mp4", "--backend", "nano-few", "--rerolls", "0", "--layers", layers
        )
        begun = time.monotonic()
        with subprocess.Popen(command, env=env, stdout=subprocess.DEVNULL) as process:
            _, status, usage = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
        assert process.returncode == 0, process.returncode
        rows.append(
            {
                "minutes": length,
                "peak_mb": round(usage.ru_maxrss / 1024, 1),
                "cpu_seconds": round(usage.ru_utime + usage.ru_stime, 1),
                "wall_seconds": round(time.monotonic() - begun, 1),
                "samples": stream_samples(work / f"{length:g}.out.mp4"),
            }
        )
        print(json.dumps(rows[-1]), file=sys.stderr, flush=True)
    return {"rows": rows, "grows_mb": round(rows[-1]["peak_mb"] - rows[0]["peak_mb"], 1)}


def stream_samples(path: Path) -> int:
    """Samples that the sound stream claims: its duration at its rate."""
    with av.open(str(path)) as container:
        stream = container.streams.audio[0]
        return round(float(stream.duration * stream.time_base) * stream.rate)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=("onsets", "scenes", "kills", "memory"))
    parser.add_argument("-n", type=int, default=3)
    parser.add_argument("--first", type=int, default=0, help="The first film's number, which is its seed.")
    parser.add_argument("--work", type=Path)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        work = given.work or Path(place)
        work.mkdir(parents=True, exist_ok=True)
        told = {
            "onsets": lambda: onsets(work, toys(given.n)),
            "scenes": lambda: scenes(work, given.n, given.first),
            "kills": lambda: kills(work, given.n),
            "memory": lambda: memory(work),
        }[given.what]()
    print(json.dumps(told))


if __name__ == "__main__":
    main()
