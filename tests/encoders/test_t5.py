"""FLAN-T5: a text's states are its own, however long its neighbours, and equal to transformers' own batch."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import AutoTokenizer, T5EncoderModel

from encoders.base import EncoderMissing
from encoders.t5 import FlanT5
from tests.encoder_fakes import tiny_t5

TEXTS = ["dog", "a dog barks loudly", "rain on the tin roof"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_t5(tmp_path_factory.mktemp("t5"))


def test_states_equal_those_of_transformers_batch_with_its_mask(folder: Path) -> None:
    own = FlanT5(folder, length=12).encode(TEXTS)
    tokens = AutoTokenizer.from_pretrained(folder)(TEXTS, padding="max_length", max_length=12, return_tensors="pt")
    with torch.no_grad():
        other = T5EncoderModel.from_pretrained(folder).eval()(**tokens).last_hidden_state
    assert torch.equal(own.mask, tokens.attention_mask.bool()) and own.mask.sum(1).tolist() == [2, 5, 6]
    assert torch.allclose(own.states[own.mask], other[own.mask], atol=1e-5) and not own.states[~own.mask].any()


def test_a_long_text_is_cut_to_the_length(folder: Path) -> None:
    cut = FlanT5(folder, length=4).encode(["a dog barks loudly on the roof"])
    assert cut.states.shape == (1, 4, 24) and bool(cut.mask.all())


def test_an_empty_folder_says_what_belongs_there(tmp_path: Path) -> None:
    with pytest.raises(EncoderMissing, match="flan-t5-large"):
        FlanT5(tmp_path).encode(["a"])
