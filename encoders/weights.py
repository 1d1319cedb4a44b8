"""Weight files read safely, and compared with what a network expects before anything is computed with them.

Only tensors are read: safetensors, or pickles through ``weights_only=True``, where nothing in a file can run. Knows files, keys and
shapes. Does not know any network.
"""

from __future__ import annotations

import hashlib
import re
import threading
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from configs.registry import ConfigError
from media.refs import shown

PICKLES = (".pt", ".pth", ".ckpt", ".bin")
Shapes = Mapping[str, tuple[int, ...]]

_WRAPPERS = ("state_dict", "best_state", "generator", "model", "module")  # names under which training scripts put the weights
_DEEPEST = 8  # wrappers in one another; a pickle may also hold itself
_NAMED = 10  # keys that an error spells out
_guard = threading.Lock()
_digests: dict[tuple[Path, int, int], str] = {}


class WeightsError(ConfigError):
    """A weight file is missing, damaged, asks to run code, or belongs to another network."""

    exit_code = 3


class _NotRead:
    """Stands where a training script left a numpy number beside the weights; takes anything and does nothing."""

    def __init__(self, *_: object) -> None: ...

    def __setstate__(self, _: object) -> None: ...


# LAION's CLAP files hold such numbers (the best score so far). numpy's own functions are not called for them.
_HARMLESS: list[Any] = [
    (_NotRead, f"numpy{name}")
    for name in (".core.multiarray.scalar", "._core.multiarray.scalar", ".dtype", ".dtypes.Float64DType", ".dtypes.Int64DType")
]


def read_state_dict(path: Path) -> dict[str, Tensor]:
    """The tensors of a ``.safetensors``, ``.pt``, ``.pth``, ``.ckpt`` or ``.bin`` file on the CPU, in the file's own types.

    What a training script wrapped around them (``state_dict``, ``generator``, ``best_state``, …) and the prefix ``module.`` of parallel
    training are taken off. Pickles are mapped into memory, so that what is not used is not read.

    Raises:
        WeightsError: no such file, an unknown suffix, damaged, no tensors inside, or a pickle that asks for more than tensors.
    """
    return _tensors(path, "cpu")


def read_shapes(path: Path) -> dict[str, tuple[int, ...]]:
    """The shapes of what ``read_state_dict`` gives, without reading the values. Raises as it does."""
    if path.suffix == ".safetensors":
        from safetensors import safe_open

        _require(path)
        try:
            with safe_open(path, framework="pt") as file:
                return {key: tuple(file.get_slice(key).get_shape()) for key in file.keys()}  # noqa: SIM118 (not a dict)
        except Exception as error:
            raise _damaged(path, error) from None
    return shapes_of(_tensors(path, "meta"))


def shapes_of(source: nn.Module | Mapping[str, Tensor]) -> dict[str, tuple[int, ...]]:
    """Key to shape, of a network (it may lie on the meta device) or of tensors."""
    state = source.state_dict() if isinstance(source, nn.Module) else source
    return {key: tuple(value.shape) for key, value in state.items()}


@dataclass(frozen=True)
class Misfit:
    """What keeps a file's tensors from a network; ``wrong`` holds (key, expected shape, got shape)."""

    missing: tuple[str, ...]
    extra: tuple[str, ...]
    wrong: tuple[tuple[str, tuple[int, ...], tuple[int, ...]], ...]
    cause: str

    def __bool__(self) -> bool:
        return bool(self.missing or self.extra or self.wrong)

    def __str__(self) -> str:
        """One line: the likely cause, then the first ten of each kind and how many more."""
        differs = [f"{shown(key)} is {list(got)} instead of {list(expected)}" for key, expected, got in self.wrong]
        parts = [
            _listed("wrong shape", differs),
            _listed("missing", [shown(key) for key in self.missing]),
            _listed("not expected", [shown(key) for key in self.extra]),
        ]
        return f"{self.cause}; {'; '.join(part for part in parts if part)}" if self else "everything fits"


def compare(expected: Shapes, got: Shapes) -> Misfit:
    """Compare the shapes that a network expects with those of a file.

    ``*.embeddings.position_ids`` are counted 0, 1, 2, … by the network itself: whether a file holds them depends on the version of
    transformers that wrote it, so that they neither miss nor are too many.
    """
    missing = tuple(key for key in expected if key not in got and not _counted(key))
    extra = tuple(key for key in got if key not in expected and not _counted(key))
    wrong = tuple((key, expected[key], got[key]) for key in expected if key in got and tuple(expected[key]) != tuple(got[key]))
    return Misfit(missing, extra, wrong, _cause(expected, missing, extra, wrong))


