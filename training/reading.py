"""`python -m training.reading OUT.safetensors FORBIDDEN.jsonl…`: teaches the reader of requests (encoders/reader.py) on marked ones.

`marked.jsonl` holds requests that people of the team thought up in five languages, each stretch marked by what it is there for.
Stretches of the same kind and language change places from request to request, so that no thing is tied to its sentence. Drawn requests
(training/requests.py), near none of the forbidden files' rows, teach what short ones ask for; their words are not marked.
"""

from __future__ import annotations

import itertools
import json
import random
import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from importlib.resources import files
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch.nn import functional as F

from encoders.reader import DECISIONS, KINDS, LANGUAGES, MARKS, MOST, OWN_SOUND, Reader, context, inputs, words
from media.refs import write_whole
from training.requests import Requests

_MARKED = re.compile(r"⟦([A-Z]):([^⟧]*)⟧")
EPOCHS, ROWS, RATE, DRAWN = 12, 32, 2e-3, 1200
UNMARKED = "?"
# Shares of rows: mixed; of the mixed ones with an aside more, in small letters, taken for another language, without their full stop.
MIXED, ASIDE, SMALL, STRANGE, OPEN = 0.7, 0.15, 0.3, 0.1, 0.15


@dataclass(frozen=True)
class Marked:
    """A request in words, the mark of each, and what it asks for (``kind`` of an edit and what comes of a video's own
    sound, "" where it is none)."""

    said: tuple[str, ...]
    marks: str
    language: str
    decision: str
    kind: str
    own_sound: str
    around: tuple[float, ...]


def plain(marked: str) -> tuple[str, str]:
    """The text without its marks, and the mark of each of its characters.

    >>> plain("a ⟦W:dog⟧!")
    ('a dog!', 'OOWWWO')
    """
    text, marks, at = "", "", 0
    for found in _MARKED.finditer(marked):
        before = marked[at : found.start()]
        text, marks = text + before + found[2], marks + "O" * len(before) + found[1] * len(found[2])
        at = found.end()
    return text + marked[at:], marks + "O" * len(marked[at:])


def marked_requests(lines: Sequence[str]) -> list[Marked]:
    """Rows ``{"marked", "language", "tool", "asks"?, "task"?, "original"?, "attach"?, "history"?}`` as what the reader learns from."""
    return [one for one in map(_marked, map(json.loads, lines)) if one.said]


def shipped() -> list[str]:
    """The lines of `marked.jsonl`."""
    return (files("training") / "marked.jsonl").read_text("utf-8").splitlines()


def drawn_requests(count: int, seed: int, forbidden: Sequence[str]) -> list[Marked]:
    """``count`` drawn requests, unmarked; an earlier sound made anew counts as an edit of it."""
    found = []
    for said in itertools.islice(Requests(seed, forbidden), count):
        spans = words(said.text)[:MOST]
        before = [*said.media, *(["audio" if len(said.earlier) == 1 else "audio2"] if said.earlier else [])]
        decision = {"change": "edit_audio"}.get(said.plan["tool"], said.plan["tool"])
        kind = str(said.plan.get("kind") or "") if decision == "edit_audio" else ""
        told = tuple(said.text[a:b] for a, b in spans)
        found.append(Marked(told, UNMARKED * len(spans), said.language, decision, kind, "", context(said.attached, before)))
    return [one for one in found if one.said]


def _marked(row: dict[str, Any]) -> Marked:
    text, marks = plain(row["marked"])
    spans = words(text)[:MOST]
    of = "".join(max(sorted(set(marks[a:b])), key=marks[a:b].count) for a, b in spans)
    decision = ("ask" if row.get("asks") else "talk") if row["tool"] is None else row["tool"].split("|")[0]
    kind = str(row.get("task") or "").split("|")[0] if decision == "edit_audio" else ""
    own = {True: "keep", "keep": "keep", "duck": "keep", False: "drop", "drop": "drop"}.get(row.get("original"), "unsaid")
    own = own if decision == "soundtrack_video" else ""
    around = context(row.get("attach") or (), row.get("history") or ())
    return Marked(tuple(text[a:b] for a, b in spans), of, row["language"], decision, kind, own, around)


def _stretches(one: Marked) -> Iterator[tuple[str, tuple[str, ...]]]:
    for found in re.finditer(r"(.)\1*", one.marks):
        yield found[1], one.said[found.start() : found.end()]


