"""Settings as people abbreviate them, and what only looks like one."""

import pytest

from orchestrator.settings import plain_settings, written_out


@pytest.mark.parametrize(
    ("language", "stretch", "out"),
    [
        ("en", "1:30", "90 seconds"),
        ("en", "1m30s", "90 seconds"),
        ("de", "30sek", "30 Sekunden"),
        ("fr", "1mn", "60 secondes"),
        ("es", "11''", "11 segundos"),
        ("fr", "étapes : 40", "steps=40"),
        ("zh", "步数 100", "steps=100"),
        ("zh", "响度 -16", "-16 LUFS"),
        ("en", "loudness -23 LUFS", "loudness -23 LUFS"),
        ("de", "noch zwei", "noch 2 Versionen"),
        ("es", "tres intentos distintos", "3 versiones"),
        ("fr", "quatre déclinaisons", "4 versions"),
        ("zh", "出4个", "4个版本"),
        ("de", "sechsmal", "6 Versionen"),
    ],
)
def test_a_setting_is_written_out(language: str, stretch: str, out: str) -> None:
    assert written_out(stretch, language) == out


@pytest.mark.parametrize(
    ("language", "stretch"),
    [
        ("en", "seed 5"),
        ("en", "from 0:03 to 0:05"),
        ("en", "with tango2"),
        ("de", "Sekunde 3 bis 4"),
        ("fr", "entre la 10e et la 12e seconde"),
        ("es", "un"),
        ("zh", "两"),
        ("en", "40 takes"),
        ("en", "version 2"),
        ("en", "#2 please"),
        ("fr", "prise 3"),
        ("de", "Nr. 4"),
        ("zh", "版本2"),
        ("zh", "第二个"),
        ("en", "four dogs"),
    ],
)
def test_anything_else_stays_as_it_is(language: str, stretch: str) -> None:
    assert written_out(stretch, language) == stretch


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("zamboni in an ice rink 0:35", ["0:35"]),
        ("0:20 rain", ["0:20"]),
        ("rain; 0:15; no alarm", ["0:15"]),
        ("it strikes at 0:20", []),
        ("cut from 0:03 to 0:05", []),
        ("mono aullador en la selva x3", ["x3"]),
        ("a 4x4 truck", []),
    ],
)
def test_some_are_plain_wherever_they_stand(text: str, found: list[str]) -> None:
    assert [text[begin:end] for begin, end in plain_settings(text)] == found
