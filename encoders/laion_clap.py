"""LAION's CLAP (Wu et al. 2023): words and sounds to vectors of one space, the one that AudioLDM 2's GPT-2 reads.

The network is transformers' ``ClapModel``; LAION's own ``.pt`` files are read under its names. encoders/clap.py is nano's small tower,
which stands in this one's place.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from encoders.base import Condition, EncoderMissing
from encoders.weights import Shapes, WeightsError, load_into, read_state_dict, shapes_of
from media.audio import Audio, resample

if TYPE_CHECKING:
    from transformers import ClapFeatureExtractor, ClapModel, RobertaTokenizer

MAX_TOKENS = 77  # LAION trained on texts of at most as many
WHERE = (
    "put there the folder laion/clap-htsat-unfused (Apache-2.0, 0.6 GB), or 630k-audioset-best.pt from "
    "https://huggingface.co/lukewys/laion_clap (CC0, 1.9 GB) with vocab.json and merges.txt of roberta-base (MIT)"
)

_NAMES = (
    (r"^text_branch\.", "text_model."),
    (r"^audio_branch\.", "audio_model.audio_encoder."),
    (r"^(text|audio)_projection\.0\.", r"\1_projection.linear1."),
    (r"^(text|audio)_projection\.2\.", r"\1_projection.linear2."),
    (r"\.bn0\.", ".batch_norm."),
    (r"\.attn\.proj\.", ".attention.output.dense."),
    (r"\.attn\.", ".attention.self."),
    (r"\.mlp\.fc1\.", ".intermediate.dense."),
    (r"\.mlp\.fc2\.", ".output.dense."),
    (r"(blocks\.\d+)\.norm1\.", r"\1.layernorm_before."),
    (r"(blocks\.\d+)\.norm2\.", r"\1.layernorm_after."),
)
# The spectrogram is computed elsewhere, the class heads and the second projections are only for training, masks are made anew.
_UNUSED = re.compile(
    r"spectrogram_extractor\.|logmel_extractor\.|\.attn_mask$|audio_branch\.(head|tscam_conv)\.|(text|audio)_transform\.|position_ids$"
)


def clap_state(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of LAION's CLAP under the names of transformers' ``ClapModel``: joint projections are split in three."""
    named: dict[str, Tensor] = {}
    for key, value in state.items():
        if _UNUSED.search(key):
            continue
        name = key
        for pattern, said in _NAMES:
            name = re.sub(pattern, said, name)
        if ".self.qkv." in name:
            named |= {name.replace(".qkv.", f".{part}."): x for part, x in zip(("query", "key", "value"), value.chunk(3), strict=True)}
        else:
            named[name] = value
    positions = named.get("text_model.embeddings.position_embeddings.weight")
    if positions is not None:
        named["text_model.embeddings.token_type_ids"] = torch.zeros(1, len(positions), dtype=torch.long)
    return named


