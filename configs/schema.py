"""The YAML that a person writes, typed, and the one way to read it.

Knows files, fields and defaults. Does not know what a backend's options mean (its own ``Options`` model does) nor
builds anything (serving/app.py does).
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from importlib.resources import files
from importlib.resources.abc import Traversable
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from configs.registry import ConfigError, UnknownName, entries, nearest

Model = TypeVar("Model", bound=BaseModel)

_Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # libyaml's reader is ten times as fast, and as safe
_MAX_BYTES = 1_000_000  # a config that a person wrote is far smaller; guards against being handed a checkpoint


class _Config(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class WeightFile(_Config):
    """A file that a row needs, below the row's folder ``LOA_HOME/checkpoints/NAME``."""

    path: str = Field(max_length=200, pattern=r"^[\w-][\w. -]*(/[\w-][\w. -]*)*$")  # relative; no part of it begins with a dot
    whole: bool = False  # all files of the hub's own list that begin with ``path``: a folder, or a file and its parts
    bytes: int = Field(gt=0)  # exact where ``sha256`` is given; else about what its parameters take
    sha256: str | None = Field(default=None, pattern=r"^[0-9a-f]{64}$")
    # "owner/name[@revision][:path there]" on the hub, an https address of the file, or "by hand: " and where a person gets it
    source: str = Field(pattern=r"^([A-Za-z0-9][\w.-]*/[\w.-]+(@[\w.-]+)?(:[^:]+)?|https?://\S+|by hand: .+)$")
    licence: str | None = None  # None: the row's

    @property
    def estimated(self) -> bool:
        """Whether ``bytes`` is about what its parameters take, and no published size."""
        return self.sha256 is None


Accepted = Literal["text", "image", "audio", "video", "motion", "condition", "transcript"]
BRIDGE = "bridge.safetensors"  # in a row's folder


class BackendConfig(_Config):
    """One row of ``loa models list``: a system, where it comes from and which class runs it."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9._-]{0,63}$")  # as users type it
    system: str  # as the literature calls it
    backend: str | None = None  # name in the group loa.backends; None for a row with published numbers only
    options: dict[str, Any] = Field(default_factory=dict)  # typed by the backend's own Options
    licence: str
    kind: Literal["audio", "image", "video", "published"] = "audio"
    parity: Literal["official", "library", "none"] = "none"  # whose numbers its output was compared with
    sample_rate: int = Field(ge=0)  # Hz; 0 for pictures and silent videos
    max_seconds: float = Field(ge=0)  # 0 for pictures
    accepts: frozenset[Accepted]
    bridged: frozenset[Accepted] = frozenset()  # what it takes besides once a bridge (``loa train bridge``) lies in its folder
    tasks: frozenset[Literal["sound", "music", "speech"]] = frozenset()
    edits: frozenset[str] = frozenset()
    parameters: int | None = None  # trained numbers, all parts together
    files: tuple[WeightFile, ...] = ()  # what ``loa models pull`` gets; none where the weights ship with loa or a wheel
    notes: str = ""  # what a user should know: where it differs from the paper; of a published row: why, and what runs instead

    @model_validator(mode="after")
    def _is_whole(self) -> BackendConfig:
        if self.kind in ("audio", "published") and not (self.sample_rate and self.max_seconds):
            raise ValueError("'sample_rate' and 'max_seconds' of a row that makes sound are more than 0")
        if self.kind == "published" and not self.notes:
            raise ValueError("'notes' of a row with published numbers only say why nothing runs and what runs instead")
        return self

    @property
    def folder(self) -> str:
        """The row's folder below ``LOA_HOME/checkpoints``: ``options.checkpoint`` where one is given, else the row's name."""
        return str(self.options.get("checkpoint") or self.name)


class ChatModelConfig(_Config):
    """Which chat model answers: a name in the group loa.chat_models and what it is built with."""

    name: str = "rules"
    options: dict[str, Any] = Field(default_factory=dict)


def default_home() -> Path:
    """LOA_HOME, or the user's data directory; not created here."""
    given = os.environ.get("LOA_HOME")
    if given:
        return Path(given).expanduser().absolute()
    from platformdirs import user_data_path  # asked for only where LOA_HOME is unset

    return user_data_path("loa", appauthor=False)


