"""The sentence encoder: a text's states are its own, and nearness is nearness in meaning."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from encoders.text import SentenceEncoder, pool


@pytest.fixture(scope="module")
def text() -> SentenceEncoder:
    return SentenceEncoder()


@pytest.mark.parametrize(
    ("a", "near", "far"),
    [
        ("a dog barking", "a puppy yapping", "techno music"),
        ("rain on a roof", "a downpour outside", "a cat purring"),
        ("an ambulance passes", "a siren", "birds in the morning"),
    ],
)
def test_paraphrases_are_nearer_than_other_sounds(text: SentenceEncoder, a: str, near: str, far: str) -> None:
    x, y, z = text.sentences([a, near, far])
    assert float(x @ y) > float(x @ z) + 0.1


def test_known_cosines_of_the_published_model(text: SentenceEncoder) -> None:
    same, other, opposite = text.sentences(["That is a happy person", "That is a very happy person", "Today is a sunny day"])
    assert float(same @ other) == pytest.approx(0.943, abs=0.002)  # the model's own page, computed by sentence-transformers
    assert float(same @ opposite) == pytest.approx(0.257, abs=0.002)


def test_a_text_does_not_depend_on_how_far_it_is_padded(text: SentenceEncoder) -> None:
    short, long = SentenceEncoder(8), text
    a, b = short.tokens(["a dog barks"]), long.tokens(["a dog barks"])
    real = int(a.mask.sum())
    assert real == int(b.mask.sum()) == 6 and a.states.shape == (1, 8, 384) and b.states.shape == (1, 32, 384)
    assert torch.allclose(a.states[:, :real], b.states[:, :real], atol=1e-5)
    assert np.allclose(short.sentences(["a dog barks"]), long.sentences(["a dog barks"]), atol=1e-6)


def test_sentences_have_unit_length_and_are_the_masked_mean(text: SentenceEncoder) -> None:
    tokens = text.tokens(["rain", "heavy rain on a tin roof at night"])
    assert np.allclose(np.linalg.norm(pool(tokens).numpy(), axis=1), 1, atol=1e-6)
    by_hand = tokens.states[0, tokens.mask[0]].mean(0)
    assert torch.allclose(pool(tokens)[0], by_hand / by_hand.norm(), atol=1e-6)


def test_a_long_text_is_cut(text: SentenceEncoder) -> None:
    long = text.tokens(["bark " * 200])
    assert long.states.shape == (1, 32, 384) and bool(long.mask.all())


def test_the_empty_text_is_finite(text: SentenceEncoder) -> None:
    vector = text.sentences([""])
    assert np.isfinite(vector).all() and np.linalg.norm(vector) == pytest.approx(1, abs=1e-5)


@pytest.mark.slow
def test_its_states_are_those_of_transformers_bit_for_bit(text: SentenceEncoder) -> None:
    from transformers import BertModel, BertTokenizer

    from encoders.base import packaged_file
    from encoders.text import PACKAGE

    folder = packaged_file(PACKAGE, "model", "model.safetensors").parent
    texts = ["a dog barks", "", "É ü ß Ça — “x” 你好", "a " * 200, "don't [MASK] x\tb\n", "heavy rain on a tin roof at night"]
    batch = BertTokenizer.from_pretrained(folder)(texts, padding="max_length", truncation=True, max_length=32, return_tensors="pt")
    theirs, ours = BertModel.from_pretrained(folder, dtype=torch.float32).eval(), text.tokens(texts)
    assert torch.equal(ours.mask, batch["attention_mask"].bool())
    for k, (ids, mask) in enumerate(zip(batch["input_ids"], batch["attention_mask"], strict=True)):
        with torch.no_grad():
            assert torch.equal(ours.states[k], theirs(input_ids=ids[None], attention_mask=mask[None]).last_hidden_state[0])