class _Mixer:
    """Requests whose wishes, exclusions, speeches and asides come from others of the same language (and decision)."""

    def __init__(self, rows: Sequence[Marked], draw: random.Random) -> None:
        self._draw = draw
        self._bank: dict[tuple[str, str, str], list[tuple[str, ...]]] = {}
        for one in rows:
            for mark, said in _stretches(one):
                if mark in "WNSA":
                    self._bank.setdefault(self._key(one, mark), []).append(said)

    def __call__(self, one: Marked) -> Marked:
        draw, said, marks = self._draw, list[str](), ""
        for mark, own in _stretches(one):
            other = mark in "WNSA" and draw.random() < 0.5
            new = draw.choice(self._bank[self._key(one, mark)]) if other else own
            said, marks = said + list(new), marks + mark * len(new)
        asides = self._bank.get(self._key(one, "A"))
        if asides and one.decision not in ("talk", "ask") and draw.random() < ASIDE:
            more = list(draw.choice(asides))
            first = draw.random() < 0.5
            said, marks = (more + said, "A" * len(more) + marks) if first else (said + more, marks + "A" * len(more))
        if draw.random() < SMALL:
            said = [word.lower() for word in said]
        if draw.random() < STRANGE:
            one = replace(one, language=draw.choice(LANGUAGES))  # a few words do not always tell their language
        if draw.random() < OPEN and len(said) > 1 and said[-1] in ".?!。？！":
            said, marks = said[:-1], marks[:-1]
        return replace(one, said=tuple(said[:MOST]), marks=marks[:MOST])

    @staticmethod
    def _key(one: Marked, mark: str) -> tuple[str, str, str]:
        return one.language, mark, one.decision if mark in "WA" else ""


def teach(rows: Sequence[Marked], epochs: int = EPOCHS, seed: int = 0) -> Reader:
    """A reader taught on ``rows``: AdamW, one cycle of the rate, the same weights for the same rows, seed and machine."""
    torch.manual_seed(seed)
    draw = random.Random(seed)
    mixer, reader, order = _Mixer(rows, draw), Reader(), list(rows)
    optimiser = torch.optim.AdamW(reader.parameters(), lr=RATE, weight_decay=0.01)
    batches = -(-len(order) // ROWS)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, RATE, total_steps=epochs * batches, pct_start=0.1)
    reader.train()
    for epoch in range(epochs):
        draw.shuffle(order)
        total = 0.0
        for start in range(0, len(order), ROWS):
            batch = [mixer(one) if draw.random() < MIXED else one for one in order[start : start + ROWS]]
            loss = _loss(reader, batch)
            optimiser.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(reader.parameters(), 1.0)
            optimiser.step()
            schedule.step()
            total += loss.item()
        print(f"epoch {epoch + 1} of {epochs}: loss {total / batches:.3f}", file=sys.stderr)
    return reader.eval()


def _loss(reader: Reader, batch: Sequence[Marked]) -> torch.Tensor:
    given = inputs([one.said for one in batch], [one.language for one in batch], [one.around for one in batch], dropped=0.15)
    marks, decisions, kinds, owns = reader(*given)
    most = marks.shape[1]
    right = torch.tensor(
        [[MARKS.index(m) if m != UNMARKED else -100 for m in one.marks] + [-100] * (most - len(one.marks)) for one in batch]
    )
    loss = F.cross_entropy(marks.flatten(0, 1), right.flatten(), ignore_index=-100) if (right >= 0).any() else marks.sum() * 0
    asked = torch.tensor([DECISIONS.index(one.decision) for one in batch])
    loss = loss + 0.5 * F.cross_entropy(decisions, asked, label_smoothing=0.05)
    edits = torch.tensor([KINDS.index(one.kind) if one.kind in KINDS else -100 for one in batch])
    videos = torch.tensor([OWN_SOUND.index(one.own_sound) if one.own_sound else -100 for one in batch])
    for scores, right in ((kinds, edits), (owns, videos)):
        if (right >= 0).any():
            loss = loss + 0.3 * F.cross_entropy(scores, right, ignore_index=-100)
    return loss


def main(arguments: Sequence[str] = ()) -> None:
    """``OUT.safetensors FORBIDDEN.jsonl…``: teach on all marked and on drawn requests and write the weights, float16."""
    out, *kept_out = arguments or sys.argv[1:]
    forbidden = [json.loads(line)["say"] for file in kept_out for line in Path(file).read_text("utf-8").splitlines() if line.strip()]
    reader = teach(marked_requests(shipped()) + drawn_requests(DRAWN, 0, forbidden))
    weights = {name: weight.half().contiguous() for name, weight in reader.state_dict().items()}
    write_whole(Path(out), save(weights))


if __name__ == "__main__":
    main()
