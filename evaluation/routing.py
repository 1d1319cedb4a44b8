"""`loa bench routing FILE`: rows of what a person may say, and whether the right tool was called with the right arguments.

A row is one JSON object a line: ``{"say", "attach"?, "history"?, "tool", …expected arguments}``. Knows neither chat models nor
routers: who answers is handed in.
"""

from __future__ import annotations

import json
import resource
import statistics
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Literal, Protocol

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from configs.registry import ConfigError

DEFAULTS = {"seconds": 5.0, "seed": 0}  # what a tool takes where a call leaves the argument out
LAYERS = ("ambience", "foley", "music")


class Answer(Protocol):
    """What came of a row: the calls in order, the text, and when (seconds after the turn began)."""

    @property
    def calls(self) -> Sequence[tuple[str, dict[str, Any]]]: ...
    @property
    def text(self) -> str: ...
    @property
    def first_s(self) -> float: ...
    @property
    def decided_s(self) -> float: ...


class Row(BaseModel):
    """One line of a routing file. Keys that are not known here (a note, a source) are left alone."""

    model_config = ConfigDict(frozen=True, extra="ignore", coerce_numbers_to_str=False)
    say: str
    tool: str | None  # names joined by |: any of them; None: no call
    attach: tuple[Literal["image", "audio", "video"], ...] = ()
    history: tuple[str, ...] = ()
    language: str | None = None
    words: tuple[str, ...] = ()
    not_words: tuple[str, ...] = ()
    media: int | None = None
    negative: str | tuple[str, ...] | None = None
    backends: tuple[str, ...] | None = None
    region: tuple[float, float] | None = None
    count: int | None = None
    lufs: float | None = None
    original: str | bool | None = None  # true: kept, false: dropped
    layers_without: str | tuple[str, ...] = ()
    task: str | None = None
    asks: bool = False
    # None is an expectation here (nothing was said), so that a missing key has to be told from it: `model_fields_set`.
    seconds: float | None = None
    seed: int | None = None
    steps: int | None = None
    guidance: float | None = None
    backend: str | None = None
    transcript: str | None = None


class Figures(BaseModel):
    """Shares are of all rows of their group; a row with a wrong tool has wrong arguments too. Times in seconds."""

    model_config = ConfigDict(frozen=True)
    rows: int
    tool_accuracy: float
    argument_accuracy: float
    by_tool: dict[str, dict[str, float]] = Field(default_factory=dict)
    by_language: dict[str, dict[str, float]] = Field(default_factory=dict)
    first_token_s: dict[str, float] = Field(default_factory=dict)
    decided_s: dict[str, float] = Field(default_factory=dict)
    memory_mb: float
    wrong: list[dict[str, Any]] = Field(default_factory=list)


def read_rows(path: Path) -> list[Row]:
    """The rows of a JSONL file.

    Raises:
        ConfigError: no file, no rows, or a line that is no row; the message names the line.
    """
    try:
        lines = path.read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read as a file of rows: {error}") from error
    rows = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            rows.append(Row.model_validate(json.loads(line)))
        except (ValueError, ValidationError) as error:
            first = error.errors()[0] if isinstance(error, ValidationError) else {"loc": (), "msg": str(error)}
            where = ".".join(map(str, first["loc"])) or "the line"
            raise ConfigError(f"{path}:{number}: {where}: {first['msg']}") from error
    if not rows:
        raise ConfigError(f"{path}: no rows; each line is an object such as " + '{"say": "a dog", "tool": "generate_audio"}')
    return rows


def faults(row: Row, answer: Answer) -> tuple[bool, list[str]]:
    """Whether the tool is right, and which of the expected arguments are not."""
    names = [name for name, _ in answer.calls]
    wanted = row.tool.split("|") if row.tool else []
    if (not names) != (not wanted) or any(name not in wanted for name in names):
        return False, [f"called {', '.join(names) or 'nothing'}: {answer.text[:60]}"]
    args = answer.calls[0][1] if answer.calls else {}
    return True, [*_about_words(row, args), *_about_numbers(row, args), *_about_the_rest(row, args, answer)]


def _about_words(row: Row, args: dict[str, Any]) -> Iterable[str]:
    prompt = str(args.get("prompt", "")).lower()
    for word in row.words:
        if word.lower() not in prompt:
            yield f"no {word!r} in {prompt!r}"
    for word in row.not_words:
        if word.lower() in prompt:
            yield f"{word!r} in {prompt!r}"
    unwanted = [row.negative] if isinstance(row.negative, str) else row.negative or ()
    if any(word.lower() not in str(args.get("negative_prompt", "")).lower() for word in unwanted):
        yield f"negative {args.get('negative_prompt')!r}"


