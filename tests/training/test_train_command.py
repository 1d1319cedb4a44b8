"""``loa train``: wrong recipes are named, nothing is trained twice, and the smallest recipe ends with a checkpoint that sounds."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from accelerate import PartialState
from PIL import Image
from safetensors.torch import load_file
from torch import nn

from configs.registry import ConfigError
from configs.schema import STAGES, LoopConfig, TrainConfig, train_config
from generators.audioldm2 import AudioLDM2
from generators.base import GenerationRequest
from generators.rhythms import Rhythms
from media.mel import MelSpec, log_mel, loudness_curve
from media.refs import MediaStore
from serving import cli
from training import data as training_data
from training import loop as training_loop
from training import stages as training_stages
from training.captions import captions_of
from training.card import weights_licence
from training.data import recordings, split_of
from training.loop import Loop, train
from training.stages import NEEDS, Recipe
from training.synthesis import CLASSES

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def _keep_ctrl_c() -> Iterator[None]:
    before = signal.getsignal(signal.SIGINT)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as training.data writes it, with a few tones and noises in it; of classes of few words, since words are encoded."""
    folder, draw = tmp_path_factory.mktemp("clips"), np.random.default_rng(0)
    said = [len(captions_of(name)) for name in CLASSES]
    known = [i for i, row in enumerate(recordings()) if split_of(str(row["take"])) == "train"]
    known = sorted(known, key=lambda i: len(captions_of(str(recordings()[i]["category"]))))[:3]
    parts: dict[str, list[Any]] = {
        "proc": [[int(k), s] for k in np.argsort(said)[:1] for s in range(6)],
        "rec_train": [[i, 0] for i in known],
        "mixed": [["rain while a bell rings", "a bell in the rain"], ["a bell, then rain"]],
    }
    time = np.arange(81_920) / 16_000
    for part, listed in parts.items():
        tones = draw.uniform(100, 3000, (len(listed), 1))
        waves = 0.3 * np.sin(2 * np.pi * tones * time) + 0.02 * draw.standard_normal((len(listed), len(time)))
        mels = np.stack([log_mel(wave.astype(np.float32), MelSpec()) for wave in waves])
        np.save(folder / f"{part}_wav.npy", (waves * 32767).astype(np.int16))
        np.save(folder / f"{part}_mel.npy", mels.astype(np.float16))
        (folder / f"{part}.json").write_text(json.dumps(listed))
    return folder


@pytest.fixture(scope="module")
def trained(clips: Path, tmp_path_factory: pytest.TempPathFactory) -> Recipe:
    """Every stage of the smallest recipe, and its checkpoint."""
    place = tmp_path_factory.mktemp("tiny")
    recipe = Recipe(train_config("tiny").placed(data=clips, work=place / "work", out=place / "checkpoint"))
    recipe.run("all")
    return recipe


