"""MusicGen and AudioGen: a language model over the codes of EnCodec (Copet et al. 2023, arXiv:2306.05284; Kreuk et al. 2023,
arXiv:2209.15352), run by transformers.

Two layouts: transformers' own folder (MusicGen small to large, melody, stereo), and AudioGen's two official files, whose keys are
renamed to the same network:

    audiogen-medium/  state_dict.bin  compression_state_dict.bin  t5/{config.json,model.safetensors,tokenizer.json,…}

Officially, AudioGen's T5 is fetched beside the weights too: it is the plain t5-large.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from pydantic import Field

from generators.base import Capabilities, GenerationRequest
from generators.checkpoint import NO_CODE, on_meta, shards
from generators.folder import FolderBackend, Limits, Part, seeded
from media.audio import read_audio

if TYPE_CHECKING:
    import torch
    from torch import Tensor

CHROMA_FFT, CHROMA_HOP = 16_384, 4096  # samples, of musicgen-melody's feature extractor
# config/model/lm/model_scale/medium.yaml and config/model/encodec/encodec_large_nq4_s320.yaml of facebookresearch/audiocraft.
AUDIOGEN_DECODER: dict[str, Any] = {"hidden_size": 1536, "ffn_dim": 6144, "num_hidden_layers": 48, "num_attention_heads": 24}
AUDIOGEN_CODEC: dict[str, Any] = {
    "sampling_rate": 16_000,
    "audio_channels": 1,
    "upsampling_ratios": [8, 5, 4, 2],
    "num_filters": 64,
    "codebook_size": 2048,
    "target_bandwidths": [2.2],  # kbit/s: four codebooks of eleven bits at 50 Hz
    "use_causal_conv": False,
    "pad_mode": "constant",
    "norm_type": "weight_norm",
    "normalize": False,
    "use_conv_shortcut": False,
    "chunk_length_s": None,
}
_LM_NAMES = (
    (r"^condition_provider\.conditioners\.description\.output_proj", "enc_to_dec_proj"),
    (r"^emb\.", "decoder.model.decoder.embed_tokens."),
    (r"^linears\.", "decoder.lm_heads."),
    (r"^out_norm\.", "decoder.model.decoder.layer_norm."),
    (r"^transformer\.", "decoder.model.decoder."),
    (r"\.cross_attention\.", ".encoder_attn."),
    (r"\.norm1\.", ".self_attn_layer_norm."),
    (r"\.norm_cross\.", ".encoder_attn_layer_norm."),
    (r"\.norm2\.", ".final_layer_norm."),
    (r"\.linear(\d)\.", r".fc\1."),
)
_CODEC_NAMES = (
    (r"^(encoder|decoder)\.model\.", r"\1.layers."),
    (r"\.convtr\.convtr\.", ".conv."),
    (r"\.conv\.conv\.", ".conv."),
    (r"\.weight_g$", ".parametrizations.weight.original0"),
    (r"\.weight_v$", ".parametrizations.weight.original1"),
    (r"^quantizer\.vq\.layers\.(\d+)\._codebook\.", r"quantizer.layers.\1.codebook."),
)


class MusicGen(FolderBackend):
    """Text, and with the melody checkpoint a sound whose tune is followed, to sound; mono or stereo."""

    class Options(FolderBackend.Options):
        limits: Limits
        layout: Literal["transformers", "audiocraft"] = "transformers"
        guidance: float = Field(default=3.0, ge=0, le=100)
        top_k: int = Field(default=250, ge=1)
        temperature: float = Field(default=1.0, gt=0)
        decoder: dict[str, Any] = Field(default_factory=dict)  # audiocraft: where sizes differ from the public checkpoint
        codec: dict[str, Any] = Field(default_factory=dict)

    options: Options

    @property
    def limits(self) -> Limits:
        return self.options.limits

    @property
    def capabilities(self) -> Capabilities:
        return super().capabilities.model_copy(update={"guidance": True})

    def lacking(self) -> list[str]:
        if self.options.layout == "audiocraft":
            needed = ["state_dict.bin", "compression_state_dict.bin", "t5/config.json", "t5/tokenizer.json"]
            missing = [name for name in needed if not (self.folder / name).is_file()]
            return missing if shards(self.folder / "t5") else [*missing, "t5/model.safetensors"]
        missing = [name for name in ("config.json", "tokenizer.json") if not (self.folder / name).is_file()]
        found = shards(self.folder)
        return missing + ([path.name for path in found if not path.is_file()] if found else ["model.safetensors"])

    # -- loading --------------------------------------------------------------------------------------------------
    def networks(self) -> dict[str, Part]:
        import transformers
        from torch import nn

        if self.options.layout == "transformers":
            return {"model": Part(on_meta(self._class, self.folder), shards(self.folder))}
        whole = self._audiogen()
        lm = nn.ModuleDict({"decoder": whole.decoder, "enc_to_dec_proj": whole.enc_to_dec_proj})
        text = self.folder / "t5"
        return {
            "language model": Part(lm, [self.folder / "state_dict.bin"], language_model_state),
            "codec": Part(whole.audio_encoder, [self.folder / "compression_state_dict.bin"], codec_state),
            "t5": Part(on_meta(transformers.T5EncoderModel, text), shards(text), encoder_of),
        }

    @property
    def _class(self) -> Any:
        import transformers

        kinds = {"musicgen": "MusicgenForConditionalGeneration", "musicgen_melody": "MusicgenMelodyForConditionalGeneration"}
        return getattr(transformers, kinds[str(self._json("config.json").get("model_type", "musicgen"))])

    def _audiogen(self) -> Any:
        """The network of AudioGen on the meta device, by the sizes of the official configuration."""
        from accelerate import init_empty_weights
        from transformers import AutoConfig, EncodecConfig, MusicgenConfig, MusicgenDecoderConfig, MusicgenForConditionalGeneration

        sizes = {**AUDIOGEN_DECODER, **self.options.decoder}
        with init_empty_weights():
            return MusicgenForConditionalGeneration(
                MusicgenConfig(
                    text_encoder=AutoConfig.from_pretrained(self.folder / "t5", **NO_CODE).to_dict(),
                    audio_encoder=EncodecConfig(**{**AUDIOGEN_CODEC, **self.options.codec}).to_dict(),
                    decoder=MusicgenDecoderConfig(**sizes, tie_word_embeddings=False).to_dict(),
                )
            )

    def _load(self) -> None:
        from transformers import AutoTokenizer

        self.require_fit()
        audiocraft = self.options.layout == "audiocraft"
        words = self.folder / "t5" if audiocraft else self.folder
        self._tokenizer = AutoTokenizer.from_pretrained(words, **NO_CODE)
        model = self._convert() if audiocraft else self._class.from_pretrained(self.folder, local_files_only=True, dtype=self.dtype)
        # What the official code calls the special token: one past the codes.
        model.generation_config.decoder_start_token_id = model.generation_config.pad_token_id = model.config.decoder.vocab_size
        model.generation_config.bos_token_id = model.config.decoder.vocab_size
        model.generation_config.eos_token_id = None
        self._model: Any = model.to(self.device, self.dtype).eval().requires_grad_(False)

    def _convert(self) -> Any:
        from transformers import T5EncoderModel

        from encoders.weights import load_into, read_state_dict

        whole = self._audiogen()
        lm, codec = self.folder / "state_dict.bin", self.folder / "compression_state_dict.bin"
        state = language_model_state(read_state_dict(lm))
        load_into(whole.decoder, state, where=str(lm), prefix="decoder.")
        load_into(whole.enc_to_dec_proj, state, where=str(lm), prefix="enc_to_dec_proj.")
        load_into(whole.audio_encoder, codec_state(read_state_dict(codec)), where=str(codec))
        whole.text_encoder = T5EncoderModel.from_pretrained(self.folder / "t5", local_files_only=True)
        return whole

    def _unload(self) -> None:
        del self._model, self._tokenizer

    # -- making sound ---------------------------------------------------------------------------------------------
    def _make(self, request: GenerationRequest, on_step: Callable[[int, int], None]) -> np.ndarray:
        import torch

        codec, decoder = self._model.config.audio_encoder, self._model.config.decoder
        # Every codebook starts a frame later than the one before; stereo has two codes for each.
        late = decoder.num_codebooks // decoder.audio_channels
        frames = -(-round(request.seconds * codec.sampling_rate) // int(np.prod(codec.upsampling_ratios)))
        given = self._tokenizer([request.prompt], return_tensors="pt").to(self.device)
        tune = next((ref for ref in request.media if ref.kind == "audio"), None)
        if tune is not None:
            heard = read_audio(self.store.path(tune), sample_rate=codec.sampling_rate, mono=True).samples[0]
            given["input_features"] = chroma(torch.from_numpy(heard), codec.sampling_rate).to(self.device, self.dtype)
        with torch.no_grad():
            wave = self._model.generate(
                **given,
                do_sample=False,  # the draws below make the largest logit a sample
                guidance_scale=self.options.guidance if request.guidance is None else request.guidance,
                max_new_tokens=frames + late,
                logits_processor=_last(self._draws(request.seed, frames + late, on_step)),
            )
        sound: np.ndarray = wave[0].float().cpu().numpy()
        return sound

    def _draws(self, seed: int, of: int, on_step: Callable[[int, int], None]) -> Callable[[Tensor, Tensor], Tensor]:
        generator, done = seeded(seed), iter(range(1, of + 1))

        def draw(ids: Tensor, logits: Tensor) -> Tensor:
            on_step(next(done, of), of)
            return perturbed(logits, generator, self.options.top_k, self.options.temperature)

        return draw


def perturbed(logits: Tensor, generator: torch.Generator, top_k: int, temperature: float) -> Tensor:
    """Logits [B, V] whose argmax is a draw from softmax(top_k(logits) / temperature): the Gumbel-max trick (Gumbel 1954).

    So that the library's loop samples from a request's own generator, where it would otherwise use the process's.
    """
    import torch

    kept = logits.float() / temperature
    kept = kept.masked_fill(kept < kept.topk(min(top_k, kept.shape[-1])).values[..., -1:], -torch.inf)
    uniform = torch.rand(kept.shape, generator=generator).clamp_min(torch.finfo(torch.float32).tiny).to(kept.device)
    return kept - (-uniform.log()).log()


def _last(draw: Callable[[Tensor, Tensor], Tensor]) -> Any:
    """A list of processors in which ``draw`` stays behind the guidance that the library appends to it."""
    from transformers import LogitsProcessorList

    class Ordered(LogitsProcessorList):
        def append(self, processor: Any) -> None:
            self.insert(0, processor)

    return Ordered([draw])


def chroma(wave: Tensor, sample_rate: int) -> Tensor:
    """Which of the twelve pitch classes sounds loudest [1, T, 12], one-hot, of a mono sound [N], as the melody checkpoint was given it.

    Officially, Demucs takes drums and bass away first; here the sound is read as it is.
    """
    import torch
    from transformers.audio_utils import chroma_filter_bank

    short = max(0, CHROMA_FFT - len(wave))
    wave = torch.nn.functional.pad(wave, (short // 2, short - short // 2))
    window = torch.hann_window(CHROMA_FFT)
    power = torch.stft(wave, CHROMA_FFT, CHROMA_HOP, window=window, return_complex=True).abs() ** 2 / window.square().sum()
    bank = chroma_filter_bank(num_frequency_bins=CHROMA_FFT, sampling_rate=sample_rate, tuning=0, num_chroma=12)
    loudest = (torch.from_numpy(bank).float() @ power).argmax(0)
    return torch.nn.functional.one_hot(loudest, 12).float()[None]


def language_model_state(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The official language model's tensors under transformers' names; the fused projections are taken apart."""
    renamed: dict[str, Tensor] = {}
    for key, value in state.items():
        name = _renamed(key, _LM_NAMES)
        if name.endswith("in_proj_weight"):
            for part, third in zip(("q_proj", "k_proj", "v_proj"), value.chunk(3), strict=True):
                renamed[name.replace("in_proj_weight", f"{part}.weight")] = third
        else:
            renamed[name] = value
    return renamed


def codec_state(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The official EnCodec's tensors under transformers' names."""
    return {_renamed(key, _CODEC_NAMES): value for key, value in state.items()}


def encoder_of(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Of a whole T5, the half that reads."""
    return {key: value for key, value in state.items() if not key.startswith(("decoder.", "lm_head."))}


def _renamed(key: str, rules: tuple[tuple[str, str], ...]) -> str:
    for pattern, name in rules:
        key = re.sub(pattern, name, key)
    return key