def load_into(module: nn.Module, state: Mapping[str, Tensor], *, where: str, prefix: str = "") -> None:
    """Put ``state`` into ``module``, all of it or nothing.

    Args:
        state: as ``read_state_dict`` gives it. A network on the meta device takes the tensors over, in its own types; any other one
            copies their values.
        where: what the error names: the file, or the file and the part of it.
        prefix: the part of ``state`` that is meant, for instance ``"cond_stage_models.1.model."``; the other keys are left alone.

    Raises:
        WeightsError: missing, extra or wrong-shaped keys, with the likely cause.
    """
    part = {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}
    own = module.state_dict()
    if misfit := compare(shapes_of(own), shapes_of(part)):
        under = f" under '{prefix}'" if prefix else ""
        raise WeightsError(f"{where} does not fit{under}: {misfit}")
    empty = any(tensor.is_meta for tensor in own.values())
    taken = {key: part[key].to(own[key].dtype) if empty else part[key] for key in own if key in part}
    module.load_state_dict(taken, strict=False, assign=empty)


def sha256_of(path: Path) -> str:
    """The sha256 of a file in hexadecimal, computed once a process while the file stays as it is."""
    stat = path.stat()
    key = (path, stat.st_mtime_ns, stat.st_size)
    if key not in _digests:
        with open(path, "rb") as handle:
            _digests[key] = hashlib.file_digest(handle, "sha256").hexdigest()
    return _digests[key]


def _tensors(path: Path, device: str) -> dict[str, Tensor]:
    _require(path)
    try:
        content = _unpickled(path, device) if path.suffix in PICKLES else _safe(path)
    except Exception as error:
        raise _damaged(path, error) from None
    state = _unwrapped(content)
    if not state:
        raise WeightsError(f"{shown(path)} holds no tensors by name; give the file of weights that the model's page names")
    return state


def _require(path: Path) -> None:
    if path.suffix not in (".safetensors", *PICKLES):
        raise WeightsError(f"'{shown(path)}' is no weight file by its name; known are .safetensors, {', '.join(PICKLES)}")
    if not path.is_file():
        raise WeightsError(f"there is no file {path}; put the weights there")


def _safe(path: Path) -> dict[str, Tensor]:
    from safetensors.torch import load_file

    return load_file(path)


def _unpickled(path: Path, device: str) -> object:
    from zipfile import is_zipfile

    with _guard, torch.serialization.safe_globals(_HARMLESS), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about the dialect of a pickle
        return torch.load(path, map_location=device, weights_only=True, mmap=is_zipfile(path) and device == "cpu")


def _damaged(path: Path, error: Exception) -> WeightsError:
    asked = re.search(r"GLOBAL ([\w.]+)", str(error))  # torch's word for what a pickle wants to import
    if asked:
        return WeightsError(
            f"{shown(path)} asks for {shown(asked[1])}, which weights have no need of; it was not loaded and nothing of it ran. "
            "Take the file from the model's own page, as .safetensors if there is one"
        )
    return WeightsError(f"{shown(path)} cannot be read as weights ({type(error).__name__}); it is damaged or cut: get it again")


def _unwrapped(content: object) -> dict[str, Tensor]:
    """The named tensors inside whatever a training script saved."""
    for _ in range(_DEEPEST):
        if not isinstance(content, Mapping):
            return {}
        inner = next((content[name] for name in _WRAPPERS if isinstance(content.get(name), Mapping)), None)
        if inner is None:
            break
        content = inner
    else:
        return {}
    state = {key: value for key, value in content.items() if isinstance(key, str) and isinstance(value, Tensor)}
    if state and all(key.startswith("module.") for key in state):
        state = {key.removeprefix("module."): value for key, value in state.items()}
    return {key: value.detach() for key, value in state.items()}


def _counted(key: str) -> bool:
    return f".{key}".endswith(".embeddings.position_ids")


def _listed(what: str, named: list[str]) -> str:
    more = f" and {len(named) - _NAMED} more" if len(named) > _NAMED else ""
    return f"{what} ({len(named)}): {', '.join(named[:_NAMED])}{more}" if named else ""


def _cause(expected: Shapes, missing: tuple[str, ...], extra: tuple[str, ...], wrong: tuple[Any, ...]) -> str:
    """What most likely happened, in words."""
    if missing and extra:
        if (prefix := _prefix(missing, extra)) is not None:
            return f"the file's keys carry the prefix '{shown(prefix)}': it holds this network inside a larger one"
        if (prefix := _prefix(extra, missing)) is not None:
            return f"the file's keys lack the prefix '{shown(prefix)}': it holds a part of this network"
        if len(missing) == len(expected):
            return "the file belongs to another model or layout"
        return "the file belongs to another version or size of this model"
    if wrong:
        return "the file belongs to another size of this model"
    return "the file is incomplete" if missing else "the file holds more than this model: another version, or a larger one"


def _prefix(short: Iterable[str], long: Iterable[str]) -> str | None:
    """What stands before every key of ``short`` in ``long``, if there is one such thing."""
    names = list(short)
    before = {key[: -len(names[0])] for key in long if key.endswith("." + names[0])}
    held = set(long)
    return next((p for p in sorted(before, key=len) if all(p + name in held for name in names)), None)
