"""Pictures, videos and sounds through a bridge into weights that know words only: what GPT-2 and the U-Net read, and what sounds."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from encoders.bridge import Bridge
from encoders.imagebind import ImageBind
from generators.audioldm2 import AudioLDM2
from generators.base import CheckpointMissing, GenerationRequest, UnsupportedRequest
from generators.conditioning import read_envelope
from media.image import load_image
from media.imu import load_motion
from media.refs import MediaStore
from serving import cli
from tests import makers
from tests.encoder_fakes import tiny_imagebind

CAPTIONS = ("a dog barks loudly", "rain on a tin roof", "piano techno beat", "birds sing", "the cat meows")


@pytest.fixture(scope="module")
def bridged(public: Any, tmp_path_factory: pytest.TempPathFactory) -> AudioLDM2:
    home = tmp_path_factory.mktemp("home")
    folder = home / "checkpoints" / "audioldm2"
    shutil.copytree(public.folder, folder)
    sight = home / "checkpoints" / "imagebind"
    sight.mkdir()
    tiny_imagebind(sight)
    draw = torch.Generator().manual_seed(0)

    def unit(*shape: int) -> Tensor:
        return F.normalize(torch.randn(*shape, generator=draw), dim=-1)

    bridge = Bridge(
        weight=torch.randn(32, 16, generator=draw),
        means={"text": torch.zeros(32), "vision": 0.2 * unit(32), "audio": 0.2 * unit(32), "imu": 0.2 * unit(32)},
        target=0.3 * unit(16),
        spread=0.9,
        texts=CAPTIONS,
        vectors=unit(5, 16),
    )
    (folder / "bridge.safetensors").write_bytes(bridge.to_bytes())
    backend = AudioLDM2(
        "audioldm2", {"checkpoint": "audioldm2", "protocol": "official", "candidates": 1}, MediaStore(home / "store"), home
    )
    backend.load()
    return backend


@pytest.fixture(scope="module")
def media(bridged: AudioLDM2, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder, store = tmp_path_factory.mktemp("media"), bridged.store
    grain = np.random.default_rng(0).integers(0, 255, (48, 64, 3), dtype=np.uint8)
    return {
        "red": store.put_file(makers.picture(folder / "red.png", makers.halves(makers.RED, makers.RED))),
        "grain": store.put_file(makers.picture(folder / "grain.png", grain)),
        "video": store.put_file(makers.clip(folder / "clip.mp4", [(makers.RED, 1.0), (makers.BLUE, 1.5)])),
        "tone": store.put_audio(makers.tone(440, 2.5)),
        "walk": store.put_motion(load_motion(recording(folder / "walk.csv"))),
    }


def recording(path: Path) -> Path:
    """Two seconds of an irregular walk, 100 steps a second, under gravity."""
    t, draw = np.arange(200)[:, None] / 100, np.random.default_rng(3)
    steps = np.sin(2 * np.pi * t * [1.8, 1.8, 3.6, 0.9, 1.8, 0.9]) * (1 + t) + 0.1 * draw.standard_normal((200, 6))
    rows = steps + np.eye(6)[2] * 9.81
    path.write_text("ax,ay,az,gx,gy,gz\n" + "\n".join(",".join(f"{value:.4f}" for value in row) for row in rows))
    return path


def ask(media: Any, *names: str, **fields: Any) -> GenerationRequest:
    return GenerationRequest(media=tuple(media[name] for name in names), seconds=0.64, steps=2, **fields)


def test_only_a_bridge_lets_pictures_in(public: Any, bridged: AudioLDM2, media: Any) -> None:
    assert {"image", "video", "audio", "motion", "text"} <= bridged.capabilities.accepts
    deaf = AudioLDM2("audioldm2", {"checkpoint": str(public.folder)}, bridged.store, bridged.home)
    with pytest.raises(UnsupportedRequest, match="not image"):
        deaf.check(ask(media, "red"))


def test_gpt2_reads_the_vector_that_crossed_and_the_unet_the_nearest_captions(bridged: AudioLDM2, media: Any) -> None:
    conditioner: Any = bridged._conditioner
    known = conditioner.conditions(ask(media, "grain"))
    bridge = Bridge.load(bridged.folder / "bridge.safetensors")
    seen = ImageBind(bridged.home / "checkpoints" / "imagebind").encode([load_image(bridged.store.path(media["grain"]))]).states[0, 0]
    vector = bridge.to_clap(seen, "vision")
    near = bridge.captions(vector, 4)
    states = torch.cat([conditioner.t5(caption).states[0] * (weight / near[0][1]) for caption, weight in near])[None]
    length = states.shape[1]
    assert length == int(known.text.mask.sum()) <= 24 and known.words == near[0][0]
    assert torch.allclose(known.text.states[:, :length], states, atol=1e-5)
    writer = conditioner._writer()
    from encoders.base import Condition

    def full(name: str, rows: Tensor) -> Condition:
        return Condition(name, rows, torch.ones(rows.shape[:2], dtype=torch.bool))

    with torch.no_grad():
        by_hand = writer(full("clap", vector[None, None]), full("t5", states)).states
    assert torch.allclose(known.loa.states, by_hand, atol=1e-5) and float(by_hand.std()) > 0.1


def test_every_kind_of_input_is_heard_and_differs(bridged: AudioLDM2, media: Any) -> None:
    requests = [ask(media, name) for name in media] + [ask(media, "red", prompt="piano"), ask(media, "red", "tone")]
    made = [one.media.id for one in bridged.generate(requests, rows=8)]
    assert len(set(made)) == len(requests)
    assert [one.media.id for one in bridged.generate(requests[1:3], rows=8)] == made[1:3]  # alone or among others


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, Any, str]:
    code = cli.run([*map(str, arguments)])
    out, err = capsys.readouterr()
    return code, json.loads(out) if out else None, err


def test_a_motion_recording_conditions_the_public_weights_by_the_command(
    bridged: AudioLDM2, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("LOA_HOME", str(bridged.home))
    ask = ("generate", "--backend", "audioldm2", "--seconds", 0.64, "--steps", 2, "--candidates", 1, "--json", "-o", tmp_path / "m.wav")
    walk = recording(tmp_path / "walk.csv")
    code, told, _ = run(capsys, *ask, "--imu", walk)
    assert code == 0 and [ref["kind"] for ref in told["request"]["media"]] == ["motion"] and (tmp_path / "m.wav").is_file()
    sitting = np.random.default_rng(0).standard_normal((6, 40)) * 0.01
    np.save(tmp_path / "sit.npy", sitting)
    code, other, _ = run(capsys, *ask, "--imu", tmp_path / "sit.npy")
    assert code == 0 and other["id"] != told["id"]
    seen = ImageBind(bridged.home / "checkpoints" / "imagebind").encode([load_motion(walk)]).states[0, 0]
    near = Bridge.load(bridged.folder / "bridge.safetensors")
    heard = bridged._conditioner.conditions(GenerationRequest.model_validate(told["request"]))
    assert heard.words == near.captions(near.to_clap(seen, "imu"))[0][0]
    picture = makers.picture(tmp_path / "red.png", makers.halves(makers.RED, makers.RED))
    assert run(capsys, *ask, "--image", picture)[0] == 0
    (tmp_path / "bad.csv").write_text("1,2,3\n")
    code, _, said = run(capsys, *ask[:-1], tmp_path / "bad.wav", "--imu", tmp_path / "bad.csv")
    assert code == 2 and "six columns" in said and not (tmp_path / "bad.wav").exists()


def test_without_a_bridge_the_command_says_which_file_lets_motion_in(
    public: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "audioldm2").symlink_to(public.folder)
    monkeypatch.setenv("LOA_HOME", str(tmp_path))
    code, _, said = run(capsys, "generate", "--imu", recording(tmp_path / "walk.csv"), "--backend", "audioldm2")
    assert code == 2 and "loa train bridge -o bridge.safetensors" in said and "checkpoints/audioldm2" in said


def test_nano_follows_a_motion_by_its_loudness_and_wants_to_know_what_moves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("LOA_HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    walk = recording(tmp_path / "walk.csv")
    code, _, said = run(capsys, "generate", "--imu", walk)
    assert code == 2 and "say what should be heard" in said
    code, _, said = run(capsys, "generate", "rain", "--imu", walk, "--envelope", walk)
    assert code == 2 and "--envelope" in said
    code, told, said = run(capsys, "generate", "rain", "--imu", walk, "--seconds", 1, "--steps", 1, "--json", "-o", "r.wav")
    assert code == 0 and "gives the loudness" in said and told["request"]["media"] == []
    store = MediaStore(tmp_path / "store")
    curve = read_envelope(store, store.ref(told["request"]["envelope"]["id"]), 100)
    assert float(curve[80:].mean()) > 1.5 * float(curve[:20].mean())  # it walks ever more strongly


def test_without_imagebind_the_answer_says_what_is_missing(bridged: AudioLDM2, media: Any, tmp_path: Path) -> None:
    blind = AudioLDM2("audioldm2", {"checkpoint": str(bridged.folder)}, bridged.store, tmp_path)
    with pytest.raises(CheckpointMissing, match=r"imagebind_huge\.pth \(4\.8 GB, CC BY-NC-SA") as missing:
        blind.check(ask(media, "red"))
    assert missing.value.exit_code == 3
    blind.check(GenerationRequest(prompt="piano", seconds=0.64))
