"""The bar of soundtracks, with nano, a detector and a judge that know nothing of it, and real kills (minutes)."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.soundtrack_figures import PHASES, kills, memory, onsets, scenes, toys

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]


def test_what_is_seen_is_heard_within_40_ms_and_little_is_invented(tmp_path: Path) -> None:
    told = onsets(tmp_path, toys(3))
    print(json.dumps(told))
    seen = sum(row["seen"]["hit"] for row in told["clips"])
    assert told["events"] > 110
    assert told["hit"] >= 0.95 * seen, told
    assert told["within_40_ms"] >= 0.9, told
    assert told["false_share"] < 0.1, told
    assert all(row["cuts_right"] == row["cuts"] == row["cuts_found"] for row in told["clips"])


def test_a_scene_sounds_like_what_it_shows_with_music_in_it(tmp_path: Path) -> None:
    told = scenes(tmp_path, 4, first=30)
    print(json.dumps(told))
    assert told["scenes"] == 20 and told["right"] >= 0.7, told


def test_a_run_killed_ten_times_in_all_phases_ends_with_the_sound_of_one_run(tmp_path: Path) -> None:
    told = kills(tmp_path, 10)
    print(json.dumps(told))
    assert told["kills"] >= 10 and {phase for phase, _ in told["killed"]} == set(PHASES) and told["same"] == told["runs"], told
    assert not told["left"]  # a kill leaves the whole output or none


def test_a_quarter_of_an_hour_takes_little_more_memory_than_a_minute(tmp_path: Path) -> None:
    told = memory(tmp_path)
    print(json.dumps(told))
    assert told["grows_mb"] < 300, told
    assert [row["samples"] for row in told["rows"]] == [round(row["minutes"] * 60 * 48_000) for row in told["rows"]]
