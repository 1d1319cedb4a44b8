"""Text-to-sound diffusion read from a folder in a system's own layout: which files, who drew the noise, which steps are run.

Knows files, requests and the denoising engine. Does not know any network: a backend says which files it needs, how words become
conditions, which U-Net reads them and how a latent becomes sound.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field

from generators.base import Capabilities, GenerationRequest, OnProgress, UnsupportedRequest
from generators.checkpoint import CheckpointBackend, Shapes, empty
from media.audio import Audio, fit_length

if TYPE_CHECKING:
    from torch import Tensor, nn

    from encoders.base import Condition

    # Part -> the network without weights, its tensors under the network's own names, and the file that holds them.
    Parts = Mapping[str, tuple[nn.Module, Mapping[str, Tensor], Path]]
    Read = Callable[[Path], dict[str, Tensor]]

SETTINGS = {".json", ".yaml", ".yml"}  # suffixes of small files that may say sizes or words
MAX_STEPS = 999  # with 1000, diffusers' and the official schedules alike begin one step outside the table


class OfficialBackend(CheckpointBackend):
    """A system whose checkpoint is a folder of official files, here for sounds from text."""

    class Options(CheckpointBackend.Options):
        steps: int | None = Field(default=None, ge=1, le=MAX_STEPS)
        guidance: float | None = Field(default=None, ge=0, le=100)

    options: Options
    row_buckets: ClassVar[tuple[int, ...]] = (1, 2, 4, 8)
    steps: ClassVar[int] = 100
    guidance: ClassVar[float] = 3.0
    sample_rate: ClassVar[int] = 16_000  # Hz
    tasks: ClassVar[frozenset[str]] = frozenset({"sound"})
    libraries: ClassVar[tuple[str, ...]] = ("torch", "diffusers", "transformers", "numpy")

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
        if request.steps is not None and request.steps > MAX_STEPS:
            raise UnsupportedRequest(f"backend '{self.name}' takes at most {MAX_STEPS} steps, got {request.steps}")

    # -- what can be said without torch ---------------------------------------------------------------------------
    def lacking(self) -> list[str]:
        return [group[0] for group in self.required if not any((self.folder / name).is_file() for name in group)]

    @property
    def weighing(self) -> list[Path]:
        """What is required, and settings beside it."""
        groups = ([self.folder / name for name in group if (self.folder / name).is_file()] for group in self.required)
        needed = [group[0] for group in groups if group]
        beside = sorted(path for path in self.folder.rglob("*") if path.suffix in SETTINGS and path.is_file())
        return needed + [path for path in beside if path not in needed]

    def compared(self) -> Iterator[tuple[str, Shapes, Shapes]]:
        from encoders.weights import shapes_of

        for name, (network, state, _) in self.matched(lambda path: empty([path])).items():
            yield name, shapes_of(network), shapes_of(state)

    def _load(self) -> None:
        from encoders.weights import load_into, read_state_dict

        networks = {}
        for name, (network, state, path) in self.matched(read_state_dict).items():
            load_into(network, state, where=f"{path} ({name})")
            networks[name] = network.eval().requires_grad_(False)
        self.assemble(networks)

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


def inner(raw: Mapping[str, Any], *path: str) -> Mapping[str, Any]:
    """The mapping at ``path`` inside nested ones; empty where there is none."""
    for name in path:
        found = raw.get(name)
        raw = found if isinstance(found, Mapping) else {}
    return raw
