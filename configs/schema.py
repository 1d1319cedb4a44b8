"""The YAML that a person writes, typed, and the one way to read it.

Knows files, fields and defaults. Does not know what a backend's options mean (its own ``Options`` model does) nor
builds anything (serving/app.py does).
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from importlib.resources import files
from importlib.resources.abc import Traversable
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from configs.registry import ConfigError, UnknownName, entries, nearest

Model = TypeVar("Model", bound=BaseModel)

_MAX_BYTES = 1_000_000  # a config that a person wrote is far smaller; guards against being handed a checkpoint


class _Config(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class BackendConfig(_Config):
    """One row of ``loa models list``: a system, where it comes from and which class runs it."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9._-]{0,63}$")  # as users type it
    system: str  # as the literature calls it
    backend: str | None = None  # name in the group loa.backends; None for a row with published numbers only
    options: dict[str, Any] = Field(default_factory=dict)  # typed by the backend's own Options
    licence: str
    kind: Literal["audio", "image", "video", "published"] = "audio"
    parity: Literal["official", "library", "none"] = "none"  # whose numbers its output was compared with
    sample_rate: int = Field(gt=0)  # Hz
    max_seconds: float = Field(gt=0)
    accepts: frozenset[Literal["text", "image", "audio", "video", "condition", "transcript"]]
    tasks: frozenset[Literal["sound", "music", "speech"]]
    edits: frozenset[str] = frozenset()
    parameters: int | None = None  # trained numbers, all parts together
    notes: str = ""


class ChatModelConfig(_Config):
    """Which chat model answers: a name in the group loa.chat_models and what it is built with."""

    name: str = "rules"
    options: dict[str, Any] = Field(default_factory=dict)


def default_home() -> Path:
    """LOA_HOME, or the user's data directory; not created here."""
    given = os.environ.get("LOA_HOME")
    if given:
        return Path(given).expanduser().absolute()
    from platformdirs import user_data_path  # asked for only where LOA_HOME is unset

    return user_data_path("loa", appauthor=False)


class AppConfig(_Config):
    """The whole house. ``backends`` names the rows to offer; None offers every preset found."""

    home: Path = Field(default_factory=default_home)
    default_backend: str = "auto"
    chat_model: ChatModelConfig = ChatModelConfig()
    backends: list[str] | None = None

    @field_validator("home")
    @classmethod
    def _absolute(cls, home: Path) -> Path:
        return home.expanduser().absolute()


def load_config(path: Path | None = None, overrides: Mapping[str, Any] | None = None) -> AppConfig:
    """The app's settings from ``path`` (default: ``LOA_HOME/app.yaml`` where it exists, else the shipped one).

    Args:
        overrides: dotted field -> value, laid over the file: ``{"chat_model.name": "rules"}``.

    Raises:
        ConfigError: naming the file and the field.
    """
    if path is None:
        own = default_home() / "app.yaml"
        path_or_shipped: Path | Traversable = own if own.is_file() else files("configs") / "app.yaml"
    else:
        path_or_shipped = path
    return read_yaml(path_or_shipped, AppConfig, overrides)


def read_yaml(path: Path | Traversable, schema: type[Model], overrides: Mapping[str, Any] | None = None) -> Model:
    """The file as an instance of ``schema``, with dotted overrides laid over it.

    Raises:
        ConfigError: unreadable, not YAML, unknown key (with the nearest known one), or a wrong value.
    """
    label = str(path)
    try:
        with path.open("rb") as stream:
            raw = stream.read(_MAX_BYTES + 1)
    except OSError as error:
        raise ConfigError(f"cannot read the config {label}: {error.strerror or error}") from error
    if len(raw) > _MAX_BYTES:
        raise ConfigError(f"the config {label} is larger than {_MAX_BYTES:,} bytes: is it the right file?")
    try:
        data = yaml.safe_load(raw)
    except (yaml.YAMLError, UnicodeDecodeError, ValueError) as error:
        raise ConfigError(f"{label} is not YAML: {' '.join(str(error).split())}") from error
    data = {} if data is None else data
    if not isinstance(data, dict):
        raise ConfigError(f"{label} must hold 'key: value' lines, got a {type(data).__name__}")
    for dotted, value in (overrides or {}).items():
        _lay_over(data, dotted, value)
    return parse(data, schema, label)


