"""Teaching the reader of requests: what it learns from is marked soundly, far from the published rows, and can be learned."""

import json
from pathlib import Path

import pytest
import torch

from encoders.reader import DECISIONS, MARKS, inputs
from training.reading import marked_requests, plain, shipped, teach
from training.requests import overlap, tokens

DATA = Path(__file__).parents[1] / "data"


def test_every_marked_request_is_sound() -> None:
    rows = marked_requests(shipped())
    assert len(rows) >= 3000 and {row.language for row in rows} == {"en", "de", "fr", "es", "zh"}
    for row in rows:
        assert len(row.said) == len(row.marks) and set(row.marks) <= set(MARKS) and row.decision in DECISIONS, row
    assert not any("⟦" in plain(json.loads(line)["marked"])[0] for line in shipped())


def test_no_published_row_is_nearly_a_marked_one() -> None:
    taught = [tokens(plain(json.loads(line)["marked"])[0]) for line in shipped()]
    for line in (DATA / "routing.jsonl").read_text("utf-8").splitlines():
        said = tokens(json.loads(line)["say"])
        assert not any(overlap(said, one) for one in taught), line


def test_teaching_is_alike_every_time() -> None:
    rows = marked_requests(shipped())[:64]
    one, same = teach(rows, epochs=2), teach(rows, epochs=2)
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), same.parameters(), strict=True))


@pytest.mark.slow
def test_teaching_parts_files_from_films() -> None:
    rows = marked_requests(shipped())
    rows = [row for kind in ("export_audio", "soundtrack_video") for row in [r for r in rows if r.decision == kind][:32]]
    reader = teach(rows, epochs=60)
    with torch.inference_mode():
        marks, decisions, *_ = reader(*inputs([r.said for r in rows], [r.language for r in rows], [r.around for r in rows]))
    told = [DECISIONS[k] for k in decisions.argmax(-1).tolist()]
    assert sum(a == r.decision for a, r in zip(told, rows, strict=True)) >= 60
    best = marks.argmax(-1)
    pairs = [(MARKS[int(best[k, i])], m) for k, r in enumerate(rows) for i, m in enumerate(r.marks)]
    assert sum(a == b for a, b in pairs) / len(pairs) >= 0.6