class AppConfig(_Config):
    """The whole house. ``backends`` names the rows to offer; None offers every preset found."""

    home: Path = Field(default_factory=default_home)
    default_backend: str = "auto"
    keep_loaded: int = Field(default=2, ge=1, le=64)  # backends that may hold their weights at once; 1: one at a time
    chat_model: ChatModelConfig = ChatModelConfig()
    backends: list[str] | None = None

    @field_validator("home")
    @classmethod
    def _absolute(cls, home: Path) -> Path:
        return home.expanduser().absolute()


def load_config(path: Path | None = None, overrides: Mapping[str, Any] | None = None) -> AppConfig:
    """The app's settings from ``path`` (default: ``LOA_HOME/app.yaml`` where it exists, else the shipped one).

    Args:
        overrides: dotted field -> value, laid over the file: ``{"chat_model.name": "rules"}``.

    Raises:
        ConfigError: naming the file and the field.
    """
    if path is None:
        own = default_home() / "app.yaml"
        path_or_shipped: Path | Traversable = own if own.is_file() else files("configs") / "app.yaml"
    else:
        path_or_shipped = path
    return read_yaml(path_or_shipped, AppConfig, overrides)


def read_yaml(path: Path | Traversable, schema: type[Model], overrides: Mapping[str, Any] | None = None) -> Model:
    """The file as an instance of ``schema``, with dotted overrides laid over it.

    Raises:
        ConfigError: unreadable, not YAML, unknown key (with the nearest known one), or a wrong value.
    """
    label = str(path)
    try:
        with path.open("rb") as stream:
            raw = stream.read(_MAX_BYTES + 1)
    except OSError as error:
        raise ConfigError(f"cannot read the config {label}: {error.strerror or error}") from error
    if len(raw) > _MAX_BYTES:
        raise ConfigError(f"the config {label} is larger than {_MAX_BYTES:,} bytes: is it the right file?")
    try:
        data = yaml.load(raw, Loader=_Loader)
    except (yaml.YAMLError, UnicodeDecodeError, ValueError) as error:
        raise ConfigError(f"{label} is not YAML: {' '.join(str(error).split())}") from error
    data = {} if data is None else data
    if not isinstance(data, dict):
        raise ConfigError(f"{label} must hold 'key: value' lines, got a {type(data).__name__}")
    for dotted, value in (overrides or {}).items():
        _lay_over(data, dotted, value)
    return parse(data, schema, label)


def parse(data: Mapping[str, Any], schema: type[Model], label: str) -> Model:
    """``data`` as an instance of ``schema``; ``label`` says in errors where it came from.

    Raises:
        ConfigError: one line per wrong field.
    """
    try:
        return schema.model_validate(data)
    except ValidationError as error:
        raise ConfigError(f"{label}: " + "; ".join(_explain(error, schema))) from error


def _explain(error: ValidationError, schema: type[BaseModel]) -> Iterator[str]:
    for item in error.errors(include_url=False, include_context=False):
        where = ".".join(str(part) for part in item["loc"]) or "(whole)"
        if item["type"] == "extra_forbidden":
            known = _fields_at(schema, item["loc"][:-1])
            near = nearest(str(item["loc"][-1]), known)
            hint = f"did you mean '{near}'? " if near else ""
            yield f"unknown key '{where}': {hint}known: {', '.join(known)}"
        elif item["type"] == "missing":
            yield f"'{where}' is missing"
        else:
            yield f"'{where}': {item['msg']}, got {item['input']!r:.80}"


def _fields_at(schema: type[BaseModel], loc: Sequence[int | str]) -> list[str]:
    """Field names of the model that ``loc`` leads to; those of the last model on the way where it is lost."""
    model = schema
    for part in loc:
        info = model.model_fields.get(str(part))
        inner = (get_args(info.annotation) or [info.annotation]) if info else []  # of X | None: X
        found = next((t for t in inner if isinstance(t, type) and issubclass(t, BaseModel)), None)
        if found is None:
            break
        model = found
    return sorted(model.model_fields)


def _lay_over(data: dict[str, Any], dotted: str, value: Any) -> None:
    *path, last = dotted.split(".")
    for part in path:
        below = data.setdefault(part, {})
        if not isinstance(below, dict):
            raise ConfigError(f"override '{dotted}': '{part}' holds a value, not a group of keys")
        data = below
    data[last] = value


