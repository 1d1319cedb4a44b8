"""The bridge between two spaces: the ridge against closed forms, the modality gap, and the stage over tiny encoders."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch.nn import functional as F

from configs.registry import ConfigError
from configs.schema import BridgeConfig, bridge_config
from encoders.base import EncoderMissing
from encoders.bridge import Bridge
from encoders.imagebind import ImageBind
from encoders.weights import WeightsError
from media.audio import write_audio
from serving import cli
from tests import makers
from tests.drawn import drawn_picture
from tests.encoder_fakes import tiny_clap, tiny_imagebind
from training.bridge import fit_bridge, read_captions, read_examples, ridge, train_bridge

draw = torch.Generator().manual_seed(0)
SENSE = torch.randn(400, 6, generator=draw)  # what 400 captions mean
TO_A, TO_B = torch.randn(6, 24, generator=draw), torch.randn(6, 12, generator=draw)


def vectors(sense: torch.Tensor, way: torch.Tensor, offset: float, noise: float = 0.05) -> torch.Tensor:
    """What an encoder makes of meanings: a map, a place of its own for its kind, and some noise."""
    place = offset * torch.randn(way.shape[1], generator=torch.Generator().manual_seed(int(offset * 10)))
    return F.normalize(sense @ way + place + noise * torch.randn(len(sense), way.shape[1], generator=draw), dim=-1)


WORDS_A, WORDS_B = vectors(SENSE, TO_A, 1.0), vectors(SENSE, TO_B, 2.0)
PICTURES_A = vectors(SENSE, TO_A, 6.0)  # the same meanings, elsewhere in the space
CAPTIONS = [f"caption {i}" for i in range(400)]


def found(bridge: Bridge, given: torch.Tensor, kind: str) -> float:
    """How many of the inputs have the caption of their own meaning among the nearest five."""
    near = [[said for said, _ in bridge.captions(row, 5)] for row in bridge.to_clap(given, kind)]
    return float(np.mean([CAPTIONS[i] in said for i, said in enumerate(near)]))


def test_the_ridge_equals_the_normal_equations_and_its_error_really_leaves_rows_out() -> None:
    x, y = WORDS_A[:40].double(), WORDS_B[:40].double()
    fit = ridge(x, y, strengths=[0.1])

    def solved(a: torch.Tensor, b: torch.Tensor, penalty: float) -> torch.Tensor:
        a, b = a - a.mean(0), b - b.mean(0)
        return torch.linalg.solve(a.T @ a + penalty * torch.eye(a.shape[1]).double(), a.T @ b)

    centred = x - x.mean(0)
    penalty = 0.1 * float(torch.linalg.eigvalsh(centred.T @ centred).clamp(min=0).mean())
    assert torch.allclose(fit.weight.double(), solved(x, y, penalty), atol=1e-5)
    missed = 0.0
    for row in range(40):
        rest = [i for i in range(40) if i != row]
        guess = y[rest].mean(0) + (x[row] - x[rest].mean(0)) @ solved(x[rest], y[rest], penalty)
        missed += float((y[row] - guess).square().sum())
    assert fit.error == pytest.approx(missed / float((y - y.mean(0)).square().sum()), rel=1e-5)


def test_the_least_error_chooses_how_much_to_shrink() -> None:
    fits = [ridge(WORDS_A[:30], WORDS_B[:30], [strength]) for strength in (1e-5, 1e-2, 1e2)]
    assert ridge(WORDS_A[:30], WORDS_B[:30], [1e-5, 1e-2, 1e2]).error == min(fit.error for fit in fits) < fits[2].error


def test_captions_cross_to_themselves() -> None:
    bridge = fit_bridge(CAPTIONS, WORDS_A * 100, WORDS_B, {})  # lengths do not matter: ImageBind scales its texts
    assert found(bridge, WORDS_A * 7, "text") > 0.9
    assert torch.allclose(bridge.to_clap(WORDS_A, "text").norm(dim=-1), torch.ones(400), atol=1e-5)


def test_pictures_cross_by_the_mean_of_their_kind_and_miss_without_it() -> None:
    corrected = fit_bridge(CAPTIONS, WORDS_A, WORDS_B, {"vision": PICTURES_A})
    plain = fit_bridge(CAPTIONS, WORDS_A, WORDS_B, {})
    assert found(corrected, PICTURES_A, "vision") > 0.8
    assert found(plain, PICTURES_A, "vision") < 0.5
    shuffled = PICTURES_A[torch.randperm(400, generator=torch.Generator().manual_seed(1))]
    assert found(corrected, shuffled, "vision") < 0.05  # chance is 5 of 400


def test_weights_of_the_nearest_captions_sum_to_one_and_fall() -> None:
    bridge = fit_bridge(CAPTIONS, WORDS_A, WORDS_B, {})
    near = bridge.captions(bridge.vectors[7], 4)
    weights = [weight for _, weight in near]
    assert near[0][0] == "caption 7" and weights == sorted(weights, reverse=True) and sum(weights) == pytest.approx(1)
    assert len(bridge.captions(bridge.vectors[0], 9999)) == 400


def test_a_saved_bridge_crosses_alike(tmp_path: Path) -> None:
    bridge = fit_bridge(CAPTIONS, WORDS_A, WORDS_B, {"vision": PICTURES_A})
    (tmp_path / "b.safetensors").write_bytes(bridge.to_bytes())
    again = Bridge.load(tmp_path / "b.safetensors")
    assert again.texts == bridge.texts and again.about == bridge.about and set(again.means) == {"text", "vision"}
    assert torch.allclose(again.to_clap(PICTURES_A, "vision"), bridge.to_clap(PICTURES_A, "vision"), atol=2e-3)
    assert bridge.to_bytes() == bridge.to_bytes()


def test_another_file_is_no_bridge(tmp_path: Path) -> None:
    save_file({"weight": torch.ones(2, 2)}, tmp_path / "x.safetensors")
    with pytest.raises(WeightsError, match=r"no bridge; make one with 'loa train bridge'"):
        Bridge.load(tmp_path / "x.safetensors")
    with pytest.raises(WeightsError, match="no file"):
        Bridge.load(tmp_path / "none.safetensors")
    damaged = fit_bridge(CAPTIONS, WORDS_A, WORDS_B, {})
    (tmp_path / "cut.safetensors").write_bytes(damaged.to_bytes()[:-50])
    with pytest.raises(WeightsError, match="damaged"):
        Bridge.load(tmp_path / "cut.safetensors")


# -- the stage ------------------------------------------------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def rooms(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Path]:
    """ImageBind, CLAP, and a folder of pictures and sounds in which one file is no medium."""
    folder = tmp_path_factory.mktemp("bridge")
    imagebind, clap, examples = (folder / name for name in ("imagebind", "clap", "examples"))
    imagebind.mkdir()
    examples.mkdir()
    for number in range(5):
        makers.picture(examples / f"{number}.png", drawn_picture(64, 64, number))
    write_audio(examples / "a.wav", makers.tone())
    (examples / "readme.txt").write_text("what lies here")
    return tiny_imagebind(imagebind), tiny_clap(clap), examples


def test_the_stage_reads_captions_and_examples_and_writes_a_file(rooms: tuple[Path, Path, Path], tmp_path: Path) -> None:
    imagebind, clap, examples = rooms
    (tmp_path / "captions.txt").write_text("\n".join(f"the dog number {i}  barks" for i in range(100)) + "\n\nthe dog number 3 barks\n")
    (tmp_path / "bridge.yaml").write_text(
        f"imagebind: {imagebind}\nclap: {clap}\ncaptions: {tmp_path / 'captions.txt'}\nexamples: {examples}\n"
    )
    told: list[tuple[str, float]] = []
    out = tmp_path / "bridge.safetensors"
    bridge = train_bridge(bridge_config(tmp_path / "bridge.yaml"), out, lambda what, share: told.append((what, share)))
    assert len(bridge.texts) == 100 and bridge.texts[3] == "the dog number 3 barks"
    assert set(bridge.means) == {"text", "vision"}  # one sound is too few for a mean
    assert told[-1] == ("captions through clap", 1.0) and bridge.about["examples"] == "5 vision"
    picture = ImageBind(imagebind).encode([drawn_picture(64, 64, 9)]).states[0, 0]
    loaded = Bridge.load(out)
    assert loaded.to_clap(picture, "vision").shape == (16,) and len(loaded.captions(loaded.to_clap(picture, "vision"))) == 4


def test_what_is_missing_is_said_before_the_long_work(rooms: tuple[Path, Path, Path], tmp_path: Path) -> None:
    imagebind, clap, _ = rooms
    out = tmp_path / "b.safetensors"
    with pytest.raises(EncoderMissing, match="imagebind_huge"):
        train_bridge(BridgeConfig(imagebind=tmp_path, clap=clap), out)
    with pytest.raises(EncoderMissing, match="CLAP"):
        train_bridge(BridgeConfig(imagebind=imagebind, clap=tmp_path), out)
    with pytest.raises(ConfigError, match=r"\.safetensors file"):
        train_bridge(BridgeConfig(), tmp_path / "b.pt")
    (tmp_path / "few.txt").write_text("a dog\n")
    with pytest.raises(ConfigError, match="holds 1, a bridge wants 100"):
        read_captions(tmp_path / "few.txt")
    with pytest.raises(ConfigError, match="cannot be read"):
        read_captions(tmp_path / "none.txt")
    with pytest.raises(ConfigError, match="no folder"):
        read_examples(tmp_path / "none", ImageBind(imagebind))
    with pytest.raises(ConfigError, match="no picture, sound, video or motion"):
        read_examples(tmp_path, ImageBind(imagebind))
    assert not out.exists()


def test_captions_of_the_house_are_thousands_and_each_once() -> None:
    captions = read_captions(None)
    assert len(captions) == len(set(captions)) > 3000 and "rain" in captions


def test_the_command_writes_the_file_and_says_what_it_explains(
    rooms: tuple[Path, Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    imagebind, clap, examples = rooms
    (tmp_path / "captions.txt").write_text("\n".join(f"rain and {i} dogs" for i in range(100)))
    (tmp_path / "b.yaml").write_text(f"imagebind: {imagebind}\nclap: {clap}\ncaptions: {tmp_path / 'captions.txt'}\n")
    out = tmp_path / "bridge.safetensors"
    assert cli.run(["train", "bridge", "--config", str(tmp_path / "b.yaml"), "-o", str(out), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["captions"] == 100 and told["path"] == str(out) and "of the variance" in told["unexplained"]
    assert len(Bridge.load(out).texts) == 100
    (tmp_path / "b.yaml").write_text(f"imagebind: {examples}\n")  # no weights there
    assert cli.run(["train", "bridge", "--config", str(tmp_path / "b.yaml")]) == 3
    said = capsys.readouterr().err
    assert "imagebind_huge" in said and len(said.strip().splitlines()) == 1