def loa(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    code = cli.run(["train", *map(str, arguments)])
    said = capsys.readouterr()
    return code, said.out, said.err


# -- recipes ----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("name", ["nano-cpu", "nano-gpu", "tiny", "audioldm2", "audioldm2-large"])
def test_every_shipped_recipe_is_valid_and_named_as_its_file(name: str) -> None:
    assert train_config(name).name == name
    assert set(NEEDS) == set(STAGES) and all(need in STAGES for needs in NEEDS.values() for need in needs)


def test_the_recipe_for_one_card_keeps_its_calls_short() -> None:
    config = train_config("nano-gpu")
    minutes = [getattr(config, stage).minutes for stage in STAGES]
    assert max(minutes) < 10 and sum(minutes) < 28  # of thirty; the rest is for starting, encoding and writing


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (("crop: 32", "cropp: 32"), ["mine.yaml", "unknown key 'vae.cropp'", "did you mean 'crop'"]),
        (
            ("joint: {steps: 2, batch: 2}", "joint: {steps: 2, btch: 2}"),
            ["mine.yaml", "unknown key 'joint.btch'", "did you mean 'batch'"],
        ),
        (("tower: {steps: 2", "tower: {minutes: 1, steps: 2"), ["mine.yaml", "'tower'", "one of 'minutes' and 'steps'"]),
        (("name: tiny", "name: Tiny!"), ["mine.yaml", "'name'", "Tiny!"]),
        (("batch: 2, crop: 32", "batch: two, crop: 32"), ["mine.yaml", "'vae.batch'", "two"]),
        (("few_steps: 2", "fewsteps: 2"), ["'checkpoint'", "unknown key 'fewsteps'", "did you mean 'few_steps'"]),
        (("batch: 2, crop: 32", "batch: 2, start: no/such, crop: 32"), ["'vae.start'", "no/such"]),
    ],
)
def test_a_typo_names_the_field(tmp_path: Path, capsys: pytest.CaptureFixture[str], change: tuple[str, str], words: list[str]) -> None:
    text = (ROOT / "configs" / "training" / "tiny.yaml").read_text()
    assert change[0] in text
    (tmp_path / "mine.yaml").write_text(text.replace(*change))
    code, out, err = loa(capsys, "all", "--config", tmp_path / "mine.yaml")
    assert code == 2 and out == "" and len(err.splitlines()) == 1
    assert all(word in err for word in words)


