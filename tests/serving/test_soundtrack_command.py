"""`loa soundtrack`: refusals before torch, nothing half-written, one real soundtrack, a folder, and a chat's turn."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import av
import numpy as np
import pytest
import soundfile

from media.audio import read_audio
from serving import cli
from serving.soundtracks import asked, output_for, videos_in
from tests.makers import BLUE, RED, clip, patched, raw_clip, sound_only, tone
from tests.serving.conftest import Loa
from tests.serving.test_refusals import assert_refused

FAST = ("--layers", "ambience", "--rerolls", "0")


def video_packets(path: Path) -> list[bytes]:
    with av.open(str(path)) as container:
        return [bytes(packet) for packet in container.demux(container.streams.video[0]) if packet.size]


def bad_files(folder: Path) -> dict[str, tuple[Path, tuple[str, ...]]]:
    """Files that no soundtrack can be made for, and words of their refusals."""
    good = clip(folder / "good.mp4", [(RED, 0.5), (BLUE, 0.5)])
    data = good.read_bytes()
    made = {
        "only_sound.mp4": ("video",),
        "no_frames.mp4": (),
        "cut.mp4": ("video cannot be read",),
        "eight_k.mp4": ("7680 x 4320", "4096 x 2304"),
        "ten_hours.mp4": ("36000 s",),
        "playlist.mp4": ("playlist", "M3U"),
        "text.mp4": ("no known type",),
        "empty.mp4": ("empty",),
    }
    sound_only(folder / "only_sound.mp4", tone())
    (folder / "no_frames.mp4").write_bytes(patched(good, b"stsz", 8, struct.pack(">I", 0)))
    (folder / "cut.mp4").write_bytes(data[: len(data) // 2])
    raw_clip(folder / "eight_k.mp4", "libx264", size=(7680, 4320), times=(0,))
    raw_clip(folder / "ten_hours.mp4", "libx264", times=(0, 36_000 * 10))
    (folder / "playlist.mp4").write_bytes(b"#EXTM3U\n#EXTINF:1,\nhttp://127.0.0.1/a.ts\n")
    (folder / "text.mp4").write_bytes(b"this is no video")
    (folder / "empty.mp4").write_bytes(b"")
    return {name: (folder / name, words) for name, words in made.items()}


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LOA_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(cli, "_quieten", lambda: None)
    return tmp_path


@pytest.mark.parametrize("some", [("playlist.mp4", "ten_hours.mp4"), pytest.param((), marks=pytest.mark.slow)], ids=["two", "all"])
def test_a_video_that_cannot_be_used_is_refused_and_nothing_is_written(here: Path, some: tuple[str, ...]) -> None:
    (here / "in").mkdir()
    for name, (path, words) in bad_files(here / "in").items():
        if some and name not in some:
            continue
        before = sorted(here.rglob("*.*"))
        with pytest.raises(Exception) as refused:
            cli.cli(args=["soundtrack", str(path), "-o", "out.mp4"], standalone_mode=False)
        assert getattr(refused.value, "exit_code", None) == 2, (name, refused.value)
        for word in words:
            assert word in str(refused.value), name
        assert not (here / "out.mp4").exists() and sorted(p for p in here.rglob("*.*") if "home" not in p.parts) == before, name


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["none.mp4"], ["no such file", "none.mp4"]),
        (["a.mp4", "--layers", "ambience,voices"], ["--layers takes ambience, foley, music", "voices"]),
        (["a.mp4", "--original", "mute"], ["--original takes keep, duck, drop", "mute"]),
        (["a.mp4", "--lufs", "12"], ["--lufs", "-60 to 0", "12"]),
        (["a.mp4", "--rerolls", "-1"], ["--rerolls", "-1"]),
        (["a.mp4", "--seed", "-1"], ["--seed", "-1"]),
        (["a.mp4", "-o", "a.avi"], ["ends in .mp4, .mov, .mkv, .webm", "'.avi'"]),
        (["a.mp4", "-o", "a.mp4"], ["the video itself", "never overwritten"]),
        (["a.mp4", "-o", "same.mp4"], ["never overwritten"]),
        (["a.mp4", "-o", "no/where.mp4"], ["there is no folder"]),
        (["a.mp4", "--backend", "nanno"], ["did you mean 'nano'"]),
        (["a.mp4", "--layers", "music", "--prompt", "no music"], ["no layer is left"]),
        (["bare"], ["holds no video"]),
    ],
    ids=lambda value: " ".join(value)[:40],
)  # fmt: skip
def test_a_wrong_wish_is_refused_in_words(here: Path, arguments: list[str], words: list[str]) -> None:
    clip(here / "a.mp4", [(RED, 0.5)])
    (here / "same.mp4").hardlink_to(here / "a.mp4")
    (here / "bare").mkdir()
    with pytest.raises(Exception) as refused:
        cli.cli(args=["soundtrack", *arguments], standalone_mode=False)
    assert getattr(refused.value, "exit_code", None) == 2
    for word in words:
        assert word in str(refused.value)


def test_a_bad_video_is_refused_before_torch_in_one_line(loa: Loa, folder: Path) -> None:
    (folder / "playlist.mp4").write_bytes(b"#EXTM3U\n#EXTINF:1,\nhttp://127.0.0.1/a.ts\n")
    assert_refused(loa("soundtrack", "playlist.mp4"), folder, "playlist")


def test_wishes_and_files_before_any_work(here: Path) -> None:
    assert asked("music, foley,music").layers == ("music", "foley")
    clip(here / "a.mp4", [(RED, 0.2)])
    (here / "a.soundtrack.mp4").write_bytes(b"ours")
    (here / "notes.txt").write_text("x")
    assert [path.name for path in videos_in(here)] == ["a.mp4"]
    assert output_for(here / "a.mp4", None, False) == Path("a.soundtrack.mp4")
    assert output_for(here / "b.webm", here, True).name == "b.soundtrack.webm"


def test_a_soundtrack_of_a_short_video(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    video = clip(here / "a.mp4", [(RED, 0.6), (BLUE, 0.6)], fps=25)
    cli.cli(args=["soundtrack", "a.mp4", "-o", "b.mp4", "--stems", "parts", *FAST, "--json"], standalone_mode=False)
    told = json.loads(capsys.readouterr().out)
    assert told["path"] == str(here / "b.mp4") and told["seconds"] == pytest.approx(1.2)
    assert [(s["start"], s["end"], s["offset_ms"]) for s in told["scenes"]] == [(0.0, 0.6, None), (0.6, 1.2, None)]
    assert told["lufs"] == pytest.approx(-16, abs=0.5) and told["true_peak_db"] <= -1.0
    assert video_packets(here / "b.mp4") == video_packets(video)
    assert told["samples"] == round(1.2 * 48_000)
    assert 0 <= read_audio(here / "b.mp4").samples.shape[1] - told["samples"] < 1024  # PyAV gives the last AAC frame whole
    (stem,) = told["stems"]
    assert soundfile.info(stem["path"]).frames == round(1.2 * 16_000)
    assert Path(told["plot"]).read_bytes()[:4] == b"\x89PNG"
    assert np.abs(read_audio(here / "b.mp4").samples).max() > 0.05
    assert not list((here / "home" / "cache" / "soundtrack" / "work").iterdir())


def test_a_plan_is_json_and_makes_nothing(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    clip(here / "a.mp4", [(RED, 0.6), (BLUE, 0.6)], fps=25)
    cli.cli(args=["soundtrack", "a.mp4", "--plan", "--prompt", "rain, no music"], standalone_mode=False)
    told = json.loads(capsys.readouterr().out)
    assert [scene["prompt"] for scene in told["scenes"]] == ["rain", "rain"]
    assert {tape["layer"] for tape in told["tapes"]} == {"ambience"}
    assert [path.name for path in here.iterdir() if path.suffix] == ["a.mp4"]


@pytest.mark.slow
def test_of_a_folder_the_good_are_made_and_the_bad_is_named(loa: Loa, folder: Path) -> None:
    (folder / "films").mkdir()
    (folder / "done").mkdir()
    clip(folder / "films" / "a.mp4", [(RED, 0.6)])
    (folder / "films" / "b.mkv").write_bytes(b"no film")
    clip(folder / "films" / "c.webm", [(BLUE, 0.6)])
    ran = loa("soundtrack", "films", "-o", "done", *FAST, "--json")
    assert ran.code == 2
    assert sorted(path.name for path in (folder / "done").iterdir()) == ["a.soundtrack.mp4", "c.soundtrack.webm"]
    first, second, third = ran.json["videos"]
    assert "b.mkv" in ran.stderr and "no known type" in second["error"]
    assert first["codec"] == "aac" and third["codec"] == "opus"


@pytest.mark.slow
def test_a_chat_makes_a_soundtrack_without_music_and_says_what_it_made(loa: Loa, folder: Path) -> None:
    video = clip(folder / "film.mp4", [(RED, 1.0), (BLUE, 1.0)], fps=25)
    ran = loa("chat", "make a soundtrack for this video, no music", "--attach", "film.mp4", "--json")
    assert ran.code == 0, ran.stderr
    (call,) = ran.json["calls"]
    assert call["tool"] == "soundtrack_video" and call["args"]["layers"] == ["ambience", "foley"]
    (medium,) = ran.json["media"]
    assert medium["kind"] == "video" and video_packets(Path(medium["path"])) == video_packets(video)
    assert read_audio(Path(medium["path"])).seconds == pytest.approx(2.0, abs=1024 / 48_000)
    assert "ambience made with nano" in ran.json["text"] and "LUFS" in ran.json["text"] and "music" not in ran.json["text"]


def test_a_file_goes_to_another_disk_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import errno
    import os

    from serving.soundtracks import deliver

    (tmp_path / "made.mp4").write_bytes(b"film")
    (tmp_path / "there").mkdir()
    rename = os.replace

    def other_disk(source: Path, target: Path) -> None:
        if Path(source).parent != Path(target).parent:
            raise OSError(errno.EXDEV, "another disk")
        rename(source, target)

    monkeypatch.setattr(os, "replace", other_disk)
    deliver(tmp_path / "made.mp4", tmp_path / "there" / "b.mp4")
    assert [(path.name, path.read_bytes()) for path in (tmp_path / "there").iterdir()] == [("b.mp4", b"film")]
