"""`loa bench routing`: its rows, its scoring, and what the default chat model makes of the published rows."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from configs.registry import ConfigError
from configs.schema import load_config
from encoders.text import SentenceEncoder
from evaluation.routing import Row, faults, read_rows, run
from orchestrator.chat_model import build_rules
from orchestrator.languages import detect
from orchestrator.local_lm import build_local
from orchestrator.rehearsal import Rehearsal
from training.requests import drawn_near, overlap, tokens

ROWS = Path(__file__).parents[1] / "data" / "routing.jsonl"


@dataclass(frozen=True)
class Given:
    calls: tuple[tuple[str, dict[str, Any]], ...] = ()
    text: str = ""
    first_s: float = 0.1
    decided_s: float = 0.2


@pytest.mark.parametrize(
    ("row", "given", "right", "wrong"),
    [
        ({"tool": "generate_audio", "words": ["dog"]}, Given((("generate_audio", {"prompt": "a Dog"}),)), True, 0),
        ({"tool": "generate_audio", "not_words": ["dog"]}, Given((("generate_audio", {"prompt": "a dog"}),)), True, 1),
        ({"tool": "generate_audio", "seconds": None}, Given((("generate_audio", {"seconds": 7.0}),)), True, 1),
        ({"tool": "generate_audio|edit_audio"}, Given((("edit_audio", {}),)), True, 0),
        ({"tool": None}, Given((("edit_audio", {}),)), False, 1),
        ({"tool": None, "asks": True}, Given((), "What should be heard?"), True, 0),
        ({"tool": None, "asks": True}, Given((), "Hello."), True, 1),
        ({"tool": "edit_audio", "region": [2, 4]}, Given((("edit_audio", {"regions": [[2.0, 4.0]]}),)), True, 0),
        ({"tool": "compare", "backends": ["b", "a"]}, Given((("compare", {"backends": ["a", "b"]}),)), True, 0),
        (
            {"tool": "compare", "backends": ["musicgen", "tango"]},
            Given((("compare", {"backends": ["tango", "musicgen-small"]}),)),
            True,
            0,
        ),
        (
            {"tool": "compare", "backends": ["musicgen", "tango"]},
            Given((("compare", {"backends": ["tango2", "musicgen-small"]}),)),
            True,
            1,
        ),
        ({"tool": "generate_audio", "backend": "musicgen"}, Given((("generate_audio", {"backend": "musicldm"}),)), True, 1),
        ({"tool": "soundtrack_video", "layers_without": "music"}, Given((("soundtrack_video", {}),)), True, 1),
        ({"tool": "generate_audio", "count": 2}, Given((("generate_audio", {}), ("generate_audio", {}))), True, 0),
        ({"tool": "export_audio", "lufs": -16}, Given((("export_audio", {"lufs": -14.0}),)), True, 1),
    ],
)
def test_a_row_is_scored_by_what_was_called(row: dict[str, Any], given: Given, right: bool, wrong: int) -> None:
    found, faulty = faults(Row.model_validate({"say": "x"} | row), given)
    assert (found, len(faulty)) == (right, wrong)


def test_shares_are_of_all_rows_and_by_tool_and_language() -> None:
    rows = [Row(say="a dog", tool="generate_audio", seed=3), Row(say="ein Hund", tool=None)]
    figures = run(rows, lambda row: Given((("generate_audio", {}),)), detect)
    assert (figures.tool_accuracy, figures.argument_accuracy) == (0.5, 0.0)
    assert figures.by_language["de"]["tool_accuracy"] == 0.0 and figures.by_tool["generate_audio"]["tool_accuracy"] == 1.0


def test_a_line_that_is_no_row_is_named(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"say": "a", "tool": null}\n{"say": 3}\n')
    with pytest.raises(ConfigError, match=r":2: say"):
        read_rows(path)


def test_a_rehearsal_asks_the_real_router_and_makes_nothing(tmp_path: Path) -> None:
    from tests.orchestrator.parts import WordCounts

    rehearsal = Rehearsal(build_rules({"backends": ["nano"]}, WordCounts()), tmp_path)
    told = rehearsal.answer("from 2 to 4 seconds make it a gunshot", (), ("audio2",))
    rehearsal.close()
    assert told.calls[0][0] == "edit_audio" and told.calls[0][1]["regions"] == [[2.0, 4.0]]
    assert 0 < told.first_s <= told.decided_s


def test_no_published_row_is_nearly_a_training_row() -> None:
    said = [json.loads(line)["say"] for line in ROWS.read_text("utf-8").splitlines()]
    assert len(said) >= 300
    assert drawn_near(said, count=300, seed=0) == []
    assert overlap(tokens("Rain on a tin roof!"), tokens("rain on a tin roof")) and not overlap(tokens("rain"), tokens("snow"))


@pytest.mark.slow
def test_the_default_chat_model_reaches_the_bar_on_the_published_rows(tmp_path: Path) -> None:
    rehearsal = Rehearsal(build_local(load_config().chat_model.options, SentenceEncoder()), tmp_path)
    figures = run(read_rows(ROWS), lambda row: rehearsal.answer(row.say, row.attach, row.history), detect)
    rehearsal.close()
    assert figures.tool_accuracy >= 0.93 and figures.argument_accuracy >= 0.90, figures.wrong
    assert all(shares["tool_accuracy"] >= 0.85 for shares in figures.by_language.values())


@pytest.mark.slow
@pytest.mark.timeout(900)  # a thousand decisions
def test_what_other_people_asked_for_stays_understood(tmp_path: Path) -> None:
    """1,089 rows by others (docs/router.md, sets A to L). All were mended for, so they tell of steps back, not of how well it does."""
    rehearsal = Rehearsal(build_local(load_config().chat_model.options, SentenceEncoder()), tmp_path)
    figures = run(
        read_rows(ROWS.with_name("routing_heard.jsonl")), lambda row: rehearsal.answer(row.say, row.attach, row.history), detect
    )
    rehearsal.close()
    assert figures.rows == 1089
    assert figures.tool_accuracy >= 0.985 and figures.argument_accuracy >= 0.97, figures.wrong
