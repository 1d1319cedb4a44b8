"""Media before a language model and signals behind it, with a small one at random weights."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, pre_tokenizers
from tokenizers.models import WordLevel

from encoders.signal_lm import MEDIUM, SIGNALS, OutputProjector, SignalLM, SignalSize
from encoders.smollm import Llama, Shape

WORDS = ["[UNK]", "<|im_start|>", "<|im_end|>", "user", "assistant", "a", "cat", "dog", "far", "away", "make", "sound"]
SHAPE = Shape(vocabulary=len(WORDS), width=48, inner=64, layers=4, heads=4, kv_heads=2)
SIZE = SignalSize(media=10, width=48, outputs=14, queries=6, layer=2, hidden=16, layers=1, heads=2)


def tokenizer() -> Tokenizer:
    made = Tokenizer(WordLevel({word: k for k, word in enumerate(WORDS)}, unk_token="[UNK]"))
    made.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    made.add_special_tokens(["<|im_start|>", "<|im_end|>"])
    return made


@pytest.fixture
def model() -> SignalLM:
    torch.manual_seed(0)
    lm = Llama(SHAPE).requires_grad_(False)
    for name, parameter in lm.named_parameters():
        torch.nn.init.normal_(parameter, 1.0 if "norm" in name else 0.0, 0.2)
    made = SignalLM(lm.eval(), tokenizer(), SIZE).eval()
    made.labels.copy_(torch.randn(1000, SIZE.media))
    return made


def picture(seed: int) -> tuple[str, torch.Tensor]:
    return "image", torch.from_numpy(np.random.default_rng(seed).standard_normal(SIZE.media).astype(np.float32))


def test_new_embeddings_start_at_the_mean_of_the_old(model: SignalLM) -> None:
    mean = model.lm.token_embd.weight.mean(0)
    assert len(model.signals) == len(SIGNALS) == 8
    torch.testing.assert_close(model.signals, mean.repeat(8, 1))
    torch.testing.assert_close(model.heads, mean.repeat(8, 1))


def test_a_medium_stands_before_the_words_as_its_projected_vector(model: SignalLM) -> None:
    ids = model.asked("far away", 1)
    x = model.embedded(torch.tensor([ids]), [picture(1)])[0]
    assert [WORDS[k] if k >= 0 else "?" for k in ids] == [
        "<|im_start|>", "user", "?", "far", "away", "<|im_end|>", "<|im_start|>", "assistant",
    ]  # fmt: skip
    torch.testing.assert_close(x[ids.index(MEDIUM)], model.inputs["image"](picture(1)[1]))
    torch.testing.assert_close(x[3], model.lm.token_embd.weight[WORDS.index("far")])


def test_media_of_a_batch_fill_their_places_in_reading_order(model: SignalLM) -> None:
    x = model.embedded(torch.tensor([[MEDIUM, 5], [6, MEDIUM]]), [picture(1), ("audio", picture(2)[1])])
    torch.testing.assert_close(x[0, 0], model.inputs["image"](picture(1)[1]))
    torch.testing.assert_close(x[1, 1], model.inputs["audio"](picture(2)[1]))


def test_signal_states_are_those_of_an_inner_layer_over_the_whole_turn(model: SignalLM) -> None:
    signals = list(range(model.first_signal, model.first_signal + 8))
    x = model.embedded(torch.tensor([[*model.asked("a cat", 1), *signals]]), [picture(3)])
    torch.testing.assert_close(model.sound("a cat", [picture(3)]), model.through(x, 0, 2)[:, -8:])


def test_layers_in_two_parts_are_the_whole(model: SignalLM) -> None:
    x = model.embedded(torch.tensor([model.asked("a dog", 1)]), [picture(1)])
    whole, _ = model.hidden(x)
    torch.testing.assert_close(model.normed(model.through(model.through(x, 0, 3), 3, 4)), whole, rtol=0, atol=1e-6)


def test_the_picture_and_the_words_both_reach_the_signals(model: SignalLM) -> None:
    first = model.sound("a cat", [picture(1)])
    assert float((first - model.sound("a cat", [picture(2)])).abs().max()) > 1e-3
    assert float((first - model.sound("a dog", [picture(1)])).abs().max()) > 1e-3


def test_the_model_itself_chooses_between_words_and_a_sound(model: SignalLM) -> None:
    states, _ = model.hidden(model.embedded(torch.tensor([model.asked("make", 1)]), [picture(1)]))
    last = states[0, -1]
    model.heads.data.copy_(torch.stack([last * 100, *[-last] * 7]))
    answer = model.answer("make", [picture(1)])
    assert answer.text == "" and answer.states is not None
    torch.testing.assert_close(answer.states, model.sound("make", [picture(1)]))
    model.heads.data.copy_(-100 * last.repeat(8, 1))
    with torch.no_grad():
        model.lm.token_embd.weight[WORDS.index("dog")] = last * 100  # which the turn does not hold
    spoken = model.answer("make", [picture(1)])
    assert spoken.states is None and spoken.text.startswith("dog")


def test_a_condition_is_masked_after_its_last_real_position(model: SignalLM) -> None:
    assert model.output.real is not None
    states = model.sound("a cat", [picture(1)])
    model.output.real.weight.data.zero_()
    model.output.real.bias.data.fill_(-1.0)
    none = model.condition(states, 9)
    assert none.mask.tolist() == [[True] + [False] * 8]  # something is always said
    model.output.real.bias.data.fill_(1.0)
    every = model.condition(states, 9)
    assert every.states.shape == (1, 9, SIZE.outputs) and every.mask.tolist() == [[True] * 6 + [False] * 3]
    assert float(every.states[:, 6:].abs().max()) == 0.0
    torch.testing.assert_close(none.states[:, 0], every.states[:, 0])


def test_a_picture_is_the_mean_of_its_labels(model: SignalLM) -> None:
    p = np.zeros(1000)
    p[[3, 7]] = 0.25, 0.5
    torch.testing.assert_close(model.seen(p)[1], 0.25 * model.labels[3] + 0.5 * model.labels[7])


def test_queries_that_begin_apart_give_positions_of_their_own() -> None:
    torch.manual_seed(0)
    projector = OutputProjector(12, 5, 3, hidden=8, layers=1, heads=2).requires_grad_(False)
    made, _ = projector(torch.randn(1, 8, 12), torch.randn(1, 8, 12))
    assert float((made[0, 0] - made[0, 1]).abs().max()) > 1e-4


def test_what_is_kept_of_a_model_is_what_was_trained(model: SignalLM) -> None:
    kept = model.trained()
    assert not any(key.startswith("token_embd") or "blk" in key for key in kept)
    assert {"signals", "heads", "labels", "inputs.image.weight", "output.query_embs"} <= set(kept)
    model.lm.blk[3].attn_q.adapt(2)
    assert {"lm.blk.3.attn_q.a", "lm.blk.3.attn_q.b"} <= set(model.trained())
