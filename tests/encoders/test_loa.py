"""GPT-2 writing LOA: the cache changes nothing, masked words are not read, teacher forcing on its own words is the free run."""

from __future__ import annotations

import pytest
import torch
from diffusers.pipelines.audioldm2.modeling_audioldm2 import AudioLDM2ProjectionModel
from transformers import GPT2Config, GPT2Model

from encoders.base import Condition
from encoders.loa import LoaWriter


@pytest.fixture(scope="module")
def writer() -> LoaWriter:
    torch.manual_seed(0)
    projection = AudioLDM2ProjectionModel(text_encoder_dim=6, text_encoder_1_dim=10, langauge_model_dim=16)
    model = GPT2Model(GPT2Config(vocab_size=2, n_embd=16, n_layer=2, n_head=2, n_positions=48, initializer_range=0.3))
    return LoaWriter(projection, model, tokens=5).eval().requires_grad_(False)


def conditions(rows: int = 1, seed: int = 0) -> tuple[Condition, Condition]:
    draw = torch.Generator().manual_seed(seed)
    first = Condition("clap", torch.randn(rows, 1, 6, generator=draw), torch.ones(rows, 1, dtype=torch.bool))
    text = torch.randn(rows, 7, 10, generator=draw)
    return first, Condition("t5", text, torch.arange(7)[None] < torch.tensor([[4], [7]])[:rows])


def test_the_prefix_wraps_each_condition_in_its_own_start_and_end(writer: LoaWriter) -> None:
    first, second = conditions()
    states, mask = writer.prefix(first, second)
    p = writer.projection
    assert states.shape == (1, 1 + 2 + 7 + 2, 16)
    assert torch.equal(states[0, 0], p.sos_embed) and torch.equal(states[0, 2], p.eos_embed)
    assert torch.equal(states[0, 3], p.sos_embed_1) and torch.equal(states[0, -1], p.eos_embed_1)
    assert torch.allclose(states[0, 1], p.projection(first.states[0, 0]), atol=1e-6)
    assert mask[0].tolist() == [1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0, 1]


def test_writing_with_a_cache_equals_recomputing_everything(writer: LoaWriter) -> None:
    first, second = conditions(2)
    states, mask = writer.prefix(first, second)
    for _ in range(5):
        hidden = writer.language_model(inputs_embeds=states, attention_mask=mask, use_cache=False).last_hidden_state
        states = torch.cat([states, hidden[:, -1:]], dim=1)
        mask = torch.cat([mask, mask.new_ones(2, 1)], dim=1)
    written = writer(first, second)
    assert written.states.shape == (2, 5, 16) and bool(written.mask.all()) and written.name == "loa"
    assert float((written.states - states[:, -5:]).abs().max()) < 1e-5
    assert float((written.states[:, 0] - written.states[:, 4]).abs().max()) > 0.1


def test_teacher_forced_on_its_own_words_equals_the_free_run(writer: LoaWriter) -> None:
    first, second = conditions(2)
    free = writer(first, second).states
    assert float((writer.teacher_forced(first, second, free) - free).abs().max()) < 1e-5


def test_teacher_forcing_reads_the_true_earlier_words_and_never_the_later_ones(writer: LoaWriter) -> None:
    first, second = conditions()
    truth = writer(first, second).states
    changed = truth.clone()
    changed[:, 2] = truth[:, 2].flip(-1)  # (a shift of all values would be lost in the layer norm)
    a, b = writer.teacher_forced(first, second, truth), writer.teacher_forced(first, second, changed)
    assert torch.allclose(a[:, :3], b[:, :3], atol=1e-6) and float((a[:, 3] - b[:, 3]).abs().max()) > 1e-3


def test_masked_words_are_not_read(writer: LoaWriter) -> None:
    first, second = conditions()
    other = second.states.clone()
    other[:, 4:] = 9.0  # the row has four real words
    assert torch.allclose(writer(first, second).states, writer(first, Condition("t5", other, second.mask)).states, atol=1e-5)
    other[:, 3] = 9.0
    assert not torch.allclose(writer(first, second).states, writer(first, Condition("t5", other, second.mask)).states, atol=1e-2)
