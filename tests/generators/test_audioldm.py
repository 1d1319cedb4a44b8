"""AudioLDM, MusicLDM and the AudioLDM 2 checkpoints without LOA: equal to their authors' code and to diffusers' retired pipelines.

What the recordings ran stands in their notes; weights are drawn by key (tests/official_weights.py, tests/audioldm_fakes.py).
"""

from __future__ import annotations

import json
import lzma
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler
from torch import Tensor

from configs.schema import presets
from encoders.weights import WeightsError, compare, shapes_of
from generators.audioldm import SYSTEMS, AudioLDM, attempts
from generators.audioldm_layouts import LAYOUTS, build, filled, parts_of, state_of
from generators.base import GenerationRequest, UnsupportedRequest
from generators.engine import denoise
from media.refs import MediaStore
from tests.audioldm_fakes import tiny_audioldm
from tests.official_weights import PARITY, Recording, small_sizes, write_tokenizers

KEYS: dict[str, dict[str, list[int]]] = {
    name: keys
    for packed in ("audioldm2_keys.json.xz", "audioldm_keys.json.xz")
    for name, keys in json.loads(lzma.decompress((PARITY / packed).read_bytes())).items()
}
ROWS = {
    "audioldm-s": "audioldm-s",
    "audioldm-m": "audioldm-m",
    "audioldm-l": "audioldm-l",
    "musicldm": "musicldm",
    "audioldm2-48k": "48k",
    "audioldm2-16k-t5": "16k-t5",
}
FILES = {"48k": "audioldm_48k_pth", "16k-t5": "audioldm_16k_crossattn_t5_pth"}
UNETS = {
    "audioldm-s": ("diffusers_audioldm_s-full_unet", 185_036_552, (8, 12, 20)),
    "audioldm-m": ("diffusers_audioldm_m-full_unet", 415_954_568, (12, 18, 30)),
    "audioldm-l": ("diffusers_audioldm_l-full_unet", 739_139_080, (8, 12, 20)),
    "musicldm": ("diffusers_musicldm_default_unet", 185_036_552, (8, 12, 20)),
}


def make(row: str, folder: Path, **options: Any) -> AudioLDM:
    given = {**presets()[row].options, "checkpoint": str(folder), **options}
    return AudioLDM(row, given, MediaStore(folder.parent / "store"), folder.parent)


def far(ours: Tensor, theirs: Tensor) -> float:
    """Largest error, relative to the largest value."""
    return float((ours - theirs).abs().max() / theirs.abs().max())


# -- true size --------------------------------------------------------------------------------------------------------
@pytest.mark.parity
@pytest.mark.parametrize("row", ROWS)
def test_rows_say_their_layout(row: str) -> None:
    options = AudioLDM.Options.model_validate(presets()[row].options)
    assert (options.layout, options.protocol) == (ROWS[row], "official")
    assert presets()[row].sample_rate == SYSTEMS[ROWS[row]].sample_rate


@pytest.mark.parity
@pytest.mark.parametrize("row", ["audioldm2-48k", "audioldm2-16k-t5"])
def test_at_true_size_every_part_takes_exactly_what_the_official_file_holds_for_it(row: str) -> None:
    layout = LAYOUTS[ROWS[row]]
    file = {key: torch.empty(shape, device="meta") for key, shape in KEYS[FILES[ROWS[row]]].items()}
    for part in parts_of(layout):
        misfit = compare(shapes_of(build(layout, part)), shapes_of(state_of(layout, part, file)))
        assert not misfit, f"{part}: {misfit}"
    count = sum(p.numel() for p in build(layout, "unet").parameters())
    assert count == {"48k": 262_699_152, "16k-t5": 265_531_016}[ROWS[row]]


@pytest.mark.parity
@pytest.mark.parametrize("row", UNETS)
def test_at_true_size_networks_have_the_listed_keys_shapes_and_the_official_heads(row: str) -> None:
    listed, parameters, heads = UNETS[row]
    unet = build(LAYOUTS[row], "unet")
    assert not compare({key: tuple(shape) for key, shape in KEYS[listed].items()}, shapes_of(unet))
    assert sum(p.numel() for p in unet.parameters()) == parameters
    assert tuple(block.attentions[0].transformer_blocks[0].attn1.heads for block in unet.down_blocks[1:]) == heads
    for part in ("vae", "vocoder"):
        shapes = {key: tuple(shape) for key, shape in KEYS[f"diffusers_musicldm_{part}"].items()}
        assert not compare(shapes, shapes_of(build(LAYOUTS[row], part)))
    if row in ("audioldm-s", "audioldm-l"):  # the tiny audio tower; m and MusicLDM have the base one
        shapes = {key: tuple(shape) for key, shape in KEYS["transformers_clap_htsat_unfused"].items()}
        assert not compare(shapes, shapes_of(build(LAYOUTS[row], "clap")))


# -- small size against the authors' code -----------------------------------------------------------------------------
@dataclass(frozen=True)
class Case:
    recording: Recording
    backend: AudioLDM
    request: GenerationRequest


