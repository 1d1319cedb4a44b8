"""Weight files: only tensors are read, nothing in a file runs, and what does not fit is named."""

from __future__ import annotations

import hashlib
import pickle
import re
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from encoders.weights import PICKLES, WeightsError, compare, load_into, read_shapes, read_state_dict, sha256_of, shapes_of

SUFFIXES = (".safetensors", *PICKLES)


def tensors() -> dict[str, torch.Tensor]:
    return {"a.weight": torch.arange(6.0).view(2, 3), "a.bias": torch.tensor([1.5, -2.0])}


class Canary:
    """A pickle that writes a file when it is opened the careless way."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


def written(path: Path, content: object, legacy: bool = False) -> Path:
    if path.suffix == ".safetensors":
        assert isinstance(content, dict)
        save_file(content, path)
    else:
        torch.save(content, path, _use_new_zipfile_serialization=not legacy)
    return path


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("legacy", [False, True])
def test_every_format_gives_back_its_tensors_and_their_shapes(suffix: str, legacy: bool, tmp_path: Path) -> None:
    path = written(tmp_path / f"w{suffix}", tensors(), legacy)
    state = read_state_dict(path)
    assert all(torch.equal(state[key], value) for key, value in tensors().items()) and set(state) == set(tensors())
    assert read_shapes(path) == shapes_of(tensors()) == {"a.weight": (2, 3), "a.bias": (2,)}


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("form", ["torch", "legacy", "plain", "hidden", "name"])
def test_a_canary_in_a_weight_file_never_runs(suffix: str, form: str, tmp_path: Path) -> None:
    canary, path = tmp_path / "canary", tmp_path / f"w{suffix}"
    content: Any = {"state_dict": tensors(), "note": Canary(canary)}
    if form == "plain":
        path.write_bytes(pickle.dumps(content))
    elif form == "hidden":  # inside the archive of a good file, in place of its own pickle
        torch.save(tensors(), tmp_path / "good")
        with zipfile.ZipFile(tmp_path / "good") as good, zipfile.ZipFile(path, "w") as bad:
            for item in good.namelist():
                bad.writestr(item, pickle.dumps(content) if item.endswith("data.pkl") else good.read(item))
    elif form == "name":  # the key itself
        torch.save({Canary(canary): tensors()}, path)
    else:
        torch.save(content, path, _use_new_zipfile_serialization=form == "torch")
    for read in (read_state_dict, read_shapes):
        with pytest.raises(WeightsError, match=re.escape(path.name)) as why:
            read(path)
        assert "\n" not in str(why.value) and why.value.exit_code == 3
        assert not canary.exists()
    if form != "hidden" and path.suffix != ".safetensors":  # the canary is a real one
        torch.load(path, weights_only=False) if form != "plain" else pickle.loads(path.read_bytes())
        assert canary.exists()


def test_a_refused_file_names_what_it_asked_for(tmp_path: Path) -> None:
    torch.save({"x": Canary(tmp_path / "c")}, tmp_path / "w.pt")
    with pytest.raises(WeightsError, match=r"w\.pt asks for getattr, .* nothing of it ran"):
        read_state_dict(tmp_path / "w.pt")
    (tmp_path / "system.pt").write_bytes(b"cos\nsystem\n(S'true'\ntR.")
    with pytest.raises(WeightsError, match=r"system\.pt"):
        read_state_dict(tmp_path / "system.pt")


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_cut_or_empty_file_is_said_to_be_damaged(suffix: str, tmp_path: Path) -> None:
    whole = written(tmp_path / f"whole{suffix}", tensors()).read_bytes()
    for name, data in (("cut", whole[: len(whole) // 2]), ("empty", b""), ("text", b"<html>quota exceeded</html>")):
        path = tmp_path / f"{name}{suffix}"
        path.write_bytes(data)
        for read in (read_state_dict, read_shapes):
            with pytest.raises(WeightsError, match=f"{name}.*cannot be read as weights"):
                read(path)


def test_a_missing_file_and_a_foreign_name_are_refused(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="there is no file"):
        read_state_dict(tmp_path / "nothing.pt")
    (tmp_path / "w.zip").write_bytes(b"PK")
    with pytest.raises(WeightsError, match=r"known are \.safetensors, \.pt"):
        read_state_dict(tmp_path / "w.zip")


@pytest.mark.parametrize(
    "content",
    [
        {"state_dict": tensors()},
        {"generator": tensors(), "epoch": 3},
        {"best_state": {"model": tensors()}, "xp.cfg": "a: 1"},
        {"epoch": 1, "optimizer": {"state": {0: torch.ones(9)}}, "state_dict": {f"module.{k}": v for k, v in tensors().items()}},
        {"state_dict": OrderedDict(tensors()), "score": np.float64(0.5), "steps": np.int64(7), "name": "best"},
        {key: nn.Parameter(value) for key, value in tensors().items()},
    ],
    ids=["lightning", "gan", "audiocraft", "laion", "numbers", "flat"],
)
def test_what_training_scripts_wrap_around_the_weights_is_taken_off(content: Any, tmp_path: Path) -> None:
    state = read_state_dict(written(tmp_path / "w.ckpt", content))
    assert set(state) == set(tensors()) and torch.equal(state["a.bias"], tensors()["a.bias"])


@pytest.mark.parametrize("content", [[1, 2], {"epoch": 3}, torch.ones(3), {"state_dict": {}}])
def test_a_file_without_named_tensors_says_so(content: Any, tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="holds no tensors by name"):
        read_state_dict(written(tmp_path / "w.pt", content))


def test_a_pickle_that_holds_itself_is_no_weights(tmp_path: Path) -> None:
    endless: dict[str, Any] = {}
    endless["model"] = endless
    torch.save(endless, tmp_path / "w.pt")
    with pytest.raises(WeightsError, match="holds no tensors by name"):
        read_state_dict(tmp_path / "w.pt")


def test_what_fits_is_loaded_and_counted_positions_do_not_matter() -> None:
    module = nn.ModuleDict({"a": nn.Linear(3, 2), "embeddings": nn.Module()})
    load_into(module, {**tensors(), "embeddings.position_ids": torch.arange(3)}, where="w.pt")  # the file's, not the network's
    assert torch.equal(module["a"].weight.detach(), tensors()["a.weight"])
    module["embeddings"].register_buffer("position_ids", torch.arange(3))
    load_into(module, tensors(), where="w.pt")  # the network's, not the file's
    assert module.state_dict()["embeddings.position_ids"].tolist() == [0, 1, 2]


def test_a_part_is_loaded_by_its_prefix_and_an_empty_network_takes_the_tensors() -> None:
    held = {f"inside.{key}": value.double() for key, value in tensors().items()} | {"other": torch.ones(1)}
    with torch.device("meta"):
        module = nn.ModuleDict({"a": nn.Linear(3, 2)})
    load_into(module, held, where="w.pt", prefix="inside.")
    assert torch.equal(module["a"].weight.detach(), tensors()["a.weight"]) and module["a"].weight.dtype == torch.float32


def test_a_misfit_loads_nothing_and_names_ten_keys_and_a_count() -> None:
    module = nn.Sequential(*(nn.Linear(2, 2) for _ in range(20)))
    before = {key: value.clone() for key, value in module.state_dict().items()}
    state = {key: torch.ones(2) for key in list(before)[:5]} | {f"new.{i}": torch.ones(1) for i in range(12)}
    with pytest.raises(WeightsError) as why:
        load_into(module, state, where="the file x.pt")
    said = str(why.value)
    assert said.startswith("the file x.pt does not fit: ") and "\n" not in said
    assert "wrong shape (3): 0.weight is [2] instead of [2, 2]" in said
    assert "missing (35): 2.bias" in said and "and 25 more" in said and "not expected (12): new.0" in said and "and 2 more" in said
    assert all(torch.equal(value, before[key]) for key, value in module.state_dict().items())


@pytest.mark.parametrize(
    ("got", "cause"),
    [
        ({"model.a": (2,), "model.b": (3,)}, "carry the prefix 'model.'"),
        ({"x": (2,), "y": (3,)}, "another model"),
        ({"a": (2,), "y": (3,)}, "another version or size"),
        ({"a": (2,), "b": (4,)}, "another size"),
        ({"a": (2,)}, "incomplete"),
        ({"a": (2,), "b": (3,), "c": (1,)}, "holds more"),
    ],
)
def test_the_likely_cause_is_named(got: dict[str, tuple[int, ...]], cause: str) -> None:
    misfit = compare({"a": (2,), "b": (3,)}, got)
    assert misfit and cause in str(misfit)


def test_what_fits_is_no_misfit() -> None:
    assert not compare({"a": (2,)}, {"a": (2,), "text.embeddings.position_ids": (1, 5)})
    assert "lack the prefix 'm.'" in str(compare({"m.a": (2,), "m.b": (3,)}, {"a": (2,), "b": (3,)}))


def test_a_key_from_a_stranger_is_shown_as_one_printable_line() -> None:
    said = str(compare({"a": (1,)}, {"a": (1,), "b\n\x1b[31m" + "x" * 500: (1,)}))
    assert "\n" not in said and "\x1b" not in said and len(said) < 400


def test_a_hash_is_that_of_the_content_now(tmp_path: Path) -> None:
    path = tmp_path / "w.bin"
    for data in (b"one", b"another"):
        path.write_bytes(data)
        assert sha256_of(path) == hashlib.sha256(data).hexdigest()


def test_every_auto_class_is_told_to_run_no_program_text() -> None:
    """transformers would ask on stdin, and take a 'y' that was meant for us."""
    rooms = ("encoders", "evaluation", "generators", "serving", "training")
    texts = [path.read_text() for room in rooms for path in (Path(__file__).parents[2] / room).glob("*.py")]
    calls = re.findall(r"\bAuto(?!encoder)[A-Z]\w+\.from_\w+\(.*", "\n".join(texts))
    assert len(calls) >= 14 and all("NO_CODE" in call or "trust_remote_code=False" in call for call in calls)
