"""The stages `signal-input`, `signal-output` and `signal-instruct`: NExT-GPT's three, at nano's size.

1. encoding side: the input projectors learn to be read; the model names what it is shown (cross-entropy).
2. decoding side: captions to signal tokens, whose hidden states the output projector turns into the caption's text states:
   cross-entropy, the distance to those states, and optionally the error of the frozen U-Net that reads them.
3. instruction: media and words to signals; low-rank adapters join (Hu et al. 2021).

The language model, the encoders and the U-Net stay as they are. Losses are those of the authors' code.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save, save_file
from torch import Tensor, nn
from torch.nn import functional as F

from configs.registry import ConfigError
from configs.schema import SignalConfig, SignalStage
from encoders.base import Condition
from encoders.clap import AudioLabeller
from encoders.image import ImageLabeller
from encoders.signal_lm import SIGNALS, OutputProjector, SignalLM, SignalSize, config_of
from encoders.smollm import END, build, stored_tokenizer
from encoders.text import SentenceEncoder, pool
from media.audio import Audio, read_audio
from media.refs import MediaError, write_whole
from training.bridge import ridge
from training.captions import phrases
from training.data import SAMPLE_RATE, SAMPLES, SECONDS, recordings, split_of
from training.lessons import Lesson, School, plain
from training.loop import Log, Loop, averaged, save_whole, train
from training.sights import Sights
from training.staged import Staged
from training.synthesis import CLASSES

IGNORED = -100  # a token that is read and not learned
MEDIA_FITTED = 3000  # pictures and sounds that the input projectors are fitted to in closed form before the first step
SHARP = 16.0  # cosines between two texts are told apart at this scale
STAGES = ("input", "output", "instruct")
PARTS: dict[str, tuple[str, ...]] = {
    "input": ("inputs",),
    "output": ("signals", "heads", "output"),
    "instruct": ("inputs", "signals", "heads", "output", "lora"),
}
PACE = {"output": 0.15}  # of the learning rate: its closed form is a good beginning, which large steps would undo
NEEDS: dict[str, tuple[str, ...]] = {"input": (), "output": (), "instruct": ("input", "output")}


# -- losses ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Batch:
    """Lessons as tensors: ids and targets [B, L], media in reading order, and where signals stand: [S, 8] columns of [S] rows."""

    ids: Tensor
    targets: Tensor
    media: tuple[tuple[str, Tensor], ...]
    rows: Tensor
    columns: Tensor
    heard: tuple[str, ...]  # [S]

    def signalled(self, states: Tensor) -> Tensor:
        """Of rows [B, L, W] the signal tokens' states [S, 8, W], float32."""
        return states[self.rows[:, None], self.columns].float()


def batch_of(model: SignalLM, lessons: Sequence[Lesson]) -> Batch:
    """Rows padded on the right; what is learned is the answer and its end."""
    signals = list(range(model.first_signal, model.first_signal + len(SIGNALS)))
    ids, targets, rows, columns = [], [], [], []
    for row, lesson in enumerate(lessons):
        asked = model.asked(lesson.said, len(lesson.media))
        answer = signals if lesson.heard else model.ids(lesson.answer)
        if lesson.heard:
            rows.append(row)
            columns.append([len(asked) + k for k in range(len(SIGNALS))])
        ids.append([*asked, *answer, END])
        targets.append([IGNORED] * len(asked) + [*answer, END])
    media = tuple((kind, torch.from_numpy(vector)) for lesson in lessons for kind, vector in lesson.media)
    heard = tuple(lesson.heard for lesson in lessons if lesson.heard)
    places = torch.tensor(rows, dtype=torch.long), torch.tensor(columns, dtype=torch.long)
    return Batch(filled(ids, END), filled(targets, IGNORED), media, *places, heard)


def filled(lines: Sequence[Sequence[int]], fill: int) -> Tensor:
    """Lines of numbers as one table, filled up on the right."""
    longest = max(map(len, lines))
    return torch.tensor([[*line, *[fill] * (longest - len(line))] for line in lines])


def language_loss(model: SignalLM, states: Tensor, targets: Tensor) -> Tensor:
    """Mean cross-entropy of the next token over the tokens that are learned; states [B, L, W]."""
    following = targets[:, 1:]
    learned = following != IGNORED
    return F.cross_entropy(model.logits(states[:, :-1][learned]), following[learned])