CASES = {"audioldm-s": "audioldm_official", "audioldm2-48k": "audioldm2_48k", "audioldm2-16k-t5": "audioldm2_16k_t5"}


@pytest.fixture(scope="module", params=CASES)
def case(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Case]:
    row, recording = request.param, Recording(CASES[request.param])
    folder = tmp_path_factory.mktemp(row) / row
    write_tokenizers(folder)
    torch.save({"state_dict": recording.state()}, folder / ("audioldm.ckpt" if row == "audioldm-s" else "audioldm2.pth"))
    backend = make(row, folder, sizes=small_sizes(recording))
    backend.load()
    note = recording.note
    yield Case(recording, backend, GenerationRequest(prompt=note["prompt"], seconds=note["seconds"], steps=note["steps"]))
    backend.unload()


class Recorded(DDIMScheduler):
    """DDIM whose fresh noise is what the recording drew."""

    noise: Tensor

    def step(self, model_output: Tensor, timestep: Any, sample: Tensor, eta: float = 0.0, generator: Any = None) -> Any:
        assert generator is not None and eta == 1.0
        at = self.timesteps.tolist().index(int(timestep))
        return super().step(model_output, timestep, sample, eta=eta, variance_noise=self.noise[at])


@pytest.mark.parity
def test_from_words_to_waveform_as_the_official_code(case: Case, record_property: Callable[[str, object], None]) -> None:
    backend, recording = case.backend, case.recording
    (first, _), (null, _) = backend.read_text(case.request.prompt), backend.read_text("")
    errors = {}
    if "clap_text" in recording.arrays.files:
        errors["clap"] = far(first.states, recording["clap_text"].reshape(1, 1, -1))
        errors["clap, null"] = far(null.states, recording["clap_null"].reshape(1, 1, -1))
    else:
        length = recording["t5"].shape[1]
        assert int(first.mask.sum()) == length and int(null.mask.sum()) == 1
        errors["t5"] = far(first.states[:, :length], recording["t5"])
    assert backend.noise_shape(case.request.seconds) == tuple(recording["latents"].shape[1:])
    job = replace(backend._job(case.request), noise=recording["start"][0])
    assert (job.eta, job.guidance, job.steps) == (1.0, recording.note["guidance"], recording.note["steps"])

    def scheduler() -> Any:
        made = Recorded.from_config(backend.scheduler().config)
        made.noise = recording["noise"]
        return made

    seen: list[tuple[int, Tensor]] = []
    network = backend.network

    def watched(z: Tensor, t: Tensor, **given: Any) -> Any:
        made = network(z, t, **given)
        seen.append((int(t[0]), made.sample))
        return made

    latent = denoise(watched, [job], scheduler, rows=1, window=None, overlap=0)[0]  # type: ignore[arg-type]
    assert [time for time, _ in seen] == recording["times"].flatten().tolist()
    ours_null, ours = seen[0][1].chunk(2)
    one, other = ("unet_null", "unet_cond") if "unet_null" in recording.arrays.files else ("unet_first", "unet_second")
    errors |= {"unet, null": far(ours_null, recording[one]), "unet": far(ours, recording[other])}
    errors["latents"] = far(latent[None], recording["latents"])
    vae, vocoder = backend._parts.vae, backend._parts.vocoder
    with torch.no_grad():
        errors["mel"] = far(vae.decode(recording["latents"] / vae.config.scaling_factor).sample, recording["mel"])
        errors["wave"] = far(vocoder(recording["mel"][0, 0]), recording["wav"].reshape(-1))
    record_property("errors", errors)
    assert max(errors.values()) < 2e-5, errors
    assert float((recording[one] - recording[other]).std()) > 0.02  # the prompt is heard


@pytest.mark.parity
def test_the_averaged_weights_are_those_that_make_the_sound(case: Case) -> None:
    if case.backend.options.layout != "audioldm-s":  # AudioLDM 2 keeps averages and does not use them
        return
    last = case.recording.state()["model.diffusion_model.time_embed.0.weight"]
    assert not torch.equal(last, case.backend._parts.unet.time_embedding.linear_1.weight)


@pytest.mark.parity
def test_a_file_of_another_size_is_named(case: Case) -> None:
    other = make(case.backend.name, case.backend.folder)
    assert not any(case.backend.misfits().values())
    if case.backend.options.layout == "audioldm-s":
        with pytest.raises(WeightsError, match=r"another (size|version)"):
            other.load()
    else:
        assert other.misfits()["unet"]


