"""NExT-GPT's way (Wu et al. 2023) at nano's size: media enter a language model as embeddings, a sound leaves it as hidden states.

A picture or a sound is one vector of its encoder, projected to the width of the language model's own embeddings. Where the model
answers with a sound it writes eight signal tokens; their last hidden states go through a small transformer with learned queries into
the condition space of the generator. No caption stands between the two. Knows vectors and tokens; no pixels, samples or generators.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional as F

from encoders.base import Condition, EncoderMissing
from encoders.smollm import END, Llama, Past, adapter_of, build, stored_tokenizer
from encoders.weights import compare, shapes_of

SIGNALS = tuple(f"<audio_{k:02d}>" for k in range(8))
SIGNAL = Path(__file__).resolve().parent.parent / "checkpoints" / "signal"
MEDIUM = -1  # stands in token ids where a projected vector goes
LONGEST = 24  # tokens of an answer in words
LABELS = 1000  # of ImageNet

Medium = tuple[str, Tensor]  # kind ("image", "audio") and vector [D]


class OutputProjector(nn.Module):
    """Hidden states of signal tokens to a condition: a transformer whose learned queries become the condition's positions.

    Parts and keys are those of NExT-GPT's TransformersProjector. There queries begin as zeros, which makes all positions alike for
    ever; here they are drawn.

    Args:
        inputs: width of the language model; ``outputs``: width of the condition; ``queries``: its length.
        masks: nano's form: it also tells which positions are real, since its texts have lengths of their own; states are brought to
            mean 0 and spread 1 first, since those of a small model hold a few huge coordinates; and a linear map stands beside the
            transformer, since that is learned in a hundredth of the time.
    """

    def __init__(
        self, inputs: int, outputs: int, queries: int, *, hidden: int = 512, layers: int = 4, heads: int = 4, masks: bool = False
    ) -> None:
        super().__init__()
        self.in_fc = nn.Linear(inputs, hidden)
        how: dict[str, Any] = {"dim_feedforward": 4 * hidden, "dropout": 0.0, "norm_first": True, "batch_first": True}
        layer = nn.TransformerEncoderLayer(hidden, heads, **how)
        encoder = nn.TransformerEncoder(
            layer, layers, nn.LayerNorm(hidden), enable_nested_tensor=False
        )  # what it warns about otherwise
        self.tfm = nn.Transformer(hidden, heads, layers, layers, custom_encoder=encoder, **how)
        self.out_fc = nn.Linear(hidden, outputs)
        self.query_embs = nn.Parameter(torch.randn(1, queries, hidden) * 0.02)
        self.real = nn.Linear(hidden, 1) if masks else None
        if masks:
            self.register_buffer("centre", torch.zeros(inputs))
            self.register_buffer("spread", torch.ones(inputs))
            self.beside = nn.Linear(hidden, queries * outputs, bias=False)
            self.places = nn.Parameter(torch.zeros(queries, outputs))  # the mean text, position by position
        self.centre: Tensor
        self.spread: Tensor

    def forward(self, states: Tensor, embeddings: Tensor) -> tuple[Tensor, Tensor | None]:
        """Last hidden states and input embeddings of signal tokens, both [B, N, inputs], to [B, queries, outputs].

        Returns also, with ``masks``, logits [B, queries] of a position being real.
        """
        states = states + embeddings
        if self.real is None:
            return self.out_fc(self._read(self.in_fc(states))), None
        within = self.in_fc((states - self.centre) / self.spread)
        read = self._read(within)
        beside = self.beside(within.mean(1)).unflatten(-1, self.places.shape)
        return self.out_fc(read) + beside + self.places, self.real(read)[..., 0]

    def _read(self, within: Tensor) -> Tensor:
        read: Tensor = self.tfm(within, self.query_embs.expand(len(within), -1, -1))
        return read


@dataclass(frozen=True)
class SignalSize:
    """Sizes of what is trained beside the language model."""

    media: int = 384  # width of the vectors of pictures and sounds
    width: int = 576  # of the language model
    outputs: int = 384  # of the condition
    queries: int = 16  # positions of the condition
    layer: int = 4  # of the language model whose hidden states are routed (NExT-GPT's ``layer_idx``); words go through all
    hidden: int = 192
    layers: int = 2
    heads: int = 4


@dataclass(frozen=True)
class Answer:
    """``text`` in words; ``states`` [1, 8, W] of the signal tokens, where the model answers with a sound."""

    text: str
    states: Tensor | None


class SignalLM(nn.Module):
    """A language model with media before it and signal tokens behind it.

    Args:
        lm: the frozen network; ``tokenizer``: its ``tokenizers.Tokenizer``.
    """

    def __init__(self, lm: Llama, tokenizer: Any, size: SignalSize = SignalSize()) -> None:
        super().__init__()
        self.size, self.tokenizer = size, tokenizer
        self.__dict__["lm"] = lm  # not a part: its weights come from elsewhere and stay as they are
        self.inputs = nn.ModuleDict({kind: nn.Linear(size.media, size.width) for kind in ("image", "audio")})
        mean = lm.token_embd.weight.float().mean(0, keepdim=True)
        # New embeddings start at the mean of the old: those that are read, and those that an answer is scored with.
        self.signals = nn.Parameter(mean.repeat(len(SIGNALS), 1))
        self.heads = nn.Parameter(mean.repeat(len(SIGNALS), 1))
        self.output = OutputProjector(
            size.width, size.outputs, size.queries, hidden=size.hidden, layers=size.layers, heads=size.heads, masks=True
        )
        # The thousand labels' names in the space of sentences: a picture is their mean, weighted by their probabilities.
        self.register_buffer("labels", torch.zeros(LABELS, size.media))
        self.labels: Tensor
        self.lm: Llama

    # -- reading ------------------------------------------------------------------------------------------------------
    @property
    def first_signal(self) -> int:
        """The id of ``<audio_00>``: signals follow the old vocabulary."""
        return self.lm.shape.vocabulary

    def asked(self, words: str, media: int) -> list[int]:
        """Token ids of a turn with ``media`` vectors before its words, up to where the answer begins."""
        start, name, end = (self.ids(part) for part in ("<|im_start|>user\n", words, "<|im_end|>\n<|im_start|>assistant\n"))
        return [*start, *([MEDIUM] * media), *name, *end]

    def seen(self, probabilities: np.ndarray) -> Medium:
        """Label probabilities [1000] of a picture as what the model reads: a vector that is the longer, the surer they are.

        ConSE (Norouzi et al. 2014).
        """
        return "image", torch.from_numpy(np.asarray(probabilities, np.float32)) @ self.labels

    def ids(self, text: str) -> list[int]:
        ids: list[int] = self.tokenizer.encode(text, add_special_tokens=False).ids
        return ids

    def embedded(self, ids: Tensor, media: Sequence[Medium]) -> Tensor:
        """Input embeddings [B, L, W] of token ids [B, L]; ``media`` fill the places of ``MEDIUM`` in reading order."""
        table = self.lm.token_embd.weight
        x = F.embedding(ids.clamp(0, self.first_signal - 1), table).float()
        written = ids >= self.first_signal
        if written.any():
            x = x.masked_scatter(written[..., None], self.signals[ids[written] - self.first_signal])
        if media:
            x = x.masked_scatter((ids == MEDIUM)[..., None], torch.stack([self.inputs[kind](vector) for kind, vector in media]))
        return x

    def hidden(self, x: Tensor, past: Past | None = None) -> tuple[Tensor, Past]:
        """Last hidden states [B, L, W] float32, after the language model's own norm."""
        states, past = self.lm.read(x.to(self.lm.token_embd.weight.dtype), past)
        return states.float(), past

    def logits(self, states: Tensor) -> Tensor:
        """[..., W] to [..., vocabulary + 8]."""
        states = states.to(self.lm.token_embd.weight.dtype)
        return torch.cat([self.lm.logits(states), F.linear(states, self.heads.to(states.dtype))], -1).float()

    # -- answering ----------------------------------------------------------------------------------------------------
    @torch.no_grad()
    def answer(self, words: str, media: Sequence[Medium] = ()) -> Answer:
        """What the model says of its own accord, greedily: words, or, from the first signal token on, a sound."""
        states, past = self.hidden(self.embedded(torch.tensor([self.asked(words, len(media))]), media))
        said: list[int] = []
        for _ in range(LONGEST):
            token = int(self.logits(states[0, -1]).argmax())
            if token == END:
                break
            if token >= self.first_signal:
                return Answer(self.tokenizer.decode(said), self.sound(words, media))
            said.append(token)
            states, past = self.hidden(self.embedded(torch.tensor([[token]]), ()), past)
        return Answer(self.tokenizer.decode(said).strip(), None)

    @torch.no_grad()
    def sound(self, words: str, media: Sequence[Medium] = ()) -> Tensor:
        """Hidden states [1, 8, W] of the signal tokens, where it is known that a sound is wanted."""
        signals = range(self.first_signal, self.first_signal + len(SIGNALS))
        ids = torch.tensor([[*self.asked(words, len(media)), *signals]])
        return self.routed(self.embedded(ids, media))[:, -len(SIGNALS) :].float()

    def routed(self, x: Tensor) -> Tensor:
        """Input embeddings [B, L, W] to the hidden states that are routed, in the language model's own type."""
        return self.through(x.to(self.lm.token_embd.weight.dtype), 0, self.size.layer)

    def normed(self, x: Tensor) -> Tensor:
        """What comes out of the last layer as ``hidden`` gives it, float32."""
        states: Tensor = self.lm.output_norm(x)
        return states.float()

    def through(self, x: Tensor, first: int, last: int) -> Tensor:
        """Only the layers from ``first`` up to ``last`` of the language model, over whole rows [B, L, W] in its own type."""
        shape = self.lm.shape
        head = shape.width // shape.heads
        frequencies = shape.base ** (-torch.arange(0, head, 2, dtype=torch.float32) / head)
        angles = torch.arange(x.shape[1], dtype=torch.float32)[:, None] * frequencies
        for layer in self.lm.blk[first:last]:
            x, _ = layer(x, angles, None)
        return x

    @torch.no_grad()
    def condition(self, states: Tensor, length: int) -> Condition:
        """Hidden states [1, 8, W] as the text states that the generator reads, [1, length, outputs], masked after the last real one."""
        made, real = self.output(states, self.signals[None])
        assert real is not None
        mask = (real > 0).long().cumprod(1).bool()
        mask[:, 0] = True
        missing = length - self.size.queries
        return Condition("t5", F.pad(made * mask[..., None], (0, 0, 0, missing)), F.pad(mask, (0, missing)))

    # -- weights ------------------------------------------------------------------------------------------------------
    def trained(self) -> dict[str, Tensor]:
        """What a checkpoint holds: projectors, signals and the language model's adapter, float16."""
        return {key: value.half().contiguous() for key, value in self.state_dict().items()} | {
            f"lm.{key}": value for key, value in adapter_of(self.lm).items()
        }


