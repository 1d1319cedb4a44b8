"""Figures that papers printed, and what would have to be alike for ours to stand beside them.

Knows the files in configs/published and the protocol of a study. Never mixes the two: a published figure is shown beside ours only
where data set, split and the embedder's weights are the same, and then with every other difference named.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from configs.registry import ConfigError
from configs.schema import read_yaml
from evaluation.catalogue import CATALOGUE


class _Value(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)


class PublishedMetric(_Value):
    """A column. ``as``: our metric of the same formula; ``weights``: how the sha256 of its embedder's file begins, where known."""

    ours: str | None = Field(default=None, alias="as")
    weights: str | None = Field(default=None, pattern=r"^[0-9a-f]{8,64}$")
    embedder: str = ""
    better: Literal["lower", "higher", ""] = ""

    @property
    def arrow(self) -> str:
        better = CATALOGUE[self.ours].better if self.ours else self.better
        return {"lower": "↓", "higher": "↑", "": ""}[better]


class PublishedRow(_Value):
    system: str
    row: str | None = None  # of ``loa models list``
    parameters: int | None = Field(default=None, gt=0)  # as printed there
    seconds: float | None = Field(default=None, gt=0)  # of its sounds, where a row differs from the table
    figures: dict[str, float]
    plus_minus: dict[str, float] = {}


class Published(_Value):
    """One table of one source."""

    title: str
    dataset: str
    split: str
    clips: int | None = Field(default=None, gt=0)
    source: str = Field(min_length=10)
    checked: Literal["repository", "transcription"]  # read in the authors' own repository, or in somebody's notes of the paper
    protocol: dict[str, str | int | float | bool]
    notes: str = ""
    metrics: dict[str, PublishedMetric] = Field(min_length=1)
    rows: tuple[PublishedRow, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _holds_together(self) -> Published:
        for metric in self.metrics.values():
            if metric.ours is not None and metric.ours not in CATALOGUE:
                raise ValueError(f"'as: {metric.ours}' names no metric of ours")
        for row in self.rows:
            if unknown := (set(row.figures) | set(row.plus_minus)) - set(self.metrics):
                raise ValueError(f"row '{row.system}' has figures of {', '.join(sorted(unknown))}, which are no columns")
        return self


def tables() -> dict[str, Published]:
    """All published tables by the name of their file.

    Raises:
        ConfigError: a file is wrong.
    """
    found = {}
    for path in sorted((files("configs") / "published").iterdir(), key=lambda p: p.name):
        if path.name.endswith(".yaml"):
            found[path.name.removesuffix(".yaml")] = read_yaml(path, Published)
    if not found:
        raise ConfigError("configs/published holds no tables; install loa again")
    return found


@dataclass(frozen=True)
class Beside:
    """How a published table stands to a study.

    ``columns``: which of its columns our figures stand beside, published name -> ours. ``differences``: what else is not alike.
    ``apart``: why a column does not, by published name; "" under "" where the whole table may not.
    """

    columns: Mapping[str, str]
    differences: tuple[str, ...]
    apart: Mapping[str, str]


def compare(
    table: Published, protocol: Mapping[str, Any], embedders: Mapping[str, Mapping[str, Any]], metrics: Mapping[str, str | None]
) -> Beside:
    """Which columns of a published table a study's figures may stand beside, and every difference that is known.

    Args:
        protocol: of the study; ``dataset`` and ``split`` say what its prompts are.
        embedders: by name, ``weights`` (sha256 of the file) among what is told of each.
        metrics: the study's: our name -> its embedder.
    """
    differences = _differences(table, protocol)
    same = (
        str(protocol.get("dataset", "")).lower() == table.dataset.lower()
        and str(protocol.get("split", "")).lower() == table.split.lower()
    )
    columns, apart = {}, {}
    for name, metric in table.metrics.items():
        if metric.ours is None:
            apart[name] = "loa has no such metric"
        elif metric.ours not in metrics:
            apart[name] = "not measured here"
        elif not same:
            apart[name] = "another data set"
        elif metric.weights is None:
            apart[name] = "which weights its embedder had is not published"
        elif not str(embedders.get(metrics[metric.ours] or "", {}).get("weights") or "").startswith(metric.weights):
            apart[name] = "other weights of the embedder"
        else:
            columns[name] = metric.ours
    return Beside(columns, differences, apart)


def _differences(table: Published, protocol: Mapping[str, Any]) -> tuple[str, ...]:
    """Every difference in words, and what one side does not tell."""
    theirs: dict[str, Any] = {"dataset": table.dataset, "split": table.split, "clips": table.clips, **table.protocol}
    ours = dict(protocol) | {"clips": protocol.get("prompts")}
    found = []
    for key in dict.fromkeys([*theirs, "candidates", "steps", "guidance", "seeds"]):
        here, there = ours.get(key), theirs.get(key)
        if (here is None and there is None) or _said(here) == _said(there):
            continue
        found.append(f"{key.replace('_', ' ')}: {_said(there)} there, {_said(here)} here")
    return tuple(found)


def _said(value: Any) -> str:
    if value is None:
        return "not told"
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
