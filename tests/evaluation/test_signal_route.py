"""What a sound follows, as figures: by hand-made logits and vectors, with no sound made."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from evaluation.signal_route import Shown, by_chance, chosen, fits, nearer, over_pairs, partners, pictures, told

NAMES = ("cat", "dog", "bee", "rain", "clock", "bell", "wind")
CAT, PET, BEE = (Shown(Path(f"{labels[0]}.jpg"), labels) for labels in (("cat",), ("dog", "cat"), ("bee",)))


def logits(**best: float) -> np.ndarray:
    return np.asarray([best.get(name, 0.0) - 0.001 * k for k, name in enumerate(NAMES)])


def test_a_sound_fits_if_one_of_the_first_labels_does() -> None:
    rows = np.stack([logits(cat=3, bee=2), logits(cat=1, bee=3), logits(bee=-1)])
    assert fits(rows, [CAT, PET, BEE], NAMES, 1).tolist() == [1, 0, 0]
    assert fits(rows, [CAT, PET, BEE], NAMES, 2).tolist() == [1, 1, 0]


def test_the_choice_is_between_the_likeliest_labels_of_two_pictures() -> None:
    rows = np.stack([logits(cat=1, dog=-5, bee=2), logits(cat=3, bee=2)])
    assert chosen(rows, [BEE, BEE], [PET, PET], NAMES).tolist() == [1, 0]


def test_nearer_is_told_by_the_mean_cosine() -> None:
    sounds = np.asarray([[1.0, 0.0], [1.0, 0.0], [1.0, 1.0]])
    other, own = np.asarray([[2.0, 0.1]] * 2), np.asarray([[0.1, 5.0]] * 2)
    assert nearer(sounds, np.stack([other, own, other]), np.stack([own, other, other])).tolist() == [1, 0, 0.5]


def test_chance_is_what_the_sounds_of_other_pictures_reach() -> None:
    rows = np.stack([logits(cat=3), logits(cat=3), logits(bee=3)])  # of CAT, PET and BEE
    assert by_chance(rows, [CAT, PET, BEE], NAMES, 1) == pytest.approx(2 / 6)  # the first fits PET, the second CAT, of six pairs


def test_partners_share_no_label_and_change() -> None:
    shown = [Shown(Path(f"{k}.jpg"), (NAMES[k % 5],)) for k in range(20)]
    turns = [partners(shown, turn) for turn in range(3)]
    assert all(not set(shown[i].labels) & set(shown[j].labels) for row in turns for i, j in enumerate(row))
    assert all(len({row[i] for row in turns}) == 3 for i in range(20))


def test_pictures_of_one_kind_have_no_partners() -> None:
    with pytest.raises(ValueError, match="share a label"):
        partners([CAT, PET], 0)


def test_all_pairs_are_those_that_share_no_label() -> None:
    rows = np.stack([logits(cat=3), logits(rain=1, dog=-1, cat=-1), logits(cat=1)])  # the second's sound is no pet, nor a bee
    told_of = over_pairs(rows, [CAT, PET, BEE], NAMES)
    # Asked of the sound of j against i: CAT against BEE yes, PET against BEE no, BEE against CAT and PET no.
    assert told_of["pairs"] == 4 and told_of["mean"] == 0.25


def test_an_interval_counts_pictures_and_not_seeds() -> None:
    once, thrice = (np.repeat([[1.0], [0.0]] * 10, k, axis=1) for k in (1, 3))
    assert told(once) == told(thrice) and told(once)["mean"] == 0.5


def test_a_row_that_names_a_test_picture_is_not_judged_twice(tmp_path: Path) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.write_text('{"file": "photos/chelsea.jpg", "labels": ["cat"]}\n{"file": "drawings/bee.png", "labels": ["bee"]}\n')
    found = pictures(rows)
    assert len(found) == len(pictures(None)) + 1 and found[-1].drawn and found[-1].file == tmp_path / "drawings" / "bee.png"
    assert sum(picture.file.name == "chelsea.jpg" for picture in found) == 1