def load(folder: Path = SIGNAL, cache: Path | None = None) -> SignalLM:
    """The model of a checkpoint folder (``config.json``, ``model.safetensors``), its adapter merged.

    Raises:
        EncoderMissing: no such folder, weights that do not fit, or no language model installed.
    """
    if not (folder / "model.safetensors").is_file():
        raise EncoderMissing(f"{folder} holds no signal model; 'loa train signal --config signal' makes one")
    size = SignalSize(**json.loads((folder / "config.json").read_text())["size"])
    stored = {key: value.float() for key, value in load_file(folder / "model.safetensors").items()}
    model = SignalLM(build(cache), stored_tokenizer(cache), size)
    own = {key: value for key, value in stored.items() if not key.startswith("lm.")}
    misfit = compare(shapes_of(model), {key: tuple(value.shape) for key, value in own.items()})
    if misfit:
        raise EncoderMissing(f"{folder / 'model.safetensors'} does not fit its config.json: {misfit}")
    model.load_state_dict(own)
    adapt(model.lm, {key.removeprefix("lm."): value for key, value in stored.items() if key.startswith("lm.")})
    for _, linear in model.lm.linears():
        linear.merge()
    return model.eval().requires_grad_(False)


def adapt(lm: Llama, parts: Mapping[str, Tensor]) -> None:
    """Give the layers that ``parts`` name (``….a``, ``….b``) their low-rank parts."""
    linears = dict(lm.linears())
    for key in {key.rpartition(".")[0] for key in parts}:
        linears[key].a, linears[key].b = nn.Parameter(parts[key + ".a"]), nn.Parameter(parts[key + ".b"])


def config_of(size: SignalSize, **about: Any) -> str:
    """The text of ``config.json``."""
    return json.dumps({"size": asdict(size), **about}, indent=1) + "\n"
