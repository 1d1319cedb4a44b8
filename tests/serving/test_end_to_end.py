"""The main job through the real command: a request in, a sound out, and the same sound again."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile

from tests.serving.conftest import Loa

PICTURE = Path(__file__).parents[1] / "data" / "pictures" / "chelsea.jpg"
DOG = ("generate", "a dog barks", "--seconds", "2", "--steps", "5", "--backend", "nano")

GENERATE_KEYS = {
    "path", "id", "seconds", "sample_rate", "backend", "seed", "wall_seconds", "fingerprint", "request", "guard",
}  # fmt: skip
MODEL_KEYS = {
    "name", "system", "ready", "reason", "files", "bytes", "licence", "sample_rate", "max_seconds", "accepts", "tasks",
    "edits", "parameters", "kind", "parity",
}  # fmt: skip


def test_the_same_request_gives_the_same_bytes_and_another_seed_does_not(loa: Loa, folder: Path):
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        ran = loa(*DOG, "--seed", str(seed), "-o", f"{name}.wav")
        assert ran.code == 0, ran.stderr
    a, b, c = ((folder / f"{name}.wav").read_bytes() for name in "abc")
    assert a == b
    assert a != c
    assert sorted(p.name for p in folder.iterdir()) == ["a.wav", "b.wav", "c.wav"]


def test_the_sound_has_the_asked_length_and_says_so_in_json(loa: Loa, folder: Path):
    ran = loa(*DOG, "--seed", "1", "-o", "dog.wav", "--json")
    assert ran.code == 0, ran.stderr
    assert set(ran.json) == GENERATE_KEYS
    assert ran.json["path"] == str(folder / "dog.wav")
    assert ran.json["id"].startswith("sha256:")
    assert (ran.json["backend"], ran.json["seed"], ran.json["seconds"]) == ("nano", 1, 2.0)
    assert ran.json["request"]["prompt"] == "a dog barks"
    samples, rate = soundfile.read(folder / "dog.wav")
    assert (len(samples), rate) == (2 * 16000, ran.json["sample_rate"])
    assert np.abs(samples).max() > 0.01
    assert not ran.json["guard"]["silent"]


def test_replay_gives_the_same_bytes_from_the_file_alone(loa: Loa, folder: Path):
    suffixes = ("wav", "flac", "ogg", "mp3")
    assert [ran.code for ran in loa.together(*((*DOG, "--seed", "3", "-o", f"dog.{suffix}") for suffix in suffixes))] == [0] * 4
    for suffix, ran in zip(
        suffixes, loa.together(*(("replay", f"dog.{suffix}", "-o", f"again.{suffix}", "--json") for suffix in suffixes)), strict=True
    ):
        assert ran.code == 0, ran.stderr
        assert ran.json["identical"] is True
        assert (folder / f"again.{suffix}").read_bytes() == (folder / f"dog.{suffix}").read_bytes()


def test_replay_of_a_changed_file_says_that_it_was_changed(loa: Loa, folder: Path):
    assert loa(*DOG, "-o", "dog.wav").code == 0
    whole = bytearray((folder / "dog.wav").read_bytes())
    place = whole.index(b"data") + 5000
    whole[place] ^= 0x40
    (folder / "dog.wav").write_bytes(whole)
    ran = loa("replay", "dog.wav", "-o", "again.wav", "--json")
    assert ran.code == 1
    assert ran.json["identical"] is False
    assert "the file was changed" in ran.stderr


def test_replay_elsewhere_says_that_the_machine_differs(loa: Loa, folder: Path):
    assert loa(*DOG, "-o", "dog.wav").code == 0
    (folder / "dog.wav").write_bytes((folder / "dog.wav").read_bytes().replace(b'"fingerprint":"sha256:', b'"fingerprint":"SHA256:'))
    whole = bytearray((folder / "dog.wav").read_bytes())
    whole[whole.index(b"data") + 5000] ^= 0x40
    (folder / "dog.wav").write_bytes(whole)
    ran = loa("replay", "dog.wav", "-o", "again.wav")
    assert ran.code == 1
    assert "is not the same here as where the file was made" in ran.stderr


def test_without_output_the_file_is_named_by_prompt_and_id(loa: Loa, folder: Path):
    ran = loa(*DOG, "--json")
    assert ran.code == 0, ran.stderr
    short = ran.json["id"].removeprefix("sha256:")[:8]
    assert [p.name for p in folder.iterdir()] == [f"a-dog-barks-{short}.wav"]


def test_a_transcript_goes_to_a_speech_backend(loa: Loa, folder: Path):
    ran = loa("generate", "--transcript", "Good morning, everybody.", "-o", "hello.wav", "--json")
    assert ran.code == 0, ran.stderr
    assert ran.json["backend"] == "hibari"
    assert 0.8 < ran.json["seconds"] < 6
    samples, rate = soundfile.read(folder / "hello.wav")
    assert rate == 24000
    assert np.sqrt(np.mean(samples**2)) > 0.01


def test_a_picture_in_a_chat_is_answered_with_a_sound_that_exists(loa: Loa, folder: Path):
    ran = loa("chat", "Make the sound of this picture", "--attach", PICTURE, "--json")
    assert ran.code == 0, ran.stderr
    assert set(ran.json) == {"thread", "text", "media", "calls"}
    assert [call["tool"] for call in ran.json["calls"]] == ["generate_audio"]
    (medium,) = ran.json["media"]
    assert set(medium) == {"path", "id", "kind", "seconds"}
    assert soundfile.info(medium["path"]).duration == pytest.approx(medium["seconds"], abs=0.001)
    assert Path(medium["path"]).parent == folder


def test_a_thread_is_remembered_by_the_next_process(loa: Loa):
    first = loa("chat", "a dog barks, 1 second", "--thread", "t1", "--json").json
    second = loa("chat", "the same again, but another take", "--thread", "t1", "--json").json
    assert len(first["media"]) == len(second["media"]) == 1
    assert first["media"][0]["id"] != second["media"][0]["id"]


def test_a_conversation_from_stdin_answers_line_by_line(loa: Loa):
    ran = loa("chat", "--json", stdin="a dog barks, 1 second\n/quit\n")
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


def test_the_doctor_finds_nothing_wrong_and_hears_a_first_sound(loa: Loa):
    ran = loa("doctor", "--json")
    assert ran.code == 0, [c for c in ran.json["checks"] if not c["ok"]]
    assert ran.json["ok"] is True
    assert {"python", "packages", "torch", "first sound", "nano", "hibari"} <= {c["what"] for c in ran.json["checks"]}


def test_the_public_face_makes_the_same_sound_as_the_command(loa: Loa, folder: Path, tmp_path: Path, monkeypatch):
    import loa as public

    monkeypatch.setenv("LOA_HOME", str(tmp_path / "home"))
    made = public.generate("a dog barks", seconds=2, steps=5, seed=1, backend="nano")
    told = loa(*DOG, "--seed", "1", "--json").json
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


def test_a_written_loa_makes_the_sound_again_without_its_words(loa: Loa) -> None:
    first = loa("generate", "rain", "--seconds", "1", "--steps", "2", "--loa-out", "rain.loa", "-o", "a.wav", "--json")
    assert first.code == 0 and (loa.folder / "rain.loa").stat().st_size > 2_000  # 8 x 128 numbers
    again = loa("generate", "--loa", "rain.loa", "--seconds", "1", "--steps", "2", "-o", "b.wav", "--json")
    assert again.code == 0 and again.json["request"]["loa"]
    speech = loa("generate", "--transcript", "hello", "--loa-out", "no.loa", "-o", "c.wav")
    assert speech.code == 2 and "Language of Audio" in speech.stderr and not (loa.folder / "no.loa").exists()
    motion = loa.folder / "imu.csv"
    motion.write_text("0,0,0,0,0,0\n0,0,0,0,0,0\n")
    refused = loa("generate", "rain", "--imu", motion, "-o", "d.wav")
    assert refused.code == 2 and "does not move" in refused.stderr and not (loa.folder / "d.wav").exists() and not refused.heavy


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
