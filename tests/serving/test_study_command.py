"""`loa study` as a person types it."""

import json
import os
from pathlib import Path

import pytest

from evaluation.study import study_rows
from tests import quick_backend
from tests.serving.conftest import Loa

ROOT = Path(__file__).resolve().parents[2]
SPEC = "name: s\nprompts: [{id: a, caption: a dog}, {id: b, caption: fail}]\nbackends: [{name: quick}]\nseconds: 0.25\n"


@pytest.fixture
def quick(loa: Loa, tmp_path) -> Loa:
    site = quick_backend.install(tmp_path / "site", Path(loa.env["LOA_HOME"]))
    (loa.folder / "s.yaml").write_text(SPEC)
    return Loa(loa.folder, loa.env | {"PYTHONPATH": os.pathsep.join((str(site), str(ROOT), loa.env.get("PYTHONPATH", "")))})


def test_a_study_with_a_failed_cell_is_done_and_names_it_and_a_second_run_has_nothing_to_do(quick: Loa):
    command = ("study", "run", "s.yaml", "-o", "out", "--no-report", "--jobs", "1")
    first, second = quick.together((*command, "--json"), command)
    assert (first.code, second.code) == (0, 0), first.stderr
    told = json.loads(first.stdout)
    assert (told["cells"], told["done"], told["made"], told["workers"]) == (2, 1, 2, 1)
    assert told["failed"] == [{"prompt": "b", "backend": "quick", "seed": 0, "error": "RuntimeError: asked to fail"}]
    assert told["predicted"]["basis"] == "guessed from the size of the weights"
    assert "2 sounds; about" in first.stderr
    assert "failed: quick, b, seed 0: RuntimeError: asked to fail" in second.stderr
    assert "1 of 2 sounds are there, 1 failed; 0 made now" in second.stderr
    assert second.stdout.strip() == "out"
    assert [row.status for row in study_rows(quick.folder / "out")] == ["done", "failed"]


def test_what_is_wrong_is_said_in_one_line_before_torch_is_loaded(quick: Loa):
    (quick.folder / "list.yaml").write_text(SPEC.replace("a dog", "a dog, steps: 4"))
    (quick.folder / "row.yaml").write_text(SPEC.replace("quick", "quik"))
    (quick.folder / "away.yaml").write_text(SPEC.replace("name: quick", "name: musicgen-small"))
    (quick.folder / "metric.yaml").write_text(SPEC + "metrics: [nano-clp]\n")
    (quick.folder / "full").mkdir()
    (quick.folder / "full" / "thesis.tex").touch()
    wrong = {
        ("run", "list.yaml", "-o", "x"): (2, "unknown key 'prompts.0.steps'"),
        ("run", "row.yaml", "-o", "x"): (2, "unknown backend 'quik': did you mean 'quick'"),
        ("run", "away.yaml", "-o", "x"): (3, "backend 'musicgen-small' is not ready"),
        ("run", "metric.yaml", "-o", "x"): (2, "unknown metric 'nano-clp': did you mean 'nano-clap'"),
        ("run", "no.yaml", "-o", "x"): (2, "cannot read the config no.yaml"),
        ("run", "s.yaml", "-o", "full"): (2, "'full' holds other things than a study"),
        ("run", "s.yaml", "-o", "no/where"): (2, "make it first"),
        ("run", "s.yaml", "-o", "x", "--executor", "slurm"): (2, "--executor is local or ray, got 'slurm'"),
        ("report", "full"): (2, "full holds no study"),
    }
    for ran, (code, message) in zip(quick.together(*(("study", *words) for words in wrong)), wrong.values(), strict=True):
        assert (ran.code, ran.stdout) == (code, ""), ran.stderr
        assert message in ran.stderr
        assert len(ran.stderr.splitlines()) == 1
        assert "torch" not in ran.heavy
    assert not (quick.folder / "x").exists()