def presets(home: Path | None = None) -> dict[str, BackendConfig]:
    """All backend rows by name: the shipped ones, those of installed packages, those in ``home/backends``.

    A later place wins, so a user's file may replace a shipped row. A package's rows lie in ``backends/*.yaml`` of
    the top-level package that its ``loa.backends`` entry point names; nothing of it is imported to find them.

    Raises:
        ConfigError: a file is wrong, or its name is not its row's name.
    """
    rows: dict[str, BackendConfig] = {}
    for place in _preset_places(home):
        for path in sorted((p for p in place.iterdir() if p.name.endswith(".yaml")), key=lambda p: p.name):
            row = _row(path)
            rows[row.name] = row
    return dict(sorted(rows.items()))


def _row(path: Path | Traversable) -> BackendConfig:
    row = read_yaml(path, BackendConfig)
    if row.name != path.name.removesuffix(".yaml"):
        raise ConfigError(f"{path} describes '{row.name}': name the file {row.name}.yaml")
    if row.kind != "published" and row.backend is None:
        raise ConfigError(f"{path}: 'backend' is missing (only rows of kind 'published' go without)")
    return row


def preset(name: str, home: Path | None = None) -> BackendConfig:
    """The row called ``name``; only its own file is read.

    Raises:
        UnknownName: with the nearest known name.
    """
    plain = re.fullmatch(r"[a-z0-9][a-z0-9._-]*", name)
    paths = [place / f"{name}.yaml" for place in _preset_places(home)] if plain else []
    there = [path for path in paths if path.is_file()]
    if not there:
        raise UnknownName("backend", name, presets(home))
    return _row(there[-1])


def _preset_places(home: Path | None) -> Iterator[Path | Traversable]:
    yield files("configs") / "backends"
    seen = {"generators"}  # loa's own backends; their rows are the ones above
    for entry in entries("loa.backends").values():
        package = entry.module.partition(".")[0]
        if package in seen:
            continue
        seen.add(package)
        spec = find_spec(package)
        for root in (spec.submodule_search_locations or ()) if spec else ():
            if (Path(root) / "backends").is_dir():
                yield Path(root) / "backends"
    if home is not None and (home / "backends").is_dir():
        yield home / "backends"


# -- training ----------------------------------------------------------------------------------------------------------


class LoopConfig(_Config):
    """How one stage trains. ``minutes`` of training (over all resumes) or ``steps`` decide the end and the cosine decay."""

    minutes: float | None = Field(default=None, gt=0)
    steps: int | None = Field(default=None, gt=0)
    batch: int = Field(default=32, gt=0)  # rows a step and process
    lr: float = Field(default=1e-3, gt=0)
    lr_end: float = Field(default=0.02, ge=0, le=1)  # share of lr that is left at the end
    warmup_steps: int = Field(default=100, gt=0)
    weight_decay: float = Field(default=0.01, ge=0)
    betas: tuple[float, float] = (0.9, 0.99)
    clip_norm: float = Field(default=1.0, gt=0)
    ema: float = Field(default=0.999, ge=0, lt=1)
    precision: Literal["fp32", "bf16"] = "fp32"  # bf16: autocast; weights stay in fp32
    save_every_s: float = Field(default=60, gt=0)  # of training
    log_every_s: float = Field(default=10, gt=0)
    samples_every: int = Field(default=0, ge=0)  # steps between pictures of what is made; 0: none

    @model_validator(mode="after")
    def _ends(self) -> LoopConfig:
        if (self.minutes is None) == (self.steps is None):
            raise ValueError("one of 'minutes' and 'steps' says when to end; give one of them")
        return self


class AudioMaeSize(_Config):
    """Fields of ``encoders.audiomae.AudioMaeConfig``, which says what they are."""

    frames: int = 512
    bins: int = 64
    patch: int = 16
    width: int = 128
    depth: int = 6
    heads: int = 4
    averaged_blocks: int = 3
    pool: tuple[int, int] = (4, 4)
    mel_mean: float = -5.8
    mel_std: float = 3.3


