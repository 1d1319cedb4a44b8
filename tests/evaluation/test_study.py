"""A study's cells, ledger and resume, over a backend whose sounds anybody can work out."""

import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from configs.registry import ConfigError, UnknownName
from configs.schema import StudyConfig, parse, presets
from evaluation.ledger import Claims, Ledger, Row, StudyStopped, read_ledger
from evaluation.study import costs, plan, read_study, run, study_rows
from generators.base import CheckpointMissing
from media.audio import Audio, read_audio
from media.refs import MissingMedia
from tests import makers, quick_backend

SPEC = {
    "name": "tones",
    "prompts": [{"id": "a", "caption": "a dog"}, {"id": "b", "caption": "a cat"}, {"id": "c", "caption": "rain"}],
    "backends": [{"name": "quick"}, {"name": "four", "row": "quick", "steps": 4}],
    "seeds": [0, 1],
    "seconds": 0.25,
}


@pytest.fixture
def home(tmp_path, monkeypatch) -> Path:
    monkeypatch.syspath_prepend(quick_backend.install(tmp_path / "site", tmp_path / "home"))
    monkeypatch.setenv("LOA_QUICK_LOG", str(tmp_path / "log"))
    return tmp_path / "home"


@pytest.fixture
def study(tmp_path, home):
    """``study(**changes)`` runs SPEC with them in one folder and gives its summary."""

    def go(folder: str = "out", **changes):
        how = {name: changes.pop(name) for name in ("jobs", "retry", "executor") if name in changes}
        return run(planned(tmp_path / folder, home, **changes), tmp_path / folder, **how)

    return go


def planned(folder: Path, home: Path, **changes):
    return plan(parse(SPEC | changes, StudyConfig, "spec"), folder, home, presets(home), synthesise)


def synthesise(name: str, seed: int) -> Audio:
    if name != "rain":
        raise ValueError(name)
    return makers.noise(1.0, seed=seed)


def log(tmp_path: Path) -> list[list[str]]:
    return [line.split("|")[1:] for line in (tmp_path / "log").read_text().splitlines()]


def without_measured(rows: list[Row]) -> list[dict]:
    return sorted((row.model_dump(mode="json", exclude={"measured"}) for row in rows), key=lambda row: (row["key"], row["backend"]))


def test_every_prompt_meets_every_backend_and_seed_and_the_sound_is_theirs(study, tmp_path):
    summary = study()
    rows = study_rows(tmp_path / "out")
    assert (summary.cells, summary.done, summary.made) == (12, 12, 12)
    assert [(r.backend, r.prompt, r.seed) for r in rows] == [(b, p, s) for b in ("quick", "four") for p in "abc" for s in (0, 1)]
    for row in rows:
        expected = quick_backend.tone(row.request)
        heard = read_audio(tmp_path / "out" / row.audio)
        assert np.abs(heard.samples - expected.samples).max() < 1e-4
        assert row.audio == f"audio/{row.key}.wav"
        assert (row.sample_rate, row.seconds, row.measured.rows) == (8000, 0.25, 6)


def test_what_is_there_is_not_made_again_and_more_of_it_is_added(study, tmp_path):
    study(backends=SPEC["backends"][:1], seeds=[0])
    assert len(log(tmp_path)) == 1 + 3  # one load, three sounds
    again = study(backends=SPEC["backends"][:1], seeds=[0])
    assert (again.made, len(log(tmp_path))) == (0, 4)
    more = study()
    assert (more.cells, more.made) == (12, 9)
    made = [line[2:] for line in log(tmp_path) if line[0] == "make"]
    assert len(made) == 12
    fewer = study(prompts=SPEC["prompts"][1:], seeds=[1])
    assert (fewer.cells, fewer.made) == (4, 0)
    assert {row.prompt for row in study_rows(tmp_path / "out")} == {"b", "c"}
    assert len(read_ledger(tmp_path / "out")) == 12  # what is asked for no longer is kept


