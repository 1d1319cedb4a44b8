"""Tiny checkpoints, made once a session, and backends over them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

from generators.audioldm2 import AudioLDM2
from media.refs import MediaStore
from tests.fakes import tiny_audioldm2, tiny_nano


@dataclass(frozen=True)
class Public:
    """A folder saved by diffusers, and the pipeline that saved it."""

    folder: Path
    pipeline: Any


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def public(tmp_path_factory: pytest.TempPathFactory) -> Public:
    folder = tmp_path_factory.mktemp("public")
    return Public(folder, tiny_audioldm2(folder, seed=0))


@pytest.fixture(scope="session")
def nano_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_nano(tmp_path_factory.mktemp("nano"), seed=0)


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory) -> MediaStore:
    return MediaStore(tmp_path_factory.mktemp("store"))


Make = Callable[..., AudioLDM2]


@pytest.fixture(scope="session")
def make(store: MediaStore, tmp_path_factory: pytest.TempPathFactory) -> Make:
    """``make(folder, solver="unipc")``: a backend over a folder."""
    home = tmp_path_factory.mktemp("home")
    return lambda folder, **options: AudioLDM2("tiny", {"checkpoint": str(folder), **options}, store, home)


@pytest.fixture(scope="session")
def hub(public: Public, make: Make) -> AudioLDM2:
    backend = make(public.folder)
    backend.load()
    return backend


@pytest.fixture(scope="session")
def nano(nano_folder: Path, make: Make) -> AudioLDM2:
    backend = make(nano_folder)
    backend.load()
    return backend
