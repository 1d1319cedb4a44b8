"""A study that is killed again and again ends as one that was left alone; executors make the same bytes; batches are worth it."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from configs.schema import StudyConfig, parse, presets
from evaluation.ledger import read_ledger
from evaluation.report import write_report
from evaluation.study import Plan, plan, run
from tests import quick_backend

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3000)]
ROOT = Path(__file__).resolve().parents[2]


class Loa:
    """``loa study run`` in a process of its own, over the row ``quick``."""

    def __init__(self, tmp_path: Path, pause: float = 0.03) -> None:
        site, home = quick_backend.install(tmp_path / "site", tmp_path / "home", pause=pause), tmp_path / "home"
        self.log = tmp_path / "log"
        self.env = os.environ | {"PYTHONPATH": f"{site}:{ROOT}", "LOA_HOME": str(home), "LOA_QUICK_LOG": str(self.log)}

    def start(self, *arguments: str) -> subprocess.Popen:
        command = [sys.executable, "-m", "serving.cli", "study", "run", *arguments, "--no-report"]
        return subprocess.Popen(command, cwd=ROOT, env=self.env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def finish(self, *arguments: str) -> dict:
        process = self.start(*arguments, "--json")
        out, err = process.communicate(timeout=1500)
        assert process.returncode == 0, err
        return json.loads(out)

    def kill_at_random(self, draw: random.Random, within: float, *arguments: str) -> bool:
        """Kill it some time after it began to work; False where it was through before."""
        process = self.start(*arguments)
        assert process.stderr is not None
        process.stderr.readline()  # "N sounds; about …": the plan is made
        time.sleep(draw.uniform(0, within))
        process.send_signal(signal.SIGKILL)
        process.communicate()
        return process.returncode == -signal.SIGKILL


def spec(path: Path, prompts: int, **more) -> str:
    listed = [{"id": f"p{n:03d}", "caption": f"sound {n}" if n % 17 else f"fail {n}"} for n in range(prompts)]
    study = {
        "name": "k",
        "prompts": listed,
        "backends": [{"name": "quick"}, {"name": "two", "row": "quick", "steps": 2}],
        "seeds": [0, 1],
    }
    path.write_text(json.dumps(study | {"seconds": 0.25} | more))
    return str(path)


def rows(folder: Path) -> list[dict]:
    """All but what was measured, by cell; also sees to it that no line is torn and no cell is there twice."""
    text = (folder / "ledger.jsonl").read_text()
    lines = [json.loads(line) for line in text.splitlines()]
    assert text.endswith("\n")
    assert len({(row["key"], row["backend"], row["prompt"]) for row in lines}) == len(lines) == len(read_ledger(folder))
    for row in lines:
        row.pop("measured")
    return sorted(lines, key=lambda row: (row["key"], row["backend"]))


def reported(folder: Path) -> dict[str, bytes]:
    """Every file of the report, had all cells cost the same: what was measured of the machine is no result."""
    ledger = folder / "ledger.jsonl"
    lines = [json.loads(line) for line in ledger.read_text().splitlines()]
    ledger.write_text("".join(json.dumps(line | {"measured": {"wall_seconds": 1.0}}) + "\n" for line in lines))
    files = [path for path in vars(write_report(folder)).values() if isinstance(path, Path)]
    return {path.name: path.read_bytes() for path in files}


def forked(planned: Plan, folder: Path) -> int:
    """A process that runs the study; it has all imports behind it, so a kill falls into the work."""
    child = os.fork()
    if child == 0:
        try:
            run(planned, folder)
        finally:
            os._exit(0)
    return child


def killed_runs(tmp_path: Path, home: Path, kills: int, seed: int) -> list[int]:
    """Kill a study so often, every third time two processes of it at once; gives the rows that were there after each kill."""
    draw, folder = random.Random(seed), tmp_path / "killed"
    asked = spec(tmp_path / "k.yaml", prompts=10 * kills, metrics=["loudness", "failures"])
    config = parse(json.loads(Path(asked).read_text()), StudyConfig, "spec")
    alone = plan(config, tmp_path / "alone", home, presets(home), lambda name, seed: None)
    started = time.perf_counter()
    run(alone, tmp_path / "alone")
    took = time.perf_counter() - started
    planned = plan(config, folder, home, presets(home), lambda name, seed: None)
    grown = []
    for turn in range(kills):
        children = [forked(planned, folder) for _ in range(2 if turn % 3 == 2 else 1)]
        time.sleep(draw.uniform(0, 1.6 * took / kills))
        for child in children:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
        ledger = folder / "ledger.jsonl"
        grown.append(ledger.read_bytes().count(b"\n") if ledger.exists() else 0)
    run(planned, folder)
    assert rows(folder) == rows(tmp_path / "alone")
    assert (folder / "study.json").read_bytes() == (tmp_path / "alone" / "study.json").read_bytes()
    assert reported(folder) == reported(tmp_path / "alone")
    sounds = {path.name: path.read_bytes() for path in (tmp_path / "alone" / "audio").iterdir()}
    assert {path.name: path.read_bytes() for path in (folder / "audio").iterdir() if path.suffix == ".wav"} == sounds
    return grown


@pytest.fixture
def home(tmp_path, monkeypatch) -> Path:
    monkeypatch.syspath_prepend(quick_backend.install(tmp_path / "site", tmp_path / "home"))
    return tmp_path / "home"


def test_thirty_kills_leave_no_trace(tmp_path, home):
    grown = killed_runs(tmp_path, home, kills=30, seed=int(os.environ.get("LOA_KILL_SEED", "1")))
    print(f"rows after each of 30 kills: {grown} of {len(rows(tmp_path / 'alone'))}")
    assert len({*grown}) > 5  # the kills fell into the work: rows come eight at a time


def test_the_command_killed_with_its_workers_goes_on(tmp_path):
    loa, draw = Loa(tmp_path), random.Random(4)
    file = spec(tmp_path / "k.yaml", prompts=100)
    for workers, within in (("1", 1.0), ("2", 8.0), ("2", 8.0)):
        loa.kill_at_random(draw, within, file, "-o", str(tmp_path / "out"), "--jobs", workers)
    loa.finish(file, "-o", str(tmp_path / "out"), "--jobs", "1")
    loa.finish(file, "-o", str(tmp_path / "alone"), "--jobs", "1")
    assert rows(tmp_path / "out") == rows(tmp_path / "alone")


def test_ray_and_processes_make_the_same_hundred_sounds(tmp_path):
    loa = Loa(tmp_path, pause=0.0)
    file = spec(tmp_path / "k.yaml", prompts=25)
    for name, how in (("here", ("--jobs", "1")), ("two", ("--jobs", "2")), ("ray", ("--executor", "ray", "--jobs", "2"))):
        assert loa.finish(file, "-o", str(tmp_path / name), *how)["cells"] == 100
    assert rows(tmp_path / "ray") == rows(tmp_path / "here") == rows(tmp_path / "two")
    workers = {row.measured.worker for row in read_ledger(tmp_path / "ray")}
    assert len(workers) == 2


def test_killed_ray_goes_on_here(tmp_path):
    loa, draw = Loa(tmp_path, pause=0.2), random.Random(3)
    file = spec(tmp_path / "k.yaml", prompts=25)
    loa.kill_at_random(draw, 12.0, file, "-o", str(tmp_path / "out"), "--executor", "ray", "--jobs", "2")
    loa.finish(file, "-o", str(tmp_path / "out"), "--jobs", "1")
    loa.finish(file, "-o", str(tmp_path / "alone"), "--jobs", "1")
    assert rows(tmp_path / "out") == rows(tmp_path / "alone")


def nano(path: Path, count: int, **more) -> str:
    words = ("a dog barks", "rain", "a bell", "footsteps", "an engine")
    listed = [{"id": f"p{n}", "caption": words[n % 5], "reference": f"procedural:dog:{n}"} for n in range(count)]
    backends = [{"name": "two", "row": "nano", "steps": 2}, {"name": "true", "row": "nano", "steps": 2, "loa": "reference"}]
    backends.append({"name": "zeros", "row": "nano", "steps": 2, "options": {"loa_mode": "zeros"}})
    path.write_text(json.dumps({"name": "n", "prompts": listed, "backends": backends, "seconds": 2.56} | more))
    return str(path)


def test_nano_killed_thrice_and_made_by_ray_is_nano_left_alone(tmp_path):
    loa, draw = Loa(tmp_path), random.Random(2)
    file = nano(tmp_path / "n.yaml", 5)
    alone, killed, ray = tmp_path / "alone", tmp_path / "killed", tmp_path / "ray"
    took = loa.finish(file, "-o", str(alone), "--jobs", "1")["wall_seconds"]
    for _ in range(3):
        loa.kill_at_random(draw, took / 2, file, "-o", str(killed), "--jobs", "1")
    loa.finish(file, "-o", str(killed), "--jobs", "1")
    loa.finish(file, "-o", str(ray), "--executor", "ray", "--jobs", "2")
    assert rows(killed) == rows(ray) == rows(alone)
    assert all(row["status"] == "done" for row in rows(alone))


def test_ray_and_a_process_here_make_the_same_hundred_nano_sounds(tmp_path):
    loa = Loa(tmp_path)
    words = ("a dog barks", "rain", "a bell", "footsteps", "an engine")
    prompts = [{"id": f"p{n}", "caption": f"{words[n % 5]} and {words[n // 5]}"} for n in range(25)]
    backends = [
        {"name": "two", "row": "nano", "steps": 2},
        {"name": "zeros", "row": "nano", "steps": 2, "options": {"loa_mode": "zeros"}},
    ]
    file = nano(tmp_path / "n.yaml", 25, prompts=prompts, backends=backends, seeds=[0, 1], seconds=1.28)
    made = {}
    for name, how in (("here", ("--jobs", "1")), ("ray", ("--executor", "ray", "--jobs", "2"))):
        assert loa.finish(file, "-o", str(tmp_path / name), *how)["cells"] == 100
        made[name] = {row.key: row.audio_sha256 for row in read_ledger(tmp_path / name) if row.status == "done"}
    assert made["here"] == made["ray"] and len(set(made["here"].values())) == 100
    assert len({row.measured.worker for row in read_ledger(tmp_path / "ray")}) == 2


@pytest.mark.parametrize("steps", [8, 25])  # with few steps decoding weighs more, which is done sound by sound
def test_a_batch_makes_more_sounds_a_second_than_one_by_one(tmp_path, steps):
    from configs.schema import presets
    from evaluation.batches import made_each, threads
    from evaluation.workers import Recipe
    from generators.base import GenerationRequest
    from media.refs import MediaStore

    backend = Recipe(presets()["nano"], tmp_path).build(MediaStore(tmp_path / "store"))
    requests = [GenerationRequest(prompt=f"rain {n}", seconds=5.12, seed=n, steps=steps) for n in range(8)]
    spent: dict[int, list[float]] = {1: [], 8: []}
    with threads(1):
        backend.generate([requests[0].model_copy(update={"steps": 1})])
        for turn in range(3):
            for rows_together in ((1, 8), (8, 1))[turn % 2]:  # they take turns, so that a busy machine slows both
                started = time.process_time()
                for at in range(0, 8, rows_together):
                    made_each(backend, requests[at : at + rows_together], rows_together)
                spent[rows_together].append(time.process_time() - started)
    ratios = [one / eight for one, eight in zip(spent[1], spent[8], strict=True)]
    print(f"{steps} steps: CPU seconds one by one {spent[1]}, by eight {spent[8]}: {ratios}")
    assert sorted(ratios)[1] >= 1.3
