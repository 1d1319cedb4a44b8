"""A checkpoint as a folder on this disk: where it lies, what it lacks, whether its tensors fit their networks, what it is signed with.

Knows folders, keys, shapes and hashes. Does not know any network, how one is run, or who asks.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from abc import abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import BaseModel, ConfigDict

from generators.base import Backend, ConfigError, GenerationRequest, Readiness, UnknownName, UnsupportedRequest

if TYPE_CHECKING:
    from torch import Tensor, nn

    from configs.schema import BackendConfig

Shape = tuple[int, ...]
Shapes = Mapping[str, Shape]  # of tensors, by key

WEIGHING = {".json", ".safetensors", ".bin", ".txt", ".model"}  # suffixes of the files that decide what is made
WEIGHTS = (".safetensors", ".bin")
MOST = 8  # missing files that are named
# For transformers' Auto classes: unless told so, they ask on stdin whether the program text in a folder may run.
NO_CODE = {"local_files_only": True, "trust_remote_code": False}


class CheckpointBackend(Backend):
    """A system that reads a folder of its own."""

    class Options(BaseModel):
        model_config = ConfigDict(extra="forbid", frozen=True)

        checkpoint: str = ""  # a folder, or a name under LOA_HOME/checkpoints; "": the row's own name

    options: Options
    libraries: ClassVar[tuple[str, ...]] = ("torch", "transformers", "numpy")

    # -- what a backend writes ------------------------------------------------------------------------------------
    @abstractmethod
    def lacking(self) -> list[str]:
        """Files below the folder that are needed and not there."""

    @property
    @abstractmethod
    def weighing(self) -> list[Path]:
        """The files that decide what is made, in order."""

    @abstractmethod
    def compared(self) -> Iterator[tuple[str, Shapes, Shapes]]:
        """By part: the shapes that its network has, and those in the files. Loads nothing."""

    # -- what every one gets --------------------------------------------------------------------------------------
    @cached_property
    def folder(self) -> Path:
        """Where the checkpoint lies: as given, or under LOA_HOME."""
        given = Path(self.options.checkpoint or self.name).expanduser()
        return given if self.options.checkpoint and given.is_dir() else self.home / "checkpoints" / given

    def check(self, request: GenerationRequest) -> None:
        super().check(request)
        if request.candidates > 1:
            raise UnsupportedRequest(f"backend '{self.name}' cannot rank candidates; ask for one, or take a row of AudioLDM 2")

    def readiness(self) -> Readiness:
        missing = self.lacking()
        if missing:
            return Readiness(ready=False, reason=self._told(missing))
        files = self.weighing
        return Readiness(ready=True, files=tuple(map(str, files)), bytes=sum(path.stat().st_size for path in files))

    def _told(self, missing: Sequence[str]) -> str:
        """What is missing, with the sizes and the licence that the row states, and how to get it."""
        row = self._row()
        known = {file.path: file for file in row.files} if row else {}
        sizes = [path + (f" ({_size(known[path].bytes)})" if path in known else "") for path in missing[:MOST]]
        more = f" and {len(missing) - MOST} more" if len(missing) > MOST else ""
        return (
            f"the weights of '{self.name}' are not here: {self.folder} lacks {', '.join(sizes)}{more}; "
            f"licence: {row.licence if row else 'unknown'}; run: loa models pull {self.name}"
        )

    def _row(self) -> BackendConfig | None:
        """The row that this backend stands for; None where it stands for none, as in a test."""
        from configs.schema import preset

        try:
            return preset(self.name, self.home)
        except UnknownName:
            return None

    def misfits(self) -> dict[str, str]:
        """By part: what keeps its files from its network; "" where they fit. Reads keys and shapes only.

        Raises:
            WeightsError: a file is missing, damaged or asks to run code.
        """
        from encoders.weights import compare

        return {name: str(compare(expected, found) or "") for name, expected, found in self.compared()}

    def require_fit(self) -> None:
        """Raises WeightsError where a file does not fit: libraries only warn, and draw what is missing at random."""
        from encoders.weights import WeightsError

        wrong = {name: said for name, said in self.misfits().items() if said}
        if wrong:
            raise WeightsError("; ".join(f"{self.folder / name} does not fit: {said}" for name, said in wrong.items()))

    @cached_property
    def _weights_hash(self) -> str:
        from encoders.weights import sha256_of

        digest = hashlib.sha256()
        for path in self.weighing:
            digest.update(os.path.relpath(path, self.folder).encode() + b"\0" + bytes.fromhex(sha256_of(path)))
        return digest.hexdigest()

    def identity(self) -> dict[str, Any]:
        from importlib.metadata import version

        import torch

        return {
            "weights": self._weights_hash,
            "dtype": "float32",
            "threads": torch.get_num_threads(),
            "versions": {name: version(name) for name in self.libraries},
        }

    def _json(self, name: str) -> dict[str, Any]:
        path = self.folder / name
        try:
            found = json.loads(path.read_text())
        except (OSError, ValueError) as error:
            raise ConfigError(f"{path} cannot be read as JSON ({error}); get the file again") from error
        if not isinstance(found, dict):
            raise ConfigError(f"{path} must hold an object, got a {type(found).__name__}; get the file again")
        return found


def _size(count: int) -> str:
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.0f} MB" if count >= 1e6 else f"{-(-count // 1000)} kB"


# -- keys and shapes ---------------------------------------------------------------------------------------------------


def empty(files: Iterable[Path]) -> dict[str, Tensor]:
    """The tensors of weight files without their numbers. Raises WeightsError."""
    import torch

    from encoders.weights import read_shapes

    return {key: torch.empty(shape, device="meta") for path in files for key, shape in read_shapes(path).items()}


def part_shapes(kind: Any, folder: Path) -> tuple[Shapes, Shapes]:
    """The shapes of one part in diffusers' or transformers' layout: as its class and ``config.json`` say, and as in its files."""
    from encoders.weights import shapes_of

    return forgiving(on_meta(kind, folder), shapes_of(empty(shards(folder))))


def on_meta(kind: Any, folder: Path) -> nn.Module:
    """The network of a diffusers or transformers class as ``folder/config.json`` describes it, without any numbers in it."""
    from accelerate import init_empty_weights

    with init_empty_weights():
        if hasattr(kind, "load_config"):
            made: nn.Module = kind.from_config(kind.load_config(folder, local_files_only=True))
        else:
            made = kind(kind.config_class.from_pretrained(folder, local_files_only=True))
    return made


def forgiving(network: nn.Module, got: Shapes) -> tuple[Shapes, Shapes]:
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
