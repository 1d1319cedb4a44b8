"""AudioLDM 2 against its authors' code: keys and shapes at true size, and every stage from words to waveform at small size.

The recordings ran github.com/haoheliu/AudioLDM2 unmodified over small networks with weights drawn by key (tests/official_weights.py);
the note in each file holds commit, settings and seed. The same weights, written as the authors write theirs, go through the port here.
"""

from __future__ import annotations

import json
import lzma
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from diffusers import DDIMScheduler
from torch import Tensor

from configs.schema import presets
from encoders.base import Condition
from encoders.weights import compare, shapes_of
from generators.audioldm2 import AudioLDM2, LoaConfig, step_noise
from generators.audioldm_layouts import LAYOUTS, SCHEDULE, build, parts_of, state_of
from generators.base import GenerationRequest
from generators.engine import Job, denoise
from media.audio import Audio
from media.refs import MediaStore
from tests.drawn import drawn_sound
from tests.official_weights import PARITY, Recording, small_sizes, write_tokenizers

pytestmark = pytest.mark.parity

KEYS: dict[str, dict[str, list[int]]] = json.loads(lzma.decompress((PARITY / "audioldm2_keys.json.xz").read_bytes()))
FILES = {"full": "audioldm2_full_pth", "large": "audioldm2_full_large_1150k_pth", "speech": "audioldm2_speech_pth"}
ROWS = {
    "full": ("audioldm2", "audioldm2-music"),
    "large": ("audioldm2-large",),
    "speech": ("audioldm2-speech-gigaspeech", "audioldm2-speech-ljspeech"),
}
every_layout = pytest.mark.parametrize("layout", ROWS, ids=["+".join(rows) for rows in ROWS.values()])  # -k finds a row by its name
FOLDERS = {
    "full": {"unet": "diffusers_audioldm2_unet", "t5": "diffusers_audioldm2_text_encoder_2_t5"},
    "large": {"unet": "diffusers_audioldm2-large_unet"},
    "speech": {"unet": "diffusers_speech_unet"},
}
SHARED = {
    "vae": "diffusers_audioldm2_vae",
    "vocoder": "diffusers_audioldm2_vocoder",
    "clap": "diffusers_audioldm2_text_encoder_clap",
    "gpt2": "diffusers_audioldm2_language_model_gpt2",
}


# -- true size --------------------------------------------------------------------------------------------------------
@every_layout
def test_rows_say_the_layout_of_their_files(layout: str) -> None:
    for row in ROWS[layout]:
        options = AudioLDM2.Options.model_validate(presets()[row].options)
        assert (options.layout, options.protocol, options.checkpoint) == (layout, "official", row)


@every_layout
def test_at_true_size_every_part_takes_exactly_what_the_files_hold_for_it(layout: str) -> None:
    file = {key: torch.empty(shape, device="meta") for key, shape in KEYS[FILES[layout]].items()}
    assert len(file) == {"full": 5316, "large": 8708, "speech": 4156}[layout]
    folder = SHARED | FOLDERS[layout]
    for part in parts_of(LAYOUTS[layout]):
        wanted = shapes_of(build(LAYOUTS[layout], part))
        misfit = compare(wanted, shapes_of(state_of(LAYOUTS[layout], part, file)))
        assert not misfit, f"{part} of {FILES[layout]}: {misfit}"
        if part in folder:
            misfit = compare(wanted, {key: tuple(shape) for key, shape in KEYS[folder[part]].items()})
            assert not misfit, f"{part} of the folder: {misfit}"


@every_layout
def test_head_counts_grow_with_the_level_as_in_the_official_networks(layout: str) -> None:
    unet = build(LAYOUTS[layout], "unet")
    assert sum(p.numel() for p in unet.parameters()) == {"full": 346_943_496, "large": 718_012_296, "speech": 261_926_536}[layout]
    for block, heads in zip(unet.down_blocks[1:], (8, 12, 20), strict=True):
        for attention in block.attentions:
            assert attention.transformer_blocks[0].attn1.heads == heads
            assert attention.transformer_blocks[0].attn1.to_q.out_features == 32 * heads


# -- small size, all stages -------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class Case:
    recording: Recording
    backend: AudioLDM2
    request: GenerationRequest


@pytest.fixture(scope="module", params=ROWS, ids=["+".join(rows) for rows in ROWS.values()])
def case(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Case]:
    layout = request.param
    row = ROWS[layout][0]
    home = tmp_path_factory.mktemp(row)
    folder = home / "checkpoints" / row
    recording = Recording(f"audioldm2_{layout}")
    backend = AudioLDM2(row, presets()[row].options, MediaStore(home / "store"), home)
    official_folder(folder, recording)
    note = recording.note
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("generators.phonemes.phonemes", lambda words: note["transcription"])  # espeak-ng is not on every machine
        patch.setattr("generators.audioldm2.lacking", lambda: "")
        backend.load()
        words = {"transcript": "hello world, how are you"} if layout == "speech" else {}
        yield Case(recording, backend, GenerationRequest(prompt=note["prompt"], seconds=note["seconds"], seed=note["seed"], **words))
    backend.unload()