def parse(data: Mapping[str, Any], schema: type[Model], label: str) -> Model:
    """``data`` as an instance of ``schema``; ``label`` says in errors where it came from.

    Raises:
        ConfigError: one line per wrong field.
    """
    try:
        return schema.model_validate(data)
    except ValidationError as error:
        raise ConfigError(f"{label}: " + "; ".join(_explain(error, schema))) from error


def _explain(error: ValidationError, schema: type[BaseModel]) -> Iterator[str]:
    for item in error.errors(include_url=False, include_context=False):
        where = ".".join(str(part) for part in item["loc"]) or "(whole)"
        if item["type"] == "extra_forbidden":
            known = _fields_at(schema, item["loc"][:-1])
            near = nearest(str(item["loc"][-1]), known)
            hint = f"did you mean '{near}'? " if near else ""
            yield f"unknown key '{where}': {hint}known: {', '.join(known)}"
        elif item["type"] == "missing":
            yield f"'{where}' is missing"
        else:
            yield f"'{where}': {item['msg']}, got {item['input']!r:.80}"


def _fields_at(schema: type[BaseModel], loc: Sequence[int | str]) -> list[str]:
    """Field names of the model that ``loc`` leads to; those of ``schema`` itself where the way is lost."""
    model = schema
    for part in loc:
        info = model.model_fields.get(str(part))
        if info is None or not (isinstance(info.annotation, type) and issubclass(info.annotation, BaseModel)):
            break
        model = info.annotation
    return sorted(model.model_fields)


def _lay_over(data: dict[str, Any], dotted: str, value: Any) -> None:
    *path, last = dotted.split(".")
    for part in path:
        below = data.setdefault(part, {})
        if not isinstance(below, dict):
            raise ConfigError(f"override '{dotted}': '{part}' holds a value, not a group of keys")
        data = below
    data[last] = value


def presets(home: Path | None = None) -> dict[str, BackendConfig]:
    """All backend rows by name: the shipped ones, those of installed packages, those in ``home/backends``.

    A later place wins, so a user's file may replace a shipped row. A package's rows lie in ``backends/*.yaml`` of
    the top-level package that its ``loa.backends`` entry point names; nothing of it is imported to find them.

    Raises:
        ConfigError: a file is wrong, or its name is not its row's name.
    """
    rows: dict[str, BackendConfig] = {}
    for place in _preset_places(home):
        for path in sorted((p for p in place.iterdir() if p.name.endswith(".yaml")), key=lambda p: p.name):
            row = read_yaml(path, BackendConfig)
            if row.name != path.name.removesuffix(".yaml"):
                raise ConfigError(f"{path} describes '{row.name}': name the file {row.name}.yaml")
            if row.kind != "published" and row.backend is None:
                raise ConfigError(f"{path}: 'backend' is missing (only rows of kind 'published' go without)")
            rows[row.name] = row
    return dict(sorted(rows.items()))


def preset(name: str, home: Path | None = None) -> BackendConfig:
    """The row called ``name``.

    Raises:
        UnknownName: with the nearest known name.
    """
    rows = presets(home)
    if name not in rows:
        raise UnknownName("backend", name, rows)
    return rows[name]


def _preset_places(home: Path | None) -> Iterator[Path | Traversable]:
    yield files("configs") / "backends"
    seen = {"generators"}  # loa's own backends; their rows are the ones above
    for entry in entries("loa.backends").values():
        package = entry.module.partition(".")[0]
        if package in seen:
            continue
        seen.add(package)
        spec = find_spec(package)
        for root in (spec.submodule_search_locations or ()) if spec else ():
            if (Path(root) / "backends").is_dir():
                yield Path(root) / "backends"
    if home is not None and (home / "backends").is_dir():
        yield home / "backends"
