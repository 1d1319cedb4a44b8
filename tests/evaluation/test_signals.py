import json

import numpy as np
import pytest
import torch
from transformers import Wav2Vec2Config, Wav2Vec2CTCTokenizer, Wav2Vec2FeatureExtractor, Wav2Vec2ForCTC

from evaluation.embedders import EmbedderMissing
from evaluation.recogniser import Recogniser
from evaluation.signals import Loudness, aligned, cepstra, character_error, letters, mel_cepstral_distortion, onset_offset
from media.audio import Audio
from media.mel import MelSpec, log_mel
from tests.drawn import drawn_sound


@pytest.mark.parametrize("late", [-0.75, -0.04, 0.0, 0.3, 1.5])
def test_a_late_sound_is_as_late_as_it_is(late):
    seen = np.array([0.8, 1.9, 2.3, 4.4])

    assert onset_offset(seen, seen + late) == pytest.approx(late, abs=0.011)


def test_an_extra_and_a_missing_onset_do_not_move_the_offset():
    assert onset_offset([1.0, 2.0, 3.5], [1.2, 2.2, 2.9]) == pytest.approx(0.2, abs=0.011)


def test_nothing_heard_has_no_offset():
    assert onset_offset([1.0], []) is None


def test_distortion_of_a_cosine_is_its_effective_value():
    """log-mels that differ by A cos(m w) are A / sqrt(2) nepers apart, in decibels 20 / ln 10 times as much."""
    mel = np.random.default_rng(0).normal(-3, 1, (40, 64))
    ripple = 0.4 * np.cos(np.pi * 5 * (np.arange(64) + 0.5) / 64)

    assert cepstra(mel + ripple)[:, 4] - cepstra(mel)[:, 4] == pytest.approx(0.4)
    assert mel_cepstral_distortion(mel + ripple, mel) == pytest.approx(20 / np.log(10) * 0.4 / np.sqrt(2), rel=1e-9)


def test_level_and_tempo_are_no_distortion():
    mel = log_mel(drawn_sound(16_000, 1.0, 1, 3)[0], MelSpec())

    assert mel_cepstral_distortion(mel + 0.7, mel) == pytest.approx(0, abs=1e-4)
    assert mel_cepstral_distortion(np.repeat(mel, 2, axis=0), mel) == pytest.approx(0, abs=1e-4)
    assert mel_cepstral_distortion(log_mel(drawn_sound(16_000, 1.0, 1, 4)[0] ** 3, MelSpec()), mel) > 2


def test_alignment_is_the_cheapest_of_all_paths():
    cost = np.random.default_rng(1).random((4, 5))

    def paths(i, j):
        if (i, j) == (0, 0):
            return [cost[0, 0]]
        return [cost[i, j] + rest for a, b in ((i - 1, j), (i, j - 1), (i - 1, j - 1)) if a >= 0 and b >= 0 for rest in paths(a, b)]

    path = aligned(cost)

    assert cost[path[:, 0], path[:, 1]].sum() == pytest.approx(min(paths(3, 4)))
    assert path[0].tolist() == [0, 0] and path[-1].tolist() == [3, 4]


@pytest.mark.parametrize(
    ("heard", "said", "rate"),
    [("hello world", "Hello, world!", 0), ("", "abcd", 1), ("kitten", "sitting", 3 / 7), ("abxcd", "abcd", 0.25)],
)
def test_errors_of_letters(heard, said, rate):
    assert character_error(heard, said) == pytest.approx(rate)


def test_letters_ignore_case_points_and_width():
    assert letters("  Ｈello,\nWORLD_2!  ") == "hello world2"
    with pytest.raises(ValueError, match="nothing was to be said"):
        character_error("x", "?!")


def test_loudness_of_a_sine_is_the_standards():
    """BS.1770: a 997 Hz sine of full scale in one channel has -3.01 LUFS."""
    tone = np.sin(2 * np.pi * 997 * np.arange(48_000 * 2) / 48_000).astype(np.float32)[None]

    heard = Loudness().embed([Audio(tone, 48_000), Audio(0 * tone, 48_000)])

    assert heard[0].vector[0] == pytest.approx(-3.01, abs=0.05)
    assert heard[1].vector[0] == -70


def test_without_a_recogniser_the_reason_names_what_to_get(tmp_path):
    with pytest.raises(EmbedderMissing, match=r"wav2vec2-base-960h \(Apache-2.0, 378 MB\)"):
        Recogniser(tmp_path).write([])


def test_a_recogniser_writes_the_likeliest_letters(tmp_path):
    """A tiny network whose head is set to the letter H: what comes out is H, once for all equal frames."""
    vocabulary = {"<pad>": 0, "<s>": 1, "</s>": 2, "<unk>": 3, "|": 4, "H": 5}
    (tmp_path / "vocab.json").write_text(json.dumps(vocabulary))
    sizes = {
        "hidden_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "intermediate_size": 16,
        "conv_dim": (8, 8),
        "vocab_size": 6,
    }
    model = Wav2Vec2ForCTC(
        Wav2Vec2Config(
            **sizes,
            conv_stride=(20, 16),
            conv_kernel=(20, 16),
            num_feat_extract_layers=2,
            num_conv_pos_embeddings=4,
            num_conv_pos_embedding_groups=2,
            pad_token_id=0,
        )
    )
    with torch.no_grad():
        model.lm_head.weight.zero_()
        model.lm_head.bias.copy_(torch.tensor([0, 0, 0, 0, 0, 9.0]))
    model.save_pretrained(tmp_path)
    Wav2Vec2CTCTokenizer(str(tmp_path / "vocab.json")).save_pretrained(tmp_path)
    Wav2Vec2FeatureExtractor().save_pretrained(tmp_path)

    assert Recogniser(tmp_path).write([Audio(drawn_sound(22_050, 1.0, 2, 0), 22_050)]) == ["H"]
