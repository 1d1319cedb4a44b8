"""How long a study will take and how much memory, said before it begins: from what this machine measured earlier, else from sizes.

Knows rows, cells and one small file of earlier medians. A guess is called one. A machine is not always as fast as it was: a short piece
of work of always the same size, timed then and now, says by how much.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from evaluation.batches import processors
from evaluation.ledger import Row, steady
from evaluation.workers import Cell, Recipe
from generators.base import canonical_json
from media.refs import write_whole

FILE = "study-costs.json"  # below LOA_HOME/cache
ERRORS = "study-forecasts.json"  # there, too
REMEMBERED, LEAST = 20, 4  # earlier forecasts of one basis: how many are kept, and how few say nothing
START = 8.0  # seconds until a worker has imported its libraries and loaded a small checkpoint
PROCESS_MB = 450.0  # a process with torch in it
# A guess for a checkpoint that was never run here, after nano on one thread: 20 MB of weights, 8 rows, 25 steps, real-time factor 0.25.
PER_STEP_AND_MB = 0.25 / 25 / 20  # real-time factor a step and MB of weights
OVERHEAD = 2.0  # steps' worth of reading, decoding and vocoding
USUAL_STEPS = 25  # where a backend chooses

IDLE = 0.2  # seconds of ``yardstick()`` on the idle machine of that guess
ALIKE = 1.25  # lengths of sounds by less than this factor apart cost the same a second
MOST = 8.0  # how much faster or slower a machine is believed to have become

Basis = Literal["measured here", "scaled from what was measured here", "guessed from the size of the weights"]


class Cost(BaseModel):
    """Medians of one setting on this machine."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    setting: str  # row, options, threads, rows, candidates: all but the steps
    steps: int
    seconds: float = Field(gt=0)  # of the sounds
    rtf: float  # wall seconds a second of sound
    peak_mb: float | None = None
    yardstick: float | None = None  # seconds of ``yardstick()`` when this was measured


@dataclass(frozen=True)
class Forecast:
    """What is left to do. ``seconds`` of work for one worker; ``memory_mb`` of one worker; the weakest basis of them all."""

    cells: int
    seconds: float
    memory_mb: float
    basis: Basis

    def wall(self, jobs: int) -> float:
        """Seconds until so many workers are through."""
        return START + self.seconds / max(1, jobs) if self.cells else 0.0


def yardstick() -> float:
    """Wall seconds of a fixed piece of work on one thread: products and sums of matrices, a fifth of a second on an idle machine."""
    import numpy as np
    from threadpoolctl import threadpool_limits

    x = np.random.default_rng(0).standard_normal((512, 512)).astype(np.float32)
    taken = []
    with threadpool_limits(1, user_api="blas"):
        for _ in range(7):
            begun = time.perf_counter()
            for _ in range(6):
                np.maximum(x @ x, 0).sum()
            taken.append(time.perf_counter() - begun)
    return 7 * median(taken)


