"""The suites of tests/conformance.py over everything that is registered: a new backend or encoder is under test by its entry point."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from configs.registry import names, resolve
from configs.schema import BackendConfig, presets
from encoders.base import Encoder
from encoders.clap import NANO
from generators.base import Backend
from media.refs import MediaStore
from tests.audioldm_fakes import small_audioldm, tiny_speech
from tests.conformance import BackendSuite, EncoderSuite, Subject
from tests.encoder_fakes import tiny_audiomae, tiny_clap, tiny_imagebind, tiny_t5
from tests.fakes import tiny_audioldm2, tiny_nano
from tests.library_fakes import WRITERS, small
from tests.ports import QUICK_BIGVGAN, write_make_an_audio, write_tango

ROWS = {name: row for name, row in presets().items() if row.kind == "audio"}
TINY_ENCODERS = {"imagebind": tiny_imagebind, "audiomae": tiny_audiomae, "clap": tiny_clap, "flan-t5": tiny_t5}
TINY = {"tiny-nano": tiny_nano, "tiny-audioldm2": tiny_audioldm2}
# Rows that differ from another one by their weights alone, which are not here; and one whose small files are not so small.
TWINS = dict.fromkeys(
    (
        "nano-signal",
        "audioldm-m",
        "audioldm-l",
        "audioldm2-large",
        "audioldm2-music",
        "audioldm2-48k",
        "audioldm2-speech-ljspeech",
        "musicgen-medium",
        "musicgen-large",
        "tango2",
    ),
    pytest.mark.slow,
) | dict.fromkeys(TINY, pytest.mark.slow)  # where no weights are, the rows run on these anyway
# Backend -> what writes a small official folder, and the options that go with its size.
PORTS: dict[str, tuple[Callable[[Path], Path], dict[str, Any]]] = {
    "tango": (write_tango, {"latent_frames": 56}),
    "make-an-audio": (lambda folder: write_make_an_audio(folder, 1, QUICK_BIGVGAN), {}),
    "make-an-audio-2": (lambda folder: write_make_an_audio(folder, 2, QUICK_BIGVGAN), {}),
}


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory) -> MediaStore:
    """One for all backends: what a medium is, is proved once, in a process of its own."""
    return MediaStore(tmp_path_factory.mktemp("store"))


def build(row: BackendConfig, options: dict[str, Any], store: MediaStore, home: Path) -> Backend:
    kind: Callable[..., Backend] = resolve("loa.backends", row.backend or "")
    return kind(name=row.name, options={**row.options, **options}, store=store, home=home)


class TestBackends(BackendSuite):
    """Every row with the weights that are here, and the families of AudioLDM 2 with tiny ones."""

    @pytest.fixture(scope="class", params=[pytest.param(name, marks=TWINS.get(name, ())) for name in (*ROWS, *TINY)])
    @classmethod
    def subject(cls, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, store: MediaStore) -> Subject:
        home = tmp_path_factory.mktemp("home")
        row, options = ROWS.get(request.param), {}
        if row is None:
            TINY[request.param](home / "checkpoints" / "tiny", 0)
            row, options = ROWS["nano"].model_copy(update={"name": request.param}), {"checkpoint": "tiny"}
        elif row.backend == "audioldm2" and not build(row, {}, store, home).readiness().ready:
            # Public checkpoints are not on every machine: the same code over the same layout with random weights.
            speaks = row.options.get("layout") == "speech"
            (tiny_nano if row.name == "nano" else tiny_speech if speaks else tiny_audioldm2)(home / "checkpoints" / "tiny", 0)
            options = {"checkpoint": "tiny"}
        elif row.backend == "audioldm" and not build(row, {}, store, home).readiness().ready:
            options = small_audioldm(home / "checkpoints" / row.name, str(row.options["layout"]))
        elif row.backend in PORTS and not build(row, {}, store, home).readiness().ready:
            write, options = PORTS[row.backend]
            write(home / "checkpoints" / row.name)
        elif row.name in WRITERS and not build(row, {}, store, home).readiness().ready:
            options = small(row.name, home / "checkpoints" / row.name)
        chosen = row
        return Subject(lambda: build(chosen, options, store, home), store)


@pytest.mark.parametrize("name", names("loa.backends"))
def test_every_registered_backend_has_a_row_and_so_is_under_test(name: str) -> None:
    assert issubclass(resolve("loa.backends", name), Backend)
    assert name in {row.backend for row in presets().values()}


@pytest.mark.parametrize("row", ROWS.values(), ids=list(ROWS))
def test_a_row_says_what_its_backend_says(row: BackendConfig, tmp_path: Path) -> None:
    """Requests are refused by rows before a backend is built: what a row leaves out nobody can ask for."""
    can = build(row, {}, MediaStore(tmp_path / "store"), tmp_path).capabilities
    assert (row.sample_rate, row.max_seconds) == (can.sample_rate, can.max_seconds)
    assert set(row.accepts) == set(can.accepts) and set(row.tasks) == set(can.tasks) and set(row.edits) == set(can.edits)


class TestEncoders(EncoderSuite):
    """Every registered encoder; with drawn weights where the weights are not on every machine."""

    @pytest.fixture(scope="class", params=names("loa.encoders"))
    @classmethod
    def make(cls, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Callable[[], Encoder]:
        kind: Callable[..., Encoder] = resolve("loa.encoders", request.param)
        if request.param in TINY_ENCODERS:  # public weights are not on every machine: the same code over tiny ones
            tiny = TINY_ENCODERS[request.param](tmp_path_factory.mktemp(request.param))
            return lambda: kind(tiny)
        if request.param == "nano-audio" and not (NANO / "audio_tower").is_dir():
            folder = tiny_nano(tmp_path_factory.mktemp("nano"), 0)
            return lambda: kind(folder)
        return kind
