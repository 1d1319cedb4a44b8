"""Embedders against their authors' code at random weights, and the promise of one decode, one resample and no stale vector."""

import gzip
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from configs.registry import UnknownName
from encoders.weights import WeightsError, shapes_of
from evaluation import embedders
from evaluation.distances import sigmoid
from evaluation.embedders import Cache, Clip, EmbedderMissing, Heard, by_length, embedder, hear, known
from evaluation.embedders_joint import NanoClap
from evaluation.embedders_panns import ANALYSIS_16K, ANALYSIS_32K, Cnn14, Panns, Panns32k
from evaluation.embedders_panns import log_mels as panns_mels
from evaluation.embedders_passt import Passt, PasstNet
from evaluation.embedders_passt import log_mels as passt_mels
from evaluation.embedders_vggish import Vggish, VggishNet, examples
from media.audio import Audio, resample, write_audio
from media.polyphase import resample_to_hear
from tests.drawn import draw_into, drawn_sound
from training.synthesis import CLASSES

DATA = Path(__file__).parents[1] / "data" / "parity"
OFFICIAL = np.load(DATA / "embedders.npz")
KEYS = json.loads(gzip.decompress((DATA / "embedders_keys.json.gz").read_bytes()))


def small_vggish():
    return VggishNet((4, 6, 8, 8, 12, 12), hidden=20, out=10)


def small_cnn14():
    return Cnn14((4, 6, 8, 10, 12, 16), classes=9)


def small_passt():
    return PasstNet(24, 2, 2, classes=9)


SMALL = {
    "vggish": (Vggish, small_vggish),
    "panns": (Panns, small_cnn14),
    "panns32": (Panns32k, small_cnn14),
    "passt": (Passt, small_passt),
}


@pytest.fixture
def made(request, tmp_path):
    """An embedder that reads a small file of drawn weights."""
    kind, build = SMALL[request.param]
    source = build()
    draw_into(source)
    path = tmp_path / f"{request.param}.pt"
    torch.save({"model": source.state_dict()}, path)
    return kind(path, build())


@pytest.fixture(scope="module")
def nano():
    return NanoClap()


def sound(rate, seconds, seed, channels=1):
    return Audio(drawn_sound(rate, seconds, channels, seed), rate)


# -- the authors' code --------------------------------------------------------------------------------------------------


@pytest.mark.parity
@pytest.mark.parametrize("made", ["vggish"], indirect=True)
def test_vggish_is_torchvggish(made):
    given = sound(16_000, 3.3, 5)
    heard = made.embed([given])[0]

    assert np.abs(examples(given.samples)[0].numpy()[:, ::7, ::5] - OFFICIAL["vggish_examples"]).max() < 1e-4
    assert heard.frames == pytest.approx(OFFICIAL["vggish"], abs=1e-5)
    assert heard.vector == pytest.approx(OFFICIAL["vggish"].mean(0), abs=1e-5)


@pytest.mark.parity
@pytest.mark.parametrize(
    ("made", "rate", "tag", "spec"),
    [("panns", 16_000, "16k", ANALYSIS_16K), ("panns32", 32_000, "32k", ANALYSIS_32K)],
    indirect=["made"],
)
def test_cnn14_is_its_authors(made, rate, tag, spec):
    given = sound(rate, 2.7, 6)
    heard = made.embed([given])[0]

    assert (
        np.abs(panns_mels(torch.from_numpy(given.samples), spec)[0, 0].numpy()[::31, ::5] - OFFICIAL[f"panns_mel_{tag}"]).max() < 2e-3
    )  # dB
    assert heard.vector == pytest.approx(OFFICIAL[f"panns_embedding_{tag}"][0], abs=1e-5)
    assert sigmoid(heard.logits) == pytest.approx(OFFICIAL[f"panns_probabilities_{tag}"][0], abs=1e-5)


@pytest.mark.parity
@pytest.mark.parametrize("made", ["passt"], indirect=True)
def test_passt_is_its_authors(made):
    given = sound(32_000, 10.0, 7)
    heard = made.embed([given])[0]

    assert np.abs(passt_mels(torch.from_numpy(given.samples))[0, 0].numpy()[::9, ::40] - OFFICIAL["passt_mel"]).max() < 1e-4
    assert heard.vector == pytest.approx(OFFICIAL["passt_features"][0], abs=1e-4)
    assert heard.logits == pytest.approx(OFFICIAL["passt_logits"][0], abs=1e-4)


