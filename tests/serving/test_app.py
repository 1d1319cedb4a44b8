"""The house: requests are covered by rows, sounds leave with their provenance, notes are read back or refused."""

import json
from pathlib import Path

import numpy as np
import pytest

from configs.registry import MissingExtra, UnknownName
from configs.schema import AppConfig, BackendConfig
from generators.base import Generated, GenerationRequest, UnsupportedRequest
from media.audio import Audio, read_audio, read_tags, write_audio
from media.guard import inspect_audio
from media.refs import MediaError, MediaRef
from serving import app as house
from serving.app import App, Provenance, build, check_output, kinds_of, read_provenance


@pytest.fixture
def app(tmp_path: Path) -> App:
    return build(AppConfig(home=tmp_path / "home"))


def tone(hertz: float = 440.0, seconds: float = 1.0, rate: int = 16000) -> Audio:
    t = np.arange(round(seconds * rate)) / rate
    return Audio(np.float32(0.5 * np.sin(2 * np.pi * hertz * t))[None], rate)


def made(app: App, sound: Audio, prompt: str = "a tone") -> Generated:
    """What a backend hands back, for a sound that we know."""
    return Generated(
        media=app.store.put_audio(sound),
        request=GenerationRequest(prompt=prompt, seconds=sound.seconds),
        backend="nano",
        fingerprint="sha256:" + "0" * 64,
        sample_rate=sound.sample_rate,
        seconds=sound.seconds,
        wall_seconds=0.1,
        guard=inspect_audio(sound, seconds=sound.seconds),
    )


def test_an_exported_sound_is_the_stored_one_and_carries_its_request(app: App, tmp_path: Path):
    result = made(app, tone(), prompt="ein Ton, „ruhig“")
    path = app.export(result, tmp_path / "tone.wav")
    np.testing.assert_array_equal(read_audio(path).samples, read_audio(app.store.path(result.media)).samples)
    note = read_provenance(path)
    assert note.request == result.request
    assert note.media == result.media.id
    assert (note.backend, note.rows, note.fingerprint) == ("nano", 1, result.fingerprint)


@pytest.mark.parametrize("suffix", [".wav", ".flac", ".ogg", ".mp3"])
def test_the_note_survives_every_format(app: App, tmp_path: Path, suffix: str):
    result = made(app, tone())
    path = app.export(result, tmp_path / f"tone{suffix}")
    assert read_provenance(path).request == result.request
    assert path.read_bytes() == app.export(result, tmp_path / f"other{suffix}").read_bytes()


def test_the_note_holds_no_path_and_no_more_than_its_fields(app: App, tmp_path: Path):
    path = app.export(made(app, tone()), tmp_path / "tone.wav")
    note = json.loads(read_tags(path)["comment"])
    assert set(note) == set(Provenance.model_fields)
    assert str(tmp_path) not in json.dumps(note)


@pytest.mark.parametrize(
    ("comment", "message"),
    [
        ("", "no provenance"),
        ("a nice song", "no provenance"),
        ("[" * 5000, "no provenance"),
        ('{"title": "x"}', "no provenance"),
        ('{"loa": "0.1"}', "is damaged: 'backend'"),
    ],
)
def test_foreign_notes_are_refused(tmp_path: Path, comment: str, message: str):
    write_audio(tmp_path / "x.wav", tone(), {"comment": comment} if comment else None)
    with pytest.raises(MediaError, match=message):
        read_provenance(tmp_path / "x.wav")


def test_kinds_are_what_the_request_holds():
    ref = MediaRef(id="sha256:" + "a" * 64, kind="image", mime="image/png")
    assert kinds_of(GenerationRequest(prompt="x", media=(ref,))) == {"text", "image"}
    assert kinds_of(GenerationRequest(transcript="x")) == {"transcript"}
    assert kinds_of(GenerationRequest(loa=((ref, 1.0),))) == {"condition"}


def test_auto_refuses_what_no_row_can_do(app: App):
    with pytest.raises(UnsupportedRequest, match=r"no backend here makes 500 s .*'nano' makes the most"):
        app.request(prompt="rain", seconds=500)
    with pytest.raises(UnsupportedRequest, match="no backend here takes condition and transcript together"):
        app.refuse_early("auto", {"condition", "transcript"}, 5)


def test_the_words_decide_the_length_of_speech(app: App):
    assert app.request(transcript="hello", seconds=5).transcript == "hello"


def test_an_unknown_field_is_named(app: App):
    with pytest.raises(UnsupportedRequest, match="'colour' is not a field of a request, got 'red'"):
        app.request(prompt="x", colour="red")


def test_an_empty_request_is_refused(app: App):
    with pytest.raises(UnsupportedRequest, match="the request is empty"):
        app.request()


def test_offered_rows_follow_the_settings(tmp_path: Path):
    assert list(build(AppConfig(home=tmp_path, backends=["hibari"])).rows) == ["hibari"]
    with pytest.raises(UnknownName, match="did you mean 'nano'"):
        build(AppConfig(home=tmp_path, backends=["nan"]))
    with pytest.raises(UnknownName, match="unknown backend 'gone'"):
        build(AppConfig(home=tmp_path, default_backend="gone"))


def test_published_rows_cannot_be_asked_and_are_never_ready(tmp_path: Path, monkeypatch):
    paper = BackendConfig(
        name="paper",
        system="P",
        kind="published",
        licence="none",
        sample_rate=16000,
        max_seconds=1e3,
        accepts=frozenset({"text"}),
        tasks=frozenset({"sound"}),
        notes="never released",
    )
    monkeypatch.setattr(house, "presets", lambda home: {"paper": paper})
    app = build(AppConfig(home=tmp_path))
    assert not app.readiness(paper).ready
    assert app.pool.names() == []
    with pytest.raises(MissingExtra, match="published numbers only"):
        app.request("paper", prompt="x")


@pytest.mark.parametrize(
    ("name", "message"),
    [("x.txt", r"got '\.txt'"), ("x", "got no suffix"), ("gone/x.wav", "no folder"), ("dir.wav", "it is a folder")],
)
def test_outputs_that_cannot_be_written_are_refused(tmp_path: Path, name: str, message: str):
    (tmp_path / "dir.wav").mkdir()
    with pytest.raises(MediaError, match=message):
        check_output(tmp_path / name)


def test_a_writable_output_is_accepted(tmp_path: Path):
    for suffix in (".wav", ".FLAC", ".ogg", ".mp3"):
        check_output(tmp_path / f"x{suffix}")
