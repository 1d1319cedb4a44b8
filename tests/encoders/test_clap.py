"""nano's joint space: the loudest part of a sound is heard, anchors name vectors, and classes are means of their phrases."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from encoders.base import EncoderMissing
from encoders.clap import Anchors, AudioLabeller, AudioTower, clip_mel
from media.audio import Audio
from tests.fakes import ANCHORS, tiny_nano


@pytest.fixture(scope="module")
def labeller(tmp_path_factory: pytest.TempPathFactory) -> AudioLabeller:
    return AudioLabeller(tiny_nano(tmp_path_factory.mktemp("nano")))


def noise(seconds: float, level: float = 0.1, sample_rate: int = 16_000) -> np.ndarray:
    return (level * np.random.default_rng(0).standard_normal((1, round(seconds * sample_rate)))).astype(np.float32)


def test_the_loudest_five_seconds_are_heard() -> None:
    loud = noise(5.12)
    around = Audio(np.concatenate([0.01 * noise(3), loud, 0.01 * noise(4)], axis=1), 16_000)
    heard, alone = clip_mel(around), clip_mel(Audio(loud, 16_000))
    assert heard.shape == (512, 64) and np.allclose(heard[8:-8], alone[8:-8], atol=0.05)


def test_a_short_sound_is_repeated_and_level_does_not_matter() -> None:
    one = noise(1.28)
    four = Audio(np.tile(one, (1, 4)), 16_000)
    assert np.allclose(clip_mel(Audio(one, 16_000)), clip_mel(four), atol=1e-5)
    assert np.allclose(clip_mel(Audio(0.1 * one, 16_000)), clip_mel(four), atol=1e-3)


def test_silence_stays_at_the_floor() -> None:
    assert np.allclose(clip_mel(Audio(np.zeros((2, 9000), np.float32), 44_100)), np.log(1e-5), atol=1e-4)


def test_vectors_are_unit_length_and_tell_sounds_apart(labeller: AudioLabeller) -> None:
    rows = labeller.encode(labeller.sample_input()).states[:, 0]
    assert torch.allclose(rows.norm(dim=1), torch.ones(3), atol=1e-5)
    assert float(rows[0] @ rows[1]) < 0.999


def test_the_tower_pools_by_learned_weights_and_by_the_maximum() -> None:
    torch.manual_seed(0)
    tower = AudioTower(width=4, hidden=6, out=3).eval().requires_grad_(False)
    features = torch.randn(1, 5, 4)
    weights = torch.softmax(features[0] @ tower.score.weight.T + tower.score.bias, dim=0)  # [5 patches, 4 poolings]
    pooled = torch.cat([(weights[:, k, None] * features[0]).sum(0) for k in range(4)] + [features[0].amax(0)])
    by_hand = tower.mlp(pooled[None])
    assert torch.allclose(tower(features), by_hand / by_hand.norm(), atol=1e-6)


def test_anchors_survive_writing_and_name_their_own_vectors(labeller: AudioLabeller) -> None:
    labeller.load()
    anchors = labeller.anchors
    assert anchors is not None and set(anchors.labels) == set(ANCHORS)
    for text, vector in zip(anchors.texts, anchors.vectors, strict=True):
        found, cosine = anchors.nearest(3.0 * vector)
        assert found == text and cosine == pytest.approx(1, abs=1e-3)


def test_a_class_is_the_unit_mean_of_its_phrases() -> None:
    vectors = np.eye(4, dtype=np.float32)
    names, means = Anchors(("a", "b", "c", "d"), ("dog", "cat", "dog", "cat"), vectors).classes()
    assert names == ("dog", "cat")
    assert np.allclose(means, np.array([[1, 0, 1, 0], [0, 1, 0, 1]]) / np.sqrt(2))


def test_labels_are_a_softmax_over_the_classes_as_far_as_the_sound_is_known(labeller: AudioLabeller) -> None:
    sound = labeller.sample_input()[1]
    labels = labeller.labels(sound)
    assert {name for name, _ in labels} == {"dog bark", "cat meow", "rain"}  # names for people
    vector = labeller.encode([sound]).states[0, 0].numpy()
    assert labeller.anchors is not None and labeller._tower is not None
    names, means = labeller.anchors.classes()
    cosines = means @ vector
    assert labels[0][0] == names[int(np.argmax(cosines))].replace("_", " ")
    known = 1 / (1 + np.exp(-(cosines.max() - 0.27) / 0.015))
    assert sum(p for _, p in labels) == pytest.approx(known, abs=1e-5)
    odds = np.exp(float(labeller._tower.log_scale.exp()) * (np.sort(cosines)[-1] - np.sort(cosines)[-2]))
    assert labels[0][1] / labels[1][1] == pytest.approx(odds, rel=1e-3)


@pytest.mark.parametrize("what", ["silence", "noise", "tone", "chord", "square"])
def test_the_shipped_ears_are_not_sure_of_sounds_that_are_nothing(what: str) -> None:
    time = np.arange(64_000) / 16_000
    square = np.sign(np.sin(2 * np.pi * 220 * time))
    sounds = {
        "silence": np.zeros(64_000),
        "noise": np.random.default_rng(0).normal(0, 0.1, 64_000),
        "tone": 0.5 * np.sin(2 * np.pi * 440 * time),
        "chord": sum(0.2 * np.sin(2 * np.pi * f * time) for f in (261, 329, 392)),
        "square": 0.3 * square,
    }
    best = AudioLabeller().labels(Audio(sounds[what][None].astype(np.float32), 16_000))[0]
    assert best[1] < 0.5, best  # orchestrator.tools.SURE


def test_a_folder_without_a_tower_says_so(tmp_path: Path) -> None:
    with pytest.raises(EncoderMissing, match="audio_tower"):
        AudioLabeller(tmp_path).encode([Audio(noise(1), 16_000)])


def test_written_anchors_point_where_they_did_and_older_files_are_read(tmp_path: Path) -> None:
    vectors = np.random.default_rng(0).standard_normal((40, 384)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    anchors = Anchors(tuple(f"phrase {i}" for i in range(40)), ("a", "b") * 20, vectors)
    anchors.write(tmp_path)
    again = Anchors.read(tmp_path)
    assert again.texts == anchors.texts and again.labels == anchors.labels
    assert np.abs(again.vectors @ vectors.T - vectors @ vectors.T).max() < 2e-3
    save_file({"vectors": torch.from_numpy(vectors).half()}, tmp_path / "vectors.safetensors")
    assert np.abs(Anchors.read(tmp_path).vectors - vectors).max() < 1e-3
