"""Every row that a library runs, at its true size on the meta device: the parts that its folder describes, and how large they are.

Millions of parameters are those of the authors' papers and pages, or were counted on official modules.
"""

from __future__ import annotations

import json
import lzma
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from accelerate import init_empty_weights
from torch import nn

from configs.registry import resolve
from configs.schema import preset
from encoders.weights import compare, shapes_of
from generators.folder import FolderBackend
from generators.musicgen import AUDIOGEN_CODEC, AUDIOGEN_DECODER, codec_state, language_model_state
from media.refs import MediaStore
from tests.library_fakes import official_audiogen

pytestmark = pytest.mark.parity
MANIFEST = Path(__file__).parents[1] / "data" / "manifests" / "audiogen.json.xz"
M = 1e6


def backend(name: str, home: Path) -> FolderBackend:
    row = preset(name)
    made: FolderBackend = resolve("loa.backends", row.backend or "")(
        name=name, options=row.options, store=MediaStore(home / "store"), home=home
    )
    return made


def describe(folder: Path, kind: str, parts: dict[str, tuple[str, Callable[[], Any]]]) -> None:
    """The configurations of a folder, without weights."""
    index: dict[str, Any] = {"_class_name": kind}
    for name, (library, make) in parts.items():
        with init_empty_weights():
            part = make()
        if hasattr(part, "save_config"):
            part.save_config(folder / name)
        else:
            part.config.architectures = [type(part).__name__]
            part.config.save_pretrained(folder / name)
        index[name] = [library, type(part).__name__]
    (folder / "model_index.json").write_text(json.dumps(index))


def t5(width: int, depth: int, heads: int, feed: int, **more: Any) -> Any:
    from transformers import T5Config, T5EncoderModel

    sizes = {"d_model": width, "num_layers": depth, "num_heads": heads, "d_ff": feed, "d_kv": 64, "vocab_size": 32_128}
    return T5EncoderModel(T5Config(**sizes, **more))


def stable_audio_open(folder: Path) -> None:
    from diffusers import AutoencoderOobleck, StableAudioDiTModel
    from diffusers.pipelines.stable_audio.modeling_stable_audio import StableAudioProjectionModel

    parts = {
        "transformer": ("diffusers", StableAudioDiTModel),
        "vae": ("diffusers", AutoencoderOobleck),
        "text_encoder": ("transformers", lambda: t5(768, 12, 12, 3072)),
        "projection_model": ("stable_audio", lambda: StableAudioProjectionModel(768, 768, 0, 512)),
    }
    describe(folder, "StableAudioPipeline", parts)


def stable_audio_3(folder: Path) -> None:
    from diffusers import AutoencoderSAME, StableAudio3DiTModel

    describe(
        folder, "StableAudio3Pipeline", {"transformer": ("diffusers", StableAudio3DiTModel), "vae": ("diffusers", AutoencoderSAME)}
    )


def ace_step(folder: Path) -> None:
    from diffusers import AceStepConditionEncoder, AceStepTransformer1DModel, AutoencoderOobleck
    from transformers import Qwen3Config, Qwen3Model

    # "hidden_size=2560, 32 layers, 32 heads; encoder_hidden_size=2048" (the page of the XL folders); feed-forward as Qwen3 4B.
    wide = {
        "hidden_size": 2560,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "intermediate_size": 9728,
        "encoder_hidden_size": 2048,
    }
    words = {"vocab_size": 151_669, "hidden_size": 1024, "intermediate_size": 3072, "num_hidden_layers": 28}  # Qwen3-Embedding-0.6B
    parts = {
        "condition_encoder": ("ace_step", AceStepConditionEncoder),
        "transformer": ("diffusers", lambda: AceStepTransformer1DModel(**wide)),
        "text_encoder": (
            "transformers",
            lambda: Qwen3Model(Qwen3Config(**words, num_attention_heads=16, num_key_value_heads=8, head_dim=128)),
        ),
        "vae": ("diffusers", lambda: AutoencoderOobleck(downsampling_ratios=[2, 4, 4, 6, 10], sampling_rate=48_000)),
    }
    describe(folder, "AceStepPipeline", parts)