def test_a_backend_is_loaded_once_whatever_its_labels_and_their_order(study, tmp_path):
    labels = [("a", {}), ("shifted", {"shift": 5.0}), ("b", {}), ("shifted too", {"shift": 5.0})]
    study(backends=[{"name": n, "row": "quick", "steps": at + 1, "options": o} for at, (n, o) in enumerate(labels)])
    assert [line[2] for line in log(tmp_path) if line[0] == "load"] == ["0.0", "5.0"]


def test_two_labels_of_one_setting_share_a_sound_and_keep_a_row_each(study, tmp_path):
    study(backends=[{"name": "quick"}, {"name": "twin", "row": "quick"}])
    rows = study_rows(tmp_path / "out")
    assert len(rows) == 12
    assert len({row.key for row in rows}) == len([line for line in log(tmp_path) if line[0] == "make"]) == 6
    assert len(list((tmp_path / "out" / "audio").iterdir())) == 6


def test_a_failed_cell_spares_its_neighbours_and_is_a_row_that_names_it(study, tmp_path):
    prompts = [
        *SPEC["prompts"],
        {"id": "bad", "caption": "fail here"},
        {"id": "nan", "caption": "nan"},
        {"id": "long", "caption": "x", "seconds": 9},
    ]
    summary = study(prompts=prompts, backends=[{"name": "quick"}], seeds=[0])
    errors = {row.prompt: row.error for row in summary.failed}
    assert errors == {
        "bad": "RuntimeError: asked to fail",
        "nan": "GenerationFailed: backend 'quick' gave an unusable sound (it holds values that are not numbers); try another seed",
        "long": "UnsupportedRequest: backend 'quick' makes at most 4 s, got 9 s; ask for less",
    }
    assert (summary.done, summary.made) == (3, 6)
    alone = study("alone", backends=[{"name": "quick"}], seeds=[0])
    good = [row for row in study_rows(tmp_path / "out") if row.status == "done"]
    assert [row.audio_sha256 for row in good] == [row.audio_sha256 for row in study_rows(tmp_path / "alone")]
    assert alone.failed == []
    assert study(prompts=prompts, backends=[{"name": "quick"}], seeds=[0]).made == 0
    lines = (tmp_path / "out" / "ledger.jsonl").read_text().count("\n")
    study(prompts=prompts, backends=[{"name": "quick"}], seeds=[0], retry=True)
    assert (tmp_path / "out" / "ledger.jsonl").read_text().count("\n") == lines  # failed alike: nothing to add


def test_a_key_is_a_digest_that_anybody_can_work_out(study, tmp_path):
    import hashlib

    study(backends=[{"name": "quick"}], seeds=[0])
    row = json.loads((tmp_path / "out" / "ledger.jsonl").read_text().splitlines()[0])
    signed = json.dumps({"request": row["request"], "fingerprint": row["fingerprint"]}, sort_keys=True, separators=(",", ":"))
    assert row["key"] == hashlib.sha256(signed.encode()).hexdigest()
    assert row["audio_sha256"] == hashlib.sha256((tmp_path / "out" / row["audio"]).read_bytes()).hexdigest()


def test_a_torn_line_is_no_row_and_its_cell_is_made_again(study, tmp_path):
    study()
    path = tmp_path / "out" / "ledger.jsonl"
    whole = path.read_bytes()
    path.write_bytes(whole[:-40])
    assert len(read_ledger(tmp_path / "out")) == 11
    assert study().made == 1
    assert without_measured(read_ledger(tmp_path / "out")) == without_measured(
        [Row.model_validate_json(line) for line in whole.splitlines()]
    )
    assert path.read_bytes().count(b"\n") == 12


def test_a_line_that_is_no_row_is_named(study, tmp_path):
    study()
    with (tmp_path / "out" / "ledger.jsonl").open("a") as file:
        file.write('{"key": 1}\n')
    with pytest.raises(ConfigError, match=r"ledger\.jsonl, line 13 is no row"):
        read_ledger(tmp_path / "out")


