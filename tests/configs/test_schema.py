"""Settings: what the YAML says arrives typed, and what is wrong is named with its file and field."""

import sys
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from configs import schema
from configs.registry import ConfigError, UnknownName
from configs.schema import AppConfig, BackendConfig, load_config, preset, presets, read_yaml

ROW = """\
name: {name}
system: Test
backend: audioldm2
licence: CC0-1.0
sample_rate: 8000
max_seconds: 2
accepts: [text]
tasks: [sound]
"""


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("LOA_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def test_the_shipped_settings_need_no_network_and_live_in_loa_home(home):
    config = load_config()
    assert config.home == home
    assert config.chat_model.name == "smollm2" and config.chat_model.options["fallback"]
    assert config.default_backend == "auto"
    assert config.backends is None


def test_the_shipped_chat_model_knows_the_rows_that_make_sound_by_name():
    known = set(load_config().chat_model.options["backends"])
    sounding = {name for name, row in presets().items() if row.kind == "audio"}
    assert known == sounding - {"tango"}  # a word of its own, as in "a violin with tango rhythm"; "the tango backend" is understood


def test_a_file_in_loa_home_replaces_the_shipped_settings(home):
    home.mkdir()
    (home / "app.yaml").write_text("default_backend: hibari\n")
    assert load_config().default_backend == "hibari"


def test_overrides_reach_nested_fields():
    config = load_config(overrides={"chat_model.options.temperature": 0.5, "backends": ["nano"]})
    assert config.chat_model.options["temperature"] == 0.5
    assert config.backends == ["nano"]


def test_an_unknown_key_is_named_with_the_nearest_one(tmp_path):
    file = tmp_path / "app.yaml"
    file.write_text("defualt_backend: nano\n")
    with pytest.raises(ConfigError, match=r"app\.yaml: unknown key 'defualt_backend': did you mean 'default_backend'"):
        load_config(file)


def test_an_unknown_nested_key_is_compared_with_its_own_neighbours(tmp_path):
    file = tmp_path / "app.yaml"
    file.write_text("chat_model: {nmae: rules}\n")
    with pytest.raises(ConfigError, match=r"'chat_model\.nmae': did you mean 'name'\? known: name, options"):
        load_config(file)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("- a\n- b\n", "must hold 'key: value' lines, got a list"),
        ("a: [1\n", "is not YAML"),
        ("default_backend: [nano]\n", "'default_backend': .* got"),
        ("!!python/object/apply:os.system ['true']\n", "is not YAML"),
    ],
)
def test_a_wrong_file_is_refused_by_name(tmp_path, text, message):
    file = tmp_path / "wrong.yaml"
    file.write_text(text)
    with pytest.raises(ConfigError, match=rf"wrong\.yaml.*{message}"):
        load_config(file)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"gone\.yaml"):
        load_config(tmp_path / "gone.yaml")


def test_an_override_through_a_value_is_refused():
    with pytest.raises(ConfigError, match="'default_backend' holds a value"):
        load_config(overrides={"default_backend.name": "nano"})


def test_shipped_rows_state_licence_and_limits():
    rows = presets()
    assert rows["nano"].licence == "CC BY-SA 4.0"  # trained on CC BY-SA recordings
    assert rows["nano"].sample_rate == 16000
    assert rows["nano"].accepts == {"text", "image", "audio", "video", "condition"}
    assert rows["hibari"].licence == "Apache-2.0"
    assert rows["hibari"].accepts == {"transcript"}
    assert rows["hibari"].tasks == {"speech"}


def test_every_shipped_row_names_a_registered_backend():
    registered = set(schema.entries("loa.backends"))
    rows = [row for row in presets().values() if row.kind != "published"]
    assert len(rows) >= 2
    assert {row.backend for row in rows} <= registered


def test_a_users_row_is_found_and_may_replace_a_shipped_one(home):
    (home / "backends").mkdir(parents=True)
    (home / "backends" / "mine.yaml").write_text(ROW.format(name="mine"))
    (home / "backends" / "nano.yaml").write_text(ROW.format(name="nano"))
    rows = presets(home)
    assert rows["mine"].max_seconds == 2
    assert rows["nano"].licence == "CC0-1.0"
    assert "mine" not in presets()


def test_a_strangers_package_brings_its_rows_without_being_imported(tmp_path, monkeypatch):
    package = tmp_path / "stranger"
    (package / "backends").mkdir(parents=True)
    (package / "__init__.py").write_text("raise RuntimeError('imported')")
    (package / "backends" / "strange.yaml").write_text(ROW.format(name="strange"))
    monkeypatch.syspath_prepend(tmp_path)
    entry = EntryPoint(name="strange", value="stranger.model:Strange", group="loa.backends")
    monkeypatch.setattr(schema, "entries", lambda group: {"strange": entry})
    assert presets()["strange"].system == "Test"
    assert "stranger" not in sys.modules


def test_a_row_under_a_wrong_file_name_is_refused(home):
    (home / "backends").mkdir(parents=True)
    (home / "backends" / "a.yaml").write_text(ROW.format(name="b"))
    with pytest.raises(ConfigError, match=r"describes 'b': name the file b\.yaml"):
        presets(home)


def test_an_unknown_row_suggests_the_nearest():
    with pytest.raises(UnknownName, match=r"unknown backend 'nanoo': did you mean 'nano'\?"):
        preset("nanoo")


@pytest.mark.parametrize("field", ["sample_rate: 0", "max_seconds: -1", "name: '../up'", "kind: smell", "colour: red"])
def test_a_row_with_a_senseless_value_is_refused(tmp_path, field):
    key = field.partition(":")[0]
    lines = [line for line in ROW.format(name="x").splitlines() if not line.startswith(key)]
    file = tmp_path / "x.yaml"
    file.write_text("\n".join([*lines, field]))
    with pytest.raises(ConfigError, match=f"'{key}'"):
        read_yaml(file, BackendConfig)


FILE = "files: [{{path: {path}, bytes: 10, source: {source}}}]\n"


def test_a_row_names_the_files_that_it_needs(tmp_path):
    file = tmp_path / "x.yaml"
    file.write_text(ROW.format(name="x") + FILE.format(path="unet/model.safetensors", source="'someone/model@v1:unet/m.bin'"))
    row = read_yaml(file, BackendConfig)
    assert (row.files[0].path, row.files[0].bytes, row.files[0].sha256, row.folder) == ("unet/model.safetensors", 10, None, "x")


@pytest.mark.parametrize("path", ["../x", "/etc/x", "a/../../x", "a//b", ".hidden", "a\\b", "''"])
def test_a_file_outside_the_rows_folder_is_refused(tmp_path, path):
    file = tmp_path / "x.yaml"
    file.write_text(ROW.format(name="x") + FILE.format(path=path, source="a/b"))
    with pytest.raises(ConfigError, match=r"'files\.0\.path'"):
        read_yaml(file, BackendConfig)


@pytest.mark.parametrize("kind", ["audio", "published"])
def test_a_row_that_makes_sound_has_a_rate_and_a_published_one_says_why_nothing_runs(tmp_path, kind):
    file = tmp_path / "x.yaml"
    text = ROW.format(name="x") + f"kind: {kind}\n"
    file.write_text(text.replace("8000", "0" if kind == "audio" else "8000"))
    with pytest.raises(ConfigError, match="'sample_rate'" if kind == "audio" else "'notes'"):
        read_yaml(file, BackendConfig)


def test_settings_are_frozen():
    with pytest.raises(ValueError, match="frozen"):
        AppConfig().default_backend = "x"
