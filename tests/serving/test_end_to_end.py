"""The main job through the real command: a request in, a sound out, and the same sound again."""

import json
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import soundfile

from media.audio import read_audio
from serving.app import read_provenance
from tests.serving.conftest import Loa, Ran, command_in

PICTURE = Path(__file__).parents[1] / "data" / "pictures" / "chelsea.jpg"
DOG = ("generate", "a dog barks", "--seconds", "2", "--steps", "5", "--backend", "nano")

pytestmark = pytest.mark.timeout(300)  # a process that makes ten sounds on a busy machine
SHORT = ("generate", "a dog barks", "--seconds", "1", "--steps", "2", "--backend", "nano")
SUFFIXES = ("wav", "flac", "ogg", "mp3")
GENERATE_KEYS = {
    "path", "id", "seconds", "sample_rate", "backend", "seed", "wall_seconds", "fingerprint", "request", "guard",
}  # fmt: skip
MODEL_KEYS = {
    "name", "system", "ready", "reason", "files", "bytes", "licence", "sample_rate", "max_seconds", "accepts", "tasks",
    "edits", "parameters", "kind", "parity",
}  # fmt: skip


@dataclass(frozen=True)
class Days:
    """Two processes over one LOA_HOME: what the first left, the second finds. Each asks many things, since starting one is dear."""

    folder: Path
    first: dict[str, Ran]
    second: dict[str, Ran]

    def bytes(self, name: str) -> bytes:
        return (self.folder / name).read_bytes()


def asked(loa: Loa, commands: dict[str, tuple[str | Path, ...]], stdin: str = "") -> dict[str, Ran]:
    return dict(zip(commands, loa.together(*commands.values(), stdin=stdin), strict=True))


@pytest.fixture(scope="module")
def days(tmp_path_factory: pytest.TempPathFactory) -> Days:
    loa = command_in(tmp_path_factory.mktemp("days"))
    rain = ("--seconds", "1", "--steps", "2")
    first = asked(
        loa,
        {
            "a": (*DOG, "--seed", "1", "-o", "a.wav", "--json"),
            "c": (*DOG, "--seed", "2", "-o", "c.wav"),
            **{suffix: (*SHORT, "--seed", "3", "-o", f"dog.{suffix}") for suffix in SUFFIXES},
            "unnamed": (*SHORT, "--json"),
            "loa": ("generate", "rain", *rain, "--loa-out", "rain.loa", "-o", "rain.wav", "--json"),
            "words": ("generate", "--transcript", "Good morning, everybody.", "-o", "hello.wav", "--json"),
            "picture": ("chat", "Make the sound of this picture", "--attach", PICTURE, "--json"),
            "turn": ("chat", "--thread", "t1", "--json"),
        },
        stdin="a dog barks, 1 second\n/quit\n",
    )
    changed = bytearray((loa.folder / "a.wav").read_bytes())
    changed[changed.index(b"data") + 5000] ^= 0x40
    (loa.folder / "changed.wav").write_bytes(changed)
    (loa.folder / "elsewhere.wav").write_bytes(changed.replace(b'"fingerprint":"sha256:', b'"fingerprint":"SHA256:'))
    (loa.folder / "still.csv").write_text("0,0,0,0,0,0\n0,0,0,0,0,0\n")
    noise = np.random.default_rng(0).normal(0, 0.1, 32_000).clip(-1, 1)
    soundfile.write(loa.folder / "noise.wav", noise, 16_000, subtype="PCM_16")
    region = ("--region", "0.5:1", "--steps", "2", "--backend", "nano")
    second = asked(
        loa,
        {
            "still": ("generate", "rain", "--imu", "still.csv", "-o", "d.wav"),  # first: no torch may have come yet
            "b": (*DOG, "--seed", "1", "-o", "b.wav"),
            **{suffix: ("replay", f"dog.{suffix}", "-o", f"again.{suffix}", "--json") for suffix in SUFFIXES},
            "changed": ("replay", "changed.wav", "-o", "again-changed.wav", "--json"),
            "elsewhere": ("replay", "elsewhere.wav", "-o", "again-elsewhere.wav"),
            "loa": ("generate", "--loa", "rain.loa", *rain, "-o", "reused.wav", "--json"),
            "speech": ("generate", "--transcript", "hello", "--loa-out", "no.loa", "-o", "e.wav"),
            "turn": ("chat", "the same again, but another take", "--thread", "t1", "--json"),
            "edit": ("edit", "noise.wav", "--kind", "inpaint", *region, "-o", "edited.wav", "--json"),
            "doctor": ("doctor", "--json"),
        },
    )
    return Days(loa.folder, first, second)


def test_the_same_request_gives_the_same_bytes_in_another_process_and_another_seed_does_not(days: Days):
    assert (days.first["a"].code, days.first["c"].code, days.second["b"].code) == (0, 0, 0), days.second["b"].stderr
    assert days.bytes("a.wav") == days.bytes("b.wav")
    assert days.bytes("a.wav") != days.bytes("c.wav")


