"""The store: content is identity, files are whole or absent, and no name leads out of its folder."""

from __future__ import annotations

import hashlib
import os
import random
import re
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest
from pydantic import ValidationError

from media.audio import read_audio, write_audio
from media.refs import MediaRef, MediaStore, MissingMedia, write_whole
from tests import makers


def test_the_same_bytes_have_the_same_id_and_lie_once(tmp_path: Path) -> None:
    store, path = MediaStore(tmp_path / "store"), makers.picture(tmp_path / "a.png", makers.halves())
    first = store.put_file(path)
    again = store.put_file(path.rename(tmp_path / "other name.jpeg"))
    assert first == again == store.ref(first.id)
    assert first.id == "sha256:" + hashlib.sha256((tmp_path / "other name.jpeg").read_bytes()).hexdigest()
    assert store.path(first).read_bytes() == (tmp_path / "other name.jpeg").read_bytes()
    digest = first.id.removeprefix("sha256:")
    inside = sorted(str(p.relative_to(store.root)) for p in store.root.rglob("*") if p.is_file())
    assert inside == [f"{digest[:2]}/{digest[2:]}.bin", f"{digest[:2]}/{digest[2:]}.json"]
    assert first in store and first.id in store


def test_equal_sounds_are_one_and_other_ones_two(tmp_path: Path) -> None:
    store = MediaStore(tmp_path)
    assert store.put_audio(makers.tone()).id == store.put_audio(makers.tone()).id != store.put_audio(makers.tone(441)).id
    assert makers.peak_hz(read_audio(store.path(store.put_audio(makers.tone())))) == pytest.approx(440, abs=0.5)


def test_only_the_owner_reads_what_is_stored(tmp_path: Path) -> None:
    path = MediaStore(tmp_path).path(MediaStore(tmp_path).put_audio(makers.tone()))
    assert stat.S_IMODE(path.stat().st_mode) == stat.S_IMODE(path.with_suffix(".json").stat().st_mode) == 0o600
    write_audio(tmp_path / "mine.wav", makers.tone())
    umask = os.umask(0)
    os.umask(umask)
    assert stat.S_IMODE((tmp_path / "mine.wav").stat().st_mode) == 0o666 & ~umask  # a result is an ordinary file


@pytest.mark.parametrize(
    "name",
    [
        "", "sha256:", "../../etc/passwd", "sha256:../../../etc/passwd", "/etc/passwd", "sha256:" + "g" * 64, "sha256:" + "a" * 63,
        "sha256:" + "a" * 65, "sha256:" + "A" * 64, "sha256:" + "a" * 64 + "\n", "sha256:" + "a" * 62 + "/.", "md5:" + "a" * 64,
        "sha256:" + "a" * 60 + "\0.wa", "sha256:%2e%2e/" + "a" * 58, " sha256:" + "a" * 64, "sha256:" + "٣" * 64,
    ],
)  # fmt: skip
def test_what_is_no_id_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(MissingMedia, match="not a media id"):
        MediaStore(tmp_path).path(name)
    assert name not in MediaStore(tmp_path)
    with pytest.raises(ValidationError):
        MediaRef(id=name, kind="audio", mime="audio/wav")


def test_2000_random_names_lead_nowhere(tmp_path: Path) -> None:
    store, rng = MediaStore(tmp_path / "store"), random.Random(5)
    known = store.put_audio(makers.tone())
    (tmp_path / "secret.bin").write_text("secret")
    (tmp_path / "secret.json").write_text('{"kind": "audio", "mime": "audio/wav"}')
    pieces = [
        "sha256:",
        "..",
        "/",
        "\\",
        "secret",
        ".bin",
        "\0",
        "%2e",
        "~",
        "$HOME",
        "a" * 64,
        known.id,
        known.id[7:],
        "C:",
        "\n",
        "é",
    ]
    for _ in range(2000):
        name = "".join(rng.choices(pieces, k=rng.randrange(1, 6)))
        if name != known.id:
            with pytest.raises(MissingMedia):
                store.path(name)
    assert store.path(known.id).is_file()


