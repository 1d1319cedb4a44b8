"""Where the public embedders' files lie, and how they become networks: safely, whole, and with a clear word where they are absent.

Knows files. The networks are in ``embedders_vggish.py``, ``embedders_panns.py`` and ``embedders_passt.py``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor, nn

from configs.schema import default_home
from encoders.weights import load_into, read_state_dict, sha256_of
from evaluation.embedders import EmbedderMissing


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


def digest_of(path: Path, version: str) -> str:
    """sha256 of a file's bytes and of what is computed around them."""
    import hashlib

    return "sha256:" + hashlib.sha256(f"{sha256_of(path)} {version}".encode()).hexdigest()