class AudioMaeStage(LoopConfig):
    """(a) Self-supervised pretraining; its pooled features are the Language of Audio."""

    model: AudioMaeSize = AudioMaeSize()
    decoder_width: int = Field(default=96, gt=0)
    decoder_depth: int = Field(default=2, gt=0)


class Adversarial(_Config):
    """A critic that learns to tell what is made from what is true, and pulls the made towards the true."""

    weight: float = Field(gt=0)
    features: float = Field(default=2.0, ge=0)  # weight of matching the critic's inner features
    width: int = Field(default=32, gt=0)  # channels of the critic's first layer
    from_step: int = Field(default=0, ge=0)  # steps without it first


class VaeSize(_Config):
    """Fields of diffusers' ``AutoencoderKL``."""

    block_out_channels: tuple[int, ...] = (16, 32, 64, 96)
    layers_per_block: int = 1
    latent_channels: int = 8
    norm_num_groups: int = 8
    sample_size: int = 64


class VaeStage(LoopConfig):
    """(b) The mel autoencoder. ``decoder_only`` trains the decoder of ``start`` on and leaves its latents as they are."""

    model: VaeSize = VaeSize()
    crop: int = Field(default=128, gt=0)  # frames
    kl: float = Field(default=1e-4, ge=0)
    scales: int = Field(default=1, ge=1, le=4)  # resolutions at which reconstructions are compared, each half the one before
    adversarial: Adversarial | None = None
    start: Path | None = None  # a folder of AutoencoderKL to go on from
    decoder_only: bool = False

    @model_validator(mode="after")
    def _holds_together(self) -> VaeStage:
        if self.decoder_only and self.start is None:
            raise ValueError("'decoder_only' needs 'start', the folder of the autoencoder whose decoder is trained on")
        down = 2 ** (len(self.model.block_out_channels) - 1)
        if self.crop % down:
            raise ValueError(f"'crop' must be a multiple of {down}, which the autoencoder makes one frame of, got {self.crop}")
        return self


class VocoderSize(_Config):
    """Fields of transformers' ``SpeechT5HifiGanConfig``. The product of the rates is 160 samples, one frame."""

    upsample_initial_channel: int = 192
    upsample_rates: tuple[int, ...] = (5, 4, 2, 2, 2)
    upsample_kernel_sizes: tuple[int, ...] = (11, 8, 4, 4, 4)
    resblock_kernel_sizes: tuple[int, ...] = (3, 7)
    resblock_dilation_sizes: tuple[tuple[int, ...], ...] = ((1, 3), (1, 3))
    normalize_before: bool = True


class VocoderStage(LoopConfig):
    """(c) Mel to sound. ``decoded_clips``: draws of clips that are also fed as they come out of the autoencoder."""

    model: VocoderSize = VocoderSize()
    frames: int = Field(default=40, gt=8)  # of a crop
    decoded_clips: int = Field(default=2600, ge=0)
    adversarial: Adversarial | None = None


class TowerStage(LoopConfig):
    """(d) The contrastive audio tower beside the frozen sentence encoder."""


class WriterSize(_Config):
    """Projection and GPT-2. ``first`` and ``second`` are the widths of the two conditions (CLAP's and T5's places)."""

    tokens: int = 8
    width: int = 128
    layers: int = 4
    heads: int = 4
    positions: int = 64
    vocabulary: int = 1  # never used; the public GPT-2 has 50257
    first: int = 384
    second: int = 384


class TranslatorStage(LoopConfig):
    """(f) GPT-2 learns to write LOA."""

    model: WriterSize = WriterSize()


class UnetSize(_Config):
    """Fields of diffusers' ``AudioLDM2UNet2DConditionModel``. Per block: one attention a width, None being self-attention.

    ``in_channels`` counts the latent's channels and those of an envelope beside it (frames of mel a frame of latent, and one).
    """

    sample_size: tuple[int, int] = (64, 8)
    in_channels: int = 17
    out_channels: int = 8
    down_block_types: tuple[str, ...] = ("DownBlock2D", "DownBlock2D", "CrossAttnDownBlock2D")
    up_block_types: tuple[str, ...] = ("CrossAttnUpBlock2D", "UpBlock2D", "UpBlock2D")
    block_out_channels: tuple[int, ...] = (64, 128, 128)
    layers_per_block: int = 1
    transformer_layers_per_block: int = 1
    attention_head_dim: tuple[int, ...] = (2, 4, 4)  # diffusers' name; these are numbers of heads
    cross_attention_dim: tuple[tuple[int | None, ...], ...] = ((None, 128, 384),) * 3
    norm_num_groups: int = 16