def test_an_unknown_id_and_a_lost_file_say_so(tmp_path: Path) -> None:
    store = MediaStore(tmp_path)
    with pytest.raises(MissingMedia, match="attach the file again"):
        store.path("sha256:" + "0" * 64)
    ref = store.put_audio(makers.tone())
    content = store.path(ref)
    content.unlink()
    assert ref not in store
    assert store.put_audio(makers.tone()) == ref and ref in store
    content.with_suffix(".json").write_text("{")
    with pytest.raises(MissingMedia, match="damaged"):
        store.ref(ref.id)


def test_a_span_runs_forward() -> None:
    fields = {"id": "sha256:" + "0" * 64, "kind": "audio", "mime": "audio/wav"}
    assert MediaRef(**fields, span=(1.0, 2.5)).span == (1.0, 2.5)
    for span in [(2.0, 1.0), (-1.0, 2.0), (0.0, float("inf")), (float("nan"), 1.0)]:
        with pytest.raises(ValidationError):
            MediaRef(**fields, span=span)


PUTS = """
import sys
from pathlib import Path
from media.refs import MediaStore
store = MediaStore(Path(sys.argv[1]))
for round in range(50):
    ref = store.put_bytes(bytes([round]) * 100_000, "audio/wav", "audio")
    assert store.path(ref).read_bytes() == bytes([round]) * 100_000
print("done")
"""


def test_two_processes_put_the_same_things_at_once(tmp_path: Path) -> None:
    both = [subprocess.Popen([sys.executable, "-c", PUTS, str(tmp_path)], stdout=subprocess.PIPE, text=True) for _ in range(2)]
    assert [process.communicate()[0] for process in both] == ["done\n", "done\n"]
    contents = sorted(tmp_path.rglob("*.bin"))
    assert len(contents) == 50 == len(list(tmp_path.rglob("*.json")))
    for path in contents:
        assert hashlib.sha256(path.read_bytes()).hexdigest() == path.parent.name + path.stem
    assert list(tmp_path.rglob("*.part")) == []


def test_a_kill_in_the_middle_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    path.write_bytes(b"old")
    code = "import sys; from pathlib import Path; from media.refs import write_whole; write_whole(Path(sys.argv[1]), b'new' * 10**8)"
    process = subprocess.Popen([sys.executable, "-c", code, str(path)])
    while not (parts := [p for p in tmp_path.glob(".*.part") if p.stat().st_size > 0]):
        assert process.poll() is None
        time.sleep(0.001)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert 0 < parts[0].stat().st_size <= 3 * 10**8
    assert path.read_bytes() == b"old"
    write_whole(path, b"whole")  # what the dead one left does not stand in the way
    assert path.read_bytes() == b"whole"


FULL = """
import resource, sys
from pathlib import Path
from media.refs import MediaStore
from media.audio import write_audio
from tests import makers
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
for act in (
    lambda: write_audio(Path(sys.argv[1]) / "a.wav", makers.tone(seconds=2)),
    lambda: MediaStore(Path(sys.argv[1]) / "store").put_audio(makers.tone(seconds=2)),
    lambda: MediaStore(Path(sys.argv[1]) / "store").put_file(Path(sys.argv[2])),
):
    try:
        act()
    except OSError as error:
        print(type(error).__name__)
"""


def test_a_full_disk_leaves_nothing(tmp_path: Path) -> None:
    write_audio(tmp_path / "large.wav", makers.tone(seconds=2))
    (tmp_path / "out").mkdir()
    command = [sys.executable, "-c", FULL, str(tmp_path / "out"), str(tmp_path / "large.wav")]
    done = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parents[2])
    assert re.findall(r"\w+", done.stdout) == ["OSError"] * 3, done.stderr
    assert [p for p in (tmp_path / "out").rglob("*") if p.is_file()] == []


def test_a_name_as_long_as_the_file_system_allows(tmp_path: Path) -> None:
    path = tmp_path / ("n" * 251 + ".wav")
    write_audio(path, makers.tone())
    assert read_audio(path).seconds == 1.0