@pytest.mark.parity
@pytest.mark.parametrize(
    ("name", "build", "computed"),
    [("vggish", VggishNet, ()), ("panns", Cnn14, ("spectrogram_extractor.", "logmel_extractor.")), ("passt", PasstNet, ())],
)
def test_the_published_files_fit(name, build, computed):
    with torch.device("meta"):
        network = build()

    assert {key: list(shape) for key, shape in shapes_of(network).items()} == {
        key: shape for key, shape in KEYS[name].items() if not key.startswith(computed)
    }


# -- the contract -------------------------------------------------------------------------------------------------------


def test_names_are_registered_and_a_wrong_one_is_answered_with_the_nearest():
    assert {"nano-clap", "clap", "vggish", "panns-cnn14", "panns-cnn14-32k", "passt"} <= set(known())
    assert embedder("vggish").name == "vggish"
    with pytest.raises(UnknownName, match="did you mean 'vggish'"):
        embedder("vgish")


@pytest.mark.parametrize("name", ["vggish", "panns-cnn14", "panns-cnn14-32k", "passt", "clap"])
def test_absent_weights_are_named_with_size_licence_and_command(name, tmp_path, monkeypatch):
    monkeypatch.setenv("LOA_HOME", str(tmp_path))

    with pytest.raises(EmbedderMissing, match=r"(MB|GB)") as why:
        _ = embedder(name).digest

    said = str(why.value)
    assert str(tmp_path) in said and "http" in said and "\n" not in said and why.value.exit_code == 3
    assert any(licence in said for licence in ("Apache-2.0", "CC BY 4.0", "CC0"))


def test_a_file_of_another_network_is_refused(tmp_path):
    save_file({"features.0.weight": torch.zeros(2, 1, 3, 3)}, tmp_path / "v.safetensors")

    with pytest.raises(WeightsError, match=r"v\.safetensors does not fit"):
        Vggish(tmp_path / "v.safetensors", small_vggish()).embed([sound(16_000, 1, 0)])


@pytest.mark.parametrize("made", list(SMALL), indirect=True)
def test_a_vector_does_not_depend_on_its_neighbours(made):
    rate = made.sample_rate
    some = [sound(rate, seconds, seed) for seed, seconds in enumerate((1.0, 2.5, 1.0, 0.2))]

    together, alone = made.embed(some), [made.embed([each])[0] for each in some]

    for one, other in zip(together, alone, strict=True):
        assert np.array_equal(one.vector, other.vector) and np.array_equal(one.frames, other.frames)
        assert one.vector.dtype == np.float32 and np.isfinite(one.vector).all()
    assert not np.allclose(together[0].vector, together[2].vector)


def test_nano_hears_what_it_was_told_and_needs_no_download(nano):
    names = ("rain", "dog", "siren")
    sounds = [Audio(CLASSES[name](np.random.default_rng(7), 5.12)[None].astype(np.float32), 16_000) for name in names]

    heard = nano.embed(sounds)
    scores = nano.words(["heavy rain", "a dog barks", "a siren"]) @ np.stack([each.vector for each in heard]).T

    assert scores.argmax(0).tolist() == scores.argmax(1).tolist() == [0, 1, 2]
    assert np.linalg.norm(heard[0].vector) == pytest.approx(1, abs=1e-5)
    assert np.array_equal(nano.embed(sounds[:1])[0].vector, heard[0].vector)


def test_nano_hears_what_soxr_would_have_given_it(nano):
    native = [Audio(CLASSES[name](np.random.default_rng(0), 1.0)[None].astype(np.float32), 16_000) for name in ("rain", "dog", "siren")]
    given = [resample(each, 44_100) for each in native]
    told = native + [way(each, 16_000) for way in (resample_to_hear, resample) for each in given]

    truth, ours, soxrs = np.stack([each.vector for each in nano.embed(told)]).reshape(3, 3, -1)

    away, away_by_soxr = (np.linalg.norm(vectors - truth, axis=1) for vectors in (ours, soxrs))
    assert np.linalg.norm(ours - soxrs, axis=1)[:2].max() < 0.005  # of a length of 1; a siren's upper band holds rounding alone
    assert (away < away_by_soxr + 0.005).all()


