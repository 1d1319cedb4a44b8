"""``loa models``: what there is, what it takes to have it, and whether what is here fits."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from configs.registry import MissingExtra
from configs.schema import AppConfig, presets
from generators.base import CheckpointMissing
from serving.app import App, build
from tests.serving.conftest import Loa, Ran

KEYS = {
    *("name", "system", "ready", "reason", "files", "bytes", "licence", "sample_rate", "max_seconds", "accepts", "tasks", "edits"),
    *("parameters", "kind", "parity"),
}
KNOWN = {
    *(
        "nano",
        "nano-signal",
        "hibari",
        "audioldm2",
        "audioldm2-large",
        "audioldm2-music",
        "audioldm2-speech-gigaspeech",
        "audioldm2-speech-ljspeech",
    ),
    *("audioldm2-48k", "audioldm2-16k-t5", "audioldm-s", "audioldm-m", "audioldm-l", "musicldm", "tango", "tango2", "tangoflux"),
    *("make-an-audio", "make-an-audio-2", "musicgen-small", "musicgen-medium", "musicgen-large", "musicgen-melody", "musicgen-stereo"),
    *("audiogen-medium", "riffusion", "fastspeech2", "stable-audio-open", "stable-audio-3", "ace-step", "mousai", "melody", "musiclm"),
    *("audioldm-l-full-ft", "audioldm2-ac", "audioldm2-ac-large", "audioldm2-msd", "stable-diffusion", "text-to-video"),
}


@pytest.fixture
def app(tmp_path: Path) -> App:
    return build(AppConfig(home=tmp_path / "home"))


def least_seconds(loa: Loa, ran: Ran, *arguments: str) -> float:
    """The command's processor time without what neighbours add to it: the least of up to four runs."""
    return min(ran.cpu_seconds, *(loa(*arguments).cpu_seconds for _ in range(3))) if ran.cpu_seconds >= 1.5 else ran.cpu_seconds


def test_the_list_has_every_system_of_the_study_and_comes_without_torch(loa: Loa) -> None:
    ran = loa("models", "list", "--json")
    assert ran.code == 0 and all(set(row) == KEYS for row in ran.json)
    assert {row["name"] for row in ran.json} >= KNOWN
    assert not ran.heavy and least_seconds(loa, ran, "models", "list", "--json") < 1.5
    for row in ran.json:
        assert row["ready"] or row["reason"]
        assert row["kind"] != "published" or (row["parity"] == "none" and not row["ready"] and "Nearest that runs" in row["reason"])


def test_a_row_without_weights_answers_at_once_with_file_size_licence_and_command(loa: Loa) -> None:
    ran = loa("generate", "a dog", "--backend", "musicgen-small")
    assert ran.code == 3 and not ran.heavy and least_seconds(loa, ran, "generate", "a dog", "--backend", "musicgen-small") < 2
    for word in ("model*", "2.4 GB", "CC BY-NC 4.0", "loa models pull musicgen-small", "checkpoints/musicgen-small"):
        assert word in ran.stderr
    assert ran.stdout == "" and len(ran.stderr.splitlines()) == 1


@pytest.mark.parametrize("name", sorted(name for name, row in presets().items() if row.files))
def test_every_row_without_weights_is_refused_before_anything_else(app: App, name: str) -> None:
    row = app.row(name)
    with pytest.raises(CheckpointMissing, match=row.licence.replace("(", r"\(").replace(")", r"\)")) as why:
        app.refuse_early(name, row.accepts & {"text"} or {"transcript"}, 1.0)
    assert why.value.exit_code == 3 and ("loa models pull" in str(why.value) or "by hand" in str(why.value))


def test_a_published_row_says_why_and_what_runs_instead(app: App) -> None:
    with pytest.raises(MissingExtra, match=r"Neither code nor weights are public.*Nearest that runs: musicgen-medium"):
        app.refuse_early("melody", {"text"}, 5.0)


def test_pulling_asks_before_it_fetches_and_says_what_it_would(loa: Loa) -> None:
    ran = loa("models", "pull", "tangoflux")
    assert ran.code == 2 and "licence: Stability AI Community" in ran.stderr and "GB" in ran.stderr and "--yes" in ran.stderr
    assert not ran.heavy and ran.stdout == ""
    assert loa("models", "pull", "musiclm").code == 3


def test_a_users_hub_that_is_closed_stays_closed(loa: Loa) -> None:
    closed = Loa(loa.folder, loa.env | {"HF_HUB_OFFLINE": "1"})("models", "pull", "tangoflux", "--yes")
    assert closed.code == 3 and "HF_HUB_OFFLINE" in closed.stderr and "--from DIR" in closed.stderr


def test_verify_compares_keys_and_shapes_and_names_what_does_not_fit(app: App) -> None:
    import torch
    from safetensors.torch import load_file, save_file

    from tests.library_fakes import small

    folder = app.config.home / "checkpoints" / "stable-audio-open"
    small("stable-audio-open", folder)
    assert set(app.verify("stable-audio-open").values()) == {""}
    path = folder / "vae" / "diffusion_pytorch_model.safetensors"
    state = load_file(path)
    first = next(iter(state))
    save_file({**state, first: torch.zeros(3, 3)}, path, metadata={"format": "pt"})
    told = {part: said for part, said in app.verify("stable-audio-open").items() if said}
    assert list(told) == ["vae"] and f"{first} is [3, 3] instead of" in told["vae"]
    path.write_bytes(b"not a weight file")
    with pytest.raises(Exception, match="damaged or cut"):
        app.verify("stable-audio-open")


def test_verify_of_what_is_not_here_says_so(app: App) -> None:
    with pytest.raises(CheckpointMissing, match="loa models pull riffusion"):
        app.verify("riffusion")


def test_pictures_and_videos_are_made_when_they_are_named_and_never_by_auto(app: App) -> None:
    assert {"stable-diffusion", "text-to-video"} & set(app.pool._auto) == set() and "nano" in app.pool._auto


def test_show_tells_the_notes_and_which_sizes_are_estimates(loa: Loa) -> None:
    fast, pictures, nano = loa.together(
        ("models", "show", "fastspeech2", "--json"), ("models", "show", "stable-diffusion"), ("models", "show", "nano")
    )
    told = json.loads(fast.stdout)
    assert "Conformer variant" in told["notes"] and told["parity"] == "library"
    assert {file["path"]: file["estimated"] for file in told["weights"]} == {"config.json": True, "vocab.json": True, "model": True}
    unet = next(line for line in pictures.stdout.splitlines() if line.startswith("  unet/diffusion_pytorch_model"))
    assert "3,438,167,540 bytes, sha256 19da7aaa4b880e59d56843f1fcb4dd9b599c28a1d9d9af7c1143057c8ffae9f1" in unet
    assert "'about' is an estimate" in pictures.stdout and "estimate" not in nano.stdout
