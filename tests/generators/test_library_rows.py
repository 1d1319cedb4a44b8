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
DATA = Path(__file__).parents[1] / "data"
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
    assert got.shape[0] == 2 and np.abs(got[0] - got[1]).max() > 1e-4  # stereo


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


@pytest.mark.parametrize("name", ["text-to-video"])
def test_the_frames_are_the_pipelines_own(name: str, tmp_path: Path) -> None:
    import diffusers

    backend = made(name, tmp_path)
    judge = diffusers.WanPipeline.from_pretrained(backend.folder, local_files_only=True)
    how = {"width": 32, "height": 16, "num_frames": 9, "guidance_scale": 5.0, "num_inference_steps": 2, "output_type": "np"}
    expected = judge(ASK.prompt, generator=torch.Generator().manual_seed(5), **how).frames[0][:8]
    drawn = backend._draw(ASK, lambda *_: None).frames
    assert drawn.shape == expected.shape and np.abs(drawn / 255 - expected).max() <= 0.5 / 255 + 1e-6


@pytest.mark.parametrize("name", ["musicgen-small", "musicgen-medium", "musicgen-large", "musicgen-melody", "musicgen-stereo"])
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


@pytest.mark.parametrize("name", ["stable-audio-open"])
def test_with_the_solver_that_it_is_given_the_sound_is_the_pipelines_own(name: str, tmp_path: Path) -> None:
    """The solver itself is held against diffusers' own in test_pipelines.py."""
    import diffusers

    from generators.cosine_dpm import CosineDpm

    backend = made(name, tmp_path)
    solver = CosineDpm.from_pretrained(backend.folder / "scheduler")
    index = backend.folder / "model_index.json"  # names a class that diffusers has only beside torchsde
    index.write_text(index.read_text().replace("CosineDPMSolverMultistepScheduler", "EDMDPMSolverMultistepScheduler"))
    judge = diffusers.StableAudioPipeline.from_pretrained(backend.folder, local_files_only=True, scheduler=solver)
    solver.generator = torch.Generator().manual_seed(5)
    how = {"audio_end_in_s": 1.0, "guidance_scale": backend.options.guidance, "num_inference_steps": 2}
    expected = judge(ASK.prompt, generator=solver.generator, **how).audios[0].float().numpy()
    got = backend._make(ASK, lambda *_: None)
    assert np.array_equal(got, expected) and got.shape[0] == 2 and float(np.abs(got).max()) > 1e-3


@pytest.mark.parametrize("name", ["fastspeech2"])
def test_the_speech_is_the_librarys_for_the_symbols_of_the_words(name: str, tmp_path: Path) -> None:
    import json

    from transformers import FastSpeech2ConformerWithHifiGan

    backend = made(name, tmp_path)
    judge = FastSpeech2ConformerWithHifiGan.from_pretrained(backend.folder, local_files_only=True).eval()
    numbers = json.loads((backend.folder / "vocab.json").read_text())
    symbols = ["HH", "AH0", "L", "OW1", ".", "<sos/eos>"]
    with torch.no_grad():
        expected = judge(torch.tensor([[numbers[symbol] for symbol in symbols]]), return_dict=True).waveform.numpy().reshape(1, -1)
    got = backend._make(GenerationRequest(transcript="Hello."), lambda *_: None)
    assert got.shape == expected.shape and np.array_equal(got, expected) and float(np.abs(got).max()) > 1e-4


@pytest.mark.parametrize("name", ["hibari"])
def test_the_voice_is_the_packages_own(name: str, tmp_path: Path) -> None:
    from hibari import Hibari

    backend = resolve("loa.backends", "hibari")(name=name, options={}, store=MediaStore(tmp_path / "store"), home=tmp_path)
    backend.load()
    request = GenerationRequest(transcript="Good morning.", seed=3)
    got = backend._synthesise([request], 1, lambda _: None, lambda: False)[0].samples[0]
    assert np.array_equal(got, np.clip(Hibari(threads=1)("Good morning.", speed=1.0, seed=3), -1, 1).astype(np.float32))


@pytest.mark.parametrize("name", ["nano", pytest.param("nano-signal", marks=pytest.mark.slow)])  # the language model is unpacked first
def test_the_shipped_checkpoint_is_denoised_as_diffusers_classes_called_by_hand(name: str, tmp_path: Path) -> None:
    """Not our engine: the U-Net and the solver of diffusers in a loop of ten lines, on what is shipped, at its true size."""
    from diffusers import AudioLDM2UNet2DConditionModel, DPMSolverMultistepScheduler

    from generators.engine import Job, denoise

    backend = resolve("loa.backends", "audioldm2")(
        name=name, options=preset(name).options, store=MediaStore(tmp_path / "store"), home=tmp_path
    )
    backend.load()
    shown = (backend.store.put_file(DATA / "pictures" / "chelsea.jpg"),) if name == "nano-signal" else ()
    known = backend._conditioner.conditions(GenerationRequest(prompt="" if shown else "rain on a roof", media=shown))
    noise = torch.randn(1, 8, 64, 8, generator=torch.Generator().manual_seed(1))
    control = torch.zeros(9, 64, 8)  # no loudness curve
    job = Job(noise[0], known.loa, known.text, known.null_loa, known.null_text, steps=4, guidance=3.5, control=control)
    got = denoise(backend._unet, [job], backend.scheduler, rows=1, window=64, overlap=16)[0]
    unet = AudioLDM2UNet2DConditionModel.from_pretrained(backend.folder / "unet", torch_dtype=torch.float32).eval()
    solver = DPMSolverMultistepScheduler.from_pretrained(backend.folder / "scheduler")
    solver.set_timesteps(4)
    pairs = [torch.cat([nothing.states, said.states]) for nothing, said in ((known.null_loa, known.loa), (known.null_text, known.text))]
    masks = [torch.cat([nothing.mask, said.mask]) for nothing, said in ((known.null_loa, known.loa), (known.null_text, known.text))]
    z = noise * solver.init_noise_sigma
    with torch.no_grad():
        for t in solver.timesteps:
            both = torch.cat([solver.scale_model_input(z, t)] * 2)
            both = torch.cat([both, control[None].expand(2, -1, -1, -1)], dim=1)
            eps = unet(
                both, t, encoder_hidden_states=pairs[0], encoder_hidden_states_1=pairs[1],
                encoder_attention_mask=masks[0], encoder_attention_mask_1=masks[1],
            ).sample  # fmt: skip
            eps = eps[:1] + 3.5 * (eps[1:] - eps[:1])
            z = solver.step(eps, t, z).prev_sample
    assert float((got - z[0]).abs().max()) <= 1e-4 * float(z.abs().max()) and float(z.std()) > 0.3
