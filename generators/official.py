"""Text-to-sound diffusion read from a folder in a system's own layout: what is missing, who drew the noise, which steps are run.

Knows folders, requests and the denoising engine. Does not know any network: a backend says which files it needs, how words become
conditions, which U-Net reads them and how a latent becomes sound.
"""

from __future__ import annotations

import hashlib
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import BaseModel, ConfigDict, Field

from generators.base import Backend, Capabilities, GenerationRequest, OnProgress, Readiness, UnsupportedRequest
from media.audio import Audio, fit_length

if TYPE_CHECKING:
    from torch import Tensor, nn

    from encoders.base import Condition

    # Part -> the network without weights, its tensors under the network's own names, and the file that holds them.
    Parts = Mapping[str, tuple[nn.Module, Mapping[str, Tensor], Path]]
    Read = Callable[[Path], dict[str, Tensor]]

SETTINGS = {".json", ".yaml", ".yml"}  # suffixes of small files that may say sizes or words
MAX_STEPS = 999  # with 1000, diffusers' and the official schedules alike begin one step outside the table


class OfficialBackend(Backend):
    """A system whose checkpoint is a folder of official files, here for sounds from text."""

    class Options(BaseModel):
        model_config = ConfigDict(extra="forbid", frozen=True)

        checkpoint: str = ""  # a folder, or a name under LOA_HOME/checkpoints; "": the row's own name
        steps: int | None = Field(default=None, ge=1, le=MAX_STEPS)
        guidance: float | None = Field(default=None, ge=0, le=100)

    options: Options
    row_buckets: ClassVar[tuple[int, ...]] = (1, 2, 4, 8)
    steps: ClassVar[int] = 100
    guidance: ClassVar[float] = 3.0
    sample_rate: ClassVar[int] = 16_000  # Hz
    tasks: ClassVar[frozenset[str]] = frozenset({"sound"})

    # -- what a backend writes ------------------------------------------------------------------------------------
    @property
    @abstractmethod
    def required(self) -> tuple[tuple[str, ...], ...]:
        """Files below the folder; of each group one is enough."""

    @property
    @abstractmethod
    def max_seconds(self) -> float:
        """The longest sound."""

    @abstractmethod
    def matched(self, read: Read) -> Parts:
        """Every part beside the tensors that fill it; ``read`` gives a file's tensors, or empty ones of their shapes."""

    @abstractmethod
    def assemble(self, networks: Mapping[str, Any]) -> None:
        """Keep the filled networks, by part, and whatever else a request needs."""

    @abstractmethod
    def read_text(self, text: str) -> tuple[Condition, Condition]:
        """The two conditions [1, L, D] that the network reads, always of one length; "" gives the null condition."""

    @abstractmethod
    def noise_shape(self, seconds: float) -> tuple[int, int, int]:
        """Channels, frames and bins of the latent for a sound of that length."""

    @abstractmethod
    def scheduler(self) -> Any:
        """A fresh diffusers scheduler."""

    @abstractmethod
    def decode(self, latent: Tensor) -> Audio:
        """Latent [C, T, F] to sound at ``sample_rate``, at least as long as the one that ``noise_shape`` was asked for."""

    @property
    @abstractmethod
    def network(self) -> Any:
        """Called as ``generators.engine.denoise`` calls a U-Net."""

    # -- what can be said without torch ---------------------------------------------------------------------------
    @cached_property
    def folder(self) -> Path:
        """Where the checkpoint lies: as given, or under LOA_HOME."""
        given = Path(self.options.checkpoint or self.name).expanduser()
        return given if self.options.checkpoint and given.is_dir() else self.home / "checkpoints" / given

    @property
    def capabilities(self) -> Capabilities:
        return Capabilities(
            accepts=frozenset({"text"}),
            tasks=self.tasks,
            max_seconds=self.max_seconds,
            sample_rate=self.sample_rate,
            negative_prompt=True,
            guidance=True,
            steps=True,
        )

    def check(self, request: GenerationRequest) -> None:
        super().check(request)
        if request.candidates > 1:
            raise UnsupportedRequest(f"backend '{self.name}' cannot rank candidates; ask for one, or take a row of AudioLDM 2")
        if request.steps is not None and request.steps > MAX_STEPS:
            raise UnsupportedRequest(f"backend '{self.name}' takes at most {MAX_STEPS} steps, got {request.steps}")

    def _found(self) -> list[Path]:
        """The files that decide the sound, as far as they are here: what is required, and settings beside it."""
        groups = ([self.folder / name for name in group if (self.folder / name).is_file()] for group in self.required)
        needed = [group[0] for group in groups if group]
        beside = sorted(path for path in self.folder.rglob("*") if path.suffix in SETTINGS and path.is_file())
        return needed + [path for path in beside if path not in needed]

    def readiness(self) -> Readiness:
        missing = [group[0] for group in self.required if not any((self.folder / name).is_file() for name in group)]
        if missing:
            return Readiness(ready=False, reason=self._lacking(missing))
        files = self._found()
        return Readiness(ready=True, files=tuple(map(str, files)), bytes=sum(path.stat().st_size for path in files))

    def _lacking(self, missing: Sequence[str]) -> str:
        from configs.schema import presets

        row = presets(self.home).get(self.name)
        known = {file.path: file for file in row.files} if row else {}
        sizes = {path: f" ({_size(known[path].bytes)})" if path in known else "" for path in missing}
        return (
            f"the weights of '{self.name}' are not here: {self.folder} lacks {', '.join(path + said for path, said in sizes.items())}; "
            f"licence: {row.licence if row else 'unknown'}; run: loa models pull {self.name}"
        )

    def misfits(self) -> dict[str, str]:
        """By part: what keeps its files from its network; "" where they fit. Reads keys and shapes only.

        Raises:
            WeightsError: a file is missing, damaged or asks to run code.
        """
        import torch

        from encoders.weights import compare, read_shapes, shapes_of

        def empty(path: Path) -> dict[str, Tensor]:
            return {key: torch.empty(shape, device="meta") for key, shape in read_shapes(path).items()}

        told = {}
        for name, (network, state, _) in self.matched(empty).items():
            misfit = compare(shapes_of(network), shapes_of(state))
            told[name] = str(misfit) if misfit else ""
        return told

    def _load(self) -> None:
        from encoders.weights import load_into, read_state_dict

        networks = {}
        for name, (network, state, path) in self.matched(read_state_dict).items():
            load_into(network, state, where=f"{path} ({name})")
            networks[name] = network.eval().requires_grad_(False)
        self.assemble(networks)

    @cached_property
    def _weights_hash(self) -> str:
        from encoders.weights import sha256_of

        digest = hashlib.sha256()
        for path in self._found():
            digest.update(path.name.encode() + b"\0" + bytes.fromhex(sha256_of(path)))
        return digest.hexdigest()

    def identity(self) -> dict[str, Any]:
        from importlib.metadata import version

        import torch

        return {
            "weights": self._weights_hash,
            "dtype": "float32",
            "threads": torch.get_num_threads(),
            "versions": {name: version(name) for name in ("torch", "diffusers", "transformers", "numpy")},
        }

    # -- making sound ---------------------------------------------------------------------------------------------
    def _synthesise(
        self, requests: Sequence[GenerationRequest], rows: int, on_progress: OnProgress, cancelled: Callable[[], bool]
    ) -> list[Audio]:
        from generators.engine import denoise

        jobs = [self._job(request) for request in requests]
        latents = denoise(
            self.network, jobs, self.scheduler, rows=rows, window=None, overlap=0, on_progress=on_progress, cancelled=cancelled
        )
        # Decoded alone, so that no neighbour can change a bit of it.
        return [fit_length(self.decode(z), request.seconds) for z, request in zip(latents, requests, strict=True)]

    def _job(self, request: GenerationRequest) -> Any:
        import torch

        from generators.engine import Job

        generator = torch.Generator().manual_seed(request.seed)
        (first, second), (null_first, null_second) = self.read_text(request.prompt), self.read_text(request.negative_prompt)
        given = (request.guidance, self.options.guidance, self.guidance)
        return Job(
            noise=torch.randn(self.noise_shape(request.seconds), generator=generator),
            loa=first,
            text=second,
            null_loa=null_first,
            null_text=null_second,
            steps=request.steps or self.options.steps or self.steps,
            guidance=next(value for value in given if value is not None),
            generator=generator,
        )


def nothing() -> Condition:
    """A condition without positions [1, 0, 1], for networks that read one text only."""
    import torch

    from encoders.base import Condition

    return Condition("none", torch.zeros(1, 0, 1), torch.zeros(1, 0, dtype=torch.bool))


def _size(count: int) -> str:
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.0f} MB" if count >= 1e6 else f"{-(-count // 1000)} kB"


def inner(raw: Mapping[str, Any], *path: str) -> Mapping[str, Any]:
    """The mapping at ``path`` inside nested ones; empty where there is none."""
    for name in path:
        found = raw.get(name)
        raw = found if isinstance(found, Mapping) else {}
    return raw