def alignment_loss(made: Tensor, real: Tensor, wanted: Condition, others: Tensor | None = None) -> dict[str, Tensor]:
    """How far a condition [S, Q, D] with logits ``real`` [S, Q] is from text states.

    ``align``: the mean length of the difference over real positions (NExT-GPT's ||proj - text||), in units of the states' own length;
    ``sentence``: 1 - cosine of the pooled vectors, which GPT-2 reads; ``length``: of telling real positions; with ``others``, pooled
    unit vectors [N, D] of what else might be said, ``which``: of telling it from them and from the other rows (van den Oord et al.
    2018), and ``right``: how often it is told rightly.
    """
    mask, queries = wanted.mask, made.shape[1]
    assert mask.shape[1] == queries
    away = (made - wanted.states).norm(dim=-1) / wanted.states.norm(dim=-1).clamp(min=1e-3)
    said, meant = F.normalize(pool(Condition("t5", made, mask)), dim=-1), F.normalize(pool(wanted), dim=-1)
    told = {
        "align": away[mask].mean(),
        "sentence": (1 - (said * meant).sum(-1)).mean(),
        "length": F.binary_cross_entropy_with_logits(real, mask.float()),
    }
    if others is not None:
        wrong = torch.cat([meant, others])
        same = meant @ wrong.T > 1 - 1e-4  # the same text is no other
        scores = (said @ wrong.T).masked_fill(same, -torch.inf)
        right = (said * meant).sum(-1, keepdim=True)
        scores = torch.cat([right, scores], -1)
        told["which"] = F.cross_entropy(SHARP * scores, torch.zeros(len(said), dtype=torch.long))
        told["right"] = (scores.argmax(-1) == 0).float().mean().detach()
    return told


@torch.no_grad()
def begin(projector: OutputProjector, states: Tensor, wanted: Condition) -> float:
    """Set what training starts from, in closed form, out of the sums [S, N, inputs] that are read and what is wanted of them.

    The spread of the sums, the mean text position by position, and the linear map beside the transformer: a ridge regression of the
    rest on the mean over each row's signals, cut to the rank of the map (Izenman 1975). The transformer then reads what that map found.

    Returns: the share of the rest's variance that rows left out of the fit do not explain.
    """
    hidden = projector.in_fc.out_features
    projector.centre.copy_(states.mean((0, 1)))
    projector.spread.copy_(states.std((0, 1)) + 1e-4)
    real = wanted.mask[..., None]
    projector.places.copy_((wanted.states * real).sum(0) / real.sum(0).clamp(min=1))
    x = ((states - projector.centre) / projector.spread).mean(1)
    fit = ridge(x, ((wanted.states - projector.places) * real).flatten(1))
    centred = x - x.mean(0)
    torch.manual_seed(0)
    main = torch.svd_lowrank(centred @ fit.weight, q=min(hidden, *x.shape), niter=3)[2]
    directions = F.pad(main, (0, hidden - main.shape[1]))
    found = fit.weight @ directions
    scale = (centred @ found).std(0) + 1e-4
    projector.in_fc.weight.copy_((found / scale).T)
    projector.in_fc.bias.copy_(-(x.mean(0) @ found) / scale)
    projector.beside.weight.copy_(directions * scale)
    projector.out_fc.weight.mul_(0.1)
    projector.out_fc.bias.zero_()
    return fit.error


# -- what is read once -------------------------------------------------------------------------------------------------


class Texts:
    """Text states of what is to be heard, cut to the projector's positions; each text is read once."""

    def __init__(self, queries: int) -> None:
        self.queries, self.encoder = queries, SentenceEncoder(queries + 1)
        self.known: dict[str, Condition] = {}

    def __call__(self, texts: Sequence[str]) -> Condition:
        for text in texts:
            if text not in self.known:
                read = self.encoder.tokens([text])
                if int(read.mask.sum()) > self.queries:
                    raise ConfigError(f"'{text}' has more than {self.queries} tokens, and 'queries' is {self.queries}; make it larger")
                self.known[text] = Condition("t5", read.states[:, : self.queries], read.mask[:, : self.queries])
        rows = [self.known[text] for text in texts]
        return Condition("t5", torch.cat([r.states for r in rows]), torch.cat([r.mask for r in rows]))


def heard_clips(folder: Path | None, each: int, on_log: Log) -> dict[str, Tensor]:
    """Vectors [N, 384] of sounds by class: ``each`` procedural clips of training's seeds, and recordings of its take families.

    Args:
        folder: where ``python -m training.recordings`` put them; None: procedural clips alone.
    """
    ears, rows = AudioLabeller(), dict[str, list[Tensor]]()
    for index, (name, make) in enumerate(CLASSES.items()):
        clips = [make(np.random.default_rng([index, seed]), SECONDS)[:SAMPLES] for seed in range(each)]
        rows[name] = [ears.encode([Audio(clip[None], SAMPLE_RATE)]).states[0, 0] for clip in clips]
    taken: dict[str, int] = {}
    for row in recordings() if folder is not None else []:
        name = str(row["category"]).replace(" ", "_") if str(row["category"]).replace(" ", "_") in CLASSES else str(row["category"])
        if split_of(str(row["take"])) != "train" or taken.get(name, 0) >= each or name not in phrases():
            continue
        assert folder is not None
        try:
            sound = read_audio(folder / str(row["file"]))
        except MediaError:
            continue
        taken[name] = taken.get(name, 0) + 1
        rows.setdefault(name, []).append(ears.encode([sound]).states[0, 0])
    on_log(f"heard {sum(map(len, rows.values()))} clips of {len(rows)} sounds")
    return {name: torch.stack(vectors) for name, vectors in rows.items()}


