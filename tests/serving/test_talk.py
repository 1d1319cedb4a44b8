"""`loa chat` at a terminal and in a pipe: commands, previews, and what a failure leaves."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from io import StringIO
from pathlib import Path

import numpy as np
import pytest
from langchain_core.messages import HumanMessage

from configs.schema import AppConfig
from generators.base import UnsupportedRequest
from media.audio import read_audio
from orchestrator.conversation import Versions
from serving.app import build
from serving.cli import _free_name
from serving.talk import Talk, _path
from serving.terminal import player, spectrogram, tree, waveform
from tests.orchestrator.parts import House, house
from tests.orchestrator.test_references import DOG, NIGHT, RAIN, gone_back


def tone(hertz: float, seconds: float = 1.0, rate: int = 16000) -> np.ndarray:
    t = np.arange(round(seconds * rate)) / rate
    return (0.5 * np.sin(2 * np.pi * hertz * t))[None].astype(np.float32)


def test_a_waveform_is_high_where_the_sound_is_loud() -> None:
    samples = np.concatenate([np.zeros((1, 8000), np.float32), tone(440, 0.5)], axis=1)
    lines = waveform(samples, columns=10, rows=2)
    assert [line[:5] for line in lines] == [" " * 5] * 2
    assert [line[5:] for line in lines] == ["█" * 5] * 2
    assert waveform(np.zeros((1, 100), np.float32), 4, 1) == ["    "]


def test_a_ramp_rises_in_eighths() -> None:
    ramp = np.repeat(np.arange(1, 9, dtype=np.float32) / 8, 100)[None]
    assert waveform(ramp, columns=8, rows=1) == ["▁▂▃▄▅▆▇█"]


@pytest.mark.parametrize("hertz", [100, 440, 1000, 5000])
def test_a_tone_is_bright_in_its_own_band_only(hertz: float) -> None:
    lines = spectrogram(tone(hertz), 16000, columns=20, rows=8)
    edges = [float(line[:5]) * 1000 for line in lines]
    bright = max(range(8), key=lambda k: lines[k].count("█"))
    lower = edges[bright + 1] if bright < 7 else 0.0
    assert lower - 15 <= hertz <= edges[bright] + 15  # edges are printed to 10 Hz


def test_previews_hold_any_sound() -> None:
    for samples in (np.zeros((2, 16000), np.float32), tone(440, 0.01), np.ones((1, 1), np.float32)):
        assert len(spectrogram(samples, 16000)) == 8 and len(waveform(samples)) == 2
    assert "█" not in "".join(spectrogram(np.zeros((1, 16000), np.float32), 16000))


def test_the_tree_shows_children_under_parents_and_the_current_one() -> None:
    versions = Versions.read(
        [HumanMessage("a"), DOG, HumanMessage("b"), NIGHT, HumanMessage("c"), RAIN, HumanMessage("d"), gone_back(NIGHT)]
    )
    lines = tree(versions)
    assert [line[:4].split()[-1] for line in lines] == ["1", "2", "3"]
    assert lines[1].startswith("*") and "└" in lines[1] and not lines[2].startswith("*")


def test_a_player_is_taken_as_it_is_found() -> None:
    assert player(Path("a.wav"), lambda name: None) is None
    assert player(Path("a.wav"), lambda name: "/bin/aplay" if name == "aplay" else None) == ["/bin/aplay", "-q", "a.wav"]


def test_a_dropped_file_name_is_read_as_terminals_write_it(tmp_path: Path) -> None:
    file = tmp_path / "my cat's.png"
    file.touch()
    for text in (str(file), f'"{file}"', str(file).replace(" ", "\\ ").replace("'", "\\'")):
        assert _path(text, "/attach FILE") == file
    with pytest.raises(UnsupportedRequest, match="/attach FILE"):
        _path("", "/attach FILE")


@dataclass
class Chat:
    """`loa chat` in this process: the real conversation over a router that makes tones."""

    talk: Talk
    home: House

    def say(self, capsys: pytest.CaptureFixture[str], *lines: str) -> list[str]:
        """What is printed for lines from a pipe."""
        sys.stdin = StringIO("\n".join(lines) + "\n")
        self.talk.run([])
        return capsys.readouterr().out.splitlines()


@pytest.fixture
def chat(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Chat]:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setattr(sys, "stdin", sys.stdin)  # put back afterwards
    home = house(tmp_path)
    app = build(AppConfig(home=tmp_path))
    app.__dict__["router"] = home.router
    talk = Talk(
        app, "t1", as_json=True, bar=lambda label: nullcontext(lambda *_: None), name_for=_free_name, complain=lambda error: None
    )
    yield Chat(talk, home)
    home.router.close()


def test_a_conversation_in_a_pipe_keeps_its_versions(chat: Chat, capsys: pytest.CaptureFixture[str]) -> None:
    said = (
        "the sound of rain, seed 1",
        "/versions",
        "/save x.flac",
        "the sound of wind, seed 2",
        "/undo",
        "/versions",
        "/thread",
        "/help",
    )
    first, versions, saved, _, undone, after, thread, _ = map(json.loads, chat.say(capsys, *said))
    assert [v["current"] for v in versions["versions"]] == [True]
    assert versions["versions"][0]["id"] == first["media"][0]["id"] and versions["versions"][0]["fingerprint"] == "sha256:tones"
    assert saved["path"] == str(Path("x.flac").absolute())
    np.testing.assert_array_equal(read_audio(Path("x.flac")).samples, read_audio(Path(first["media"][0]["path"])).samples)
    assert undone["media"][0]["id"] == first["media"][0]["id"]
    assert [v["current"] for v in after["versions"]] == [True, False]
    assert thread == {"thread": "t1"}


def test_an_undo_is_known_to_the_next_process(chat: Chat, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    chat.say(capsys, "the sound of rain, seed 1", "the sound of wind, seed 2", "/undo")
    chat.home.router.close()
    later = house(tmp_path)
    current = later.router.conversation("t1").current
    assert current is not None and current.request["prompt"] == "rain"
    assert [m.type for m in later.router.conversation("t1").messages] == ["human", "ai", "tool", "ai"] * 3
    chat.home.router = later.router


def test_words_that_begin_with_a_slash_are_not_all_commands(chat: Chat, capsys: pytest.CaptureFixture[str]) -> None:
    (answer,) = chat.say(capsys, "/etc/passwd please")
    assert json.loads(answer)["media"] == []


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("/dance", "there is no command /dance"),
        ("/undo", "nothing to undo"),
        ("/undo 3", "there is no version 3"),
        ("/undo last", "a version is a number"),
        ("/save a.wav", "no sound in this conversation yet"),
        ("/play", "no sound in this conversation yet"),
        ("/attach no-such.png", "no file 'no-such.png'"),
        ("/attach", "say which file"),
    ],
)
def test_a_command_that_cannot_be_done_says_why(chat: Chat, capsys: pytest.CaptureFixture[str], line: str, words: str) -> None:
    with pytest.raises(Exception, match=re.escape(words)) as refused:
        chat.say(capsys, line)
    assert refused.value.exit_code == 2  # type: ignore[attr-defined]
    assert list(Path().iterdir()) == []


def test_a_preview_needs_no_terminal(chat: Chat, capsys: pytest.CaptureFixture[str]) -> None:
    chat.say(capsys, "the sound of rain, seed 1")
    lines = chat.say(capsys, "/show")
    assert len(lines) == 10 and "█" in "".join(lines) and "\x1b" not in "".join(lines)