def test_nothing_but_what_was_asked_for_lies_in_the_folder(days: Days):
    short = days.first["unnamed"].json["id"].removeprefix("sha256:")[:8]
    pictured, turns = (
        (Path(ran.json["media"][0]["path"]).name for ran in (days.first["picture"], days.first["turn"])),
        days.second["turn"],
    )
    wanted = {"a.wav", "b.wav", "c.wav", "rain.loa", "rain.wav", "reused.wav", "hello.wav", "changed.wav", "elsewhere.wav", "still.csv"}
    wanted |= {"noise.wav", "edited.wav"}
    wanted |= {f"{name}.{suffix}" for name in ("dog", "again") for suffix in SUFFIXES} | {"again-changed.wav", "again-elsewhere.wav"}
    wanted |= {f"a-dog-barks-{short}.wav", *pictured, *(Path(medium["path"]).name for medium in turns.json["media"])}
    assert {path.name for path in days.folder.iterdir()} == wanted


def test_the_sound_has_the_asked_length_and_says_so_in_json(days: Days):
    told = days.first["a"].json
    assert set(told) == GENERATE_KEYS
    assert told["path"] == str(days.folder / "a.wav")
    assert told["id"].startswith("sha256:")
    assert (told["backend"], told["seed"], told["seconds"]) == ("nano", 1, 2.0)
    assert told["request"]["prompt"] == "a dog barks"
    samples, rate = soundfile.read(days.folder / "a.wav")
    assert (len(samples), rate) == (2 * 16000, told["sample_rate"])
    assert np.abs(samples).max() > 0.01
    assert not told["guard"]["silent"]


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_replay_gives_the_same_bytes_from_the_file_alone(days: Days, suffix: str):
    ran = days.second[suffix]
    assert (days.first[suffix].code, ran.code) == (0, 0), ran.stderr
    assert ran.json["identical"] is True
    assert days.bytes(f"again.{suffix}") == days.bytes(f"dog.{suffix}")


def test_replay_of_a_changed_file_says_that_it_was_changed(days: Days):
    ran = days.second["changed"]
    assert ran.code == 1
    assert ran.json["identical"] is False
    assert "the file was changed" in ran.stderr
    assert days.bytes("again-changed.wav") == days.bytes("a.wav")


def test_replay_elsewhere_says_that_the_machine_differs(days: Days):
    ran = days.second["elsewhere"]
    assert ran.code == 1
    assert "is not the same here as where the file was made" in ran.stderr


def test_a_transcript_goes_to_a_speech_backend(days: Days):
    ran = days.first["words"]
    assert ran.code == 0, ran.stderr
    assert ran.json["backend"] == "hibari"
    assert 0.8 < ran.json["seconds"] < 6
    samples, rate = soundfile.read(days.folder / "hello.wav")
    assert rate == 24000
    assert np.sqrt(np.mean(samples**2)) > 0.01


def test_a_picture_in_a_chat_is_answered_with_a_sound_that_exists(days: Days):
    ran = days.first["picture"]
    assert ran.code == 0, ran.stderr
    assert set(ran.json) == {"thread", "text", "media", "calls"}
    assert [call["tool"] for call in ran.json["calls"]] == ["generate_audio"]
    (medium,) = ran.json["media"]
    assert set(medium) == {"path", "id", "kind", "seconds"}
    assert soundfile.info(medium["path"]).duration == pytest.approx(medium["seconds"], abs=0.001)
    assert Path(medium["path"]).parent == days.folder


def test_a_thread_is_remembered_by_the_next_process(days: Days):
    first, second = days.first["turn"].json, days.second["turn"].json
    assert len(first["media"]) == len(second["media"]) == 1
    assert first["media"][0]["id"] != second["media"][0]["id"]


def test_a_written_loa_makes_the_sound_again_without_its_words(days: Days) -> None:
    assert days.first["loa"].code == 0 and (days.folder / "rain.loa").stat().st_size > 2_000  # 8 x 128 numbers
    again, speech = days.second["loa"], days.second["speech"]
    assert again.code == 0 and again.json["request"]["loa"] and not again.json["request"]["prompt"]
    assert speech.code == 2 and "Language of Audio" in speech.stderr and not (days.folder / "no.loa").exists()


def test_an_inpainted_sound_keeps_the_rest_bit_for_bit(days: Days) -> None:
    ran = days.second["edit"]
    assert ran.code == 0, ran.stderr
    assert ran.json["request"]["edit"]["regions"] == [[0.5, 1.0]] and ran.json["seconds"] == 2.0
    old, new = (read_audio(days.folder / name).samples[0] for name in ("noise.wav", "edited.wav"))
    np.testing.assert_array_equal(new[:8000], old[:8000])
    np.testing.assert_array_equal(new[16000:], old[16000:])
    assert not np.array_equal(new[8000:16000], old[8000:16000])
    assert read_provenance(days.folder / "edited.wav").request.edit is not None


