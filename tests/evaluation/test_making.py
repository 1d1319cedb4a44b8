from pathlib import Path

import numpy as np
import pytest

from evaluation import making
from evaluation.batches import processors
from evaluation.making import Maker, Recipe, makers, one_thread, open_checkpoint
from generators.base import GenerationRequest, UnsupportedRequest
from media.refs import MediaStore

NANO = Path(__file__).resolve().parents[2] / "checkpoints" / "nano"


def test_one_process_needs_no_pool():
    with makers(1) as workers:
        assert workers is None
    assert processors() >= 1


@pytest.mark.slow
def test_processes_make_the_same_bytes_as_one(tmp_path):
    store = MediaStore(tmp_path / "store")
    requests = [GenerationRequest(prompt=prompt, seconds=5.12, seed=3, steps=2) for prompt in ("rain", "an owl")]

    def made(jobs: int) -> list[np.ndarray]:
        with makers(jobs) as workers, one_thread():
            recipe = Recipe(NANO, "predicted", store.root, tmp_path / f"kept{jobs}")
            maker = Maker(open_checkpoint(NANO, store), recipe, workers, lambda *_: None)
            return [sound.samples for sound in maker.sounds("", requests)]

    alone, together = made(1), made(2)

    assert all(np.array_equal(a, b) for a, b in zip(alone, together, strict=True))
    assert len(list((tmp_path / "kept2").iterdir())) == 2


@pytest.mark.slow
def test_what_a_worker_refuses_is_refused_here_and_the_pool_goes_on(tmp_path):
    store = MediaStore(tmp_path / "store")
    with makers(2) as workers, one_thread():
        recipe = Recipe(NANO, "predicted", store.root, tmp_path / "kept")
        maker = Maker(open_checkpoint(NANO, store), recipe, workers, lambda *_: None)
        with pytest.raises(UnsupportedRequest, match="at most"):
            maker.sounds("", [GenerationRequest(prompt="rain", seconds=500, steps=1)])
        (sound,) = maker.sounds("", [GenerationRequest(prompt="rain", seconds=5.12, steps=1)])
    assert sound.seconds == pytest.approx(5.12)
    assert making.ROWS == 8
