"""What recipes of several stages share: a folder for each stage, what needs what, what is refused before anything is written.

Knows states and folders. What the stages are and how each trains is said by who inherits.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Generic, TypeVar

from configs.registry import ConfigError
from configs.schema import LoopConfig, SignalConfig, TrainConfig
from training.loop import Log, Loop, check_same, finished, quiet, settings_of

Config = TypeVar("Config", TrainConfig, SignalConfig)


@dataclass
class Staged(ABC, Generic[Config]):
    """The stages of one recipe, each with a state of its own under ``work``.

    Args:
        config: its folders are named (``placed``).
        resume: go on where a killed run stopped; without it an existing state is refused.
        on_progress: called with a stage and the share of it that is done.
    """

    config: Config
    resume: bool = False
    on_log: Log = quiet
    on_progress: Callable[[str, float], None] = lambda stage, share: None

    needs: ClassVar[Mapping[str, Sequence[str]]]  # stage -> the stages whose weights it reads
    prefix: ClassVar[str] = ""  # before the name of a stage where people and folders name it

    @property
    def work(self) -> Path:
        assert self.config.work is not None
        return self.config.work

    @property
    def out(self) -> Path:
        assert self.config.out is not None
        return self.config.out

    def folder(self, stage: str) -> Path:
        return self.work / (self.prefix + stage)

    def section(self, stage: str) -> Any:
        """What the recipe says of a stage; None where it has no such stage."""
        section: LoopConfig | None = getattr(self.config, stage)
        return section

    @abstractmethod
    def loop(self, stage: str) -> Loop[Any]:
        """How a stage is trained; its settings are compared with those of a state that is there."""

    @abstractmethod
    def train(self, stage: str) -> None:
        """Train one stage whose needs are met."""

    def check(self, stages: Sequence[str]) -> None:
        """Refuse what cannot be trained. Raises ConfigError."""
        for stage in stages:
            if self.section(stage) is None:
                raise ConfigError(f"the recipe '{self.config.name}' has no stage '{stage}'; add the section '{stage}:' to it")
            if (self.folder(stage) / "state.pt").exists() and not self.resume:
                raise ConfigError(f"{self.folder(stage)} holds a state already: go on with --resume, or give another --work folder")
            missing = [self.prefix + need for need in self.needs[stage] if need not in stages and not finished(self.folder(need))]
            if missing:
                raise ConfigError(
                    f"'{self.prefix}{stage}' needs '{missing[0]}', which {self.work} does not hold; 'loa train {missing[0]}' makes it"
                )
        source = self.config.recordings
        if source is not None and not source.is_dir():
            raise ConfigError(f"no folder {source}; 'python -m training.recordings {source}' fetches the recordings")

    def check_states(self, stages: Sequence[str]) -> None:
        """Refuse states of other settings. Raises ConfigError."""
        for stage in stages:
            if (self.folder(stage) / "state.pt").exists():
                check_same(self.folder(stage), settings_of(self.loop(stage)))

    def train_missing(self, stages: Sequence[str]) -> dict[str, Any]:
        """Train what is not finished; stage -> its summary."""
        for stage in stages:
            if not finished(self.folder(stage)):
                self.train(stage)
        return {stage: json.loads((self.folder(stage) / "done.json").read_text()) for stage in stages}
