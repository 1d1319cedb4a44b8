"""Each finding says what was found and, where something is wrong, what to do."""

from collections import namedtuple
from pathlib import Path

import pytest

from configs.registry import ConfigError
from configs.schema import AppConfig
from serving import doctor
from serving.app import build
from serving.doctor import Finding, examine


@pytest.mark.parametrize("requirement", ["diffusers==0.42.1", "torch>=2.6", "langchain<2,>=1.4.7", "hibari-tts"])
def test_a_met_requirement_is_no_finding(requirement: str):
    assert doctor._package(requirement) is None


def test_a_missing_package_is_named_with_its_fix():
    found = doctor._package("no-such-package>=1")
    assert found == Finding("no-such-package", False, "not installed", doctor.MAKE, 3)


def test_another_version_than_the_pinned_one_is_a_finding():
    found = doctor._package("diffusers==0.1.0")
    assert found is not None
    assert found.got == "0.42.1, but 0.1.0 is what loa was tested with"


def test_a_local_build_of_the_pinned_version_is_fine(monkeypatch):
    monkeypatch.setattr(doctor, "version", lambda name: "2.13.0+cpu")
    assert doctor._package("torch==2.13.0") is None


def test_a_home_that_cannot_be_written_says_so(tmp_path: Path):
    (tmp_path / "file").write_text("")
    found = doctor._home(tmp_path / "file" / "home")
    assert (found.ok, found.exit_code) == (False, 1)
    assert "LOA_HOME" in found.fix


def test_a_home_that_does_not_exist_yet_is_made(tmp_path: Path):
    assert doctor._home(tmp_path / "new" / "home").ok
    assert list((tmp_path / "new" / "home").iterdir()) == []


def test_a_full_disk_is_a_finding(tmp_path: Path, monkeypatch):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda _: usage(10, 10, 5_000_000))
    found = doctor._disk(tmp_path / "not" / "yet")
    assert (found.ok, found.got) == (False, "0.0 GB free")
    assert found.fix


def test_missing_packages_end_the_examination_before_they_are_imported(monkeypatch):
    monkeypatch.setattr(doctor, "requires", lambda name: ["no-such-package>=1", 'dev-tool; extra == "dev"'])
    findings = examine(lambda: pytest.fail("the house must not be built"))
    assert [f.what for f in findings if not f.ok] == ["no-such-package"]


def test_wrong_settings_are_a_finding_and_not_a_crash(monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")

    def broken():
        raise ConfigError("app.yaml: unknown key 'x'")

    last = examine(broken)[-1]
    assert (last.what, last.ok, last.got, last.exit_code) == ("settings", False, "app.yaml: unknown key 'x'", 2)


def test_open_model_hubs_are_a_finding(monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    assert not doctor._offline().ok


def test_what_ships_must_be_ready_and_what_is_to_be_pulled_or_trained_need_not(tmp_path: Path):
    found = {finding.what: finding.ok for finding in doctor._backends(build(AppConfig(home=tmp_path)))}
    assert found["nano"] and found["hibari"] and all(found.values()) and "other systems" in found
    (tmp_path / "checkpoints" / "tango").mkdir(parents=True)  # begun, and not whole
    assert not {finding.what: finding.ok for finding in doctor._backends(build(AppConfig(home=tmp_path)))}["tango"]