def clap_config(shapes: Shapes) -> dict[str, Any]:
    """Arguments of ``ClapConfig`` that build a network of these shapes (names as ``clap_state`` gives them).

    Heads of the text tower are 64 wide, as in RoBERTa, and it normalises with 1e-5 (the default of ``ClapConfig`` is 1e-12).

    Raises:
        WeightsError: not a CLAP with HTS-AT and RoBERTa.
    """
    try:
        words, width = shapes["text_model.embeddings.word_embeddings.weight"]
        positions = shapes["text_model.embeddings.position_embeddings.weight"][0]
        patches = shapes["audio_model.audio_encoder.patch_embed.proj.weight"][0]
        projection = shapes["text_projection.linear2.weight"][0]
        inner = shapes["text_model.encoder.layer.0.intermediate.dense.weight"][0]
    except KeyError as error:
        raise WeightsError(
            f"the file is no CLAP with HTS-AT and RoBERTa (no {error}); the public ones are 630k-*.pt and music_*.pt"
        ) from None
    stages = range(_counted(shapes, r"^audio_model\.audio_encoder\.layers\.(\d+)\."))
    block = "audio_model.audio_encoder.layers.{}.blocks.0.attention.self.relative_position_bias_table"
    fused = any(".fusion_model." in key for key in shapes)
    text = {
        "vocab_size": words,
        "hidden_size": width,
        "intermediate_size": inner,
        "num_hidden_layers": _counted(shapes, r"^text_model\.encoder\.layer\.(\d+)\."),
        "num_attention_heads": max(1, width // 64),
        "max_position_embeddings": positions,
        "layer_norm_eps": 1e-5,
        "projection_dim": projection,
    }
    audio = {
        "patch_embeds_hidden_size": patches,
        "hidden_size": patches * 2 ** (len(stages) - 1),
        "depths": [_counted(shapes, rf"^audio_model\.audio_encoder\.layers\.{stage}\.blocks\.(\d+)\.") for stage in stages],
        "num_attention_heads": [shapes[block.format(stage)][1] for stage in stages],
        "enable_fusion": fused,
        "fusion_type": "aff_2d" if fused else None,
        "projection_dim": projection,
    }
    return {"text_config": text, "audio_config": audio, "projection_dim": projection}


def _counted(shapes: Shapes, pattern: str) -> int:
    """One more than the highest number that the pattern finds."""
    return 1 + max((int(found[1]) for key in shapes if (found := re.match(pattern, key))), default=-1)


def read_clap(path: Path, prefix: str = "") -> ClapModel:
    """LAION's ``.pt``, or the CLAP under ``prefix`` of a larger file, as a frozen ``ClapModel`` of the same sizes.

    Raises:
        WeightsError: the file cannot be read or holds no such network.
    """
    from transformers import ClapConfig, ClapModel

    held = read_state_dict(path)
    named = clap_state({key.removeprefix(prefix): value for key, value in held.items() if key.startswith(prefix)})
    model = ClapModel(ClapConfig(**clap_config(shapes_of(named))))
    load_into(model, named, where=f"CLAP in {path.name}")
    return model.eval().requires_grad_(False)


class LaionClap:
    """``str`` and ``Audio`` to unit vectors [B, 1, 512].

    Args:
        folder: a transformers folder (config.json, weights, tokenizer, preprocessor), or one with a ``.pt`` of LAION and RoBERTa's
            ``vocab.json`` and ``merges.txt``. None: ``checkpoints/clap`` in loa's home.
    """

    name = "clap"

    def __init__(self, folder: Path | None = None) -> None:
        from configs.schema import default_home

        self.folder = folder or default_home() / "checkpoints" / "clap"
        self._model: ClapModel | None = None
        self._tokenizer: RobertaTokenizer | None = None
        self._extract: ClapFeatureExtractor | None = None

    def load(self) -> None:
        if self._model is not None:
            return
        from transformers import ClapFeatureExtractor, ClapModel, RobertaTokenizer

        own = sorted(self.folder.glob("*.pt"))
        if not (self.folder / "config.json").is_file() and not own:
            raise EncoderMissing(f"{self.folder} holds no CLAP; {WHERE}")
        if not any((self.folder / name).is_file() for name in ("tokenizer.json", "vocab.json")):
            raise EncoderMissing(f"{self.folder} holds no tokenizer; {WHERE}")
        if (self.folder / "config.json").is_file():
            model = ClapModel.from_pretrained(self.folder, local_files_only=True, dtype=torch.float32).eval().requires_grad_(False)
            extract = ClapFeatureExtractor.from_pretrained(self.folder, local_files_only=True)
        else:
            model = read_clap(own[0])
            fused = model.config.audio_config.enable_fusion
            extract = ClapFeatureExtractor(frequency_min=50, frequency_max=14_000, truncation="fusion" if fused else "rand_trunc")
        self._tokenizer = RobertaTokenizer.from_pretrained(self.folder, local_files_only=True)
        self._model, self._extract = model, extract

    def sample_input(self) -> list[Any]:
        noise = 0.1 * np.random.default_rng(0).standard_normal((1, 30_000)).astype(np.float32)
        return ["a dog barks", "heavy rain", Audio(noise, 16_000)]

    @torch.no_grad()
    def encode(self, inputs: list[Any]) -> Condition:
        """One unit vector for each text or sound, computed one by one."""
        self.load()
        rows = torch.cat([self._words(given) if isinstance(given, str) else self._sound(given) for given in inputs])
        return Condition("clap", torch.nn.functional.normalize(rows, dim=-1)[:, None], torch.ones(len(rows), 1, dtype=torch.bool))

    def _words(self, text: str) -> Tensor:
        """[1, 512]; padding changes nothing, so a text is read at its own length, up to 77 tokens."""
        assert self._model is not None and self._tokenizer is not None
        tokens = self._tokenizer([text], max_length=MAX_TOKENS, truncation=True, return_tensors="pt")
        return self._vector(self._model.get_text_features(tokens.input_ids, attention_mask=tokens.attention_mask))

    def _sound(self, audio: Audio) -> Tensor:
        """[1, 512] of the first 10 s of the mean of the channels; a shorter sound is repeated.

        Of longer ones LAION hears ten seconds drawn at random (the same call then gives another vector each time); here the first.
        """
        assert self._model is not None and self._extract is not None
        mono = resample(audio, self._extract.sampling_rate).mono().samples[0][: self._extract.nb_max_samples]
        given = self._extract(mono, sampling_rate=self._extract.sampling_rate, return_tensors="pt")
        # The extractor marks one of a batch of short sounds as long, by chance: never here.
        return self._vector(self._model.get_audio_features(given["input_features"], is_longer=torch.zeros(1, 1, dtype=torch.bool)))

    @staticmethod
    def _vector(out: Any) -> Tensor:
        """transformers 5 wraps what transformers 4 gave plainly."""
        vector: Tensor = out if isinstance(out, Tensor) else out.pooler_output
        return vector