def official_folder(folder: Path, recording: Recording, **config: Any) -> None:
    """A folder as people would make it: the authors' one file, and the tokenizers beside it."""
    folder.mkdir(parents=True)
    torch.save({"state_dict": recording.state()}, folder / "audioldm2.pth")
    write_tokenizers(folder)
    tokens = recording.note["settings"]["sequence_gen_length"]
    (folder / "loa.json").write_text(json.dumps({"sizes": small_sizes(recording), "loa_tokens": tokens, **config}))


def far(ours: Tensor, theirs: Tensor) -> float:
    """Largest error, relative to the largest value."""
    return float((ours - theirs).abs().max() / theirs.abs().max())


def test_conditions_equal_the_official_code(case: Case, record_property: Callable[[str, object], None]) -> None:
    known, recording = case.backend._conditioner.conditions(case.request), case.recording
    conditioner: Any = case.backend._conditioner
    errors = {"clap": far(conditioner.clap(case.request.prompt).states, recording["clap_text"])}
    errors["loa"] = far(known.loa.states, recording["loa"])
    assert torch.equal(known.null_loa.states, recording["null_loa"]) and not recording["null_loa"].any()
    assert torch.equal(known.null_loa.mask.float(), recording["null_loa_mask"])
    if case.request.transcript is None:
        length = recording["t5"].shape[1]
        errors["t5"] = far(known.text.states[:, :length], recording["t5"])
        assert int(known.text.mask.sum()) == length and int(known.null_text.mask.sum()) == recording["null_t5"].shape[1] == 1
        errors["null t5"] = far(known.null_text.states[:, :1], recording["null_t5"])
        second = conditioner.t5(case.request.prompt)
    else:
        second = conditioner.phonemes(case.request.transcript)
        shown = recording["phoneme_states"].shape[1]
        # The official encoder adds the learned positions; here the projection does.
        learned = conditioner._writer().projection.learnable_positional_embedding.permute(0, 2, 1)
        errors["phonemes"] = far((second.states + learned)[:, :shown], recording["phoneme_states"])
        assert torch.equal(second.mask.float(), recording["phoneme_mask"]) and int(second.mask.sum()) > 20
    states, mask = conditioner._writer().prefix(conditioner.clap(case.request.prompt), second)
    errors["into gpt2"] = far(states[:, : recording["gpt_in"].shape[1]], recording["gpt_in"])
    assert torch.equal(mask.float(), recording["gpt_mask"])
    record_property("errors", errors)
    assert max(errors.values()) < 2e-5, errors
    assert float(recording["loa"].std()) > 0.5


class Recorded(DDIMScheduler):
    """DDIM whose fresh noise is what the recording drew."""

    noise: Tensor

    def step(self, model_output: Tensor, timestep: Any, sample: Tensor, eta: float = 0.0, generator: Any = None) -> Any:
        assert generator is not None and eta == 1.0
        at = self.timesteps.tolist().index(int(timestep))
        return super().step(model_output, timestep, sample, eta=eta, variance_noise=self.noise[at])


def sampled(case: Case) -> tuple[Tensor, list[Any]]:
    """The backend's own loop over the recording's noise: latent [1, C, T, F] and the U-Net calls."""
    backend, recording = case.backend, case.recording
    known = backend._conditioner.conditions(case.request)
    assert backend._choice("eta") == recording.note["eta"] == 1.0 and backend._guidance(case.request) == recording.note["guidance"]

    def scheduler() -> Any:
        made = Recorded.from_config(backend.scheduler().config)
        made.noise = recording["noise"]
        return made

    seen: list[Any] = []
    hook = backend._unet.register_forward_hook(lambda _, args, out: seen.append((args, out.sample)))
    job = Job(
        noise=recording["start"][0],
        loa=known.loa,
        text=known.text,
        null_loa=known.null_loa,
        null_text=known.null_text,
        steps=recording.note["steps"],
        guidance=recording.note["guidance"],
        eta=1.0,
        generator=step_noise(0, 0),
    )
    latent = denoise(backend._unet, [job], scheduler, rows=1, window=None, overlap=0)[0]
    hook.remove()
    return latent[None], seen


