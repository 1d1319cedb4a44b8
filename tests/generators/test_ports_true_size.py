"""The ports at their true size with random weights: they are built, filled and run within the memory of a large laptop."""

from __future__ import annotations

import json
import resource
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import BertConfig, T5Config

import encoders.weights
from generators.base import GenerationRequest
from generators.make_an_audio import MakeAnAudio, MakeAnAudio2
from generators.tango import Tango
from media.refs import MediaStore
from tests.ports import BIGVGAN, SCALE, keys, write_bert, write_t5

ROWS: dict[str, Callable[..., Any]] = {"tango": Tango, "make-an-audio": MakeAnAudio, "make-an-audio-2": MakeAnAudio2}
FILES = {"main.bin": "tango_main", "vae.bin": "tango_vae", "full.ckpt": "maa1", "maa2.ckpt": "maa2", "netG.pt": "bigvgan"}
TRUE_BIGVGAN = {
    **BIGVGAN,
    "upsample_initial_channel": 1536,
    "resblock_kernel_sizes": [3, 7, 11],
    "resblock_dilation_sizes": [[1, 3, 5]] * 3,
}


@lru_cache(maxsize=2)
def random_state(path: Path) -> dict[str, Tensor]:
    """The tensors that the public file ``path`` holds, by key and shape; fast to draw."""
    name = next(name for end, name in FILES.items() if path.name.endswith(end))
    generator = torch.Generator().manual_seed(0)
    made = {}
    for key, shape in keys(name, true_size=True).items():
        spread = torch.Size(shape[1:]).numel() ** -0.5 if len(shape) > 1 else 0.02
        near_one = key.endswith(("weight_g", "norm.weight")) or (len(shape) == 1 and key.endswith("weight"))
        made[key] = torch.ones(shape) if near_one else torch.randn(shape, generator=generator).mul_(spread)
    return {**made, "scale_factor": torch.tensor(SCALE)} if "scale_factor" in made else made


def write_settings(backend: Any) -> None:
    """The small files at their true content, and empty ones where the weights would lie."""
    folder = backend.folder
    write_bert(folder / "bert")
    BertConfig().save_pretrained(folder / "bert")  # the defaults are bert-base-uncased
    for name in ("t5", "flan-t5-large"):
        write_t5(folder / name)
        T5Config(
            d_model=1024, d_kv=64, d_ff=2816, num_layers=24, num_heads=16, feed_forward_proj="gated-gelu", tie_word_embeddings=False
        ).save_pretrained(folder / name)
    for group in backend.required:
        if not any((folder / name).is_file() for name in group):
            (folder / group[0]).parent.mkdir(parents=True, exist_ok=True)
            (folder / group[0]).write_text("{}")
    if not isinstance(backend, Tango):
        (folder / "useful_ckpts" / "bigvgan" / "args.yml").write_text(json.dumps(TRUE_BIGVGAN))


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("name", ROWS)
def test_two_steps_at_true_size_take_less_than_twelve_gigabytes(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    backend = ROWS[name](name, {}, MediaStore(tmp_path / "store"), tmp_path)
    write_settings(backend)
    monkeypatch.setattr(encoders.weights, "read_state_dict", random_state)
    backend.load()
    (sound,) = backend._synthesise([GenerationRequest(prompt="a dog barks", seconds=1.0, steps=2)], 1, lambda _: None, lambda: False)
    assert sound.samples.shape == (1, 16_000) and torch.from_numpy(sound.samples).isfinite().all()
    random_state.cache_clear()
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 < 12e9