def test_a_lost_sound_is_made_again_without_a_second_row(study, tmp_path):
    study()
    row = study_rows(tmp_path / "out")[0]
    before = (tmp_path / "out" / row.audio).read_bytes()
    (tmp_path / "out" / row.audio).unlink()
    study()
    assert (tmp_path / "out" / row.audio).read_bytes() == before
    assert (tmp_path / "out" / "ledger.jsonl").read_text().count("\n") == 12


def test_a_full_disk_ends_clearly_and_the_study_goes_on_when_there_is_room(study, tmp_path):
    import resource

    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (15_000, limits[1]))  # no file may grow beyond: the ledger will want to
    try:
        with pytest.raises(StudyStopped, match=r"the disk is full .*; 12 of 24 cells are done; make room and run the same command"):
            study(seeds=[0, 1, 2, 3])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    text = (tmp_path / "out" / "ledger.jsonl").read_text()
    assert (text.count("\n"), text[-1]) == (12, "\n")  # the batch that did not fit left nothing of itself
    assert not list((tmp_path / "out").rglob(".loa-*"))
    study(seeds=[0, 1, 2, 3])
    study("other", seeds=[0, 1, 2, 3])
    assert without_measured(read_ledger(tmp_path / "out")) == without_measured(read_ledger(tmp_path / "other"))


def test_processes_on_one_ledger_make_every_cell_once(study, tmp_path):
    study("alone", seeds=list(range(8)))
    (tmp_path / "log").unlink()
    summary = study(seeds=list(range(8)), jobs=2)
    made = [line for line in log(tmp_path) if line[0] == "make"]
    assert (summary.made, len(made)) == (48, 48)
    assert without_measured(read_ledger(tmp_path / "out")) == without_measured(read_ledger(tmp_path / "alone"))


def test_a_cell_that_somebody_is_making_is_left_to_them(tmp_path):
    first, second = f"{1:064x}", f"{2 << 250:064x}"
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:  # holds the first cell until it is told to end
        os.close(writing)
        with Claims(tmp_path).some_of([first]):
            (tmp_path / "held").touch()
            os.read(reading, 1)
        os._exit(0)
    os.close(reading)
    claims = Claims(tmp_path)
    while not (tmp_path / "held").exists():
        os.sched_yield()
    with claims.some_of([first, second]) as mine:
        assert mine == [second]
    os.kill(child, 9)
    os.waitpid(child, 0)
    with claims.some_of([first, second], wait=True) as mine:  # its holder is dead
        assert mine == [first, second]
    os.close(writing)


def test_a_thousand_cells_are_opened_in_less_than_a_second(tmp_path, study):
    import time

    study()
    row = read_ledger(tmp_path / "out")[0]
    Ledger(tmp_path / "big").append([row.model_copy(update={"key": f"{n:064x}", "seed": n}) for n in range(1000)])
    started = time.process_time()
    assert len(read_ledger(tmp_path / "big")) == 1000
    assert time.process_time() - started < 1.0


def test_a_true_loa_is_the_prompts_own_sound(study, tmp_path):
    prompts = [{"id": "a", "caption": "rain", "reference": "procedural:rain:3"}]
    study(prompts=prompts, backends=[{"name": "own", "row": "quick"}, {"name": "true", "row": "quick", "loa": "reference"}], seeds=[0])
    own, true = study_rows(tmp_path / "out")
    reference = tmp_path / "out" / read_study(tmp_path / "out").config.prompts[0].reference
    assert np.abs(read_audio(reference).samples - synthesise("rain", 3).samples).max() < 1e-4
    assert (own.request.loa, len(true.request.loa)) == ((), 1)
    assert (tmp_path / "out" / "store" / true.request.loa[0][0].id[7:9]).is_dir()
    with pytest.raises(ConfigError, match="prompt 'a' has neither 'loa' nor 'reference'"):
        study(backends=[{"name": "true", "row": "quick", "loa": "reference"}])


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"backends": [{"name": "quik"}]}, UnknownName, "did you mean 'quick'"),
        ({"backends": [{"name": "quick", "options": {"shfit": 1}}]}, ConfigError, r"'options\.shfit' of 'quick'"),
        ({"backends": [{"name": "quick", "options": {"here": False}}]}, CheckpointMissing, "not ready: quick lacks its weights"),
        ({"backends": [{"name": "stable-diffusion"}]}, ConfigError, "a row of kind 'image'"),
        ({"prompts": [{"id": "a", "caption": "x", "image": "/no.png"}]}, MissingMedia, "no file '/no.png'"),
        (
            {"prompts": [{"id": "a", "caption": "x", "reference": "procedural:snow:1"}]},
            ConfigError,
            "no procedural class is called 'snow'",
        ),
        ({"prompts": [{"id": "a", "caption": "x", "reference": "procedural:rain"}]}, ConfigError, "is written procedural:CLASS:SEED"),
    ],
)
def test_a_wrong_study_is_refused_before_anything_is_made(tmp_path, home, changes, error, message):
    with pytest.raises(error, match=message):
        planned(tmp_path / "out", home, **changes)
    assert not (tmp_path / "log").exists()


