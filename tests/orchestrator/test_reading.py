"""A reading put to use: asides go, wishes stay, words to be spoken are taken letter for letter."""

from typing import Any

import pytest

from encoders.reader import DECISIONS, KINDS, OWN_SOUND, Reading, words
from orchestrator.reading import completed, edited, made_plain, spoken, wish
from training.reading import plain


def read(marked: str, sure: float = 0.99, own: str = "unsaid") -> tuple[str, Reading]:
    """A reading as sure of each mark as said."""
    text, marks = plain(marked)
    spans = tuple(words(text))
    flat = dict.fromkeys(DECISIONS, 1 / len(DECISIONS)), dict.fromkeys(KINDS, 1 / len(KINDS))
    owns = {name: 0.98 if name == own else 0.01 for name in OWN_SOUND}
    return text, Reading(spans, "".join(marks[a] for a, _ in spans), (sure,) * len(spans), *flat, owns)


@pytest.mark.parametrize(
    ("marked", "left"),
    [
        ("⟦A:my gran is 90.⟧ ⟦W:a music box⟧, ⟦P:ten seconds⟧", "a music box, ten seconds"),
        ("⟦T:a wasp, sorry,⟧ ⟦W:a mosquito⟧ please", "a mosquito please"),
        (
            "⟦W:a spider on a ceiling⟧. ⟦T:ten seconds. no wait, make that⟧ ⟦P:12⟧",
            "a spider on a ceiling. 12 seconds",
        ),
        ("⟦A:thanks a lot, perfect⟧", "thanks a lot, perfect"),
        ("⟦A:she says⟧ “⟦W:hello⟧”", "she says “hello”"),
        ("⟦W:下雨⟧，⟦A:我睡不着⟧", "下雨"),
        ("⟦W:Regen⟧, ⟦P:0:20⟧, ⟦P:vier⟧", "Regen, 20 Sekunden, 4 Versionen"),
        ("⟦W:rain⟧, ⟦T:ten seconds, no,⟧ ⟦P:nine⟧", "rain, ten seconds, no, nine"),
        ("⟦W:油条下锅⟧ ⟦P:4秒⟧ x3", "油条下锅 4秒 3个版本"),
        ("⟦W:雨打窗户⟧，⟦T:十秒，不对，⟧⟦P:12⟧，⟦P:三条⟧", "雨打窗户， 12 秒，3个版本"),
        ("⟦W:two dogs⟧ from 0:03 to 0:05", "two dogs from 0:03 to 0:05"),
    ],
)
def test_what_is_beside_the_wish_goes_and_nothing_else(marked: str, left: str) -> None:
    assert made_plain(*read(marked)) == left


def test_what_is_not_surely_an_aside_stays() -> None:
    text, reading = read("⟦A:my gran is 90.⟧ ⟦W:a music box⟧", sure=0.6)
    assert made_plain(text, reading) == text


def test_a_wish_is_told_in_english() -> None:
    assert wish(*read("Mach ⟦W:einen bellenden Hund⟧ ⟦P:5 Sekunden⟧")).split()[-1] == "dog"


@pytest.mark.parametrize(
    ("marked", "said"),
    [
        ("have ⟦W:a pirate⟧ bellow ⟦S:Swab the decks, ye mangy curs!⟧", "Swab the decks, ye mangy curs!"),
        ("dites « ⟦S:Le musée ferme⟧ », ⟦W:timbre masculin⟧", "Le musée ferme"),
        ("⟦S:Swab the⟧ noisy ⟦S:decks⟧", ""),
        ("⟦W:a pirate⟧", ""),
    ],
)
def test_words_to_be_spoken_are_taken_letter_for_letter_or_not_at_all(marked: str, said: str) -> None:
    assert spoken(*read(marked)) == said


@pytest.mark.parametrize(
    ("arguments", "tool", "marked", "own", "more"),
    [
        ({"prompt": "yo"}, "generate_audio", "yo drop me ⟦W:a grimy trap loop⟧", "unsaid", {"prompt": "a grimy trap loop"}),
        ({"prompt": "a loud grimy trap loop"}, "generate_audio", "drop me ⟦W:a grimy trap loop⟧", "unsaid", {}),
        ({"prompt": "harp"}, "soundtrack_video", "⟦W:harp⟧, keep the vows", "keep", {"original": "keep"}),
        ({"prompt": "harp", "original": "duck"}, "soundtrack_video", "⟦W:harp⟧", "keep", {}),
        ({"kind": "remove", "source": "s"}, "edit_audio", "lose the ⟦N:engine⟧", "unsaid", {"negative_prompt": "engine"}),
        ({"kind": "style", "source": "s"}, "edit_audio", "⟦W:darker⟧", "unsaid", {"prompt": "darker"}),
        ({"transcript": "Hi there"}, "generate_audio", "⟦W:a pirate⟧ says Hi there", "unsaid", {"prompt": "a pirate"}),
        ({"transcript": "Hi there"}, "generate_audio", "a pirate says ⟦W:Hi⟧ there", "unsaid", {}),
        ({"source": "s"}, "export_audio", "⟦W:loud⟧ file", "unsaid", {}),
    ],
)
def test_only_what_the_rules_left_empty_or_missed_is_given(
    arguments: dict[str, Any], tool: str, marked: str, own: str, more: dict[str, Any]
) -> None:
    assert completed(arguments, tool, *read(marked, own=own)) == arguments | more


def test_an_edit_takes_the_words_of_who_asked_for_it() -> None:
    style, gone = read("make ⟦R:my take⟧ ⟦W:warmer and rounder⟧"), read("there is ⟦N:a clock⟧ in ⟦R:my take⟧, it must not be there")
    assert edited({"kind": "style", "prompt": "make my take warmer"}, *style) == {"kind": "style", "prompt": "warmer and rounder"}
    assert edited({"kind": "remove", "prompt": "there is a clock"}, *gone) == {"kind": "remove", "negative_prompt": "a clock"}
    assert edited({"kind": "variation"}, *style) == {"kind": "variation"}


def test_what_is_left_out_and_who_shall_do_it_are_filled_in() -> None:
    text, reading = read("⟦W:harp⟧ for it, ⟦N:music⟧ I bring myself, ⟦P:tangoflux⟧")
    given = completed({"prompt": "harp"}, "soundtrack_video", text, reading, ("tango", "tangoflux"))
    assert given == {"prompt": "harp", "layers": ["ambience", "foley"], "backend": "tangoflux"}
    text, reading = read("⟦W:a pond⟧, skip ⟦N:the ducks⟧")
    assert completed({"prompt": "a pond, skip the ducks"}, "generate_audio", text, reading)["negative_prompt"] == "the ducks"