def test_batches_keep_their_size():
    some = [sound(8_000, seconds, 0) for seconds in (1.0, 2.0, 1.0, 1.0)]

    assert [(members, batch.shape) for members, batch in by_length(some, 2)] == [
        ([0, 2], (2, 8000)),
        ([3], (2, 8000)),
        ([1], (2, 16_000)),
    ]


# -- one decode, one resample ---------------------------------------------------------------------------------------------


class Mean:
    """Hears the mean level; counts what it was given."""

    window, classes = "all", ""

    def __init__(self, name, rate, digest="a"):
        self.name, self.sample_rate, self.digest, self.calls = name, rate, f"sha256:{digest * 64}", 0

    def embed(self, sounds):
        self.calls += len(sounds)
        assert all(each.sample_rate == self.sample_rate and each.channels == 1 for each in sounds)
        rows = [np.array([each.samples.std(), each.seconds], np.float32) for each in sounds]
        return [Heard(row, row[None]) for row in rows]


@pytest.fixture
def folder(tmp_path):
    for index in range(5):
        write_audio(tmp_path / f"{index}.wav", sound(22_050, 0.5 + 0.1 * index, index, channels=2))
    return tmp_path


def clips_in(folder):
    return [Clip.of(path) for path in sorted(folder.glob("*.wav"))]


def test_a_clip_is_decoded_once_and_resampled_once_a_rate(folder, monkeypatch):
    reads, resamples = [], []
    read, change = embedders.read_audio, embedders.resample_to_hear
    monkeypatch.setattr(embedders, "read_audio", lambda path, **k: reads.append(path) or read(path, **k))
    monkeypatch.setattr(embedders, "resample_to_hear", lambda audio, rate: resamples.append(rate) or change(audio, rate))
    several = [Mean("a", 16_000), Mean("b", 16_000, "b"), Mean("c", 8_000, "c")]

    heard, unreadable = hear(clips_in(folder), several)

    assert len(reads) == 5 and sorted(resamples) == [8_000] * 5 + [16_000] * 5 and not unreadable
    assert len(heard["a"]) == len(heard["c"]) == 5
    lengths = sorted(float(each.vector[1]) for each in heard["a"].values())
    assert lengths == pytest.approx([0.5, 0.6, 0.7, 0.8, 0.9], abs=1e-3)


def test_what_was_heard_is_kept_by_content_and_by_weights(folder):
    cache, first = Cache(folder / "embeddings"), Mean("a", 16_000)
    before, _ = hear(clips_in(folder), [first], cache)
    (folder / "4.wav").write_bytes((folder / "0.wav").read_bytes())  # a known sound in another place
    write_audio(folder / "3.wav", sound(22_050, 2.0, 99))  # another sound in a known place
    again, other = Mean("a", 16_000), Mean("a", 16_000, "b")

    after, _ = hear(clips_in(folder), [again], cache)
    hear(clips_in(folder), [other], cache)

    assert (first.calls, again.calls, other.calls) == (5, 1, 4)  # two of five files are alike: heard once
    same = clips_in(folder)[0].sha256
    assert np.array_equal(before["a"][same].frames, after["a"][same].frames)


def test_a_damaged_vector_is_heard_anew(folder):
    cache, one = Cache(folder / "embeddings"), Mean("a", 16_000)
    hear(clips_in(folder), [one], cache)
    for path in (folder / "embeddings").rglob("*.npz"):
        path.write_bytes(path.read_bytes()[:40])

    heard, _ = hear(clips_in(folder), [one], cache)

    assert one.calls == 10 and len(heard["a"]) == 5


def test_an_unreadable_clip_is_named_and_the_others_are_heard(folder):
    (folder / "2.wav").write_bytes(b"RIFF nothing")
    clips = clips_in(folder)

    heard, unreadable = hear(clips, [Mean("a", 16_000)])

    assert list(unreadable) == [clips[2].sha256] and "decode" in unreadable[clips[2].sha256]
    assert len(heard["a"]) == 4
