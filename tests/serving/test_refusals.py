"""What the command line refuses: one line on stderr, the right exit code, at once, and nothing left behind."""

import sqlite3
import wave
from pathlib import Path

import pytest

from tests.serving.conftest import Loa, Ran, command_in


def assert_refused(ran: Ran, folder: Path, *words: str, code: int = 2) -> None:
    assert ran.code == code, ran.stderr
    assert ran.stdout == ""
    lines = ran.stderr.splitlines()
    assert len(lines) == 1, ran.stderr
    assert lines[0].startswith("loa: ")
    for word in words:
        assert word in lines[0]
    assert ran.heavy & {"torch", "transformers", "diffusers", "langchain", "onnxruntime"} == set()
    assert ran.cpu_seconds < 2
    assert [p for p in folder.iterdir() if p.suffix in (".part", ".tmp")] == []


REFUSED = (
    (["generate", "a dog", "--seconds", "-3"], ["--seconds must be more than 0", "got -3"]),
    (["generate", "a dog", "--seconds", "nan"], ["--seconds must be more than 0", "got nan"]),
    (["generate", "a dog", "--seconds", "inf"], ["--seconds must be more than 0", "got inf"]),
    (["generate", "a dog", "--seconds", "many"], ["--seconds", "many"]),
    (["generate", "a dog", "--seconds", "900"], ["ask for less", "900 s"]),
    (["generate", "a dog", "--seconds", "900", "--backend", "nano"], ["'nano' makes at most", "got 900 s"]),
    (["generate", "a dog", "--seconds", "99999"], ["99999 s", "ask for less"]),
    (["generate"], ["nothing was asked", "PROMPT"]),
    (["generate", "   "], ["nothing was asked"]),
    (["generate", "--transcript", " "], ["--transcript is empty"]),
    (["generate", "a dog", "--backend", "hibari"], ["'hibari' takes transcript, not text"]),
    (["generate", "a dog", "--seed", "-1"], ["'seed' must be at least 0", "got -1"]),
    (["generate", "a dog", "--steps", "0"], ["'steps' must be at least 1", "got 0"]),
    (["generate", "a dog", "--guidance", "nan"], ["'guidance' must be a finite number"]),
    (["generate", "a dog", "--candidates", "1000"], ["'candidates' must be at most 16", "got 1000"]),
    (["generate", "a" * 5000], ["'prompt' must have at most 4000 characters"]),
    (["generate", "a dog", "--image", "no-such.png"], ["no such file", "no-such.png"]),
    (["generate", "a dog", "--image", "."], ["'.' is not a file"]),
    (
        ["generate", "--audio", "http://127.0.0.1:9/a.wav"],
        ["only files on this machine", "127.0.0.1:9/a.wav"],
    ),
    (["generate", "--video", "concat:a.mp4|b.mp4"], ["only files on this machine", "concat:"]),
    (["generate", "a dog", "-o", "a.txt"], ["'a.txt'", ".wav, .flac, .ogg, .mp3", "got '.txt'"]),
    (["generate", "a dog", "-o", "dog"], ["'dog'", "got no suffix"]),
    (["generate", "a dog", "-o", "no/such/a.wav"], ["no folder", "make it first"]),
    (["generate", "a dog", "--colour", "red"], ["No such option", "--colour"]),
    (["generat", "a dog"], ["No such command", "generat"]),
    (["replay", "no-such.wav"], ["no such file", "no-such.wav"]),
    (["models", "show", "nanno"], ["unknown backend 'nanno'", "did you mean 'nano'"]),
    (["chat", " "], ["the message is empty"]),
    (["chat", "hello", "--attach", "no-such.png"], ["no such file", "no-such.png"]),
    (["chat", "hello", "--backend", "hibary"], ["unknown backend 'hibary'", "did you mean 'hibari'"]),
    (["chat", "hello", "--thread", "../up"], ["--thread takes letters", "../up"]),
    (["bench", "nano", "--checkpoint", "no-such"], ["--checkpoint takes a folder", "no-such"]),
)


@pytest.fixture(scope="module")
def refused(tmp_path_factory: pytest.TempPathFactory) -> tuple[Loa, list[Ran]]:
    """All of them in one process, where what one imported would be seen in the next."""
    loa = command_in(tmp_path_factory.mktemp("refused"))
    return loa, loa.together(*(tuple(arguments) for arguments, _ in REFUSED))