def test_a_motion_that_does_not_move_is_refused_before_torch(days: Days) -> None:
    still = days.second["still"]
    assert still.code == 2 and "does not move" in still.stderr and not (days.folder / "d.wav").exists() and not still.heavy


def test_a_conversation_from_stdin_answers_line_by_line(days: Days):
    ran = days.first["turn"]
    assert ran.code == 0, ran.stderr
    (answer,) = [json.loads(line) for line in ran.stdout.splitlines()]
    assert len(answer["media"]) == 1


def test_both_rows_are_ready_and_described(loa: Loa):
    rows = {row["name"]: row for row in loa("models", "list", "--json").json}
    assert {"nano", "hibari"} <= set(rows)
    for name in ("nano", "hibari"):
        assert set(rows[name]) == MODEL_KEYS
        assert rows[name]["ready"] is True, rows[name]["reason"]
        assert rows[name]["bytes"] > 1_000_000
    assert rows["nano"]["bytes"] <= 30_000_000


def test_models_show_says_the_licence(loa: Loa):
    assert loa("models", "show", "nano", "--json").json["licence"] == "CC BY-SA 4.0"


def test_the_doctor_finds_nothing_wrong_and_hears_a_first_sound(days: Days):
    ran = days.second["doctor"]
    assert ran.code == 0, [c for c in ran.json["checks"] if not c["ok"]]
    assert ran.json["ok"] is True
    assert {"python", "packages", "torch", "first sound", "nano", "hibari"} <= {c["what"] for c in ran.json["checks"]}


def test_the_public_face_makes_the_same_request_as_the_command(days: Days, tmp_path: Path, monkeypatch):
    import loa as public

    monkeypatch.setenv("LOA_HOME", str(tmp_path / "home"))
    made = public.generate("a dog barks", seconds=2, steps=5, seed=1, backend="nano")
    told = days.first["a"].json
    assert made.request.model_dump(mode="json") == told["request"]
    assert made.seconds == told["seconds"] == 2.0


def wait_for_torch(pid: int) -> None:
    """Until the process loads its heavy libraries: the command line stands by then, however slow the machine is."""
    for _ in range(600):
        if "libtorch" in Path(f"/proc/{pid}/maps").read_text():
            return
        time.sleep(0.1)
    raise AssertionError("torch was never loaded")


def test_ctrl_c_leaves_with_130_and_no_file(loa: Loa, folder: Path):
    started = loa.start("generate", "a dog barks", "--steps", "1000", "--backend", "nano", "-o", "dog.wav")
    wait_for_torch(started.pid)
    time.sleep(1)  # somewhere in the imports or in the thousand steps: it must not matter
    started.send_signal(signal.SIGINT)
    _, errors = started.communicate(timeout=30)
    assert started.returncode == 130
    assert errors == "loa: stopped; nothing half-written is left\n"
    assert list(folder.iterdir()) == []


def test_ctrl_c_inside_code_that_a_library_writes_leaves_with_130(loa: Loa, folder: Path):
    """named tuples and the like are made by exec() of a string: an interrupt in there marks the interpreter."""
    (folder / "stopped.py").write_text(
        "from serving import cli, app\n"
        "def interrupted(backend):\n"
        "    exec('import os, signal; os.kill(os.getpid(), signal.SIGINT)')\n"
        "cli._build = interrupted\n"
        "cli.main(['generate', 'a dog barks', '-o', 'dog.wav'])\n"
    )
    done = subprocess.run([sys.executable, "-m", "stopped"], cwd=folder, env=loa.env, capture_output=True, text=True, timeout=100)
    assert (done.returncode, done.stderr) == (130, "loa: stopped; nothing half-written is left\n")


def test_an_interrupt_that_a_library_swallows_still_stops_the_sound(loa: Loa, folder: Path):
    """Some libraries catch everything while they are imported: the wish to stop must outlive the exception."""
    script = (
        "import os, signal, sys\n"
        "from serving import cli, app\n"
        "build = cli._build\n"
        "def interrupted(backend):\n"
        "    try:\n"
        "        os.kill(os.getpid(), signal.SIGINT)\n"
        "    except BaseException:\n"
        "        pass\n"
        "    return build(backend)\n"
        "cli._build = interrupted\n"
        "cli.main(['generate', 'a dog barks', '--steps', '1000', '-o', 'dog.wav'])\n"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=folder, env=loa.env, capture_output=True, text=True, timeout=100)
    assert (done.returncode, done.stderr) == (130, "loa: stopped; nothing half-written is left\n")
    assert not (folder / "dog.wav").exists()
