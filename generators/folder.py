"""A system whose checkpoint is a folder that a library reads: where it lies, whether it fits, and where it runs.

Knows folders, hashes and devices. Does not know any network: a backend says which parts there are and calls them.
"""

from __future__ import annotations

import hashlib
import json
import re
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from generators.base import (
    Backend,
    Cancelled,
    Capabilities,
    ConfigError,
    GenerationRequest,
    OnProgress,
    Progress,
    Readiness,
    UnsupportedRequest,
)
from media.audio import Audio, fit_length

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

Shape = tuple[int, ...]

WEIGHING = {".json", ".safetensors", ".bin", ".txt", ".model"}  # suffixes of the files that decide what is made
WEIGHTS = (".safetensors", ".bin")
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


class FolderBackend(Backend):
    """Makes one sound after the other, each from its own generator, so that none can depend on a neighbour."""

    class Options(BaseModel):
        model_config = ConfigDict(extra="forbid", frozen=True)

        checkpoint: str = ""  # a folder, or a name under LOA_HOME/checkpoints; "": the row's own name
        device: str = "auto"  # "cpu", "cuda", "cuda:1", "mps"; auto: cuda where there is one
        dtype: dict[Literal["cpu", "cuda", "mps"], Precision] = {"cpu": "fp32", "cuda": "fp16", "mps": "fp32"}

    options: Options
    row_buckets: ClassVar[tuple[int, ...]] = (1, 2, 4, 8)
    libraries: ClassVar[tuple[str, ...]] = ("torch", "transformers", "numpy")
    speaks: ClassVar[bool] = False  # how long a sound is follows from its words

    # -- what a backend writes ------------------------------------------------------------------------------------
    @property
    @abstractmethod
    def limits(self) -> Limits:
        """What the row says."""

    @abstractmethod
    def lacking(self) -> list[str]:
        """Files below the folder that are needed and not there."""

    @abstractmethod
    def _make(self, request: GenerationRequest, on_step: Callable[[int, int], None]) -> np.ndarray:
        """The sound [C, T] of one request, float. Calls ``on_step(done, of)`` after each step, which may raise ``Cancelled``."""

    @abstractmethod
    def networks(self) -> dict[str, Part]:
        """The networks by name. Loads nothing."""

    # -- what can be said without torch ---------------------------------------------------------------------------
    @cached_property
    def folder(self) -> Path:
        """Where the checkpoint lies: as given, or under LOA_HOME."""
        given = Path(self.options.checkpoint or self.name).expanduser()
        return given if self.options.checkpoint and given.is_dir() else self.home / "checkpoints" / given

    @property
    def capabilities(self) -> Capabilities:
        limits = self.limits
        return Capabilities(accepts=limits.accepts, tasks=limits.tasks, max_seconds=limits.max_seconds, sample_rate=limits.sample_rate)

    def check(self, request: GenerationRequest) -> None:
        super().check(request)
        if request.candidates > 1:
            raise UnsupportedRequest(f"backend '{self.name}' cannot rank candidates; ask for one, or take a row of AudioLDM 2")

    def readiness(self) -> Readiness:
        missing = self.lacking()
        if missing:
            return Readiness(
                ready=False,
                reason=f"the weights of '{self.name}' are not here: {self.folder} lacks {', '.join(missing[:4])}"
                f"{f' and {len(missing) - 4} more' if len(missing) > 4 else ''}; 'loa models pull {self.name}' gets them",
            )
        files = self._files()
        return Readiness(ready=True, files=tuple(map(str, files)), bytes=sum(path.stat().st_size for path in files))

    def _files(self) -> list[Path]:
        return sorted(p for p in self.folder.rglob("*") if p.suffix in WEIGHING and p.is_file() and not p.name.startswith("."))

    def _json(self, name: str) -> dict[str, Any]:
        path = self.folder / name
        try:
            found = json.loads(path.read_text())
        except (OSError, ValueError) as error:
            raise ConfigError(f"{path} cannot be read as JSON ({error}); get the file again") from error
        if not isinstance(found, dict):
            raise ConfigError(f"{path} must hold an object, got a {type(found).__name__}; get the file again")
        return found

    # -- do the files fit -----------------------------------------------------------------------------------------
    def misfits(self) -> dict[str, str]:
        """By part: what keeps its files from its network; "" where they fit. Reads keys and shapes only.

        Raises:
            WeightsError: a file is missing, damaged or asks to run code.
        """
        import torch

        from encoders.weights import compare, read_shapes, shapes_of

        told = {}
        for name, part in self.networks().items():
            state = {key: torch.empty(shape, device="meta") for path in part.files for key, shape in read_shapes(path).items()}
            misfit = compare(*forgiving(part.network, shapes_of(part.convert(state))))
            told[name] = str(misfit) if misfit else ""
        return told

    def require_fit(self) -> None:
        """Raises WeightsError where a file does not fit: libraries only warn, and draw what is missing at random."""
        from encoders.weights import WeightsError

        wrong = {name: said for name, said in self.misfits().items() if said}
        if wrong:
            raise WeightsError("; ".join(f"{self.folder / name} does not fit: {said}" for name, said in wrong.items()))

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

    @cached_property
    def _weights_hash(self) -> str:
        from encoders.weights import sha256_of

        digest = hashlib.sha256()
        for path in self._files():
            digest.update(path.relative_to(self.folder).as_posix().encode() + b"\0" + bytes.fromhex(sha256_of(path)))
        return digest.hexdigest()

    def identity(self) -> dict[str, Any]:
        from importlib.metadata import version

        import torch

        return {
            "weights": self._weights_hash,
            "device": self.device,
            "dtype": self.precision,
            "threads": torch.get_num_threads(),
            "versions": {name: version(name) for name in self.libraries},
        }

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


