"""`python -m serving.teaching`: the adapter of the router's language model, from drawn requests to `adapter.safetensors`.

Training may not know what the router reads; here the two are joined.
"""

from __future__ import annotations

import json
import random
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from configs.schema import default_home
from orchestrator.chat_model import english
from orchestrator.plan import dialogue, question, written
from training.requests import Said
from training.router import Recipe, drawn_requests, train

VIEWS = 0.2  # share of foreign requests that are read without their English, and as many with it alone


def form(said: Said) -> tuple[str, str]:
    """What the model reads of a request, and what it should write."""
    text, own = said.text, english(said.text)
    if said.language != "en":
        view = random.Random(said.text).random()
        text, own = (text, "") if view < VIEWS else ("", own) if view > 1 - VIEWS and own.strip() else (text, own)
    return dialogue(question(text, own, said.attached, said.earlier, said.media)), written(said.plan)


def main(arguments: Sequence[str] = ()) -> None:
    """``WORK MINUTES FORBIDDEN.jsonl…``: train on the requests of seed 0 that are near none of the files' rows."""
    work, minutes, *files = arguments or sys.argv[1:]
    forbidden = [json.loads(line)["say"] for file in files for line in Path(file).read_text("utf-8").splitlines() if line.strip()]
    recipe = replace(Recipe(), minutes=float(minutes))
    requests = drawn_requests(recipe.steps * recipe.rows, recipe.seed, forbidden)
    train(recipe, requests, form, Path(work), default_home() / "cache")


if __name__ == "__main__":
    main()
