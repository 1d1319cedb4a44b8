"""What people take back while they speak: the number or the thing that counts stays, everything else stands as it was said."""

import pytest

from orchestrator.corrections import corrected, put_right, things_right


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        ("clock, 25 seconds - actually no, 18 is enough for the scene - with seed 9", "clock, 18 seconds - with seed 9"),
        (
            "at first I thought ten seconds but the editor now insists on seven, 100 steps",
            "at first I thought seven seconds, 100 steps",
        ),
        ("five seconds each, make that six each, guidance 4", "six seconds each, guidance 4"),
        ("one second max, ideally 0.5s", "0.5s max"),
        ("my outro is 6 seconds but I need 18.", "my outro is 18 seconds."),
        ("35 Sekunden – ach nein, machen Sie 50 daraus –, Seed 12", "50 Sekunden –, Seed 12"),
        ("fünfzehn Sekunden, ach was, zwanzig!", "zwanzig Sekunden!"),
        ("30 secondes, non, 28 pour coller au montage, sans musique", "28 secondes, sans musique"),
        ("5 secondes... euh non, 3 ça suffit", "3 secondes"),
        ("diez segundos cada una, perdón, ocho, guía 6", "ocho segundos cada una, guía 6"),
        ("声音,20秒,算了还是18秒,种子5", "声音,18秒,种子5"),
        ("本来想要10秒，还是改成12秒吧，不要风声", "本来想要12秒，不要风声"),
        ("seed 3, no, 4, rain", "seed 4, rain"),
    ],
)
def test_the_last_number_counts(said: str, meant: str) -> None:
    assert put_right(said) == meant


@pytest.mark.parametrize(
    "said",
    [
        "8 or 10 seconds of rain, no dogs",
        "rain 10 seconds, no 3 birds",
        "a dog and two cats, no seagulls, five seconds",
        "8 seconds of rain and no 5 seconds of wind",
        'say "ten seconds, no, twelve seconds to impact"',
        "five dogs, actually six",  # a number of things is no number of ours
        "guidance 4, 30 steps, seed 12, no birds",
    ],
)
def test_what_takes_nothing_back_is_left_alone(said: str) -> None:
    assert put_right(said) == said


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        ("un essaim de guêpes, pardon, de moustiques autour de l'oreille", "un essaim de moustiques autour de l'oreille"),
        ("Un hipopótamo, perdón, me he liado, un rinoceronte cerca", "un rinoceronte cerca"),
        ("semilla 300: una tiza... no, perdón, un lápiz sobre papel", "semilla 300: un lápiz sobre papel"),
        ("a harp, sorry, a lyre by the sea", "a lyre by the sea"),
        ("sorry, a harp", "sorry, a harp"),
    ],
)
def test_a_thing_gives_way_to_the_one_behind_it(said: str, meant: str) -> None:
    assert things_right(said) == meant


def test_a_whole_wish_can_be_taken_back() -> None:
    assert corrected("rain. no wait, I meant hail") == "hail"
