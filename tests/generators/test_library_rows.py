"""A row that wraps a library gives what the library's own loading and calling give: nothing is lost on the way, nothing is added."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from configs.registry import resolve
from configs.schema import preset
from generators.base import GenerationRequest
from media.refs import MediaStore
from tests.library_fakes import small

pytestmark = pytest.mark.parity
ASK = GenerationRequest(prompt="a dog barks", seconds=1.0, steps=2, seed=5)


def made(name: str, home: Path, **more: Any) -> Any:
    row, folder = preset(name), home / "checkpoints" / name
    options = {**row.options, **small(name, folder), **more}
    backend = resolve("loa.backends", row.backend or "")(name=name, options=options, store=MediaStore(home / "store"), home=home)
    backend.load()
    return backend


@pytest.mark.parametrize(
    ("name", "called"),
    [
        ("stable-audio-3", {"duration": 1.0, "guidance_scale": 1.0}),
        ("ace-step", {"audio_duration": 1.0, "guidance_scale": 1.0, "lyrics": "", "max_text_length": 512}),
    ],
)
def test_the_sound_is_the_pipelines_own(name: str, called: dict[str, Any], tmp_path: Path) -> None:
    import diffusers

    backend = made(name, tmp_path)
    judge = getattr(diffusers, backend.options.pipeline).from_pretrained(backend.folder, local_files_only=True)
    expected = judge(prompt=ASK.prompt, num_inference_steps=2, generator=torch.Generator().manual_seed(5), **called).audios[0]
    got = backend._make(ASK, lambda *_: None)
    assert got.shape == tuple(expected.shape) and np.array_equal(got, expected.float().numpy())


@pytest.mark.parametrize("name", ["stable-diffusion", "riffusion"])
def test_the_picture_is_the_pipelines_own(name: str, tmp_path: Path) -> None:
    import diffusers

    backend = made(name, tmp_path)
    judge = diffusers.StableDiffusionPipeline.from_pretrained(
        backend.folder, local_files_only=True, safety_checker=None, feature_extractor=None
    )
    how = {"width": 32, "height": 16, "guidance_scale": backend.options.guidance, "num_inference_steps": 2, "output_type": "np"}
    expected = judge(ASK.prompt, generator=torch.Generator().manual_seed(5), **how).images[0]
    got = backend._call(ASK, lambda *_: None, width=32, height=16, output_type="np").images[0]
    assert np.array_equal(got, expected) and got.std() > 0


def test_text_to_video_frames_are_the_pipelines_own(tmp_path: Path) -> None:
    import diffusers

    backend = made("text-to-video", tmp_path)
    judge = diffusers.WanPipeline.from_pretrained(backend.folder, local_files_only=True)
    how = {"width": 32, "height": 16, "num_frames": 9, "guidance_scale": 5.0, "num_inference_steps": 2, "output_type": "np"}
    expected = judge(ASK.prompt, generator=torch.Generator().manual_seed(5), **how).frames[0][:8]
    drawn = backend._draw(ASK, lambda *_: None).frames
    assert drawn.shape == expected.shape and np.abs(drawn / 255 - expected).max() <= 0.5 / 255 + 1e-6


@pytest.mark.parametrize("name", ["musicgen-small", "musicgen-melody", "musicgen-stereo"])
def test_with_one_code_to_choose_from_the_sound_is_the_librarys_greedy_one(name: str, tmp_path: Path) -> None:
    import transformers

    backend = made(name, tmp_path, top_k=1)
    kind = "MusicgenMelodyForConditionalGeneration" if name.endswith("melody") else "MusicgenForConditionalGeneration"
    judge = getattr(transformers, kind).from_pretrained(backend.folder, local_files_only=True).eval()
    judge.generation_config = backend._model.generation_config
    words = backend._tokenizer([ASK.prompt], return_tensors="pt")
    with torch.no_grad():
        expected = judge.generate(**words, do_sample=False, guidance_scale=3.0, max_new_tokens=7)[0].numpy()
    got = backend._make(ASK.model_copy(update={"steps": None}), lambda *_: None)
    assert got.shape == expected.shape and np.array_equal(got, expected)