def test_from_noise_to_waveform_as_the_official_code(case: Case, record_property: Callable[[str, object], None]) -> None:
    backend, recording = case.backend, case.recording
    latent, seen = sampled(case)
    assert [int(args[1][0]) for args, _ in seen] == recording["times"][:, 0].tolist()
    null, conditioned = seen[0][1].chunk(2)
    with torch.no_grad():
        mel = backend._vae.decode(recording["latents"] / backend._vae.config.scaling_factor).sample
        wave = backend._vocoder(recording["mel"][0, 0])
    errors = {
        "unet, null": far(null, recording["unet_null"]),
        "unet, conditioned": far(conditioned, recording["unet_cond"]),
        "latents": far(latent, recording["latents"]),
        "mel": far(mel, recording["mel"]),
        "wave": far(wave, recording["wav"][0, 0]),
    }
    record_property("errors", errors)
    assert max(errors.values()) < 2e-5, errors
    assert float((recording["unet_null"] - recording["unet_cond"]).std()) > 0.1  # the conditions are heard


def test_the_whole_request_is_the_official_run(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    recording, backend = case.recording, case.backend
    assert backend._candidates(case.request) == 3
    monkeypatch.setattr(backend, "_candidates", lambda _: 1)  # the recording made one; ranking is compared below
    frames = recording["latents"].shape[2]
    start = recording["start"][0]
    monkeypatch.setattr(torch, "randn", lambda shape, generator: start)

    def scheduler() -> Any:
        made = Recorded.from_config(AudioLDM2.scheduler(backend).config)
        made.noise = recording["noise"]
        return made

    monkeypatch.setattr(backend, "scheduler", scheduler)
    assert backend._latent_frames(case.request.seconds) == frames
    request = case.request.model_copy(update={"steps": recording.note["steps"]})
    made = backend._synthesise([request], 1, lambda _: None, lambda: False)[0]
    theirs = recording["wav"][0, 0, : made.samples.shape[1]]
    fade = made.sample_rate // 100  # fit_length fades where it cuts
    assert made.samples.shape[1] == round(request.seconds * 16_000)
    assert float((torch.from_numpy(made.samples[0]) - theirs)[:-fade].abs().max()) < 5e-4  # the tanh of random weights is steep


# -- ranking, and the published case ----------------------------------------------------------------------------------
def test_candidates_are_ranked_by_the_official_clap(case: Case) -> None:
    if case.backend.options.layout != "full":
        return
    conditioner: Any = case.backend._conditioner
    heard = conditioner._heard(Audio(drawn_sound(48_000, 10.0, 1, 7), 48_000))
    assert far(heard, case.recording["rank_audio"][0, 0]) < 2e-4
    words = conditioner.clap(case.request.prompt, conditioner._parts.ranker).states[0, 0]
    assert far(words, case.recording["rank_text"][0, 0]) < 1e-5
    score = torch.cosine_similarity(heard, words, dim=0)
    assert abs(float(score) - float(case.recording["rank_score"])) < 1e-4


def test_reading_the_shapes_of_a_file_is_enough_to_verify_it(case: Case) -> None:
    assert set(case.backend.misfits().values()) == {""}
    public = AudioLDM2(case.backend.name, case.backend.options, case.backend.store, case.backend.home)
    public.config = LoaConfig()  # true sizes
    assert {"unet", "vae", "gpt2", "clap"} <= {part for part, said in public.misfits().items() if said}


def test_audioldm2_steps_of_a_run_at_true_size_are_taken_as_the_official_sampler_takes_them() -> None:
    run = Recording("audioldm2_steps")
    outputs, noise = run["unet_out"], run["noise"]
    read: list[Tensor] = []

    def unet(z: Tensor, t: Tensor, **given: Tensor) -> Any:
        step = len(read)
        assert int(t[0]) == int(run["unet_t"][2 * step, 0])
        read.append(z[:1])
        return SimpleNamespace(sample=torch.cat([outputs[2 * step], outputs[2 * step + 1]]))  # nothing, then the prompt

    def scheduler() -> Any:
        made = Recorded.from_config(SCHEDULE)
        assert float((made.betas - run["betas"]).abs().max()) < 1e-7
        made.noise = noise
        return made

    loa = Condition("loa", run["uncond_loa"], run["uncond_loa_mask"].bool())
    assert not loa.states.any() and bool(loa.mask.all()) and run["uncond_t5_mask"].shape == (1, 1)
    assert run["gpt_mask"].shape[1] == 1 + 2 + run["t5_mask"].shape[1] + 2  # each of the two between its start and its end
    job = Job(run["start"][0], loa, loa, loa, loa, run.note["steps"], run.note["guidance"], generator=step_noise(0, 0), eta=1.0)
    latent = denoise(unet, [job], scheduler, rows=1, window=None, overlap=0)[0]  # type: ignore[arg-type]
    assert far(read[0], run["unet_in"][0]) == 0 and far(read[1], run["unet_in"][2]) < 2e-6
    assert far(latent[None], run["latents"]) < 2e-6
