"""Runs the real command in a process of its own, in an empty folder with an empty LOA_HOME."""

import json
import os
import resource
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

HEAVY = {"torch", "transformers", "diffusers", "langchain", "langgraph", "onnxruntime", "av"}


@dataclass(frozen=True)
class Ran:
    code: int
    stdout: str
    stderr: str
    cpu_seconds: float  # of the process and its children: steadier than the clock on a busy machine
    heavy: set[str]  # heavy libraries that it imported

    @property
    def json(self) -> Any:
        return json.loads(self.stdout)


@dataclass(frozen=True)
class Loa:
    """The command: ``loa("generate", "a dog", "--json")`` runs it, ``loa.start(...)`` only starts it."""

    folder: Path
    env: dict[str, str]

    def __call__(self, *arguments: str | Path, stdin: str = "", timeout: float = 110) -> Ran:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        done = subprocess.run(
            [sys.executable, "-X", "importtime", "-m", "serving.cli", *map(str, arguments)],
            cwd=self.folder,
            env=self.env,
            input=stdin,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        lines = done.stderr.splitlines()
        imported = {line.rpartition("|")[2].strip() for line in lines if line.startswith("import time:")}
        return Ran(
            code=done.returncode,
            stdout=done.stdout,
            stderr="\n".join(line for line in lines if not line.startswith("import time:")),
            cpu_seconds=after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime,
            heavy=HEAVY & imported,
        )

    def together(self, *commands: tuple[str | Path, ...], stdin: str = "") -> list[Ran]:
        """Several commands, one after the other in one process: what they have in common is imported once; all share ``stdin``.

        ``heavy`` of each is what the process had imported by its end; ``cpu_seconds`` is the mean of all.
        """
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        runner = (
            "import contextlib, io, json, sys\nfrom serving.cli import main\nran = []\n"
            "for sys.argv in json.loads(sys.argv[1]):\n"
            "    out, err, code = io.StringIO(), io.StringIO(), 0\n"
            "    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):\n"
            "        try:\n            main()\n        except SystemExit as left:\n            code = left.code or 0\n"
            f"    ran.append([code, out.getvalue(), err.getvalue(), sorted({HEAVY} & set(sys.modules))])\nprint(json.dumps(ran))"
        )
        lines = json.dumps([["loa", *map(str, command)] for command in commands])
        done = subprocess.run(
            [sys.executable, "-c", runner, lines],
            cwd=self.folder,
            env=self.env,
            input=stdin,
            capture_output=True,
            text=True,
            timeout=290,
            check=True,
        )
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        mean = (after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime) / len(commands)
        return [Ran(code, out, err, mean, set(heavy)) for code, out, err, heavy in json.loads(done.stdout.splitlines()[-1])]

    def start(self, *arguments: str | Path) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "serving.cli", *map(str, arguments)],
            cwd=self.folder,
            env=self.env,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )


def command_in(root: Path) -> Loa:
    """The real command, in the empty folder ``root/here`` and with the empty LOA_HOME ``root/home``."""
    place = root / "here"
    place.mkdir(exist_ok=True)
    env = {k: v for k, v in os.environ.items() if not k.startswith(("LOA_", "HF_", "LANGSMITH_"))}
    repository = str(Path(__file__).parents[2])
    return Loa(place, env | {"LOA_HOME": str(root / "home"), "PYTHONPATH": repository, "OMP_NUM_THREADS": "1"})


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The current folder of the command."""
    place = tmp_path / "here"
    place.mkdir()
    return place


@pytest.fixture
def loa(tmp_path: Path, folder: Path) -> Loa:
    """The real command, in an empty folder and with an empty LOA_HOME."""
    return command_in(tmp_path)