@pytest.mark.parametrize("number", range(len(REFUSED)), ids=[" ".join(arguments)[:50] for arguments, _ in REFUSED])
def test_refused_in_one_line_before_anything_heavy_is_loaded(refused: tuple[Loa, list[Ran]], number: int):
    loa, ran = refused
    assert_refused(ran[number], loa.folder, *REFUSED[number][1])
    assert list(loa.folder.iterdir()) == []


def test_a_refusal_is_quick_in_a_process_of_its_own(loa: Loa, folder: Path):
    assert_refused(loa("generate", "a dog", "--backend", "hibari"), folder, "'hibari' takes transcript, not text")


CONTENTS = {
    "empty": b"",
    "playlist": b"#EXTM3U\n#EXTINF:1,\nfile:///etc/passwd\n",
    "truncated wav": b"RIFF\x24\x00\x00\x00WAVE",
    "truncated png": b"\x89PNG\r\n\x1a\n" + b"x" * 50,
}
UNUSABLE = [(flag, name) for flag in ("--image", "--audio", "--video") for name in CONTENTS]


@pytest.fixture(scope="module")
def unusable(tmp_path_factory: pytest.TempPathFactory) -> tuple[Loa, list[Ran]]:
    loa = command_in(tmp_path_factory.mktemp("unusable"))
    for name, content in CONTENTS.items():
        (loa.folder / name).write_bytes(content)
    return loa, loa.together(*(("generate", "a dog", flag, name) for flag, name in UNUSABLE))


@pytest.mark.parametrize("number", range(len(UNUSABLE)), ids=[" ".join(each) for each in UNUSABLE])
def test_an_unusable_file_is_refused_by_name(unusable: tuple[Loa, list[Ran]], number: int):
    loa, ran = unusable
    assert_refused(ran[number], loa.folder, UNUSABLE[number][1])


def test_a_sound_behind_image_is_told_where_it_belongs(loa: Loa, folder: Path):
    write_tone(folder / "tone.png")
    ran = loa("generate", "--image", "tone.png")
    assert_refused(ran, folder, "--image takes a picture", "is a sound; use --audio")


def test_a_wrong_number_is_refused_before_files_are_decoded(loa: Loa, folder: Path):
    (folder / "broken.png").write_bytes(b"not a picture")
    assert_refused(loa("generate", "--image", "broken.png", "--steps", "0"), folder, "'steps' must be at least 1")


def test_a_sound_without_provenance_is_not_replayed(loa: Loa, folder: Path):
    write_tone(folder / "tone.wav")
    assert_refused(loa("replay", "tone.wav"), folder, "'tone.wav' holds no provenance of loa")
    assert [p.name for p in folder.iterdir()] == ["tone.wav"]


def test_a_file_name_cannot_write_control_characters_to_the_terminal(loa: Loa, folder: Path):
    ran = loa("generate", "--image", "\x1b[31mred\nline.png")
    assert_refused(ran, folder, "no such file")
    assert "\x1b" not in ran.stderr


def test_wrong_settings_are_named(loa: Loa, folder: Path, tmp_path: Path):
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "app.yaml").write_text("defualt_backend: nano\n")
    assert_refused(loa("generate", "a dog"), folder, "app.yaml", "did you mean 'default_backend'")


def test_the_settings_decide_who_is_asked_where_nobody_is_named(loa: Loa, folder: Path, tmp_path: Path):
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "app.yaml").write_text("default_backend: hibari\n")
    assert_refused(loa("generate", "a dog"), folder, "'hibari' takes transcript, not text")


def test_a_row_with_published_numbers_only_leaves_with_3(loa: Loa, folder: Path, tmp_path: Path):
    rows = tmp_path / "home" / "backends"
    rows.mkdir(parents=True)
    (rows / "paper.yaml").write_text(
        "name: paper\nsystem: A Paper\nkind: published\nlicence: none\nsample_rate: 16000\nmax_seconds: 10\n"
        "accepts: [text]\ntasks: [sound]\nnotes: nobody published the weights; nano stands nearest\n"
    )
    ran = loa("generate", "a dog", "--backend", "paper")
    assert_refused(ran, folder, "'paper' is a row with published numbers only", code=3)


def test_refusals_leave_no_conversation_behind(loa: Loa, folder: Path, tmp_path: Path):
    assert_refused(loa("chat", "hello", "--attach", "gone.png"), folder, "gone.png")
    database = tmp_path / "home" / "threads.sqlite"
    assert not database.exists() or sqlite3.connect(database).execute("select count(*) from sqlite_master").fetchone() == (0,)


def write_tone(path: Path) -> None:
    with wave.open(str(path), "wb") as stream:
        stream.setparams((1, 2, 8000, 0, "NONE", ""))
        stream.writeframes(bytes(range(256)) * 50)
