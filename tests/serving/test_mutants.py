"""Damaged media through the whole command: every file ends as a sound (0) or as one line and exit code 2, and nothing crashes."""

import json
import random
import subprocess
import sys
from pathlib import Path

import pytest

from tests import makers
from tests.serving.conftest import Loa

# One process runs the command for every file, so a crash of any of them ends it and leaves the list short.
EACH = """
import json, sys
from serving.cli import ENVIRONMENT, run
import os
for name, value in ENVIRONMENT.items():
    os.environ.setdefault(name, value)
for path in sys.argv[1:]:
    codes = {}
    for flag in ("--image", "--audio", "--video"):
        codes[flag] = run(["generate", flag, path, "--seconds", "0.3", "--steps", "1", "-o", path + flag + ".wav"])
    print("\\n" + json.dumps(codes), flush=True)
"""


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_two_hundred_damaged_files_end_as_a_sound_or_a_refusal(loa: Loa) -> None:
    (loa.folder / "good").mkdir()
    good = [path.read_bytes() for path in makers.seeds(loa.folder / "good")]
    rng = random.Random(5)
    mutants: list[Path] = []
    for number in range(200):
        mutants.append(loa.folder / f"mutant-{number:03d}")
        mutants[-1].write_bytes(makers.mutated(good[number % len(good)], rng.choice(good), rng))
    done = subprocess.run(
        [sys.executable, "-c", EACH, *map(str, mutants)], cwd=loa.folder, env=loa.env, capture_output=True, text=True, timeout=1700
    )
    rows = [json.loads(line) for line in done.stdout.splitlines() if line.startswith('{"--image')]
    assert done.returncode == 0 and len(rows) == len(mutants), done.stderr[-2000:]
    assert "Traceback" not in done.stderr
    codes = [code for row in rows for code in row.values()]
    assert set(codes) == {0, 2}  # some are let in, some are refused
    for path, row in zip(mutants, rows, strict=True):
        for flag, code in row.items():
            assert Path(f"{path}{flag}.wav").exists() == (code == 0)
    assert not list(loa.folder.glob("*.part"))