def starting_weights(model: SignalLM, names: Sequence[str], vectors: np.ndarray) -> tuple[Tensor, Tensor]:
    """Weight and bias of a linear map that carries media [N, D] to the mean embedding of the tokens of their ``names``.

    Where training begins: a picture then already looks a little like its name. Ridge regression (training.bridge).
    """
    table = model.lm.token_embd.weight.float()
    known = {name: table[torch.tensor(model.ids(" " + name))].mean(0) for name in set(names)}
    wanted, x = torch.stack([known[name] for name in names]), torch.from_numpy(vectors)
    weight = ridge(x, wanted).weight.T
    return weight, wanted.mean(0) - weight @ x.mean(0)


# -- the stages --------------------------------------------------------------------------------------------------------


@dataclass
class SignalTraining(Staged[SignalConfig]):
    """The three stages of one recipe, and the checkpoint that they end with."""

    needs = NEEDS
    prefix = "signal-"

    @property
    def size(self) -> SignalSize:
        return SignalSize(**self.config.model.model_dump())

    def run(self, stage: str) -> dict[str, Any]:
        """Train ``input``, ``output`` or ``instruct``; ``all`` trains what is missing of the three and writes the checkpoint.

        Raises:
            ConfigError: a stage that is needed is missing, or a state of other settings lies there.
        """
        stages = [stage] if stage != "all" else list(STAGES)
        self.check(stages)
        self.check_states(stages)
        told = {"stages": self.train_missing(stages), "work": str(self.work)}
        if stage == "all":
            self.export()
        return told | ({"checkpoint": str(self.out)} if stage == "all" else {})

    def export(self) -> None:
        """``config.json`` and, last, ``model.safetensors``."""
        model = self.model("instruct")
        self.out.mkdir(parents=True, exist_ok=True)
        write_whole(self.out / "config.json", config_of(self.size, recipe=self.config.name).encode())
        write_whole(self.out / "model.safetensors", save(model.trained()))

    def loop(self, stage: str) -> Loop[SignalStage]:
        about: dict[str, object] = {"stage": stage, "model": self.config.model.model_dump(), "clips": self.config.clips}
        return Loop(self.section(stage), about, self.on_log, partial(self.on_progress, stage))

    # -- parts ---------------------------------------------------------------------------------------------------------
    @cached_property
    def school(self) -> School:
        path = self.work / "heard.safetensors"
        if not path.is_file():
            self.work.mkdir(parents=True, exist_ok=True)
            part = path.with_suffix(".part")
            save_file(heard_clips(self.config.recordings, self.config.clips, self.on_log), part)
            part.replace(path)
        heard = {name: vectors.numpy() for name, vectors in load_file(path).items()}
        return School(Sights(*self._labels), heard)

    @cached_property
    def _labels(self) -> tuple[np.ndarray, np.ndarray]:
        """Names of labels as vectors [1000, 384], and the classifier's last layer [1000, 1280]."""
        eyes, path = ImageLabeller(), self.work / "labels.pt"
        if not path.is_file():
            save_whole(torch.from_numpy(SentenceEncoder().sentences(list(eyes.names))), path)
        return torch.load(path, weights_only=True).numpy(), eyes.classifier()

    def model(self, stage: str) -> SignalLM:
        """The model as ``stage`` left it, adapter included."""
        model = self._untrained()
        if stage == "instruct":
            self._adapt(model)
        averaged(self.folder(stage), self._modules(model, PARTS[stage]), "signal")
        return model

    def _untrained(self) -> SignalLM:
        torch.manual_seed(0)
        model = SignalLM(build(self.config.cache), stored_tokenizer(self.config.cache), self.size)
        model.labels.copy_(torch.from_numpy(self._labels[0]))
        return model

    @torch.no_grad()
    def _begin_inputs(self, model: SignalLM) -> None:
        """Pictures and sounds begin as the mean embedding of what they sound like."""
        draw = np.random.default_rng(len(STAGES))
        drawn = [self.school.medium(draw) for _ in range(MEDIA_FITTED)]
        weight, bias = starting_weights(model, [plain(name) for name, _ in drawn], np.stack([v for _, (_, v) in drawn]))
        for linear in model.inputs.values():
            assert isinstance(linear, nn.Linear)
            linear.weight.copy_(weight)
            linear.bias.copy_(bias)

    def _adapt(self, model: SignalLM) -> None:
        """Adapters on the attention of the layers below the routed one: the others do not change what is heard."""
        torch.manual_seed(1)
        for name, linear in model.lm.linears():
            if ".attn_" in name and int(name.split(".")[1]) < self.size.layer:
                linear.adapt(self.config.rank)

    def _modules(self, model: SignalLM, parts: Sequence[str]) -> nn.ModuleDict:
        """What a stage trains: shares its parameters with ``model``."""
        modules: dict[str, nn.Module] = {}
        for part in parts:
            if part in ("signals", "heads"):
                modules[part] = nn.ParameterList([getattr(model, part)])
            elif part == "lora":
                pairs = [
                    p for _, linear in model.lm.linears() if linear.a is not None and linear.b is not None for p in (linear.a, linear.b)
                ]
                modules[part] = nn.ParameterList(pairs)
            else:
                modules[part] = model.get_submodule(part)
        return nn.ModuleDict(modules)

    @cached_property
    def _diffusion(self) -> Callable[[Tensor, Sequence[str], Condition, int], Tensor | None]:
        """The frozen generator's error on clips of what is to be heard; None where no row names a class alone."""
        from training.signal_diffusion import FrozenNano

        nano = FrozenNano()
        latents = nano.latents(self.config.clips)

        def loss(made: Tensor, heard: Sequence[str], wanted: Condition, number: int) -> Tensor | None:
            rows = [row for row, text in enumerate(heard) if text in latents]
            if not rows:
                return None
            clips = torch.stack([latents[heard[row]][number % len(latents[heard[row]])] for row in rows])
            return nano.loss(Condition("t5", made[rows], wanted.mask[rows]), clips, number)

        return loss

    # -- training ------------------------------------------------------------------------------------------------------
    def train(self, stage: str) -> None:
        model = self._untrained()
        model.requires_grad_(False)
        if stage == "input" and not (self.folder(stage) / "state.pt").exists():
            self._begin_inputs(model)
        if stage == "instruct":
            for earlier in ("input", "output"):
                averaged(self.folder(earlier), self._modules(model, PARTS[earlier]), "signal")
            self._adapt(model)
        config, school, top = self.section(stage), self.school, model.lm.shape.layers
        draws = {"input": school.encoding, "output": school.decoding, "instruct": school.instruction}[stage]
        texts = Texts(self.size.queries)
        others = F.normalize(pool(texts([plain(name) for name in phrases()])), dim=-1)
        diffusion = self._diffusion if config.diffusion else None

        def drawn(number: int) -> Batch:
            draw = np.random.default_rng([STAGES.index(stage), number])
            return batch_of(model, [draws(draw) for _ in range(config.batch)])

        def loss(number: int) -> dict[str, Tensor]:
            batch = drawn(number)
            routed = model.routed(model.embedded(batch.ids, batch.media))
            values, total = dict[str, Tensor](), routed.new_zeros((), dtype=torch.float32)
            if number % config.spoken_every == 0:
                spoken = max(1, int(len(routed) * config.spoken))
                states = model.normed(model.through(routed[:spoken], self.size.layer, top))
                total = values["language"] = language_loss(model, states, batch.targets[:spoken])
            if batch.heard:
                made, real = model.output(batch.signalled(routed), model.signals.expand(len(batch.heard), -1, -1))
                assert real is not None
                wanted = texts(batch.heard)
                aligned = alignment_loss(made, real, wanted, others)
                values |= aligned
                total = total + 2 * aligned["align"] + 2 * aligned["sentence"] + 0.3 * aligned["length"] + aligned["which"]
                if diffusion is not None and (denoising := diffusion(made, batch.heard, wanted, number)) is not None:
                    values["diffusion"] = denoising
                    total = total + config.diffusion * denoising
            return values | {"loss": total}

        if config.fitted and not (self.folder(stage) / "state.pt").exists():
            with torch.no_grad():
                first = [drawn(10**9 + k) for k in range(-(-config.fitted // config.batch))]  # numbers that no step has
                read = torch.cat([b.signalled(model.routed(model.embedded(b.ids, b.media))) + model.signals for b in first if b.heard])
            left = begin(model.output, read, texts([text for b in first for text in b.heard]))
            self.on_log(f"{stage}: begun with {len(read)} lessons in closed form, {left:.3f} of the variance left")
        modules = self._modules(model, PARTS[stage]).requires_grad_(True)
        groups = [{"params": list(part.parameters()), "pace": PACE.get(name, 1.0)} for name, part in modules.items()]
        train(nn.ModuleDict({"signal": modules}), loss, self.loop(stage), self.folder(stage), groups=groups)