class LatentStage(LoopConfig):
    """(e) Latent diffusion on LOA."""

    model: UnetSize = UnetSize()
    start: Path | None = None  # a folder of a U-Net without envelope to go on from


class JointStage(LoopConfig):
    """(g) GPT-2 and U-Net together through the switcher (AudioLDM 2, section III-D)."""

    true_loa_share: float = Field(default=0.25, ge=0, le=1)  # of rows; the others read what GPT-2 writes
    translator_weight: float = Field(default=1.0, ge=0)  # of GPT-2's own loss beside the diffusion loss


STAGES = ("vae", "audiomae", "translator", "tower", "latent", "joint", "vocoder")  # in the order in which `all` trains them


class TrainConfig(_Config):
    """A recipe: sizes and times of all stages. Paths that are not given lie under LOA_HOME/training."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9._-]{0,63}$")
    data: Path | None = None  # what `python -m training.data` wrote; made there where it is missing and 'recordings' is given
    recordings: Path | None = None  # what `python -m training.recordings` wrote
    soundfont: Path | None = None  # MuseScore_General_Lite.sf3; without it there is no music
    work: Path | None = None  # states of the stages
    out: Path | None = None  # the checkpoint
    device: Literal["auto", "cpu"] = "auto"
    audiomae: AudioMaeStage
    vae: VaeStage
    vocoder: VocoderStage
    tower: TowerStage
    translator: TranslatorStage
    latent: LatentStage
    joint: JointStage | None = None
    checkpoint: dict[str, Any] = Field(default_factory=dict)  # fields of loa.json that differ from nano's

    def placed(self, **given: Path | None) -> TrainConfig:
        """All folders named and absolute: those ``given``, else those of the file, else by default."""
        root = default_home() / "training"
        usual = {"data": root / "clips", "work": root / self.name, "out": root / self.name / "checkpoint"}
        chosen = {name: given.get(name) or getattr(self, name) or usual.get(name) for name in (*usual, "recordings", "soundfont")}
        return self.model_copy(update={name: path.expanduser().absolute() for name, path in chosen.items() if path is not None})


def train_config(given: str) -> TrainConfig:
    """The recipe in the file ``given``, or the shipped one of that name (``nano-cpu``).

    Raises:
        ConfigError: no such recipe, or a field is wrong.
    """
    shipped = {p.name.removesuffix(".yaml"): p for p in (files("configs") / "training").iterdir() if p.name.endswith(".yaml")}
    if given in shipped:
        return read_yaml(shipped[given], TrainConfig)
    if not given.endswith((".yaml", ".yml")):
        raise UnknownName("recipe", given, shipped)
    return read_yaml(Path(given), TrainConfig)


class BridgeConfig(_Config):
    """What `loa train bridge` reads; every folder that is not given lies under LOA_HOME/checkpoints."""

    imagebind: Path | None = None  # folder of ImageBind
    clap: Path | None = None  # folder of CLAP
    captions: Path | None = None  # one a line, thousands are better; None: what nano's classes of sound are called
    examples: Path | None = None  # pictures, videos, sounds, motions of all sorts: where each kind lies in the space, on average


def bridge_config(path: Path) -> BridgeConfig:
    """A YAML file of these fields. Raises ConfigError."""
    return read_yaml(path, BridgeConfig)


# -- studies -----------------------------------------------------------------------------------------------------------

LABEL = r"^[A-Za-z0-9][A-Za-z0-9 ._+=,()-]{0,63}$"


class StudyPrompt(_Config):
    """One thing that every backend of a study is asked for."""

    id: str = Field(pattern=r"^[A-Za-z0-9_-][A-Za-z0-9 ._+=-]{0,127}$")
    caption: str = Field(default="", max_length=4000)
    reference: str | None = None  # a true sound of it: a file, or "procedural:CLASS:SEED", which training/synthesis.py draws
    image: Path | None = None
    video: Path | None = None
    audio: Path | None = None  # a sound as part of what is asked
    transcript: str | None = Field(default=None, max_length=4000)
    loa: Path | None = None  # a stored Language of Audio (``loa generate --loa-out``), for backends with ``loa: reference``
    seconds: float | None = Field(default=None, gt=0, le=3600)  # None: the study's

    @model_validator(mode="after")
    def _asks_something(self) -> StudyPrompt:
        if not (self.caption or self.image or self.video or self.audio or self.transcript):
            raise ValueError(f"prompt '{self.id}' asks for nothing: give it a 'caption', 'transcript', 'image', 'video' or 'audio'")
        return self


class PromptTable(_Config):
    """Prompts that lie in a file: our own CSV or JSONL, or a public data set as its authors lay it out."""

    path: Path  # a file; of a data set: its table or the folder that holds it
    layout: Literal["table", "audiocaps", "musiccaps", "ljspeech", "vggsound"] = "table"
    audio: Path | None = None  # folder of the clips, the references; None: beside the table, where it is found
    split: str | None = None  # rows of this split only, where the table has several
    limit: int | None = Field(default=None, gt=0)  # so many of them, drawn by ``shuffle``; None: all
    shuffle: int = Field(default=0, ge=0)  # seed of that draw


class StudyBackend(_Config):
    """A row of ``loa models list`` with one setting. Several may stand over one row: ``name`` tells them apart."""

    name: str = Field(pattern=LABEL)
    row: str | None = None  # None: ``name``
    steps: int | None = Field(default=None, ge=1, le=1000)  # None, here and below: the backend's own default
    guidance: float | None = Field(default=None, ge=0, le=100)
    candidates: int = Field(default=1, ge=1, le=16)
    negative: str = Field(default="", max_length=4000)
    loa: Literal["own", "reference"] = "own"  # reference: made from the LOA of the prompt's ``loa`` file or true sound
    options: dict[str, Any] = Field(default_factory=dict)  # laid over those of the row: ``{loa_mode: zeros}``

    @property
    def row_name(self) -> str:
        return self.row or self.name


class StudyConfig(_Config):
    """A comparison: every prompt with every backend and every seed. The smallest form is name, prompts and backends."""

    name: str = Field(pattern=LABEL)
    about: str = ""  # a sentence or two over the report
    prompts: tuple[StudyPrompt, ...] = ()
    prompts_from: PromptTable | None = None  # instead of ``prompts``; ``prompts: FILE`` is short for it
    backends: tuple[StudyBackend, ...] = Field(min_length=1)
    seeds: tuple[int, ...] = Field(default=(0,), min_length=1)
    seconds: float = Field(default=5.12, gt=0, le=3600)
    metrics: tuple[str, ...] = ()
    protocol: dict[str, str | int | float | bool] = Field(default_factory=dict)  # said over every table, as given
    threads: int = Field(default=1, ge=1, le=256)  # of each worker: part of what decides the bytes
    rows: int = Field(default=8, ge=1, le=64)  # one batch bucket throughout (the backend's largest one up to this)
    gpus: float = Field(default=0, ge=0, le=8)  # of each Ray worker: 0.5 puts two on one card

    @model_validator(mode="before")
    @classmethod
    def _short_forms(cls, data: Any) -> Any:
        if isinstance(data, dict) and isinstance(data.get("prompts"), str | os.PathLike | dict):
            given = data["prompts"]
            data = {key: value for key, value in data.items() if key != "prompts"}
            data["prompts_from"] = given if isinstance(given, dict) else {"path": given}
        return data

    @field_validator("seeds")
    @classmethod
    def _are_seeds(cls, seeds: tuple[int, ...]) -> tuple[int, ...]:
        if any(not 0 <= seed < 2**63 for seed in seeds):
            raise ValueError("seeds run from 0 to 2^63 - 1")
        return seeds

    @model_validator(mode="after")
    def _holds_together(self) -> StudyConfig:
        if bool(self.prompts) == bool(self.prompts_from):
            raise ValueError("'prompts' names what is asked for: a list of {id, caption}, or a file; give one of the two")
        for what, names in (
            ("prompts", [prompt.id for prompt in self.prompts]),
            ("backends", [backend.name for backend in self.backends]),
            ("seeds", [str(seed) for seed in self.seeds]),
            ("metrics", list(self.metrics)),
        ):
            twice = sorted({name for name in names if names.count(name) > 1}) if len(set(names)) < len(names) else []
            if twice:
                raise ValueError(f"'{what}' holds '{twice[0]}' twice; each needs a name of its own")
        return self


def study_config(given: str) -> StudyConfig:
    """The study in the file ``given``, its paths made absolute from where it lies, or the shipped one of that name.

    Raises:
        ConfigError: no such study, or a field is wrong.
    """
    shipped = {p.name.removesuffix(".yaml"): p for p in (files("configs") / "studies").iterdir() if p.name.endswith(".yaml")}
    if given in shipped:
        return read_yaml(shipped[given], StudyConfig)
    if not given.endswith((".yaml", ".yml")):
        raise UnknownName("study", given, shipped)
    path = Path(given)
    return placed_study(read_yaml(path, StudyConfig), path.absolute().parent)


def placed_study(study: StudyConfig, root: Path) -> StudyConfig:
    """The study with every relative path taken from ``root``."""
    table = study.prompts_from
    if table is not None:
        table = table.model_copy(update={n: root / p for n in ("path", "audio") if (p := getattr(table, n)) is not None})
    prompts = tuple(placed_prompt(prompt, root) for prompt in study.prompts)
    return study.model_copy(update={"prompts": prompts, "prompts_from": table})


def placed_prompt(prompt: StudyPrompt, root: Path) -> StudyPrompt:
    """The prompt with every relative path taken from ``root``."""
    paths: dict[str, Any] = {n: root / p for n in ("image", "video", "audio", "loa") if (p := getattr(prompt, n)) is not None}
    if prompt.reference is not None and not prompt.reference.startswith("procedural:"):
        paths["reference"] = str(root / prompt.reference)
    return prompt.model_copy(update=paths)


SIGNAL_STAGES = ("signal-input", "signal-output", "signal-instruct", "signal")  # the last: all three and the checkpoint


class SignalSizes(_Config):
    """Fields of ``encoders.signal_lm.SignalSize``."""

    media: int = 384
    width: int = 576
    outputs: int = 384
    queries: int = 16
    layer: int = 4
    hidden: int = 192
    layers: int = 2
    heads: int = 4


class SignalStage(LoopConfig):
    """One of the three stages of the signal model."""

    fitted: int = Field(default=0, ge=0)  # lessons that the output projector is fitted to in closed form before the first step
    spoken: float = Field(default=1.0, gt=0, le=1)  # share of rows whose next tokens are scored: the vocabulary is large
    spoken_every: int = Field(default=1, gt=0)  # steps: the others score no tokens, which go through all layers
    diffusion: float = Field(default=0.0, ge=0)  # weight of the frozen U-Net's error on clips of what is to be heard; needs no captions


class SignalConfig(_Config):
    """What `loa train signal-…` reads. Paths that are not given lie under LOA_HOME."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9._-]{0,63}$")
    recordings: Path | None = None  # what `python -m training.recordings` wrote; None: procedural clips alone
    clips: int = Field(default=6, gt=0)  # of each sound
    work: Path | None = None
    out: Path | None = None
    cache: Path | None = None  # for the unpacked language model
    model: SignalSizes = SignalSizes()
    rank: int = Field(default=8, gt=0)  # of the adapters
    input: SignalStage
    output: SignalStage
    instruct: SignalStage

    def placed(self, **given: Path | None) -> SignalConfig:
        """All folders named and absolute: those ``given``, else those of the file, else by default."""
        root = default_home()
        work = root / "training" / self.name
        usual = {"work": work, "out": work / "checkpoint", "cache": root / "cache"}
        chosen = {name: given.get(name) or getattr(self, name) or usual.get(name) for name in (*usual, "recordings")}
        return self.model_copy(update={name: path.expanduser().absolute() for name, path in chosen.items() if path is not None})


def signal_config(given: str) -> SignalConfig:
    """The recipe in the file ``given``, or the shipped ``signal`` or ``signal-tiny``. Raises ConfigError."""
    if given in ("signal", "signal-tiny"):
        return read_yaml(files("configs") / "training" / f"{given}.yaml", SignalConfig)
    return read_yaml(Path(given), SignalConfig)
