"""Conditions, their cache, and files inside packages."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
import torch

from encoders.base import Condition, ConditionCache, EncoderMissing, packaged_file


def condition(value: float, length: int = 3) -> Condition:
    return Condition("t5", torch.full((2, length, 4), value), torch.tensor([[True, True, False], [True, False, False]]))


def test_null_is_zeros_fully_attended() -> None:
    null = condition(2.0).null()
    assert not null.states.any() and bool(null.mask.all()) and null.name == "t5"


def test_rows_come_in_the_given_order() -> None:
    both = Condition("t5", torch.arange(24.0).view(2, 3, 4), condition(0).mask)
    turned = both.rows([1, 0, 1])
    assert torch.equal(turned.states, both.states[[1, 0, 1]]) and torch.equal(turned.mask, both.mask[[1, 0, 1]])


@pytest.mark.parametrize(
    ("states", "mask"),
    [
        (torch.zeros(3, 4), torch.ones(3).bool()),
        (torch.zeros(1, 3, 4), torch.ones(1, 4).bool()),
        (torch.zeros(1, 3, 4), torch.ones(1, 3)),
    ],
)
def test_what_is_no_condition_is_named(states: torch.Tensor, mask: torch.Tensor) -> None:
    with pytest.raises(ValueError, match=r"\[B, L, D\]"):
        Condition("t5", states, mask)


def test_the_cache_gives_the_stored_value_and_forgets_the_oldest() -> None:
    cache, made = ConditionCache(size=2), list[str]()

    def make(key: str) -> Condition:
        def build() -> Condition:
            made.append(key)
            return condition(float(len(made)))

        return cache.get((key,), build)

    first = make("a")
    assert make("a") is first
    make("b")
    assert make("a") is first  # read again, so "b" is the oldest now
    make("c")
    assert make("a") is first
    make("b")
    assert made == ["a", "b", "c", "b"] and (cache.hits, cache.misses) == (3, 4)


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package with one file of weights; importing it would fail."""
    folder = tmp_path / "weighty_package"
    folder.mkdir()
    (folder / "__init__.py").write_text("raise RuntimeError('imported')")
    (folder / "weights.bin").write_bytes(b"the tested bytes")
    monkeypatch.syspath_prepend(str(tmp_path))
    return folder


def test_a_packaged_file_is_found_without_importing_its_package(package: Path) -> None:
    good = hashlib.sha256(b"the tested bytes").hexdigest()
    assert packaged_file("weighty_package", "weights.bin", sha256=good) == package / "weights.bin"


def test_other_bytes_than_the_tested_ones_are_refused(package: Path) -> None:
    good = hashlib.sha256(b"the tested bytes").hexdigest()
    assert packaged_file("weighty_package", "weights.bin", sha256=good).is_file()
    (package / "weights.bin").write_bytes(b"the changed bytes!")
    with pytest.raises(EncoderMissing, match="not the tested file") as refused:
        packaged_file("weighty_package", "weights.bin", sha256=good)
    assert refused.value.exit_code == 3 and "requirements-weights.txt" in str(refused.value)


@pytest.mark.parametrize(("name", "parts"), [("no_such_package", ("x",)), ("weighty_package", ("missing.bin",))])
def test_a_missing_package_or_file_says_how_to_get_it(package: Path, name: str, parts: tuple[str, ...]) -> None:
    with pytest.raises(EncoderMissing, match=f"'{name}'.*not installed.*pip install"):
        packaged_file(name, *parts)