def stable_diffusion(folder: Path) -> None:
    from diffusers import AutoencoderKL, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel

    words = {"hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12}
    channels = {"block_out_channels": (128, 256, 512, 512), "layers_per_block": 2}
    blocks = {"down_block_types": ("DownEncoderBlock2D",) * 4, "up_block_types": ("UpDecoderBlock2D",) * 4}
    parts = {
        "unet": ("diffusers", lambda: UNet2DConditionModel(cross_attention_dim=768, attention_head_dim=8, sample_size=64)),
        "vae": ("diffusers", lambda: AutoencoderKL(**blocks, **channels)),
        "text_encoder": ("transformers", lambda: CLIPTextModel(CLIPTextConfig(**words))),
    }
    describe(folder, "StableDiffusionPipeline", parts)


def video(folder: Path) -> None:
    from diffusers import AutoencoderKLWan, WanTransformer3DModel
    from transformers import UMT5Config, UMT5EncoderModel

    sizes = {"num_attention_heads": 12, "attention_head_dim": 128, "num_layers": 30, "ffn_dim": 8960}
    words = {"d_model": 4096, "d_ff": 10_240, "d_kv": 64, "num_layers": 24, "num_heads": 64, "vocab_size": 256_384}  # UMT5-XXL
    parts = {
        "transformer": ("diffusers", lambda: WanTransformer3DModel(**sizes)),
        "vae": ("diffusers", AutoencoderKLWan),
        "text_encoder": ("transformers", lambda: UMT5EncoderModel(UMT5Config(**words, feed_forward_proj="gated-gelu"))),
    }
    describe(folder, "WanPipeline", parts)


def tangoflux(folder: Path) -> None:
    (folder / "config.json").write_text("{}")  # all of the class's own sizes are those of the released file
    large = t5_config(1024, 24, 16, 2816, feed_forward_proj="gated-gelu")
    large.save_pretrained(folder / "flan-t5-large")


def t5_config(*sizes: int, **more: Any) -> Any:
    with init_empty_weights():
        return t5(*sizes, **more).config


def musicgen(width: int, depth: int, heads: int, channels: int = 1, melody: bool = False) -> Callable[[Path], None]:
    import transformers

    def write(folder: Path) -> None:
        kind = "MusicgenMelody" if melody else "Musicgen"
        decoder = getattr(transformers, f"{kind}DecoderConfig")(
            hidden_size=width, ffn_dim=4 * width, num_hidden_layers=depth, num_attention_heads=heads,
            num_codebooks=4 * channels, audio_channels=channels, tie_word_embeddings=False,
        )  # fmt: skip
        codec = transformers.EncodecConfig(
            sampling_rate=32_000, upsampling_ratios=[8, 5, 4, 4], num_filters=64, codebook_size=2048, target_bandwidths=[2.2],
            use_causal_conv=False, use_conv_shortcut=False, normalize=False,
        )  # fmt: skip
        getattr(transformers, f"{kind}Config")(
            text_encoder=t5_config(768, 12, 12, 3072).to_dict(), audio_encoder=codec.to_dict(), decoder=decoder.to_dict()
        ).save_pretrained(folder)

    return write


def audiogen(folder: Path) -> None:
    t5_config(1024, 24, 16, 4096).save_pretrained(folder / "t5")


def fastspeech2(folder: Path) -> None:
    from transformers import FastSpeech2ConformerWithHifiGanConfig

    FastSpeech2ConformerWithHifiGanConfig().save_pretrained(folder)


# Row -> what describes its folder, and millions of parameters by part.
ROWS: dict[str, tuple[Callable[[Path], None], dict[str, float]]] = {
    "stable-audio-open": (stable_audio_open, {"transformer": 1057, "vae": 156.1, "text_encoder": 109.6}),
    "stable-audio-3": (stable_audio_3, {"transformer": 1453.2}),  # the class as it comes; the page says two billion in all
    "ace-step": (ace_step, {"transformer": 4168.9, "text_encoder": 595.8, "vae": 168.7}),
    "riffusion": (stable_diffusion, {"unet": 859.5, "vae": 83.7, "text_encoder": 123.1}),
    "stable-diffusion": (stable_diffusion, {"unet": 859.5, "vae": 83.7, "text_encoder": 123.1}),
    "text-to-video": (video, {"transformer": 1418.9, "vae": 126.9, "text_encoder": 5681}),
    "tangoflux": (tangoflux, {"main": 516.7 + 341.2 + 1.05 + 0.26, "vae": 156.1}),
    "musicgen-small": (musicgen(1024, 24, 16), {"model": 420 + 109.6 + 56.8 + 0.8}),
    "musicgen-medium": (musicgen(1536, 48, 24), {"model": 1838 + 109.6 + 56.8 + 1.2}),
    "musicgen-large": (musicgen(2048, 48, 32), {"model": 3255 + 109.6 + 56.8 + 1.6}),
    "musicgen-melody": (musicgen(1536, 48, 24, melody=True), {"model": 1382 + 109.6 + 56.8 + 1.2}),
    "musicgen-stereo": (musicgen(1536, 48, 24, channels=2), {"model": 1838 + 25.2 + 109.6 + 56.8 + 1.2}),
    "audiogen-medium": (audiogen, {"language model": 1839.6, "codec": 56.8, "t5": 334.9}),
    "fastspeech2": (fastspeech2, {"model": 70.3 + 13.9}),
}


@pytest.mark.parametrize("name", ROWS)
def test_a_row_has_the_parts_and_the_numbers_of_its_public_checkpoint(name: str, tmp_path: Path) -> None:
    write, expected = ROWS[name]
    under_test = backend(name, tmp_path)
    under_test.folder.mkdir(parents=True)
    write(under_test.folder)
    parts = under_test.networks()
    counted = {part: trained(one.network) / M for part, one in parts.items()}
    assert all(p.is_meta for one in parts.values() for p in one.network.parameters())
    assert {part: counted[part] for part in expected} == pytest.approx(expected, rel=0.01)
    stated = preset(name).parameters
    assert stated is None or stated > 0.97 * M * sum(expected.values())


def trained(network: nn.Module) -> int:
    """Numbers of a network; T5's shared embedding, which lies there under two names on the meta device, counts once."""
    named = dict(network.named_parameters())
    twice = [key for key in named if key.replace("encoder.embed_tokens", "shared") in set(named) - {key}]
    return sum(parameter.numel() for key, parameter in named.items() if key not in twice)


@pytest.mark.parametrize("name", ["audiogen-medium"])
def test_files_of_the_official_shape_become_the_manifests_network(name: str, tmp_path: Path) -> None:
    under_test = backend(name, tmp_path)
    under_test.folder.mkdir(parents=True)
    audiogen(under_test.folder)
    parts = under_test.networks()
    lm, codec = official_audiogen(AUDIOGEN_DECODER, AUDIOGEN_CODEC, text_width=1024, device="meta")
    whole = {
        **shapes_of(language_model_state(lm)),
        **{f"audio_encoder.{key}": shape for key, shape in shapes_of(codec_state(codec)).items()},
        **{f"text_encoder.{key}": tuple(value.shape) for key, value in parts["t5"].network.state_dict().items()},
    }
    manifest = {key: tuple(shape) for key, shape in json.loads(lzma.decompress(MANIFEST.read_bytes())).items()}
    assert str(compare(manifest, whole)) == "everything fits"
    for name, state in (("language model", language_model_state(lm)), ("codec", codec_state(codec))):
        assert str(compare(shapes_of(parts[name].network), shapes_of(state))) == "everything fits"