def _about_numbers(row: Row, args: dict[str, Any]) -> Iterable[str]:
    for key in ("seconds", "seed", "steps", "guidance", "transcript"):
        default = DEFAULTS.get(key)
        got, expected = args.get(key, default), getattr(row, key)
        if key in row.model_fields_set and not _same(got, default if expected is None else expected):
            yield f"{key} {got!r}"
    if "backend" in row.model_fields_set and not _is_system(args.get("backend"), row.backend):
        yield f"backend {args.get('backend')!r}"
    if row.lufs is not None and not _same(args.get("lufs"), row.lufs):
        yield f"lufs {args.get('lufs')!r}"
    regions = args.get("regions") or ()
    if row.region is not None and [tuple(map(float, region)) for region in regions] != [row.region]:
        yield f"region {regions!r}"


def _about_the_rest(row: Row, args: dict[str, Any], answer: Answer) -> Iterable[str]:
    if row.media is not None and (found := len(args.get("media") or ()) + ("source" in args)) != row.media:
        yield f"media {found}"
    if row.count is not None and max(len(answer.calls), int(args.get("count") or 1)) != row.count:
        yield f"count {len(answer.calls)}"
    if row.backends is not None and not _are_systems(args.get("backends") or (), row.backends):
        yield f"backends {args.get('backends')!r}"
    original = ("drop", "keep")[row.original] if isinstance(row.original, bool) else row.original
    if original is not None and args.get("original") != original:
        yield f"original {args.get('original')!r}"
    without = [row.layers_without] if isinstance(row.layers_without, str) else row.layers_without
    if without and set(args.get("layers") or LAYERS) & set(without):
        yield f"layers {args.get('layers')!r}"
    if row.task is not None and row.task not in (args.get("task"), args.get("kind"), "speech" if args.get("transcript") else None):
        yield f"task {args.get('task') or args.get('kind')!r}"
    if row.asks and not answer.text.rstrip().endswith(("?", "？", "attach it.")):
        yield f"no question in {answer.text!r}"


def _is_system(got: str | None, expected: str | None) -> bool:
    """A family's name ("musicgen") is met by any of its systems ("musicgen-small")."""
    return got == expected or (expected is not None and str(got).startswith(f"{expected}-"))


def _are_systems(got: Sequence[str], expected: Sequence[str]) -> bool:
    return len(got) == len(expected) and all(_is_system(a, b) for a, b in zip(sorted(got), sorted(expected), strict=True))


def _same(got: Any, expected: Any) -> bool:
    if isinstance(got, int | float) and isinstance(expected, int | float):
        return abs(float(got) - float(expected)) < 1e-6
    return bool(got == expected)


def run(
    rows: Sequence[Row],
    answer: Callable[[Row], Answer],
    language: Callable[[str], str],
    on_row: Callable[[int, int], None] = lambda done, of: None,
) -> Figures:
    """Put every row to ``answer`` and score it. ``language`` names the language of rows that do not say theirs."""
    results: list[tuple[Row, Answer, bool, list[str]]] = []
    for row in rows:
        given = answer(row)
        results.append((row, given, *faults(row, given)))
        on_row(len(results), len(rows))
    tools: dict[str, list[tuple[bool, bool]]] = {}
    spoken: dict[str, list[tuple[bool, bool]]] = {}
    for row, _, right, wrong in results:
        score = (right, right and not wrong)
        tools.setdefault(row.tool or ("ask" if row.asks else "none"), []).append(score)
        spoken.setdefault(row.language or language(row.say), []).append(score)
    return Figures(
        rows=len(rows),
        **_shares([(right, right and not wrong) for _, _, right, wrong in results]),
        by_tool={name: {"rows": len(found), **_shares(found)} for name, found in sorted(tools.items())},
        by_language={name: {"rows": len(found), **_shares(found)} for name, found in sorted(spoken.items())},
        first_token_s=_spread([given.first_s for _, given, _, _ in results]),
        decided_s=_spread([given.decided_s for _, given, _, _ in results]),
        memory_mb=peak_mb(),
        wrong=[{"say": row.say, "tool": row.tool, "why": wrong} for row, _, _, wrong in results if wrong],
    )


def _shares(found: Sequence[tuple[bool, bool]]) -> dict[str, float]:
    return {
        "tool_accuracy": round(sum(right for right, _ in found) / len(found), 4),
        "argument_accuracy": round(sum(whole for _, whole in found) / len(found), 4),
    }


def _spread(seconds: Sequence[float]) -> dict[str, float]:
    ordered = sorted(seconds)
    at = lambda share: ordered[min(len(ordered) - 1, round(share * (len(ordered) - 1)))]  # noqa: E731
    return {"median": round(statistics.median(ordered), 4), "p95": round(at(0.95), 4), "max": round(ordered[-1], 4)}


def peak_mb() -> float:
    """The most memory that this process has held, in MB of 10^6 bytes."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(peak * (1 if sys.platform == "darwin" else 1024) / 1e6, 1)
