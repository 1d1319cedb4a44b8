"""Stage (f): the LOA translator. GPT-2 learns to write the AudioMAE features of a clip from the words for it.

AudioLDM 2 (Liu et al. 2024), section III-C: teacher forcing with mean squared error. Half of the loss lets the model feed on its
own outputs, as it must at inference, so that errors do not pile up over the eight steps.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from diffusers.pipelines.audioldm2.modeling_audioldm2 import AudioLDM2ProjectionModel
from torch import Tensor, nn
from transformers import GPT2Config, GPT2Model

from configs.schema import TranslatorStage, WriterSize
from encoders.audiomae import AudioMae
from encoders.base import Condition
from encoders.loa import LoaWriter
from encoders.text import SentenceEncoder, pool
from training.captions import framed
from training.data import MelSet
from training.loop import Loop, fit


@dataclass(frozen=True)
class CaptionBank:
    """Encoded captions of every class: ``states`` [N, 32, 384] float16, ``mask`` [N, 32], rows of each label."""

    texts: tuple[str, ...]
    states: Tensor
    mask: Tensor
    rows: dict[str, np.ndarray]

    @classmethod
    def make(
        cls, classes: dict[str, tuple[str, ...]], path: Path, framed_copies: int = 1, scenes: dict[str, tuple[str, ...]] | None = None
    ) -> CaptionBank:
        """Encode all that may be said of the labels; kept in ``path`` for the next run.

        ``classes``: class to its phrases, which also stand inside frames ("the sound of …"); ``scenes``: clip to its captions.
        """
        draw = np.random.default_rng(0)
        texts: list[str] = []
        rows: dict[str, np.ndarray] = {}
        for label, said in (classes | (scenes or {})).items():
            first = len(texts)
            for phrase in said:
                texts += dict.fromkeys([phrase] + [framed(phrase, draw) for _ in range(framed_copies if label in classes else 0)])
            rows[label] = np.arange(first, len(texts))
        if path.exists():
            kept = torch.load(path, weights_only=True)
            if kept["texts"] == texts:
                return cls(tuple(texts), kept["states"], kept["mask"], rows)
        encoded = SentenceEncoder().tokens(texts)
        states, mask = encoded.states.half(), encoded.mask
        torch.save({"texts": texts, "states": states, "mask": mask}, path)
        return cls(tuple(texts), states, mask, rows)

    def conditions(self, rows: list[int], noise: float = 0.0, generator: torch.Generator | None = None) -> tuple[Condition, Condition]:
        """(sentence [B, 1, 384], tokens [B, 32, 384]); ``noise`` is the scale of a perturbation relative to the states."""
        states, mask = self.states[rows].float(), self.mask[rows]
        if noise:
            shift = torch.randn(len(rows), 1, states.shape[2], generator=generator)  # the same for all tokens of a text
            states = states + noise * states.std() * (shift + torch.randn(states.shape, generator=generator)) / 2**0.5
        tokens = Condition("t5", states, mask)
        return Condition("clap", pool(tokens)[:, None], torch.ones(len(rows), 1, dtype=torch.bool)), tokens


def moved(condition: Condition, device: torch.device) -> Condition:
    return Condition(condition.name, condition.states.to(device), condition.mask.to(device))


def build_writer(size: WriterSize = WriterSize()) -> LoaWriter:  # noqa: B008 (frozen)
    """Projection and GPT-2; nano's have 0.9 M parameters, and the vocabulary is one unused word."""
    projection = AudioLDM2ProjectionModel(text_encoder_dim=size.first, text_encoder_1_dim=size.second, langauge_model_dim=size.width)
    for table in (projection.sos_embed, projection.eos_embed, projection.sos_embed_1, projection.eos_embed_1):
        nn.init.normal_(table, std=0.02)
    config = GPT2Config(
        vocab_size=size.vocabulary,
        bos_token_id=0,
        eos_token_id=0,
        n_embd=size.width,
        n_layer=size.layers,
        n_head=size.heads,
        n_positions=size.positions,
        attn_pdrop=0.0,
        embd_pdrop=0.0,
        resid_pdrop=0.0,
    )
    return LoaWriter(projection, GPT2Model(config), size.tokens)


@torch.no_grad()
def extract_loa(model: AudioMae, mels: np.ndarray, batch: int = 64) -> Tensor:
    """LOA [N, tokens, width] float16 of log-mels [N, frames, bins]."""
    out = []
    for at in range(0, len(mels), batch):
        mel = torch.from_numpy(np.asarray(mels[at : at + batch], np.float32))
        out.append(model(mel.to(model.cls_token.device)).half().cpu())
    return torch.cat(out)


class Writing(NamedTuple):
    """What GPT-2 wrote by itself [B, N, D], and its mean squared errors: fed with the truth, and feeding on its own outputs."""

    written: Tensor
    forced: Tensor
    free: Tensor


def write_and_compare(writer: LoaWriter, sentence: Condition, text: Condition, target: Tensor) -> Writing:
    """``target``: the true LOA [B, N, D]."""
    written = writer(sentence, text).states
    forced = (writer.teacher_forced(sentence, text, target) - target).pow(2).mean()
    return Writing(written, forced, (written - target).pow(2).mean())


def train_writer(data: MelSet, loas: list[Tensor], bank: CaptionBank, folder: Path, loop: Loop[TranslatorStage]) -> LoaWriter:
    """``loas``: for each source of ``data`` its clips' LOA [N, 8, 128]."""
    torch.manual_seed(0)
    writer = build_writer(loop.config.model)

    def draw(number: int) -> tuple[Condition, Condition, Tensor]:
        chance, generator = np.random.default_rng([number, 3]), torch.Generator().manual_seed(number)
        clips = data.draw(chance, loop.config.batch)
        rows = [int(chance.choice(bank.rows[data.sources[s].labels[i]])) for s, i in clips]
        return *bank.conditions(rows, noise=0.3, generator=generator), torch.stack([loas[s][i] for s, i in clips]).float()

    drawn = loop.ahead(draw)

    def loss(number: int) -> dict[str, Tensor]:
        sentence, text, target = drawn(number)
        said = write_and_compare(writer, moved(sentence, loop.device), moved(text, loop.device), target.to(loop.device))
        return {"loss": said.forced + said.free, "forced": said.forced, "free": said.free}

    return fit("writer", writer, loss, loop, folder)
