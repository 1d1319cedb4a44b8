"""What the public embedders share: where their files lie, how they become networks (safely, whole), and how batches are heard.

The networks and what they hear are in ``embedders_vggish.py``, ``embedders_panns.py`` and ``embedders_passt.py``.
"""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import ClassVar, Generic, TypeVar

import torch
from torch import Tensor, nn

from configs.schema import default_home
from encoders.weights import load_into, read_state_dict, sha256_of
from evaluation.embedders import EmbedderMissing, Heard, by_length
from media.audio import Audio

ROWS = 4
Net = TypeVar("Net", bound=nn.Module)


@dataclass(frozen=True)
class PublicFile:
    """A weight file that its authors published."""

    name: str  # as it is called there
    url: str
    megabytes: int
    licence: str

    def place(self, folder: str, given: Path | None) -> Path:
        """``given``, or the file in ``LOA_HOME/checkpoints/FOLDER``, as published or as .safetensors.

        Raises:
            EmbedderMissing: with file, size, licence and command.
        """
        home = default_home() / "checkpoints" / folder
        places: Sequence[Path] = [given] if given else [home / self.name, (home / self.name).with_suffix(".safetensors")]
        for path in places:
            if path.is_file():
                return path
        goal = places[0]
        raise EmbedderMissing(
            f"{goal} is missing: {self.name} has about {self.megabytes} MB, licence {self.licence}; get it with "
            f"mkdir -p '{goal.parent}' && curl -L -o '{goal}' '{self.url}'"
        )


def read_network(network: nn.Module, path: Path, ignored: Sequence[str] = ()) -> None:
    """Put a file's tensors into ``network`` and freeze it; keys that begin with one of ``ignored`` are computed here, not read.

    Raises:
        WeightsError: the file holds another network.
    """
    state: dict[str, Tensor] = {key: value for key, value in read_state_dict(path).items() if not key.startswith(tuple(ignored))}
    load_into(network, state, where=path.name)
    network.eval().requires_grad_(False)


class PublicEmbedder(ABC, Generic[Net]):
    """An embedder of one published file.

    Args:
        path: the file; None: the published name in ``LOA_HOME/checkpoints/FOLDER``.
        network: of other sizes, for a file of other sizes.
    """

    name: str
    folder: ClassVar[str]
    file: ClassVar[PublicFile]
    computed: ClassVar[tuple[str, ...]] = ()  # beginnings of the keys in the file that are computed here

    def __init__(self, path: Path | None = None, network: Net | None = None) -> None:
        self._given, self._net, self._loaded = path, network, False

    @abstractmethod
    def build(self) -> Net:
        """The network of the published sizes."""

    @abstractmethod
    def hear(self, net: Net, samples: Tensor) -> list[Heard]:
        """What the network hears in samples [B, T] at its rate."""

    @property
    def _path(self) -> Path:
        return self.file.place(self.folder, self._given)

    @cached_property
    def digest(self) -> str:
        """sha256 of the file's bytes and of the version of what is computed around them."""
        return "sha256:" + hashlib.sha256(f"{sha256_of(self._path)} {self.name}-1".encode()).hexdigest()

    @property
    def weights(self) -> str:
        """sha256 of the file, in hexadecimal."""
        return sha256_of(self._path)

    def load(self) -> Net:
        if not self._loaded:
            path = self._path
            self._net = self._net or self.build()
            read_network(self._net, path, self.computed)
            self._loaded = True
        assert self._net is not None
        return self._net

    @torch.inference_mode()
    def embed(self, sounds: Sequence[Audio]) -> list[Heard]:
        net = self.load()
        found: dict[int, Heard] = {}
        for members, batch in by_length(sounds, ROWS):
            found |= dict(zip(members, self.hear(net, torch.from_numpy(batch)), strict=False))  # what fills up is left out
        return [found[index] for index in range(len(sounds))]


def one_vector(vectors: Tensor, logits: Tensor) -> list[Heard]:
    """Of clips with one vector each: [B, D] and [B, K]."""
    rows = zip(vectors.numpy(), logits.numpy(), strict=True)
    return [Heard(vector.copy(), vector[None].copy(), classes.copy()) for vector, classes in rows]
