"""Names become objects lazily, and a wrong name is answered with the nearest one."""

import importlib
import pickle
import subprocess
import sys
from importlib.metadata import EntryPoint, EntryPoints

import pytest

from configs import registry
from configs.registry import ConfigError, MissingExtra, UnknownName, names, nearest, resolve


@pytest.fixture
def registered(monkeypatch):
    """Entry points as an installed package would bring them, for the group loa.backends."""
    found: list[EntryPoint] = []
    monkeypatch.setattr(registry, "_installed", lambda group, path: EntryPoints(found).select(group=group))

    def add(name: str, value: str) -> None:
        found.append(EntryPoint(name=name, value=value, group="loa.backends"))

    return add


def test_own_backends_are_registered_by_the_installed_distribution():
    assert {"audioldm2", "hibari"} <= set(names("loa.backends"))
    assert {"rules", "langchain"} <= set(names("loa.chat_models"))
    assert {"minilm", "efficientnet-lite0", "nano-audio"} <= set(names("loa.encoders"))


def test_a_name_becomes_its_object(registered):
    registered("fraction", "fractions:Fraction")
    assert resolve("loa.backends", "fraction")(1, 2) == 0.5


def test_a_nested_attribute_is_followed(registered):
    registered("hypot", "fractions:Fraction.from_float")
    assert resolve("loa.backends", "hypot")(0.25).denominator == 4


def test_listing_names_imports_nothing(registered):
    registered("ghost", "no_such_package.ghost:Ghost")
    assert names("loa.backends") == ["ghost"]


def test_unknown_name_suggests_the_nearest_and_lists_all(registered):
    registered("nano", "fractions:Fraction")
    registered("hibari", "fractions:Fraction")
    with pytest.raises(UnknownName, match=r"unknown backend 'nanno': did you mean 'nano'\? known: hibari, nano") as info:
        resolve("loa.backends", "nanno")
    assert info.value.exit_code == 2


def test_a_name_like_nothing_gets_no_wild_guess(registered):
    registered("nano", "fractions:Fraction")
    with pytest.raises(UnknownName, match=r"unknown backend 'zzzzqqq': known: nano$"):
        resolve("loa.backends", "zzzzqqq")


def test_a_missing_package_is_named(registered):
    registered("ghost", "no_such_package.ghost:Ghost")
    with pytest.raises(MissingExtra, match="'ghost' needs the package 'no_such_package'") as info:
        resolve("loa.backends", "ghost")
    assert info.value.exit_code == 3


def test_an_entry_point_to_nothing_says_so(registered):
    registered("typo", "fractions:Fractoin")
    with pytest.raises(ConfigError, match="fractions:Fractoin"):
        resolve("loa.backends", "typo")


def test_an_unknown_group_is_refused():
    with pytest.raises(UnknownName, match=r"did you mean 'loa\.backends'"):
        names("loa.backend")


def test_unknown_name_survives_pickling():
    error = UnknownName("backend", "nanno", ["nano"])
    again = pickle.loads(pickle.dumps(error))
    assert (type(again), str(again)) == (UnknownName, str(error))


@pytest.mark.parametrize(("typed", "meant"), [("NANO", "nano"), ("nan", "nano"), ("hibary", "hibari"), ("qqqq", None)])
def test_nearest(typed, meant):
    assert nearest(typed, ["nano", "hibari"]) == meant


def test_registry_imports_no_heavy_library():
    code = "import sys, configs.registry, configs.schema; print([m for m in ('torch','numpy') if m in sys.modules])"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"


def test_importing_twice_gives_the_same_object(registered):
    registered("fraction", "fractions:Fraction")
    assert resolve("loa.backends", "fraction") is importlib.import_module("fractions").Fraction