class Came(BaseModel):
    """How an earlier forecast came out."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    basis: Basis
    ratio: float  # seconds that it took for each second that was foretold


_COSTS = TypeAdapter(list[Cost])
_CAME = TypeAdapter(list[Came])


def read_errors(home: Path, basis: Basis) -> list[float]:
    """How many times as long as foretold earlier runs took, oldest first; none where the file is missing or damaged."""
    return [came.ratio for came in _errors(home) if came.basis == basis]


def keep_error(home: Path, basis: Basis, foretold: float, took: float) -> None:
    """Remember how a forecast came out; of each basis the newest stay."""
    every = [*_errors(home), Came(basis=basis, ratio=took / foretold)]
    kept = [came for at, came in enumerate(every) if sum(later.basis == came.basis for later in every[at:]) <= REMEMBERED]
    path = home / "cache" / ERRORS
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, (json.dumps([came.model_dump(mode="json") for came in kept], indent=1) + "\n").encode())


def _errors(home: Path) -> list[Came]:
    try:
        return _CAME.validate_json((home / "cache" / ERRORS).read_bytes())
    except (OSError, ValidationError):
        return []


def reach(foretold: float, errors: Sequence[float]) -> tuple[float, float] | None:
    """Seconds between which a run ends if it errs no more than all n earlier ones did, which (n - 1) of n + 1 do; None for too few."""
    return (foretold * min(errors), foretold * max(errors)) if len(errors) >= LEAST else None


def setting_of(recipe: Recipe, cell: Cell, threads: int, rows: int) -> str:
    """What a cost is remembered by, besides the steps."""
    told = {"row": recipe.row.name, "options": recipe.row.options, "threads": threads, "rows": rows}
    return canonical_json(told | {"candidates": cell.request.candidates, "cpus": os.cpu_count()})


def read_costs(home: Path) -> list[Cost]:
    """Earlier medians; none where the file is missing or damaged."""
    try:
        return _COSTS.validate_json((home / "cache" / FILE).read_bytes())
    except (OSError, ValidationError):
        return []


def keep_costs(home: Path, found: Sequence[Cost]) -> None:
    """Add medians to the file; the newest of a setting, number of steps and length stays."""
    kept = {(cost.setting, cost.steps, cost.seconds): cost for cost in (*read_costs(home), *found)}
    path = home / "cache" / FILE
    path.parent.mkdir(parents=True, exist_ok=True)
    data: list[dict[str, Any]] = [cost.model_dump(mode="json") for cost in kept.values()]
    write_whole(path, (json.dumps(data, indent=1) + "\n").encode())


def measured_costs(
    rows: Sequence[Row], recipes: dict[str, Recipe], threads: int, buckets: dict[str, int], pace: float | None = None
) -> list[Cost]:
    """Medians by label of rows that were made in full batches' company; ``pace`` is the yardstick's at that time."""
    found = []
    for label, recipe in recipes.items():
        own = [row for row in rows if row.backend == label and row.status == "done" and row.measured.rtf is not None]
        if own:
            cell = Cell(own[0].key, own[0].prompt, label, own[0].seed, own[0].request, own[0].fingerprint)
            peaks = [row.measured.peak_mb for row in own if row.measured.peak_mb is not None]
            factor = median(each.rtf for each in steady([row.measured for row in own]) if each.rtf is not None)
            setting = setting_of(recipe, cell, threads, buckets[label])
            steps, peak = cell.request.steps or USUAL_STEPS, max(peaks) if peaks else None
            long = median(row.request.seconds for row in own)
            found.append(Cost(setting=setting, steps=steps, seconds=long, rtf=factor, peak_mb=peak, yardstick=pace))
    return found


def forecast(
    cells: Sequence[Cell],
    recipes: dict[str, Recipe],
    threads: int,
    buckets: dict[str, int],
    megabytes: dict[str, float],
    known: Sequence[Cost],
    pace: float | None = None,
) -> Forecast:
    """What the cells will take.

    Args:
        megabytes: of weights, by label.
        known: what was measured on this machine.
        pace: the yardstick's now; None: as fast as then, and for a guess as an idle machine.
    """
    busy = 1.0 if pace is None else _slower(pace, IDLE)
    known = [_today(cost, pace) for cost in known]
    seconds, memory, basis = 0.0, 0.0, 0
    names: tuple[Basis, ...] = ("measured here", "scaled from what was measured here", "guessed from the size of the weights")
    for cell in cells:
        setting = setting_of(recipes[cell.backend], cell, threads, buckets[cell.backend])
        steps = cell.request.steps or USUAL_STEPS
        near = _nearest([cost for cost in known if cost.setting == setting], steps, cell.request.seconds)
        peak = near.peak_mb if near is not None else None
        if near is not None:
            factor, weak = near.rtf * (steps + OVERHEAD) / (near.steps + OVERHEAD), int(near.steps != steps)
            if _apart(near.seconds, cell.request.seconds) >= ALIKE:
                # Some models always make a whole window, others just what is asked for: between "the same" and "in proportion".
                factor, weak = factor * (near.seconds / cell.request.seconds) ** 0.5, 1
        else:
            factor = PER_STEP_AND_MB * (steps + OVERHEAD) * max(1.0, megabytes[cell.backend]) * cell.request.candidates / threads**0.7
            factor *= busy
            weak = 2
        seconds += factor * cell.request.seconds
        memory = max(memory, peak if peak is not None else PROCESS_MB + 1.5 * megabytes[cell.backend] + 20 * buckets[cell.backend])
        basis = max(basis, weak)
    return Forecast(len(cells), seconds, memory, names[basis])


def _nearest(costs: Sequence[Cost], steps: int, seconds: float) -> Cost | None:
    """Of the most similar length, then of the most similar number of steps."""
    return min(costs, key=lambda cost: (max(ALIKE, _apart(cost.seconds, seconds)), abs(cost.steps - steps)), default=None)


def _apart(one: float, other: float) -> float:
    return max(one / other, other / one)


def _today(cost: Cost, pace: float | None) -> Cost:
    """The cost at the machine's present pace."""
    if pace is None or not cost.yardstick:
        return cost
    return cost.model_copy(update={"rtf": cost.rtf * _slower(pace, cost.yardstick), "yardstick": pace})


def _slower(now: float, then: float) -> float:
    """How many times as long the same work takes now."""
    return min(MOST, max(1 / MOST, now / then))


def jobs_for(memory_mb: float, threads: int) -> int:
    """How many workers this machine has processors and free memory for; one where a card is to be shared."""
    if Path("/dev/nvidia0").exists():
        return 1
    free = _free_mb()
    by_memory = processors() if free is None else int(0.7 * free // max(memory_mb, 1))
    return max(1, min(processors() // threads, by_memory))


def _free_mb() -> float | None:
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) * 1024 / 1e6 for line in lines if line.startswith("MemAvailable:")), None)