def on_meta(kind: Any, folder: Path) -> nn.Module:
    """The network of a diffusers or transformers class as ``folder/config.json`` describes it, without any numbers in it."""
    from accelerate import init_empty_weights

    with init_empty_weights():
        if hasattr(kind, "load_config"):
            made: nn.Module = kind.from_config(kind.load_config(folder, local_files_only=True))
        else:
            made = kind(kind.config_class.from_pretrained(folder, local_files_only=True))
    return made


def forgiving(network: nn.Module, got: Mapping[str, Shape]) -> tuple[dict[str, Shape], dict[str, Shape]]:
    """Expected and found shapes, less what the library itself forgives: shared tensors stored once, and keys it says to leave alone.

    A library may also save a network under a prefix of its own (``transformer.`` around a trunk); where more fits so, it is taken off.
    """
    expected = {key: tuple(value.shape) for key, value in network.state_dict().items()}
    prefix = f"{getattr(network, 'base_model_prefix', '')}."
    if prefix != "." and not any(key.startswith(prefix) for key in expected):
        inner = {key.removeprefix(prefix): shape for key, shape in got.items() if key.startswith(prefix)}
        got = inner if inner and len(set(inner) & set(expected)) > len(set(got) & set(expected)) else got
    tied = [re.escape(key) for key in getattr(network, "all_tied_weights_keys", None) or ()]
    absent = [*tied, *(getattr(network, "_keys_to_ignore_on_load_missing", None) or ())]
    beyond = [*tied, *(getattr(network, "_keys_to_ignore_on_load_unexpected", None) or ())]
    return (
        {key: shape for key, shape in expected.items() if key in got or not any(re.search(said, key) for said in absent)},
        {key: shape for key, shape in got.items() if key in expected or not any(re.search(said, key) for said in beyond)},
    )


def shards(folder: Path) -> list[Path]:
    """The weight files of one part in diffusers' or transformers' layout, safetensors first; those of an index where there is one.

    An index names files that may be missing: the caller looks. Variants (``model.fp16.safetensors``) are left alone.
    """
    for suffix in WEIGHTS:
        index = next(iter(sorted(folder.glob(f"*{suffix}.index.json"))), None)
        if index is not None:
            try:
                named = json.loads(index.read_text())["weight_map"].values()
            except (OSError, ValueError, KeyError, AttributeError):
                return [index.with_suffix("")]  # of which the loader will say what is wrong
            return [folder / str(name) for name in sorted(set(named))]
        found = [p for p in sorted(folder.glob(f"*{suffix}")) if p.stem in ("model", "diffusion_pytorch_model", "pytorch_model")]
        if found:
            return found[:1]
    return []
