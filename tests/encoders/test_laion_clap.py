"""LAION's CLAP: its own files read under transformers' names, and the numbers of its own code."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tokenizers import ByteLevelBPETokenizer
from torch import Tensor
from transformers import ClapConfig, ClapModel

from encoders.base import EncoderMissing
from encoders.laion_clap import LaionClap, clap_config, clap_state, read_clap
from encoders.weights import WeightsError, compare, shapes_of
from media.audio import Audio
from tests.drawn import drawn, drawn_sound
from tests.encoder_fakes import PARITY, tiny_clap

RECORDED = np.load(PARITY / "laion_clap.npz")
SHAPES = {key: tuple(shape) for key, shape in json.loads(str(RECORDED["note"]))["shapes"].items()}
with gzip.open(PARITY / "laion_clap_keys.json.gz") as _file:
    OFFICIAL: dict[str, dict[str, list[int]]] = json.load(_file)


def windows(side: int = 8) -> Tensor:
    """Which entry of the table of relative positions belongs to each pair of places in a window (Swin, Liu et al. 2021)."""
    at = torch.stack(torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")).flatten(1)
    far = at[:, :, None] - at[:, None] + side - 1
    return far[0] * (2 * side - 1) + far[1]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What LAION's training saved: parallel prefix, optimizer, a numpy number."""
    state = {key: windows() if key.endswith("position_index") else drawn(key, shape) for key, shape in SHAPES.items()}
    saved: dict[str, Any] = {f"module.{key}": value for key, value in state.items()}
    saved["module.text_branch.embeddings.position_ids"] = torch.arange(90)[None]
    path = tmp_path_factory.mktemp("clap") / "630k-audioset-best.pt"
    words = ByteLevelBPETokenizer()  # RoBERTa's two files
    words.train_from_iterator(["a dog barks"], special_tokens=["<s>", "<pad>", "</s>", "<unk>", "<mask>"], show_progress=False)
    words.save_model(str(path.parent))
    torch.save(
        {"epoch": 3, "name": "x", "best": np.float64(0.5), "optimizer": {"state": {0: torch.ones(2)}}, "state_dict": saved}, path
    )
    return path


@pytest.mark.parity
def test_keys_of_the_official_file_are_those_of_transformers_at_true_size() -> None:
    official = {key: torch.empty(shape, device="meta") for key, shape in OFFICIAL["tiny"].items()}
    assert len(official) == 417
    wanted = {key: tuple(shape) for key, shape in OFFICIAL["transformers"].items()}
    assert not compare(wanted, shapes_of(clap_state(official)))


@pytest.mark.parity
@pytest.mark.parametrize("size", ["tiny", "tiny-fusion", "base"])
def test_sizes_are_read_off_the_shapes(size: str) -> None:
    named = clap_state({key: torch.empty(shape, device="meta") for key, shape in OFFICIAL[size].items()})
    config = clap_config(shapes_of(named))
    with torch.device("meta"):
        model = ClapModel(ClapConfig(**config))
    assert not compare(shapes_of(model), shapes_of(named))
    audio = config["audio_config"]
    assert audio["num_attention_heads"] == [4, 8, 16, 32] and audio["depths"] == ([2, 2, 12, 2] if size == "base" else [2, 2, 6, 2])
    assert audio["enable_fusion"] == ("fusion" in size) and config["text_config"]["num_attention_heads"] == 12


@pytest.mark.parity
def test_sounds_and_texts_equal_the_official_code(checkpoint: Path) -> None:
    encoder = LaionClap(checkpoint.parent)
    sounds = [Audio(drawn_sound(48_000, seconds, 1, 80 + i), 48_000) for i, seconds in enumerate((10.0, 2.3, 0.4))]
    heard = encoder.encode(sounds).states[:, 0].numpy()
    assert np.abs(heard - RECORDED["sounds"]).max() < 1e-5 and np.abs(heard[1] - heard[2]).max() > 5e-3
    assert encoder._model is not None and encoder._tokenizer is not None
    assert encoder._tokenizer("a")["input_ids"][0] == 0 and encoder._tokenizer("a")["input_ids"][-1] == 2
    for row, ids in enumerate(torch.from_numpy(RECORDED["ids"])):
        own = ids[ids != 1][None]  # at its own length; the official code pads to 77
        vector = encoder._vector(encoder._model.get_text_features(own, attention_mask=torch.ones_like(own)))
        assert np.abs(torch.nn.functional.normalize(vector, dim=-1).numpy() - RECORDED["texts"][row]).max() < 1e-5


def test_a_clap_inside_a_larger_file_is_found_by_its_prefix(checkpoint: Path, tmp_path: Path) -> None:
    state = torch.load(checkpoint, weights_only=False)["state_dict"]
    inside = {key.replace("module.", "clap.model."): value for key, value in state.items()}
    torch.save({"state_dict": {**inside, "model.out.weight": torch.ones(1)}}, tmp_path / "audioldm2.pth")
    model, alone = read_clap(tmp_path / "audioldm2.pth", "clap.model."), read_clap(checkpoint)
    assert all(torch.equal(value, alone.state_dict()[key]) for key, value in model.state_dict().items())
    assert not any(parameter.requires_grad for parameter in model.parameters())


def test_a_long_sound_gives_the_same_vector_each_time(tmp_path: Path) -> None:
    encoder = LaionClap(tiny_clap(tmp_path))
    long = drawn_sound(16_000, 25.0, 2, 0)
    first, again, start = (encoder.encode([Audio(s, 16_000)]).states for s in (long, long, long[:, :160_000]))
    assert torch.equal(first, again) and torch.allclose(first, start, atol=1e-4)


def test_vectors_have_unit_length(tmp_path: Path) -> None:
    encoder = LaionClap(tiny_clap(tmp_path))
    assert torch.allclose(encoder.encode(encoder.sample_input()).states.norm(dim=-1), torch.ones(3, 1), atol=1e-5)


def test_a_file_of_another_model_and_an_empty_folder_are_named(tmp_path: Path) -> None:
    torch.save({"visual.conv1.weight": torch.ones(2)}, tmp_path / "vit.pt")
    with pytest.raises(WeightsError, match="no CLAP with HTS-AT and RoBERTa"):
        read_clap(tmp_path / "vit.pt")
    with pytest.raises(EncoderMissing, match=r"laion/clap-htsat-unfused.*CC0") as why:
        LaionClap(tmp_path / "none").load()
    assert "\n" not in str(why.value)
    with pytest.raises(
        EncoderMissing, match=r"no tokenizer; .*vocab\.json and merges\.txt"
    ):  # transformers makes an empty one, silently
        LaionClap(tmp_path).load()
