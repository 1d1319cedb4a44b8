"""Speech: transcripts to phoneme numbers, as diffusers conditions on them, and what is said where espeak-ng is missing."""

from __future__ import annotations

import doctest
from pathlib import Path

import pytest
import torch
from diffusers import AudioLDM2Pipeline

from generators import phonemes
from generators.audioldm2 import AudioLDM2
from generators.base import CheckpointMissing, GenerationRequest, UnsupportedRequest
from media.refs import MediaStore
from tests.audioldm_fakes import tiny_speech


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_speech(tmp_path_factory.mktemp("speech") / "speech")


def make(folder: Path, **options: object) -> AudioLDM2:
    given = {"checkpoint": str(folder), "layout": "speech", **options}
    return AudioLDM2("speech", given, MediaStore(folder.parent / "store"), folder.parent)


def test_numbers_of_phonemes() -> None:
    assert doctest.testmod(phonemes).failed == 0
    assert len(phonemes.SYMBOLS) == 183 and phonemes.END_ID == 182
    assert phonemes.numbers("ə" * 400)[-1] != phonemes.END_ID and len(phonemes.numbers("ə" * 400)) == 310
    assert phonemes.numbers("a字b")[:3] == [phonemes.numbers("a")[0], 0, phonemes.numbers("b")[0]]


def test_protocol_diffusers_reads_prompt_and_transcript_as_diffusers_does(folder: Path) -> None:
    pipeline = AudioLDM2Pipeline.from_pretrained(folder, local_files_only=True)
    with torch.no_grad():
        _, _, theirs = pipeline.encode_prompt("a calm voice", "cpu", 1, True, transcription="hello world", max_new_tokens=8)
    backend = make(folder, protocol="diffusers")
    backend.load()
    known = backend._conditioner.conditions(GenerationRequest(prompt="a calm voice", transcript="hello world"))
    assert torch.allclose(known.null_loa.states[0], theirs[0], atol=1e-5) and torch.allclose(known.loa.states[0], theirs[1], atol=1e-5)
    other = backend._conditioner.conditions(GenerationRequest(prompt="a calm voice", transcript="good morning"))
    assert float((theirs[0] - theirs[1]).abs().max()) > 0.01 and float((other.loa.states - known.loa.states).abs().max()) > 0.01
    assert (backend._choice("eta"), backend._choice("candidates")) == (0.0, 1)


def test_a_prompt_alone_says_nothing(folder: Path) -> None:
    with pytest.raises(UnsupportedRequest, match="--transcript"):
        make(folder).check(GenerationRequest(prompt="a calm voice"))


def test_without_espeak_the_answer_says_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("generators.phonemes.shutil.which", lambda _: None)
    monkeypatch.setattr("generators.phonemes.find_spec", lambda _: None)
    monkeypatch.delenv("PHONEMIZER_ESPEAK_LIBRARY", raising=False)
    folder = tmp_path / "speech"
    (folder / "tokenizer").mkdir(parents=True)
    (folder / "tokenizer" / "tokenizer.json").write_text("{}")
    torch.save({"state_dict": {"a": torch.zeros(1)}}, folder / "audioldm2-speech.pth")
    backend = make(folder)
    with pytest.raises(CheckpointMissing, match=r"apt-get install espeak-ng.*pip install phonemizer") as missing:
        backend.generate([GenerationRequest(transcript="hello")])
    assert missing.value.exit_code == 3
    monkeypatch.setattr("generators.phonemes.shutil.which", lambda name: f"/usr/bin/{name}")
    monkeypatch.setattr("generators.phonemes.find_spec", lambda name: object())
    assert backend.readiness().ready