def test_missing_clips_are_made_first_and_unreadable_recordings_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One clip a part; of two recordings in the folder one is no sound."""
    rows = [dict(row) for row in recordings() if split_of(str(row["take"])) == "train"][:2]
    (tmp_path / "recordings").mkdir()
    soundfile.write(
        tmp_path / "recordings" / str(rows[0]["file"]), np.sin(np.arange(16_000) / 9), 16_000, format="OGG", subtype="VORBIS"
    )
    (tmp_path / "recordings" / str(rows[1]["file"])).write_bytes(b"OggS no more")
    for module in (training_data, training_stages):
        monkeypatch.setattr(module, "recordings", lambda: rows)
    monkeypatch.setattr(training_data, "SEEDS", {"proc": (0, 1)})
    monkeypatch.setattr(training_data, "CLASSES", dict(list(CLASSES.items())[:1]))
    monkeypatch.setattr(training_data, "SCENES", {"paced": 1})
    lines: list[str] = []
    config = train_config("tiny").placed(data=tmp_path / "clips", recordings=tmp_path / "recordings", work=tmp_path / "work")
    told = Recipe(config, on_log=lines.append).run("vae")
    assert told["skipped_clips"] == 1 and told["stages"]["vae"]["steps"] == 2
    assert f"skipped {rows[1]['path_in_package']}" in lines[0] and "1 of 2 recordings skipped" in lines[1]
    assert json.loads((tmp_path / "clips" / "rec_train.json").read_text()) == [[0, seed] for seed in range(4)]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["latnt", "--config", "tiny"], "did you mean 'latent'"),
        (["all", "--config", "tinny"], "did you mean 'tiny'"),
        (["all", "--config", "no-such.yaml"], "cannot read the config no-such.yaml"),
        (["joint", "--config", "nano-cpu"], "no stage 'joint'"),
        (["all", "--config", "tiny", "--data", "no/clips"], "no clips in"),
        (["all", "--config", "tiny", "--recordings", "no/recordings"], "python -m training.recordings"),
        (["all", "--config", "tiny", "--recordings", ".", "--soundfont", "no.sf3"], "no such file: 'no.sf3'"),
        (["latent", "--config", "audioldm2"], "'audiomae.model.frames and bins' is (1024, 128), and (512, 64) would fit"),
    ],
)
def test_what_cannot_be_trained_is_refused_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], arguments: list[str], words: str
) -> None:
    monkeypatch.setenv("LOA_HOME", str(tmp_path / "home"))
    code, out, err = loa(capsys, *arguments)
    assert code == 2 and out == "" and words in err and len(err.splitlines()) == 1
    assert not (tmp_path / "home").exists()


def test_music_that_nothing_can_play_is_refused_before_clips_are_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("training.music.find_spec", lambda name: None)
    (tmp_path / "a.sf3").touch()
    asked = ("all", "--config", "tiny", "--recordings", tmp_path, "--soundfont", tmp_path / "a.sf3", "--data", tmp_path / "clips")
    code, _, err = loa(capsys, *asked, "--work", tmp_path / "work", "-o", tmp_path / "out")
    assert code == 2 and "pip install --no-deps tinysoundfont" in err and len(err.splitlines()) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["a.sf3"]


def test_a_stage_says_what_it_needs_first(tmp_path: Path, clips: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = loa(capsys, "tower", "--config", "tiny", "--data", clips, "--work", tmp_path / "work")
    assert code == 2 and "'tower' needs 'audiomae'" in err and "loa train audiomae" in err


def test_damaged_clips_are_refused(tmp_path: Path, clips: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for path in clips.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    cut = tmp_path / "proc_mel.npy"
    cut.write_bytes(cut.read_bytes()[:5000])
    code, _, err = loa(capsys, "vae", "--config", "tiny", "--data", tmp_path, "--work", tmp_path / "work")
    assert code == 2 and "are damaged" in err and str(tmp_path) in err


# -- the whole of the smallest recipe ---------------------------------------------------------------------------------
def test_the_checkpoint_loads_and_sounds(trained: Recipe, tmp_path: Path) -> None:
    backend = AudioLDM2("tiny", {"checkpoint": str(trained.out)}, MediaStore(tmp_path / "store"), tmp_path)
    assert backend.readiness().ready
    made = backend.generate([GenerationRequest(prompt="rain", seconds=1.0, seed=1)])[0]
    assert made.seconds == 1.0 and made.sample_rate == 16_000
    assert not made.guard.silent


def test_the_checkpoint_keeps_the_curves_of_its_clips(trained: Recipe) -> None:
    kept = Rhythms.read(trained.out / "rhythms" / "curves.safetensors")
    source = trained.clips.sources[0]
    name = trained.clips.classes[source.labels[0]][0]
    own = kept.levels[list(kept.rows[name])] / 15
    curves = np.stack([loudness_curve(np.asarray(mel, np.float32)).reshape(256, 2).mean(1) for mel in source.mel])
    assert own.shape == (6, 256) and np.abs(own - curves).max() <= 0.5 / 15 + 1e-6
    assert set(kept.rows) == {said[0] for said in trained.clips.classes.values()}


def test_the_card_tells_recipe_data_and_licences(trained: Recipe) -> None:
    card = (trained.out / "README.md").read_text()
    assert "loa train all --config tiny" in card and "CC BY-SA 4.0" in card
    assert "| 6 | procedural effects | 1 | 58% |" in card
    for stage in STAGES:
        assert f"| {stage} | 2 | " in card
    listed = (trained.out / "clips.tsv").read_text().splitlines()
    assert len(listed) == 1 + 3 and listed[0].split("\t")[:3] == ["package", "path_in_package", "licence"]
    known = {(str(row["package"]), str(row["path_in_package"]), str(row["licence"])) for row in recordings()}
    assert all(tuple(line.split("\t")[:3]) in known for line in listed[1:])
    assert f"{trained.skipped} more could" in card and trained.skipped > 700
    assert str(trained.work) not in card + (trained.out / "recipe.json").read_text()


def test_the_recipe_in_the_checkpoint_is_the_one_it_was_made_with(trained: Recipe) -> None:
    told = json.loads((trained.out / "recipe.json").read_text())
    assert TrainConfig.model_validate(told).latent == trained.config.latent


@pytest.mark.parametrize(("tiers", "licence"), [("", "Apache-2.0"), ("A", "CC BY 4.0"), ("AB", "CC BY-SA 4.0"), ("B", "CC BY-SA 4.0")])
def test_the_licence_follows_from_the_recordings(tiers: str, licence: str) -> None:
    assert weights_licence([{"tier": tier} for tier in tiers]) == licence


def test_recordings_that_must_not_be_trained_on_stop_the_card() -> None:
    with pytest.raises(ValueError, match="tier C"):
        weights_licence([{"tier": "A"}, {"tier": "C"}])


def test_parts_of_the_card_are_counted(trained: Recipe) -> None:
    count = sum(p.numel() for p in trained.unet(joint=True).parameters())
    assert f"| unet | {count:,} |" in (trained.out / "README.md").read_text()


def test_pictures_of_what_is_made_lie_beside_the_log(trained: Recipe) -> None:
    for stage, frames in (("vae", 512), ("latent", 512)):
        with Image.open(trained.folder(stage) / "samples" / "0000002.png") as sheet:
            assert sheet.size[0] == frames and sheet.size[1] > 128
        assert (trained.out / f"{stage}.png").is_file()


def test_the_joint_weights_are_the_ones_that_ship(trained: Recipe) -> None:
    shipped = load_file(trained.out / "unet" / "diffusion_pytorch_model.safetensors")["conv_in.weight"]
    assert torch.equal(shipped, trained.unet(joint=True).conv_in.weight.half())
    assert not torch.equal(shipped, trained.unet(joint=False).conv_in.weight.half())


def test_without_resume_a_state_is_refused_and_with_it_nothing_is_trained_again(
    trained: Recipe, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--config", "tiny", "--data", trained.data, "--work", trained.work, "-o", trained.out]
    code, _, err = loa(capsys, "all", *arguments)
    assert code == 2 and "--resume" in err and "vae" in err
    states = {path: path.stat().st_mtime_ns for path in trained.work.rglob("state.pt")}
    code, out, err = loa(capsys, "all", *arguments, "--resume", "--json")
    told = json.loads(out)
    assert code == 0 and told["checkpoint"] == str(trained.out) and told["skipped_clips"] == trained.skipped
    assert {name: done["steps"] for name, done in told["stages"].items()} == dict.fromkeys(STAGES, 2)
    assert states == {path: path.stat().st_mtime_ns for path in trained.work.rglob("state.pt")}
    assert f"{trained.skipped} recordings could not be read" in err


def test_another_recipe_or_other_clips_are_refused_by_name(trained: Recipe, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = (ROOT / "configs" / "training" / "tiny.yaml").read_text()
    (tmp_path / "mine.yaml").write_text(text.replace("decoder_depth: 1", "decoder_depth: 2"))
    where = ["--data", trained.data, "--work", trained.work, "--resume"]
    code, _, err = loa(capsys, "all", "--config", tmp_path / "mine.yaml", *where)
    assert code == 2 and "audiomae" in err and "'decoder_depth' is 1 there and 2 here" in err
    (tmp_path / "clips").mkdir()
    for path in trained.data.iterdir():
        (tmp_path / "clips" / path.name).write_bytes(path.read_bytes())
    (tmp_path / "clips" / "mixed.json").unlink()
    code, _, err = loa(capsys, "vae", "--config", "tiny", "--data", tmp_path / "clips", "--work", trained.work, "--resume")
    assert code == 2 and "'clips'" in err


def test_a_folder_that_is_no_checkpoint_is_not_replaced(clips: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.txt").write_text("years of work")
    code, _, err = loa(capsys, "all", "--config", "tiny", "--data", clips, "--work", tmp_path / "work", "-o", tmp_path / "thesis")
    assert code == 2 and "no checkpoint" in err and not (tmp_path / "work").exists()
    assert (tmp_path / "thesis" / "chapter.txt").read_text() == "years of work"


def test_killed_in_the_middle_of_a_stage_the_recipe_ends_with_the_same_weights(
    trained: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = train_config("tiny").placed(data=trained.data, work=tmp_path / "work", out=tmp_path / "out")
    advance, calls = training_loop.Training.advance, list[int]()

    def dies(self: Any, *given: Any) -> Any:
        calls.append(self.step)
        if len(calls) == 2:
            raise MemoryError
        done = advance(self, *given)
        self.save(tmp_path / "work" / "vae" / "state.pt")
        return done

    monkeypatch.setattr(training_loop.Training, "advance", dies)
    with pytest.raises(MemoryError):
        Recipe(config).run("vae")
    monkeypatch.setattr(training_loop.Training, "advance", advance)
    with pytest.raises(ConfigError, match="--resume"):
        Recipe(config).run("vae")
    Recipe(config, resume=True).run("vae")
    states = [torch.load(place / "vae" / "state.pt", weights_only=True) for place in (trained.work, tmp_path / "work")]
    assert states[0]["step"] == states[1]["step"] == 2 and states[0]["ema"].keys() == states[1]["ema"].keys()
    assert all(torch.equal(value, states[1]["ema"][key]) for key, value in states[0]["ema"].items())


def test_ctrl_c_saves_and_leaves_with_130(
    clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    advance = training_loop.Training.advance

    def interrupted(self: Any, *given: Any) -> Any:
        signal.raise_signal(signal.SIGINT)
        return advance(self, *given)

    arguments = ["audiomae", "--config", "tiny", "--data", clips, "--work", tmp_path]
    monkeypatch.setattr(training_loop.Training, "advance", interrupted)
    code, _, err = loa(capsys, *arguments)
    assert code == 130 and "stopped after step 1; --resume" in err
    monkeypatch.setattr(training_loop.Training, "advance", advance)
    code, out, _ = loa(capsys, *arguments, "--resume", "--json")
    assert code == 0 and json.loads(out)["stages"]["audiomae"]["steps"] == 2


def test_a_full_disk_is_one_line(clips: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "audiomae").mkdir()
    (tmp_path / "audiomae" / "state.pt.part").symlink_to("/dev/full")
    code, out, err = loa(capsys, "audiomae", "--config", "tiny", "--data", clips, "--work", tmp_path)
    assert code == 1 and out == "" and "no room to write" in err.splitlines()[-1] and "--resume" in err
    assert not (tmp_path / "audiomae" / "done.json").exists()


@pytest.mark.parametrize("name", ["config.json", "state.pt"])
@pytest.mark.parametrize("left", [0, 40])
def test_what_was_damaged_since_is_one_line(
    trained: Recipe, clips: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, left: int
) -> None:
    shutil.copytree(trained.folder("audiomae"), tmp_path / "audiomae")
    (tmp_path / "audiomae" / "done.json").unlink()
    (tmp_path / "audiomae" / name).write_bytes((tmp_path / "audiomae" / name).read_bytes()[:left])
    code, _, err = loa(capsys, "audiomae", "--config", "tiny", "--data", clips, "--work", tmp_path, "--resume")
    assert code == 2 and f"{name} is damaged" in err.splitlines()[-1] and "--work" in err


def test_a_decoder_is_trained_on_under_the_latents_of_a_checkpoint(trained: Recipe, tmp_path: Path) -> None:
    start = trained.out / "vae"
    stage = trained.config.vae.model_copy(update={"start": start, "decoder_only": True})
    config = trained.config.model_copy(update={"work": tmp_path, "vae": stage})
    Recipe(config).run("vae")
    made, before = Recipe(config).vae().state_dict(), load_file(start / "diffusion_pytorch_model.safetensors")
    same = {key for key, value in before.items() if torch.equal(made[key], value.float())}
    assert {key.partition(".")[0] for key in same} >= {"encoder", "quant_conv"}
    assert {key.partition(".")[0] for key in before.keys() - same} == {"decoder", "post_quant_conv"}


def in_half(clips: Path, place: Path, device: str) -> dict[str, Any]:
    """Every stage of the smallest recipe under bf16."""
    tiny = train_config("tiny")
    half = {stage: getattr(tiny, stage).model_copy(update={"precision": "bf16"}) for stage in STAGES}
    config = tiny.model_copy(update=half | {"device": device}).placed(data=clips, work=place / "work", out=place / "out")
    return Recipe(config).run("all")["stages"]


@pytest.mark.slow
def test_every_stage_trains_in_half_precision(clips: Path, tmp_path: Path) -> None:
    stages = in_half(clips, tmp_path, "cpu")
    assert all(np.isfinite(stage["last"]["loss"]) and stage["last"]["skipped"] == 0 for stage in stages.values())


@pytest.mark.gpu
def test_every_stage_trains_on_a_card(clips: Path, tmp_path: Path) -> None:
    PartialState._reset_state()  # an earlier test may have asked for the processor
    stages = in_half(clips, tmp_path, "auto")
    assert PartialState().device.type == "cuda"
    assert all(np.isfinite(stage["last"]["loss"]) and stage["last"]["skipped"] == 0 for stage in stages.values())


# -- several processes ------------------------------------------------------------------------------------------------
TWO = """
import sys
from pathlib import Path
import torch
from accelerate import PartialState
PartialState(cpu=True)
from tests.training.test_train_command import line
from configs.schema import LoopConfig
from training.loop import Loop, train
loop, (modules, loss) = Loop(LoopConfig(steps=6, lr=0.05, warmup_steps=1)), line()
train(modules, loss, loop, Path(sys.argv[1]))
torch.save(modules.state_dict(), Path(sys.argv[1]) / f"{loop.state.process_index}.pt")
"""


def line() -> tuple[nn.ModuleDict, Any]:
    """A fit whose rows depend on the number alone."""
    torch.manual_seed(0)
    modules = nn.ModuleDict({"net": nn.Linear(3, 1)})

    def loss(number: int) -> dict[str, torch.Tensor]:
        x = torch.randn(8, 3, generator=torch.Generator().manual_seed(number))
        return {"loss": (modules["net"](x)[:, 0] - x.sum(1)).pow(2).mean()}

    return modules, loss


def in_two(script: list[str]) -> None:
    launch = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-port", "0", "--rdzv-backend", "c10d"]
    done = subprocess.run([*launch, "--rdzv-endpoint", "localhost:0", *script], cwd=ROOT, capture_output=True, text=True, timeout=110)
    assert done.returncode == 0, done.stderr[-2000:]


@pytest.mark.slow
def test_two_processes_are_one_with_twice_the_rows(tmp_path: Path) -> None:
    (tmp_path / "two.py").write_text(TWO)
    in_two([str(tmp_path / "two.py"), str(tmp_path / "two")])
    ends = [torch.load(tmp_path / "two" / f"{process}.pt", weights_only=True) for process in (0, 1)]
    modules, loss = line()
    both = lambda step: {"loss": (loss(2 * step)["loss"] + loss(2 * step + 1)["loss"]) / 2}  # noqa: E731
    train(modules, both, Loop(LoopConfig(steps=6, lr=0.05, warmup_steps=1)), tmp_path / "one")
    for key, value in modules.state_dict().items():
        assert torch.equal(ends[0][key], ends[1][key]) and torch.allclose(ends[0][key], value, atol=1e-6)


@pytest.mark.slow
def test_two_processes_train_the_whole_recipe(clips: Path, tmp_path: Path) -> None:
    arguments = [
        "train",
        "all",
        "--config",
        "tiny",
        "--data",
        str(clips),
        "--work",
        str(tmp_path / "work"),
        "-o",
        str(tmp_path / "out"),
    ]
    in_two(["-m", "serving.cli", *arguments])
    assert (tmp_path / "out" / "README.md").is_file()
    assert json.loads((tmp_path / "work" / "joint" / "done.json").read_text())["processes"] == 2
