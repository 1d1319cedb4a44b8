"""A system whose checkpoint is a folder that a library reads: on which device it runs, in which numbers, one request after the other.

Knows devices and requests. Does not know any network: a backend says which parts there are and calls them.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from generators.base import Cancelled, Capabilities, GenerationRequest, OnProgress, Progress
from generators.checkpoint import WEIGHING, CheckpointBackend, Shapes, empty, forgiving
from media.audio import Audio, fit_length

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

Precision = Literal["fp32", "bf16", "fp16"]


class Limits(BaseModel):
    """What a system takes and gives, as its row says it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    sample_rate: int = Field(ge=0)  # Hz; 0 for pictures
    max_seconds: float = Field(gt=0)
    accepts: frozenset[str] = frozenset({"text"})
    tasks: frozenset[str]


@dataclass(frozen=True)
class Part:
    """A network on the meta device, the files that its weights lie in, and what turns their keys into its own."""

    network: nn.Module
    files: list[Path]
    convert: Callable[[dict[str, Tensor]], Mapping[str, Tensor]] = dict


class FolderBackend(CheckpointBackend):
    """Makes one sound after the other, each from its own generator, so that none can depend on a neighbour."""

    class Options(CheckpointBackend.Options):
        device: str = "auto"  # "cpu", "cuda", "cuda:1", "mps"; auto: cuda where there is one
        dtype: dict[Literal["cpu", "cuda", "mps"], Precision] = Field(default={"cpu": "fp32", "cuda": "fp16", "mps": "fp32"})

    options: Options
    row_buckets: ClassVar[tuple[int, ...]] = (1, 2, 4, 8)
    speaks: ClassVar[bool] = False  # how long a sound is follows from its words

    # -- what a backend writes ------------------------------------------------------------------------------------
    @property
    @abstractmethod
    def limits(self) -> Limits:
        """What the row says."""

    @abstractmethod
    def _make(self, request: GenerationRequest, on_step: Callable[[int, int], None]) -> np.ndarray:
        """The sound [C, T] of one request, float. Calls ``on_step(done, of)`` after each step, which may raise ``Cancelled``."""

    @abstractmethod
    def networks(self) -> dict[str, Part]:
        """The networks by name. Loads nothing."""

    @property
    def capabilities(self) -> Capabilities:
        limits = self.limits
        return Capabilities(accepts=limits.accepts, tasks=limits.tasks, max_seconds=limits.max_seconds, sample_rate=limits.sample_rate)

    @property
    def weighing(self) -> list[Path]:
        return sorted(p for p in self.folder.rglob("*") if p.suffix in WEIGHING and p.is_file() and not p.name.startswith("."))

    def compared(self) -> Iterator[tuple[str, Shapes, Shapes]]:
        from encoders.weights import shapes_of

        for name, part in self.networks().items():
            yield name, *forgiving(part.network, shapes_of(part.convert(empty(part.files))))

    def identity(self) -> dict[str, Any]:
        return super().identity() | {"device": self.device, "dtype": self.precision}

    # -- on a device ----------------------------------------------------------------------------------------------
    @cached_property
    def device(self) -> str:
        import torch

        if self.options.device != "auto":
            return self.options.device
        return "cuda" if torch.cuda.is_available() else "cpu"

    @property
    def dtype(self) -> torch.dtype:
        import torch

        named: dict[str, torch.dtype] = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
        return named[self.precision]

    @property
    def precision(self) -> Precision:
        """The numbers that the networks compute in, on the device they are on; fp32 where nothing is said."""
        chosen: Mapping[str, Precision] = {str(kind): said for kind, said in self.options.dtype.items()}
        return chosen.get(self.device.partition(":")[0], "fp32")

    # -- making sound ---------------------------------------------------------------------------------------------
    def _synthesise(
        self, requests: Sequence[GenerationRequest], rows: int, on_progress: OnProgress, cancelled: Callable[[], bool]
    ) -> list[Audio]:
        del rows  # no row sees another
        sounds = []
        for index, request in enumerate(requests):

            def on_step(done: int, of: int, index: int = index) -> None:
                if cancelled():
                    raise Cancelled
                on_progress(Progress(index * of + done, len(requests) * of))

            if cancelled():
                raise Cancelled
            made = _within(self._make(request, on_step))
            sound = Audio(made, self.limits.sample_rate)
            sounds.append(sound if self.speaks else fit_length(sound, request.seconds))
        return sounds


def _within(wave: np.ndarray) -> np.ndarray:
    """[C, T] float32 within full scale: what is louder is turned down as a whole, since clipping would add clicks."""
    made = np.atleast_2d(np.asarray(wave, np.float32))
    peak = float(np.abs(made).max(initial=0.0))
    return made * np.float32(0.98 / peak) if peak > 1.0 else made


def seeded(seed: int) -> torch.Generator:
    """The generator that all of a request's noise comes from; on the CPU, so that a card draws the same."""
    import torch

    return torch.Generator().manual_seed(seed)
