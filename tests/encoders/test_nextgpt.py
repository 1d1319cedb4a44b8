"""Public NExT-GPT projectors: the authors' numbers at drawn weights, both layouts, and what does not fit is named."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from encoders.nextgpt import DECODERS, MEDIA, VICUNA, projectors_of, read_projectors
from encoders.signal_lm import OutputProjector
from encoders.weights import WeightsError
from tests.drawn import draw_into, drawn

RECORDED = np.load(Path(__file__).parent.parent / "data" / "parity" / "nextgpt_projector.npz")
NEW = {"image": "mm_output_img_projector", "video": "mm_output_vid_projector", "audio": "mm_output_aud_projector"}
OLD = {"image": "gen_text_hidden_fcs.0", "video": "gen_text_hidden_fcs_video.0", "audio": "gen_text_hidden_fcs_audio.0"}


@pytest.fixture(scope="module")
def audio() -> dict[str, Tensor]:
    """An output projector of AudioLDM's size at drawn weights."""
    with torch.device("meta"):
        empty = OutputProjector(VICUNA, 512, 1)
    module = empty.to_empty(device="cpu").eval()
    draw_into(module)
    return dict(module.state_dict())


def in_old_names(part: Mapping[str, Tensor]) -> Iterator[tuple[str, Tensor]]:
    for key, value in part.items():
        yield key.replace("in_fc.", "fc.").replace("out_fc.", "model."), value


@pytest.mark.parity
@pytest.mark.parametrize("layout", ["new", "old"])
def test_the_audio_projector_gives_the_authors_numbers(audio: dict[str, Tensor], layout: str, tmp_path: Path) -> None:
    named = audio.items() if layout == "new" else in_old_names(audio)
    prefix = f"model.{NEW['audio']}" if layout == "new" else OLD["audio"]
    path = tmp_path / "pytorch_model.pt"
    torch.save({f"{prefix}.{key}": value for key, value in named}, path)
    read = read_projectors(path)
    assert set(read.outputs) == {"audio"} and read.inputs is None
    made, real = read.outputs["audio"](drawn("audio.x", (2, 4, VICUNA)), drawn("audio.e", (2, 4, VICUNA)))
    assert real is None
    np.testing.assert_allclose(made[:, ::19, ::16].numpy(), RECORDED["audio"], rtol=0, atol=2e-5)


def whole(kind: str, width: int, queries: int) -> dict[str, Tensor]:
    """The keys of one projector over tensors that take no memory."""
    with torch.device("meta"):
        shapes = OutputProjector(VICUNA, width, queries).state_dict()
    return {f"{NEW[kind]}.{key}": torch.zeros(()).expand(value.shape) for key, value in shapes.items()}


def test_all_projectors_of_the_new_layout_are_found() -> None:
    state = {
        "model.mm_input_projector.weight": torch.zeros(()).expand(VICUNA, MEDIA),
        "model.mm_input_projector.bias": torch.ones(VICUNA),
    }
    for kind, (queries, widths) in DECODERS.items():
        state |= whole(kind, widths[-1], queries)
    read = projectors_of(state, "file")
    assert read.inputs is not None and read.inputs(torch.zeros(1, MEDIA)).sum() == VICUNA
    assert {kind: (p.query_embs.shape[1], p.out_fc.out_features) for kind, p in read.outputs.items()} == {
        "image": (77, 1024), "video": (77, 1024), "audio": (1, 512),
    }  # fmt: skip


def test_the_old_image_projector_reads_768_for_the_older_diffusion_model() -> None:
    state = {key.replace(NEW["image"], OLD["image"]): value for key, value in whole("image", 768, 77).items()}
    renamed = {key.replace("in_fc.", "fc.").replace("out_fc.", "model."): value for key, value in state.items()}
    assert projectors_of(renamed, "file").outputs["image"].out_fc.out_features == 768


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda s: s.pop("mm_output_aud_projector.out_fc.bias"), r"missing \(1\): out_fc.bias"),
        (lambda s: s.update({"mm_output_aud_projector.query_embs": torch.zeros(1, 3, 512)}), r"query_embs is \[1, 3, 512\] instead"),
        (lambda s: s.update({"mm_output_aud_projector.layers.0.x": torch.zeros(1)}), "layers.0.x"),
        (lambda s: s.update({"mm_input_projector.layers.0.x": torch.zeros(1)}), "group projector"),
        (lambda s: s.update({"llama_proj.weight": torch.zeros(5120, 1024), "llama_proj.bias": torch.zeros(5120)}), "5120"),
        (lambda s: (s.clear(), s.update({"other": torch.zeros(1)})), "holds no projector"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_named(change: object, said: str) -> None:
    state = whole("audio", 512, 1)
    change(state)  # type: ignore[operator]
    with pytest.raises(WeightsError, match=said):
        projectors_of(state, "file")
