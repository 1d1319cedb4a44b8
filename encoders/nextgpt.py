"""The projectors of public NExT-GPT checkpoints (Wu et al. 2023), old layout and new, checked by shape before they are used.

Old: ``pytorch_model.pt`` with ``llama_proj`` and ``gen_text_hidden_fcs[_video|_audio].0``. New: ``mm_input_projector.bin`` and
``mm_output_projector.bin`` with ``mm_input_projector`` and ``mm_output_{img,vid,aud}_projector``. The language model (Vicuna-7B),
ImageBind and the decoders come from elsewhere; a file may hold some of the projectors only.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor, nn

from encoders.signal_lm import OutputProjector
from encoders.weights import WeightsError, compare, read_state_dict, shapes_of

MEDIA, VICUNA = 1024, 4096  # widths of ImageBind-huge's vectors and of Vicuna-7B's embeddings
# Kind -> (queries, widths that a decoder reads): Stable Diffusion 1.5 reads 768 and 2 reads 1024; zeroscope 1024; AudioLDM's CLAP 512.
DECODERS: dict[str, tuple[int, tuple[int, ...]]] = {"image": (77, (768, 1024)), "video": (77, (1024,)), "audio": (1, (512,))}
_NEW = {"image": "mm_output_img_projector.", "video": "mm_output_vid_projector.", "audio": "mm_output_aud_projector."}
_OLD = {"image": "gen_text_hidden_fcs.0.", "video": "gen_text_hidden_fcs_video.0.", "audio": "gen_text_hidden_fcs_audio.0."}
_OLD_NAMES = {"fc.": "in_fc.", "model.": "out_fc."}
Module = TypeVar("Module", bound=nn.Module)
_INPUT = ("mm_input_projector.", "llama_proj.")


@dataclass(frozen=True)
class Projectors:
    """What a file holds: ``inputs`` [1024 -> 4096], and output projectors by kind of medium."""

    inputs: nn.Linear | None = None
    outputs: dict[str, OutputProjector] = field(default_factory=dict)


def read_projectors(path: Path) -> Projectors:
    """The projectors of a NExT-GPT file, in evaluation mode, float32.

    Raises:
        WeightsError: the file is damaged, holds no projector, or one whose keys or shapes do not fit; they are named.
    """
    return projectors_of(read_state_dict(path), str(path))


def projectors_of(state: Mapping[str, Tensor], path: str) -> Projectors:
    """``read_projectors`` of tensors already read; ``path``: the file that errors name."""
    inputs = _inputs(path, state)
    outputs = dict(_outputs(path, state))
    if inputs is None and not outputs:
        some = ", ".join(sorted(state)[:5])
        raise WeightsError(
            f"{path} holds no projector of NExT-GPT (it begins with {some}); give its pytorch_model.pt or mm_*_projector.bin"
        )
    return Projectors(inputs, outputs)


def _part(state: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Tensors below a prefix that may itself stand behind others (``model.``, ``base_model.model.``)."""
    return {key.partition(prefix)[2]: value.float() for key, value in state.items() if f".{key}".partition(f".{prefix}")[1]}


def _inputs(path: str, state: Mapping[str, Tensor]) -> nn.Linear | None:
    for prefix in _INPUT:
        part = _part(state, prefix)
        if not part:
            continue
        if any(key.startswith("layers.") for key in part):
            raise WeightsError(
                f"{path}: '{prefix[:-1]}' is a group projector (GroupViT); only the linear one of {MEDIA} to {VICUNA} is read"
            )
        return _filled(path, nn.Linear(MEDIA, VICUNA, device="meta"), part, prefix)
    return None


def _outputs(path: str, state: Mapping[str, Tensor]) -> Iterator[tuple[str, OutputProjector]]:
    for kind, (queries, widths) in DECODERS.items():
        for prefix, renamed in ((_NEW[kind], {}), (_OLD[kind], _OLD_NAMES)):
            part = _part(state, prefix)
            for old, new in renamed.items():
                part = {new + key.removeprefix(old) if key.startswith(old) else key: value for key, value in part.items()}
            if not part:
                continue
            got = part["out_fc.weight"].shape[0] if "out_fc.weight" in part else widths[-1]
            width = got if got in widths else widths[-1]
            with torch.device("meta"):
                empty = OutputProjector(VICUNA, width, queries)
            yield kind, _filled(path, empty, part, prefix)


def _filled(path: str, module: Module, part: Mapping[str, Tensor], prefix: str) -> Module:
    misfit = compare(shapes_of(module), shapes_of(part))
    if misfit:
        raise WeightsError(f"{path}: '{prefix[:-1]}' does not fit NExT-GPT's projector: {misfit}")
    module.load_state_dict(dict(part), assign=True)
    return module.eval().requires_grad_(False)