def test_a_picture_is_part_of_what_is_asked(study, tmp_path):
    picture = makers.picture(tmp_path / "red.png", makers.halves())
    study(prompts=[{"id": "a", "image": str(picture)}], backends=[{"name": "quick"}], seeds=[0])
    (row,) = study_rows(tmp_path / "out")
    assert (row.status, row.request.media[0].kind) == ("done", "image")


def test_a_worker_that_signs_otherwise_is_not_recorded(tmp_path, home):
    planned_now = planned(tmp_path / "out", home)
    other = [replace(cell, fingerprint="sha256:" + "0" * 64) for cell in planned_now.cells]
    with pytest.raises(StudyStopped, match="signs the sounds of 'quick' otherwise"):
        run(replace(planned_now, cells=other), tmp_path / "out")
    assert Ledger(tmp_path / "out").rows == []


def test_a_data_set_is_named_in_the_protocol_with_the_split_that_was_read(tmp_path, home):
    (tmp_path / "test.csv").write_text("audiocap_id,youtube_id,start_time,caption\n1,a,0,Rain\n2,b,0,Wind\n")
    table = {"layout": "audiocaps", "path": str(tmp_path / "test.csv"), "limit": 1}
    protocol = planned(tmp_path / "out", home, prompts=table).protocol
    assert (protocol["dataset"], protocol["split"], protocol["drawn"], protocol["prompts"]) == ("AudioCaps", "test", "1 by seed 0", 1)


def test_what_a_killed_process_left_of_a_file_is_swept_up_when_it_is_old(study, tmp_path):
    study()
    old, young = tmp_path / "out" / "audio" / ".loa-1.part", tmp_path / "out" / "audio" / ".loa-2.part"
    for part in (old, young):
        part.touch()
    os.utime(old, (0, 0))
    study()
    assert (old.exists(), young.exists()) == (False, True)


def test_loading_is_no_cost_of_a_sound(study, tmp_path, monkeypatch):
    now = [0.0]
    monkeypatch.setattr("evaluation.workers.time.perf_counter", lambda: now[0])
    monkeypatch.setattr("tests.quick_backend.Quick._load", lambda self: now.__setitem__(0, now[0] + 100))
    study(rows=2)

    rows = study_rows(tmp_path / "out")
    assert [row.measured.first for row in rows] == [True] * 2 + [False] * 10  # one worker, the same weights throughout
    assert {row.measured.wall_seconds for row in rows} == {0.0}


def test_a_workers_first_batch_counts_only_where_there_is_no_other(study, tmp_path):
    study(rows=2)
    slow, *others = study_rows(tmp_path / "out")
    slow = slow.model_copy(update={"measured": slow.measured.model_copy(update={"first": True, "rtf": 9.0, "wall_seconds": 9.0})})
    usual = [row.model_copy(update={"measured": row.measured.model_copy(update={"first": False, "rtf": 0.5})}) for row in others]

    assert costs([slow, usual[0]])["quick"]["rtf"] == 0.5
    assert costs([slow])["quick"]["rtf"] == 9.0
