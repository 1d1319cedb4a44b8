"""The specification of a study: short forms, defaults, and what is wrong with one, by field."""

from pathlib import Path

import pytest

from configs.registry import ConfigError, UnknownName
from configs.schema import StudyConfig, parse, study_config

SMALL = {"name": "s", "prompts": [{"id": "a", "caption": "a dog"}], "backends": [{"name": "nano"}]}


def spec(**changes) -> StudyConfig:
    return parse(SMALL | changes, StudyConfig, "spec.yaml")


def test_the_smallest_form_is_enough():
    study = spec()
    assert (study.seeds, study.seconds, study.threads, study.rows, study.backends[0].row_name) == ((0,), 5.12, 1, 8, "nano")


def test_the_shipped_study_is_one_factor_at_a_time():
    study = study_config("first-look")
    base, *others = study.backends
    assert len(study.prompts) == 20
    assert all(prompt.reference == f"procedural:{prompt.reference.split(':')[1]}:0" for prompt in study.prompts)
    settings = [(b.steps, b.guidance, b.loa, tuple(b.options.items())) for b in (base, *others)]
    assert len(set(settings)) == 8
    assert all(sum(x != y for x, y in zip(settings[0], other, strict=True)) == 1 for other in settings[1:])
    assert {b.steps for b in study.backends} == {4, 8, 25, 50}
    assert {b.guidance for b in study.backends} == {1, 3.5, 7}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"prompts": []}, "'prompts' names what is asked for"),
        ({"prompts": [{"id": "a"}]}, r"'prompts\.0': .*prompt 'a' asks for nothing"),
        ({"prompts": [{"caption": "a dog"}]}, r"'prompts\.0\.id' is missing"),
        ({"prompts": [{"id": "../x", "caption": "a"}]}, r"'prompts\.0\.id'"),
        ({"prompts": [{"id": "a", "caption": "a"}] * 2}, "'prompts' holds 'a' twice"),
        ({"prompts": {"path": "x.csv", "layout": "audiocap"}}, r"'prompts_from\.layout': .*audiocaps"),
        ({"backends": []}, "'backends'"),
        ({"backends": [{"name": "nano"}, {"name": "nano", "steps": 4}]}, "'backends' holds 'nano' twice"),
        ({"backends": [{"name": "nano", "setps": 4}]}, r"unknown key 'backends\.0\.setps'"),
        ({"backends": [{"name": "nano", "steps": 0}]}, r"'backends\.0\.steps'.*got 0"),
        ({"seeds": [-1]}, "'seeds'"),
        ({"seeds": [1, 1]}, "'seeds' holds '1' twice"),
        ({"metrics": ["fad", "fad"]}, "'metrics' holds 'fad' twice"),
        ({"sedes": [1]}, "unknown key 'sedes': did you mean 'seeds'"),
    ],
)
def test_what_is_wrong_is_named_by_its_field(changes, message):
    with pytest.raises(ConfigError, match=message):
        spec(**changes)


def test_paths_are_taken_from_where_the_file_lies(tmp_path):
    (tmp_path / "s.yaml").write_text("name: s\nprompts: lists/mine.csv\nbackends: [{name: nano}]\n")
    assert study_config(str(tmp_path / "s.yaml")).prompts_from.path == tmp_path / "lists" / "mine.csv"
    (tmp_path / "t.yaml").write_text(
        "name: t\nprompts: [{id: a, caption: x, reference: a.wav, image: /b.png}, {id: p, caption: y, reference: 'procedural:dog:1'}]\n"
        "backends: [{name: nano}]\n"
    )
    first, second = study_config(str(tmp_path / "t.yaml")).prompts
    assert (first.reference, first.image, second.reference) == (str(tmp_path / "a.wav"), Path("/b.png"), "procedural:dog:1")


def test_an_unknown_study_names_the_shipped_ones():
    with pytest.raises(UnknownName, match="did you mean 'first-look'"):
        study_config("first-lok")
