"""A study's folder to its report: report.html, table.md, table.csv, table.tex. The same rows give the same report, but for costs.

Gathers what the pages say; how they look is in ``report_page.py`` (HTML) and ``report_text.py``. Does not make sounds.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evaluation.embedders import Embedder, embedder
from evaluation.ledger import Row
from evaluation.measures import Prompt, Table, measure, usable
from evaluation.published import Beside, Published, compare, tables
from evaluation.study import costs, read_study, reference_path, study_rows
from media.refs import write_whole

OnProgress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Report:
    """All that the pages say."""

    name: str
    about: str
    folder: Path
    protocol: Mapping[str, Any]
    table: Table
    rows: Sequence[Row]
    prompts: Sequence[Prompt]
    costs: Mapping[str, Mapping[str, float | None]]
    published: Sequence[tuple[Published, Beside]]
    opinions: Mapping[str, Any]  # what a listening test came to (evaluation.listening.analyse), or nothing

    @property
    def systems(self) -> Mapping[str, Mapping[str, Any]]:
        """What the protocol tells of each label."""
        found: Mapping[str, Mapping[str, Any]] = self.protocol.get("backends", {})
        return found

    @property
    def failed(self) -> list[tuple[Row, str]]:
        """Cells without a usable sound, and why."""
        return [(row, why) for row in self.rows if (why := usable(row))]

    def header(self) -> list[tuple[str, str]]:
        """The protocol as (what, how), for the head of every table."""
        table, told = self.table, self.protocol
        rates = sorted({int(s["sample_rate"]) for s in self.systems.values() if s.get("sample_rate")})
        tries = sorted({int(s.get("candidates") or 1) for s in self.systems.values()}) or [1]
        seeds = f"{len(table.seeds)} seed{'' if len(table.seeds) == 1 else 's'}"
        n = f"{table.cells} sounds of each system: {len(table.prompts)} prompts × {seeds}"
        lines = [
            ("n", n + (f", less {table.dropped} cells that some system failed" if table.dropped else "")),
            ("data", f"{told.get('dataset', 'own prompts')}{', ' + str(told['split']) if told.get('split') else ''}"),
            ("references", f"{told.get('references', 0)}"),
            ("length", f"{told.get('seconds', '?')} s"),
            ("rate", f"{', '.join(map(str, rates)) or '?'} Hz made; resampled for each embedder"),
            ("candidates", ", ".join(map(str, tries))),
            ("threads", f"{told.get('threads', '?')} of each worker"),
        ]
        lines += [
            (f"embedder {name}", f"{str(e['digest'])[:19]}…, {_rate(int(e['sample_rate']))}, {e['window']}")
            for name, e in table.embedders.items()
        ]
        skip = {"dataset", "split", "references", "seconds", "threads", "backends", "prompts", "seeds", "versions", "prompts_sha256"}
        lines += [(key.replace("_", " "), str(value)) for key, value in told.items() if key not in skip]
        if told.get("prompts_sha256"):
            lines.append(("prompts", f"sha256:{str(told['prompts_sha256'])[:12]}…"))
        if told.get("versions"):
            lines.append(("versions", ", ".join(f"{name} {version}" for name, version in told["versions"].items())))
        lines.append(
            (
                "intervals",
                "95 %, over prompts: bootstrap of means, exact for shares; jackknife of whole sets, around what is freed of bias (→)",
            )
        )
        if len(table.backends) > 1:
            lines.append(("▲ ▼", f"certainly better or worse than {table.backends[0]} (paired, 5 % after Holm's correction)"))
        return lines


def _rate(hz: int) -> str:
    return f"{hz / 1000:g} kHz" if hz else "the file's own rate"


@dataclass(frozen=True)
class ReportFiles:
    """What was written."""

    html: Path
    markdown: Path
    csv: Path
    latex: Path


def gather(folder: Path, on_progress: OnProgress = lambda what, done, of: None, find: Callable[[str], Embedder] = embedder) -> Report:
    """Measure a study and put beside it what was published.

    Raises:
        ConfigError: no study there, no finished cell, an unknown metric.
    """
    study, rows = read_study(folder), study_rows(folder)
    prompts = [
        Prompt(
            each.id,
            each.caption,
            reference_path(folder, each),
            None if each.image is None else folder / each.image,
            None if each.video is None else folder / each.video,
            each.transcript,
        )
        for each in study.config.prompts
    ]
    table = measure(rows, folder, prompts, study.config.metrics, find=find, on_progress=on_progress)
    told = study.protocol
    metrics = {metric.name: metric.embedder for metric in table.metrics}
    beside = [(each, compare(each, told, table.embedders, metrics)) for each in tables().values()]
    return Report(study.config.name, study.config.about, folder, told, table, rows, prompts, costs(rows), beside, _opinions(folder))


def _opinions(folder: Path) -> dict[str, Any]:
    """``listening/results.json``, where raters have answered; a damaged one counts for nothing."""
    try:
        told = json.loads((folder / "listening" / "results.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return {kind: figures for kind, figures in told.items() if isinstance(figures, dict) and figures.get("systems")}


def write_report(
    folder: Path, on_progress: OnProgress = lambda what, done, of: None, find: Callable[[str], Embedder] = embedder
) -> ReportFiles:
    """Measure a study's folder and write its four files there, each whole or not at all. Raises as ``gather``."""
    from evaluation.report_page import page
    from evaluation.report_text import as_csv, as_latex, as_markdown

    report = gather(folder, on_progress, find)
    files = ReportFiles(*(folder / name for name in ("report.html", "table.md", "table.csv", "table.tex")))
    for path, text in (
        (files.markdown, as_markdown(report)),
        (files.csv, as_csv(report)),
        (files.latex, as_latex(report)),
        (files.html, page(report, on_progress)),
    ):
        write_whole(path, text.encode())
    return files
