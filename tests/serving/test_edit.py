"""`loa edit`: refusals before torch, one real edit that is replayed, and what is said when its source is gone."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile

from configs.schema import AppConfig
from generators.base import Edit, Generated, GenerationRequest, UnsupportedRequest
from media.audio import Audio, loudness_lufs, read_audio
from media.guard import inspect_audio
from media.mux import mux
from media.refs import MissingMedia
from serving import cli
from serving.app import App, build, read_provenance
from serving.sounds import at_loudness, edit_request, region
from tests.makers import RED, clip
from tests.serving.conftest import Loa
from tests.serving.test_refusals import assert_refused, write_tone


@pytest.fixture
def app(tmp_path: Path) -> App:
    return build(AppConfig(home=tmp_path / "home"))


def noise(seconds: float = 2.0, level: float = 0.1, rate: int = 16000) -> Audio:
    return Audio(np.random.default_rng(0).normal(0, level, (1, round(seconds * rate))).clip(-1, 1).astype(np.float32), rate)


def made_from(app: App, request: GenerationRequest, sound: Audio) -> Generated:
    return Generated(
        media=app.store.put_audio(sound), request=request, backend="nano", fingerprint="sha256:" + "0" * 64,
        sample_rate=sound.sample_rate, seconds=sound.seconds, wall_seconds=0.1, guard=inspect_audio(sound, seconds=sound.seconds),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["no-such.wav", "--kind", "variation"], ["no such file", "no-such.wav"]),
        (["tone.wav"], ["--kind takes variation, inpaint, extend, remove; got none"]),
        (["tone.wav", "--kind", "reverse"], ["--kind takes", "got 'reverse'"]),
        (["tone.wav", "--kind", "inpaint"], ["inpaint needs --region A:B"]),
        (["tone.wav", "--kind", "inpaint", "--region", "1:9"], ["1:9", "0.80 s long"]),
        (["tone.wav", "--kind", "inpaint", "--region", "1:0.5"], ["from a time to a later one", "1:0.5"]),
        (["tone.wav", "--kind", "inpaint", "--region", "half"], ["--region takes two times", "half"]),
        (["tone.wav", "--kind", "extend"], ["extend needs --seconds"]),
        (["tone.wav", "--kind", "extend", "--seconds", "0.5"], ["extend makes a sound longer", "0.80 s"]),
        (["tone.wav", "--kind", "extend", "--seconds", "900"], ["900 s", "ask for less"]),
        (["tone.wav", "--kind", "remove"], ["remove needs to know what goes"]),
        (["tone.wav", "--kind", "variation", "--strength", "1.5"], ["from 0 to 1", "got 1.5"]),
        (["tone.wav", "--kind", "variation", "--strength", "nan"], ["from 0 to 1", "got nan"]),
        (["tone.wav", "--kind", "variation", "--seconds", "9"], ["keeps the length of 0.80 s"]),
        (["tone.wav", "--kind", "variation", "--backend", "hibari"], ["'hibari' cannot do the edit 'variation'"]),
        (["sha256:" + 64 * "0", "--kind", "variation"], ["there is no media 'sha256:000000000000…'"]),
        (["picture.png", "--kind", "variation"], ["only sounds can be edited", "is a picture"]),
    ],
    ids=lambda value: " ".join(value)[:40] if isinstance(value, list) else None,
)
def test_an_edit_that_cannot_be_is_refused_in_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], words: list[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LOA_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(cli, "_quieten", lambda: None)
    write_tone(tmp_path / "tone.wav")
    shutil.copy(Path(__file__).parents[1] / "data" / "pictures" / "chelsea.jpg", tmp_path / "picture.png")
    with pytest.raises(Exception) as refused:
        cli.cli(args=["edit", *arguments], standalone_mode=False)
    assert refused.value.exit_code == 2  # type: ignore[attr-defined]
    for word in words:
        assert word in str(refused.value)


@pytest.mark.parametrize("arguments", [["tone.wav", "--kind", "reverse"], ["tone.wav", "--kind", "inpaint", "--region", "0:9"]])
def test_an_edit_is_refused_before_torch_in_one_line(loa: Loa, folder: Path, arguments: list[str]) -> None:
    write_tone(folder / "tone.wav")
    assert_refused(loa("edit", *arguments), folder)


INPAINT = (
    "edit",
    "noise.wav",
    "--kind",
    "inpaint",
    "--region",
    "0.5:1",
    "--steps",
    "2",
    "--backend",
    "nano",
    "-o",
    "new.wav",
    "--json",
)


@pytest.mark.slow
def test_an_edited_sound_is_replayed_until_its_source_is_gone(loa: Loa, folder: Path, tmp_path: Path) -> None:
    soundfile.write(folder / "noise.wav", noise().samples[0], 16000, subtype="PCM_16")
    assert loa(*INPAINT).code == 0
    again = loa("replay", "new.wav", "--json")
    assert again.code == 0 and again.json["identical"], again.stderr
    shutil.rmtree(tmp_path / "home" / "store")
    gone = loa("replay", "new.wav", "-o", "third.wav")
    assert gone.code == 2 and "was edited from the sound" in gone.stderr and "no longer in the store" in gone.stderr


def test_a_stored_sound_is_edited_by_its_id(app: App) -> None:
    from serving.sounds import source_of

    ref = app.store.put_audio(noise())
    assert source_of(app.store, ref.id) == ref
    with pytest.raises(MissingMedia):
        source_of(app.store, "sha256:" + 64 * "0")


def test_what_goes_is_the_negative_prompt_of_a_removal(app: App) -> None:
    request = edit_request(app.store, app.store.put_audio(noise()), "remove", "the birds")
    assert (request.prompt, request.negative_prompt, request.seconds) == ("", "the birds", 2.0)


def test_a_missing_source_is_named_before_anything_is_loaded(app: App, tmp_path: Path) -> None:
    ref = app.store.put_audio(noise())
    request = GenerationRequest(seconds=2, edit=Edit(kind="variation", source=ref))
    path = app.export(made_from(app, request, noise(level=0.05)), tmp_path / "new.wav")
    app.store.path(ref).unlink()
    with pytest.raises(MissingMedia, match="was edited from the sound"):
        app.replay(path, read_provenance(path), tmp_path / "again.wav")


@pytest.mark.parametrize("text", ["1", "1:", ":2", "a:b", "-1:2", "1:2:3", "2:2", "1e9:2", "nan:1"])
def test_a_region_is_two_times_in_order(text: str) -> None:
    with pytest.raises(UnsupportedRequest, match="--region"):
        region(text)


def test_an_export_has_the_asked_loudness_and_its_provenance(app: App) -> None:
    made = made_from(app, GenerationRequest(prompt="noise", seconds=2), noise())
    written = app.written(made.media, made, "flac", -30.0)
    path = app.store.path(written.media)
    assert loudness_lufs(read_audio(path)) == pytest.approx(-30, abs=0.1) and written.notes == ()
    note = read_provenance(path)
    assert (note.lufs, note.request, written.media.mime) == (-30.0, made.request, "audio/flac")


def test_of_a_video_its_soundtrack_is_exported(app: App, tmp_path: Path) -> None:
    sound = np.zeros((48000, 1), np.float32)
    sound[24000:24100] = 0.9
    soundfile.write(tmp_path / "click.wav", sound, 48000)
    film = mux(clip(tmp_path / "film.mp4", [(RED, 1.0)]), tmp_path / "click.wav", tmp_path / "scored.mp4").path
    ref = app.store.put_bytes(film.read_bytes(), "video/mp4", "video")
    heard = read_audio(app.store.path(app.written(ref, None, "wav", None).media))
    assert heard.seconds == pytest.approx(1.0, abs=0.01)
    assert np.abs(heard.samples[0]).argmax() == pytest.approx(24050, abs=120)


def test_a_loudness_that_would_clip_is_not_reached_and_told() -> None:
    sound = noise(level=0.05)
    sound.samples[0, 100] = 0.9
    louder, remark = at_loudness(sound, -5.0)
    assert np.abs(louder.samples).max() == pytest.approx(10 ** (-1 / 20), abs=1e-4)
    assert "not -5" in remark
    with pytest.raises(UnsupportedRequest, match="silent"):
        at_loudness(Audio(np.zeros((1, 16000), np.float32), 16000), -16)
    with pytest.raises(UnsupportedRequest, match="-60 to 0"):
        at_loudness(sound, 3.0)