@pytest.mark.parity
def test_the_unet_of_musicldm_is_that_of_the_official_code(record_property: Callable[[str, object], None]) -> None:
    recording = Recording("musicldm_official")
    told = recording.note["settings"]
    levels = [told["model_channels"] * times for times in told["channel_mult"]]
    small = {
        "block_out_channels": levels,
        "layers_per_block": told["num_res_blocks"],
        "down_block_types": ["DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"],
        "up_block_types": ["CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"],
        "attention_head_dim": [width // told["num_head_channels"] for width in levels],
        "cross_attention_dim": levels,
    }
    unet = filled(LAYOUTS["musicldm"].resized({"unet": small}), "unet", recording.state(), "the recording")
    with torch.no_grad():
        ours = unet(
            recording["x"], torch.tensor(recording.note["times"]), encoder_hidden_states=None, class_labels=recording["y"]
        ).sample
    error = far(ours, recording["out"])
    record_property("errors", {"unet": error})
    assert error < 1e-5


# -- small size against diffusers -------------------------------------------------------------------------------------
@pytest.fixture(scope="module", params=["audioldm-s", "audioldm-m", "audioldm-l", "musicldm"])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> AudioLDM:
    folder = tmp_path_factory.mktemp("folders") / request.param
    tiny_audioldm(folder, whole_clap=request.param == "musicldm")
    return make(request.param, folder, protocol="diffusers")


@pytest.mark.parity
def test_protocol_diffusers_is_the_retired_pipeline(folder: AudioLDM, record_property: Callable[[str, object], None]) -> None:
    recording = Recording("musicldm_diffusers" if folder.name == "musicldm" else "audioldm_diffusers")
    note = recording.note
    folder.load()
    request = GenerationRequest(
        prompt=note["prompt"], negative_prompt=note["negative"], seconds=note["seconds"], steps=note["steps"], guidance=note["guidance"]
    )
    job = replace(folder._job(request), noise=recording["start"][0])
    assert job.eta == 0.0
    latent = denoise(folder.network, [job], folder.scheduler, rows=1, window=None, overlap=0)[0]
    errors = {
        "prompt": far(job.loa.states[:, 0], recording["prompt"]),
        "null": far(job.null_loa.states[:, 0], recording["null"]),
        "latents": far(latent[None], recording["latents"]),
    }
    record_property("errors", errors)
    assert max(errors.values()) < 2e-5, errors
    wave = folder.decode(latent).samples[0]
    theirs = recording.arrays["wav"]
    assert float(np.abs(wave[: len(theirs)] - theirs).max()) < 1e-4 and float(theirs.std()) > 0.01


@pytest.mark.slow
def test_no_retired_pipeline_is_imported(tmp_path: Path) -> None:
    tiny_audioldm(tmp_path / "checkpoints" / "musicldm", whole_clap=True)
    program = f"""
import sys
import torch
torch.set_num_threads(1)
class Blocked:
    def find_spec(self, name, *rest):
        if name.startswith("diffusers.pipelines.deprecated"):
            raise ImportError("a retired pipeline was asked for: " + name)
sys.meta_path.insert(0, Blocked())
from pathlib import Path
from generators.audioldm import AudioLDM
from generators.base import GenerationRequest
from media.refs import MediaStore
home = Path({str(tmp_path)!r})
backend = AudioLDM("musicldm", {{"layout": "musicldm"}}, MediaStore(home / "store"), home)
made = backend.generate([GenerationRequest(prompt="piano", seconds=0.5, steps=2)])
print(made[0].seconds, any(name.startswith("diffusers.pipelines.deprecated") for name in sys.modules))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=100, cwd=Path(__file__).parents[2])
    assert done.stdout.split() == ["0.5", "False"], done.stderr[-2000:]


# -- requests ---------------------------------------------------------------------------------------------------------
def test_the_folders_of_diffusers_fit_their_classes_by_keys_and_shapes(folder: AudioLDM) -> None:
    told = folder.misfits()
    assert set(told) == {"unet", "vae", "vocoder", "text_encoder"} and not any(told.values())


def test_candidates_are_ranked_where_there_is_an_ear(folder: AudioLDM) -> None:
    request = GenerationRequest(prompt="a dog barks", seconds=0.5, steps=2, candidates=3)
    if folder.name != "musicldm":
        with pytest.raises(UnsupportedRequest, match="no audio tower"):
            folder.check(request)
        return
    folder.load()
    once = request.model_copy(update={"candidates": 1})
    tries = [folder._synthesise([one], 1, lambda _: None, lambda: False)[0] for one in attempts(once, 3)]
    best = int(np.argmax(folder.scores(tries, request.prompt)))
    chosen = folder._synthesise([request], 1, lambda _: None, lambda: False)[0]
    assert np.abs(chosen.samples - tries[best].samples).max() < 1e-5
    seeds = [one.seed for one in attempts(request, 3)]
    assert seeds[0] == request.seed and len(set(seeds)) == 3


@pytest.mark.parametrize("row", ROWS)
def test_missing_weights_are_named_with_size_licence_and_what_to_do(row: str, tmp_path: Path) -> None:
    reason = AudioLDM(row, presets()[row].options, MediaStore(tmp_path / "store"), tmp_path).readiness().reason
    assert ("GB" in reason or "MB" in reason) and "CC BY-NC" in reason and f"loa models pull {row}" in reason and "\n" not in reason
